"""A real Apache Kafka 4 for tests; every run prints which one it was.

In this order: `BACKWRIGHT_TEST_BOOTSTRAP_SERVERS`; a container, where an engine answers; our own from the published
jars, where Java and Maven are. Else the test is skipped with the reason, or fails where BACKWRIGHT_TEST_REQUIRE_KAFKA
is set (`.ci/run` sets it where Java is present).

Fixtures: `kafka` (one broker per session, shared: use topics and groups of your own), `faulty_kafka` (one broker per
module, of our own making, to be killed, stopped and paused), `secure_kafka` (one per session, with TLS and SCRAM).
"""

import asyncio
import os
import shutil
import socket
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from agent.bus.apache import LocalKafka, SecureAccess, pinned_version
from agent.errors import EnvironmentUnfit

T = TypeVar("T")
PARTITIONS = 6
_ORIGINS = pytest.StashKey[list[str]]()  # of the brokers of this run


@dataclass(frozen=True)
class Kafka:
    """A broker. The faults are there where the broker is our own (`local`); all of them block."""

    bootstrap_servers: str
    origin: str
    local: "Local | None" = None

    @property
    def secure(self) -> SecureAccess:
        """The encrypted listeners of `secure_kafka`."""
        assert self.local is not None
        assert self.local.kafka.secure is not None
        return self.local.kafka.secure


class Local:
    """A LocalKafka on an event loop in a thread of its own: fixtures outlive the loops of single tests."""

    def __init__(self, *, secure: bool = False) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka", daemon=True)
        self._thread.start()
        self.kafka = LocalKafka(partitions=PARTITIONS, secure=secure)

    def open(self) -> str:
        """Start; the bootstrap servers."""
        return self._run(self.kafka.__aenter__())

    def close(self) -> None:
        """End it and its loop."""
        try:
            self._run(self.kafka.__aexit__(None, None, None))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End the loop only: there is no broker."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def kill(self) -> None:
        """SIGKILL."""
        self._run(self.kafka.kill())

    def stop(self) -> None:
        """SIGTERM: a controlled shutdown."""
        self._run(self.kafka.stop())

    def start(self) -> None:
        """Start again after `kill` or `stop`: same ports, same data."""
        self._run(self.kafka.start())

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self.kafka.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.kafka.resume()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(300)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """The session's broker, from whatever there is."""
    with ExitStack() as stack:
        yield _announced(request, _given() or _contained(stack) or _own(stack))


@pytest.fixture(scope="module")
def faulty_kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """A broker that the tests of one module may hurt; it has to be our own."""
    with ExitStack() as stack:
        yield _announced(request, _own(stack))


@pytest.fixture(scope="session")
def secure_kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """A broker with SSL and SASL_SSL listeners (`secure`); it has to be our own."""
    with ExitStack() as stack:
        yield _announced(request, _own(stack, secure=True))


def _given() -> Kafka | None:
    servers = os.environ.get("BACKWRIGHT_TEST_BOOTSTRAP_SERVERS")
    return Kafka(servers, f"given by BACKWRIGHT_TEST_BOOTSTRAP_SERVERS: {servers}") if servers else None


def _contained(stack: ExitStack) -> Kafka | None:
    """Apache's own image on a fixed host port: a client must reach the broker under the name that it advertises."""
    if shutil.which("docker") is None and not os.environ.get("DOCKER_HOST"):
        return None
    import docker  # comes with testcontainers; only where an engine may answer
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    try:
        docker.from_env(timeout=5).ping()
    except docker.errors.DockerException:
        return None
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "KAFKA_LISTENERS": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://localhost:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_NUM_PARTITIONS": str(PARTITIONS),
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    image = f"apache/kafka:{pinned_version()}"
    container = (
        DockerContainer(image).with_bind_ports(port, port).waiting_for(LogMessageWaitStrategy("Kafka Server started"))
    )
    for name, value in environment.items():
        container = container.with_env(name, value)
    try:
        stack.enter_context(container)
    except (docker.errors.DockerException, TimeoutError) as fault:
        sys.stderr.write(f"no Kafka from {image}: {str(fault)[:200]}\n")
        return None
    return Kafka(f"127.0.0.1:{port}", f"container {image}")


def _own(stack: ExitStack, *, secure: bool = False) -> Kafka:
    local = Local(secure=secure)
    try:
        servers = local.open()
    except EnvironmentUnfit as fault:
        local.abandon()
        reason = f"no real Kafka here: {fault} ({fault.remedy})"
        if os.environ.get("BACKWRIGHT_TEST_REQUIRE_KAFKA"):
            pytest.fail(reason)
        pytest.skip(reason)
    stack.callback(local.close)
    kind = "with TLS and SCRAM, " if secure else ""
    return Kafka(servers, f"Apache Kafka {pinned_version()} from its jars, {kind}{servers}", local)


def _announced(request: pytest.FixtureRequest, broker: Kafka) -> Kafka:
    request.config.stash.setdefault(_ORIGINS, []).append(broker.origin)
    return broker


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells the one that prints."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["kafka"] = session.config.stash.get(_ORIGINS, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """It was told; a worker that died tells nothing."""
    node.config.stash.setdefault(_ORIGINS, []).extend(getattr(node, "workeroutput", {}).get("kafka", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Which brokers this run was on."""
    origins = config.stash.get(_ORIGINS, [])
    for origin in sorted(set(origins)):
        terminalreporter.write_line(f"kafka: {origin}")
