"""A real Apache Kafka 4 for tests; every run prints which one it was, and why not one that comes before it.

In this order: `BACKWRIGHT_TEST_BOOTSTRAP_SERVERS`; a container, where an engine answers; our own from the published
jars, where Java and Maven are. Else the test is skipped with the reason, or fails where BACKWRIGHT_TEST_REQUIRE_KAFKA
is set (`.ci/run` sets it where Java is present).

Fixtures: `kafka` (one broker per session, shared: use topics and groups of your own), `faulty_kafka` (one per module,
to be killed, stopped and paused), `secure_kafka` (one per session, with TLS and SCRAM). The last two are never given.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from agent.bus.apache import SecureAccess
from agent.errors import EnvironmentUnfit
from tests.acceptance.brokers import Broker, Contained, Local

_ORIGINS = pytest.StashKey[list[str]]()  # of the brokers of this run


@dataclass(frozen=True)
class Kafka:
    """A broker, and how to hurt it (`local`) where we have started it."""

    bootstrap_servers: str
    origin: str
    local: Broker | None = None

    @property
    def secure(self) -> SecureAccess:
        """The encrypted listeners of `secure_kafka`."""
        assert self.local is not None
        assert self.local.secure is not None
        return self.local.secure


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """The session's broker, from whatever there is."""
    with ExitStack() as stack:
        yield _announced(request, _given() or _ours(stack))


@pytest.fixture(scope="module")
def faulty_kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """A broker that the tests of one module may hurt."""
    with ExitStack() as stack:
        yield _announced(request, _ours(stack))


@pytest.fixture(scope="session")
def secure_kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """A broker with SSL and SASL_SSL listeners (`secure`)."""
    with ExitStack() as stack:
        yield _announced(request, _ours(stack, secure=True))


def _given() -> Kafka | None:
    servers = os.environ.get("BACKWRIGHT_TEST_BOOTSTRAP_SERVERS")
    return Kafka(servers, f"given by BACKWRIGHT_TEST_BOOTSTRAP_SERVERS: {servers}") if servers else None


def _ours(stack: ExitStack, *, secure: bool = False) -> Kafka:
    """In a container, else from the jars."""
    kinds: list[type[Contained | Local]] = [Local]
    if shutil.which("docker") or os.environ.get("DOCKER_HOST"):
        kinds.insert(0, Contained)
    reasons: list[str] = []
    for kind in kinds:
        broker = kind(secure=secure)
        try:
            servers = broker.open()
        except EnvironmentUnfit as fault:
            reasons.append(str(fault))
            continue
        stack.callback(broker.close)
        facts = [broker.name, *(["with TLS and SCRAM"] if secure else []), servers, *reasons]
        return Kafka(servers, ", ".join(facts), broker)
    reason = f"no real Kafka here: {'; '.join(reasons)}"
    if os.environ.get("BACKWRIGHT_TEST_REQUIRE_KAFKA"):
        pytest.fail(reason)
    pytest.skip(reason)


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
