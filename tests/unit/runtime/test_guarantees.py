"""What the runtime guarantees, one sentence per test, on memory adapters (tests/README.md has the list)."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.bus.memory import MemoryBus
from agent.bus.port import Outgoing
from agent.errors import FatalError, Fenced, JournalUnavailable
from agent.journal.memory import MemoryJournal
from agent.journal.port import Acceptance, Claim, Depths, Intake, OutboxRow, Renewal, State
from agent.pipeline.port import Ledger
from agent.testing.clock import ManualClock
from agent.testing.harness import Harness, answer, cancel, request
from contracts import topics


class ShakyJournal(MemoryJournal):
    """A journal that can be away."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.away = False
        self.renewals = 0

    def _check(self) -> None:
        if self.away:
            raise JournalUnavailable("away")

    async def accept(self, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        self._check()
        return await super().accept(batch)

    async def claim(self, worker: str, *, limit: int, lease_s: float) -> Sequence[Claim]:
        self._check()
        return await super().claim(worker, limit=limit, lease_s=lease_s)

    async def renew(self, claims: Sequence[Claim], *, lease_s: float) -> Mapping[str, Renewal]:
        self._check()
        self.renewals += 1
        return await super().renew(claims, lease_s=lease_s)

    async def record(self, *arguments: Any, **named: Any) -> None:
        self._check()
        await super().record(*arguments, **named)

    async def unsent(self, *, limit: int, besides: Collection[int] = ()) -> Sequence[OutboxRow]:
        self._check()
        return await super().unsent(limit=limit, besides=besides)

    async def depths(self) -> Depths:
        self._check()
        return await super().depths()


async def test_sequences_are_gapless_across_attempts(harness: Harness) -> None:
    """One sequence per task, whatever happens to its attempts."""
    about = await harness.deliver(request("flaky"))
    await harness.through_retries(about, 2)

    view = await harness.until_state(about, State.COMPLETED)

    assert harness.sequences(about) == list(range(1, view.sequence + 1))
    assert view.attempt == 3


async def test_a_retry_resumes_after_the_last_checkpoint(harness: Harness) -> None:
    """Finished steps are not repeated."""
    about = await harness.deliver(request("flaky"))
    await harness.through_retries(about, 2)
    await harness.until_state(about, State.COMPLETED)

    assert [step for _, _, step in harness.scripted.effects] == ["read", "make", "check", "deliver"]


async def test_a_crash_repeats_at_most_the_step_in_flight(harness: Harness) -> None:
    """After the lease has run out the next attempt goes on behind the last checkpoint."""
    about = await harness.deliver(request("hang"))
    await harness.until(lambda: len(harness.scripted.effects) == 1)
    await harness.crash()
    harness.advance(harness.settings.lease_s + 1)
    await harness.start()
    await harness.until(lambda: harness.supervisor.worker.running == 1)
    view = await harness.until_state(about, State.RUNNING)

    assert view.crashes == 1
    assert [step for _, _, step in harness.scripted.effects] == ["read"]


async def test_a_write_with_an_old_fence_is_refused(harness: Harness) -> None:
    """Whoever was overtaken finds out, and nothing of it counts."""
    seen: list[Ledger] = []
    held = asyncio.Event()

    async def hold(ledger: Ledger) -> None:
        seen.append(ledger)
        if len(seen) == 1:
            await held.wait()

    harness.scripted.before["make"] = hold
    about = await harness.deliver(request("ok"))
    await harness.until(lambda: len(seen) == 1)
    # Another worker claims it behind our back, as after a SIGSTOP.
    assert isinstance(harness.journal, MemoryJournal)
    harness.clock.advance(harness.settings.lease_s + 1)
    [stolen] = await harness.journal.claim("thief", limit=1, lease_s=3600)

    with pytest.raises(Fenced):
        await seen[0].record(None, [])
    held.set()
    await harness.until(lambda: harness.supervisor.worker.running == 0)

    assert stolen.fence == seen[0].claim.fence + 1
    view = await harness.journal.task(about)
    assert view is not None
    assert view.state is State.RUNNING
    assert "completed" not in harness.statuses(about)


async def passing(harness: Harness, holds: Callable[[], object]) -> None:
    """Let time pass step by step until `holds()`; what waits for its hour is given its turn between two steps."""

    def passed() -> object:
        harness.advance(0.2)
        return holds()

    await harness.until(passed)


async def test_an_attempt_that_lost_its_lease_stops_by_itself(tmp_path: Path) -> None:
    """It could not renew, so it stops before another may claim; it writes nothing."""
    async with Harness(tmp_path, journal=ShakyJournal) as harness:
        journal = harness.journal
        assert isinstance(journal, ShakyJournal)
        await harness.deliver(request("hang"))
        await harness.until(lambda: len(harness.scripted.effects) == 1)
        journal.away = True

        harness.advance(harness.settings.self_stop_s + 0.1)  # and no further: the lease has not run out yet
        await harness.until(lambda: harness.supervisor.worker.running == 0)
        journal.away = False

        assert harness.metrics.registry.get_sample_value("backwright_self_stops_total") == 1
        harness.advance(10)  # whoever waits out the outage looks again


async def test_a_journal_outage_drops_nothing(tmp_path: Path) -> None:
    """The batch is kept and stored later; the offset waits for it."""
    async with Harness(tmp_path, journal=ShakyJournal) as harness:
        journal = harness.journal
        assert isinstance(journal, ShakyJournal)
        journal.away = True
        abouts = [await harness.deliver(request("ok")) for _ in range(5)]
        await harness.until(
            lambda: harness.metrics.registry.get_sample_value(
                "backwright_journal_errors_total", {"operation": "accept"}
            )
        )
        assert harness.bus.group("backwright").committed == {}
        journal.away = False

        await passing(harness, lambda: len(harness.messages(topics.DELIVERIES)) == len(abouts))

        for about in abouts:
            await harness.until_state(about, State.COMPLETED)


async def test_a_broker_outage_loses_and_repeats_no_event(harness: Harness) -> None:
    """Rows stay unsent until they are acknowledged."""
    about = await harness.deliver(request("slow"))
    await harness.until_state(about, State.RUNNING)
    harness.bus.down = True
    await harness.until(lambda: len(harness.scripted.effects) == 4)
    harness.bus.down = False
    await passing(harness, lambda: harness.messages(topics.DELIVERIES))

    view = await harness.until_state(about, State.COMPLETED)

    published = [int(m.envelope.sequence or 0) for m in harness.messages() if m.envelope.subject == about]
    assert published == list(range(1, view.sequence + 1)), "each once, in order"


async def test_a_restart_reads_nothing_again(harness: Harness) -> None:
    """What is stored is committed; only a crash between the two would bring it back."""
    about = await harness.deliver(request("ok"))
    await harness.until_state(about, State.COMPLETED)
    await harness.stop()
    await harness.start()
    after = await harness.deliver(request("ok"))
    await harness.until_state(after, State.COMPLETED)

    consumed = harness.metrics.registry.get_sample_value(
        "backwright_records_consumed_total", {"topic": topics.TASKS.name}
    )
    assert consumed == 2


async def test_one_ordering_key_runs_one_task_at_a_time_in_order(harness: Harness) -> None:
    """Two builds of one service do not meet in its repository."""
    first = await harness.deliver(request("slow-orders"))
    second = await harness.deliver(request("slow-orders"))
    other = await harness.deliver(request("slow-users"))

    for about in (first, second, other):
        await harness.until_state(about, State.COMPLETED)

    order = [about for about, _, _ in harness.scripted.effects if about != other]
    assert order == [first] * 4 + [second] * 4


async def test_drain_hands_back_what_cannot_finish_and_counts_no_failure(harness: Harness) -> None:
    """A rolling deploy is not a failure of the task."""
    about = await harness.deliver(request("hang"))
    await harness.until(lambda: len(harness.scripted.effects) == 1)

    await harness.stop()

    view = await harness.journal.task(about)
    assert view is not None
    assert (view.state, view.attempt, view.crashes) == (State.AVAILABLE, 0, 0)
    assert harness.statuses(about)[-1] == "queued"
    assert (await harness.journal.depths()).outbox == 0


async def test_drain_lets_finish_what_can(tmp_path: Path) -> None:
    """Within the soft limit: what is nearly done is not done again by somebody else."""
    harness = Harness(tmp_path, drain_s=5)
    await harness.start()
    about = await harness.deliver(request("slow"))
    await harness.until_state(about, State.RUNNING)

    await harness.stop()

    assert harness.statuses(about)[-1] == "completed"


async def test_a_cancellation_is_observed_during_drain(tmp_path: Path) -> None:
    """Commands flow until the end."""
    harness = Harness(tmp_path, drain_s=5)
    await harness.start()
    about = await harness.deliver(request("hang"))
    await harness.until(lambda: len(harness.scripted.effects) == 1)
    harness.supervisor.drain()
    await harness.deliver(cancel(about))

    await harness.ended()

    assert harness.statuses(about)[-1] == "cancelled"


async def test_an_answer_is_taken_during_drain(tmp_path: Path) -> None:
    """Answers flow until the end, so that a step that asked can finish within the soft limit."""
    harness = Harness(tmp_path, drain_s=5)
    harness.scripted.step_s = 5.0
    await harness.start()
    about = await harness.deliver(request("asks"))
    await harness.until(lambda: len(harness.scripted.effects) == 1)
    harness.supervisor.drain()
    await harness.until(lambda: harness.metrics.registry.get_sample_value("backwright_tasks_topic_paused") == 1)
    await harness.deliver(answer(f"q-{about}"))

    await harness.ended()

    assert harness.statuses(about)[-1] == "completed"


async def test_leases_are_renewed_during_drain(tmp_path: Path) -> None:
    """What is allowed to finish must not be taken away meanwhile."""
    harness = Harness(tmp_path, drain_s=5, journal=ShakyJournal)
    journal = harness.journal
    assert isinstance(journal, ShakyJournal)
    await harness.start()
    about = await harness.deliver(request("hang"))
    await harness.until(lambda: len(harness.scripted.effects) == 1)
    harness.supervisor.drain()
    for _ in range(5):
        renewals = journal.renewals
        harness.advance(harness.settings.renew_s)
        await harness.until(lambda renewals=renewals: journal.renewals > renewals, "a renewal")  # type: ignore[misc]

    assert await journal.claim("thief", limit=1, lease_s=60) == []
    assert harness.supervisor.worker.running == 1
    await harness.deliver(cancel(about))
    await harness.ended()


async def test_drain_claims_nothing_more(tmp_path: Path) -> None:
    """The place that becomes free stays free; the next task is somebody else's."""
    harness = Harness(tmp_path, drain_s=5, concurrency=1)
    await harness.start()
    first = await harness.deliver(request("slow-a"))
    await harness.until_state(first, State.RUNNING)
    second = await harness.deliver(request("ok-b"))
    await harness.until_state(second, State.AVAILABLE)
    harness.supervisor.drain()

    await harness.ended()

    assert harness.statuses(first)[-1] == "completed"
    assert harness.statuses(second) == ["queued"]


async def test_drain_commits_and_leaves_the_group(harness: Harness) -> None:
    """Who comes next reads nothing again, and waits for no session to time out."""
    await harness.until(lambda: harness.supervisor.ready()[0])
    about = await harness.deliver(request("hang"))
    await harness.until(lambda: len(harness.scripted.effects) == 1)

    await harness.stop()

    group = harness.bus.group("backwright")
    assert group.members == []
    assert sum(group.committed.values()) == 1
    assert harness.statuses(about)[-1] == "queued"


async def test_no_task_is_accepted_while_draining(tmp_path: Path) -> None:
    """It stays on the topic for somebody else."""
    harness = Harness(tmp_path, drain_s=0.8)
    await harness.start()
    await harness.deliver(request("hang"))
    await harness.until(lambda: len(harness.scripted.effects) == 1)
    harness.supervisor.drain()
    await harness.until(lambda: harness.metrics.registry.get_sample_value("backwright_tasks_topic_paused") == 1)
    await harness.deliver(request("ok"))

    await harness.ended()

    assert len(await harness.tasks()) == 1


async def test_back_pressure_pauses_tasks_and_lets_commands_through(tmp_path: Path) -> None:
    """With hysteresis, so that it does not flutter."""
    async with Harness(tmp_path, pause_above=3, resume_below=1, concurrency=1) as harness:
        abouts = [await harness.deliver(request("ok", run_after_s=600)) for _ in range(5)]
        await harness.until(lambda: harness.metrics.registry.get_sample_value("backwright_tasks_topic_paused") == 1)
        late = await harness.deliver(request("ok"))
        for about in abouts[1:]:
            await harness.deliver(cancel(about))
        for about in abouts[1:]:
            await harness.until_state(about, State.CANCELLED)

        assert (await harness.until_state(late, State.COMPLETED)).state is State.COMPLETED


async def test_an_attempts_deadline_ends_it_and_it_is_tried_again(harness: Harness) -> None:
    """A step that hangs does not hold its worker for ever."""
    about = await harness.deliver(request("hang", attempt_deadline_s=5.0))
    await harness.until(lambda: len(harness.scripted.effects) == 1)
    harness.advance(5.1)

    await harness.until_state(about, State.SCHEDULED)

    last = harness.status_events(about)[-1]
    assert last["error"]["code"] == "attempt.deadline"
    assert last["error"]["retry_at"]


async def test_the_first_context_answer_counts_and_wakes_who_waits(harness: Harness) -> None:
    """A step asks over the bus and goes on with what it is told."""
    harness.scripted.step_s = 5.0
    about = await harness.deliver(request("asks"))
    await harness.until(lambda: len(harness.scripted.effects) == 1)
    await harness.deliver(answer(f"q-{about}"))

    view = await harness.until_state(about, State.COMPLETED)

    assert view.attempt == 1


async def test_an_event_that_no_broker_takes_is_parked_and_replaced(harness: Harness) -> None:
    """Its number is not missing, and later events are not held up."""
    about = await harness.deliver(request("huge"))

    view = await harness.until_state(about, State.COMPLETED)

    assert harness.sequences(about) == list(range(1, view.sequence + 1))
    assert any("parked" in event.get("message", "") for event in harness.status_events(about))
    assert harness.metrics.registry.get_sample_value("backwright_events_parked_total") == 1


async def test_a_lost_offset_stops_the_process(tmp_path: Path) -> None:
    """A person has to decide where to go on."""

    class LossyBus(MemoryBus):
        def check(self) -> None:
            if self.down:
                raise FatalError("committed offsets no longer exist", remedy="reset them")

    bus = LossyBus()
    harness = Harness(tmp_path, bus=bus)
    await harness.start()
    await harness.until(lambda: harness.supervisor.ready()[0])
    bus.down = True

    with pytest.raises(FatalError):
        await harness.ended()


async def test_a_broken_consumer_is_replaced(harness: Harness) -> None:
    """It is made anew with pauses, until the bus answers again; the process goes on."""
    await harness.until(lambda: harness.supervisor.ready()[0])
    harness.bus.down = True
    await harness.until(
        lambda: harness.metrics.registry.get_sample_value(
            "backwright_consumer_restarts_total", {"reason": "BusUnavailable"}
        )
    )
    assert not harness.supervisor.ready()[0]
    assert harness.supervisor.live()[0]
    harness.bus.down = False
    about = await harness.deliver(request("ok"))

    await harness.until(lambda: harness.supervisor.ready()[0])
    harness.advance(10)
    await harness.until_state(about, State.COMPLETED)


async def test_an_attempts_folder_is_empty_at_its_start_and_gone_at_its_end(harness: Harness, tmp_path: Path) -> None:
    """Clean ground."""
    found: list[list[Path]] = []

    async def look(ledger: Ledger) -> None:
        found.append(list(ledger.folder.iterdir()))
        (ledger.folder / "left.txt").write_text("x")
        assert ledger.leash.path is not None
        assert ledger.leash.path.exists()

    harness.scripted.before["read"] = look
    about = await harness.deliver(request("ok"))
    await harness.until_state(about, State.COMPLETED)
    await harness.until(lambda: harness.supervisor.worker.running == 0)

    assert found == [[]]
    assert [path.name for path in (tmp_path / "attempts").iterdir()] == ["leashes"]
    assert list((tmp_path / "attempts" / "leashes").iterdir()) == []


async def test_the_leash_moves_with_each_renewal(harness: Harness) -> None:
    """Children die when their attempt stops renewing."""
    deadlines: list[float] = []

    async def hold(ledger: Ledger) -> None:
        path = ledger.leash.path
        assert path is not None

        def leashed_until() -> float:
            return float(path.read_text())

        for _ in range(3):
            deadlines.append(leashed_until())
            harness.advance(harness.settings.renew_s)
            await harness.until(lambda: leashed_until() != deadlines[-1], "a renewal")

    harness.scripted.before["read"] = hold
    about = await harness.deliver(request("ok"))
    await harness.until_state(about, State.COMPLETED)

    assert deadlines[0] == pytest.approx(harness.settings.self_stop_s, abs=0.1)
    assert deadlines == sorted(set(deadlines))


async def test_nothing_of_a_document_reaches_the_topics_names(harness: Harness) -> None:
    """Keys and headers carry what a sender wrote; topics never do."""
    sent = request("ok").outgoing
    headers = (*sent.headers, ("ce_correlationid", b"backend.other.v1"), ("topic", b"../other"))
    harness.bus.append(Outgoing(sent.topic, b"backend.other.v1", sent.value, headers))
    harness.bus.append_raw(topics.TASKS.name, b"../other", b"backend.other.v1", {"ce_type": b"backend.other.v1"})

    await harness.until(lambda: harness.messages(topics.DELIVERIES) and harness.dead_letters())
    await harness.settled()

    written = {topics.TASKS, topics.STATUS, topics.DELIVERIES, topics.DEAD_LETTERS}
    assert {name for name, _ in harness.bus._log} == {topic.name for topic in written}
