"""Evidence of a gate, and `task.delivered`."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import Field, model_validator

from contracts.base import Payload


class GateVerdict(StrEnum):
    """How a gate ended. `waived`: it failed and a person accepted that."""

    PASS = "pass"
    FAIL = "fail"
    SKIPPED = "skipped"
    WAIVED = "waived"


class Evidence(Payload):
    """What one gate measured, on which code, with which tool."""

    gate: str = Field(description="Name of the gate, for example `load`.")
    verdict: GateVerdict
    value: float | str | bool | None = Field(
        None, description="The measured value; null when the gate was not performed."
    )
    unit: str | None = None
    threshold: float | str | bool | None = Field(None, description="What the value was held against.")
    summary: str = Field(description="One line for people, rendered from the measured figures; or why it was skipped.")
    tool: str | None = None
    tool_version: str | None = None
    command: tuple[str, ...] = Field((), description="Argument vector as run, without secrets.")
    exit_code: int | None = None
    started_at: datetime | None = None
    duration_s: float | None = Field(None, ge=0)
    subject_digest: str | None = Field(None, description="Digest of the file set that was checked.")
    isolation: str | None = Field(None, description="What confined the process: user, network, limits.")
    log: str | None = Field(None, description="Reference to the log: `sha256:…` in the artefact store.")
    details: dict[str, Any] = Field(default_factory=dict, description="Further measured figures.")

    @model_validator(mode="after")
    def _skipped_has_no_number(self) -> "Evidence":
        if self.verdict is GateVerdict.SKIPPED and self.value is not None:
            raise ValueError("a gate that was not performed shows no number")
        return self


class ReadinessItem(Payload):
    """One of the eight items of production readiness."""

    item: str
    state: str = Field(description="`passed`, `failed` or `not performed`.")
    evidence: tuple[str, ...] = Field((), description="Names of the gates that show it.")
    note: str | None = None


class OperationReport(Payload):
    """What became of one operation of the document."""

    operation: str
    method: str
    path: str
    verdict: str = Field(description="`derived`, `declared`, `hooked` or `refused`.")
    rule: str
    confidence: str = Field("high", description="`high`, `medium` or `low`.")
    alternative: str | None = Field(None, description="What else the document could have meant.")
    reason: str | None = Field(None, description="Why it is hooked or refused.")
    pointer: str | None = None


class DeliveredService(Payload):
    """Where the service lies and what it is."""

    name: str
    target: str
    path: str = Field(description="Path below the workspace, for example `services/orders`.")
    branch: str | None = None
    commit: str | None = None
    digest: str = Field(description="Digest of the delivered file set; every number was measured on it.")
    features: tuple[str, ...] = ()


class TaskDelivered(Payload):
    """The delivery: a service and the evidence for every claim about it."""

    ALWAYS: ClassVar[frozenset[str]] = frozenset({"agent"})

    agent: str = "backend-developer"
    task_id: str
    attempt: int
    service: DeliveredService
    summary: str = Field(description="The delivery sentence, rendered from the evidence.")
    evidence: tuple[Evidence, ...]
    readiness: tuple[ReadinessItem, ...]
    operations: tuple[OperationReport, ...]
    pending: tuple[str, ...] = Field((), description="What is left to a person or a model, and why.")
    assumptions: tuple[str, ...] = ()
    start_command: str | None = None
