"""Documents and helpers for the compiler's front half."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.compiler.ir import Api, Operation
from agent.compiler.understand import understand
from agent.settings import CompilerSettings

Json = Any
ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "specs"
SHARED = ROOT.parent / "shared" / "specs"

_THING = {
    "type": "object",
    "required": ["name"],
    "properties": {"id": {"type": "integer", "readOnly": True}, "name": {"type": "string"}},
}


def body(schema: Json) -> Json:
    """A request body or response content with one JSON schema."""
    return {"content": {"application/json": {"schema": schema}}}


def answer(schema: Json) -> Json:
    """A response with one JSON schema."""
    return {"description": "", **body(schema)}


REF = {"$ref": "#/components/schemas/Thing"}
GOOD: dict[str, Json] = {
    "openapi": "3.0.3",
    "info": {"title": "Things", "version": "1.0.0"},
    "paths": {
        "/things": {
            "get": {"operationId": "listThings", "responses": {"200": answer({"type": "array", "items": REF})}},
            "post": {"operationId": "createThing", "requestBody": body(REF), "responses": {"201": answer(REF)}},
        },
        "/things/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {"operationId": "getThing", "responses": {"200": answer(REF), "404": {"description": ""}}},
            "put": {"operationId": "putThing", "requestBody": body(REF), "responses": {"200": answer(REF)}},
            "delete": {"operationId": "deleteThing", "responses": {"204": {"description": ""}}},
        },
    },
    "components": {"schemas": {"Thing": _THING}},
}


@pytest.fixture
def settings() -> CompilerSettings:
    """The limits as they stand by default."""
    return CompilerSettings()


def but(change: Callable[[dict[str, Json]], object]) -> bytes:
    """The good document with one change."""
    document = copy.deepcopy(GOOD)
    change(document)
    return json.dumps(document).encode()


def api(given: bytes) -> Api:
    """What a document means."""
    return understand(given, CompilerSettings())[0]


def operation(found: Api, name: str) -> Operation:
    """The operation of that id."""
    return next(one for one in found.operations if one.id == name)
