"""A valid value for a schema: the document's own examples where they validate, else one that we make.

Deterministic. What cannot be verified is not given out: None.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from agent.compiler.diagnostics import child
from agent.compiler.patterns import compile_pattern, parser, sre
from agent.compiler.schemas.validation import Validator
from agent.compiler.schemas.views import Schemas, View

Json = Any

_DEPTH = 8  # levels that are made
_VARIANTS = 20  # alternatives that are tried
_BUDGET = 800  # values that one sample may hold
_TEXTS = {
    "date": "2025-01-15",
    "date-time": "2025-01-15T09:30:00Z",
    "time": "09:30:00Z",
    "duration": "P1D",
    "uuid": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "email": "someone@example.com",
    "idn-email": "someone@example.com",
    "uri": "https://example.com/resource",
    "url": "https://example.com/resource",
    "uri-reference": "/resource",
    "hostname": "host.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "byte": "c2FtcGxl",
    "json-pointer": "/a",
    "regex": "^a$",
}


class _Impossible(Exception):
    """No value can be made for this schema."""


class Sampler:
    """Samples for schemas of one document."""

    def __init__(self, schemas: Schemas, validator: Validator) -> None:
        self._schemas = schemas
        self._validator = validator
        self._left = 0
        self._found: dict[str, Json] = {}
        self._made: dict[tuple[str, str], Json] = {}  # without what carries a flag

    def request(self, pointer: str, examples: Iterable[Json] = ()) -> Json:
        """A valid value for a request (without what is read-only); None if none could be made."""
        return copy.deepcopy(self._sent(pointer, examples, "readOnly"))

    def response(self, pointer: str, examples: Iterable[Json] = ()) -> Json:
        """A valid value for a response (without what is write-only); None if none could be made."""
        return copy.deepcopy(self._sent(pointer, examples, "writeOnly"))

    def shared_response(self, pointer: str) -> Json:
        """The same for whoever only looks: not a copy of its own."""
        return self._sent(pointer, (), "writeOnly")

    def media_examples(self, pointer: str) -> list[Json]:
        """The examples of the media type or parameter that owns the schema at `pointer`."""
        document = self._schemas.document
        holder = pointer.removesuffix("/schema")
        node = document.at(holder)
        if not isinstance(node, dict) or holder == pointer:
            return []
        found = [node["example"]] if "example" in node else []
        for name in node.get("examples") or {}:
            _, example = document.follow(child(holder, "examples", name))
            if isinstance(example, dict) and "value" in example:
                found.append(example["value"])
        return found

    def _sent(self, pointer: str, examples: Iterable[Json], flag: str) -> Json:
        if examples:
            return self._strip(self._find(pointer, examples), pointer, flag, 0)
        key = (self._plain(pointer), flag)
        if key not in self._made:
            self._made[key] = self._strip(self._whole(key[0]), pointer, flag, 0)
        return self._made[key]

    def _whole(self, pointer: str) -> Json:
        if pointer not in self._found:
            self._found[pointer] = self._find(pointer, ())
        return self._found[pointer]

    def _plain(self, pointer: str) -> str:
        """What nothing but `$ref` leads to: thousands of properties that name one schema have one sample."""
        node = self._schemas.document.at(pointer)
        if pointer.endswith("/schema") or not (isinstance(node, dict) and node.keys() == {"$ref"}):
            return pointer  # whoever owns it may give examples of its own
        return self._plain(unquote(node["$ref"][1:]))

    def _find(self, pointer: str, examples: Iterable[Json]) -> Json:
        made = self._try(pointer, every=True)
        if made is None:
            made = self._try(pointer, every=False)
        for example in (*examples, *self.media_examples(pointer)):
            for candidate in (example, _over(made, example)):
                if self._validator.valid(pointer, candidate):
                    return copy.deepcopy(candidate)
        return made

    def _try(self, pointer: str, *, every: bool) -> Json:
        self._left = _BUDGET
        try:
            made = self._make((pointer,), _DEPTH if every else 0, ())
        except (_Impossible, RecursionError):
            return None
        return made if self._validator.valid(pointer, made) else None

    # --- making ---

    def _make(self, pointers: tuple[str, ...], depth: int, inside: tuple[str, ...]) -> Json:
        """`depth`: how many more levels get their optional properties; `inside`: schemas that we are within."""
        self._left -= 1
        view = self._schemas.merged(pointers)
        if self._left < 0 or inside.count(view.pointer) > 1 or len(inside) > _DEPTH * 3:
            raise _Impossible
        for candidate in self._given(pointers, view):
            if all(self._validator.valid(one, candidate) for one in pointers):
                return copy.deepcopy(candidate)
        if view.variants:
            return self._variant(view, depth, inside)
        return self._by_type(view, depth, (*inside, view.pointer))

    def _given(self, pointers: tuple[str, ...], view: View) -> list[Json]:
        found: list[Json] = []
        for pointer in (*pointers, view.pointer):
            node = self._schemas.document.at(pointer)
            node = node if isinstance(node, dict) else {}
            found += [node["example"]] if "example" in node else []
            found += node.get("examples", [])[:3]
        constant = view.constant
        found += list(constant) if constant else view.facets.get("enum", [])[:3]
        return [*found, view.facets["default"]] if "default" in view.facets else found

    def _variant(self, view: View, depth: int, inside: tuple[str, ...]) -> Json:
        for one in view.variants[:_VARIANTS]:
            try:
                made = self._make((one,), depth, inside)
                if view.properties:
                    made = {**self._object(view, depth, (*inside, view.pointer)), **made}
            except (_Impossible, TypeError):
                continue
            if self._validator.valid(view.pointer, made):
                return made
        raise _Impossible

    def _by_type(self, view: View, depth: int, inside: tuple[str, ...]) -> Json:
        kind = next(
            (one for one in ("object", "array", "string", "integer", "number", "boolean") if one in view.types), None
        )
        if kind == "object" or (kind is None and (view.properties or view.required)):
            return self._object(view, depth, inside)
        if kind == "array" or (kind is None and view.items):
            return self._array(view, depth, inside)
        if kind in ("integer", "number"):
            return _number(view.facets, integer=kind == "integer")
        if kind == "boolean":
            return True
        if kind is None and view.nullable:
            return None
        return _text(view.facets)

    def _object(self, view: View, depth: int, inside: tuple[str, ...]) -> dict[str, Json]:
        made: dict[str, Json] = {}
        for name in sorted(view.required | (view.properties.keys() if depth > 0 else set())):
            pointers = view.properties.get(name)
            if pointers is None:
                made[name] = self._extra_value(view, depth, inside)
                continue
            try:
                made[name] = self._make(pointers, depth - 1, inside)
            except _Impossible:
                if name in view.required:
                    raise
        for number in range(len(made), view.facets.get("minProperties", 0)):
            made[f"property{number}"] = self._extra_value(view, depth, inside)
        return {
            name: made[name]
            for name in (
                *(one for one in view.properties if one in made),
                *(one for one in made if one not in view.properties),
            )
        }

    def _extra_value(self, view: View, depth: int, inside: tuple[str, ...]) -> Json:
        return self._make((view.extra,), depth - 1, inside) if isinstance(view.extra, str) else "sample"

    def _array(self, view: View, depth: int, inside: tuple[str, ...]) -> list[Json]:
        least = view.facets.get("minItems", 0)
        wanted = max(least, 1 if depth > 0 and view.facets.get("maxItems", 1) else 0)
        if wanted > 50:
            raise _Impossible
        made: list[Json] = []
        for index in range(wanted):
            try:
                value = self._make((view.items,), depth - 1, inside) if view.items else "sample"
            except _Impossible:
                if least:
                    raise
                return []
            made.append(_other(value, index) if view.facets.get("uniqueItems") and value in made else value)
        return made

    # --- for a request or a response ---

    def _strip(self, value: Json, pointer: str, flag: str, depth: int) -> Json:
        """Leave out properties that carry `flag`, at every level."""
        if depth > _DEPTH * 3:
            return value
        view = self._schemas.entity(pointer)
        if isinstance(value, list) and view.items:
            return [self._strip(one, view.items, flag, depth + 1) for one in value]
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, one in value.items():
            pointers = view.properties.get(name, ())
            if not pointers:
                kept[name] = one
            elif not self._schemas.flag(pointers, flag):
                kept[name] = self._strip(one, pointers[0], flag, depth + 1)
        return kept


def _over(made: Json, example: Json) -> Json:
    """The example, with what it lacks taken from what we made."""
    if isinstance(made, dict) and isinstance(example, dict):
        return {**made, **example}
    if isinstance(made, list) and isinstance(example, list) and made:
        return [_over(made[0], one) for one in example]
    return example


def _other(value: Json, index: int) -> Json:
    if isinstance(value, str):
        return f"{value}{index}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value + index
    raise _Impossible


def _number(facets: Mapping[str, Json], *, integer: bool) -> Json:
    low, high = facets.get("minimum", -math.inf), facets.get("maximum", math.inf)
    above, below = facets.get("exclusiveMinimum", -math.inf), facets.get("exclusiveMaximum", math.inf)
    step = facets.get("multipleOf", 1)
    nearby = [1, 0, low, high, above + step, below - step, (max(low, above) + min(high, below)) / 2, step, -1]
    nearby += [math.ceil(low / step) * step] if math.isfinite(low) else []
    nearby += [(math.floor(above / step) + 1) * step] if math.isfinite(above) else []
    for candidate in nearby if _finite_all(facets) else []:
        if not math.isfinite(candidate):
            continue
        whole = int(candidate) if float(candidate).is_integer() else candidate
        if integer and not isinstance(whole, int):
            continue
        if low <= whole <= high and above < whole < below and _is_multiple(whole, facets.get("multipleOf")):
            return whole
    raise _Impossible


def _finite_all(facets: Mapping[str, Json]) -> bool:
    keys = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    return all(abs(facets[key]) < 1e15 for key in keys if key in facets)


def _is_multiple(value: Json, step: Json) -> bool:
    return step is None or float(value / step).is_integer()


def _text(facets: Mapping[str, Json]) -> str:
    low, high = facets.get("minLength", 0), facets.get("maxLength", 10_000)
    if low > 10_000:
        raise _Impossible
    if "pattern" in facets:
        return _matching(facets["pattern"], low, high)
    text = _TEXTS.get(str(facets.get("format")), "c2FtcGxl" if facets.get("contentEncoding") == "base64" else "sample")
    return (text + "x" * (low - len(text)))[:high] if str(facets.get("format")) not in _TEXTS else text


# --- a text for a pattern ---------------------------------------------------------------------------------------------


def _matching(pattern: str, low: int, high: int) -> str:
    """A text for a simple pattern; verified by whoever asked. Raises _Impossible."""
    compiled = compile_pattern(pattern)
    if compiled is None:
        raise _Impossible
    tree = parser.parse(compiled.pattern)
    for more in (0, 1, 2, 4, 8, 16, 32, 64):
        text = _generate(tree, more)
        if low <= len(text) <= high:
            return text
    raise _Impossible


def _generate(tree: Any, more: int) -> str:
    return "".join(_generate_node(operator, argument, more) for operator, argument in tree)


def _generate_node(operator: Any, argument: Any, more: int) -> str:
    if operator is sre.LITERAL:
        return chr(argument)
    if operator is sre.NOT_LITERAL:
        return "a" if argument != ord("a") else "b"
    if operator is sre.ANY:
        return "a"
    if operator is sre.IN:
        return _one_of(argument)
    if operator is sre.BRANCH:
        return _generate(argument[1][0], more)
    if operator is sre.SUBPATTERN:
        return _generate(argument[3], more)
    if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        least, most, body = argument
        return _generate(body, 0) * int(min(least + more, most, 200))
    return ""  # anchors and assertions: the caller verifies


def _one_of(members: Any) -> str:
    negated = members[0][0] is sre.NEGATE
    candidates = "aA0 -_.b1Z:/@é"
    if negated:
        return next((one for one in candidates if not _is_member(members[1:], one)), "\u20ac")
    operator, argument = members[0]
    if operator is sre.LITERAL:
        return chr(argument)
    if operator is sre.RANGE:
        return chr(argument[0])
    return next((one for one in candidates if _is_member(members, one)), "a")


def _is_member(members: Any, character: str) -> bool:
    code = ord(character)
    for operator, argument in members:
        if operator is sre.LITERAL and argument == code:
            return True
        if operator is sre.RANGE and argument[0] <= code <= argument[1]:
            return True
        if operator is sre.CATEGORY and _in_category(argument, character):
            return True
    return False


def _in_category(category: Any, character: str) -> bool:
    ascii_word = character.isascii() and (character.isalnum() or character == "_")
    inside = {
        sre.CATEGORY_DIGIT: character.isdecimal() and character.isascii(),
        sre.CATEGORY_SPACE: character in " \t\n\r\f\v",
        sre.CATEGORY_WORD: ascii_word,
    }
    outside = {
        sre.CATEGORY_NOT_DIGIT: sre.CATEGORY_DIGIT,
        sre.CATEGORY_NOT_SPACE: sre.CATEGORY_SPACE,
        sre.CATEGORY_NOT_WORD: sre.CATEGORY_WORD,
    }
    return not inside[outside[category]] if category in outside else inside.get(category, False)
