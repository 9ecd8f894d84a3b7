"""Engine, runtime and context manager together, on memory adapters: from the record to the delivery."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.trace import NoOpTracer

from agent.artifacts.memory import MemoryArtifacts
from agent.context.manager import ContextManager
from agent.gates.gate import Gate, Subject, Tools
from agent.journal.port import State
from agent.pipeline.attempt import Means
from agent.pipeline.engine import Engine
from agent.sandbox.port import Sandbox
from agent.services.port import Databases
from agent.settings import ContextSettings, Settings
from agent.telemetry.metrics import Metrics
from agent.testing.harness import Harness, cancel, request
from contracts import topics
from contracts.context import ContextQuery
from contracts.delivery import Evidence, TaskDelivered
from tests.unit.pipeline.support import FakeCompiler, FakeSuite, FolderSandbox


class SlowSuite(FakeSuite):
    """Stands still in the gate `tests` until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def run(self, gate: Gate, subject: Subject, tools: Tools, earlier: Any) -> Evidence:
        if gate.name == "tests" and not self.reached.is_set():
            self.reached.set()
            await self.go.wait()
        return await super().run(gate, subject, tools, earlier)


async def is_stored(harness: Harness, task: str, step: str) -> bool:
    """Whether a step has its checkpoint."""
    return step in await harness.journal.checkpoints(task)


Start = Callable[..., Harness]


@pytest.fixture
def harness_with(tmp_path: Path) -> Start:
    """Makes an agent whose work is the real engine."""

    def make(suite: FakeSuite, *, context_timeout_s: float = 0.2) -> Harness:
        settings = Settings(workspace=tmp_path / "workspace", context=ContextSettings(timeout_s=context_timeout_s))
        harness = Harness(tmp_path / "attempts")
        artifacts: MemoryArtifacts = harness.artifacts
        means = Means(
            sandbox=cast(Sandbox, FolderSandbox(tmp_path / "sandbox")), databases=cast(Databases, None), artifacts=artifacts,
            clock=harness.clock, settings=settings, metrics=Metrics(), tracer=NoOpTracer(), compiler=FakeCompiler(), suite=suite,
        )  # fmt: skip
        harness.work = Engine(means)
        harness.supervisor = harness._make()
        return harness

    return make


async def test_a_record_becomes_a_delivery_with_the_context_managers_facts(harness_with: Start, tmp_path: Path) -> None:
    """The whole line: request, question, answer, statuses in a gapless sequence, delivery, end."""
    facts = tmp_path / "context.yaml"
    await asyncio.to_thread(facts.write_text, "data_stores: {main: PostgreSQL 18}")
    harness = harness_with(FakeSuite(), context_timeout_s=10)
    stop = asyncio.Event()
    manager = asyncio.create_task(ContextManager(harness.bus, facts).run(stop))

    async with harness:
        task = await harness.deliver(request("orders"))
        await harness.until_state(task, State.COMPLETED)
    stop.set()
    await manager

    (delivered,) = [m.payload for m in harness.messages(topics.DELIVERIES)]
    assert isinstance(delivered, TaskDelivered)
    assert len(delivered.assumptions) == 5
    (query,) = [m.payload for m in harness.messages(topics.CONTEXT_QUERIES)]
    assert isinstance(query, ContextQuery)
    assert query.task_id == task
    sequences = harness.sequences(task)
    assert sequences == list(range(1, len(sequences) + 1))
    assert harness.statuses(task)[-1] == "completed"
    assert (tmp_path / "workspace/services/orders/app/main.py").is_file()


async def test_without_a_context_manager_the_work_goes_on(harness_with: Start) -> None:
    """Nobody answers: six assumptions, and a delivery all the same."""
    async with harness_with(FakeSuite()) as harness:
        task = await harness.deliver(request("orders"))
        await harness.until_state(task, State.COMPLETED)

    (delivered,) = [m.payload for m in harness.messages(topics.DELIVERIES)]
    assert isinstance(delivered, TaskDelivered)
    assert len(delivered.assumptions) == 6


async def test_a_cancelled_task_delivers_nothing(harness_with: Start, tmp_path: Path) -> None:
    """In the middle of a gate."""
    suite = SlowSuite()
    async with harness_with(suite) as harness:
        task = await harness.deliver(request("orders"))
        await asyncio.wait_for(suite.reached.wait(), 10)
        await harness.deliver(cancel(task))
        await harness.until_state(task, State.CANCELLED)

    assert harness.messages(topics.DELIVERIES) == []
    assert not (tmp_path / "workspace" / "services").exists()


async def test_a_crash_in_a_gate_is_resumed_by_the_next_process(harness_with: Start) -> None:
    """Only the gate in flight and what follows it are run; the delivery happens once."""
    suite = SlowSuite()
    harness = harness_with(suite)
    async with harness:
        task = await harness.deliver(request("orders"))
        await asyncio.wait_for(suite.reached.wait(), 10)
        await harness.until(partial(is_stored, harness, task, "gate.lint"))
        await harness.crash()
        suite.calls.clear()
        harness.advance(harness.settings.lease_s + 1)
        await harness.start()
        await harness.until_state(task, State.COMPLETED)

    assert suite.calls == ["install", "tests", "security", "load"]
    assert len(harness.messages(topics.DELIVERIES)) == 1


async def test_a_failing_gate_ends_on_the_bus_as_failed_without_a_dead_letter(harness_with: Start) -> None:
    """Status `failed` with the evidence, nothing else."""
    async with harness_with(FakeSuite(failing={"lint"})) as harness:
        task = await harness.deliver(request("orders"))
        await harness.until_state(task, State.FAILED)

    assert harness.statuses(task)[-1] == "failed"
    assert harness.messages(topics.DELIVERIES) == []
    assert harness.dead_letters() == []
