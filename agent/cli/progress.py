"""Watching a task: status events read back from the bus become a picture of its phases, steps and gates."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from agent.bus.port import Bus, Record
from agent.cli.common import plain, visible
from contracts import topics
from contracts.codec import Message, decode
from contracts.delivery import Evidence, TaskDelivered
from contracts.errors import ContractError
from contracts.failures import TaskDeadLettered
from contracts.status import TERMINAL, Phase, TaskStatus

MARKS = {"pass": "[green]✓[/]", "fail": "[red]✗[/]", "skipped": "[yellow]–[/]", "waived": "[yellow]~[/]"}
PHASES = tuple(Phase)


@dataclass(slots=True)
class Progress:
    """What the events have told so far."""

    task_id: str
    started: float = field(default_factory=time.monotonic)
    last: TaskStatus | None = None
    delivery: TaskDelivered | None = None
    dead_letter: TaskDeadLettered | None = None
    running: dict[str, float] = field(default_factory=dict)  # step → since
    finished: list[tuple[str, float | None]] = field(default_factory=list)  # step, seconds
    gates: list[Evidence] = field(default_factory=list)
    phases: dict[str, list[float]] = field(default_factory=dict)  # label → [first seen, last seen]

    @property
    def ended(self) -> bool:
        """Whether the task is in a terminal state."""
        return self.last is not None and self.last.status in TERMINAL

    @property
    def elapsed_s(self) -> float:
        """Seconds since watching began."""
        return time.monotonic() - self.started

    def take(self, status: TaskStatus) -> None:
        """Fold one event in."""
        now = time.monotonic()
        self.last = status
        self.phases.setdefault(status.phase, [now, now])[1] = now
        if status.gate is not None:
            self.gates.append(status.gate)
        if status.step is None:
            return
        if status.step.state == "started":
            self.running[status.step.name] = now
        else:
            self.running.pop(status.step.name, None)
            self.finished.append((status.step.name, status.step.duration_s))


async def messages(bus: Bus, task_id: str) -> AsyncIterator[Message]:
    """Every message about a task, from the beginning of the topics, each event once. Ends never by itself."""
    consumer = bus.consumer([topics.STATUS.name, topics.DELIVERIES.name, topics.DEAD_LETTERS.name], group=None)
    await consumer.start()
    seen: set[str] = set()
    try:
        while True:
            for record in await consumer.poll(timeout_s=0.5):
                message = _about(record, task_id)
                if message is not None and message.envelope.id not in seen:
                    seen.add(message.envelope.id)
                    yield message
    finally:
        await consumer.stop()


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


async def follow(bus: Bus, task_id: str, console: Console) -> Progress:
    """Show a task live until it ends; lines instead of a picture where the console is no terminal."""
    progress = Progress(task_id)
    screen = _Screen(progress, console)
    with screen:
        async for message in messages(bus, task_id):
            match message.payload:
                case TaskStatus() as status:
                    progress.take(status)
                    screen.show(status)
                case TaskDelivered() as delivery:
                    progress.delivery = delivery
                case TaskDeadLettered() as dead:
                    progress.dead_letter = dead
                case _:
                    continue
            if _is_complete(progress):
                break
    return progress


def _is_complete(progress: Progress) -> bool:
    """Ended, and the delivery seen: it is published before the terminal status but lies on another topic."""
    if not progress.ended or progress.last is None:
        return False
    return progress.last.status != "completed" or progress.delivery is not None


class _Screen:
    """A live picture on a terminal, one line per event elsewhere."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._console = console
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

    def show(self, status: TaskStatus) -> None:
        """Tell about one event."""
        if self._live:
            self._live.refresh()
        else:
            self._console.print(line(self._progress.elapsed_s, status))

    def _picture(self) -> RenderableType:
        return picture(self._progress)


def line(elapsed_s: float, status: TaskStatus) -> str:
    """One event as a line of text (rich markup)."""
    step = status.step
    what = status.message or ""
    if status.gate is not None:
        what = f"{MARKS[status.gate.verdict]} gate {plain(status.gate.gate)}: {plain(status.gate.summary)}"
    elif step is not None and not what:
        took = f" in {step.duration_s:.1f} s" if step.duration_s is not None and step.state == "finished" else ""
        what = f"{plain(step.name)} {plain(step.state)}{took}"
    else:
        what = plain(what)
    count = f"{step.done:2}/{step.total}" if step else "     "
    return f"{elapsed_s:6.1f} s  {count}  [bold]{status.status:10}[/] {what}"


def picture(progress: Progress) -> RenderableType:
    """Phases with their times, the steps that run, and the gates so far."""
    now = time.monotonic()
    last = progress.last
    done, total = (last.step.done, last.step.total) if last and last.step else (0, 0)
    head = Text.assemble(
        (f" {last.status if last else 'waiting for the first status'} ", "bold"), f"  {progress.elapsed_s:5.1f} s", f"   steps {done}/{total}" if total else ""
    )  # fmt: skip
    phases = Table.grid(padding=(0, 2))
    for phase in PHASES:
        phases.add_row(*_phase_row(progress, phase, now))
    running = [
        Spinner("dots", text=Text(f"{visible(name)}  {now - since:.1f} s", style="cyan"))
        for name, since in progress.running.items()
    ]
    return Group(head, phases, *running, gates_table(progress.gates) if progress.gates else "")


def _phase_row(progress: Progress, phase: str, now: float) -> tuple[str, str, str]:
    span = progress.phases.get(phase)
    if span is None:
        return " ", f"[dim]{phase}[/]", ""
    later = any(other in progress.phases for other in PHASES[PHASES.index(Phase(phase)) + 1 :])
    is_done = later or progress.ended
    end = span[1] if is_done else now
    return ("[green]✓[/]" if is_done else "[cyan]▶[/]"), phase, f"{end - span[0]:5.1f} s"


def gates_table(gates: list[Evidence] | tuple[Evidence, ...]) -> Table:
    """Gates with measured values and thresholds."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("", "gate", "measured", "threshold", "seconds", "what was seen"):
        table.add_column(name, overflow="fold")
    for evidence in gates:
        duration = f"{evidence.duration_s:.1f}" if evidence.duration_s is not None else ""
        table.add_row(
            MARKS[evidence.verdict], plain(evidence.gate), _figure(evidence.value, evidence.unit), _figure(evidence.threshold, evidence.unit),
            duration, plain(evidence.summary),
        )  # fmt: skip
    return table


def _figure(value: object, unit: str | None) -> str:
    if value is None or isinstance(value, bool):  # the mark of the verdict says as much
        return "-"
    text = f"{value:g}" if isinstance(value, int | float) else plain(str(value))
    return f"{text} {plain(unit)}" if unit and not isinstance(value, str) else text
