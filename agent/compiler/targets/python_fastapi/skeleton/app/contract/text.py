"""From the text of a request to JSON, strictly: the form is checked before anything is converted."""

import math
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from app.errors import Fault, Kind, Problem

Json = Any
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
    """JSON of a body. Raises Problem: malformed, a number out of range, a lone surrogate, U+0000."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as exc:
        raise Problem(Kind.INVALID, "The body is not valid JSON.", faults=[Fault("", str(exc)[:200])]) from exc
    # Only an escape can bring it in: raw control characters are refused above.
    if b"\\u0000" in body and any("\x00" in text for text in _texts(value)):
        raise Problem(Kind.INVALID, "Text must not contain U+0000.")
    return value


def _texts(value: Json) -> Iterable[str]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


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
