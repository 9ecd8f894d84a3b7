"""Documents at the edges: what a target forgets when it is only tried on one good example. Our own work."""

import copy
import json
from typing import Any

Json = Any

EVIL = "x\"\"\"'{{7*7}}{%raw%}\n\\\nimport os; os.system('touch PWNED')\n# ${HOME} $(touch PWNED) `touch PWNED` ../../PWNED"


def ok(schema: Json, status: str = "200") -> Json:
    """Responses with one success."""
    return {
        status: {"description": "ok", "content": {"application/json": {"schema": schema}}},
        "400": {"description": "bad"},
    }


def ref(name: str) -> Json:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def body(schema: Json) -> Json:
    """A required JSON body."""
    return {"required": True, "content": {"application/json": {"schema": schema}}}


THING = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer", "format": "int64", "readOnly": True},
        "name": {"type": "string", "maxLength": 40},
    },
}
KEY = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "format": "int64"}}
NONE = {"404": {"description": "none"}}

NO_AUTH: Json = {
    "openapi": "3.0.3",
    "info": {"title": "Open things", "version": "1"},
    "paths": {
        "/things": {
            "get": {"operationId": "listThings", "responses": ok({"type": "array", "items": ref("Thing")})},
            "post": {
                "operationId": "createThing",
                "requestBody": body(ref("Thing")),
                "responses": ok(ref("Thing"), "201"),
            },
        },
        "/things/{id}": {
            "parameters": [KEY],
            "get": {"operationId": "getThing", "responses": {**ok(ref("Thing")), **NONE}},
            "put": {
                "operationId": "putThing",
                "requestBody": body(ref("Thing")),
                "responses": {**ok(ref("Thing")), **NONE},
            },
            "delete": {"operationId": "dropThing", "responses": {"204": {"description": "gone"}, **NONE}},
        },
    },
    "components": {"schemas": {"Thing": THING}},
}

ONE_OPERATION: Json = {
    "openapi": "3.1.0",
    "info": {"title": "One", "version": "1"},
    "paths": {"/things": {"get": {"responses": ok({"type": "array", "items": ref("Thing")})}}},
    "components": {"schemas": {"Thing": THING}},
}

# No row can be made, and without what the caller looks for there is nothing to list.
NOTHING_TO_TEST: Json = {
    "openapi": "3.1.0",
    "info": {"title": "Search", "version": "1"},
    "paths": {
        "/things": {
            "get": {
                "parameters": [{"name": "q", "in": "query", "required": True, "schema": {"type": "string"}}],
                "responses": ok({"type": "array", "items": ref("Thing")}),
            }
        }
    },
    "components": {
        "schemas": {
            "Thing": {"type": "object", "properties": {"parts": {"type": "object"}, "name": {"type": "string"}}}
        }
    },
}

EVERYTHING_HOOKED: Json = {
    "openapi": "3.1.0",
    "info": {"title": "Actions only", "version": "1"},
    "paths": {
        "/convert": {"post": {"requestBody": body({"type": "object"}), "responses": {"200": {"description": "ok"}}}},
        "/jobs/{id}/start": {"post": {"parameters": [KEY], "responses": {"202": {"description": "ok"}}}},
        "/report": {"get": {"responses": ok({"type": "object", "properties": {"total": {"type": "integer"}}})}},
    },
}


def _hostile() -> Json:
    document = copy.deepcopy(NO_AUTH)
    document["info"] = {"title": EVIL, "version": EVIL, "description": EVIL}
    thing = document["components"]["schemas"]["Thing"]
    # Names that mean something to Python, SQLAlchemy, PostgreSQL, Jinja or a file system.
    for name in (
        EVIL,
        "class",
        "metadata",
        "self",
        "keys",
        "items",
        "xmin",
        "select",
        "__init__",
        "../x",
        "ä€",
        "a b",
        "a_b",
    ):
        thing["properties"][name] = {"type": "string", "default": EVIL, "description": EVIL}
    for number, name in enumerate(("import os\nos.system('touch PWNED')", "crud", "list", "lambda", "n" * 300)):
        operation = list(document["paths"]["/things"].values())[number % 2]
        copied = {**copy.deepcopy(operation), "operationId": name, "summary": EVIL, "tags": [EVIL, "../../PWNED"][:1]}
        document["paths"][f"/things{number}"] = {["get", "post"][number % 2]: copied}
    document["paths"]["/things/{id}"]["get"]["summary"] = EVIL
    document["components"]["securitySchemes"] = {"Key-1.x": {"type": "apiKey", "in": "header", "name": "X-Key"}}
    document["paths"]["/things/{id}"]["delete"]["security"] = [{"Key-1.x": []}]
    return document


HOSTILE_NAMES = _hostile()


def _empty_samples() -> Json:
    """Beside its key a thing has only what every key and value may stand in, or none."""
    document = copy.deepcopy(NO_AUTH)
    properties = document["components"]["schemas"]["Thing"]["properties"]
    del document["components"]["schemas"]["Thing"]["required"]
    del properties["name"]
    properties["labels"] = {"type": "object", "additionalProperties": {"type": "string"}}
    return document


def _circle() -> Json:
    document = copy.deepcopy(NO_AUTH)
    schemas = document["components"]["schemas"]
    schemas["Thing"]["properties"]["ownerId"] = {"type": "integer", "format": "int64"}
    schemas["Owner"] = {
        "type": "object",
        "required": ["id", "name"],
        "properties": {
            "id": {"type": "integer", "format": "int64", "readOnly": True},
            "name": {"type": "string"},
            "favouriteThing": ref("Thing"),
        },
    }
    for path, item in copy.deepcopy(document["paths"]).items():
        owners = json.loads(json.dumps(item).replace("Thing", "Owner"))
        document["paths"][path.replace("things", "owners")] = owners
    return document


CIRCLE = _circle()


def _optional_bodies() -> Json:
    """A body of two things or null: what is wrong inside is not told by its place."""
    document = copy.deepcopy(NO_AUTH)
    document["openapi"] = "3.1.0"
    for method in (document["paths"]["/things"]["post"], document["paths"]["/things/{id}"]["put"]):
        method["requestBody"] = body({"anyOf": [ref("Thing"), {"type": "null"}]})
    return document


def _client_keys(key: Json) -> Json:
    """Who makes a thing gives its key, and whoever replaces it says it again."""
    document = copy.deepcopy(NO_AUTH)
    thing = document["components"]["schemas"]["Thing"]
    thing["properties"]["id"], thing["required"] = key, ["id", "name", "code"]
    thing["properties"]["code"] = {"type": "string", "format": "uuid"}
    document["paths"]["/things/{id}"]["parameters"] = [{**KEY, "schema": key}]
    lookup = copy.deepcopy(document["paths"]["/things/{id}"]["get"])
    lookup["operationId"], lookup["parameters"] = "findThing", [{**KEY, "name": "code", "schema": {"type": "string"}}]
    document["paths"]["/things/code/{code}"] = {"get": lookup}
    return document


def _more_pages() -> Json:
    """The only thing that an envelope says of its list is whether there is more; keys of digits come from elsewhere."""
    document = copy.deepcopy(NO_AUTH)
    page = {
        "type": "object",
        "required": ["data", "has_more"],
        "properties": {"data": {"type": "array", "items": ref("Thing")}, "has_more": {"type": "boolean"}},
    }
    listing = document["paths"]["/things"]["get"]
    listing["responses"] = ok(page)
    listing["parameters"] = [
        {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 1 if name == "limit" else 0}}
        for name in ("limit", "offset")
    ]
    number = {"type": "string", "pattern": "^\\d+$"}
    rest = {"type": "object", "required": ["id"], "properties": {"id": {**number, "readOnly": True}}}
    document["components"]["schemas"]["Source"] = rest
    document["paths"]["/sources/{id}"] = {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": number}],
        "get": {"operationId": "getSource", "responses": {**ok(ref("Source")), **NONE}},
    }
    return document


VARIANTS: dict[str, Json] = {
    "no-auth": NO_AUTH,
    "empty-samples": _empty_samples(),
    "one-operation": ONE_OPERATION,
    "nothing-to-test": NOTHING_TO_TEST,
    "everything-hooked": EVERYTHING_HOOKED,
    "hostile-names": HOSTILE_NAMES,
    "circle-of-references": CIRCLE,
    "optional-bodies": _optional_bodies(),
    "numbers-from-clients": _client_keys({"type": "integer"}),
    "more-pages": _more_pages(),
    "uuids-from-clients": _client_keys({"type": "string", "format": "uuid"}),
}
