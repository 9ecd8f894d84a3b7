"""The bus on aiokafka. Topic names lose and gain the prefix in this package and nowhere else."""

from collections.abc import AsyncIterator, Collection, Sequence

from agent.bus.kafka import administrator
from agent.bus.kafka.calls import Reach
from agent.bus.kafka.consumer import KafkaConsumer
from agent.bus.kafka.producer import KafkaProducer
from agent.bus.port import Consumer, Producer
from agent.settings import KafkaSettings

__all__ = ["KafkaBus", "KafkaConsumer", "KafkaProducer"]


class KafkaBus:
    """Consumers, producers and topics of one cluster."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._reach = Reach()

    def consumer(self, topics: Collection[str], *, group: str | None) -> Consumer:
        return KafkaConsumer(self._settings, topics, group, self._reach)

    def producer(self) -> Producer:
        return KafkaProducer(self._settings, self._reach)

    def ensure_topics(self) -> AsyncIterator[str]:
        return administrator.ensure(self._settings)

    async def check_topics(self) -> Sequence[str]:
        return await administrator.check(self._settings)
