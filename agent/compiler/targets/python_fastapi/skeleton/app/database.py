"""The database: SQLAlchemy Core describes and compiles the statements, once; asyncpg prepares them and runs them.

Measured: through SQLAlchemy's own connection a row by key costs 200 µs of CPU, this way 60; a transaction around a
single statement costs two more round trips. So `connect` gives a connection on which every statement commits by itself,
and `begin` a transaction for several that belong together, committed before the response is sent.

A value in a row is what JSON takes: a UUID is its text, `jsonb` is decoded.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, cast

import asyncpg
import msgspec
import structlog
from sqlalchemy import ClauseElement, Insert, Update, make_url
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from app.errors import Kind, Problem
from app.settings import Settings
from app.values import encode

log = structlog.get_logger()
Row = Mapping[str, Any]
# Of the server, of the driver, and of the driver when a connection ends under its hands.
DatabaseError = asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError
DIALECT: Dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves this one untyped
STATEMENTS_MAX = 2048


@lru_cache(maxsize=STATEMENTS_MAX)
def compile_statement(statement: ClauseElement, columns: frozenset[str] | None) -> tuple[str, tuple[str, ...], Row]:
    """SQL with `$1`…, the names of its parameters in that order, and values that stand in the statement itself.

    `columns`: those that an INSERT or UPDATE sets; None for other statements.
    """
    keys = None if columns is None else sorted(columns)
    compiled = statement.compile(dialect=DIALECT, column_keys=keys, compile_kwargs={"render_postcompile": True})
    names = cast("SQLCompiler", compiled).positiontup or ()
    return str(compiled), tuple(names), dict(compiled.params)


def bind(statement: ClauseElement, values: Row) -> tuple[str, list[Any]]:
    """SQL and its arguments."""
    columns = frozenset(values) if isinstance(statement, Insert | Update) else None
    sql, names, constants = compile_statement(statement, columns)
    return sql, [values[name] if name in values else constants[name] for name in names]


class Connection:
    """Runs statements of SQLAlchemy Core. Keep a statement in a module and bind its values: it is compiled once."""

    def __init__(self, driver: "asyncpg.pool.PoolConnectionProxy[Any]") -> None:
        self.driver = driver

    async def fetch_all(self, statement: ClauseElement, values: Row | None = None) -> list[Row]:
        """All rows, as mappings by column name."""
        sql, arguments = bind(statement, values or {})
        return cast("list[Row]", await self.driver.fetch(sql, *arguments))

    async def fetch_one(self, statement: ClauseElement, values: Row | None = None) -> Row | None:
        """The first row, if there is one."""
        sql, arguments = bind(statement, values or {})
        return cast("Row | None", await self.driver.fetchrow(sql, *arguments))

    async def execute(self, statement: ClauseElement, values: Row | None = None) -> None:
        """Run a statement that answers no rows."""
        sql, arguments = bind(statement, values or {})
        await self.driver.execute(sql, *arguments)

    async def execute_each(self, statement: ClauseElement, rows: Iterable[Row]) -> None:
        """Run a statement once for each of `rows`, all or none; they have the same names."""
        bound = [bind(statement, values) for values in rows]
        if bound:
            await self.driver.executemany(bound[0][0], [arguments for _, arguments in bound])

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Inside a transaction: what fails in here is undone alone."""
        async with self.driver.transaction():
            yield


class Database:
    """The pool of connections. `connect` for single statements, `begin` for several that belong together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: asyncpg.Pool[Any] | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """A connection on which every statement commits by itself. Raises Problem: there is none to be had."""
        pool = self._pool or await self._open()
        driver = await self._acquire(pool)
        try:
            yield Connection(driver)
        except asyncpg.InternalClientError:  # the server ended the connection at the very moment of its use
            driver.terminate()
            raise
        finally:
            await pool.release(driver)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Connection]:
        """A transaction: committed at the end, rolled back on any exception. Raises Problem: no connection."""
        async with self.connect() as connection, connection.driver.transaction():
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            await self._pool.close()

    async def _acquire(self, pool: "asyncpg.Pool[Any]") -> "asyncpg.pool.PoolConnectionProxy[Any]":
        try:
            async with asyncio.timeout(self._settings.pool_timeout_s):
                return await pool.acquire()
        except (OSError, asyncpg.PostgresError) as exc:  # refused, reset, or (TimeoutError is one) no answer in time
            if isinstance(exc, TimeoutError) and pool.get_size() == pool.get_max_size():
                raise Problem(Kind.UNAVAILABLE, "The service is busy.", headers={"Retry-After": "1"}) from exc
            log.error("database.unreachable", error_type=type(exc).__name__)
            raise Problem(Kind.UNAVAILABLE, "The service is not available.") from exc

    async def _open(self) -> "asyncpg.Pool[Any]":
        """The pool, made when a loop runs. It connects when it has to, and closes what nobody used for five minutes."""
        settings = self._settings
        timeout_ms = str(round(settings.statement_timeout_s * 1000))
        pool = asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=0,
            max_size=settings.pool_size,
            timeout=settings.pool_timeout_s,
            max_cached_statement_lifetime=0,
            statement_cache_size=STATEMENTS_MAX,
            init=_teach,
            reset=_leave,
            server_settings={
                "statement_timeout": timeout_ms,
                "idle_in_transaction_session_timeout": timeout_ms,
                "timezone": "UTC",
            },
        )
        self._pool = await pool  # with no least number of connections this does not wait
        return self._pool


async def _teach(connection: "asyncpg.Connection[Any]") -> None:
    """A new connection learns how values travel."""
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str)
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=lambda value: encode(value).decode(), decoder=msgspec.json.decode
    )


async def _leave(_: "asyncpg.Connection[Any]") -> None:
    """Nothing to reset: no code of ours changes a session. asyncpg would pay a round trip for it each time."""


def async_url(dsn: str) -> URL:
    """The URL with which SQLAlchemy itself connects (migrations do), for a plain `postgresql://` one."""
    url = make_url(dsn.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql+asyncpg")
    # libpq's name for what asyncpg calls ssl.
    query = {("ssl" if name == "sslmode" else name): value for name, value in url.query.items()}
    return url.set(query=query)


# SQLSTATE (or its class) → what it means for a client.
_STATES = {
    "23505": (Kind.CONFLICT, "A value is taken already."),
    "23503": (Kind.CONFLICT, "Something else refers to this, or what this refers to does not exist."),
    "23": (Kind.CONFLICT, "The change breaks a rule of the data."),
    "22": (Kind.INVALID, "A value is out of range."),
    "40": (Kind.UNAVAILABLE, "The change collided with another one; try again."),
    "57014": (Kind.TIMED_OUT, "The request took too long."),
    "08": (Kind.UNAVAILABLE, "The service is not available."),
    "53": (Kind.UNAVAILABLE, "The service is busy."),
    "57": (Kind.UNAVAILABLE, "The service is not available."),
}


def translate(error: DatabaseError) -> Problem:
    """An error of the database as a problem; what cannot be the client's doing is logged, and tells nothing of the inside."""
    state = str(getattr(error, "sqlstate", None) or "")
    if isinstance(error, ValueError):  # the driver itself could not write it
        state = "22"
    if state in _STATES or state[:2] in _STATES:
        kind, detail = _STATES.get(state) or _STATES[state[:2]]
        return Problem(kind, detail)
    log.error("database.failed", sqlstate=state, error_type=type(error).__name__)
    is_lost = not isinstance(error, asyncpg.PostgresError)
    return Problem(Kind.UNAVAILABLE if is_lost else Kind.FAILED, "Something went wrong.")
