"""The life of the three loops: what probes are told, what is tidied, what ends the process."""

import asyncio
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from agent.bus.port import Outgoing
from agent.errors import FatalError
from agent.journal.memory import MemoryJournal
from agent.journal.port import OutboxRow, State
from agent.runtime import supervisor
from agent.testing.harness import Harness, request


async def test_ready_means_joined_with_a_journal_and_not_draining(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the three alone says no."""
    await harness.until(lambda: harness.supervisor.ready()[0])
    monkeypatch.setattr(supervisor, "READY_JOURNAL_AGE_S", -1.0)  # as if it had not answered for longer than that
    is_ready, facts = harness.supervisor.ready()
    assert (is_ready, facts["joined"], facts["journal"], facts["draining"]) == (False, True, False, False)
    monkeypatch.undo()
    assert harness.supervisor.ready()[0]

    await harness.deliver(request("hang"))
    await harness.until(lambda: harness.supervisor.worker.running == 1)
    harness.supervisor.drain()

    is_ready, facts = harness.supervisor.ready()
    assert (is_ready, facts["joined"], facts["journal"], facts["draining"]) == (False, True, True, True)


@pytest.mark.parametrize("limit", ["LIVE_POLL_AGE_S", "LIVE_LOOP_LAG_S"])
async def test_live_means_that_the_bus_is_polled_and_the_loop_turns(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """A platform starts a process anew for either."""
    await harness.until(lambda: harness.supervisor.ready()[0])
    assert harness.supervisor.live()[0]

    monkeypatch.setattr(supervisor, limit, -10.0)

    assert not harness.supervisor.live()[0]


async def test_what_nobody_names_any_more_is_tidied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended tasks are archived, loose artefacts collected, folders of the dead removed; what is named or young stays."""
    monkeypatch.setattr(supervisor, "TIDY_EVERY_S", 0.05)
    monkeypatch.setattr(supervisor, "KEEP_S", 0.0)
    old = tmp_path / "a-dead-task"
    old.mkdir()
    young = tmp_path / "a-young-task"
    young.mkdir()
    long_ago = time.time() - 3 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    async with Harness(tmp_path) as harness:
        named = await harness.artifacts.put(b"named")
        waits = request("ok", run_after_s=600, specification={}).outgoing
        harness.bus.append(
            Outgoing(waits.topic, waits.key, waits.value, (*waits.headers, ("ce_dataref", named.encode())))
        )
        await harness.until(harness.journal.referenced)
        about = await harness.deliver(request("ok"))
        await harness.until_state(about, State.COMPLETED)
        loose = await harness.artifacts.put(b"loose")

        async def is_tidy() -> bool:
            depths = await harness.journal.depths()
            return (
                depths.by_state == {State.SCHEDULED: 1} and not await harness.artifacts.has(loose) and not old.exists()
            )

        await harness.until(is_tidy, "a tidy house")
        assert await harness.artifacts.has(named)
        assert young.exists()


class Broken(MemoryJournal):
    """Its outbox fails with what nobody foresaw."""

    async def unsent(self, *, limit: int, besides: Collection[int] = ()) -> Sequence[OutboxRow]:
        raise ZeroDivisionError("a bug")


async def test_a_loop_that_breaks_ends_the_process(tmp_path: Path) -> None:
    """An agent that works and tells nobody would look alive."""
    harness = Harness(tmp_path, journal=Broken)
    await harness.start()

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await harness.ended()


async def test_a_loop_that_is_taken_away_ends_the_process(harness: Harness) -> None:
    """Cancelled by a library that means something else: no loop may end in silence."""
    await harness.until(lambda: harness.supervisor.ready()[0])
    [outbox] = [task for task in asyncio.all_tasks() if task.get_name() == "outbox"]

    outbox.cancel()

    with pytest.raises(FatalError, match="outbox ended without a reason"):
        await harness.ended()
    await harness.start()
