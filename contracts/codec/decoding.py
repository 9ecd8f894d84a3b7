"""Bytes and headers of a record → a typed message: its attributes, its row of the contract, its payload."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from contracts.base import Payload
from contracts.codec.encoding import ATTRIBUTES, JSON
from contracts.codec.payload import read_payload
from contracts.codec.refusals import check_media_type, check_text, refusal, short, utf8_text
from contracts.codec.structured import open_structured
from contracts.envelope import BY_WIRE_TYPE, CONTEXT_QUERY, TASK_STATUS, Envelope, MessageType
from contracts.tasks import TaskRequested

Headers = Sequence[tuple[str, bytes | None]]
SPEC_VERSION = "1.0"
REQUIRED = ("specversion", "id", "source", "type")
_BY_HEADER = {f"ce_{name}": name for name in ("specversion", *ATTRIBUTES)}
_KNOWN = frozenset(_BY_HEADER.values())
# The origin's prompt-file agents know no envelope; their two shapes are taken as they are.
_BARE = {CONTEXT_QUERY.topic.name: CONTEXT_QUERY, TASK_STATUS.topic.name: TASK_STATUS}

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DATAREF = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_OTHER_VERSION = re.compile(r"(.+)\.v\d+", re.ASCII)


class Message(NamedTuple):
    """A decoded record: attributes, the row of the contract, the validated payload and its raw JSON bytes."""

    envelope: Envelope
    message_type: MessageType
    payload: Payload
    data: bytes


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
        utf8_text(key, "record.key_not_utf8", "key")
    attributes, content_type = _read_headers(headers)
    if value is None:
        raise refusal("payload.null", "the value is null")
    if content_type is not None and content_type[:23].lower() == b"application/cloudevents":
        attributes, data = open_structured(content_type, value, known=_KNOWN)
    else:
        if content_type is not None and content_type != JSON:
            check_media_type(content_type.decode("utf-8", "replace"))
        data = value
        if not attributes:
            if place is None or topic not in _BARE:
                raise refusal("envelope.missing", "no CloudEvents attribute", "ce_id")
            return _bare(_BARE[topic], data, place)
    message_type = _message_type(topic, attributes)
    payload = read_payload(message_type, data)
    envelope = _envelope(attributes)
    if isinstance(payload, TaskRequested) and payload.specification.content is None and envelope.dataref is None:
        raise refusal("payload.invalid", "neither inline content nor dataref", "/specification/content")
    return Message(envelope, message_type, payload, data)


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
                    raise refusal("envelope.duplicate_attribute", "two content types", header)
                content_type = raw
            continue
        if name in found:
            raise refusal("envelope.duplicate_attribute", f"{header} occurs twice", header)
        if raw is None:
            raise refusal("envelope.null_attribute", f"{header} is null", header)
        text = utf8_text(raw, "envelope.not_utf8", header)
        check_text(text, header)
        found[name] = text
    return found, content_type


def _message_type(topic: str, found: Mapping[str, str]) -> MessageType:
    for name in REQUIRED:
        if not found.get(name):
            raise refusal(f"envelope.missing_{name}", f"{name} is missing or empty", f"ce_{name}")
    if found["specversion"] != SPEC_VERSION:
        raise refusal("envelope.specversion", f"specversion {short(found['specversion'])}", "ce_specversion")
    wire = found["type"]
    message_type = BY_WIRE_TYPE.get(wire)
    if message_type is None:
        match = _OTHER_VERSION.fullmatch(wire)
        if match and f"{match[1]}.v1" in BY_WIRE_TYPE:
            raise refusal("type.version_unsupported", f"type {short(wire)}", "ce_type")
        raise refusal("type.unknown", f"type {short(wire)}", "ce_type")
    if message_type.topic.name != topic:
        raise refusal("type.wrong_topic", f"{wire} belongs on {message_type.topic.name}", "ce_type")
    return message_type


def _envelope(found: Mapping[str, str]) -> Envelope:
    get = found.get
    time, expirytime, dataref = get("time"), get("expirytime"), get("dataref")
    if dataref is not None and not _DATAREF.fullmatch(dataref):
        # Never a way out: no file, no address, only a content name.
        raise refusal("envelope.dataref_refused", f"dataref {short(dataref)}", "ce_dataref")
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
    payload = read_payload(message_type, data)
    agent = str(getattr(payload, "requesting_agent", None) or getattr(payload, "agent", ""))
    return Message(Envelope(place, f"/agents/{quote(agent, safe='')}", message_type.wire), message_type, payload, data)


def _moment(text: str, pointer: str) -> datetime:
    if not _RFC3339.fullmatch(text):  # fromisoformat alone takes week dates and times without an offset
        raise refusal("envelope.bad_time", f"{short(text)} is not a time", pointer)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise refusal("envelope.bad_time", f"{short(text)} is not a time", pointer) from exc
