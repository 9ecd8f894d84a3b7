"""What people see is folded from events, and text of strangers stays text."""

import io

from rich.console import Console

from agent.cli.progress import Progress, line, picture
from contracts.delivery import Evidence, GateVerdict
from contracts.status import Phase, Status, StepReport, TaskStatus


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

    progress.take(_status(step=StepReport(name="verify.load", state="started", done=7, total=12)))
    assert list(progress.running) == ["verify.load"]

    progress.take(_status(step=StepReport(name="verify.load", state="finished", done=8, total=12, duration_s=11.5)))
    assert not progress.running
    assert progress.finished == [("verify.load", 11.5)]


def test_terminal_statuses_end_the_watch() -> None:
    """Five statuses are ends, the others are not."""
    progress = Progress("t-1")
    assert not progress.ended

    progress.take(_status())
    assert not progress.ended

    progress.take(_status(status=Status.FAILED))
    assert progress.ended


def test_markup_in_events_is_shown_not_obeyed() -> None:
    """Events are hostile data; a terminal must not be steered by them."""
    gate = Evidence(gate="[red]x", verdict=GateVerdict.FAIL, summary="[link=evil]y[/link]")
    progress = Progress("t-1")
    progress.take(_status(gate=gate))
    stream = io.StringIO()
    console = Console(file=stream, width=200)

    console.print(line(1.0, _status(gate=gate)))
    console.print(picture(progress))

    assert "[link=evil]y[/link]" in stream.getvalue()
    assert "[red]x" in stream.getvalue()
