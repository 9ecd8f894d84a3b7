"""A valid request to start from, and the two ways to send it."""

from collections.abc import Mapping
from typing import Any

import orjson

from contracts.codec import Headers

TOPIC = "backend.tasks.v1"
VALUE: dict[str, Any] = {"service": "orders", "specification": {"content": "openapi: 3.1.0"}}
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/tests",
    "type": "backwright.task.requested.v1",
}


def body(value: Mapping[str, Any] = VALUE) -> bytes:
    """The value as JSON."""
    return orjson.dumps(value)


def headers(**changes: bytes | str | None) -> Headers:
    """Headers of the request in binary mode; a changed attribute of None is left out."""
    found: dict[str, bytes | str | None] = {**ATTRIBUTES, **changes}
    rows = [(f"ce_{name}", value.encode() if isinstance(value, str) else value) for name, value in found.items()]
    return [("content-type", b"application/json"), *((name, value) for name, value in rows if value is not None)]


def structured(**changes: Any) -> bytes:
    """The request in structured mode."""
    return orjson.dumps({**ATTRIBUTES, "datacontenttype": "application/json", "data": VALUE, **changes})


STRUCTURED: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
