"""Bytes → tree of dicts, lists and scalars. JSON, or YAML 1.2 with the core schema; every limit has a diagnostic.

Hostile input decides the shape of this file: sizes are checked before anything is built, nothing recurses, aliases are
charged with what they expand to, and only the scalar types of JSON come out. No date, no "Norway", no tag.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent.compiler.diagnostics import child, limit, reject, shown
from agent.settings import CompilerSettings

Json = Any

_CORE_TAGS = {"!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_JSON = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_JSON_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
# Longer integers exceed every column and, above 4300 digits, CPython's own limit.
_DIGITS = 300
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Source:
    """A document as a tree. `unquoted`: pointers of keys that YAML would not have read as texts (status codes)."""

    tree: dict[str, Json]
    format: str  # "json" | "yaml"
    unquoted: tuple[str, ...] = ()
    merged: bool = False  # YAML merge keys (`<<`) were resolved


def read(given: bytes, settings: CompilerSettings) -> Source:
    """Read a document. Raises SpecRejected with one diagnostic that names place, fault and remedy."""
    text = _decode(given, settings)
    if not text.strip():
        raise reject("document.empty")
    source = _read_json(text, settings) if text.lstrip()[:1] in "{[" else None
    source = source or _read_yaml(text, settings)
    if not isinstance(source.tree, dict):
        raise reject("document.not-a-mapping", kind="list" if isinstance(source.tree, list) else "scalar")
    return source


def _decode(given: bytes, settings: CompilerSettings) -> str:
    if len(given) > settings.max_bytes:
        raise limit("limit.bytes", "", "max_bytes", settings.max_bytes, len(given))
    if given[:2] in (b"\xff\xfe", b"\xfe\xff") or given[:4] == b"\0\0\xfe\xff" or given[:4].count(0) >= 2:
        raise reject("document.encoding", detail="it looks like UTF-16 or UTF-32")
    try:
        return given.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise reject("document.encoding", detail=f"byte {error.start} is {error.reason}") from error


# --- JSON -------------------------------------------------------------------------------------------------------------


class _Twice(dict[str, Json]):
    """A JSON object in which a key stands twice: found by the walk, which knows the pointer."""

    __slots__ = ("key",)
    key: str


def _read_json(text: str, settings: CompilerSettings) -> Source | None:
    """None: it is not JSON (a YAML flow mapping also begins with a brace)."""
    depth = 0
    for bracket in _BRACKET.finditer(_JSON_STRING.sub("", text)):
        depth += 1 if bracket.group() in "[{" else -1
        if depth > settings.max_depth:
            raise limit("limit.depth", "", "max_depth", settings.max_depth)
    try:
        tree = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_json_int)
    except _BadNumber as error:
        raise reject("document.value", detail=str(error)) from error
    except ValueError as error:
        if re.match(r'\s*[{\[]\s*"', text) and not _is_yaml(text, settings):
            raise reject("document.syntax", detail=str(error)) from error
        return None
    _check_json(tree, settings)
    return Source(tree, "json")


class _BadNumber(ValueError):
    pass


def _constant(text: str) -> Json:
    raise _BadNumber(f"{text} is no JSON number")


def _json_int(text: str) -> int:
    if len(text) > _DIGITS:
        raise _BadNumber(f"an integer of {len(text)} digits")
    return int(text)


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    tree = dict(pairs)
    if len(tree) == len(pairs):
        return tree
    twice = _Twice(tree)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            twice.key = key
            break
        seen.add(key)
    return twice


def _is_yaml(text: str, settings: CompilerSettings) -> bool:
    try:
        for _ in yaml.parse(text, Loader=yaml.CSafeLoader):
            pass
    except yaml.YAMLError:
        return False
    return True


def _check_json(tree: Json, settings: CompilerSettings) -> None:
    nodes = 0
    stack: list[tuple[str, Json]] = [("", tree)]
    while stack:
        pointer, node = stack.pop()
        nodes += 1
        if nodes > settings.max_nodes:
            raise limit("limit.nodes", "", "max_nodes", settings.max_nodes)
        if isinstance(node, dict):
            if isinstance(node, _Twice):
                raise reject("document.duplicate-key", child(pointer, node.key), key=shown(node.key))
            for key in node:
                _check_key(pointer, key, settings)
            stack.extend((child(pointer, key), value) for key, value in node.items())
        elif isinstance(node, list):
            stack.extend((f"{pointer}/{index}", value) for index, value in enumerate(node))
        elif isinstance(node, float) and not math.isfinite(node):
            raise reject("document.value", pointer, detail="a number that is too large")
        elif isinstance(node, str) and _SURROGATE.search(node):
            raise reject("document.value", pointer, detail="half of a surrogate pair")


def _check_key(pointer: str, key: str, settings: CompilerSettings) -> None:
    if len(key) > settings.max_name_length:
        raise limit("limit.name", child(pointer, key[:40] + "…"), "max_name_length", settings.max_name_length, len(key))
    if _SURROGATE.search(key):
        raise reject("document.value", pointer, detail="half of a surrogate pair in a key")


# --- YAML -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Frame:
    """A collection that is being filled."""

    node: dict[str, Json] | list[Json]
    pointer: str
    anchor: str | None
    size: int = 1  # nodes inside, aliases expanded
    height: int = 1  # levels inside, aliases expanded
    key: str | None = None  # a mapping's key that waits for its value
    merge: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Anchored:
    node: Json
    size: int
    height: int


class _Builder:
    """Builds the tree from parser events, iteratively, and counts what an alias expands to."""

    def __init__(self, settings: CompilerSettings) -> None:
        self._settings = settings
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchored | None] = {}  # None: not finished
        self._aliases = 0
        self._nodes = 0
        self._documents = 0
        self.root: Json = None
        self.unquoted: list[str] = []
        self.merged = False

    def feed(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._open(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise reject("document.several")

    def _place(self) -> str:
        if not self._stack:
            return ""
        frame = self._stack[-1]
        if isinstance(frame.node, list):
            return f"{frame.pointer}/{len(frame.node)}"
        return frame.pointer if frame.key is None else child(frame.pointer, frame.key)

    def _expects_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].node, dict) and self._stack[-1].key is None

    def _scalar(self, event: Any) -> None:
        self._check_tag(event.tag)
        plain = event.implicit[0]
        if self._expects_key():
            self._key(event.value, plain)
            return
        value = _core(event.value, self._place()) if plain else event.value
        self._anchor(event.anchor, value, 1, 1)
        self._add(value, 1, 1)

    def _key(self, text: str, plain: bool) -> None:
        frame = self._stack[-1]
        _check_key(frame.pointer, text, self._settings)
        # A merge key may stand more than once; its mappings are merged when the mapping ends.
        if text in frame.node and not (text == "<<" and plain):
            raise reject("document.duplicate-key", child(frame.pointer, text), key=shown(text))
        if plain and not _is_text(text):
            self.unquoted.append(child(frame.pointer, text))
        frame.key = text

    def _open(self, event: Any) -> None:
        self._check_tag(event.tag)
        if self._expects_key():
            raise reject("document.key", self._place(), detail="a list or a mapping")
        if len(self._stack) >= self._settings.max_depth:
            raise limit("limit.depth", self._place(), "max_depth", self._settings.max_depth)
        if event.anchor:
            self._anchors[event.anchor] = None
        node: dict[str, Json] | list[Json] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(node, self._place(), event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        if isinstance(frame.node, dict):
            self._merge(frame, frame.node)
        self._anchor(frame.anchor, frame.node, frame.size, frame.height)
        self._add(frame.node, frame.size, frame.height)

    def _merge(self, frame: _Frame, node: dict[str, Json]) -> None:
        for given in frame.merge:
            for one in given if isinstance(given, list) else [given]:
                if not isinstance(one, dict):
                    raise reject("document.alias", frame.pointer, alias="`<<`", detail="merges what is no mapping")
                self.merged = True
                for key, value in one.items():
                    node.setdefault(key, value)

    def _alias(self, event: Any) -> None:
        self._aliases += 1
        if self._aliases > self._settings.max_aliases:
            raise limit("limit.aliases", self._place(), "max_aliases", self._settings.max_aliases)
        found = self._anchors.get(event.anchor)
        if found is None:
            detail = "stands inside its own anchor" if event.anchor in self._anchors else "has no anchor"
            raise reject("document.alias", self._place(), alias=shown(event.anchor), detail=detail)
        if len(self._stack) + found.height > self._settings.max_depth:
            raise limit("limit.depth", self._place(), "max_depth", self._settings.max_depth)
        if self._expects_key():
            if not isinstance(found.node, str):
                raise reject("document.key", self._place(), detail="an alias of something else")
            self._key(found.node, plain=False)
            return
        self._add(found.node, found.size, found.height)

    def _anchor(self, name: str | None, node: Json, size: int, height: int) -> None:
        if name:
            self._anchors[name] = _Anchored(node, size, height)

    def _add(self, value: Json, size: int, height: int) -> None:
        if not self._stack:
            self.root = value
            return
        frame = self._stack[-1]
        frame.size += size
        frame.height = max(frame.height, height + 1)
        if frame.size > self._settings.max_nodes:
            raise limit("limit.nodes", frame.pointer, "max_nodes", self._settings.max_nodes)
        if isinstance(frame.node, list):
            frame.node.append(value)
            return
        assert frame.key is not None
        if frame.key == "<<" and isinstance(value, (dict, list)):
            frame.merge.append(value)
        else:
            frame.node[frame.key] = value
        frame.key = None

    def _check_tag(self, tag: str | None) -> None:
        if tag is not None and tag not in _CORE_TAGS:
            raise reject("document.tag", self._place(), tag=shown(tag))


def _read_yaml(text: str, settings: CompilerSettings) -> Source:
    builder = _Builder(settings)
    try:
        for event in _events(text):
            builder.feed(event)
    except yaml.YAMLError as error:
        if "nesting depth" in str(error):  # libyaml's own guard (1000) may speak first: it reads ahead of its events
            raise limit("limit.depth", "", "max_depth", settings.max_depth) from error
        raise reject("document.syntax", detail=_explain(error)) from error
    return Source(builder.root, "yaml", tuple(builder.unquoted), builder.merged)


def _events(text: str) -> Iterator[Any]:
    return yaml.parse(text, Loader=yaml.CSafeLoader)


def _explain(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{problem[:200]}{place}"


def _is_text(text: str) -> bool:
    """Whether a plain scalar is a text in the core schema."""
    if text in _BOOLEAN or _NULL.match(text) or _NOT_JSON.match(text):
        return False
    return not (_INTEGER.match(text) or _OCTAL.match(text) or _HEXADECIMAL.match(text) or _FLOAT.match(text))


def _core(text: str, pointer: str) -> Json:
    """A plain scalar's value in the YAML 1.2 core schema."""
    if _NULL.match(text):
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _NOT_JSON.match(text):
        raise reject("document.value", pointer, detail=f"{text} is no JSON number")
    for pattern, base in ((_INTEGER, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
        if pattern.match(text):
            if len(text) > _DIGITS:
                raise reject("document.value", pointer, detail=f"an integer of {len(text)} digits")
            return int(text[2:] if base != 10 else text, base)
    if _FLOAT.match(text):
        number = float(text)
        if not math.isfinite(number):
            raise reject("document.value", pointer, detail="a number that is too large")
        return number
    return text
