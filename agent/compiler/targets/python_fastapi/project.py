"""What the templates see: the project in dataclasses, with every name, type and default decided. No behaviour."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.compiler import ir

Json = Any


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `type` is code of ours, never text of a document."""

    name: str
    type: str
    nullable: bool
    primary: bool = False
    identity: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of one column."""

    name: str
    column: str
    target_table: str
    target_column: str
    on_delete: str


@dataclass(frozen=True, slots=True)
class Constraint:
    """A unique constraint or an index."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `name` is also its Python name."""

    name: str
    columns: tuple[Column, ...]
    foreign_keys: tuple[ForeignKey, ...]
    uniques: tuple[Constraint, ...]
    indexes: tuple[Constraint, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A stored property, as app/resources.py describes it."""

    name: str
    column: str
    type: str
    required: bool
    generated: str | None
    has_default: bool
    default: Json
    chosen: bool
    secret: bool


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference, likewise."""

    name: str
    column: str
    target: str
    required: bool


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: children by `via`, or links through `link`."""

    name: str
    target: str
    via: str | None
    link: str | None = None
    here: str = ""
    there: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource: its Python name, table and parts."""

    constant: str
    name: str
    table: str
    identity: str
    key: str
    fields: tuple[Field, ...]
    references: tuple[Reference, ...]
    collections: tuple[Collection, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A property of a shape; `nested` is the name of another shape."""

    name: str
    source: str
    nested: str | None
    null_when_absent: bool
    match: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape with its Python name."""

    constant: str
    resource: str
    shown: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """A body of errors, with its Python name."""

    constant: str
    media_type: str
    template: Json


@dataclass(frozen=True, slots=True)
class ErrorShapes:
    """The errors of some operations: (status, name of the body)."""

    constant: str
    shapes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Fixed:
    """A path parameter that is a plain column."""

    parameter: str
    field: str


@dataclass(frozen=True, slots=True)
class Step:
    """A path parameter that picks a row."""

    parameter: str
    resource: str
    field: str
    via: str | None = None
    through: str | None = None
    fixed: tuple[Fixed, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an operation works."""

    resource: str
    steps: tuple[Step, ...] = ()
    via: str | None = None
    through: str | None = None
    fixed: tuple[Fixed, ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around an item."""

    path: tuple[str, ...]
    fields: tuple[ir.EnvelopeField, ...]
    bare: bool

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing around it."""
        return not (self.path or self.fields or self.bare)


@dataclass(frozen=True, slots=True)
class Answer:
    """A success."""

    status: int
    shape: str | None
    envelope: Envelope
    media_type: str
    headers: tuple[ir.HeaderField, ...]


@dataclass(frozen=True, slots=True)
class Intake:
    """What is taken from a body. A shape by name, or one with a single property."""

    shape: str
    unwrap: tuple[str, ...]
    many: bool


@dataclass(frozen=True, slots=True)
class Work:
    """What a derived operation does: a function of app/crud and its arguments."""

    call: str
    answer: Answer
    steps: tuple[Step, ...] = ()
    scope: Scope | None = None
    intake: Intake | None = None
    filters: tuple[ir.Filter, ...] = ()
    sort: ir.Sort | None = None
    paging: ir.Paging | None = None
    search: ir.Search | None = None
    whole: bool | None = None
    create_missing: bool | None = None
    location: bool = False
    version: tuple[str, str] | None = None
    key: str | None = None
    collection: str | None = None
    target: Step | None = None
    item: Envelope | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One function of a router."""

    function: str
    constant: str
    id: str
    method: str
    path: str
    summary: str
    errors: str | None
    work: Work | None  # None: hooked
    hook: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Router:
    """A module of app/routers."""

    module: str
    tag: str
    operations: tuple[Operation, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the module uses of app/model.py, as isort orders it."""
        return model_names(operation.work for operation in self.operations if operation.work)


@dataclass(frozen=True, slots=True)
class Credential:
    """A security scheme, for README and fuzz configuration."""

    name: str
    kind: str
    variable: str
    place: str
    parameter: str
    number: int


@dataclass(frozen=True, slots=True)
class FuzzException:
    """Something that the fuzz configuration lets pass, by a named rule."""

    rule: str
    operation: str
    reason: str
    path: str
    method: str
    check: str | None = None
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that is woven."""

    service: str
    title: str
    version: str
    description: str
    base_path: str
    given_name: str
    paths: Mapping[str, str]
    tables: tuple[Table, ...]
    resources: tuple[Resource, ...]
    shapes: tuple[Shape, ...]
    error_bodies: tuple[ErrorBody, ...]
    error_shapes: tuple[ErrorShapes, ...]
    routers: tuple[Router, ...]
    credentials: tuple[Credential, ...]
    exceptions: tuple[FuzzException, ...]
    implied: Mapping[str, Mapping[str, tuple[int, ...]]]  # path → method → statuses
    refused_media: Mapping[str, Mapping[str, tuple[str, ...]]]  # path → method → media types answered with 415
    notes: tuple[str, ...]  # decisions of the target that a reader should know

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All of them, in order."""
        return tuple(operation for router in self.routers for operation in router.operations)

    @property
    def hooked(self) -> tuple[Operation, ...]:
        """Those that somebody has to write."""
        return tuple(operation for operation in self.operations if operation.hook)


@dataclass(frozen=True, slots=True)
class Lowered:
    """A project, and the operations with the verdicts that the target could keep."""

    project: Project
    operations: tuple[ir.Operation, ...]


class Unsupported(Exception):
    """A plan that this target cannot carry out; the operation becomes hooked, with this reason."""


def model_names(works: Iterable[Work]) -> tuple[str, ...]:
    """Names of app/model.py that some work needs, constants first, then classes, as isort orders them."""
    found: set[str] = set()
    for work in works:
        found.add("Answer")
        envelopes = [work.answer.envelope, *([work.item] if work.item else [])]
        for envelope in envelopes:
            if not envelope.is_plain:
                found.add("Envelope")
            if envelope.fields:
                found |= {"EnvelopeField", "Meta"}
        if work.answer.headers:
            found.add("Meta")
        if work.scope:
            found.add("Scope")
        steps = [*work.steps, *(work.scope.steps if work.scope else ()), *([work.target] if work.target else [])]
        if steps:
            found.add("Step")
        if any(step.fixed for step in steps) or (work.scope and work.scope.fixed):
            found.add("Fixed")
        if work.intake:
            found.add("Intake")
        if work.filters:
            found.add("Filter")
            if any(part.operator is not ir.FilterOperator.EQUALS for part in work.filters):
                found.add("Operator")
        if work.sort:
            found.add("Sort")
        if work.search:
            found.add("Search")
        if work.paging and work.paging.is_declared:
            found |= {"Paging", "Style"} if work.paging.position else {"Paging"}
    return tuple(sorted(found))
