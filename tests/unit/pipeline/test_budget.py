"""What a task has spent."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.pipeline.budget import is_exhausted, spend

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "spent", "exhausted"), [(-5, 0, False), (0, 0, False), (59.5, 59.5, False), (60, 60, True)]
)
def test_time_is_counted_from_the_first_attempt(seconds: float, spent: float, exhausted: bool) -> None:
    """A wall clock that steps back must not give time back."""
    budget = spend(first_started_at=START, now=START + timedelta(seconds=seconds), limit_s=60)

    assert (budget.seconds_spent, is_exhausted(budget)) == (spent, exhausted)


def test_without_a_limit_nothing_is_exhausted() -> None:
    """Absent means unlimited, not zero."""
    assert not is_exhausted(spend(first_started_at=START, now=START + timedelta(days=9), limit_s=None))
