"""What every bus promises (agent/bus/port.py), on memory, on the embedded broker and, where there is one, on Apache Kafka."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from agent.bus.embedded import EmbeddedBroker, embedded_settings
from agent.bus.kafka import KafkaBus, KafkaConsumer, KafkaProducer
from agent.bus.memory import MemoryBus
from agent.bus.port import Bus, Consumer, Outgoing, Record, RecordTooLarge
from agent.errors import BusUnavailable, FatalError
from agent.settings import KafkaSettings

TASKS, CONTROL = "backend.tasks.v1", "backend.control.v1"


@pytest.fixture(params=["memory", "embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """Each adapter, with topics in place."""
    if request.param == "memory":
        yield MemoryBus(max_request_bytes=100_000)
    elif request.param == "embedded":
        async with EmbeddedBroker() as servers:
            settings = embedded_settings(servers).model_copy(update={"max_request_bytes": 100_000})
            yield KafkaBus(settings)
    else:
        bus = KafkaBus(_real_settings(request))
        async for _ in bus.ensure_topics():
            pass
        yield bus


def _real_settings(request: pytest.FixtureRequest) -> KafkaSettings:
    try:
        servers = request.getfixturevalue("kafka")
    except pytest.FixtureLookupError:
        pytest.skip("no fixture gives an Apache Kafka")
    prefix = f"t{uuid.uuid4().hex[:8]}."
    return KafkaSettings.model_validate(
        {
            "bootstrap_servers": getattr(servers, "bootstrap_servers", servers),
            "topic_prefix": prefix,
            "max_request_bytes": 100_000,
            "session_timeout_ms": 6_000,
            "heartbeat_interval_ms": 1_000,
            "rebalance_timeout_ms": 6_000,
        }
    )


@pytest.fixture
def group() -> str:
    """A group that nobody else uses."""
    return f"g-{uuid.uuid4().hex[:8]}"


def record(number: int, *, key: str = "orders", topic: str = TASKS, size: int = 0) -> Outgoing:
    return Outgoing(topic, key.encode(), f"{number}".encode() + b"x" * size, (("ce_id", f"{number}".encode()),))


async def publish(bus: Bus, records: Sequence[Outgoing]) -> None:
    producer = bus.producer()
    await producer.start()
    try:
        await producer.send(records)
    finally:
        await producer.stop()


async def read(consumer: Consumer, enough: Callable[[list[Record]], bool], *, limit_s: float = 20) -> list[Record]:
    """Poll until `enough` holds."""
    seen: list[Record] = []
    async with asyncio.timeout(limit_s):
        while not enough(seen):
            seen += await consumer.poll(timeout_s=0.2)
    return seen


async def quiet(consumer: Consumer, *, polls: int = 3) -> list[Record]:
    return [record for _ in range(polls) for record in await consumer.poll(timeout_s=0.2)]


async def test_a_new_group_starts_at_the_earliest_record(bus: Bus, group: str) -> None:
    """What was sent before the first start is work, too."""
    await publish(bus, [record(n) for n in range(5)])
    consumer = bus.consumer([TASKS], group=group)
    await consumer.start()

    seen = await read(consumer, lambda seen: len(seen) >= 5)
    await consumer.stop()

    assert [r.value for r in seen] == [b"0", b"1", b"2", b"3", b"4"]
    assert seen[0].topic == TASKS
    assert seen[0].key == b"orders"
    assert ("ce_id", b"0") in seen[0].headers


async def test_order_is_kept_per_key(bus: Bus, group: str) -> None:
    """Kafka orders within a partition, and a key has one partition."""
    sent = [record(n, key=f"k{n % 7}") for n in range(300)]
    await publish(bus, sent[:150])
    await publish(bus, sent[150:])
    consumer = bus.consumer([TASKS], group=group)
    await consumer.start()

    seen = await read(consumer, lambda seen: len(seen) >= 300)
    await consumer.stop()

    for key in {r.key for r in seen}:
        numbers = [int(r.value or b"") for r in seen if r.key == key]
        assert numbers == sorted(numbers)
    assert sorted(int(r.value or b"") for r in seen) == list(range(300))


async def test_what_is_committed_is_not_read_again_and_the_rest_is(bus: Bus, group: str) -> None:
    """Accept, then commit: a crash between the two redelivers."""
    await publish(bus, [record(n) for n in range(6)])
    first = bus.consumer([TASKS], group=group)
    await first.start()
    seen = await read(first, lambda seen: len(seen) >= 6)
    await first.commit(seen[:4])
    await first.stop()

    second = bus.consumer([TASKS], group=group)
    await second.start()
    again = await read(second, lambda seen: len(seen) >= 2)
    await second.stop()

    assert [r.value for r in again] == [b"4", b"5"]


async def test_a_paused_topic_is_silent_while_others_flow(bus: Bus, group: str) -> None:
    """Back-pressure stops requests, never commands."""
    consumer = bus.consumer([TASKS, CONTROL], group=group)
    await consumer.start()
    await quiet(consumer)
    consumer.pause([TASKS])
    await publish(bus, [record(1), record(2, topic=CONTROL)])

    seen = await read(consumer, lambda seen: len(seen) >= 1)
    seen += await quiet(consumer)
    consumer.resume([TASKS])
    later = await read(consumer, lambda seen: len(seen) >= 1)
    await consumer.stop()

    assert [r.topic for r in seen] == [CONTROL]
    assert [r.topic for r in later] == [TASKS]


async def test_a_pause_survives_a_rebalance(bus: Bus, group: str, request: pytest.FixtureRequest) -> None:
    """aiokafka forgets pauses at every rebalance (agent/bus/README.md, trap 2)."""
    if "embedded" in request.node.callspec.id:
        pytest.skip("the mock broker supports one member per group")
    consumer = bus.consumer([TASKS], group=group)
    await consumer.start()
    consumer.pause([TASKS])
    other = bus.consumer([TASKS], group=group)
    joining = asyncio.create_task(other.start())
    while not joining.done():
        assert not await consumer.poll(timeout_s=0.2)
    await other.stop()
    await publish(bus, [record(n, key=str(n)) for n in range(20)])

    assert list(await quiet(consumer, polls=10)) == []
    await consumer.stop()


async def test_a_reader_without_a_group_sees_every_partition(bus: Bus) -> None:
    """`watch` reads what everybody reads and disturbs nobody."""
    await publish(bus, [record(n, key=str(n)) for n in range(30)])
    consumer = bus.consumer([TASKS], group=None)
    await consumer.start()

    seen = await read(consumer, lambda seen: len(seen) >= 30)
    await consumer.commit(seen)
    await consumer.stop()

    assert len({r.partition for r in seen}) > 1


async def test_a_record_that_is_too_large_is_named_after_the_ones_before_it(bus: Bus, group: str) -> None:
    """The relay parks it; the ones before it are out."""
    with pytest.raises(RecordTooLarge):
        await publish(bus, [record(0), record(1, size=200_000), record(2)])
    consumer = bus.consumer([TASKS], group=group)
    await consumer.start()

    seen = await read(consumer, lambda seen: len(seen) >= 1)
    seen += await quiet(consumer)
    await consumer.stop()

    assert [r.value for r in seen] == [b"0"]


async def test_records_that_fill_a_batch_each_arrive(group: str) -> None:
    """A batch holds 256 KiB, a record may have more."""
    async with EmbeddedBroker() as servers:
        bus = KafkaBus(embedded_settings(servers))
        await publish(bus, [record(number, size=size) for number, size in enumerate((400_000, 10, 400_000, 400_000))])
        consumer = bus.consumer([TASKS], group=group)
        await consumer.start()

        seen = await read(consumer, lambda seen: len(seen) >= 4)
        await consumer.stop()

    assert [len(r.value or b"") for r in seen] == [400_001, 11, 400_001, 400_001]


async def test_a_batch_waits_for_the_former_one_of_its_partition(bus: Bus) -> None:
    """One that follows a batch that failed would overtake it: what arrives is a prefix."""
    producer = bus.producer()
    if not isinstance(producer, KafkaProducer):
        pytest.skip("the memory bus has no batches")
    await producer.start()
    client = producer._client
    assert client is not None
    handed_over: list[int] = []

    async def refuse(batch: BatchBuilder, *_: object, **__: object) -> asyncio.Future[None]:
        handed_over.append(batch.record_count())
        answer = asyncio.get_running_loop().create_future()
        answer.set_exception(KafkaError("refused"))
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "send_batch", refuse)
        with pytest.raises(BusUnavailable):
            await producer.send([record(number, size=40_000) for number in range(10)])

    assert len(handed_over) == 1
    assert handed_over[0] < 10


async def test_a_send_waits_for_all_replicas_and_a_try_again_writes_once(bus: Bus) -> None:
    """Neither shows at a single healthy broker, so what was asked of the client is looked at."""
    producer = bus.producer()
    if not isinstance(producer, KafkaProducer):
        pytest.skip("the memory bus has no replicas")
    await producer.start()
    await producer.send([record(0)])

    assert producer._client is not None
    assert producer._client._sender._acks == -1
    assert producer._client._txn_manager.has_pid()
    await producer.stop()


async def test_tombstones_and_missing_keys_arrive(bus: Bus, group: str) -> None:
    """They become dead letters, so they must come through."""
    await publish(bus, [Outgoing(TASKS, b"", b"", ())])
    consumer = bus.consumer([TASKS], group=group)
    await consumer.start()

    seen = await read(consumer, lambda seen: len(seen) >= 1)
    await consumer.stop()

    assert seen[0].headers == ()


async def test_health_and_lag_tell_what_is_going_on(bus: Bus, group: str) -> None:
    """Readiness asks for it."""
    consumer = bus.consumer([TASKS], group=group)
    assert not consumer.health().joined
    await consumer.start()
    await quiet(consumer)

    health = consumer.health()
    assert health.joined
    assert health.assigned_partitions == 6
    assert health.poll_age_s < 5
    assert consumer.lag().get(TASKS, 0) == 0
    await consumer.stop()
    assert not consumer.health().joined


async def test_a_closed_consumer_is_unavailable(bus: Bus, group: str) -> None:
    """The supervisor makes a new one."""
    consumer = bus.consumer([TASKS], group=group)
    await consumer.start()
    await consumer.stop()

    with pytest.raises(BusUnavailable):
        await consumer.poll(timeout_s=0.1)


async def test_a_lost_offset_stops_instead_of_skipping(bus: Bus, group: str) -> None:
    """What was committed is no longer there: a person has to decide, a reset would skip or repeat in silence."""
    if not isinstance(bus, KafkaBus):
        pytest.skip("the memory bus keeps everything")
    await publish(bus, [record(0)])
    place = TopicPartition(bus._settings.topic_prefix + TASKS, 0)
    vandal = AIOKafkaConsumer(
        bootstrap_servers=bus._settings.bootstrap_servers, group_id=group, enable_auto_commit=False
    )
    await vandal.start()
    vandal.assign([place])
    await vandal.commit({place: 1_000_000})
    await vandal.stop()
    consumer = bus.consumer([TASKS], group=group)
    await consumer.start()

    with pytest.raises(FatalError, match="no longer exist"):
        await read(consumer, lambda _: False)
    await consumer.stop()


async def test_topics_are_complete(bus: Bus) -> None:
    """`topics ensure` then `topics check` finds nothing to mend."""
    assert [line async for line in bus.ensure_topics()]

    assert await bus.check_topics() == []


async def test_no_broker_is_said_soon() -> None:
    """A consumer and a producer without a broker raise, and leave nothing open."""
    settings = KafkaSettings.model_validate(
        {"bootstrap_servers": "127.0.0.1:1", "request_timeout_ms": 1000, "rebalance_timeout_ms": 2000}
    )
    bus = KafkaBus(settings)

    with pytest.raises(BusUnavailable):
        await bus.consumer([TASKS], group="g").start()
    with pytest.raises(BusUnavailable):
        await bus.producer().start()
    with pytest.raises(BusUnavailable):
        await bus.check_topics()


async def test_an_outage_makes_sends_fail_and_the_same_producer_works_afterwards(group: str) -> None:
    """A dead sender task fails everything after it, so the producer is made anew (trap 14)."""
    broker = EmbeddedBroker()
    await broker.start()
    settings = embedded_settings(broker.bootstrap_servers).model_copy(update={"request_timeout_ms": 1_000})
    bus = KafkaBus(settings)
    producer = bus.producer()
    await producer.start()
    await producer.send([record(0)])
    await broker.tell("down")
    with pytest.raises(BusUnavailable):
        await producer.send([record(1)])
    await broker.tell("up")

    await producer.send([record(2)])

    consumer = bus.consumer([TASKS], group=group)
    await consumer.start()
    seen = await read(consumer, lambda seen: any(r.value == b"2" for r in seen))
    await consumer.stop()
    await producer.stop()
    await broker.stop()
    assert seen[0].value == b"0"


async def test_a_stalled_consumer_breaks() -> None:
    """aiokafka may stop without a word (trap 10): a broker that is frozen is noticed."""
    broker = EmbeddedBroker()
    await broker.start()
    settings = embedded_settings(broker.bootstrap_servers).model_copy(
        update={"request_timeout_ms": 1_000, "stall_after_s": 1.0, "rebalance_timeout_ms": 2_000}
    )
    consumer = KafkaConsumer(settings, [TASKS], "g")
    await consumer.start()
    await broker.tell("down")

    with pytest.raises(BusUnavailable):
        await read(consumer, lambda _: False)
    await consumer.stop()
    await broker.stop()
