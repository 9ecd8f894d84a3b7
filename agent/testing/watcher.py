"""A client on the bus for tests: publishes requests, and keeps everything that is published about them."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import orjson

from agent.bus.port import Bus, Outgoing
from agent.errors import BusUnavailable
from agent.testing.harness import Request
from contracts import topics
from contracts.codec import Message, decode
from contracts.status import TERMINAL

READ = (topics.STATUS.name, topics.DELIVERIES.name, topics.DEAD_LETTERS.name)


class Watcher:
    """`async with Watcher(bus)`. `messages` is everything seen, repeats included, in the order of arrival."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._producer = bus.producer()
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.messages: list[Message] = []

    async def __aenter__(self) -> "Watcher":
        await self._producer.start()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        await self._producer.stop()

    async def _read(self) -> None:
        while True:
            consumer = self._bus.consumer(READ, group=None)
            try:
                await consumer.start()
                while True:
                    for record in await consumer.poll(timeout_s=0.5):
                        self.messages.append(decode(record.topic, record.headers, record.key, record.value))
                        self._news.set()
            except BusUnavailable:
                await asyncio.sleep(0.2)  # an outage is part of some tests; repeats are dropped by id
            finally:
                await consumer.stop()

    async def send(self, given: Request | Outgoing, *, times: int = 1) -> str:
        """Publish; returns the task id of a request."""
        outgoing = given.outgoing if isinstance(given, Request) else given
        await self._producer.send([outgoing] * times)
        return given.task_id if isinstance(given, Request) else ""

    async def until(self, holds: Callable[[], Any], *, limit_s: float = 30.0, what: str = "the condition") -> None:
        """Wait for news until `holds()`."""
        try:
            async with asyncio.timeout(limit_s):
                while not holds():
                    self._news.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), 0.2)
        except TimeoutError:
            raise AssertionError(f"{what} did not come about within {limit_s} s; seen: {self.summary()}") from None

    async def ended(self, about: str, *, limit_s: float = 30.0) -> str:
        """Wait for the terminal status of a task."""
        await self.until(lambda: self.ending(about) is not None, limit_s=limit_s, what=f"the end of {about}")
        return str(self.ending(about))

    def about(self, about: str) -> list[Message]:
        """First appearances of events about a task."""
        first: dict[str, Message] = {}
        for message in self.messages:
            if message.envelope.subject == about:
                first.setdefault(message.envelope.id, message)
        return list(first.values())

    def statuses(self, about: str) -> list[Mapping[str, Any]]:
        """Status events of a task, first appearances, in order."""
        return [orjson.loads(m.data) for m in self.about(about) if m.message_type.name == "task.status"]

    def ending(self, about: str) -> str | None:
        """The terminal status, if it was published."""
        found = [status["status"] for status in self.statuses(about) if status["status"] in TERMINAL]
        return found[-1] if found else None

    def sequences(self, about: str) -> list[int]:
        """Numbers on the status topic, first appearances, in order of arrival."""
        return [int(m.envelope.sequence) for m in self.about(about) if m.envelope.sequence]

    def deliveries(self, about: str) -> list[Message]:
        """Deliveries of a task, first appearances."""
        return [m for m in self.about(about) if m.message_type.name == "task.delivered"]

    def dead_letters(self) -> list[Mapping[str, Any]]:
        """Dead letters, first appearances."""
        unique = {m.envelope.id: m for m in self.messages if m.message_type.name == "task.dead_lettered"}
        return [orjson.loads(m.data) for m in unique.values()]

    def summary(self) -> str:
        """What was seen, for a failure's message."""
        return ", ".join(
            f"{m.message_type.name}:{orjson.loads(m.data).get('status', '')}#{m.envelope.sequence}"
            for m in self.messages[-40:]
        )
