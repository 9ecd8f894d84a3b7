"""The bench for tests of the pipeline."""

from pathlib import Path

import pytest

from tests.unit.pipeline.support import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An engine with fake compiler and gates on the journal in memory."""
    return Bench(tmp_path)
