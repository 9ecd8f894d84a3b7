"""The objects of OpenAPI that have rules of their own: paths, operations, parameters, bodies, responses, components."""

import copy
import re
from typing import Any

from agent.compiler.diagnostics import child, limit, reject, shown, tokens
from agent.compiler.reading import grammar
from agent.compiler.reading.log import Log
from agent.compiler.reading.names import given_ids
from agent.compiler.reading.references import decode_pointer, resolve
from agent.compiler.reading.schema_walk import SchemaWalk
from agent.compiler.reading.walk import DROP
from agent.settings import CompilerSettings

Json = Any

_STATUS = re.compile(r"[1-5](?:\d\d|XX)\Z")
_LOOKED_AT = 100  # schemas of one body, to see whether it must hold something
_PLACES = ("path", "query", "header", "cookie")
# OpenAPI 3.1, 4.8.12.1: media types and security schemes say what these carry.
_IGNORED_HEADERS = ("accept", "content-type", "authorization")


class DocumentWalk(SchemaWalk):
    """The whole pass: `document()` gives the normalised tree; `references` and `in_place` what it met on the way."""

    def __init__(self, tree: dict[str, Json], minor: str, settings: CompilerSettings, log: Log) -> None:
        super().__init__(tree, minor, settings, log)
        self._given_ids: set[str] = given_ids(tree)
        self._used_ids: set[str] = set()
        self._last_number: dict[str, int] = {}  # words of an id → the number that was put behind them last
        self._operations = 0
        self._special = {
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
        """The normalised document; `openapi` is left to the caller. Raises SpecRejected where it holds no operation."""
        whole = self._object("document", self._tree, "")
        assert isinstance(whole, dict)
        if "info" not in whole:
            whole["info"] = self._info({}, "/info")
        if self._operations == 0:
            raise reject("document.no-paths", "/paths", detail="no entry of `paths` has a method")
        return {"openapi": "", **whole}

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
            elif (new := self._value("pathItem", item, place)) is not DROP:
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
        name, number = words, self._last_number.get(words, 1)
        while name in self._used_ids or (name in self._given_ids and name != given) or name == given:
            number += 1
            name = f"{words}_{number}"
        self._last_number[words] = number
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

    def _belongs(self, parameter: dict[str, Json], named: list[str], pointer: str) -> bool:
        place, name = self._parameter_key(parameter)
        if place == "header" and name.lower() in _IGNORED_HEADERS:
            self._log.change(f"left out the header parameter {shown(name)}, which OpenAPI ignores", pointer)
            return False
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
        if "required" not in made and self._demands(value.get("content")):
            self._log.change("the body made required: what it must hold cannot be left out with it", pointer)
            made["required"] = True
        for name, media in made["content"].items():
            self._one_example(media, child(pointer, "content", name))
        return made

    def _demands(self, content: Json) -> bool:
        """Whether a body must hold something in each of its forms: a property that a client has to give."""
        media = [one for one in content.values() if isinstance(one, dict)] if isinstance(content, dict) else []
        return bool(media) and all(self._has_required(one.get("schema")) for one in media)

    def _has_required(self, schema: Json) -> bool:
        pending, seen = [schema], 0
        while pending and seen < _LOOKED_AT:
            node, seen = pending.pop(), seen + 1
            if not isinstance(node, dict):
                continue
            if isinstance(node.get("$ref"), str) and node["$ref"].startswith("#"):
                pending.append(resolve(self._tree, decode_pointer(node["$ref"])))
            required, parts = node.get("required"), node.get("allOf")
            properties = node.get("properties")
            given = properties if isinstance(properties, dict) else {}
            if isinstance(required, list) and any(not _is_read_only(given.get(str(name))) for name in required):
                return True
            pending += parts if isinstance(parts, list) else []
        return False

    def _responses(self, value: dict[str, Json], pointer: str) -> Json:
        made: dict[str, Json] = {}
        for status, response in value.items():
            place = child(pointer, status)
            name = status if status == "default" else status.upper()
            if status.startswith("x-"):
                made[status] = copy.deepcopy(response)
            elif name != "default" and not _STATUS.match(name):
                self._log.drop(shown(status), "not a status code", place)
            elif (new := self._value("response", response, place)) is not DROP:
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


def _is_read_only(schema: Json) -> bool:
    return isinstance(schema, dict) and schema.get("readOnly") is True
