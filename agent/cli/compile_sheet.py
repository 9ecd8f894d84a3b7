"""How the report of a compilation reads where a terminal is too narrow for its table of text."""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from agent.cli.common import plain
from agent.compiler.report import Report


def show_report(report: Report, console: Console) -> None:
    """Print it: as text where that fits; else without the operations' names, and folded."""
    text = report.to_text()
    if max(map(len, text.splitlines()[: len(report.lines) + 1])) <= console.width:
        console.print(text, markup=False)
        return
    console.print(_operations(report))
    counts = {name: number for name, number in report.summary.items() if number and name != "operations"}
    console.print(f"{len(report.lines)} operations: {', '.join(f'{number} {name}' for name, number in counts.items())}")
    _show_section("Not derived", _not_derived(report), console)
    _show_section("Diagnostics", _diagnostics(report), console)


def _operations(report: Report) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("method", "path", "verdict", "rule", "confidence"):
        table.add_column(name, overflow="fold", no_wrap=name != "path")
    for one in report.lines:
        table.add_row(*map(plain, (one.method, one.path, one.verdict, one.rule, one.confidence)))
    return table


def _not_derived(report: Report) -> Iterator[str]:
    return (f"{one.method} {one.path}: {one.reason}" for one in report.lines if one.reason)


def _diagnostics(report: Report) -> Iterator[str]:
    for one in report.diagnostics:
        if one.severity != "info":
            yield f"{one.severity} {one.code} at {one.pointer or '/'}: {one.message} {one.remedy}"


def _show_section(title: str, lines: Iterable[str], console: Console) -> None:
    """Nothing where there are no lines."""
    found = list(lines)
    if found:
        console.print(f"\n{title}:")
    for line in found:
        console.print(Padding(plain(line), (0, 0, 0, 2)))
