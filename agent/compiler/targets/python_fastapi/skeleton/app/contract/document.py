"""The document made ready for a validator: ranges of integers, usable patterns, no required `readOnly` property."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import structlog

from app.contract.formats import RANGES

Json = Any
log = structlog.get_logger()


def resolve(document: Mapping[str, Json], node: Json) -> Json:
    """Follow local `$ref`s from a node; a circle or a dangling one gives an empty mapping."""
    for _ in range(50):
        if not (isinstance(node, dict) and isinstance(node.get("$ref"), str)):
            return node
        node = look_up(document, node["$ref"])
    return {}


def look_up(document: Mapping[str, Json], reference: str) -> Json:
    """The node at `#/a/b`; an empty mapping if there is none."""
    node: Json = document
    for part in reference.removeprefix("#").split("/")[1:]:
        part = unquote(part).replace("~1", "/").replace("~0", "~")
        try:
            node = node[int(part)] if isinstance(node, list) else node[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return {}
    return node


def prepare(document: Mapping[str, Json]) -> dict[str, Json]:
    """A copy for validating requests: ranges of integers, usable patterns, no required `readOnly` property."""
    prepared = copy.deepcopy(dict(document))
    for schema in _mappings(prepared):
        _bound(schema)
        _repair_pattern(schema)
    for schema in _mappings(prepared):
        _release_read_only(schema, prepared)
    return prepared


def _mappings(node: Json) -> Iterable[dict[str, Json]]:
    """Every mapping of the document, deepest last, without recursion: a document may be deep."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _bound(schema: dict[str, Json]) -> None:
    limits = RANGES.get(schema.get("format", "")) if isinstance(schema.get("format", ""), str) else None
    if limits and schema.get("type") in ("integer", "number", ["integer", "null"], ["null", "integer"]):
        low, high = limits
        schema["minimum"] = max(low, schema["minimum"]) if _is_number(schema.get("minimum")) else low
        schema["maximum"] = min(high, schema["maximum"]) if _is_number(schema.get("maximum")) else high


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _repair_pattern(schema: dict[str, Json]) -> None:
    """Rewrite what the engine refuses although ECMA 262 allows it; a pattern that stays refused is not checked."""
    pattern = schema.get("pattern")
    if not isinstance(pattern, str):
        return
    for candidate in (pattern, pattern.replace("[^]", r"[\s\S]").replace(r"[\w-", r"[\w\-")):
        try:
            jsonschema_rs.Draft202012Validator({"pattern": candidate})
        except (ValueError, jsonschema_rs.ValidationError):
            continue
        schema["pattern"] = candidate
        return
    log.warning("pattern.ignored", length=len(pattern))
    del schema["pattern"]


def _release_read_only(schema: dict[str, Json], document: Mapping[str, Json]) -> None:
    """Drop from `required` what a request may leave out; siblings of an `allOf` count as one object."""
    if not ("properties" in schema or "allOf" in schema):
        return
    parts = [schema, *(part for part in as_list(schema.get("allOf")) if isinstance(part, dict) and "$ref" not in part)]
    if not any(isinstance(part.get("required"), list) for part in parts):
        return
    released = read_only_names(schema, document)
    for part in parts:
        if released and isinstance(part.get("required"), list):
            part["required"] = [name for name in part["required"] if name not in released]


def as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def read_only_names(schema: Json, document: Mapping[str, Json], depth: int = 0) -> set[str]:
    """Names of the `readOnly` properties of a schema, through `$ref` and `allOf`."""
    schema = resolve(document, schema)
    if not isinstance(schema, dict) or depth > 20:
        return set()
    properties = schema.get("properties")
    names = {
        name
        for name, part in (properties.items() if isinstance(properties, dict) else ())
        if isinstance(resolve(document, part), dict)
        and (
            (isinstance(part, dict) and part.get("readOnly") is True) or resolve(document, part).get("readOnly") is True
        )
    }
    for part in as_list(schema.get("allOf")):
        names |= read_only_names(part, document, depth + 1)
    return names


ALL_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})


def types_of(schema: Json, document: Mapping[str, Json], depth: int = 0) -> frozenset[str]:
    """JSON types that a schema may allow; all of them when it does not say."""
    schema = resolve(document, schema)
    if not isinstance(schema, dict) or depth > 20:
        return ALL_TYPES
    allowed = ALL_TYPES
    declared = schema.get("type")
    if declared:
        allowed = frozenset([declared] if isinstance(declared, str) else declared)
    for part in as_list(schema.get("allOf")):
        allowed = (allowed & types_of(part, document, depth + 1)) or allowed
    for name in ("anyOf", "oneOf"):
        if branches := as_list(schema.get(name)):
            union = frozenset[str]().union(*(types_of(part, document, depth + 1) for part in branches))
            allowed = (allowed & union) or allowed
    return allowed


def escape(part: str) -> str:
    """A segment of a JSON pointer, also safe inside a URI fragment."""
    escaped = part.replace("~", "~0").replace("/", "~1")
    return "".join(
        c if (c.isalnum() and c.isascii()) or c in "~-._" else "".join(f"%{b:02X}" for b in c.encode()) for c in escaped
    )
