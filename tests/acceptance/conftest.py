"""A broker, an agent as a process on it, and a stranger who watches what is published."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agent.bus.embedded import EmbeddedBroker, embedded_settings
from agent.bus.kafka import KafkaBus
from agent.testing.process import AgentProcess
from agent.testing.watcher import Watcher


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Below the system's temporary folder and open to pass through, because children may run as another user."""
    folder = Path(tempfile.mkdtemp(prefix="backwright-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def broker() -> AsyncIterator[EmbeddedBroker]:
    """An embedded broker of this test's own; `tell` makes outages."""
    broker = EmbeddedBroker()
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
def servers(broker: EmbeddedBroker) -> str:
    """Bootstrap servers of the embedded broker."""
    return broker.bootstrap_servers


@pytest.fixture
async def watcher(servers: str) -> AsyncIterator[Watcher]:
    """Publishes requests, reads everything back."""
    async with Watcher(KafkaBus(embedded_settings(servers))) as watcher:
        yield watcher


@pytest.fixture
async def agents(servers: str, tmp_path: Path) -> AsyncIterator[Callable[..., AgentProcess]]:
    """Makes agents on one workspace; ends what a test left."""
    made: list[AgentProcess] = []

    def make(*, name: str = "agent", workspace: Path = tmp_path / "workspace", **environment: str) -> AgentProcess:
        agent = AgentProcess(workspace, servers, environment=environment, name=name)
        made.append(agent)
        return agent

    yield make
    for agent in made:
        await agent.__aexit__(None, None, None)
