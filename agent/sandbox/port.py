"""Running a child process that is not trusted: its environment, user, limits and its end.

Every child is started through the guardian (guardian.py), which kills the child with all its descendants when we
die (its pipe closes), when the attempt stops renewing (the leash's deadline passes), or when we say so.
"""

import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Leash:
    """Ties children to an attempt: `path` holds a deadline (CLOCK_BOOTTIME seconds, text) that the attempt moves on
    with each renewal. None: they live as long as this process."""

    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one child."""

    time_s: float = 300.0
    memory_bytes: int = 4 * 1024**3  # address space
    open_files: int = 4096
    processes: int | None = (
        512  # more than the user has at the start; None: not bounded, for a program that bounds itself
    )
    file_bytes: int = 2 * 1024**3
    spare_bytes: int = 128 * 1024**2  # of the disk that the journal may share; less, and the child is killed
    output_bytes: int = 4 * 1024**2  # of stdout and stderr kept; the tail is what is kept


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `environment` is added to the allow-listed base environment; nothing else is inherited."""

    argv: Sequence[str]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str = "host"  # "host", or "none" where the machine can enforce it
    installer: bool = False  # our index, proxy and certificate settings, the package cache, a user of its own
    engine: bool = False  # a client of our container engine: as ourselves. It executes nothing of the project itself
    limits: Limits = Limits()
    stop_signal: int = signal.SIGTERM  # what asks this program to end
    needs_name: bool = False  # it looks its user up in /etc/passwd; a container's bare uid gets a stand-in
    farewell_s: float = 0.0  # given after `stop_signal` when agent, leash or time ends; 0: killed at once


@dataclass(frozen=True, slots=True)
class Completed:
    """A child that ended. `output` is stdout and stderr together, decoded with replacement, cut to the limit."""

    exit_code: int  # negative: killed by that signal
    output: str
    duration_s: float
    timed_out: bool
    isolation: str  # what was in force: user, network, limits


class Running(Protocol):
    """A child in the background, for servers."""

    @property
    def isolation(self) -> str:
        """What is in force."""

    def exit_code(self) -> int | None:
        """None while it runs."""

    def output(self) -> str:
        """Tail of its output so far."""

    async def wait(self) -> int:
        """Until it ends by itself (or by its limits); the exit code. Cancelling the wait does not stop it."""

    async def stop(self, *, grace_s: float = 5.0) -> int:
        """Its stop signal, then SIGKILL to all of its descendants after `grace_s`; returns the exit code.

        Idempotent. When it returns no descendant is left, also if the await was cancelled.
        """


class Sandbox(Protocol):
    """Starts children."""

    async def run(self, command: Command, *, leash: Leash) -> Completed:
        """Run to its end. A cancelled await kills the child and its descendants before it returns.

        Raises EnvironmentUnfit when it cannot be started at all.
        """

    async def start(self, command: Command, *, leash: Leash) -> Running:
        """Start in the background."""

    def share(self, folder: Path) -> None:
        """Make `folder` (ours, made by mkdtemp) usable by the sandbox user: chown when we are root, else nothing."""

    def scratch(self, prefix: str) -> AbstractAsyncContextManager[Path]:
        """A fresh folder that the sandbox user can use, wherever our workspace lies; removed when the block ends."""

    def installed(self, folder: Path) -> Path:
        """Where installers put what children that work in `folder` (of `scratch`) execute; removed with it.

        Children cannot write to it where installers have a user of their own; elsewhere it is `folder` itself.
        """

    def interpreter(self) -> Path:
        """A Python (3.11 to 3.13, our own minor version if possible) that the sandbox user can execute.

        Raises EnvironmentUnfit.
        """

    def tool(self, name: str) -> Path:
        """An executable of our own environment (`uv`, `ruff`) at a place where the sandbox user can execute it.

        For self-contained binaries, not for Python scripts. Raises EnvironmentUnfit.
        """

    def readable(self, folder: Path) -> Path:
        """`folder` (of our own installation) if the sandbox user can read it, else a copy under the same name.

        Copies lie beside each other and live as long as this process. Blocking.
        """
