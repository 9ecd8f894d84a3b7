"""From Kafka into the journal: poll → decode → accept in one transaction → commit the offset. No work is done here.

Rules for editors:
1. An offset is committed only after everything up to it is stored: as a task, a command, an answer or a dead letter.
2. Nothing is dropped. While the journal is away the batch is kept, all topics pause, and polling goes on, because a
   consumer that does not poll loses its place in the group.
3. Back-pressure pauses the tasks topic only; commands and answers always flow.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from opentelemetry.trace import NoOpTracer, SpanKind, Tracer

from agent.artifacts.port import Artifacts
from agent.bus.port import Consumer, Record
from agent.clock import Clock
from agent.errors import TransientError
from agent.journal.port import Acceptance, Intake, Journal, NewAnswer, NewCommand, NewDeadLetter, NewTask
from agent.runtime.crashpoints import crash_point
from agent.runtime.letters import letter, letter_id, origin_of
from agent.runtime.verdict import backoff_s
from agent.telemetry.metrics import Metrics
from agent.telemetry.tracing import carrier, links, remote
from contracts import topics
from contracts.codec import Message, attributes, decode, task_id
from contracts.context import ContextAnswer
from contracts.errors import ContractError
from contracts.status import ErrorReport
from contracts.tasks import TaskRequested

log = structlog.get_logger()

TOPICS = (topics.TASKS.name, topics.CONTROL.name, topics.CONTEXT_ANSWERS.name)
COMMIT_EVERY_S = 0.2
POLL_S = 0.5
RETRY_BASE_S, RETRY_CAP_S = 0.1, 5.0

_KINDS = {NewTask: "task", NewCommand: "command", NewAnswer: "answer", NewDeadLetter: "dead_letter"}


@dataclass(slots=True)
class Pressure:
    """How many tasks wait for a worker; decides with hysteresis when the tasks topic pauses."""

    pause_above: int
    resume_below: int
    waiting: int = 0
    paused: bool = False

    def update(self) -> bool:
        """Whether the topic should be paused now."""
        limit = self.resume_below if self.paused else self.pause_above
        self.paused = self.waiting > limit
        return self.paused


class Inbox:
    """One life of a consumer. The supervisor makes a new one when this one raises BusUnavailable."""

    def __init__(
        self, consumer: Consumer, journal: Journal, artifacts: Artifacts, clock: Clock, metrics: Metrics,
        tracer: Tracer, pressure: Pressure, *, poll_s: float = POLL_S,
    ) -> None:  # fmt: skip
        self._consumer = consumer
        self._journal = journal
        self._artifacts = artifacts
        self._clock = clock
        self._metrics = metrics
        self._poll_s = poll_s
        self._tracer = tracer
        self._is_untraced = isinstance(tracer, NoOpTracer)
        self._pressure = pressure
        self._stored: dict[tuple[str, int], Record] = {}  # last stored record of each partition, not committed yet
        self._committed_at = time.monotonic()
        self._tasks_paused = False

    async def run(self, *, draining: Callable[[], bool], ended: Callable[[], bool]) -> None:
        """Join, and pass records on until `ended`; while `draining`, only commands and answers.

        Raises BusUnavailable (make a new inbox) or FatalError. Leaves the group in any case.
        """
        try:
            await self._consumer.start()
            while not ended():
                self._press(draining())
                records = await self._consumer.poll(timeout_s=self._poll_s)
                if records:
                    crash_point("inbox.polled")
                    await self._store(list(records), ended)
                await self._commit(at_once=not records)
            await self._commit(at_once=True)
        finally:
            await self._consumer.stop()

    def _press(self, draining: bool) -> None:
        wanted = self._pressure.update() or draining
        if wanted == self._tasks_paused:
            return
        self._tasks_paused = wanted
        change = self._consumer.pause if wanted else self._consumer.resume
        change([topics.TASKS.name])
        self._metrics.topic_paused.set(wanted)
        log.info("intake.paused" if wanted else "intake.resumed", waiting=self._pressure.waiting, draining=draining)

    async def _store(self, records: list[Record], ended: Callable[[], bool]) -> None:
        """Make `records` durable, however long the journal is away."""
        tries = 0
        while True:
            try:
                await self._accept(records)
                break
            except TransientError as exc:
                tries += 1
                self._metrics.journal_errors.labels("accept").inc()
                log.warning("intake.stalled", tries=tries, records=len(records), error_type=type(exc).__name__)
                if ended():
                    raise
                self._consumer.pause(TOPICS)
                records += await self._consumer.poll(timeout_s=0.0)
                await self._clock.sleep(backoff_s(tries, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S))
        crash_point("inbox.accepted")
        if tries:
            self._consumer.resume(TOPICS)
            self._tasks_paused = False
        for record in records:
            self._stored[record.topic, record.partition] = record

    async def _accept(self, records: Sequence[Record]) -> None:
        started = time.perf_counter()
        intakes = [await self._understand(record) for record in records]
        outcomes = await self._journal.accept(intakes)
        conflicts = [
            await self._refuse(record, _CONFLICT)
            for record, outcome in zip(records, outcomes, strict=True)
            if outcome is Acceptance.CONFLICT
        ]
        if conflicts:
            await self._journal.accept(conflicts)
        self._count(records, intakes, outcomes, time.perf_counter() - started)

    def _count(
        self,
        records: Sequence[Record],
        intakes: Sequence[Intake],
        outcomes: Sequence[Acceptance],
        duration_s: float,
    ) -> None:
        for topic, number in Counter(record.topic for record in records).items():
            self._metrics.records_consumed.labels(topic).inc(number)
        totals = Counter((_KINDS[type(i)], o) for i, o in zip(intakes, outcomes, strict=True))
        for (kind, outcome), number in totals.items():
            self._metrics.accepted.labels(kind, outcome.value).inc(number)
        self._pressure.waiting += totals["task", Acceptance.ACCEPTED]
        log.info(
            "batch.accepted",
            records=len(records),
            tasks=totals["task", Acceptance.ACCEPTED],
            duplicates=sum(number for (_, outcome), number in totals.items() if outcome is Acceptance.DUPLICATE),
            conflicts=totals["task", Acceptance.CONFLICT],
            dead_letters=totals["dead_letter", Acceptance.ACCEPTED],
            duration_s=round(duration_s, 4),
        )

    async def _understand(self, record: Record) -> Intake:
        """What a record asks for, or its dead letter."""
        place = f"{record.topic}/{record.partition}/{record.offset}"
        try:
            message = decode(record.topic, record.headers, record.key, record.value, place=place)
        except ContractError as error:
            return await self._refuse(record, error)
        payload = message.payload
        if isinstance(payload, TaskRequested):
            return self._task(record, message, payload)
        if isinstance(payload, ContextAnswer):
            return NewAnswer(payload.query_id, message.data)
        return _command(message)

    def _task(self, record: Record, message: Message, payload: TaskRequested) -> NewTask:
        envelope = message.envelope
        source, key = envelope.idempotency
        identity = task_id(source, key)
        return NewTask(
            task_id=identity,
            source=source,
            idempotency_key=key,
            payload_digest=_digest(message),
            kind=payload.kind.value,
            ordering_key=payload.service or (record.key or b"").decode() or identity,
            request=message.data,
            attributes=self._attributes(message, identity),
            origin=origin_of(record),
            priority=payload.priority,
            run_after_s=payload.run_after_s,
            expires_at=envelope.expirytime,
            attempt_deadline_s=payload.attempt_deadline_s,
            total_deadline_s=payload.total_deadline_s,
        )

    def _attributes(self, message: Message, identity: str) -> dict[str, str]:
        """The envelope's, continued by our span where the trace is recorded."""
        found = attributes(message.envelope)
        if self._is_untraced:
            return found  # a span that nobody records still costs as much as a decode
        span = self._tracer.start_span(
            f"process {topics.TASKS.name}", kind=SpanKind.CONSUMER, links=_links(found),
        )  # fmt: skip
        if span.is_recording():
            span.set_attributes(
                {
                    "messaging.system": "kafka",
                    "messaging.operation.name": "process",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": topics.TASKS.name,
                    "messaging.message.id": message.envelope.id,
                    "backwright.task_id": identity,
                }
            )
            # The sender's trace goes on in our events; where it sent none, ours begins here.
            if remote(found) is None:
                found |= carrier(span)
        span.end()
        return found

    async def _refuse(self, record: Record, error: ContractError) -> NewDeadLetter:
        identity = letter_id(record.topic, record.topic_id, record.partition, record.offset, error.code)
        text = f"{error.message}{f' at {error.pointer}' if error.pointer else ''}. {error.remedy}".strip()
        reason = ErrorReport(kind="permanent", code=error.code, message=text)
        event = await letter(identity, origin_of(record), reason, self._artifacts, now=self._clock.now())
        self._metrics.dead_lettered.labels(error.code).inc()
        return NewDeadLetter(identity, origin_of(record), event, error.code)

    async def _commit(self, *, at_once: bool) -> None:
        """Now and then: each commit is a round trip, and what is read again is known by then."""
        if not self._stored or not (at_once or time.monotonic() - self._committed_at > COMMIT_EVERY_S):
            return
        await self._consumer.commit(list(self._stored.values()))
        self._stored.clear()
        self._committed_at = time.monotonic()
        crash_point("inbox.committed")


_CONFLICT = ContractError(
    "idempotency.conflict",
    "this idempotency key was used for another request",
    remedy="Use a new id (or idempotency key) for a new request; repeat a request byte for byte.",
)


def _links(found: dict[str, str]) -> Any:
    return links(found) if "traceparent" in found else None


def _digest(message: Message) -> str:
    # The bytes as sent, not a re-encoding: a sender that repeats a request repeats its bytes.
    digest = hashlib.sha256(message.data)
    if message.envelope.dataref is not None:
        digest.update(b"\0" + message.envelope.dataref.encode())
    return digest.hexdigest()


def _command(message: Message) -> NewCommand:
    data = message.payload.model_dump(mode="json", exclude_none=True)
    about = str(data.get("dead_letter_id") or data.get("task_id"))
    return NewCommand(message.envelope.id, message.message_type.name, about, data, message.envelope.source)
