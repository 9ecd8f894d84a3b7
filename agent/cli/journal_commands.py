"""`tasks`: looking into the journal, read-only. (`dead-letters` has a file of its own.)"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from agent.cli.common import WIDE_COLUMNS, Panel, load_settings, plain, print_json, reading, run, stderr, stdout
from agent.journal.port import State, TaskView

COLUMNS = ("task", "state", "service", "attempt", "phase", "accepted", "updated")
NARROW = ("task", "state", "service", "accepted")
UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tasks", rich_help_panel=Panel.OPERATE)(tasks)


def tasks(
    state: Annotated[list[State] | None, typer.Option(help="Only these states; may be given more than once.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List tasks, newest first."""
    found = run(reading(load_settings(), lambda journal: journal.tasks(states=state or (), limit=limit)))
    if as_json:
        print_json([asdict(view) for view in found])
        return
    if not found:
        stderr.print("no such task" if state else "no task was accepted yet: `backwright submit FILE` asks for one")
        return
    table = Table(box=None, header_style="dim")
    shown = COLUMNS if stdout.width >= WIDE_COLUMNS else NARROW
    for column in shown:
        table.add_column(column, overflow="fold", no_wrap=column != "service")  # an id is copied whole
    for view in found:
        cells = _cells(view)
        table.add_row(*(cells[column] for column in shown))
    stdout.print(table)


def _cells(view: TaskView) -> Mapping[str, str]:
    """What stands in each of COLUMNS."""
    # Who names no service is ordered by the id of the request, which tells a person nothing.
    service = "-" if UUID.fullmatch(view.ordering_key) else view.ordering_key
    return {
        "task": view.task_id,
        "state": view.state,
        "service": plain(service),
        "attempt": str(view.attempt),
        "phase": str(view.progress.get("phase", "")),
        "accepted": f"{view.accepted_at:%m-%d %H:%M:%S}",
        "updated": f"{view.updated_at:%m-%d %H:%M:%S}",
    }
