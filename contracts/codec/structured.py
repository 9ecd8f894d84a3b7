"""An event in the CloudEvents JSON format: attributes and data are members of one object."""

import base64
import binascii
from collections.abc import Mapping, Set
from typing import Any

import orjson

from contracts.codec.refusals import check_charset, check_media_type, check_text, refusal, short


def open_structured(content_type: bytes, value: bytes, *, known: Set[str]) -> tuple[dict[str, str], bytes]:
    """The attributes that are `known`, and the data bytes. Raises ContractError."""
    media_type = content_type.decode("utf-8", "replace")
    if media_type.partition(";")[0].strip().lower() != "application/cloudevents+json":
        raise refusal("envelope.format_unsupported", f"event format {short(media_type)}", "content-type")
    check_charset(media_type)
    event = _parse_event(value)
    found: dict[str, str] = {}
    for name in known & event.keys():
        attribute = event[name]
        if attribute is None:  # CloudEvents JSON format, §2.2: null is the same as absent
            continue
        if name == "sequence" and type(attribute) is int:
            attribute = str(attribute)
        if not isinstance(attribute, str):
            raise refusal("envelope.bad_attribute", f"{name} is not a string", f"/{name}")
        check_text(attribute, f"/{name}")
        found[name] = attribute
    declared = event.get("datacontenttype")
    if isinstance(declared, str):
        check_media_type(declared)
    return found, _structured_data(event)


def _parse_event(value: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise refusal("envelope.not_json", f"the event is not JSON: {exc.msg}") from exc
    if not isinstance(event, dict):
        raise refusal("envelope.not_json", "the event is not a JSON object")
    return event


def _structured_data(event: Mapping[str, Any]) -> bytes:
    if "data" in event and "data_base64" in event:
        raise refusal("envelope.duplicate_attribute", "both data and data_base64", "/data_base64")
    encoded = event.get("data_base64")
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError, TypeError) as exc:
            raise refusal("envelope.bad_attribute", "data_base64 is not base64", "/data_base64") from exc
    if event.get("data") is None:
        raise refusal("payload.null", "the event has no data", "/data")
    try:
        return orjson.dumps(event["data"])
    except orjson.JSONEncodeError as exc:  # it reads 1024 levels and writes 254
        raise refusal("payload.too_deep", f"data cannot be taken out of the event: {exc}", "/data") from exc
