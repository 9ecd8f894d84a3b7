"""`tasks` and `dead-letters`: looking into the journal, read-only."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from agent import app as root
from agent.cli.common import Exit, fail, load_settings, print_json, run, stdout
from agent.journal.port import Journal, State

T = TypeVar("T")
dead_app = typer.Typer(help="Records and tasks that could not be done.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("tasks")(tasks)
    dead_app.command("list")(dead_list)
    dead_app.command("show")(dead_show)
    app.add_typer(dead_app, name="dead-letters")


def tasks(
    state: Annotated[list[State] | None, typer.Option(help="Only these states; may be given more than once.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List tasks, newest first."""
    found = _look(lambda journal: journal.tasks(states=state or (), limit=limit))
    if as_json:
        print_json([asdict(view) for view in found])
        return
    table = Table(box=None, header_style="dim")
    for column in ("task", "state", "service", "attempt", "phase", "accepted", "updated"):
        table.add_column(column)
    for view in found:
        phase = str(view.progress.get("phase", ""))
        table.add_row(
            view.task_id, view.state, view.ordering_key, str(view.attempt), phase, f"{view.accepted_at:%Y-%m-%d %H:%M:%S}", f"{view.updated_at:%H:%M:%S}"
        )  # fmt: skip
    stdout.print(table)


def dead_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List dead letters, newest first."""
    found = _look(lambda journal: journal.dead_letters(limit=limit))
    if as_json:
        print_json(list(found))
        return
    table = Table(box=None, header_style="dim")
    for column in ("dead letter", "when", "from", "code", "message"):
        table.add_column(column, overflow="fold")
    for letter in found:
        original, reason = letter["original"], letter["reason"]
        place = f"{original['topic']}/{original['partition']}@{original['offset']}"
        table.add_row(
            letter["dead_letter_id"], str(letter["dead_lettered_at"])[:19], place, reason["code"], reason["message"]
        )
    stdout.print(table)


def dead_show(letter: Annotated[str, typer.Argument(help="Id of the dead letter.")]) -> None:
    """Print one dead letter whole, as JSON."""
    found = _look(lambda journal: journal.dead_letter(letter))
    if found is None:
        fail(Exit.BAD_INPUT, f"no dead letter {letter}", "`backwright dead-letters list` shows them")
    print_json(found)


def _look(question: Callable[[Journal], Awaitable[T]]) -> T:
    async def ask() -> T:
        journal = await root.open_for_reading(load_settings())
        try:
            return await question(journal)
        finally:
            await journal.close()

    return run(ask())
