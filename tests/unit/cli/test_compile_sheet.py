"""The report of `compile` fits the terminal, and loses no operation and no reason."""

import io

import pytest
from rich.console import Console

from agent.cli.compile_sheet import show_report
from agent.compiler.report import Line, Report
from contracts.status import Diagnostic

LONG = "/equipment/{equipmentId}/inspections/{inspectionId}/photographs/{photographId}/thumbnails"
WHY = "`return` is an action: the document does not say what it changes, and nothing was guessed about it"


def _report() -> Report:
    line = Line("listCategories", "GET", "/categories", "derived", "list", "high", None, None, "/paths/~1categories")
    hooked = Line("returnRental", "DELETE", LONG, "hooked", "action", "medium", None, WHY, "/paths/~1x")
    told = Diagnostic(pointer="/info", code="x.y", severity="warning", message="a \x1b[2J word " * 12, remedy="mend it")
    return Report("Rentals", (line, hooked), (told,), (), "sha256:0")


@pytest.mark.parametrize("columns", [60, 80, 106])
def test_a_narrow_terminal_gets_the_whole_report(columns: int) -> None:
    """A table that wraps is unreadable, and one that is cut hides what a person has to do."""
    stream = io.StringIO()

    show_report(_report(), Console(file=stream, width=columns))

    shown = stream.getvalue()
    assert max(map(len, shown.splitlines())) <= columns
    joined = "".join(shown.split())
    assert "".join(WHY.split()) in joined
    assert "mendit" in joined
    assert "2operations:1derived,1hooked" in joined
    assert "\x1b" not in shown
    assert all(word in shown for word in ("/categories", "hooked", "action", "medium"))


def test_a_wide_terminal_gets_the_table_of_text() -> None:
    """The one that a pipe gets."""
    stream = io.StringIO()

    show_report(_report(), Console(file=stream, width=400))

    assert _report().to_text().splitlines()[0] in stream.getvalue()
