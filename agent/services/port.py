"""Throwaway services for the code under test."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from agent.sandbox.port import Leash


@dataclass(frozen=True, slots=True)
class Database:
    """An empty PostgreSQL database that is nobody else's. `dsn`: postgresql://user:password@host:port/name."""

    dsn: str
    version: str


class PostgreSQL(Protocol):
    """A running throwaway server."""

    @property
    def version(self) -> str:
        """Server version, for example 18.4."""

    async def database(self) -> Database:
        """A new, empty database."""


class Databases(Protocol):
    """Makes throwaway servers: embedded binaries, or databases on a server given by DSN."""

    def server(self, *, leash: Leash) -> AbstractAsyncContextManager[PostgreSQL]:
        """Start one; it and its data are gone when the block ends. Raises EnvironmentUnfit."""
