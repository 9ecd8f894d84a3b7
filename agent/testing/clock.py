"""Clocks that tests move."""

import asyncio
import heapq
import itertools
import mmap
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.clock import SystemClock


class ManualClock:
    """Implements agent.clock.Clock. `sleep` ends when `advance` has moved time far enough."""

    def __init__(self, start: datetime = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), waiting))
        await waiting

    def advance(self, seconds: float) -> None:
        """Move time on and wake who has slept long enough."""
        self._elapsed += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            _, _, waiting = heapq.heappop(self._sleepers)
            if not waiting.done():
                waiting.set_result(None)


class SteppedClock(SystemClock):
    """The real clock of a process whose wall time is wrong, by as many seconds as `step` wrote to a file."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._error_s = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=struct.unpack("d", self._error_s)[0])

    @staticmethod
    def step(path: Path, error_s: float) -> None:
        """From now on the wall clock of whoever reads `path` is wrong by so much."""
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)  # never truncated: it may be mapped
        os.pwrite(file, struct.pack("d", error_s), 0)
        os.close(file)
