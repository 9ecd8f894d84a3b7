"""The three loops of an agent and their life: inbox, worker and outbox, which meet in the journal only.

    start    all three at once; each waits out the outages of what it needs
    drain    (SIGTERM) stop claiming, pause the tasks topic; commands, leases and events go on
             → attempts finish or are handed back → commit, leave the group → publish what is left → end
    failure  a loop that raises something that it does not know drains the rest and ends the process

`live` and `ready` are called from the threads of the health port, so they only read.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from agent.bus.port import Bus, Consumer
from agent.errors import FatalError, TransientError
from agent.journal.port import Depths, State
from agent.runtime.inbox import POLL_S, TOPICS, Inbox, Pressure
from agent.runtime.outbox import Outbox
from agent.runtime.verdict import backoff_s
from agent.runtime.worker import IDLE_S, LEASHES, Means, Worker

log = structlog.get_logger()

RESTART_BASE_S, RESTART_CAP_S = 0.5, 15.0
CALM_S = 60.0  # a consumer that lived so long starts a new count of restarts
GAUGE_EVERY_S = 1.0
FLUSH_S = 5.0  # for the events of the last attempts, after everything else has ended
LEAVE_S = 10.0  # for leaving the group
LIVE_POLL_AGE_S = 90.0
LIVE_LOOP_LAG_S = 30.0
READY_JOURNAL_AGE_S = 15.0
TIDY_EVERY_S = 600.0
KEEP_S = 7 * 24 * 3600.0  # ended tasks, answers and artefacts without a reference; topics keep records as long


class Supervisor:
    """Runs the agent until it is told to stop. The journal is open before and closed after, by the caller."""

    def __init__(
        self,
        means: Means,
        bus: Bus,
        *,
        source: str,
        group: str = "backwright",
        idle_s: float = IDLE_S,
        threaded: bool = True,
    ) -> None:
        """`means.folder` holds the attempts' own folders; `threaded=False` renews leases in the event loop (tests)."""
        self._means = means
        self._bus = bus
        self._source = source
        self._group = group
        self._idle_s = idle_s
        self._pressure = Pressure(means.settings.pause_above, means.settings.resume_below)
        self.worker = Worker(means, idle_s=idle_s, threaded=threaded)
        self._draining = asyncio.Event()
        self._worked = asyncio.Event()  # no attempt is left: the inbox may leave the group
        self._closing = asyncio.Event()
        self._consumer: Consumer | None = None
        self._consumer_since = self._ticked_at = self._journal_seen_at = time.monotonic()
        self._lag_s = 0.0

    def drain(self) -> None:
        """Begin to end, as on SIGTERM."""
        if not self._draining.is_set():
            log.info("agent.draining", running=self.worker.running)
            self._means.metrics.draining.set(1)
            self._draining.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then drain. Raises FatalError when the process must not go on."""
        worker = asyncio.create_task(self.worker.run(draining=self._draining), name="worker")
        inbox = asyncio.create_task(self._keep_inbox(), name="inbox")
        outbox = asyncio.create_task(self._keep_outbox(), name="outbox")
        gauges = asyncio.create_task(self._keep_gauges(), name="gauges")
        tidy = asyncio.create_task(self._keep_tidy(), name="tidy")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        drain = asyncio.create_task(self._draining.wait(), name="drain")
        loops = {worker, inbox, outbox, gauges, tidy}
        broken: list[str] = []
        try:
            done, _ = await asyncio.wait({*loops, stopping, drain}, return_when=asyncio.FIRST_COMPLETED)
            broken = [task.get_name() for task in done & loops]
            if broken:
                log.error("loop.ended", loops=broken)
            self.drain()
            await asyncio.wait({worker})
            self._worked.set()
            joined = self._consumer is not None and self._consumer.health().joined
            await _end(inbox, LEAVE_S if joined else 0.0)  # who still waits to join has nothing to commit
            self._closing.set()
            await _end(outbox, FLUSH_S)
        finally:
            for task in (*loops, stopping, drain):
                task.cancel()
            results = await asyncio.gather(*loops, stopping, drain, return_exceptions=True)
        _raise_worst(results)
        if broken:  # cancelled by somebody else: no loop may end in silence
            raise FatalError(f"{', '.join(broken)} ended without a reason", remedy="read the log above; start it again")

    # --- loops ------------------------------------------------------------------------------------------------------

    async def _keep_inbox(self) -> None:
        """construct → start → on error stop → backoff → new."""
        tries, means = 0, self._means
        while not self._worked.is_set():
            consumer = self._bus.consumer(TOPICS, group=self._group)
            self._consumer, self._consumer_since = consumer, time.monotonic()
            inbox = Inbox(
                consumer, means.journal, means.artifacts, means.clock, means.metrics, means.tracer, self._pressure,
                poll_s=min(POLL_S, self._idle_s),
            )  # fmt: skip
            try:
                await inbox.run(draining=self._draining.is_set, ended=self._worked.is_set)
            except TransientError as exc:
                tries = 1 if time.monotonic() - self._consumer_since > CALM_S else tries + 1
                self._means.metrics.consumer_restarts.labels(type(exc).__name__).inc()
                delay_s = backoff_s(tries, base_s=RESTART_BASE_S, cap_s=RESTART_CAP_S)
                log.warning(
                    "consumer.restarted", error_type=type(exc).__name__, error=str(exc)[:300], retry_after_s=delay_s
                )
                with contextlib.suppress(TimeoutError):  # not through the end of the drain
                    async with asyncio.timeout(delay_s):  # not wait_for: see worker.py
                        await self._worked.wait()

    async def _keep_outbox(self) -> None:
        means = self._means
        producer = self._bus.producer()
        outbox = Outbox(producer, means.journal, self._source, means.clock, means.metrics, idle_s=self._idle_s)
        await outbox.run(closing=self._closing)

    async def _keep_gauges(self) -> None:
        """Figures for metrics, back-pressure and probes."""
        while True:
            before = self._ticked_at = time.monotonic()
            await asyncio.sleep(GAUGE_EVERY_S)
            self._lag_s = max(0.0, time.monotonic() - before - GAUGE_EVERY_S)
            self._means.metrics.loop_lag.set(self._lag_s)
            try:
                depths = await self._means.journal.depths()
            except TransientError:
                self._means.metrics.journal_errors.labels("depths").inc()
            else:
                self._journal_seen_at = time.monotonic()
                self._show(depths)
            self._show_consumer()

    def _show(self, depths: Depths) -> None:
        metrics, by_state = self._means.metrics, depths.by_state
        self._pressure.waiting = by_state.get(State.AVAILABLE, 0) + by_state.get(State.SCHEDULED, 0)
        for state in State:
            metrics.tasks.labels(state.value).set(by_state.get(state, 0))
        metrics.outbox_pending.set(depths.outbox)
        metrics.outbox_age.set(depths.oldest_outbox_s)
        metrics.dead_letters.set(depths.dead_letters)
        metrics.oldest_available.set(depths.oldest_available_s)
        metrics.oldest_running.set(depths.oldest_running_s)

    def _show_consumer(self) -> None:
        if self._consumer is None:
            return
        health = self._consumer.health()
        self._means.metrics.poll_age.set(self._poll_age_s())
        self._means.metrics.assigned_partitions.set(health.assigned_partitions)
        for topic, records in self._consumer.lag().items():
            self._means.metrics.consumer_lag.labels(topic).set(records)

    async def _keep_tidy(self) -> None:
        """Old rows, artefacts that nobody names any more, and folders of attempts that died."""
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            try:
                while (done := await self._means.journal.tidy(older_than_s=KEEP_S)).archived:
                    log.info("journal.tidied", archived=done.archived, answers=done.answers, commands=done.commands)
                names = await self._means.journal.referenced()
                removed = await self._means.artifacts.collect(names, older_than_s=KEEP_S)
                swept = await asyncio.to_thread(_sweep, self._means.folder)
            except TransientError as exc:
                log.warning("tidy.failed", error_type=type(exc).__name__)
            else:
                log.debug("tidy.finished", artifacts=removed, folders=swept)

    # --- probes ---------------------------------------------------------------------------------------------------

    def live(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether this process still moves: the consumer is polled (or made anew) and the event loop turns."""
        poll_age_s = self._poll_age_s()
        lag_s = max(self._lag_s, time.monotonic() - self._ticked_at - GAUGE_EVERY_S)
        well = poll_age_s < LIVE_POLL_AGE_S and lag_s < LIVE_LOOP_LAG_S
        return well, {"poll_age_s": round(poll_age_s, 3), "loop_lag_s": round(max(0.0, lag_s), 3)}

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether it takes work: in its group, the journal answers, not draining."""
        joined = self._consumer is not None and self._consumer.health().joined
        journal = time.monotonic() - self._journal_seen_at < READY_JOURNAL_AGE_S
        draining = self._draining.is_set()
        facts = {"joined": joined, "journal": journal, "draining": draining, "running": self.worker.running}
        return joined and journal and not draining, facts

    def _poll_age_s(self) -> float:
        """A consumer that is being replaced counts from its making: an outage of the bus is no reason to kill us."""
        since_made = time.monotonic() - self._consumer_since
        return since_made if self._consumer is None else min(since_made, self._consumer.health().poll_age_s)


async def _end(task: "asyncio.Task[None]", timeout_s: float) -> None:
    """Let it come to its end, within limits."""
    _, pending = await asyncio.wait({task}, timeout=timeout_s)
    if pending:
        log.warning("loop.cut_short", loop=task.get_name(), after_s=timeout_s)


def _raise_worst(results: list[Any]) -> None:
    """What ended a loop ends the process: a FatalError first, because it carries the remedy."""
    errors = [result for result in results if isinstance(result, Exception)]
    for error in sorted(errors, key=lambda error: not isinstance(error, FatalError)):
        raise error


def _sweep(folder: Path) -> int:
    """Remove what attempts left that nobody came back to; a running one moves its leash every second."""
    old, removed = time.time() - 2 * 24 * 3600, 0
    for path in (*folder.glob("*"), *folder.glob(f"{LEASHES}/*")):
        if path.name != LEASHES and path.stat().st_mtime < old:
            removed += 1
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return removed
