"""What workers do to the shared journal: claims, upkeep, and attempts' writes in groups.

Nothing here holds a lock between two statements: a row is looked at, lifecycle decides, and the row is changed if it is
still the one that was looked at. Who finds it changed looks again.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Any

from agent.errors import Fenced, JournalUnavailable
from agent.journal import lifecycle, rows
from agent.journal.lifecycle import Decision, TaskRow
from agent.journal.port import CancelRequested, Checkpoint, Claim, State
from agent.journal.postgres.session import SQL, Connection
from agent.journal.postgres.writes import Writes, columns

UPKEEP_LIMIT = 200
LOOKS = 20  # at a row that somebody else changes each time
KEY_LOCK_SEED = 7_260_403  # any number, as long as nobody else on this database locks with it


# --- claims -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sight:
    """What `look` saw."""

    is_due: bool
    now: datetime
    startable: Sequence[tuple[int, TaskRow]]  # with their versions


async def look(connection: Connection, limit: int) -> Sight:
    """Whether time has moved something on, and up to `limit` tasks that could start."""
    found = await connection.fetch(SQL["look"], limit)
    is_due, now, *_ = found[0]
    return Sight(is_due, rows.moment(now), [_versioned(values) for values in found if values[2] is not None])


async def upkeep(connection: Connection) -> bool:
    """Move on what time alone moves on; whether there was something."""
    found = await connection.fetch(SQL["due"], UPKEEP_LIMIT)
    if not found:
        return False
    seen = [_versioned(values) for values in found]
    writes = Writes(rows.moment(found[0][0]), {row.id: version for version, row in seen})
    for _, row in seen:
        writes.add(row, _moved_on(row, writes.now))
    return bool(await writes.store(connection))


def _moved_on(row: TaskRow, now: datetime) -> Decision:
    if row.state is State.RUNNING:
        return lifecycle.crash(row, now)
    return lifecycle.overdue(row, now) if lifecycle.is_overdue(row, now) else lifecycle.due(row, now)


async def start(connection: Connection, sight: Sight, owner: str, lease_s: float) -> list[Claim]:
    """Claim what was seen and may still start."""
    lease_until = sight.now.timestamp() + lease_s
    after = {row.id: lifecycle.claim(row, owner, lease_until, sight.now).row for _, row in sight.startable}
    values = columns(map(rows.task_columns, after.values()), len(rows.TASK_COLUMNS))
    versions = [version for version, _ in sight.startable]
    started = await connection.fetch(SQL["start"], list(after), versions, KEY_LOCK_SEED, *values)
    requests = {found[0]: tuple(found) for found in started}
    return [rows.claim_of(row, requests[row_id]) for row_id, row in after.items() if row_id in requests]


async def adopt(connection: Connection, owners: Sequence[str], lease_s: float) -> list[Claim]:
    """Claims that were committed although their answer was lost: still leased to us, and nobody knew."""
    found = await connection.fetch(SQL["adopt"], list(owners), lease_s)
    return [
        rows.claim_of(rows.task_row(tuple(values)[: len(rows.TASK_COLUMNS)]), tuple(values)[-10:]) for values in found
    ]


def _versioned(values: Any) -> tuple[int, TaskRow]:
    return values[-len(rows.TASK_COLUMNS) - 1], rows.task_row(tuple(values)[-len(rows.TASK_COLUMNS) :])


# --- attempts' writes -------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Unit:
    """One attempt's write, waiting for the next group."""

    claim: Claim
    decide: Callable[[TaskRow, datetime], Decision]
    point: Checkpoint | None
    done: "asyncio.Future[None]"
    error: Exception | None = None
    is_settled: bool = False


@dataclass(slots=True)
class Group:
    """Attempts' writes that are stored together: each one whole, and none twice, although an answer may be lost."""

    units: Sequence[Unit]
    token: str = field(default_factory=lambda: token_hex(8))
    is_sent: bool = False

    async def write(self, connection: Connection) -> None:
        """Settle every unit. May be called again after an error."""
        for _ in range(LOOKS):
            if not (left := [unit for unit in self.units if not unit.is_settled]):
                return
            await self._write(connection, left)
        raise JournalUnavailable("rows were changed by others each time", retry_after_s=0.1)

    async def _write(self, connection: Connection, units: Sequence[Unit]) -> None:
        found = await connection.fetch(SQL["rows"], list({unit.claim.task_id for unit in units}))
        seen = [_versioned(values) for values in found]
        present = {row.task_id: row for _, row in seen}
        # A write of this group of which the answer was lost: what was decided then stands.
        settled = {row.task_id for values, (_, row) in zip(found, seen, strict=True) if values[1] == self.token}
        writes = Writes(_time_in(found), {row.id: version for version, row in seen}, self.token)
        for unit in units:
            if unit.claim.task_id not in settled:
                unit.error = _decide(unit, present, writes)
        self.is_sent = True
        changed = await writes.store(connection)
        for unit in units:
            row = present.get(unit.claim.task_id)
            unit.is_settled = row is None or row.id not in writes.updated or row.id in changed


def _decide(unit: Unit, present: dict[str, TaskRow], writes: Writes) -> Exception | None:
    """Note what the unit decides on its row, as the former unit left it."""
    row = present.get(unit.claim.task_id)
    if row is None or not lifecycle.owns(row, unit.claim.fence):
        return Fenced(f"fence {unit.claim.fence} of task {unit.claim.task_id} is no longer in force")
    try:
        decision = unit.decide(row, writes.now)
    except (CancelRequested, lifecycle.NotAllowed) as error:
        return error
    if unit.point is not None:
        writes.points[row.id, row.epoch, unit.point.step] = unit.point
    present[row.task_id] = writes.updated[row.id] = writes.add(row, decision)
    return None


def _time_in(found: Sequence[Any]) -> datetime:
    """The database's time in what a look found; without a row there is nothing to decide, at no time."""
    return rows.moment(found[0][0] if found else 0.0)
