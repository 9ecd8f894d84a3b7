"""The composition root: the only place (besides agent/testing) that names adapters."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from agent.artifacts.folder import FolderArtifacts
from agent.artifacts.port import Artifacts
from agent.artifacts.postgres import PostgresArtifacts
from agent.bus.kafka import KafkaBus
from agent.bus.port import Bus
from agent.clock import SystemClock
from agent.compiler.compile import MANIFEST
from agent.errors import BusUnavailable, EnvironmentUnfit
from agent.gates.suite import GATES
from agent.journal.port import Journal
from agent.journal.postgres import PostgresJournal
from agent.journal.sqlite import SqliteJournal
from agent.pipeline.attempt import Means
from agent.pipeline.engine import Engine
from agent.pipeline.toolchain import OwnCompiler, OwnSuite
from agent.runtime.garbage import spare_collector
from agent.runtime.supervisor import Supervisor
from agent.runtime.worker import Means as AttemptMeans
from agent.sandbox.local import LocalSandbox, hide_from_children
from agent.services.embedded import EmbeddedPostgres
from agent.services.external import ExternalPostgres
from agent.services.port import Databases
from agent.settings import Settings
from agent.telemetry.http import HttpServer
from agent.telemetry.metrics import Metrics
from agent.telemetry.tracing import Tracing
from agent.telemetry.zeros import start_at_zero

log = structlog.get_logger()
# A delivered service with its environment takes about 300 MB while it is verified.
MIN_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the gates and `serve` need, without a bus or a journal."""

    sandbox: LocalSandbox
    databases: Databases
    artifacts: Artifacts


def bus(settings: Settings) -> Bus:
    """The Kafka adapter, for every broker that speaks the protocol."""
    return KafkaBus(settings.kafka)


def journal(settings: Settings) -> Journal:
    """SQLite for one agent, PostgreSQL for many."""
    url = journal_url(settings)
    if url.startswith("sqlite:"):
        path = sqlite_path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        return SqliteJournal(path, SystemClock())
    return PostgresJournal(url, settings.journal)


def journal_url(settings: Settings) -> str:
    """The configured URL, or the file in the workspace. Raises EnvironmentUnfit for one that we cannot read."""
    url = settings.journal.url or f"sqlite:///{settings.workspace.absolute() / 'journal.sqlite'}"
    with suppress(ValueError):  # half an IPv6 address, a port that is no number
        if urlsplit(url).scheme in {"sqlite", "postgresql", "postgres"} and urlsplit(url).port != 0:
            return url
    raise EnvironmentUnfit(
        "the journal's URL cannot be read", remedy="use sqlite:///path or postgresql://user@host:port/name"
    )


async def open_for_reading(settings: Settings) -> Journal:
    """The journal for looking only, beside a running agent. Raises EnvironmentUnfit where there is none yet."""
    url = journal_url(settings)
    store: Journal
    if url.startswith("sqlite:"):
        path = sqlite_path(url)
        if not path.is_file():
            raise EnvironmentUnfit(
                f"no journal at {path}",
                remedy="set BACKWRIGHT_WORKSPACE or BACKWRIGHT_JOURNAL__URL to those of the agent, or start it once",
            )
        store = SqliteJournal.open_readonly(path)
    else:
        store = PostgresJournal(url, settings.journal.model_copy(update={"pool_size": 1}))
    await store.open()
    return store


def sqlite_path(url: str) -> Path:
    """`sqlite:///relative` or `sqlite:////absolute` → path."""
    return Path(url.removeprefix("sqlite:///"))


def artifacts(settings: Settings) -> Artifacts:
    """A folder on one machine; the journal's PostgreSQL where many agents share no disk."""
    url = settings.artifacts.url
    if url is None and not journal_url(settings).startswith("sqlite:"):
        url = journal_url(settings)
    if url is None or url.startswith("file:"):
        folder = Path(url.removeprefix("file://")) if url else settings.workspace / "artifacts"
        return FolderArtifacts(folder.absolute())
    return PostgresArtifacts(url)


def package_cache() -> Path:
    """One cache of packages for all gates of all tasks; where we are root, below a folder that others may enter."""
    if os.geteuid() == 0:
        return Path("/var/cache/backwright/packages")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backwright" / "packages"


def workshop(settings: Settings) -> Workshop:
    """Sandbox, throwaway databases and artefact store."""
    hide_from_children()
    sandbox = LocalSandbox(settings.sandbox, package_cache())
    dsn = settings.postgres.dsn
    databases: Databases = (
        ExternalPostgres(dsn.get_secret_value()) if dsn else EmbeddedPostgres(sandbox, settings.postgres)
    )
    return Workshop(sandbox, databases, artifacts(settings))


def check_disk(workspace: Path) -> None:
    """Make the workspace. Raises EnvironmentUnfit when it cannot be written or has too little room."""
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(workspace).free
    except OSError as exc:
        raise EnvironmentUnfit(
            f"cannot write the workspace {workspace}: {exc.strerror}",
            remedy="set BACKWRIGHT_WORKSPACE to a folder of yours",
        ) from exc
    if free < MIN_FREE_BYTES:
        raise EnvironmentUnfit(
            f"only {free // 1_000_000} MB free in {workspace}",
            remedy="free 1000 MB, or set BACKWRIGHT_WORKSPACE to another disk",
        )


async def run_agent(settings: Settings) -> None:
    """Run the agent until SIGTERM or SIGINT, then drain. Raises EnvironmentUnfit when it cannot start."""
    check_disk(settings.workspace)
    await check_broker(settings)
    stop = _stop_on_signals()
    async with _agent(settings) as (supervisor, port):
        log.info(
            "agent.started",
            port=port,
            bootstrap_servers=settings.kafka.bootstrap_servers,
            workspace=str(settings.workspace),
        )
        spare_collector()
        await supervisor.run(stop)
    log.info("agent.stopped")


async def check_broker(settings: Settings) -> None:
    """Reach the broker once. Raises EnvironmentUnfit; outages that begin later are waited out instead."""
    producer = bus(settings).producer()
    try:
        await producer.start()
    except BusUnavailable as exc:
        raise EnvironmentUnfit(
            f"no broker at {settings.kafka.bootstrap_servers}: {exc}",
            remedy="set BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS to yours; without one, `backwright demo` brings an embedded broker and"
            " `docker compose up` a real Kafka",
        ) from exc
    finally:
        await producer.stop()


@asynccontextmanager
async def _agent(settings: Settings) -> AsyncIterator[tuple[Supervisor, int]]:
    """The whole agent, wired. Closed in the reverse order."""
    metrics = Metrics()
    tracing = Tracing(settings.telemetry)
    tools = workshop(settings)
    async with AsyncExitStack() as stack:
        stack.callback(tracing.close)
        store = journal(settings)
        stack.push_async_callback(store.close)
        await store.open()
        means = Means(
            sandbox=tools.sandbox, databases=tools.databases, artifacts=tools.artifacts, clock=SystemClock(), settings=settings,
            metrics=metrics, tracer=tracing.tracer, compiler=OwnCompiler(settings.compiler), suite=OwnSuite(),
        )  # fmt: skip
        engine = Engine(means)
        steps = [(step.phase.name.lower(), step.name) for step in engine.steps]
        start_at_zero(metrics, gates=[gate.name for gate in GATES], steps=steps)
        attempts = AttemptMeans(
            journal=store, work=engine, artifacts=tools.artifacts, settings=settings.worker, clock=SystemClock(),
            folder=settings.workspace.absolute() / "attempts", metrics=metrics, tracer=tracing.tracer,
        )  # fmt: skip
        supervisor = Supervisor(attempts, bus(settings), source=settings.source, group=settings.kafka.group_id)
        http = HttpServer(settings.http, metrics.registry, live=supervisor.live, ready=supervisor.ready)
        port = http.start()
        stack.callback(http.stop)
        yield supervisor, port


def _stop_on_signals() -> asyncio.Event:
    """Set on the first SIGTERM or SIGINT; a second one ends the process at once (children die with our pipes)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def facts_of(service: Path) -> Mapping[str, Any]:
    """The manifest of a delivered service. Raises EnvironmentUnfit where there is none that we wrote."""
    path = service / MANIFEST
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise EnvironmentUnfit(
            f"{service} is not a service that Backwright delivered: {path} cannot be read",
            remedy="name the folder that `backwright compile --out` or a delivery made",
        ) from exc
    return facts
