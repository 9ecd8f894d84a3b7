"""Waiting for a condition, here and in the children of tests. Passing time never stands for one."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

What = str | Callable[[], str]


async def until(holds: Callable[[], Any], what: What, *, limit_s: float = 60.0, every_s: float = 0.01) -> None:
    """Look until `holds()` (which may be a coroutine function) is true. AssertionError after `limit_s`."""
    for _ in _looks(what, limit_s):
        found = holds()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        await asyncio.sleep(every_s)


def eventually(
    holds: Callable[[], object], what: What = "the condition", *, limit_s: float = 15.0, every_s: float = 0.02
) -> None:
    """The same without an event loop."""
    for _ in _looks(what, limit_s):
        if holds():
            return
        time.sleep(every_s)


def _looks(what: What, limit_s: float) -> Iterator[None]:
    """One item per look, the last one after the limit; then says what did not come about."""
    ends, is_last = time.monotonic() + limit_s, False
    while not is_last:
        is_last = time.monotonic() > ends
        yield
    said = what if isinstance(what, str) else what()
    raise AssertionError(f"{said} did not come about within {limit_s:g} s")


async def settle() -> None:
    """Let every task go on until it waits for something that does not come from this loop (memory adapters only)."""
    for _ in range(20):
        await asyncio.sleep(0)
