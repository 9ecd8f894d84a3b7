"""`tasks`: looking into the journal, read-only. (`dead-letters` has a file of its own.)"""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from agent.cli import dead_letters
from agent.cli.common import load_settings, plain, print_json, reading, run, stdout
from agent.journal.port import State


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("tasks")(tasks)
    app.add_typer(dead_letters.app, name="dead-letters")


def tasks(
    state: Annotated[list[State] | None, typer.Option(help="Only these states; may be given more than once.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List tasks, newest first."""
    found = run(reading(load_settings(), lambda journal: journal.tasks(states=state or (), limit=limit)))
    if as_json:
        print_json([asdict(view) for view in found])
        return
    table = Table(box=None, header_style="dim")
    for column in ("task", "state", "service", "attempt", "phase", "accepted", "updated"):
        table.add_column(column, overflow="fold", no_wrap=column == "task")  # an id is copied whole
    for view in found:
        phase = str(view.progress.get("phase", ""))
        times = (f"{view.accepted_at:%Y-%m-%d %H:%M:%S}", f"{view.updated_at:%H:%M:%S}")
        table.add_row(view.task_id, view.state, plain(view.ordering_key), str(view.attempt), phase, *times)
    stdout.print(table)
