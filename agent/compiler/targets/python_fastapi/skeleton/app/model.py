"""Words in which `app/resources.py`, `app/shapes.py` and the routers describe the service. Data only, no behaviour.

JSON names are the document's; columns are our own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from sqlalchemy import Column, Table

Json = Any


class Type(Enum):
    """How a scalar is stored."""

    STRING = "string"
    INTEGER = "integer"
    BIGINT = "bigint"
    NUMERIC = "numeric"
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    UUID = "uuid"
    JSON = "json"


class Generated(Enum):
    """Values that the server makes; what a client sends for them is ignored."""

    IDENTITY = "identity"
    UUID = "uuid"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    VERSION = "version"
    TOKEN = "token"


class Absent:
    """No value at all; JSON null is a value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A stored JSON property."""

    name: str
    column: Column[Any]
    type: Type
    required: bool = False
    generated: Generated | None = None
    default: Json = ABSENT
    chosen: bool = False  # generated, but a client may bring its own value
    secret: bool = False  # a password: only its salted hash is stored


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Many-to-one: `column` holds the identity of a row of `target`."""

    name: str
    column: Column[Any]
    target: Callable[[], "Resource"]
    required: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Children:
    """One-to-many: the rows of `target` whose reference `via` points here."""

    name: str
    target: Callable[[], "Resource"]
    via: str


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Many-to-many through the table `link`; `here` and `there` are its two columns."""

    name: str
    target: Callable[[], "Resource"]
    link: Table
    here: Column[Any]
    there: Column[Any]


Collection = Children | Links


@dataclass(frozen=True, eq=False)
class Resource:
    """Something that is stored, one table. `identity` is the primary key, `key` what clients know a row by."""

    name: str
    table: Table
    identity: Column[Any]
    key_name: str
    fields: tuple[Field, ...]
    references: tuple[Reference, ...] = ()
    collections: tuple[Collection, ...] = ()

    @cached_property
    def key(self) -> Field:
        """The field that clients know a row by."""
        return self.field(self.key_name)

    @cached_property
    def is_known_by_identity(self) -> bool:
        """Whether the key is the primary key itself, so that a reference's column holds what clients see."""
        return self.key.column is self.identity

    @cached_property
    def _by_name(self) -> Mapping[str, Field]:
        return {field.name: field for field in self.fields}

    def field(self, name: str) -> Field:
        """The field with this JSON name."""
        return self._by_name[name]

    def reference(self, name: str) -> Reference:
        """The reference with this name."""
        return next(reference for reference in self.references if reference.name == name)

    def collection(self, name: str) -> Collection:
        """The collection with this name."""
        return next(collection for collection in self.collections if collection.name == name)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One JSON property of a shape; `source` names a field, reference or collection of the resource."""

    name: str
    source: str
    nested: "Shape | None" = None
    null_when_absent: bool = False
    match: tuple[str, ...] = ()  # in a request: without a key, an equal row is found by these, or made


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What a schema shows of a resource, or takes from a request."""

    resource: Resource
    shown: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Fixed:
    """A path parameter that is a plain column: rows have its value."""

    parameter: str
    field: str


@dataclass(frozen=True, slots=True)
class Step:
    """A path parameter that picks a row of `resource` by its field `field`.

    `via`: the row's reference that must point at the row of the step before.
    `through`: the many-to-many collection of the step before that must hold the row.
    """

    parameter: str
    resource: Resource
    field: str
    via: str | None = None
    through: str | None = None
    fixed: tuple[Fixed, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an operation works: the rows of `resource` below the row that `steps` lead to; no steps: all rows."""

    resource: Resource
    steps: tuple[Step, ...] = ()
    via: str | None = None
    through: str | None = None
    fixed: tuple[Fixed, ...] = ()


class Operator(Enum):
    """How a filter compares."""

    EQUALS = "eq"
    AT_LEAST = "ge"
    AT_MOST = "le"
    GREATER = "gt"
    LESS = "lt"
    IN = "in"
    CONTAINS = "contains"


@dataclass(frozen=True, slots=True)
class Filter:
    """A query parameter that narrows a list by a field or a reference."""

    parameter: str
    source: str
    operator: Operator = Operator.EQUALS
    separator: str | None = None  # one text that holds several values


@dataclass(frozen=True, slots=True)
class Search:
    """A free text that some field must contain."""

    parameter: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sort:
    """`parameter` names fields (`-name`: descending), or `directions` is a parameter with asc or desc.

    `values`: what the parameter may say → (field, descending), where the document lists it.
    """

    parameter: str
    allowed: tuple[str, ...]
    directions: str | None = None
    values: Mapping[str, tuple[str, bool]] | None = None


class Style(Enum):
    """How a list is cut into pages. NONE: capped, by `limit` too; the rest is behind `Link: rel="next"` (RFC 8288)."""

    NONE = "none"
    OFFSET = "offset"
    PAGE = "page"
    CURSOR = "cursor"


@dataclass(frozen=True, slots=True, eq=False)
class Paging:
    """Parameters as the document names them; every style but NONE has a position."""

    style: Style = Style.NONE
    limit: str | None = None
    position: str | None = None
    first_page: int = 1
    default_limit: int | None = None
    maximum_limit: int | None = None
    unlimited: int | None = None  # a limit that means "all there are", as far as we go


class Meta(Enum):
    """Where a value of an envelope comes from."""

    TOTAL = "total"
    PAGE = "page"
    LIMIT = "limit"
    OFFSET = "offset"
    PAGES = "pages"
    NEXT_CURSOR = "next_cursor"
    HAS_MORE = "has_more"
    COUNT = "count"
    STATUS = "status"
    REQUEST_ID = "request_id"
    NEXT_LINK = "next_link"
    NOW = "now"
    MESSAGE = "message"
    KEY = "key"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, eq=False)
class EnvelopeField:
    """A value of the envelope at `path`; one that is not known is left out, or null where `nullable`."""

    path: tuple[str, ...]
    source: Meta
    constant: Json = None
    nullable: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """What stands around the item or the items of a response: `path` leads to them."""

    path: tuple[str, ...] = ()
    fields: tuple[EnvelopeField, ...] = ()
    bare: bool = False  # no item inside, only the fields


BARE = Envelope()


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A success: its status, and what of the row it shows. No shape: no body."""

    status: int
    shape: Shape | None = None
    envelope: Envelope = BARE
    media_type: str = "application/json"
    headers: tuple[tuple[str, Meta], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Intake:
    """What an operation takes from its body: `unwrap` leads to the entity, `many`: to a list of them."""

    shape: Shape
    unwrap: tuple[str, ...] = ()
    many: bool = False


Values = Mapping[str, Json]
