"""Verify: the gates, one step each, on exactly the files that the compiler made."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import structlog

from agent.compiler.compile import MANIFEST
from agent.errors import PermanentError, TransientError
from agent.gates.gate import Gate, Subject, Tools
from agent.pipeline.attempt import Attempt
from agent.pipeline.develop import stored_files
from agent.pipeline.phase import GATE_ITEMS, Outputs, Result, Step
from agent.settings import Settings
from contracts.delivery import Evidence, GateVerdict
from contracts.status import ErrorReport, Phase

log = structlog.get_logger()
INSTALL, HOLES = "install", "holes"
AT_ONCE = 2  # gates side by side; each keeps about one core busy


class Floor:
    """Room for gates in this process, over all attempts: `AT_ONCE` of them, or one that must be alone."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)
        self._clearing = asyncio.Lock()

    @asynccontextmanager
    async def place(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for a place, or for all of them."""
        async with AsyncExitStack() as stack:
            if alone:
                await stack.enter_async_context(self._clearing)  # two that want all must not each hold half
            for _ in range(AT_ONCE if alone else 1):
                await stack.enter_async_context(self._places)
            yield


def step_name(gate: str) -> str:
    """Name of a gate's step."""
    return f"gate.{gate}"


def steps(settings: Settings, gates: Sequence[Gate]) -> tuple[Step, ...]:
    """One step per gate. Thresholds are part of the input: evidence against another threshold is measured again."""
    thresholds = settings.gates.model_dump_json()
    return tuple(
        Step(
            step_name(gate.name), Phase.VERIFY, gate.stage, partial(check, gate=gate),
            items=(GATE_ITEMS.get(gate.name, gate.title),), needs=("compile",), settings=thresholds, exclusive=gate.exclusive,
        )
        for gate in gates
    )  # fmt: skip


async def check(attempt: Attempt, *, gate: Gate) -> Result:
    """Run one gate and keep its evidence. A failing gate halts the task once the gates beside it have ended."""
    subject, tools = await _subject(attempt), _tools(attempt)
    if gate.name != INSTALL:
        await _environment(attempt, subject, tools)
    found = await attempt.means.suite.run(gate, subject, tools, evidence(attempt.outputs))
    if gate.name == INSTALL and found.verdict is GateVerdict.PASS:
        attempt.is_installed = True
    attempt.means.metrics.gates.labels(gate.name, found.verdict.value).inc()
    output: dict[str, Any] = {
        "verdict": found.verdict.value,
        "evidence": found.model_dump(mode="json", exclude_none=True),
    }
    if gate.name == HOLES and found.verdict is GateVerdict.SKIPPED:
        output["is_vacuous"] = not any(o.get("verdict") == "hooked" for o in subject.facts.get("operations", ()))
    if found.verdict is GateVerdict.FAIL:
        output["halt"] = _failure(gate, found).model_dump(mode="json", exclude_none=True)
    return Result(output, message=found.summary, gate=found)


def evidence(outputs: Outputs) -> Mapping[str, Evidence]:
    """What the gates have measured so far, by gate."""
    return {
        name.removeprefix("gate."): Evidence.model_validate(output["evidence"])
        for name, output in outputs.items()
        if name.startswith("gate.")
    }


def measured(attempt: Attempt) -> tuple[Evidence, ...]:
    """What was measured, in the gates' own order, however they ended."""
    known = evidence(attempt.outputs)
    return tuple(known[gate.name] for gate in attempt.means.suite.gates if gate.name in known)


def complete(attempt: Attempt, gates: Sequence[Gate]) -> tuple[Evidence, ...]:
    """Evidence of every gate, in their order; those that were not reached say why and show no number."""
    known = evidence(attempt.outputs)
    failed = [gate.name for gate in gates if gate.name in known and known[gate.name].verdict is GateVerdict.FAIL]
    reason = (
        f"not performed: {' and '.join(failed)} failed before it"
        if failed
        else "not performed: the task ended before it"
    )
    return tuple(
        known.get(gate.name) or Evidence(gate=gate.name, verdict=GateVerdict.SKIPPED, summary=reason) for gate in gates
    )


async def _subject(attempt: Attempt) -> Subject:
    """The files on disk, once per attempt, and the proof that they are the ones of the digest."""
    async with attempt.preparing:
        if attempt.subject is None:
            files = await stored_files(attempt)
            sandbox = attempt.means.sandbox
            # Not below the attempt's folder: the workspace may lie where the sandbox user cannot come.
            folder, work = [await attempt.stack.enter_async_context(sandbox.scratch(p)) for p in ("project-", "work-")]
            await asyncio.to_thread(files.write, folder)
            facts = json.loads(files[MANIFEST].content)
            attempt.subject = Subject(folder=folder, work=work, digest=files.digest, facts=facts)
        return attempt.subject


async def _environment(attempt: Attempt, subject: Subject, tools: Tools) -> None:
    """A new attempt has a new folder: what an earlier one installed is installed again, from the package cache.

    The evidence of the first time stays: it is about the same digest.
    """
    async with attempt.preparing:
        if attempt.is_installed:
            return
        gate = next((gate for gate in attempt.means.suite.gates if gate.name == INSTALL), None)
        known = evidence(attempt.outputs).get(INSTALL)
        if gate is None or known is None:
            return
        if known.subject_digest not in {None, subject.digest}:
            raise PermanentError("the environment was verified for other files")
        again = await attempt.means.suite.run(gate, subject, tools, {})
        if again.verdict is not GateVerdict.PASS:
            raise TransientError(f"the environment of an earlier attempt could not be installed again: {again.summary}")
        attempt.is_installed = True
        log.info("environment.restored", duration_s=again.duration_s)


def _tools(attempt: Attempt) -> Tools:
    means = attempt.means
    return Tools(
        sandbox=means.sandbox, databases=means.databases, artifacts=means.artifacts, clock=means.clock,
        leash=attempt.ledger.leash, settings=means.settings.gates,
        progress=lambda line: log.debug("gate.progressed", length=len(line)),
    )  # fmt: skip


def _failure(gate: Gate, found: Evidence) -> ErrorReport:
    read = f" {gate.remedy}" if gate.remedy else ""
    summary = found.summary.rstrip(". ")
    where = f" Log: {found.log}." if found.log else ""
    return ErrorReport(kind="gate", code=f"gate.{gate.name}", message=f"{gate.title} failed: {summary}.{read}{where}")
