"""Work for tests: a few steps, whose behaviour follows from the name of the requested service.

`ok` runs its steps · `slow` takes STEP_S for each · `flaky` fails twice, then succeeds · `broken` always fails ·
`refused` can never succeed · `rejected` has a bad document · `gate` fails a gate · `poison` kills its process ·
`hang` never ends · `deaf` blocks the event loop for a while · `huge` publishes an event that no broker takes ·
`asks` waits for a context answer · `child` starts a child process that would outlive it · `mended` can succeed only
when it is replayed.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from agent import __version__
from agent.errors import PermanentError, SpecRejected, TransientError
from agent.journal.port import Checkpoint, Ending, Event
from agent.pipeline.port import Ledger, Outcome
from agent.sandbox.port import Command, Sandbox
from contracts.delivery import DeliveredService, TaskDelivered
from contracts.status import A2A_STATE, Diagnostic, Phase, Status, TaskStatus

STEPS = ("read", "make", "check", "deliver")
_STATUS = {"read": Status.ANALYSING, "make": Status.DEVELOPING, "check": Status.VERIFYING, "deliver": Status.DELIVERING}
_PHASE = {"read": Phase.ANALYSE, "make": Phase.DEVELOP, "check": Phase.VERIFY, "deliver": Phase.DELIVER}
Action = Callable[[Ledger], Awaitable[None]]


class ScriptedWork:
    """Implements agent.pipeline.port.Work. `effects` lists (task id, fence, step) as they happened.

    With `effects_file` each effect is one line there, on disk before its checkpoint: the history that the checkers of
    the fault tests read. `before` lets a test act inside a step.
    """

    def __init__(
        self,
        steps: Sequence[str] = STEPS,
        *,
        step_s: float = 0.2,
        effects_file: Path | None = None,
        sandbox: Sandbox | None = None,
        checked: bool = True,
    ) -> None:
        self.steps = tuple(steps)
        self.step_s = step_s
        self.effects: list[tuple[str, int, str]] = []
        self.before: dict[str, Action] = {}
        self._file = os.open(effects_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if effects_file else None
        self._sandbox = sandbox
        self._checked = checked

    async def run(self, ledger: Ledger) -> Outcome:
        service = _service(ledger)
        done = dict(await ledger.checkpoints())
        for step in self.steps:
            if step not in done:
                await self._step(service, step, ledger, done)
            # After each attempt's look at the checkpoint, not only in the attempt that made it.
            if service.partition("-")[0] == "gate" and step == "check":
                return Outcome(Ending.FAILED, [self._status(ledger, Status.FAILED, step, len(done))])
        return Outcome(
            Ending.COMPLETED,
            [_delivery(ledger, service), self._status(ledger, Status.COMPLETED, self.steps[-1], len(done))],
        )

    async def _step(self, service: str, step: str, ledger: Ledger, done: dict[str, Checkpoint]) -> None:
        status = self._status(ledger, _STATUS.get(step, Status.DEVELOPING), step, len(done), "begun")
        await ledger.record(None, [status])
        await self._act(service, step, ledger)
        self._effect(ledger, step)
        point = Checkpoint(step, f"hash of {step}", {"step": step, "fence": ledger.claim.fence}, __version__, 0.0)
        done[step] = point
        events = self._events(service, step, ledger, len(done))
        await ledger.record(point, events, final=step == self.steps[-1])

    async def _act(self, service: str, step: str, ledger: Ledger) -> None:
        if step in self.before:
            await self.before[step](ledger)
        name = service.partition("-")[0]
        if name == "slow":
            await asyncio.sleep(self.step_s)
        behaviour = _BEHAVIOURS.get(name)
        if behaviour is not None and step == self.steps[1]:
            await behaviour(self, ledger)

    def _effect(self, ledger: Ledger, step: str) -> None:
        claim = ledger.claim
        self.effects.append((claim.task_id, claim.fence, step))
        if self._file is not None:
            os.write(self._file, f"{claim.task_id} {claim.fence} {step} {time.time():.6f}\n".encode())

    def _events(self, service: str, step: str, ledger: Ledger, done: int) -> list[Event]:
        status = self._status(ledger, _STATUS.get(step, Status.DEVELOPING), step, done, "done")
        if service.startswith("huge") and step == self.steps[1]:
            status = Event(status.type, status.key, {**status.data, "message": "x" * 2_000_000})
        return [status]

    def _status(self, ledger: Ledger, status: Status, step: str, done: int, word: str = "ended") -> Event:
        """Its message names the fence, so that a stranger can tell which attempt's writes were accepted."""
        model = TaskStatus(
            status=status,
            phase=_PHASE.get(step, Phase.DEVELOP).value,
            completed=tuple(self.steps[:done]),
            pending=tuple(self.steps[done:]),
            task_id=ledger.claim.task_id,
            service=_service(ledger),
            attempt=ledger.claim.attempt,
            state=A2A_STATE[status],
            message=f"fence {ledger.claim.fence}: {step} {word}",
        )
        exclude = None if self._checked else {"evidence", "diagnostics", "operations"}
        return Event(
            "task.status", ledger.claim.task_id, model.model_dump(mode="json", exclude_none=True, exclude=exclude)
        )

    # --- behaviours -------------------------------------------------------------------------------------------------

    async def _flaky(self, ledger: Ledger) -> None:
        if ledger.claim.attempt < 3:
            raise TransientError("the world is not ready")

    async def _broken(self, ledger: Ledger) -> None:
        raise TransientError("the world is never ready")

    async def _refused(self, ledger: Ledger) -> None:
        raise PermanentError("this cannot be done")

    async def _mended(self, ledger: Ledger) -> None:
        if not ledger.claim.epoch:
            raise PermanentError("this can be done after a replay only")

    async def _rejected(self, ledger: Ledger) -> None:
        fault = Diagnostic(pointer="/paths", code="test.fault", severity="error", message="bad", remedy="mend it")
        raise SpecRejected([fault])

    async def _poison(self, ledger: Ledger) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def _hang(self, ledger: Ledger) -> None:
        await asyncio.Event().wait()

    async def _deaf(self, ledger: Ledger) -> None:
        time.sleep(self.step_s)  # noqa: ASYNC251 - blocking the loop is what is tested

    async def _asks(self, ledger: Ledger) -> None:
        query = f"q-{ledger.claim.task_id}"
        if await ledger.answer(query, timeout_s=self.step_s) is None:
            raise TransientError("nobody answered")

    async def _child(self, ledger: Ledger) -> None:
        assert self._sandbox is not None
        command = Command(["/bin/sh", "-c", f"exec sleep {self.step_s}"], cwd=Path("/"))
        await self._sandbox.run(command, leash=ledger.leash)


_BEHAVIOURS: Mapping[str, Callable[[ScriptedWork, Ledger], Awaitable[None]]] = {
    "flaky": ScriptedWork._flaky,
    "broken": ScriptedWork._broken,
    "refused": ScriptedWork._refused,
    "mended": ScriptedWork._mended,
    "rejected": ScriptedWork._rejected,
    "poison": ScriptedWork._poison,
    "hang": ScriptedWork._hang,
    "deaf": ScriptedWork._deaf,
    "asks": ScriptedWork._asks,
    "child": ScriptedWork._child,
}


def _service(ledger: Ledger) -> str:
    request: dict[str, Any] = orjson.loads(ledger.claim.request)
    return str(request.get("service") or "ok")


def _delivery(ledger: Ledger, service: str) -> Event:
    model = TaskDelivered(
        task_id=ledger.claim.task_id,
        attempt=ledger.claim.attempt,
        service=DeliveredService(name=service, target="python-fastapi", path=f"services/{service}", digest="sha256:0"),
        summary="delivered by a script",
        evidence=(),
        readiness=(),
        operations=(),
    )
    return Event("task.delivered", service, model.model_dump(mode="json", exclude_none=True))
