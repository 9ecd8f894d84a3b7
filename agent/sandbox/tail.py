"""The end of a child's output, in bounded memory."""

from collections import deque


class Tail:
    """The last `limit` bytes of a stream, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._kept = 0
        self._seen = 0

    def add(self, chunk: bytes) -> None:
        """Append; whole chunks that the limit no longer needs are dropped."""
        self._chunks.append(chunk)
        self._kept += len(chunk)
        self._seen += len(chunk)
        while self._kept - len(self._chunks[0]) >= self._limit:
            self._kept -= len(self._chunks.popleft())

    def text(self) -> str:
        """Decoded with replacement; says how much was cut."""
        kept = b"".join(self._chunks)[-self._limit :]
        cut = self._seen - len(kept)
        return (f"[{cut} bytes cut]\n" if cut else "") + kept.decode("utf-8", errors="replace")
