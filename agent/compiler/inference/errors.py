"""A body for every declared error status: a template whose leaves the service fills, valid against the schema. Rule 20."""

from collections.abc import Iterator, Mapping
from typing import Any

from agent.compiler.diagnostics import Told, child, shown
from agent.compiler.ir import ErrorShape
from agent.compiler.schemas.document import Document, RawOperation
from agent.compiler.schemas.sample import Sampler
from agent.compiler.schemas.validation import Validator
from agent.compiler.schemas.views import Schemas, View
from agent.compiler.words import fold

Json = Any

PROBLEM_MEDIA = "application/problem+json"
PROBLEM: dict[str, Json] = {
    "type": {"$": "type"},
    "title": {"$": "title"},
    "status": {"$": "status"},
    "detail": {"$": "detail"},
    "instance": {"$": "instance"},
}

# Folded names → leaf, by type.
_TEXTS: dict[str, str] = {
    **dict.fromkeys(["title", "name", "reason", "summary"], "title"),
    **dict.fromkeys(
        [
            "detail",
            "details",
            "message",
            "msg",
            "description",
            "error",
            "errormessage",
            "errordescription",
            "text",
            "cause",
            "developermessage",
            "usermessage",
            "info",
        ],
        "detail",
    ),
    **dict.fromkeys(["code", "errorcode", "errortype", "kind", "key", "slug"], "code"),
    "type": "type",
    "instance": "instance",
    "path": "instance",
    "status": "status_text",
    "statuscode": "status_text",
    **dict.fromkeys(["timestamp", "time", "date", "datetime", "occurredat"], "timestamp"),
    **dict.fromkeys(["requestid", "correlationid", "traceid", "id", "errorid"], "request_id"),
}
_NUMBERS: dict[str, str] = {
    **dict.fromkeys(["status", "code", "statuscode", "errorcode", "httpstatus", "httpcode"], "status"),
    **dict.fromkeys(["timestamp", "time"], "timestamp_ms"),
}
_FILLED: dict[str, Json] = {
    "title": "Not Found",
    "detail": "There is no such thing.",
    "instance": "/things/1",
    "type": "about:blank",
    "code": "not_found",
    "timestamp": "2025-01-15T09:30:00Z",
    "timestamp_ms": 1736933400000,
    "request_id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
}
_DEPTH = 4


class Errors:
    """Error bodies of one document."""

    def __init__(self, document: Document, schemas: Schemas, validator: Validator, sampler: Sampler) -> None:
        self._document = document
        self._schemas = schemas
        self._validator = validator
        self._sampler = sampler
        self._templates: dict[tuple[str, str], Json] = {}

    def shapes(self, operation: RawOperation, told: Told) -> tuple[ErrorShape, ...]:
        """A shape for each declared error status; problem documents where the schema cannot be met."""
        own = operation.success
        statuses = [one for one in operation.responses if one[0] in "45" or (one == "default" and one != own)]
        return tuple(self._shape(operation, status, told) for status in statuses)

    def _shape(self, operation: RawOperation, status: str, told: Told) -> ErrorShape:
        content = operation.content(status)
        if content.json_media is None:
            return ErrorShape(status, PROBLEM_MEDIA, PROBLEM)
        media = content.json_media if "*" not in content.json_media else PROBLEM_MEDIA
        if content.schema_pointer is None:
            return ErrorShape(status, media, PROBLEM)
        key = (self._schemas.final(content.schema_pointer), status)
        if key not in self._templates:
            self._templates[key] = self._template(content.schema_pointer, status)
        template = self._templates[key]
        if template is None:
            place = child(operation.pointer, "responses", status)
            told.tell("error.shape", place, operation=shown(operation.id), status=status)
            return ErrorShape(status, PROBLEM_MEDIA, PROBLEM)
        return ErrorShape(status, media, template)

    def _template(self, pointer: str, status: str) -> Json:
        """The richest template that is valid, whatever the status number; None if there is none."""
        numbers = (
            [int(status)] if status.isdecimal() else [400, 404, 500] if status == "default" else [int(status[0]) * 100]
        )
        for candidate in self._candidates(pointer):
            if all(self._validator.valid(pointer, fill(candidate, number)) for number in numbers):
                return candidate
        return None

    def _candidates(self, pointer: str) -> Iterator[Json]:
        for every in (True, False):
            made = self._make((pointer,), "", _DEPTH, every)
            if made is not _NONE:
                yield made
        yield PROBLEM
        fixed = self._sampler.response(pointer)
        if fixed is not None:
            yield fixed

    def _make(self, pointers: tuple[str, ...], name: str, depth: int, every: bool) -> Json:
        """A template for one schema; _NONE if nothing fits."""
        view = self._schemas.merged(pointers)
        if view.variants:
            view = self._schemas.view(view.variants[0])
        if view.constant is not None and name != "status":
            return view.constant[0]
        if depth == 0:
            return _NONE
        if view.is_array and view.items:
            inner = self._make((view.items,), name, depth - 1, every) if every or view.facets.get("minItems") else _NONE
            return [] if inner is _NONE else [inner]
        if view.is_object:
            return self._object(view, depth, every)
        return self._leaf(fold(name), view)

    def _object(self, view: View, depth: int, every: bool) -> Json:
        made: dict[str, Json] = {}
        for name, pointers in view.properties.items():
            needed = name in view.required
            value = self._make(pointers, name, depth - 1, every) if needed or every else _NONE
            if value is not _NONE:
                made[name] = value
            elif needed:
                sample = self._sampler.response(pointers[0])
                if sample is None:
                    return _NONE
                made[name] = sample
        return made if made or not view.required else _NONE

    def _leaf(self, name: str, view: View) -> Json:
        if view.types and view.types <= {"integer", "number"}:
            leaf = _NUMBERS.get(name)
            return {"$": leaf} if leaf else _NONE
        if view.types == {"boolean"}:
            return {"success": False, "ok": False, "error": True}.get(name, _NONE)
        if view.types != {"string"}:
            return PROBLEM if not view.types and not view.facets and name == "" else _NONE
        if view.facets.get("enum"):
            values = [value for value in view.facets["enum"] if value is not None]
            return next(
                (value for value in values if str(value).lower() in ("fail", "failure", "error", "failed")), values[0]
            )
        if view.facets.get("format") == "date-time":
            return {"$": "timestamp"}
        if view.facets.get("format") in ("uri", "uri-reference") and name not in ("instance", "path"):
            return {"$": "type"}
        leaf = _TEXTS.get(name, "detail" if name == "" else None)
        return {"$": leaf} if leaf else _NONE


_NONE = object()


def fill(template: Json, status: int) -> Json:
    """The template as it would be sent with this status."""
    if isinstance(template, Mapping):
        if template.keys() == {"$"}:
            leaf = template["$"]
            return status if leaf == "status" else str(status) if leaf == "status_text" else _FILLED[leaf]
        return {name: fill(value, status) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(value, status) for value in template]
    return template
