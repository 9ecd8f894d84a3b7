"""What a storm blows over: a broker, a journal, and agents as processes that come back whenever they end."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from agent.bus.apache import LocalKafka
from agent.bus.embedded import EmbeddedBroker
from agent.bus.kafka import KafkaBus
from agent.journal.postgres import PostgresJournal
from agent.settings import JournalSettings, KafkaSettings
from agent.testing.clock import SteppedClock
from agent.testing.process import SCRIPTED, AgentProcess
from tests.chaos.history import read_postgres, read_sqlite
from tests.chaos.plan import STEP_S
from tests.chaos.proxy import Proxy
from tests.postgres import LocalPostgres, server_folder

LEASE_S, SELF_STOP_S, RENEW_S = 4.0, 3.0, 1.0
DRAIN_S = 2.0
MAX_CRASHES = 4
SPEEDS = {
    "BACKWRIGHT_WORKER__LEASE_S": str(LEASE_S),
    "BACKWRIGHT_WORKER__SELF_STOP_S": str(SELF_STOP_S),
    "BACKWRIGHT_WORKER__RENEW_S": str(RENEW_S),
    "BACKWRIGHT_WORKER__DRAIN_S": str(DRAIN_S),
    "BACKWRIGHT_WORKER__CONCURRENCY": "8",
    "BACKWRIGHT_WORKER__MAX_CRASHES": str(MAX_CRASHES),
    "BACKWRIGHT_WORKER__BACKOFF_BASE_S": "0.2",
    "BACKWRIGHT_WORKER__BACKOFF_CAP_S": "2",
    "BACKWRIGHT_TELEMETRY__LOG_LEVEL": "warning",
    "BACKWRIGHT_KAFKA__STALL_AFTER_S": "10",
}  # fmt: skip

# The database's own record of what happens to tasks and checkpoints: an observer that no code of ours can bypass.
AUDIT = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.audit (
  id bigserial PRIMARY KEY, what text NOT NULL, task bigint NOT NULL, before text, state text, fence_before bigint,
  fence bigint, written_fence bigint);
CREATE FUNCTION chaos.task_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO chaos.audit (what, task, before, state, fence_before, fence)
  VALUES ('task', NEW.id, OLD.state, NEW.state, OLD.fence, NEW.fence);
  RETURN NULL;
END $$;
CREATE FUNCTION chaos.checkpoint_written() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO chaos.audit (what, task, state, fence, written_fence)
  SELECT 'checkpoint', id, state, fence, (NEW.output->>'fence')::bigint FROM backwright_journal.task WHERE id = NEW.task;
  RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON backwright_journal.task FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.fence IS DISTINCT FROM NEW.fence)
  EXECUTE FUNCTION chaos.task_changed();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON backwright_journal.checkpoint FOR EACH ROW
  EXECUTE FUNCTION chaos.checkpoint_written();
"""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where agents find their broker and journal, and what a storm may do to these. Faults that are None do not strike."""

    kafka: KafkaSettings
    environment: Mapping[str, str]
    agents: int
    folder: Path
    states: Callable[[], "asyncio.Future[Counter[str]]"]  # tasks by state, and "unsent"
    journal: Callable[[], "asyncio.Future[dict[str, Any]]"]  # the journal's part of a History
    postgres: LocalPostgres | None = None
    broker: LocalKafka | None = None
    broker_proxy: Proxy | None = None
    journals: Sequence[Proxy] = ()  # in front of PostgreSQL, one per agent
    own_environment: Sequence[Mapping[str, str]] = field(default_factory=lambda: [{}] * 8)  # by agent

    @property
    def effects(self) -> Path:
        """One file for all agents."""
        return self.folder / "effects.txt"


@asynccontextmanager
async def large(
    kafka: KafkaSettings, broker: LocalKafka | None, folder: Path, agents: int = 3, broker_proxy: Proxy | None = None
) -> AsyncIterator[Stack]:
    """Agents that share nothing but Apache Kafka and a PostgreSQL of our own (journal and artefacts)."""
    async for _ in KafkaBus(kafka).ensure_topics():
        pass
    with local_postgres() as server:
        await asyncio.to_thread(server.start)
        try:
            await prepare(server.dsn)
            environment = {
                "BACKWRIGHT_JOURNAL__STATEMENT_TIMEOUT_S": "5",
                "BACKWRIGHT_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
                "BACKWRIGHT_KAFKA__FETCH_MAX_WAIT_MS": "100",
            }
            async with AsyncExitStack() as stack:
                proxies = [await stack.enter_async_context(Proxy(server.port)) for _ in range(agents)]
                urls = [server.dsn.replace(f":{server.port}/", f":{proxy.port}/") for proxy in proxies]
                yield Stack(
                    kafka, environment, agents, folder, lambda: asyncio.ensure_future(_postgres_states(server.dsn)),
                    lambda: asyncio.ensure_future(read_postgres(server.dsn)), server, broker, broker_proxy, proxies,
                    [{"BACKWRIGHT_JOURNAL__URL": url} for url in urls],
                )  # fmt: skip
        finally:
            await asyncio.to_thread(server.end, signal.SIGQUIT)


@asynccontextmanager
async def small(folder: Path) -> AsyncIterator[Stack]:
    """One agent with SQLite and a folder on the embedded broker."""
    async with EmbeddedBroker() as servers:
        kafka = KafkaSettings.model_validate({"bootstrap_servers": servers, "fetch_max_wait_ms": 10})
        path = folder / "agent-0" / "journal.sqlite"
        yield Stack(
            kafka, {}, 1, folder, lambda: asyncio.ensure_future(asyncio.to_thread(_sqlite_states, path)),
            lambda: asyncio.ensure_future(asyncio.to_thread(read_sqlite, path)),
        )  # fmt: skip


@contextlib.contextmanager
def local_postgres() -> Iterator[LocalPostgres]:
    """A server of our own, not started yet; its data are thrown away."""
    base = server_folder("backwright-chaos-pg-")
    try:
        server = LocalPostgres(base)
        server.initialise()
        yield server
    finally:
        shutil.rmtree(base, ignore_errors=True)


async def prepare(dsn: str) -> None:
    """Schema and audit, before the first agent starts."""
    journal = PostgresJournal(dsn, JournalSettings.model_validate({}))
    await journal.open()
    await journal.close()
    connection = await asyncpg.connect(dsn)
    await connection.execute(AUDIT)
    await connection.close()


async def _postgres_states(dsn: str) -> Counter[str]:
    connection = await asyncpg.connect(dsn, timeout=5, server_settings={"search_path": "backwright_journal"})
    try:
        found = await connection.fetch("SELECT state, count(*) FROM task GROUP BY state", timeout=5)
        return Counter(
            {**dict(map(tuple, found)), "unsent": await connection.fetchval("SELECT count(*) FROM outbox", timeout=5)}
        )
    finally:
        await connection.close(timeout=5)


def _sqlite_states(path: Path) -> Counter[str]:
    found = read_sqlite(path)
    return Counter([row.state for row in found["rows"].values()]) + Counter({"unsent": found["unsent"]})


class Slot:
    """The place of one agent: started again after every end, until `close`."""

    def __init__(
        self, stack: Stack, number: int, points: Iterator[str | None], argv: tuple[str, ...] = SCRIPTED
    ) -> None:
        self.clock = stack.folder / f"clock-{number}"
        SteppedClock.step(self.clock, 0.0)
        self.agent = AgentProcess(
            stack.folder / f"agent-{number}", stack.kafka.bootstrap_servers, argv=argv, name=f"agent-{number}",
            environment={
                **SPEEDS, **stack.environment, **stack.own_environment[number], "SCRIPT_EFFECTS": str(stack.effects),
                "SCRIPT_STEP_S": str(STEP_S), "SCRIPT_CLOCK": str(self.clock),
            },
        )  # fmt: skip
        self._points = points
        self._closing = False
        self.killed = False  # by the storm, since its last start
        self.armed: str | None = None
        self.ends: Counter[str] = Counter()
        self.crashed_at: Counter[str] = Counter()
        self.findings: list[str] = []

    async def keep(self) -> None:
        """Start, wait for the end, start again."""
        while not self._closing:
            self.killed, self.armed = False, next(self._points)
            before = self.agent.log.stat().st_size if self.agent.log.exists() else 0
            await self.agent.start(**({"BACKWRIGHT_CRASH_POINT": self.armed} if self.armed else {}))
            self._note(await self.agent.wait(86_400.0), before)
            await asyncio.sleep(0.05)  # as a platform would, not in a hot loop

    def _note(self, code: int, before: int) -> None:
        if code == -signal.SIGKILL:
            how = "killed" if self.killed else "killed itself"
            if not self.killed and self.armed:
                self.crashed_at[self.armed.partition(":")[0]] += 1
        elif code == 0:
            how = "drained"
        elif code == -signal.SIGTERM:
            how = "ended while it started"
        else:
            with self.agent.log.open("rb") as log:
                log.seek(before)
                said = log.read().decode(errors="replace").strip()
            # It could not start because PostgreSQL was away: the platform starts it again, as we do.
            how = (
                "refused to start"
                if "in serve\n    await journal.open()" in said and "errors.JournalUnavailable" in said
                else "ended by itself"
            )
            if how == "ended by itself":
                self.findings.append(f"{self.agent.log.stem} ended with {code}: …{said[-1500:]}")
        self.ends[how] += 1

    async def close(self, limit_s: float = 60.0) -> None:
        """SIGTERM; whoever does not end within the limit is a finding."""
        self._closing = True
        if self.agent.exit_code is not None:
            return
        self.agent.signal(signal.SIGCONT)
        self.agent.signal(signal.SIGTERM)
        try:
            await self.agent.wait(limit_s)
        except TimeoutError:
            self.findings.append(f"{self.agent.log.stem} did not drain within {limit_s} s")
            self.agent.signal(signal.SIGKILL)


def python_module(name: str) -> tuple[str, ...]:
    """A command that runs one of our modules."""
    return (sys.executable, "-m", name)


# --- processes --------------------------------------------------------------------------------------------------------


class Ground:
    """`with Ground() as ground:` before anything starts; `left()` is what of it lives on.

    Orphans of our descendants become our children meanwhile, so that none can hide (Linux: PR_SET_CHILD_SUBREAPER).
    """

    def __enter__(self) -> "Ground":
        _subreaper(True)
        self._before = descendants()
        return self

    def __exit__(self, *_: object) -> None:
        _subreaper(False)

    async def left(self) -> list[str]:
        """Processes that should have ended, after a moment for guardians."""
        for _ in range(50):
            found = {pid: line for pid, line in descendants().items() if pid not in self._before}
            if not found:
                return []
            await asyncio.sleep(0.1)
        return [f"process {pid} lives on: {line[:200]}" for pid, line in found.items()]


def _subreaper(wanted: bool) -> None:
    ctypes.CDLL(None).prctl(36, int(wanted), 0, 0, 0)


def descendants() -> dict[int, str]:
    """Living processes below us: pid → command line."""
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if stat[0] not in "ZX":
            parents[int(folder.name)], lines[int(folder.name)] = int(stat[1]), line
    found: dict[int, str] = {}
    for pid in parents:
        at = pid
        while at in parents and at != os.getpid():
            at = parents[at]
        if at == os.getpid() != pid:
            found[pid] = lines[pid]
    return found
