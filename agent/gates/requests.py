"""Valid requests for the operations of a delivered service, from its manifest and its document."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

Json = Any
MAX_DEPTH = 8
# One value per format that a strict service takes; a name that is not here gets plain text.
FORMATS = {
    "uuid": "0b6e3b0a-2f5c-4b1e-9d3a-5a7c1f0e8d42",
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/thing",
    "url": "https://example.com/thing",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "byte": "Ynl0ZXM=",
    "duration": "P1D",
}


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request without host and credentials. `path` is percent-encoded and starts with the base path."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    header_fields: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    media_type: str | None = None

    def target(self, query: Mapping[str, str] | None = None) -> str:
        """Path and query, with what credentials add."""
        pairs = [*self.query, *(query or {}).items()]
        return f"{self.path}?{urlencode(pairs)}" if pairs else self.path

    def headers(
        self, headers: Mapping[str, str] | None = None, cookies: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """All headers, with what credentials add."""
        jar = {**self.cookies, **(cookies or {})}
        return {
            **self.header_fields,
            **({"Content-Type": self.media_type} if self.body is not None and self.media_type else {}),
            **({"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {}),
            **(headers or {}),
        }


def operation_request(
    operation: Mapping[str, Any], document: Json, *, path: Mapping[str, str] | None = None, body: Json = None
) -> Request:
    """A valid request for `operation`: `path` gives path parameters that must be real, the rest comes from samples.

    Optional parameters are left out.
    """
    given, declared = path or {}, declared_operation(document, operation)
    places: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}, "cookie": {}}
    for parameter in operation.get("parameters", ()):
        name, place = parameter["name"], parameter["in"]
        if place in places and (place == "path" or parameter.get("required")):
            places[place][name] = given.get(name) or text(parameter_sample(parameter, declared, document))
    sample = operation.get("sample") or {}
    content = body if body is not None else sample.get("body")
    media_type = sample.get("media_type") or "application/json"
    if content is None and not sample:
        content, media_type = body_sample(declared, document)
    return Request(
        method=operation["method"].upper(),
        path=fill(operation["path"], {**places["path"], **given}),
        query=tuple(places["query"].items()),
        header_fields=places["header"],
        cookies=places["cookie"],
        body=None if content is None else encoded(content, media_type),
        media_type=media_type,
    )


def fill(template: str, values: Mapping[str, str]) -> str:
    """Path template with values, each percent-encoded whole; a parameter without value becomes `1`."""
    filled, rest = "", template
    while "{" in rest:
        before, _, rest = rest.partition("{")
        name, _, rest = rest.partition("}")
        filled += before + quote(values.get(name, "1"), safe="")
    return filled + rest


def encoded(content: Json, media_type: str) -> str:
    """A body in its media type: form fields, or JSON for everything else that is no plain text."""
    if media_type == "application/x-www-form-urlencoded" and isinstance(content, dict):
        return urlencode({name: text(value) for name, value in content.items()})
    if media_type.startswith("text/") and isinstance(content, str):
        return content
    return json.dumps(content)


def text(value: Json) -> str:
    """A value as it stands in a path or query."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(text(element) for element in value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


def declared_operation(document: Json, operation: Mapping[str, Any]) -> dict[str, Any]:
    """The operation's object in the document, with the path's parameters; empty if it is not found."""
    paths = document.get("paths", {}) if isinstance(document, dict) else {}
    # The manifest's path carries the base path, the document's does not.
    name = next((p for p in sorted(paths, key=len, reverse=True) if operation["path"].endswith(p)), None)
    item = resolve(paths.get(name, {}), document)
    found = dict(resolve(item.get(operation["method"].lower(), {}), document))
    found["parameters"] = [*found.get("parameters", ()), *item.get("parameters", ())]
    return found


def parameter_sample(parameter: Mapping[str, Any], declared: Mapping[str, Any], document: Json) -> Json:
    """A valid value: the manifest's, else from the declared schema."""
    if parameter.get("sample") is not None:
        return parameter["sample"]
    for candidate in (resolve(p, document) for p in declared.get("parameters", ())):
        if candidate.get("name") == parameter["name"] and candidate.get("in") == parameter["in"]:
            return candidate.get("example", sample_of(candidate.get("schema", {}), document))
    return "1"


def body_sample(declared: Mapping[str, Any], document: Json) -> tuple[Json, str]:
    """(body, media type) from the declared request body; (None, …) where there is none."""
    content = resolve(declared.get("requestBody", {}), document).get("content", {})
    for media_type, media in content.items():
        return media.get("example", sample_of(media.get("schema", {}), document)), media_type
    return None, "application/json"


def sample_of(schema: Json, document: Json, depth: int = 0) -> Json:
    """A value that a plain schema accepts: its example where it has one, else the smallest that fits."""
    schema = resolve(schema, document)
    for key in ("example", "default", "const"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][0]
    if depth > MAX_DEPTH:
        return None
    if parts := schema.get("allOf"):
        return _merged([sample_of(part, document, depth + 1) for part in parts])
    for key in ("oneOf", "anyOf"):
        if schema.get(key):
            return sample_of(schema[key][0], document, depth + 1)
    return _typed(schema, document, depth)


def _typed(schema: Mapping[str, Any], document: Json, depth: int) -> Json:
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = next((k for k in kinds if k != "null"), "null") if isinstance(kinds, list) else kinds
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: sample_of(properties.get(name, {}), document, depth + 1) for name in schema.get("required", ())}
    if kind == "array":
        return [sample_of(schema.get("items", {}), document, depth + 1)] * int(schema.get("minItems", 0))
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        return min(max(1, (low if isinstance(low, int | float) else 0) + 1), schema.get("maximum", float("inf")))
    if kind == "string":
        value = FORMATS.get(schema.get("format", ""), "text")
        return value.ljust(int(schema.get("minLength", 0)), "x")[: int(schema.get("maxLength", 10_000))]
    return {"boolean": True}.get(kind)


def _merged(parts: Sequence[Json]) -> Json:
    merged: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, dict):
            merged |= part
    return merged or (parts[0] if parts else None)


def resolve(value: Json, document: Json) -> Any:
    """Follow local references; an object in any case."""
    for _ in range(MAX_DEPTH):
        if not isinstance(value, dict):
            return {}
        reference = value.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return value
        value = document
        for token in _tokens(reference):
            value = value.get(token) if isinstance(value, dict) else None
    return {}


def _tokens(reference: str) -> Iterator[str]:
    return (token.replace("~1", "/").replace("~0", "~") for token in reference[2:].split("/"))
