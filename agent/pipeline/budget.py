"""What a task has spent of what it may. Pure: time and limits come in as arguments."""

from datetime import datetime

from contracts.status import Budget


def spend(*, first_started_at: datetime, now: datetime, limit_s: float | None) -> Budget:
    """Seconds since the first attempt began, over all attempts; never negative, should the wall clock step back."""
    seconds = max(0.0, (now - first_started_at).total_seconds())
    return Budget(seconds_spent=round(seconds, 3), seconds_limit=limit_s)


def is_exhausted(budget: Budget) -> bool:
    """Whether nothing is left. Without a limit there is always something left."""
    return budget.seconds_limit is not None and budget.seconds_spent >= budget.seconds_limit
