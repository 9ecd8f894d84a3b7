"""The project's own compiler and gates, as the pipeline uses them."""

from collections.abc import Mapping, Sequence

from agent.compiler.compile import MANIFEST
from agent.compiler.ir import Api
from agent.fileset import File
from agent.gates import suite
from agent.gates.gate import Gate, Subject, Tools
from agent.pipeline.attempt import Made
from agent.pipeline.bounded import compile_bounded, understand_bounded
from agent.pipeline.develop import document
from agent.settings import CompilerSettings
from contracts.delivery import Evidence, OperationReport, ReadinessItem
from contracts.status import Diagnostic
from contracts.tasks import Target


class OwnSuite:
    """The gates of agent/gates/suite.py."""

    @property
    def gates(self) -> Sequence[Gate]:
        return suite.GATES

    async def run(self, gate: Gate, subject: Subject, tools: Tools, earlier: Mapping[str, Evidence]) -> Evidence:
        return await suite.run_gate(gate, subject, tools, earlier)

    def sentence(
        self,
        evidence: Sequence[Evidence],
        *,
        target: str,
        path: str,
        operations: Sequence[OperationReport],
        features: Sequence[str],
    ) -> str:
        return suite.sentence(evidence, target=target, path=path, operations=operations, features=features)

    def readiness(self, evidence: Sequence[Evidence]) -> tuple[ReadinessItem, ...]:
        return suite.readiness(evidence)


class OwnCompiler:
    """agent/compiler with the pinned formatter, in a process that ends when a document costs too much."""

    def __init__(self, settings: CompilerSettings) -> None:
        self._settings = settings

    async def understand(self, given: bytes) -> tuple[Api, tuple[Diagnostic, ...]]:
        return await understand_bounded(given, self._settings)

    async def make(self, given: bytes, *, service: str | None, target: Target) -> Made:
        made = await compile_bounded(given, service=service, target=target, settings=self._settings)
        report = made.report.to_json()
        operations = tuple(OperationReport.model_validate(line) for line in report["operations"])
        # Outside the digest, so it may stand in the compiler's files or beside them.
        files = made.files if MANIFEST in made.files else made.files | {MANIFEST: File(document(made.manifest))}
        return Made(made.service, files, made.digest, operations, report)
