"""The end of a task, for people: the delivery and its evidence, or what went wrong and where to read."""

from collections.abc import Iterable
from pathlib import Path

from rich.panel import Panel
from rich.table import Table

from agent.cli.common import Exit, plain, stdout
from agent.cli.gate_sheet import gates_table
from agent.cli.progress import Progress
from contracts.delivery import Evidence, GateVerdict, ReadinessItem, TaskDelivered
from contracts.status import Status, TaskStatus

FAULTS_SHOWN = 5
FAULTS = ("failures", "faults", "differences")  # under which of them a gate lists what it found
READINESS = {"passed": "[green]✓[/]", "failed": "[red]✗[/]", "not performed": "[yellow]–[/]"}


def show_end(progress: Progress, workspace: Path) -> None:
    """Print how it ended."""
    if progress.delivery is not None:
        show_delivery(progress.delivery, workspace)
    elif progress.last is not None:
        show_failure(progress.last, workspace)


def end_of(progress: Progress) -> Exit:
    """The exit code of whoever waited for it."""
    if progress.delivery is not None:
        return Exit.DONE
    is_refused = progress.last is not None and progress.last.status is Status.REJECTED
    return Exit.BAD_INPUT if is_refused else Exit.FAILED


def show_delivery(delivery: TaskDelivered, workspace: Path) -> None:
    """The sentence, the gates, the readiness items, the operations, and where everything lies."""
    stdout.print()
    stdout.print(Panel(plain(delivery.summary), title="Delivery", border_style="green", expand=False))
    stdout.print(gates_table(delivery.evidence, columns=stdout.width))
    stdout.print("\n[bold]Production readiness[/]")
    stdout.print(readiness_table(delivery.readiness))
    counts: dict[str, int] = {}
    for operation in delivery.operations:
        counts[operation.verdict] = counts.get(operation.verdict, 0) + 1
    stdout.print(
        "\n[bold]Operations[/]  " + " · ".join(f"{number} {plain(verdict)}" for verdict, number in counts.items())
    )
    for operation in delivery.operations:
        if operation.verdict != "derived":
            stdout.print(
                f"  [yellow]{plain(operation.verdict)}[/] {plain(operation.method)} {plain(operation.path)}: {plain(operation.reason or operation.rule)}"
            )
    for assumption in delivery.assumptions:
        stdout.print(f"  [dim]assumed: {plain(assumption)}[/]")
    stdout.print(
        f"\n[bold]Service[/]  {plain(str(workspace / delivery.service.path))}  [dim]{plain(delivery.service.digest)}[/]"
    )


def readiness_table(items: Iterable[ReadinessItem]) -> Table:
    """The eight items with what they stand on."""
    table = Table.grid(padding=(0, 1))
    for item in items:
        table.add_row(READINESS.get(item.state, ""), plain(item.item), plain(item.note or ", ".join(item.evidence)))
    return table


def show_failure(status: TaskStatus, workspace: Path) -> None:
    """The terminal status with diagnostics, failed gates and what to read."""
    stdout.print()
    told = "" if status.diagnostics else status.message or ""  # a refusal's message is its first diagnostic
    stdout.print(f"[bold red]{status.status}[/]  {plain(told)}".rstrip())
    for diagnostic in status.diagnostics:
        stdout.print(
            f"  {plain(diagnostic.pointer) or '(document)'}: {plain(diagnostic.message)}\n    remedy: {plain(diagnostic.remedy)}"
        )
    if status.error is not None and not status.diagnostics:
        why = "" if status.error.message == status.message else f": {plain(status.error.message)}"
        stdout.print(f"  {plain(status.error.kind)} {plain(status.error.code)}{why}")
    if status.evidence:
        stdout.print(gates_table(status.evidence, columns=stdout.width))
    for evidence in status.evidence:
        if evidence.verdict is GateVerdict.FAIL:
            show_faults(evidence, workspace)


def show_faults(evidence: Evidence, workspace: Path) -> None:
    """What a failed gate saw: its first faults, how to repeat them, and where its log lies."""
    stdout.print(f"\n[bold red]{plain(evidence.gate)}[/]  {plain(evidence.summary)}")
    told_under = next((name for name in FAULTS if evidence.details.get(name)), "")
    faults = list(evidence.details.get(told_under, ()))
    for fault in faults[:FAULTS_SHOWN]:
        told = fault if isinstance(fault, dict) else {"message": fault}
        line, *_ = str(told.get("message", "")).splitlines() or [""]
        words = (str(told.get("operation", "")), line[:300])
        stdout.print(f"  {' '.join(plain(word) for word in words if word)}".rstrip())
        if told.get("reproduce"):
            stdout.print(f"    {plain(str(told['reproduce'])[:1000])}")
    if len(faults) > FAULTS_SHOWN:
        stdout.print(f"  … and {len(faults) - FAULTS_SHOWN} more")
    if evidence.log is not None:
        digest = evidence.log.removeprefix("sha256:")
        log = workspace / "artifacts" / digest[:2] / digest[2:]
        stdout.print(f"  log: {plain(str(log) if log.is_file() else evidence.log)}")
