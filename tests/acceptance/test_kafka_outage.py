"""A broker that is away costs patience, not a processor."""

import asyncio
import contextlib
import logging
import secrets

import pytest

from agent.bus.kafka import KafkaBus, KafkaProducer
from agent.bus.port import Consumer, Outgoing, Producer
from agent.errors import BusUnavailable
from agent.settings import KafkaSettings
from tests.acceptance.kafka import Kafka

pytestmark = [pytest.mark.acceptance, pytest.mark.kafka]
WATCHED_S = 3.0
MOST_TRIES = 150  # of two clients and their coordinators; a hot loop makes ten thousand


async def keep_sending(producer: Producer, flows: asyncio.Event) -> None:
    """As the outbox does; `flows` tells of the first acknowledgement."""
    while True:
        with contextlib.suppress(BusUnavailable):
            await producer.send([Outgoing("backend.status.v1", bytes([number]), b"{}", ()) for number in range(20)])
            flows.set()
        await asyncio.sleep(0.05)  # the pace of the outbox


async def keep_reading(consumer: Consumer, flows: asyncio.Event) -> None:
    """As the inbox does; `flows` tells of the first answer."""
    while True:
        with contextlib.suppress(BusUnavailable):
            await consumer.poll(timeout_s=0.2)
            flows.set()


def without_leaders(producer: Producer) -> None:
    """What a client hears that asks in the last moment of a controlled shutdown: partitions without a leader."""
    assert isinstance(producer, KafkaProducer)
    assert producer._client is not None
    for partitions in producer._client.client.cluster._partitions.values():
        for number, partition in partitions.items():
            partitions[number] = partition._replace(leader=-1)


async def test_a_stopped_broker_is_asked_with_pauses(faulty_kafka: Kafka, caplog: pytest.LogCaptureFixture) -> None:
    """A controlled shutdown says that partitions have no leader; aiokafka alone then asks again without a pause."""
    assert faulty_kafka.local is not None
    settings = {"bootstrap_servers": faulty_kafka.bootstrap_servers, "topic_prefix": f"{secrets.token_hex(4)}."}
    bus = KafkaBus(KafkaSettings.model_validate(settings))
    async for _ in bus.ensure_topics():
        pass
    producer, consumer = bus.producer(), bus.consumer(["backend.tasks.v1"], group="g")
    await producer.start()
    await consumer.start()
    sends, reads = asyncio.Event(), asyncio.Event()
    busy = [asyncio.create_task(keep_sending(producer, sends)), asyncio.create_task(keep_reading(consumer, reads))]
    await asyncio.wait_for(asyncio.gather(sends.wait(), reads.wait()), 60)  # in full flow when the broker goes
    await asyncio.to_thread(faulty_kafka.local.stop)
    without_leaders(producer)
    try:
        with caplog.at_level(logging.ERROR):
            caplog.clear()
            await asyncio.sleep(WATCHED_S)  # how often they try in so long is what is counted
            tries = sum("Unable to update metadata" in record.message for record in caplog.records)
    finally:
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await asyncio.to_thread(faulty_kafka.local.start)
        await producer.stop()
        await consumer.stop()

    assert 0 < tries < MOST_TRIES
