"""Who sleeps until the journal changes, and how nobody sleeps through a change.

A look at the journal (`claim`, `unsent`, `answer`) notes the version that it saw; `wait` returns at once if the journal
has moved on since. The note is kept per asyncio task, in a context variable: a caller may run `wait` in a child task
(asyncio.wait, wait_for), which inherits the note of its parent. Waiters may live in several event loops.
"""

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class _Note:
    """The version that a caller saw last, and which asyncio task that caller is."""

    owner: int
    seen: int


class Wakeups:
    """A version number that goes up with every change, and those who wait for it."""

    def __init__(self) -> None:
        self._version = 0
        self._lock = threading.Lock()
        self._waiters: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self._note: ContextVar[_Note | None] = ContextVar("journal_note", default=None)

    def note(self) -> None:
        """The caller is about to look at the journal."""
        caller = id(asyncio.current_task())
        mine = self._note.get()
        if mine is not None and mine.owner == caller:
            mine.seen = self._version
        else:  # none, or inherited from a parent, who keeps its own
            self._note.set(_Note(caller, self._version))

    def bump(self) -> None:
        """Something changed. Callable from any thread, once per commit."""
        with self._lock:
            self._version += 1
            waiting, self._waiters = self._waiters, {}
        for future, loop in waiting.items():
            _in_loop(loop, _resolve(future))

    async def wait(self, timeout_s: float) -> None:
        """Return after a change since the caller's last look, or after `timeout_s`."""
        note = self._note.get()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if note is not None and note.seen != self._version:
                future.set_result(None)
            else:
                self._waiters[future] = loop
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            with self._lock:
                self._waiters.pop(future, None)
        if note is not None and future.done():
            note.seen = self._version  # one change wakes a caller once, even if it does not look again
        if note is None or note.owner != id(asyncio.current_task()):
            # A task that waits again is no helper of the one whose note it inherited: from now on it keeps its own.
            self._note.set(_Note(id(asyncio.current_task()), self._version))
        await asyncio.sleep(0)


def _resolve(future: "asyncio.Future[None]") -> Callable[[], None]:
    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    return resolve


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return  # that loop is closed: nobody waits there any more
