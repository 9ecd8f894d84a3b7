"""Bytes of Kafka ⇄ typed messages: a strict CloudEvents codec of our own.

The official SDK invents a missing `id`, which would break deduplication; it is the oracle of the tests instead.

Rules for editors: `decode` raises ContractError and nothing else, whatever the bytes are; a new refusal gets a code
in `REMEDIES`, and a row in tests/unit/contracts/test_refusals.py. The hot path does dictionary look-ups only: what can
be computed once stands in a table at module level.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from contracts.base import Payload
from contracts.envelope import (
    BY_WIRE_TYPE,
    CONTEXT_QUERY,
    MESSAGE_TYPES,
    TASK_STATUS,
    Envelope,
    MessageType,
)
from contracts.errors import ContractError
from contracts.tasks import TaskRequested

Headers = Sequence[tuple[str, bytes | None]]
TASK_NAMESPACE = uuid5(NAMESPACE_URL, "https://backwright.dev/task")
_NAMESPACE_BYTES = TASK_NAMESPACE.bytes
_NO_VERSION = ~(0xF000 << 64 | 0xC000 << 48)
_VERSION_5 = 0x5000 << 64 | 0x8000 << 48  # and the variant of RFC 9562

SPEC_VERSION = "1.0"
JSON = b"application/json"
MAX_ATTRIBUTE_LENGTH = 4096  # a tracestate may be 512, an id or source longer than this is an attack on the index
SEQUENCE_DIGITS = 10  # zero-padded, so that text order is number order (CloudEvents extension `sequence`)

# The fixed order of the headers that we write: required attributes, optional ones, extensions.
ATTRIBUTES = (
    "id", "source", "type", "subject", "time", "correlationid", "causationid", "idempotencykey",
    "traceparent", "tracestate", "expirytime", "dataref", "sequence",
)  # fmt: skip
REQUIRED = ("specversion", "id", "source", "type")
_BY_HEADER = {f"ce_{name}": name for name in ("specversion", *ATTRIBUTES)}
_OPTIONAL = 3  # where they begin in ATTRIBUTES, and in an Envelope
_OPTIONAL_HEADERS = tuple((name, f"ce_{name}") for name in ATTRIBUTES[_OPTIONAL:-1])  # `sequence` has a form of its own
_KNOWN = frozenset(_BY_HEADER.values())
# The origin's prompt-file agents know no envelope; their two shapes are taken as they are.
_BARE = {CONTEXT_QUERY.topic.name: CONTEXT_QUERY, TASK_STATUS.topic.name: TASK_STATUS}
_VALIDATORS = {row.name: row.model.__pydantic_validator__ for row in MESSAGE_TYPES}

# CloudEvents 1.0, "String": no control characters, no surrogates, no non-characters (NUL also breaks PostgreSQL).
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DATAREF = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_OTHER_VERSION = re.compile(r"(.+)\.v\d+", re.ASCII)

# code → what the sender can do. Codes are stable: dead letters are filtered by them.
REMEDIES = {
    "record.key_not_utf8": "Send the key as UTF-8 text.",
    "envelope.missing": "Add the CloudEvents headers ce_specversion, ce_id, ce_source and ce_type, or send structured mode with content-type application/cloudevents+json.",
    "envelope.missing_specversion": "Add ce_specversion: 1.0.",
    "envelope.missing_id": "Add ce_id: a new id per event, the same one when you send the event again.",
    "envelope.missing_source": "Add ce_source: a URI reference that names the sender.",
    "envelope.missing_type": "Add ce_type, for example backwright.task.requested.v1.",
    "envelope.specversion": "Send CloudEvents 1.0.",
    "envelope.null_attribute": "Leave the header out instead of sending a null value.",
    "envelope.not_utf8": "Send attribute values as UTF-8 text.",
    "envelope.duplicate_attribute": "Send each attribute once.",
    "envelope.bad_character": "Remove control characters, surrogates and non-characters.",
    "envelope.too_long": f"Keep attributes within {MAX_ATTRIBUTE_LENGTH} characters.",
    "envelope.bad_time": "Use RFC 3339 with an offset, for example 2026-01-31T12:00:00Z.",
    "envelope.bad_attribute": "Send attributes as JSON strings.",
    "envelope.not_json": "Send the event as one JSON object (CloudEvents JSON format).",
    "envelope.format_unsupported": "Use application/cloudevents+json, one event per record.",
    "envelope.dataref_refused": "Use sha256:<64 hex digits> of an object in the claim directory, or send the document inline.",
    "type.unknown": "Use a type of contracts/asyncapi.yaml.",
    "type.version_unsupported": "Use version v1 of this type.",
    "type.wrong_topic": "Publish this type on its own topic.",
    "payload.null": "Send a value: topics here are not compacted, so a null value means nothing.",
    "payload.media_type": "Send JSON with content-type application/json.",
    "payload.charset": "Send UTF-8.",
    "payload.bom": "Send UTF-8 without a byte order mark.",
    "payload.not_json": "Send one JSON object in UTF-8.",
    "payload.not_finite": "Leave the number out or send null: JSON has no NaN and no Infinity.",
    "payload.nul_character": "Remove U+0000 from the text.",
    "payload.too_deep": "Nest fewer levels.",
    "payload.invalid": "Compare with contracts/schemas and contracts/examples.",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded record: attributes, the row of the contract, the validated payload and its raw JSON bytes."""

    envelope: Envelope
    message_type: MessageType
    payload: Payload
    data: bytes


@dataclass(frozen=True, slots=True)
class Encoded:
    """What is handed to a producer; `topic` has no prefix yet."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def task_id(source: str, key: str) -> str:
    """UUIDv5 of (source, idempotency key): the same request always has the same task id."""
    # uuid5(TASK_NAMESPACE, …), without the object that only its text is wanted of
    name = _NAMESPACE_BYTES + f"{len(source)}:{source}{key}".encode()
    number = int.from_bytes(hashlib.sha1(name, usedforsecurity=False).digest()[:16], "big")
    digits = f"{number & _NO_VERSION | _VERSION_5:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def decode(
    topic: str, headers: Headers, key: bytes | None, value: bytes | None, *, place: str | None = None
) -> Message:
    """Decode a record of `topic` (without prefix) in binary or structured mode.

    `place` names the record (topic/partition/offset). With it, the origin's bare shapes are taken on their topics
    and get it as their id; without it they are refused like any record without an envelope. Unknown extension
    attributes, foreign headers and unknown fields of the payload are ignored.
    Raises ContractError with a code, a place and a remedy.
    """
    if key is not None:
        _text(key, "record.key_not_utf8", "key")
    attributes, content_type = _read_headers(headers)
    if value is None:
        raise _refusal("payload.null", "the value is null")
    if content_type is not None and content_type[:23].lower() == b"application/cloudevents":
        attributes, data = _open_structured(content_type, value)
    else:
        if content_type is not None and content_type != JSON:
            _check_media_type(content_type.decode("utf-8", "replace"))
        data = value
        if not attributes:
            if place is None or topic not in _BARE:
                raise _refusal("envelope.missing", "no CloudEvents attribute", "ce_id")
            return _bare(_BARE[topic], data, place)
    message_type = _message_type(topic, attributes)
    payload = _payload(message_type, data)
    envelope = _envelope(attributes)
    if isinstance(payload, TaskRequested) and payload.specification.content is None and envelope.dataref is None:
        raise _refusal("payload.invalid", "neither inline content nor dataref", "/specification/content")
    return Message(envelope, message_type, payload, data)


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


# ── reading the envelope ─────────────────────────────────────────────────────────────────────────────────────────────


def _read_headers(headers: Headers) -> tuple[dict[str, str], bytes | None]:
    """Known attributes by name, and the content type. Foreign headers may hold anything and are not looked at."""
    found: dict[str, str] = {}
    content_type: bytes | None = None
    for header, raw in headers:
        name = _BY_HEADER.get(header)
        if name is None:
            if header == "content-type":
                if content_type is not None:
                    raise _refusal("envelope.duplicate_attribute", "two content types", header)
                content_type = raw
            continue
        if name in found:
            raise _refusal("envelope.duplicate_attribute", f"{header} occurs twice", header)
        if raw is None:
            raise _refusal("envelope.null_attribute", f"{header} is null", header)
        text = _text(raw, "envelope.not_utf8", header)
        _check_text(text, header)
        found[name] = text
    return found, content_type


def _open_structured(content_type: bytes, value: bytes) -> tuple[dict[str, str], bytes]:
    """Attributes and data bytes of an event in the CloudEvents JSON format."""
    media_type = content_type.decode("utf-8", "replace")
    if media_type.partition(";")[0].strip().lower() != "application/cloudevents+json":
        raise _refusal("envelope.format_unsupported", f"event format {_short(media_type)}", "content-type")
    _check_charset(media_type)
    event = _parse_event(value)
    found: dict[str, str] = {}
    for name in _KNOWN & event.keys():
        attribute = event[name]
        if attribute is None:  # CloudEvents JSON format, §2.2: null is the same as absent
            continue
        if name == "sequence" and type(attribute) is int:
            attribute = str(attribute)
        if not isinstance(attribute, str):
            raise _refusal("envelope.bad_attribute", f"{name} is not a string", f"/{name}")
        _check_text(attribute, f"/{name}")
        found[name] = attribute
    declared = event.get("datacontenttype")
    if isinstance(declared, str):
        _check_media_type(declared)
    return found, _structured_data(event)


def _parse_event(value: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise _refusal("envelope.not_json", f"the event is not JSON: {exc.msg}") from exc
    if not isinstance(event, dict):
        raise _refusal("envelope.not_json", "the event is not a JSON object")
    return event


def _structured_data(event: Mapping[str, Any]) -> bytes:
    if "data" in event and "data_base64" in event:
        raise _refusal("envelope.duplicate_attribute", "both data and data_base64", "/data_base64")
    encoded = event.get("data_base64")
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError, TypeError) as exc:
            raise _refusal("envelope.bad_attribute", "data_base64 is not base64", "/data_base64") from exc
    if event.get("data") is None:
        raise _refusal("payload.null", "the event has no data", "/data")
    try:
        return orjson.dumps(event["data"])
    except orjson.JSONEncodeError as exc:  # it reads 1024 levels and writes 254
        raise _refusal("payload.too_deep", f"data cannot be taken out of the event: {exc}", "/data") from exc


def _message_type(topic: str, found: Mapping[str, str]) -> MessageType:
    for name in REQUIRED:
        if not found.get(name):
            raise _refusal(f"envelope.missing_{name}", f"{name} is missing or empty", f"ce_{name}")
    if found["specversion"] != SPEC_VERSION:
        raise _refusal("envelope.specversion", f"specversion {_short(found['specversion'])}", "ce_specversion")
    wire = found["type"]
    message_type = BY_WIRE_TYPE.get(wire)
    if message_type is None:
        match = _OTHER_VERSION.fullmatch(wire)
        if match and f"{match[1]}.v1" in BY_WIRE_TYPE:
            raise _refusal("type.version_unsupported", f"type {_short(wire)}", "ce_type")
        raise _refusal("type.unknown", f"type {_short(wire)}", "ce_type")
    if message_type.topic.name != topic:
        raise _refusal("type.wrong_topic", f"{wire} belongs on {message_type.topic.name}", "ce_type")
    return message_type


def _envelope(found: Mapping[str, str]) -> Envelope:
    get = found.get
    time, expirytime, dataref = get("time"), get("expirytime"), get("dataref")
    if dataref is not None and not _DATAREF.fullmatch(dataref):
        # Never a way out: no file, no address, only a content name (design §4.13).
        raise _refusal("envelope.dataref_refused", f"dataref {_short(dataref)}", "ce_dataref")
    return Envelope(
        found["id"],
        found["source"],
        found["type"],
        get("subject"),
        None if time is None else _moment(time, "ce_time"),
        get("correlationid"),
        get("causationid"),
        get("idempotencykey"),
        get("traceparent"),
        get("tracestate"),
        None if expirytime is None else _moment(expirytime, "ce_expirytime"),
        dataref,
        get("sequence"),
    )


def _bare(message_type: MessageType, data: bytes, place: str) -> Message:
    """A shape of the origin without an envelope: its place is its id, its agent is its source."""
    payload = _payload(message_type, data)
    agent = str(getattr(payload, "requesting_agent", None) or getattr(payload, "agent", ""))
    return Message(Envelope(place, f"/agents/{quote(agent, safe='')}", message_type.wire), message_type, payload, data)


def _moment(text: str, pointer: str) -> datetime:
    if not _RFC3339.fullmatch(text):  # fromisoformat alone takes week dates and times without an offset
        raise _refusal("envelope.bad_time", f"{_short(text)} is not a time", pointer)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise _refusal("envelope.bad_time", f"{_short(text)} is not a time", pointer) from exc


# ── reading the payload ──────────────────────────────────────────────────────────────────────────────────────────────


def _payload(message_type: MessageType, data: bytes) -> Payload:
    # pydantic reads NaN and Infinity, and keeps U+0000; a scan for the letters is cheaper than a second parse.
    if b"NaN" in data or b"Infinity" in data or b"\\u0000" in data:
        _check_values(data)
    try:
        # strict: "5" is no number, as in the published schema; times, enums and tuples are still read from JSON.
        payload: Payload = _VALIDATORS[message_type.name].validate_json(data, strict=True)
    except ValidationError as exc:
        raise _invalid(message_type, data, exc.errors(include_url=False, include_context=False)) from exc
    always = message_type.model.ALWAYS
    if always and not always <= payload.model_fields_set:
        missing = min(always - payload.model_fields_set)
        raise _refusal("payload.invalid", f"{message_type.name}: /{missing}: Field required", f"/{missing}")
    return payload


def _invalid(message_type: MessageType, data: bytes, errors: Sequence[ErrorDetails]) -> ContractError:
    first = errors[0]
    if first["type"] == "json_invalid":
        if data.startswith((b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")):
            return _refusal("payload.bom", "the value starts with a byte order mark")
        code = "payload.too_deep" if "recursion limit" in first["msg"] else "payload.not_json"
        return _refusal(code, first["msg"])
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in first["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return _refusal("payload.invalid", f"{message_type.name}: {pointer or '/'}: {first['msg']}{more}", pointer)


def _check_values(data: bytes) -> None:
    """Raise if the JSON really holds a number that is not finite, or U+0000 (both may also stand in harmless text)."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        if re.search(rb"(?<![\"\w])-?(NaN|Infinity)(?![\"\w])", data):
            raise _refusal("payload.not_finite", f"not JSON: {exc.msg}") from exc
        raise _refusal("payload.not_json", f"not JSON: {exc.msg}") from exc
    pending: list[tuple[str, object]] = [("", value)]
    while pending:  # a stack of our own: the input decides the depth
        pointer, part = pending.pop()
        if isinstance(part, str) and "\0" in part:
            raise _refusal("payload.nul_character", f"U+0000 in {pointer or '/'}", pointer)
        if isinstance(part, list):
            pending += [(f"{pointer}/{index}", item) for index, item in enumerate(part)]
        elif isinstance(part, dict):
            pending += [(pointer, name) for name in part]
            pending += [
                (f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}", item) for name, item in part.items()
            ]


# ── small checks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _refusal(code: str, message: str, pointer: str = "") -> ContractError:
    return ContractError(code, message, pointer=pointer, remedy=REMEDIES[code])


def _text(raw: bytes, code: str, pointer: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise _refusal(code, f"{pointer} is not UTF-8", pointer) from exc


def _check_text(text: str, pointer: str) -> None:
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise _refusal("envelope.bad_character", f"{pointer} holds a forbidden character", pointer)
    if len(text) > MAX_ATTRIBUTE_LENGTH:
        raise _refusal("envelope.too_long", f"{pointer} has {len(text)} characters", pointer)


def _check_media_type(media_type: str) -> None:
    bare = media_type.partition(";")[0].strip().lower()
    if bare != "application/json" and not bare.endswith("+json"):
        raise _refusal("payload.media_type", f"content type {_short(media_type)}", "content-type")
    _check_charset(media_type)


def _check_charset(media_type: str) -> None:
    for parameter in media_type.lower().split(";")[1:]:
        name, _, charset = parameter.strip().partition("=")
        if name == "charset" and charset.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise _refusal("payload.charset", f"charset {_short(charset)}", "content-type")


def _short(text: str) -> str:
    """Hostile text for a message: quoted, escaped, cut."""
    return ascii(text if len(text) <= 80 else text[:80] + "…")


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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
