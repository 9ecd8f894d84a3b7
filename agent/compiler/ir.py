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
    CREATED_AT = "created_at"  # in an integer column: milliseconds since 1970
    UPDATED_AT = "updated_at"
    VERSION = "version"  # 1 at creation, +1 with every change
    TOKEN = "token"  # an opaque string key: 32 lower-case hexadecimal digits


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
    write_only: bool = False  # never shown: no shape of a response holds it
    secret: bool = False  # a password: stored as a salted hash only, never shown (write_only too)
    hidden: bool = False  # in no representation: a value of the path (Plan.scopes)


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
    required: bool
    pointer: str = ""
    visible: bool = True  # False: only paths speak of it (link, unlink, list of members)
    inverse: str | None = None  # many-to-many: the target's collection that owns the link table; None: this one owns it


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that is stored: one table."""

    name: str  # PascalCase-ish, from the schema or the path; unique in the document
    key: str  # name of the property (or synthetic `id`) that identifies a row
    properties: tuple[Property, ...]  # the key's included
    references: tuple[Reference, ...] = ()
    collections: tuple[Collection, ...] = ()
    singleton: bool = False  # exactly one row
    schema_pointer: str = ""
    # Parent reference and/or properties within which the key is unique ("a role's name within its catalogue").
    # Such a row has a hidden row id that references hold; (scope…, key) is unique. (): the key is unique alone.
    key_scope: tuple[str, ...] = ()
    sample: Json = None  # a valid representation (for seeding where no operation creates), None if none could be made


class Action(StrEnum):
    """What a derived operation does."""

    LIST = "list"
    GET = "get"
    CREATE = "create"
    CREATE_MANY = "create_many"  # the body is an array; each element answers for itself (Plan.item)
    REPLACE = "replace"
    PATCH = "patch"
    PATCH_MANY = "patch_many"  # array of partial representations, each with the key (or an alternate key) inside
    DELETE = "delete"
    DELETE_ALL = "delete_all"
    UPSERT = "upsert"  # PUT/POST without id in the path, key in the body; absent or unknown key: created
    LINK = "link"
    UNLINK = "unlink"
    PING = "ping"  # "I am alive": only Plan.wrapper's fields (or no body); no resource (Plan.resource is "")


class Place(StrEnum):
    """Where a parameter or a credential stands."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    COOKIE = "cookie"


@dataclass(frozen=True, slots=True)
class Scope:
    """A path parameter that is a plain column (no resource of that name exists): equal on read, set on create."""

    parameter: str
    property: str


@dataclass(frozen=True, slots=True)
class PathKey:
    """A path parameter that picks a row: `resource`.`property` equals `parameter`. For a parent: must exist, else 404."""

    parameter: str
    resource: str
    property: str
    # The reference of `resource` that must lead to the ancestor before this one; None for the first of a path.
    via: str | None = None
    scopes: tuple[Scope, ...] = ()  # further columns of `resource` that must equal path parameters


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
    place: Place = Place.QUERY  # PATH: `/jobs/status/{status}`
    elements: bool = False  # the property is a JSON array: true when any element satisfies
    separator: str | None = None  # the parameter is one text that holds several values (operator IN)


@dataclass(frozen=True, slots=True)
class Search:
    """A free-text parameter: case-insensitive "contains" in any of `properties`."""

    parameter: str
    properties: tuple[str, ...]


class PagingStyle(StrEnum):
    """NONE: the document declares no position, at most a limit; `Link: rel=next` (RFC 8288) leads behind the page."""

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
    unlimited: int | None = None  # a limit that means "all" (-1, 0); the service's own cap still holds

    @property
    def is_declared(self) -> bool:
        """Whether a parameter of the document has a say in how much a page holds, or where it begins."""
        return self.limit is not None or self.position is not None


@dataclass(frozen=True, slots=True)
class Sort:
    """`parameter` names properties; `directions` is a second parameter (asc/desc); a leading `-` means descending."""

    parameter: str
    allowed: tuple[str, ...]  # properties of the resource
    directions: str | None = None
    # What the parameter may say → (property, descending), where the document enumerates it; else names and "-name".
    values: Mapping[str, tuple[str, bool]] = field(default_factory=dict)


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
    NEXT_LINK = "next_link"  # path and query of the next page
    NOW = "now"
    MESSAGE = "message"  # one short sentence about what happened
    KEY = "key"  # the key of the row in question
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class EnvelopeField:
    """`path` into the envelope → a source; `constant` where the document fixes it (enum of one, const, default, example).

    A source without value (no next page) is left out, or null where `nullable`.
    """

    path: tuple[str, ...]
    source: Meta
    constant: Json = None
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Wrapper:
    """The response body around the item or the items: `path` leads to them; () means the body is the item itself.

    `bare`: there is no item inside, only `fields` (`{"message": "deleted"}`); Plan.shape is None then.
    """

    path: tuple[str, ...] = ()
    fields: tuple[EnvelopeField, ...] = ()
    bare: bool = False


@dataclass(frozen=True, slots=True)
class ShapeField:
    """One JSON property of a representation. `nested` for embedded references and collections."""

    name: str
    property: str  # name in the resource (property, reference or collection)
    kind: str  # "property" | "reference" | "collection"
    nested: "Shape | None" = None
    null_when_absent: bool = False  # else an absent value is left out
    # In a request, for an embedded object whose key may be missing: the properties by which a row of the target is
    # found; none found → it is created from the object. (): the object carries the key, and the row must exist.
    match: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """Which properties of a resource a schema shows (response) or takes (request)."""

    resource: str
    fields: tuple[ShapeField, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """A request body. `schema_pointer` into the normalised document; `unwrap` leads to the entity inside."""

    required: bool
    media_types: tuple[str, ...]  # JSON ones, as declared
    schema_pointer: str
    unwrap: tuple[str, ...] = ()
    shape: Shape | None = None
    many: bool = False  # an array of entities; `unwrap` then holds within each element
    other_media_types: tuple[str, ...] = ()  # declared, but answered with 415 (XML, forms)


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """Optimistic locking: the body's `body_property` (may be absent) must equal the row's `property`, else 409."""

    body_property: str
    property: str


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A declared response header that we know how to fill."""

    name: str
    source: Meta


@dataclass(frozen=True, slots=True)
class Plan:
    """How a derived operation works."""

    action: Action
    resource: str
    ancestors: tuple[PathKey, ...] = ()  # from the root of the path to the direct parent
    # The item. `property` may be another unique property than the key (`/jobs/name/{name}`). Parameter "": the value
    # stands in the body (UPSERT; REPLACE and PATCH, where absent or unknown → 404).
    key: PathKey | None = None
    scopes: tuple[Scope, ...] = ()
    filters: tuple[Filter, ...] = ()
    sort: Sort | None = None
    paging: Paging | None = None
    wrapper: Wrapper = Wrapper()
    shape: Shape | None = None  # of the response; None: no body
    link: str | None = None  # LINK / UNLINK: the collection's name
    location: bool = False  # CREATE answers with a Location header
    via: str | None = None  # the reference of `resource` to the last ancestor; None without ancestors or with `through`
    through: str | None = None  # LIST: only members of this many-to-many collection of the last ancestor
    # LINK / UNLINK: the other row. `resource` and `key` are the owner of the collection. Parameter "": its key stands
    # in the body (Body.unwrap leads to the object, `property` names the key; absent → 404).
    member: PathKey | None = None
    search: Search | None = None
    ignored: tuple[str, ...] = ()  # declared parameters without effect (each has a diagnostic)
    item: Wrapper = Wrapper()  # *_MANY: around each element's answer (`shape` inside, if any)
    version: VersionCheck | None = None
    headers: tuple[HeaderField, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter; validation uses the schema at `schema_pointer` of the normalised document."""

    name: str
    place: Place
    required: bool
    schema_pointer: str
    style: str  # "content": one JSON text (the parameter declares `content` in place of `schema`)
    explode: bool
    sample: Json = None  # a valid value, if one could be made


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """Body of an error status: a JSON template.

    A leaf may be {"$": name}, name one of: title, status (integer), status_text ("404"), detail, instance, type, code
    (short word such as "not_found"), timestamp (RFC 3339), timestamp_ms (integer), request_id (UUID text).
    """

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
    sample_media_type: str | None = None
    invalid_status: int = 400  # 422 where the document declares that and not 400
    # Statuses that this operation can answer although the document does not declare them (401 by security, 404 by a
    # key in the path, 409 by a unique key, 400 by validation): what the fuzz configuration has to know.
    implied: tuple[int, ...] = ()
    success_pointer: str | None = None  # schema of the success body in the normalised document


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
