"""The checkers notice bugs: each one planted in a real process that dies (or sleeps) at its named crash point."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from agent.bus.embedded import EmbeddedBroker, embedded_settings
from agent.bus.kafka import KafkaBus
from agent.settings import KafkaSettings
from agent.testing.harness import Request, request
from agent.testing.process import SCRIPTED, AgentProcess
from agent.testing.work import STEPS
from tests.chaos.checkers import CHECKERS, check
from tests.chaos.history import History, read_effects, read_postgres, read_topics
from tests.chaos.planted import BUGS, ORPHAN_S
from tests.chaos.stack import Ground, prepare, python_module

pytestmark = pytest.mark.acceptance
PLANTED = python_module("tests.chaos.planted")
ENDED = ("completed", "failed", "cancelled", "rejected", "expired")


class Scene:
    """A broker, a journal in PostgreSQL, agents with and without bugs, one file of effects."""

    def __init__(self, folder: Path, kafka: KafkaSettings, dsn: str, ground: Ground) -> None:
        self._folder = folder
        self._kafka = kafka
        self._dsn = dsn
        self._ground = ground
        self._producer = KafkaBus(kafka).producer()
        self._agents: list[AgentProcess] = []
        self.effects = folder / "effects.txt"
        self.killed = False

    async def until_killed(self, agent: AgentProcess) -> None:
        """It dies at its crash point."""
        assert await agent.wait() == -signal.SIGKILL
        self.killed = True

    def agent(self, bug: str | None = None, **environment: str) -> AgentProcess:
        """A process that is not started yet; the mock broker knows one member per group, so each has its own."""
        number = len(self._agents)
        settings = {
            "BACKWRIGHT_JOURNAL__URL": self._dsn, "BACKWRIGHT_KAFKA__GROUP_ID": environment.pop("group", f"g{number}"),
            "BACKWRIGHT_WORKER__LEASE_S": "2", "BACKWRIGHT_WORKER__SELF_STOP_S": "1.5", "BACKWRIGHT_WORKER__RENEW_S": "0.4",
            "BACKWRIGHT_WORKER__CONCURRENCY": "4", "SCRIPT_EFFECTS": str(self.effects), "SCRIPT_STEP_S": "0.2",
            **({"CHAOS_BUG": bug} if bug else {}), **environment,
        }  # fmt: skip
        argv = PLANTED if bug else SCRIPTED
        made = AgentProcess(
            self._folder / f"agent-{number}", self._kafka.bootstrap_servers, argv=argv, environment=settings
        )
        self._agents.append(made)
        return made

    async def send(self, *requests: Request, times: int = 1) -> None:
        """Publish, acknowledged."""
        for given in requests:
            await self._producer.send([given.outgoing] * times)

    async def rows(self) -> list[tuple[str, str, int]]:
        """(task id, state, sequence)."""
        return [tuple(row) for row in await self._fetch("SELECT task_id, state, sequence FROM task")]

    async def _fetch(self, statement: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._dsn, server_settings={"search_path": "backwright_journal"})
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    async def until(self, holds: Callable[[list[tuple[str, str, int]]], bool], limit_s: float = 40.0) -> None:
        """Wait until the journal looks so."""
        ends = time.monotonic() + limit_s
        while not holds(await self.rows()):
            assert time.monotonic() < ends, await self.rows()
            await asyncio.sleep(0.05)

    async def until_ended(self, *requests: Request) -> None:
        """Wait until these tasks have ended."""
        wanted = {given.task_id for given in requests}
        await self.until(lambda rows: wanted <= {task for task, state, _ in rows if state in ENDED})

    async def history(self) -> History:
        """Wait for the last event, end the agents, read."""
        if self.killed:  # its relay holds its rows for ten seconds more; nothing here is about that
            await self._fetch("UPDATE relay_shard SET held_until = 0 WHERE holder IS DISTINCT FROM NULL")
        ends = time.monotonic() + 30
        while any(a.exit_code is None and a.started for a in self._agents) and await self._fetch("SELECT FROM outbox"):
            assert time.monotonic() < ends
            await asyncio.sleep(0.05)
        for agent in self._agents:
            if agent.exit_code is None and agent.started:
                agent.signal(signal.SIGCONT)
                await agent.kill(signal.SIGTERM)
        records = await read_topics(self._kafka.bootstrap_servers)
        orphans = [line for line in await self._ground.left() if "sleep" in line]
        return History(
            records=records, effects=read_effects(self.effects), steps=STEPS, orphans=orphans,
            **await read_postgres(self._dsn),
        )  # fmt: skip

    async def close(self) -> None:
        """Whatever a failed test left."""
        for agent in self._agents:
            await agent.__aexit__(None, None, None)
        await self._producer.stop()


@pytest.fixture
async def scene(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[Scene]:
    """Everything of this test's own."""
    await prepare(postgres_dsn)
    with Ground() as ground:
        async with EmbeddedBroker() as servers:
            scene = Scene(tmp_path, embedded_settings(servers), postgres_dsn, ground)
            yield scene
            await scene.close()


def spoke(history: History) -> set[str]:
    """Names of the checkers that found something."""
    return {name for name, faults in check(history).items() if faults}


async def test_without_a_bug_no_checker_speaks(scene: Scene) -> None:
    """The same scenes with the agent as it is: a kill, a duplicate, a shared key, a child."""
    sent = [request("slow-a"), request("slow-a"), request("child-b"), request("flaky-c")]
    await scene.send(*sent, times=2)
    agent = scene.agent()
    await agent.start(BACKWRIGHT_CRASH_POINT="worker.step_done:3")
    await scene.until_killed(agent)
    await agent.start()
    await scene.until_ended(*sent)

    assert check(await scene.history()) == {name: [] for name in CHECKERS}


async def test_skipping_the_fence_check_is_noticed(scene: Scene) -> None:
    """A zombie stops after an effect, another agent ends the task, the zombie wakes up and writes."""
    given = request("slow")
    await scene.send(given)
    zombie, healthy = scene.agent("skip_the_fence_check"), scene.agent()
    await zombie.start(BACKWRIGHT_CRASH_POINT="worker.step_done:2:STOP")
    await scene.until(lambda rows: [row[2] for row in rows] == [4])
    await healthy.start()
    await scene.until_ended(given)
    [(_, _, ended_with)] = await scene.rows()
    zombie.signal(signal.SIGCONT)
    await scene.until(lambda rows: rows[0][2] > ended_with)

    assert {"old_fences_write_nothing", "no_effect_counts_twice", "each_task_ends_once", "audit_agrees"} <= spoke(
        await scene.history()
    )


async def test_the_same_zombie_without_the_bug_writes_nothing(scene: Scene) -> None:
    """So that the test above proves the fence check, and not the scene."""
    given = request("slow")
    await scene.send(given)
    zombie, healthy = scene.agent(), scene.agent()
    await zombie.start(BACKWRIGHT_CRASH_POINT="worker.step_done:2:STOP")
    await scene.until(lambda rows: [row[2] for row in rows] == [4])
    await healthy.start()
    await scene.until_ended(given)
    zombie.signal(signal.SIGCONT)
    await scene.until(lambda _rows: "attempt.fenced" in zombie.tail())

    assert spoke(await scene.history()) == set()


async def test_committing_before_accepting_is_noticed(scene: Scene) -> None:
    """The process dies between the two: the request is gone."""
    lost, later = request("ok-a"), request("ok-b")
    await scene.send(lost)
    agent = scene.agent("commit_before_accept")
    await agent.start(BACKWRIGHT_CRASH_POINT="inbox.committed:1")
    await scene.until_killed(agent)
    await scene.send(later)
    await agent.start()
    await scene.until_ended(later)

    assert {"each_request_is_one_task", "each_task_ends_once"} <= spoke(await scene.history())


async def test_marking_before_the_acknowledgement_is_noticed(scene: Scene) -> None:
    """The process dies between the two: an event is gone."""
    given = request("slow")
    await scene.send(given)
    agent = scene.agent("mark_before_acknowledged")
    await agent.start(BACKWRIGHT_CRASH_POINT="outbox.marked:2")
    await scene.until_killed(agent)
    await agent.start()
    await scene.until_ended(given)

    assert "sequences_are_gapless" in spoke(await scene.history())


async def test_a_relay_out_of_order_is_noticed(scene: Scene) -> None:
    """Even if nothing dies."""
    given = request("ok")
    await scene.send(given)
    await scene.agent("relay_out_of_order").start()
    await scene.until_ended(given)

    assert "sequences_are_gapless" in spoke(await scene.history())


async def test_no_deduplication_is_noticed(scene: Scene) -> None:
    """Repeated after a crash between storing and committing, and sent twice."""
    given = request("ok")
    await scene.send(given, times=2)
    agent = scene.agent("dedupe_off")
    await agent.start(BACKWRIGHT_CRASH_POINT="inbox.accepted:1")
    await scene.until_killed(agent)
    await agent.start()
    await scene.until(lambda rows: len(rows) == 4 and all(state in ENDED for _, state, _ in rows))

    assert "each_request_is_one_task" in spoke(await scene.history())


async def test_a_forgotten_ordering_key_is_noticed(scene: Scene) -> None:
    """Two tasks for one service run at the same time."""
    sent = [request("slow-a"), request("slow-a")]
    await scene.send(*sent)
    await scene.agent("forget_the_ordering_key").start()
    await scene.until_ended(*sent)

    assert {"one_attempt_per_key", "audit_agrees"} <= spoke(await scene.history())


async def test_repeating_checkpointed_steps_is_noticed(scene: Scene) -> None:
    """A crash after a checkpoint, and a second attempt that does not look."""
    given = request("ok")
    await scene.send(given)
    agent = scene.agent("forget_checkpoints")
    await agent.start(BACKWRIGHT_CRASH_POINT="worker.checkpointed:2")
    await scene.until_killed(agent)
    await agent.start()
    await scene.until_ended(given)

    assert "no_effect_counts_twice" in spoke(await scene.history())


async def test_a_child_that_lives_on_is_noticed(scene: Scene) -> None:
    """It was started outside of the sandbox, tied to nothing."""
    await scene.send(request("child"))
    agent = scene.agent("leave_children")
    await agent.start()
    try:
        await scene.until(lambda _rows: bool(_sleepers()))
        await agent.kill()

        assert "nothing_lives_on" in spoke(await scene.history())
    finally:
        for pid in _sleepers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_every_bug_has_a_test() -> None:
    """A bug that no test plants proves nothing."""
    text = Path(__file__).read_text()

    assert [bug for bug in BUGS if f'"{bug}"' not in text] == []


def _sleepers() -> Sequence[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().split(b"\0")[:2] == [b"/bin/sleep", ORPHAN_S.encode()]:
                found.append(int(path.parent.name))
    return found
