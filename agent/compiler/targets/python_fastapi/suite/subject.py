"""A resource with its operations, and what several of its tests need."""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.names import Names, snake
from agent.compiler.targets.python_fastapi.project import Project
from agent.compiler.targets.python_fastapi.suite.calls import call, entity_of, inside
from agent.compiler.targets.python_fastapi.suite.factories import TEST_WORDS, Makers, Place
from agent.compiler.targets.python_fastapi.suite.model import Code, Test

Json = Any


@dataclass(frozen=True, slots=True)
class Reading:
    """A call that shows a row again."""

    operation: ir.Operation
    plan: ir.Plan
    shown: Code  # the entity inside the answer
    gone: Code  # the same call, answered with 404


class Subject:
    """One resource under test."""

    def __init__(
        self, project: Project, makers: Makers, resource: ir.Resource, operations: Sequence[ir.Operation]
    ) -> None:
        self.project, self.makers, self.values = project, makers, makers.values
        self.resource, self.operations = resource, operations
        self.noun = makers.nouns[resource.name]
        self.maker = makers.of(resource.name)
        self.collection = collection_of(operations, resource.name) or resource.name
        self.plural = snake(self.collection)
        self._names: set[str] = set()
        factories = (name for noun in makers.nouns.values() for name in (f"make_{noun}", f"{noun}_body"))
        self.functions = Names(factories, words=TEST_WORDS)

    def test(
        self,
        name: str,
        doc: str,
        arrange: Sequence[str],
        act: Sequence[str],
        *,
        of: ir.Operation | None = None,
        cases: tuple[tuple[str, ...], Sequence[Json]] = ((), ()),
    ) -> Test:
        """A test with a name of its own, told from another one by its operation. What nobody reads gets no variable."""
        read = names_in(["\n".join([*arrange, *act])])
        lines = []
        for line in arrange:
            variable, _, value = line.partition(" = ")
            if not variable.isidentifier() or variable in read:
                lines.append(line)
            elif "await " in value:
                lines.append(value)
        if name in self._names and of is not None:
            name = f"{name}_by_{snake(of.id)}"
        while name in self._names:
            name = f"{name}_too"
        self._names.add(name)
        return Test(f"test_{name}", doc, tuple(lines), tuple(act), cases[0], tuple(cases[1]))

    def item_keys(self, operation: ir.Operation, place: Place, row: str) -> dict[str, Json] | None:
        """The path to a row that the factory gave; None if the row does not show it."""
        plan = operation.plan
        if plan is None or plan.key is None or plan.through or plan.key.scopes or self.maker is None:
            return None
        value = self.maker.show(row, plan.key.property)
        if value is None:
            return None
        return {**place.keys, plan.key.parameter: value} if plan.key.parameter else dict(place.keys)

    def reading(self, place: Place, row: str, near: ir.Operation | None) -> Reading | None:
        """How a row of a place is shown again: at the path of `near`, else by its key, else in some other way."""

        def preference(one: ir.Operation) -> tuple[bool, bool]:
            by_key = one.plan is not None and one.plan.key is not None and one.plan.key.property == self.resource.key
            return (near is None or one.path != near.path, not by_key)

        readers = [one for one in self.operations if one.plan and one.plan.action is ir.Action.GET and one.plan.shape]
        for operation in sorted(readers, key=preference):
            plan, keys = operation.plan, self.item_keys(operation, place, row)
            if plan is None or keys is None:
                continue
            for step in plan.ancestors:
                above = self.makers.of(step.resource)
                value = above.show(place.rows.get(step.resource, ""), step.property) if above else None
                if value is not None and step.resource in place.rows and not step.scopes:
                    keys[step.parameter] = value
            if {step.parameter for step in plan.ancestors} <= keys.keys():
                shown = inside(call(operation, keys), plan.wrapper.path)
                return Reading(operation, plan, shown, call(operation, keys, expect=404))
        return None

    def plain(self, shape: ir.Shape | None) -> dict[str, ir.Property]:
        """Properties of a shape, by JSON name, that come back as they were sent."""
        properties = {part.name: part for part in self.resource.properties}
        found = {}
        for part in shape.fields if shape else ():
            own = properties.get(part.property) if part.kind == "property" else None
            if own is not None and own.generated is None and not (own.secret or own.write_only or own.hidden):
                found[part.name] = own
        return found

    def others(self, operation: ir.Operation) -> dict[str, Json]:
        """For each plain property of a body, but the key, a value that comes back and differs from the factory's if it can."""
        body, plan, entity = operation.body, operation.plan, entity_of(operation)
        if body is None or plan is None or entity is None:
            return {}
        view = self.values.properties(body.schema_pointer, body.unwrap)
        start = self.maker.literal if self.maker else {}
        shown = self.plain(plan.shape) if plan.shape else self.plain(body.shape)
        found: dict[str, Json] = {}
        for name, own in self.plain(body.shape).items():
            sample = entity.get(name)
            if sample is None or name not in view.properties or name not in shown or own.name == self.resource.key:
                continue
            several = self.values.distinct(view.properties[name], sample)
            choice = [value for value in reversed(several) if value != start.get(name, sample)] or [sample]
            value = choice[len(found) % len(choice)]  # neighbours differ: one in place of the other is seen
            if returns(own, value):
                found[name] = value
        return found

    def moving(self, shape: ir.Shape | None) -> list[str]:
        """Shown properties that every change moves."""
        kinds = {part.name: part.generated for part in self.resource.properties}
        moving = (ir.Generated.UPDATED_AT, ir.Generated.VERSION)
        return [part.name for part in (shape.fields if shape else ()) if kinds.get(part.property) in moving]


def returns(part: ir.Property, value: Json) -> bool:
    """Whether a value comes back exactly as it was sent."""
    if part.type is ir.ColumnType.DATETIME:
        return isinstance(value, str) and bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value))
    return not (part.type is ir.ColumnType.UUID and str(value) != str(value).lower())


def collection_of(operations: Sequence[ir.Operation], resource: str) -> str | None:
    """The word of the path for the rows of a resource: one that begins like its name or is a part of it."""
    noun = snake(resource).replace("_", "")
    for operation in operations:
        if operation.plan is not None and operation.plan.action in (ir.Action.LIST, ir.Action.CREATE):
            for word in reversed([part for part in operation.path.split("/") if part and "{" not in part]):
                plain = snake(word).replace("_", "")
                if plain[:4] == noun[:4] or plain in noun:
                    return word
    return None


def names_in(code: Iterable[str]) -> frozenset[str]:
    """Names that pieces of Python read."""
    nodes = (node for piece in code for node in ast.walk(ast.parse(piece)))
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
