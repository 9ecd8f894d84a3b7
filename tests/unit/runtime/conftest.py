"""An agent on memory adapters, already at work."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.testing.harness import Harness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with Harness(tmp_path / "attempts") as harness:
        yield harness
