"""An agent as a real process, for tests that kill it. `python -m agent.testing.process` is that process.

It is the production wiring (Kafka adapter, durable journal, folder of artefacts, real clock, lease thread, signals),
with the scripted work in place of the engine. `AgentProcess` starts and ends it, or any other command of ours.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import structlog

from agent.artifacts.folder import FolderArtifacts
from agent.artifacts.port import Artifacts
from agent.artifacts.postgres import PostgresArtifacts
from agent.bus.kafka import KafkaBus
from agent.clock import Clock, SystemClock
from agent.journal.port import Journal
from agent.journal.postgres import PostgresJournal
from agent.journal.sqlite import SqliteJournal
from agent.runtime.supervisor import Supervisor
from agent.runtime.worker import Means
from agent.sandbox.local import LocalSandbox
from agent.settings import Settings
from agent.telemetry import logs
from agent.telemetry.http import HttpServer
from agent.telemetry.metrics import Metrics
from agent.telemetry.tracing import Tracing
from agent.testing.clock import SteppedClock
from agent.testing.work import STEPS, ScriptedWork

SCRIPTED = (sys.executable, "-m", "agent.testing.process")
READY_S = 30.0


class ChildProcess(Protocol):
    """What we need of asyncio.subprocess.Process."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def send_signal(self, signal: int) -> None: ...

    async def wait(self) -> int: ...


class AgentProcess:
    """One process of the agent on a workspace; start it again on the same one after a kill."""

    def __init__(
        self,
        workspace: Path,
        bootstrap_servers: str,
        *,
        argv: Sequence[str] = SCRIPTED,
        environment: Mapping[str, str] | None = None,
        name: str = "agent",
    ) -> None:
        self.workspace = workspace
        self.log = workspace / f"{name}.log"
        self.effects = workspace / "effects.txt"
        self._argv = argv
        self._environment = {
            "BACKWRIGHT_WORKSPACE": str(workspace),
            "BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
            # What librdkafka's mock needs (agent/bus/embedded.py); harmless elsewhere.
            "BACKWRIGHT_KAFKA__SESSION_TIMEOUT_MS": "2000",  # how long a killed member blocks its successor
            "BACKWRIGHT_KAFKA__HEARTBEAT_INTERVAL_MS": "500",
            "BACKWRIGHT_KAFKA__REBALANCE_TIMEOUT_MS": "2000",
            "BACKWRIGHT_KAFKA__FETCH_MAX_WAIT_MS": "10",
            "BACKWRIGHT_HTTP__PORT": "0",
            "BACKWRIGHT_TELEMETRY__LOG_LEVEL": "info",
            **(environment or {}),
        }
        self._process: ChildProcess | None = None
        self.port = 0

    async def start(self, **environment: str) -> None:
        """Start it; returns at once. `environment` counts for this start only."""
        self.workspace.mkdir(parents=True, exist_ok=True)
        self._started_at = self.log.stat().st_size if self.log.exists() else 0
        self._process = await self._spawn({**os.environ, "PYTHONPATH": _root(), **self._environment, **environment})

    async def _spawn(self, environment: Mapping[str, str]) -> ChildProcess:
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._argv, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, start_new_session=True, env=environment
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._process is not None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.returncode

    async def wait_ready(self) -> None:
        """Until `/health/ready` answers 200. Raises AssertionError with the log when it ended or takes too long."""
        ends = time.monotonic() + READY_S
        while time.monotonic() < ends and self.exit_code is None:
            self.port = self.port or self._read_port()
            if self.port and (await self.health("ready"))[0] == 200:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"the agent is not ready (exit code {self.exit_code}):\n{self.tail()}")

    async def wait_started(self) -> None:
        """Until it has said so in its log: from then on SIGTERM drains."""
        ends = time.monotonic() + READY_S
        while not self._read_port():
            assert self.exit_code is None, self.tail()
            assert time.monotonic() < ends, self.tail()
            await asyncio.sleep(0.05)

    async def health(self, probe: str) -> tuple[int, Mapping[str, Any]]:
        """(status, body) of `/health/live` or `/health/ready`; status 0 when nobody answers."""

        def ask() -> tuple[int, Mapping[str, Any]]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/{probe}", timeout=2) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as answer:
                return answer.code, json.loads(answer.read())
            except OSError:
                return 0, {}

        return await asyncio.to_thread(ask)

    def _read_port(self) -> int:
        for line in self.log.read_bytes()[self._started_at :].splitlines():
            if b"agent.started" in line:
                return int(json.loads(line)["port"])
        return 0

    def events(self) -> list[Mapping[str, Any]]:
        """Log lines of all starts."""
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and wait for the end."""
        self.signal(number)
        return await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None
        code = await asyncio.wait_for(self._process.wait(), timeout_s)
        self.port = 0
        return code

    async def __aenter__(self) -> "AgentProcess":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.exit_code is None and self._process is not None:
            self.signal(signal.SIGCONT)
            await self.kill()

    def done(self) -> list[tuple[str, int, str]]:
        """Effects so far: (task id, fence, step)."""
        if not self.effects.exists():
            return []
        lines = [line.split() for line in self.effects.read_text().splitlines()]
        return [(words[0], int(words[1]), words[2]) for words in lines if len(words) == 4]


def _root() -> str:
    return str(Path(__file__).resolve().parents[2])


def _stores(settings: Settings) -> tuple[Journal, Artifacts]:
    """SQLite and a folder, or both in PostgreSQL. (agent.app does the same; testing and app do not know each other.)"""
    url = settings.journal.url
    if url is not None and url.startswith("postgres"):
        return PostgresJournal(url, settings.journal), PostgresArtifacts(url)
    journal = SqliteJournal(settings.workspace / "journal.sqlite", SystemClock())
    return journal, FolderArtifacts(settings.workspace / "artifacts")


async def serve(settings: Settings, *, steps: Sequence[str], step_s: float, effects: Path, clock: Clock) -> None:
    """Run the scripted agent until SIGTERM. The journal, bus and artefacts are those of production."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    metrics, tracing = Metrics(), Tracing(settings.telemetry)
    journal, artifacts = _stores(settings)
    await journal.open()
    sandbox = LocalSandbox(settings.sandbox, settings.workspace / "cache")
    means = Means(
        journal=journal, artifacts=artifacts, settings=settings.worker, folder=settings.workspace / "attempts", clock=clock,
        work=ScriptedWork(steps, step_s=step_s, effects_file=effects, sandbox=sandbox, checked=False),
        metrics=metrics, tracer=tracing.tracer,
    )  # fmt: skip
    supervisor = Supervisor(means, KafkaBus(settings.kafka), source=settings.source, group=settings.kafka.group_id)
    http = HttpServer(settings.http, metrics.registry, live=supervisor.live, ready=supervisor.ready)
    try:
        structlog.get_logger().info("agent.started", port=http.start())
        await supervisor.run(stop)
    finally:
        http.stop()
        await journal.close()


def _die_with_the_tests() -> None:
    """A test run that is killed cannot end its agents: the kernel does (Linux: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)


def main() -> int:
    """Settings come from the environment, as everywhere; the script from variables of its own."""
    _die_with_the_tests()
    settings = Settings()
    logs.configure(settings.telemetry)
    steps = tuple(os.environ.get("SCRIPT_STEPS", ",".join(STEPS)).split(","))
    step_s = float(os.environ.get("SCRIPT_STEP_S", "0.2"))
    effects = Path(os.environ.get("SCRIPT_EFFECTS", settings.workspace / "effects.txt"))
    stepped = os.environ.get("SCRIPT_CLOCK")  # a file of SteppedClock
    clock = SteppedClock(Path(stepped)) if stepped else SystemClock()
    asyncio.run(serve(settings, steps=steps, step_s=step_s, effects=effects, clock=clock))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
