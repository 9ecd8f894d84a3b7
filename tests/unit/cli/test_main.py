"""What somebody meets who types something wrong, or has no broker: one line, its remedy, the right exit code."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog
import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command

from agent.bus.embedded import EmbeddedBroker, embedded_settings
from agent.cli import journal_commands
from agent.cli.common import PIPE_COLUMNS, Exit, Output, Panel
from agent.cli.demo import DEMO_DOCUMENT
from agent.cli.main import app, main
from agent.cli.outgoing import request
from agent.clock import SystemClock
from agent.journal.port import NewTask, Origin
from agent.journal.sqlite import SqliteJournal
from agent.settings import KafkaSettings, Settings
from contracts import topics
from contracts.codec import task_id
from contracts.tasks import Specification, TaskRequested

TASK = "46354b4c-2128-5e7a-a3fa-bccee6a713e6"


class Said(NamedTuple):
    code: object
    out: str
    err: str


Typed = Callable[..., Said]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Typed]:
    """`typed("cancel", "abc")`: that command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    before = structlog.get_config()

    def run(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["backwright", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return Said(ended.value.code, *capsys.readouterr())

    yield run
    structlog.configure(**before)


@pytest.mark.parametrize("words", [("watch", "abc"), ("cancel", ""), ("reprioritise", TASK.upper(), "3")])
def test_what_is_no_task_id_is_said_to_be_none(typed: Typed, words: tuple[str, ...]) -> None:
    """Not as the pattern of a contract, and not by watching for ever what cannot come."""
    said = typed(*words)

    assert said.code == Exit.BAD_INPUT
    assert "is no id of a task" in said.err
    assert "`backwright tasks` lists them" in said.err


@pytest.mark.parametrize("command", [("submit",), ("compile", "--out", "x")])
def test_a_name_that_no_service_may_have_is_refused_before_any_work(typed: Typed, command: tuple[str, ...]) -> None:
    """The same rule with a bus and without one."""
    said = typed(*command, str(DEMO_DOCUMENT), "--service", "Bad Name")

    assert said.code == Exit.BAD_INPUT
    assert "'Bad Name' is no service name" in said.err
    assert not Path("x").exists()


@pytest.mark.parametrize("command", ["verify", "serve"])
def test_a_folder_that_is_no_service_is_bad_input(typed: Typed, command: str) -> None:
    """The environment is not at fault."""
    said = typed(command, "nowhere")

    assert said.code == Exit.BAD_INPUT
    assert "remedy: name the folder" in said.err


def test_facts_that_cannot_be_read_are_bad_input(typed: Typed) -> None:
    """Before the bus is asked for anything."""
    Path("facts.yaml").write_text("- [")

    said = typed("context-manager", "--facts", "facts.yaml")

    assert said.code == Exit.BAD_INPUT
    assert "deploy/context.yaml" in said.err


def test_a_journal_that_is_none_is_the_environments_fault(typed: Typed) -> None:
    """One line and what to do, as for a journal that is not there."""
    Path("workspace").mkdir()
    Path("workspace/journal.sqlite").write_text("somebody's notes, not a database " * 100)

    said = typed("tasks")

    assert said.code == Exit.ENVIRONMENT
    assert "workspace/journal.sqlite cannot be read: file is not a database\n  remedy: " in said.err
    assert "Traceback" not in said.err


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of ours on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize(
    "words", [("submit", str(DEMO_DOCUMENT)), ("watch", TASK), ("cancel", TASK), ("topics", "check")]
)
def test_without_a_broker_one_is_told_how_to_get_one(
    typed: Typed, words: tuple[str, ...], closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the representation of a foreign exception, and with the client's reason as a line of ours."""
    monkeypatch.setenv("BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{closed_port}")

    said = typed(*words)

    assert said.code == Exit.ENVIRONMENT
    assert "backwright: the bus is out of reach" in said.err
    assert "BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS" in said.err
    assert f'aiokafka: Unable connect to "127.0.0.1:{closed_port}"' in said.err
    assert "KafkaConnectionError" not in said.err


async def test_a_document_that_no_record_can_hold_is_refused_with_the_setting_to_raise(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The broker's limit is known before anything is sent."""
    payload = TaskRequested(specification=Specification(content="x" * 20_000))
    async with EmbeddedBroker() as servers:
        kafka = embedded_settings(servers, KafkaSettings(max_request_bytes=10_000))
        with pytest.raises(typer.Exit) as ended:
            await request(Settings(workspace=tmp_path, kafka=kafka), payload)

    assert ended.value.exit_code == Exit.BAD_INPUT
    assert "at most 10000 are allowed" in (said := capsys.readouterr().err)
    assert "BACKWRIGHT_KAFKA__MAX_REQUEST_BYTES" in said


async def _accept(workspace: Path, *keys: str) -> None:
    """The journal of an agent that accepted a task under each ordering key."""
    journal = SqliteJournal(workspace / "journal.sqlite", SystemClock())
    await journal.open()
    origin = Origin(topics.TASKS.name, 0, 1, 0, b"k", (), b"{}")
    await journal.accept(
        [NewTask(task_id("/t", key), "/t", key, "d", "build", key, b"{}", {"id": key}, origin) for key in keys]
    )
    await journal.close()


def test_what_is_logged_is_no_result_and_a_warning_comes_once(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    """stdout may be read by a program; a client that tries again and again must not flood the terminal."""
    typed("--version")

    for _ in range(3):
        logging.getLogger("aiokafka.conn").error("Unable connect to %s", "[red]node 1")
    structlog.get_logger().debug("bus.close_failed")
    structlog.get_logger().warning("bus.lost")

    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("aiokafka: Unable connect to [red]node 1") == 1
    assert "bus.close_failed" not in err
    assert "bus.lost" in err


def test_an_agent_without_a_broker_says_how_to_get_one(closed_port: int, tmp_path: Path) -> None:
    """It is the first thing that somebody may try. A process of its own: `run` configures the logs of a process."""
    servers = f"127.0.0.1:{closed_port}"
    environment = {"BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS": servers, "BACKWRIGHT_WORKSPACE": str(tmp_path)}

    said = subprocess.run(
        [sys.executable, "-m", "agent", "run"], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )

    assert said.returncode == Exit.ENVIRONMENT
    assert f"backwright: no broker at {servers}\n" in said.stderr
    assert "`backwright demo`" in said.stderr


def test_that_there_is_nothing_is_said(typed: Typed) -> None:
    """An empty table looks like a fault; JSON is an empty list."""
    Path("workspace").mkdir()
    asyncio.run(_accept(Path("workspace")))

    assert "no task was accepted yet" in typed("tasks").err
    assert "no such task" in typed("tasks", "--state", "failed").err
    assert json.loads(typed("tasks", "--json").out) == []
    assert "no open dead letter" in typed("dead-letters", "list").err
    assert json.loads(typed("dead-letters", "list", "--json").out)["dead_letters"] == []


@pytest.mark.parametrize("columns", [80, 140])
def test_tasks_fit_the_terminal(typed: Typed, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id is copied whole; the id of a request that names no service is no service."""
    monkeypatch.setattr(journal_commands, "stdout", Console(width=columns))
    Path("workspace").mkdir()
    asyncio.run(_accept(Path("workspace"), "orders", TASK))

    lines = typed("tasks").out.splitlines()

    assert len(lines) == 3
    assert max(map(len, lines)) <= columns
    assert [line.split()[:3] for line in lines[1:]] == [
        [task_id("/t", TASK), "available", "-"],
        [task_id("/t", "orders"), "available", "orders"],
    ]


def test_a_log_may_say_how_wide_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no terminal does: COLUMNS, else enough for every table."""
    monkeypatch.setenv("COLUMNS", "80")
    assert Output().width == 80

    monkeypatch.delenv("COLUMNS")
    assert Output().width == PIPE_COLUMNS


def test_every_command_has_its_place_in_the_help() -> None:
    """One without a panel would stand before the one that newcomers need first."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    commands = group.commands

    assert {
        name for name, command in commands.items() if getattr(command, "rich_help_panel", None) not in set(Panel)
    } == set()
    assert next(iter(commands)) == "demo"
