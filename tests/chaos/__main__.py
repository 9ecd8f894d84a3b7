"""`make chaos`: the storm on Apache Kafka and PostgreSQL, with three agents. Options: CHAOS_TASKS, CHAOS_SEED,
CHAOS_MINUTES, CHAOS_FAULT_EVERY_S (of agents), CHAOS_CUT_EVERY_S (of connections), CHAOS_BROKER_FAULTS (0: the broker is left alone), CHAOS_KEEP (a folder for logs and effects)."""

import asyncio
import json
import logging
import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from agent.bus.apache import LocalKafka
from agent.settings import KafkaSettings
from tests.chaos.history import History
from tests.chaos.proxy import Proxy
from tests.chaos.stack import Ground, large
from tests.chaos.storm import Options, Progress, Storm, Totals, conclude

RESULT = Path("build/chaos.json")


def options() -> Options:
    """From the environment."""
    env = os.environ
    return Options(
        tasks=int(env.get("CHAOS_TASKS") or 10_000),
        seed=int(env.get("CHAOS_SEED") or 1),
        minutes=float(env.get("CHAOS_MINUTES") or 12),
        agent_fault_every_s=float(env.get("CHAOS_FAULT_EVERY_S") or 3),
        network_fault_every_s=float(env.get("CHAOS_CUT_EVERY_S") or 1),
        broker_faults=env.get("CHAOS_BROKER_FAULTS", "1") != "0",
    )


async def blow(asked: Options, folder: Path, console: Console) -> Totals:
    """Set the stack up, run the storm, check."""
    with Ground() as ground:
        async with Proxy() as proxy:
            broker = LocalKafka(
                auto_create=False, advertised=proxy.port, progress=lambda line: console.print(line, style="dim")
            )
            totals, history = await _storm(asked, folder, broker, proxy, console)
        return conclude(totals, history, await ground.left())


async def _storm(
    asked: Options, folder: Path, broker: LocalKafka, proxy: Proxy, console: Console
) -> tuple[Totals, History]:
    async with broker as servers:
        proxy.target = int(servers.rpartition(":")[2])
        given = {"bootstrap_servers": f"127.0.0.1:{proxy.port}", "request_timeout_ms": 10_000}
        async with large(KafkaSettings.model_validate(given), broker, folder, broker_proxy=proxy) as stack:
            with Live(console=console, refresh_per_second=2, transient=True) as live:

                def show(progress: Progress) -> None:
                    live.update(_picture(progress, asked))
                    if not console.is_terminal and round(progress.elapsed_s) % 30 == 0:
                        console.print(_line(progress))

                return await Storm(asked, stack, show).run()


def _line(progress: Progress) -> str:
    """For a log."""
    return f"{progress.elapsed_s:4.0f} s  {progress.phase}  {progress.ended}/{progress.tasks} ended  {progress.faults.total()} faults"


def _picture(progress: Progress, asked: Options) -> Table:
    table = Table.grid(padding=(0, 2))
    done = progress.ended / max(1, progress.tasks)
    bar = "█" * round(40 * done) + "░" * (40 - round(40 * done))
    table.add_row(
        f"[bold]{progress.phase}[/]",
        f"{bar} {progress.ended}/{progress.tasks} ended, {progress.elapsed_s:.0f} s of {asked.minutes * 60:.0f}",
    )
    table.add_row("tasks", "  ".join(f"{state} {number}" for state, number in sorted(progress.states.items())))
    table.add_row("faults", "\n".join(f"{number:4} {fault}" for fault, number in progress.faults.most_common()))
    return table


def report(totals: Totals, console: Console) -> None:
    """Totals and verdicts, for people."""
    table = Table("", "", show_header=False, box=None)
    table.add_row("seed", str(totals.options["seed"]))
    table.add_row("time", f"{totals.duration_s:.0f} s")
    table.add_row("tasks", f"{totals.tasks}: " + ", ".join(f"{n} {state}" for state, n in totals.ends.items()))
    table.add_row("faults", "\n".join(f"{n} × {fault}" for fault, n in totals.faults.items()))
    table.add_row("leases lost", str(totals.lost_leases))
    table.add_row("processes", ", ".join(f"{n} {how}" for how, n in totals.process_ends.items()))
    table.add_row("events", f"{totals.events}, {totals.repeated_events} repeats")
    table.add_row("effects", f"{totals.effects}, {totals.effects_that_count} of them count")
    table.add_row("audited", f"{totals.audited_changes} changes")
    for name, faults in totals.verdicts.items():
        words = "[green]holds[/]" if not faults else f"[red]{len(faults)} faults[/]: " + "\n".join(faults[:3])
        table.add_row(name.replace("_", " "), words)
    for finding in totals.findings:
        table.add_row("[red]finding[/]", finding)
    console.print(table)


def main() -> int:
    """Exit code 1 if anything did not hold."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of our own sender: outages are what we make
    console = Console()
    asked = options()
    kept = os.environ.get("CHAOS_KEEP")
    with tempfile.TemporaryDirectory(prefix="backwright-chaos-") as scratch:
        folder = Path(kept or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        totals = asyncio.run(blow(asked, folder, console))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(totals.to_json(), indent=2, ensure_ascii=False) + "\n")
    report(totals, console)
    console.print(f"written to {RESULT}")
    return 1 if totals.faults_found else 0


if __name__ == "__main__":
    raise SystemExit(main())
