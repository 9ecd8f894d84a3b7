"""What a person reads at the end of a task: faults with a way to repeat them, and text of strangers as text."""

from pathlib import Path

import pytest

from agent.cli.report import show_failure
from contracts.delivery import Evidence, GateVerdict
from contracts.status import Diagnostic, Phase, Status, TaskStatus


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
