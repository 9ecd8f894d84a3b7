"""From the journal to Kafka: events in order per task, each one only after the former of its task is acknowledged.

Rules for editors:
1. A row is marked after its acknowledgement, never before; a crash between the two repeats it with the same id.
2. A task's rows leave in their order: a run for one partition together, what goes elsewhere after its acknowledgement.
   Rows of different tasks leave together, in rounds.
3. A row that can never be published is parked and replaced: it must not hold up its task's later events.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from agent.bus.port import Outgoing, Producer, RecordTooLarge
from agent.clock import Clock
from agent.errors import BusUnavailable, JournalUnavailable
from agent.journal.port import Event, Journal, OutboxRow
from agent.journal.rows import dump
from agent.runtime.bell import Bell
from agent.runtime.crashpoints import crash_point
from agent.runtime.verdict import backoff_s
from agent.telemetry.metrics import Metrics
from contracts.codec import encode, sequence_text, with_sequence
from contracts.envelope import BY_WIRE_TYPE, Envelope, MessageType

log = structlog.get_logger()

BATCH = 500
IDLE_S = 1.0
RETRY_BASE_S, RETRY_CAP_S = 0.2, 5.0
_BY_NAME: Mapping[str, MessageType] = {row.name: row for row in BY_WIRE_TYPE.values()}
# What a status keeps when the whole is too large for the broker.
_ESSENTIAL = (
    "agent", "status", "phase", "completed", "pending", "task_id", "service", "attempt", "state", "error", "budget", "message",
    "dead_letter_id", "reason", "code_version", "dead_lettered_at", "query_id", "requesting_agent", "request_type", "payload",
)  # fmt: skip


class Outbox:
    """The relay of this process."""

    def __init__(
        self, producer: Producer, journal: Journal, source: str, clock: Clock, metrics: Metrics, *, idle_s: float = IDLE_S
    ) -> None:  # fmt: skip
        self._producer = producer
        self._journal = journal
        self._source = source
        self._clock = clock
        self._metrics = metrics
        self._bell = Bell(journal, clock, idle_s)
        self._unmarked: set[int] = set()  # positions that the broker has acknowledged
        self._marking: asyncio.Task[None] | None = None

    async def run(self, *, closing: asyncio.Event) -> None:
        """Publish until `closing` and nothing is left. Outages of the bus and of the journal are waited out here."""
        tries = 0
        self._bell.start(closing)
        try:
            while True:
                self._bell.silence()
                try:
                    sent = await self.relay()
                    tries = 0
                except (BusUnavailable, JournalUnavailable) as exc:
                    tries += 1
                    await self._stall(exc, tries)
                    continue
                if closing.is_set():
                    if not sent:
                        break
                elif sent < BATCH:  # all there was
                    await self._bell.sleep()
            await self._marked()
        finally:
            await self._bell.stop()
            if self._marking is not None:
                self._marking.cancel()
            await self._producer.stop()

    async def relay(self) -> int:
        """Publish what is unsent now, in rounds; returns how many. Raises BusUnavailable, JournalUnavailable.

        What is acknowledged is marked beside it: the next event need not wait for that commit, and it may share one.
        """
        if len(self._unmarked) > BATCH:  # a crash repeats it
            await self._marked()
        # As it is now: a mark may be stored while we look, too late for the look.
        rows = await self._journal.unsent(limit=BATCH, besides=frozenset(self._unmarked))
        if not rows:
            return 0
        crash_point("outbox.taken")
        try:
            for round_ in rounds(rows):
                await self._publish(round_)
        finally:
            if self._unmarked and (self._marking is None or self._marking.done()):
                await self._marked()  # it has ended: raises what ended it
                self._marking = asyncio.create_task(self._mark())
        return len(rows)

    async def _marked(self) -> None:
        """Until all that is acknowledged is marked."""
        if self._marking is not None:
            await self._marking

    async def _mark(self) -> None:
        tries = 0
        while marked := frozenset(self._unmarked):
            crash_point("outbox.published")
            try:
                await self._journal.sent(sorted(marked))
            except JournalUnavailable as exc:
                tries += 1
                await self._stall(exc, tries)
                continue
            self._unmarked -= marked
            crash_point("outbox.marked")

    async def _stall(self, error: Exception, tries: int) -> None:
        log.warning("outbox.stalled", tries=tries, error_type=type(error).__name__, error=str(error)[:300])
        await self._clock.sleep(backoff_s(tries, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S))

    async def _publish(self, rows: Sequence[OutboxRow]) -> None:
        """A round; if one of its rows can never be taken, one by one, to learn which."""
        try:
            await self._producer.send([self._outgoing(row) for row in rows])
        except (RecordTooLarge, TypeError, ValueError):  # the last two: it has no JSON form
            if len(rows) == 1:
                await self._park(rows[0])
            else:
                for row in rows:
                    await self._publish([row])
            return
        self._unmarked.update(row.position for row in rows)
        for kind, number in Counter(row.type for row in rows).items():
            self._metrics.published.labels(kind).inc(number)

    async def _park(self, row: OutboxRow) -> None:
        small = replacement(row)
        log.error("event.parked", task_id=row.task_id, type=row.type, sequence=row.sequence, position=row.position)
        self._metrics.parked.inc()
        await self._journal.park(row.position, small, reason="larger than the broker takes")
        await self._producer.send([self._outgoing(_replaced(row, small))])
        self._unmarked.add(row.position)

    def _outgoing(self, row: OutboxRow) -> Outgoing:
        message_type = _BY_NAME[row.type]
        body = row.body.encode()
        if row.sequence is not None and row.type == "task.status":
            body = with_sequence(body, row.sequence)
        encoded = encode(message_type, self._envelope(row, message_type), body, key=row.key)
        return Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers)

    def _envelope(self, row: OutboxRow, message_type: MessageType) -> Envelope:
        request = row.attributes
        return Envelope(
            id=row.event_id,
            source=self._source,
            type=message_type.wire,
            subject=row.task_id,
            time=row.created_at,
            correlationid=request.get("correlationid") or request.get("id"),
            causationid=request.get("id"),
            traceparent=request.get("traceparent"),
            tracestate=request.get("tracestate"),
            sequence=sequence_text(row.sequence) if row.sequence is not None else None,
        )


def rounds(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
    """Rows in the order given, so that of each task a round holds a run for one partition, which keeps its order."""
    found: list[list[OutboxRow]] = []
    latest: dict[object, tuple[int, object]] = {}  # round and place of a task's last row
    for row in rows:
        about = row.task_id or row.position  # what belongs to no task depends on nothing
        place = (_BY_NAME[row.type].topic, row.key)
        number, before = latest.get(about, (0, place))
        if place != before:
            number += 1
        latest[about] = number, place
        if number == len(found):
            found.append([])
        found[number].append(row)
    return found


def replacement(row: OutboxRow) -> Event:
    """A small event in place of one that no broker takes: the essential fields, and where the rest is."""
    whole = row.data
    data = {name: whole[name] for name in _ESSENTIAL if name in whole}
    note = f"shortened: the whole event is larger than the broker takes; it is parked in the journal at {row.position}"
    if row.type == "task.status":
        data["message"] = note
    elif row.type == "task.dead_lettered":
        data["original"] = {**whole["original"], "value": None, "headers": []}
    elif row.type == "task.delivered":
        data = {**whole, "operations": [], "evidence": [_short(item) for item in whole.get("evidence", ())]}
        data["assumptions"] = [note]
    return Event(row.type, row.key, _cut(data))


def _short(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in evidence.items() if name not in ("details", "command")}


def _cut(data: Mapping[str, Any]) -> dict[str, Any]:
    """Long lists and texts made short, so that the replacement surely fits."""
    short: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, str) and len(value) > 4000:
            short[name] = value[:4000]
        elif isinstance(value, list | tuple) and len(value) > 200:
            short[name] = list(value[:200])
        else:
            short[name] = value
    return short


def _replaced(row: OutboxRow, event: Event) -> OutboxRow:
    return row._replace(type=event.type, key=event.key, body=dump(event.data))
