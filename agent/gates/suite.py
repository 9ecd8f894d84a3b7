"""All gates in order, and how they are run.

Stages follow each other: what everything needs first, then what is cheap, then what calls the running service, and the
load alone at the end, because it measures time.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from agent.gates import container, document, environment, fuzz, holes, load, migrations, start, static, tests
from agent.gates.gate import Gate, Subject, Tools
from agent.gates.readiness import readiness
from agent.gates.sentence import sentence
from contracts.delivery import Evidence, GateVerdict

__all__ = ["GATES", "readiness", "run_gate", "run_suite", "sentence", "stages"]

GATES = (
    Gate(
        "install", "Installs from its lock file", 0, environment.check,
        remedy="The log shows what the installer said; `make relock` refreshes the lock files of a target.",
    ),
    Gate(
        "lint", "ruff", 1, static.check_lint, ("install",),
        remedy="Run `ruff check .` and `ruff format .` in the project.",
    ),
    Gate("types", "mypy", 1, static.check_types, ("install",), remedy="Run `mypy` in the project."),
    Gate(
        "security", "bandit", 1, static.check_security, ("install",),
        remedy="Run `bandit -r app` in the project; each finding names its file, line and rule.",
    ),
    Gate(
        "migrations", "Migrations up, down, up", 1, migrations.check, ("install",),
        remedy="Repeat the alembic steps of the log on an empty database (SERVICE_DATABASE_URL).",
    ),
    Gate(
        "start", "Starts, health, metrics, stops", 1, start.check, ("install",),
        remedy="The log ends with the output of `python -m app`.",
    ),
    Gate(
        "tests", "Its own tests", 2, tests.check, ("install", "migrations"),
        remedy="Run `coverage run -m pytest` in the project (SERVICE_TEST_DATABASE_URL names a server for test databases).",
    ),
    Gate(
        "document", "Served document", 2, document.check, ("install", "start"),
        remedy="Compare GET /openapi.json with openapi.json; the details list the JSON pointers that differ.",
    ),
    Gate(
        "holes", "Hooked operations", 2, holes.check, ("install", "start"),
        remedy="Each fault names an operation: it must answer 501 with a problem document.",
    ),
    Gate(
        "fuzz", "Schemathesis", 2, fuzz.check, ("install", "start"),
        remedy="Each failure in the details has a curl command that repeats it against a served copy.",
    ),
    Gate(
        "container", "Container image", 2, container.check,
        remedy="Run `docker build .` in the project.",
    ),
    Gate(
        "load", "Load", 3, load.check, ("install", "start"), exclusive=True,
        remedy="The details give latency by kind and operation and the faults; the log holds the service's output.",
    ),
)  # fmt: skip


async def run_gate(gate: Gate, subject: Subject, tools: Tools, earlier: Mapping[str, Evidence]) -> Evidence:
    """Run one gate, or say which gate it waited for in vain.

    Raises EnvironmentUnfit and OSError when the machine is at fault, CancelledError when cancelled (no child is left).
    """
    for need in gate.needs:
        before = earlier.get(need)
        if before is None or before.verdict not in (GateVerdict.PASS, GateVerdict.WAIVED):
            ended = (
                "was not run" if before is None else "failed" if before.verdict is GateVerdict.FAIL else "was skipped"
            )
            return Evidence(
                gate=gate.name,
                verdict=GateVerdict.SKIPPED,
                summary=f"needs {need}, which {ended}",
                subject_digest=subject.digest,
            )
    tools.progress(f"{gate.name}: started")
    return await gate.check(subject, tools)


def stages(gates: Iterable[Gate] = GATES) -> list[tuple[Gate, ...]]:
    """Groups that may run together, in order; an exclusive gate is a group of its own."""
    ordered = sorted(gates, key=lambda gate: (gate.stage, gate.exclusive))
    groups: list[tuple[Gate, ...]] = []
    for _stage, members in groupby(ordered, key=lambda gate: gate.stage):
        together = list(members)
        if shared := tuple(gate for gate in together if not gate.exclusive):
            groups.append(shared)
        groups += [(gate,) for gate in together if gate.exclusive]
    return groups


async def run_suite(
    subject: Subject,
    tools: Tools,
    *,
    gates: Sequence[Gate] = GATES,
    at_once: int = 2,
    on_evidence: Callable[[Evidence], None] = lambda _evidence: None,
) -> tuple[Evidence, ...]:
    """Run `gates` stage by stage, at most `at_once` together; evidence in the order of `gates`.

    `on_evidence` is called as each one ends. Raises as run_gate does; the other gates are cancelled first.
    """
    found: dict[str, Evidence] = {}
    free = asyncio.Semaphore(at_once)

    async def one(gate: Gate) -> None:
        async with free:
            found[gate.name] = await run_gate(gate, subject, tools, found)
        on_evidence(found[gate.name])

    for stage in stages(gates):
        tasks = [asyncio.ensure_future(one(gate)) for gate in stage]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return tuple(found[gate.name] for gate in gates)
