"""What the parts of the PostgreSQL journal share: statements, transactions, foreign errors."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import asyncpg

from agent.errors import EnvironmentUnfit, JournalUnavailable
from agent.journal import rows, sql

T = TypeVar("T")

SCHEMA = "backwright_journal"  # also the channel of NOTIFY
Connection = Any  # asyncpg's connection, or its proxy in a pool: their stubs have no common name
# InternalClientError: asyncpg's word for a connection that was cut while one of its operations was being given up.
LOST = (
    asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, asyncpg.InterfaceError, asyncpg.InternalClientError,
    OSError, TimeoutError,
)  # fmt: skip
TROUBLE = (asyncpg.PostgresError, *LOST)

_TYPES = {
    "id": "bigint", "task_id": "text", "state": "text", "priority": "integer", "rank": "float8", "updated_at": "float8",
    "run_at": "float8", "expires_at": "float8", "attempt": "integer", "crashes": "integer", "fence": "bigint",
    "epoch": "integer", "sequence": "integer", "lease_owner": "text", "lease_until": "float8", "cancel_id": "text",
    "cancel_reason": "text", "is_final": "boolean", "holds_key": "boolean", "first_started_at": "float8",
    "started_at": "float8", "history": "json", "progress": "json",
}  # fmt: skip


def _arrays(first: int) -> str:
    return ", ".join(f"${number}::{_TYPES[name]}[]" for number, name in enumerate(rows.TASK_COLUMNS, start=first))


_FILLED = {
    # Available, and no other task of its ordering key is running, has started, or waits longer.
    "{may_start}": """task.state = 'available' AND (task.holds_key OR NOT EXISTS (
    SELECT 1 FROM task AS o
    WHERE o.ordering_key = task.ordering_key AND o.id <> task.id
      AND o.state IN ('available', 'scheduled', 'running', 'waiting')
      AND (o.holds_key OR (o.state = 'available' AND o.id < task.id))))""",
    # A sub-select is evaluated once per statement, so that an index can be searched with it.
    "{now}": "(SELECT extract(epoch FROM clock_timestamp())::float8)",
    "{version}": "task.xmin::text::bigint",  # the transaction that wrote the row; locking it changes nothing
    "{changes}": ", ".join(f"{name} = given.{name}" for name in rows.TASK_COLUMNS if name not in ("id", "task_id")),
    "{task}": ", ".join(rows.TASK_COLUMNS),
    "{t.task}": ", ".join(f"t.{name}" for name in rows.TASK_COLUMNS),
    "{stored_new}": _arrays(20),
    "{stored_changed}": _arrays(20 + len(rows.TASK_COLUMNS)),
    "{stored_started}": _arrays(4),
}


def _filled(text: str) -> str:
    for name, value in _FILLED.items():
        text = text.replace(name, value)
    return text


SQL: Final[Mapping[str, str]] = {name: _filled(text) for name, text in sql.statements("postgres").items()}


class Again(JournalUnavailable):
    """PostgreSQL undid the transaction to resolve a deadlock."""


class Unanswered(JournalUnavailable):
    """The connection was lost: what was under way may have taken effect."""


async def transact(connection: Connection, work: Callable[[Connection], Awaitable[T]], *, opening: str) -> T:
    """Run `work` in a transaction.

    `opening` may hold more than BEGIN, without parameters: a lock that is taken there costs no round trip of its own, and
    the first statement of `work` sees what was committed before the lock was given.
    """
    await connection.execute(opening)
    try:
        result = await work(connection)
    except BaseException:
        with contextlib.suppress(*TROUBLE):  # a lost connection undoes it as well
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
    return result


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
    except TROUBLE as error:
        is_refused = isinstance(error, asyncpg.QueryCanceledError) or not isinstance(error, LOST)
        kind = JournalUnavailable if is_refused else Unanswered
        raise kind(f"PostgreSQL: {type(error).__name__}: {error}", retry_after_s=1.0) from error
