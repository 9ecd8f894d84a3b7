"""Typed messages → the bytes and headers of a record, always in binary mode."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import orjson

from contracts.base import Payload
from contracts.envelope import Envelope, MessageType

JSON = b"application/json"
SEQUENCE_DIGITS = 10  # zero-padded, so that text order is number order (CloudEvents extension `sequence`)

# The fixed order of the headers that we write: required attributes, optional ones, extensions.
ATTRIBUTES = (
    "id", "source", "type", "subject", "time", "correlationid", "causationid", "idempotencykey",
    "traceparent", "tracestate", "expirytime", "dataref", "sequence",
)  # fmt: skip
_OPTIONAL = 3  # where they begin in ATTRIBUTES, and in an Envelope
_OPTIONAL_HEADERS = tuple((name, f"ce_{name}") for name in ATTRIBUTES[_OPTIONAL:-1])  # `sequence` has a form of its own


class Encoded(NamedTuple):
    """What is handed to a producer; `topic` has no prefix yet."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def encode(
    message_type: MessageType, envelope: Envelope, data: Mapping[str, object] | Payload | bytes, *, key: str
) -> Encoded:
    """Encode in binary mode: `ce_*` headers, `content-type`, JSON value. Equal input gives equal bytes.

    A mapping is written as it is, in its own order, and is not validated again (the sender's tests do that); bytes are
    JSON already. The type comes from `message_type`. Raises ValueError for a time without an offset, TypeError for what JSON
    cannot hold.
    """
    headers = [
        ("content-type", JSON),
        ("ce_specversion", b"1.0"),
        ("ce_id", envelope.id.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_type", message_type.wire.encode()),
    ]
    headers += [
        (header, (attribute if type(attribute) is str else _attribute_text(name, attribute)).encode())
        for (name, header), attribute in zip(_OPTIONAL_HEADERS, envelope[_OPTIONAL:-1], strict=True)
        if attribute is not None
    ]
    if envelope.sequence is not None:
        headers.append(("ce_sequence", envelope.sequence.zfill(SEQUENCE_DIGITS).encode()))
    value = data if isinstance(data, bytes) else _json(data)
    return Encoded(message_type.topic.name, key.encode(), value, tuple(headers))


def attributes(envelope: Envelope) -> dict[str, str]:
    """The attributes that are set, as text, in the order of the headers: what a journal row keeps of a request."""
    found = zip(ATTRIBUTES, envelope, strict=True)
    return {name: _attribute_text(name, value) for name, value in found if value is not None}


def sequence_text(sequence: int) -> str:
    """Value of the attribute `sequence`: zero-padded, so that text order is number order."""
    return str(sequence).zfill(SEQUENCE_DIGITS)


def with_sequence(data: bytes, sequence: int) -> bytes:
    """A JSON object, as `encode` writes it, with the member `sequence` at its end (or at its place, if it has one)."""
    if b'"sequence":' in data or data == b"{}":
        return orjson.dumps({**orjson.loads(data), "sequence": sequence})
    return b'%b,"sequence":%d}' % (data[:-1], sequence)


@lru_cache(1024)  # what is stored together has one time
def rfc3339(moment: datetime) -> str:
    """`moment` in UTC with the suffix Z. Raises ValueError if it has no offset."""
    if moment.tzinfo is None:
        raise ValueError("a time without an offset cannot be published")
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def _attribute_text(name: str, value: str | datetime) -> str:
    if isinstance(value, datetime):
        return rfc3339(value)
    return value.zfill(SEQUENCE_DIGITS) if name == "sequence" else value


def _json(data: Mapping[str, object] | Payload) -> bytes:
    if isinstance(data, Payload):
        return data.__pydantic_serializer__.to_json(data)
    return orjson.dumps(data, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)


def _plain(value: object) -> object:
    """What orjson does not know: payload models inside a mapping, and mappings that are no dict."""
    if isinstance(value, Payload):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
