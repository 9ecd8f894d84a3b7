"""The connections of the PostgreSQL journal: a few for the event loop, one for each loop that renews leases.

Not asyncpg's pool: it makes two asyncio tasks for every use, and a use is one statement as a rule (49 us of CPU for the
smallest one with the pool, 26 us without; medians of 4 alternating).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

from agent.errors import JournalUnavailable
from agent.journal.postgres.session import SCHEMA, Connection, translated
from agent.settings import JournalSettings


class Connections:
    """At most `pool_size` connections, the one used last first: it has its statements prepared."""

    def __init__(self, dsn: str, settings: JournalSettings) -> None:
        self._dsn = dsn
        self._timeout_s = settings.statement_timeout_s
        self._size = settings.pool_size
        self._free: list[Connection] = []
        self._places = asyncio.Semaphore(self._size)
        self._is_open = False

    @property
    def place(self) -> str:
        """Where they lead, without the password."""
        url = urlsplit(self._dsn)
        return f"{url.hostname or 'localhost'}:{url.port or 5432}{url.path}"

    async def connect(self) -> Connection:
        """A new connection that belongs to the caller. Raises what asyncpg raises."""
        timeout_ms = str(int(self._timeout_s * 1000))
        return await asyncpg.connect(
            self._dsn,
            timeout=self._timeout_s,
            command_timeout=self._timeout_s + 1,
            server_settings={
                "application_name": "backwright",
                "search_path": SCHEMA,
                "statement_timeout": timeout_ms,
                "lock_timeout": timeout_ms,
                # A process that was stopped in the middle of a transaction must not keep its locks.
                "idle_in_transaction_session_timeout": timeout_ms,
                "synchronous_commit": "on",
                # Arrays of any length are given: a plan for each would cost more than most statements.
                "plan_cache_mode": "force_generic_plan",
                # Plans are made when the tables are empty, where reading the whole of one seems cheapest, and are kept
                # while it grows: until autovacuum analysed, an attempt's write read all tasks and all requests.
                "enable_seqscan": "off",
                "jit": "off",  # a plan that has no other way looks costly enough to be compiled
            },
        )

    async def open(self) -> None:
        """Make them all: a first burst of work does not wait for handshakes."""
        with translated():
            while len(self._free) < self._size:
                self._free.append(await self.connect())
        self._is_open = True

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Connection]:
        """A connection for a while. Raises JournalUnavailable or EnvironmentUnfit, also for what happens meanwhile."""
        with translated():
            async with self._place():
                if not self._is_open:
                    raise JournalUnavailable("the journal is not open")
                connection = self._usable() or await self.connect()
                try:
                    yield connection
                except asyncpg.PostgresError:
                    self._give_back(connection)
                    raise
                except BaseException:
                    connection.terminate()  # it may be in the middle of an answer
                    raise
                self._give_back(connection)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._places.locked():
            async with asyncio.timeout(self._timeout_s):
                await self._places.acquire()
        else:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    def _usable(self) -> Connection | None:
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
        return None

    def _give_back(self, connection: Connection) -> None:
        if connection.is_closed() or connection.is_in_transaction() or not self._is_open:
            connection.terminate()
        else:
            self._free.append(connection)

    async def close(self) -> None:
        """Close those that are free; those in use are closed when they are given back."""
        self._is_open = False
        with translated():
            while self._free:
                connection = self._free.pop()
                try:
                    await connection.close(timeout=self._timeout_s)
                finally:
                    connection.terminate()
