"""What every unit that writes ends in: decisions into rows and events, numbered by the one who writes."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from secrets import token_hex
from typing import Any

from agent.journal import rows
from agent.journal.lifecycle import Decision, Numbered, TaskRow
from agent.journal.port import TERMINAL
from agent.journal.sqlite.statements import SQL, task_rows, write_rows

# A task and its request, the one way and the other.
ARCHIVE = (
    "archive_task", "forget_request", "archive_request", "delete_task", "delete_request", "delete_checkpoints",
)  # fmt: skip
RESTORE = ("restore_task", "restore_request", "delete_archived_task", "delete_archived_request")


class Writes:
    """The hand of the one connection that writes: nobody else takes a row id or an outbox position."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        (self._next_id,) = connection.execute(SQL["next_id"]).fetchone()
        (self._next_position,) = connection.execute(SQL["next_position"]).fetchone()
        self._event_prefix = token_hex(8)  # of this process; with the position, no other event has this id

    def new_id(self) -> int:
        """The row id of a new task."""
        self._next_id += 1
        return int(self._next_id) - 1

    def known(self, task_id: str) -> TaskRow | None:
        """A task's row, also an archived one."""
        found = task_rows(self.connection, "task_by_task_id", task_id)
        found = found or task_rows(self.connection, "archived_by_task_id", task_id)
        return found[0] if found else None

    def store(self, before: TaskRow, decision: Decision, now: datetime) -> None:
        """Write a decision: the row, its events, the dead letters among them."""
        if decision.row != before:
            if before.state in TERMINAL:  # a replay: if the task is archived, it comes back
                for statement in RESTORE:
                    self.connection.execute(SQL[statement], (before.id,))
            write_rows(self.connection, "update_task", [rows.task_columns(decision.row)])
        self.publish([(before.id, decision.events)], now)

    def publish(self, published: Iterable[tuple[int | None, Sequence[Numbered]]], now: datetime) -> None:
        """Events by the row of their task, into the outbox; the dead letters of tasks are kept as well."""
        outgoing: list[tuple[Any, ...]] = []
        for row_id, events in published:
            outgoing += self._outbox(row_id, events, now)
            for letter_id, data, code in rows.letters_in([numbered.event for numbered in events]):
                values = (letter_id, row_id, None, code, rows.dump(data), now.timestamp())
                self.connection.execute(SQL["insert_dead_letter"], values)
        write_rows(self.connection, "insert_outbox", outgoing)

    def _outbox(self, row_id: int | None, events: Sequence[Numbered], now: datetime) -> list[tuple[Any, ...]]:
        first = self._next_position
        self._next_position += len(events)
        return [
            (
                first + index, f"{self._event_prefix}{first + index:016x}", row_id, numbered.event.type, rows.dump(numbered.event.key),
                rows.dump(numbered.event.data), now.timestamp(), numbered.sequence,
            )
            for index, numbered in enumerate(events)
        ]  # fmt: skip
