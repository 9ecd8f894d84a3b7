"""From the journal into work: claims tasks, runs one attempt each, and stores how it ended.

Rules for editors:
1. An attempt is one asyncio task; `_attempt` is the only place in the package that catches `Exception`.
2. Nothing is written without the claim's fence; who has lost the lease says nothing.
3. What follows from an ending is decided in verdict.py, what follows for the task in journal/lifecycle.py.
4. An attempt is stopped by `Running.stop(reason)` only, so that its ending always has a known reason.
"""

import asyncio
import contextlib
import os
import random
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from opentelemetry.trace import Tracer

from agent.artifacts.port import Artifacts
from agent.clock import Clock
from agent.errors import EnvironmentUnfit, FatalError, Fenced, JournalUnavailable
from agent.journal.port import Claim, Ending, Event, Finish, Journal
from agent.pipeline.port import Outcome, Work
from agent.runtime.bell import Bell
from agent.runtime.crashpoints import crash_point
from agent.runtime.deadlines import Deadlines
from agent.runtime.lease import DEADLINE_GRACE_S, Lease, LeaseKeeper
from agent.runtime.ledger import AttemptLedger
from agent.runtime.letters import letter, letter_id, trace_id
from agent.runtime.verdict import (
    MESSAGE_LIMIT,
    Facts,
    Failure,
    Stop,
    Verdict,
    classify,
    judge,
    out_of_time,
    poisoned,
)
from agent.settings import WorkerSettings
from agent.telemetry.metrics import Metrics
from agent.telemetry.tracing import links
from contracts.codec import rfc3339
from contracts.envelope import TASK_STATUS
from contracts.failures import FailedAttempt
from contracts.status import A2A_STATE, AGENT, Budget, ErrorReport, Phase, Status, TaskStatus

log = structlog.get_logger()

IDLE_S = 1.0
LEASHES = "leashes"  # beside the folders of tasks: a leash must not vanish while its folder is emptied


@dataclass(slots=True)
class Running:
    """An attempt in progress."""

    claim: Claim
    lease: Lease
    ledger: AttemptLedger
    started: float
    claimed_at: float  # on the clock of leases, before the claim was sent
    earlier: tuple[asyncio.Task[None], ...] = ()  # attempts of the same task that still clean up after themselves
    task: asyncio.Task[None] | None = None
    reason: Stop | None = None
    working: bool = False  # inside Work.run: only then is there anything to interrupt
    in_place: bool = True  # counts against the concurrency: until its end is on the way to the journal
    cancel_seen_at: float | None = None

    def stop(self, reason: Stop) -> None:
        """Interrupt the work, once, for a known reason; a lost lease outweighs any other."""
        if self.reason is None or reason is Stop.LEASE_LOST:
            first, self.reason = self.reason is None, reason
            self.ledger.closed = reason is Stop.LEASE_LOST
            if reason is Stop.CANCELLED:
                self.cancel_seen_at = time.monotonic()
            if first and self.working and self.task is not None:
                self.task.cancel()


@dataclass(frozen=True, slots=True)
class Means:
    """What attempts work with."""

    journal: Journal
    work: Work
    artifacts: Artifacts
    settings: WorkerSettings
    folder: Path
    clock: Clock
    metrics: Metrics
    tracer: Tracer


@dataclass(slots=True)
class Ended:
    """How the work came back: an outcome or an error."""

    outcome: Outcome | None = None
    error: BaseException | None = None


class Worker:
    """Claims and runs up to `concurrency` attempts at a time. `name` is unique per start of the process."""

    def __init__(self, means: Means, *, idle_s: float = IDLE_S, threaded: bool = True) -> None:
        self._means = means
        self._idle_s = idle_s
        self._threaded = threaded
        self._leashes = means.folder / LEASHES
        # A host name alone would take over the leases of an earlier process with the same name.
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self.keeper = LeaseKeeper(means.journal, means.settings, means.clock, means.metrics)
        self._running: dict[tuple[str, int], Running] = {}  # by task and fence: see `_begin`
        self._free = means.settings.concurrency
        self._bell = Bell(means.journal, means.clock, idle_s)
        self._deadlines = Deadlines(means.clock)
        self._fatal: FatalError | None = None

    @property
    def running(self) -> int:
        """Attempts in progress."""
        return len(self._running)

    def attempts(self) -> list[asyncio.Task[None]]:
        """The asyncio tasks of the attempts, for tests that take them away as a crash does."""
        return [running.task for running in self._running.values() if running.task is not None]

    async def run(self, *, draining: asyncio.Event) -> None:
        """Claim and work until `draining`, then let attempts finish within the soft limit and hand back the rest.

        Raises FatalError when an attempt found that this process must not go on.
        """
        self._leashes.mkdir(parents=True, exist_ok=True)
        if self._threaded:
            self.keeper.start()
        self._bell.start(draining)
        watch = asyncio.create_task(self._watch())
        try:
            while not draining.is_set() and self._fatal is None:
                await self._claim(draining)
            await self._drain()
        finally:
            watch.cancel()
            await self._bell.stop()
            for running in list(self._running.values()):
                running.stop(Stop.DRAIN)
            await self._wait_for_all(None)
            self._deadlines.close()
            self.keeper.stop()
        if self._fatal is not None:
            raise self._fatal

    async def _claim(self, draining: asyncio.Event) -> None:
        """Fill the free places, then sleep until there may be more to do."""
        means, free = self._means, self._free
        self._bell.silence()
        try:
            sent_at = means.clock.monotonic()
            claims = await means.journal.claim(self.name, limit=free, lease_s=means.settings.lease_s) if free else []
            for claim in claims:
                self._begin(claim, sent_at)
            if claims:
                means.metrics.running.set(len(self._running))
            if not claims or len(claims) < free:  # otherwise there may be more than was asked for
                await self._bell.sleep()
        except JournalUnavailable as exc:
            means.metrics.journal_errors.labels("claim").inc()
            log.warning("claim.failed", error_type=type(exc).__name__)
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the event.
                async with asyncio.timeout(self._idle_s):
                    await draining.wait()

    async def _watch(self) -> None:
        """Tell the keeper that the loop lives, and let it look for a cancellation when the journal changes."""
        while True:
            self.keeper.heard()
            if not self._threaded and self._running:
                await self.keeper.beat()
            try:
                await self._means.journal.changed(timeout_s=self._idle_s)
            except JournalUnavailable:
                await self._means.clock.sleep(self._idle_s)
            if self._running:
                self.keeper.look()
            # Every event of our own attempts is a change, too: at most a few looks per second.
            await asyncio.sleep(min(0.25, self._idle_s))

    def _begin(self, claim: Claim, sent_at: float) -> None:
        crash_point("worker.claimed")
        means = self._means
        limit_s = self._attempt_limit_s(claim)

        def stop(reason: Stop) -> None:
            running.stop(reason)

        lease = Lease(
            claim, self._leashes, sent_at + limit_s + DEADLINE_GRACE_S, stop, sent_at, means.settings.self_stop_s
        )
        ledger = AttemptLedger(lease, means.journal, means.clock, means.folder)
        running = Running(claim, lease, ledger, time.monotonic(), sent_at, self._earlier(claim))
        self._running[claim.task_id, claim.fence] = running
        self._free -= 1
        self.keeper.hold(running.lease)
        if claim.attempt == 1:
            means.metrics.queue_wait.observe(max(0.0, (claim.started_at - claim.accepted_at).total_seconds()))
        running.task = asyncio.create_task(self._attempt(running, limit_s))

    def _earlier(self, claim: Claim) -> tuple[asyncio.Task[None], ...]:
        """A task that ended here a moment ago and is tried again: its last attempt may still be removing its folder."""
        if claim.fence == 1:
            return ()
        return tuple(
            other.task for other in self._running.values() if other.task and other.claim.task_id == claim.task_id
        )

    def _leave(self, running: Running) -> None:
        """Give its place to the next attempt, whose claim may then share the commit that stores this one's end."""
        if running.in_place:
            running.in_place = False
            self._free += 1
            if self._free == 1:  # with a place free before, the last claim took all there was
                self._bell.ring()

    def _attempt_limit_s(self, claim: Claim) -> float:
        facts = self._facts(claim)
        attempt_s = claim.attempt_deadline_s or self._means.settings.attempt_deadline_s
        return max(0.0, min(attempt_s, facts.total_s - facts.spent_s))

    def _facts(self, claim: Claim, run_s: float = 0.0) -> Facts:
        # The journal's clock up to the claim, the monotonic one since: a worker whose wall clock is wrong bounds no less.
        return Facts(
            failures=max(1, claim.attempt - claim.crashes),
            spent_s=(claim.started_at - claim.first_started_at).total_seconds() + run_s,
            total_s=claim.total_deadline_s or self._means.settings.total_deadline_s,
        )

    async def _attempt(self, running: Running, limit_s: float) -> None:
        """One attempt from its folder to its end: the boundary at which every exception becomes a verdict."""
        claim = running.claim
        structlog.contextvars.bind_contextvars(
            task_id=claim.task_id, attempt=claim.attempt, trace_id=trace_id(claim.attributes)
        )
        span = self._means.tracer.start_as_current_span(
            f"task {claim.kind}",
            links=links(claim.attributes),
            attributes={"backwright.task_id": claim.task_id, "backwright.attempt": claim.attempt},
        )
        try:
            with span as current:
                ended = await self._work(running, limit_s)
                crash_point("worker.work_done")
                verdict = self._verdict(running, ended)
                current.set_attribute("backwright.ending", verdict.ending.value if verdict.ending else "fenced")
                await self._finish(running, ended, verdict)
        except Fenced:
            self._means.metrics.fenced.inc()
            log.warning("attempt.fenced", fence=claim.fence)
        except Exception as exc:
            # The end could not be stored. The lease runs out, and the task is claimed again, counted as a crash.
            log.error("attempt.unfinished", error_type=type(exc).__name__, exc_info=exc)
        finally:
            self.keeper.release(claim)
            if running.ledger.has_ground:
                await asyncio.to_thread(shutil.rmtree, self._means.folder / claim.task_id, ignore_errors=True)
            del self._running[claim.task_id, claim.fence]
            self._means.metrics.running.set(len(self._running))
            self._leave(running)

    async def _work(self, running: Running, limit_s: float) -> Ended:
        """Run the work within its limits."""
        claim, settings = running.claim, self._means.settings
        # Past the point of no return the delivery stands: only its end is to be told, and the total time bounds the tries.
        if claim.crashes >= settings.max_crashes and not claim.is_final:
            return Ended()
        try:
            self._deadlines.set(running.ledger, limit_s, lambda: running.stop(Stop.DEADLINE))
            try:
                running.working = True
                if running.reason is None:
                    if running.earlier:
                        await asyncio.wait(running.earlier)  # clean ground first
                    return Ended(outcome=await self._means.work.run(running.ledger))
                return Ended()
            finally:
                running.working = False
                self._deadlines.clear(running.ledger)
        except asyncio.CancelledError as exc:
            if running.reason is None:
                raise  # somebody else cancelled us: the process is coming down
            _uncancel()
            return Ended(error=exc)
        except Exception as exc:
            if isinstance(exc, FatalError) and not isinstance(exc, EnvironmentUnfit):
                self._fatal = exc
                running.reason = running.reason or Stop.DRAIN
            if running.reason is None and not isinstance(exc, Fenced):
                log.warning("attempt.failed", error_type=type(exc).__name__, exc_info=exc)
            return Ended(error=exc)

    def _verdict(self, running: Running, ended: Ended) -> Verdict:
        claim, settings = running.claim, self._means.settings
        facts = self._facts(claim, self._means.clock.monotonic() - running.claimed_at)
        if ended.outcome is not None:
            # Finished before the interruption reached it: what is done is done (the journal has the last word).
            return Verdict(ended.outcome.ending)
        if ended.error is None and running.reason is None:
            return judge(poisoned(claim.crashes), facts, settings, chance=0.0)
        failure = classify(ended.error, running.reason)
        if running.reason is Stop.DEADLINE and facts.spent_s >= facts.total_s:
            return Verdict(Ending.FAILED, out_of_time(facts), dead_letter=True)
        return judge(failure, facts, settings, chance=random.random())  # noqa: S311 - jitter, no secret

    async def _finish(self, running: Running, ended: Ended, verdict: Verdict) -> None:
        claim, metrics = running.claim, self._means.metrics
        if verdict.ending is None:
            metrics.fenced.inc()
            log.warning("attempt.fenced", fence=claim.fence)
            return
        if ended.outcome is not None:
            finish = Finish(ended.outcome.ending, tuple(ended.outcome.events))
        else:
            finish = await self._badly(running, verdict)
        self._leave(running)
        await running.ledger.finish(finish)
        crash_point("worker.finished")
        self._count(running, verdict)

    async def _badly(self, running: Running, verdict: Verdict) -> Finish:
        """The end of an attempt that did not come to one by itself."""
        claim, failure = running.claim, verdict.failure
        assert verdict.ending is not None
        assert failure is not None
        error = ErrorReport(
            kind=failure.kind.value, code=failure.code, message=failure.message, retry_at=self._retry_at(verdict)
        )
        line = FailedAttempt(
            attempt=claim.attempt, worker=self.name, started_at=claim.started_at, ended_at=self._means.clock.now(), error=error
        ).model_dump(mode="json", exclude_none=True)  # fmt: skip
        counted = verdict.ending in (Ending.FAILED, Ending.RETRY, Ending.REJECTED)
        events: list[Event] = []
        if verdict.dead_letter:
            events.append(await self._letter(running, error, [*claim.history, line]))
        if (status := _STATUS.get(verdict.ending)) is not None:
            events.append(await self._status(running, status, failure, error))
        return Finish(verdict.ending, tuple(events), verdict.delay_s, line if counted else None)

    def _retry_at(self, verdict: Verdict) -> str | None:
        if verdict.ending is not Ending.RETRY:
            return None
        return rfc3339(self._means.clock.now() + timedelta(seconds=verdict.delay_s))

    async def _letter(self, running: Running, reason: ErrorReport, attempts: Sequence[Mapping[str, Any]]) -> Event:
        claim = running.claim
        last_step = running.ledger.last_step
        if last_step is None:
            last_step = next(reversed(list(await running.ledger.checkpoints())), None)
        self._means.metrics.dead_lettered.labels(reason.code).inc()
        return await running.ledger.patiently(
            lambda: letter(
                letter_id("task", claim.task_id, claim.epoch), claim.origin, reason, self._means.artifacts,
                now=self._means.clock.now(), task_id=claim.task_id, attempts=attempts, last_checkpoint=last_step,
                trace_id=trace_id(claim.attributes),
            )
        )  # fmt: skip

    async def _status(self, running: Running, status: Status, failure: Failure, error: ErrorReport) -> Event:
        """A status of our own: the last known progress, and what happened."""
        claim, ledger = running.claim, running.ledger
        known = ledger.progress
        if not known:
            view = await ledger.patiently(lambda: self._means.journal.task(claim.task_id))
            known = view.progress if view is not None else {}
        facts = self._facts(claim, self._means.clock.monotonic() - running.claimed_at)
        model = TaskStatus(
            agent=AGENT,
            status=status,
            phase=known.get("phase", Phase.ANALYSE.value),
            completed=tuple(known.get("completed", ())),
            pending=tuple(known.get("pending", ())),
            task_id=claim.task_id,
            service=ledger.service,
            attempt=claim.attempt,
            state=A2A_STATE[status],
            message=_MESSAGES[status].format(text=error.message)[:MESSAGE_LIMIT],
            diagnostics=tuple(failure.diagnostics),
            error=error,
            budget=Budget(seconds_spent=round(facts.spent_s, 3), seconds_limit=facts.total_s),
        )
        data = model.model_dump(mode="json", exclude_none=True, exclude={"evidence", "operations"})
        return Event(TASK_STATUS.name, claim.task_id, data)

    def _count(self, running: Running, verdict: Verdict) -> None:
        claim, metrics, failure = running.claim, self._means.metrics, verdict.failure
        assert verdict.ending is not None
        metrics.finished.labels(verdict.ending.value).inc()
        if verdict.ending is Ending.RETRY and failure is not None:
            metrics.retried.labels(failure.kind.value).inc()
        elif verdict.ending is not Ending.INTERRUPTED:
            age_s = (self._means.clock.now() - claim.accepted_at).total_seconds()
            metrics.task_duration.labels(verdict.ending.value).observe(max(0.0, age_s))
        if running.ledger.resumed_steps:
            metrics.resumed.inc()
        if running.cancel_seen_at is not None:
            metrics.cancel_latency.observe(time.monotonic() - running.cancel_seen_at)
        log.info(
            "attempt.finished",
            ending=verdict.ending.value,
            kind=failure.kind.value if failure else None,
            code=failure.code if failure else None,
            duration_s=round(time.monotonic() - running.started, 3),
            retry_after_s=round(verdict.delay_s, 3) if verdict.ending is Ending.RETRY else None,
            resumed_steps=running.ledger.resumed_steps,
            crashes=claim.crashes,
            fence=claim.fence,
        )

    async def _drain(self) -> None:
        """Soft limit, then hand back. Leases are renewed and cancellations observed all the while."""
        if not self._running:
            return
        log.info("worker.draining", running=len(self._running), limit_s=self._means.settings.drain_s)
        crash_point("worker.draining")
        if self._fatal is None:
            await self._wait_for_all(self._means.settings.drain_s)
        for running in list(self._running.values()):
            running.stop(Stop.DRAIN)
        await self._wait_for_all(None)

    async def _wait_for_all(self, timeout_s: float | None) -> None:
        if tasks := self.attempts():
            await asyncio.wait(tasks, timeout=timeout_s)


# What the worker itself says; cancelled and expired are said by the journal, which knows the command.
_STATUS = {
    Ending.FAILED: Status.FAILED,
    Ending.REJECTED: Status.REJECTED,
    Ending.RETRY: Status.QUEUED,
    Ending.INTERRUPTED: Status.QUEUED,
}
_MESSAGES = {
    Status.FAILED: "given up: {text}",
    Status.REJECTED: "{text}",
    Status.QUEUED: "will be tried again: {text}",
}


def _uncancel() -> None:
    """We asked for the cancellation, and it has been taken: the rest of the attempt goes on undisturbed."""
    current = asyncio.current_task()
    while current is not None and current.cancelling():
        current.uncancel()
