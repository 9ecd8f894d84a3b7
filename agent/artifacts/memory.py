"""Artefacts in memory, for tests and for runs that leave nothing behind."""

import time

from agent.artifacts.name import digest_in, name_of
from agent.artifacts.port import ArtifactMissing


class MemoryArtifacts:
    """Implements Artifacts."""

    def __init__(self) -> None:
        self._stored: dict[str, tuple[bytes, float]] = {}

    async def put(self, content: bytes) -> str:
        """See the port."""
        name = name_of(content)
        self._stored[name] = (bytes(content), time.monotonic())
        return name

    async def get(self, name: str) -> bytes:
        """See the port."""
        digest_in(name)
        if name not in self._stored:
            raise ArtifactMissing(name)
        return self._stored[name][0]

    async def has(self, name: str) -> bool:
        """See the port."""
        digest_in(name)
        return name in self._stored

    async def collect(self, keep: frozenset[str], *, older_than_s: float) -> int:
        """See the port."""
        now = time.monotonic()
        gone = [name for name, (_, at) in self._stored.items() if name not in keep and now - at >= older_than_s]
        for name in gone:
            del self._stored[name]
        return len(gone)
