"""Databases and roles on a PostgreSQL server that we may administer."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from agent.errors import EnvironmentUnfit
from agent.services.port import Database

NAME_PREFIX = "backwright_"
TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


@contextlib.asynccontextmanager
async def administration(dsn: str, *, timeout_s: float = 10.0) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection for administration. Raises EnvironmentUnfit, without password, whatever goes wrong in the block."""
    try:
        connection = await asyncpg.connect(dsn, timeout=timeout_s)
    except (*TROUBLE, ValueError) as fault:
        raise EnvironmentUnfit(
            f"PostgreSQL at {place(dsn)} does not answer: {fault}",
            remedy="check BACKWRIGHT_POSTGRES__DSN, or leave it unset to use the embedded server",
        ) from fault
    try:
        yield connection
    except TROUBLE as fault:
        raise EnvironmentUnfit(
            f"PostgreSQL at {place(dsn)} refused: {fault}",
            remedy="the user of the DSN needs CREATEDB and CREATEROLE",
        ) from fault
    finally:
        with contextlib.suppress(*TROUBLE):
            await connection.close(timeout=5)


async def server_version(dsn: str) -> str:
    """`18.4`. Raises EnvironmentUnfit."""
    async with administration(dsn) as connection:
        return str(await connection.fetchval("SHOW server_version")).split()[0]


async def create(dsn: str, version: str) -> Database:
    """A new database with an owner of its own, who is no superuser, may create further databases, and comes into none of ours.

    All names and the password are ours and random, so they need no quoting.
    """
    name = f"{NAME_PREFIX}{secrets.token_hex(8)}"
    password = secrets.token_hex(16)
    async with administration(dsn) as connection:
        await connection.execute(f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD '{password}'")
        await connection.execute(f"GRANT {name} TO CURRENT_USER")  # an owner may only be named by a member
        await connection.execute(f"CREATE DATABASE {name} OWNER {name} ENCODING 'UTF8' TEMPLATE template0")
        await connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    return Database(dsn=_with(dsn, user=name, password=password, database=name), version=version)


async def drop(dsn: str, database: Database) -> None:
    """Remove a database of `create`, its owner, and what that owner made, whoever is connected."""
    owner = urlsplit(database.dsn).username or ""
    async with administration(dsn) as connection:
        owned = await connection.fetch(
            "SELECT quote_ident(datname) AS name FROM pg_database WHERE datdba = (SELECT oid FROM pg_roles WHERE rolname = $1)",
            owner,
        )
        for row in owned:
            await connection.execute(f"DROP DATABASE IF EXISTS {row['name']} WITH (FORCE)")
        await connection.execute(f"DROP ROLE IF EXISTS {owner}")


def place(dsn: str) -> str:
    """Host and port of a DSN, fit for messages."""
    try:
        parts = urlsplit(dsn)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}"
    except ValueError:
        return "an address that cannot be read"


def _with(dsn: str, *, user: str, password: str, database: str) -> str:
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2] or "localhost"
    return urlunsplit(("postgresql", f"{quote(user)}:{quote(password)}@{host}", f"/{database}", parts.query, ""))
