"""When the relay publishes, and when it marks."""

import asyncio
from collections.abc import Collection, Sequence

import pytest

from agent.bus.port import Outgoing
from agent.clock import SystemClock
from agent.errors import BusUnavailable
from agent.journal.memory import MemoryJournal
from agent.journal.port import Event, OutboxRow
from agent.runtime import outbox
from agent.runtime.outbox import Outbox, rounds
from agent.telemetry.metrics import Metrics
from agent.testing.waiting import settle, until
from tests.bench.requests import new_task


class Both(MemoryJournal):
    """A journal and a producer that note what is asked of them."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.calls: list[str] = []
        self.takes = 1_000_000  # records, before the bus goes away
        self.commits = asyncio.Event()
        self.commits.set()
        self.marking = asyncio.Event()  # a mark is on its way
        self.acknowledges = asyncio.Event()  # each send at once
        self.acknowledges.set()
        self.records: list[Outgoing] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def unsent(self, *, limit: int, besides: Collection[int] = ()) -> Sequence[OutboxRow]:
        self.calls.append("look")
        return await super().unsent(limit=limit, besides=besides)

    async def send(self, records: Sequence[Outgoing]) -> None:
        if len(records) > self.takes:
            raise BusUnavailable("gone")
        self.takes -= len(records)
        self.calls.append(f"send {len(records)}")
        self.records += records
        await self.acknowledges.wait()

    def acknowledge_one(self) -> None:
        """The send that waits; the next one waits anew."""
        waiting, self.acknowledges = self.acknowledges, asyncio.Event()
        waiting.set()

    async def sent(self, positions: Collection[int]) -> None:
        self.marking.set()
        await self.commits.wait()
        self.calls.append(f"mark {len(positions)}")
        await super().sent(positions)


def relay_of(both: Both) -> Outbox:
    return Outbox(both, both, "/tests/agent", SystemClock(), Metrics())


async def test_no_event_waits_for_a_mark() -> None:
    """A mark is a commit; what came meanwhile is sent, what is not marked yet is not sent again."""
    both = Both()
    relay = relay_of(both)
    both.commits.clear()
    await both.accept([new_task(1), new_task(2)])
    await relay.relay()
    await both.marking.wait()
    await both.accept([new_task(3)])

    assert [await relay.relay(), await relay.relay()] == [1, 0]
    both.commits.set()
    await until_marked(both)
    assert both.calls == ["look", "send 2", "look", "send 1", "look", "mark 2", "mark 1"]


async def test_marks_that_do_not_keep_up_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash repeats what is not marked, so it must not become much; nor may it hide what is unsent."""
    monkeypatch.setattr(outbox, "BATCH", 3)
    both = Both()
    relay = relay_of(both)
    both.commits.clear()
    await both.accept([new_task(number) for number in range(8)])
    assert [await relay.relay(), await relay.relay()] == [3, 3]
    third = asyncio.create_task(relay.relay())
    await settle()
    assert both.calls == ["look", "send 3", "look", "send 3"]

    both.commits.set()

    assert await third == 2
    await until_marked(both)


async def test_what_was_acknowledged_before_an_outage_is_marked() -> None:
    """The outage may be long, and the process may not live to its end."""
    both = Both()
    relay = relay_of(both)
    task = new_task(1)
    await both.accept([task])
    (claim,) = await both.claim("worker", limit=1, lease_s=60)
    await both.record(claim, None, [Event("task.delivered", "orders", {"task_id": task.task_id})])
    both.takes = 1

    with pytest.raises(BusUnavailable):
        await relay.relay()
    await until_marked(both, left=1)
    assert both.calls == ["look", "send 1", "mark 1"]


async def test_a_mark_that_is_stored_during_a_look_does_not_send_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look began before it, and still sees the row."""
    both = Both()
    relay = relay_of(both)
    await both.accept([new_task(1)])
    await relay.relay()
    seen = await both.unsent(limit=10)

    async def late(*, limit: int, besides: Collection[int]) -> Sequence[OutboxRow]:
        await until_marked(both)
        return [row for row in seen if row.position not in besides]

    monkeypatch.setattr(both, "unsent", late)

    assert await relay.relay() == 0


async def test_an_event_waits_for_the_acknowledgement_of_the_former_one_of_its_task() -> None:
    """Across topics: whoever reads `completed` finds the delivery, whichever partition is slow."""
    both = Both()
    relay = relay_of(both)
    task, other = new_task(1), new_task(2)
    await both.accept([task, other])
    (claim,) = await both.claim("worker", limit=1, lease_s=60)
    delivered = Event("task.delivered", "orders", {"task_id": task.task_id})
    await both.record(claim, None, [delivered, Event("task.status", task.task_id, {"status": "completed"})])
    both.acknowledges.clear()
    relaying = asyncio.create_task(relay.relay())
    for sent in ("send 2", "send 1", "send 1"):
        await settle()
        assert both.calls[-1] == sent
        both.acknowledge_one()

    assert await relaying == 4
    await until_marked(both)
    assert [record.topic.split(".")[1] for record in both.records] == ["status", "status", "deliveries", "status"]


async def test_what_is_published_again_has_the_id_of_the_first_time() -> None:
    """It was acknowledged, and its mark got lost with the process: consumers drop it by its id."""
    both = Both()
    both.commits.clear()
    await both.accept([new_task(1)])
    for relay in (relay_of(both), relay_of(both)):
        assert await relay.relay() == 1

    first, again = both.records
    assert first == again


async def test_closing_waits_for_the_marks() -> None:
    """What a drained agent has published is not published again by the next one."""
    both = Both()
    relay = relay_of(both)
    await both.accept([new_task(1)])
    closing = asyncio.Event()
    closing.set()
    both.commits.clear()
    running = asyncio.create_task(relay.run(closing=closing))
    await both.marking.wait()
    await settle()
    assert not running.done()
    both.commits.set()
    await running

    assert (await both.depths()).outbox == 0


@pytest.mark.parametrize(("batch", "looks"), [(500, 1), (3, 2), (2, 3)])
async def test_who_saw_all_there_was_sleeps(batch: int, looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that brought less than it may is the last one until the journal changes; a full one is not."""
    monkeypatch.setattr(outbox, "BATCH", batch)
    both = Both()
    relay = Outbox(both, both, "/tests/agent", SystemClock(), Metrics(), idle_s=60)
    await both.accept([new_task(number) for number in range(4)])
    running = asyncio.create_task(relay.run(closing=asyncio.Event()))
    await until_marked(both)
    await settle()

    assert both.calls.count("look") == looks
    running.cancel()


async def until_marked(both: Both, *, left: int = 0) -> None:
    async def marked() -> bool:
        return (await both.depths()).outbox == left

    await until(marked, f"an outbox of {left}", limit_s=5, every_s=0.001)


def test_rounds_hold_a_run_of_each_task_and_keep_its_order() -> None:
    """What goes to one partition keeps its order there; what goes elsewhere waits for what was before it."""
    given = [
        ("a", "task.status"), ("b", "task.status"), ("a", "task.status"), (None, "task.dead_lettered"), ("a", "task.delivered"),
        (None, "task.dead_lettered"), ("a", "task.status"), ("b", "task.status"), ("a", "task.status"),
    ]  # fmt: skip
    rows = [
        OutboxRow(number, "id", task, kind, "k", "{}", SystemClock().now(), None, {})
        for number, (task, kind) in enumerate(given, 1)
    ]

    assert [[row.position for row in round_] for round_ in rounds(rows)] == [[1, 2, 3, 4, 6, 8], [5], [7, 9]]


def test_a_run_ends_where_the_key_changes() -> None:
    """Another key is another partition, which may be slower."""
    rows = [
        OutboxRow(number, "id", "a", "task.status", key, "{}", SystemClock().now(), None, {})
        for number, key in enumerate("kkj", 1)
    ]

    assert [[row.position for row in round_] for round_ in rounds(rows)] == [[1, 2], [3]]
