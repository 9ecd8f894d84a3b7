"""How gates read on a terminal: a table of what was measured, the same on a narrow one, and a line each while they run."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from agent.cli.common import WIDE_COLUMNS, plain, visible
from contracts.delivery import Evidence

MARKS = {"pass": "[green]✓[/]", "fail": "[red]✗[/]", "skipped": "[yellow]–[/]", "waived": "[yellow]~[/]"}


def gates_table(gates: Sequence[Evidence], *, columns: int) -> Table:
    """Gates with measured values and thresholds, as a table where a terminal has `columns` enough for one."""
    return _wide(gates) if columns >= WIDE_COLUMNS else _narrow(gates)


def gates_so_far(gates: Sequence[Evidence]) -> Table:
    """One line each, whatever the width: a live picture that outgrows the screen shows its end no more."""
    table = Table.grid(padding=(0, 2))
    for _ in ("mark", "gate", "seconds"):
        table.add_column(no_wrap=True)
    for evidence in gates:
        # A column that may not wrap would take its width from the others.
        sentence = Text(visible(evidence.summary), no_wrap=True, overflow="ellipsis")
        table.add_row(MARKS[evidence.verdict], plain(evidence.gate), f"{_seconds(evidence):>5}", sentence)
    return table


def _wide(gates: Sequence[Evidence]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("", "gate", "measured", "threshold", "seconds", "what was seen"):
        table.add_column(name, overflow="fold")
    for evidence in gates:
        table.add_row(
            MARKS[evidence.verdict], plain(evidence.gate), _measured(evidence) or "-", _threshold(evidence) or "-",
            _seconds(evidence), plain(evidence.summary),
        )  # fmt: skip
    return table


def _narrow(gates: Sequence[Evidence]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for evidence in gates:
        table.add_row(MARKS[evidence.verdict], plain(evidence.gate), ", ".join(_figures(evidence)))
        table.add_row("", "", Text.from_markup(plain(evidence.summary), style="dim"))
    return table


def _figures(evidence: Evidence) -> Iterator[str]:
    if measured := _measured(evidence):
        yield f"[bold]{measured}[/]"
    if threshold := _threshold(evidence):
        yield f"threshold {threshold}"
    if seconds := _seconds(evidence):
        yield f"took {seconds} s"


def _measured(evidence: Evidence) -> str:
    return _figure(evidence.value, evidence.unit)


def _threshold(evidence: Evidence) -> str:
    return _figure(evidence.threshold, evidence.unit)


def _seconds(evidence: Evidence) -> str:
    return f"{evidence.duration_s:.1f}" if evidence.duration_s is not None else ""


def _figure(value: object, unit: str | None) -> str:
    """A value in its unit; nothing for one that is only true or false: the mark says as much."""
    if value is None or isinstance(value, bool):
        return ""
    text = f"{value:g}" if isinstance(value, int | float) else plain(str(value))
    return f"{text} {plain(unit)}" if unit and not isinstance(value, str) else text
