"""The database: an engine whose single statements run on their own, and transactions for several.

Measured: a transaction around a single SELECT costs more than half of the throughput. So the engine is in autocommit
mode and nothing is rolled back on return; `begin` opens a real transaction and commits before the response is sent.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.settings import Settings
from app.values import encode


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
        """A connection on which every statement commits by itself."""
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, rolled back on any exception."""
        async with self._transactional.begin() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
