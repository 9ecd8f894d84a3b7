"""What a record may not be: one row per fault, with the code and the place that the sender is told."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from contracts import codec
from contracts.codec import decode
from contracts.errors import ContractError
from tests.unit.contracts.records import STRUCTURED, TOPIC, VALUE, body, headers, structured

Row = tuple[str, Sequence[tuple[str, bytes | None]], bytes | None, bytes | None, str, str]
JSON = ("content-type", b"application/json")
SPEC = VALUE["specification"]
DEEP = 5000


def _without_type(content_type: bytes) -> Sequence[tuple[str, bytes | None]]:
    return [("content-type", content_type), *headers()[1:]]


ROWS: list[Row] = [
    ("a key that is not UTF-8", headers(), b"\xfe", body(), "record.key_not_utf8", "key"),
    ("no envelope at all", [], b"k", body(), "envelope.missing", "ce_id"),
    ("garbage", [], None, b"\x00\xff not a task", "envelope.missing", "ce_id"),
    ("no specversion", headers(specversion=None), None, body(), "envelope.missing_specversion", "ce_specversion"),
    ("no id", headers(id=None), None, body(), "envelope.missing_id", "ce_id"),
    ("an empty id", headers(id=""), None, body(), "envelope.missing_id", "ce_id"),
    ("no source", headers(source=None), None, body(), "envelope.missing_source", "ce_source"),
    ("an empty source", headers(source=""), None, body(), "envelope.missing_source", "ce_source"),
    ("no type", headers(type=None), None, body(), "envelope.missing_type", "ce_type"),
    ("CloudEvents 0.3", headers(specversion="0.3"), None, body(), "envelope.specversion", "ce_specversion"),
    ("a null attribute", [*headers(), ("ce_subject", None)], None, body(), "envelope.null_attribute", "ce_subject"),
    ("an id that is not UTF-8", headers(id=b"\xff"), None, body(), "envelope.not_utf8", "ce_id"),
    ("an id with NUL", headers(id="a\0b"), None, body(), "envelope.bad_character", "ce_id"),
    ("a source with a newline", headers(source="/a\nb"), None, body(), "envelope.bad_character", "ce_source"),
    ("a very long id", headers(id="x" * 5000), None, body(), "envelope.too_long", "ce_id"),
    ("an attribute twice", [*headers(), ("ce_id", b"e-2")], None, body(), "envelope.duplicate_attribute", "ce_id"),
    ("content type twice", [JSON, *headers()], None, body(), "envelope.duplicate_attribute", "content-type"),
    ("a time that is none", headers(time="yesterday"), None, body(), "envelope.bad_time", "ce_time"),
    ("an expiry without offset", headers(expirytime="2026-01-05T09:00:00"), None, body(), "envelope.bad_time", "ce_expirytime"),
    ("an expiry on 31 February", headers(expirytime="2026-02-31T09:00:00Z"), None, body(), "envelope.bad_time", "ce_expirytime"),
    ("an expiry before the calendar", headers(expirytime="0001-01-01T00:00:00+14:00"), None, body(), "envelope.bad_time", "ce_expirytime"),
    ("an address as dataref", headers(dataref="https://example.org/x"), None, body(), "envelope.dataref_refused", "ce_dataref"),
    ("a file as dataref", headers(dataref="file:///etc/passwd"), None, body(), "envelope.dataref_refused", "ce_dataref"),
    ("a path inside a dataref", headers(dataref="sha256:../" + "0" * 61), None, body(), "envelope.dataref_refused", "ce_dataref"),
    ("an unknown type", headers(type="com.example.made"), None, body(), "type.unknown", "ce_type"),
    ("a later version", headers(type="backwright.task.requested.v2"), None, body(), "type.version_unsupported", "ce_type"),
    ("a type of another topic", headers(type="backwright.task.cancel.v1"), None, body(), "type.wrong_topic", "ce_type"),
    ("a tombstone", headers(), b"k", None, "payload.null", ""),
    ("XML", _without_type(b"text/xml"), None, body(), "payload.media_type", "content-type"),
    ("UTF-16 declared", _without_type(b"application/json; charset=utf-16"), None, body(), "payload.charset", "content-type"),
    ("a byte order mark", headers(), None, b"\xef\xbb\xbf" + body(), "payload.bom", ""),
    ("UTF-16", headers(), None, body().decode().encode("utf-16"), "payload.bom", ""),
    ("no JSON", headers(), None, b"not json", "payload.not_json", ""),
    ("an empty value", headers(), None, b"", "payload.not_json", ""),
    ("bytes that are not UTF-8", headers(), None, b'{"service":"\xff"}', "payload.not_json", ""),
    ("half a surrogate pair", headers(), None, b'{"specification":{"content":"\\ud800"}}', "payload.not_json", ""),
    ("NaN", headers(), None, b'{"specification":{"content":"x"},"run_after_s":NaN}', "payload.not_finite", ""),
    ("NaN in an unknown field", headers(), None, b'{"specification":{"content":"x"},"x":[NaN]}', "payload.not_finite", ""),
    ("minus infinity", headers(), None, b'{"specification":{"content":"x"},"run_after_s":-Infinity}', "payload.not_finite", ""),
    ("a number beyond floats", headers(), None, b'{"specification":{"content":"x"},"run_after_s":1e999}', "payload.invalid", "/run_after_s"),
    ("NUL in a text", headers(), None, body({"specification": {"content": "a\0b"}}), "payload.nul_character", "/specification/content"),
    ("NUL in a name", headers(), None, body({"specification": SPEC, "a\0": 1}), "payload.nul_character", ""),
    ("deep lists", headers(), None, b"[" * DEEP, "payload.too_deep", ""),
    ("deep objects", headers(), None, b'{"a":' * DEEP, "payload.too_deep", ""),
    ("a list", headers(), None, b"[]", "payload.invalid", ""),
    ("a missing field", headers(), None, b"{}", "payload.invalid", "/specification"),
    ("a number as text", headers(), None, body({"specification": SPEC, "priority": "5"}), "payload.invalid", "/priority"),
    ("an unknown kind", headers(), None, body({"specification": SPEC, "kind": "destroy"}), "payload.invalid", "/kind"),
    ("a path as service", headers(), None, body({"specification": SPEC, "service": "../x"}), "payload.invalid", "/service"),
    ("a wrong digest", headers(), None, body({"specification": {**SPEC, "sha256": "0" * 64}}), "payload.invalid", "/specification"),
    ("no document at all", headers(), None, body({"specification": {}}), "payload.invalid", "/specification/content"),
    ("structured: no JSON", STRUCTURED, None, b"x", "envelope.not_json", ""),
    ("structured: a list", STRUCTURED, None, b"[]", "envelope.not_json", ""),
    ("structured: NaN", STRUCTURED, None, b'{"id":"1","data":{"a":NaN}}', "envelope.not_json", ""),
    ("structured: no id", STRUCTURED, None, structured(id=None), "envelope.missing_id", "ce_id"),
    ("structured: a number as id", STRUCTURED, None, structured(id=7), "envelope.bad_attribute", "/id"),
    ("structured: NUL in the id", STRUCTURED, None, structured(id="a\0"), "envelope.bad_character", "/id"),
    ("structured: no data", STRUCTURED, None, structured(data=None), "payload.null", "/data"),
    ("structured: text data", STRUCTURED, None, structured(datacontenttype="text/plain"), "payload.media_type", "content-type"),
    ("structured: bad base64", STRUCTURED, None, structured(data=None, data_base64="*").replace(b'"data":null,', b""), "envelope.bad_attribute", "/data_base64"),
    ("structured: data twice", STRUCTURED, None, structured(data_base64="e30="), "envelope.duplicate_attribute", "/data_base64"),
    ("structured: deep data", STRUCTURED, None, structured(data=None).replace(b"null", b"[" * 300 + b"]" * 300), "payload.too_deep", "/data"),
    ("structured: a null value", STRUCTURED, None, None, "payload.null", ""),
    ("structured: Avro", [("content-type", b"application/cloudevents+avro")], None, b"x", "envelope.format_unsupported", "content-type"),
    ("structured: a batch", [("content-type", b"application/cloudevents-batch+json")], None, b"[]", "envelope.format_unsupported", "content-type"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "key", "value", "code", "pointer"), [pytest.param(*row[1:], id=row[0]) for row in ROWS]
)
def test_refused_with_code_place_and_remedy(
    given: codec.Headers, key: bytes | None, value: bytes | None, code: str, pointer: str
) -> None:
    """Every one of these becomes a dead letter that tells its sender what to change."""
    with pytest.raises(ContractError) as caught:
        decode(TOPIC, given, key, value)

    assert (caught.value.code, caught.value.pointer) == (code, pointer)
    assert caught.value.remedy == codec.REMEDIES[code]
    assert caught.value.message.isprintable()


def test_every_code_is_shown_by_a_row() -> None:
    """A refusal without a test would be one that nobody has seen."""
    shown = {row[4] for row in ROWS}

    assert shown == set(codec.REMEDIES)


@pytest.mark.parametrize(
    ("topic", "value", "pointer"),
    [
        ("backend.context.queries.v1", {}, "/payload"),
        ("backend.context.queries.v1", {"requesting_agent": "x", "request_type": "y"}, "/payload"),
        ("backend.status.v1", {"status": "developing", "phase": "p", "completed": [], "pending": []}, "/agent"),
    ],
)
def test_bare_shape_needs_all_its_fields(topic: str, value: dict[str, Any], pointer: str) -> None:
    """Defaults spare our own code; they must not turn an empty object into a question."""
    with pytest.raises(ContractError) as caught:
        decode(topic, [], None, orjson.dumps(value), place=f"{topic}/0/1")

    assert (caught.value.code, caught.value.pointer) == ("payload.invalid", pointer)


def test_bare_request_is_refused() -> None:
    """Only the two shapes of the origin come without an envelope: a request without an id would not deduplicate."""
    with pytest.raises(ContractError) as caught:
        decode(TOPIC, [JSON], None, body(), place="backend.tasks.v1/0/1")

    assert caught.value.code == "envelope.missing"


def test_hostile_text_is_escaped_in_messages() -> None:
    """Messages go to logs and terminals: control sequences and megabytes must not."""
    with pytest.raises(ContractError) as caught:
        decode(TOPIC, headers(type="\u202eevil" + "x" * 2000), None, body())

    assert caught.value.message.isascii()
    assert len(caught.value.message) < 200


def test_integer_that_nobody_could_write_on_is_refused_in_a_fact() -> None:
    """A context answer is stored and published again; a 100-digit integer would stop that half-way."""
    answer = b'{"query_id":"q","status":"complete","facts":[{"facet":"f","key":"k","value":%d}]}' % 10**100
    with pytest.raises(ContractError) as caught:
        decode("backend.context.answers.v1", headers(type="backwright.context.answer.v1"), None, answer)

    assert caught.value.code == "payload.invalid"
