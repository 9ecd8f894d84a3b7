"""Fixtures for every test."""

import os

from hypothesis import settings

pytest_plugins = ["tests.postgres", "tests.acceptance.kafka"]

# CI asks the same questions each time, so that it is red for a change and not for a draw; at a desk they vary.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
