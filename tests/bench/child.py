"""The process that is measured: `python -m tests.bench.child JSON` plays one role and prints one JSON object.

A new process per round, so that no round inherits memory, caches or connections from the one before. The clock runs
from the first record that is polled to the last one that is done: start-up and joining are not throughput.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, Tracer

from agent import __version__
from agent.artifacts.memory import MemoryArtifacts
from agent.bus.embedded import embedded_settings
from agent.bus.kafka import KafkaBus
from agent.bus.port import Bus, Consumer, ConsumerHealth, Outgoing, Producer, Record
from agent.clock import SystemClock
from agent.journal.memory import MemoryJournal
from agent.journal.port import Checkpoint, Ending, Event, Journal
from agent.journal.postgres import PostgresJournal
from agent.journal.sqlite import SqliteJournal
from agent.pipeline.port import Ledger, Outcome
from agent.runtime.garbage import spare_collector
from agent.runtime.inbox import TOPICS, Inbox, Pressure
from agent.runtime.supervisor import Supervisor
from agent.runtime.worker import Means
from agent.settings import JournalSettings, KafkaSettings, TelemetrySettings, WorkerSettings
from agent.telemetry import logs
from agent.telemetry.metrics import Metrics
from agent.telemetry.tracing import Tracing
from agent.testing.waiting import until
from contracts import topics
from contracts.status import A2A_STATE, Phase, Status, TaskStatus
from tests.bench.requests import new_task

CONCURRENCY = 64
STATUSES = 3  # per task: queued, developing, completed
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a role gets from its parent."""

    role: str
    bootstrap: str = ""
    group: str = "bench"
    records: int = 0
    journal: str = "memory"  # memory | sqlite | postgresql://…
    folder: str = "."
    telemetry: bool = True
    fetch_max_wait_ms: int = 10
    concurrency: int = CONCURRENCY
    topic_prefix: str = ""
    wait_s: float = 0.0  # that a task waits for something, on no CPU


# ── what is counted ────────────────────────────────────────────────────────────────────────────────────────────────


class Tally:
    """First record in, records in, events out; the CPU time of all threads between the first and the last."""

    def __init__(self) -> None:
        self.began = self.ended = self._cpu_s = 0.0
        self.polled = 0
        self.sent = 0
        self.told = 0.0  # when the last acknowledgement came
        self.waited = asyncio.Event()

    def begin(self) -> None:
        """The first records came."""
        self.began, self._cpu_s = time.perf_counter(), -time.process_time()

    def end(self) -> None:
        """The last one is done."""
        self.ended, self._cpu_s = time.perf_counter(), self._cpu_s + time.process_time()

    def figures(self, number: int) -> dict[str, float]:
        """Records per second, and CPU microseconds per record."""
        return {"rate": number / (self.ended - self.began), "cpu_us": self._cpu_s / number * 1e6}


class CountedConsumer:
    """A consumer that notes when its first records came, and how many."""

    def __init__(self, inner: Consumer, tally: Tally) -> None:
        self._inner, self._tally = inner, tally

    async def start(self) -> None:
        await self._inner.start()

    async def poll(self, *, timeout_s: float) -> Sequence[Record]:
        records = await self._inner.poll(timeout_s=timeout_s)
        if records and not self._tally.began:
            self._tally.begin()
        self._tally.polled += len(records)
        return records

    async def commit(self, records: Sequence[Record]) -> None:
        await self._inner.commit(records)

    def pause(self, topics: Collection[str]) -> None:
        self._inner.pause(topics)

    def resume(self, topics: Collection[str]) -> None:
        self._inner.resume(topics)

    def lag(self) -> Mapping[str, int]:
        return self._inner.lag()

    def health(self) -> ConsumerHealth:
        return self._inner.health()

    async def stop(self) -> None:
        await self._inner.stop()


class CountedProducer:
    """A producer that counts acknowledged records, and calls `enough` when the last one expected is."""

    def __init__(self, inner: Producer, tally: Tally, expected: int) -> None:
        self._inner, self._tally, self._expected = inner, tally, expected

    async def start(self) -> None:
        await self._inner.start()

    async def send(self, records: Sequence[Outgoing]) -> None:
        await self._inner.send(records)
        self._tally.sent += len(records)
        self._tally.told = time.perf_counter()
        if self._expected and self._tally.sent >= self._expected:
            self._tally.end()
            self._tally.waited.set()

    async def stop(self) -> None:
        await self._inner.stop()


class CountedBus:
    """The Kafka adapter with a tally on it."""

    def __init__(self, inner: Bus, tally: Tally, expected: int) -> None:
        self._inner, self._tally, self._expected = inner, tally, expected

    def consumer(self, topics: Collection[str], *, group: str | None) -> Consumer:
        return CountedConsumer(self._inner.consumer(topics, group=group), self._tally)

    def producer(self) -> Producer:
        return CountedProducer(self._inner.producer(), self._tally, self._expected)

    def ensure_topics(self) -> AsyncIterator[str]:
        return self._inner.ensure_topics()

    async def check_topics(self) -> Sequence[str]:
        return await self._inner.check_topics()


class BriefWork:
    """The least that is a task: one status on the way and one at the end (the journal writes the first, `queued`)."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self._wait_s = wait_s
        self.done = 0

    async def run(self, ledger: Ledger) -> Outcome:
        await ledger.record(None, [_status(ledger, Status.DEVELOPING)])
        if self._wait_s:
            await asyncio.sleep(self._wait_s)  # what is measured, not a condition
        self.done += 1
        return Outcome(Ending.COMPLETED, [_status(ledger, Status.COMPLETED)])


def _status(ledger: Ledger, status: Status) -> Event:
    claim = ledger.claim
    model = TaskStatus(
        status=status, phase=Phase.DEVELOP.value, completed=("Data models",), pending=("Cache integration",),
        task_id=claim.task_id, service=claim.ordering_key, attempt=claim.attempt, state=A2A_STATE[status],
    )  # fmt: skip
    return Event("task.status", claim.task_id, model.model_dump(mode="json", exclude_none=True, exclude=_LONG))


_LONG = {"evidence", "diagnostics", "operations"}


class _Silent:
    """Stands in for any series: what telemetry costs when there is none."""

    def labels(self, *_values: str) -> "_Silent":
        return self

    def inc(self, _amount: float = 1) -> None: ...

    def set(self, _value: float) -> None: ...

    def observe(self, _value: float) -> None: ...


def _telemetry(on: bool) -> tuple[Metrics, Tracer]:
    """On: logs at INFO, metrics, a tracer whose parentless spans are not sampled. Off: none of them."""
    metrics = Metrics()
    if on:
        settings = TelemetrySettings(sample_ratio=0.0)
        logs.configure(settings)
        return metrics, Tracing(settings, processor=SimpleSpanProcessor(InMemorySpanExporter())).tracer
    logs.configure(TelemetrySettings(log_level="error"))
    for name in vars(metrics):
        if name != "registry":
            setattr(metrics, name, _Silent())
    return metrics, NoOpTracer()


def journal_of(order: Order) -> Journal:
    """The journal that an order names; not open yet."""
    if order.journal == "memory":
        return MemoryJournal(SystemClock())
    if order.journal == "sqlite":
        return SqliteJournal(Path(order.folder) / "journal.sqlite", SystemClock())
    return PostgresJournal(order.journal, JournalSettings())


def _kafka(order: Order) -> KafkaSettings:
    changes = {"fetch_max_wait_ms": order.fetch_max_wait_ms, "topic_prefix": order.topic_prefix}
    return embedded_settings(order.bootstrap).model_copy(update=changes)


# ── roles ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def raw(order: Order) -> Mapping[str, Any]:
    """aiokafka and nothing else: `getmany` in a loop, several times over the same records."""
    passes = 5
    client = AIOKafkaConsumer(
        topics.TASKS.name, bootstrap_servers=order.bootstrap, group_id=order.group, auto_offset_reset="earliest",
        enable_auto_commit=False, fetch_max_wait_ms=order.fetch_max_wait_ms, session_timeout_ms=6000, heartbeat_interval_ms=1000,
    )  # fmt: skip
    await client.start()
    seen, began = 0, 0.0
    try:
        while seen < order.records * passes:
            batches = await client.getmany(timeout_ms=500, max_records=500)
            began = began or time.perf_counter()
            seen += sum(map(len, batches.values()))
            if seen and seen % order.records == 0 and seen < order.records * passes:
                await client.seek_to_beginning()
        return {"records": order.records, "rate": seen / (time.perf_counter() - began)}
    finally:
        await client.stop()


async def accept(order: Order) -> Mapping[str, Any]:
    """The real inbox on a real journal: poll, decode, accept durably, commit the offset. Nobody works."""
    metrics, tracer = _telemetry(order.telemetry)
    tally = Tally()
    journal = journal_of(order)
    await journal.open()
    consumer = CountedConsumer(KafkaBus(_kafka(order)).consumer(TOPICS, group=order.group), tally)
    pressure = Pressure(pause_above=10**9, resume_below=10**9)
    inbox = Inbox(consumer, journal, MemoryArtifacts(), SystemClock(), metrics, tracer, pressure)

    def ended() -> bool:
        # Asked after each batch was stored: what is polled by now is accepted.
        if tally.polled >= order.records and not tally.ended:
            tally.end()
        return bool(tally.ended)

    spare_collector()
    try:
        await asyncio.wait_for(inbox.run(draining=lambda: False, ended=ended), PATIENCE_S)
        depths = await journal.depths()
    finally:
        await journal.close()
    return {"records": sum(depths.by_state.values())} | tally.figures(order.records) | memory()


async def life(order: Order) -> Mapping[str, Any]:
    """The whole agent but for the pipeline: inbox, worker, outbox, leases, probes. Until all is told, or SIGTERM."""
    metrics, tracer = _telemetry(order.telemetry)
    tally, stop = Tally(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tally.waited.set)
    journal = journal_of(order)
    await journal.open()
    work = BriefWork(order.wait_s)
    settings = WorkerSettings(concurrency=order.concurrency, pause_above=100_000, resume_below=90_000)
    means = Means(
        journal=journal, work=work, artifacts=MemoryArtifacts(), settings=settings, clock=SystemClock(),
        folder=Path(order.folder) / "attempts", metrics=metrics, tracer=tracer,
    )  # fmt: skip
    bus = CountedBus(KafkaBus(_kafka(order)), tally, order.records * STATUSES)
    supervisor = Supervisor(means, bus, source="/bench/agent", group=order.group)
    spare_collector()  # as the agent does
    running = asyncio.create_task(supervisor.run(stop))
    try:
        await until(lambda: supervisor.ready()[0] or running.done(), "a place in the group")
        say({"ready": True})
        waiting = asyncio.create_task(tally.waited.wait())
        await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
        commits = getattr(journal, "commits", 0)  # SQLite counts them
        stop.set()
        await running
    finally:
        await journal.close()
    found: dict[str, Any] = {
        "records": tally.polled, "sent": tally.sent, "commits": commits, "worked": work.done,
        "began": tally.began, "told": tally.told,  # on the machine's monotonic clock, which all processes share
    }  # fmt: skip
    if order.records:
        found |= tally.figures(order.records)
    return found | memory()


async def checkpoint(order: Order) -> Mapping[str, Any]:
    """One attempt that records step after step, each with an output of 2 kB and a status; ms of each."""
    journal = journal_of(order)
    await journal.open()
    try:
        await journal.accept([new_task(0)])
        (claim,) = await journal.claim("bench", limit=1, lease_s=600)
        output = {"report": "x" * 2000}
        event = Event("task.status", claim.task_id, {"status": "developing", "phase": Phase.DEVELOP.value})
        spent = []
        for number in range(order.records):
            point = Checkpoint(f"step {number}", "0" * 64, output, __version__, 0.1)
            began = time.perf_counter()
            await journal.record(claim, point, [event])
            spent.append((time.perf_counter() - began) * 1000)
        return {"records": len(await journal.checkpoints(claim.task_id)), "ms": spent}
    finally:
        await journal.close()


ROLES: Mapping[str, Callable[[Order], Awaitable[Mapping[str, Any]]]] = {
    "raw": raw, "accept": accept, "life": life, "checkpoint": checkpoint,
}  # fmt: skip


def memory() -> dict[str, Any]:
    """Peak resident set of this process, MB. Not ru_maxrss: that one remembers the parent from before the exec."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"peak_mb": int(fields["VmHWM"].split()[0]) / 1024}


def say(line: Mapping[str, Any]) -> None:
    """One line to the parent."""
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


async def _play(order: Order) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        say(await ROLES[order.role](order))


if __name__ == "__main__":
    asyncio.run(_play(Order(**orjson.loads(sys.argv[1]))))
