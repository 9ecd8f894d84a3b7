"""What a command about dead letters would do: which letters, and what stands in the way, known before anything is sent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.bus.port import Outgoing, Producer
from agent.cli.outgoing import command_record, valid
from agent.clock import Clock
from agent.journal.port import DeadLetter, Journal, LetterFilter, State
from contracts import envelope
from contracts.control import DeadLetterDiscard, DeadLetterReplay
from contracts.envelope import MessageType


@dataclass(frozen=True, slots=True)
class Verb:
    """One of the two commands."""

    word: str
    message_type: MessageType
    model: type[DeadLetterReplay] | type[DeadLetterDiscard]
    needs_failed_task: bool
    help: str


REPLAY = Verb(
    "replay", envelope.DEAD_LETTER_REPLAY, DeadLetterReplay, needs_failed_task=True,
    help="Try dead-lettered tasks again: same task and key, attempts and checkpoints afresh. A dry run without --yes.",
)  # fmt: skip
DISCARD = Verb(
    "discard", envelope.DEAD_LETTER_DISCARD, DeadLetterDiscard, needs_failed_task=False,
    help="Close dead letters for good; they can still be shown. A dry run without --yes.",
)  # fmt: skip
VERBS = {verb.word: verb for verb in (REPLAY, DISCARD)}

MADE_NO_TASK = "the record made no task: mend it and publish it again"


@dataclass(frozen=True, slots=True)
class Planned:
    """One letter of a plan; `obstacle` says why nothing is published about it."""

    dead_letter_id: str
    task_id: str | None
    service: str
    code: str
    obstacle: str | None = None
    command_id: str | None = None  # of the command that was published


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command line asks for."""

    verb: Verb
    letters: Sequence[Planned]
    unknown: Sequence[str] = ()  # ids that no letter has
    has_more: bool = False  # more match than the limit allows


async def plan(journal: Journal, verb: Verb, wanted: LetterFilter, limit: int) -> Plan:
    """The open letters that `wanted` lets through, newest first; those of its ids that are closed come after them."""
    limit = max(limit, len(wanted.ids))
    found = list(await journal.dead_letters(wanted, limit=limit + 1))
    named = {letter_id: await journal.dead_letter(letter_id) for letter_id in sorted(wanted.ids)}
    closed = [letter for letter in named.values() if letter and letter.is_closed]
    return Plan(
        verb,
        [await _planned(journal, verb, letter) for letter in (*found[:limit], *closed)],
        unknown=[letter_id for letter_id, letter in named.items() if letter is None],
        has_more=len(found) > limit,
    )


async def _planned(journal: Journal, verb: Verb, letter: DeadLetter) -> Planned:
    data = letter.data
    obstacle = await obstacle_to(verb, journal, letter)
    return Planned(data["dead_letter_id"], data.get("task_id"), letter.service, data["reason"]["code"], obstacle)


async def obstacle_to(verb: Verb, journal: Journal, letter: DeadLetter) -> str | None:
    """Why the command would be refused, as far as one can see it now; None: nothing stands in its way."""
    if letter.is_closed:
        return "it was replayed or discarded before"
    if not verb.needs_failed_task:
        return None
    task_id = letter.data.get("task_id")
    if task_id is None:
        return MADE_NO_TASK
    view = await journal.task(task_id)
    return None if view is None or view.state is State.FAILED else f"its task is {view.state}, not failed"


def with_commands(made: Plan, reason: str | None, clock: Clock) -> tuple[Plan, Sequence[Outgoing]]:
    """The plan with a command for each letter that nothing stands in the way of, and their records, in the same order."""
    doable = [letter.dead_letter_id for letter in made.letters if letter.obstacle is None]
    commands = {letter_id: command_of(made.verb, letter_id, reason, clock) for letter_id in doable}
    letters = [
        replace(letter, command_id=commands[letter.dead_letter_id][0]) if letter.obstacle is None else letter
        for letter in made.letters
    ]
    return replace(made, letters=letters), [record for _, record in commands.values()]


def command_of(verb: Verb, letter_id: str, reason: str | None, clock: Clock) -> tuple[str, Outgoing]:
    """(id of the command, its record). Ends with exit code 2 where the reason is too long."""
    payload = valid(verb.model, dead_letter_id=letter_id, reason=reason)
    return command_record(verb.message_type, payload, about=letter_id, clock=clock)


async def publish(
    producer: Producer, records: Sequence[Outgoing], *, rate: float, clock: Clock, told: Callable[[int], None]
) -> None:
    """Send the records one by one, at most `rate` per second; `told` hears of each acknowledgement. Raises BusUnavailable."""
    started = clock.monotonic()
    for index, record in enumerate(records):
        await clock.sleep(started + index / rate - clock.monotonic())
        await producer.send([record])
        told(index)
