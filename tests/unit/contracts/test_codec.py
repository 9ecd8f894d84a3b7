"""What decodes, what encodes, and that the official SDK agrees."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid5

import orjson
import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import codec
from contracts.codec import decode, encode
from contracts.context import ContextQuery
from contracts.envelope import CONTEXT_ANSWER, TASK_REQUESTED, TASK_STATUS, Envelope
from contracts.errors import ContractError
from contracts.samples import Sample, samples
from contracts.status import TaskStatus
from contracts.tasks import TaskRequested
from tests.unit.contracts.records import STRUCTURED, TOPIC, VALUE, body, headers, structured

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def test_request_decodes_in_binary_mode() -> None:
    """The normal case: headers carry the attributes, the value is the data, byte for byte."""
    message = decode(TOPIC, headers(idempotencykey="k-1", expirytime="2026-01-05T14:00:00+02:00"), b"orders", body())

    assert message.message_type is TASK_REQUESTED
    assert message.envelope == Envelope("e-1", "/tests", TASK_REQUESTED.wire, idempotencykey="k-1", expirytime=NOON)
    assert message.envelope.idempotency == ("/tests", "k-1")
    assert message.envelope.expirytime is not None
    assert message.envelope.expirytime.tzinfo is UTC
    assert isinstance(message.payload, TaskRequested)
    assert message.data == body()


@pytest.mark.parametrize(
    "content_type", [b"application/json; charset=utf-8", b"APPLICATION/JSON", b"application/x+json", None]
)
def test_json_content_types_are_taken(content_type: bytes | None) -> None:
    """An absent content type means JSON (CloudEvents §3.1.1); suffix and parameter are no fault."""
    given = headers()[1:]

    message = decode(TOPIC, given if content_type is None else [("content-type", content_type), *given], None, body())

    assert message.envelope.id == "e-1"


def test_structured_mode_gives_the_same_message() -> None:
    """A sender's choice of mode must not change what is done."""
    message = decode(TOPIC, STRUCTURED, None, structured(sequence=7, tracestate=None))

    expected = decode(TOPIC, headers(), None, body())
    assert (message.payload, message.data, message.envelope.id) == (expected.payload, body(), "e-1")
    assert (message.envelope.sequence, message.envelope.tracestate) == ("7", None)


def test_structured_mode_takes_base64() -> None:
    """The JSON format knows `data_base64`; the official SDK writes it for bytes."""
    event = orjson.loads(structured())
    del event["data"]
    event["data_base64"] = "eyJzcGVjaWZpY2F0aW9uIjp7ImNvbnRlbnQiOiJ4In19"

    assert decode(TOPIC, STRUCTURED, None, orjson.dumps(event)).data == b'{"specification":{"content":"x"}}'


def test_what_is_not_ours_is_ignored() -> None:
    """Tolerant reader: unknown extensions, foreign headers with any bytes, unknown fields."""
    given = [*headers(), ("ce_comexample", b"\xff"), ("b3", b"\x00\xff"), ("b3", None)]

    message = decode(TOPIC, given, None, body({**VALUE, "colour": "blue"}))

    assert message.envelope.id == "e-1"


def test_harmless_text_with_the_letters_of_nan_passes() -> None:
    """The scan for NaN and U+0000 is only a reason to look closer: documents speak about both."""
    text = 'example: NaN, "Infinity", -Infinity, \\u0000'

    message = decode(TOPIC, headers(), None, body({"specification": {"content": text}}))

    assert isinstance(message.payload, TaskRequested)
    assert message.payload.specification.content == text


def test_request_by_reference_needs_no_content() -> None:
    """Large documents come by claim check: a content name, never an address."""
    name = "sha256:" + "a" * 64

    message = decode(TOPIC, headers(dataref=name), None, b'{"specification":{}}')

    assert message.envelope.dataref == name


def test_bare_query_of_the_origin_gets_its_place_as_id() -> None:
    """Prompt-file agents write three fields and nothing else; their record's place is unique and stable."""
    value = {"requesting_agent": "api-designer", "request_type": "get_api_context", "payload": {"query": "Which?"}}
    place = "backend.context.queries.v1/2/40"

    message = decode("backend.context.queries.v1", [], None, orjson.dumps(value), place=place)

    assert isinstance(message.payload, ContextQuery)
    assert message.payload.payload.query == "Which?"
    assert (message.envelope.id, message.envelope.source) == (place, "/agents/api-designer")


def test_bare_status_of_the_origin_decodes() -> None:
    """The five fields, to the letter."""
    value = {
        "agent": "backend-developer",
        "status": "developing",
        "phase": "Service implementation",
        "completed": ["Data models", "Business logic", "Auth layer"],
        "pending": ["Cache integration", "Queue setup", "Performance tuning"],
    }

    message = decode("backend.status.v1", [], None, orjson.dumps(value), place="backend.status.v1/0/0")

    assert isinstance(message.payload, TaskStatus)
    assert message.payload.pending == tuple(value["pending"])


def test_encoding_has_a_fixed_order_and_padded_sequence() -> None:
    """Equal input, equal bytes: an outbox row that is sent twice must be the same record."""
    envelope = Envelope(
        "e", "/s", TASK_STATUS.wire, sequence="7", correlationid="c", time=datetime(2026, 1, 5, 13, tzinfo=timezone(timedelta(hours=1)))
    )  # fmt: skip

    encoded = encode(TASK_STATUS, envelope, {"z": 1, "a": NOON}, key="t")

    assert encoded.value == b'{"z":1,"a":"2026-01-05T12:00:00Z"}'
    assert (encoded.topic, encoded.key) == ("backend.status.v1", b"t")
    assert encoded.headers == (
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e"),
        ("ce_source", b"/s"),
        ("ce_type", b"backwright.task.status.v1"),
        ("ce_time", b"2026-01-05T12:00:00Z"),
        ("ce_correlationid", b"c"),
        ("ce_sequence", b"0000000007"),
    )


def test_naive_time_is_not_published() -> None:
    """A time without an offset means something else on every machine."""
    with pytest.raises(ValueError, match="offset"):
        encode(TASK_STATUS, Envelope("e", "/s", TASK_STATUS.wire, time=datetime(2026, 1, 5)), {}, key="t")  # the fault


def test_attributes_of_an_envelope_are_text() -> None:
    """What a journal row keeps of a request: set attributes only, ready for a header or a JSON column."""
    envelope = Envelope("e", "/s", "t", expirytime=NOON, traceparent="00-a")

    assert codec.attributes(envelope) == {
        "id": "e", "source": "/s", "type": "t", "traceparent": "00-a", "expirytime": "2026-01-05T12:00:00Z",
    }  # fmt: skip


def test_task_id_is_known_beforehand_and_injective() -> None:
    """A sender computes it from source and key; moving a letter between the two gives another task."""
    assert codec.task_id("/a", "b1") == codec.task_id("/a", "b1")
    assert codec.task_id("/a", "b1") != codec.task_id("/ab", "1")


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.message_type.name)
def test_sample_survives_encode_and_decode(sample: Sample) -> None:
    """What we write, we read, without loss."""
    encoded = encode(sample.message_type, sample.envelope, sample.payload, key=sample.key)

    message = decode(encoded.topic, encoded.headers, encoded.key, encoded.value)

    assert (message.envelope, message.payload) == (sample.envelope, sample.payload)


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.message_type.name)
def test_official_sdk_reads_what_we_write(sample: Sample) -> None:
    """Oracle: a stranger with the CloudEvents SDK sees the same event."""
    encoded = encode(sample.message_type, sample.envelope, sample.payload, key=sample.key)

    event = kafka.from_kafka_event(kafka.KafkaMessage(dict(encoded.headers), encoded.key, encoded.value))

    assert (event.get_id(), event.get_source(), event.get_type()) == (
        sample.envelope.id, sample.envelope.source, sample.message_type.wire,
    )  # fmt: skip
    assert event.get_time() == sample.envelope.time
    assert event.get_extension("correlationid") == sample.envelope.correlationid
    assert event.get_data() == json.loads(encoded.value)


@pytest.mark.parametrize("write", [kafka.to_binary_event, kafka.to_structured_event])
@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.message_type.name)
def test_we_read_what_the_official_sdk_writes(sample: Sample, write: Any) -> None:
    """Oracle, the other way round, in both modes."""
    ours = sample.envelope
    attributes: dict[str, Any] = codec.attributes(ours) | {"specversion": "1.0", "datacontenttype": "application/json"}
    if ours.time is not None:
        attributes["time"] = ours.time
    theirs = write(CloudEvent(attributes, sample.payload.model_dump(mode="json")), JSONFormat())

    message = decode(sample.message_type.topic.name, list(theirs.headers.items()), None, theirs.value)

    assert (message.envelope, message.payload) == (ours, sample.payload)


_TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=40)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    envelope=st.builds(
        Envelope,
        id=_TEXT, source=_TEXT, type=st.just(CONTEXT_ANSWER.wire), subject=st.none() | _TEXT,
        time=st.none() | st.datetimes(timezones=st.just(UTC)), correlationid=st.none() | _TEXT,
        causationid=st.none() | _TEXT, idempotencykey=st.none() | _TEXT, traceparent=st.none() | _TEXT,
        tracestate=st.none() | _TEXT, expirytime=st.none() | st.datetimes(timezones=st.just(UTC)),
        dataref=st.none() | st.just("sha256:" + "0" * 64),
        sequence=st.none() | st.integers(1, 10**10 - 1).map(codec.sequence_text),
    ),
    value=_JSON,
    key=_TEXT,
)  # fmt: skip
def test_any_event_makes_the_round_trip(envelope: Envelope, value: Any, key: str) -> None:
    """Every attribute that CloudEvents allows, and every JSON value, comes back as it was."""
    data = {"query_id": key, "status": "partial", "facts": [{"facet": "f", "key": key, "value": value}]}

    encoded = encode(CONTEXT_ANSWER, envelope, data, key=key)
    message = decode(encoded.topic, encoded.headers, encoded.key, encoded.value)

    assert message.envelope == envelope
    assert json.loads(message.data) == data


@settings(max_examples=300, deadline=None)
@given(
    topic=st.sampled_from(["backend.tasks.v1", "backend.status.v1", "backend.context.queries.v1", "elsewhere"]),
    extra=st.lists(
        st.tuples(st.sampled_from(["ce_id", "ce_time", "ce_type", "content-type", "x"]), st.none() | st.binary(max_size=60)), max_size=4
    ),
    whole=st.booleans(),
    key=st.none() | st.binary(max_size=8),
    value=st.none() | st.binary(max_size=60) | _JSON.map(lambda item: json.dumps(item).encode()),
    place=st.none() | st.just("t/0/1"),
)  # fmt: skip
def test_no_bytes_raise_anything_but_a_contract_error(
    topic: str, extra: codec.Headers, whole: bool, key: bytes | None, value: bytes | None, place: str | None
) -> None:
    """The inbox stands on this: another exception would stop the partition."""
    given = [*headers(), *extra] if whole else extra
    try:
        decode(topic, given, key, value, place=place)
    except ContractError as error:
        assert error.code in codec.REMEDIES  # noqa: PT017  # a success is fine, too


@given(
    data=st.dictionaries(_TEXT | st.just("sequence"), _JSON, max_size=4)
    | st.fixed_dictionaries({"nested": st.fixed_dictionaries({"sequence": st.integers(0, 9)}), "last": st.just("}")}),
    sequence=st.integers(1, 10**9),
)
def test_a_stored_event_gets_its_sequence_as_if_it_had_been_encoded_with_it(data: Any, sequence: int) -> None:
    """The outbox writes the number into stored bytes, without reading them."""
    stored = orjson.dumps(data)

    assert codec.with_sequence(stored, sequence) == orjson.dumps({**orjson.loads(stored), "sequence": sequence})


@given(source=_TEXT, key=_TEXT)
def test_task_id_is_a_version_5_uuid(source: str, key: str) -> None:
    """Senders compute it with the library of their language; ours is written out for speed."""
    assert codec.task_id(source, key) == str(uuid5(codec.TASK_NAMESPACE, f"{len(source)}:{source}{key}"))
