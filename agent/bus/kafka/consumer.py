"""A member of a consumer group. The patterns here answer traps that were reproduced; `#n` is the number in README.md.

Rules for editors: nothing slow happens between two polls; `getmany` is never cancelled (#1); offsets are committed
explicitly, of the present assignment only (#7); after an error of which the result is unknown, the consumer is broken,
and its holder makes a new one (#11).
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    TopicAuthorizationFailedError,
)

from agent.bus.kafka.calls import UNREACHABLE, Reach, call, calm, close
from agent.bus.kafka.connection import connection
from agent.bus.port import ConsumerHealth, Record
from agent.errors import BusUnavailable, EnvironmentUnfit, FatalError
from agent.settings import KafkaSettings

log = structlog.get_logger()


class KafkaConsumer:
    """One member of a group, or a reader of all partitions (`group=None`)."""

    def __init__(
        self, settings: KafkaSettings, names: Collection[str], group: str | None, reach: Reach | None = None
    ) -> None:
        self._settings = settings
        self._reach = reach or Reach()
        self._group = group
        self._names = {settings.topic_prefix + name: name for name in names}
        self._paused: set[str] = set()
        self._epoch = 0  # of the assignment; grows with every rebalance
        self._joined = False
        self._positions: dict[TopicPartition, int] = {}
        self._polled_in: dict[TopicPartition, int] = {}
        self._lag: dict[str, int] = {}
        self._client: AIOKafkaConsumer | None = None
        self._fetching: asyncio.Task[dict[TopicPartition, list[Any]]] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._polled_at = self._moved_at = self._looked_at = self._fetching_since = time.monotonic()
        self._broken: str | None = None

    async def start(self) -> None:
        client = AIOKafkaConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            # #20: never silently elsewhere. A group without offsets starts at the beginning, see _begin.
            auto_offset_reset="none" if self._group else "earliest",
            isolation_level="read_committed",
            # #4: one join request per assignor; changing it needs a new group id.
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=self._settings.session_timeout_ms,
            heartbeat_interval_ms=self._settings.heartbeat_interval_ms,
            # #5: its default is the session timeout.
            rebalance_timeout_ms=self._settings.rebalance_timeout_ms,
            fetch_max_wait_ms=self._settings.fetch_max_wait_ms,
            max_poll_records=self._settings.max_batch_records,
            **connection(self._settings),
        )
        self._client = client
        calm(client._client, self._reach)
        # Without a group aiokafka refuses a listener together with topics given to the constructor.
        listener = _Listener(self) if self._group else None
        client.subscribe(list(self._names), listener=listener)
        try:
            await call(client.start(), self._start_timeout_s())
        except UNREACHABLE as exc:
            self._reach.note(False)
            await self.stop()  # #11: start leaves the object open when it fails
            raise BusUnavailable(f"cannot join the bus at {self._settings.bootstrap_servers}: {exc!r}") from exc
        self._reach.note(True)
        self._joined = True
        self._polled_at = self._moved_at = self._looked_at = time.monotonic()

    def _start_timeout_s(self) -> float:
        return (self._settings.request_timeout_ms + self._settings.rebalance_timeout_ms) / 1000

    async def poll(self, *, timeout_s: float) -> Sequence[Record]:
        client = self._open()
        now = self._polled_at = time.monotonic()
        if self._fetching is None:
            milliseconds = int(min(timeout_s, 1.0) * 1000)
            self._fetching = asyncio.create_task(client.getmany(timeout_ms=milliseconds))
            self._fetching_since = now
        # #1: a cancelled getmany breaks aiokafka's own watchdog, so a call that waits for a rebalance is kept.
        await asyncio.wait({self._fetching}, timeout=timeout_s)
        if not self._fetching.done():
            self._check_rebalance(now)
            return ()
        task, self._fetching = self._fetching, None
        if task.cancelled():
            raise BusUnavailable("the client gave a fetch up")
        try:
            batches = task.result()
        except NoOffsetForPartitionError:
            await self._begin(client)
            return ()
        except OffsetOutOfRangeError as exc:
            raise self._lost(exc) from exc
        except TopicAuthorizationFailedError as exc:
            raise EnvironmentUnfit(f"not allowed to read {exc}", remedy="grant READ on our topics and group") from exc
        except (*UNREACHABLE, AssertionError) as exc:
            raise BusUnavailable(f"the consumer is broken: {exc!r}") from exc
        return self._take(batches, now)

    def _open(self) -> AIOKafkaConsumer:
        if self._client is None:
            raise BusUnavailable("the consumer is closed")
        if self._broken:
            raise BusUnavailable(self._broken)
        return self._client

    def _take(self, batches: Mapping[TopicPartition, Sequence[Any]], now: float) -> Sequence[Record]:
        records: list[Record] = []
        for partition, batch in batches.items():
            name = self._names[partition.topic]
            records += [
                Record(name, partition.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
                for r in batch
            ]
            self._positions[partition] = batch[-1].offset + 1
            self._polled_in[partition] = self._epoch
        if records:
            self._moved_at = now
        else:
            self._check_stall(now)
        return records

    async def _begin(self, client: AIOKafkaConsumer) -> None:
        """A group that never committed begins at the oldest record of each such partition."""
        try:
            assigned = client.assignment()
            limit_s = self._settings.request_timeout_ms / 1000
            fresh = [partition for partition in assigned if await call(client.committed(partition), limit_s) is None]
            if fresh:
                await call(client.seek_to_beginning(*fresh), limit_s)
                log.info("consumer.began", group=self._group, partitions=len(fresh))
        except IllegalStateError:
            pass  # a rebalance came between; the next poll asks again
        except UNREACHABLE as exc:
            raise BusUnavailable(f"cannot read committed offsets: {exc!r}") from exc

    def _lost(self, error: OffsetOutOfRangeError) -> FatalError:
        places = ", ".join(f"{tp.topic}/{tp.partition} at {offset}" for tp, offset in error.args[0].items())
        log.error("consumer.lost_offset", group=self._group, places=places)
        return FatalError(
            f"committed offsets no longer exist on the broker: {places}",
            remedy="records may be lost: choose where to go on with kafka-consumer-groups --reset-offsets, then restart",
        )

    def _check_rebalance(self, now: float) -> None:
        """`getmany` waits without limit while the group has no assignment for us, as when the broker is away."""
        limit_s = self._settings.stall_after_s + self._settings.rebalance_timeout_ms / 1000
        if now - self._fetching_since > limit_s:
            self._broken = f"no assignment for {limit_s:.0f} s"
            raise BusUnavailable(self._broken)

    def _check_stall(self, now: float) -> None:
        """#10: a consumer may stop without a word. Ask the broker now and then; a stall breaks this consumer."""
        limit = self._settings.stall_after_s
        if self._looking is not None and self._looking.done():
            look, self._looking = self._looking, None
            error = KafkaError("given up") if look.cancelled() else look.exception()
            if error is not None:
                raise BusUnavailable(f"the broker does not answer: {error!r}") from error
        quiet_s = now - self._moved_at
        if quiet_s > limit and any(self._lag.get(name, 0) > 0 for name in self._names.values() if self._flows(name)):
            self._broken = f"stalled: records are waiting and none came for {quiet_s:.0f} s"
            raise BusUnavailable(self._broken)
        if self._looking is None and now - self._looked_at > min(limit / 3, 10.0):
            self._looked_at = now
            self._looking = asyncio.create_task(self._look())

    def _flows(self, name: str) -> bool:
        return self._settings.topic_prefix + name not in self._paused

    async def _look(self) -> None:
        """High waters, asked for explicitly: those of the fetcher are as old as its last answer. Raises KafkaError."""
        client = self._client
        if client is None or not (assigned := client.assignment()):
            return
        async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
            ends: dict[TopicPartition, int] = await client.end_offsets(list(assigned))
            lag = dict.fromkeys(self._names.values(), 0)
            for partition, end in ends.items():
                if (position := await self._position(client, partition)) is not None:
                    lag[self._names[partition.topic]] += max(0, end - position)
        self._lag = lag

    async def _position(self, client: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
        if (known := self._positions.get(partition)) is not None:
            return known
        with contextlib.suppress(TimeoutError, IllegalStateError):
            async with asyncio.timeout(1.0):  # not wait_for: see runtime/worker.py
                return int(await client.position(partition))
        return None

    async def commit(self, records: Sequence[Record]) -> None:
        client = self._open()
        if self._group is None:
            return
        offsets = self._offsets(client, records)
        if not offsets:
            return
        try:
            await call(client.commit(offsets), self._settings.request_timeout_ms / 1000)
        except (CommitFailedError, IllegalStateError, RebalanceInProgressError) as exc:
            # #7: somebody else has the partition now, and will read these records again; they are known by then.
            log.info("consumer.commit_skipped", error_type=type(exc).__name__)
        except UNREACHABLE as exc:
            raise BusUnavailable(f"cannot commit: {exc!r}") from exc

    def _offsets(self, client: AIOKafkaConsumer, records: Iterable[Record]) -> dict[TopicPartition, int]:
        prefix, assigned = self._settings.topic_prefix, client.assignment()
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(prefix + record.topic, record.partition)
            if partition in assigned and self._polled_in.get(partition) == self._epoch:
                offsets[partition] = max(record.offset + 1, offsets.get(partition, 0))
        return offsets

    def pause(self, topics: Collection[str]) -> None:
        self._paused |= {self._settings.topic_prefix + name for name in topics}
        self._apply_pauses()

    def resume(self, topics: Collection[str]) -> None:
        names = {self._settings.topic_prefix + name for name in topics}
        self._paused -= names
        if self._client is not None:
            self._client.resume(*[p for p in self._client.assignment() if p.topic in names])
            self._moved_at = time.monotonic()

    def _apply_pauses(self) -> None:
        if self._client is not None and self._paused:
            self._client.pause(*[p for p in self._client.assignment() if p.topic in self._paused])

    def assigned(self) -> None:
        """A rebalance ended: #2, pauses are forgotten and positions are back at what was committed."""
        self._epoch += 1
        self._positions.clear()
        self._polled_in.clear()
        self._joined = True
        self._moved_at = time.monotonic()
        self._apply_pauses()

    def revoked(self) -> None:
        """A rebalance began."""
        self._joined = False

    def lag(self) -> Mapping[str, int]:
        return dict(self._lag)

    def health(self) -> ConsumerHealth:
        assigned = len(self._client.assignment()) if self._client is not None else 0
        return ConsumerHealth(
            joined=self._joined and self._client is not None and self._broken is None,
            poll_age_s=time.monotonic() - self._polled_at,
            assigned_partitions=assigned,
        )

    async def stop(self) -> None:
        client, self._client = self._client, None
        self._joined = False
        for task in (self._looking, self._fetching):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, *UNREACHABLE, AssertionError):
                    await task
        self._looking = self._fetching = None
        if client is not None:
            await close(client.stop(), "consumer")


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """#6: exceptions of a listener are swallowed, so it only sets flags."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._consumer.revoked()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._consumer.assigned()
