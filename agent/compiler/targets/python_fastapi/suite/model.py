"""What the templates of tests see: factories and tests in dataclasses, with every name and value decided. No behaviour."""

from dataclasses import dataclass
from typing import Any

Json = Any


class Code(str):
    """Python of ours. Its repr is itself, so that it can stand as a leaf in a literal."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class Parent:
    """A row that a factory needs above its own: its variable, and the call that makes one."""

    noun: str
    make: Code


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes rows of a resource: by an operation, or where none does by an insert into `resource` as `shape` shows it."""

    noun: str
    title: str  # the operation, for people
    body: Json  # the entity; leaves may be Code
    parents: tuple[Parent, ...]
    post: Code | None  # the call that makes a row of `entity`
    shown: tuple[str, ...]  # where the row stands in the answer
    resource: str = ""
    shape: str = ""

    @property
    def is_async(self) -> bool:
        """Whether the body names rows that have to be made first."""
        return "await " in repr(self.body)


@dataclass(frozen=True, slots=True)
class Listing:
    """A function of a test module that gives the marks of the rows that a list shows."""

    function: str
    path: str
    items: tuple[str, ...]
    mark: str  # the JSON name that tells rows apart


@dataclass(frozen=True, slots=True)
class Test:
    """A test function: statements that arrange, a blank line, statements that act and assert."""

    name: str
    doc: str
    arrange: tuple[str, ...]
    act: tuple[str, ...]
    parameters: tuple[str, ...] = ()  # of `pytest.mark.parametrize`; no name: the test has no cases
    cases: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Module:
    """A module of tests, about one resource."""

    name: str
    title: str
    listings: tuple[Listing, ...]
    tests: tuple[Test, ...]
    uses: frozenset[str]  # names that its code reads
    factories: tuple[str, ...]  # of them those that tests/factories.py gives


@dataclass(frozen=True, slots=True)
class Suite:
    """All factories and modules."""

    factories: tuple[Factory, ...]
    modules: tuple[Module, ...]
    uses: frozenset[str]  # names that the code of the factories reads
