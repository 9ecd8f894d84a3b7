"""`run`, `context-manager`, `check-config`: the long-running processes and their settings."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.table import Table

from agent import app as root
from agent.cli.common import known_variables, load_settings, print_json, run, stdout
from agent.context.manager import ContextManager
from agent.telemetry import logs


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run_agent)
    app.command("context-manager")(context_manager)
    app.command("check-config")(check_config)


def run_agent() -> None:
    """Run the agent: take tasks from the bus, build, measure, deliver. SIGTERM drains.

    Needs a broker: set BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS (host:port). No Kafka at hand? `backwright demo` brings an
    embedded one, `docker compose up` a real one with Grafana. Metrics and health: http://127.0.0.1:9464.
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
    """Answer context queries on the bus from a file of facts."""
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
    table = Table(box=None, header_style="dim")
    for column in ("setting", "value", "what it is"):
        table.add_column(column, overflow="fold")
    for row in rows:
        changed = row["value"] != row["default"]
        table.add_row(
            str(row["name"]), f"[bold]{row['value']}[/]" if changed else str(row["value"]), str(row["description"])
        )
    stdout.print(table)
