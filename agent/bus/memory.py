"""The bus in memory: the same promises as Kafka's as far as one process can see them. For tests and for reading."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from agent.bus.port import Consumer, ConsumerHealth, Outgoing, Producer, Record, RecordTooLarge
from agent.errors import BusUnavailable
from contracts import topics

Partition = tuple[str, int]


@dataclass(slots=True)
class _Group:
    committed: dict[Partition, int] = field(default_factory=dict)
    members: list["MemoryConsumer"] = field(default_factory=list)


class MemoryBus:
    """Topics as lists. `down = True` is an outage: every call raises BusUnavailable until it is False again."""

    def __init__(self, *, max_request_bytes: int = 1_000_000, max_batch_records: int = 500) -> None:
        self.down = False
        self.max_request_bytes = max_request_bytes
        self.max_batch_records = max_batch_records
        self._partitions = {topic.name: topic.partitions for topic in topics.ALL}
        self._log: dict[Partition, list[Record]] = {}
        self._groups: dict[str, _Group] = {}
        self._arrived = asyncio.Event()

    def consumer(self, topics: Collection[str], *, group: str | None) -> Consumer:
        return MemoryConsumer(self, topics, group)

    def producer(self) -> Producer:
        return MemoryProducer(self)

    async def ensure_topics(self) -> AsyncIterator[str]:
        self.check()
        for topic in topics.ALL:
            yield f"{topic.name}: exists"

    async def check_topics(self) -> Sequence[str]:
        self.check()
        return []

    def check(self) -> None:
        """Raise BusUnavailable during an outage."""
        if self.down:
            raise BusUnavailable("the memory bus is down")

    def append(self, record: Outgoing) -> Record:
        """Put a record at the end of its partition, as a foreign client would."""
        partition = crc32(record.key) % self._partitions.setdefault(record.topic, 1)
        log = self._log.setdefault((record.topic, partition), [])
        stored = Record(
            record.topic, partition, len(log), int(time.time() * 1000), record.key, record.value, tuple(record.headers)
        )
        log.append(stored)
        self._arrived.set()
        return stored

    def append_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes | None]
    ) -> Record:
        """Put anything on partition 0: tombstones, null keys, rubbish."""
        log = self._log.setdefault((topic, 0), [])
        stored = Record(topic, 0, len(log), int(time.time() * 1000), key, value, tuple(headers.items()))
        log.append(stored)
        self._arrived.set()
        return stored

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, by partition and offset."""
        names = sorted(place for place in self._log if place[0] == topic)
        return [record for place in names for record in self._log[place]]

    def log(self, place: Partition) -> Sequence[Record]:
        """One partition."""
        return self._log.get(place, ())

    def places(self, names: Collection[str]) -> list[Partition]:
        """All partitions of these topics."""
        return [(name, number) for name in sorted(names) for number in range(self._partitions.setdefault(name, 1))]

    def group(self, name: str) -> _Group:
        """Committed offsets and members of a group."""
        return self._groups.setdefault(name, _Group())

    async def arrival(self, timeout_s: float) -> None:
        """Wait for the next record, at most `timeout_s`."""
        self._arrived.clear()
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the record.
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return


class MemoryConsumer:
    """Partitions are dealt round-robin among the members; joining or leaving sends everyone back to what is committed."""

    def __init__(self, bus: MemoryBus, names: Collection[str], group: str | None) -> None:
        self._bus = bus
        self._names = tuple(names)
        self._group = bus.group(group) if group is not None else None
        self._assigned: list[Partition] = []
        self._positions: dict[Partition, int] = {}
        self._paused: set[str] = set()
        self._open = False
        self._polled_at = time.monotonic()

    async def start(self) -> None:
        self._bus.check()
        self._open = True
        if self._group is None:
            self.assign(self._bus.places(self._names), {})
        else:
            self._group.members.append(self)
            _rebalance(self._bus, self._group)

    @property
    def names(self) -> tuple[str, ...]:
        """Subscribed topics."""
        return self._names

    def assign(self, places: Sequence[Partition], committed: Mapping[Partition, int]) -> None:
        """Take these partitions from their committed offsets on."""
        self._assigned = list(places)
        self._positions = {place: committed.get(place, 0) for place in places}

    async def poll(self, *, timeout_s: float) -> Sequence[Record]:
        self._polled_at = time.monotonic()
        self._check()
        if not (records := self._take()):
            await self._bus.arrival(timeout_s)
            self._check()
            records = self._take()
        return records

    def _check(self) -> None:
        self._bus.check()
        if not self._open:
            raise BusUnavailable("the consumer is closed")

    def _take(self) -> list[Record]:
        taken: list[Record] = []
        for place in self._assigned:
            if place[0] in self._paused:
                continue
            start = self._positions[place]
            batch = self._bus.log(place)[start : start + self._bus.max_batch_records - len(taken)]
            self._positions[place] = start + len(batch)
            taken += batch
        return taken

    async def commit(self, records: Sequence[Record]) -> None:
        self._check()
        if self._group is None:
            return
        for record in records:
            place = (record.topic, record.partition)
            if place in self._positions:
                self._group.committed[place] = max(record.offset + 1, self._group.committed.get(place, 0))

    def pause(self, topics: Collection[str]) -> None:
        self._paused |= set(topics)

    def resume(self, topics: Collection[str]) -> None:
        self._paused -= set(topics)

    def lag(self) -> Mapping[str, int]:
        lag = dict.fromkeys(self._names, 0)
        for place in self._assigned:
            lag[place[0]] += len(self._bus.log(place)) - self._positions[place]
        return lag

    def health(self) -> ConsumerHealth:
        return ConsumerHealth(self._open, time.monotonic() - self._polled_at, len(self._assigned))

    async def stop(self) -> None:
        self._open = False
        if self._group is not None and self in self._group.members:
            self._group.members.remove(self)
            _rebalance(self._bus, self._group)


def _rebalance(bus: MemoryBus, group: _Group) -> None:
    for number, member in enumerate(group.members):
        places = bus.places(member.names)[number :: len(group.members)]
        member.assign(places, group.committed)


class MemoryProducer:
    """Appends at once."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    async def start(self) -> None:
        self._bus.check()

    async def send(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            self._bus.check()
            if len(record.value) > self._bus.max_request_bytes:
                raise RecordTooLarge(f"record of {len(record.value)} bytes")
            self._bus.append(record)
        await asyncio.sleep(0)  # a real send yields; code that relies on not being interrupted must show

    async def stop(self) -> None:
        return None
