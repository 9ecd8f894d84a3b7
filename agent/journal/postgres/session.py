"""What the parts of the PostgreSQL journal share: statements, writes gathered for one transaction, foreign errors."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Any, Final
from zlib import crc32

import asyncpg

from agent.errors import EnvironmentUnfit, JournalUnavailable
from agent.journal import rows, sql
from agent.journal.lifecycle import Decision, Numbered, TaskRow
from agent.journal.port import Checkpoint

SCHEMA = "backwright_journal"  # also the channel of NOTIFY
SHARDS = 64  # rows of relay_shard
Connection = Any  # asyncpg's connection, or its proxy in a pool: their stubs have no common name

_TYPES = {
    "id": "bigint", "task_id": "text", "state": "text", "priority": "integer", "rank": "float8", "updated_at": "float8",
    "run_at": "float8", "expires_at": "float8", "attempt": "integer", "crashes": "integer", "fence": "bigint",
    "epoch": "integer", "sequence": "integer", "lease_owner": "text", "lease_until": "float8", "cancel_id": "text",
    "cancel_reason": "text", "is_final": "boolean", "holds_key": "boolean", "first_started_at": "float8",
    "started_at": "float8", "history": "json", "progress": "json",
}  # fmt: skip
_FILLED = {
    # A sub-select is evaluated once per statement, so that an index can be searched with it.
    "{now}": "(SELECT extract(epoch FROM clock_timestamp())::float8)",
    "{task}": ", ".join(rows.TASK_COLUMNS),
    "{t.task}": ", ".join(f"t.{name}" for name in rows.TASK_COLUMNS),
    "{arrays}": ", ".join(f"${nr}::{_TYPES[name]}[]" for nr, name in enumerate(rows.TASK_COLUMNS, start=1)),
    "{after}": f"${len(rows.TASK_COLUMNS) + 1}",
}


def _filled(text: str) -> str:
    for name, value in _FILLED.items():
        text = text.replace(name, value)
    return text


SQL: Final[Mapping[str, str]] = {name: _filled(text) for name, text in sql.statements("postgres").items()}


@dataclass(slots=True)
class Writes:
    """What one transaction stores, gathered first and sent in few statements."""

    now: datetime
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

    async def store(self, connection: Connection) -> None:
        """Send it all; an empty part costs nothing."""
        if self.inserted:
            columns = transposed(rows.task_columns(row) for row, _ in self.inserted.values())
            await connection.execute(SQL["insert_tasks"], *columns, [key for _, key in self.inserted.values()])
        if back := [row_id for row_id in self.updated if row_id in self.archived]:
            await connection.execute(SQL["restore_tasks"], back)
        if self.updated:
            columns = transposed(rows.task_columns(row) for row in self.updated.values())
            await connection.execute(SQL["update_tasks"], *columns)
        if self.points:
            columns = transposed(
                (row_id, epoch, step, point.input_hash, rows.dump(point.output), point.code_version, point.duration_s)
                for (row_id, epoch, step), point in self.points.items()
            )
            await connection.execute(SQL["upsert_checkpoints"], *columns)
        if self.events:
            await self._publish(connection)

    async def _publish(self, connection: Connection) -> None:
        ids, tasks, types, keys, data, sequences, shards = transposed(
            (
                token_hex(16), row_id, numbered.event.type, rows.dump(numbered.event.key), rows.dump(numbered.event.data),
                numbered.sequence, shard_of(row_id, numbered.event.key),
            )
            for row_id, numbered in self.events
        )  # fmt: skip
        at = self.now.timestamp()
        await connection.execute(SQL["insert_outbox"], ids, tasks, types, keys, data, sequences, at, shards)
        letters = [
            (letter_id, row_id, None, code, rows.dump(content))
            for row_id, numbered in self.events
            if row_id is not None
            for letter_id, content, code in rows.letters_in([numbered.event])
        ]
        if letters:
            await connection.execute(SQL["insert_letters"], *transposed(letters), at)


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


def transposed(given: Iterable[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*given, strict=True)]


class Again(JournalUnavailable):
    """PostgreSQL undid the transaction to resolve a deadlock."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Trouble with the database in our words."""
    try:
        yield
    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.UniqueViolationError) as error:
        raise Again(f"PostgreSQL: {error}", retry_after_s=0.1) from error
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise EnvironmentUnfit(
            f"the journal's database refuses us: {error}", remedy="check the journal's URL"
        ) from error
    # InternalClientError: asyncpg's word for a connection that was cut while one of its operations was being given up.
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        raise JournalUnavailable(f"PostgreSQL: {type(error).__name__}: {error}", retry_after_s=1.0) from error
