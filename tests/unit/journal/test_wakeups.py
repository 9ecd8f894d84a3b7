"""Nobody sleeps through a change, and nobody spins."""

import asyncio
import threading
from collections.abc import Awaitable

from agent.journal.wakeups import Wakeups
from agent.testing.waiting import settle


async def wakes(waiting: "asyncio.Future[None]") -> bool:
    """Whether it returns without a further change."""
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    return bool(done)


async def assert_returns(waiting: Awaitable[None]) -> None:
    """It returns in this task, long before its own 60 seconds; TimeoutError if it sleeps on."""
    await asyncio.wait_for(waiting, 5)


async def test_change_between_look_and_wait_returns_at_once() -> None:
    """The classic lost wake-up."""
    wakeups = Wakeups()
    wakeups.note()
    wakeups.bump()

    await assert_returns(wakeups.wait(60))


async def test_one_change_wakes_once() -> None:
    """A caller that is busy and does not look again must not spin."""
    wakeups = Wakeups()
    wakeups.note()
    wakeups.bump()
    await wakeups.wait(60)

    assert not await wakes(asyncio.ensure_future(wakeups.wait(60)))


async def test_wait_in_a_child_task_uses_the_look_of_its_parent() -> None:
    """asyncio.wait over several conditions is how a worker idles."""
    wakeups = Wakeups()
    wakeups.note()
    wakeups.bump()

    assert await wakes(asyncio.create_task(wakeups.wait(60)))
    assert not await wakes(asyncio.create_task(wakeups.wait(60)))


async def test_sibling_with_a_look_of_its_own_does_not_eat_the_change() -> None:
    """A relay and a worker, both started by one parent that had looked before."""
    wakeups = Wakeups()
    wakeups.note()
    woken: list[str] = []

    async def loop(name: str) -> None:
        wakeups.note()
        ready.release()
        await go.wait()
        await wakeups.wait(60)
        woken.append(name)

    ready, go = asyncio.Semaphore(0), asyncio.Event()
    tasks = [asyncio.create_task(loop(name)) for name in ("relay", "worker")]
    for _ in tasks:
        await ready.acquire()
    wakeups.bump()
    go.set()

    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert sorted(woken) == ["relay", "worker"]


async def test_watcher_that_only_waits_keeps_a_note_of_its_own() -> None:
    """It inherits its parent's look once; later changes wake both."""
    wakeups = Wakeups()
    wakeups.note()
    seen = asyncio.Semaphore(0)

    async def watch() -> None:
        while True:
            await wakeups.wait(60)
            seen.release()

    watcher = asyncio.create_task(watch())
    wakeups.bump()
    await asyncio.wait_for(seen.acquire(), 5)
    wakeups.note()
    wakeups.bump()
    await asyncio.wait_for(seen.acquire(), 5)

    await assert_returns(wakeups.wait(60))
    watcher.cancel()


async def test_change_from_another_thread_wakes() -> None:
    """The journal's thread commits."""
    wakeups = Wakeups()
    wakeups.note()
    waiting = asyncio.create_task(wakeups.wait(60))
    await settle()
    assert not waiting.done()

    threading.Thread(target=wakeups.bump).start()

    await assert_returns(waiting)


async def test_closed_loop_is_forgotten() -> None:
    """A keeper's thread may end while it waits."""
    wakeups = Wakeups()

    def ends() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(wakeups.wait(60))
        loop.run_until_complete(asyncio.sleep(0))  # one turn, in which it begins to wait
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be left behind
        loop.close()

    await asyncio.to_thread(ends)

    wakeups.bump()
