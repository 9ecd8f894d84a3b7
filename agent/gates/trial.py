"""One run of one gate: its own copy of the project, the commands it ran, the log, and the evidence at the end."""

import asyncio
import functools
import os
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.gates.gate import Subject, Tools
from agent.gates.project import project_files
from agent.sandbox.port import Command, Completed, Limits, Running
from contracts.delivery import Evidence, GateVerdict

REPORT_BYTES = 256 * 1024**2  # Schemathesis writes every case: about 4 KiB each
CONFINED = "network loopback only"  # as the sandbox says it
ENGINE_FILES = 2**20  # as far as the machine lets us: a rootless engine cannot give its containers more than it has
LOG_BYTES = 4 * 1024**2  # what is kept of a gate's log; the head of long output is of no use without its end


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of the service under test, made once by the gate `install`."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def tool(self, name: str) -> Path:
        """A command of the environment."""
        return self.folder / "bin" / name

    def version(self, package: str) -> str | None:
        """Version of an installed package, read from its metadata folder; None if it is not there."""
        normalised = package.replace("-", "_").lower()
        for info in self.folder.glob("lib/python3*/site-packages/*.dist-info"):
            name, _, version = info.name.removesuffix(".dist-info").partition("-")
            if name.lower().replace("-", "_") == normalised:
                return version
        return None


@dataclass(slots=True)
class Trial:
    """What a gate works in; made by `open_trial`. `evidence` ends it."""

    gate: str
    subject: Subject
    tools: Tools
    folder: Path  # of this gate alone; `project` inside holds the exact files of the digest
    started_at: datetime
    started: float
    log: list[str] = field(default_factory=list)
    ran: list[tuple[tuple[str, ...], Completed]] = field(default_factory=list)
    served: tuple[str, ...] = ()  # the command of the service, for gates that run nothing else
    served_exit_code: int | None = None
    isolation: str | None = None
    copied_digest: str = ""

    @property
    def project(self) -> Path:
        """The copy that is checked."""
        return self.folder / "project"

    @property
    def environment(self) -> Environment:
        """Everything that the project's developers work with (requirements-dev.lock): checks run from it."""
        return Environment(self.installed / "venv")

    @property
    def runtime(self) -> Environment:
        """What is deployed (requirements.lock): the service itself and its migrations run from it."""
        return Environment(self.installed / "runtime")

    @property
    def installed(self) -> Path:
        """Where both lie: out of reach of the code under test, where the sandbox can do that."""
        return self.tools.sandbox.installed(self.subject.work)

    def note(self, text: str) -> None:
        """Add lines to the log."""
        self.log.append(text)

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Environment variables of every child: the service's environment first in the path, caches outside."""
        return {
            "PATH": f"{self.environment.folder}/bin:/usr/local/bin:/usr/bin:/bin",
            "VIRTUAL_ENV": str(self.environment.folder),
            "PYTHONDONTWRITEBYTECODE": "",  # empty: bytecode is kept, below the prefix, and speeds up later children
            "PYTHONPYCACHEPREFIX": str(self.subject.work / "pycache"),
            "PYTHONUNBUFFERED": "1",
            "MYPY_CACHE_DIR": str(
                self.subject.work / "mypy-cache"
            ),  # what it learnt of the packages serves the next round
            "RUFF_CACHE_DIR": str(self.folder / "ruff-cache"),
            "COVERAGE_FILE": str(self.folder / "coverage-data"),
            "NO_COLOR": "1",
            **(more or {}),
        }

    def command(
        self,
        argv: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        network: str = "host",
        time_s: float | None = None,
    ) -> Command:
        """A command in the copy of the project."""
        return Command(
            argv=[str(part) for part in argv],
            cwd=self.project,
            environment=self.variables(environment),
            network=network,
            limits=Limits(time_s=time_s or self.tools.settings.step_timeout_s),
        )

    async def run(
        self,
        *argv: str | Path,
        environment: Mapping[str, str] | None = None,
        network: str = "host",
        time_s: float | None = None,
        quiet: bool = False,
        aside: bool = False,
    ) -> Completed:
        """Run to the end and log it (`quiet`: without its output).

        The evidence names the first command that failed, else the first; never one that is run `aside`.
        """
        command = self.command(argv, environment=environment, network=network, time_s=time_s)
        return await self._run(command, quiet=quiet, aside=aside)

    async def engine(self, *argv: str, time_s: float | None = None, aside: bool = False) -> Completed:
        """Ask the container engine, as ourselves: the code under test has no way to it, and is data to it."""
        command = Command(
            argv=argv,
            cwd=self.project,
            environment={"NO_COLOR": "1"},
            engine=True,
            limits=Limits(time_s=time_s or self.tools.settings.step_timeout_s, processes=None, open_files=ENGINE_FILES),
        )
        return await self._run(command, quiet=aside, aside=aside)

    async def install(self, *argv: str | Path, environment: Mapping[str, str], aside: bool = False) -> Completed:
        """Run an installer, where no file of the project can configure it."""
        command = Command(
            argv=[str(part) for part in argv],
            cwd=self.installed,
            environment=environment,
            installer=True,
            limits=Limits(time_s=self.tools.settings.step_timeout_s),
        )
        return await self._run(command, quiet=False, aside=aside)

    async def _run(self, command: Command, *, quiet: bool, aside: bool) -> Completed:
        done = await self.tools.sandbox.run(command, leash=self.tools.leash)
        words = self.shown(command.argv)
        if not aside:
            self.ran.append((words, done))
            # Of several commands the evidence tells what held for the least confined.
            if self.isolation is None or CONFINED in self.isolation:
                self.isolation = done.isolation
        end = "timed out" if done.timed_out else f"exit code {done.exit_code}"
        output = "" if quiet and done.exit_code == 0 else f"{done.output.rstrip()}\n"
        self.note(f"$ {' '.join(words)}\n{output}[{end} after {done.duration_s:.2f} s]")
        return done

    async def start(self, *argv: str | Path, environment: Mapping[str, str] | None = None, time_s: float) -> Running:
        """Start a server in the background; the caller stops it."""
        command = self.command(argv, environment=environment, time_s=time_s)
        running = await self.tools.sandbox.start(command, leash=self.tools.leash)
        self.isolation = running.isolation
        self.served = self.shown(command.argv)
        self.note(f"$ {' '.join(self.served)} &")
        return running

    def shown(self, argv: Sequence[str]) -> tuple[str, ...]:
        """A command as somebody would type it in the project's folder: no paths of this machine."""
        short = [
            (f"{self.environment.folder}/bin/", ""),
            (f"{self.runtime.folder}/bin/", ""),
            (f"{self.project}/", ""),
            (str(self.project), "."),
            (f"{self.installed}/", ""),
            (f"{self.folder}/", ""),
            (f"{self.subject.work}/", ""),
        ]
        words = [_replaced(part, short) for part in argv]
        return (words[0].rpartition("/")[2], *words[1:])

    async def evidence(
        self,
        passed: bool,
        summary: str,
        *,
        value: float | str | bool | None = None,
        unit: str | None = None,
        threshold: float | str | bool | None = None,
        tool: str | None = None,
        tool_version: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Evidence:
        """Store the log and say what was measured. A copy that is not the digest's fails whatever was measured."""
        if self.copied_digest != self.subject.digest:
            return await self._evidence(GateVerdict.FAIL, "the folder changed after its digest was taken", details={})
        return await self._evidence(
            GateVerdict.PASS if passed else GateVerdict.FAIL,
            summary,
            value=value,
            unit=unit,
            threshold=threshold,
            tool=tool,
            tool_version=tool_version or (self._version(tool) if tool else None),
            details=dict(details or {}),
        )

    def _version(self, package: str) -> str | None:
        return self.environment.version(package) or self.runtime.version(package)

    async def skipped(self, reason: str, *, details: Mapping[str, Any] | None = None) -> Evidence:
        """Not performed, and why; no number."""
        return await self._evidence(GateVerdict.SKIPPED, reason, details=dict(details or {}))

    async def _evidence(self, verdict: GateVerdict, summary: str, **measured: Any) -> Evidence:
        self.note(f"{verdict.value}: {summary}")
        log = "\n\n".join(self.log).encode()[-LOG_BYTES:]
        failed = [(words, done) for words, done in self.ran if done.exit_code]
        named = failed if failed and verdict is GateVerdict.FAIL else self.ran
        command, exit_code = (named[0][0], named[0][1].exit_code) if named else (self.served, self.served_exit_code)
        return Evidence(
            gate=self.gate,
            verdict=verdict,
            summary=summary,
            command=command,
            exit_code=exit_code,
            started_at=self.started_at,
            duration_s=round(self.tools.clock.monotonic() - self.started, 3),
            subject_digest=self.subject.digest,
            isolation=self.isolation,
            log=await self.tools.artifacts.put(log),
            **measured,
        )


Check = Callable[[Subject, Tools], Coroutine[Any, Any, Evidence]]


def measured(gate: str) -> Callable[[Callable[[Trial], Coroutine[Any, Any, Evidence]]], Check]:
    """Turn a check of a trial into the check of a gate: a fresh trial around it, removed at the end."""

    def decorate(check: Callable[[Trial], Coroutine[Any, Any, Evidence]]) -> Check:
        @functools.wraps(check)
        async def run(subject: Subject, tools: Tools) -> Evidence:
            async with open_trial(gate, subject, tools) as trial:
                return await check(trial)

        return run

    return decorate


@asynccontextmanager
async def open_trial(gate: str, subject: Subject, tools: Tools) -> AsyncIterator[Trial]:
    """A folder with a copy of the project, under a name that no other child knows. Raises OSError, UnsafePath."""
    started_at, started = tools.clock.now(), tools.clock.monotonic()
    async with tools.sandbox.scratch(f"{gate}-") as folder:
        trial = Trial(gate, subject, tools, folder, started_at, started)
        files = await asyncio.to_thread(project_files, subject.folder)
        trial.project.mkdir()
        files.write(trial.project)
        trial.copied_digest = files.digest
        tools.sandbox.share(folder)
        yield trial


def read_report(path: Path) -> str | None:
    """Text of a file that a child wrote; None if it is not there, no plain file, or larger than anybody would write.

    The child is not trusted: a symbolic link in its folder must not make us read what it may not.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > REPORT_BYTES:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(REPORT_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)


def last_line(output: str) -> str:
    """The last line with something in it, for a summary; at most 200 characters, printable."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "".join(c if c.isprintable() else "?" for c in lines[-1][:200]) if lines else "no output"


def _replaced(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text
