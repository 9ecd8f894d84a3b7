"""What loops sleep on, and what ends an attempt that takes too long."""

import asyncio

import pytest

from agent.journal.memory import MemoryJournal
from agent.runtime.bell import Bell
from agent.runtime.deadlines import Deadlines
from agent.testing.clock import ManualClock
from agent.testing.waiting import settle
from tests.bench.requests import new_task


class Heard(MemoryJournal):
    """Counts how often somebody was told that it changed, or that time has passed."""

    told = 0

    async def changed(self, *, timeout_s: float) -> None:
        await super().changed(timeout_s=timeout_s)
        self.told += 1


async def test_what_happens_between_look_and_sleep_rings() -> None:
    """The classic lost wake-up: the loop has looked and found nothing, and falls asleep after the change."""
    clock = ManualClock()
    journal = Heard(clock)
    bell = Bell(journal, clock, 3600)
    bell.start()
    await settle()  # its listener waits
    bell.silence()
    assert await journal.claim("worker", limit=1, lease_s=60) == []
    await journal.accept([new_task(1)])
    await settle()

    slept = asyncio.create_task(bell.sleep())
    await settle()

    assert slept.done(), "it sleeps through the change"
    assert journal.told == 1, "the change rang, not the time"
    bell.silence()
    again = asyncio.create_task(bell.sleep())
    await settle()
    assert not again.done(), "one change rings once"
    again.cancel()
    await bell.stop()


async def test_another_event_rings() -> None:
    """Drain wakes a loop that has nothing to do."""
    clock = ManualClock()
    bell = Bell(MemoryJournal(clock), clock, 60)
    drain = asyncio.Event()
    bell.start(drain)
    sleeping = asyncio.create_task(bell.sleep())
    await settle()
    assert not sleeping.done()

    drain.set()

    await asyncio.wait_for(sleeping, 5)
    await bell.stop()


async def test_a_bell_that_broke_wakes_its_loop_with_the_reason() -> None:
    """A loop that nobody wakes any more would be dead without a word."""

    class Broken(MemoryJournal):
        async def changed(self, *, timeout_s: float) -> None:
            raise RuntimeError("broken")

    clock = ManualClock()
    bell = Bell(Broken(clock), clock, 60)
    bell.start()

    with pytest.raises(RuntimeError, match="broken"):
        await asyncio.wait_for(bell.sleep(), 5)
    await bell.stop()


async def test_deadlines_ring_in_their_order_and_once() -> None:
    """A later one is set first; one is cleared in time."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    rung: list[str] = []
    for name, after_s in (("late", 20), ("early", 10), ("cleared", 10), ("middle", 15)):
        deadlines.set(name, after_s, lambda name=name: rung.append(name))  # type: ignore[misc]  # mypy and defaults
    deadlines.clear("cleared")

    seen = []
    for _ in range(6):
        await settle()
        clock.advance(5)
        await settle()
        seen.append(list(rung))

    early, middle = ["early"], ["early", "middle"]
    assert seen == [[], early, middle, [*middle, "late"], [*middle, "late"], [*middle, "late"]]


async def test_a_timer_that_finds_nothing_due_is_set_anew() -> None:
    """The attempt that set it ended long ago; those after it are still watched."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    rung: list[int] = []
    deadlines.set(1, 10, lambda: rung.append(1))
    await settle()
    clock.advance(5)
    deadlines.set(2, 10, lambda: rung.append(2))
    deadlines.clear(1)

    clock.advance(6)
    await settle()
    assert rung == []
    clock.advance(4)
    await settle()
    assert rung == [2]
