"""One, two and four agents in one consumer group, with one PostgreSQL journal between them: throughput, fairness, and what
an idle one costs.

On Apache Kafka: the embedded broker knows one member per group. All agents are in the group before the first request is
sent, so joining is not part of any figure.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from agent.bus.apache import LocalKafka
from agent.bus.embedded import embedded_settings
from agent.bus.kafka import KafkaBus
from agent.errors import EnvironmentUnfit
from agent.journal.postgres import SCHEMA
from agent.journal.postgres.writes import SHARDS
from agent.settings import KafkaSettings
from agent.testing.waiting import until
from contracts import topics
from tests.bench.child import CONCURRENCY, STATUSES
from tests.bench.figures import Figure, figure, ratios
from tests.bench.requests import request
from tests.bench.stage import Child, Lost, Stage, usage

AGENTS = (1, 2, 4)
SPREAD = f"""SELECT count(*) FROM (
  SELECT FROM {SCHEMA}.relay_shard WHERE held_until > extract(epoch FROM clock_timestamp())
  GROUP BY holder HAVING count(*) = $1) AS relay"""
FETCH_MAX_WAIT_MS = 100  # as in production: a real broker wakes a fetch that waits


@dataclass(frozen=True, slots=True)
class Load:
    """What the agents of one run have to do."""

    name: str
    tasks: int  # times the number of agents, if `per_agent`
    concurrency: int
    wait_s: float = 0.0
    per_agent: bool = False

    def number(self, agents: int) -> int:
        """Tasks for so many agents."""
        return self.tasks * agents if self.per_agent else self.tasks


# Little at a time, so that four agents leave two cores room: else it is the machine that is measured.
WAITING = Load("waiting", 400, concurrency=4, wait_s=0.05, per_agent=True)
BRIEF = Load("brief", 3_000, concurrency=CONCURRENCY)
QUICK = (Load("waiting", 40, concurrency=4, wait_s=0.05, per_agent=True), Load("brief", 300, concurrency=CONCURRENCY))


@dataclass(frozen=True, slots=True)
class Run:
    """What one run found."""

    rate: float  # tasks per second, from the first record polled by anybody to the last status acknowledged
    shares: Sequence[int]  # tasks that each agent finished
    cpu_us: float  # of all agents together, per task


async def run(stage: Stage, quick: bool) -> Sequence[Figure]:
    """Rounds of both loads, then rest. Nothing where no Kafka can be had; why is said."""
    loads, rounds, rest_s = (QUICK, 1, 2.0) if quick else ((WAITING, BRIEF), 3, 10.0)
    found: dict[tuple[str, int], list[Run]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        try:
            bootstrap = await stack.enter_async_context(LocalKafka())
        except EnvironmentUnfit as exc:
            stage.say(f"not performed: {exc}")
            return []
        for number in range(rounds):
            for load in loads:
                for agents in AGENTS if number % 2 == 0 else reversed(AGENTS):
                    stage.say(f"round {number + 1} of {rounds}: {load.name}, {agents} at work")
                    found[load.name, agents].append(await _work(stage, bootstrap, load, agents))
        idle = [figure for agents in (1, 4) for figure in await _rest(stage, bootstrap, agents, rest_s)]
    return [*(each for load in loads for each in _figures(load.name, found)), *idle]


def _figures(name: str, found: Mapping[tuple[str, int], Sequence[Run]]) -> list[Figure]:
    rates = {agents: [run.rate for run in found[name, agents]] for agents in AGENTS}
    several = [agents for agents in AGENTS if agents > 1]
    return [
        *(figure(f"replicas.{name}.{agents}.rate", "tasks/s", rates[agents]) for agents in AGENTS),
        *(figure(f"replicas.{name}.{agents}/1", "ratio", ratios(rates[agents], rates[1])) for agents in several),
        *(
            figure(f"replicas.{name}.{agents}.fairness", "ratio", [fairness(run.shares) for run in found[name, agents]])
            for agents in several
        ),
        *(
            figure(f"replicas.{name}.{agents}.cpu", "us", [run.cpu_us for run in found[name, agents]])
            for agents in AGENTS
        ),
    ]


def fairness(shares: Sequence[int]) -> float:
    """The smallest share over the mean one: 1 is even, 0 is somebody who got nothing. Raises ValueError for no work."""
    if not sum(shares):
        raise ValueError("nobody did anything")
    return min(shares) * len(shares) / sum(shares)


def checked(tasks: int, completed: int, statuses: int, ends: Sequence[Mapping[str, Any]]) -> None:
    """Raises Lost unless each task is completed in the journal, was worked on once, and told its statuses once."""
    polled, worked = sum(end["records"] for end in ends), sum(end["worked"] for end in ends)
    if completed != tasks or polled < tasks:
        raise Lost(f"{tasks} requests were sent, {polled} polled, {completed} are completed")
    if worked != tasks:
        raise Lost(f"{tasks} tasks were worked on {worked} times")
    if statuses != tasks * STATUSES:
        raise Lost(f"{tasks * STATUSES} statuses were due, {statuses} arrived")


# ── one run ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _work(stage: Stage, bootstrap: str, load: Load, agents: int) -> Run:
    """Agents at rest, then all requests at once, until all statuses have arrived."""
    tasks = load.number(agents)
    async with _agents(stage, bootstrap, agents, concurrency=load.concurrency, wait_s=load.wait_s) as (
        kafka,
        dsn,
        team,
    ):
        spent = -sum(usage(agent.pid)[0] for agent in team)
        await _publish(kafka, tasks)
        statuses = await _arrived(kafka, tasks * STATUSES)
        spent += sum(usage(agent.pid)[0] for agent in team)
        ends = [await agent.stop() for agent in team]
        statuses = max(statuses, await _arrived(kafka, tasks * STATUSES))  # nothing more came while they ended
        completed = await _ask(dsn, f"SELECT count(*) FROM {SCHEMA}.task WHERE state = 'completed'")
    checked(tasks, completed, statuses, ends)
    seconds = max(end["told"] for end in ends) - min(end["began"] for end in ends if end["began"])
    return Run(tasks / seconds, [end["worked"] for end in ends], spent / tasks * 1e6)


async def _rest(stage: Stage, bootstrap: str, agents: int, seconds: float) -> list[Figure]:
    """What the server is asked by so many agents without work, and what both sides spend on it; per agent."""
    stage.say(f"{agents} at rest")
    async with _agents(stage, bootstrap, agents) as (_, dsn, team):
        await asyncio.sleep(2.0)  # the last words of joining
        name = dsn.rsplit("/", 1)[1]
        admin = await asyncpg.connect(
            (await stage.postgres()).dsn, timeout=10
        )  # of another database: it does not count
        try:
            sessions = await admin.fetch("SELECT pid FROM pg_stat_activity WHERE datname = $1", name)
            servers = [session["pid"] for session in sessions]
            before, began = await _spent(admin, name, team, servers), time.perf_counter()
            await asyncio.sleep(seconds)
            after, passed = await _spent(admin, name, team, servers), time.perf_counter() - began
        finally:
            await admin.close()
    asked, agent_s, server_s = ((one - other) / passed / agents for one, other in zip(after, before, strict=True))
    return [
        figure(f"replicas.idle.{agents}.statements", "/s an agent", asked),
        figure(f"replicas.idle.{agents}.connections", "an agent", len(servers) / agents),
        figure(f"replicas.idle.{agents}.agent.cpu", "% of a core an agent", agent_s * 100),
        figure(f"replicas.idle.{agents}.server.cpu", "% of a core an agent", server_s * 100),
    ]


async def _spent(
    admin: asyncpg.Connection, name: str, team: Sequence[Child], servers: Sequence[int]
) -> tuple[float, float, float]:
    """So far: (transactions of a database, which are its statements where each stands alone; CPU s of agents, and of
    their server processes)."""
    asked = await admin.fetchval("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1", name)
    return float(asked), sum(usage(agent.pid)[0] for agent in team), sum(usage(pid)[0] for pid in servers)


@asynccontextmanager
async def _agents(
    stage: Stage, bootstrap: str, number: int, **order: Any
) -> AsyncIterator[tuple[KafkaSettings, str, Sequence[Child]]]:
    """(bus, journal, agents): topics of their own, an empty journal, and all of them at rest in one group."""
    group = f"replicas-{secrets.token_hex(5)}"
    changes = {"topic_prefix": f"{group}.", "fetch_max_wait_ms": FETCH_MAX_WAIT_MS}
    kafka = embedded_settings(bootstrap).model_copy(update=changes)
    async for _ in KafkaBus(kafka).ensure_topics():
        pass
    async with AsyncExitStack() as stack:
        team = []
        dsn, _ = await stage.journal("postgres")
        for _ in range(number):
            _, folder = await stage.journal("memory")  # a folder of its own
            child = Child(
                stage, "life", bootstrap=bootstrap, group=group, topic_prefix=kafka.topic_prefix, journal=dsn, folder=folder,
                fetch_max_wait_ms=FETCH_MAX_WAIT_MS, **order,
            )  # fmt: skip
            team.append(await stack.enter_async_context(child))
        await asyncio.gather(*(agent.ready() for agent in team))
        await _settled(kafka, dsn, group, number)
        yield kafka, dsn, team


async def _settled(kafka: KafkaSettings, dsn: str, group: str, members: int) -> None:
    """Until the group has all its members, and each its partitions and its share of the relay's shards."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()

    async def stable() -> bool:
        (answer,) = await admin.describe_consumer_groups([group])
        _, _, state, _, _, there, *_ = answer.groups[0]
        return state == "Stable" and len(there) == members

    async def spread() -> bool:
        return await _ask(dsn, SPREAD, SHARDS // members) == members

    try:
        await until(stable, f"a stable group of {members}", every_s=0.1)
        await until(spread, f"an even spread over {members} relays", every_s=0.1)
    finally:
        await admin.close()


async def _publish(kafka: KafkaSettings, number: int) -> None:
    run = secrets.token_hex(4)
    records = [request(f"{run}-{index}") for index in range(number)]
    producer = KafkaBus(kafka).producer()
    await producer.start()
    try:
        for first in range(0, number, 500):
            await producer.send(records[first : first + 500])
    finally:
        await producer.stop()


async def _arrived(kafka: KafkaSettings, number: int) -> int:
    """Wait for so many statuses; how many there are then."""
    name = kafka.topic_prefix + topics.STATUS.name
    client = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    await client.start()
    places = [TopicPartition(name, partition) for partition in range(topics.STATUS.partitions)]
    there = 0

    async def enough() -> bool:
        nonlocal there
        there = sum((await client.end_offsets(places)).values())
        return there >= number

    try:
        await until(enough, f"{number} statuses", every_s=0.1)
    finally:
        await client.stop()
    return there


async def _ask(dsn: str, question: str, *values: int) -> int:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return int(await connection.fetchval(question, *values))
    finally:
        await connection.close()
