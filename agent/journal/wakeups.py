"""Who sleeps until the journal changes, and how nobody sleeps through a change.

A look at the journal (`claim`, `unsent`, `answer`) notes the version that it saw; `wait` returns at once if the journal
has moved on since. The note is kept per asyncio task, in a context variable: a caller may run `wait` in a child task
(asyncio.wait, wait_for), which inherits the note of its parent. Waiters may live in several event loops.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterable
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
        self._waiters: dict[asyncio.AbstractEventLoop, set[asyncio.Future[bool]]] = {}
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
        for loop, futures in waiting.items():
            with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(_resolve, futures)

    async def wait(self, timeout_s: float) -> None:
        """Return after a change since the caller's last look, or after `timeout_s`."""
        note = self._note.get()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()  # whether something changed
        with self._lock:
            has_changed = note is not None and note.seen != self._version
            if not has_changed:
                self._waiters.setdefault(loop, set()).add(future)
        if has_changed:
            await asyncio.sleep(0)
        else:
            has_changed = await self._change(future, timeout_s)
        if note is not None and has_changed:
            note.seen = self._version  # one change wakes a caller once, even if it does not look again
        if note is None or note.owner != id(asyncio.current_task()):
            # A task that waits again is no helper of the one whose note it inherited: from now on it keeps its own.
            self._note.set(_Note(id(asyncio.current_task()), self._version))

    async def _change(self, future: "asyncio.Future[bool]", timeout_s: float) -> bool:
        loop = future.get_loop()
        timer = loop.call_later(timeout_s, _resolve, [future], False)
        try:
            return await future
        finally:
            timer.cancel()
            with self._lock:
                self._waiters.get(loop, set()).discard(future)


def _resolve(futures: "Iterable[asyncio.Future[bool]]", has_changed: bool = True) -> None:
    for future in futures:
        if not future.done():
            future.set_result(has_changed)
