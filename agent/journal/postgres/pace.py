"""How often something is done that could be done all the time."""

import asyncio
import time


class Pace:
    """At most once in so many seconds; the first one after a rest does not wait."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_at = float("-inf")

    async def keep(self) -> None:
        """Return when it is time."""
        if (left_s := self._next_at - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
        self._next_at = time.monotonic() + self._every_s
