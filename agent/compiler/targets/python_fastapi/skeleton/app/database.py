"""The database: an engine whose single statements run on their own, and transactions for several.

Measured: a transaction around a single SELECT costs more than half of the throughput. So the engine is in autocommit
mode and nothing is rolled back on return; `begin` opens a real transaction and commits before the response is sent.

Having no connection is a problem of ours, told as such (503): what a caller of `read` or `begin` sees as TimeoutError
is never the database's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import Kind, Problem
from app.settings import Settings
from app.values import encode

log = structlog.get_logger()


def async_url(dsn: str) -> URL:
    """The URL of the asynchronous driver for a plain `postgresql://` one."""
    url = make_url(dsn.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql+asyncpg")
    # libpq's name for what asyncpg calls ssl.
    query = {("ssl" if name == "sslmode" else name): value for name, value in url.query.items()}
    return url.set(query=query)


class Database:
    """The pool of connections. `read` for single statements, `begin` for several that belong together."""

    def __init__(self, settings: Settings) -> None:
        timeout_ms = str(round(settings.statement_timeout_s * 1000))
        self.engine: AsyncEngine = create_async_engine(
            async_url(settings.database_url.get_secret_value()),
            pool_size=settings.pool_size,
            max_overflow=settings.pool_overflow,
            pool_timeout=settings.pool_timeout_s,
            pool_reset_on_return=None,
            pool_pre_ping=False,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            json_serializer=lambda value: encode(value).decode(),
            connect_args={
                "timeout": settings.pool_timeout_s,
                "server_settings": {
                    "statement_timeout": timeout_ms,
                    "idle_in_transaction_session_timeout": timeout_ms,
                    "timezone": "UTC",
                },
            },
        )
        self._transactional = self.engine.execution_options(isolation_level="READ COMMITTED")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which every statement commits by itself. Raises Problem: there is none to be had."""
        connection = await self._connect(self.engine)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, rolled back on any exception. Raises Problem: no connection."""
        connection = await self._connect(self._transactional)
        try:
            async with connection.begin():
                yield connection
        finally:
            await connection.close()

    async def _connect(self, engine: AsyncEngine) -> AsyncConnection:
        try:
            return await engine.connect()
        except PoolTimeout as exc:
            raise Problem(Kind.UNAVAILABLE, "The service is busy.", headers={"Retry-After": "1"}) from exc
        except OSError as exc:  # refused, reset, or (TimeoutError is one) no answer
            log.error("database.unreachable", error_type=type(exc).__name__)
            raise Problem(Kind.UNAVAILABLE, "The service is not available.") from exc

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
