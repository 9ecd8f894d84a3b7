"""What one transaction stores about tasks: gathered first, then sent at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Any
from zlib import crc32

from agent.journal import rows
from agent.journal.lifecycle import Decision, Numbered, TaskRow
from agent.journal.port import Checkpoint
from agent.journal.postgres.session import SQL, Connection

SHARDS = 64  # rows of relay_shard


@dataclass(slots=True)
class Writes:
    """What is to be stored together. `versions` are those of rows that were looked at; all others are locked or new."""

    now: datetime
    versions: Mapping[int, int] = field(default_factory=dict)
    token: str | None = None  # left in the rows that change, so that an attempt's write can be found again
    archived: set[int] = field(default_factory=set)
    inserted: dict[int, tuple[TaskRow, str]] = field(default_factory=dict)
    updated: dict[int, TaskRow] = field(default_factory=dict)
    points: dict[tuple[int, int, str], Checkpoint] = field(default_factory=dict)
    events: list[tuple[int | None, Numbered]] = field(default_factory=list)

    def add(self, before: TaskRow, decision: Decision) -> TaskRow:
        """Note a decision about a row that exists; returns the row as it becomes."""
        row = decision.row
        if row.id in self.inserted:
            self.inserted[row.id] = (row, self.inserted[row.id][1])
        elif row != before:
            self.updated[row.id] = row
        self.events += [(row.id, numbered) for numbered in decision.events]
        return row

    async def store(self, connection: Connection) -> set[int]:
        """Send it all, in one statement as a rule; the ids of the rows that were changed."""
        if back := [row_id for row_id in self.updated if row_id in self.archived]:
            await connection.execute(SQL["restore_tasks"], back)
        changed = set()
        if self.inserted or self.updated or self.events:
            values = (*self._outbox(), *self._points(), *self._tasks())
            changed = {row_id for (row_id,) in await connection.fetch(SQL["store"], *values)}
        if letters := [
            (letter_id, row_id, None, code, rows.dump(content))
            for row_id, numbered in self.events
            if row_id is not None and (row_id not in self.versions or row_id in changed)
            for letter_id, content, code in rows.letters_in([numbered.event])
        ]:
            await connection.execute(SQL["insert_letters"], *columns(letters, 5), self.now.timestamp())
        return changed

    def _outbox(self) -> list[Any]:
        events = (
            (
                token_hex(16), row_id, numbered.event.type, rows.dump(numbered.event.key), rows.dump(numbered.event.data),
                numbered.sequence, shard_of(row_id, numbered.event.key),
            )
            for row_id, numbered in self.events
        )  # fmt: skip
        return [*columns(events, 7), self.now.timestamp()]

    def _points(self) -> list[list[Any]]:
        points = (
            (row_id, epoch, step, point.input_hash, rows.dump(point.output), point.code_version, point.duration_s)
            for (row_id, epoch, step), point in self.points.items()
        )
        return columns(points, 7)

    def _tasks(self) -> list[Any]:
        locked = {row_id for row_id, _ in self.events if row_id is not None and row_id not in self.versions}
        new, width = self.inserted.values(), len(rows.TASK_COLUMNS)
        return [
            [key for _, key in new], [self.versions.get(row_id) for row_id in self.updated], self.token, list(locked),
            *columns((rows.task_columns(row) for row, _ in new), width),
            *columns(map(rows.task_columns, self.updated.values()), width),
        ]  # fmt: skip


async def lock_rows(connection: Connection, task_ids: Sequence[str]) -> tuple[dict[str, TaskRow], set[int]]:
    """The rows of these tasks, locked, by task id; and which of them are archived."""
    live = [rows.task_row(tuple(values)) for values in await connection.fetch(SQL["lock_tasks"], task_ids)]
    missing = set(task_ids) - {row.task_id for row in live}
    archived = []
    if missing:
        found = await connection.fetch(SQL["archived_tasks"], sorted(missing))
        archived = [rows.task_row(tuple(values)) for values in found]
    return {row.task_id: row for row in (*live, *archived)}, {row.id for row in archived}


def shard_of(row_id: int | None, key: str) -> int:
    return (crc32(key.encode()) if row_id is None else row_id) % SHARDS


def columns(given: Iterable[Sequence[Any]], number: int) -> list[list[Any]]:
    """Rows of so many values as arrays of values, one per column."""
    return [list(column) for column in zip(*given, strict=True)] or [[] for _ in range(number)]
