"""A declared request body: one schema per media type."""

from collections.abc import Mapping
from typing import Any

from app.contract.document import ALL_TYPES, escape
from app.contract.schema import Schema, Schemas
from app.contract.text import decode, pairs_of, readings
from app.errors import Fault, Kind, Problem

Json = Any
UTF_8 = ("utf-8", "utf8", "us-ascii")  # ASCII is part of it


class Body:
    """A declared request body: one schema per media type."""

    def __init__(self, schemas: Schemas, pointer: str, node: Mapping[str, Json]) -> None:
        self.required = bool(node.get("required"))
        self.schemas: dict[str, Schema] = {}
        content = node.get("content") or {}
        # One meaning, one way in: where JSON is declared, other media types of the same body are not taken.
        preferred = {name: part for name, part in content.items() if is_json(essence(name))} or content
        for media_type, part in preferred.items():
            place = f"{pointer}/content/{escape(media_type)}/schema"
            known = isinstance(part, dict) and "schema" in part
            self.schemas[essence(media_type)] = schemas.at(place, part["schema"]) if known else schemas.anything

    def read(self, content_type: str | None, body: bytes) -> Json:
        """The decoded and validated body; None if it is absent and may be. Raises Problem."""
        if not body:
            if self.required:
                raise Problem(Kind.INVALID, "A body is required.", faults=[Fault("", "is required")])
            return None
        media_type = essence(content_type or "application/json")
        if charset_of(content_type or "") not in UTF_8:
            raise Problem(Kind.UNSUPPORTED_MEDIA_TYPE, "The charset must be utf-8.")
        schema = self._find(media_type)
        if schema is None:
            raise Problem(Kind.UNSUPPORTED_MEDIA_TYPE, f"Media types taken: {', '.join(self.schemas)}.")
        value = self._decode(media_type, body, schema)
        if faults := ([] if schema.is_valid(value) else schema.faults(value)):
            raise Problem(Kind.INVALID, "The body is not valid.", faults=faults)
        return value

    def _find(self, media_type: str) -> Schema | None:
        ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        return next((self.schemas[name] for name in ranges if name in self.schemas), None)

    def _decode(self, media_type: str, body: bytes, schema: Schema) -> Json:
        if is_json(media_type):
            return decode(body)
        if media_type == "application/x-www-form-urlencoded":
            return _form(body, schema)
        try:
            return body.decode()
        except UnicodeDecodeError:
            return body.decode("latin-1")  # a binary format: only its length can be judged


def _form(body: bytes, schema: Schema) -> dict[str, Json]:
    value: dict[str, Json] = {}
    for name, text in pairs_of(body):
        types = schema.properties.get(name, ALL_TYPES)
        meanings = readings(text, types)
        meaning = meanings[0] if meanings else text
        if types == {"array"}:
            value.setdefault(name, []).append(text)
        elif name in value:
            raise Problem(Kind.INVALID, f"The field {name!r} is given more than once.")
        else:
            value[name] = meaning
    return value


def essence(media_type: str) -> str:
    """A media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def charset_of(media_type: str) -> str:
    """The charset parameter of a media type, in lower case; utf-8 if there is none."""
    for parameter in media_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return "utf-8"


def is_json(media_type: str) -> bool:
    """Whether bodies of a media type are JSON; wildcards are taken as such."""
    return media_type in ("application/json", "*/*", "application/*", "text/json") or media_type.endswith("+json")
