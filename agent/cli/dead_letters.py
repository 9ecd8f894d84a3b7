"""`dead-letters`: what could not be done. Looking is read-only; replay and discard are commands on the control topic.

Nothing is published without `--yes`. What is published may still be refused: the journal decides, under its lock, and
tells it as `operator.acted` or `command.refused`. What is foreseeable is said beforehand.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from agent import app as root
from agent.bus.port import Outgoing, Producer
from agent.cli.bus_commands import command_record, valid
from agent.cli.common import Exit, fail, load_settings, plain, print_json, reading, run, stderr, stdout
from agent.clock import Clock, SystemClock
from agent.journal.port import Journal, State
from agent.settings import Settings
from contracts import envelope
from contracts.control import DeadLetterDiscard, DeadLetterReplay
from contracts.envelope import MessageType

Letter = Mapping[str, Any]  # contracts.failures.TaskDeadLettered as JSON

SCAN_LIMIT = 5000  # a letter may hold 256 KiB of bytes: so many are looked through, the newest ones
_SPAN_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

app = typer.Typer(help="Records and tasks that could not be done.", no_args_is_help=True)

Codes = Annotated[list[str] | None, typer.Option("--code", help="Only this reason, for example payload.not_json; may be repeated.")]  # fmt: skip
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Only of this task; may be repeated.")]
Services = Annotated[list[str] | None, typer.Option("--service", help="Only of this service; may be repeated.")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="Only records of this topic; may be repeated.")]
Since = Annotated[str | None, typer.Option(help="Only since then: 90s, 30m, 2h, 7d ago, or an ISO 8601 time.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of dead letters; or give a filter, or --all.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are open.")]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the audit event.")]
Rate = Annotated[float, typer.Option(min=0.01, max=1000, help="Commands per second.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only what would be done is printed.")]
Limit = Annotated[int, typer.Option(min=1, max=SCAN_LIMIT)]


# --- which ones -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter: each part that is given must hold."""

    codes: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    since: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it lets everything through."""
        return self == Wanted()

    def takes(self, letter: Letter) -> bool:
        """Whether the letter passes."""
        return (
            (not self.codes or letter["reason"]["code"] in self.codes)
            and (not self.tasks or letter.get("task_id") in self.tasks)
            and (not self.topics or letter["original"]["topic"] in self.topics)
            and (not self.services or service_of(letter) in self.services)
            and (self.since is None or datetime.fromisoformat(letter["dead_lettered_at"]) >= self.since)
        )


def service_of(letter: Letter) -> str:
    """The service that the original record asks for: by its value, else by its key; empty where neither can be read."""
    original = letter["original"]
    try:
        value = orjson.loads(_bytes(original.get("value")))
    except orjson.JSONDecodeError:
        value = None
    body = value.get("data", value) if isinstance(value, dict) else None  # structured mode holds the request in `data`
    named = body.get("service") if isinstance(body, dict) else None
    return named if isinstance(named, str) else _bytes(original.get("key")).decode("utf-8", "replace")


def moment(text: str, now: datetime) -> datetime:
    """`2h` before `now`, or an ISO 8601 time (UTC where it names no offset). Raises ValueError."""
    if span := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - timedelta(seconds=int(span[1]) * _SPAN_S[span[2]])
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _bytes(text: str | None) -> bytes:
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError):
        return b""


# --- what would become of them ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verb:
    """One of the two commands."""

    message_type: MessageType
    model: type[DeadLetterReplay] | type[DeadLetterDiscard]
    word: str
    needs_failed_task: bool


REPLAY = Verb(envelope.DEAD_LETTER_REPLAY, DeadLetterReplay, "replay", needs_failed_task=True)
DISCARD = Verb(envelope.DEAD_LETTER_DISCARD, DeadLetterDiscard, "discard", needs_failed_task=False)


@dataclass(frozen=True, slots=True)
class Planned:
    """One letter of a plan; `obstacle` says why nothing is published about it."""

    dead_letter_id: str
    task_id: str | None
    service: str
    code: str
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command line asks for. `left_out`: how many more match than `limit` allows."""

    verb: Verb
    letters: Sequence[Planned]
    unknown: Sequence[str] = ()
    left_out: int = 0
    is_partial: bool = field(default=False)  # more are open than were looked through


async def plan(journal: Journal, verb: Verb, ids: Sequence[str], wanted: Wanted, limit: int) -> Plan:
    """The letters named by `ids`, or else the open ones that `wanted` takes (the newest first)."""
    scanned = await journal.dead_letters(limit=SCAN_LIMIT)
    is_partial = len(scanned) == SCAN_LIMIT
    opened = {letter["dead_letter_id"]: letter for letter in scanned}
    if not ids:
        matching = [letter for letter in scanned if wanted.takes(letter)]
        found = [await _planned(journal, verb, letter, is_closed=False) for letter in matching[:limit]]
        return Plan(verb, found, left_out=len(matching) - len(found), is_partial=is_partial)
    found, unknown = [], []
    for letter_id in dict.fromkeys(ids):
        letter = opened.get(letter_id) or await journal.dead_letter(letter_id)
        if letter is None:
            unknown.append(letter_id)
        else:
            is_closed = letter_id not in opened and not is_partial
            found.append(await _planned(journal, verb, letter, is_closed=is_closed))
    return Plan(verb, found, unknown)


async def _planned(journal: Journal, verb: Verb, letter: Letter, *, is_closed: bool) -> Planned:
    obstacle = "it was replayed or discarded before" if is_closed else None
    task_id = letter.get("task_id")
    if verb.needs_failed_task and obstacle is None:
        obstacle = await _no_replay(journal, task_id)
    return Planned(letter["dead_letter_id"], task_id, service_of(letter), letter["reason"]["code"], obstacle)


async def _no_replay(journal: Journal, task_id: str | None) -> str | None:
    if task_id is None:
        return "the record made no task: mend it and publish it again"
    view = await journal.task(task_id)
    return None if view is None or view.state is State.FAILED else f"its task is {view.state}, not failed"


async def publish(
    producer: Producer, records: Sequence[Outgoing], *, rate: float, clock: Clock, told: Callable[[int], None]
) -> None:
    """Send the records one by one, at most `rate` per second; `told` hears of each acknowledgement. Raises BusUnavailable."""
    started = clock.monotonic()
    for index, record in enumerate(records):
        await clock.sleep(started + index / rate - clock.monotonic())
        await producer.send([record])
        told(index)


# --- commands ---------------------------------------------------------------------------------------------------------


@app.command("list")
def list_(
    code: Codes = None, task: Tasks = None, service: Services = None, topic: Topics = None, since: Since = None,
    limit: Limit = 50, as_json: AsJson = False,
) -> None:  # fmt: skip
    """List open dead letters, newest first."""
    wanted = _wanted(code, task, service, topic, since)
    scanned = run(reading(load_settings(), lambda journal: journal.dead_letters(limit=SCAN_LIMIT)))
    found = [letter for letter in scanned if wanted.takes(letter)]
    if as_json:
        print_json(found[:limit])
        return
    table = Table(box=None, header_style="dim")
    for column in ("dead letter", "when", "service", "from", "code", "message"):
        table.add_column(column, overflow="fold", no_wrap=column == "dead letter")  # an id is copied whole
    for letter in found[:limit]:
        original, reason = letter["original"], letter["reason"]
        place = f"{original['topic']}/{original['partition']}@{original['offset']}"
        cells = (letter["dead_letter_id"], str(letter["dead_lettered_at"])[:19], service_of(letter), place, reason["code"], reason["message"])  # fmt: skip
        table.add_row(*map(plain, cells))
    stdout.print(table)
    _say_rest(len(found) - limit, is_partial=len(scanned) == SCAN_LIMIT)


@app.command()
def show(letter: Annotated[str, typer.Argument(help="Id of the dead letter.")]) -> None:
    """Print one dead letter whole, as JSON; closed ones too."""
    found = run(reading(load_settings(), lambda journal: journal.dead_letter(letter)))
    if found is None:
        fail(Exit.BAD_INPUT, f"no dead letter {letter}", "`backwright dead-letters list` shows them")
    print_json(found)


@app.command()
def replay(
    ids: Ids = None, code: Codes = None, task: Tasks = None, service: Services = None, topic: Topics = None,
    since: Since = None, everything: Everything = False, limit: Limit = 100, reason: Reason = None, rate: Rate = 5.0,
    yes: Yes = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Try dead-lettered tasks again: same task and key, attempts and checkpoints afresh. A dry run without --yes."""
    wanted = _wanted(code, task, service, topic, since)
    _act(
        REPLAY,
        ids or [],
        wanted,
        everything=everything,
        limit=limit,
        reason=reason,
        rate=rate,
        yes=yes,
        as_json=as_json,
    )


@app.command()
def discard(
    ids: Ids = None, code: Codes = None, task: Tasks = None, service: Services = None, topic: Topics = None,
    since: Since = None, everything: Everything = False, limit: Limit = 100, reason: Reason = None, rate: Rate = 5.0,
    yes: Yes = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Close dead letters for good; they can still be shown. A dry run without --yes."""
    wanted = _wanted(code, task, service, topic, since)
    _act(
        DISCARD,
        ids or [],
        wanted,
        everything=everything,
        limit=limit,
        reason=reason,
        rate=rate,
        yes=yes,
        as_json=as_json,
    )


def _act(
    verb: Verb, ids: Sequence[str], wanted: Wanted, *, everything: bool, limit: int, reason: str | None, rate: float,
    yes: bool, as_json: bool,
) -> None:  # fmt: skip
    if sum((bool(ids), not wanted.is_empty, everything)) != 1:
        fail(
            Exit.BAD_INPUT,
            f"what is to be {verb.word}ed?",
            "name dead letters, or give a filter, or --all: one of them",
        )
    settings = load_settings()
    made = run(reading(settings, lambda journal: plan(journal, verb, ids, wanted, limit)))
    if made.unknown:
        fail(Exit.BAD_INPUT, f"no dead letter {made.unknown[0]}", "`backwright dead-letters list` shows them")
    doable = [letter for letter in made.letters if letter.obstacle is None]
    commands = [command_of(verb, letter.dead_letter_id, reason, SystemClock()) for letter in doable]
    if yes:
        run(
            _publish(
                settings, [record for _, record in commands], rate, lambda index: _told(verb, doable[index], as_json)
            )
        )
    published = {letter.dead_letter_id: command_id for letter, (command_id, _) in zip(doable, commands, strict=True)}
    _show(made, published if yes else None, as_json)
    if ids and len(doable) < len(made.letters):
        raise typer.Exit(Exit.FAILED)


def command_of(verb: Verb, letter_id: str, reason: str | None, clock: Clock) -> tuple[str, Outgoing]:
    """(id of the command, its record). Ends with exit code 2 where the reason is too long."""
    payload = valid(verb.model, dead_letter_id=letter_id, reason=reason)
    return command_record(verb.message_type, payload, about=letter_id, clock=clock)


async def _publish(settings: Settings, records: Sequence[Outgoing], rate: float, told: Callable[[int], None]) -> None:
    if not records:
        return
    producer = root.bus(settings).producer()
    await producer.start()
    try:
        await publish(producer, records, rate=rate, clock=SystemClock(), told=told)
    finally:
        await producer.stop()


def _told(verb: Verb, letter: Planned, as_json: bool) -> None:
    """At once, so that whoever interrupts a long run knows how far it came."""
    if not as_json:
        stdout.print(f"published: {verb.word} {_line(letter)}")


def _show(made: Plan, published: Mapping[str, str] | None, as_json: bool) -> None:
    """The plan; `published` maps dead letters to command ids, None for a dry run."""
    if as_json:
        letters = [{**asdict(item), "command_id": (published or {}).get(item.dead_letter_id)} for item in made.letters]
        print_json({
            "command": made.verb.message_type.name, "dry_run": published is None, "letters": letters, "left_out": made.left_out,
        })  # fmt: skip
        return
    for letter in made.letters:
        if letter.obstacle is not None:
            stdout.print(f"not possible: {made.verb.word} {_line(letter)}: {plain(letter.obstacle)}")
        elif published is None:
            stdout.print(f"would {made.verb.word} {_line(letter)}")
    _say_rest(made.left_out, is_partial=made.is_partial)
    if not made.letters:
        stderr.print("nothing matches")
    elif published is None:
        stderr.print("a dry run: nothing was published; --yes does it")
    elif published:
        stderr.print("what becomes of each is told on the status topic: operator.acted, or command.refused")


def _line(letter: Planned) -> str:
    return plain(f"{letter.dead_letter_id}  task {letter.task_id or '-'}  {letter.service or '-'}  {letter.code}")


def _say_rest(left_out: int, *, is_partial: bool) -> None:
    if left_out > 0:
        stderr.print(f"{left_out} more match; --limit shows more")
    if is_partial:
        stderr.print(f"only the newest {SCAN_LIMIT} were looked through")


def _wanted(
    codes: list[str] | None, tasks: list[str] | None, services: list[str] | None, topics: list[str] | None, since: str | None
) -> Wanted:  # fmt: skip
    try:
        after = moment(since, SystemClock().now()) if since is not None else None
    except ValueError:
        fail(Exit.BAD_INPUT, f"--since {since!r} is no time", "for example 30m, 2h, 7d, or 2026-01-05T09:00:00Z")
    return Wanted(
        frozenset(codes or ()), frozenset(tasks or ()), frozenset(services or ()), frozenset(topics or ()), after
    )
