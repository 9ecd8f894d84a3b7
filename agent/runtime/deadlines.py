"""The deadlines of all attempts on one timer: nearly every attempt ends long before its own would ring."""

import asyncio
from collections.abc import Callable
from math import inf

from agent.clock import Clock

ROUNDING_S = 1e-6  # a sleep may end by so much before the moment that it was computed from


class Deadlines:
    """Calls what was given to `set` when its time has come, unless `clear` came before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._rings_at = inf
        self._timer: asyncio.Task[None] | None = None

    def set(self, key: object, after_s: float, call: Callable[[], None]) -> None:
        """Call once, in `after_s` seconds of the monotonic clock; `key` is for `clear`."""
        at = self._clock.monotonic() + after_s
        self._due[key] = at, call
        if at < self._rings_at:
            self.close()
            self._rings_at = at
            self._timer = asyncio.create_task(self._ring())

    def clear(self, key: object) -> None:
        """Forget it. The timer goes on: to set it anew for every attempt is what costs."""
        self._due.pop(key, None)

    def close(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()

    async def _ring(self) -> None:
        while self._due:
            self._rings_at = min(at for at, _ in self._due.values())
            await self._clock.sleep(self._rings_at - self._clock.monotonic())
            now = self._clock.monotonic() + ROUNDING_S
            for key in [key for key, (at, _) in self._due.items() if at <= now]:
                _, call = self._due.pop(key)
                call()
        self._rings_at = inf
