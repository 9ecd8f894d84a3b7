"""Valid requests for the operations of a delivered service, from the samples in its manifest."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

Json = Any
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


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
    operation: Mapping[str, Any], *, path: Mapping[str, str] | None = None, body: Json = None
) -> Request:
    """A valid request for `operation`: `path` gives path parameters that must be real, the rest comes from samples.

    Optional parameters are left out.
    """
    places: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}, "cookie": {}}
    for parameter in operation["parameters"]:
        if parameter["in"] == "path" or parameter["required"]:
            places[parameter["in"]][parameter["name"]] = text(parameter.get("sample"))
    sample = operation.get("sample") or {}
    content, media_type = body if body is not None else sample.get("body"), sample.get("media_type", "application/json")
    return Request(
        method=operation["method"].upper(),
        path=fill(operation["path"], {**places["path"], **(path or {})}),
        query=tuple(places["query"].items()),
        header_fields=places["header"],
        cookies=places["cookie"],
        body=None if content is None else encoded(content, media_type),
        media_type=media_type,
    )


def is_complete(operation: Mapping[str, Any]) -> bool:
    """Whether the manifest holds all that a valid request needs; a body may be needed where there is no sample."""
    known = all(p.get("sample") is not None for p in operation["parameters"] if p["in"] == "path" or p["required"])
    return known and (operation.get("sample") is not None or operation["method"].upper() not in WITH_BODY)


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
    """A value as it stands in a path or query; `1` where there is none."""
    if value is None:
        return "1"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(text(element) for element in value)
    return json.dumps(value) if isinstance(value, dict) else str(value)
