"""What a loop sleeps on between two looks at the journal."""

import asyncio
from typing import Any

from agent.clock import Clock
from agent.errors import JournalUnavailable
from agent.journal.port import Journal


class Bell:
    """Rings when the journal changes, now and then because time passes, and when somebody rings it.

    A loop silences it, looks, and sleeps if it saw nothing: what happens between look and sleep rings again. One task
    listens for good; a task per sleep cost more than most looks.
    """

    def __init__(self, journal: Journal, clock: Clock, every_s: float) -> None:
        self._journal = journal
        self._clock = clock
        self._every_s = every_s
        self._rung = asyncio.Event()
        self._listeners: list[asyncio.Task[Any]] = []

    def start(self, *others: asyncio.Event) -> None:
        """Ring for the journal from now on, and when one of `others` is set."""
        waits = [self._listen(), *(other.wait() for other in others)]
        self._listeners = [asyncio.create_task(wait) for wait in waits]
        for listener in self._listeners:
            listener.add_done_callback(lambda _: self.ring())

    async def stop(self) -> None:
        """Listen no more."""
        for listener in self._listeners:
            listener.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)

    def ring(self) -> None:
        """Wake the loop, or keep it from falling asleep."""
        self._rung.set()

    def silence(self) -> None:
        """The loop is about to look."""
        self._rung.clear()

    async def sleep(self) -> None:
        """Until it rings. Raises what ended the listening, which would otherwise end in silence."""
        await self._rung.wait()
        for listener in self._listeners:
            if listener.done():
                listener.result()

    async def _listen(self) -> None:
        while True:
            try:
                await self._journal.changed(timeout_s=self._every_s)
            except JournalUnavailable:
                await self._clock.sleep(self._every_s)
            self.ring()
