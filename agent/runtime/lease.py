"""Leases of this process: renewed from a thread, so that a blocked event loop does not lose its work at once.

Rules for editors:
1. A lease is counted from *before* its renewal was sent, on a clock that goes on while the machine sleeps.
2. renew (3 s) < self-stop (7 s) < expiry (10 s): who could not renew stops before another worker may claim.
3. With each renewal the leash's deadline moves; children are killed by the guardian when it passes, even if this
   whole process is stopped (SIGSTOP).
4. Renewal is bounded: it ends when the event loop was silent for too long, or the attempt's deadline has passed.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from agent.clock import Clock
from agent.errors import JournalUnavailable
from agent.journal.port import Claim, Journal
from agent.runtime.verdict import Stop
from agent.settings import WorkerSettings
from agent.telemetry.metrics import Metrics

log = structlog.get_logger()

SILENCE_LIMIT_S = 30.0  # a loop that is blocked longer than any compilation: the work is not going on
DEADLINE_GRACE_S = 15.0  # after the attempt's deadline, for the loop to end it
LOOK_EVERY_S = 0.8  # a stored cancellation is observed within a second


@dataclass(slots=True)
class Lease:
    """One claim that this process holds. `on_stop` is called in the event loop, at most once per reason."""

    claim: Claim
    leashes: Path  # the folder of all leashes
    deadline: float  # monotonic; no renewal after it
    on_stop: Callable[[Stop], None]
    renewed_at: float  # monotonic, before the last successful renewal was sent
    self_stop_s: float
    told: set[Stop] = field(default_factory=set)
    is_tied: bool = False  # something may hang on the leash: only then is it a file

    @property
    def leash(self) -> Path:
        """Its file."""
        return self.leashes / f"{self.claim.task_id}.{self.claim.fence}"

    def tie(self) -> None:
        """Write the leash, before the first child is tied to it."""
        if not self.is_tied:
            self.is_tied = True
            self.move_leash()

    def move_leash(self) -> None:
        """Children live until our self-stop, counted from the last renewal: before anybody else may claim."""
        if not self.is_tied:
            return
        leash = self.leash
        temporary = leash.with_suffix(".next")
        try:
            temporary.write_text(f"{self.renewed_at + self.self_stop_s:.3f}\n", encoding="ascii")
            temporary.replace(leash)  # the guardian never reads half a number
        except OSError as exc:
            log.error("leash.not_moved", task_id=self.claim.task_id, error=exc.strerror)

    def cut_leash(self) -> None:
        """End what is still tied to it."""
        if self.is_tied:
            with contextlib.suppress(OSError):
                self.leash.unlink(missing_ok=True)

    def has_run_out(self, now: float) -> bool:
        """Whether its holder must stop. Never renewed after that, even if nobody else has claimed the task: its
        children are dead by now, and what they seem to have answered is not true."""
        return now - self.renewed_at > self.self_stop_s


class LeaseKeeper:
    """Renews all leases of a worker together."""

    def __init__(self, journal: Journal, settings: WorkerSettings, clock: Clock, metrics: Metrics) -> None:
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard_at = clock.monotonic()

    def hold(self, lease: Lease) -> None:
        """Keep this lease until `release`."""
        with self._lock:
            self._leases[lease.claim.task_id] = lease

    def release(self, claim: Claim) -> None:
        """Stop renewing; remove the leash, which ends what is still tied to it."""
        with self._lock:
            lease = self._leases.get(claim.task_id)
            if lease is None or lease.claim.fence != claim.fence:
                return
            del self._leases[claim.task_id]
        lease.cut_leash()

    def heard(self) -> None:
        """The event loop is alive (called by a timer in it)."""
        self._heard_at = self._clock.monotonic()

    def look(self) -> None:
        """Renew now: something changed, perhaps a cancellation."""
        self._wake.set()

    def start(self) -> None:
        """Renew from a thread of its own."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._drive()), name="leases", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; leases that are still held run out."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=self._settings.self_stop_s)

    async def _drive(self) -> None:
        while not self._ended:
            await self.beat()
            interval_s = min(self._settings.renew_s, LOOK_EVERY_S)
            # Blocking this thread is its purpose; nothing else lives in its loop but the connection of the journal.
            await asyncio.to_thread(self._wake.wait, interval_s)
            self._wake.clear()

    async def beat(self) -> None:
        """One round: renew what may be renewed, tell attempts what became of them."""
        now = self._clock.monotonic()
        with self._lock:
            leases = list(self._leases.values())
        self._end_overdue(leases, now)
        silent = now - self._heard_at > SILENCE_LIMIT_S
        renewable = [lease for lease in leases if now < lease.deadline and Stop.LEASE_LOST not in lease.told]
        if renewable and not silent:
            await self._renew(renewable, sent_at=now)
        self._end_overdue(leases, self._clock.monotonic())

    def _end_overdue(self, leases: list[Lease], now: float) -> None:
        for lease in leases:
            if lease.has_run_out(now):
                self._tell(lease, Stop.LEASE_LOST, "lease.ran_out")

    async def _renew(self, leases: list[Lease], *, sent_at: float) -> None:
        claims = [lease.claim for lease in leases]
        try:
            async with asyncio.timeout(self._settings.renew_s):
                answers = await self._journal.renew(claims, lease_s=self._settings.lease_s)
        except (JournalUnavailable, TimeoutError) as exc:
            self._metrics.lease_failures.inc(len(leases))
            log.warning("lease.renewal_failed", leases=len(leases), error_type=type(exc).__name__)
            return
        for lease in leases:
            answer = answers.get(lease.claim.task_id)
            if answer is None or not answer.held:
                self._tell(lease, Stop.LEASE_LOST, "lease.lost")
                continue
            lease.renewed_at = sent_at
            lease.move_leash()
            if answer.cancel_requested:
                self._tell(lease, Stop.CANCELLED, "cancellation.observed")

    def _tell(self, lease: Lease, stop: Stop, event: str) -> None:
        with self._lock:
            if stop in lease.told or self._leases.get(lease.claim.task_id) is not lease:
                return
            lease.told.add(stop)
        log.info(event, task_id=lease.claim.task_id, fence=lease.claim.fence)
        if event == "lease.ran_out":
            self._metrics.self_stops.inc()
        if self._loop is None:
            lease.on_stop(stop)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                self._loop.call_soon_threadsafe(lease.on_stop, stop)
