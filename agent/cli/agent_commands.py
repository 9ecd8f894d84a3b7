"""`run`, `context-manager`, `check-config`: the long-running processes and their settings."""

import asyncio
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from agent import app as root
from agent.cli.common import (
    Exit,
    Panel,
    fail,
    load_settings,
    print_json,
    run,
    stdout,
)
from agent.cli.settings_sheet import settings_of, show_settings, without_secrets
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
    found = settings_of(settings)
    if as_json:
        rows = [{**asdict(one), "section": one.section} for one in found]
        print_json({"settings": rows, "journal": without_secrets(root.journal_url(settings))})
    else:
        show_settings(found, stdout)
