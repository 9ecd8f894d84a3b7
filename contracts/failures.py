"""`task.dead_lettered`: what could not be done or understood, with the original record and the whole context."""

from datetime import datetime

from pydantic import Field

from contracts.base import Payload
from contracts.status import ErrorReport


class OriginalRecord(Payload):
    """The record as it came from Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime | None = None
    key: str | None = Field(None, description="base64")
    headers: tuple[tuple[str, str | None], ...] = Field(
        (), description="Pairs of name and base64 value, in order, repeats kept."
    )
    value: str | None = Field(None, description="base64; null for a tombstone, or when the bytes lie at `dataref`.")
    size_bytes: int
    sha256: str | None = None
    dataref: str | None = Field(None, description="`sha256:…` in the artefact store, for bytes above 256 KiB.")


class FailedAttempt(Payload):
    """One attempt of the task's history."""

    attempt: int
    worker: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: ErrorReport


class TaskDeadLettered(Payload):
    """Nothing is lost: this holds everything that is needed to understand, mend and replay."""

    dead_letter_id: str
    task_id: str | None = Field(None, description="Absent where no task was made.")
    reason: ErrorReport
    original: OriginalRecord
    attempts: tuple[FailedAttempt, ...] = ()
    last_checkpoint: str | None = None
    code_version: str
    trace_id: str | None = None
    dead_lettered_at: datetime
