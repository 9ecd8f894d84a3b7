"""What follows from the way in which an attempt ended. Pure: time, limits and chance come in as arguments.

    classify(error, stop)  → Failure   what kind of trouble it is
    judge(failure, facts)  → Verdict   what happens to the task now

| kind        | cause                                   | follows                                         |
|-------------|-----------------------------------------|-------------------------------------------------|
| transient   | TransientError, unknown exceptions      | retry with full jitter, dead letter in the end  |
| permanent   | PermanentError                          | dead letter                                     |
| poison      | it killed its worker too often          | dead letter                                     |
| expired     | the attempt's deadline, the total time  | retry while there is time, then dead letter     |
| cancelled   | a stored cancellation                   | cancelled                                       |
| interrupted | drain                                   | available at once, not counted                  |
| fenced      | a later claim owns the task             | nothing: no write of ours counts                |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.errors import EnvironmentUnfit, Fenced, PermanentError, SpecRejected, TransientError
from agent.journal.port import CancelRequested, Ending
from agent.settings import WorkerSettings

MESSAGE_LIMIT = 2000  # characters of an error's text that go into events and history


class Kind(StrEnum):
    """Kinds of failure."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    POISON = "poison"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FENCED = "fenced"
    INTERRUPTED = "interrupted"


class Stop(StrEnum):
    """Why the runtime stopped an attempt that was still at work."""

    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    LEASE_LOST = "lease_lost"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Failure:
    """Classified trouble. `code` is stable and may be counted; `message` is for people."""

    kind: Kind
    code: str
    message: str
    retry_after_s: float | None = None
    diagnostics: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the verdict depends on besides the failure. `failures` counts this one; `spent_s` since the first start."""

    failures: int
    spent_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the attempt ends. `ending` None: say and write nothing (fenced). `failure` None: the work ended by itself."""

    ending: Ending | None
    failure: Failure | None = None
    delay_s: float = 0.0
    dead_letter: bool = False


_OF_STOP = {
    Stop.CANCELLED: Failure(Kind.CANCELLED, "task.cancelled", "cancelled on request"),
    Stop.DEADLINE: Failure(Kind.EXPIRED, "attempt.deadline", "the attempt took longer than it may"),
    Stop.LEASE_LOST: Failure(Kind.FENCED, "attempt.fenced", "the lease was lost"),
    Stop.DRAIN: Failure(Kind.INTERRUPTED, "attempt.interrupted", "the worker is shutting down"),
}


def classify(error: BaseException | None, stop: Stop | None) -> Failure:
    """Name the trouble. What the runtime decided (`stop`) explains whatever exception came out of it."""
    if isinstance(error, Fenced) or stop is Stop.LEASE_LOST:
        return _OF_STOP[Stop.LEASE_LOST]
    if isinstance(error, CancelRequested):
        return _OF_STOP[Stop.CANCELLED]
    if stop is not None:
        return _OF_STOP[stop]
    if isinstance(error, SpecRejected):
        return Failure(Kind.PERMANENT, "specification.rejected", _text(error), diagnostics=error.diagnostics)
    if isinstance(error, PermanentError):
        return Failure(Kind.PERMANENT, _code(error), _text(error))
    if isinstance(error, EnvironmentUnfit):
        return Failure(Kind.TRANSIENT, "environment.unfit", f"{_text(error)}; {error.remedy}".rstrip("; "))
    if isinstance(error, TransientError):
        return Failure(Kind.TRANSIENT, _code(error), _text(error), retry_after_s=error.retry_after_s)
    # Nobody foresaw it. Trying again is bounded, and a dead letter keeps everything if that does not help.
    return Failure(Kind.TRANSIENT, _code(error), _text(error))


def judge(failure: Failure, facts: Facts, limits: WorkerSettings, *, chance: float) -> Verdict:
    """Decide. `chance` in [0, 1) is the jitter."""
    match failure.kind:
        case Kind.FENCED:
            return Verdict(None, failure)
        case Kind.CANCELLED:
            return Verdict(Ending.CANCELLED, failure)
        case Kind.INTERRUPTED:
            return Verdict(Ending.INTERRUPTED, failure)
        case Kind.PERMANENT if failure.diagnostics:
            return Verdict(Ending.REJECTED, failure)
        case Kind.PERMANENT | Kind.POISON:
            return Verdict(Ending.FAILED, failure, dead_letter=True)
        case Kind.TRANSIENT | Kind.EXPIRED:
            return _again(failure, facts, limits, chance)


def _again(failure: Failure, facts: Facts, limits: WorkerSettings, chance: float) -> Verdict:
    if facts.failures >= limits.max_attempts:
        return Verdict(Ending.FAILED, failure, dead_letter=True)
    ceiling = backoff_s(facts.failures, base_s=limits.backoff_base_s, cap_s=limits.backoff_cap_s)
    delay_s = max(ceiling * chance, failure.retry_after_s or 0.0)
    if facts.spent_s + delay_s >= facts.total_s:
        return Verdict(Ending.FAILED, out_of_time(facts, cause=failure), dead_letter=True)
    return Verdict(Ending.RETRY, failure, delay_s=delay_s)


def out_of_time(facts: Facts, *, cause: Failure | None = None) -> Failure:
    """The total time over all attempts is spent."""
    last = f"; last: {cause.code}: {cause.message}" if cause else ""
    text = f"{facts.spent_s:.0f} s of {facts.total_s:.0f} s are spent{last}"
    return Failure(Kind.EXPIRED, "task.total_deadline", text[:MESSAGE_LIMIT])


def poisoned(crashes: int) -> Failure:
    """A task that killed its worker too often is not given to another one."""
    return Failure(Kind.POISON, "task.poison", f"its worker died {crashes} times while it worked on this task")


def backoff_s(attempt: int, *, base_s: float, cap_s: float) -> float:
    """Most seconds to wait after failed attempt `attempt` (1 = first): doubles each time, never above `cap_s`.

    Full jitter (a random share of it) is applied by the caller, so that this stays pure. Raises ValueError for < 1.
    Source: Amazon Builders' Library, "Timeouts, retries, and backoff with jitter".
    """
    if attempt < 1:
        raise ValueError("attempts are counted from 1")
    return float(min(cap_s, base_s * 2 ** min(attempt - 1, 60)))


def _code(error: BaseException | None) -> str:
    return f"error.{type(error).__name__}"


def _text(error: BaseException | None) -> str:
    # Only the exception's own text, cut; never a frame or a local variable.
    return (str(error) or type(error).__name__)[:MESSAGE_LIMIT]
