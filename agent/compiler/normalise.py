"""Any OpenAPI 3.0 or 3.1 tree → a valid OpenAPI 3.1 document, with a line for every change.

The walk follows `grammar`: what an object may not hold is left out and listed, what is harmlessly wrong is corrected
and listed, what cannot be understood refuses the document. `$ref`s stay references; only local ones survive.
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.compiler import grammar
from agent.compiler.diagnostics import child, diagnostic, limit, reject, shown, tokens
from agent.compiler.normalise_log import Log
from agent.compiler.normalise_names import component_names, composed, given_ids
from agent.compiler.normalise_references import check_references, decode_pointer, encode_pointer, resolve
from agent.compiler.patterns import compile_pattern, has_large_repeat
from agent.compiler.source import Source
from agent.settings import CompilerSettings
from contracts.status import Diagnostic

Json = Any

_VERSION = re.compile(r"3\.([01])(?:\.\d+)?(?:-[\w.]+)?\Z")
_STATUS = re.compile(r"[1-5](?:\d\d|XX)\Z")
_PLACES = ("path", "query", "header", "cookie")

# What stands in for an object whose reference leaves the document; None: it is left out.
_INSTEAD: dict[str, Json] = {
    "schema": {},
    "response": {"description": "The document refers to another file for this."},
    "requestBody": {"content": {"application/json": {"schema": {}}}},
}


@dataclass(frozen=True, slots=True)
class Normalised:
    """A valid OpenAPI 3.1 document and what was done to make it one."""

    document: dict[str, Json]
    diagnostics: tuple[Diagnostic, ...]
    changes: tuple[str, ...]


def normalise(source: Source, settings: CompilerSettings) -> Normalised:
    """Make a valid OpenAPI 3.1 document. Raises SpecRejected for faults of the whole document."""
    minor = _check_version(source.tree)
    log = Log()
    for pointer in source.unquoted:
        log.change("key without quotes, read as a text", pointer)
    if source.merged:
        log.change("YAML merge keys (`<<`) resolved", "")
    walk = _Walk(source.tree, minor, settings, log)
    document = walk.document()
    document["openapi"] = "3.1.0" if minor == "0" else str(source.tree["openapi"])
    if minor == "0":
        log.change(f"OpenAPI {source.tree['openapi']} became 3.1.0", "/openapi")
    check_references(document, walk.references, walk.in_place)
    told = tuple(diagnostic("normalised", pointer, change=line) for line, pointer in log.lines(told=True))
    return Normalised(document, (*log.diagnostics, *told), tuple(line for line, _ in log.lines()))


# --- the kind of document ---------------------------------------------------------------------------------------------


def _check_version(tree: dict[str, Json]) -> str:
    """The minor version, "0" or "1". Raises SpecRejected for everything that is not OpenAPI 3.0 or 3.1."""
    if "openapi" not in tree:
        if "swagger" in tree:
            raise reject("document.swagger2", "/swagger")
        if "asyncapi" in tree:
            raise reject("document.asyncapi", "/asyncapi")
        raise reject("document.not-openapi", detail="it has no key `openapi`")
    version = tree["openapi"]
    found = _VERSION.match(str(version)) if isinstance(version, str | float) else None
    if found is None:
        raise reject("document.version", "/openapi", version=shown(version))
    if not isinstance(tree.get("paths"), dict):
        raise reject(
            "document.no-paths", "/paths" if "paths" in tree else "", detail="`paths` is missing or not a mapping"
        )
    return found.group(1)


# --- the walk ---------------------------------------------------------------------------------------------------------

_DROP = object()


class _Walk:
    """One pass over the document."""

    def __init__(self, tree: dict[str, Json], minor: str, settings: CompilerSettings, log: Log) -> None:
        self._tree = tree
        self._minor = minor
        self._settings = settings
        self._log = log
        self._renamed = component_names(tree, log)
        self._operation_ids: set[str] = given_ids(tree)
        self._used_ids: set[str] = set()
        self._operations = 0
        self._inlining: list[str] = []
        self.references: list[tuple[str, str]] = []  # (place, target pointer)
        self.in_place: list[tuple[str, str]] = []  # (schema, schema that applies to the same value)
        self.composed = composed(tree)
        self._special: dict[str, Callable[[dict[str, Json], str], Json]] = {
            "schema": self._schema,
            "paths": self._paths,
            "responses": self._responses,
            "operation": self._operation,
            "pathItem": self._path_item,
            "callback": self._callback,
            "parameter": self._parameter,
            "header": self._described,
            "response": self._response,
            "requestBody": self._request_body,
            "info": self._info,
            "components": self._components,
            "requirement": self._requirement,
        }

    def document(self) -> dict[str, Json]:
        whole = self._object("document", self._tree, "")
        assert isinstance(whole, dict)
        if "info" not in whole:
            whole["info"] = self._info({}, "/info")
        if self._operations == 0:
            raise reject("document.no-paths", "/paths", detail="`paths` holds no operation")
        return {"openapi": "", **whole}

    # - generic -

    def _value(self, kind: str, value: Json, pointer: str) -> Json:
        if kind == "any":
            return copy.deepcopy(value)
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
        return _DROP

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
        return [one for one in made if one is not _DROP]

    def _map(self, kind: str, value: Json, pointer: str) -> Json:
        if not isinstance(value, dict):
            return self._wrong(pointer, "a mapping is needed")
        made = ((key, self._value(kind, one, child(pointer, key))) for key, one in value.items())
        return {key: one for key, one in made if one is not _DROP}

    def _object(self, kind: str, value: dict[str, Json], pointer: str) -> Json:
        fields = grammar.OBJECTS[kind]
        made: dict[str, Json] = {}
        for key, one in value.items():
            place = child(pointer, key)
            if key.startswith("x-"):
                made[key] = copy.deepcopy(one)
            elif key not in fields:
                self._log.drop(shown(key), f"not a field of {kind}", place)
            elif (new := self._value(fields[key], one, place)) is not _DROP:
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
        self.references.append((child(pointer, "$ref"), path))
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
            made = self._schema(rest, pointer)
            return made if isinstance(made, dict) else {}
        return {key: one for key, one in rest.items() if key in ("summary", "description") and isinstance(one, str)}

    def _foreign(self, kind: str, code: str, target: str, pointer: str) -> Json:
        instead = _INSTEAD.get(kind)
        told = "absent" if instead is None else ("{}" if kind == "schema" else f"an undescribed {kind}")
        self._log.diagnostics.append(diagnostic(code, child(pointer, "$ref"), reference=shown(target), instead=told))
        self._log.change(f"reference {shown(target)} is not fetched; it counts as {told}", pointer)
        return _DROP if instead is None else copy.deepcopy(instead)

    def _inline(self, path: str, value: dict[str, Json], pointer: str) -> Json:
        found = resolve(self._tree, path)
        if not isinstance(found, dict):
            raise reject("reference.dangling", child(pointer, "$ref"), reference=shown(path))
        if path in self._inlining:
            raise reject("reference.loop", child(pointer, "$ref"), reference=shown(path))
        self._inlining.append(path)
        rest = {key: one for key, one in value.items() if key != "$ref"}
        made = self._value("pathItem", {**found, **rest}, pointer)
        self._inlining.pop()
        self._log.change("path item taken in from its reference", pointer)
        return made

    def _rename(self, path: str) -> str:
        parts = path.split("/")
        if len(parts) > 3 and parts[1] == "components":
            parts[3] = self._renamed.get((parts[2], tokens("/" + parts[3])[0]), None) or parts[3]
        return "/".join(parts)

    # - objects with rules of their own -

    def _info(self, value: dict[str, Json], pointer: str) -> Json:
        made = self._object("info", value, pointer)
        for key, instead in (("title", "Untitled"), ("version", "0")):
            if key not in made:
                self._log.change(f"`{key}` was missing, {instead!r} stands in", pointer)
                made[key] = instead
        return made

    def _components(self, value: dict[str, Json], pointer: str) -> Json:
        made = self._object("components", value, pointer)
        for section, members in made.items():
            if isinstance(members, dict) and not section.startswith("x-"):
                made[section] = {self._renamed.get((section, name), name): one for name, one in members.items()}
        return made

    def _requirement(self, value: dict[str, Json], pointer: str) -> Json:
        made = {}
        for name, scopes in value.items():
            good = isinstance(scopes, list)
            if not good:
                self._log.change("scopes that are no list read as none", child(pointer, name))
            made[self._renamed.get(("securitySchemes", name), name)] = [
                one for one in (scopes if good else []) if isinstance(one, str)
            ]
        return made

    def _paths(self, value: dict[str, Json], pointer: str) -> Json:
        made: dict[str, Json] = {}
        for path, item in value.items():
            place = child(pointer, path)
            if path.startswith("x-"):
                made[path] = copy.deepcopy(item)
                continue
            name = path if path.startswith("/") else "/" + path
            if name != path:
                self._log.change("a slash put before the path", place)
            if name in made:
                self._log.drop(shown(path), "the path stands twice", place)
            elif (new := self._value("pathItem", item, place)) is not _DROP:
                made[name] = self._path_parameters(name, new, place)
        return made

    def _path_item(self, value: dict[str, Json], pointer: str) -> Json:
        return self._object("pathItem", value, pointer)

    def _callback(self, value: dict[str, Json], pointer: str) -> Json:
        # Their operations are requests that the service sends: not counted, no path parameters.
        counted = self._operations
        made = self._map("pathItem", value, pointer)
        self._operations = counted
        return made

    def _operation(self, value: dict[str, Json], pointer: str) -> Json:
        if tokens(pointer)[0] == "paths":
            self._operations += 1
        if self._operations > self._settings.max_operations:
            allowed = self._settings.max_operations
            raise limit("limit.operations", pointer, "max_operations", allowed, self._operations)
        made = self._object("operation", value, pointer)
        if not made.get("responses"):
            self._log.change("no response was declared; `default` stands in", pointer)
            made["responses"] = {"default": {"description": ""}}
        if tokens(pointer)[0] == "paths":
            made["operationId"] = self._operation_id(made.get("operationId"), pointer)
        self._unique_parameters(made, pointer)
        return made

    def _operation_id(self, given: str | None, pointer: str) -> str:
        if given and given not in self._used_ids:
            self._used_ids.add(given)
            return given
        _, path, method = tokens(pointer)[:3]
        words = given or "_".join([method, *re.findall(r"[A-Za-z0-9]+", path)]) or method
        name, number = words, 1
        while name in self._used_ids or (name in self._operation_ids and name != given) or name == given:
            number += 1
            name = f"{words}_{number}"
        self._used_ids.add(name)
        self._log.change(
            f"operationId {shown(given)} stands twice; this one is {shown(name)}"
            if given
            else "operationId made from method and path",
            pointer,
        )
        return name

    def _unique_parameters(self, holder: dict[str, Json], pointer: str) -> None:
        seen: set[tuple[str, str]] = set()
        kept = []
        for one in holder.get("parameters", ()):
            key = (one.get("in", ""), one.get("name", one.get("$ref", "")))
            if key in seen:
                self._log.drop(f"the second parameter {shown(key[1])}", "it stands twice", pointer)
            else:
                kept.append(one)
            seen.add(key)
        if "parameters" in holder:
            holder["parameters"] = kept

    def _path_parameters(self, path: str, item: dict[str, Json], pointer: str) -> dict[str, Json]:
        """Declare what the template names and nobody declared; leave out what the template does not name."""
        named = list(dict.fromkeys(re.findall(r"\{([^{}/]+)\}", path)))
        shared = item.get("parameters", [])
        self._unique_parameters(item, pointer)
        operations = [item[method] for method in grammar.METHODS if method in item]
        for holder in (item, *operations):
            if "parameters" in holder:
                holder["parameters"] = [
                    one for one in holder["parameters"] if self._belongs(one, named, child(pointer, "parameters"))
                ]
        for operation in operations:
            known = {self._parameter_key(one) for one in (*shared, *operation.get("parameters", ()))}
            for name in named:
                if ("path", name) not in known:
                    self._log.change(f"path parameter {shown(name)} was not declared; a text stands in", pointer)
                    operation.setdefault("parameters", []).append(
                        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                    )
        return item

    def _parameter_key(self, parameter: dict[str, Json]) -> tuple[str, str]:
        one, seen = parameter, 0
        while "$ref" in one and seen < 10:
            found = resolve(self._tree, self._unrename(decode_pointer(one["$ref"])))
            one, seen = (found if isinstance(found, dict) else {}), seen + 1
        return str(one.get("in", "")), str(one.get("name", ""))

    def _unrename(self, path: str) -> str:
        parts = path.split("/")
        if len(parts) > 3:
            for (section, old), new in self._renamed.items():
                if parts[2] == section and parts[3] == new:
                    parts[3] = old.replace("~", "~0").replace("/", "~1")
        return "/".join(parts)

    def _belongs(self, parameter: dict[str, Json], named: list[str], pointer: str) -> bool:
        place, name = self._parameter_key(parameter)
        if place != "path" or name in named:
            return True
        self._log.drop(f"the path parameter {shown(name)}", "the path does not name it", pointer)
        return False

    def _parameter(self, value: dict[str, Json], pointer: str) -> Json:
        if value.get("in") not in _PLACES:
            return self._wrong(pointer, "`in` must be path, query, header or cookie")
        if not isinstance(value.get("name"), str) or not value["name"]:
            return self._wrong(pointer, "a parameter needs a name")
        lifted = self._lift_schema(value, pointer)
        made = self._described(lifted, pointer, kind="parameter")
        if made["in"] == "path" and made.get("required") is not True:
            self._log.change("path parameter made required", pointer)
            made["required"] = True
        return made

    def _lift_schema(self, value: dict[str, Json], pointer: str) -> dict[str, Json]:
        # Swagger 2 habit: the type stands in the parameter itself.
        if "schema" in value or "content" in value or "type" not in value:
            return value
        self._log.change("the parameter's type moved into `schema`", pointer)
        fields = grammar.OBJECTS["parameter"]
        inner = {key: one for key, one in value.items() if key not in fields and not key.startswith("x-")}
        return {**{key: one for key, one in value.items() if key not in inner}, "schema": inner}

    def _described(self, value: dict[str, Json], pointer: str, kind: str = "header") -> Json:
        """Parameters and headers: exactly one of `schema` and `content`."""
        made = self._object(kind, value, pointer)
        if "schema" in made:
            made.pop("content", None)
        elif len(made.get("content") or {}) != 1:
            self._log.change(f"{kind} without a schema: any value", pointer)
            made.pop("content", None)
            made["schema"] = {}
        self._one_example(made, pointer)
        return made

    def _one_example(self, holder: dict[str, Json], pointer: str) -> None:
        if "example" in holder and "examples" in holder:
            self._log.change("`example` left out beside `examples`", pointer)
            del holder["example"]

    def _request_body(self, value: dict[str, Json], pointer: str) -> Json:
        made = self._object("requestBody", value, pointer)
        made.setdefault("content", {})
        for name, media in made["content"].items():
            self._one_example(media, child(pointer, "content", name))
        return made

    def _responses(self, value: dict[str, Json], pointer: str) -> Json:
        made: dict[str, Json] = {}
        for status, response in value.items():
            place = child(pointer, status)
            name = status if status == "default" else status.upper()
            if status.startswith("x-"):
                made[status] = copy.deepcopy(response)
            elif name != "default" and not _STATUS.match(name):
                self._log.drop(shown(status), "not a status code", place)
            elif (new := self._value("response", response, place)) is not _DROP:
                if name != status:
                    self._log.change("status range written in upper case", place)
                made[name] = new
        return made

    def _response(self, value: dict[str, Json], pointer: str) -> Json:
        made = self._object("response", value, pointer)
        if "description" not in made:
            self._log.change("response without a description: an empty one stands in", pointer)
            made["description"] = ""
        for name, media in made.get("content", {}).items():
            self._one_example(media, child(pointer, "content", name))
        return made

    # - schemas -

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
        new: Json = _DROP
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
        if new is not _DROP:
            made[key] = new

    def _example(self, made: dict[str, Json], key: str, value: Json, place: str) -> Json:
        if key != "example" or self._minor != "0":
            return list(dict.fromkeys(value)) if key == "required" else copy.deepcopy(value)
        self._log.change("schema `example` became `examples`", place)
        made.setdefault("examples", [copy.deepcopy(value)])
        return _DROP

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
            return _DROP
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
        absent = [name for name in made["required"] if name not in properties]
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
            if resolve(self._tree, self._unrename(path)) is None:
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
        outside = {key: made[key] for key in made if key in _ANNOTATIONS or key.startswith("x-")}
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
        self.references[references:] = [(at(place), target) for place, target in self.references[references:]]
        self.in_place[edges:] = [(at(one), at(other)) for one, other in self.in_place[edges:]]
        self.in_place.append((old, new))


_ANNOTATIONS = {
    "title",
    "description",
    "default",
    "example",
    "examples",
    "readOnly",
    "writeOnly",
    "deprecated",
    "externalDocs",
    "xml",
}
