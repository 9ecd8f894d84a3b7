"""The normalised document as the inference sees it: references followed, operations with their parts at hand."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from agent.compiler.diagnostics import child
from agent.compiler.reading.grammar import METHODS
from agent.compiler.reading.references import resolve

Json = Any

_JSON_MEDIA = re.compile(r"application/(?:json|[\w.+-]+\+json)\s*(?:;.*)?\Z", re.IGNORECASE)
_ANY_MEDIA = ("*/*", "application/*")


class Document:
    """Access by pointer. Pointers that come out have their references followed."""

    def __init__(self, tree: Mapping[str, Json]) -> None:
        self.tree = tree
        self._found: dict[str, Json] = {}

    def at(self, pointer: str) -> Json:
        """The value at a pointer, None if there is none."""
        if pointer not in self._found:
            self._found[pointer] = resolve(self.tree, pointer)
        return self._found[pointer]

    def follow(self, pointer: str) -> tuple[str, Json]:
        """Follow `$ref`s (normalisation has made sure that they end). Siblings of a `$ref` are not looked at."""
        node = self.at(pointer)
        while isinstance(node, dict) and "$ref" in node:
            pointer = unquote(node["$ref"][1:])
            node = self.at(pointer)
        return pointer, node

    def operations(self) -> Iterator["RawOperation"]:
        """All operations, in the order of the document."""
        for path, item in self.tree["paths"].items():
            if isinstance(item, dict) and not path.startswith("x-"):
                for method in METHODS:
                    if method in item:
                        yield RawOperation(self, path, method, child("/paths", path, method))


def is_json(media_type: str) -> bool:
    """Whether a media type's content is JSON."""
    return bool(_JSON_MEDIA.match(media_type))


@dataclass(frozen=True, slots=True)
class RawParameter:
    """A parameter, its reference followed."""

    name: str
    place: str
    pointer: str
    schema_pointer: str
    node: Mapping[str, Json]

    @property
    def required(self) -> bool:
        """Whether a request must carry it."""
        return self.node.get("required") is True


@dataclass(frozen=True, slots=True)
class RawContent:
    """Body of a request or response: JSON part and the rest."""

    json_media: str | None  # as declared
    schema_pointer: str | None
    others: tuple[str, ...]
    required: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether no content is declared at all."""
        return self.json_media is None and not self.others


class RawOperation:
    """One operation, its parts resolved lazily."""

    def __init__(self, document: Document, path: str, method: str, pointer: str) -> None:
        self._document = document
        self.path = path
        self.method = method.upper()
        self.pointer = pointer
        self.node: Mapping[str, Json] = document.at(pointer)
        self.id: str = self.node["operationId"]

    @cached_property
    def parameters(self) -> tuple[RawParameter, ...]:
        """Own parameters and those of the path item; own ones win."""
        item = self.pointer.rsplit("/", 1)[0]
        found: dict[tuple[str, str], RawParameter] = {}
        for holder in (item, self.pointer):
            for index in range(len(self._document.at(holder).get("parameters", ()))):
                pointer, node = self._document.follow(child(holder, "parameters", index))
                if isinstance(node, dict) and "name" in node:
                    one = RawParameter(node["name"], node["in"], pointer, _schema_of(node, pointer), node)
                    found[one.place, one.name] = one
        return tuple(found.values())

    def parameter(self, name: str, place: str) -> RawParameter | None:
        """The parameter of that name and place."""
        return next((one for one in self.parameters if (one.name, one.place) == (name, place)), None)

    def query(self) -> list[RawParameter]:
        """What may stand in the query: parameters, and the members of an object that is spread over it."""
        return [part for one in self.parameters if one.place == "query" for part in self._spread(one)]

    def _spread(self, parameter: RawParameter) -> list[RawParameter]:
        node = parameter.node
        if node.get("style", "form") != "form" or node.get("explode", True) is not True or "schema" not in node:
            return [parameter]
        pointer, schema = self._document.follow(parameter.schema_pointer)
        members = schema.get("properties") if isinstance(schema, dict) and schema.get("type") == "object" else None
        if not members:
            return [parameter]
        required = schema.get("required", ()) if parameter.required else ()
        taken = {one.name for one in self.parameters if one.place == "query"}
        return [
            RawParameter(
                name, "query", parameter.pointer, child(pointer, "properties", name), {"required": name in required}
            )
            for name in members
            if name not in taken
        ]

    @cached_property
    def body(self) -> RawContent | None:
        """The request body, if one is declared."""
        if "requestBody" not in self.node:
            return None
        pointer, node = self._document.follow(child(self.pointer, "requestBody"))
        content = _content(node, pointer)
        return RawContent(content.json_media, content.schema_pointer, content.others, node.get("required") is True)

    @cached_property
    def responses(self) -> dict[str, tuple[str, Mapping[str, Json]]]:
        """status → (pointer, response)."""
        holder = child(self.pointer, "responses")
        return {
            status: self._document.follow(child(holder, status))
            for status in self.node["responses"]
            if not status.startswith("x-")
        }

    def content(self, status: str) -> RawContent:
        """What a declared response carries."""
        pointer, node = self.responses[status]
        return _content(node, pointer)

    @cached_property
    def success(self) -> str:
        """The declared status that a success has: the one that fits the method best, "" if none is declared."""
        declared = [status for status in self.responses if status[0] == "2"]
        wanted = ("201", "200") if self.method == "POST" else ("200", "201", "204")
        for status in (*wanted, *sorted(declared)):
            if status in declared:
                return str(status)
        return "default" if list(self.responses) == ["default"] else ""

    @property
    def success_code(self) -> int:
        """The number of the success status; ranges and `default` become the usual number of the method, none becomes 204."""
        if self.success.isdecimal():
            return int(self.success)
        if not self.success:
            return 204
        empty = self.content(self.success).is_empty
        if self.method == "POST":
            return 201
        return 204 if self.method == "DELETE" and empty else 200

    @property
    def answer(self) -> RawContent:
        """What a success carries."""
        return self.content(self.success) if self.success else RawContent(None, None, ())

    def declares(self, status: int) -> bool:
        """Whether the document declares this status, by itself, its range or `default`."""
        return any(one in self.responses for one in (str(status), f"{status // 100}XX", "default"))


def _schema_of(node: Mapping[str, Json], pointer: str) -> str:
    if "schema" in node:
        return child(pointer, "schema")
    return child(pointer, "content", next(iter(node["content"])), "schema")


def _content(node: Mapping[str, Json], pointer: str) -> RawContent:
    content: Mapping[str, Json] = node.get("content") or {}
    media = next((one for one in content if is_json(one)), None)
    media = media or next((one for one in content if one in _ANY_MEDIA), None)
    schema = child(pointer, "content", media, "schema") if media and "schema" in content[media] else None
    return RawContent(media, schema, tuple(one for one in content if one != media and not is_json(one)))
