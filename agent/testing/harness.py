"""The whole runtime on memory adapters and a manual clock, for tests that say what happens and not how long it takes."""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import orjson
from opentelemetry.trace import NoOpTracer, Tracer

from agent.artifacts.memory import MemoryArtifacts
from agent.bus.memory import MemoryBus
from agent.bus.port import Outgoing, Record
from agent.journal.memory import MemoryJournal
from agent.journal.port import Journal, State, TaskView
from agent.pipeline.port import Work
from agent.runtime.supervisor import Supervisor
from agent.runtime.worker import Means
from agent.settings import WorkerSettings
from agent.telemetry.metrics import Metrics
from agent.testing.clock import ManualClock
from agent.testing.waiting import until
from agent.testing.work import ScriptedWork
from contracts import topics
from contracts.codec import Message, decode, encode, task_id
from contracts.envelope import (
    BY_WIRE_TYPE,
    CONTEXT_ANSWER,
    DEAD_LETTER_DISCARD,
    DEAD_LETTER_REPLAY,
    TASK_CANCEL,
    TASK_REPRIORITISE,
    TASK_REQUESTED,
    Envelope,
    MessageType,
)

SOURCE = "/tests/sender"
LIMIT_S = 10.0  # real seconds that any wait of a test may take
LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a sender makes it."""

    id: str
    outgoing: Outgoing

    @property
    def task_id(self) -> str:
        """Known beforehand."""
        return task_id(SOURCE, self.id)


_ids = itertools.count(1)


def request(service: str = "ok", *, identity: str | None = None, expirytime: Any = None, **fields: Any) -> Request:
    """A `task.requested` for the scripted work; `fields` go into its value."""
    identity = identity or f"request-{next(_ids)}-{uuid4().hex[:6]}"
    data = {"kind": "build", "service": service, "specification": {"content": "openapi: 3.1.0"}, **fields}
    envelope = Envelope(id=identity, source=SOURCE, type=TASK_REQUESTED.wire, expirytime=expirytime)
    encoded = encode(TASK_REQUESTED, envelope, data, key=service)
    return Request(identity, Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers))


def cancel(about: str, *, identity: str | None = None) -> Outgoing:
    """A `task.cancel`."""
    return _message(TASK_CANCEL, {"task_id": about, "reason": "changed my mind"}, about, identity)


def reprioritise(about: str, priority: int, *, identity: str | None = None) -> Outgoing:
    """A `task.reprioritise`."""
    return _message(TASK_REPRIORITISE, {"task_id": about, "priority": priority}, about, identity)


def replay(letter: str, *, identity: str | None = None) -> Outgoing:
    """A `dead_letter.replay`."""
    return _message(DEAD_LETTER_REPLAY, {"dead_letter_id": letter}, letter, identity)


def discard(letter: str, *, identity: str | None = None) -> Outgoing:
    """A `dead_letter.discard`."""
    return _message(DEAD_LETTER_DISCARD, {"dead_letter_id": letter}, letter, identity)


def answer(query_id: str) -> Outgoing:
    """A `context.answer`."""
    return _message(CONTEXT_ANSWER, {"query_id": query_id, "status": "unknown"}, query_id, None)


def _message(message_type: MessageType, data: Mapping[str, Any], key: str, identity: str | None) -> Outgoing:
    envelope = Envelope(id=identity or uuid4().hex, source=SOURCE, type=message_type.wire)
    encoded = encode(message_type, envelope, data, key=key)
    return Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers)


class Harness:
    """`async with Harness(folder) as harness:` — an agent at work. Time stands still until `advance`."""

    def __init__(
        self,
        folder: Path,
        *,
        work: Work | None = None,
        journal: Callable[[ManualClock], Journal] = MemoryJournal,
        bus: MemoryBus | None = None,
        tracer: Tracer | None = None,
        **settings: Any,
    ) -> None:
        self.clock = ManualClock()
        self.bus = bus or MemoryBus()
        self.journal = journal(self.clock)
        self.artifacts = MemoryArtifacts()
        self.scripted = ScriptedWork(step_s=0.05)
        self.work: Work = work or self.scripted
        self.metrics = Metrics()
        self.settings = WorkerSettings.model_validate({"drain_s": 0.3, "concurrency": 4, **settings})
        self.tracer = tracer or NoOpTracer()
        self._folder = folder
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.supervisor = self._make()

    def _make(self) -> Supervisor:
        means = Means(
            journal=self.journal, work=self.work, artifacts=self.artifacts, settings=self.settings, folder=self._folder,
            clock=self.clock, metrics=self.metrics, tracer=self.tracer,
        )  # fmt: skip
        return Supervisor(means, self.bus, source="/tests/agent", idle_s=0.02, threaded=False)

    async def __aenter__(self) -> "Harness":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the agent (again: with a new supervisor, as a new process would)."""
        await self.journal.open()
        if self._running is not None:
            self.supervisor = self._make()
            self._stop = asyncio.Event()
        self._running = asyncio.create_task(self.supervisor.run(self._stop))

    async def stop(self) -> None:
        """SIGTERM, and wait for the end of the drain."""
        self._stop.set()
        await self.ended()

    async def ended(self) -> None:
        """Wait until the agent has ended; raises what it ended with."""
        assert self._running is not None
        await asyncio.wait_for(asyncio.shield(self._running), LIMIT_S)

    async def crash(self) -> None:
        """The process dies: nothing is finished, nothing is told."""
        assert self._running is not None
        for attempt in self.supervisor.worker.attempts():
            attempt.cancel()
        self._running.cancel()
        await asyncio.gather(self._running, *self.supervisor.worker.attempts(), return_exceptions=True)

    async def deliver(self, given: Request | Outgoing, *, times: int = 1) -> str:
        """Put a record on the bus; returns the task id of a request."""
        outgoing = given.outgoing if isinstance(given, Request) else given
        for _ in range(times):
            self.bus.append(outgoing)
        return given.task_id if isinstance(given, Request) else ""

    def advance(self, seconds: float) -> None:
        """Move time."""
        self.clock.advance(seconds)

    async def until(self, holds: Callable[[], Any], what: str = "the condition") -> None:
        """Wait until `holds()`; it may be a coroutine function."""
        await until(holds, lambda: f"{what} (there are {self.statuses()})", limit_s=LIMIT_S, every_s=LOOK_S)

    async def until_state(self, about: str, *states: State) -> TaskView:
        """Wait until a task is in one of these states, and its events are out."""

        async def reached() -> bool:
            view = await self.journal.task(about)
            return view is not None and view.state in states

        await self.until(reached, f"{about} in {states}")
        await self.settled()
        view = await self.journal.task(about)
        assert view is not None
        return view

    async def through_retries(self, about: str, number: int) -> None:
        """Wait for the failure of each of the first `number` attempts, and move time past its delay."""
        for attempt in range(1, number + 1):

            async def failed(attempt: int = attempt) -> bool:
                view = await self.journal.task(about)
                return view is not None and view.state is State.SCHEDULED and view.attempt == attempt

            await self.until(failed, f"failure {attempt} of {about}")
            self.advance(self.settings.backoff_cap_s + 1)

    async def settled(self) -> None:
        """Wait until the outbox is empty."""

        async def empty() -> bool:
            return (await self.journal.depths()).outbox == 0

        await self.until(empty, "an empty outbox")

    async def tasks(self) -> Sequence[TaskView]:
        """All tasks, newest first."""
        return await self.journal.tasks()

    def messages(self, topic: topics.Topic = topics.STATUS) -> list[Message]:
        """Everything published on a topic, decoded, in order per partition."""
        return [_decoded(record) for record in self.bus.records(topic.name)]

    def statuses(self, about: str | None = None) -> list[str]:
        """The `status` field of each status event, in order."""
        found = [m for m in self.messages() if m.message_type.name == "task.status"]
        return [str(orjson.loads(m.data)["status"]) for m in found if about in (None, m.envelope.subject)]

    def status_events(self, about: str) -> list[Mapping[str, Any]]:
        """Whole status events of a task."""
        return [orjson.loads(m.data) for m in self.messages() if m.envelope.subject == about]

    def sequences(self, about: str) -> list[int]:
        """`sequence` of everything on the status topic about a task, first appearances only."""
        first = {m.envelope.id: int(m.envelope.sequence or 0) for m in self.messages() if m.envelope.subject == about}
        return list(first.values())

    def dead_letters(self) -> list[Mapping[str, Any]]:
        """Published dead letters."""
        return [orjson.loads(m.data) for m in self.messages(topics.DEAD_LETTERS)]


def _decoded(record: Record) -> Message:
    return decode(record.topic, record.headers, record.key, record.value)


def wire(name: str) -> str:
    """`task.status` → its type on the wire."""
    return next(wire for wire, row in BY_WIRE_TYPE.items() if row.name == name)
