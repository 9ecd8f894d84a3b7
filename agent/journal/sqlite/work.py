"""What workers do to their tasks: claims, renewals, and the writes of attempts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.errors import Fenced
from agent.journal import lifecycle, rows
from agent.journal.lifecycle import Decision, Numbered, TaskRow
from agent.journal.port import CancelRequested, Checkpoint, Claim, Renewal, State
from agent.journal.sqlite.statements import SQL, in_chunks, one, task_rows, write_rows
from agent.journal.sqlite.writes import Writes


def upkeep(writes: Writes, now: datetime, monotonic: float) -> bool:
    """Expired leases, tasks not started in time, delayed tasks that are due; whether there is something to tell of it."""
    at = now.timestamp()
    lost = task_rows(writes.connection, "lost_tasks", monotonic)
    for row in lost:
        writes.store(row, lifecycle.crash(row, now), now)
    overdue = task_rows(writes.connection, "overdue_tasks", at)
    for row in overdue:
        writes.store(row, lifecycle.overdue(row, now), now)
    due = task_rows(writes.connection, "due_tasks", at)
    for row in due:
        writes.store(row, lifecycle.due(row, now), now)
    return bool(lost or overdue)


def release_all(writes: Writes, now: datetime) -> None:
    """The file was opened again: whoever held a lease is dead, and died at work."""
    for row in task_rows(writes.connection, "running_tasks"):
        writes.store(row, lifecycle.crash(row, now), now)


def claim(writes: Writes, worker: str, limit: int, lease_until: float, now: datetime) -> list[Claim]:
    """Start what may start, first in rank first."""
    found = task_rows(writes.connection, "startable_tasks", limit)
    started = [lifecycle.claim(row, worker, lease_until, now).row for row in found]
    write_rows(writes.connection, "claim_task", [rows.claim_changes(row) for row in started])
    requests = in_chunks(writes.connection, "claimed_requests", [row.id for row in started])
    by_id = {request[0]: request for request in requests}
    return [rows.claim_of(row, by_id[row.id]) for row in started]


def renew(writes: Writes, claims: Sequence[Claim], lease_until: float) -> Mapping[str, Renewal]:
    """By task id: whether the lease is still held, and whether somebody wants the task cancelled."""
    answers = {}
    for held_one in claims:
        values = (lease_until, held_one.task_id, held_one.fence)
        is_held = writes.connection.execute(SQL["renew"], values).rowcount == 1
        asked = one(writes.connection, "is_cancel_requested", held_one.task_id) if is_held else None
        answers[held_one.task_id] = Renewal(held=is_held, cancel_requested=bool(asked and asked[0]))
    return answers


@dataclass(frozen=True, slots=True)
class Write:
    """What an attempt wants to store: decided on its row, if that is still its own."""

    claim: Claim
    decide: Callable[[TaskRow, datetime], Decision]
    point: Checkpoint | None = None


def write(writes: Writes, given: Sequence[Write], now: datetime) -> tuple[Sequence[Exception | None], bool]:
    """Store what attempts decide, each on the row as the former left it.

    Returns an error (or None) for each, and whether there is something to tell. All decide before anything is written,
    so that one that may not write leaves nothing behind.
    """
    found = _present(writes, given)
    changed: dict[int, TaskRow] = {}
    points: list[tuple[Any, ...]] = []
    published: list[tuple[int, Sequence[Numbered]]] = []
    errors: list[Exception | None] = []
    for each in given:
        try:
            row = _owned(found, each.claim)
            decision = each.decide(row, now)
        except (Fenced, CancelRequested, lifecycle.NotAllowed) as error:
            errors.append(error)
            continue
        errors.append(None)
        found[row.task_id] = changed[row.id] = decision.row
        published.append((row.id, decision.events))
        if each.point is not None:
            points.append(_point_columns(row, each.point))
    write_rows(writes.connection, "upsert_checkpoint", points)
    ends, goes_on = _parted(changed.values(), lambda row: row.state is not State.RUNNING)
    write_rows(writes.connection, "update_task", [rows.task_columns(row) for row in ends])
    write_rows(writes.connection, "update_progress", [rows.progress_changes(row) for row in goes_on])
    writes.publish(published, now)
    return errors, bool(ends) or any(events for _, events in published)


def _present(writes: Writes, given: Sequence[Write]) -> dict[str, TaskRow]:
    """Rows by task id, without the archived ones."""
    found = in_chunks(writes.connection, "tasks_by_task_id", [each.claim.task_id for each in given])
    return {row.task_id: row for row in map(rows.task_row, found)}


def _owned(found: Mapping[str, TaskRow], claim: Claim) -> TaskRow:
    row = found.get(claim.task_id)
    if row is None or not lifecycle.owns(row, claim.fence):
        raise Fenced(f"fence {claim.fence} of task {claim.task_id} is no longer in force")
    return row


def _point_columns(row: TaskRow, point: Checkpoint) -> tuple[Any, ...]:
    output = rows.dump(point.output)
    return row.id, row.epoch, point.step, point.input_hash, output, point.code_version, point.duration_s


def _parted(given: Iterable[TaskRow], is_first: Callable[[TaskRow], bool]) -> tuple[list[TaskRow], list[TaskRow]]:
    """Those of which it is true, and the others."""
    parts: tuple[list[TaskRow], list[TaskRow]] = ([], [])
    for row in given:
        parts[0 if is_first(row) else 1].append(row)
    return parts
