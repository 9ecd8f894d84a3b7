"""`dead-letters`: what could not be done. Looking is read-only; replay and discard are commands on the control topic.

Nothing is published without `--yes`. What is published may still be refused: the journal decides, under its lock, and
tells it as `operator.acted` or `command.refused`. What is foreseeable is said beforehand.
"""

import base64
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.table import Table

from agent import app as root
from agent.artifacts.port import ArtifactMissing
from agent.bus.port import Outgoing
from agent.cli.common import Exit, Panel, fail, load_settings, plain, print_json, reading, run, stderr, stdout
from agent.cli.letter_filter import filtered
from agent.cli.letter_plan import DISCARD, REPLAY, VERBS, Plan, Planned, obstacle_to, plan, publish, with_commands
from agent.cli.letter_sheet import advice, letters_table, sheet, summary
from agent.clock import SystemClock
from agent.journal.port import ALL_LETTERS, DeadLetter, Journal, LetterFilter
from agent.settings import Settings

LARGEST_LIMIT = 5000  # a letter may hold 256 KiB of bytes

letters_app = typer.Typer(help="Records and tasks that could not be done.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, max=LARGEST_LIMIT, help="At most so many, the newest.")]
LetterId = Annotated[str, typer.Argument(help="Id of the dead letter.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of dead letters; or give a filter, or --all.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are open.")]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the audit event.")]
Rate = Annotated[float, typer.Option(min=0.01, max=1000, help="Commands per second.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only what would be done is printed.")]
Bytes = Annotated[bool, typer.Option("--bytes", help="Write the bytes of its record, and nothing else.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(letters_app, name="dead-letters", rich_help_panel=Panel.OPERATE)


# --- looking ----------------------------------------------------------------------------------------------------------


@letters_app.command("list")
@filtered
def list_(wanted: LetterFilter, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List open dead letters, newest first. JSON: `dead_letters`, and whether more match (`has_more`)."""
    found = run(reading(load_settings(), lambda journal: journal.dead_letters(wanted, limit=limit + 1)))
    has_more = len(found) > limit
    if as_json:
        print_json({"dead_letters": [summary(letter) for letter in found[:limit]], "has_more": has_more})
        return
    if not found:
        stderr.print("no open dead letter" if wanted == ALL_LETTERS else "no open dead letter matches")
        return
    stdout.print(letters_table(found[:limit], columns=stdout.width))
    _say_more(has_more)


@letters_app.command()
def show(letter_id: LetterId, as_json: AsJson = False, bytes_: Bytes = False) -> None:
    """Show one dead letter, closed ones too, and what can be done about it.

    JSON: `state` (open, closed), `service`, `obstacle` (to a replay, or null), and `letter` as it was published.
    """
    settings = load_settings()
    found = run(reading(settings, lambda journal: _look(journal, letter_id)))
    if found is None:
        fail(Exit.BAD_INPUT, f"no dead letter {letter_id}", "`backwright dead-letters list` shows them")
    letter, obstacle = found
    if bytes_:
        _write_bytes(settings, letter)
    elif as_json:
        state = "closed" if letter.is_closed else "open"
        print_json({"state": state, "service": letter.service, "obstacle": obstacle, "letter": letter.data})
    else:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in sheet(letter):
            table.add_row(name, text)
        stdout.print(table)
        stdout.print()
        for line in advice(letter, obstacle):
            stdout.print(plain(line), soft_wrap=line.startswith("  "))  # a command is copied whole


async def _look(journal: Journal, letter_id: str) -> tuple[DeadLetter, str | None] | None:
    letter = await journal.dead_letter(letter_id)
    return None if letter is None else (letter, await obstacle_to(REPLAY, journal, letter))


def _write_bytes(settings: Settings, letter: DeadLetter) -> None:
    """The record's value on stdout, byte for byte, wherever it lies; a null value is no byte."""
    if sys.stdout.isatty():  # a stranger's bytes, and a terminal obeys some
        fail(Exit.BAD_INPUT, "these bytes are not for a terminal", "send them to a file: … --bytes > record")
    original = letter.data["original"]
    try:
        value = (
            run(root.artifacts(settings).get(original["dataref"]))
            if "dataref" in original
            else base64.b64decode(original.get("value", ""))
        )
    except ArtifactMissing:
        fail(Exit.FAILED, f"{original['dataref']} is not in the artefact store", "run this with the agent's settings")
    sys.stdout.buffer.write(value)


# --- acting -----------------------------------------------------------------------------------------------------------


@letters_app.command(DISCARD.word, help=DISCARD.help)
@letters_app.command(REPLAY.word, help=REPLAY.help)
@filtered
def act(
    context: typer.Context, wanted: LetterFilter, ids: Ids = None, everything: Everything = False, limit: Limit = 100,
    reason: Reason = None, rate: Rate = 5.0, yes: Yes = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Replay or discard, by the name it was called under."""
    verb = VERBS[str(context.info_name)]
    if [bool(ids), wanted != ALL_LETTERS, everything].count(True) != 1:
        remedy = "name dead letters, or give a filter, or --all: one of them"
        fail(Exit.BAD_INPUT, f"what is to be {verb.word}ed?", remedy)
    wanted = replace(wanted, ids=frozenset(ids or ()))
    settings = load_settings()
    made = run(reading(settings, lambda journal: plan(journal, verb, wanted, limit)))
    if made.unknown:
        fail(Exit.BAD_INPUT, f"no dead letter {made.unknown[0]}", "`backwright dead-letters list` shows them")
    commanded, records = with_commands(made, reason, SystemClock())
    if yes:
        doable = [letter for letter in commanded.letters if letter.obstacle is None]
        run(_publish(settings, records, rate, lambda index: _told(made, doable[index], as_json)))
    _report(commanded if yes else made, as_json, is_dry=not yes)
    if ids and len(records) < len(made.letters):
        raise typer.Exit(Exit.FAILED)


async def _publish(settings: Settings, records: Sequence[Outgoing], rate: float, told: Callable[[int], None]) -> None:
    if not records:
        return
    producer = root.bus(settings).producer()
    await producer.start()
    try:
        await publish(producer, records, rate=rate, clock=SystemClock(), told=told)
    finally:
        await producer.stop()


def _told(made: Plan, letter: Planned, as_json: bool) -> None:
    """At once, so that whoever interrupts a long run knows how far it came."""
    if not as_json:
        stdout.print(f"published: {made.verb.word} {_line(letter)}")


def _report(made: Plan, as_json: bool, *, is_dry: bool) -> None:
    if as_json:
        letters = [asdict(letter) for letter in made.letters]
        command = made.verb.message_type.name
        print_json({"command": command, "dry_run": is_dry, "letters": letters, "has_more": made.has_more})
        return
    for letter in made.letters:
        if letter.obstacle is not None:
            stdout.print(f"not possible: {made.verb.word} {_line(letter)}: {plain(letter.obstacle)}")
        elif is_dry:
            stdout.print(f"would {made.verb.word} {_line(letter)}")
    _say_more(made.has_more)
    if not made.letters:
        stderr.print("nothing matches")
    elif is_dry and any(letter.obstacle is None for letter in made.letters):
        stderr.print("a dry run: nothing was published; --yes does it")
    elif any(letter.command_id for letter in made.letters):
        stderr.print("what becomes of each is told on the status topic: operator.acted, or command.refused")


def _line(letter: Planned) -> str:
    return plain(f"{letter.dead_letter_id}  task {letter.task_id or '-'}  {letter.service or '-'}  {letter.code}")


def _say_more(has_more: bool) -> None:
    if has_more:
        stderr.print("more match; --limit shows more")
