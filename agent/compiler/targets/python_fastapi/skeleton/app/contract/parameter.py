"""A declared parameter: finds its text in a request, converts and checks it."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.contract.document import ALL_TYPES, escape
from app.contract.schema import Schemas
from app.contract.text import decode, readings
from app.errors import Fault, Kind, Problem

Json = Any
_SEPARATORS = {"spaceDelimited": " ", "pipeDelimited": "|"}
MISSING = object()


class Parameter:
    """A declared parameter: finds its text in a request, converts and checks it."""

    def __init__(self, schemas: Schemas, pointer: str, node: Mapping[str, Json]) -> None:
        self.name: str = str(node.get("name", ""))
        self.place: str = str(node.get("in", "query"))
        self._key = self.name.lower() if self.place == "header" else self.name  # headers come in lower case
        self.required = bool(node.get("required"))
        default_style = {"path": "simple", "header": "simple"}.get(self.place, "form")
        self.style = str(node.get("style") or default_style)
        self.explode = bool(node.get("explode", self.style == "form"))
        content = node.get("content")
        self.is_json = isinstance(content, dict) and bool(content)
        if isinstance(content, dict) and content:
            media_type, part = next(iter(content.items()))
            place = f"{pointer}/content/{escape(media_type)}/schema"
            self.schema = schemas.at(place, part["schema"]) if "schema" in part else schemas.anything
        elif "schema" in node:
            self.schema = schemas.at(f"{pointer}/schema", node["schema"])
        else:
            self.schema = schemas.anything
        schema = self.schema.node
        self.default = schema.get("default", MISSING) if isinstance(schema, dict) else MISSING

    @property
    def is_spread(self) -> bool:
        """Whether its value is an object whose members stand in the query by their own names."""
        return self.style == "form" and self.explode and self.schema.types == {"object"} and not self.is_json

    def read(self, texts: Sequence[tuple[str, str]]) -> Json:
        """The value among (name, text) pairs of its place; its default or `MISSING` if absent. Raises Problem."""
        if not texts:
            return self._absent()
        if self.schema.types == {"object"} and not self.is_json:
            parts = self._object(texts)
            return self._check([parts]) if parts else self._absent()
        found = [text for name, text in texts if name == self._key]
        if not found:
            return self._absent()
        is_array = "array" in self.schema.types and self.schema.types != ALL_TYPES and not self.is_json
        if len(found) > 1 and not is_array:
            raise self._fault("given more than once")
        if self.is_json:
            return self._check([decode(found[0].encode())])
        candidates = readings(self._bare(found[0]), self.schema.types) if len(found) == 1 else []
        return self._check([*candidates, *(self._array(found) if is_array else [])])

    def _bare(self, text: str) -> str:
        """The text without the mark of `label` and `matrix` paths."""
        if self.style == "label":
            return text.removeprefix(".")
        return text.removeprefix(f";{self.name}=") if self.style == "matrix" else text

    def _absent(self) -> Json:
        if self.required:
            raise self._fault("is required")
        return self.default

    def _check(self, candidates: list[Json]) -> Json:
        for value in candidates:
            if self.schema.is_valid(value):
                return value
        if not candidates:
            raise self._fault(f"is not of type {' or '.join(sorted(self.schema.types))}")
        raise Problem(
            Kind.INVALID,
            f"The {self.place} parameter {self.name!r} is not valid.",
            faults=self.schema.faults(candidates[0], self.name),
        )

    def _fault(self, what: str) -> Problem:
        return Problem(
            Kind.INVALID, f"The {self.place} parameter {self.name!r} {what}.", faults=[Fault(self.name, what)]
        )

    def _array(self, found: list[str]) -> list[Json]:
        if self.explode and self.style == "form" and self.place in ("query", "cookie"):
            texts = found
        elif len(found) > 1:
            raise self._fault("given more than once")
        else:
            text = self._bare(found[0])
            texts = text.split(_SEPARATORS.get(self.style, ",")) if text else []
        scalars = self.schema.items & {"string", "integer", "number", "boolean", "null"}
        values: list[Json] = []
        for text in texts:
            read = readings(text, scalars)
            values.append(read[0] if read else text)
        return [values]

    def _object(self, texts: Sequence[tuple[str, str]]) -> dict[str, Json]:
        pairs: list[tuple[str, str]] = []
        if self.style == "deepObject":
            start = f"{self.name}["
            pairs = [(n[len(start) : -1], t) for n, t in texts if n.startswith(start) and n.endswith("]")]
        elif self.style == "form" and self.explode:
            pairs = [(n, t) for n, t in texts if n in self.schema.properties]
        else:
            for name, text in texts:
                if name == self._key:
                    parts = self._bare(text).split(",")
                    if self.explode:
                        pairs += [(n, t) for n, _, t in (part.partition("=") for part in parts)]
                    else:
                        pairs += list(zip(parts[::2], parts[1::2], strict=False))
        read: dict[str, Json] = {}
        for name, text in pairs:
            meanings = readings(text, self.schema.properties.get(name, ALL_TYPES))
            read[name] = meanings[0] if meanings else text
        return read
