"""From the text of a request to JSON, strictly: the form is checked before anything is converted."""

import math
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from app.errors import Fault, Kind, Problem

Json = Any
# A string of valid JSON; what is left without them has one colon for each member of an object.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?\Z")


def readings(text: str, types: frozenset[str]) -> list[Json]:
    """What a text may mean as a scalar, most specific first. Empty: it has no permitted form."""
    found: list[Json] = []
    if types & {"integer", "number"} and _INTEGER.match(text):
        found.append(int(text))
    elif "number" in types and _NUMBER.match(text) and math.isfinite(float(text)):
        found.append(float(text))
    if "boolean" in types and text in ("true", "false"):
        found.append(text == "true")
    if "string" in types:
        found.append(text)
    if "null" in types and text in ("", "null"):
        found.append(None)
    return found


def decode(body: bytes) -> Json:
    """JSON of a body. Raises Problem: malformed, a number out of range, a lone surrogate, U+0000, a repeated name."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as exc:
        raise Problem(Kind.INVALID, "The body is not valid JSON.", faults=[Fault("", str(exc)[:200])]) from exc
    # Parsers differ in which of two members of one name they take (RFC 8259, 4): who checks and who acts might disagree.
    if _STRING.sub(b"", body).count(b":") != sum(len(item) for item in _nested(value) if isinstance(item, dict)):
        raise Problem(Kind.INVALID, "An object of the body has two members of one name.")
    # Only an escape can bring it in: raw control characters are refused above.
    if b"\\u0000" in body and any("\x00" in text for text in _texts(value)):
        raise Problem(Kind.INVALID, "Text must not contain U+0000.")
    return value


def _nested(value: Json) -> Iterable[Json]:
    """The objects and arrays of a value, itself included; without recursion: a body may be deep."""
    waiting = [value] if isinstance(value, dict | list) else []
    while waiting:
        item = waiting.pop()
        yield item
        parts = item.values() if isinstance(item, dict) else item
        waiting.extend(part for part in parts if isinstance(part, dict | list))


def _texts(value: Json) -> Iterable[str]:
    """The texts of a value, names of members included."""
    if isinstance(value, str):
        yield value
    for item in _nested(value):
        parts = (*item, *item.values()) if isinstance(item, dict) else item
        yield from (part for part in parts if isinstance(part, str))


def pairs_of(query: bytes) -> list[tuple[str, str]]:
    """Decoded (name, text) pairs of a query string or form. Raises Problem: not UTF-8, U+0000, too many."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except (UnicodeDecodeError, ValueError) as exc:
        raise Problem(Kind.INVALID, "The query or form is not valid UTF-8.") from exc
    refuse_nul(text for pair in pairs for text in pair)
    return pairs


def refuse_nul(texts: Iterable[str]) -> None:
    """PostgreSQL's text cannot hold U+0000."""
    if any("\x00" in text for text in texts):
        raise Problem(Kind.INVALID, "Text must not contain U+0000.")
