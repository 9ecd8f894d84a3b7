"""What a change of a published schema would break. Pure: two JSON Schemas in, sentences out.

Allowed within a major version: new optional properties, more enum values, looser limits, better descriptions.
Everything else needs a new major topic.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

# keyword → the direction in which it becomes tighter: +1 when it grows, -1 when it shrinks.
_LIMITS = {
    "minimum": 1, "exclusiveMinimum": 1, "minLength": 1, "minItems": 1,
    "maximum": -1, "exclusiveMaximum": -1, "maxLength": -1, "maxItems": -1,
}  # fmt: skip


def incompatibilities(released: Schema, current: Schema) -> list[str]:
    """Sentences, each with the JSON pointer of the place; empty if every released record and reader still works."""
    return list(_Comparison(released, current).compare(released, current, ""))


class _Comparison:
    def __init__(self, released: Schema, current: Schema) -> None:
        self._roots = (released, current)
        self._seen: set[tuple[str, str]] = set()

    def compare(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        reference = (old.get("$ref", ""), new.get("$ref", ""))
        if reference in self._seen and all(reference):
            return
        self._seen.add(reference)
        old, new = (_resolve(root, schema) for root, schema in zip(self._roots, (old, new), strict=True))
        if _shape(old) != _shape(new):
            yield f"{place or '/'}: retyped from {_shape(old)} to {_shape(new)}"
            return
        yield from _values(old, new, place)
        yield from self._properties(old, new, place)
        for keyword in ("items", "additionalProperties"):
            if isinstance(old.get(keyword), Mapping) and isinstance(new.get(keyword), Mapping):
                yield from self.compare(old[keyword], new[keyword], f"{place}/{keyword}")
        for keyword in ("anyOf", "prefixItems"):
            for index, (left, right) in enumerate(zip(old.get(keyword, ()), new.get(keyword, ()), strict=True)):
                yield from self.compare(left, right, f"{place}/{keyword}/{index}")

    def _properties(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name not in after:
                yield f"{place}/{name}: removed or renamed"
            else:
                yield from self.compare(before[name], after[name], f"{place}/{name}")
        for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
            yield f"{place}/{name}: newly required"
        for name in sorted(set(old.get("required", ())) - set(new.get("required", ()))):
            yield f"{place}/{name}: no longer always present"
        if old.get("additionalProperties") is False and new.get("additionalProperties") is not False:
            yield f"{place or '/'}: no longer closed"


def _resolve(root: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _shape(schema: Schema) -> str:
    """The type in one word; alternatives and tuples with their number."""
    kind = schema.get("type", "enum" if "enum" in schema else "const" if "const" in schema else "any")
    if "anyOf" in schema:
        kind = f"one of {len(schema['anyOf'])}"
    if "prefixItems" in schema:
        kind = f"tuple of {len(schema['prefixItems'])}"
    return str(kind) + (f" ({schema['format']})" if "format" in schema else "")


def _values(old: Schema, new: Schema, place: str) -> Iterator[str]:
    place = place or "/"
    if "enum" in new:
        lost = [value for value in old.get("enum", ()) if value not in new["enum"]]
        if lost or "enum" not in old:
            yield f"{place}: enum shrank: {', '.join(map(str, lost)) or 'was open'}"
    if new.get("const") != old.get("const"):
        yield f"{place}: constant changed"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{place}: pattern changed"
    for keyword, direction in _LIMITS.items():
        if keyword in new and (keyword not in old or (new[keyword] - old[keyword]) * direction > 0):
            yield f"{place}: {keyword} is tighter"
