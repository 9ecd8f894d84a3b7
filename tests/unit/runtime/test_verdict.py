"""What follows from a failure: a pure table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import EnvironmentUnfit, Fenced, PermanentError, SpecRejected, TransientError
from agent.journal.port import CancelRequested, Ending
from agent.runtime.verdict import Facts, Failure, Kind, Stop, backoff_s, classify, judge
from agent.settings import WorkerSettings

LIMITS = WorkerSettings.model_validate({"max_attempts": 3, "backoff_base_s": 2, "backoff_cap_s": 10})
EARLY = Facts(failures=1, spent_s=1, total_s=1000)


@pytest.mark.parametrize(
    ("error", "stop", "kind"),
    [
        (TransientError("x"), None, Kind.TRANSIENT),
        (EnvironmentUnfit("x", remedy="y"), None, Kind.TRANSIENT),
        (ZeroDivisionError("x"), None, Kind.TRANSIENT),
        (PermanentError("x"), None, Kind.PERMANENT),
        (SpecRejected([1]), None, Kind.PERMANENT),
        (Fenced("x"), None, Kind.FENCED),
        (Fenced("x"), Stop.CANCELLED, Kind.FENCED),
        (CancelRequested(), None, Kind.CANCELLED),
        (RuntimeError("torn apart"), Stop.CANCELLED, Kind.CANCELLED),
        (TransientError("x"), Stop.DRAIN, Kind.INTERRUPTED),
        (None, Stop.DEADLINE, Kind.EXPIRED),
        (None, Stop.LEASE_LOST, Kind.FENCED),
    ],
)
def test_failures_are_classified(error: BaseException | None, stop: Stop | None, kind: Kind) -> None:
    """The reason that the runtime had explains whatever came out of it."""
    assert classify(error, stop).kind is kind


def test_retries_end() -> None:
    """Bounded by number and by time."""
    failure = Failure(Kind.TRANSIENT, "c", "m")
    assert judge(failure, EARLY, LIMITS, chance=0.5).ending is Ending.RETRY
    assert judge(failure, Facts(3, 1, 1000), LIMITS, chance=0.5).dead_letter
    late = judge(failure, Facts(1, 1000, 1000), LIMITS, chance=0.5)
    assert late.dead_letter
    assert late.failure is not None
    assert late.failure.code == "task.total_deadline"


def test_who_says_when_to_try_again_is_heard() -> None:
    """`retry_after_s` is a lower bound."""
    failure = Failure(Kind.TRANSIENT, "c", "m", retry_after_s=42)
    assert judge(failure, EARLY, LIMITS, chance=0.0).delay_s == 42


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_jitter_is_full_and_capped(failures: int, chance: float) -> None:
    """Between nothing and the cap, for any number of failures."""
    limits = WorkerSettings.model_validate({"max_attempts": 100_000, "backoff_base_s": 2, "backoff_cap_s": 10})
    verdict = judge(Failure(Kind.TRANSIENT, "c", "m"), Facts(failures, 0, 1e9), limits, chance=chance)
    assert 0 <= verdict.delay_s <= backoff_s(failures, base_s=2, cap_s=10) <= 10


def test_jitter_is_a_share_of_the_whole_delay() -> None:
    """From nothing on, so that what failed together does not come back together."""
    failure = Failure(Kind.TRANSIENT, "c", "m")
    delays = [judge(failure, EARLY, LIMITS, chance=chance).delay_s for chance in (0.0, 0.5, 0.75)]
    assert delays == [0.0, 1.0, 1.5]


def test_a_retry_that_would_come_too_late_is_none() -> None:
    """The total time would have passed before it began."""
    failure = Failure(Kind.TRANSIENT, "c", "m", retry_after_s=60)
    assert judge(failure, Facts(1, 900, 1000), LIMITS, chance=0.0).ending is Ending.RETRY
    late = judge(failure, Facts(1, 950, 1000), LIMITS, chance=0.0)
    assert (late.ending, late.dead_letter) == (Ending.FAILED, True)


def test_attempts_count_from_one() -> None:
    """A zeroth failure is a mistake of the caller."""
    with pytest.raises(ValueError, match="from 1"):
        backoff_s(0, base_s=1, cap_s=2)
