"""The table of outcomes: how a request can end, and what is published then. One test per row."""

import asyncio
import base64
import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent import __version__
from agent.bus.memory import MemoryBus
from agent.bus.port import Outgoing, Record
from agent.journal.memory import MemoryJournal
from agent.journal.port import Checkpoint, Ending, State
from agent.pipeline.port import Ledger, Outcome
from agent.testing.clock import ManualClock
from agent.testing.harness import Harness, cancel, request
from contracts import topics

TASKS = topics.TASKS.name


class InOrder(MemoryBus):
    """Remembers the order of records over all topics."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def append(self, record: Outgoing) -> Record:
        self.order.append(record.topic)
        return super().append(record)


async def test_completed_publishes_the_delivery_before_the_terminal_status(tmp_path: Path) -> None:
    """Who reads `completed` may fetch the delivery."""
    bus = InOrder()
    async with Harness(tmp_path, bus=bus) as harness:
        about = await harness.deliver(request("ok-orders"))
        view = await harness.until_state(about, State.COMPLETED)

    assert harness.statuses(about)[0] == "queued"
    assert harness.statuses(about)[-1] == "completed"
    [delivered] = harness.messages(topics.DELIVERIES)
    terminal = [m for m in harness.messages() if m.envelope.subject == about][-1]
    assert delivered.envelope.subject == about
    assert bus.order[-2:] == [topics.DELIVERIES.name, topics.STATUS.name]
    assert terminal.envelope.sequence == f"{view.sequence:010d}"
    assert harness.dead_letters() == []


async def test_a_failed_gate_fails_the_task_without_a_delivery(harness: Harness) -> None:
    """A number that was not reached is not delivered, and trying again would not change it."""
    about = await harness.deliver(request("gate"))

    await harness.until_state(about, State.FAILED)

    assert harness.statuses(about)[-1] == "failed"
    assert harness.messages(topics.DELIVERIES) == []
    assert harness.dead_letters() == []


async def test_exhausted_retries_end_as_dead_letter_then_failed_with_the_history(harness: Harness) -> None:
    """Nothing is lost: the letter holds the request, each attempt and where they got to."""
    sent = request("broken")
    about = await harness.deliver(sent)
    await harness.through_retries(about, harness.settings.max_attempts - 1)

    await harness.until_state(about, State.FAILED)

    [letter] = harness.dead_letters()
    assert [attempt["attempt"] for attempt in letter["attempts"]] == [1, 2, 3]
    assert all(attempt["error"]["code"] == "error.TransientError" for attempt in letter["attempts"])
    assert base64.b64decode(letter["original"]["value"]) == sent.outgoing.value
    assert [name for name, _ in letter["original"]["headers"]] == [name for name, _ in sent.outgoing.headers]
    assert letter["original"]["topic"] == TASKS
    assert letter["last_checkpoint"] == "read"
    assert letter["task_id"] == about
    assert harness.statuses(about)[-1] == "failed"
    assert harness.messages(topics.DELIVERIES) == []
    stored = await harness.journal.dead_letter(letter["dead_letter_id"])
    assert stored is not None
    assert stored.data == letter


async def test_a_dead_letter_holds_the_whole_context(harness: Harness) -> None:
    """Whoever reads it months later finds the record, its place, what was tried, by whom, and where it ended."""
    sent = request("refused")
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = (
        *sent.outgoing.headers,
        ("ce_traceparent", f"00-{trace}-b7ad6b7169203331-01".encode()),
        ("mine", b"\xff"),
    )
    record = harness.bus.append(Outgoing(TASKS, sent.outgoing.key, sent.outgoing.value, headers))

    await harness.until_state(sent.task_id, State.FAILED)

    [letter] = harness.dead_letters()
    original = letter["original"]
    assert (original["topic"], original["partition"], original["offset"]) == (TASKS, record.partition, record.offset)
    assert datetime.fromisoformat(original["timestamp"]).timestamp() == pytest.approx(record.timestamp_ms / 1000)
    assert base64.b64decode(original["key"]) == record.key
    assert base64.b64decode(original["value"]) == record.value
    assert original["sha256"] == hashlib.sha256(sent.outgoing.value).hexdigest()
    assert [(name, base64.b64decode(value)) for name, value in original["headers"]] == list(headers)
    assert letter["reason"] == {"kind": "permanent", "code": "error.PermanentError", "message": "this cannot be done"}
    [attempt] = letter["attempts"]
    assert attempt["worker"] == harness.supervisor.worker.name
    assert attempt["started_at"] <= attempt["ended_at"]
    assert attempt["error"] == letter["reason"]
    assert (letter["last_checkpoint"], letter["trace_id"], letter["code_version"]) == ("read", trace, __version__)


async def test_a_permanent_error_is_dead_lettered_at_once(harness: Harness) -> None:
    """Trying again cannot help."""
    about = await harness.deliver(request("refused"))

    view = await harness.until_state(about, State.FAILED)

    assert view.attempt == 1
    [letter] = harness.dead_letters()
    assert letter["reason"]["kind"] == "permanent"


async def test_total_time_bounds_all_attempts(harness: Harness) -> None:
    """A task that may take an hour does not take a day by failing often."""
    about = await harness.deliver(request("hang", total_deadline_s=60.0))
    await harness.until_state(about, State.RUNNING)
    await harness.until(lambda: len(harness.scripted.effects) == 1)
    for _ in range(12):
        harness.advance(6)
        await harness.settled()

    await harness.until_state(about, State.FAILED)

    [letter] = harness.dead_letters()
    assert letter["reason"]["code"] == "task.total_deadline"


class Shifted(ManualClock):
    """The time of a journal whose wall clock is another one than the worker's."""

    def __init__(self, worker: ManualClock, shift_s: float) -> None:
        super().__init__()
        self._worker, self._shift_s = worker, shift_s

    def now(self) -> datetime:
        return self._worker.now() + timedelta(seconds=self._shift_s)

    def monotonic(self) -> float:
        return self._worker.monotonic()


@pytest.mark.parametrize("shift_s", [-3600, 3600], ids=["the worker's is fast", "the worker's is slow"])
async def test_total_time_is_not_read_from_a_wrong_wall_clock(tmp_path: Path, shift_s: float) -> None:
    """Neither cut short nor prolonged by an hour: the journal's time up to the claim, the monotonic clock since."""
    async with Harness(tmp_path, journal=lambda clock: MemoryJournal(Shifted(clock, shift_s))) as harness:
        about = await harness.deliver(request("hang", total_deadline_s=60.0))
        await harness.until(lambda: len(harness.scripted.effects) == 1)
        for _ in range(9):
            harness.advance(6)
            await harness.settled()
        assert harness.supervisor.worker.running == 1, "54 of 60 seconds"
        harness.advance(7)

        await harness.until_state(about, State.FAILED)

        [letter] = harness.dead_letters()
        assert letter["reason"]["code"] == "task.total_deadline"


async def test_a_task_that_kills_its_worker_too_often_is_dead_lettered(harness: Harness) -> None:
    """It raises no exception: crashes are counted apart from failures."""
    about = await harness.deliver(request("hang"))
    for _ in range(harness.settings.max_crashes):
        await harness.until(lambda: len(harness.scripted.effects) >= 1 and harness.supervisor.worker.running)
        await harness.crash()
        harness.advance(harness.settings.lease_s + 1)
        await harness.start()

    await harness.until_state(about, State.FAILED)

    [letter] = harness.dead_letters()
    assert letter["reason"]["kind"] == "poison"
    assert len(letter["attempts"]) == harness.settings.max_crashes + 1
    assert harness.statuses(about)[-1] == "failed"


class DiesAtTheEnd:
    """Delivers, and then loses its worker so many times."""

    def __init__(self, crashes: int) -> None:
        self.crashes = crashes
        self.waiting = False

    async def run(self, ledger: Ledger) -> Outcome:
        if "deliver" not in await ledger.checkpoints():
            await ledger.record(Checkpoint("deliver", "hash", {}, "1", 0.0), final=True)
        if ledger.claim.crashes < self.crashes:
            self.waiting = True
            await asyncio.Event().wait()
        return Outcome(Ending.COMPLETED, [])


async def test_a_delivery_that_stands_is_finished_however_often_the_worker_died(tmp_path: Path) -> None:
    """After the final checkpoint the artefact is there: a dead letter would deny what everybody can see."""
    work = DiesAtTheEnd(crashes=5)
    async with Harness(tmp_path, work=work) as harness:
        assert work.crashes > harness.settings.max_crashes
        about = await harness.deliver(request())
        for _ in range(work.crashes):
            await harness.until(lambda: work.waiting, "the end of the delivery")
            work.waiting = False
            await harness.crash()
            harness.advance(harness.settings.lease_s + 1)
            await harness.start()

        await harness.until_state(about, State.COMPLETED)

        assert harness.dead_letters() == []


async def test_a_refused_document_is_rejected_with_its_diagnostics(harness: Harness) -> None:
    """The sender learns where and what to do."""
    about = await harness.deliver(request("rejected"))

    await harness.until_state(about, State.REJECTED)

    last = harness.status_events(about)[-1]
    assert last["status"] == "rejected"
    assert last["diagnostics"][0]["pointer"] == "/paths"
    assert harness.dead_letters() == []


async def test_a_running_task_is_cancelled(harness: Harness) -> None:
    """The work stops where it waits."""
    about = await harness.deliver(request("hang"))
    await harness.until_state(about, State.RUNNING)
    await harness.deliver(cancel(about))

    await harness.until_state(about, State.CANCELLED)

    assert harness.statuses(about)[-1] == "cancelled"
    assert harness.messages(topics.DELIVERIES) == []


async def test_a_waiting_task_is_cancelled_without_being_started(harness: Harness) -> None:
    """It is delayed: nobody has touched it."""
    about = await harness.deliver(request("ok", run_after_s=600))
    await harness.until_state(about, State.SCHEDULED)
    await harness.deliver(cancel(about))

    await harness.until_state(about, State.CANCELLED)

    assert harness.scripted.effects == []


async def test_a_cancellation_that_comes_before_its_task_is_kept(harness: Harness) -> None:
    """Topics have no order between them."""
    sent = request("ok")
    await harness.deliver(cancel(sent.task_id))
    await harness.until(
        lambda: harness.metrics.registry.get_sample_value(
            "backwright_intake_total", {"kind": "command", "outcome": "accepted"}
        )
    )
    await harness.deliver(sent)

    await harness.until_state(sent.task_id, State.CANCELLED)

    assert harness.statuses(sent.task_id) == ["queued", "cancelled"]
    assert harness.scripted.effects == []


async def test_a_cancellation_after_the_end_is_refused(harness: Harness) -> None:
    """The loser of a race is told."""
    about = await harness.deliver(request("ok"))
    await harness.until_state(about, State.COMPLETED)
    await harness.deliver(cancel(about, identity="late"))

    await harness.until(lambda: any(m.message_type.name == "command.refused" for m in harness.messages()))

    refused = harness.status_events(about)[-1]
    assert refused["command_id"] == "late"
    assert refused["state"] == "completed"


async def test_not_started_in_time_expires(harness: Harness) -> None:
    """A request that nobody needs any more is not worked on."""
    about = await harness.deliver(
        request("ok", run_after_s=120, expirytime=harness.clock.now() + timedelta(seconds=60))
    )
    await harness.until_state(about, State.SCHEDULED)
    harness.advance(90)

    await harness.until_state(about, State.EXPIRED)

    assert harness.statuses(about) == ["queued", "expired"]
    assert harness.scripted.effects == []


HEADERS = {"content-type": b"application/json", "ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"/x"}
TYPE = {"ce_type": b"backwright.task.requested.v1"}


@pytest.mark.parametrize(
    ("value", "headers", "code"),
    [
        (b"\x00\xff not a task", {}, "envelope.missing"),
        (None, HEADERS | TYPE, "payload.null"),
        (b"{}", HEADERS | {"ce_type": b"backwright.task.unheard.v1"}, "type.unknown"),
        (b"{}", HEADERS | {"ce_type": b"backwright.task.requested.v2"}, "type.version_unsupported"),
        (b'{"kind": "dance"}', HEADERS | TYPE, "payload.invalid"),
        (b"{", HEADERS | TYPE, "payload.not_json"),
    ],
)
async def test_what_cannot_be_understood_is_dead_lettered_without_a_task(
    harness: Harness, value: bytes | None, headers: dict[str, bytes | None], code: str
) -> None:
    """The raw bytes are in it, and what comes after is worked on."""
    harness.bus.append_raw(TASKS, b"key", value, headers)
    about = await harness.deliver(request("ok"))

    await harness.until_state(about, State.COMPLETED)

    [letter] = harness.dead_letters()
    assert letter["reason"]["code"] == code
    assert "task_id" not in letter
    assert letter["original"].get("value") == (None if value is None else base64.b64encode(value).decode())
    assert len(await harness.tasks()) == 1


async def test_an_unreadable_key_and_a_missing_key_are_dead_lettered(harness: Harness) -> None:
    """A key that is no text still has to be keyed by something."""
    harness.bus.append_raw(TASKS, b"\xfe", b"?", {})
    harness.bus.append_raw(TASKS, None, b"?", {})

    await harness.until(lambda: len(harness.dead_letters()) == 2)

    assert {letter["original"].get("key") for letter in harness.dead_letters()} == {"/g==", None}


async def test_a_known_key_with_another_payload_is_dead_lettered_and_the_task_is_not_touched(harness: Harness) -> None:
    """Two requests under one key: the first counts, the second is a mistake of its sender."""
    about = await harness.deliver(request("ok-a", identity="same"))
    await harness.until_state(about, State.COMPLETED)
    before = await harness.tasks()
    await harness.deliver(request("ok-b", identity="same"))

    await harness.until(harness.dead_letters)

    assert harness.dead_letters()[0]["reason"]["code"] == "idempotency.conflict"
    assert await harness.tasks() == before


async def test_the_same_request_again_makes_nothing_new(harness: Harness) -> None:
    """Kafka may deliver twice; (source, id) decides, not the offset."""
    about = await harness.deliver(request("ok", identity="twice"), times=3)

    await harness.until_state(about, State.COMPLETED)

    assert len(await harness.tasks()) == 1
    assert len(harness.messages(topics.DELIVERIES)) == 1
    assert (
        harness.metrics.registry.get_sample_value("backwright_intake_total", {"kind": "task", "outcome": "duplicate"})
        == 2
    )


async def test_the_same_broken_record_delivered_again_makes_one_dead_letter(harness: Harness) -> None:
    """Deduplicated by where it lay."""
    harness.bus.append_raw(TASKS, b"k", b"rubbish", {})
    await harness.until(harness.dead_letters)
    await harness.stop()
    harness.bus.group("backwright").committed.clear()
    await harness.start()
    about = await harness.deliver(request("ok"))

    await harness.until_state(about, State.COMPLETED)

    assert len(harness.dead_letters()) == 1


async def test_large_broken_records_go_to_the_artefact_store(harness: Harness) -> None:
    """The letter carries a reference and a hash; the bytes can be had."""
    rubbish = b"\xff" * 300_000
    harness.bus.append_raw(TASKS, b"k", rubbish, {})

    await harness.until(harness.dead_letters)

    [letter] = harness.dead_letters()
    assert "value" not in letter["original"]
    assert await harness.artifacts.get(letter["original"]["dataref"]) == rubbish
    assert letter["original"]["size_bytes"] == 300_000


async def test_events_name_their_cause_and_continue_the_trace(harness: Harness) -> None:
    """The sender finds its answers by the id that it chose."""
    sent = request("ok")
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = (*sent.outgoing.headers, ("ce_correlationid", b"order-7"), ("ce_traceparent", trace))
    await harness.deliver(Outgoing(TASKS, sent.outgoing.key, sent.outgoing.value, headers))

    await harness.until_state(sent.task_id, State.COMPLETED)

    for message in harness.messages():
        assert message.envelope.correlationid == "order-7"
        assert message.envelope.causationid == sent.id
        assert message.envelope.traceparent == trace.decode()
        assert message.envelope.source == "/tests/agent"
