"""A bench for the engine: the real journal in memory, a ledger on it that can die at any write, fake compiler and gates."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from opentelemetry.trace import NoOpTracer

from agent.artifacts.memory import MemoryArtifacts
from agent.compiler.ir import Action, Api, Operation, Plan, Property, Resource, Verdict
from agent.compiler.ir import ColumnType as Type
from agent.errors import SpecRejected
from agent.fileset import File, FileSet
from agent.gates.gate import Gate, Subject, Tools
from agent.journal.memory import MemoryJournal
from agent.journal.port import Checkpoint, Claim, Ending, Event, Finish, NewAnswer, NewTask, Origin, OutboxRow
from agent.pipeline.attempt import Made, Means
from agent.pipeline.engine import Engine
from agent.pipeline.port import Outcome
from agent.sandbox.port import Leash, Sandbox
from agent.services.port import Databases
from agent.settings import ContextSettings, GateSettings, Settings
from agent.telemetry.metrics import Metrics
from agent.testing.clock import ManualClock
from contracts.codec import task_id
from contracts.delivery import Evidence, GateVerdict, OperationReport, ReadinessItem
from contracts.status import Diagnostic
from contracts.tasks import Target

LEASE_S = 10.0


class Crash(BaseException):
    """The process dies here: nothing after it runs."""


class FolderSandbox:
    """Only the folders of a sandbox: the fake gates start nothing."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.made: list[Path] = []

    @asynccontextmanager
    async def scratch(self, prefix: str) -> AsyncIterator[Path]:
        folder = self.base / f"{prefix}{len(self.made)}"
        folder.mkdir(parents=True)
        self.made.append(folder)
        yield folder


API = Api(
    title="Orders",
    version="1.2.0",
    description="",
    base_path="/v1",
    document={"openapi": "3.1.0", "paths": {}},
    given=b"{}",
    given_name="openapi.given.json",
    resources=(
        Resource(
            "Order",
            "id",
            (
                Property("id", Type.UUID, nullable=False, required=True),
                Property("note", Type.STRING, nullable=True, required=False),
            ),
        ),
    ),
    operations=(
        Operation(
            "listOrders", "GET", "/orders", "", ("orders",), Verdict.DERIVED, "list", "/paths/~1orders/get",
            plan=Plan(Action.LIST, "Order"), responses={"200": ("application/json",)},
        ),
        Operation(
            "shipOrder", "POST", "/orders/{id}/ship", "", ("orders",), Verdict.HOOKED, "action",
            "/paths/~1orders~1{id}~1ship/post", reason="an action that no rule can derive",
        ),
    ),
)  # fmt: skip


@dataclass
class FakeCompiler:
    """Makes three files; counts its calls."""

    calls: list[str] = field(default_factory=list)
    files: Mapping[str, bytes] = field(
        default_factory=lambda: {"app/main.py": b"print('orders')\n", "README.md": b"# Orders\n"}
    )
    faults: tuple[Diagnostic, ...] = ()

    async def understand(self, given: bytes) -> tuple[Api, tuple[Diagnostic, ...]]:
        self.calls.append("understand")
        if self.faults:
            raise SpecRejected(self.faults)
        return replace(API, given=given), ()

    async def make(self, given: bytes, *, service: str | None, target: Target) -> Made:
        self.calls.append("make")
        name = service or "orders"
        files = FileSet({path: File(content) for path, content in self.files.items()})
        files |= {"run.sh": File(b"#!/bin/sh\n", executable=True)}
        manifest = {"service": name, "operations": [{"id": o.id, "verdict": o.verdict.value} for o in API.operations]}
        digest = files.digest
        files |= {".backwright/manifest.json": File(json.dumps(manifest).encode())}
        reports = tuple(
            OperationReport(
                operation=o.id, method=o.method, path=o.path, verdict=o.verdict.value, rule=o.rule, reason=o.reason
            )
            for o in API.operations
        )
        return Made(name, files, digest, reports, {"operations": []})


@dataclass
class FakeSuite:
    """Five gates in three stages; `failing` and `skipping` name those that do so."""

    failing: set[str] = field(default_factory=set)
    skipping: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)

    @property
    def gates(self) -> Sequence[Gate]:
        return (
            Gate("install", "Install", 1, _unused),
            Gate("lint", "Lint", 2, _unused, remedy="Read the log."),
            Gate("tests", "Tests", 2, _unused),
            Gate("load", "Load", 3, _unused, exclusive=True),
            Gate("security", "Security", 3, _unused),
        )

    async def run(self, gate: Gate, subject: Subject, tools: Tools, earlier: Mapping[str, Evidence]) -> Evidence:
        self.calls.append(gate.name)
        self.subjects.append(subject)
        await asyncio.sleep(0)  # a turn for the gates beside it
        if gate.name in self.skipping:
            return Evidence(gate=gate.name, verdict=GateVerdict.SKIPPED, summary="no table to load")
        verdict = GateVerdict.FAIL if gate.name in self.failing else GateVerdict.PASS
        return Evidence(
            gate=gate.name, verdict=verdict, value=len(self.calls), summary=f"{gate.name} {verdict.value}",
            subject_digest=subject.digest,
        )  # fmt: skip

    def sentence(
        self,
        evidence: Sequence[Evidence],
        *,
        target: str,
        path: str,
        operations: Sequence[OperationReport],
        features: Sequence[str],
    ) -> str:
        return f"Delivered {path} with {len(evidence)} gates."

    def readiness(self, evidence: Sequence[Evidence]) -> tuple[ReadinessItem, ...]:
        return (ReadinessItem(item="Security scan passed", state="passed", evidence=("security",)),)


async def _unused(subject: Subject, tools: Tools) -> Evidence:
    raise AssertionError("the fake suite runs no gate")


class JournalLedger:
    """The fenced hand of one attempt, on the memory journal.

    It dies at write number `die_at`, before it or `after` it took effect, or once the step or event `die_after` is stored.
    """

    def __init__(
        self, bench: "Bench", claim: Claim, folder: Path, *, die_at: int | None, after: bool, die_after: str | None
    ) -> None:
        self.claim = claim
        self.leash = Leash()
        self.folder = folder
        self.writes = 0
        self._bench = bench
        self._die_at = die_at
        self._after = after
        self._is_dead = False
        self._die_after = die_after

    async def checkpoints(self) -> Mapping[str, Checkpoint]:
        return await self._bench.journal.checkpoints(self.claim.task_id)

    async def record(self, checkpoint: Checkpoint | None, events: Sequence[Event] = (), *, final: bool = False) -> None:
        self.writes += 1
        if self._is_dead or (self.writes == self._die_at and not self._after):
            self._is_dead = True
            raise Crash
        await self._bench.journal.record(self.claim, checkpoint, events, final=final)
        stored = {event.type for event in events} | ({checkpoint.step} if checkpoint else set())
        if self.writes == self._die_at or self._die_after in stored:
            self._is_dead = True
            raise Crash

    async def answer(self, query_id: str, *, timeout_s: float) -> bytes | None:
        if timeout_s and self._bench.answer is not None:
            data = json.dumps({"query_id": query_id, **self._bench.answer}).encode()
            await self._bench.journal.accept([NewAnswer(query_id, data)])
        return await self._bench.journal.answer(query_id)


class Bench:
    """One workspace, one journal, one task at a time."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.clock = ManualClock()
        self.journal = MemoryJournal(self.clock)
        self.artifacts = MemoryArtifacts()
        self.compiler = FakeCompiler()
        self.suite = FakeSuite()
        self.sandbox = FolderSandbox(base / "sandbox")
        self.answer: Mapping[str, Any] | None = {"status": "unknown"}
        self.settings = Settings(
            workspace=base / "workspace", context=ContextSettings(timeout_s=5), gates=GateSettings(load_rows=100)
        )
        self.attempts = 0
        self.published: list[OutboxRow] = []
        self.writes = 0

    @property
    def engine(self) -> Engine:
        means = Means(
            sandbox=cast(Sandbox, self.sandbox), databases=cast(Databases, None), artifacts=self.artifacts, clock=self.clock,
            settings=self.settings, metrics=Metrics(), tracer=NoOpTracer(), compiler=self.compiler, suite=self.suite,
        )  # fmt: skip
        return Engine(means)

    async def accept(self, key: str = "1", *, attributes: Mapping[str, str] | None = None, **request: Any) -> str:
        """Store a request; its task id."""
        identity = task_id("/tests", key)
        data = {"specification": {"content": "openapi: 3.1.0"}, **request}
        task = NewTask(
            identity, "/tests", key, key, "build", str(request.get("service") or "orders"), json.dumps(data).encode(),
            dict(attributes or {}), Origin("backend.tasks.v1", 0, 0, 0, None, (), None),
        )  # fmt: skip
        await self.journal.accept([task])
        return identity

    async def attempt(
        self,
        *,
        die_at: int | None = None,
        after: bool = True,
        die_after: str | None = None,
        engine: Engine | None = None,
    ) -> Outcome | None:
        """One attempt of the oldest task; None if it died, and then its lease has run out."""
        (claim,) = await self.journal.claim(f"worker-{self.attempts}", limit=1, lease_s=LEASE_S)
        self.attempts += 1
        folder = self.base / "attempts" / str(self.attempts)
        folder.mkdir(parents=True)
        ledger = JournalLedger(self, claim, folder, die_at=die_at, after=after, die_after=die_after)
        try:
            outcome = await (engine or self.engine).run(ledger)
        except Crash:
            self.clock.advance(LEASE_S + 1)
            return None
        finally:
            self.writes = ledger.writes
        await self.journal.finish(claim, Finish(Ending(outcome.ending), outcome.events))
        return outcome

    async def events(self, name: str | None = None) -> list[OutboxRow]:
        """What was published, in order."""
        rows = await self.journal.unsent(limit=10_000)
        await self.journal.sent([row.position for row in rows])
        self.published += rows
        return [row for row in self.published if name is None or row.type == name]

    async def statuses(self) -> list[Mapping[str, Any]]:
        """Data of every status."""
        return [row.data for row in await self.events("task.status")]

    def service(self, name: str = "orders") -> Path:
        """Where it is delivered."""
        return self.base / "workspace" / "services" / name
