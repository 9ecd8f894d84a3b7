"""One attempt as the steps see it: the request, what earlier steps gave, and what there is to work with."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from opentelemetry.trace import Tracer

from agent.artifacts.port import ArtifactMissing, Artifacts
from agent.clock import Clock
from agent.compiler.ir import Api
from agent.errors import SpecRejected
from agent.fileset import FileSet
from agent.gates.gate import Gate, Subject, Tools
from agent.journal.port import Claim
from agent.pipeline.port import Ledger
from agent.sandbox.port import Sandbox
from agent.services.port import Databases
from agent.settings import Settings
from agent.telemetry.metrics import Metrics
from contracts.delivery import Evidence, OperationReport, ReadinessItem
from contracts.status import Diagnostic
from contracts.tasks import Target, TaskRequested


@dataclass(frozen=True, slots=True)
class Made:
    """What the compiler made of a document."""

    service: str
    files: FileSet  # without evidence; the manifest is in it, outside the digest
    digest: str
    operations: tuple[OperationReport, ...]
    report: Mapping[str, Any]


class Compiler(Protocol):
    """The compiler as the pipeline uses it; it does not hold the loop. Raises SpecRejected."""

    async def understand(self, given: bytes) -> tuple[Api, tuple[Diagnostic, ...]]:
        """The meaning of a document."""

    async def make(self, given: bytes, *, service: str | None, target: Target) -> Made:
        """The files of a service."""


class Suite(Protocol):
    """The gates as the pipeline uses them."""

    @property
    def gates(self) -> Sequence[Gate]:
        """In the order of their stages."""

    async def run(self, gate: Gate, subject: Subject, tools: Tools, earlier: Mapping[str, Evidence]) -> Evidence:
        """Run one gate; unmet needs give skipped evidence."""

    def sentence(
        self,
        evidence: Sequence[Evidence],
        *,
        target: str,
        path: str,
        operations: Sequence[OperationReport],
        features: Sequence[str],
    ) -> str:
        """The delivery sentence, rendered from what was measured."""

    def readiness(self, evidence: Sequence[Evidence]) -> tuple[ReadinessItem, ...]:
        """The origin's eight items."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every attempt works with."""

    sandbox: Sandbox
    databases: Databases
    artifacts: Artifacts
    clock: Clock
    settings: Settings
    metrics: Metrics
    tracer: Tracer
    compiler: Compiler
    suite: Suite

    @property
    def workspace(self) -> Path:
        """Where services are delivered."""
        return self.settings.workspace.absolute()


class Attempt:
    """State of one run of the engine. `outputs` grows step by step and is what a checkpoint holds."""

    def __init__(self, ledger: Ledger, means: Means) -> None:
        self.ledger = ledger
        self.means = means
        self.request = TaskRequested.model_validate_json(ledger.claim.request)
        self.request_digest = _digest(ledger.claim)
        self.outputs: dict[str, Mapping[str, Any]] = {}
        # One write at a time: a status counts what is stored before it, also when steps end at the same moment.
        self.writing = asyncio.Lock()
        self.stack = AsyncExitStack()  # what lives as long as the attempt
        self.preparing = asyncio.Lock()
        self.subject: Subject | None = None  # the project on disk, made by the first gate of this attempt
        self.is_installed = False  # whether the subject has its environment
        self.api: Api | None = None  # what the compiler understood, once per attempt
        self.diagnostics: tuple[Diagnostic, ...] = ()
        self._given: bytes | None = None

    @property
    def claim(self) -> Claim:
        """The right to write that this attempt has."""
        return self.ledger.claim

    @property
    def service(self) -> str | None:
        """Name of the service: as decided by the compiler, else as requested."""
        decided: str | None = self.outputs.get("compile", {}).get("service")
        return decided or self.request.service

    async def given(self) -> bytes:
        """The document, byte for byte. Raises SpecRejected if it cannot be had, is too long or is another one."""
        if self._given is None:
            content = self.request.specification.content
            given = content.encode(errors="surrogatepass") if content is not None else await self._claimed()
            self._check(given)
            self._given = given
        return self._given

    async def _claimed(self) -> bytes:
        """The bytes behind `dataref`: an artefact's name and nothing else, so it can never point outside."""
        name = self.claim.attributes.get("dataref", "")
        try:
            return await self.means.artifacts.get(name)
        except ValueError as exc:
            raise _refused(
                "specification.dataref_refused",
                "dataref is not a name of the form sha256:<64 hex digits>",
                "put the document into `specification.content`, or into the claim store and name it by its SHA-256",
            ) from exc
        except ArtifactMissing as exc:
            raise _refused(
                "specification.dataref_missing",
                "the claim store holds no document of that name",
                "store the document before sending the request",
            ) from exc

    def _check(self, given: bytes) -> None:
        limit = self.means.settings.compiler.max_bytes
        if len(given) > limit:
            raise _refused(
                "specification.too_large",
                f"the document has {len(given)} bytes, the limit is {limit}",
                "split the document, or raise BACKWRIGHT_COMPILER__MAX_BYTES",
            )
        wanted = self.request.specification.sha256
        if wanted is not None and hashlib.sha256(given).hexdigest() != wanted:
            raise _refused(
                "specification.digest_differs",
                "the document's SHA-256 is not the one that the request states",
                "send the digest of the document's UTF-8 bytes, or none",
            )


def _digest(claim: Claim) -> str:
    return hashlib.sha256(claim.request + claim.attributes.get("dataref", "").encode()).hexdigest()


def _refused(code: str, message: str, remedy: str) -> SpecRejected:
    return SpecRejected([Diagnostic(pointer="", code=code, severity="error", message=message, remedy=remedy)])
