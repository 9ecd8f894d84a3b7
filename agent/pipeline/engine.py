"""The pipeline's control flow: stages in order, a checkpoint and its events per step, an outcome at the end."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from agent import __version__
from agent.errors import PermanentError, SpecRejected
from agent.journal.port import Checkpoint, Ending, Event
from agent.pipeline import analyse, deliver, develop, verify
from agent.pipeline.attempt import Attempt, Means
from agent.pipeline.budget import spend
from agent.pipeline.phase import (
    PHASES,
    STATUS,
    Result,
    Step,
    artifacts_of,
    halt_of,
    input_hash,
    is_complete,
    progress,
    stages,
)
from agent.pipeline.port import Ledger, Outcome
from contracts.envelope import TASK_STATUS
from contracts.status import A2A_STATE, ErrorReport, Phase, Status, StepReport, TaskStatus
from contracts.tasks import Kind

log = structlog.get_logger()


class Engine:
    """Turns a claimed request into a delivered service. One engine serves all attempts of a process."""

    def __init__(self, means: Means) -> None:
        settings = means.settings
        self._means = means
        self._floor = verify.Floor()
        self.steps: Sequence[Step] = (
            *analyse.steps(settings),
            *develop.steps(settings),
            *verify.steps(settings, self._means.suite.gates),
            *deliver.steps(self._means.suite.gates),
        )

    async def run(self, ledger: Ledger) -> Outcome:
        """See agent/pipeline/port.py:Work."""
        attempt = Attempt(ledger, self._means)
        checkpoints = await ledger.checkpoints()
        if deliver.FINAL in checkpoints and "halt" not in checkpoints[deliver.FINAL].output:
            # Delivered already, by whatever code: only the end of the attempt got lost. It must not be delivered twice.
            attempt.outputs.update(
                (step.name, checkpoints[step.name].output) for step in self.steps if step.name in checkpoints
            )
            return self._completed(attempt)
        try:
            _check_kind(attempt)
            async with attempt.stack:
                for phase in PHASES:
                    await self._run_phase(phase, attempt, checkpoints)
                    if error := halt_of(attempt.outputs):
                        return self._failed(attempt, phase, error)
        except SpecRejected as rejected:
            return self._rejected(attempt, rejected)
        return self._completed(attempt)

    async def _run_phase(self, phase: Phase, attempt: Attempt, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Stage after stage; a stage after one that halted is not entered."""
        label, began = phase.name.lower(), time.perf_counter()
        with self._means.tracer.start_as_current_span(f"phase {label}"):
            for group in stages([step for step in self.steps if step.phase is phase]):
                await self._run_group(group, attempt, checkpoints)
                if halt_of(attempt.outputs):
                    break
        duration_s = round(time.perf_counter() - began, 3)
        self._means.metrics.phase_duration.labels(label).observe(duration_s)
        log.info("phase.completed", phase=label, duration_s=duration_s)

    async def _run_group(self, group: Sequence[Step], attempt: Attempt, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Run what has no valid checkpoint, together. The first error cancels the others and is raised as it is."""
        todo = [step for step in group if not await self._resume(step, attempt, checkpoints)]
        if len(todo) == 1:
            await self._run_step(todo[0], attempt)
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                for step in todo:
                    tasks.create_task(self._run_step(step, attempt), name=f"step {step.name}")
        except BaseExceptionGroup as group_error:
            raise _foremost(group_error) from group_error

    async def _resume(self, step: Step, attempt: Attempt, checkpoints: Mapping[str, Checkpoint]) -> bool:
        """Take the checkpoint of an earlier attempt if it was made from the same input by the same step version.

        Its artefacts must still be there: the step is run again otherwise, and gives the same ones.
        """
        checkpoint = checkpoints.get(step.name)
        if checkpoint is None:
            return False
        stale = checkpoint.input_hash != input_hash(step, attempt.request_digest, attempt.outputs)
        names = artifacts_of(step, checkpoint.output)
        if stale or not all([await self._means.artifacts.has(name) for name in names]):
            reason = "input" if stale else "artefact"
            log.info("step.repeated", step=step.name, reason=reason, made_by=checkpoint.code_version)
            return False
        attempt.outputs[step.name] = checkpoint.output
        log.info("step.resumed", step=step.name, made_by=checkpoint.code_version)
        return True

    async def _run_step(self, step: Step, attempt: Attempt) -> None:
        if step.phase is not Phase.VERIFY:
            await self._perform(step, attempt)
            return
        async with self._floor.place(alone=step.exclusive):
            await self._perform(step, attempt)

    async def _perform(self, step: Step, attempt: Attempt) -> None:
        means = self._means
        hashed = input_hash(step, attempt.request_digest, attempt.outputs)
        if not step.brief:
            async with attempt.writing:
                await attempt.ledger.record(None, [self._step_event(step, attempt, state="started")])
        began = time.perf_counter()
        with means.tracer.start_as_current_span(f"step {step.name}", attributes={"backwright.phase": step.phase.value}):
            result = await step.run(attempt)
        duration_s = round(time.perf_counter() - began, 3)
        output = _as_json(result.output)
        async with attempt.writing:
            attempt.outputs[step.name] = output
            checkpoint = Checkpoint(step.name, hashed, output, __version__, duration_s)
            events = [*result.events, self._step_event(step, attempt, result, state="finished", duration_s=duration_s)]
            await attempt.ledger.record(checkpoint, events, final=step.commits and "halt" not in output)
        means.metrics.step_duration.labels(step.phase.name.lower(), step.name).observe(duration_s)
        log.info("step.finished", step=step.name, duration_s=duration_s, complete=is_complete(output))

    def _step_event(
        self, step: Step, attempt: Attempt, result: Result | None = None, *, state: str, duration_s: float | None = None
    ) -> Event:
        report = StepReport(
            name=step.name,
            state=_state(result, state),
            duration_s=duration_s,
            done=len(attempt.outputs),
            total=len(self.steps),
        )
        return self._status(
            attempt,
            STATUS[step.phase],
            step.phase,
            step=report,
            message=result.message if result else None,
            gate=result.gate if result else None,
            operations=result.operations if result else (),
            diagnostics=result.diagnostics if result else (),
        )

    def _status(self, attempt: Attempt, status: Status, phase: Phase, **more: Any) -> Event:
        completed, pending = progress(self.steps, attempt.outputs)
        claim, settings = attempt.claim, self._means.settings.worker
        budget = spend(
            first_started_at=claim.first_started_at,
            now=self._means.clock.now(),
            limit_s=claim.total_deadline_s or settings.total_deadline_s,
        )
        data = TaskStatus(
            status=status, phase=phase.value, completed=completed, pending=pending, task_id=claim.task_id,
            service=attempt.service, attempt=claim.attempt, state=A2A_STATE[status], budget=budget, **more,
        )  # fmt: skip
        return Event(TASK_STATUS.name, claim.task_id, data.model_dump(mode="json", exclude_none=True))

    def _completed(self, attempt: Attempt) -> Outcome:
        """The status that follows `task.delivered`, stored together with the task's state."""
        message = attempt.outputs[deliver.FINAL]["summary"]
        event = self._status(
            attempt, Status.COMPLETED, Phase.DELIVER, message=message, evidence=verify.measured(attempt)
        )
        return Outcome(Ending.COMPLETED, [event])

    def _failed(self, attempt: Attempt, phase: Phase, error: ErrorReport) -> Outcome:
        """The end of a task that a gate (or a conflict in the delivery) stopped: everything measured, and what to read."""
        evidence = verify.complete(attempt, self._means.suite.gates)
        event = self._status(attempt, Status.FAILED, phase, message=error.message, evidence=evidence, error=error)
        return Outcome(Ending.FAILED, [event])

    def _rejected(self, attempt: Attempt, rejected: SpecRejected) -> Outcome:
        faults = [d for d in rejected.diagnostics if d.severity == "error"] or rejected.diagnostics
        message = f"{faults[0].message} ({faults[0].remedy})" if faults else str(rejected)
        error = ErrorReport(
            kind="permanent", code=faults[0].code if faults else "specification.refused", message=message
        )
        event = self._status(
            attempt,
            Status.REJECTED,
            Phase.ANALYSE,
            message=message,
            error=error,
            diagnostics=tuple(rejected.diagnostics[: analyse.MAX_DIAGNOSTICS]),  # a status is one record
        )
        return Outcome(Ending.REJECTED, [event])


def _check_kind(attempt: Attempt) -> None:
    if attempt.request.kind is not Kind.BUILD:
        raise PermanentError(f"kind {attempt.request.kind.value!r} is not supported yet; send a `build`")


def _state(result: Result | None, state: str) -> str:
    return "skipped" if result is not None and result.output.get("verdict") == "skipped" else state


def _as_json(output: Mapping[str, Any]) -> Mapping[str, Any]:
    """The output as a later attempt will read it from the journal, so that hashes agree."""
    plain: dict[str, Any] = json.loads(json.dumps(output))
    return plain


def _foremost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that is not the consequence of another one's cancellation."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return _foremost(error)
        if not isinstance(error, asyncio.CancelledError):
            return error
    return group.exceptions[0]
