"""`run`, `context-manager`, `check-config`: the long-running processes and their settings."""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.table import Table

from agent import app as root
from agent.cli.common import (
    WIDE_COLUMNS,
    Exit,
    Panel,
    fail,
    known_variables,
    load_settings,
    plain,
    print_json,
    run,
    stdout,
)
from agent.context.manager import ContextManager, FactsUnreadable, read_facts
from agent.telemetry import logs


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("check-config", rich_help_panel=Panel.BUS)(check_config)
    app.command("run", rich_help_panel=Panel.BUS)(run_agent)
    app.command("context-manager", rich_help_panel=Panel.BUS)(context_manager)


def run_agent() -> None:
    """Run the agent: take tasks from the bus, build, measure, deliver. SIGTERM drains.

    Needs a broker: set BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS (host:port).

    No Kafka at hand? `backwright demo` brings an embedded one, `docker compose up` a real one with Grafana.

    Metrics and health: http://127.0.0.1:9464, for example /metrics and /health/ready.
    """
    settings = load_settings()
    logs.configure(settings.telemetry)
    run(root.run_agent(settings))


def context_manager(
    facts: Annotated[
        Path,
        typer.Option(help="YAML or JSON file: facet → facts. See deploy/context.yaml.", exists=True, dir_okay=False),
    ],
) -> None:
    """Answer context queries on the bus from a file of facts. SIGTERM ends it."""
    try:
        read_facts(facts)
    except FactsUnreadable as exc:
        fail(Exit.BAD_INPUT, str(exc), "deploy/context.yaml shows what such a file holds")
    settings = load_settings()
    logs.configure(settings.telemetry)
    run(_manage(ContextManager(root.bus(settings), facts)))


async def _manage(manager: ContextManager) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await manager.run(stop)


def check_config(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Check the settings in the environment and list them all with their values (secrets hidden)."""
    settings = load_settings()
    rows = []
    for name, (description, default) in known_variables().items():
        value: object = settings
        for part in name.removeprefix("BACKWRIGHT_").lower().split("__"):
            value = getattr(value, part)
        shown = "(secret)" if isinstance(value, SecretStr) else value
        rows.append({"name": name, "value": shown, "default": default, "description": description})
    if as_json:
        print_json({"settings": rows, "journal": root.journal_url(settings).split("@")[-1]})
        return
    if stdout.width < WIDE_COLUMNS:
        for row in rows:
            stdout.print(f"{row['name']}  {_value(row)}")
            if row["description"]:
                stdout.print(f"  [dim]{row['description']}[/]")
        return
    table = Table(box=None, header_style="dim")
    for column in ("setting", "value", "what it is"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(str(row["name"]), _value(row), str(row["description"]))
    stdout.print(table)


def _value(row: Mapping[str, object]) -> str:
    """Bold where it is not the default."""
    value = "-" if row["value"] is None else plain(row["value"])
    return value if row["value"] == row["default"] else f"[bold]{value}[/]"
