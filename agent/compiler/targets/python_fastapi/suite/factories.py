"""Factories of tests: for each resource a valid body, the rows that it needs, and the call that makes a row of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.names import PYTHON_WORDS, Names
from agent.compiler.targets.python_fastapi.project import Project
from agent.compiler.targets.python_fastapi.suite.calls import arguments, call, entity_of, nested, sample_of
from agent.compiler.targets.python_fastapi.suite.model import Code, Factory, Parent
from agent.compiler.targets.python_fastapi.suite.values import Pointers, Values

Json = Any
SERIES = "numbers"  # of tests/factories.py: each time another number
# What a test calls its own things; a resource of such a name gets an underscore.
TEST_WORDS = PYTHON_WORDS | {
    "after", "api", "app", "asyncio", "before", "body", "case", "changes", "content", "count", "first", "found", "gone", "high",
    "json", "key", "keys", "left_out", "low", "made", "method", "middle", "name", "numbers", "other", "page", "pages", "path",
    "problem", "pytest", "query", "resources", "rest", "row", "second", "seen", "sent", "shapes", "status", "tests", "text",
    "third", "uuid4", "value",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tie:
    """What puts a row below others: parents by place, or references in its body."""

    rows: tuple[str, ...] = ()
    changes: Mapping[str, Json] = field(default_factory=dict)

    @property
    def is_firm(self) -> bool:
        """Whether it ties at all."""
        return bool(self.rows or self.changes)


@dataclass(frozen=True, slots=True)
class Entity:
    """A valid entity: `code` with leaves that make other rows, `literal` with samples; `unique` names differ each time."""

    code: dict[str, Json]
    literal: dict[str, Json]
    unique: frozenset[str]


@dataclass(frozen=True, slots=True)
class Maker:
    """A factory, and what the tests have to know of it."""

    factory: Factory
    resource: ir.Resource
    operation: ir.Operation | None  # None: rows are inserted
    literal: Mapping[str, Json]  # the entity with samples in place of code
    unique: frozenset[str]  # JSON names with a new value in each row
    pointers: Mapping[str, Pointers]  # schemas by JSON name
    taken: Mapping[str, ir.ShapeField]  # by property or reference: what the body sets
    shown: Mapping[str, ir.ShapeField]  # by property or reference: what the answer shows
    above: tuple[str, ...] = ()  # resources of the parents

    @property
    def noun(self) -> str:
        """The variable for a row."""
        return self.factory.noun

    @property
    def is_repeatable(self) -> bool:
        """Whether more than one row can be made."""
        fixed = {part.name for part in self.resource.properties if is_unique(self.resource, part)}
        return all(part.name in self.unique for name, part in self.taken.items() if name in fixed)

    def show(self, variable: str, name: str) -> Code | None:
        """The value of a property or reference in a row that the factory gave; None if it is not shown."""
        part = self.shown.get(name)
        return None if part is None else Code(f"{variable}[{part.name!r}]")

    def key(self, variable: str) -> Code | None:
        """The key of a row that the factory gave; None if it is not shown."""
        return self.show(variable, self.resource.key)

    def make(self, tie: Tie | None = None, changes: Mapping[str, Json] | None = None) -> Code:
        """The call that makes a row."""
        tie = tie or Tie()
        given = ["api", *tie.rows, *arguments({**tie.changes, **(changes or {})})]
        return Code(f"await make_{self.noun}({', '.join(given)})")

    def body(self) -> Code:
        """The call that gives a valid entity."""
        return Code(f"await {self.noun}_body(api)" if self.factory.is_async else f"{self.noun}_body()")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation works, made by statements: the rows above, as variables, and what ties a row to them."""

    arrange: tuple[Code, ...]
    keys: Mapping[str, Json]  # path parameter → code
    rows: Mapping[str, str]  # resource → variable
    tie: Tie


class Makers:
    """Factories by resource, made when they are asked for."""

    def __init__(self, api: ir.Api, project: Project, operations: Sequence[ir.Operation], values: Values) -> None:
        self._project, self.operations, self.values = project, operations, values
        self.resources = {resource.name: resource for resource in api.resources}
        nouns = Names(words=TEST_WORDS)
        self.nouns = {name: nouns.give(name) for name in self.resources}
        self._made: dict[str, Maker | None] = {}
        self._open: list[str] = []

    def of(self, resource: str) -> Maker | None:
        """The factory of a resource; None if there is none, or if it waits for this one."""
        if resource in self._open or resource not in self.resources:
            return None
        if resource not in self._made:
            self._open.append(resource)
            self._made[resource] = next(self._ways(self.resources[resource]), None)
            self._open.remove(resource)
        return self._made[resource]

    def _ways(self, resource: ir.Resource) -> Iterator[Maker]:
        """Ways to make a row: by an operation, the shortest path first, else by an insert."""
        own = [(one, one.plan) for one in self.operations if one.plan and one.plan.resource == resource.name]
        for operation, plan in sorted(own, key=lambda pair: len(pair[1].ancestors)):
            made = self._by_operation(resource, operation, plan) if is_creator(operation) else None
            if made is not None:
                yield made
        for operation, plan in own:
            made = self._by_insert(resource, operation, plan)
            if made is not None:
                yield made

    def _by_operation(self, resource: ir.Resource, operation: ir.Operation, plan: ir.Plan) -> Maker | None:
        body, sample = operation.body, entity_of(operation)
        if body is None or body.shape is None or plan.shape is None or plan.wrapper.bare or sample is None:
            return None
        place = self.place(operation)
        entity = self.entity(resource, body.shape, body.schema_pointer, sample, body.unwrap)
        if place is None or entity is None:
            return None
        makes = (Code(statement.partition(" = ")[2]) for statement in place.arrange)
        parents = tuple(Parent(variable, make) for variable, make in zip(place.rows.values(), makes, strict=True))
        post = call(operation, place.keys, nested(Code("entity"), body.unwrap))
        title = f"{operation.method} {operation.path}"
        return Maker(
            Factory(self.nouns[resource.name], title, entity.code, parents, post, plan.wrapper.path),
            resource,
            operation,
            entity.literal,
            entity.unique,
            pointers=self.values.properties(body.schema_pointer, body.unwrap).properties,
            taken={part.property: part for part in body.shape.fields},
            shown={part.property: part for part in plan.shape.fields},
            above=tuple(place.rows),
        )

    # --- what no operation makes ---

    def _by_insert(self, resource: ir.Resource, operation: ir.Operation, plan: ir.Plan) -> Maker | None:
        """Straight into the table, as a list or a reader shows it."""
        pointer = self._shown_at(operation, plan)
        works = (one.work for one in self._project.operations if one.id == operation.id and one.work)
        shape = next((work.answer.shape for work in works), None)
        if pointer is None or plan.shape is None or shape is None or not isinstance(resource.sample, dict):
            return None
        entity = self.entity(resource, plan.shape, pointer, resource.sample, ())
        if entity is None or resource.singleton:
            return None
        entity = _completed(resource, plan.shape, entity, self._key_to_insert(resource, plan.shape, pointer, entity))
        if entity is None:
            return None
        constant = next(one.constant for one in self._project.resources if one.name == resource.name)
        shown = {part.property: part for part in plan.shape.fields}
        return Maker(
            Factory(self.nouns[resource.name], "", entity.code, (), None, (), constant, shape),
            resource,
            None,
            entity.literal,
            entity.unique,
            pointers=self.values.properties(pointer).properties,
            taken={name: part for name, part in shown.items() if part.name in entity.code},
            shown=shown,
        )

    def _key_to_insert(self, resource: ir.Resource, shape: ir.Shape, pointer: str, entity: Entity) -> Json:
        """An expression for keys that the schema takes; None if nobody knows one."""
        name = next((part.name for part in shape.fields if part.property == resource.key), "")
        own = next(part for part in resource.properties if part.name == resource.key)
        if own.type is ir.ColumnType.UUID:
            return Code("str(uuid4())")
        if own.type is not ir.ColumnType.STRING:
            return Code("next(numbers)")
        # A text of digits satisfies more patterns, in bodies and paths, than others.
        if self.values.takes(self.values.properties(pointer).properties.get(name, ()), "1000"):
            return Code("str(next(numbers))")
        return entity.code[name] if name in entity.unique else None

    def _shown_at(self, operation: ir.Operation, plan: ir.Plan) -> str | None:
        """The schema by which a list or a reader shows a row."""
        if operation.success_pointer is None or plan.action not in (ir.Action.LIST, ir.Action.GET):
            return None
        if plan.action is ir.Action.LIST:
            return self.values.items(operation.success_pointer, plan.wrapper.path)
        return None if plan.wrapper.path else operation.success_pointer

    # --- bodies ---

    def entity(
        self, resource: ir.Resource, shape: ir.Shape, pointer: str, sample: Mapping[str, Json], unwrap: Sequence[str]
    ) -> Entity | None:
        """An entity like a sample; None if it must name what nobody can make."""
        view, parts = self.values.properties(pointer, unwrap), {part.name: part for part in shape.fields}
        properties = {part.name: part for part in resource.properties}
        code: dict[str, Json] = {}
        unique = set()
        for name, value in sample.items():
            part, code[name] = parts.get(name), value
            if part is None or value is None:
                continue
            if part.kind != "property":
                code[name] = self._tied(resource, part, value)
                if code[name] is None and name in view.required:
                    return None
            elif is_unique(resource, properties[part.property]):
                series = self.values.series(view.properties.get(name, ()), value)
                if series is not None:
                    code[name] = series
                    unique.add(name)
        code = {name: value for name, value in code.items() if value is not None or sample[name] is None}
        literal = {name: [] if value == [] else sample[name] for name, value in code.items()}
        # What a response must hold and a request must not is missing in a sample: then nothing can be verified.
        takes = [self.values.takes((pointer,), nested(dict(one), unwrap)) for one in (literal, sample)]
        return Entity(code, literal, frozenset(unique)) if takes[0] or not takes[1] else None

    def _tied(self, resource: ir.Resource, part: ir.ShapeField, value: Json) -> Json:
        """A reference or collection of a body; None if it cannot be made."""
        if part.match:
            return self._without_key(part, value)
        if part.kind == "collection":
            own = next((one for one in resource.collections if one.name == part.property), None)
            return [] if own is None or own.through or _names_rows(part.nested) else value
        reference = next(one for one in resource.references if one.name == part.property)
        maker = self.of(reference.target)
        return self.refer(maker, part, value, f"({maker.make()})") if maker else None

    def _without_key(self, part: ir.ShapeField, value: Json) -> Json:
        """Embedded objects that are found or made by what they say: a key in a sample would name a row that is not there."""
        if isinstance(value, list):
            return [self._without_key(part, one) for one in value]
        keys = (
            {one.name for one in part.nested.fields if one.property == self._key_of(part.nested)} if part.nested else ()
        )
        return {name: one for name, one in value.items() if name not in keys} if isinstance(value, dict) else value

    def _key_of(self, shape: ir.Shape) -> str:
        return self.resources[shape.resource].key

    def refer(self, maker: Maker, part: ir.ShapeField, value: Json, row: str) -> Json:
        """What a body says to name a row; None if the row does not show its key."""
        key = maker.key(row)
        if part.nested is None or key is None:
            return key
        name = next((one.name for one in part.nested.fields if one.property == maker.resource.key), maker.resource.key)
        return {**(value if isinstance(value, dict) else {}), name: key}

    # --- places ---

    def place(self, operation: ir.Operation) -> Place | None:
        """The rows above an operation's own; None if they cannot be made."""
        plan = operation.plan
        if plan is None:
            return None
        arrange: list[Code] = []
        keys: dict[str, Json] = {scope.parameter: sample_of(operation, scope.parameter) for scope in plan.scopes}
        rows: dict[str, str] = {}
        for step in plan.ancestors:
            maker = self.of(step.resource)
            tie = self.tie(maker, step.via, rows) if maker else None
            if maker is None or tie is None or step.scopes or step.resource in rows or step.property not in maker.shown:
                return None
            variable = maker.noun if step.resource != plan.resource else f"{maker.noun}_above"
            arrange.append(Code(f"{variable} = {maker.make(tie)}"))
            rows[step.resource] = variable
            keys[step.parameter] = maker.show(variable, step.property)
        maker = None if is_creator(operation) or plan.through else self.of(plan.resource)
        made_by = maker.operation.plan if maker and maker.operation else None
        if maker is None or (plan.scopes and (made_by is None or made_by.scopes != plan.scopes)):
            return Place(tuple(arrange), keys, rows, Tie())
        tie = self.tie(maker, plan.via if plan.ancestors else None, rows)
        return None if tie is None else Place(tuple(arrange), keys, rows, tie)

    def tie(self, maker: Maker, via: str | None, rows: Mapping[str, str]) -> Tie | None:
        """What puts a new row of `maker` below `rows`, by the reference `via`; None if nothing does."""
        if via is None:
            return Tie()
        plan = maker.operation.plan if maker.operation else None
        if plan is not None and plan.via == via and maker.above == tuple(rows):
            return Tie(tuple(rows.values()))
        part = maker.taken.get(via)
        reference = next((one for one in maker.resource.references if one.name == via), None)
        target = self.of(reference.target) if reference and reference.target in rows else None
        if part is None or part.match or reference is None or target is None:
            return None
        named = self.refer(target, part, maker.literal.get(part.name), rows[reference.target])
        return None if named is None else Tie((), {part.name: named})


def _completed(resource: ir.Resource, shape: ir.Shape, entity: Entity, key: Json) -> Entity | None:
    """An entity to insert, under a `key` of its own and without what the server makes; None if something that every row
    has is missing."""
    names, code, unique = {part.property: part.name for part in shape.fields}, dict(entity.code), set(entity.unique)
    for own in resource.properties:
        name = names.get(own.name, "")
        if own.generated is not None:
            code.pop(name, None)
        elif own.name == resource.key and name:
            if key is None:
                return None
            code[name] = key
            unique.add(name)
        elif own.required and not own.has_default and name not in code:
            return None
    if any(one.required and names.get(one.name) not in code for one in resource.references):
        return None
    return Entity(code, entity.literal, frozenset(unique))


def is_creator(operation: ir.Operation) -> bool:
    """Whether an operation makes a row of its body."""
    return operation.plan is not None and operation.plan.action in (ir.Action.CREATE, ir.Action.UPSERT)


def is_unique(resource: ir.Resource, part: ir.Property) -> bool:
    """Whether no two rows may share a value that clients choose."""
    is_key = part.name == resource.key  # a client may choose it, also where the server makes one for who does not
    return (is_key or (part.unique and part.generated is None)) and not part.hidden


def _names_rows(shape: ir.Shape | None) -> bool:
    """Whether a nested object names other rows."""
    return shape is not None and any(part.kind != "property" for part in shape.fields)
