"""The embedded context manager on the bus in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.bus.memory import MemoryBus
from agent.bus.port import Consumer, Outgoing, Record
from agent.clock import SystemClock
from agent.context import client
from agent.context.manager import ContextManager, FactsUnreadable, read_facts
from agent.errors import EnvironmentUnfit
from contracts import codec
from contracts.context import ContextAnswer, Facet
from contracts.envelope import CONTEXT_QUERY, Envelope
from contracts.topics import CONTEXT_ANSWERS, CONTEXT_QUERIES

TASK = "0b8f3f1e-1111-5222-8333-444455556666"
FACTS = """
data_stores:
  orders-db: {engine: PostgreSQL, since: 2020-01-01}
auth_providers:
  - {key: issuer, value: "https://login.example.org", confidence: high}
"""


def publish_query(bus: MemoryBus, task: str = TASK, *, event_id: str = "q1", **fields: Any) -> None:
    """A query as the agent sends it."""
    query = client.build_query(task, deadline=SystemClock().now()).model_copy(update=fields)
    envelope = Envelope(event_id, "/tests", CONTEXT_QUERY.wire, correlationid="c1", traceparent=None)
    encoded = codec.encode(CONTEXT_QUERY, envelope, query, key=query.query_id or "none")
    bus.append(Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers))


@asynccontextmanager
async def manager(bus: MemoryBus, facts: Path | None) -> AsyncIterator[asyncio.Task[None]]:
    """A manager that serves while the block runs."""
    stop = asyncio.Event()
    task = asyncio.create_task(ContextManager(bus, facts).run(stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def answers(bus: MemoryBus, count: int) -> list[ContextAnswer]:
    """The first `count` answers, once they are there."""
    consumer = bus.consumer([CONTEXT_ANSWERS.name], group=None)
    await consumer.start()
    found: list[ContextAnswer] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            payloads = [decoded(record).payload for record in await consumer.poll(timeout_s=1)]
            found += [payload for payload in payloads if isinstance(payload, ContextAnswer)]
    await consumer.stop()
    return found


def decoded(record: Record) -> codec.Message:
    """Through the strict codec, as the agent's inbox would."""
    return codec.decode(record.topic, record.headers, record.key, record.value)


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    """A facts file."""
    path = tmp_path / "context.yaml"
    path.write_text(FACTS)
    return path


async def test_a_query_is_answered_from_the_file(facts: Path) -> None:
    """Known facets with their facts, the others named as missing, causation kept."""
    bus = MemoryBus()
    publish_query(bus)

    async with manager(bus, facts):
        (answer,) = await answers(bus, 1)

    assert answer.query_id == client.query_id(TASK)
    assert answer.status == "partial"
    assert {f.key: f.value for f in answer.facts} == {
        "orders-db": {"engine": "PostgreSQL", "since": "2020-01-01"},
        "issuer": "https://login.example.org",
    }
    assert answer.missing == ("service_architecture", "api_gateway", "message_brokers", "deployment_patterns")
    envelope = decoded(bus.records(CONTEXT_ANSWERS.name)[0]).envelope
    assert (envelope.causationid, envelope.correlationid) == ("q1", "c1")


async def test_what_it_does_not_know_is_unknown() -> None:
    """Never silence: an agent that waits is told at once."""
    bus = MemoryBus()
    publish_query(bus)

    async with manager(bus, None):
        (answer,) = await answers(bus, 1)

    assert (answer.status, len(answer.missing)) == ("unknown", 6)


async def test_a_bare_origin_query_is_answered(facts: Path) -> None:
    """The three fields of a prompt-file agent, without any envelope; its place on the bus is its id."""
    bus = MemoryBus()
    bare = {
        "requesting_agent": "api-designer",
        "request_type": "get_api_context",
        "payload": {"query": "What is there?"},
    }
    bus.append_raw(CONTEXT_QUERIES.name, None, json.dumps(bare).encode(), {})

    async with manager(bus, facts):
        (answer,) = await answers(bus, 1)

    assert answer.query_id.startswith(CONTEXT_QUERIES.name)
    assert len(answer.facts) == 2


async def test_a_query_is_answered_once_per_id_and_rubbish_not_at_all(facts: Path) -> None:
    """Redelivery is normal; what is no query must not stop the manager."""
    bus = MemoryBus()
    bus.append_raw(CONTEXT_QUERIES.name, None, b"\xff\xfe", {"ce_id": None})
    bus.append_raw(CONTEXT_QUERIES.name, None, None, {})
    publish_query(bus)
    publish_query(bus, event_id="q2")
    other = TASK.replace("0b", "0c")

    async with manager(bus, facts):
        await answers(bus, 1)
        publish_query(bus, other)
        found = await answers(bus, 2)

    assert sorted(a.query_id for a in found) == sorted([client.query_id(TASK), client.query_id(other)])


async def test_a_repeated_answer_has_the_same_event_id(facts: Path) -> None:
    """After a restart a query may be read again; consumers drop what they have by id."""
    ids = []
    for _ in range(2):
        bus = MemoryBus()
        publish_query(bus)
        async with manager(bus, facts):
            await answers(bus, 1)
        ids.append(decoded(bus.records(CONTEXT_ANSWERS.name)[0]).envelope.id)

    assert ids[0] == ids[1]


class CountedBus(MemoryBus):
    """Knows when somebody has tried to connect a third time."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0
        self.tried_again = asyncio.Event()

    def consumer(self, topics: Collection[str], *, group: str | None) -> Consumer:
        self.tries += 1
        if self.tries == 3:
            self.tried_again.set()
        return super().consumer(topics, group=group)


async def test_an_outage_of_the_bus_is_survived(facts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager connects again by itself."""
    monkeypatch.setattr("agent.context.manager.RECONNECT_S", 0.01)
    bus = CountedBus()
    bus.down = True

    async with manager(bus, facts) as task:
        await asyncio.wait_for(bus.tried_again.wait(), 10)
        assert not task.done()
        bus.down = False
        publish_query(bus)
        await answers(bus, 1)


async def test_only_the_facets_that_were_asked_for(facts: Path) -> None:
    """A narrow question gets a narrow answer, and is complete."""
    bus = MemoryBus()
    publish_query(bus, facets=(Facet.DATA_STORES,))

    async with manager(bus, facts):
        (answer,) = await answers(bus, 1)

    assert (answer.status, [f.key for f in answer.facts]) == ("complete", ["orders-db"])


async def test_an_edit_of_the_file_counts_at_once_and_a_broken_one_is_unknown(facts: Path) -> None:
    """Operators edit while it runs."""
    bus = MemoryBus()
    async with manager(bus, facts):
        await asyncio.to_thread(facts.write_text, "data_stores: {other: 1}")
        publish_query(bus)
        assert [f.key for f in (await answers(bus, 1))[0].facts] == ["other"]
        await asyncio.to_thread(facts.write_text, "data_stores: [")
        publish_query(bus, TASK.replace("0b", "0c"))
        assert sorted(a.status for a in await answers(bus, 2)) == ["partial", "unknown"]


@pytest.mark.parametrize(
    "text", ["[1]", "nonsense: {a: 1}", "data_stores: 5", "data_stores: [1]", "data_stores: [{value: 1}]", "a: [", "\t:", "data_stores: !!python/object/apply:os.system ['true']"],
)  # fmt: skip
async def test_a_file_that_cannot_be_read_is_said_at_the_start(tmp_path: Path, text: str) -> None:
    """With the file's name and what is wrong, before anything is consumed; YAML tags build nothing."""
    path = tmp_path / "context.yaml"
    path.write_text(text)

    with pytest.raises(FactsUnreadable, match=r"context\.yaml"):
        read_facts(path)
    with pytest.raises(EnvironmentUnfit):
        await ContextManager(MemoryBus(), path).run(asyncio.Event())


def test_json_is_taken_as_well(tmp_path: Path) -> None:
    """JSON is YAML."""
    path = tmp_path / "context.json"
    content: Mapping[str, Any] = {"message_brokers": {"kafka": {"version": "4.0"}}}
    path.write_text(json.dumps(content))

    assert [f.value for f in read_facts(path)] == [{"version": "4.0"}]


def test_an_empty_or_absent_file_holds_nothing(tmp_path: Path) -> None:
    """No facts is no fault."""
    path = tmp_path / "context.yaml"
    path.write_text("# later\n")

    assert read_facts(path) == read_facts(None) == ()
