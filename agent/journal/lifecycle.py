"""What may happen to a task: the table of transitions, and one pure function per cause that follows it.

Rules for editors:
1. Everything that changes a task's state is decided here; adapters load a row under its lock, ask, and store the answer
   (row and events) in the same transaction. They never look at `state` to decide something themselves.
2. Nothing here reads a clock, draws a random number or touches a store: time comes in as an argument.
3. A sequence is taken from the row, never from a counter of the store; `_numbered` is the only place that takes one.
4. SQL that selects rows repeats three rules of this file, because it must be indexable: `rank`, `is_overdue` and the
   ordering key's `may_start`. tests/conformance/test_journal.py holds both sides to the same answers.

The diagram in README.md is drawn from TRANSITIONS by `diagram()`, so that it cannot drift.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from agent.journal.port import TERMINAL, CancelRequested, Ending, Event, Finish, NewCommand, NewTask, State
from contracts.control import CommandRefused, OperatorActed, Outcome
from contracts.failures import FailedAttempt
from contracts.status import A2A_STATE, AGENT, ErrorReport, Phase, Status, TaskStatus
from contracts.status import TERMINAL as TERMINAL_STATUSES

# One step of priority is worth ten minutes of waiting: a task of priority 0 is served before a fresh one of priority 9
# after an hour and a half. Ageing is linear in time, so the order of two tasks never depends on when one looks: it can
# be stored as `rank` and indexed.
AGEING_STEP_S = 600.0

SEQUENCED = frozenset({"task.status", "approval.required"})  # what `sequence` counts


class Cause(StrEnum):
    """What can happen to a task."""

    CLAIMED = "claimed"
    CRASHED = "crashed"  # the lease ran out, or the journal of a single agent was opened again
    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"
    STOPPED = "stopped"  # the attempt saw the cancellation
    OUT_OF_TIME = "out of time"  # a deadline of the attempt or of the task
    RETRIED = "retried"
    INTERRUPTED = "interrupted"
    DUE = "due"
    OVERDUE = "overdue"  # not started before `expires_at`
    CANCELLED = "cancelled"  # the command
    REPLAYED = "replayed"


TRANSITIONS: Mapping[tuple[State, Cause], State] = {
    (State.AVAILABLE, Cause.CLAIMED): State.RUNNING,
    (State.AVAILABLE, Cause.OVERDUE): State.EXPIRED,
    (State.AVAILABLE, Cause.CANCELLED): State.CANCELLED,
    (State.SCHEDULED, Cause.DUE): State.AVAILABLE,
    (State.SCHEDULED, Cause.OVERDUE): State.EXPIRED,
    (State.SCHEDULED, Cause.CANCELLED): State.CANCELLED,
    (State.RUNNING, Cause.CANCELLED): State.RUNNING,  # a flag that the attempt, or its end, observes
    (State.RUNNING, Cause.CRASHED): State.AVAILABLE,
    (State.RUNNING, Cause.INTERRUPTED): State.AVAILABLE,
    (State.RUNNING, Cause.RETRIED): State.SCHEDULED,
    (State.RUNNING, Cause.COMPLETED): State.COMPLETED,
    (State.RUNNING, Cause.FAILED): State.FAILED,
    (State.RUNNING, Cause.REJECTED): State.REJECTED,
    (State.RUNNING, Cause.STOPPED): State.CANCELLED,
    (State.RUNNING, Cause.OUT_OF_TIME): State.EXPIRED,
    (State.WAITING, Cause.CANCELLED): State.CANCELLED,
    (State.FAILED, Cause.REPLAYED): State.AVAILABLE,
}

_CAUSE_OF_ENDING: Mapping[Ending, Cause] = {
    Ending.COMPLETED: Cause.COMPLETED,
    Ending.FAILED: Cause.FAILED,
    Ending.REJECTED: Cause.REJECTED,
    Ending.CANCELLED: Cause.STOPPED,
    Ending.EXPIRED: Cause.OUT_OF_TIME,
    Ending.RETRY: Cause.RETRIED,
    Ending.INTERRUPTED: Cause.INTERRUPTED,
}

_STATUS_OF_STATE: Mapping[State, Status] = {
    State.COMPLETED: Status.COMPLETED,
    State.FAILED: Status.FAILED,
    State.REJECTED: Status.REJECTED,
    State.CANCELLED: Status.CANCELLED,
    State.EXPIRED: Status.EXPIRED,
}


class TaskRow(NamedTuple):
    """The changing part of a task, as loaded under its lock. What never changes (request, origin) lies elsewhere.

    `lease_until` is in the store's own lease time: monotonic seconds (memory, SQLite) or the epoch seconds of the
    database's clock (PostgreSQL). `rank` orders what is available: smaller is sooner. A named tuple, because each step of
    a task makes several of it: `_replace` costs a fraction of what `dataclasses.replace` does.
    """

    id: int
    task_id: str
    state: State
    priority: int
    rank: float
    updated_at: datetime
    run_at: datetime | None = None
    expires_at: datetime | None = None
    attempt: int = 0
    crashes: int = 0
    fence: int = 0
    epoch: int = 0
    sequence: int = 0
    lease_owner: str | None = None
    lease_until: float | None = None
    cancel_id: str | None = None  # the command that asked for the cancellation
    cancel_reason: str | None = None
    is_final: bool = False  # the point of no return lies behind
    holds_key: bool = False  # started and not ended: nobody else of its ordering key may start
    first_started_at: datetime | None = None
    started_at: datetime | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    progress: Mapping[str, Any] = MappingProxyType({})


class Numbered(NamedTuple):
    """An event with its place in the task's sequence, or None beside the sequence."""

    event: Event
    sequence: int | None


class Decision(NamedTuple):
    """The row as it becomes, and what is published because of it."""

    row: TaskRow
    events: tuple[Numbered, ...] = ()


class NotAllowed(Exception):
    """The table has no such transition."""


# --- the three rules that SQL repeats ---------------------------------------------------------------------------------


def rank(since: datetime, priority: int) -> float:
    """Order of what is available, smaller first: epoch seconds of becoming available, less ten minutes per priority."""
    return since.timestamp() - priority * AGEING_STEP_S


def aged_priority(now: datetime, since: datetime, priority: int) -> float:
    """The priority that a task has at `now` by having waited since `since`; sorting by it descending is `rank` ascending."""
    return priority + (now - since).total_seconds() / AGEING_STEP_S


def is_overdue(row: TaskRow, now: datetime) -> bool:
    """Whether a task was not started in time. One that has started is bounded by its deadlines instead."""
    return row.expires_at is not None and row.first_started_at is None and row.expires_at <= now


def may_start(row: TaskRow, same_key: Iterable[TaskRow]) -> bool:
    """Whether the ordering key is free for `row`: nobody holds it, and nothing available was accepted earlier.

    A task that was started keeps its key until it ends. One that is delayed and was never started does not block
    those behind it.
    """
    if row.holds_key:
        return True
    return not any(
        other.holds_key or (other.state is State.AVAILABLE and other.id < row.id)
        for other in same_key
        if other.id != row.id
    )


# --- one function per cause ---------------------------------------------------------------------------------------------


def accept(row_id: int, task: NewTask, commands: Sequence[NewCommand], now: datetime) -> Decision:
    """A new task with its first status (`queued`, sequence 1); `commands` are those that came before it, in order."""
    run_at = now + timedelta(seconds=task.run_after_s) if task.run_after_s > 0 else None
    row = TaskRow(
        id=row_id,
        task_id=task.task_id,
        state=State.SCHEDULED if run_at else State.AVAILABLE,
        priority=task.priority,
        rank=rank(run_at or now, task.priority),
        run_at=run_at,
        expires_at=task.expires_at,
        updated_at=now,
        sequence=1,
        progress=_FIRST_PROGRESS,
    )
    # The one status that is made thousands of times a second: a copy of one that the model made.
    queued = Event("task.status", task.task_id, {**_FIRST_STATUS, "task_id": task.task_id})
    decision = Decision(row, (Numbered(queued, 1),))
    for early in commands:
        after = command(decision.row, early, now)
        decision = Decision(after.row, decision.events + after.events)
    return decision


def command(row: TaskRow, given: NewCommand, now: datetime) -> Decision:
    """Apply a command to its task, or answer it with `command.refused`."""
    decide = _COMMANDS.get(given.command)
    if decide is None:
        return _refused(row, given.command_id, given.command, "unknown command")
    return decide(row, given, now)


def claim(row: TaskRow, worker: str, lease_until: float, now: datetime) -> Decision:
    """The next attempt, with the next fence."""
    return Decision(
        row._replace(
            state=_next(row, Cause.CLAIMED),
            updated_at=now,
            attempt=row.attempt + 1,
            fence=row.fence + 1,
            lease_owner=worker,
            lease_until=lease_until,
            holds_key=True,
            run_at=None,
            first_started_at=row.first_started_at or now,
            started_at=now,
        )
    )


def due(row: TaskRow, now: datetime) -> Decision:
    """A delayed or retried task whose time has come. It ages from then on, not from its acceptance."""
    since = row.run_at or now
    return Decision(_moved(row, Cause.DUE, now)._replace(rank=rank(since, row.priority), run_at=None))


def overdue(row: TaskRow, now: datetime) -> Decision:
    """Not started before `expires_at`."""
    error = ErrorReport(kind="expired", code="task.not_started_in_time", message="not started before its expiry time")
    return _ended(_moved(row, Cause.OVERDUE, now), error=error)


def crash(row: TaskRow, now: datetime) -> Decision:
    """The lease ran out: whoever held it is gone or must stop. Counted apart from failures."""
    line = FailedAttempt(
        attempt=row.attempt,
        worker=row.lease_owner,
        started_at=row.started_at,
        ended_at=now,
        error=ErrorReport(kind="poison", code="worker.lost", message="the worker stopped renewing its lease"),
    )
    crashed = _released(_moved(row, Cause.CRASHED, now))._replace(
        crashes=row.crashes + 1,
        rank=rank(now, row.priority),
        history=(*row.history, line.model_dump(mode="json", exclude_none=True)),
    )
    return _cancelled_if_asked(Decision(crashed), now)


def record(row: TaskRow, events: Sequence[Event], *, final: bool, now: datetime) -> Decision:
    """Progress of a running attempt. Raises CancelRequested at the point of no return if a cancellation is stored."""
    if final and row.cancel_id is not None:
        raise CancelRequested
    return _numbered(row, events, updated_at=now, is_final=row.is_final or final)


def finish(row: TaskRow, given: Finish, now: datetime) -> Decision:
    """The end of an attempt. A stored cancellation wins over another try, and is refused by any other end."""
    state = _next(row, _CAUSE_OF_ENDING[given.ending])
    after = row._replace(
        state=state,
        updated_at=now,
        lease_owner=None,
        lease_until=None,
        holds_key=row.holds_key and state not in TERMINAL,
        history=row.history if given.failure is None else (*row.history, given.failure),
    )
    if given.ending is Ending.RETRY:
        return _cancelled_if_asked(_numbered(_scheduled(after, given.delay_s, now), given.events), now)
    if given.ending is Ending.INTERRUPTED:
        handed_back = after._replace(attempt=row.attempt - 1, rank=rank(now, row.priority))
        return _cancelled_if_asked(_numbered(handed_back, given.events), now)
    ended = _ended(after, given.events)
    if row.cancel_id is None or after.state is State.CANCELLED:
        return ended
    late = _refused(ended.row, row.cancel_id, "task.cancel", "the task ended before the cancellation was observed")
    return Decision(late.row, ended.events + late.events)


def replay(row: TaskRow, given: NewCommand, now: datetime) -> Decision:
    """A dead letter is tried again: the key and the sequence go on, attempts and checkpoints start afresh."""
    if (row.state, Cause.REPLAYED) not in TRANSITIONS:
        return _refused(row, given.command_id, given.command, f"the task is {row.state}, not failed")
    fresh = _moved(row, Cause.REPLAYED, now)._replace(
        rank=rank(now, row.priority),
        epoch=row.epoch + 1,
        attempt=0,
        crashes=0,
        is_final=False,
        cancel_id=None,
        cancel_reason=None,
        expires_at=None,  # it bounded the first start, which has happened
        first_started_at=None,
        started_at=None,
        history=(),
        progress={},
    )
    queued = _status(fresh, Status.QUEUED, message="replayed from its dead letter")
    acted = _acted(given, Outcome.REPLAYED, now, task_id=row.task_id, detail=f"attempt epoch {fresh.epoch}")
    return _numbered(fresh, [queued, acted])


def discarded(given: NewCommand, task_id: str | None, now: datetime) -> Event:
    """What is told when a dead letter is closed for good; `task_id` of its task, which stays as it is."""
    return _acted(given, Outcome.DISCARDED, now, task_id=task_id)


def refuse_letter(given: NewCommand, state: str, reason: str) -> Event:
    """`command.refused` for a command about a dead letter that has no task to number it (or is unknown or closed)."""
    refusal = CommandRefused(
        task_id=given.task_id, command_id=given.command_id, command=given.command, state=state, reason=reason
    )
    return Event("command.refused", given.task_id, refusal.model_dump(mode="json"))


def letter_refusal(given: NewCommand, *, is_known: bool, is_closed: bool, has_task: bool) -> Event | None:
    """Why a command about a dead letter cannot be followed, as the event that says so; None if it can."""
    if given.command not in ("dead_letter.replay", "dead_letter.discard"):
        return refuse_letter(given, "unknown", "unknown command")
    if not is_known:
        return refuse_letter(given, "unknown", "there is no such dead letter")
    if is_closed:
        return refuse_letter(given, "closed", "the dead letter was replayed or discarded before")
    if given.command == "dead_letter.replay" and not has_task:
        return refuse_letter(given, "open", "the record made no task: mend it and publish it again")
    return None


def owns(row: TaskRow | None, fence: int) -> bool:
    """Whether an attempt may still write: its fence is the row's and the lease was not taken back."""
    return row is not None and row.fence == fence and row.state is State.RUNNING


# --- commands -------------------------------------------------------------------------------------------------------------


def _cancel(row: TaskRow, given: NewCommand, now: datetime) -> Decision:
    if row.is_final and row.state not in TERMINAL:
        return _refused(row, given.command_id, given.command, "the delivery is past its point of no return")
    if (row.state, Cause.CANCELLED) not in TRANSITIONS:
        return _refused(row, given.command_id, given.command, f"the task is already {row.state}")
    if row.cancel_id is not None:
        return Decision(row)  # asked for already: the first command is the one that is answered
    asked = _moved(row, Cause.CANCELLED, now)._replace(
        cancel_id=given.command_id, cancel_reason=given.data.get("reason")
    )
    return Decision(asked) if asked.state is State.RUNNING else _ended(_released(asked))


def _reprioritise(row: TaskRow, given: NewCommand, now: datetime) -> Decision:
    priority = given.data.get("priority")
    if row.state in TERMINAL:
        return _refused(row, given.command_id, given.command, f"the task is already {row.state}")
    if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= 9:
        return _refused(row, given.command_id, given.command, "priority is a whole number from 0 to 9")
    gained = (priority - row.priority) * AGEING_STEP_S
    detail = f"priority {row.priority} to {priority}"
    acted = _acted(given, Outcome.REPRIORITISED, now, task_id=row.task_id, detail=detail)
    return _numbered(row._replace(priority=priority, rank=row.rank - gained, updated_at=now), [acted])


_COMMANDS = {"task.cancel": _cancel, "task.reprioritise": _reprioritise}


# --- parts ----------------------------------------------------------------------------------------------------------------


def _next(row: TaskRow, cause: Cause) -> State:
    try:
        return TRANSITIONS[row.state, cause]
    except KeyError:
        raise NotAllowed(f"{row.state} task cannot be {cause}") from None


def _moved(row: TaskRow, cause: Cause, now: datetime) -> TaskRow:
    return row._replace(state=_next(row, cause), updated_at=now)


def _released(row: TaskRow) -> TaskRow:
    """Without lease; the ordering key stays with a task that has not ended."""
    return row._replace(lease_owner=None, lease_until=None, holds_key=row.holds_key and row.state not in TERMINAL)


def _scheduled(row: TaskRow, delay_s: float, now: datetime) -> TaskRow:
    run_at = now + timedelta(seconds=max(0.0, delay_s))
    return row._replace(run_at=run_at, rank=rank(run_at, row.priority))


def _cancelled_if_asked(decision: Decision, now: datetime) -> Decision:
    """A task that would be tried again ends here if a cancellation is stored."""
    if decision.row.cancel_id is None:
        return decision
    end = _ended(_released(_moved(decision.row, Cause.CANCELLED, now)._replace(run_at=None)))
    return Decision(end.row, decision.events + end.events)


def _ended(row: TaskRow, events: Sequence[Event] = (), *, error: ErrorReport | None = None) -> Decision:
    """A terminal row with its terminal status; made here with the last progress if the attempt did not bring it."""
    brought = any(event.type == "task.status" and event.data.get("status") in TERMINAL_STATUSES for event in events)
    decision = _numbered(row, events, run_at=None)
    if brought:
        return decision
    made = _status(decision.row, _STATUS_OF_STATE[row.state], message=row.cancel_reason, error=error)
    last = _numbered(decision.row, [made])
    return Decision(last.row, decision.events + last.events)


def _status(row: TaskRow, status: Status, *, message: str | None = None, error: ErrorReport | None = None) -> Event:
    """A status of the journal's own. The five origin fields are always there, as the last known progress."""
    known = row.progress
    model = TaskStatus(
        agent=AGENT,
        status=status,
        phase=known.get("phase", Phase.ANALYSE.value),
        completed=tuple(known.get("completed", ())),
        pending=tuple(known.get("pending", ())),
        task_id=row.task_id,
        attempt=row.attempt or None,
        state=A2A_STATE[status],
        message=message,
        error=error,
    )
    return Event("task.status", row.task_id, model.model_dump(mode="json", exclude_unset=True, exclude_none=True))


_FIRST_STATUS = _status(
    TaskRow(id=0, task_id="", state=State.AVAILABLE, priority=0, rank=0, updated_at=datetime.min), Status.QUEUED
).data
_PROGRESS = ("phase", "completed", "pending")  # what is kept of a status
_FIRST_PROGRESS = {name: _FIRST_STATUS[name] for name in _PROGRESS}


def _refused(row: TaskRow, command_id: str, name: str, reason: str) -> Decision:
    refusal = CommandRefused(
        task_id=row.task_id, command_id=command_id, command=name, state=row.state.value, reason=reason
    )
    return _numbered(row, [Event("command.refused", row.task_id, refusal.model_dump(mode="json"))])


def _acted(
    given: NewCommand, outcome: Outcome, now: datetime, *, task_id: str | None, detail: str | None = None
) -> Event:
    """The audit event of a command that took effect. Keyed by its task, so that it stands among the task's events."""
    letter_id = given.task_id if given.command.startswith("dead_letter.") else None
    acted = OperatorActed(
        command_id=given.command_id,
        command=given.command,
        task_id=task_id,
        dead_letter_id=letter_id,
        outcome=outcome,
        detail=detail,
        reason=given.data.get("reason"),
        who=given.source,
        at=now,
    )
    return Event("operator.acted", task_id or given.task_id, acted.model_dump(mode="json", exclude_none=True))


def _numbered(row: TaskRow, events: Sequence[Event], **changes: Any) -> Decision:
    """Take the next sequences for `events` and keep the progress of the last status; `changes` of the row beside it."""
    sequence, progress = row.sequence, row.progress
    last: Mapping[str, Any] | None = None
    numbered = []
    for event in events:
        counts = event.type in SEQUENCED
        sequence += counts
        numbered.append(Numbered(event, sequence if counts else None))
        if event.type == "task.status":
            last = event.data
    if last is not None:
        progress = {name: last[name] for name in _PROGRESS if name in last}
    return Decision(row._replace(sequence=sequence, progress=progress, **changes), tuple(numbered))


# --- documentation ----------------------------------------------------------------------------------------------------


def diagram() -> str:
    """TRANSITIONS as a Mermaid state diagram, for README.md."""
    edges: dict[tuple[State, State], list[str]] = {}
    for (before, cause), after in TRANSITIONS.items():
        edges.setdefault((before, after), []).append(cause.value)
    lines = ["stateDiagram-v2", "    [*] --> available: accepted", "    [*] --> scheduled: accepted with a delay"]
    lines += [f"    {before} --> {after}: {', '.join(causes)}" for (before, after), causes in edges.items()]
    lines += [f"    {state} --> [*]" for state in State if state in TERMINAL]
    return "\n".join(lines)
