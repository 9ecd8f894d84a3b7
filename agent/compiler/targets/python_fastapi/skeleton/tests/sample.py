"""A small service of our own that uses every feature of the library, so that tests reach it whatever this service is.

Shelves (natural key) hold boxes, boxes hold items; labels are tied to boxes; there is one setting.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB
from starlette.responses import Response

from app import crud
from app.crud import Listing
from app.errors import ErrorShape, NotImplementedYet
from app.model import (
    Answer,
    Children,
    Envelope,
    EnvelopeField,
    Field,
    Filter,
    Generated,
    Intake,
    Links,
    Meta,
    Operator,
    Paging,
    Reference,
    Resource,
    Scope,
    Shape,
    Shown,
    Sort,
    Step,
    Style,
    Type,
)
from app.routing import Call, Routes, answer, unwritten
from app.values import encode

Json = Any


# --- The document ---------------------------------------------------------------------------------------------------


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def response(schema: Json) -> Json:
    return {"description": "ok", "content": {"application/json": {"schema": schema}}}


def body(schema: Json, media_type: str = "application/json", *, required: bool = True) -> Json:
    return {"required": required, "content": {media_type: {"schema": schema}}}


def parameter(name: str, schema: Json, place: str = "query", **more: Json) -> Json:
    return {"name": name, "in": place, "schema": schema, **({"required": True} if place == "path" else {}), **more}


STRING, INTEGER = {"type": "string"}, {"type": "integer"}
UUID = {"type": "string", "format": "uuid"}
SHELF = parameter("shelf-code", STRING, "path")
BOX = parameter("boxId", UUID, "path")
ITEM = parameter("itemId", {"type": "integer", "format": "int64"}, "path")
DENIED = {"401": {"description": "no"}, "403": {"description": "no"}}

DOCUMENT: Json = {
    "openapi": "3.1.0",
    "info": {"title": "Sample", "version": "1"},
    "paths": {
        "/shelves": {
            "get": {
                "parameters": [
                    parameter("offset", INTEGER),
                    parameter("limit", INTEGER),
                    parameter("sort", STRING),
                    parameter("codes", {"type": "array", "items": STRING}, explode=False),
                    parameter("text", STRING),
                    parameter("minHeight", {"type": "number"}),
                    parameter("maxHeight", {"type": "number"}),
                    parameter("above", {"type": "number"}),
                    parameter("below", {"type": "number"}),
                    parameter("material", STRING),
                ],
                "responses": {"200": response({}), "400": {"description": "bad"}},
            },
            "post": {
                "requestBody": body(ref("Shelf")),
                "responses": {
                    "201": response(ref("Shelf")),
                    "422": {"description": "bad"},
                    "409": {"description": "taken"},
                },
            },
            "delete": {
                "parameters": [parameter("text", STRING)],
                "responses": {"204": {"description": "gone"}},
            },
        },
        "/shelves/{shelf-code}": {
            "parameters": [SHELF],
            "get": {"responses": {"200": response(ref("Shelf")), "404": {"description": "none"}}},
            "put": {"requestBody": body(ref("Shelf")), "responses": {"200": response(ref("Shelf"))}},
            "delete": {"responses": {"204": {"description": "gone"}, "409": {"description": "in use"}}},
        },
        "/shelves/{shelf-code}/boxes": {
            "parameters": [SHELF],
            "get": {"responses": {"200": response({"type": "array", "items": ref("Box")})}},
            "post": {
                "requestBody": body(ref("Box")),
                "responses": {"201": response(ref("Box")), "4XX": {"description": "bad"}},
            },
        },
        "/shelves/{shelf-code}/boxes/{owner}": {
            "parameters": [SHELF, parameter("owner", STRING, "path")],
            "put": {"requestBody": body(ref("BoxChange")), "responses": {"200": response(ref("Box"))}},
        },
        "/boxes": {
            "get": {
                "parameters": [
                    parameter("cursor", STRING),
                    parameter("limit", INTEGER),
                    parameter("order", STRING),
                    parameter("direction", STRING),
                ],
                "responses": {"200": response({})},
            },
            "put": {
                "requestBody": body(ref("Box")),
                "responses": {"200": response(ref("Box")), "404": {"description": "none"}},
            },
            "post": {
                "requestBody": body({"type": "array", "items": ref("Box")}),
                "responses": {"201": response({"type": "array", "items": ref("Box")})},
            },
        },
        "/boxes/{boxId}": {
            "parameters": [BOX],
            "get": {"responses": {"200": response(ref("Box"))}},
            "patch": {"requestBody": body(ref("BoxChange")), "responses": {"200": response(ref("Box"))}},
            "delete": {"responses": {"200": response(ref("Box"))}},
        },
        "/boxes/{boxId}/items": {
            "parameters": [BOX],
            "get": {
                "parameters": [parameter("page", INTEGER), parameter("size", {"type": "integer", "maximum": 3})],
                "responses": {"200": response({})},
            },
            "post": {
                "requestBody": body({"type": "object", "required": ["item"], "properties": {"item": ref("Item")}}),
                "responses": {"201": {"description": "made"}},
            },
        },
        "/boxes/{boxId}/items/{itemId}": {
            "parameters": [BOX, ITEM],
            "get": {"responses": {"200": response(ref("Item"))}},
            "put": {"requestBody": body(ref("Item")), "responses": {"200": response(ref("Item"))}},
        },
        "/boxes/{boxId}/labels": {
            "parameters": [BOX],
            "get": {"parameters": [parameter("limit", INTEGER)], "responses": {"200": response({})}},
            "post": {"requestBody": body(ref("Label")), "responses": {"201": response(ref("Label"))}},
            "put": {"requestBody": body(ref("Label")), "responses": {"200": response(ref("Label"))}},
        },
        "/boxes/{boxId}/labels/{name}": {
            "parameters": [BOX, parameter("name", STRING, "path")],
            "get": {"responses": {"200": response(ref("Label"))}},
            "put": {"responses": {"204": {"description": "tied"}}},
            "delete": {"responses": {"204": {"description": "untied"}}},
        },
        "/labels": {"post": {"requestBody": body(ref("Label")), "responses": {"201": response(ref("Label"))}}},
        "/boxes/all": {"get": {"responses": {"200": response({})}}},
        "/setting": {
            "get": {"responses": {"200": response(ref("Setting"))}},
            "put": {"requestBody": body(ref("Setting")), "responses": {"200": response(ref("Setting"))}},
        },
        "/strict": {
            "post": {
                "parameters": [
                    parameter("flag", {"type": "boolean"}),
                    parameter("count", {"type": ["integer", "null"], "format": "int32", "default": 7}),
                    parameter("ratio", {"anyOf": [{"type": "number"}, {"type": "boolean"}]}),
                    parameter("many", {"type": "array", "items": INTEGER}),
                    parameter("piped", {"type": "array", "items": STRING}, style="pipeDelimited", explode=False),
                    parameter("deep", {"type": "object", "properties": {"a": INTEGER}}, style="deepObject"),
                    parameter("flat", {"type": "object", "properties": {"x": INTEGER}}),
                    parameter("packed", {"type": "object", "properties": {"k": INTEGER}}, explode=False),
                    {"name": "json", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}},
                    {"name": "loose", "in": "query"},
                    {"name": "open", "in": "query", "content": {"application/json": {}}},
                    parameter("x-number", INTEGER, "header"),
                    parameter("accept", INTEGER, "header"),
                    parameter("session", {"type": "string", "minLength": 3}, "cookie"),
                    {"$ref": "#/components/parameters/Day"},
                ],
                "requestBody": {
                    "content": {
                        "application/json": {"schema": ref("Strict")},
                        "application/xml": {},
                    }
                },
                "responses": {"200": response({}), "415": {"description": "no"}, "413": {"description": "large"}},
            }
        },
        "/loose": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {
                                "type": "object",
                                "properties": {"n": INTEGER, "tags": {"type": "array", "items": STRING}},
                            }
                        },
                        "text/plain": {"schema": {"type": "string", "maxLength": 5}},
                        "application/octet-stream": {},
                    }
                },
                "responses": {"200": response({}), "415": {"description": "no"}},
            }
        },
        "/secure/basic": {"get": {"security": [{"basic": []}], "responses": {"200": response({}), **DENIED}}},
        "/secure/key": {
            "get": {
                "security": [{"key": []}, {"keyInQuery": []}, {"keyInCookie": []}],
                "responses": {"200": response({})},
            }
        },
        "/secure/token": {
            "get": {"security": [{"token": ["read"]}, {"basic": [], "key": []}], "responses": {"200": response({})}}
        },
        "/secure/certificate": {"get": {"security": [{"certificate": []}], "responses": {"200": response({})}}},
        "/secure/both": {
            "get": {"security": [{"certificate": [], "key": []}, {"absent": []}], "responses": {"200": response({})}}
        },
        "/secure/either": {"get": {"security": [{"certificate": []}, {"key": []}], "responses": {"200": response({})}}},
        "/matrix/{a}/{b}": {
            "get": {
                "parameters": [
                    parameter("a", INTEGER, "path", style="matrix"),
                    parameter("b", INTEGER, "path", style="label"),
                ],
                "responses": {"200": response({})},
            }
        },
        "/action": {
            "post": {"requestBody": body({}), "responses": {"200": response({}), "501": {"description": "not yet"}}}
        },
        "/broken": {"get": {"responses": {"200": response({})}}},
        "/slow": {"get": {"responses": {"200": response({})}}},
    },
    "components": {
        "parameters": {"Day": parameter("day", {"type": "string", "format": "date"})},
        "schemas": {
            "Shelf": {
                "type": "object",
                "required": ["code", "createdAt"],
                "properties": {
                    "code": {"type": "string", "minLength": 1},
                    "height": {"type": ["number", "null"]},
                    "materials": {"type": "array", "items": STRING},
                    "createdAt": {"type": "string", "format": "date-time", "readOnly": True},
                    "boxes": {"type": "array", "readOnly": True, "items": ref("Box")},
                },
            },
            "BoxFields": {
                "type": "object",
                "properties": {
                    "size": {"type": "string", "default": "small"},
                    "openedOn": {"type": "string", "format": "date"},
                    "weight": {"type": "number", "format": "double"},
                    "owner": {"type": ["string", "null"]},
                    "shelf": {"type": "string"},
                    "labels": {"type": "array", "items": ref("Label")},
                    "items": {"type": "array", "items": ref("Item")},
                },
            },
            "Box": {
                "allOf": [ref("BoxFields"), {"type": "object", "properties": {"id": {**UUID, "readOnly": True}}}],
                "required": ["id"],
            },
            "BoxChange": {"allOf": [ref("BoxFields")]},
            "Item": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "id": {"type": "integer", "format": "int64", "readOnly": True},
                    "name": STRING,
                    "count": {"type": "integer", "format": "int32"},
                    "price": {"type": "number"},
                    "made": {"type": "string", "format": "date-time"},
                    "fragile": {"type": "boolean"},
                },
            },
            "Label": {"type": "object", "required": ["name"], "properties": {"name": STRING, "color": STRING}},
            "Setting": {"type": "object", "required": ["theme"], "properties": {"theme": STRING}},
            "Strict": {
                "type": "object",
                "properties": {
                    "id": UUID,
                    "day": {"type": "string", "format": "date"},
                    "at": {"type": "string", "format": "date-time"},
                    "small": {"type": "integer", "format": "int32"},
                    "any": {},
                    "pattern": {"type": "string", "pattern": "^[^]*[\\w-.]+$"},
                    "lost": {"type": "string", "pattern": "(?<broken"},
                    "one": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
                    "self": ref("Strict"),
                },
            },
        },
        "securitySchemes": {
            "basic": {"type": "http", "scheme": "basic"},
            "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
            "keyInQuery": {"type": "apiKey", "in": "query", "name": "key"},
            "keyInCookie": {"type": "apiKey", "in": "cookie", "name": "key"},
            "token": {"type": "http", "scheme": "bearer"},
            "certificate": {"type": "mutualTLS"},
        },
    },
}
BYTES = encode(DOCUMENT)

# --- Tables and resources -------------------------------------------------------------------------------------------

metadata = MetaData()
shelf_table = Table(
    "shelf",
    metadata,
    Column("row_id", BigInteger, Identity(), primary_key=True),
    Column("code", Text, nullable=False, unique=True),
    Column("height", Numeric),
    Column("materials", JSONB(none_as_null=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
box_table = Table(
    "box",
    metadata,
    Column("id", Uuid(as_uuid=False), primary_key=True),
    Column("size", Text),
    Column("opened_on", Date),
    Column("weight", Float),
    Column("owner", Text),
    Column("changed_at", DateTime(timezone=True)),
    Column("shelf_id", BigInteger, ForeignKey("shelf.row_id", ondelete="RESTRICT")),
)
item_table = Table(
    "item",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("count", Integer),
    Column("price", Numeric),
    Column("made", DateTime(timezone=True)),
    Column("fragile", Boolean),
    Column("token", Text, nullable=False),
    Column("box_id", Uuid(as_uuid=False), ForeignKey("box.id", ondelete="CASCADE"), nullable=False),
)
label_table = Table("label", metadata, Column("name", Text, primary_key=True), Column("color", Text))
box_label_table = Table(
    "box_label",
    metadata,
    Column("box_id", Uuid(as_uuid=False), ForeignKey("box.id", ondelete="CASCADE"), primary_key=True),
    Column("label_name", Text, ForeignKey("label.name", ondelete="CASCADE"), primary_key=True),
)
setting_table = Table(
    "setting", metadata, Column("id", BigInteger, Identity(), primary_key=True), Column("theme", Text)
)

code = Field("code", shelf_table.c.code, Type.STRING, required=True)
SHELF_: Resource = Resource(
    "Shelf",
    shelf_table,
    identity=shelf_table.c.row_id,
    key_name="code",
    fields=(
        code,
        Field("height", shelf_table.c.height, Type.NUMERIC),
        Field("materials", shelf_table.c.materials, Type.JSON),
        Field("createdAt", shelf_table.c.created_at, Type.DATETIME, generated=Generated.CREATED_AT),
    ),
    collections=(Children("boxes", lambda: BOX_, "shelf"),),
)
box_id = Field("id", box_table.c.id, Type.UUID, generated=Generated.UUID)
BOX_: Resource = Resource(
    "Box",
    box_table,
    identity=box_table.c.id,
    key_name="id",
    fields=(
        box_id,
        Field("size", box_table.c.size, Type.STRING, default="small"),
        Field("openedOn", box_table.c.opened_on, Type.DATE),
        Field("weight", box_table.c.weight, Type.FLOAT),
        Field("owner", box_table.c.owner, Type.STRING),
        Field("changedAt", box_table.c.changed_at, Type.DATETIME, generated=Generated.UPDATED_AT),
    ),
    references=(Reference("shelf", box_table.c.shelf_id, lambda: SHELF_),),
    collections=(
        Links("labels", lambda: LABEL_, box_label_table, box_label_table.c.box_id, box_label_table.c.label_name),
        Children("items", lambda: ITEM_, "box"),
    ),
)
item_id = Field("id", item_table.c.id, Type.BIGINT, generated=Generated.IDENTITY)
ITEM_: Resource = Resource(
    "Item",
    item_table,
    identity=item_table.c.id,
    key_name="id",
    fields=(
        item_id,
        Field("name", item_table.c.name, Type.STRING, required=True),
        Field("count", item_table.c.count, Type.INTEGER),
        Field("price", item_table.c.price, Type.NUMERIC),
        Field("made", item_table.c.made, Type.DATETIME),
        Field("fragile", item_table.c.fragile, Type.BOOLEAN),
        Field("token", item_table.c.token, Type.STRING, generated=Generated.TOKEN),
    ),
    references=(Reference("box", item_table.c.box_id, lambda: BOX_, required=True),),
)
label_name = Field("name", label_table.c.name, Type.STRING, required=True)
LABEL_: Resource = Resource(
    "Label",
    label_table,
    identity=label_table.c.name,
    key_name="name",
    fields=(label_name, Field("color", label_table.c.color, Type.STRING)),
)
setting_id = Field("id", setting_table.c.id, Type.BIGINT, generated=Generated.IDENTITY)
SETTING_: Resource = Resource(
    "Setting",
    setting_table,
    identity=setting_table.c.id,
    key_name="id",
    fields=(setting_id, Field("theme", setting_table.c.theme, Type.STRING, required=True)),
)

LABEL_SHAPE = Shape(LABEL_, (Shown("name", "name"), Shown("color", "color")))
ITEM_SHAPE = Shape(ITEM_, tuple(Shown(n, n) for n in ("id", "name", "count", "price", "made", "fragile")))
BOX_SHAPE = Shape(
    BOX_,
    (
        Shown("id", "id"),
        Shown("size", "size"),
        Shown("openedOn", "openedOn"),
        Shown("weight", "weight"),
        Shown("owner", "owner", null_when_absent=True),
        Shown("shelf", "shelf"),
        Shown("labels", "labels", LABEL_SHAPE),
        Shown("items", "items", ITEM_SHAPE),
    ),
)
BOX_WITH_SHELF = Shape(BOX_, (Shown("id", "id"), Shown("shelf", "shelf", Shape(SHELF_, (Shown("code", "code"),)))))
SHELF_SHAPE = Shape(
    SHELF_,
    (
        Shown("code", "code"),
        Shown("height", "height", null_when_absent=True),
        Shown("materials", "materials"),
        Shown("createdAt", "createdAt"),
        Shown("boxes", "boxes", Shape(BOX_, (Shown("id", "id"), Shown("labels", "labels")))),
    ),
)
SHELF_INTAKE = Intake(Shape(SHELF_, tuple(Shown(n, n) for n in ("code", "height", "materials"))))
BOX_INTAKE = Intake(BOX_SHAPE)
SETTING_SHAPE = Shape(SETTING_, (Shown("theme", "theme"),))

# --- Operations -----------------------------------------------------------------------------------------------------

routes = Routes("sample")
BY_SHELF = Step("shelf-code", SHELF_, "code")
BY_BOX = Step("boxId", BOX_, "id")
BY_ITEM = Step("itemId", ITEM_, "id", via="box")
BY_LABEL = Step("name", LABEL_, "name")
ENVELOPE = Envelope(
    ("data", "items"),
    (
        EnvelopeField(("page", "total"), Meta.TOTAL),
        EnvelopeField(("page", "offset"), Meta.OFFSET),
        EnvelopeField(("page", "limit"), Meta.LIMIT),
        EnvelopeField(("page", "more"), Meta.HAS_MORE),
        EnvelopeField(("status",), Meta.STATUS),
        EnvelopeField(("requestId",), Meta.REQUEST_ID),
        EnvelopeField(("kind",), Meta.CONSTANT, "shelves"),
    ),
)
SHELVES = Listing(
    Scope(SHELF_),
    Answer(200, SHELF_SHAPE, ENVELOPE),
    filters=(
        Filter("codes", "code", Operator.IN),
        Filter("text", "code", Operator.CONTAINS),
        Filter("minHeight", "height", Operator.AT_LEAST),
        Filter("maxHeight", "height", Operator.AT_MOST),
        Filter("above", "height", Operator.GREATER),
        Filter("below", "height", Operator.LESS),
        Filter("material", "materials", Operator.EQUALS),
    ),
    sort=Sort("sort", ("code", "height")),
    paging=Paging(Style.OFFSET, "limit", "offset", default_limit=2),
)
BOXES = Listing(
    Scope(BOX_),
    Answer(200, BOX_WITH_SHELF, Envelope(("boxes",), (EnvelopeField(("next",), Meta.NEXT_CURSOR, nullable=True),))),
    sort=Sort("order", ("weight", "openedOn"), "direction"),
    paging=Paging(Style.CURSOR, "limit", "cursor"),
)
ITEMS = Listing(
    Scope(ITEM_, (BY_BOX,), via="box"),
    Answer(
        200,
        ITEM_SHAPE,
        Envelope(
            ("items",),
            (
                EnvelopeField(("pages",), Meta.PAGES),
                EnvelopeField(("count",), Meta.COUNT),
                EnvelopeField(("page",), Meta.PAGE),
            ),
        ),
    ),
    paging=Paging(Style.PAGE, "size", "page", first_page=0, default_limit=2, maximum_limit=3),
)
CUSTOM = {
    "404": ErrorShape("application/json", {"error": {"message": {"$": "detail"}, "code": {"$": "code"}, "list": [1]}})
}


@routes.operation("listShelves", "GET", "/shelves")
async def list_shelves(call: Call) -> Response:
    return await crud.read_list(call, SHELVES)


@routes.operation("createShelf", "POST", "/shelves")
async def create_shelf(call: Call) -> Response:
    return await crud.create(call, Scope(SHELF_), SHELF_INTAKE, Answer(201, SHELF_SHAPE), location=True)


@routes.operation("deleteShelves", "DELETE", "/shelves")
async def delete_shelves(call: Call) -> Response:
    return await crud.remove_all(call, Scope(SHELF_), Answer(204), (Filter("text", "code", Operator.CONTAINS),))


@routes.operation("getShelf", "GET", "/shelves/{shelf-code}", errors=CUSTOM)
async def get_shelf(call: Call) -> Response:
    return await crud.read(call, (BY_SHELF,), Answer(200, SHELF_SHAPE))


@routes.operation("putShelf", "PUT", "/shelves/{shelf-code}")
async def put_shelf(call: Call) -> Response:
    return await crud.change(call, (BY_SHELF,), SHELF_INTAKE, Answer(200, SHELF_SHAPE), whole=True)


@routes.operation("deleteShelf", "DELETE", "/shelves/{shelf-code}")
async def delete_shelf(call: Call) -> Response:
    return await crud.remove(call, (BY_SHELF,), Answer(204))


@routes.operation("listBoxesOfShelf", "GET", "/shelves/{shelf-code}/boxes")
async def list_boxes_of_shelf(call: Call) -> Response:
    return await crud.read_list(call, Listing(Scope(BOX_, (BY_SHELF,), via="shelf"), Answer(200, BOX_SHAPE)))


@routes.operation("createBox", "POST", "/shelves/{shelf-code}/boxes")
async def create_box(call: Call) -> Response:
    return await crud.create(call, Scope(BOX_, (BY_SHELF,), via="shelf"), BOX_INTAKE, Answer(201, BOX_SHAPE))


@routes.operation("putBoxOfOwner", "PUT", "/shelves/{shelf-code}/boxes/{owner}")
async def put_box_of_owner(call: Call) -> Response:
    steps = (BY_SHELF, Step("owner", BOX_, "owner", via="shelf"))
    return await crud.change(call, steps, BOX_INTAKE, Answer(200, BOX_SHAPE), whole=True)


@routes.operation("listBoxes", "GET", "/boxes")
async def list_boxes(call: Call) -> Response:
    return await crud.read_list(call, BOXES)


@routes.operation("putBoxByBody", "PUT", "/boxes")
async def put_box_by_body(call: Call) -> Response:
    reply = Answer(200, BOX_SHAPE)
    return await crud.put_by_body(call, Scope(BOX_), "id", BOX_INTAKE, reply, whole=True, create_missing=False)


@routes.operation("createBoxes", "POST", "/boxes")
async def create_boxes(call: Call) -> Response:
    return await crud.create_many(call, Scope(BOX_), BOX_INTAKE, Answer(201, BOX_SHAPE))


@routes.operation("getBox", "GET", "/boxes/{boxId}")
async def get_box(call: Call) -> Response:
    return await crud.read(call, (BY_BOX,), Answer(200, BOX_SHAPE))


@routes.operation("patchBox", "PATCH", "/boxes/{boxId}")
async def patch_box(call: Call) -> Response:
    return await crud.change(call, (BY_BOX,), BOX_INTAKE, Answer(200, BOX_SHAPE), whole=False)


@routes.operation("deleteBox", "DELETE", "/boxes/{boxId}")
async def delete_box(call: Call) -> Response:
    return await crud.remove(call, (BY_BOX,), Answer(200, BOX_SHAPE))


@routes.operation("listItems", "GET", "/boxes/{boxId}/items")
async def list_items(call: Call) -> Response:
    return await crud.read_list(call, ITEMS)


@routes.operation("createItem", "POST", "/boxes/{boxId}/items")
async def create_item(call: Call) -> Response:
    reply = Answer(201, None, Envelope((), (EnvelopeField(("done",), Meta.CONSTANT, True),)))
    return await crud.create(call, Scope(ITEM_, (BY_BOX,), via="box"), Intake(ITEM_SHAPE, ("item",)), reply)


@routes.operation("getItem", "GET", "/boxes/{boxId}/items/{itemId}")
async def get_item(call: Call) -> Response:
    return await crud.read(call, (BY_BOX, BY_ITEM), Answer(200, ITEM_SHAPE))


@routes.operation("putItem", "PUT", "/boxes/{boxId}/items/{itemId}")
async def put_item(call: Call) -> Response:
    return await crud.change(call, (BY_BOX, BY_ITEM), Intake(ITEM_SHAPE), Answer(200, ITEM_SHAPE), whole=True)


LABELS_OF_BOX = Scope(LABEL_, (BY_BOX,), through="labels")


@routes.operation("listLabels", "GET", "/boxes/{boxId}/labels")
async def list_labels(call: Call) -> Response:
    return await crud.read_list(
        call, Listing(LABELS_OF_BOX, Answer(200, LABEL_SHAPE), paging=Paging(limit="limit", default_limit=4))
    )


@routes.operation("createLabelHere", "POST", "/boxes/{boxId}/labels")
async def create_label_here(call: Call) -> Response:
    return await crud.create(call, LABELS_OF_BOX, Intake(LABEL_SHAPE), Answer(201, LABEL_SHAPE))


@routes.operation("linkByBody", "PUT", "/boxes/{boxId}/labels")
async def link_by_body(call: Call) -> Response:
    return await crud.link(call, (BY_BOX,), "labels", BY_LABEL, Answer(200, LABEL_SHAPE), Intake(LABEL_SHAPE))


@routes.operation("getLabelHere", "GET", "/boxes/{boxId}/labels/{name}")
async def get_label_here(call: Call) -> Response:
    return await crud.read(call, (BY_BOX, Step("name", LABEL_, "name", through="labels")), Answer(200, LABEL_SHAPE))


@routes.operation("link", "PUT", "/boxes/{boxId}/labels/{name}")
async def link_label(call: Call) -> Response:
    return await crud.link(call, (BY_BOX,), "labels", BY_LABEL, Answer(204))


@routes.operation("unlink", "DELETE", "/boxes/{boxId}/labels/{name}")
async def unlink_label(call: Call) -> Response:
    return await crud.unlink(call, (BY_BOX,), "labels", BY_LABEL, Answer(204))


@routes.operation("createLabel", "POST", "/labels")
async def create_label(call: Call) -> Response:
    return await crud.create(call, Scope(LABEL_), Intake(LABEL_SHAPE), Answer(201, LABEL_SHAPE), location=True)


@routes.operation("getSetting", "GET", "/setting")
async def get_setting(call: Call) -> Response:
    return await crud.read_only_row(call, Scope(SETTING_), Answer(200, SETTING_SHAPE))


@routes.operation("putSetting", "PUT", "/setting")
async def put_setting(call: Call) -> Response:
    return await crud.put_only_row(call, Scope(SETTING_), Intake(SETTING_SHAPE), Answer(200, SETTING_SHAPE), whole=True)


async def echo(call: Call) -> Response:
    """What the contract made of the request."""
    inputs = call.inputs
    return answer(
        200,
        {
            "path": inputs.path,
            "query": inputs.query,
            "header": inputs.header,
            "cookie": inputs.cookie,
            "body": inputs.body,
        },
    )


async def whoami(call: Call) -> Response:
    """Who was let in."""
    return answer(200, {"name": call.caller.name, "schemes": call.caller.schemes})


routes.operation("strict", "POST", "/strict")(echo)
routes.operation("loose", "POST", "/loose")(echo)
routes.operation("matrix", "GET", "/matrix/{a}/{b}")(echo)
routes.operation("all", "GET", "/boxes/all")(echo)
for place in ("basic", "key", "token", "certificate", "both", "either"):
    routes.operation(place, "GET", f"/secure/{place}")(whoami)


@unwritten("An action.")
async def act_hook(call: Call) -> Response:
    raise NotImplementedYet("act")


@routes.operation("act", "POST", "/action", hook=act_hook)
async def act(call: Call) -> Response:
    return await act_hook(call)


@routes.operation("broken", "GET", "/broken")
async def broken(call: Call) -> Response:
    raise RuntimeError("a programming error")


@routes.operation("slow", "GET", "/slow")
async def slow(call: Call) -> Response:
    raise TimeoutError
