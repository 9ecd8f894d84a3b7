"""The walk over a document that normalisation is: along `grammar`, with a line in the log for every change.

`Walk` knows kinds of values and references; `SchemaWalk` schemas; `DocumentWalk` the objects that OpenAPI gives rules of
their own, and the table that leads to all of them.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from agent.compiler.diagnostics import child, limit, reject, shown, tokens
from agent.compiler.reading import grammar
from agent.compiler.reading.log import Log
from agent.compiler.reading.names import component_names, composed
from agent.compiler.reading.references import CHAIN, Reference, decode_pointer, encode_pointer, resolve, size
from agent.settings import CompilerSettings

Json = Any
Special = Callable[[dict[str, Json], str], Json]

DROP = object()  # what stands for a value that is left out

# What stands in for an object whose reference leaves the document; None: it is left out.
_INSTEAD: dict[str, Json] = {
    "schema": {},
    "response": {"description": "The document refers to another file for this."},
    "requestBody": {"content": {"application/json": {"schema": {}}}},
}


class Walk:
    """One pass over the document."""

    _special: Mapping[str, Special]  # kind of object → its rules

    def __init__(self, tree: dict[str, Json], minor: str, settings: CompilerSettings, log: Log) -> None:
        self._tree = tree
        self._minor = minor
        self._settings = settings
        self._log = log
        self._renamed = component_names(tree, log)
        self._given = {(section, new): old for (section, old), new in self._renamed.items()}
        self._inlining: list[str] = []
        self._inlined = 0  # values that references to path items have copied in
        self.references: list[Reference] = []
        self.kinds: dict[str, str] = {}  # pointer → kind, of everything that a reference may name
        self.in_place: list[tuple[str, str]] = []  # (schema, schema that applies to the same value)
        self.composed = composed(tree)

    # - generic -

    def _value(self, kind: str, value: Json, pointer: str) -> Json:
        if kind == "any":
            return copy.deepcopy(value)
        if kind in grammar.REFERABLE:
            self.kinds[self._rename(pointer)] = kind
        if kind in ("text", "bool"):
            return self._scalar(kind, value, pointer)
        if kind[0] == "[":
            return self._list(kind[1:-1], value, pointer)
        if kind[0] == "{":
            return self._map(kind[1:-1], value, pointer)
        if kind == "schema" and isinstance(value, bool):
            return value
        if not isinstance(value, dict):
            return self._wrong(pointer, "an object is needed")
        if kind == "object":
            return copy.deepcopy(value)
        if kind in grammar.REFERABLE and "$ref" in value:
            return self._reference(kind, value, pointer)
        special = self._special.get(kind)
        return special(value, pointer) if special else self._object(kind, value, pointer)

    def _wrong(self, pointer: str, why: str) -> Json:
        self._log.drop(shown(tokens(pointer)[-1] if pointer else "document"), why, pointer)
        return DROP

    def _scalar(self, kind: str, value: Json, pointer: str) -> Json:
        if kind == "bool":
            if isinstance(value, str) and value.lower() in ("true", "false"):
                self._log.change("text read as a boolean", pointer)
                return value.lower() == "true"
            return value if isinstance(value, bool) else self._wrong(pointer, "a boolean is needed")
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._log.change("number read as a text", pointer)
            return str(value)
        return value if isinstance(value, str) else self._wrong(pointer, "a text is needed")

    def _list(self, kind: str, value: Json, pointer: str) -> Json:
        if not isinstance(value, list):
            return self._wrong(pointer, "a list is needed")
        made = (self._value(kind, one, f"{pointer}/{index}") for index, one in enumerate(value))
        return [one for one in made if one is not DROP]

    def _map(self, kind: str, value: Json, pointer: str) -> Json:
        if not isinstance(value, dict):
            return self._wrong(pointer, "a mapping is needed")
        made = ((key, self._value(kind, one, child(pointer, key))) for key, one in value.items())
        return {key: one for key, one in made if one is not DROP}

    def _object(self, kind: str, value: dict[str, Json], pointer: str) -> Json:
        fields = grammar.OBJECTS[kind]
        made: dict[str, Json] = {}
        for key, one in value.items():
            place = child(pointer, key)
            if key.startswith("x-"):
                made[key] = copy.deepcopy(one)
            elif key not in fields:
                self._log.drop(shown(key), f"not a field of {kind}", place)
            elif (new := self._value(fields[key], one, place)) is not DROP:
                made[key] = new
        return made

    # - references -

    def _reference(self, kind: str, value: dict[str, Json], pointer: str) -> Json:
        target = value["$ref"]
        if not isinstance(target, str):
            raise reject("reference.dangling", child(pointer, "$ref"), reference=shown(target))
        if not target.startswith("#"):
            return self._foreign(kind, "reference.external", target, pointer)
        if target != "#" and not target.startswith("#/"):
            return self._foreign(kind, "reference.unsupported", target, pointer)
        path = self._rename(decode_pointer(target))
        if kind == "pathItem":
            return self._inline(path, value, pointer)
        self.references.append(Reference(child(pointer, "$ref"), path, kind))
        self.in_place.append((pointer, path))
        return {**self._siblings(kind, value, pointer), "$ref": encode_pointer(path)}

    def _siblings(self, kind: str, value: dict[str, Json], pointer: str) -> dict[str, Json]:
        rest = {key: one for key, one in value.items() if key != "$ref"}
        if not rest:
            return {}
        if self._minor == "0":
            self._log.change("fields beside `$ref` left out (OpenAPI 3.0 ignores them)", pointer)
            return {}
        if kind == "schema":
            made = self._special["schema"](rest, pointer)
            return made if isinstance(made, dict) else {}
        return {key: one for key, one in rest.items() if key in ("summary", "description") and isinstance(one, str)}

    def _foreign(self, kind: str, code: str, target: str, pointer: str) -> Json:
        instead = _INSTEAD.get(kind)
        told = "absent" if instead is None else ("{}" if kind == "schema" else f"an undescribed {kind}")
        self._log.told.tell(code, child(pointer, "$ref"), reference=shown(target), instead=told)
        self._log.change(f"reference {shown(target)} is not fetched; it counts as {told}", pointer)
        return DROP if instead is None else copy.deepcopy(instead)

    def _inline(self, path: str, value: dict[str, Json], pointer: str) -> Json:
        found = resolve(self._tree, path)
        if not isinstance(found, dict):
            raise reject("reference.dangling", child(pointer, "$ref"), reference=shown(path))
        if path in self._inlining:
            raise reject("reference.loop", child(pointer, "$ref"), reference=shown(path))
        if len(self._inlining) >= CHAIN:
            raise reject("reference.chain", pointer, allowed=CHAIN)
        self._inlined += size(found)
        if self._inlined > self._settings.max_nodes:  # each may hold others twice: n of them, 2^n copies
            raise limit("limit.nodes", pointer, "max_nodes", self._settings.max_nodes)
        self._inlining.append(path)
        rest = {key: one for key, one in value.items() if key != "$ref"}
        made = self._value("pathItem", {**found, **rest}, pointer)
        self._inlining.pop()
        self._log.change("path item taken in from its reference", pointer)
        return made

    def _rename(self, path: str) -> str:
        if not self._renamed:
            return path
        parts = path.split("/")
        if len(parts) > 3 and parts[1] == "components":
            parts[3] = self._renamed.get((parts[2], tokens("/" + parts[3])[0]), None) or parts[3]
        return "/".join(parts)

    def _unrename(self, path: str) -> str:
        parts = path.split("/")
        if len(parts) > 3 and parts[1] == "components" and (parts[2], parts[3]) in self._given:
            parts[3] = child("", self._given[parts[2], parts[3]])[1:]
        return "/".join(parts)
