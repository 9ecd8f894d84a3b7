"""From the bus into the journal: nothing is forgotten between a record and its offset."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.bus.memory import MemoryBus, MemoryConsumer
from agent.bus.port import Consumer, Outgoing, Record
from agent.errors import JournalUnavailable, TransientError
from agent.journal.memory import MemoryJournal
from agent.journal.port import Acceptance, Intake, NewTask, State
from agent.runtime.inbox import TOPICS, Pressure
from agent.testing.clock import ManualClock
from agent.testing.harness import Harness, answer, cancel, request
from contracts import topics


class Notes(MemoryConsumer):
    """A consumer that notes what is asked of it."""

    def __init__(self, bus: "NotedBus", names: Collection[str], group: str | None) -> None:
        super().__init__(bus, names, group)
        self._calls = bus.calls
        self.paused: set[str] = set()
        self.polls = 0

    async def poll(self, *, timeout_s: float) -> Sequence[Record]:
        self.polls += 1
        return await super().poll(timeout_s=timeout_s)

    async def commit(self, records: Sequence[Record]) -> None:
        self._calls.append(f"commit {len(records)}")
        await super().commit(records)

    def pause(self, topics: Collection[str]) -> None:
        self.paused |= set(topics)
        super().pause(topics)

    def resume(self, topics: Collection[str]) -> None:
        self.paused -= set(topics)
        super().resume(topics)


class NotedBus(MemoryBus):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.members: list[Notes] = []

    def consumer(self, topics: Collection[str], *, group: str | None) -> Consumer:
        self.members.append(Notes(self, topics, group))
        return self.members[-1]


class Slow(MemoryJournal):
    """Its acceptance takes until `commits` is set; `away`: it takes nothing."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.asked, self.commits = asyncio.Event(), asyncio.Event()
        self.away = False
        self.calls: list[str] = []
        self.taken: list[Intake] = []

    async def accept(self, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        self.asked.set()
        await self.commits.wait()
        if self.away:
            raise JournalUnavailable("away")
        outcomes = await super().accept(batch)
        self.taken += batch
        self.calls += [f"store {type(item).__name__}" for item in batch]
        return outcomes


KINDS = {
    "NewTask": request("ok", run_after_s=600).outgoing,
    "NewCommand": cancel(request().task_id),
    "NewAnswer": answer("q-1"),
    "NewDeadLetter": Outgoing(topics.TASKS.name, b"k", b"rubbish", ()),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_offset_is_committed_after_its_row_is_stored(tmp_path: Path, kind: str) -> None:
    """Whatever the record becomes: a task, a command, an answer or a dead letter."""
    bus = NotedBus()
    async with Harness(tmp_path, journal=Slow, bus=bus) as harness:
        journal = harness.journal
        assert isinstance(journal, Slow)
        journal.calls = bus.calls
        await harness.deliver(KINDS[kind])
        await asyncio.wait_for(journal.asked.wait(), 5)
        assert bus.calls == []

        journal.commits.set()
        await harness.until(lambda: any(bus.group("backwright").committed.values()), "a commit")

    assert bus.calls == [f"store {kind}", "commit 1"]


async def test_while_the_journal_is_away_everything_pauses_and_polling_goes_on(tmp_path: Path) -> None:
    """What keeps coming would fill the memory; who does not poll loses its place in the group."""
    bus = NotedBus()
    async with Harness(tmp_path, journal=Slow, bus=bus) as harness:
        journal = harness.journal
        assert isinstance(journal, Slow)
        journal.commits.set()
        journal.away = True
        about = await harness.deliver(request("ok"))
        await asyncio.wait_for(journal.asked.wait(), 5)
        await harness.until(lambda: bus.members[0].paused == set(TOPICS), "a pause of all topics")
        polls = bus.members[0].polls

        def passes() -> bool:
            harness.advance(0.2)
            return bus.members[0].polls > polls + 3

        await harness.until(passes, "polls during the outage")
        assert bus.calls == []
        journal.away = False

        def is_stored() -> bool:
            harness.advance(0.2)
            return bool(bus.calls)

        await harness.until(is_stored, "the end of the outage")
        await harness.until_state(about, State.COMPLETED)
        assert bus.members[0].paused == set()
        assert len(bus.members) == 1


async def test_an_outage_during_drain_does_not_open_the_tasks_topic(tmp_path: Path) -> None:
    """All topics were paused for the outage; commands flow again afterwards, tasks stay for somebody else."""
    bus = NotedBus()
    harness = Harness(tmp_path, journal=Slow, bus=bus, drain_s=5)
    journal = harness.journal
    assert isinstance(journal, Slow)
    journal.commits.set()
    await harness.start()
    about = await harness.deliver(request("hang"))
    await harness.until(lambda: len(harness.scripted.effects) == 1)
    harness.supervisor.drain()
    await harness.until(lambda: bus.members[0].paused == {topics.TASKS.name}, "a pause of the tasks topic")
    journal.away = True
    await harness.deliver(cancel(request().task_id))
    await harness.until(lambda: bus.members[0].paused == set(TOPICS), "a pause of all topics")
    journal.away = False

    def is_as_before() -> bool:
        harness.advance(0.1)
        return len(journal.calls) == 2 and bus.members[0].paused == {topics.TASKS.name}

    await harness.until(is_as_before, "the end of the outage")
    await harness.deliver(cancel(about))
    await harness.ended()

    assert harness.statuses(about)[-1] == "cancelled"


async def test_a_large_dead_letter_waits_for_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes go to the artefact store first; while that is away the offset waits, and what comes behind it too."""
    bus = NotedBus()
    async with Harness(tmp_path, bus=bus) as harness:
        tries: list[int] = []
        put = harness.artifacts.put

        async def away(content: bytes) -> str:
            tries.append(len(content))
            if len(tries) < 4:
                raise TransientError("away")
            return await put(content)

        monkeypatch.setattr(harness.artifacts, "put", away)
        rubbish = b"\xff" * 300_000
        harness.bus.append_raw(topics.TASKS.name, b"k", rubbish, {})

        def passes() -> bool:
            harness.advance(0.2)
            assert len(tries) > 3 or bus.calls == []
            return bool(harness.dead_letters())

        await harness.until(passes, "a dead letter")
        assert tries == [len(rubbish)] * 4
        [letter] = harness.dead_letters()
        assert await harness.artifacts.get(letter["original"]["dataref"]) == rubbish
        await harness.until(lambda: bus.calls == ["commit 1"], "its commit")


def test_back_pressure_has_hysteresis() -> None:
    """Between the two limits it stays as it is, so that a queue at its limit does not flutter."""
    pressure = Pressure(pause_above=10, resume_below=5)

    def paused_at(waiting: int) -> bool:
        pressure.waiting = waiting
        return pressure.update()

    assert [paused_at(n) for n in (0, 6, 10, 11, 10, 6, 5, 6, 10, 11)] == [
        False, False, False, True, True, True, False, False, False, True,
    ]  # fmt: skip


async def test_what_a_sender_asks_for_reaches_the_journal(tmp_path: Path) -> None:
    """Order, priority, delay and deadlines are decided there; without a service the record's key is the ordering key."""
    async with Harness(tmp_path, journal=Slow) as harness:
        journal = harness.journal
        assert isinstance(journal, Slow)
        journal.commits.set()
        until = harness.clock.now() + timedelta(hours=1)
        wishes: dict[str, Any] = {
            "priority": 7,
            "run_after_s": 600.0,
            "attempt_deadline_s": 60.0,
            "total_deadline_s": 90.0,
        }
        given = request("ok", expirytime=until, **wishes)
        nameless = request().outgoing
        value = b'{"specification": {"content": "openapi: 3.1.0"}}'
        harness.bus.append(given.outgoing)
        harness.bus.append(Outgoing(nameless.topic, b"team-a", value, nameless.headers))
        await harness.until(lambda: len(journal.taken) == 2)

    tasks = {task.ordering_key: task for task in journal.taken if isinstance(task, NewTask)}
    assert set(tasks) == {"ok", "team-a"}
    assert {name: getattr(tasks["ok"], name) for name in wishes} == wishes
    assert tasks["ok"].expires_at == until


async def test_an_idempotency_key_outweighs_the_id(harness: Harness) -> None:
    """A sender that makes a new id for each try says by the key that it is the same request."""
    first, again = request("ok"), request("ok")
    for given in (first, again):
        headers = (*given.outgoing.headers, ("ce_idempotencykey", b"order-7"))
        await harness.deliver(Outgoing(topics.TASKS.name, b"ok", first.outgoing.value, headers))

    await harness.until(lambda: len(harness.messages(topics.DELIVERIES)) == 1)
    await harness.settled()

    [task] = await harness.tasks()
    assert task.task_id not in {first.task_id, again.task_id}
    assert task.task_id == request(identity="order-7").task_id, "a sender can compute it from its key"


async def test_a_reference_is_accepted_unread(harness: Harness) -> None:
    """A document behind a reference is fetched by the step that needs it; the loop that reads the bus opens nothing."""
    given = request("ok", specification={})
    headers = (*given.outgoing.headers, ("ce_dataref", b"sha256:" + b"0" * 64))
    await harness.deliver(Outgoing(topics.TASKS.name, b"ok", given.outgoing.value, headers))

    await harness.until_state(given.task_id, State.COMPLETED)

    assert harness.artifacts._stored == {}
