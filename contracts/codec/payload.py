"""JSON bytes → the payload of a message, or the place and reason of the first fault."""

import re
from collections.abc import Sequence

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from contracts.base import Payload
from contracts.codec.refusals import refusal
from contracts.envelope import MESSAGE_TYPES, MessageType
from contracts.errors import ContractError

_VALIDATORS = {row.name: row.model.__pydantic_validator__ for row in MESSAGE_TYPES}


def read_payload(message_type: MessageType, data: bytes) -> Payload:
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
        raise refusal("payload.invalid", f"{message_type.name}: /{missing}: Field required", f"/{missing}")
    return payload


def _invalid(message_type: MessageType, data: bytes, errors: Sequence[ErrorDetails]) -> ContractError:
    first = errors[0]
    if first["type"] == "json_invalid":
        if data.startswith((b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")):
            return refusal("payload.bom", "the value starts with a byte order mark")
        code = "payload.too_deep" if "recursion limit" in first["msg"] else "payload.not_json"
        return refusal(code, first["msg"])
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in first["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return refusal("payload.invalid", f"{message_type.name}: {pointer or '/'}: {first['msg']}{more}", pointer)


def _check_values(data: bytes) -> None:
    """Raise if the JSON really holds a number that is not finite, or U+0000 (both may also stand in harmless text)."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        if re.search(rb"(?<![\"\w])-?(NaN|Infinity)(?![\"\w])", data):
            raise refusal("payload.not_finite", f"not JSON: {exc.msg}") from exc
        raise refusal("payload.not_json", f"not JSON: {exc.msg}") from exc
    pending: list[tuple[str, object]] = [("", value)]
    while pending:  # a stack of our own: the input decides the depth
        pointer, part = pending.pop()
        if isinstance(part, str) and "\0" in part:
            raise refusal("payload.nul_character", f"U+0000 in {pointer or '/'}", pointer)
        if isinstance(part, list):
            pending += [(f"{pointer}/{index}", item) for index, item in enumerate(part)]
        elif isinstance(part, dict):
            pending += [(pointer, name) for name in part]
            pending += [
                (f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}", item) for name, item in part.items()
            ]
