"""What workers do to the shared journal: claims, upkeep, and attempts' writes in groups."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.errors import Fenced
from agent.journal import lifecycle, rows
from agent.journal.lifecycle import Decision, TaskRow
from agent.journal.port import CancelRequested, Checkpoint, Claim, State
from agent.journal.postgres.session import SQL, Connection, Writes, lock_rows, transposed

UPKEEP_LIMIT = 200
KEY_LOCK_SEED = 7_260_403  # any number, as long as nobody else on this database locks with it


@dataclass(slots=True, eq=False)
class Unit:
    """One attempt's write, waiting for the next group."""

    claim: Claim
    decide: Callable[[TaskRow, datetime], Decision]
    point: Checkpoint | None
    done: "asyncio.Future[None]"


async def adopt(connection: Connection, owners: Sequence[str], lease_s: float) -> list[Claim]:
    """Claims that were committed although their answer was lost: still leased to us, and nobody knew."""
    found = await connection.fetch(SQL["adopt"], list(owners), lease_s)
    return [_claim_of(rows.task_row(tuple(values)[: len(rows.TASK_COLUMNS)]), values) for values in found]


async def claim(connection: Connection, owner: str, limit: int, lease_s: float) -> tuple[bool, list[Claim]]:
    """(whether upkeep moved something that others wait for, the claims)."""
    moved = await _upkeep(connection)
    candidates = await connection.fetch(SQL["startable"], limit) if limit > 0 else []
    if not candidates:
        return moved, []
    ids, keys = transposed(candidates)
    mine = [row_id for (row_id,) in await connection.fetch(SQL["lock_keys"], ids, keys, KEY_LOCK_SEED)]
    found = await connection.fetch(SQL["started_now"], mine) if mine else []
    if not found:
        return moved, []
    now = rows.moment(found[0][0])
    writes = Writes(now)
    claims = []
    for values in found:
        row = rows.task_row(tuple(values)[1 : 1 + len(rows.TASK_COLUMNS)])
        after = writes.add(row, lifecycle.claim(row, owner, now.timestamp() + lease_s, now))
        claims.append(_claim_of(after, values))
    await writes.store(connection)
    return moved, claims


async def _upkeep(connection: Connection) -> bool:
    found = await connection.fetch(SQL["upkeep"], UPKEEP_LIMIT)
    if not found:
        return False
    now = rows.moment(await connection.fetchval(SQL["now"]))
    writes = Writes(now)
    for values in found:
        row = rows.task_row(tuple(values))
        if row.state is State.RUNNING:
            decision = lifecycle.crash(row, now)
        elif lifecycle.is_overdue(row, now):
            decision = lifecycle.overdue(row, now)
        else:
            decision = lifecycle.due(row, now)
        writes.add(row, decision)
    await writes.store(connection)
    return True


async def write_group(connection: Connection, group: Sequence[Unit]) -> list[Exception | None]:
    """Store what the units decide, each on the row as the former left it; one error (or None) per unit."""
    found, _ = await lock_rows(connection, list({unit.claim.task_id for unit in group}))
    writes = Writes(rows.moment(await connection.fetchval(SQL["now"])))
    errors: list[Exception | None] = []
    for unit in group:
        row = found.get(unit.claim.task_id)
        if row is None or not lifecycle.owns(row, unit.claim.fence):
            errors.append(Fenced(f"fence {unit.claim.fence} of task {unit.claim.task_id} is no longer in force"))
            continue
        try:
            decision = unit.decide(row, writes.now)
        except (CancelRequested, lifecycle.NotAllowed) as error:
            errors.append(error)
            continue
        if unit.point is not None:
            writes.points[row.id, row.epoch, unit.point.step] = unit.point
        found[row.task_id] = writes.add(row, decision)
        errors.append(None)
    await writes.store(connection)
    return errors


def _claim_of(row: TaskRow, values: Any) -> Claim:
    return rows.claim_of(row, tuple(values)[-10:])
