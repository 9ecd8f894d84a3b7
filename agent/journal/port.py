"""The journal: durable memory of tasks, the only place where inbox, worker and outbox meet.

Every adapter passes tests/conformance/test_journal.py. What may follow on what is decided in lifecycle.py (pure);
adapters load a row under its lock, ask lifecycle, and store the answer together with the events that it causes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import orjson


class State(StrEnum):
    """States of a task."""

    AVAILABLE = "available"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.REJECTED, State.EXPIRED})


class Event(NamedTuple):
    """An event to publish. The journal fixes its id and, on the status topic, takes the task's next sequence.

    `data` is the JSON value without `sequence` (the outbox writes it in, from the row).
    """

    type: str  # name in contracts.envelope, for example "task.status"
    key: str
    data: Mapping[str, Any]


class Origin(NamedTuple):
    """Where a record came from, complete enough to dead-letter and replay it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None
    topic_id: str = ""


class NewTask(NamedTuple):
    """A request to store. `request` is the JSON value; `attributes` are the envelope's, for causation and tracing.

    `task_id` is `contracts.codec.task_id(source, idempotency_key)`: it *is* the idempotency key.
    """

    task_id: str
    source: str
    idempotency_key: str
    payload_digest: str
    kind: str
    ordering_key: str
    request: bytes
    attributes: Mapping[str, str]
    origin: Origin
    priority: int = 5
    run_after_s: float = 0.0
    expires_at: datetime | None = None
    attempt_deadline_s: float | None = None
    total_deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class NewCommand:
    """A command about a task, kept until its task is known. Deduplicated by source and id of its event."""

    command_id: str
    command: str  # task.cancel | task.reprioritise | dead_letter.replay | dead_letter.discard
    task_id: str  # for the last two: the dead letter's id
    data: Mapping[str, Any]
    source: str = ""  # who sent it: `source` of its event


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """A context answer; the first one for a query counts."""

    query_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """A record that makes no task. Deduplicated by (topic, topic id, partition, offset)."""

    dead_letter_id: str
    origin: Origin
    event: Event
    code: str


Intake = NewTask | NewCommand | NewAnswer | NewDeadLetter


class Acceptance(StrEnum):
    """What became of one intake. CONFLICT: the idempotency key is known with another payload; nothing was stored."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Claim(NamedTuple):
    """One attempt's right to write. Every write of it carries `fence`."""

    task_id: str
    fence: int
    attempt: int  # from 1 in each epoch; interrupted attempts are not counted
    crashes: int  # how many of the earlier attempts lost their worker; attempt - 1 - crashes of them failed
    epoch: int
    kind: str
    ordering_key: str
    request: bytes
    attributes: Mapping[str, str]
    origin: Origin
    accepted_at: datetime
    started_at: datetime  # of this attempt
    first_started_at: datetime
    attempt_deadline_s: float | None
    total_deadline_s: float | None
    is_final: bool = False  # the point of no return lies behind: only the end is missing
    history: Sequence[Mapping[str, Any]] = ()  # contracts.failures.FailedAttempt as JSON


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The durable result of a step. `output` is JSON; files are named in it by their artefact digests."""

    step: str
    input_hash: str
    output: Mapping[str, Any]
    code_version: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """Answer to a renewal: `held` is False when the fence is no longer ours (stop at once, write nothing)."""

    held: bool
    cancel_requested: bool = False


class Ending(StrEnum):
    """How an attempt ends."""

    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    RETRY = "retry"  # scheduled again after `delay_s`
    INTERRUPTED = "interrupted"  # drain: available at once, the attempt is not counted


class Finish(NamedTuple):
    """The end of an attempt, with the events that it causes and, if it failed, its line in the history."""

    ending: Ending
    events: Sequence[Event] = ()
    delay_s: float = 0.0
    failure: Mapping[str, Any] | None = None


class OutboxRow(NamedTuple):
    """An event on its way out. `sequence` is set on the status topic only."""

    position: int
    event_id: str
    task_id: str | None
    type: str
    key: str
    body: str  # the event's data as JSON: it goes out as it was stored
    created_at: datetime
    sequence: int | None
    attributes: Mapping[str, str]  # of the request: correlationid, id (→ causationid), traceparent, …

    @property
    def data(self) -> Mapping[str, Any]:
        """The event's data, read anew each time."""
        found: Mapping[str, Any] = orjson.loads(self.body)
        return found


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as people see it (`backwright tasks`)."""

    task_id: str
    state: State
    kind: str
    ordering_key: str
    attempt: int
    crashes: int
    fence: int
    sequence: int
    priority: int
    accepted_at: datetime
    updated_at: datetime
    run_at: datetime | None
    progress: Mapping[str, Any] = field(default_factory=dict)  # phase, completed, pending of the last status


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as people see it (`backwright dead-letters`)."""

    data: Mapping[str, Any]  # contracts.failures.TaskDeadLettered as JSON, as published
    service: str  # the ordering key of its task; without a task, the key of its record; empty where there is none
    is_closed: bool  # replayed or discarded


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which open dead letters are meant: each part that is given must hold; an empty one lets everything through."""

    ids: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    since: datetime | None = None  # stored then or later


ALL_LETTERS = LetterFilter()


@dataclass(frozen=True, slots=True)
class Tidied:
    """What a round of `tidy` moved or removed; all zero: nothing is left to do."""

    archived: int = 0
    answers: int = 0
    commands: int = 0


@dataclass(frozen=True, slots=True)
class Depths:
    """Figures for metrics and back-pressure."""

    by_state: Mapping[State, int]  # ended tasks: those that are not archived yet
    outbox: int
    dead_letters: int  # neither replayed nor discarded
    oldest_available_s: float
    oldest_running_s: float
    oldest_outbox_s: float


class Journal(Protocol):
    """Durable memory of tasks. Every method raises JournalUnavailable (safe to retry) when the store does not answer."""

    async def open(self) -> None:
        """Connect and bring the schema up to date. SQLite: take the file lock and release all leases."""

    async def close(self) -> None:
        """Finish what is in flight and disconnect."""

    async def accept(self, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        """Store a batch in one transaction, durably, in order; one outcome per item.

        A task is stored with its first status (`queued`), and commands that came before it are applied. A command for
        a known task is applied at once: cancels what waits, flags what runs, or causes `command.refused`. A replay, a
        discard or a change of priority that takes effect causes one `operator.acted`, in the same transaction.
        """

    async def claim(self, worker: str, *, limit: int, lease_s: float) -> Sequence[Claim]:
        """Lease up to `limit` runnable tasks: highest aged priority first, then oldest; fence + 1 each.

        A task has at most one live lease; an ordering key has at most one task that is running, or started and
        waiting or to be retried, in order of acceptance. An expired lease is reclaimed and counts as a crash.
        Tasks past `expires_at` end as EXPIRED here. Returns at once; fewer than `limit` when there were no more.
        """

    async def renew(self, claims: Sequence[Claim], *, lease_s: float) -> Mapping[str, Renewal]:
        """Prolong leases; answer per task id."""

    async def checkpoints(self, task_id: str) -> Mapping[str, Checkpoint]:
        """What the task has behind it, by step name, for its present epoch."""

    async def record(
        self, claim: Claim, checkpoint: Checkpoint | None, events: Sequence[Event], *, final: bool = False
    ) -> None:
        """Store a checkpoint (replacing one of the same step) and events in one transaction. Raises Fenced.

        `final` marks the point of no return: with a cancellation already stored it raises CancelRequested instead,
        and a later one is refused.
        """

    async def finish(self, claim: Claim, finish: Finish) -> None:
        """End the attempt. Raises Fenced."""

    async def answer(self, query_id: str) -> bytes | None:
        """The stored context answer, if it has come."""

    async def unsent(self, *, limit: int, besides: Collection[int] = ()) -> Sequence[OutboxRow]:
        """Oldest unsent events, found by *unsent*, besides those that the relay knows to be acknowledged. The relay that
        asks holds them until `sent`, its lease or its end: no second relay is given rows of the same task meanwhile."""

    async def sent(self, positions: Collection[int]) -> None:
        """The broker acknowledged them: they are never given out again."""

    async def park(self, position: int, replacement: Event, *, reason: str) -> None:
        """Set a row aside that can never be published; `replacement` takes over its position, event id and sequence."""

    async def task(self, task_id: str) -> TaskView | None:
        """One task."""

    async def tasks(self, *, states: Sequence[State] = (), limit: int = 100) -> Sequence[TaskView]:
        """Newest first."""

    async def dead_letters(self, wanted: LetterFilter = ALL_LETTERS, *, limit: int = 100) -> Sequence[DeadLetter]:
        """The open dead letters that `wanted` lets through, newest first.

        An event of type `task.dead_lettered` in a `finish` is stored here as well. Commands close a dead letter:
        `dead_letter.replay` (the task starts a new epoch) and `dead_letter.discard`.
        """

    async def dead_letter(self, dead_letter_id: str) -> DeadLetter | None:
        """One dead letter, closed or not."""

    async def depths(self) -> Depths:
        """Counts and ages."""

    async def referenced(self) -> frozenset[str]:
        """Names of artefacts (`sha256:…`) that the outputs of kept checkpoints, requests and dead letters mention."""

    async def tidy(self, *, older_than_s: float, limit: int = 1000) -> Tidied:
        """One short round of housekeeping; call again until it is empty.

        Archives ended tasks whose events are all sent (their checkpoints go, their idempotency key stays), removes
        answers and applied commands, all of that age.
        """

    async def changed(self, *, timeout_s: float) -> None:
        """Return when something may have changed (a new task, event, command) or after `timeout_s`.

        A change since the caller's last look (`claim`, `unsent`, `answer`) returns at once, so that none is slept
        through. Spurious wake-ups are allowed. Time that passes (a `run_at`, a lost lease) is no change.
        """


class CancelRequested(Exception):
    """The point of no return was not reached: a cancellation is stored."""
