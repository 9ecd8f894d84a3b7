"""`verify` and `serve`: measure a project, run a project. No Kafka."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.common import Exit, Panel, fail, load_settings, plain, print_json, run, stderr, stdout
from agent.cli.gate_sheet import MARKS, gates_table
from agent.cli.local_service import first_call, service_of, subject_of
from agent.cli.report import readiness_table, show_faults
from agent.gates.live import NotReady
from agent.gates.suite import GATES, readiness, run_suite
from agent.settings import Settings
from contracts.delivery import Evidence, GateVerdict, ReadinessItem

DEEP_EXAMPLES = 100
REMEDIES = {gate.name: gate.remedy for gate in GATES}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("verify", rich_help_panel=Panel.ALONE)(verify)
    app.command("serve", rich_help_panel=Panel.ALONE)(serve)


def verify(
    folder: Annotated[
        Path, typer.Argument(help="A project that `compile` or a delivery made; edits of yours included.")
    ],
    deep: Annotated[bool, typer.Option("--deep", help=f"{DEEP_EXAMPLES} fuzz examples per operation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the evidence as one JSON object.")] = False,
) -> None:
    """Run every gate on a project and show what was measured. Exit code 1 if a gate fails."""
    settings = load_settings()
    if deep:
        settings = settings.model_copy(
            update={"gates": settings.gates.model_copy(update={"fuzz_examples": DEEP_EXAMPLES, "fuzz_time_s": 3600.0})}
        )
    digest, evidence = run(_verify(settings, folder))
    items = readiness(evidence)
    if as_json:
        print_json(
            {
                "digest": digest,
                "evidence": [e.model_dump(mode="json") for e in evidence],
                "readiness": [i.model_dump(mode="json") for i in items],
            }
        )
    else:
        _show(evidence, items, settings.workspace)
        stdout.print(f"\nmeasured on {digest}")
    if any(e.verdict is GateVerdict.FAIL for e in evidence):
        raise typer.Exit(Exit.FAILED)


def _show(evidence: Sequence[Evidence], items: Sequence[ReadinessItem], workspace: Path) -> None:
    stdout.print(gates_table(evidence, columns=stdout.width))
    stdout.print("\n[bold]Production readiness[/]")
    stdout.print(readiness_table(items))
    for one in evidence:
        if one.verdict is GateVerdict.FAIL:
            show_faults(one, workspace)
            stdout.print(f"  remedy: {plain(REMEDIES.get(one.gate, ''))}")


async def _verify(settings: Settings, folder: Path) -> tuple[str, tuple[Evidence, ...]]:
    async with subject_of(settings, folder) as (subject, tools):

        def say(evidence: Evidence) -> None:
            stderr.print(
                f"{MARKS[evidence.verdict]} {plain(evidence.gate):12} {plain(evidence.summary)}", soft_wrap=False
            )

        return subject.digest, tuple(await run_suite(subject, tools, on_evidence=say))


def serve(
    folder: Annotated[Path, typer.Argument(help="A project that `compile` or a delivery made.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8080,
) -> None:
    """Run a project here, with a throwaway PostgreSQL and credentials made for it; everything is gone at the end.

    Prints `ready URL` when the service answers, and a first call to try.
    """
    settings = load_settings()
    try:
        run(_serve(settings, folder, port))
    except NotReady as exc:
        fail(Exit.FAILED, str(exc), "read the service's log above, or run `backwright verify` on it")


async def _serve(settings: Settings, folder: Path, port: int) -> None:
    task = asyncio.current_task()
    assert task is not None
    terminated = asyncio.Event()

    def end() -> None:
        terminated.set()
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    try:
        async with service_of(settings, folder, port=port) as service:
            stdout.print(f"ready {service.url}")
            stderr.print(first_call(service.facts, service.credentials, service.url), markup=False)
            code = await service.running.wait()
    except asyncio.CancelledError:
        if not terminated.is_set():
            raise  # Ctrl-C; SIGTERM is how a server is ended
    else:
        raise NotReady(f"the service ended by itself with code {code}")
