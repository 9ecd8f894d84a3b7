"""The clock of leases."""

import time

import pytest

from agent.clock import SystemClock


def test_monotonic_time_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOCK_MONOTONIC stands still then: a laptop that slept would believe in leases that others have long taken."""
    clocks = {time.CLOCK_MONOTONIC: 100.0, time.CLOCK_BOOTTIME: 3700.0}
    monkeypatch.setattr(time, "clock_gettime", clocks.__getitem__)

    assert SystemClock().monotonic() == 3700.0
