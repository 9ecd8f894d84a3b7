"""The named statements, and how several keys or rows go into one of them."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

from agent.journal import rows, sql
from agent.journal.lifecycle import TaskRow

CHUNK = 500  # keys per IN list; older SQLite takes 999 placeholders
ROWS = 32  # per statement, for the same reason: of at most 25 columns; a power of two

_REQUEST = (
    "id, task_id, payload_digest, source, idempotency_key, kind, ordering_key, accepted_at, attempt_deadline_s,"
    " total_deadline_s, attributes, origin, origin_value, request"
)
_TASK = ", ".join(rows.TASK_COLUMNS)
SQL: Final[Mapping[str, str]] = {
    name: text.replace("{task}", _TASK).replace("{request}", _REQUEST)
    for name, text in sql.statements("sqlite").items()
}


def one(connection: sqlite3.Connection, statement: str, *values: Any) -> tuple[Any, ...] | None:
    """The first row that is found."""
    found: tuple[Any, ...] | None = connection.execute(SQL[statement], values).fetchone()
    return found


def task_rows(connection: sqlite3.Connection, statement: str, *values: Any) -> list[TaskRow]:
    """What a statement with {task} finds."""
    return [rows.task_row(found) for found in connection.execute(SQL[statement], values).fetchall()]


def in_chunks(connection: sqlite3.Connection, statement: str, keys: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
    """What a statement with {keys} finds."""
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        yield from connection.execute(SQL[statement].replace("{keys}", ",".join("?" * len(chunk))), chunk).fetchall()


def write_rows(connection: sqlite3.Connection, statement: str, given: Sequence[Sequence[Any]]) -> None:
    """Run a statement with {rows} for all that is given, in its order.

    Not `executemany`, which gives the interpreter's lock away and waits for it again at each row: beside a busy loop,
    that waiting took longer than SQLite's work.
    """
    start, number = 0, ROWS
    while start < len(given):
        while number > len(given) - start:
            number //= 2
        some = given[start : start + number]
        connection.execute(_with_rows(statement, number, len(some[0])), [*chain.from_iterable(some)])
        start += number


@cache  # a statement has one width, and a number is a power of two
def _with_rows(statement: str, number: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return SQL[statement].replace("{rows}", ", ".join([row] * number))
