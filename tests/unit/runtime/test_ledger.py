"""What an attempt writes reaches the journal in order, with as few writes as may be."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.errors import Fenced
from agent.journal.memory import MemoryJournal
from agent.journal.port import Checkpoint, Claim, Ending, Event, Finish
from agent.runtime.lease import Lease
from agent.runtime.ledger import AttemptLedger
from agent.testing.clock import ManualClock
from agent.testing.waiting import settle
from tests.bench.requests import new_task


class Counted(MemoryJournal):
    """Notes the writes of attempts; `gate` holds them up."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.writes: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def record(self, claim: Claim, checkpoint: Checkpoint | None, events: Any, *, final: bool = False) -> None:
        await self.gate.wait()
        await super().record(claim, checkpoint, events, final=final)
        self.writes.append([event.data["message"] for event in events])

    async def finish(self, claim: Claim, finish: Finish) -> None:
        await super().finish(claim, finish)
        self.writes.append([event.data["message"] for event in finish.events])


def said(message: str, **more: str) -> Event:
    data: Mapping[str, Any] = {"status": "developing", "phase": "Service implementation", "message": message, **more}
    return Event("task.status", "task", data)


async def claimed(journal: MemoryJournal, folder: Path, clock: ManualClock | None = None) -> AttemptLedger:
    await journal.accept([new_task(1)])
    (claim,) = await journal.claim("worker", limit=1, lease_s=60)
    clock = clock or ManualClock()
    lease = Lease(claim, folder, 1e9, lambda _: None, clock.monotonic(), 7)
    return AttemptLedger(lease, journal, clock, folder)


async def test_a_lease_that_ran_out_writes_nothing(tmp_path: Path) -> None:
    """After a SIGSTOP this loop may wake up before the keeper does, and the journal may not know of another claim yet."""
    journal, clock = Counted(), ManualClock()
    ledger = await claimed(journal, tmp_path, clock)
    clock.advance(7.1)

    with pytest.raises(Fenced):
        await ledger.record(POINT, [said("done")])
    with pytest.raises(Fenced):
        await ledger.finish(END)
    assert journal.writes == []


async def test_a_closed_ledger_writes_nothing(tmp_path: Path) -> None:
    """The keeper has been told by the journal: sooner than any clock."""
    journal = Counted()
    ledger = await claimed(journal, tmp_path)
    ledger.closed = True

    with pytest.raises(Fenced):
        await ledger.record(POINT, [said("done")])
    assert journal.writes == []


async def test_the_folder_of_an_attempt_is_clean_ground(tmp_path: Path) -> None:
    """What a dead attempt left is gone when the next one asks for its own."""
    ledger = await claimed(Counted(), tmp_path)
    left = tmp_path / ledger.claim.task_id / "0" / "half.txt"
    left.parent.mkdir(parents=True)
    left.write_text("half")

    folder = ledger.folder

    assert folder == tmp_path / ledger.claim.task_id / "1"
    assert [path.name for path in folder.parent.iterdir()] == ["1"]
    assert list(folder.iterdir()) == []


POINT = Checkpoint("step", "0" * 64, {}, "1.0", 0.1)
END = Finish(Ending.COMPLETED, [said("end", status="completed")])


async def test_events_alone_go_with_the_write_that_follows(tmp_path: Path) -> None:
    """One commit instead of two, in the order in which they were said."""
    journal = Counted()
    ledger = await claimed(journal, tmp_path)

    await ledger.record(None, [said("begun")])
    await ledger.record(POINT, [said("done")])
    await ledger.record(None, [said("begun again")])
    await ledger.finish(END)

    assert journal.writes == [["begun", "done"], ["begun again", "end"]]


async def test_events_alone_do_not_wait_for_a_write_that_may_be_far_away(tmp_path: Path) -> None:
    """A step of a minute must not keep its announcement for a minute."""
    journal = Counted()
    ledger = await claimed(journal, tmp_path)

    await ledger.record(None, [said("begun")])
    await settle()  # the step waits for something

    assert journal.writes == [["begun"]]


async def test_a_write_never_overtakes_what_was_said_before(tmp_path: Path) -> None:
    """The announcement is on its way, slowly; more is said meanwhile."""
    journal = Counted()
    ledger = await claimed(journal, tmp_path)
    journal.gate.clear()
    await ledger.record(None, [said("one")])
    await settle()
    await ledger.record(None, [said("two")])
    end = asyncio.create_task(ledger.finish(END))
    await settle()

    journal.gate.set()
    await end

    assert [message for write in journal.writes for message in write] == ["one", "two", "end"]


async def test_a_stop_does_not_let_the_end_overtake(tmp_path: Path) -> None:
    """Cancelled while it waits for what was said: the end is stored after it all the same."""
    journal = Counted()
    ledger = await claimed(journal, tmp_path)
    journal.gate.clear()
    await ledger.record(None, [said("one")])
    await settle()
    step = asyncio.create_task(ledger.record(POINT, [said("done")]))
    await settle()
    step.cancel()
    end = asyncio.create_task(ledger.finish(END))
    await settle()

    journal.gate.set()
    await end

    assert journal.writes == [["one"], ["end"]]


async def test_what_refuses_events_alone_is_raised_by_the_next_write(tmp_path: Path) -> None:
    """Nobody waited for them, but a fence must not go unnoticed."""
    journal = Counted()
    ledger = await claimed(journal, tmp_path)
    await journal.finish(ledger.claim, END)
    await ledger.record(None, [said("begun")])
    await settle()

    with pytest.raises(Fenced):
        await ledger.record(POINT, [said("done")])
    assert journal.writes == [["end"]]
