"""What a success response is: items, one item, a bare envelope, nothing; and where every envelope field comes from.

Rules 3 and 4 of the inference. A field that is required and has no known source makes the answer not derivable; an
optional one is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent.compiler.ir import ColumnType, EnvelopeField, Meta, Wrapper
from agent.compiler.reading.grammar import ANNOTATIONS
from agent.compiler.schemas.validation import Validator
from agent.compiler.schemas.views import Schemas, View
from agent.compiler.words import fold, same_noun, singular, stem

Json = Any


class Kind(StrEnum):
    """What the body of a success holds."""

    NOTHING = "nothing"
    ITEMS = "items"
    ITEM = "item"
    OPEN = "open"  # the schema says nothing of it: anything, or any object
    OTHER = "other"  # a scalar, a map, a list of scalars


@dataclass(frozen=True, slots=True)
class Answer:
    """A success body, understood. `entity`: pointer of the schema of one item."""

    kind: Kind
    entity: str | None = None
    wrapper: Wrapper = field(default_factory=Wrapper)
    missing: tuple[str, ...] = ()  # required envelope fields without a source


LIST_NAMES = frozenset(
    [
        "items",
        "data",
        "results",
        "result",
        "content",
        "values",
        "value",
        "records",
        "entries",
        "list",
        "rows",
        "elements",
        "hits",
        "resources",
        "objects",
        "members",
        "docs",
    ]
)
ITEM_NAMES = frozenset(["data", "result", "item", "record", "object", "entity", "response", "payload", "attributes"])
_WITHIN = frozenset(["data", "result", "results", "response", "payload", "embedded", "body"])

# Folded name → source, tried in order of type.
_NUMBERS: dict[str, Meta] = {
    **dict.fromkeys(
        [
            "total",
            "totalcount",
            "totalelements",
            "totalitems",
            "totalresults",
            "totalhits",
            "totalrecords",
            "totalrows",
            "totalsize",
            "totalentries",
            "totalnumber",
            "numfound",
        ],
        Meta.TOTAL,
    ),
    **dict.fromkeys(["page", "pagenumber", "currentpage", "pageno", "pageindex", "number"], Meta.PAGE),
    **dict.fromkeys(["limit", "size", "pagesize", "perpage", "itemsperpage", "maxresults", "pagelimit"], Meta.LIMIT),
    **dict.fromkeys(["offset", "skip", "start", "startindex", "startat", "from"], Meta.OFFSET),
    **dict.fromkeys(["totalpages", "pages", "pagecount", "lastpage", "numpages", "pagestotal"], Meta.PAGES),
    **dict.fromkeys(["count", "numberofelements", "returned", "length", "resultcount", "itemcount"], Meta.COUNT),
    **dict.fromkeys(["statuscode", "status", "code", "httpstatus"], Meta.STATUS),
}
_TEXTS: dict[str, Meta] = {
    **dict.fromkeys(
        [
            "nextcursor",
            "nextpagetoken",
            "nexttoken",
            "continuationtoken",
            "cursor",
            "endcursor",
            "nextmarker",
            "marker",
            "continue",
        ],
        Meta.NEXT_CURSOR,
    ),
    **dict.fromkeys(["next", "nextlink", "nexturl", "nextpage", "nexthref", "nextpageurl"], Meta.NEXT_LINK),
    **dict.fromkeys(["requestid", "correlationid", "traceid"], Meta.REQUEST_ID),
    **dict.fromkeys(["message", "msg"], Meta.MESSAGE),
    **dict.fromkeys(["timestamp", "time"], Meta.NOW),
}
_FLAGS: dict[str, Meta] = dict.fromkeys(
    ["hasmore", "hasnext", "hasnextpage", "more", "moreresults", "truncated", "istruncated"], Meta.HAS_MORE
)
_TRUE = frozenset(["success", "ok", "successful"])
_FIXED = frozenset(
    ["status", "code", "apiversion", "kind", "object", "version", "type", "success", "ok", "error"]
)  # constants, if fixed
_CONTAINERS = frozenset(
    [
        "meta",
        "metadata",
        "pagination",
        "paging",
        "page",
        "pageinfo",
        "info",
        "pagemetadata",
        "listmeta",
        "cursor",
        "links",
        "pageable",
    ]
)
# A null here would say that the list ends.
_FORWARD = frozenset(name for name, source in _TEXTS.items() if source in (Meta.NEXT_LINK, Meta.NEXT_CURSOR))
_EMPTY_LISTS = frozenset(["errors", "warnings", "links", "facets"])
_GOOD_WORDS = ("success", "ok", "succeeded", "successful", "done", "completed")


class Responses:
    """Understands success bodies of one document."""

    def __init__(self, schemas: Schemas, validator: Validator) -> None:
        self._schemas = schemas
        self._validator = validator

    def read(self, pointer: str, noun: str) -> Answer:
        """The answer described by the schema at `pointer`; `noun` is the last static segment of the path."""
        view = self._schemas.entity(pointer)
        if view.is_array:
            return self._array(view)
        if _is_open(view):
            return Answer(Kind.OPEN)
        if not view.is_object:
            return Answer(Kind.OTHER)
        found = self._list(view, noun) or self._nested_list(view, noun) or self._item(view, noun)
        return found or Answer(Kind.ITEM, self._schemas.final(pointer))

    def _array(self, view: View) -> Answer:
        if view.items and self._schemas.entity(view.items).is_object:
            return Answer(Kind.ITEMS, self._schemas.final(view.items))
        return Answer(Kind.OTHER)

    def bare(self, pointer: str) -> tuple[Wrapper, tuple[str, ...]]:
        """An envelope without an item, and its required fields without a source."""
        fields, missing = self._fields(self._schemas.entity(pointer), (), None, many=False)
        return Wrapper(fields=fields, bare=True), missing

    def entity_name(self, pointer: str) -> str:
        """Name of the component that the schema at `pointer` is, "" for an inline one."""
        final = self._schemas.final(pointer)
        return final.rsplit("/", 1)[1] if final.startswith("/components/schemas/") and final.count("/") == 3 else ""

    def is_only_meta(self, view: View) -> bool:
        """Whether an object holds nothing but what envelopes hold: `{"message", "status"}`."""
        return all(self._is_meta(view, name) for name in view.properties)

    # --- shapes ---

    def _list(self, view: View, noun: str) -> Answer | None:
        arrays = [
            name
            for name, pointers in view.properties.items()
            if self._schemas.merged(pointers).is_array and self._object_items(pointers)
        ]
        named = [name for name in arrays if self._names_list(view, name, noun)]
        if len(named) != 1 or "id" in view.properties:
            return None
        name = named[0]
        # A list of what the path names may say more than envelopes usually do.
        is_beside = self._is_meta if not same_noun(name, noun) else self._is_meta_or_scalar
        if not all(is_beside(view, other) for other in view.properties if other != name):
            return None
        entity = self._object_items(view.properties[name])
        assert entity is not None
        fields, missing = self._fields(view, (), name, many=True)
        return Answer(Kind.ITEMS, entity, Wrapper((name,), fields), missing)

    def _object_items(self, pointers: tuple[str, ...]) -> str | None:
        """The schema of the items; of several the one that describes them (a generic wrapper says no more than `object`)."""
        items = (self._schemas.view(one).items for one in pointers)
        return next((self._schemas.final(one) for one in items if one and self._schemas.entity(one).is_object), None)

    def _names_list(self, view: View, name: str, noun: str) -> bool:
        entity = self._object_items(view.properties[name]) or ""
        component = self.entity_name(entity)
        return (
            len(view.properties) == 1
            or fold(name) in LIST_NAMES
            or same_noun(name, noun)
            or (component != "" and (same_noun(name, component) or same_noun(name, stem(component))))
        )

    def _nested_list(self, view: View, noun: str) -> Answer | None:
        for name, pointers in view.properties.items():
            inner = self._schemas.entity(pointers[0])
            if fold(name) not in _WITHIN or not inner.is_object or "id" in view.properties:
                continue
            found = self._list(inner, noun)
            if found and all(self._is_meta(view, other) for other in view.properties if other != name):
                fields, missing = self._fields(view, (), name, many=True)
                inner_fields = tuple(
                    EnvelopeField((name, *one.path), one.source, one.constant, one.nullable)
                    for one in found.wrapper.fields
                )
                wrapper = Wrapper((name, *found.wrapper.path), (*fields, *inner_fields))
                return Answer(Kind.ITEMS, found.entity, wrapper, (*missing, *found.missing))
        return None

    def _item(self, view: View, noun: str) -> Answer | None:
        objects = [name for name, pointers in view.properties.items() if self._names_item(name, pointers, noun)]
        if len(objects) != 1 or "id" in view.properties:
            return None
        name = objects[0]
        if not all(self._is_meta(view, other) for other in view.properties if other != name):
            return None
        fields, missing = self._fields(view, (), name, many=False)
        return Answer(Kind.ITEM, self._schemas.final(view.properties[name][0]), Wrapper((name,), fields), missing)

    def _names_item(self, name: str, pointers: tuple[str, ...], noun: str) -> bool:
        if not self._schemas.entity(pointers[0]).is_object:
            return False
        component = self.entity_name(pointers[0])
        return (
            fold(name) in ITEM_NAMES or same_noun(name, noun) or (component != "" and same_noun(name, stem(component)))
        )

    def _is_meta_or_scalar(self, view: View, name: str) -> bool:
        column = self._schemas.column(self._schemas.merged(view.properties[name]))
        return self._is_meta(view, name) or column is not ColumnType.JSON

    # --- fields ---

    def _is_meta(self, view: View, name: str) -> bool:
        """Whether a property belongs to an envelope rather than to a thing."""
        folded = fold(name)
        known = (_NUMBERS, _TEXTS, _FLAGS, _TRUE, _FIXED, _CONTAINERS)
        return any(folded in table for table in known) or folded in (
            "links",
            "errors",
            "warnings",
            "error",
            "facets",
            "previous",
            "prev",
            "first",
            "last",
            "prevlink",
            "previouscursor",
            "prevcursor",
            "hasprevious",
            "sort",
            "empty",
            "detail",
            "self",
            "href",
            "url",
            "path",
        )

    def _fields(
        self, view: View, path: tuple[str, ...], skip: str | None, *, many: bool
    ) -> tuple[tuple[EnvelopeField, ...], tuple[str, ...]]:
        fields: list[EnvelopeField] = []
        missing: list[str] = []
        for name, pointers in view.properties.items():
            if name == skip or self._schemas.flag(pointers, "writeOnly"):
                continue
            needed = name in view.required
            found = list(self._field((*path, name), pointers, many=many, needed=needed))
            if many and skip and not found and _counts(fold(name), skip) and self._is_number(pointers):
                found = [EnvelopeField((*path, name), Meta.TOTAL)]
            fields += found
            if not found and name in view.required:
                missing.append(".".join((*path, name)))
        missing += [name for name in view.required if name not in view.properties]
        if many and not any(one.source is Meta.TOTAL for one in fields):
            # `count` without a total beside it is the total, when the list is paged at all.
            fields = [
                EnvelopeField(one.path, Meta.TOTAL) if one.source is Meta.COUNT and len(fields) > 1 else one
                for one in fields
            ]
        return tuple(fields), tuple(missing)

    def _is_number(self, pointers: tuple[str, ...]) -> bool:
        types = self._schemas.merged(pointers).types
        return bool(types) and types <= {"integer", "number"}

    def _field(
        self, path: tuple[str, ...], pointers: tuple[str, ...], *, many: bool, needed: bool
    ) -> Iterator[EnvelopeField]:
        view = self._schemas.merged(pointers)
        source = self._source(fold(path[-1]), view)
        constant = self._constant(fold(path[-1]), pointers, view)
        paged = source in (
            Meta.TOTAL,
            Meta.PAGE,
            Meta.LIMIT,
            Meta.OFFSET,
            Meta.PAGES,
            Meta.COUNT,
            Meta.HAS_MORE,
            Meta.NEXT_CURSOR,
            Meta.NEXT_LINK,
        )
        if view.is_object and fold(path[-1]) in _CONTAINERS:
            inner, missing = self._fields(view, path, None, many=many)
            if not missing:
                yield from inner
        elif constant is not None and source is not Meta.STATUS:
            yield EnvelopeField(path, Meta.CONSTANT, constant[0])
        elif source is not None and (many or not paged):
            yield EnvelopeField(path, source, nullable=view.nullable)
        elif view.nullable and needed and fold(path[-1]) not in _FORWARD:
            yield EnvelopeField(path, Meta.CONSTANT, None, nullable=True)
        elif view.is_array and fold(path[-1]) in _EMPTY_LISTS and not view.facets.get("minItems"):
            yield EnvelopeField(path, Meta.CONSTANT, [])

    def _source(self, name: str, view: View) -> Meta | None:
        table: dict[str, Meta] = {}
        if view.types and view.types <= {"integer", "number"}:
            table = _NUMBERS
        elif view.types == {"boolean"}:
            table = _FLAGS
        elif (
            view.types == {"string"}
            and not view.variants
            and view.facets.keys().isdisjoint({"enum", "const", "pattern"})
        ):
            table = _TEXTS
        source = table.get(name)
        form = view.facets.get("format")
        wanted = {
            Meta.NOW: ("date-time",),
            Meta.REQUEST_ID: ("uuid", None),
            Meta.NEXT_LINK: ("uri-reference", None),  # ours has no host: it is no absolute URI
            Meta.NEXT_CURSOR: (None,),
            Meta.MESSAGE: (None,),
        }
        return source if source not in wanted or form in wanted[source] else None

    def _constant(self, name: str, pointers: tuple[str, ...], view: View) -> tuple[Json] | None:
        """A value that the document fixes: the only one allowed, or the default or example of a fixed field."""
        if view.constant is not None:
            return view.constant
        values = [value for value in view.facets.get("enum", ()) if value is not None]
        good = next((value for value in values if str(value).lower() in _GOOD_WORDS), None)
        if good is not None:
            return (good,)
        if view.types == {"boolean"} and name in _TRUE:
            return (True,)
        if view.types == {"boolean"} and name == "error":
            return (False,)
        for candidate in self._said(pointers, view) if name in _FIXED or name == "message" else ():
            if all(self._validator.valid(one, candidate) for one in pointers):
                return (candidate,)
        return (
            ("success",)
            if name == "status" and view.types == {"string"} and not values and "pattern" not in view.facets
            else None
        )

    def _said(self, pointers: tuple[str, ...], view: View) -> Iterator[Json]:
        if "default" in view.facets:
            yield view.facets["default"]
        for pointer in (*pointers, view.pointer):
            node = self._schemas.document.at(pointer)
            if isinstance(node, dict):
                yield from node.get("examples", ())
                if "example" in node:
                    yield node["example"]


def _is_open(view: View) -> bool:
    """Whether any value satisfies a schema, or any object: nobody described the answer."""
    said = view.properties or view.required or view.variants or view.cross or view.items or isinstance(view.extra, str)
    return not said and view.types <= {"object"} and view.facets.keys() <= ANNOTATIONS


def _counts(name: str, listed: str) -> bool:
    """Whether a field says how many of the listed there are: `articlesCount`, `totalArticles`."""
    nouns = (fold(listed), fold(singular(listed)))
    return any(name in (noun + "count", noun + "total", "total" + noun, "numberof" + noun) for noun in nouns)
