"""What a document means, independent of any target: resources, operations, security, errors. Frozen, no target text.

Names here are the document's own (JSON properties, parameters); a target's `lower` decides every identifier.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Json = Any


class ColumnType(StrEnum):
    """How a scalar is stored."""

    STRING = "string"
    INTEGER = "integer"  # int32
    BIGINT = "bigint"  # int64
    NUMERIC = "numeric"  # integers without format and decimals: nothing overflows
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    UUID = "uuid"
    JSON = "json"  # every nested structure that is no resource of its own


class Generated(StrEnum):
    """Values that the server makes."""

    IDENTITY = "identity"
    UUID = "uuid"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    TOKEN = "token"  # an opaque string key


@dataclass(frozen=True, slots=True)
class Property:
    """A stored JSON property of a resource."""

    name: str
    type: ColumnType
    nullable: bool  # JSON null is a legal value
    required: bool  # every row has it (required on create, generated, or with a default)
    generated: Generated | None = None
    unique: bool = False
    default: Json = None
    has_default: bool = False
    enum: tuple[Json, ...] = ()
    max_length: int | None = None
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """Many-to-one. `embedded`: the JSON property holds the target's object; else it holds the target's key."""

    name: str  # JSON property; for a parent that the JSON does not show: the path parameter
    target: str
    embedded: bool
    required: bool
    nullable: bool
    visible: bool = True  # False: only in the path
    parent: bool = False  # the nesting parent: deleting it deletes the row
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """One-to-many (`through` is False: the target's reference `via`) or many-to-many (`through` is True)."""

    name: str
    target: str
    via: str | None
    through: bool
    writable: bool
    required: bool
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that is stored: one table."""

    name: str  # PascalCase-ish, from the schema or the path; unique in the document
    key: str  # name of the property (or synthetic `id`) that identifies a row
    properties: tuple[Property, ...]  # the key's included
    references: tuple[Reference, ...] = ()
    collections: tuple[Collection, ...] = ()
    key_visible: bool = True  # False: the JSON does not show the key
    singleton: bool = False  # exactly one row
    schema_pointer: str = ""


class Action(StrEnum):
    """What a derived operation does."""

    LIST = "list"
    GET = "get"
    CREATE = "create"
    CREATE_MANY = "create_many"
    REPLACE = "replace"
    PATCH = "patch"
    DELETE = "delete"
    DELETE_ALL = "delete_all"
    UPSERT = "upsert"  # PUT/POST without id in the path, key in the body
    LINK = "link"
    UNLINK = "unlink"


@dataclass(frozen=True, slots=True)
class PathKey:
    """A path parameter that picks a row: `resource`.`property` equals `parameter`. For a parent: must exist, else 404."""

    parameter: str
    resource: str
    property: str


class FilterOperator(StrEnum):
    EQUALS = "eq"
    AT_LEAST = "ge"
    AT_MOST = "le"
    GREATER = "gt"
    LESS = "lt"
    IN = "in"
    CONTAINS = "contains"


@dataclass(frozen=True, slots=True)
class Filter:
    """A query parameter that narrows a list."""

    parameter: str
    property: str
    operator: FilterOperator = FilterOperator.EQUALS


class PagingStyle(StrEnum):
    """NONE: the document declares nothing; the service caps the page and gives a `Link: rel=next` (RFC 8288)."""

    NONE = "none"
    OFFSET = "offset"
    PAGE = "page"
    CURSOR = "cursor"


@dataclass(frozen=True, slots=True)
class Paging:
    """How a list is cut. Parameter names as declared; None where the document has none."""

    style: PagingStyle
    limit: str | None = None
    position: str | None = None  # offset, page or cursor parameter
    first_page: int = 1
    default_limit: int | None = None
    maximum_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    """`parameter` names properties; `directions` is a second parameter (asc/desc); a leading `-` means descending."""

    parameter: str
    allowed: tuple[str, ...]
    directions: str | None = None


class Meta(StrEnum):
    """Where the value of an envelope's property comes from."""

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
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class EnvelopeField:
    """`path` into the envelope → a source; `constant` where the document fixes it (enum of one, const, default, example)."""

    path: tuple[str, ...]
    source: Meta
    constant: Json = None


@dataclass(frozen=True, slots=True)
class Wrapper:
    """The response body around the item or the items: `path` leads to them; () means the body is the item itself."""

    path: tuple[str, ...] = ()
    fields: tuple[EnvelopeField, ...] = ()


@dataclass(frozen=True, slots=True)
class ShapeField:
    """One JSON property of a representation. `nested` for embedded references and collections."""

    name: str
    property: str  # name in the resource (property, reference or collection)
    kind: str  # "property" | "reference" | "collection"
    nested: "Shape | None" = None
    null_when_absent: bool = False  # else an absent value is left out


@dataclass(frozen=True, slots=True)
class Shape:
    """Which properties of a resource a schema shows (response) or takes (request)."""

    resource: str
    fields: tuple[ShapeField, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """A request body. `schema_pointer` into the normalised document; `unwrap` leads to the entity inside."""

    required: bool
    media_types: tuple[str, ...]
    schema_pointer: str
    unwrap: tuple[str, ...] = ()
    shape: Shape | None = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a derived operation works."""

    action: Action
    resource: str
    ancestors: tuple[PathKey, ...] = ()  # from the root of the path to the direct parent
    key: PathKey | None = None  # the item; parameter "" with UPSERT: the key stands in the body
    filters: tuple[Filter, ...] = ()
    sort: Sort | None = None
    paging: Paging | None = None
    wrapper: Wrapper = Wrapper()
    shape: Shape | None = None  # of the response; None: no body
    link: str | None = None  # LINK / UNLINK: the collection's name
    location: bool = False  # CREATE answers with a Location header


class Place(StrEnum):
    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    COOKIE = "cookie"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter; validation uses the schema at `schema_pointer` of the normalised document."""

    name: str
    place: Place
    required: bool
    schema_pointer: str
    style: str
    explode: bool


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """Body of an error status: a JSON template whose leaves may be {"$": "title|status|detail|instance|type|code|timestamp|errors|request_id"}."""

    status: str  # "404", "4XX", "default"
    media_type: str
    template: Json


class Verdict(StrEnum):
    DERIVED = "derived"
    DECLARED = "declared"
    HOOKED = "hooked"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the document and what became of it."""

    id: str  # operationId as in the document, or made from method and path; unique
    method: str  # upper case
    path: str  # template without the base path
    summary: str
    tags: tuple[str, ...]
    verdict: Verdict
    rule: str
    pointer: str
    confidence: str = "high"
    alternative: str | None = None
    reason: str | None = None  # why hooked or refused
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    success: int = 200
    success_media_type: str | None = None
    responses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # status → media types
    errors: tuple[ErrorShape, ...] = ()
    security: tuple[Mapping[str, tuple[str, ...]], ...] = ()  # alternatives; () = open
    plan: Plan | None = None  # set iff derived or declared
    sample: Json = None  # a valid request body, if one could be made


class SchemeKind(StrEnum):
    BASIC = "basic"
    BEARER = "bearer"  # http bearer, oauth2, openIdConnect: a JWT
    API_KEY = "api_key"


@dataclass(frozen=True, slots=True)
class SecurityScheme:
    """A declared security scheme that some operation uses."""

    name: str
    kind: SchemeKind
    place: Place = Place.HEADER
    parameter: str = "Authorization"
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Api:
    """The whole meaning of a document."""

    title: str
    version: str
    description: str
    base_path: str  # "" or "/x/y", no trailing slash
    document: Mapping[str, Json]  # normalised, OpenAPI 3.1
    given: bytes
    given_name: str  # openapi.given.yaml or .json
    resources: tuple[Resource, ...]
    operations: tuple[Operation, ...]
    security_schemes: tuple[SecurityScheme, ...] = ()
    changes: tuple[str, ...] = ()  # what normalisation changed, one line each
