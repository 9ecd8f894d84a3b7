"""What people see is folded from events, and text of strangers stays text."""

import asyncio
import io
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from rich.console import Console, RenderableType

from agent.bus.memory import MemoryBus
from agent.bus.port import Outgoing
from agent.cli.gate_sheet import gates_so_far, gates_table
from agent.cli.progress import AWAY, BACK, HEARD_NOTHING, Progress, follow, line, picture
from agent.clock import SystemClock
from agent.errors import BusUnavailable
from agent.testing.waiting import until
from contracts import envelope
from contracts.codec import encode
from contracts.delivery import Evidence, GateVerdict
from contracts.envelope import Envelope
from contracts.status import Phase, Status, StepReport, TaskStatus

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def _shown(renderable: RenderableType, *, columns: int = 200) -> str:
    stream = io.StringIO()
    Console(file=stream, width=columns).print(renderable)
    return stream.getvalue()


def _status(**fields: object) -> TaskStatus:
    return TaskStatus.model_validate(
        {
            "status": Status.VERIFYING,
            "phase": Phase.VERIFY,
            "completed": ("Data models",),
            "pending": ("Load test",),
            **fields,
        }
    )


def test_steps_start_and_finish() -> None:
    """The picture shows what runs now."""
    progress = Progress("t-1")

    progress.take(_status(step=StepReport(name="verify.load", state="started", done=7, total=12)), NOON)
    assert list(progress.running) == ["verify.load"]

    finished = StepReport(name="verify.load", state="finished", done=8, total=12, duration_s=11.5)
    progress.take(_status(step=finished), NOON)
    assert not progress.running


def test_terminal_statuses_end_the_watch() -> None:
    """Five statuses are ends, the others are not."""
    progress = Progress("t-1")
    assert not progress.ended

    progress.take(_status(), NOON)
    assert not progress.ended

    progress.take(_status(status=Status.FAILED), NOON)
    assert progress.ended


def test_times_are_those_of_the_events() -> None:
    """Who comes late and reads a whole task in a moment is told how long it took, not how long the reading took."""
    progress = Progress("t-1")
    progress.take(_status(status=Status.QUEUED, phase=Phase.ANALYSE), NOON)
    progress.take(_status(), NOON + timedelta(seconds=4))
    progress.take(_status(status=Status.FAILED), NOON + timedelta(seconds=90))

    shown = _shown(picture(progress, NOON + timedelta(hours=3))).splitlines()

    assert "90.0 s" in shown[0]
    assert [row for row in shown if "Production readiness" in row and "86.0 s" in row]


def test_a_task_that_ended_badly_runs_nothing_and_its_phase_is_not_ticked() -> None:
    """What ran when it was cancelled does not run any more, and was not done."""
    progress = Progress("t-1")
    progress.take(_status(step=StepReport(name="gate.types", state="started", done=7, total=12)), NOON)
    progress.take(_status(status=Status.CANCELLED), NOON)

    shown = _shown(picture(progress, NOON))

    assert "gate.types" not in shown
    assert "✗  Production readiness" in shown


def test_a_gate_that_is_measured_again_stands_once() -> None:
    """A second attempt repeats what its predecessor had not recorded."""
    progress = Progress("t-1")
    for summary in ("first", "second"):
        progress.take(_status(gate=Evidence(gate="types", verdict=GateVerdict.PASS, summary=summary)), NOON)

    assert [gate.summary for gate in progress.gates] == ["second"]


def _gates() -> list[Evidence]:
    sentence = "328 tests passed, none skipped; 85.5 % of the branches covered " * 3
    return [
        Evidence(
            gate=name, verdict=GateVerdict.PASS, value=85.5, threshold=80, unit="% of branches", summary=sentence, duration_s=27.9
        )
        for name in ("tests", "fuzz", "migrations")
    ]  # fmt: skip


def test_the_live_picture_has_one_line_for_a_gate() -> None:
    """A picture higher than the screen hides the steps that run."""
    lines = _shown(gates_so_far(_gates()), columns=80).splitlines()

    assert [line.split()[:3] for line in lines] == [["✓", name, "27.9"] for name in ("tests", "fuzz", "migrations")]


@pytest.mark.parametrize("columns", [80, 140])
def test_measured_value_threshold_and_sentence_stand_on_every_width(columns: int) -> None:
    """On a narrow terminal the sentence has the lines below to itself, and no line is longer than the terminal."""
    shown = _shown(gates_table(_gates(), columns=columns), columns=columns)

    for text in ("85.5 % of branches", "80 % of branches", "27.9", "none skipped"):
        assert shown.count(text) >= 3
    assert max(map(len, shown.splitlines())) <= columns


def _record(task_id: str, status: Status) -> Outgoing:
    payload = _status(status=status, task_id=task_id, phase=Phase.DELIVER)
    attributes = Envelope(id=str(uuid4()), source="/agent", type=envelope.TASK_STATUS.wire, subject=task_id, time=NOON)
    encoded = encode(envelope.TASK_STATUS, attributes, payload, key=task_id)
    return Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers)


async def test_who_watches_a_task_that_nobody_tells_of_is_told_so() -> None:
    """A wrong id, or no agent: silence for ever looks like work."""
    bus, stream, task_id = MemoryBus(), io.StringIO(), str(uuid4())
    watching = asyncio.create_task(
        follow(bus, task_id, Console(file=stream, width=200), clock=SystemClock(), patience_s=0)
    )
    await until(lambda: HEARD_NOTHING in stream.getvalue(), "the hint")

    bus.append(_record(task_id, Status.FAILED))
    progress = await watching

    assert progress.ended
    assert stream.getvalue().count(HEARD_NOTHING) == 1


async def test_a_task_that_is_told_of_gets_no_such_hint() -> None:
    """The hint is for silence."""
    bus, stream, task_id = MemoryBus(), io.StringIO(), str(uuid4())
    bus.append(_record(task_id, Status.FAILED))

    await follow(bus, task_id, Console(file=stream, width=200), clock=SystemClock(), patience_s=60)

    assert HEARD_NOTHING not in stream.getvalue()
    assert "failed" in stream.getvalue()


async def test_a_watch_outlives_the_broker_and_tells_every_status_once() -> None:
    """A watch is long; who started it can end it."""
    bus, stream, task_id = MemoryBus(), io.StringIO(), str(uuid4())
    bus.append(_record(task_id, Status.ANALYSING))
    watching = asyncio.create_task(
        follow(bus, task_id, Console(file=stream, width=200), clock=SystemClock(), patience_s=60, retry_s=0)
    )
    await until(lambda: "analysing" in stream.getvalue(), "the first status")

    bus.down = True
    await until(lambda: AWAY in stream.getvalue(), "the word that it is away")
    bus.append(_record(task_id, Status.VERIFYING))
    bus.down = False
    await until(lambda: "verifying" in stream.getvalue(), "the status of the outage")
    bus.append(_record(task_id, Status.FAILED))
    await watching

    told = stream.getvalue()
    assert [told.count(word) for word in ("analysing", AWAY, BACK, "verifying", "failed")] == [1] * 5


async def test_a_watch_does_not_begin_without_a_broker() -> None:
    """A wrong address would be waited for without end."""
    bus = MemoryBus()
    bus.down = True

    with pytest.raises(BusUnavailable):
        await follow(bus, str(uuid4()), Console(file=io.StringIO()), clock=SystemClock())


def test_a_line_does_not_repeat_what_the_one_before_it_said() -> None:
    """The last step and the end of a task carry the same sentence, which the report then tells once more."""
    ended = _status(status=Status.COMPLETED, message="Delivered 20 of 21 operations.")

    assert "Delivered 20" in line(1.0, ended, said="commit 2bc8490f1937 on main")
    assert "Delivered 20" not in line(1.0, ended, said=ended.message)


def test_markup_in_events_is_shown_not_obeyed() -> None:
    """Events are hostile data; a terminal must not be steered by them."""
    gate = Evidence(gate="[red]x", verdict=GateVerdict.FAIL, summary="[link=evil]y[/link]", unit="[red]", value=1)
    progress = Progress("t-1")
    progress.take(_status(gate=gate), NOON)

    shown = [
        _shown(line(1.0, _status(gate=gate))),
        _shown(picture(progress, NOON)),
        _shown(gates_table([gate], columns=80)),
        _shown(gates_table([gate], columns=140)),
    ]

    assert all("[link=evil]y[/link]" in text and "[red]x" in text for text in shown)
    assert all("1 [red]" in text for text in shown[2:])
