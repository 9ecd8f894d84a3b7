"""What a person reads at the end of a task: faults with a way to repeat them, and text of strangers as text."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.panel import Panel
from rich.table import Table

from agent.cli.common import Exit, print_json, stdout
from agent.cli.progress import Progress
from agent.cli.report import end_of, show_failure, show_faults
from contracts.delivery import Evidence, GateVerdict
from contracts.status import Diagnostic, ErrorReport, Phase, Status, TaskStatus


def test_a_failed_gate_shows_its_faults_and_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 alone helps nobody."""
    log = tmp_path / "artifacts" / "ab" / "cdef"
    log.parent.mkdir(parents=True)
    log.write_text("whole log")
    fault = {"operation": "GET /x", "message": "Expected 401\nmore", "reproduce": "curl -i http://h/x"}
    evidence = Evidence(
        gate="fuzz", verdict=GateVerdict.FAIL, value=1, summary="1 failure", log="sha256:abcdef",
        details={"failures": [fault, {"message": ""}]},
    )  # fmt: skip

    show_failure(
        TaskStatus(status=Status.FAILED, phase=Phase.VERIFY, completed=(), pending=(), evidence=(evidence,)), tmp_path
    )

    shown = capsys.readouterr().out
    assert "GET /x Expected 401" in shown
    assert "curl -i http://h/x" in shown
    assert str(log) in shown


def test_a_refused_document_shows_place_and_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markup in a pointer is shown, not obeyed."""
    diagnostic = Diagnostic(pointer="/paths/[red]", code="x", severity="error", message="wrong", remedy="mend it")

    show_failure(
        TaskStatus(status=Status.REJECTED, phase=Phase.ANALYSE, completed=(), pending=(), diagnostics=(diagnostic,)),
        tmp_path,
    )

    assert "/paths/[red]: wrong" in capsys.readouterr().out


def test_the_places_of_what_failed_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first few; nobody opens a log to learn which line it is."""
    faults = [f"app/a.py:{line}:1: F401 unused" for line in range(7)]
    evidence = Evidence(gate="lint", verdict=GateVerdict.FAIL, summary="7 findings", details={"faults": faults})

    show_faults(evidence, tmp_path)

    shown = capsys.readouterr().out
    assert "  app/a.py:0:1: F401 unused" in shown
    assert "… and 2 more" in shown


def test_a_refusal_says_each_thing_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Message, diagnostic and error carry the same sentence in the event; a person reads it once."""
    diagnostic = Diagnostic(pointer="/openapi", code="x", severity="error", message="no version", remedy="mend it")
    error = ErrorReport(kind="permanent", code="x", message="no version (mend it)")

    show_failure(
        TaskStatus(
            status=Status.REJECTED, phase=Phase.ANALYSE, completed=(), pending=(), message="no version (mend it)",
            diagnostics=(diagnostic,), error=error,
        ),
        tmp_path,
    )  # fmt: skip

    assert capsys.readouterr().out.count("no version") == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(Status.REJECTED, Exit.BAD_INPUT), (Status.FAILED, Exit.FAILED), (Status.CANCELLED, Exit.FAILED)],
)
def test_a_refused_document_is_bad_input_whoever_waits_for_it(status: Status, code: Exit) -> None:
    """`demo`, `submit --watch` and `watch` say the same of the same task; so does `compile`."""
    progress = Progress("t-1")
    progress.take(
        TaskStatus(status=status, phase=Phase.ANALYSE, completed=(), pending=()), datetime(2026, 1, 5, tzinfo=UTC)
    )

    assert end_of(progress) == code


HOSTILE = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\r\nforged [red]line[/]"


def test_text_of_strangers_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A summary that sets a title, clears the screen, turns its line around or forges another is only text."""
    evidence = Evidence(gate=HOSTILE, verdict=GateVerdict.FAIL, summary=HOSTILE, details={"faults": [HOSTILE]})
    diagnostic = Diagnostic(pointer=HOSTILE, code="x", severity="error", message=HOSTILE, remedy=HOSTILE)

    show_failure(
        TaskStatus(
            status=Status.FAILED, phase=Phase.VERIFY, completed=(), pending=(), message=HOSTILE,
            evidence=(evidence,), diagnostics=(diagnostic,),
        ),
        tmp_path,
    )  # fmt: skip

    shown = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert "[red]line[/]" in shown
    assert not any(line.startswith("forged") for line in shown.splitlines())


def test_what_nobody_made_plain_is_made_so_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """One forgotten call must not be enough: the console itself lets nothing through, in plain text and in tables."""
    table = Table()
    table.add_row(HOSTILE)

    stdout.print(HOSTILE, markup=False)
    stdout.print(table)
    stdout.print(Panel(HOSTILE))

    shown = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_json_is_the_same_value_and_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON need not escape U+009B or U+202E; a terminal that shows it may obey them."""
    value = {HOSTILE: [HOSTILE, "\U000e0001 é 😀"]}

    print_json(value)

    shown = capsys.readouterr().out
    assert json.loads(shown) == value
    assert "é 😀" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)
