"""Is a value valid against a schema of the document? jsonschema, made safe against hostile schemas.

References are resolved by us, inside the document only, and counted: nested alternatives could otherwise take 2^n
steps. Patterns run only where `patterns` says that they end. Whoever gets None does not know, and must not claim.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from agent.compiler import patterns
from agent.compiler.schemas.document import Document

Json = Any

_BUDGET = 1_000  # references followed for one value
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\Z", re.ASCII)
_HOSTNAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]*\Z", re.ASCII)


class _Unknown(Exception):
    """It cannot be decided in reasonable time."""


class Validator:
    """Validation against schemas of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._steps = 0
        self._is_response = False
        keywords = {"$ref": self._ref, "pattern": _pattern, "format": _format, "required": self._required}
        kind: Any = extend(Draft202012Validator, keywords)  # type: ignore[no-untyped-call]  # jsonschema's own gap
        self._root = kind(dict(document.tree))

    def valid(self, pointer: str, value: Json) -> bool | None:
        """Whether `value` satisfies the schema at `pointer`; None when it cannot be decided safely."""
        schema = self._document.at(pointer)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            return None
        self._steps = 0
        try:
            return next(self._root.evolve(schema=schema).iter_errors(value), None) is None
        except (_Unknown, RecursionError):
            return None

    def shown(self, pointer: str, value: Json) -> bool | None:
        """`valid` for a response: what is write-only is required of requests alone."""
        self._is_response = True
        try:
            return self.valid(pointer, value)
        finally:
            self._is_response = False

    def _required(self, validator: Any, names: list[str], instance: Json, schema: Json) -> Iterator[ValidationError]:
        if not isinstance(instance, dict):
            return
        for name in names:
            if name not in instance and not (self._is_response and self._is_write_only(schema, name)):
                yield ValidationError("lacks a property")

    def _is_write_only(self, schema: Json, name: str) -> bool:
        own = schema.get("properties", {}).get(name)
        if not isinstance(own, dict):
            return False
        referred = self._document.at(unquote(own["$ref"][1:])) if "$ref" in own else None
        return any(isinstance(one, dict) and one.get("writeOnly") is True for one in (own, referred))

    def _ref(self, validator: Any, reference: str, instance: Json, schema: Json) -> Iterator[ValidationError]:
        self._steps += 1
        if self._steps > _BUDGET:
            raise _Unknown
        node = self._document.at(unquote(reference[1:]))
        yield from validator.descend(instance, node if isinstance(node, dict | bool) else {})


def _pattern(validator: Any, pattern: str, instance: Json, schema: Json) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    found = patterns.matches(pattern, instance)
    if found is None:
        raise _Unknown
    if not found:
        yield ValidationError("does not match")


def _format(validator: Any, form: str, instance: Json, schema: Json) -> Iterator[ValidationError]:
    if isinstance(instance, str) and form in _FORMATS and not _FORMATS[form](instance):
        yield ValidationError(f"is no {form}")


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _date_time(text: str) -> bool:
    return bool(_DATE_TIME.match(text)) and _parses(datetime.fromisoformat)(re.sub(r"(\.\d{6})\d+", r"\1", text))


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date": lambda text: len(text) == len("2000-01-01") and _parses(date.fromisoformat)(text),
    "date-time": _date_time,
    "uuid": lambda text: len(text) == len(str(UUID(int=0))) and _parses(UUID)(text),
    "email": lambda text: bool(_EMAIL.match(text)),
    "hostname": lambda text: bool(_HOSTNAME.match(text)),
    "uri": lambda text: bool(_URI.match(text)),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
}
