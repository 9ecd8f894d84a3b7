"""`task.status`: how a task goes. The five origin fields always, typed fields beside them."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from contracts.base import Payload
from contracts.delivery import Evidence, OperationReport

AGENT = "backend-developer"


class Status(StrEnum):
    """What the agent is doing, in the origin's manner."""

    QUEUED = "queued"
    ANALYSING = "analysing"
    DEVELOPING = "developing"
    VERIFYING = "verifying"
    DELIVERING = "delivering"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WAITING = "waiting"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.REJECTED, Status.EXPIRED})


class TaskState(StrEnum):
    """States of the A2A v1 protocol."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"


A2A_STATE: dict[Status, TaskState] = {
    Status.QUEUED: TaskState.SUBMITTED,
    Status.ANALYSING: TaskState.WORKING,
    Status.DEVELOPING: TaskState.WORKING,
    Status.VERIFYING: TaskState.WORKING,
    Status.DELIVERING: TaskState.WORKING,
    Status.WAITING: TaskState.INPUT_REQUIRED,
    Status.COMPLETED: TaskState.COMPLETED,
    Status.FAILED: TaskState.FAILED,
    Status.EXPIRED: TaskState.FAILED,
    Status.CANCELLED: TaskState.CANCELED,
    Status.REJECTED: TaskState.REJECTED,
}


class Phase(StrEnum):
    """Labels of the phases, as people read them."""

    ANALYSE = "System analysis"
    DEVELOP = "Service implementation"
    VERIFY = "Production readiness"
    DELIVER = "Delivery"


class Diagnostic(Payload):
    """A fault or a remark about a specification."""

    pointer: str = Field(description="JSON pointer to the place in the given document (empty: the whole).")
    code: Annotated[str, Field(pattern=r"^[a-z0-9_.-]+$")]
    severity: str = Field(description="`error`, `warning` or `info`.")
    message: str
    remedy: str


class StepReport(Payload):
    """The step that caused this event."""

    name: str
    state: str = Field(description="`started`, `finished`, `skipped`.")
    duration_s: float | None = None
    done: int = Field(description="Steps of the task that are finished.")
    total: int


class ErrorReport(Payload):
    """Why an attempt or a task ended badly."""

    kind: str = Field(
        description="`transient`, `permanent`, `poison`, `cancelled`, `expired`, `fenced`, `interrupted`, `gate`."
    )
    code: str
    message: str
    retry_at: str | None = None


class Budget(Payload):
    """What the task has spent of what it may."""

    seconds_spent: float
    seconds_limit: float | None = None


class TaskStatus(Payload):
    """One step forward (or the end) of a task. Bare five-field statuses of other agents decode as well."""

    ALWAYS: ClassVar[frozenset[str]] = frozenset({"agent", "status", "phase", "completed", "pending"})

    agent: str = AGENT
    status: Status
    phase: str
    completed: tuple[str, ...]
    pending: tuple[str, ...]
    task_id: str | None = None
    service: str | None = None
    attempt: int | None = None
    sequence: int | None = Field(None, ge=1)
    state: TaskState | None = None
    message: str | None = None
    step: StepReport | None = None
    gate: Evidence | None = Field(None, description="Evidence of the gate that just ended.")
    evidence: tuple[Evidence, ...] = Field((), description="All evidence, on a terminal status.")
    diagnostics: tuple[Diagnostic, ...] = ()
    operations: tuple[OperationReport, ...] = ()
    error: ErrorReport | None = None
    budget: Budget | None = None
