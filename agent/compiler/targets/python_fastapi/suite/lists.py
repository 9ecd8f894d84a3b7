"""Tests of lists: what they show, filters, search, order, and pages that neither lose nor repeat a row."""

from collections.abc import Iterator
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.names import snake
from agent.compiler.targets.python_fastapi.suite.factories import Maker
from agent.compiler.targets.python_fastapi.suite.model import Code, Listing, Test
from agent.compiler.targets.python_fastapi.suite.pages import page_tests
from agent.compiler.targets.python_fastapi.suite.shelf import Shelf
from agent.compiler.targets.python_fastapi.suite.subject import Subject

Json = Any
Found = tuple[list[str], list[str]]  # statements that arrange, statements that act

_RANGES = {
    ir.FilterOperator.AT_LEAST: ("middle", "high"),
    ir.FilterOperator.AT_MOST: ("low", "middle"),
    ir.FilterOperator.GREATER: ("high",),
    ir.FilterOperator.LESS: ("low",),
}
_EVER = (("2000-01-01", "2999-01-01"), ("2000-01-01T00:00:00Z", "2999-01-01T00:00:00Z"))


class Lists:
    """Tests of the lists of one resource."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.made: list[Listing] = []

    def tests(self) -> Iterator[Test]:
        """All of them, list by list."""
        for operation in self._subject.operations:
            shelf = shelf_of(self._subject, operation)
            tests = [] if shelf is None else list(self._of(shelf))
            if shelf is not None and tests:
                self.made.append(shelf.listing)
            yield from tests

    def _of(self, shelf: Shelf) -> Iterator[Test]:
        """Where the document demands a filter, only tests that set it."""
        demanded = [one.name for one in shelf.operation.parameters if one.required and one.place is ir.Place.QUERY]
        demanded += [one.parameter for one in shelf.plan.filters if one.place is ir.Place.PATH]
        if not demanded:
            yield self._listed(shelf)
            yield from self._sorted(shelf)
            yield from page_tests(shelf)
            yield from self._searched(shelf)
        for filter_ in shelf.plan.filters:
            if set(demanded) <= {filter_.parameter}:
                yield from self._filtered(shelf, filter_)

    def _listed(self, shelf: Shelf) -> Test:
        return shelf.test(
            f"every_{self._subject.noun}_is_listed",
            f"GET {shelf.operation.path} shows what there is, each row once.",
            [shelf.row("first"), shelf.row("second")],
            [f"assert sorted({shelf.ask({})}) == sorted({shelf.marks('first', 'second')})"],
        )

    # --- filters ---

    def _filtered(self, shelf: Shelf, filter_: ir.Filter) -> Iterator[Test]:
        ways = (_range, _ever) if filter_.operator in _RANGES else (_equal, _referred, _own)
        found = next((found for way in ways if (found := way(shelf, filter_)) is not None), None)
        if found is not None:
            name = f"{self._subject.plural}_are_filtered_by_{snake(filter_.parameter)}"
            yield shelf.test(name, f"`{filter_.parameter}` leaves out what does not fit.", *found)

    def _searched(self, shelf: Shelf) -> Iterator[Test]:
        search, arrange, act = shelf.plan.search, [], []
        variables = ("first", "second", "third")
        for place, (variable, name) in enumerate(zip(variables, search.properties if search else (), strict=False)):
            several = shelf.several(name)
            if search is None or several is None or len(several.values) < 3 or not isinstance(several.values[0], str):
                continue
            value = several.values[place]
            text = next(
                (t for t in (value[1:].upper(), value) if len(t) > 1 and shelf.takes(search.parameter, t)), None
            )
            if text is not None:
                arrange.append(shelf.row(variable, {several.name: value}))
                act.append(f"assert {shelf.ask({search.parameter: text})} == {shelf.marks(variable)}")
        if search is not None and arrange:
            name = f"{self._subject.plural}_are_searched_by_{snake(search.parameter)}"
            yield shelf.test(name, "A part of a text is enough, in upper or lower case.", arrange, act)

    # --- order ---

    def _sorted(self, shelf: Shelf) -> Iterator[Test]:
        sort = shelf.plan.sort
        names = [*(name for name, _ in sort.values.values()), *sort.allowed] if sort else []
        for name in dict.fromkeys(names):
            rows = _rows_in_order(shelf, name)
            orders = {False: ("low", "middle", "high"), True: ("high", "middle", "low")}
            asked = {descending: shelf.order(name, descending=descending) for descending in orders}
            act = [
                f"assert {shelf.ask(query)} == {shelf.marks(*orders[descending])}"
                for descending, query in asked.items()
                if query is not None
            ]
            if rows and act:
                test = f"{self._subject.plural}_are_sorted_by_{snake(name)}"
                yield shelf.test(test, "Whatever the order in which the rows were made.", rows, act)


def shelf_of(subject: Subject, operation: ir.Operation) -> Shelf | None:
    """A list that a factory can fill; None if that is not so."""
    plan, maker = operation.plan, subject.maker
    if plan is None or plan.action is not ir.Action.LIST or plan.shape is None or maker is None or plan.through:
        return None
    place = subject.makers.place(operation)
    if place is None or not maker.is_repeatable or (plan.ancestors and not place.tie.is_firm):
        return None
    mark = _mark(subject, maker, plan.shape)
    if mark is None:
        return None
    function = subject.functions.give(operation.id)
    return Shelf(subject, operation, plan, maker, place, Listing(function, operation.path, plan.wrapper.path, mark))


def _mark(subject: Subject, maker: Maker, shape: ir.Shape) -> str | None:
    """The JSON name by which a list tells rows apart: the key, else something else that differs in each row."""
    names = {part.property: part.name for part in shape.fields}
    if maker.key("") is not None:
        key = names.get(maker.resource.key)
        return key if key == maker.shown[maker.resource.key].name else None
    for name, part in subject.plain(shape).items():
        sample, pointers = maker.literal.get(name), maker.pointers.get(name)
        if sample is not None and pointers and len(subject.values.ascending(pointers, sample)) == 3:
            return name if part.name in maker.taken else None
    return None


def _rows_in_order(shelf: Shelf, name: str) -> list[str] | None:
    """Statements that make the rows `low`, `middle` and `high` of an order, not in that order if a caller sets it."""
    part = next((one for one in shelf.maker.resource.properties if one.name == name), None)
    if part is not None and part.generated is ir.Generated.CREATED_AT and part.type is ir.ColumnType.DATETIME:
        return [shelf.row("low"), shelf.row("middle"), shelf.row("high")]
    several = shelf.several(name, ascending=True)
    if several is None or len(several.values) < 3:
        return None
    rows = dict(zip(("low", "middle", "high"), several.values, strict=True))
    return [shelf.row(variable, {several.name: rows[variable]}) for variable in ("middle", "high", "low")]


def _range(shelf: Shelf, filter_: ir.Filter) -> Found | None:
    """Three values, and the middle one as a bound."""
    several = shelf.several(filter_.property, ascending=not filter_.elements)
    if several is None or len(several.values) < 3:
        return None
    bound = several.values[1]
    bound = bound[0] if filter_.elements and isinstance(bound, list) else bound
    if not shelf.takes(filter_.parameter, bound):
        return None
    expected = _RANGES[filter_.operator]
    rows = [
        shelf.row(variable, {several.name: value})
        for variable, value in zip(("low", "middle", "high"), several.values, strict=True)
    ]
    shown, marks = shelf.ask({filter_.parameter: bound}), shelf.marks(*expected)
    return rows, [f"assert {shown} == {marks}" if len(expected) == 1 else f"assert sorted({shown}) == sorted({marks})"]


def _ever(shelf: Shelf, filter_: ir.Filter) -> Found | None:
    """For times that the server sets: all of them lie between 2000 and 2999."""
    part = next((one for one in shelf.maker.resource.properties if one.name == filter_.property), None)
    kinds = (ir.Generated.CREATED_AT, ir.Generated.UPDATED_AT)
    if part is None or part.generated not in kinds or part.type not in (ir.ColumnType.DATETIME, ir.ColumnType.DATE):
        return None
    for long_ago, some_day in _EVER:
        if shelf.takes(filter_.parameter, long_ago) and shelf.takes(filter_.parameter, some_day):
            upwards = filter_.operator in (ir.FilterOperator.AT_LEAST, ir.FilterOperator.GREATER)
            every, none = (long_ago, some_day) if upwards else (some_day, long_ago)
            return [shelf.row("made")], [
                f"assert {shelf.ask({filter_.parameter: every})} == {shelf.marks('made')}",
                f"assert {shelf.ask({filter_.parameter: none})} == []",
            ]
    return None


def _equal(shelf: Shelf, filter_: ir.Filter) -> Found | None:
    """For properties that a caller sets, to values that we choose."""
    several = shelf.several(filter_.property)
    if several is None:
        return None
    for wanted, other in (several.values[:2], several.values[1::-1]):
        asked = _asked(shelf, filter_, wanted)
        if asked is not None:
            rows = [shelf.row("made", {several.name: wanted}), shelf.row("other", {several.name: other})]
            return rows, [f"assert {shelf.ask({filter_.parameter: asked})} == {shelf.marks('made')}"]
    return None


def _asked(shelf: Shelf, filter_: ir.Filter, value: Json) -> Json:
    """What a request says to find a value; None if the parameter's schema does not take it."""
    value = (value[0] if value else None) if isinstance(value, list) else value
    candidates: list[Json] = [value]
    if filter_.operator is ir.FilterOperator.CONTAINS and isinstance(value, str) and len(value) > 3:
        candidates.insert(0, value[1:].upper())
    if filter_.operator is ir.FilterOperator.IN:
        candidates.append([value])
    return next((one for one in candidates if one is not None and shelf.takes(filter_.parameter, one)), None)


def _referred(shelf: Shelf, filter_: ir.Filter) -> Found | None:
    """For references: rows that refer to different ones."""
    makers, resource = shelf.subject.makers, shelf.maker.resource
    reference = next((one for one in resource.references if one.name == filter_.property), None)
    target = makers.of(reference.target) if reference and reference.target not in shelf.place.rows else None
    if reference is None or target is None or not target.is_repeatable or reference.target == resource.name:
        return None
    tie = makers.tie(shelf.maker, reference.name, {reference.target: target.noun})
    key = target.key(target.noun)
    if tie is None or tie.rows or key is None:
        return None
    rows = [f"{target.noun} = {target.make()}", shelf.row("made", tie.changes), shelf.row("other")]
    return rows, [f"assert {shelf.ask({filter_.parameter: key})} == {shelf.marks('made')}"]


def _own(shelf: Shelf, filter_: ir.Filter) -> Found | None:
    """For what a caller does not choose, or must not repeat: the value of a row finds it, another one does not."""
    maker, operator = shelf.maker, filter_.operator
    part = next((one for one in maker.resource.properties if one.name == filter_.property), None)
    value = maker.show("made", filter_.property)
    unfit = part is None or part.type in (ir.ColumnType.JSON, ir.ColumnType.DATETIME)
    if part is None or unfit or value is None or operator not in (ir.FilterOperator.EQUALS, ir.FilterOperator.IN):
        return None
    if maker.shown[filter_.property].name in maker.unique or part.name == maker.resource.key:
        asked = Code(f"[{value}]") if operator is ir.FilterOperator.IN and not filter_.separator else value
        finds = f"assert {shelf.ask({filter_.parameter: asked})} == {shelf.marks('made')}"
        return [shelf.row("made"), shelf.row("other")], [finds]
    if not part.has_default or not shelf.takes(filter_.parameter, part.default):
        return None
    others = shelf.subject.values.distinct(shelf.schema(filter_.parameter), part.default)
    other = next((one for one in others if one != part.default), None)
    act = [f"assert {shelf.ask({filter_.parameter: part.default})} == {shelf.marks('made')}"]
    act += [f"assert {shelf.ask({filter_.parameter: other})} == []"] if other is not None else []
    return [shelf.row("made")], act
