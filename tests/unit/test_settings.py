"""Settings that would break a promise are refused."""

import pytest
from pydantic import ValidationError

from agent.settings import WorkerSettings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lease_s": 7}, "self_stop_s below lease_s"),
        ({"renew_s": 7}, "renew_s has to be below self_stop_s"),
        ({"self_stop_s": 10}, "self_stop_s below lease_s"),
        ({"pause_above": 10}, "resume_below has to be at most pause_above"),
    ],
)
def test_limits_that_belong_together_stand_in_order(given: dict[str, float], message: str) -> None:
    """Otherwise two processes work on one task, or the topic pauses and resumes all the time."""
    with pytest.raises(ValidationError, match=message):
        WorkerSettings(**given)


def test_the_defaults_stand_in_order() -> None:
    """And so do limits at their edge."""
    made = WorkerSettings()
    assert made.renew_s < made.self_stop_s < made.lease_s
    assert WorkerSettings(pause_above=5, resume_below=5).resume_below == 5
