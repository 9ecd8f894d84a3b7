"""How aiokafka's clients are spoken to: every call has a limit and an error that we know, and none asks without pause."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from aiokafka.errors import KafkaError

log = structlog.get_logger()

T = TypeVar("T")

STOP_TIMEOUT_S = 5.0
METADATA_PAUSE_S = 0.1
STILL_AWAY_S = 10.0
# What a client raises when the broker is away; OSError is in it because name resolution and TLS surface as such.
UNREACHABLE = (KafkaError, OSError, TimeoutError, ssl.SSLError)


async def call(given: Awaitable[T], timeout_s: float) -> T:
    """The result of a call of aiokafka, in time. Raises TimeoutError, or what it raised.

    aiokafka cancels futures of its own (a rebalance, a dead coordinator), and a CancelledError that surfaces in our
    coroutine would end the loop that called, as if we had been told to stop. Here it becomes an error like others.
    """
    task = asyncio.ensure_future(given)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        raise TimeoutError(f"no answer within {timeout_s} s")
    if task.cancelled():
        raise KafkaError("the client gave this call up")
    return task.result()


async def close(closing: Awaitable[None], what: str) -> None:
    """Close a client; it may hang or complain, and nobody can do anything about that."""
    try:
        await call(closing, STOP_TIMEOUT_S)
    except (*UNREACHABLE, AssertionError) as exc:
        log.debug("bus.close_failed", what=what, error_type=type(exc).__name__)


def calm(client: Any, reach: "Reach") -> None:
    """Pause after metadata could not be had. aiokafka's sender asks again at once while a partition has no leader and
    no broker answers: ten thousand connections in seconds (found by the storm; tests/acceptance/test_kafka_outage.py).
    """
    update = client._metadata_update

    async def calmly(*given: Any) -> bool:
        done = bool(await update(*given))
        reach.note(done)
        if not done:
            await asyncio.sleep(METADATA_PAUSE_S)
        return done

    client._metadata_update = calmly


class Reach:
    """What an operator reads of an outage: that the broker is away, now and then that it still is, that it is back.

    All clients of a bus share one: in a long outage they are made anew, and none would know when it began.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._was_reached = False  # what was never there is not lost: whoever starts without a broker says so
        self._tries = 0  # without an answer
        self._away_since = self._told_at = 0.0

    def note(self, reached: bool) -> None:
        """A client tried to reach the broker."""
        now = self._monotonic()
        if reached:
            if self._tries:
                log.warning("bus.reached_again", tries=self._tries, away_s=round(now - self._away_since, 1))
            self._was_reached, self._tries = True, 0
            return
        if not self._was_reached:
            return
        self._tries += 1
        if self._tries == 1:
            self._away_since = self._told_at = now
            log.warning("bus.lost")
        elif now - self._told_at >= STILL_AWAY_S:
            self._told_at = now
            log.warning("bus.still_lost", tries=self._tries, away_s=round(now - self._away_since, 1))
