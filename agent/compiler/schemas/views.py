"""What a schema says, references and `allOf` merged: its facets, its properties, and whether one fits into another.

In-place cycles were refused by normalisation, so that the recursion here ends; results are kept per pointer, so that
nested compositions cost no more than their number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from agent.compiler.diagnostics import child
from agent.compiler.ir import ColumnType
from agent.compiler.reading.grammar import ANNOTATIONS
from agent.compiler.schemas.document import Document

Json = Any

_ANNOTATIONS = ANNOTATIONS | {"$comment"}
# Constraints that tie properties to one another: a partial change could break them.
_CROSS = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "dependentSchemas",
        "propertyNames",
        "patternProperties",
        "unevaluatedProperties",
    }
)
_VARIANTS = 50  # alternatives of one schema that are looked into
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_ASSERTED_FORMATS = frozenset({"date", "date-time", "time", "uuid", "email", "uri", "ipv4", "ipv6", "hostname"})
_TEXT_TYPES = {"date": ColumnType.DATE, "date-time": ColumnType.DATETIME, "uuid": ColumnType.UUID}


@dataclass(frozen=True, slots=True)
class View:
    """A schema with everything merged that applies to the same value.

    `properties`: name → pointers of its schemas (several where `allOf` parts speak of the same name).
    """

    pointer: str  # references followed as far as they are plain
    types: frozenset[str] = frozenset()  # empty: any; without "null"
    nullable: bool = False
    facets: Mapping[str, Json] = field(default_factory=dict)  # scalar keywords, strictest wins
    properties: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    items: str | None = None
    extra: str | bool | None = None  # additionalProperties: pointer, True, False, or None when not said
    variants: tuple[str, ...] = ()  # oneOf / anyOf with more than "or null"
    cross: bool = False

    @property
    def is_object(self) -> bool:
        """An object with described properties."""
        return bool(self.properties) and self.types <= {"object"}

    @property
    def is_array(self) -> bool:
        """An array, and nothing else."""
        return self.types == {"array"} or (not self.types and self.items is not None)

    @property
    def constant(self) -> tuple[Json] | None:
        """The only value that is allowed, in a tuple; None if there are several."""
        if "const" in self.facets:
            return (self.facets["const"],)
        values = [value for value in self.facets.get("enum", ()) if value is not None]
        return (values[0],) if len(values) == 1 else None


class Schemas:
    """Views by pointer."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._finals: dict[str, str] = {}
        self._views: dict[str, View] = {}
        self._entities: dict[str, View] = {}
        self._fits: dict[tuple[str, str], bool] = {}
        self._shown_whole: set[str] = set()  # pointers of schemas with nothing write-only inside

    def final(self, pointer: str) -> str:
        """Follow references whose siblings, if any, only annotate."""
        if pointer not in self._finals:
            self._finals[pointer] = self._follow(pointer)
        return self._finals[pointer]

    def _follow(self, pointer: str) -> str:
        node = self.document.at(pointer)
        while isinstance(node, dict) and "$ref" in node and node.keys() - {"$ref"} <= _ANNOTATIONS:
            pointer = unquote(node["$ref"][1:])
            node = self.document.at(pointer)
        return pointer

    def view(self, pointer: str) -> View:
        """The merged view of the schema at `pointer`."""
        pointer = self.final(pointer)
        if pointer not in self._views:
            self._views[pointer] = self._build(pointer)
        return self._views[pointer]

    def entity(self, pointer: str) -> View:
        """The view with the properties of all variants: those of `oneOf`, `anyOf` and of a discriminator's mapping."""
        view = self.view(pointer)
        if view.pointer not in self._entities:
            self._entities[view.pointer] = self._with_variants(view)
        return self._entities[view.pointer]

    def _with_variants(self, view: View) -> View:
        if len(view.variants) > _VARIANTS:
            return view
        inside = [self.view(one) for one in view.variants]
        node = self.document.at(view.pointer)
        mapping = node.get("discriminator", {}).get("mapping", {}) if isinstance(node, dict) else {}
        subtypes = [self.view(unquote(target[1:])) for target in dict.fromkeys(mapping.values())]
        if not inside and not subtypes:
            return view
        if inside and not all(one.is_object for one in inside):
            return view
        properties = dict(view.properties)
        for one in (*inside, *subtypes):
            for name, pointers in one.properties.items():
                properties[name] = _unite(properties.get(name, ()), pointers)
        required = view.required
        if inside:
            required |= frozenset.intersection(*(one.required for one in inside))
        return replace(
            view,
            properties=properties,
            required=required,
            types=view.types | {"object"},
            cross=view.cross or bool(inside),
        )

    def _build(self, pointer: str) -> View:
        node = self.document.at(pointer)
        if not isinstance(node, dict):
            never: dict[str, Json] = {"not": {}} if node is False else {}
            return View(pointer, facets=never, properties={}, cross=node is False)
        view = _own(pointer, node)
        for part in self._parts(pointer, node):
            view = _merge(view, self.view(part))
        return self._alternatives(view, pointer, node)

    def _parts(self, pointer: str, node: Mapping[str, Json]) -> Iterable[str]:
        if "$ref" in node:
            yield unquote(node["$ref"][1:])
        for index in range(len(node.get("allOf", ()))):
            yield child(pointer, "allOf", index)

    def _alternatives(self, view: View, pointer: str, node: Mapping[str, Json]) -> View:
        for key in ("oneOf", "anyOf"):
            if key not in node:
                continue
            places = [child(pointer, key, index) for index in range(len(node[key]))]
            real = [place for place in places if not _only_null(self.document.at(place))]
            nullable = view.nullable or len(real) < len(places)
            if len(real) == 1:
                view = replace(_merge(view, self.view(real[0])), nullable=nullable)
            else:
                view = replace(view, variants=(*view.variants, *real), nullable=nullable)
        return view

    # --- types ---

    def column(self, view: View) -> ColumnType:
        """How a value is stored; everything that is no plain scalar is JSON."""
        if view.variants or len(view.types) != 1:
            return ColumnType.JSON
        kind = next(iter(view.types))
        form = view.facets.get("format")
        if kind == "integer":
            return {"int32": ColumnType.INTEGER, "int64": ColumnType.BIGINT}.get(str(form), ColumnType.NUMERIC)
        if kind == "number":
            return ColumnType.FLOAT if form in ("float", "double") else ColumnType.NUMERIC
        if kind == "boolean":
            return ColumnType.BOOLEAN
        if kind != "string":
            return ColumnType.JSON
        # A typed column would not give back the very text that an enumeration or a pattern demands.
        exact = any(key in view.facets for key in ("enum", "const", "pattern"))
        return ColumnType.STRING if exact else _TEXT_TYPES.get(str(form), ColumnType.STRING)

    # --- does what is written satisfy what is read? ---

    def fits(self, written: str, read: str) -> bool:
        """Whether every value of the schema `written` surely satisfies the schema `read` (null left aside)."""
        written, read = self.final(written), self.final(read)
        if written == read:
            return True
        key = (written, read)
        if key not in self._fits:
            self._fits[key] = True  # holds while we look: recursive schemas compare to themselves
            self._fits[key] = self._compare(self.view(written), self.view(read))
        return self._fits[key]

    def _compare(self, written: View, read: View) -> bool:
        if self._same_text(written.pointer, read.pointer):
            return True
        if read.cross:
            return False
        if read.variants and not any(self.fits(written.pointer, one) for one in read.variants):
            return False
        if written.variants:
            return all(self.fits(one, read.pointer) for one in written.variants)
        return (
            _types_fit(written.types, read.types)
            and _facets_fit(written.facets, read.facets)
            and self._objects_fit(written, read)
            and self._items_fit(written, read)
        )

    def _same_text(self, one: str, other: str) -> bool:
        return bool(_plain(self.document.at(one)) == _plain(self.document.at(other)))

    def _objects_fit(self, written: View, read: View) -> bool:
        if not read.required <= written.required:
            return False
        if read.extra is False and not (written.extra is False and written.properties.keys() <= read.properties.keys()):
            return False
        if isinstance(read.extra, str) and not self._extras_fit(written, read):
            return False
        return all(
            self.all_fit(written.properties[name], pointers) and self._null_fits(written.properties[name], pointers)
            for name, pointers in read.properties.items()
            if name in written.properties
        )

    def _extras_fit(self, written: View, read: View) -> bool:
        assert isinstance(read.extra, str)
        others = [pointers for name, pointers in written.properties.items() if name not in read.properties]
        if not all(self.all_fit(pointers, (read.extra,)) for pointers in others):
            return False
        if self.view(read.extra).types or self.view(read.extra).facets:
            return written.extra is False or (isinstance(written.extra, str) and self.fits(written.extra, read.extra))
        return True

    def _items_fit(self, written: View, read: View) -> bool:
        if read.items is None or (written.types and "array" not in written.types):
            return True
        return (
            written.items is not None
            and self.fits(written.items, read.items)
            and self._null_fits((written.items,), (read.items,))
        )

    def _null_fits(self, written: tuple[str, ...], read: tuple[str, ...]) -> bool:
        return self.nullable(read) or not self.nullable(written)

    def all_fit(self, written: tuple[str, ...], read: tuple[str, ...]) -> bool:
        """`fits` for properties with several schemas: each that is read must be satisfied by one that is written."""
        return all(any(self.fits(one, other) for one in written) for other in read)

    def write_only_within(self, pointers: tuple[str, ...]) -> str | None:
        """The name of a write-only property somewhere inside; None if there is none."""
        pending = [one for one in map(self.final, pointers) if one not in self._shown_whole]
        seen = {*pending}
        while pending:
            view = self.view(pending.pop())
            hidden = next((name for name, inner in view.properties.items() if self.flag(inner, "writeOnly")), None)
            if hidden is not None:
                return hidden
            extra = [view.extra] if isinstance(view.extra, str) else []
            items = [view.items] if view.items else []
            inside = [one for inner in view.properties.values() for one in inner]
            for one in map(self.final, (*inside, *items, *extra, *view.variants)):
                if one not in seen and one not in self._shown_whole:
                    seen.add(one)
                    pending.append(one)
        self._shown_whole |= seen  # all that was looked at hides nothing: no later search goes there
        return None

    def nullable(self, pointers: tuple[str, ...]) -> bool:
        """Whether null is a legal value under all these schemas."""
        return all(
            self.view(one).nullable
            or (
                not self.view(one).types
                and not self.view(one).variants
                and not self.view(one).facets.keys() & {"enum", "const"}
            )
            for one in pointers
        )

    def merged(self, pointers: tuple[str, ...]) -> View:
        """One view of a property that several schemas describe."""
        view = self.view(pointers[0])
        for one in pointers[1:]:
            view = _merge(view, self.view(one))
        return view

    def flag(self, pointers: tuple[str, ...], name: str) -> bool:
        """`readOnly` or `writeOnly`, on the property itself or on what it refers to."""
        return any(
            self.document.at(one).get(name) is True for one in pointers if isinstance(self.document.at(one), dict)
        ) or any(self.view(one).facets.get(name) is True for one in pointers)


# --- merging ----------------------------------------------------------------------------------------------------------


def _own(pointer: str, node: Mapping[str, Json]) -> View:
    types = node.get("type")
    listed = frozenset(types if isinstance(types, list) else [types] if types else [])
    structural = {
        "type",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "$ref",
        "$defs",
        "definitions",
        "discriminator",
    }
    return View(
        pointer,
        types=listed - {"null"},
        nullable="null" in listed,
        facets={key: value for key, value in node.items() if key not in structural},
        properties={name: (child(pointer, "properties", name),) for name in node.get("properties", {})},
        required=frozenset(node.get("required", ())),
        items=child(pointer, "items") if "items" in node else None,
        extra=_extra(pointer, node),
        cross=bool(node.keys() & _CROSS),
    )


def _extra(pointer: str, node: Mapping[str, Json]) -> str | bool | None:
    extra = node.get("additionalProperties")
    return child(pointer, "additionalProperties") if isinstance(extra, dict) else extra


def _merge(view: View, part: View) -> View:
    """Both apply: the narrower types, all properties, the stricter facets (the first speaker's annotations win)."""
    types = view.types & part.types if view.types and part.types else view.types | part.types
    if view.types and part.types and not types:
        types = part.types if "integer" in part.types else view.types
    properties = dict(view.properties)
    for name, pointers in part.properties.items():
        properties[name] = _unite(properties.get(name, ()), pointers)
    untyped = not view.types and not view.nullable
    return replace(
        view,
        types=types,
        nullable=part.nullable if untyped else view.nullable and (part.nullable or not part.types),
        facets={**part.facets, **view.facets},
        properties=properties,
        required=view.required | part.required,
        items=view.items or part.items,
        extra=view.extra if view.extra is not None else part.extra,
        variants=(*view.variants, *part.variants),
        cross=view.cross or part.cross,
    )


def _unite(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def _only_null(node: Json) -> bool:
    return isinstance(node, dict) and (node.get("type") == "null" or node.get("enum") == [None])


def _plain(node: Json) -> Json:
    """A schema without annotations, one level: enough to see that two inline scalars are the same."""
    if not isinstance(node, dict):
        return node
    return {key: value for key, value in node.items() if key not in _ANNOTATIONS and not key.startswith("x-")}


def _types_fit(written: frozenset[str], read: frozenset[str]) -> bool:
    if not read:
        return True
    return bool(written) and all(one in read or (one == "integer" and "number" in read) for one in written)


def _facets_fit(written: Mapping[str, Json], read: Mapping[str, Json]) -> bool:
    return _values_fit(written, read) and _bounds_fit(written, read) and _texts_fit(written, read)


def _values_fit(written: Mapping[str, Json], read: Mapping[str, Json]) -> bool:
    if "const" not in read and "enum" not in read:
        return True
    allowed = [read["const"]] if "const" in read else [*read["enum"], None]
    given = [written["const"]] if "const" in written else written.get("enum")
    return given is not None and all(value in allowed for value in given)


def _bounds_fit(written: Mapping[str, Json], read: Mapping[str, Json]) -> bool:
    if "enum" in written or "const" in written:
        return True
    lower = all(key in written and written[key] >= read[key] for key in _LOWER if key in read)
    return lower and all(key in written and written[key] <= read[key] for key in _UPPER if key in read)


def _texts_fit(written: Mapping[str, Json], read: Mapping[str, Json]) -> bool:
    if "enum" in written or "const" in written:
        return True
    same = all(written.get(key) == read[key] for key in ("pattern", "multipleOf", "contentEncoding") if key in read)
    form = read.get("format")
    unique = not read.get("uniqueItems") or bool(written.get("uniqueItems"))
    return same and unique and (form not in _ASSERTED_FORMATS or written.get("format") == form)
