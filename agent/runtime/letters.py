"""Dead letters: the original record, byte for byte, and everything that is known about why."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from agent import __version__
from agent.artifacts.port import Artifacts
from agent.bus.port import Record
from agent.journal.port import Event, Origin
from contracts.envelope import TASK_DEAD_LETTERED
from contracts.failures import FailedAttempt, OriginalRecord, TaskDeadLettered
from contracts.status import ErrorReport

INLINE_LIMIT_BYTES = 256 * 1024
_NAMESPACE = uuid5(NAMESPACE_URL, "https://backwright.dev/dead-letter")


def origin_of(record: Record) -> Origin:
    """Where a record came from, with all of it."""
    return Origin(
        record.topic, record.partition, record.offset, record.timestamp_ms, record.key, record.headers, record.value, record.topic_id
    )  # fmt: skip


def letter_id(*parts: object) -> str:
    """The same trouble has the same id, so that a repeat is seen as one."""
    return str(uuid5(_NAMESPACE, "\0".join(map(str, parts))))


async def letter(
    identity: str,
    origin: Origin,
    reason: ErrorReport,
    artifacts: Artifacts,
    *,
    now: datetime,
    task_id: str | None = None,
    attempts: Sequence[Mapping[str, Any]] = (),
    last_checkpoint: str | None = None,
    trace_id: str | None = None,
) -> Event:
    """The event `task.dead_lettered`. Large bytes go to the artefact store first."""
    dead = TaskDeadLettered(
        dead_letter_id=identity,
        task_id=task_id,
        reason=reason,
        original=await _original(origin, artifacts),
        attempts=tuple(FailedAttempt.model_validate(attempt) for attempt in attempts),
        last_checkpoint=last_checkpoint,
        code_version=__version__,
        trace_id=trace_id,
        dead_lettered_at=now,
    )
    key = origin.key.decode("utf-8", "backslashreplace") if origin.key else identity
    return Event(TASK_DEAD_LETTERED.name, key, dead.model_dump(mode="json", exclude_none=True))


async def _original(origin: Origin, artifacts: Artifacts) -> OriginalRecord:
    value = origin.value
    size = len(value) if value is not None else 0
    dataref = await artifacts.put(value) if value is not None and size > INLINE_LIMIT_BYTES else None
    return OriginalRecord(
        topic=origin.topic,
        partition=origin.partition,
        offset=origin.offset,
        timestamp=_moment(origin.timestamp_ms),
        key=_base64(origin.key),
        headers=tuple((name, _base64(given)) for name, given in origin.headers),
        value=None if dataref else _base64(value),
        size_bytes=size,
        sha256=hashlib.sha256(value).hexdigest() if value is not None else None,
        dataref=dataref,
    )


def _moment(timestamp_ms: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC) if timestamp_ms >= 0 else None
    except (OverflowError, ValueError, OSError):
        return None  # a sender may put any number there


def _base64(given: bytes | None) -> str | None:
    return None if given is None else base64.b64encode(given).decode()


def trace_id(attributes: Mapping[str, str]) -> str | None:
    """Trace id of a `traceparent` (00-TRACE-SPAN-FLAGS), without asking OpenTelemetry."""
    parts = attributes.get("traceparent", "").split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None
