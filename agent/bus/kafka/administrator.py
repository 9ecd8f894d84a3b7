"""The topics on the broker: what is missing is created, what differs is named."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from agent.bus.kafka.calls import UNREACHABLE, call, close
from agent.bus.kafka.connection import connection
from agent.errors import BusUnavailable, EnvironmentUnfit
from agent.settings import KafkaSettings
from contracts import topics

ADMIN_TIMEOUT_S = 60.0
VISIBLE_TIMEOUT_S = 15.0


async def ensure(settings: KafkaSettings) -> AsyncIterator[str]:
    """Create what is missing, change nothing that exists; one line per topic. Raises BusUnavailable, EnvironmentUnfit."""
    async with _admin(settings) as admin:
        there = set(await _guard(admin.list_topics(), "list topics"))
        replicas = min(3, len((await _guard(admin.describe_cluster(), "describe cluster"))["brokers"]))
        for topic in topics.ALL:
            name = settings.topic_prefix + topic.name
            if name in there:
                yield f"{name}: exists"
            else:
                await _create_topic(admin, name, topic, replicas)
                await _until_visible(admin, name)
                yield f"{name}: created, {topic.partitions} partitions, {replicas} replicas"


async def check(settings: KafkaSettings) -> Sequence[str]:
    """What is not as it should be. Raises BusUnavailable."""
    faults: list[str] = []
    prefix = settings.topic_prefix
    async with _admin(settings) as admin:
        there = set(await _guard(admin.list_topics(), "list topics"))
        known = [topic for topic in topics.ALL if prefix + topic.name in there]
        faults += [f"{prefix}{topic.name}: missing" for topic in topics.ALL if topic not in known]
        for topic in known:
            faults += await _check_topic(admin, prefix + topic.name, topic)
    return faults


@contextlib.asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await _guard(admin.start(), "connect")
        yield admin
    finally:
        await close(admin.close(), "admin")


async def _guard(given: Awaitable[Any], what: str) -> Any:
    try:
        return await call(given, ADMIN_TIMEOUT_S)
    except UNREACHABLE as exc:
        raise BusUnavailable(f"cannot {what}: {exc!r}") from exc


async def _create_topic(admin: AIOKafkaAdminClient, name: str, topic: topics.Topic, replicas: int) -> None:
    settings = {"retention.ms": str(topic.retention_ms), "min.insync.replicas": "2" if replicas >= 3 else "1"}
    wanted = NewTopic(name, topic.partitions, replicas, topic_configs=settings)
    try:
        answer = await _guard(admin.create_topics([wanted]), f"create topic {name}")
    except AttributeError as exc:
        # librdkafka's mock has no controller, on which aiokafka stumbles.
        raise EnvironmentUnfit(
            f"this broker cannot create topics, and {name} is missing", remedy="create the topics with its own tools"
        ) from exc
    for _, code, *_ in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise EnvironmentUnfit(
                f"cannot create topic {name}: {error.__name__}", remedy="grant CREATE, or create it by hand"
            )


async def _until_visible(admin: AIOKafkaAdminClient, name: str) -> None:
    """The controller has made it; the broker that we ask learns of it a moment later."""
    ends = time.monotonic() + VISIBLE_TIMEOUT_S
    while name not in await _guard(admin.list_topics(), "list topics"):
        if time.monotonic() > ends:
            raise BusUnavailable(f"topic {name} was created and does not appear")
        await asyncio.sleep(0.1)


async def _check_topic(admin: AIOKafkaAdminClient, name: str, topic: topics.Topic) -> list[str]:
    described = (await _guard(admin.describe_topics([name]), f"describe topic {name}"))[0]
    faults = []
    if (found := len(described["partitions"])) != topic.partitions:
        faults.append(f"{name}: {found} partitions instead of {topic.partitions}; adding partitions moves keys")
    try:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    except (*UNREACHABLE, AssertionError):
        return faults  # the mock has no DescribeConfigs; what cannot be asked is no fault
    values = {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}
    retention = values.get("retention.ms")
    if retention is not None and 0 <= int(retention) < topic.retention_ms:
        faults.append(f"{name}: retention.ms is {retention}, less than {topic.retention_ms}")
    replicas = min((len(partition["replicas"]) for partition in described["partitions"]), default=1)
    if replicas >= 3 and int(values.get("min.insync.replicas") or 1) < 2:
        faults.append(f"{name}: min.insync.replicas is below 2 with {replicas} replicas")
    return faults
