"""Throwaway databases: real, nobody else's, and gone afterwards."""

import asyncio
import importlib.util
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import pytest

from agent.errors import EnvironmentUnfit
from agent.sandbox.local import LocalSandbox
from agent.sandbox.port import Command, Leash
from agent.services import embedded
from agent.services.embedded import EmbeddedPostgres
from agent.services.external import ExternalPostgres
from agent.services.port import Databases, PostgreSQL
from agent.settings import PostgresSettings, SandboxSettings
from agent.testing.waiting import eventually
from tests.postgres import PostgresServer

CROWD = """
import threading
never = threading.Event()
for _ in range(300):
    threading.Thread(target=never.wait).start()
print("here", flush=True)
"""


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[LocalSandbox]:
    """With a package cache of its own."""
    local = LocalSandbox(SandboxSettings(), tmp_path / "packages")
    yield local
    local.close()


@pytest.fixture(params=["embedded", "external"])
def databases(request: pytest.FixtureRequest, sandbox: LocalSandbox) -> Databases:
    """Both adapters."""
    if request.param == "embedded":
        return EmbeddedPostgres(sandbox, PostgresSettings())
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return ExternalPostgres(server.admin_dsn)


@pytest.fixture
async def server(databases: Databases) -> AsyncIterator[PostgreSQL]:
    """A running server of the adapter under test."""
    opened: AbstractAsyncContextManager[PostgreSQL] = databases.server(leash=Leash())
    async with opened as running:
        yield running


async def test_database_is_empty_writable_and_says_its_version(server: PostgreSQL) -> None:
    """The owner may do in it what migrations do."""
    database = await server.database()

    connection = await asyncpg.connect(database.dsn)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.execute("CREATE SCHEMA s; CREATE TABLE s.t (n int); INSERT INTO s.t VALUES (1)")
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    assert database.version.split()[0] == (await connection.fetchval("SHOW server_version")).split()[0]
    await connection.close()


async def test_databases_are_nobody_elses(server: PostgreSQL) -> None:
    """The service of one gate must not see the data of another, nor be able to read files as a superuser."""
    first, second = await asyncio.gather(server.database(), server.database())
    assert first.dsn != second.dsn
    other = first.dsn.rsplit("/", 1)[0] + "/" + second.dsn.rsplit("/", 1)[1]

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(other)
    connection = await asyncpg.connect(first.dsn)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
    await connection.close()


async def test_owner_may_create_test_databases(server: PostgreSQL) -> None:
    """A delivered service's tests make databases of their own (SERVICE_TEST_DATABASE_URL)."""
    connection = await asyncpg.connect((await server.database()).dsn)

    try:
        assert await connection.execute('CREATE DATABASE "tests of a service"') == "CREATE DATABASE"
    finally:
        await connection.close()


async def test_external_server_is_left_as_it_was(postgres_server: PostgresServer) -> None:
    """Databases, what their owners made, and the owners go, even with somebody connected."""
    count = "SELECT (SELECT count(*) FROM pg_database), (SELECT count(*) FROM pg_roles)"
    admin = await asyncpg.connect(postgres_server.admin_dsn)
    before = await admin.fetchrow(count)

    async with ExternalPostgres(postgres_server.admin_dsn).server(leash=Leash()) as server:
        connected = await asyncpg.connect((await server.database()).dsn)
        await connected.execute(f'CREATE DATABASE "made by {os.getpid()}"')
        assert await admin.fetchrow(count) != before

    assert await admin.fetchrow(count) == before
    await admin.close()
    connected.terminate()


async def test_external_server_out_of_reach_is_one_clear_line_without_the_password() -> None:
    """The message is logged and shown."""
    with pytest.raises(EnvironmentUnfit) as caught:
        async with ExternalPostgres("postgresql://me:hidden@127.0.0.1:1/none").server(leash=Leash()):
            pass

    assert "127.0.0.1:1" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "BACKWRIGHT_POSTGRES__DSN" in caught.value.remedy


async def test_embedded_server_says_what_it_does_without(sandbox: LocalSandbox) -> None:
    """Figures measured without fsync are flattered; the evidence must say so."""
    async with EmbeddedPostgres(sandbox, PostgresSettings()).server(leash=Leash()) as server:
        database = await server.database()
        connection = await asyncpg.connect(database.dsn)
        settings = [await connection.fetchval(f"SHOW {name}") for name in ("fsync", "full_page_writes")]
        await connection.close()

    assert settings == ["off", "off"]
    assert "fsync" in database.version


async def test_embedded_server_leaves_neither_process_nor_data(sandbox: LocalSandbox) -> None:
    """It is gone with the block."""
    async with EmbeddedPostgres(sandbox, PostgresSettings()).server(leash=Leash()) as server:
        dsn = (await server.database()).dsn
        assert any(path.name.startswith("pg-") for path in sandbox.base.iterdir())

    assert not any(path.name.startswith("pg-") for path in sandbox.base.iterdir())
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncpg.connect(dsn)


async def test_embedded_server_takes_another_port_when_one_is_taken(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between finding a port free and binding it somebody may take it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], embedded._free_port()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))

        async with EmbeddedPostgres(sandbox, PostgresSettings()).server(leash=Leash()) as server:
            await server.database()

    assert next(ports, None) is None, "the second port was never asked for"


async def test_embedded_server_works_from_a_closed_folder(
    sandbox: LocalSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment below /root: the binaries are copied to where the sandbox's user can execute them."""
    if os.geteuid() != 0:
        pytest.skip("a folder that is closed to the sandbox's user needs root; we are that user")
    spec = importlib.util.find_spec(embedded.PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    package, closed = Path(spec.origin).parent, tmp_path / "closed"
    ignore = shutil.ignore_patterns("pginstall", "include")
    await asyncio.to_thread(shutil.copytree, package, closed / package.name, ignore=ignore)
    await asyncio.to_thread(shutil.copytree, package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(str(closed))

    async with EmbeddedPostgres(sandbox, PostgresSettings()).server(leash=Leash()) as server:
        assert (await server.database()).version.startswith("18.")


async def test_no_binaries_is_one_clear_line(sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra may not be installed."""
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package")

    with pytest.raises(EnvironmentUnfit, match="no PostgreSQL") as caught:
        async with EmbeddedPostgres(sandbox, PostgresSettings()).server(leash=Leash()):
            pass
    assert "embedded" in caught.value.remedy


async def test_other_tasks_processes_do_not_refuse_connections(sandbox: LocalSandbox) -> None:
    """The kernel counts processes per user: a server once had `max_connections` + 64 for itself and for everybody after it."""
    settings = PostgresSettings(max_connections=20)
    async with EmbeddedPostgres(sandbox, settings).server(leash=Leash()) as server, sandbox.scratch("crowd-") as folder:
        database = await server.database()
        crowded = await sandbox.start(Command([str(sandbox.interpreter()), "-c", CROWD], cwd=folder), leash=Leash())
        try:
            await asyncio.to_thread(eventually, lambda: "here" in crowded.output())
            connection = await asyncpg.connect(database.dsn)
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
        finally:
            await crowded.stop(grace_s=0.1)
