"""Three replicas in one group on Apache Kafka and PostgreSQL, sharing no disk: they come, go, die and sleep under load."""

import asyncio
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from agent.bus.kafka import KafkaBus
from agent.settings import KafkaSettings
from agent.testing.harness import Request, request
from agent.testing.process import AgentProcess
from agent.testing.waiting import until
from agent.testing.work import STEPS
from tests.acceptance.kafka import Kafka
from tests.chaos.checkers import check
from tests.chaos.history import TERMINAL, History, read_effects, read_postgres, read_topics
from tests.chaos.stack import MAX_CRASHES, SPEEDS, prepare

pytestmark = [pytest.mark.acceptance, pytest.mark.kafka]
STEP_S = 0.1
LIMIT_S = 90.0


class Replicas:
    """Agents with workspaces of their own, one topic prefix, one journal, and a sender."""

    def __init__(self, folder: Path, kafka: KafkaSettings, dsn: str) -> None:
        self._kafka = kafka
        self._dsn = dsn
        self._effects = folder / "effects.txt"
        self._producer = KafkaBus(kafka).producer()
        self._sent: list[Request] = []
        self.agents = [self._agent(folder / f"agent-{number}") for number in range(3)]

    def _agent(self, workspace: Path) -> AgentProcess:
        environment = {
            **SPEEDS, "BACKWRIGHT_JOURNAL__URL": self._dsn, "BACKWRIGHT_KAFKA__TOPIC_PREFIX": self._kafka.topic_prefix,
            "BACKWRIGHT_KAFKA__FETCH_MAX_WAIT_MS": "100", "BACKWRIGHT_WORKER__CONCURRENCY": "2", "BACKWRIGHT_TELEMETRY__LOG_LEVEL": "info",
            "SCRIPT_EFFECTS": str(self._effects), "SCRIPT_STEP_S": str(STEP_S),
        }  # fmt: skip
        return AgentProcess(workspace, self._kafka.bootstrap_servers, environment=environment)

    async def start(self, *numbers: int) -> None:
        """Start these and wait until they are ready: in the group, the journal answers."""
        for number in numbers:
            await self.agents[number].start()
        await asyncio.gather(*(self.agents[number].wait_ready() for number in numbers))

    async def load(self, tasks: int, *, every_s: float = 0.04) -> None:
        """Send tasks one after the other; a third of them on three shared keys, each tenth twice."""
        for number in range(tasks):
            service = f"slow-{number % 9}" if number % 3 == 0 else f"slow-{secrets.token_hex(4)}"
            given = request(service)
            await self._producer.send([given.outgoing] * (2 if number % 10 == 0 else 1))
            self._sent.append(given)
            await asyncio.sleep(every_s)  # the pace of the arrivals

    async def until(self, holds: Callable[[Counter[str]], bool]) -> None:
        """Wait until the tasks by state (and `unsent` events) are so."""
        connection = await asyncpg.connect(self._dsn, server_settings={"search_path": "backwright_journal"})
        found = Counter[str]()

        async def are_so() -> bool:
            found.clear()
            found.update(dict(map(tuple, await connection.fetch("SELECT state, count(*) FROM task GROUP BY state"))))
            found["unsent"] = await connection.fetchval("SELECT count(*) FROM outbox")
            return holds(found)

        try:
            await until(are_so, lambda: f"what is waited for ({dict(found)})", limit_s=LIMIT_S, every_s=0.1)
        finally:
            await connection.close()

    async def until_all_ended(self) -> None:
        """Every task that was sent is in a terminal state, and the world was told."""
        await self.until(lambda f: sum(f[state] for state in TERMINAL) == len(self._sent) and not f["unsent"])

    def finished_by(self) -> list[int]:
        """Attempts that came to their end, per agent, over all starts."""
        return [sum(event["event"] == "attempt.finished" for event in agent.events()) for agent in self.agents]

    async def end(self) -> History:
        """SIGTERM to all, which end well; then everything is read."""
        for agent in self.agents:
            if agent.exit_code is None and agent.started:
                assert await agent.kill(signal.SIGTERM) == 0, agent.tail()
        records = await read_topics(self._kafka.bootstrap_servers, self._kafka.topic_prefix)
        kinds = {given.task_id: "slow" for given in self._sent}
        return History(
            records=records, effects=read_effects(self._effects), steps=STEPS, kinds=kinds, max_crashes=MAX_CRASHES,
            **await read_postgres(self._dsn),
        )  # fmt: skip

    async def close(self) -> None:
        """Whatever a failed test left."""
        for agent in self.agents:
            await agent.__aexit__(None, None, None)
        await self._producer.stop()


@pytest.fixture
async def replicas(kafka: Kafka, postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Replicas]:
    """Not started yet; topics and database of this test's own."""
    prefix = f"replicas-{secrets.token_hex(4)}."
    settings = KafkaSettings.model_validate({"bootstrap_servers": kafka.bootstrap_servers, "topic_prefix": prefix})
    async for _ in KafkaBus(settings).ensure_topics():
        pass
    await prepare(postgres_dsn)
    replicas = Replicas(tmp_path, settings, postgres_dsn)
    yield replicas
    await replicas.close()


def faults_of(history: History) -> dict[str, list[str]]:
    """What did not hold."""
    return {name: faults for name, faults in check(history).items() if faults}


async def test_replicas_join_and_leave_under_load(replicas: Replicas) -> None:
    """One becomes three and two again; all of them work, nobody loses a lease."""
    await replicas.start(0)
    load = asyncio.create_task(replicas.load(200))
    await replicas.start(1, 2)
    await replicas.until(lambda found: found["completed"] > 60)
    assert await replicas.agents[0].kill(signal.SIGTERM) == 0
    await load
    await replicas.until_all_ended()

    history = await replicas.end()
    assert faults_of(history) == {}
    assert all(replicas.finished_by()), replicas.finished_by()
    assert sum(row.crashes for row in history.rows.values()) == 0
    assert {row.state for row in history.rows.values()} == {"completed"}


async def test_a_replica_that_is_killed_is_replaced_by_the_others(replicas: Replicas) -> None:
    """Its partitions, its tasks and its outbox go to the two that are left."""
    await replicas.start(0, 1, 2)
    load = asyncio.create_task(replicas.load(150))
    await replicas.until(lambda found: found["completed"] > 20 and found["running"] > 2)
    await replicas.agents[1].kill()
    await load
    await replicas.until_all_ended()

    history = await replicas.end()
    assert faults_of(history) == {}
    assert {row.state for row in history.rows.values()} == {"completed"}


async def test_a_rolling_restart_under_load_is_not_noticed(replicas: Replicas) -> None:
    """Each in turn drains, ends with 0 and comes back: an interrupted attempt is neither a failure nor a crash."""
    await replicas.start(0, 1, 2)
    load = asyncio.create_task(replicas.load(300, every_s=0.08))
    for number in range(3):
        assert await replicas.agents[number].kill(signal.SIGTERM) == 0
        await replicas.start(number)
    await load
    await replicas.until_all_ended()

    history = await replicas.end()
    assert faults_of(history) == {}
    assert sum(row.crashes for row in history.rows.values()) == 0
    assert {row.state for row in history.rows.values()} == {"completed"}


async def test_a_replica_that_slept_past_its_lease_finds_itself_fenced(replicas: Replicas) -> None:
    """SIGSTOP beyond lease, group session and relay: the others have gone on; on waking up no write of it counts."""
    await replicas.start(0, 1, 2)
    load = asyncio.create_task(replicas.load(150))
    await replicas.until(lambda found: found["completed"] > 20 and found["running"] > 2)
    zombie = replicas.agents[2]
    zombie.signal(signal.SIGSTOP)
    await load
    await replicas.until(lambda found: found["completed"] == 150)
    zombie.signal(signal.SIGCONT)
    await replicas.until_all_ended()
    await zombie.wait_ready()

    history = await replicas.end()
    assert faults_of(history) == {}
    stolen = sum(row.crashes for row in history.rows.values())
    fenced = sum(event["event"] == "attempt.fenced" for event in zombie.events())
    assert stolen == fenced, "every task that was taken from it was refused to it"
