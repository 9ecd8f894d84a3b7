"""Records of somebody who means harm, through the inbox into every store: each becomes something, none stops the intake."""

import asyncio
import json
import random

import pytest
from opentelemetry.trace import NoOpTracer

from agent.artifacts.memory import MemoryArtifacts
from agent.bus.memory import MemoryBus
from agent.bus.port import Outgoing
from agent.runtime.inbox import Inbox, Pressure
from agent.telemetry.metrics import Metrics
from contracts import topics
from contracts.codec import task_id
from contracts.envelope import BY_WIRE_TYPE
from tests.conformance.journals import FakeClock, Store

TASK = "6f1e9a04-7d0e-5c3b-9a5e-0c6a2f1d8e11"
# No repeats: what a database compresses would fit where this does not.
LONG = "".join(random.Random(1).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=4_000))
WIDE = "".join(chr(random.Random(2).randrange(0x4E00, 0x9FFF)) for _ in range(4_000))
GOOD = {"kind": "build", "specification": {"content": "openapi: 3.1.0"}}

Row = tuple[str, str, dict[str, str], bytes, object]
ROWS: list[Row] = [
    ("a key with NUL", "task.requested", {}, b"a\0b", GOOD),
    ("a key of controls", "task.requested", {}, b"\x1b[2J\r\n", GOOD),
    ("a key of a path", "task.requested", {}, b"../../etc/passwd", GOOD),
    ("a key longer than an index takes", "task.requested", {}, LONG.encode() * 3, GOOD),
    ("a long id", "task.requested", {"ce_id": LONG}, b"k", GOOD),
    ("a wide id and source", "task.requested", {"ce_id": WIDE, "ce_source": WIDE}, b"k", GOOD),
    ("an id of a path", "task.requested", {"ce_id": "../../x/%2e%2e/\\", "ce_source": "'; DROP TABLE task; --"}, b"k", GOOD),
    ("a long idempotency key", "task.requested", {"ce_idempotencykey": WIDE}, b"k", GOOD),
    ("an expiry at the end of time", "task.requested", {"ce_expirytime": "9999-12-31T23:59:59.999999-14:00"}, b"k", GOOD),
    ("an expiry before money", "task.requested", {"ce_expirytime": "0001-01-02T00:00:00Z"}, b"k", GOOD),
    ("a priority beyond integers", "task.requested", {}, b"k", {**GOOD, "priority": 2**70}),
    ("a delay of a month", "task.requested", {}, b"k", {**GOOD, "run_after_s": 30 * 86400, "total_deadline_s": 1e-300}),
    ("a command of a long id", "task.cancel", {"ce_id": WIDE}, b"k", {"task_id": TASK}),
    ("a command from a wide source", "task.cancel", {"ce_source": WIDE}, b"k", {"task_id": TASK, "reason": WIDE}),
    ("a command about a path", "task.cancel", {}, b"k", {"task_id": "../../x"}),
    ("a dead letter of a path", "dead_letter.replay", {}, b"k", {"dead_letter_id": "../../x' OR 1=1"}),
    ("an answer to a long question", "context.answer", {}, b"k", {"query_id": WIDE, "status": "unknown"}),
    ("an answer to an empty question", "context.answer", {}, b"k", {"query_id": "", "status": "unknown"}),
    ("a large value", "task.requested", {}, b"k", {**GOOD, "extra": WIDE * 40}),
    ("garbage", "task.requested", {}, b"\xff\xfe", None),
]  # fmt: skip
TOPICS = (topics.TASKS.name, topics.CONTROL.name, topics.CONTEXT_ANSWERS.name)


def _record(row: Row) -> Outgoing:
    _name, kind, attributes, key, value = row
    headers = {
        "content-type": "application/json", "ce_specversion": "1.0", "ce_id": "e-1", "ce_source": "/x",
        "ce_type": f"backwright.{kind}.v1", **attributes,
    }  # fmt: skip
    payload = b"\0\xff" if value is None else json.dumps(value).encode()
    return Outgoing(
        BY_WIRE_TYPE[headers["ce_type"]].topic.name,
        key,
        payload,
        tuple((name, text.encode()) for name, text in headers.items()),
    )


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
async def test_a_hostile_record_is_taken_or_refused_and_the_next_one_comes_through(store: Store, row: Row) -> None:
    """One record that no store can take would be read again for ever, and everything behind it would wait."""
    bus, metrics = MemoryBus(), Metrics()
    await _send(bus, row, ("", "task.requested", {"ce_id": "good", "ce_source": "/good"}, b"good", GOOD))
    inbox = Inbox(
        bus.consumer(list(TOPICS), group="agents"), store.journal, MemoryArtifacts(), FakeClock(), metrics,
        NoOpTracer(), Pressure(100, 50), poll_s=0.01,
    )  # fmt: skip

    def ended() -> bool:
        return _total(metrics, "records_consumed") == 2 or _total(metrics, "journal_errors") > 3

    async with asyncio.timeout(20):
        await inbox.run(draining=lambda: False, ended=ended)

    assert _total(metrics, "journal_errors") == 0
    assert task_id("/good", "good") in {view.task_id for view in await store.journal.tasks(states=(), limit=10)}


async def _send(bus: MemoryBus, *rows: Row) -> None:
    producer = bus.producer()
    await producer.start()
    await producer.send([_record(row) for row in rows])
    await producer.stop()


def _total(metrics: Metrics, name: str) -> float:
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    return sum(one.value for one in samples if one.name == f"backwright_{name}_total")
