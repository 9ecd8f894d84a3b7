"""Documents as frameworks generate them: what FastAPI, NestJS, Django REST framework and flask-smorest leave unsaid."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.compiler.ir import Operation
from agent.compiler.targets.python_fastapi.manifest import pending_media_type
from tests.unit.compiler.conftest import answer, api, but, operation

Json = Any


def one(change: Callable[[dict[str, Json]], object], name: str) -> Operation:
    """An operation of the good document with one change."""
    return operation(api(but(change)), name)


def responds(path: str, method: str, **responses: Json) -> Callable[[dict[str, Json]], object]:
    """More responses of an operation; those with a leading underscore are statuses."""
    return lambda d: d["paths"][path][method]["responses"].update(
        {k.removeprefix("_"): v for k, v in responses.items()}
    )


@pytest.mark.parametrize(
    ("responses", "status"),
    [
        ({}, 400),
        ({"_422": {"description": ""}}, 422),
        ({"_422": {"description": ""}, "default": {"description": ""}}, 422),
        ({"_422": {"description": ""}, "_4XX": {"description": ""}}, 422),
        ({"_422": {"description": ""}, "_400": {"description": ""}}, 400),
    ],
)
def test_status_of_what_is_not_valid(responses: dict[str, Json], status: int) -> None:
    """What the document names wins over what its `default` or a range includes."""
    assert one(responds("/things", "post", **responses), "createThing").invalid_status == status


def test_other_key_of_a_path_can_be_taken() -> None:
    """`PUT /things/{slug}` gives a thing a new slug, which another one may have: 409, declared or not."""

    def change(document: dict[str, Json]) -> None:
        document["components"]["schemas"]["Thing"]["properties"]["slug"] = {"type": "string"}
        document["components"]["schemas"]["Thing"]["required"].append("slug")
        item = document["paths"].pop("/things/{id}")
        item["parameters"] = [{"name": "slug", "in": "path", "required": True, "schema": {"type": "string"}}]
        document["paths"]["/things/{slug}"] = item

    assert 409 in one(change, "putThing").implied


def test_own_key_cannot_be_taken() -> None:
    """Nobody changes the key of a row, so that a replacement conflicts with none."""

    def change(document: dict[str, Json]) -> None:
        del document["components"]["schemas"]["Thing"]["properties"]["id"]["readOnly"]
        document["components"]["schemas"]["Thing"]["required"].append("id")

    assert 409 not in one(change, "putThing").implied
    assert 409 in one(change, "createThing").implied


@pytest.mark.parametrize(
    ("status", "media_type"),
    [("default", "application/json"), ("5XX", "application/json"), ("500", "application/problem+json")],
)
def test_form_of_what_is_pending(status: str, media_type: str) -> None:
    """A 501 has the form that the document gives to errors."""
    error = answer({"type": "object", "properties": {"code": {"type": "integer"}, "message": {"type": "string"}}})

    assert pending_media_type(one(responds("/things/{id}", "get", **{f"_{status}": error}), "getThing")) == media_type
