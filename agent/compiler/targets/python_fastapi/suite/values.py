"""Values for tests: some that a schema takes and that differ, one that it refuses, endless ones for unique properties.

Every value was tried against the document's own schema. What cannot be verified is not given out.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agent.compiler import ir
from agent.compiler.schemas.document import Document
from agent.compiler.schemas.validation import Validator
from agent.compiler.schemas.views import Schemas, View
from agent.compiler.targets.python_fastapi.suite.model import Code

Json = Any
Pointers = tuple[str, ...]

_WORDS = ("alpha", "beta", "gamma")
# Ascending in every collation that PostgreSQL may sort by.
_FORMATS: dict[str, tuple[Json, ...]] = {
    "date": ("2025-01-15", "2025-02-15", "2025-03-15"),
    "date-time": ("2025-01-15T09:30:00Z", "2025-02-15T09:30:00Z", "2025-03-15T09:30:00Z"),
    "time": ("09:00:00Z", "10:00:00Z", "11:00:00Z"),
    "uuid": tuple(f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3)),
    "email": tuple(f"{word}@example.com" for word in _WORDS),
    "uri": tuple(f"https://example.com/{word}" for word in _WORDS),
    "url": tuple(f"https://example.com/{word}" for word in _WORDS),
    "uri-reference": tuple(f"/{word}" for word in _WORDS),
    "hostname": tuple(f"{word}.example.com" for word in _WORDS),
    "ipv4": ("192.0.2.1", "192.0.2.2", "192.0.2.3"),
    "byte": ("YWxwaGE=", "YmV0YQ==", "Z2FtbWE="),
}
_TRIED = (1000, 1001, 2345, 9999)  # numbers that a series must take


class Values:
    """Values for schemas of one document."""

    def __init__(self, api: ir.Api) -> None:
        document = Document(api.document)
        self.schemas = Schemas(document)
        self._validator = Validator(document)

    def takes(self, pointers: Iterable[str], value: Json) -> bool:
        """Whether a value surely satisfies all these schemas."""
        return all(self._validator.valid(pointer, value) is True for pointer in pointers)

    def properties(self, pointer: str, unwrap: Sequence[str] = ()) -> View:
        """The view of the entity inside a body; its `properties` are pointers by name."""
        view = self.schemas.entity(pointer)
        for name in unwrap:
            view = self.schemas.entity(view.properties[name][0])
        return view

    def has_alternatives(self, pointer: str, unwrap: Sequence[str] = ()) -> bool:
        """Whether a body, or what lies on the way to the entity inside, is one of several things (or null)."""
        places = [pointer, *(self.properties(pointer, unwrap[:n]).properties[name][0] for n, name in enumerate(unwrap))]
        nodes = (self.schemas.document.follow(place)[1] for place in places)
        return any(isinstance(node, dict) and node.keys() & {"anyOf", "oneOf"} for node in nodes)

    def items(self, pointer: str, path: Sequence[str]) -> str | None:
        """The schema of the items of a list inside its envelope."""
        view = self.schemas.entity(pointer)
        for name in path:
            if name not in view.properties:
                return None
            view = self.schemas.entity(view.properties[name][0])
        return view.items

    def distinct(self, pointers: Pointers, sample: Json) -> tuple[Json, ...]:
        """Up to three values that the schemas take, ascending; only `sample` where no other is found."""
        view = self.schemas.merged(pointers)
        best: tuple[Json, ...] = ()
        for family in self._families(view, sample):
            valid = tuple(value for value in family if self.takes(pointers, value))[:3]
            if len(valid) > len(best):
                best = valid
            if len(best) == 3:
                break
        return best if len(best) > 1 else (sample,)

    def _families(self, view: View, sample: Json) -> Iterator[Sequence[Json]]:
        if "const" in view.facets:
            return
        if "enum" in view.facets:
            members = [value for value in view.facets["enum"] if value is not None]
            yield sorted(members) if _is_sortable(members) else members
        elif isinstance(sample, bool):
            yield (False, True)
        elif isinstance(sample, int | float):
            step = view.facets.get("multipleOf", 1)
            yield (1, 2, 3) if step == 1 else (step, 2 * step, 3 * step)
            for first in (0, -1, -2):
                yield tuple(sample + (first + place) * step for place in range(3))
        elif isinstance(sample, str):
            yield from _texts(sample, view)
        elif isinstance(sample, list) and view.items is not None and sample:
            yield [[value] for value in self.distinct((view.items,), sample[0])]

    def ascending(self, pointers: Pointers, sample: Json) -> tuple[Json, ...]:
        """As `distinct`, but () where nobody can tell how PostgreSQL sorts them."""
        found = self.distinct(pointers, sample)
        enumerated = "enum" in self.schemas.merged(pointers).facets
        return found if len(found) > 1 and (not enumerated or _is_sortable(found)) else ()

    def element(self, pointers: Pointers) -> Pointers:
        """The schema of an array's elements, () where there is none."""
        view = self.schemas.merged(pointers)
        return (view.items,) if view.items is not None else ()

    def refused(self, pointers: Pointers) -> tuple[Json, ...]:
        """One value that the schemas surely refuse, breaking what they say rather than their type; () if none is known."""
        view = self.schemas.merged(pointers)
        facets = view.facets
        candidates: list[Json] = []
        if facets.get("minLength") == 1:
            candidates.append("")
        candidates += ["no such value"] if "enum" in facets and "string" in view.types else []
        if isinstance(facets.get("minimum"), int | float) and math.isfinite(facets["minimum"]):
            candidates.append(facets["minimum"] - 1)
        if isinstance(facets.get("maximum"), int | float) and abs(facets["maximum"]) < 2**31:
            candidates.append(facets["maximum"] + 1)
        candidates += ["not a value"] if "format" in facets or "pattern" in facets else []
        if isinstance(facets.get("maxLength"), int) and facets["maxLength"] < 20:
            candidates.append("x" * (facets["maxLength"] + 1))
        candidates += [17, "text", [], {}]
        for value in candidates:
            if all(self._validator.valid(pointer, value) is False for pointer in pointers[:1]):
                return (value,)
        return ()

    def series(self, pointers: Pointers, sample: Json) -> Code | None:
        """An expression over `next(numbers)` that gives another valid value every time."""
        number = "next(numbers)"
        if isinstance(sample, int | float) and not isinstance(sample, bool):
            return Code(number) if all(self.takes(pointers, n) for n in _TRIED) else None
        if not isinstance(sample, str):
            return None
        if re.fullmatch(r"[0-9a-f-]{36}", sample):
            return Code("str(uuid4())") if self.takes(pointers, "3f2504e0-4f89-41d3-9a0c-0305e82c3301") else None
        name, at, domain = sample.partition("@")
        stem = re.sub(r"[0-9]+\Z", "", sample)
        for before, after in (
            *([(name, at + domain)] if at else []),
            (sample, ""), (f"{sample}-", ""), (stem, ""), (sample[:-4], ""), ("a", ""), ("", ""),
        ):  # fmt: skip
            if sample.isascii() and all(self.takes(pointers, f"{before}{n}{after}") for n in _TRIED):
                return Code(f'f"{_literal(before)}{{{number}}}{_literal(after)}"')
        return None


def _literal(text: str) -> str:
    """The inside of an f-string in double quotes, for a text in ASCII."""
    return json.dumps(text)[1:-1].replace("{", "{{").replace("}", "}}")


def _is_sortable(values: Sequence[Json]) -> bool:
    """Whether every collation of PostgreSQL sorts these values as Python does."""
    if all(isinstance(value, str) for value in values):
        return all(value.isascii() and value.isalnum() and value.islower() for value in values)
    return all(isinstance(value, int | float) for value in values)


def _texts(sample: str, view: View) -> Iterator[Sequence[Json]]:
    """Families of three texts, the readable ones first."""
    form = str(view.facets.get("format"))
    if form in _FORMATS:
        yield _FORMATS[form]
        return
    yield _WORDS
    high = view.facets.get("maxLength", 10_000)
    if isinstance(high, int) and high > 0:
        yield [f"{sample[: high - 1]}{end}" for end in "abc"]
    if sample[-1:].isdigit():
        yield [f"{sample[:-1]}{end}" for end in "123"]
    if sample and len(sample) <= 50:
        yield [letter * len(sample) for letter in "abc"]
        yield [letter * len(sample) for letter in "ABC"]
        yield [digit * len(sample) for digit in "123"]
