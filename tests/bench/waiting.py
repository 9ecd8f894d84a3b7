"""Waiting for a condition, as all tests do (the children need nothing else of the stage)."""

from tests.waiting import until

__all__ = ["until"]
