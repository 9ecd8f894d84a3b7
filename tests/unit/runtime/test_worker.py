"""Attempts at the edges: late claims, deadlines that are ignored, crashes beside failures, what must end the process."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest
from opentelemetry.trace import NoOpTracer

from agent.artifacts.memory import MemoryArtifacts
from agent.errors import FatalError, PermanentError, TransientError
from agent.journal.memory import MemoryJournal
from agent.journal.port import Claim, Ending, Renewal, State
from agent.pipeline.port import Ledger, Outcome
from agent.runtime.lease import DEADLINE_GRACE_S
from agent.runtime.worker import Means, Worker
from agent.settings import WorkerSettings
from agent.telemetry.metrics import Metrics
from agent.testing.clock import ManualClock
from agent.testing.harness import Harness, request
from agent.testing.waiting import settle, until
from tests.bench.requests import new_task


class Turns:
    """Work that does one thing per claim of a task: the first turn for fence 1, and so on; the last one for all after."""

    def __init__(self, *turns: Callable[[Ledger], Awaitable[None]]) -> None:
        self._turns = turns
        self.begun: list[int] = []

    async def run(self, ledger: Ledger) -> Outcome:
        self.begun.append(ledger.claim.fence)
        await self._turns[min(ledger.claim.fence, len(self._turns)) - 1](ledger)
        return Outcome(Ending.COMPLETED, [])


async def hangs(ledger: Ledger) -> None:
    await asyncio.Event().wait()


async def fails(ledger: Ledger) -> None:
    raise TransientError("not yet")


async def nothing(ledger: Ledger) -> None: ...


async def cannot(ledger: Ledger) -> None:
    raise PermanentError("never")


class LateClaims(MemoryJournal):
    """The answer to the first claim is long on its way."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self._late_clock = clock
        self.is_late = True

    async def claim(self, worker: str, *, limit: int, lease_s: float) -> Sequence[Claim]:
        claims = await super().claim(worker, limit=limit, lease_s=lease_s)
        if claims and self.is_late:
            self.is_late = False
            self._late_clock.advance(lease_s - 1)
        return claims


class Claims(MemoryJournal):
    """Notes how many each claim brought."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.brought: list[int] = []

    async def claim(self, worker: str, *, limit: int, lease_s: float) -> Sequence[Claim]:
        claims = await super().claim(worker, limit=limit, lease_s=lease_s)
        self.brought.append(len(claims))
        return claims


class Renewals(MemoryJournal):
    """Counts them."""

    renewals = 0

    async def renew(self, claims: Sequence[Claim], *, lease_s: float) -> Mapping[str, Renewal]:
        answer = await super().renew(claims, lease_s=lease_s)
        self.renewals += 1
        return answer


async def test_a_lease_counts_from_before_its_claim_was_sent(tmp_path: Path) -> None:
    """A claim whose answer comes after the self-stop is worth nothing: a second later somebody else may have it."""
    async with Harness(tmp_path, journal=LateClaims) as harness:
        about = await harness.deliver(request("ok"))
        await harness.until(
            lambda: harness.metrics.registry.get_sample_value("backwright_fenced_writes_total"), "a fenced attempt"
        )
        harness.advance(2)

        view = await harness.until_state(about, State.COMPLETED)

        assert {fence for _, fence, _ in harness.scripted.effects[1:]} == {2}
        assert view.crashes == 1


async def test_an_attempt_that_ignores_its_deadline_loses_its_task(tmp_path: Path) -> None:
    """It swallows every cancellation; its lease is not renewed for ever, and somebody else goes on."""
    ignored: list[str] = []
    released = asyncio.Event()

    async def ignores(ledger: Ledger) -> None:
        try:
            await released.wait()
        except asyncio.CancelledError:
            ignored.append("a cancellation")
            await released.wait()

    work = Turns(ignores)
    async with Harness(tmp_path, work=work, journal=Renewals, concurrency=1) as harness:
        journal = harness.journal
        assert isinstance(journal, Renewals)
        about = await harness.deliver(request("ok", attempt_deadline_s=5.0))
        await harness.until(lambda: work.begun == [1])
        while harness.clock.monotonic() < 5 + DEADLINE_GRACE_S - 2:
            renewals = journal.renewals
            harness.advance(2)
            await harness.until(lambda renewals=renewals: journal.renewals > renewals)  # type: ignore[misc]
        assert ignored

        def is_lost() -> object:
            harness.advance(0.2)
            return harness.metrics.registry.get_sample_value("backwright_self_stops_total")

        await harness.until(is_lost, "a lease that ran out")
        harness.advance(harness.settings.lease_s)
        (stolen,) = await journal.claim("thief", limit=1, lease_s=1e6)
        released.set()
        await harness.until(lambda: harness.supervisor.worker.running == 0)

        view = await journal.task(about)
        assert view is not None
        assert (view.state, stolen.fence) == (State.RUNNING, 2)
        assert "completed" not in harness.statuses(about)


async def test_crashes_are_counted_apart_from_failures(tmp_path: Path) -> None:
    """Two lost workers cost none of the three tries that a task has."""
    work = Turns(hangs, hangs, fails, fails, fails)
    async with Harness(tmp_path, work=work, max_attempts=3, max_crashes=3) as harness:
        about = await harness.deliver(request("ok"))
        for crash in (1, 2):
            await harness.until(lambda crash=crash: len(work.begun) == crash)  # type: ignore[misc]
            await harness.crash()
            harness.advance(harness.settings.lease_s + 1)
            await harness.start()
        for failure in (3, 4):
            await harness.until(lambda failure=failure: len(work.begun) == failure)  # type: ignore[misc]
            await harness.until_state(about, State.SCHEDULED)
            harness.advance(harness.settings.backoff_cap_s + 1)

        view = await harness.until_state(about, State.FAILED)

        assert (view.crashes, work.begun) == (2, [1, 2, 3, 4, 5])
        [letter] = harness.dead_letters()
        assert letter["reason"]["kind"] == "transient"
        assert len(letter["attempts"]) == 5


async def test_an_interrupted_attempt_leaves_nothing_in_the_history(tmp_path: Path) -> None:
    """Whoever reads the dead letter looks for failures; a rolling deploy is none."""
    work = Turns(hangs, cannot)
    async with Harness(tmp_path, work=work) as harness:
        about = await harness.deliver(request("ok"))
        await harness.until(lambda: work.begun == [1])
        await harness.stop()
        await harness.start()

        await harness.until_state(about, State.FAILED)

        [letter] = harness.dead_letters()
        assert [(a["attempt"], a["error"]["code"]) for a in letter["attempts"]] == [(1, "error.PermanentError")]


async def test_each_start_has_a_name_of_its_own(harness: Harness) -> None:
    """A replica that comes back under its host's name must not be given what its former self had claimed."""
    before = harness.supervisor.worker.name
    await harness.stop()
    await harness.start()

    assert harness.supervisor.worker.name != before


async def test_what_must_end_the_process_ends_it_and_costs_the_task_nothing(tmp_path: Path) -> None:
    """A fault of this process would meet every task that it takes; another process may have none."""

    async def finds(ledger: Ledger) -> None:
        raise FatalError("the disk is gone", remedy="look at the machine")

    harness = Harness(tmp_path, work=Turns(finds))
    await harness.start()
    about = await harness.deliver(request("ok"))

    with pytest.raises(FatalError, match="the disk is gone"):
        await harness.ended()

    view = await harness.journal.task(about)
    assert view is not None
    assert (view.state, view.attempt, view.crashes) == (State.AVAILABLE, 0, 0)


async def test_who_was_given_all_there_was_asks_again_when_the_journal_changes(tmp_path: Path) -> None:
    """A claim costs a transaction or a statement, and most changes are an attempt's own."""
    clock = ManualClock()
    journal = Claims(clock)
    await journal.accept([new_task(1)])
    means = Means(
        journal=journal, work=Turns(nothing), artifacts=MemoryArtifacts(), settings=WorkerSettings(concurrency=2),
        folder=tmp_path, clock=clock, metrics=Metrics(), tracer=NoOpTracer(),
    )  # fmt: skip
    draining = asyncio.Event()
    running = asyncio.create_task(Worker(means, idle_s=60, threaded=False).run(draining=draining))

    async def ended() -> bool:
        return (await journal.depths()).by_state == {State.COMPLETED: 1}

    await until(ended, "the end of the task", limit_s=5, every_s=0.001)
    await settle()
    draining.set()
    await running

    assert journal.brought == [1, 0]
