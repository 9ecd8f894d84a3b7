"""`python -m tests.bench [million] [--only NAME] [--quick]`: measure, print, write build/bench.json and build/bench.svg.

Without a name: everything but `million`. The exit code is 0 when all was measured, whatever the figures are: a busy
machine must not fail a build; 1 when something could not be measured.
"""

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.bench import durability, idle, latency, million, plot, replicas, service, throughput
from tests.bench.figures import Figure, rounded, save
from tests.bench.stage import BUILD, Stage

Bench = Callable[[Stage, bool], Awaitable[Sequence[Figure]]]
BENCHES: Mapping[str, Bench] = {
    "throughput": throughput.run,
    "distance": throughput.over_a_distance,
    "latency": latency.run,
    "checkpoint": durability.checkpoints,
    "crash": durability.crashes,
    "idle": idle.run,
    "service": service.run,
    "replicas": replicas.run,
}
APART: Mapping[str, Bench] = {"million": million.run}


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=[*BENCHES, *APART], help="one benchmark")
    parser.add_argument("--only", choices=[*BENCHES, *APART], help="the same")
    parser.add_argument("--quick", action="store_true", help="small numbers: shows that it works, measures nothing")
    given = parser.parse_args()
    one = given.only or given.name
    chosen = {one: {**BENCHES, **APART}[one]} if one else BENCHES
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a log has room for a line
    began, load_before = time.monotonic(), os.getloadavg()
    figures, failures = asyncio.run(_measure(chosen, given.quick, console))
    facts = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "benches": list(chosen),
        "quick": given.quick,
        "duration_s": round(time.monotonic() - began, 1),
        "load_average_before": load_before,
        "load_average_after": os.getloadavg(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    _write(figures, facts, quick=given.quick)
    console.print(_table(figures))
    for name, error in failures.items():
        console.print(f"[red]{name}: not measured[/red]: {error}", markup=True, highlight=False)
    console.print(
        f"load average {load_before[0]:.1f} → {os.getloadavg()[0]:.1f}, {facts['duration_s']} s", highlight=False
    )
    return 1 if failures else 0


async def _measure(chosen: Mapping[str, Bench], quick: bool, console: Console) -> tuple[list[Figure], dict[str, str]]:
    figures: list[Figure] = []
    failures: dict[str, str] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=console.is_terminal) as progress:
        bar = progress.add_task("", total=len(chosen))
        for name, bench in chosen.items():

            def say(text: str, name: str = name) -> None:
                if console.is_terminal:
                    progress.update(bar, description=f"{name}: {text}")
                else:
                    console.print(f"{name}: {text}", highlight=False)

            try:
                async with Stage(say) as stage:
                    figures += await bench(stage, quick)
            except (AssertionError, RuntimeError, OSError, TimeoutError) as exc:
                failures[name] = f"{type(exc).__name__}: {exc}"
            progress.advance(bar)
    return figures, failures


def _write(figures: Sequence[Figure], facts: Mapping[str, Any], *, quick: bool) -> None:
    """A quick run has files of its own: its figures must not pass for measurements."""
    name = "bench-quick" if quick else "bench"
    path = BUILD / f"{name}.json"
    save(path, figures)
    lines = orjson.loads(path.read_bytes())
    (BUILD / f"{name}.svg").write_text(plot.svg(lines, f"Backwright: figures against their targets, {facts['at']}"))
    details = {**facts, "rounds": {each.name: each.values for each in figures if each.values}}
    with (BUILD / f"{name}-runs.jsonl").open("ab") as log:
        log.write(orjson.dumps(details) + b"\n")


def _table(figures: Sequence[Figure]) -> Table:
    table = Table(box=None)
    for heading in ("figure", "value", "unit", "spread", "target", ""):
        table.add_column(heading, no_wrap=True)
    for each in figures:
        verdict = {None: "", True: "[green]met[/green]", False: "[red]not met[/red]"}[each.met]
        value = f"{rounded(each.value):g}"
        table.add_row(each.name, value, each.unit, each.spread(), str(each.target or ""), verdict)
    return table


if __name__ == "__main__":
    sys.exit(main())
