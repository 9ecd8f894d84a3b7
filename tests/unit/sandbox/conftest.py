"""A sandbox for each test."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.sandbox.local import LocalSandbox
from agent.settings import SandboxSettings


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[LocalSandbox]:
    """With a package cache of its own."""
    local = LocalSandbox(SandboxSettings(), tmp_path / "packages")
    yield local
    local.close()


@pytest.fixture
def token() -> str:
    """Digits that no other process has in its command line; `sleep` takes them as a number of seconds."""
    return f"00.{secrets.randbelow(10**12):012}"
