"""Children on this machine, each behind a guardian (guardian.py). The threat model stands in the README beside."""

import asyncio
import contextlib
import ctypes
import functools
import json
import os
import secrets
import shutil
import signal
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from agent.errors import EnvironmentUnfit
from agent.sandbox import environment
from agent.sandbox.accounts import (
    Account,
    choose,
    find_interpreter,
    installer_beside,
    ourselves,
    stand_in,
    temporary_folder,
)
from agent.sandbox.folders import Base, give, make_passable, open_up, remove_tree, sweep
from agent.sandbox.port import Command, Completed, Leash
from agent.sandbox.tail import Tail
from agent.settings import SandboxSettings

GUARDIAN = Path(__file__).with_name("guardian.py")
START_TIMEOUT_S = 30.0  # the guardian itself needs 0.03 s; a machine under load needs patience
PR_SET_DUMPABLE = 4
DISK_FULL = b"\n[killed: the disk is nearly full]\n"
T = TypeVar("T")


class LocalSandbox:
    """Starts children through guardians, as another user when we are root."""

    def __init__(
        self, settings: SandboxSettings, package_cache: Path, *, own_environment: Mapping[str, str] | None = None
    ) -> None:
        """`package_cache`: where installers keep packages, shared by all tasks.

        `own_environment` (default: this process's) is what installers' settings are taken from.
        """
        self._settings = settings
        self._own_environment = dict(os.environ if own_environment is None else own_environment)
        self._wanted_package_cache = package_cache
        self._base: Base | None = None
        self._making = threading.RLock()

    async def run(self, command: Command, *, leash: Leash) -> Completed:
        """See the port."""
        started = time.monotonic()
        child = await self.start(command, leash=leash)
        try:
            exit_code = await child.wait()
        finally:
            await child.kill()
        return Completed(
            exit_code=exit_code,
            output=child.output(),
            duration_s=time.monotonic() - started,
            timed_out=child.timed_out,
            isolation=child.isolation,
        )

    async def start(self, command: Command, *, leash: Leash) -> "LocalRunning":
        """See the port."""
        order = await asyncio.to_thread(self._order, command, leash)
        return await LocalRunning.launch(order, output_bytes=command.limits.output_bytes)

    def share(self, folder: Path) -> None:
        """See the port. Raises EnvironmentUnfit where the user could not even come to the folder."""
        self._own(folder, self.account)

    def _own(self, folder: Path, account: Account) -> None:
        if account.uid is None or account.gid is None:
            return
        give(folder, account.uid, account.gid)
        if not account.reaches(folder):
            raise EnvironmentUnfit(
                f"user {account.name!r} cannot reach a folder that children are to work in",
                remedy="use sandbox.scratch(), or a workspace that is not below a folder closed to others",
            )

    @contextlib.asynccontextmanager
    async def scratch(self, prefix: str) -> AsyncIterator[Path]:
        """See the port."""

        def make() -> Path:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.base))
            self.share(folder)
            return folder

        folder = await asyncio.to_thread(make)
        try:
            yield folder
        finally:
            await _uninterrupted(asyncio.to_thread(remove_tree, folder))
            await _uninterrupted(asyncio.to_thread(remove_tree, _beside(folder)))

    def installed(self, folder: Path) -> Path:
        """See the port."""
        if self.installer == self.account:
            return folder
        beside = _beside(folder)
        with self._making:
            if not beside.exists():
                beside.mkdir(mode=0o755)
                beside.chmod(0o755)
                # uv reads the nearest configuration above where it runs: this one, so that nobody can plant another.
                (beside / "uv.toml").touch()
                self._own(beside, self.installer)
        return beside

    def interpreter(self) -> Path:
        """See the port."""
        if found := find_interpreter(self.account):
            return found
        raise EnvironmentUnfit(
            f"user {self.account.name!r} can execute no Python 3.11 to 3.13",
            remedy="install one for all users (Debian, Ubuntu: apt install python3), run as an ordinary user, "
            "or set BACKWRIGHT_SANDBOX__ALLOW_ROOT=true",
        )

    def tool(self, name: str) -> Path:
        """See the port."""
        found = Path(sysconfig.get_path("scripts")) / name
        if not found.is_file():
            other = shutil.which(name)
            if other is None:
                raise EnvironmentUnfit(f"{name} is not installed", remedy="make install")
            found = Path(other)
        return found if self.account.reaches(found, access=os.R_OK | os.X_OK) else self._copy_of(found.resolve())

    def readable(self, folder: Path) -> Path:
        """See the port."""
        if self.account.reaches(folder):
            return folder
        with self._making:
            copy = self._folder("copies") / folder.name
            if not copy.exists():
                fresh = copy.with_name(f".{folder.name}-{secrets.token_hex(4)}")
                shutil.copytree(folder, fresh)
                open_up(fresh)
                fresh.rename(copy)
            return copy

    @functools.cached_property
    def account(self) -> Account:
        """Who runs children. Raises EnvironmentUnfit."""
        return choose(self._settings)

    @functools.cached_property
    def installer(self) -> Account:
        """Who runs installers. Raises EnvironmentUnfit."""
        return installer_beside(self.account)

    @property
    def base(self) -> Path:
        """Below it lie homes, scratch folders and copied tools; gone when this process ends, however it ends."""
        with self._making:  # children are ordered from several threads
            if self._base is None:
                inside = temporary_folder(self.account)
                sweep(inside)
                self._base = Base(others_pass=self.account.uid is not None, inside=inside)
            return self._base.path

    @functools.cached_property
    def package_cache(self) -> Path:
        """The package cache, made and owned by the installer; elsewhere if it cannot come to the wanted one.

        Packages that somebody else could write are not taken over: their hashes were checked when they came, not since.
        """
        installer = self.installer
        for folder in (self._wanted_package_cache.absolute(), Path("/var/cache/backwright/packages")):
            try:
                make_passable(folder.parent)
                folder.mkdir(exist_ok=True)
            except OSError:
                continue
            if installer.uid is None or installer.reaches(folder.parent, access=os.X_OK):
                if installer.uid is not None and folder.stat().st_uid != installer.uid:
                    remove_tree(folder)
                    folder.mkdir(exist_ok=True)
                    self._own(folder, installer)
                return folder
        folder = Path(tempfile.mkdtemp(prefix="packages-", dir=self.base))
        self._own(folder, installer)
        return folder

    def close(self) -> None:
        """Remove what this sandbox made. Blocking; running children are not touched."""
        if self._base is not None:
            self._base.remove()
            self._base = None

    def _order(self, command: Command, leash: Leash) -> dict[str, Any]:
        """What the guardian reads (guardian.Order)."""
        if not command.argv:
            raise EnvironmentUnfit("an empty command cannot be started")
        account, base = self.installer if command.installer else self.account, self.base
        home = base / f"home-{secrets.token_hex(6)}"
        values, files = environment.base(home), dict[str, str]()
        if command.engine:
            account = ourselves()
            values |= environment.engine(self._own_environment)
        elif command.installer:
            kept, files = environment.installer(self._own_environment, home, self.package_cache, account)
            values |= kept
        limits = command.limits
        return {
            "argv": list(command.argv),
            "cwd": str(command.cwd),
            "environment": values | dict(command.environment),
            "network": command.network,
            "home": str(home),
            "files": files,
            "remove": [],
            "orphaned": [str(base)],
            "uid": account.uid,
            "gid": account.gid,
            "alias": stand_in(account, self._settings) if command.needs_name else None,
            "user": account.name,
            "may_gain": command.engine,
            "leash": None if leash.path is None else str(leash.path.absolute()),
            "stop_signal": int(command.stop_signal),
            "grace_s": 5.0,
            "farewell_s": command.farewell_s,
            "time_s": limits.time_s,
            "memory_bytes": min(limits.memory_bytes, self._settings.memory_bytes),
            "open_files": limits.open_files,
            "processes": None if limits.processes is None else min(limits.processes, self._settings.processes),
            "file_bytes": limits.file_bytes,
            "spare_bytes": limits.spare_bytes,
        }

    def _copy_of(self, executable: Path) -> Path:
        with self._making:
            copy = self._folder("tools") / executable.name
            if not copy.exists():
                fresh = copy.with_name(f".{executable.name}-{secrets.token_hex(4)}")
                shutil.copyfile(executable, fresh)
                fresh.chmod(0o755)
                fresh.replace(copy)
            return copy

    def _folder(self, name: str) -> Path:
        folder = self.base / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # whatever our umask is
        return folder


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.installed")


@dataclass(frozen=True, slots=True)
class Ended:
    """The guardian's last word. `cause`: exit, stopped, time, leash, disk, agent, or lost (the guardian was killed)."""

    exit_code: int
    cause: str


class LocalRunning:
    """A child and its guardian. One task (`_follow`) owns the pipes; everything else only speaks and waits."""

    def __init__(self, process: asyncio.subprocess.Process, order: Mapping[str, Any], output_bytes: int) -> None:
        self._process = process
        self._order = order
        self._tail = Tail(output_bytes)
        self._isolation = ""
        self._pid = 0
        self._control: asyncio.WriteTransport | None = None
        self._doomed = False
        self._ended: Ended | None = None
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end: asyncio.Task[Ended] | None = None

    @classmethod
    async def launch(cls, order: Mapping[str, Any], *, output_bytes: int) -> "LocalRunning":
        """Start a guardian with this order; returns when the child runs. Raises EnvironmentUnfit."""
        control_read, control_write = os.pipe2(os.O_CLOEXEC)
        status_read, status_write = os.pipe2(os.O_CLOEXEC)
        control, status = os.fdopen(control_write, "wb", 0), os.fdopen(status_read, "rb", 0)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(GUARDIAN), str(control_read), str(status_write),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(control_read, status_write),
                env={},
                cwd="/",
            )  # fmt: skip
        except BaseException as fault:
            control.close()
            status.close()
            if isinstance(fault, OSError):
                raise EnvironmentUnfit(f"no process can be started: {fault.strerror}") from fault
            raise
        finally:
            os.close(control_read)
            os.close(status_write)
        child = cls(process, order, output_bytes)
        child._end = asyncio.create_task(child._follow(control, status), name=f"child {order['argv'][0]}")
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the start.
            async with asyncio.timeout(START_TIMEOUT_S):
                await asyncio.shield(child._started)
        except BaseException as fault:
            await child.kill()
            if isinstance(fault, TimeoutError):
                raise EnvironmentUnfit(f"no child within {START_TIMEOUT_S:g} s; the machine is overloaded") from fault
            raise
        return child

    @property
    def isolation(self) -> str:
        """See the port."""
        return self._isolation

    @property
    def pid(self) -> int:
        """Of the child itself (not of its guardian); for fault tests that stop and continue it."""
        return self._pid

    @property
    def timed_out(self) -> bool:
        """Whether the time limit ended it."""
        return self._ended is not None and self._ended.cause == "time"

    def exit_code(self) -> int | None:
        """See the port."""
        return None if self._ended is None else self._ended.exit_code

    def output(self) -> str:
        """See the port."""
        return self._tail.text()

    async def wait(self) -> int:
        """See the port."""
        assert self._end is not None, "set by launch()"
        return (await asyncio.shield(self._end)).exit_code

    async def stop(self, *, grace_s: float = 5.0) -> int:
        """See the port. A cancelled stop has no patience left: it kills."""
        self._say(f"stop {self._order['stop_signal']} {grace_s}")
        try:
            return await self.wait()
        except asyncio.CancelledError:
            await self.kill()
            raise

    async def kill(self) -> None:
        """SIGKILL to it and all of its descendants; returns when none is left. Idempotent."""
        if self._ended is None and self._end is not None:
            self._doomed = True
            self._say(f"stop {int(signal.SIGKILL)} 0")
            await _uninterrupted(self._end)

    def _say(self, line: str) -> None:
        if self._control is not None and not self._control.is_closing():
            self._control.write(f"{line}\n".encode())

    async def _follow(self, control: BinaryIO, status: BinaryIO) -> Ended:
        """Hand over the order, then listen until the guardian has ended."""
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader()
        pump = asyncio.create_task(self._pump())
        with control, status:
            self._control, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, control)
            reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), status)
            try:
                if self._doomed:
                    self._control.abort()
                self._say(json.dumps(self._order))
                ended = await self._listen(lines)
                await self._process.wait()
                await asyncio.wait([pump], timeout=2)  # not for ever: a descendant may have given its output away
            finally:
                # Also when this task is cancelled (the loop ends): an end-of-file, and the guardian kills.
                if not self._control.is_closing():  # it closes itself when the guardian's end goes
                    self._control.abort()
                reading.close()
                pump.cancel()
        self._ended = ended
        if not self._started.done():
            reason = self.output().strip()[-500:] or "its guardian could not be run"
            self._started.set_exception(EnvironmentUnfit(f"{self._order['argv'][0]} cannot be started: {reason}"))
        return ended

    async def _listen(self, lines: asyncio.StreamReader) -> Ended:
        """Take the guardian's messages; without a last word it was killed itself."""
        while line := await lines.readline():
            message = json.loads(line)
            if "started" in message:
                self._isolation, self._pid = message["started"]["isolation"], message["started"]["pid"]
                self._started.set_result(None)
            elif "failed" in message:
                reason = f"{self._order['argv'][0]} cannot be started: {message['failed']}"
                self._started.set_exception(EnvironmentUnfit(reason))
            else:
                ended = Ended(**message["ended"])
                if ended.cause == "disk":
                    self._tail.add(DISK_FULL)
                return ended
        return Ended(-signal.SIGKILL, "lost")

    async def _pump(self) -> None:
        assert self._process.stdout is not None, "asked for by launch()"
        while chunk := await self._process.stdout.read(65536):
            self._tail.add(chunk)


def hide_from_children() -> None:
    """Close /proc/<us>/environ and our memory to other processes of our own user (PR_SET_DUMPABLE 0).

    For the agent as an ordinary user: its children have the same user, and without this they could read the secrets
    that their own environment is kept free of. To be called once, early, by the composition root. Irrelevant as root.
    """
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


async def _uninterrupted(work: Awaitable[T]) -> T:
    """Await `work` to its end, whatever cancels us meanwhile; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    return task.result()
