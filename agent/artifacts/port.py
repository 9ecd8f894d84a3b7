"""The artefact store: content-addressed, immutable bytes. The journal decides which of them count."""

from typing import Protocol


class ArtifactMissing(Exception):
    """No artefact of that digest."""


class Artifacts(Protocol):
    """Every adapter passes tests/conformance/test_artifacts.py. Names are `sha256:<64 hex>`."""

    async def put(self, content: bytes) -> str:
        """Store durably and return the name; storing the same bytes again is harmless."""

    async def get(self, name: str) -> bytes:
        """The bytes, hash verified. Raises ArtifactMissing, or ValueError for a name of another form."""

    async def has(self, name: str) -> bool:
        """Whether it is there."""

    async def collect(self, keep: frozenset[str], *, older_than_s: float) -> int:
        """Remove artefacts that are not in `keep` and older than that; returns how many."""
