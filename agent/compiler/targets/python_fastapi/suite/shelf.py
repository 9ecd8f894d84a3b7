"""A list with the factory that fills it: statements that make rows, and expressions that ask for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.suite.calls import arguments
from agent.compiler.targets.python_fastapi.suite.factories import Maker, Place
from agent.compiler.targets.python_fastapi.suite.model import Code, Listing, Test
from agent.compiler.targets.python_fastapi.suite.subject import Subject

Json = Any
# Which of three ascending values a row has where no key tells rows apart.
_RANKS = {"low": 0, "first": 0, "made": 0, "middle": 1, "second": 1, "high": 2, "third": 2, "other": 2}


@dataclass(frozen=True, slots=True)
class Several:
    """A stored property by its JSON name, and different values for it."""

    name: str
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Shelf:
    """A list operation under test."""

    subject: Subject
    operation: ir.Operation
    plan: ir.Plan
    maker: Maker
    place: Place
    listing: Listing

    def test(self, name: str, doc: str, arrange: Sequence[str], act: Sequence[str]) -> Test:
        """A test in the place of the list."""
        return self.subject.test(name, doc, [*self.place.arrange, *arrange], act, of=self.operation)

    @property
    def is_keyed(self) -> bool:
        """Whether the key tells rows apart."""
        return self.maker.key("") is not None

    def make(self, variable: str, changes: Mapping[str, Json] | None = None) -> Code:
        """The call that makes a row for a variable."""
        changes = {**self.place.tie.changes, **(changes or {})}
        name = self.listing.mark
        if not self.is_keyed and name not in changes:
            values = self.subject.values.ascending(self.maker.pointers[name], self.maker.literal[name])
            changes[name] = values[_RANKS[variable]]
        return self.maker.make(type(self.place.tie)(self.place.tie.rows), changes)

    def row(self, variable: str, changes: Mapping[str, Json] | None = None) -> str:
        """A statement that makes a row."""
        return f"{variable} = {self.make(variable, changes)}"

    def marks(self, *variables: str) -> str:
        """What the list shows of rows."""
        return f"[{', '.join(f'{variable}[{self.listing.mark!r}]' for variable in variables)}]"

    def ask(self, query: Mapping[str, Json]) -> Code:
        """The marks of the rows that the list shows for a query."""
        inside = [one.parameter for one in self.plan.filters if one.place is ir.Place.PATH and one.parameter in query]
        places = [*self.place.keys.values(), *(query[name] for name in inside)]
        rest = {name: value for name, value in query.items() if name not in inside}
        given = ["api", *(repr(value) for value in places), *arguments(rest)]
        return Code(f"await {self.listing.function}({', '.join(given)})")

    def schema(self, parameter: str) -> tuple[str, ...]:
        """Where the schema of a parameter stands."""
        return tuple(one.schema_pointer for one in self.operation.parameters if one.name == parameter)

    def takes(self, parameter: str, value: Json) -> bool:
        """Whether a parameter may have a value."""
        schema = self.schema(parameter)
        return bool(schema) and self.subject.values.takes(schema, value)

    def several(self, name: str, *, ascending: bool = False) -> Several | None:
        """Different values for a property that callers set; None if there are not two."""
        part = self.maker.taken.get(name)
        if part is None or part.kind != "property" or part.name in self.maker.unique:
            return None
        sample, pointers = self.maker.literal.get(part.name), self.maker.pointers.get(part.name)
        if sample is None or pointers is None:
            return None
        values = self.subject.values
        found = values.ascending(pointers, sample) if ascending else values.distinct(pointers, sample)
        return Several(part.name, found) if len(found) > 1 else None

    def order(self, name: str, *, descending: bool) -> dict[str, Json] | None:
        """A query that asks for an order; None if the document has no word for it."""
        sort = self.plan.sort
        if sort is None:
            return None
        words = [text for text, meant in sort.values.items() if meant == (name, descending)]
        if not sort.values:
            words = [f"-{name}" if descending else name]
        ways: list[dict[str, Json]] = [{sort.parameter: word} for word in words]
        if sort.directions is not None and descending:
            plain = [text for text, meant in sort.values.items() if meant == (name, False)] or [name]
            ways = [{sort.parameter: plain[0], sort.directions: word} for word in ("desc", "DESC", "descending")]
        ways += [{sort.parameter: [word]} for word in words]  # where the parameter is a list
        for way in ways:
            if all(self.takes(parameter, value) for parameter, value in way.items()):
                return way
        return None
