"""What the query parameters of a list mean: paging, sorting, searching, filtering; and which have no effect. Rules 10, 11."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.compiler.inference import vocabulary
from agent.compiler.inference.model import Model
from agent.compiler.ir import ColumnType, Filter, FilterOperator, Paging, PagingStyle, Place, Search, Sort
from agent.compiler.schemas.document import RawOperation, RawParameter
from agent.compiler.schemas.views import Schemas, View
from agent.compiler.words import fold, same_noun, singular, words

Json = Any

_ORDERED = {
    ColumnType.INTEGER,
    ColumnType.BIGINT,
    ColumnType.NUMERIC,
    ColumnType.FLOAT,
    ColumnType.DATE,
    ColumnType.DATETIME,
}
_DATES = {ColumnType.DATE, ColumnType.DATETIME}
_COMMA = re.compile(r"comma|separated|delimited|multiple values|list of", re.IGNORECASE)
_LOWER = {"gt": FilterOperator.GREATER, "after": FilterOperator.GREATER, "newer": FilterOperator.GREATER}
_UPPER = {"lt": FilterOperator.LESS, "before": FilterOperator.LESS, "older": FilterOperator.LESS}
_CONTAINS = frozenset({"contains", "like", "ilike", "substring", "match"})
_DEFAULT_LIMIT, _MAXIMUM_LIMIT = 20, 100


@dataclass(slots=True)
class ListParts:
    """The parameters of a list, sorted by meaning."""

    filters: list[Filter] = field(default_factory=list)
    sort: Sort | None = None
    paging: Paging = field(
        default_factory=lambda: Paging(PagingStyle.NONE, default_limit=_DEFAULT_LIMIT, maximum_limit=_MAXIMUM_LIMIT)
    )
    search: Search | None = None
    ignored: list[str] = field(default_factory=list)  # harmless: they change how the list is told
    unknown: list[RawParameter] = field(default_factory=list)  # no rule knows them


class Lists:
    """Reads query parameters against the properties of a resource."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def read(self, operation: RawOperation, model: Model, has_next: bool) -> ListParts:
        """`has_next`: the response has a place for the next cursor or link."""
        parts = ListParts()
        rest = self._page(operation.query(), parts, has_next)
        rest = self._sort(rest, model, parts)
        for parameter in rest:
            found = self.filter(parameter, model)
            if found is not None:
                parts.filters.append(found)
            elif fold(parameter.name) in vocabulary.SEARCH and self._searchable(model) and parts.search is None:
                parts.search = Search(parameter.name, self._searchable(model))
            elif fold(parameter.name) in vocabulary.HARMLESS:
                parts.ignored.append(parameter.name)
            else:
                parts.unknown.append(parameter)
        return parts

    # --- paging ---

    def _page(self, parameters: list[RawParameter], parts: ListParts, has_next: bool) -> list[RawParameter]:
        folded = {fold(plain_name(one.name)): one for one in parameters}
        limit = self._first(folded, vocabulary.LIMIT)
        cursor = self._first(folded, vocabulary.CURSOR, lambda one: has_next and self._is_text(one))
        page = self._first(folded, vocabulary.PAGE, self._is_count)
        offset = self._first(folded, vocabulary.OFFSET - {"start", "from"}, self._is_count)
        if not (cursor or page or offset) and folded.keys().isdisjoint({"end", "to"}):
            offset = self._first(folded, frozenset({"start", "from"}), self._is_count)
        position = cursor or page or offset
        if limit is None and position is None:
            return parameters
        styles = ((cursor, PagingStyle.CURSOR), (page, PagingStyle.PAGE), (offset, PagingStyle.OFFSET))
        style = next((style for found, style in styles if found), PagingStyle.NONE)
        parts.paging = self._paging(style, limit, position)
        return [one for one in parameters if one not in (limit, position)]

    def _first(
        self,
        folded: dict[str, RawParameter],
        names: frozenset[str],
        accept: Callable[[RawParameter], bool] = lambda _: True,
    ) -> RawParameter | None:
        return next((one for name, one in folded.items() if name in names and accept(one)), None)

    def _is_count(self, parameter: RawParameter) -> bool:
        view = self._schemas.view(parameter.schema_pointer)
        return view.types <= {"integer", "number"} or (view.types == {"string"} and "format" not in view.facets)

    def _is_text(self, parameter: RawParameter) -> bool:
        return self._schemas.view(parameter.schema_pointer).types <= {"string"}

    def _paging(self, style: PagingStyle, limit: RawParameter | None, position: RawParameter | None) -> Paging:
        facets = self._schemas.view(limit.schema_pointer).facets if limit else {}
        at = self._schemas.view(position.schema_pointer).facets if position else {}
        start = at.get("default", at.get("minimum", 1))
        maximum = _whole(facets.get("maximum"))
        least = facets.get("minimum")
        return Paging(
            style,
            limit=limit.name if limit else None,
            position=position.name if position else None,
            first_page=0 if start == 0 else 1,
            default_limit=_whole(facets.get("default")) or min(_DEFAULT_LIMIT, maximum or _DEFAULT_LIMIT),
            maximum_limit=maximum or max(_MAXIMUM_LIMIT, _whole(facets.get("default")) or 0),
            unlimited=-1 if least == -1 else None,
        )

    # --- sorting ---

    def _sort(self, parameters: list[RawParameter], model: Model, parts: ListParts) -> list[RawParameter]:
        sorter = next(
            (one for one in parameters if fold(one.name) in vocabulary.SORT and not self._only_directions(one)), None
        )
        if sorter is None:
            return parameters
        allowed = tuple(
            name
            for name, stored in model.properties.items()
            if stored.type is not ColumnType.JSON
            and not stored.write_only
            and not stored.hidden
            and name in model.reads
        )
        direction = next(
            (one for one in parameters if one is not sorter and fold(one.name) in vocabulary.DIRECTION), None
        )
        values = self._sort_values(sorter, allowed)
        if values is None or not allowed:
            return parameters
        parts.sort = Sort(sorter.name, allowed, direction.name if direction else None, values)
        return [one for one in parameters if one not in (sorter, direction)]

    def _only_directions(self, parameter: RawParameter) -> bool:
        enum = self._schemas.view(parameter.schema_pointer).facets.get("enum", ())
        return bool(enum) and all(fold(str(value)) in ("asc", "desc", "ascending", "descending") for value in enum)

    def _sort_values(self, parameter: RawParameter, allowed: tuple[str, ...]) -> dict[str, tuple[str, bool]] | None:
        """Enumerated values → (property, descending); None if one of them cannot be understood."""
        view = self._schemas.view(parameter.schema_pointer)
        if view.is_array and view.items:
            view = self._schemas.view(view.items)
        known = {fold(name): name for name in allowed}
        found: dict[str, tuple[str, bool]] = {}
        for value in view.facets.get("enum", ()):
            meaning = _sort_value(str(value), known)
            if meaning is None:
                return None
            found[str(value)] = meaning
        return found

    # --- filters ---

    def filter(self, parameter: RawParameter, model: Model, place: Place = Place.QUERY) -> Filter | None:
        """The filter that a parameter is; None if it equals no property after folding."""
        view = self._schemas.view(parameter.schema_pointer)
        if parameter.node.get("style") == "deepObject" or view.types == {"object"}:
            return None
        known = self._filterable(model)
        return self._equal(parameter, view, known, model, place) or self._range(parameter, view, known, model, place)

    def _filterable(self, model: Model) -> dict[str, str]:
        names = [
            name for name, one in model.properties.items() if not one.secret and not one.hidden and name in model.reads
        ]
        names += [name for name, one in model.references.items() if one.visible and not one.embedded]
        return {fold(name): name for name in names}

    def _equal(
        self, parameter: RawParameter, view: View, known: dict[str, str], model: Model, place: Place
    ) -> Filter | None:
        folded = fold(plain_name(parameter.name))
        for candidate in self._candidates(folded, model):
            name = known.get(candidate)
            plural = name is None
            if name is None:
                name = next((one for key, one in known.items() if same_noun(key, candidate)), None)
            if name is None:
                continue
            several = view.is_array or (self._is_listed(parameter) and (plural or self._elements(model, name)))
            elements = self._elements(model, name)
            if self._column(model, name) is ColumnType.JSON and not elements:
                return None
            operator = FilterOperator.IN if several else FilterOperator.EQUALS
            separator = "," if several and not view.is_array else None
            return Filter(parameter.name, name, operator, place, elements, separator)
        parts = words(parameter.name)
        if len(parts) > 1 and parts[-1] in _CONTAINS:
            name = known.get("".join(parts[:-1]))
            if name and self._column(model, name) is ColumnType.STRING:
                return Filter(parameter.name, name, FilterOperator.CONTAINS, place)
        return None

    def _candidates(self, folded: str, model: Model) -> Iterable[str]:
        yield folded
        for noun in (fold(model.name), fold(singular(model.draft.noun))):
            if folded.startswith(noun) and len(folded) > len(noun):
                yield folded[len(noun) :]
        for prefix in ("by", "filterby", "filter"):
            if folded.startswith(prefix) and len(folded) > len(prefix):
                yield folded[len(prefix) :]

    def _is_listed(self, parameter: RawParameter) -> bool:
        return bool(_COMMA.search(str(parameter.node.get("description", "")))) or "," in str(
            parameter.node.get("example", "")
        )

    def _elements(self, model: Model, name: str) -> bool:
        """Whether the property is a JSON array of scalars."""
        if name not in model.reads:
            return False
        view = self._schemas.merged(model.reads[name])
        return (
            view.is_array
            and view.items is not None
            and self._schemas.column(self._schemas.view(view.items)) is not ColumnType.JSON
        )

    def _column(self, model: Model, name: str) -> ColumnType:
        if name in model.properties:
            return model.properties[name].type
        return self._schemas.column(self._schemas.merged(model.reads[name])) if name in model.reads else ColumnType.JSON

    def _range(
        self, parameter: RawParameter, view: View, known: dict[str, str], model: Model, place: Place
    ) -> Filter | None:
        for operator, rest in _bounds(plain_name(parameter.name)):
            name = self._range_property(rest, known, model)
            if name is None:
                continue
            elements = self._elements(model, name)
            column = self._element_column(model, name) if elements else self._column(model, name)
            if column in _ORDERED and self._comparable(view, column):
                return Filter(parameter.name, name, operator, place, elements)
        return None

    def _element_column(self, model: Model, name: str) -> ColumnType:
        items = self._schemas.merged(model.reads[name]).items
        return self._schemas.column(self._schemas.view(items)) if items else ColumnType.JSON

    def _comparable(self, view: View, column: ColumnType) -> bool:
        mine = self._schemas.column(view)
        if column in _DATES:
            return mine in _DATES
        return mine in _ORDERED - _DATES

    def _range_property(self, rest: str, known: dict[str, str], model: Model) -> str | None:
        if rest in known:
            return known[rest]
        for key, name in known.items():
            if rest and (same_noun(key, rest) or key in (rest + "at", rest + "on", rest + "date", rest + "time")):
                return name
        if rest not in ("", "date", "time", "timestamp"):
            return None
        created = [name for key, name in known.items() if key in vocabulary.CREATED]
        dated = [
            name
            for name in known.values()
            if (self._element_column(model, name) if self._elements(model, name) else self._column(model, name))
            in _DATES
        ]
        options = created or dated
        return options[0] if len(options) == 1 else None

    def _searchable(self, model: Model) -> tuple[str, ...]:
        return tuple(
            name
            for name, one in model.properties.items()
            if one.type is ColumnType.STRING
            and not one.enum
            and not one.write_only
            and not one.hidden
            and name in model.reads
            and name != model.key.name
        )


def plain_name(name: str) -> str:
    """`filter[name]`, `pagination.page` → what stands inside; `page[size]` stays whole."""
    parts = [part for part in re.split(r"[\[\].]+", name) if part]
    holders = ("filter", "filters", "pagination", "paging", "q", "where", "query", "search")
    return parts[-1] if len(parts) == 2 and parts[0].lower() in holders else name


def _whole(value: Json) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**9 else None


def _bounds(name: str) -> Iterable[tuple[FilterOperator, str]]:
    """(operator, folded rest) for every way to read a name as a bound: `createdAfter`, `min_price`, `price_gte`, `startDate`."""
    parts = words(name)
    for index in (0, len(parts) - 1):
        word = parts[index] if parts else ""
        rest = "".join(parts[:index] + parts[index + 1 :])
        if word in vocabulary.BEFORE:
            yield _LOWER.get(word, FilterOperator.AT_LEAST), rest
        elif word in vocabulary.UNTIL:
            yield _UPPER.get(word, FilterOperator.AT_MOST), rest


def _sort_value(value: str, known: dict[str, str]) -> tuple[str, bool] | None:
    descending = value.startswith("-")
    parts = words(value)
    if parts and parts[-1] in ("asc", "desc", "ascending", "descending"):
        descending = parts[-1].startswith("desc")
        parts = parts[:-1]
    name = known.get("".join(parts)) or next(
        (one for key, one in known.items() if key in ("".join(parts) + "at", "".join(parts) + "date")), None
    )
    return (name, descending) if name else None
