"""The fenced hand of one attempt: what work may write, and nothing after the lease is gone."""

import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agent.clock import Clock
from agent.errors import Fenced, TransientError
from agent.journal.port import Checkpoint, Claim, Event, Finish, Journal
from agent.runtime.crashpoints import crash_point
from agent.runtime.lease import Lease
from agent.runtime.verdict import backoff_s
from agent.sandbox.port import Leash
from contracts.envelope import TASK_STATUS

T = TypeVar("T")
LOOK_EVERY_S = 1.0
RETRY_BASE_S, RETRY_CAP_S = 0.1, 2.0


class AttemptLedger:
    """The fenced hand of one attempt (agent.pipeline.port.Ledger)."""

    def __init__(self, lease: Lease, journal: Journal, clock: Clock, folder: Path) -> None:
        """`folder` holds the folders of all tasks."""
        self._lease = lease
        self._claim = lease.claim
        self._journal = journal
        self._clock = clock
        self._all_folders = folder
        self._has_folder = False
        self.closed = False
        self.last_step: str | None = None
        self.resumed_steps = 0
        self.progress: Mapping[str, Any] = {}  # phase, completed, pending of the last status
        self.service: str | None = None

    @property
    def claim(self) -> Claim:
        return self._claim

    @property
    def leash(self) -> Leash:
        self._lease.tie()
        return Leash(self._lease.leash)

    @property
    def folder(self) -> Path:
        found = self._all_folders / self._claim.task_id / str(self._claim.fence)
        if not self._has_folder:  # made when it is asked for: most steps need none
            self._has_folder = True
            shutil.rmtree(found.parent, ignore_errors=True)
            found.mkdir(parents=True)
        return found

    @property
    def has_ground(self) -> bool:
        """Whether there may be something on disk to clean up, of this attempt or of one before it."""
        return self._has_folder or self._claim.fence > 1

    async def checkpoints(self) -> Mapping[str, Checkpoint]:
        found = await self.patiently(lambda: self._journal.checkpoints(self._claim.task_id))
        self.resumed_steps = len(found)
        self.last_step = next(reversed(list(found)), self.last_step)
        return found

    async def record(self, checkpoint: Checkpoint | None, events: Sequence[Event] = (), *, final: bool = False) -> None:
        if checkpoint is not None:
            crash_point("worker.step_done", checkpoint.step)
        await self.patiently(lambda: self._journal.record(self._claim, checkpoint, events, final=final))
        if checkpoint is not None:
            self.last_step = checkpoint.step
            crash_point("worker.checkpointed")
        for event in events:
            self.note(event)

    def note(self, event: Event) -> None:
        """Remember where the task stands, for the statuses that the worker itself writes."""
        if event.type == TASK_STATUS.name:
            self.progress = event.data
            self.service = event.data.get("service", self.service)

    async def answer(self, query_id: str, *, timeout_s: float) -> bytes | None:
        ends = time.monotonic() + timeout_s
        while True:
            found = await self.patiently(lambda: self._journal.answer(query_id))
            left_s = min(ends - time.monotonic(), LOOK_EVERY_S)
            if found is not None or left_s <= 0:
                return found
            await self.patiently(partial(self._journal.changed, timeout_s=left_s))

    async def finish(self, finish: Finish) -> None:
        """Store the end of the attempt."""
        await self.patiently(lambda: self._journal.finish(self._claim, finish))

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Wait out an outage of a store; the lease bounds it, for the keeper closes this ledger."""
        tries = 0
        while True:
            # Asked here and not only by the keeper: after a SIGSTOP this loop may wake up before the keeper does.
            if self.closed or self._lease.has_run_out(self._clock.monotonic()):
                raise Fenced("the lease is lost")
            try:
                return await call()
            except TransientError:
                tries += 1
                await self._clock.sleep(backoff_s(tries, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S))
