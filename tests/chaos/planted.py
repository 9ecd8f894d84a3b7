"""The agent of the fault tests with a bug planted in it: `python -m tests.chaos.planted`, CHAOS_BUG names it.

Each bug is one that real systems had. They patch the smallest place that a careless edit would touch.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from agent.bus.port import Record
from agent.journal import lifecycle
from agent.journal.port import Checkpoint, NewTask, OutboxRow
from agent.pipeline.port import Ledger
from agent.runtime import inbox, outbox
from agent.runtime.crashpoints import crash_point
from agent.runtime.inbox import Inbox
from agent.runtime.lease import Lease
from agent.runtime.ledger import AttemptLedger
from agent.runtime.outbox import Outbox
from agent.testing import process, work
from agent.testing.work import ScriptedWork

ORPHAN_S = "31.4592"  # the mark by which the orphan is found


def plant(owner: type, method: str, bug: Callable[..., Any]) -> None:
    """Put a bug in the place of a method. Raises KeyError where there is none of that name (any more)."""
    assert callable(vars(owner)[method])
    setattr(owner, method, bug)


def skip_the_fence_check() -> None:
    """Whoever once held the lease writes for ever."""
    lifecycle.owns = lambda row, fence: row is not None
    plant(Lease, "has_run_out", lambda self, now: False)


def commit_before_accept() -> None:
    """The offset first, the journal afterwards (auto-commit, as it comes with most clients)."""
    store = Inbox._store

    async def committed_first(self: Inbox, records: list[Record], ended: Callable[[], bool]) -> None:
        for record in records:
            self._stored[record.topic, record.partition] = record
        await self._commit(at_once=True)
        await store(self, records, ended)

    plant(Inbox, "_store", committed_first)


def mark_before_acknowledged() -> None:
    """The relay says `sent` when it begins to send."""

    async def marked_first(self: Outbox) -> int:
        rows = await self._journal.unsent(limit=outbox.BATCH)
        if rows:
            await self._journal.sent([row.position for row in rows])
            crash_point("outbox.marked")
            for round_ in outbox.rounds(rows):
                await self._publish(round_)
        return len(rows)

    plant(Outbox, "relay", marked_first)


def relay_out_of_order() -> None:
    """Rows of one task leave in parallel, and the last one wins."""
    in_order, relay = outbox.rounds, Outbox.relay

    async def slowly(self: Outbox) -> int:
        await asyncio.sleep(0.5)  # a bit of backlog, so that a task has several rows to swap
        return await relay(self)

    def swapped(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
        return [round_[::-1] for round_ in reversed(in_order(rows))]

    outbox.rounds = swapped
    plant(Outbox, "relay", slowly)


def dedupe_off() -> None:
    """A task's key is the place of its record, not what its sender calls it."""
    vars(inbox)["task_id"] = lambda source, key: str(uuid4())


def forget_the_ordering_key() -> None:
    """Each task is its own key."""
    task = Inbox._task

    def alone(self: Inbox, *given: Any) -> NewTask:
        made = task(self, *given)
        return made._replace(ordering_key=made.task_id)

    plant(Inbox, "_task", alone)


def forget_checkpoints() -> None:
    """A new attempt begins at the beginning."""

    async def none(self: AttemptLedger) -> Mapping[str, Checkpoint]:
        return {}

    plant(AttemptLedger, "checkpoints", none)


def leave_children() -> None:
    """A child in a session of its own, tied to nothing."""

    async def child(self: ScriptedWork, ledger: Ledger) -> None:
        running = await asyncio.create_subprocess_exec("/bin/sleep", ORPHAN_S, start_new_session=True)
        await running.wait()

    vars(work)["_BEHAVIOURS"] = {**vars(work)["_BEHAVIOURS"], "child": child}


BUGS: Mapping[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        skip_the_fence_check, commit_before_accept, mark_before_acknowledged, relay_out_of_order, dedupe_off,
        forget_the_ordering_key, forget_checkpoints, leave_children,
    )
}  # fmt: skip


if __name__ == "__main__":
    BUGS[os.environ["CHAOS_BUG"]]()
    raise SystemExit(process.main())
