"""The real broker under test really is one: the promises that the others' tests build on."""

import asyncio
import secrets

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from agent.bus.kafka import KafkaBus
from agent.bus.port import Outgoing, Record
from agent.errors import BusUnavailable
from agent.settings import KafkaSettings
from tests.acceptance.brokers import PARTITIONS
from tests.acceptance.kafka import Kafka

pytestmark = [pytest.mark.kafka, pytest.mark.acceptance]


async def publish(servers: str, topic: str, values: list[bytes]) -> None:
    """Acknowledged by all, in order."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"k")
    finally:
        await producer.stop()


async def read(topic: str, count: int, servers: str, **options: object) -> list[bytes | None]:
    """The first `count` values of a topic."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest", **options)
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


@pytest.fixture
def topic() -> str:
    """Nobody else's."""
    return f"t-{secrets.token_hex(6)}"


async def test_records_come_back_in_order_from_several_partitions(kafka: Kafka, topic: str) -> None:
    """Keys keep order; groups of several members need several partitions."""
    await publish(kafka.bootstrap_servers, topic, [b"1", b"2", b"3"])

    assert await read(topic, 3, kafka.bootstrap_servers) == [b"1", b"2", b"3"]
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    if kafka.local is not None:
        assert len(await producer.partitions_for(topic)) == PARTITIONS
    await producer.stop()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_records_travel_over_tls_with_scram(secure_kafka: Kafka, topic: str, mechanism: str) -> None:
    """What a company's cluster asks for."""
    await publish(secure_kafka.bootstrap_servers, topic, [b"x"])
    settings = secure_kafka.secure.settings(KafkaSettings.model_validate({}), mechanism=mechanism)
    assert settings.sasl_password is not None

    options = {
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "ssl_context": create_ssl_context(cafile=str(settings.ssl_ca_file)),
    }
    password = settings.sasl_password.get_secret_value()
    assert await read(topic, 1, settings.bootstrap_servers, sasl_plain_password=password, **options) == [b"x"]

    with pytest.raises(KafkaError):
        await read(topic, 1, settings.bootstrap_servers, sasl_plain_password="wrong", **options)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_our_bus_speaks_tls_with_scram(secure_kafka: Kafka, topic: str, mechanism: str) -> None:
    """The adapter of production, with nothing but its settings: topics made, a record sent, read in a group, committed."""
    base = KafkaSettings.model_validate({"topic_prefix": f"{topic}.", "session_timeout_ms": 6000})
    bus = KafkaBus(secure_kafka.secure.settings(base, mechanism=mechanism))
    async for _line in bus.ensure_topics():
        pass
    async with asyncio.timeout(30):
        while await bus.check_topics():  # a broker learns of new topics a moment after the controller acknowledged them
            pass
    producer, consumer = bus.producer(), bus.consumer(["backend.tasks.v1"], group="g")
    await producer.start()
    await consumer.start()

    await producer.send([Outgoing("backend.tasks.v1", b"k", b"v", (("h", b"1"),))])
    records: list[Record] = []
    async with asyncio.timeout(30):
        while not records:
            records += await consumer.poll(timeout_s=1)
    await consumer.commit(records)

    assert [(record.key, record.value, record.headers) for record in records] == [(b"k", b"v", (("h", b"1"),))]
    await consumer.stop()
    await producer.stop()


async def test_our_bus_refuses_a_certificate_that_it_does_not_know(secure_kafka: Kafka, topic: str) -> None:
    """No authority given: the system's own do not vouch for this broker."""
    settings = secure_kafka.secure.settings(KafkaSettings.model_validate({"topic_prefix": f"{topic}."}))
    bus = KafkaBus(settings.model_copy(update={"ssl_ca_file": None}))
    producer = bus.producer()

    with pytest.raises(BusUnavailable):
        await producer.start()


async def test_records_travel_over_tls_without_a_user(secure_kafka: Kafka, topic: str) -> None:
    """SSL alone: the certificate is checked, host name included."""
    await publish(secure_kafka.bootstrap_servers, topic, [b"x"])
    context = create_ssl_context(cafile=str(secure_kafka.secure.ca_file))

    values = await read(topic, 1, secure_kafka.secure.ssl, security_protocol="SSL", ssl_context=context)

    assert values == [b"x"]


async def test_acknowledged_records_survive_kill_9_and_a_restart(faulty_kafka: Kafka, topic: str) -> None:
    """Without this, a fault test that loses a record would prove nothing about us."""
    assert faulty_kafka.local is not None
    await publish(faulty_kafka.bootstrap_servers, topic, [b"before"])

    await asyncio.to_thread(faulty_kafka.local.kill)
    await asyncio.to_thread(faulty_kafka.local.start)
    await publish(faulty_kafka.bootstrap_servers, topic, [b"after"])
    await asyncio.to_thread(faulty_kafka.local.stop)
    await asyncio.to_thread(faulty_kafka.local.start)

    assert await read(topic, 2, faulty_kafka.bootstrap_servers) == [b"before", b"after"]


async def test_paused_broker_answers_again_when_it_goes_on(faulty_kafka: Kafka, topic: str) -> None:
    """A frozen broker holds connections open: the fault that time-outs are for."""
    assert faulty_kafka.local is not None
    await publish(faulty_kafka.bootstrap_servers, topic, [b"before"])
    faulty_kafka.local.pause()

    sending = asyncio.create_task(publish(faulty_kafka.bootstrap_servers, topic, [b"during"]))
    done, _pending = await asyncio.wait([sending], timeout=1)
    assert not done
    faulty_kafka.local.resume()
    await asyncio.wait_for(sending, 60)

    assert await read(topic, 2, faulty_kafka.bootstrap_servers) == [b"before", b"during"]
