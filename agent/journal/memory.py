"""The journal in memory: the twin that tests and the model check compare the durable ones with. Nothing survives."""

import heapq
import itertools
import re
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Any, TypeVar

from agent.clock import Clock
from agent.errors import Fenced
from agent.journal import lifecycle
from agent.journal.lifecycle import Decision, TaskRow
from agent.journal.port import (
    ALL_LETTERS,
    TERMINAL,
    Acceptance,
    Checkpoint,
    Claim,
    DeadLetter,
    Depths,
    Event,
    Finish,
    Intake,
    LetterFilter,
    NewAnswer,
    NewCommand,
    NewDeadLetter,
    NewTask,
    OutboxRow,
    Renewal,
    State,
    TaskView,
    Tidied,
)
from agent.journal.rows import dump, service_by_key
from agent.journal.wakeups import Wakeups

K = TypeVar("K")
ARTIFACT_NAME = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(slots=True)
class _Letter:
    data: Mapping[str, Any]
    task_id: str | None
    stored_at: datetime
    is_closed: bool = False


@dataclass(slots=True)
class _Tables:
    """All that a journal knows. Rows are replaced, never changed, so that what was handed out stays what it was."""

    requests: dict[str, tuple[NewTask, datetime]] = field(default_factory=dict)
    rows: dict[str, TaskRow] = field(default_factory=dict)
    archive: dict[str, TaskRow] = field(default_factory=dict)
    live_by_key: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    by_state: dict[State, set[str]] = field(default_factory=lambda: {state: set() for state in State})
    expiring: set[str] = field(default_factory=set)  # available, and not for ever
    ready: list[tuple[float, int, str]] = field(default_factory=list)  # heap of what is, or was, available
    checkpoints: dict[tuple[str, int], dict[str, Checkpoint]] = field(default_factory=lambda: defaultdict(dict))
    outbox: dict[int, OutboxRow] = field(default_factory=dict)
    parked: list[tuple[OutboxRow, str]] = field(default_factory=list)
    commands: dict[tuple[str, str], tuple[NewCommand, datetime]] = field(default_factory=dict)  # by source and id
    waiting_commands: dict[str, list[NewCommand]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    letters: dict[str, _Letter] = field(default_factory=dict)
    letter_places: set[tuple[str, str, int, int]] = field(default_factory=set)


class MemoryJournal:
    """Implements agent.journal.port.Journal. Lease time is the clock's monotonic time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tables = _Tables()
        self._ids = itertools.count(1)
        self._positions = itertools.count(1)
        self._wakeups = Wakeups()
        self._lock = threading.RLock()  # the lease's renewal may come from a thread of its own

    async def open(self) -> None:
        """Opened again, it is the twin of a file that a new process opens: all leases are released."""
        with self._lock:
            for row in self._in(State.RUNNING):
                self._store(row, lifecycle.crash(row, self._clock.now()))

    async def close(self) -> None:
        return None

    # --- intake ---------------------------------------------------------------------------------------------------

    async def accept(self, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        with self._lock:
            outcomes = [self._accept(item) for item in batch]
        if Acceptance.ACCEPTED in outcomes:
            self._wakeups.bump()
        return outcomes

    def _accept(self, item: Intake) -> Acceptance:
        if isinstance(item, NewTask):
            return self._accept_task(item)
        if isinstance(item, NewCommand):
            return self._accept_command(item)
        if isinstance(item, NewAnswer):
            if item.query_id in self._tables.answers:
                return Acceptance.DUPLICATE
            self._tables.answers[item.query_id] = (item.data, self._clock.now())
            return Acceptance.ACCEPTED
        return self._accept_letter(item)

    def _accept_task(self, task: NewTask) -> Acceptance:
        known = self._tables.requests.get(task.task_id)
        if known is not None:
            same = known[0].payload_digest == task.payload_digest
            return Acceptance.DUPLICATE if same else Acceptance.CONFLICT
        now = self._clock.now()
        self._tables.requests[task.task_id] = (task, now)
        early = self._tables.waiting_commands.pop(task.task_id, [])
        self._store(None, lifecycle.accept(next(self._ids), task, early, now))
        return Acceptance.ACCEPTED

    def _accept_command(self, given: NewCommand) -> Acceptance:
        event = (given.source, given.command_id)
        if event in self._tables.commands:
            return Acceptance.DUPLICATE
        now = self._clock.now()
        self._tables.commands[event] = (given, now)
        if given.command.startswith("dead_letter."):
            self._command_letter(given, now)
            return Acceptance.ACCEPTED
        row = self._known(given.task_id)
        if row is None:
            self._tables.waiting_commands[given.task_id].append(given)
        else:
            self._store(row, lifecycle.command(row, given, now))
        return Acceptance.ACCEPTED

    def _accept_letter(self, letter: NewDeadLetter) -> Acceptance:
        origin = letter.origin
        place = (origin.topic, origin.topic_id, origin.partition, origin.offset)
        if place in self._tables.letter_places or letter.dead_letter_id in self._tables.letters:
            return Acceptance.DUPLICATE
        self._tables.letter_places.add(place)
        self._tables.letters[letter.dead_letter_id] = _Letter(letter.event.data, None, self._clock.now())
        self._publish(None, letter.event, None)
        return Acceptance.ACCEPTED

    def _command_letter(self, given: NewCommand, now: datetime) -> None:
        letter = self._tables.letters.get(given.task_id)
        refusal = lifecycle.letter_refusal(
            given,
            is_known=letter is not None,
            is_closed=letter is not None and letter.is_closed,
            has_task=letter is not None and letter.task_id is not None,
        )
        if refusal is not None or letter is None:
            if refusal is not None:
                self._publish(None, refusal, None)
            return
        if given.command == "dead_letter.discard":
            letter.is_closed = True
            self._publish(letter.task_id, lifecycle.discarded(given, letter.task_id, now), None)
            return
        assert letter.task_id is not None
        row = self._known(letter.task_id)
        assert row is not None
        after = lifecycle.replay(row, given, now)
        letter.is_closed = after.row.epoch != row.epoch
        self._store(row, after)

    # --- work -----------------------------------------------------------------------------------------------------

    async def claim(self, worker: str, *, limit: int, lease_s: float) -> Sequence[Claim]:
        self._wakeups.note()
        with self._lock:
            now = self._clock.now()
            ended = self._upkeep(now)
            claims = self._claim(worker, limit, self._clock.monotonic() + lease_s, now)
        if ended:
            self._wakeups.bump()
        return claims

    def _upkeep(self, now: datetime) -> bool:
        """Expired leases, delayed tasks that are due, tasks not started in time; whether events came of it."""
        before = len(self._tables.outbox)
        monotonic = self._clock.monotonic()
        for row in self._in(State.RUNNING):
            if row.lease_until is not None and row.lease_until <= monotonic:
                self._store(row, lifecycle.crash(row, now))
        for row in self._in(State.SCHEDULED):
            if lifecycle.is_overdue(row, now):
                self._store(row, lifecycle.overdue(row, now))
            elif row.run_at is not None and row.run_at <= now:
                self._store(row, lifecycle.due(row, now))
        for row in [self._tables.rows[task_id] for task_id in sorted(self._tables.expiring)]:
            if row.state is State.AVAILABLE and lifecycle.is_overdue(row, now):
                self._store(row, lifecycle.overdue(row, now))
        return len(self._tables.outbox) > before

    def _claim(self, worker: str, limit: int, lease_until: float, now: datetime) -> list[Claim]:
        claims: list[Claim] = []
        blocked: list[tuple[float, int, str]] = []
        while self._tables.ready and len(claims) < limit:
            entry = heapq.heappop(self._tables.ready)
            row = self._tables.rows.get(entry[2])
            if row is None or row.state is not State.AVAILABLE or row.rank != entry[0]:
                continue  # it has moved on since it was pushed
            if lifecycle.may_start(row, self._same_key(row)):
                decision = lifecycle.claim(row, worker, lease_until, now)
                self._store(row, decision)
                claims.append(self._as_claim(decision.row))
            else:
                blocked.append(entry)
        for entry in blocked:
            heapq.heappush(self._tables.ready, entry)
        return claims

    async def renew(self, claims: Sequence[Claim], *, lease_s: float) -> Mapping[str, Renewal]:
        with self._lock:
            return {claim.task_id: self._renew(claim, self._clock.monotonic() + lease_s) for claim in claims}

    def _renew(self, claim: Claim, lease_until: float) -> Renewal:
        row = self._tables.rows.get(claim.task_id)
        if row is None or not lifecycle.owns(row, claim.fence):
            return Renewal(held=False)
        self._tables.rows[claim.task_id] = row._replace(lease_until=lease_until)
        return Renewal(held=True, cancel_requested=row.cancel_id is not None)

    async def checkpoints(self, task_id: str) -> Mapping[str, Checkpoint]:
        with self._lock:
            row = self._tables.rows.get(task_id)
            return dict(self._tables.checkpoints[task_id, row.epoch]) if row else {}

    async def record(
        self, claim: Claim, checkpoint: Checkpoint | None, events: Sequence[Event], *, final: bool = False
    ) -> None:
        with self._lock:
            row = self._owned(claim)
            decision = lifecycle.record(row, events, final=final, now=self._clock.now())
            if checkpoint is not None:
                self._tables.checkpoints[claim.task_id, row.epoch][checkpoint.step] = checkpoint
            self._store(row, decision)
        if events:
            self._wakeups.bump()

    async def finish(self, claim: Claim, finish: Finish) -> None:
        with self._lock:
            row = self._owned(claim)
            self._store(row, lifecycle.finish(row, finish, self._clock.now()))
        self._wakeups.bump()

    async def answer(self, query_id: str) -> bytes | None:
        self._wakeups.note()
        with self._lock:
            found = self._tables.answers.get(query_id)
            return found[0] if found else None

    # --- outbox ---------------------------------------------------------------------------------------------------

    async def unsent(self, *, limit: int, besides: Collection[int] = ()) -> Sequence[OutboxRow]:
        self._wakeups.note()
        with self._lock:
            wanted = (row for row in self._tables.outbox.values() if row.position not in besides)
            return list(itertools.islice(wanted, limit))

    async def sent(self, positions: Collection[int]) -> None:
        with self._lock:
            for position in positions:
                self._tables.outbox.pop(position, None)

    async def park(self, position: int, replacement: Event, *, reason: str) -> None:
        with self._lock:
            row = self._tables.outbox.get(position)
            if row is None:
                return
            self._tables.parked.append((row, reason))
            self._tables.outbox[position] = row._replace(
                type=replacement.type, key=replacement.key, body=dump(replacement.data)
            )
        self._wakeups.bump()

    # --- views ----------------------------------------------------------------------------------------------------

    async def task(self, task_id: str) -> TaskView | None:
        with self._lock:
            row = self._known(task_id)
            return self._as_view(row) if row else None

    async def tasks(self, *, states: Sequence[State] = (), limit: int = 100) -> Sequence[TaskView]:
        with self._lock:
            rows = sorted((*self._tables.rows.values(), *self._tables.archive.values()), key=lambda row: -row.id)
            return [self._as_view(row) for row in rows if not states or row.state in states][:limit]

    async def dead_letters(self, wanted: LetterFilter = ALL_LETTERS, *, limit: int = 100) -> Sequence[DeadLetter]:
        with self._lock:
            opened = [letter for letter in reversed(self._tables.letters.values()) if not letter.is_closed]
            return [self._as_letter(letter) for letter in opened if self._lets_through(wanted, letter)][:limit]

    async def dead_letter(self, dead_letter_id: str) -> DeadLetter | None:
        with self._lock:
            letter = self._tables.letters.get(dead_letter_id)
            return self._as_letter(letter) if letter else None

    def _lets_through(self, wanted: LetterFilter, letter: _Letter) -> bool:
        data = letter.data
        return (
            (not wanted.ids or data["dead_letter_id"] in wanted.ids)
            and (not wanted.codes or data["reason"]["code"] in wanted.codes)
            and (not wanted.tasks or letter.task_id in wanted.tasks)
            and (not wanted.topics or data["original"]["topic"] in wanted.topics)
            and (not wanted.services or self._as_letter(letter).service in wanted.services)
            and (wanted.since is None or letter.stored_at >= wanted.since)
        )

    async def depths(self) -> Depths:
        with self._lock:
            now, tables = self._clock.now(), self._tables
            available = [row.rank + row.priority * lifecycle.AGEING_STEP_S for row in self._in(State.AVAILABLE)]
            running = [row.started_at.timestamp() for row in self._in(State.RUNNING) if row.started_at]
            unsent = [row.created_at.timestamp() for row in itertools.islice(tables.outbox.values(), 1)]
            return Depths(
                by_state={state: len(ids) for state, ids in tables.by_state.items() if ids},
                outbox=len(tables.outbox),
                dead_letters=sum(not letter.is_closed for letter in tables.letters.values()),
                oldest_available_s=_age(now, available),
                oldest_running_s=_age(now, running),
                oldest_outbox_s=_age(now, unsent),
            )

    async def referenced(self) -> frozenset[str]:
        with self._lock:
            outputs = [point.output for steps in self._tables.checkpoints.values() for point in steps.values()]
            letters = [letter.data for letter in self._tables.letters.values()]
            attributes = [self._tables.requests[task_id][0].attributes for task_id in self._tables.rows]
            return frozenset(ARTIFACT_NAME.findall(repr((outputs, letters, attributes))))

    async def tidy(self, *, older_than_s: float, limit: int = 1000) -> Tidied:
        with self._lock:
            tables, now = self._tables, self._clock.now()
            unsent = {row.task_id for row in tables.outbox.values()}
            old = [
                row
                for row in tables.rows.values()
                if row.state in TERMINAL
                and row.task_id not in unsent
                and (now - row.updated_at).total_seconds() >= older_than_s
            ][:limit]
            for row in old:
                self._archive(row)
            answers = _old(tables.answers, now, older_than_s)[:limit]
            for query_id in answers:
                del tables.answers[query_id]
            waiting = {
                (given.source, given.command_id) for early in tables.waiting_commands.values() for given in early
            }
            commands = [event for event in _old(tables.commands, now, older_than_s) if event not in waiting][:limit]
            for event in commands:
                del tables.commands[event]
            return Tidied(archived=len(old), answers=len(answers), commands=len(commands))

    async def changed(self, *, timeout_s: float) -> None:
        await self._wakeups.wait(timeout_s)

    # --- parts ----------------------------------------------------------------------------------------------------

    def _store(self, before: TaskRow | None, decision: Decision) -> None:
        """Replace the row, publish. A refused command changes nothing, and leaves an archived task where it is."""
        if decision.row != before:
            self._replace(before, decision.row)
        for numbered in decision.events:
            self._publish(decision.row.task_id, numbered.event, numbered.sequence)

    def _replace(self, before: TaskRow | None, row: TaskRow) -> None:
        """The row, and the indexes."""
        tables = self._tables
        key = tables.requests[row.task_id][0].ordering_key
        if before is not None:
            tables.by_state[before.state].discard(row.task_id)
        tables.archive.pop(row.task_id, None)
        tables.rows[row.task_id] = row
        tables.by_state[row.state].add(row.task_id)
        if row.state is State.AVAILABLE:
            heapq.heappush(tables.ready, (row.rank, row.id, row.task_id))
        if row.state is State.AVAILABLE and row.expires_at is not None:
            tables.expiring.add(row.task_id)
        else:
            tables.expiring.discard(row.task_id)
        if row.state in TERMINAL:
            tables.live_by_key[key].discard(row.task_id)
        else:
            tables.live_by_key[key].add(row.task_id)

    def _publish(self, task_id: str | None, event: Event, sequence: int | None) -> None:
        position = next(self._positions)
        self._tables.outbox[position] = OutboxRow(
            position=position,
            event_id=token_hex(16),
            task_id=task_id,
            type=event.type,
            key=event.key,
            body=dump(event.data),
            created_at=self._clock.now(),
            sequence=sequence,
            attributes=self._tables.requests[task_id][0].attributes if task_id else {},
        )
        if event.type == "task.dead_lettered" and task_id is not None:
            self._tables.letters[event.data["dead_letter_id"]] = _Letter(event.data, task_id, self._clock.now())

    def _archive(self, row: TaskRow) -> None:
        del self._tables.rows[row.task_id]
        self._tables.by_state[row.state].discard(row.task_id)
        self._tables.archive[row.task_id] = row
        for epoch in range(row.epoch + 1):
            self._tables.checkpoints.pop((row.task_id, epoch), None)

    def _known(self, task_id: str) -> TaskRow | None:
        return self._tables.rows.get(task_id) or self._tables.archive.get(task_id)

    def _owned(self, claim: Claim) -> TaskRow:
        row = self._tables.rows.get(claim.task_id)
        if row is None or not lifecycle.owns(row, claim.fence):
            raise Fenced(f"fence {claim.fence} of task {claim.task_id} is no longer in force")
        return row

    def _in(self, state: State) -> list[TaskRow]:
        return [self._tables.rows[task_id] for task_id in sorted(self._tables.by_state[state])]

    def _same_key(self, row: TaskRow) -> Iterable[TaskRow]:
        key = self._tables.requests[row.task_id][0].ordering_key
        return [self._tables.rows[task_id] for task_id in self._tables.live_by_key[key]]

    def _as_claim(self, row: TaskRow) -> Claim:
        task, accepted_at = self._tables.requests[row.task_id]
        assert row.started_at is not None
        assert row.first_started_at is not None
        return Claim(
            task_id=row.task_id,
            fence=row.fence,
            attempt=row.attempt,
            crashes=row.crashes,
            epoch=row.epoch,
            kind=task.kind,
            ordering_key=task.ordering_key,
            request=task.request,
            attributes=task.attributes,
            origin=task.origin,
            accepted_at=accepted_at,
            started_at=row.started_at,
            first_started_at=row.first_started_at,
            attempt_deadline_s=task.attempt_deadline_s,
            total_deadline_s=task.total_deadline_s,
            is_final=row.is_final,
            history=row.history,
        )

    def _as_letter(self, letter: _Letter) -> DeadLetter:
        task = self._tables.requests[letter.task_id][0] if letter.task_id else None
        return DeadLetter(letter.data, task.ordering_key if task else service_by_key(letter.data), letter.is_closed)

    def _as_view(self, row: TaskRow) -> TaskView:
        task, accepted_at = self._tables.requests[row.task_id]
        return TaskView(
            task_id=row.task_id,
            state=row.state,
            kind=task.kind,
            ordering_key=task.ordering_key,
            attempt=row.attempt,
            crashes=row.crashes,
            fence=row.fence,
            sequence=row.sequence,
            priority=row.priority,
            accepted_at=accepted_at,
            updated_at=row.updated_at,
            run_at=row.run_at,
            progress=row.progress,
        )


def _age(now: datetime, since: Iterable[float]) -> float:
    return max(0.0, now.timestamp() - min(since, default=now.timestamp()))


def _old(table: Mapping[K, tuple[Any, datetime]], now: datetime, older_than_s: float) -> list[K]:
    return [key for key, (_, at) in table.items() if (now - at).total_seconds() >= older_than_s]
