"""What a lease is worth: counted from before its renewal was sent, given up before another may claim, bounded."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from agent.errors import JournalUnavailable
from agent.journal.memory import MemoryJournal
from agent.journal.port import Claim, NewCommand, Renewal
from agent.runtime.lease import SILENCE_LIMIT_S, Lease, LeaseKeeper
from agent.runtime.verdict import Stop
from agent.settings import WorkerSettings
from agent.telemetry.metrics import Metrics
from agent.testing.clock import ManualClock
from tests.bench.requests import new_task

SETTINGS = WorkerSettings()


class SlowJournal(MemoryJournal):
    """Renews as it should; its answer is `answer_s` on the way. `away`: it takes nothing."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self._slow_clock = clock
        self.answer_s = 0.0
        self.away = False
        self.renewals = 0

    async def renew(self, claims: Sequence[Claim], *, lease_s: float) -> Mapping[str, Renewal]:
        if self.away:
            raise JournalUnavailable("away")
        self.renewals += 1
        answer = await super().renew(claims, lease_s=lease_s)
        self._slow_clock.advance(self.answer_s)
        return answer


class Held:
    """A claim at second 0, its lease and who keeps it. `stops` is what its attempt was told."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.journal = SlowJournal(self.clock)
        self.stops: list[Stop] = []
        self.keeper = LeaseKeeper(self.journal, SETTINGS, self.clock, Metrics())
        self._folder = folder

    async def hold(self, *, deadline: float = 1e9) -> Lease:
        await self.journal.accept([new_task(1)])
        (claim,) = await self.journal.claim("holder", limit=1, lease_s=SETTINGS.lease_s)
        lease = Lease(claim, self._folder, deadline, self.stops.append, self.clock.monotonic(), SETTINGS.self_stop_s)
        self.keeper.hold(lease)
        return lease

    async def until_stopped(self, *, hears: bool = True) -> float:
        """Beat after beat; the second at which the attempt was told to stop."""
        while not self.stops:
            assert self.clock.monotonic() < 120, "it was never told to stop"
            self.clock.advance(0.5)
            if hears:
                self.keeper.heard()
            await self.keeper.beat()
        return self.clock.monotonic()

    async def steal(self) -> Sequence[Claim]:
        """What another worker gets now."""
        return await self.journal.claim("thief", limit=1, lease_s=SETTINGS.lease_s)


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path)


def test_the_defaults_stop_a_worker_before_another_may_claim() -> None:
    """With room for a renewal that fails in between."""
    assert 2 * SETTINGS.renew_s < SETTINGS.self_stop_s < SETTINGS.lease_s


async def test_who_cannot_renew_stops_while_nobody_else_may_claim(held: Held) -> None:
    """Stop first, then somebody else: there is no moment at which both are in their right."""
    lease = await held.hold()
    held.journal.away = True

    stopped_at = await held.until_stopped()

    assert held.stops == [Stop.LEASE_LOST]
    assert SETTINGS.self_stop_s < stopped_at < SETTINGS.lease_s
    assert await held.steal() == []
    held.clock.advance(SETTINGS.lease_s - stopped_at + 0.1)
    (stolen,) = await held.steal()
    assert stolen.fence == lease.claim.fence + 1


async def test_a_lease_counts_from_before_its_renewal_was_sent(held: Held) -> None:
    """The journal may have counted from any moment of the way; only the earliest one is safe."""
    lease = await held.hold()
    held.clock.advance(3)
    held.journal.answer_s = 2.0

    await held.keeper.beat()

    assert lease.renewed_at == 3.0
    assert not lease.has_run_out(3.0 + SETTINGS.self_stop_s)
    assert lease.has_run_out(3.0 + SETTINGS.self_stop_s + 0.1)


async def test_an_answer_that_comes_too_late_renews_nothing(held: Held) -> None:
    """The journal said yes, but longer ago than a lease may be trusted."""
    await held.hold()
    held.journal.answer_s = SETTINGS.self_stop_s + 0.5

    await held.keeper.beat()

    assert held.stops == [Stop.LEASE_LOST]


async def test_a_lease_that_ran_out_is_not_renewed_even_if_nobody_took_it(held: Held) -> None:
    """Its children are dead by then: what they seem to have answered is not true."""
    await held.hold()
    held.clock.advance(SETTINGS.self_stop_s + 0.5)  # as after a SIGSTOP; the journal would still renew it
    held.keeper.heard()

    await held.keeper.beat()
    await held.keeper.beat()

    assert held.stops == [Stop.LEASE_LOST]
    assert held.journal.renewals == 0


async def test_a_lease_of_somebody_else_is_given_up_at_once(held: Held) -> None:
    """The journal's word, long before the clock's."""
    lease = await held.hold()
    held.clock.advance(SETTINGS.lease_s + 1)
    await held.steal()
    lease.renewed_at = held.clock.monotonic()  # a clock that stood still meanwhile would say so

    await held.keeper.beat()

    assert held.stops == [Stop.LEASE_LOST]
    assert held.journal.renewals == 1


async def test_a_silent_event_loop_keeps_its_leases_for_a_bounded_time(held: Held) -> None:
    """A long computation keeps its task; a loop that is blocked for good gives it to somebody else."""
    lease = await held.hold()

    stopped_at = await held.until_stopped(hears=False)

    assert SILENCE_LIMIT_S < stopped_at <= SILENCE_LIMIT_S + SETTINGS.self_stop_s + 1
    assert SILENCE_LIMIT_S - 1 <= lease.renewed_at <= SILENCE_LIMIT_S


async def test_a_loop_that_is_heard_keeps_its_leases(held: Held) -> None:
    """So that the test above speaks about silence."""
    lease = await held.hold()
    while held.clock.monotonic() < 3 * SILENCE_LIMIT_S:
        held.clock.advance(SETTINGS.renew_s)
        held.keeper.heard()
        await held.keeper.beat()

    assert held.stops == []
    assert lease.renewed_at == held.clock.monotonic()


async def test_renewal_ends_with_the_deadline_of_the_attempt(held: Held) -> None:
    """An attempt that does not let itself be ended loses its task all the same."""
    lease = await held.hold(deadline=20.0)

    stopped_at = await held.until_stopped()

    assert lease.renewed_at < 20.0
    assert 20.0 < stopped_at <= 20.0 + SETTINGS.self_stop_s + 0.5


async def test_a_stored_cancellation_comes_with_the_renewal(held: Held) -> None:
    """Told once, and the lease stays: the attempt says itself that it has ended."""
    lease = await held.hold()
    task = lease.claim.task_id
    await held.journal.accept([NewCommand("c", "task.cancel", task, {"task_id": task})])

    await held.keeper.beat()
    await held.keeper.beat()

    assert held.stops == [Stop.CANCELLED]
    assert held.journal.renewals == 2
