"""The fenced hand of one attempt: what work may write, and nothing after the lease is gone."""

import asyncio
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
        self._untold: list[Event] = []  # given to `record` without a checkpoint: see there
        self._telling: asyncio.Task[None] | None = None
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
        """Events alone are stored with the attempt's next write or, if none follows at once, by a write of their own
        that nobody waits for: the step that they announce need not stand still for it. A refusal is raised by the next
        write.
        """
        for event in events:
            self.note(event)
        if checkpoint is None and events and not final:
            self._check()
            self._tell_soon(events)
            return
        if checkpoint is not None:
            crash_point("worker.step_done", checkpoint.step)
        told = await self._take_untold()
        await self.patiently(lambda: self._journal.record(self._claim, checkpoint, (*told, *events), final=final))
        if checkpoint is not None:
            self.last_step = checkpoint.step
            crash_point("worker.checkpointed")

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
        if told := await self._take_untold():
            finish = finish._replace(events=(*told, *finish.events))
        await self.patiently(lambda: self._journal.finish(self._claim, finish))

    def _tell_soon(self, events: Sequence[Event]) -> None:
        if not self._untold:
            asyncio.get_running_loop().call_soon(self._tell)
        self._untold += events

    def _tell(self) -> None:
        """Store what is untold now, unless a write took it along in the meantime."""
        if self._untold and self._telling is None:
            self._telling = asyncio.create_task(self._tell_all())
            self._telling.add_done_callback(_retrieve)

    async def _tell_all(self) -> None:
        while told := self._untold:
            self._untold = []
            await self.patiently(partial(self._journal.record, self._claim, None, told))
        self._telling = None  # a refusal stays, for the next write to raise

    async def _take_untold(self) -> Sequence[Event]:
        """What the next write takes along, once what was told before is stored. Raises what refused that, once."""
        if (telling := self._telling) is not None:
            try:
                await asyncio.shield(telling)
            finally:
                if telling.done():
                    self._telling = None
        told, self._untold = self._untold, []
        return told

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Wait out an outage of a store; the lease bounds it, for the keeper closes this ledger."""
        tries = 0
        while True:
            self._check()
            try:
                return await call()
            except TransientError:
                tries += 1
                await self._clock.sleep(backoff_s(tries, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S))

    def _check(self) -> None:
        # Asked here and not only by the keeper: after a SIGSTOP this loop may wake up before the keeper does.
        if self.closed or self._lease.has_run_out(self._clock.monotonic()):
            raise Fenced("the lease is lost")


def _retrieve(telling: "asyncio.Task[None]") -> None:
    """An attempt that was overtaken asks no more; asyncio need not complain about that."""
    if not telling.cancelled():
        telling.exception()
