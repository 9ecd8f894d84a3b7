"""What is refused, why, and what the sender can do; and the small checks that every part of a record has to pass."""

import re

from contracts.errors import ContractError

MAX_ATTRIBUTE_LENGTH = 4096  # a tracestate may be 512, an id or source longer than this is an attack on the index

# CloudEvents 1.0, "String": no control characters, no surrogates, no non-characters (NUL also breaks PostgreSQL).
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

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


def refusal(code: str, message: str, pointer: str = "") -> ContractError:
    return ContractError(code, message, pointer=pointer, remedy=REMEDIES[code])


def utf8_text(raw: bytes, code: str, pointer: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise refusal(code, f"{pointer} is not UTF-8", pointer) from exc


def check_text(text: str, pointer: str) -> None:
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise refusal("envelope.bad_character", f"{pointer} holds a forbidden character", pointer)
    if len(text) > MAX_ATTRIBUTE_LENGTH:
        raise refusal("envelope.too_long", f"{pointer} has {len(text)} characters", pointer)


def check_media_type(media_type: str) -> None:
    bare = media_type.partition(";")[0].strip().lower()
    if bare != "application/json" and not bare.endswith("+json"):
        raise refusal("payload.media_type", f"content type {short(media_type)}", "content-type")
    check_charset(media_type)


def check_charset(media_type: str) -> None:
    for parameter in media_type.lower().split(";")[1:]:
        name, _, charset = parameter.strip().partition("=")
        if name == "charset" and charset.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise refusal("payload.charset", f"charset {short(charset)}", "content-type")


def short(text: str) -> str:
    """Hostile text for a message: quoted, escaped, cut."""
    return ascii(text if len(text) <= 80 else text[:80] + "…")
