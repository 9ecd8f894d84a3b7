"""Problem details (RFC 9457) for everything that is not a success.

A `Problem` says what is the case; the operation's declared responses decide its status and the shape of its body.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

Json = Any
# What a path may hold as it is (RFC 3986, pchar and the slash); `instance` is a URI reference, paths come decoded.
PATH_SAFE = "/:@!$&'()*+,;=~"


class Kind(Enum):
    """What went wrong. The value lists the statuses that may say so, best first."""

    INVALID = (400, 422)
    UNAUTHENTICATED = (401,)
    FORBIDDEN = (403,)
    NOT_FOUND = (404,)
    METHOD_NOT_ALLOWED = (405,)
    CONFLICT = (409,)
    TOO_LARGE = (413, 400)
    UNSUPPORTED_MEDIA_TYPE = (415, 400)
    UNKNOWN_REFERENCE = (404, 409, 422, 400)
    FAILED = (500,)
    NOT_IMPLEMENTED = (501,)
    UNAVAILABLE = (503,)
    TIMED_OUT = (504,)

    def __init__(self, *statuses: int) -> None:
        self.statuses = statuses


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (a JSON pointer or a parameter's name) and what."""

    where: str
    what: str


class Problem(Exception):
    """Raised anywhere below a route; answered as a problem document."""

    def __init__(
        self, kind: Kind, detail: str, *, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = dict(headers or {})


class NotImplementedYet(Problem):
    """What an operation's hook raises until somebody writes it."""

    def __init__(self, operation: str) -> None:
        super().__init__(Kind.NOT_IMPLEMENTED, f"The operation {operation!r} is not implemented yet.")


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """Body of an error: JSON in which `{"$": "title"}` and the like stand for values."""

    media_type: str
    template: Json


PROBLEM = ErrorShape(
    "application/problem+json",
    {
        "type": {"$": "type"},
        "title": {"$": "title"},
        "status": {"$": "status"},
        "detail": {"$": "detail"},
        "instance": {"$": "instance"},
        "requestId": {"$": "request_id"},
    },
)

ErrorShapes = Mapping[str, ErrorShape]  # "404", "4XX" or "default" → shape


@dataclass(frozen=True, slots=True)
class Rendered:
    """An error that is ready to be sent."""

    status: int
    media_type: str
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)


def choose_status(kind: Kind, declared: Sequence[str]) -> int:
    """The first status of `kind` that is declared, be it as a range; else its first one."""
    for status in kind.statuses:
        if str(status) in declared:
            return status
    for status in kind.statuses:
        if f"{status // 100}XX" in declared:
            return status
    return kind.statuses[0]


def find_shape(shapes: ErrorShapes, status: int) -> ErrorShape:
    """The declared shape for a status: exact, then its range, then the default; else a problem document."""
    return shapes.get(str(status)) or shapes.get(f"{status // 100}XX") or shapes.get("default") or PROBLEM


def render(
    problem: Problem, *, declared: Sequence[str] = (), shapes: ErrorShapes, instance: str, request_id: str
) -> Rendered:
    """Status, media type and body of a problem."""
    status = choose_status(problem.kind, declared)
    shape = find_shape(shapes, status)
    values = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": problem.detail,
        "instance": quote(instance, safe=PATH_SAFE),
        "code": problem.kind.name.lower(),
        "status_text": str(status),
        "timestamp": datetime.now(UTC),
        "timestamp_ms": time.time_ns() // 1_000_000,
        "request_id": as_uuid(request_id) if shape is not PROBLEM else request_id,
    }
    body = fill(shape.template, values)
    if shape is PROBLEM and problem.faults:
        body["errors"] = [{"pointer": fault.where, "message": fault.what} for fault in problem.faults]
    return Rendered(status, shape.media_type, body, problem.headers)


def as_uuid(text: str) -> str:
    """A correlation id as the UUID that declared shapes may ask for; the same for the same text."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def fill(template: Json, values: Mapping[str, Json]) -> Json:
    """Replace every `{"$": name}` in a template by its value."""
    if isinstance(template, dict):
        if set(template) == {"$"}:
            return values[template["$"]]
        return {name: fill(part, values) for name, part in template.items()}
    if isinstance(template, list):
        return [fill(part, values) for part in template]
    return template
