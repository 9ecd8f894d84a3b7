"""Waiting for a condition, here and in the children (which need nothing else of the stage)."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


async def until(holds: Callable[[], Any], what: str, *, limit_s: float = 60.0, every_s: float = 0.01) -> None:
    """Look until `holds()` (which may be a coroutine function) is true."""
    ends = time.monotonic() + limit_s
    while True:
        found = holds()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        if time.monotonic() > ends:
            raise AssertionError(f"{what} did not come about within {limit_s:.0f} s")
        await asyncio.sleep(every_s)
