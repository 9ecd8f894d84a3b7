"""The whole job on the real process: `backwright run` builds a real service and is killed in every phase of it."""

import asyncio
import json
import secrets
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.bus.embedded import EmbeddedBroker
from agent.bus.kafka import KafkaBus
from agent.fileset import FileSet
from agent.settings import KafkaSettings
from agent.testing.harness import request
from agent.testing.process import AgentProcess
from agent.testing.watcher import Watcher
from tests.acceptance.kafka import Kafka
from tests.acceptance.stranger import BACKWRIGHT, QUICK, ROOT, command, until_none_left

pytestmark = pytest.mark.acceptance


async def test_a_kill_in_every_phase_ends_in_one_delivery(servers: str, watcher: Watcher, scratch: Path) -> None:
    """`kill -9` between effect and checkpoint, in analyse, develop, verify and deliver; each restart goes on from there."""
    example = json.loads((ROOT / "contracts" / "examples" / "task.requested.json").read_bytes())["value"]
    agent = AgentProcess(scratch, servers, argv=(*BACKWRIGHT, "run"), environment={**QUICK, "TMPDIR": str(scratch)})
    about = await watcher.send(request("orders", specification=example["specification"]))

    for step in ("plan", "compile", "gate.migrations", "repository", "deliver"):
        await agent.start(BACKWRIGHT_CRASH_POINT=f"worker.step_done/{step}")
        assert await agent.wait(120) == -signal.SIGKILL, agent.tail()
        await until_none_left(scratch)
        assert watcher.ending(about) is None
    await agent.start()

    assert await watcher.ended(about, limit_s=120) == "completed", agent.tail()
    await agent.kill(signal.SIGTERM)
    await until_none_left(scratch)
    assert watcher.sequences(about) == list(range(1, len(watcher.sequences(about)) + 1))
    [delivered] = [json.loads(message.data) for message in watcher.deliveries(about)]
    folder = scratch / delivered["service"]["path"]
    assert FileSet.read(folder).digest == delivered["service"]["digest"]
    assert {e["subject_digest"] for e in delivered["evidence"] if e["verdict"] == "pass"} == {
        delivered["service"]["digest"]
    }
    finished = finished_steps(watcher, about)
    assert len(finished) == len(set(finished)), "a step with a checkpoint ran again"


@pytest.mark.kafka
async def test_a_replica_that_dies_in_the_middle_is_replaced(kafka: Kafka, postgres_dsn: str, scratch: Path) -> None:
    """Three of them on Apache Kafka and PostgreSQL, no disk shared: another one goes on, and there is one delivery."""
    given = {"bootstrap_servers": kafka.bootstrap_servers, "topic_prefix": f"job-{secrets.token_hex(4)}."}
    bus = KafkaBus(KafkaSettings.model_validate(given))
    async for _ in bus.ensure_topics():
        pass
    environment = {
        **QUICK, "BACKWRIGHT_JOURNAL__URL": postgres_dsn, "BACKWRIGHT_KAFKA__TOPIC_PREFIX": given["topic_prefix"],
        "BACKWRIGHT_KAFKA__FETCH_MAX_WAIT_MS": "100", "TMPDIR": str(scratch),
    }  # fmt: skip
    example = json.loads((ROOT / "contracts" / "examples" / "task.requested.json").read_bytes())["value"]
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(Watcher(bus))
        agents = [
            AgentProcess(scratch / f"agent-{number}", kafka.bootstrap_servers, argv=(*BACKWRIGHT, "run"), environment=environment)
            for number in range(3)
        ]  # fmt: skip
        for agent in agents:
            await stack.enter_async_context(agent)
        await asyncio.gather(*(agent.wait_ready() for agent in agents))
        about = await watcher.send(request("orders", specification=example["specification"]), times=2)
        await watcher.until(lambda: "gate.install" in finished_steps(watcher, about), limit_s=120)
        [worker] = [agent for agent in agents if (await agent.health("ready"))[1]["running"]]

        await worker.kill()

        assert await watcher.ended(about, limit_s=180) == "completed", watcher.statuses(about)[-1]
        assert [await agent.kill(signal.SIGTERM) for agent in agents if agent is not worker] == [0, 0]
    await until_none_left(scratch)
    assert watcher.sequences(about) == list(range(1, len(watcher.sequences(about)) + 1))
    [delivered] = [json.loads(message.data) for message in watcher.deliveries(about)]
    [heir] = [agent for agent in agents if (agent.workspace / delivered["service"]["path"]).exists()]
    assert heir is not worker
    assert FileSet.read(heir.workspace / delivered["service"]["path"]).digest == delivered["service"]["digest"]
    steps = finished_steps(watcher, about)
    assert len(steps) == len(set(steps)), "a step with a checkpoint ran again"


def finished_steps(watcher: Watcher, about: str) -> list[str]:
    """Names, in the order of their statuses."""
    steps = [status.get("step", {}) for status in watcher.statuses(about)]
    return [step["name"] for step in steps if step.get("state") == "finished"]


async def test_the_demo_refuses_what_is_no_openapi_with_place_and_remedy(scratch: Path) -> None:
    """The refusal travels over the bus like any other end, and becomes exit code 2."""
    (scratch / "old.yaml").write_text("swagger: '2.0'\ninfo: {title: t, version: '1'}\npaths: {}\n")

    demo = await command(scratch, "demo", "--spec", "old.yaml")
    out, err = await asyncio.wait_for(demo.communicate(), 60)

    assert demo.returncode == 2, err.decode()
    assert "Swagger 2.0" in out.decode()
    assert "remedy" in out.decode()
    await until_none_left(scratch)


async def test_ctrl_c_ends_the_demo_with_130_and_leaves_nothing(scratch: Path) -> None:
    """People stop demos in the middle."""
    demo = await command(scratch, "demo")
    assert demo.stderr is not None
    seen = b""
    while b"gate.install started" not in seen:
        line = await asyncio.wait_for(demo.stderr.readline(), 60)
        assert line, seen.decode()
        seen += line

    demo.send_signal(signal.SIGINT)
    await asyncio.wait_for(demo.communicate(), 60)

    assert demo.returncode == 130
    await until_none_left(scratch)


async def test_a_missing_document_is_named(scratch: Path) -> None:
    """Before anything is started."""
    demo = await command(scratch, "demo", "--spec", "nowhere.yaml")
    _, err = await asyncio.wait_for(demo.communicate(), 60)

    assert demo.returncode == 2
    assert "nowhere.yaml" in err.decode()


async def test_run_without_a_broker_says_so_and_how_to_get_one(scratch: Path) -> None:
    """The first thing that a new user does wrong."""
    agent = AgentProcess(scratch, "127.0.0.1:1", argv=(*BACKWRIGHT, "run"))
    await agent.start()

    assert await agent.wait(60) == 3
    assert "127.0.0.1:1" in agent.tail()
    assert "backwright demo" in agent.tail()


async def test_run_without_its_postgres_says_so_in_one_line(broker: EmbeddedBroker, scratch: Path) -> None:
    """Away at the start is the environment's fault: exit code 3, where it was looked for, and no traceback."""
    away = {"BACKWRIGHT_JOURNAL__URL": "postgresql://agent:secret@127.0.0.1:1/journal"}
    agent = AgentProcess(scratch, broker.bootstrap_servers, argv=(*BACKWRIGHT, "run"), environment=away)
    await agent.start()

    assert await agent.wait(60) == 3
    [line, remedy] = [line for line in agent.tail().splitlines() if line]
    assert "no journal at 127.0.0.1:1/journal" in line
    assert "remedy" in remedy
    assert "secret" not in agent.tail()


async def test_a_second_agent_on_one_sqlite_journal_is_refused(broker: EmbeddedBroker, scratch: Path) -> None:
    """SQLite is for one agent; the message names PostgreSQL."""
    first = AgentProcess(scratch, broker.bootstrap_servers, argv=(*BACKWRIGHT, "run"))
    second = AgentProcess(scratch, broker.bootstrap_servers, argv=(*BACKWRIGHT, "run"), name="second")
    async with first:
        await first.wait_ready()
        await second.start()

        assert await second.wait(60) == 3
        assert "postgresql" in second.tail().lower()
