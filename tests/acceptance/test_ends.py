"""How the real process ends when it must not, cannot or may no longer go on: `backwright run`, no scripted work."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from agent.testing.harness import request
from agent.testing.process import AgentProcess
from agent.testing.watcher import Watcher
from contracts import topics
from tests.unit.telemetry.test_tracing import Receiver

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).resolve().parents[2]
RUN = (sys.executable, "-m", "agent", "run")
EXAMPLE = json.loads((ROOT / "contracts" / "examples" / "task.requested.json").read_bytes())["value"]
AT_ONCE_S = 5.0


async def test_a_second_sigterm_stops_at_once(servers: str, watcher: Watcher, tmp_path: Path) -> None:
    """The first one drains, and a drain may take its time; whoever insists is obeyed."""
    patient = {"BACKWRIGHT_WORKER__DRAIN_S": "120", "BACKWRIGHT_CONTEXT__TIMEOUT_S": "120"}
    async with AgentProcess(tmp_path, servers, argv=RUN, environment=patient) as agent:
        about = await watcher.send(request("orders", specification=EXAMPLE["specification"]))
        await watcher.until(lambda: any(m.message_type.name == "task.status" for m in watcher.about(about)[1:]))
        agent.signal(signal.SIGTERM)
        await watcher.until(lambda: any(event["event"] == "worker.draining" for event in agent.events()))
        assert agent.exit_code is None

        began = time.monotonic()
        assert await agent.kill(signal.SIGTERM) == 130

        assert time.monotonic() - began < AT_ONCE_S
        assert watcher.ending(about) is None


async def test_a_lost_offset_ends_the_process_with_the_remedy(servers: str, watcher: Watcher, tmp_path: Path) -> None:
    """What was committed is no longer there: going on at either end would skip or repeat in silence."""
    sent = await watcher.send(request("orders"))
    places = [TopicPartition(topics.TASKS.name, number) for number in range(topics.TASKS.partitions)]
    vandal = AIOKafkaConsumer(bootstrap_servers=servers, group_id="backwright", enable_auto_commit=False)
    await vandal.start()
    vandal.assign(places)
    await vandal.commit(dict.fromkeys(places, 1_000_000))
    await vandal.stop()

    async with AgentProcess(tmp_path, servers, argv=RUN) as agent:
        assert await agent.wait(60) == 3

        assert "no longer exist" in agent.tail()
        assert "remedy" in agent.tail()
    assert watcher.about(sent) == []


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver.serving() as receiver:
        yield receiver


async def test_a_drain_exports_the_spans_that_wait(
    servers: str, watcher: Watcher, tmp_path: Path, receiver: Receiver
) -> None:
    """The spans of the last tasks are those that somebody will look for; the exporter's own time is far away here."""
    environment = {
        "BACKWRIGHT_TELEMETRY__OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}", "OTEL_BSP_SCHEDULE_DELAY": "600000",
        "BACKWRIGHT_CONTEXT__TIMEOUT_S": "0.2",
    }  # fmt: skip
    async with AgentProcess(tmp_path, servers, argv=RUN, environment=environment) as agent:
        about = await watcher.send(request("orders", specification={"content": "swagger: '2.0'"}))
        assert await watcher.ended(about) == "rejected"
        assert receiver.requests == []

        assert await agent.kill(signal.SIGTERM) == 0

    names = {
        span.name for sent in receiver.requests for r in sent.resource_spans for s in r.scope_spans for span in s.spans
    }
    assert "task build" in names
