"""Artefacts in PostgreSQL, for agents that share no disk: one row each, in a schema of their own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg

from agent.artifacts.name import digest_in, name_of
from agent.artifacts.port import ArtifactMissing
from agent.errors import PermanentError, TransientError

LARGEST_BYTES = 64 * 1024**2  # a bytea goes over the wire and through memory in one piece; PostgreSQL's end is 1 GB
TIMEOUT_S = 30.0
TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)

# One lock for all who may create at the same time: IF NOT EXISTS alone raises a unique violation then.
CREATE = """
SELECT pg_advisory_xact_lock(hashtext('backwright_artifacts'));
CREATE SCHEMA IF NOT EXISTS backwright_artifacts;
CREATE TABLE IF NOT EXISTS backwright_artifacts.artifact (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    content bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS artifact_stored_at ON backwright_artifacts.artifact (stored_at);
"""
# A repeat makes it young again: somebody counts on it from now on, and `collect` sees the new time under the row lock.
PUT = """
INSERT INTO backwright_artifacts.artifact (digest, content) VALUES ($1, $2)
ON CONFLICT (digest) DO UPDATE SET stored_at = clock_timestamp()
"""
GET = "SELECT content FROM backwright_artifacts.artifact WHERE digest = $1"
HAS = "SELECT EXISTS (SELECT FROM backwright_artifacts.artifact WHERE digest = $1)"
COLLECT = """
DELETE FROM backwright_artifacts.artifact
WHERE stored_at <= clock_timestamp() - $1::interval AND NOT (digest = ANY ($2::bytea[]))
"""


class PostgresArtifacts:
    """Implements Artifacts. Connects at first use; every method raises TransientError when the store does not answer."""

    def __init__(self, dsn: str, *, pool_size: int = 4) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def put(self, content: bytes) -> str:
        """See the port. Raises PermanentError above 64 MiB."""
        if len(content) > LARGEST_BYTES:
            raise PermanentError(f"an artefact of {len(content)} bytes is larger than {LARGEST_BYTES}")
        name = name_of(content)
        async with self._connection() as connection:
            await connection.execute(PUT, _key(name), content)
        return name

    async def get(self, name: str) -> bytes:
        """See the port."""
        async with self._connection() as connection:
            content: bytes | None = await connection.fetchval(GET, _key(name))
        if content is None:
            raise ArtifactMissing(name)
        if name_of(content) != name:
            raise ArtifactMissing(f"{name} is damaged in the store")
        return content

    async def has(self, name: str) -> bool:
        """See the port."""
        async with self._connection() as connection:
            return bool(await connection.fetchval(HAS, _key(name)))

    async def collect(self, keep: frozenset[str], *, older_than_s: float) -> int:
        """See the port."""
        async with self._connection() as connection:
            done = await connection.execute(COLLECT, timedelta(seconds=older_than_s), [_key(name) for name in keep])
        return int(done.rpartition(" ")[2])

    async def close(self) -> None:
        """Disconnect; bounded in time."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                await asyncio.wait_for(pool.close(), 5)
            except TROUBLE:
                pool.terminate()

    @contextlib.asynccontextmanager
    async def _connection(self) -> "AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]":
        try:
            async with (await self._opened()).acquire(timeout=TIMEOUT_S) as connection:
                yield connection
        except TROUBLE as fault:
            raise TransientError(f"the artefact store does not answer: {fault}", retry_after_s=2.0) from fault

    async def _opened(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._opening:
            if self._pool is None:
                pool = await asyncpg.create_pool(
                    self._dsn, min_size=1, max_size=self._pool_size, timeout=10, command_timeout=TIMEOUT_S
                )
                try:
                    async with pool.acquire() as connection, connection.transaction():
                        await connection.execute(CREATE)
                except BaseException:
                    pool.terminate()
                    raise
                self._pool = pool
            return self._pool


def _key(name: str) -> bytes:
    return bytes.fromhex(digest_in(name))
