"""What a path says: prefix, versions, ancestors, collection, item, lookups. Rules 1, 2 and 8.

A *group* is all operations on one collection and its items: `/owners` and `/owners/{ownerId}`. Its key is the path of
the collection with parameters written as `{}`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.compiler.schemas.document import RawOperation
from agent.compiler.words import fold

_VERSION = re.compile(r"v\d+(?:[._]\d+)*(?:(?:alpha|beta)\d*)?\Z", re.IGNORECASE)
_PARAMETER = re.compile(r"\{([^{}/]+)\}\Z")
_ODD = re.compile(r"[{}?#\s\"'<>\\^`|\x00-\x1f]|//|/\.{1,2}(/|$)")
BULK_WORDS = frozenset({"bulk", "batch"})
LIST_WORDS = frozenset({"all", "list", "search", "query", "find"})
_PREFIXES = frozenset({"api", "rest", "apis"})

GroupKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A path parameter and the collection that it picks from."""

    collection: GroupKey
    parameter: str
    field: str | None = None  # `/x/name/{name}`: the static segment that names a property


@dataclass(frozen=True, slots=True)
class Route:
    """A path, understood as far as its text goes."""

    collection: GroupKey  # of the last thing
    steps: tuple[Step, ...]  # every parameter, in order
    ends_with_item: bool
    word: str | None = None  # `all`, `search`… taken off the end
    odd: str | None = None  # why the path cannot be served or understood
    mixed: bool = False  # a segment mixes text and parameter: `/things/{id}:cancel`

    @property
    def noun(self) -> str:
        """The last static segment of the collection."""
        return next((segment for segment in reversed(self.collection) if segment != "{}"), "")

    @property
    def ancestors(self) -> tuple[Step, ...]:
        """The steps before the thing itself."""
        return self.steps[:-1] if self.ends_with_item else self.steps


@dataclass(slots=True)
class Group:
    """Operations on one collection: at the collection itself and at its items."""

    key: GroupKey
    at_collection: dict[str, RawOperation] = field(default_factory=dict)  # method → operation
    at_item: dict[str, RawOperation] = field(default_factory=dict)
    lookups: list[RawOperation] = field(default_factory=list)  # `/x/name/{name}` and the like
    item_parameters: list[str] = field(default_factory=list)

    @property
    def noun(self) -> str:
        """The last static segment."""
        return next((segment for segment in reversed(self.key) if segment != "{}"), "")

    @property
    def is_nested(self) -> bool:
        """Whether it lies below an item of another collection."""
        return "{}" in self.key

    def operations(self) -> list[RawOperation]:
        """All of them."""
        return [*self.at_collection.values(), *self.at_item.values(), *self.lookups]


def routes(operations: Sequence[RawOperation]) -> dict[str, Route]:
    """Path → route, for all paths of a document (what they share is taken off)."""
    paths = list(dict.fromkeys(operation.path for operation in operations))
    split = {path: _segments(path) for path in paths}
    shared = _shared_prefix(list(split.values()))
    known = {tuple(_template(segments[shared:])) for segments in split.values()}
    return {path: _route(path, segments[shared:], known) for path, segments in split.items()}


def groups(operations: Sequence[RawOperation], found: dict[str, Route]) -> dict[GroupKey, Group]:
    """The operations by collection, in the order of the document."""
    made: dict[GroupKey, Group] = {}
    for operation in operations:
        route = found[operation.path]
        if route.odd or route.mixed or not route.collection:
            continue
        group = made.setdefault(route.collection, Group(route.collection))
        _put(group, operation, route)
    return made


def _put(group: Group, operation: RawOperation, route: Route) -> None:
    if route.ends_with_item and route.steps[-1].field is not None:
        group.lookups.append(operation)
        return
    if any(step.field is not None for step in route.steps):
        group.lookups.append(operation)
        return
    place = group.at_item if route.ends_with_item else group.at_collection
    place.setdefault(operation.method, operation)
    if route.ends_with_item and route.steps[-1].parameter not in group.item_parameters:
        group.item_parameters.append(route.steps[-1].parameter)


def _segments(path: str) -> list[str]:
    # The ending says how a thing is told, not what it is: `/things/{id}.json`.
    segments = [segment for segment in path.removesuffix(".json").split("/") if segment]
    kept = [segment for segment in segments if not _VERSION.match(segment)]
    return kept or segments


def _template(segments: Sequence[str]) -> list[str]:
    return ["{}" if _PARAMETER.match(segment) else segment for segment in segments]


def _shared_prefix(paths: list[list[str]]) -> int:
    """How many leading segments all paths share and can do without."""
    count = 0
    while all(len(path) > count + 1 and "{" not in path[count] and "{" not in path[count + 1] for path in paths):
        if len({path[count] for path in paths}) != 1 or (len(paths) == 1 and paths[0][count].lower() not in _PREFIXES):
            break
        count += 1
    return count


def _route(path: str, segments: list[str], known: set[tuple[str, ...]]) -> Route:
    odd = _odd(path)
    if odd:
        return Route((), (), False, odd=odd)
    mixed = any("{" in segment and not _PARAMETER.match(segment) for segment in segments)
    word = None
    # `/job/all` is the list of jobs, unless `all` has children of its own.
    if len(segments) > 1 and segments[-1].lower() in LIST_WORDS | BULK_WORDS and "{" not in segments[-2]:
        word, segments = segments[-1], segments[:-1]
    steps, collection = _steps(segments, known)
    ends_with_item = bool(segments) and _PARAMETER.match(segments[-1]) is not None
    if ends_with_item and steps:
        collection = list(steps[-1].collection)
    return Route(tuple(collection), tuple(steps), ends_with_item, word, None, mixed)


def _odd(path: str) -> str | None:
    names = re.findall(r"\{([^{}/]*)\}", path)
    if len(set(names)) < len(names):
        return "the path names a parameter twice"
    if _ODD.search(re.sub(r"\{[^{}/]+\}", "x", path)):
        return "the path holds characters that a URL path cannot have"
    return None


def _steps(segments: list[str], known: set[tuple[str, ...]]) -> tuple[list[Step], list[str]]:
    steps: list[Step] = []
    collection: list[str] = []
    for segment in segments:
        match = _PARAMETER.match(segment)
        if match is None:
            collection.append(segment)
            continue
        name = match.group(1)
        if _is_lookup(collection, name, known):
            field_name = collection.pop()
            steps.append(Step(tuple(collection), name, field_name))
        else:
            steps.append(Step(tuple(collection), name))
            collection.append("{}")
    return steps, collection


def _is_lookup(collection: list[str], parameter: str, known: set[tuple[str, ...]]) -> bool:
    """`/jobs/name/{name}`: the segment repeats the parameter, and is no collection itself."""
    if len(collection) < 2 or collection[-2] == "{}":
        return False
    same = fold(collection[-1]) in (fold(parameter), "by" + fold(parameter))
    return same and tuple(collection) not in known
