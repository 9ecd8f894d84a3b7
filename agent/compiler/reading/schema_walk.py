"""Schemas of 3.0 and 3.1 → schemas of 3.1: keyword by keyword, then what several keywords say together."""

import copy
import re
from dataclasses import replace
from typing import Any

from agent.compiler.diagnostics import child, limit, shown
from agent.compiler.patterns import compile_pattern, has_large_repeat
from agent.compiler.reading import grammar
from agent.compiler.reading.references import decode_pointer, encode_pointer, resolve
from agent.compiler.reading.walk import DROP, Walk

Json = Any
_COMPONENT = re.compile(r"/components/schemas/[^/]+\Z")


class SchemaWalk(Walk):
    """What normalisation knows of schemas."""

    def _schema(self, value: dict[str, Json], pointer: str) -> Json:
        made: dict[str, Json] = {}
        before = (len(self.references), len(self.in_place))
        for key, one in value.items():
            place = child(pointer, key)
            if key.startswith("x-"):
                made[key] = copy.deepcopy(one)
            elif key not in ("nullable", "exclusiveMinimum", "exclusiveMaximum"):
                self._keyword(made, key, one, place)
        self._exclusive(value, made, pointer)
        self._required(made, pointer)
        self._formats(made, pointer)
        self._mapping(made, pointer)
        for key in grammar.IN_PLACE & made.keys():
            self._note_in_place(made[key], pointer, child(pointer, key))
        return self._nullable(value, made, pointer, before)

    def _note_in_place(self, value: Json, pointer: str, place: str) -> None:
        if isinstance(value, list):
            self.in_place.extend((pointer, f"{place}/{index}") for index in range(len(value)))
        else:
            self.in_place.append((pointer, place))

    def _keyword(self, made: dict[str, Json], key: str, value: Json, place: str) -> None:
        new: Json = DROP
        if key == "type":
            new = self._type(value, place)
        elif key == "pattern":
            new = self._pattern(value, place)
        elif key == "items" and isinstance(value, list):
            self._log.change("`items` as a list became `prefixItems`", place)
            key, new = "prefixItems", self._list("schema", value, place)
        elif key in grammar.SCHEMA or (key in grammar.SCHEMA_OR_BOOL and isinstance(value, dict)):
            new = self._value("schema", value, place)
        elif key in grammar.SCHEMA_OR_BOOL and isinstance(value, bool):
            new = value
        elif key in grammar.SCHEMA_LIST:
            new = self._list("schema", value, place)
            if new == []:
                new = self._wrong(place, "an empty list has no meaning")
        elif key in grammar.SCHEMA_MAP:
            new = self._map("schema", value, place)
        elif key not in grammar.KEYWORDS:
            new = self._wrong(place, "not a schema keyword that is supported")
        elif grammar.KEYWORDS[key](value):
            new = self._example(made, key, value, place)
        elif isinstance(value, float) and value.is_integer() and grammar.KEYWORDS[key](int(value)):
            new = int(value)
        else:
            self._wrong(place, "its value has no meaning for this keyword")
        if new is not DROP:
            made[key] = new

    def _example(self, made: dict[str, Json], key: str, value: Json, place: str) -> Json:
        if key != "example" or self._minor != "0":
            return list(dict.fromkeys(value)) if key == "required" else copy.deepcopy(value)
        self._log.change("schema `example` became `examples`", place)
        made.setdefault("examples", [copy.deepcopy(value)])
        return DROP

    def _type(self, value: Json, place: str) -> Json:
        given = value if isinstance(value, list) else [value]
        known = []
        for one in given:
            name = one if one in grammar.TYPES else grammar.TYPE_ALIASES.get(one) if isinstance(one, str) else None
            if name is None:
                self._wrong(place, f"{shown(one)} is no type")
                continue
            if name != one:
                self._log.change(f"type {shown(one)} read as {name}", place)
            if name not in known:
                known.append(name)
        if not known:
            return DROP
        return known if isinstance(value, list) and len(known) > 1 else known[0]

    def _pattern(self, value: Json, place: str) -> Json:
        if not isinstance(value, str):
            return self._wrong(place, "a pattern is a text")
        if len(value) > self._settings.max_pattern_length:
            raise limit("limit.pattern", place, "max_pattern_length", self._settings.max_pattern_length, len(value))
        if compile_pattern(value) is None:
            return self._wrong(place, "the pattern cannot be compiled")
        if has_large_repeat(value):
            return self._wrong(place, "the pattern repeats more often than a validator allows")
        return value

    def _exclusive(self, value: dict[str, Json], made: dict[str, Json], pointer: str) -> None:
        for key, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            given = value.get(key)
            if isinstance(given, bool):
                self._log.change(f"boolean `{key}` became a number", pointer)
                if given and plain in made:
                    made[key] = made.pop(plain)
            elif key in value:
                self._keyword(made, key, given, child(pointer, key))

    def _required(self, made: dict[str, Json], pointer: str) -> None:
        """Leave out names of `required` that nothing describes: no value could ever be known for them."""
        properties = made.get("properties")
        if not properties or "required" not in made or pointer in self.composed or self._is_open(made):
            return
        absent = dict.fromkeys(name for name in made["required"] if name not in properties)
        for name in absent:
            self._log.drop(f"{shown(name)} in `required`", "no property of that name", child(pointer, "required"))
        made["required"] = [name for name in made["required"] if name not in absent]
        if not made["required"]:
            del made["required"]

    @staticmethod
    def _is_open(made: dict[str, Json]) -> bool:
        return any(
            key in made for key in ("allOf", "anyOf", "oneOf", "$ref", "additionalProperties", "patternProperties")
        )

    def _formats(self, made: dict[str, Json], pointer: str) -> None:
        if made.get("type") == "number" and made.get("format") in ("int32", "int64"):
            self._log.change(f"a number of format {shown(made['format'])} read as integer", pointer)
            made["type"] = "integer"
        if self._minor != "0" or made.get("type") != "string":
            return
        if made.get("format") == "binary":
            self._log.change("`format: binary` became `contentMediaType`", pointer)
            del made["format"]
            made["contentMediaType"] = "application/octet-stream"
        elif made.get("format") == "byte":
            self._log.change("`format: byte` became `contentEncoding`", pointer)
            del made["format"]
            made["contentEncoding"] = "base64"

    def _mapping(self, made: dict[str, Json], pointer: str) -> None:
        mapping = made.get("discriminator", {}).get("mapping")
        if mapping is None:
            return
        good = {}
        for value, target in mapping.items() if isinstance(mapping, dict) else ():
            name = target if isinstance(target, str) and target.startswith("#/") else f"#/components/schemas/{target}"
            path = self._rename(decode_pointer(name))
            found = resolve(self._tree, self._unrename(path)) if _COMPONENT.match(path) else None
            if not isinstance(found, dict | bool):
                self._log.drop(f"{shown(value)} in the discriminator's mapping", "it leads nowhere", pointer)
            else:
                good[value] = encode_pointer(path)
        made["discriminator"]["mapping"] = good

    def _nullable(
        self, value: dict[str, Json], made: dict[str, Json], pointer: str, before: tuple[int, int]
    ) -> dict[str, Json]:
        if "nullable" not in value:
            return made
        self._log.change("`nullable` became a type of 3.1", pointer)
        if value["nullable"] is not True:
            return made
        if "enum" in made and None not in made["enum"]:
            made["enum"] = [*made["enum"], None]
        if "type" in made:
            types = made["type"] if isinstance(made["type"], list) else [made["type"]]
            made["type"] = types if "null" in types else [*types, "null"]
            return made
        outside = {key: made[key] for key in made if key in grammar.ANNOTATIONS or key.startswith("x-")}
        inside = {key: one for key, one in made.items() if key not in outside}
        if not inside or "enum" in inside:
            return made
        self._moved(pointer, child(pointer, "anyOf", 0), before)
        return {**outside, "anyOf": [inside, {"type": "null"}]}

    def _moved(self, old: str, new: str, before: tuple[int, int]) -> None:
        """The schema at `old` now stands at `new`: places noted since `before` have moved with it."""

        def at(pointer: str) -> str:
            return new + pointer[len(old) :] if pointer == old or pointer.startswith(old + "/") else pointer

        references, edges = before
        self.references[references:] = [replace(one, place=at(one.place)) for one in self.references[references:]]
        self.in_place[edges:] = [(at(one), at(other)) for one, other in self.in_place[edges:]]
        self.in_place.append((old, new))
