"""A trial: its own copy, commands without this machine's paths, and a log that is kept."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from agent.artifacts.memory import MemoryArtifacts
from agent.clock import SystemClock
from agent.gates.gate import Subject, Tools
from agent.gates.project import project_files
from agent.gates.trial import open_trial, read_report
from agent.sandbox.port import Command, Completed, Leash
from agent.settings import GateSettings
from contracts.delivery import GateVerdict


class Bench:
    """A sandbox that runs nothing: it notes the command and gives the next prepared ending."""

    def __init__(self, folder: Path, *endings: tuple[int, str]) -> None:
        self.folder = folder
        self.endings = list(endings)
        self.commands: list[Command] = []
        self.isolation: list[str] = []

    @asynccontextmanager
    async def scratch(self, prefix: str) -> AsyncIterator[Path]:
        folder = self.folder / f"{prefix}scratch"
        folder.mkdir()
        yield folder

    def share(self, folder: Path) -> None:
        """Nothing to share."""

    def tool(self, name: str) -> Path:
        return Path("/opt") / name

    def interpreter(self) -> Path:
        return Path("/usr/bin/python3")

    def installed(self, folder: Path) -> Path:
        return folder

    async def run(self, command: Command, *, leash: Leash) -> Completed:
        self.commands.append(command)
        exit_code, output = self.endings.pop(0)
        isolation = self.isolation.pop(0) if self.isolation else "none"
        return Completed(exit_code, output, 0.1, timed_out=False, isolation=isolation)


def bench(tmp_path: Path, *endings: tuple[int, str]) -> tuple[Subject, Tools, Bench]:
    """A project of one file, and tools around a sandbox that runs nothing."""
    project = tmp_path / "project"
    (project / "app/__pycache__").mkdir(parents=True)
    (project / "app/main.py").write_text("x = 1\n")
    (project / "app/__pycache__/main.pyc").write_bytes(b"litter")
    sandbox = Bench(tmp_path, *endings)
    tools = Tools(cast(Any, sandbox), cast(Any, None), MemoryArtifacts(), SystemClock(), Leash(), GateSettings())
    return Subject(project, tmp_path / "work", project_files(project).digest, {}), tools, sandbox


async def test_the_copy_holds_the_project_without_litter(tmp_path: Path) -> None:
    """Caches of an earlier run are not what is delivered."""
    subject, tools, _ = bench(tmp_path)

    async with open_trial("lint", subject, tools) as trial:
        found = sorted(p.relative_to(trial.project).as_posix() for p in trial.project.rglob("*"))
        assert found == ["app", "app/main.py"]
        assert trial.copied_digest == subject.digest


async def test_evidence_names_the_command_that_failed_without_our_paths(tmp_path: Path) -> None:
    """Somebody with the project repeats it; a log with everything is kept."""
    subject, tools, sandbox = bench(tmp_path, (0, "fine"), (1, "bad"), (0, "fine"))

    async with open_trial("lint", subject, tools) as trial:
        await trial.run(trial.environment.tool("ruff"), "check", trial.project / "app")
        await trial.run(trial.environment.tool("ruff"), "format", "-o", trial.folder / "out.json")
        await trial.run("/opt/machine/bin/uv", "--version", aside=True)
        evidence = await trial.evidence(False, "1 file", value=1, unit="files", threshold=0)

    assert (evidence.command, evidence.exit_code) == (("ruff", "format", "-o", "out.json"), 1)
    assert evidence.log is not None
    log = (await tools.artifacts.get(evidence.log)).decode()
    assert "$ ruff check app\nfine\n[exit code 0" in log
    assert "$ uv --version" in log
    assert sandbox.commands[0].cwd == trial.project
    assert sandbox.commands[0].environment["PATH"].startswith(str(trial.environment.folder))


async def test_a_changed_folder_fails_whatever_was_measured(tmp_path: Path) -> None:
    """Evidence older than the last edit does not count."""
    subject, tools, _ = bench(tmp_path)
    (subject.folder / "app/main.py").write_text("x = 2\n")

    async with open_trial("lint", subject, tools) as trial:
        evidence = await trial.evidence(True, "fine", value=0)

    assert (evidence.verdict, evidence.value) == (GateVerdict.FAIL, None)


async def test_a_skipped_gate_has_a_log_and_no_number(tmp_path: Path) -> None:
    """Why it was not performed can be read."""
    subject, tools, _ = bench(tmp_path)

    async with open_trial("load", subject, tools) as trial:
        evidence = await trial.skipped("nothing to load")

    assert (evidence.verdict, evidence.summary, evidence.value) == (GateVerdict.SKIPPED, "nothing to load", None)
    assert evidence.log is not None


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing", "large"])
def test_what_a_child_wrote_is_read_with_care(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to somebody's secret, a pipe that never ends, a file that fills the memory."""
    secret, path = tmp_path / "secret", tmp_path / "report.json"
    secret.write_text("secret")
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        monkeypatch.setattr("agent.gates.trial.REPORT_BYTES", 3)
        path.write_text("four")

    assert read_report(path) is None
    assert read_report(secret) in ("secret", None)


async def test_evidence_tells_the_least_confined_of_its_commands(tmp_path: Path) -> None:
    """One command without a network does not make a gate that had one."""
    subject, tools, sandbox = bench(tmp_path, (0, ""), (0, ""))
    sandbox.isolation = ["user a, network loopback only", "user a, network host"]

    async with open_trial("install", subject, tools) as trial:
        await trial.run("first", network="none")
        await trial.run("second")
        evidence = await trial.evidence(True, "fine")

    assert evidence.isolation == "user a, network host"
