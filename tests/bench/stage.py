"""What all benchmarks stand on: a broker and a PostgreSQL in processes of their own, a folder on the real disk, children.

Everything dies with us: the broker ends when its pipe closes, PostgreSQL hangs on the sandbox's guardian, children are
ended on the way out.
"""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from agent.bus.embedded import EmbeddedBroker, embedded_settings
from agent.bus.kafka import KafkaBus
from agent.bus.port import Outgoing
from contracts import topics
from tests.bench.requests import request
from tests.postgres import LocalPostgres, server_folder

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
CHILD_S = 150.0
PEER = "faststream[kafka]==0.7.8"
FASTSTREAM_TOPIC = "bench.faststream"


class Lost(AssertionError):
    """Records that were counted never arrived, or more arrived than were sent."""


class Stage:
    """`async with Stage(say) as stage`. Broker and database start when they are first asked for."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._stack = AsyncExitStack()
        self._broker: EmbeddedBroker | None = None
        self._postgres: LocalPostgres | None = None

    async def __aenter__(self) -> "Stage":
        BUILD.mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # --- broker -----------------------------------------------------------------------------------------------------

    async def fresh_broker(self) -> EmbeddedBroker:
        """An empty broker in place of the present one (it keeps 5 MiB of each partition, and no more)."""
        if self._broker is not None:
            await self._broker.stop()
        else:
            self._stack.push_async_callback(self._stop_broker)
        self._broker = EmbeddedBroker(extra_topics=[FASTSTREAM_TOPIC])
        await self._broker.start()
        if not self._broker.bootstrap_servers.startswith("127.0.0.1:"):
            raise AssertionError(f"not our broker: {self._broker.bootstrap_servers}")
        return self._broker

    async def _stop_broker(self) -> None:
        if self._broker is not None:
            await self._broker.stop()

    @property
    def bootstrap(self) -> str:
        """Where the present broker listens."""
        assert self._broker is not None
        return self._broker.bootstrap_servers

    async def preload(self, number: int) -> None:
        """Put so many requests on the tasks topic. Raises Lost if they are not all there."""
        run = secrets.token_hex(4)
        await self.publish([request(f"{run}-{index}") for index in range(number)])
        there = await self.ends(topics.TASKS.name) - await self.ends(topics.TASKS.name, oldest=True)
        if there != number:
            raise Lost(f"{number} requests were sent, the topic holds {there}")

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Send records and wait for all acknowledgements."""
        producer = KafkaBus(embedded_settings(self.bootstrap)).producer()
        await producer.start()
        try:
            for first in range(0, len(records), 500):
                await producer.send(records[first : first + 500])
        finally:
            await producer.stop()

    async def ends(self, topic: str, *, oldest: bool = False) -> int:
        """Sum of a topic's high (or low) watermarks."""
        client = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            await client._client.set_topics([topic])
            numbers = client.partitions_for_topic(topic) or ()
            places = [TopicPartition(topic, number) for number in numbers]
            found = await (client.beginning_offsets(places) if oldest else client.end_offsets(places))
            return sum(found.values())
        finally:
            await client.stop()

    # --- journals ---------------------------------------------------------------------------------------------------

    async def postgres(self) -> LocalPostgres:
        """The server, started once; fsync is on."""
        if self._postgres is None:
            base = server_folder("backwright-bench-pg-")
            self._stack.callback(shutil.rmtree, base, ignore_errors=True)
            server = self._postgres = await asyncio.to_thread(LocalPostgres, base)
            self._stack.callback(server.end, signal.SIGQUIT)
            await asyncio.to_thread(server.initialise)
            await asyncio.to_thread(server.start)
        return self._postgres

    async def journal(self, kind: str) -> tuple[str, str]:
        """(journal, folder) of an order: an empty one, every time."""
        folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.folder))
        if kind != "postgres":
            return kind, str(folder)
        server = await self.postgres()
        name = f"bench_{secrets.token_hex(6)}"
        connection = await asyncpg.connect(server.dsn, timeout=10)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return server.dsn.rsplit("/", 1)[0] + f"/{name}", str(folder)

    # --- children ---------------------------------------------------------------------------------------------------

    async def play(self, role: str, **order: Any) -> dict[str, Any]:
        """Run a role to its end; its result."""
        async with Child(self, role, **order) as child:
            return await child.result()

    async def faststream(self, group: str, records: int) -> dict[str, Any]:
        """Run the peer once. Raises FileNotFoundError when `peer` was not asked for before."""
        before = await self.ends(FASTSTREAM_TOPIC)
        argv = [str(peer_python()), str(Path(__file__).with_name("faststream_app.py"))]
        process = await asyncio.create_subprocess_exec(
            *argv, self.bootstrap, topics.TASKS.name, FASTSTREAM_TOPIC, group, str(records),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=self.folder,
        )  # fmt: skip
        try:
            out, errors = await asyncio.wait_for(process.communicate(), CHILD_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise RuntimeError(f"FastStream ended with {process.returncode}: {errors.decode(errors='replace')[-1500:]}")
        if (arrived := await self.ends(FASTSTREAM_TOPIC) - before) < records:
            raise Lost(f"FastStream counted {records}, {arrived} statuses arrived")
        return dict(orjson.loads(out.splitlines()[-1]))


class Child:
    """A role in a process of its own; `async with`, so that it never outlives its use."""

    def __init__(self, stage: Stage, role: str, **order: Any) -> None:
        self._stage = stage
        self._order = {"role": role, **order}
        if stage._broker is not None:
            self._order.setdefault("bootstrap", stage.bootstrap)
        self._order.setdefault("group", f"bench-{secrets.token_hex(5)}")  # a new group reads from the beginning

    async def __aenter__(self) -> "Child":
        self.log = self._stage.folder / f"{self._order['role']}-{secrets.token_hex(3)}.log"
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.child", orjson.dumps(self._order).decode(),
                stdout=asyncio.subprocess.PIPE, stderr=log, cwd=ROOT, limit=2**26,
            )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def ready(self) -> None:
        """Until it takes work."""
        await self._line("ready")

    async def result(self) -> dict[str, Any]:
        """What it found."""
        return await self._line("records")

    async def stop(self) -> dict[str, Any]:
        """SIGTERM, and what it found."""
        self._process.send_signal(signal.SIGTERM)
        return await self.result()

    async def _line(self, field: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := await asyncio.wait_for(self._process.stdout.readline(), CHILD_S):
            found: dict[str, Any] = orjson.loads(line)
            if field in found:
                return found
        tail = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the {self._order['role']} child ended with {await self._process.wait()}:\n{tail}")


def usage(pid: int) -> tuple[float, float]:
    """(CPU seconds so far, resident MB) of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu_s, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peer_python() -> Path:
    """The interpreter of the peer's environment."""
    return BUILD / "bench-faststream" / "bin" / "python"


def install_peer() -> str | None:
    """Install the peer once; why it cannot be had, or None."""
    if peer_python().exists() and _succeeds([str(peer_python()), "-c", "import faststream.kafka"]) is None:
        return None
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        return "uv is not installed"
    folder = str(peer_python().parents[1])
    return _succeeds([uv, "venv", "-q", "--clear", "--python", sys.executable, folder]) or _succeeds(
        [uv, "pip", "install", "-q", "--python", str(peer_python()), PEER]
    )


def _succeeds(argv: list[str]) -> str | None:
    """None, or the last line of what went wrong."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return type(exc).__name__
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
