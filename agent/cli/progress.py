"""Watching a task: status events read back from the bus become a picture of its phases, steps and gates."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from agent.bus.port import Bus, Record
from agent.cli.common import plain, visible
from agent.cli.gate_sheet import MARKS, gates_so_far
from agent.clock import Clock
from agent.errors import BusUnavailable
from contracts import topics
from contracts.codec import Message, decode
from contracts.delivery import Evidence, TaskDelivered
from contracts.errors import ContractError
from contracts.failures import TaskDeadLettered
from contracts.status import TERMINAL, Phase, Status, TaskStatus

PHASES = tuple(Phase)
HEARD_NOTHING_S = 5.0
HEARD_NOTHING = (
    "nothing is told of this task yet: is an agent (`backwright run`) at work on this broker? Ctrl-C ends the watch"
)
RETRY_S = 1.0
AWAY = "the broker is away; the watch goes on when it is back, Ctrl-C ends it"
BACK = "the broker is back"


@dataclass(slots=True)
class Progress:
    """What the events have told so far. Seconds count from the first event, by the events' own times."""

    task_id: str
    began: datetime | None = None
    last: TaskStatus | None = None
    delivery: TaskDelivered | None = None
    dead_letter: TaskDeadLettered | None = None
    running: dict[str, float] = field(default_factory=dict)  # step → since second
    gates: list[Evidence] = field(default_factory=list)
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)  # label → (first, last second)

    @property
    def ended(self) -> bool:
        """Whether the task is in a terminal state."""
        return self.last is not None and self.last.status in TERMINAL

    def second(self, moment: datetime) -> float:
        """Seconds from the first event to `moment`."""
        return max(0.0, (moment - self.began).total_seconds()) if self.began else 0.0

    def take(self, status: TaskStatus, moment: datetime) -> None:
        """Fold one event of `moment` in."""
        self.began = self.began or moment
        second = self.second(moment)
        self.last = status
        self.phases[status.phase] = (self.phases.get(status.phase, (second, second))[0], second)
        if status.gate is not None:
            # A later attempt measures again.
            self.gates[:] = [*(one for one in self.gates if one.gate != status.gate.gate), status.gate]
        if status.step is not None and status.step.state == "started":
            self.running[status.step.name] = second
        elif status.step is not None:
            self.running.pop(status.step.name, None)
        if self.ended:
            self.running.clear()


async def messages(
    bus: Bus, task_id: str, say: Callable[[str], None], *, retry_s: float = RETRY_S
) -> AsyncIterator[Message]:
    """Every message about a task, from the beginning of the topics, each event once. Ends never by itself.

    Raises BusUnavailable where the broker is not there at first; later it is waited for, and that is said.
    """
    seen: set[str] = set()
    was_reached = is_away = False
    while True:
        consumer = bus.consumer([topics.STATUS.name, topics.DELIVERIES.name, topics.DEAD_LETTERS.name], group=None)
        try:
            await consumer.start()
            was_reached = True
            while True:
                records = await consumer.poll(timeout_s=0.5)
                if is_away:
                    is_away = False
                    say(BACK)
                for record in records:
                    message = _about(record, task_id)
                    # A new consumer reads everything again: nothing that was published meanwhile is missed.
                    if message is not None and message.envelope.id not in seen:
                        seen.add(message.envelope.id)
                        yield message
        except BusUnavailable:
            if not was_reached:
                raise
            if not is_away:
                is_away = True
                say(AWAY)
        finally:
            await consumer.stop()
        await asyncio.sleep(retry_s)


def _about(record: Record, task_id: str) -> Message | None:
    """The message, if it is one that we understand and about this task."""
    subject = dict(record.headers).get("ce_subject")
    if subject is not None and subject != task_id.encode():
        return None
    try:
        message = decode(record.topic, record.headers, record.key, record.value)
    except ContractError:
        return None  # other senders' records are not ours to judge here
    return message if getattr(message.payload, "task_id", None) == task_id else None


async def follow(
    bus: Bus,
    task_id: str,
    console: Console,
    *,
    clock: Clock,
    patience_s: float = HEARD_NOTHING_S,
    retry_s: float = RETRY_S,
) -> Progress:
    """Show a task live until it ends; lines instead of a picture where the console is no terminal.

    Where nothing is heard of it for `patience_s`, says so once, and goes on; a broker that goes away is tried again every
    `retry_s`. Raises BusUnavailable where there was none at first.
    """
    progress = Progress(task_id)
    screen = _Screen(progress, console, clock)
    hint = asyncio.get_running_loop().call_later(patience_s, screen.say, HEARD_NOTHING)
    with screen:
        try:
            async for message in messages(bus, task_id, screen.say, retry_s=retry_s):
                hint.cancel()
                _take(progress, message, screen, clock)
                if _is_complete(progress):
                    break
        finally:
            hint.cancel()
    return progress


def _take(progress: Progress, message: Message, screen: "_Screen", clock: Clock) -> None:
    match message.payload:
        case TaskStatus() as status:
            moment = message.envelope.time or clock.now()
            progress.take(status, moment)
            screen.show(status, moment)
        case TaskDelivered() as delivery:
            progress.delivery = delivery
        case TaskDeadLettered() as dead:
            progress.dead_letter = dead
        case _:
            pass


def _is_complete(progress: Progress) -> bool:
    """Ended, and the delivery seen: it is published before the terminal status but lies on another topic."""
    if not progress.ended or progress.last is None:
        return False
    return progress.last.status != "completed" or progress.delivery is not None


class _Screen:
    """A live picture on a terminal, one line per event elsewhere."""

    def __init__(self, progress: Progress, console: Console, clock: Clock) -> None:
        self._progress = progress
        self._console = console
        self._clock = clock
        self._said: str | None = None
        self._live = (
            Live(get_renderable=self._picture, console=console, refresh_per_second=8) if console.is_terminal else None
        )

    def __enter__(self) -> "_Screen":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, status: TaskStatus, moment: datetime) -> None:
        """Tell about one event."""
        if self._live:
            self._live.refresh()
        else:
            self._console.print(line(self._progress.second(moment), status, said=self._said))
            self._said = status.message

    def say(self, text: str) -> None:
        """A line of our own, above the picture."""
        self._console.print(f"  {text}", style="dim", markup=False)

    def _picture(self) -> RenderableType:
        return picture(self._progress, self._clock.now())


def line(second: float, status: TaskStatus, *, said: str | None = None) -> str:
    """One event as a line of text (rich markup), without a message that the line before it has `said`."""
    step = status.step
    what = status.message if status.message and status.message != said else ""
    if status.gate is not None:
        what = f"{MARKS[status.gate.verdict]} gate {plain(status.gate.gate)}: {plain(status.gate.summary)}"
    elif step is not None and not what:
        took = f" in {step.duration_s:.1f} s" if step.duration_s is not None and step.state == "finished" else ""
        what = f"{plain(step.name)} {plain(step.state)}{took}"
    else:
        what = plain(what)
    count = f"{step.done:2}/{step.total}" if step else "     "
    return f"{second:6.1f} s  {count}  [bold]{status.status:10}[/] {what}"


def picture(progress: Progress, now: datetime) -> RenderableType:
    """Phases with their times, the steps that run, and the gates so far; at the end only what no report repeats."""
    last = progress.last
    done, total = (last.step.done, last.step.total) if last and last.step else (0, 0)
    second = max((end for _, end in progress.phases.values()), default=0.0) if progress.ended else progress.second(now)
    head = Text.assemble(
        (f" {last.status if last else 'waiting for the first status'} ", "bold"), f"  {second:5.1f} s", f"   steps {done}/{total}" if total else ""
    )  # fmt: skip
    phases = Table.grid(padding=(0, 2))
    for phase in PHASES:
        phases.add_row(*_phase_row(progress, phase, second))
    running = [
        Spinner("dots", text=Text(f"{visible(name)}  {second - since:.1f} s", style="cyan"))
        for name, since in progress.running.items()
    ]
    is_repeated = progress.delivery is not None or (last is not None and progress.ended and bool(last.evidence))
    gates = [] if is_repeated else progress.gates
    return Group(head, phases, *running, gates_so_far(gates) if gates else "")


def _phase_row(progress: Progress, phase: str, second: float) -> tuple[str, str, str]:
    span = progress.phases.get(phase)
    if span is None:
        return " ", f"[dim]{phase}[/]", ""
    if progress.last is not None and progress.last.phase == phase:
        return _mark(progress.last), phase, f"{second - span[0]:5.1f} s"
    return "[green]✓[/]", phase, f"{span[1] - span[0]:5.1f} s"


def _mark(last: TaskStatus) -> str:
    """Of the phase that the last status is of."""
    if last.status not in TERMINAL:
        return "[cyan]▶[/]"
    return "[green]✓[/]" if last.status is Status.COMPLETED else "[red]✗[/]"
