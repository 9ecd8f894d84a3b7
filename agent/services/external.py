"""Throwaway databases on a server that somebody else runs (BACKWRIGHT_POSTGRES__DSN)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from agent.errors import EnvironmentUnfit
from agent.sandbox.port import Leash
from agent.services import databases
from agent.services.port import Database, PostgreSQL

log = structlog.get_logger()


class ExternalPostgres:
    """Implements Databases. An agent that is killed leaves its databases (`backwright_…`) behind on that server."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    @contextlib.asynccontextmanager
    async def server(self, *, leash: Leash) -> AsyncIterator[PostgreSQL]:
        """See the port. There is no process to tie, so `leash` is not used."""
        server = _Server(self._dsn, await databases.server_version(self._dsn))
        try:
            yield server
        finally:
            await asyncio.shield(server.drop_all())


class _Server:
    def __init__(self, dsn: str, version: str) -> None:
        self._dsn = dsn
        self._version = version
        self._made: list[Database] = []

    @property
    def version(self) -> str:
        """See the port."""
        return f"{self._version} (given server)"

    async def database(self) -> Database:
        """See the port."""
        made = await databases.create(self._dsn, self.version)
        self._made.append(made)
        return made

    async def drop_all(self) -> None:
        """Drop what was made; a server that went away keeps it, and the log says so."""
        while self._made:
            database = self._made.pop()
            try:
                await databases.drop(self._dsn, database)
            except EnvironmentUnfit as fault:
                log.warning("database.left_behind", reason=str(fault))
