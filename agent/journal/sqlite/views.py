"""What is only looked at, on the connection of the readers."""

import sqlite3
from collections.abc import Mapping, Sequence

from agent.journal import lifecycle, rows
from agent.journal.port import Checkpoint, Depths, State, TaskView
from agent.journal.sqlite.statements import SQL, one


def checkpoints(connection: sqlite3.Connection, task_id: str) -> Mapping[str, Checkpoint]:
    """By step, in the order in which they were recorded."""
    found = connection.execute(SQL["checkpoints"], (task_id,)).fetchall()
    return {
        step: Checkpoint(step, input_hash, rows.load(output), code_version, duration_s)
        for step, input_hash, output, code_version, duration_s in found
    }


def task(connection: sqlite3.Connection, task_id: str) -> TaskView | None:
    """One task, also an archived one."""
    found = one(connection, "view", task_id) or one(connection, "archived_view", task_id)
    return rows.task_view(found)[1] if found else None


def tasks(connection: sqlite3.Connection, states: Sequence[State], limit: int) -> Sequence[TaskView]:
    """Newest first; no state means any."""
    wanted = f",{','.join(states)}," if states else ""
    found = [
        rows.task_view(values)
        for statement in rows.view_statements(states)
        for values in connection.execute(SQL[statement], (wanted, limit))
    ]
    return [view for _, view in sorted(found, key=lambda pair: -pair[0])[:limit]]


def depths(connection: sqlite3.Connection, now: float) -> Depths:
    """What waits, and since when; `now` in epoch seconds."""
    counts = connection.execute(SQL["counts"]).fetchall()
    found = connection.execute(SQL["sums"], (lifecycle.AGEING_STEP_S,)).fetchone()
    outbox, letters, available, running, unsent = found
    return Depths(
        by_state={State(state): count for state, count in counts},
        outbox=outbox,
        dead_letters=letters,
        oldest_available_s=rows.age_s(now, available),
        oldest_running_s=rows.age_s(now, running),
        oldest_outbox_s=rows.age_s(now, unsent),
    )
