"""A delivered service beside one that is written by hand: the same operations, database, server and load, turn by turn.

The delivered one is made from the demo's document; the other is `service_peer.py`, once with SQLAlchemy's ORM and once
with SQL on asyncpg. A closed loop of 16 connections asks for one kind of operation at a time; what counts are requests
a second and the CPU seconds of the process that answers.
"""

import asyncio
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import asyncpg
import httpx
import orjson

from agent.testing.waiting import until
from tests.bench.figures import Figure, figure, ratios
from tests.bench.stage import BUILD, ROOT, Stage, usage
from tests.bench.targets import Target, at_least, at_most
from tests.golden.weaving import compiled

DOCUMENT = ROOT / "agent" / "cli" / "demo.openapi.yaml"
PEERS = ("asyncpg", "orm")
KINDS = ("get", "list", "create")
CONNECTIONS = 16
MADE = "made under load"
# The aim: what a compiler delivers costs at most a quarter more than what a hand writes on the same driver.
TARGETS: Mapping[str, Target] = {
    **{f"service.{kind}.rate/asyncpg": at_least(0.8, must=False) for kind in KINDS},
    **{f"service.{kind}.cpu/asyncpg": at_most(1.25, must=False) for kind in KINDS},
}


@dataclass(frozen=True, slots=True)
class Size:
    """Rows in the table, rounds, and seconds of load for a turn."""

    rows: int = 2000
    rounds: int = 5
    turn_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """A service that answers."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Load:
    """What requests are made of."""

    token: str
    category: str
    keys: Sequence[str]

    def request(self, kind: str) -> bytes:
        """One request of a kind, as bytes."""
        match kind:
            case "get":
                return self._bytes("GET", f"/v1/equipment/{random.choice(self.keys)}")
            case "list":
                return self._bytes("GET", f"/v1/equipment?limit=20&page={random.randint(1, 5)}")
            case _:
                return self._bytes("POST", "/v1/equipment", orjson.dumps(self.equipment(MADE)))

    def equipment(self, name: str) -> dict[str, object]:
        """A body that creates equipment."""
        return {
            "name": name, "model": "KX018-4", "categoryId": self.category, "status": "available", "dailyRate": 14900,
            "tags": ["digger", "small"], "specification": {"weight": "1.8 t"},
        }  # fmt: skip

    def _bytes(self, method: str, path: str, body: bytes = b"") -> bytes:
        about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: {self.token}\r\n{about}\r\n"
        return head.encode() + body


async def run(stage: Stage, quick: bool) -> Sequence[Figure]:
    """Rounds of turns, in an order that alternates; rates, CPU, and their ratios pair by pair."""
    size = Size(rows=200, rounds=1, turn_s=0.3) if quick else Size()
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    costs: dict[tuple[str, str], list[float]] = defaultdict(list)
    async with _contenders(stage, size) as (servers, load, tidy):
        for number in range(size.rounds):
            for kind in KINDS:
                for name in list(servers) if number % 2 == 0 else reversed(servers):
                    stage.say(f"round {number + 1} of {size.rounds}: {kind} {name}")
                    rate, cost_ms = await _turn(servers[name], load, kind, size.turn_s)
                    rates[kind, name].append(rate)
                    costs[kind, name].append(cost_ms)
                    if kind == "create":
                        await tidy()
    return [*_figures("rate", "requests/s", rates), *_figures("cpu", "ms a request", costs)]


def _figures(what: str, unit: str, found: Mapping[tuple[str, str], Sequence[float]]) -> list[Figure]:
    figures = [figure(f"service.{kind}.{name}.{what}", unit, values) for (kind, name), values in found.items()]
    for kind in KINDS:
        for peer in PEERS:
            values = ratios(found[kind, "delivered"], found[kind, peer])
            name = f"service.{kind}.{what}/{peer}"
            figures.append(Figure(name, "ratio", statistics.median(values), tuple(values), TARGETS.get(name)))
    return figures


async def _turn(server: Server, load: Load, kind: str, turn_s: float) -> tuple[float, float]:
    """(requests a second, CPU milliseconds a request) after a quarter of a turn that is not counted."""
    async with AsyncExitStack() as stack:
        connections = []
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
            connections.append((reader, writer))
        await _drive(connections, lambda: load.request(kind), turn_s / 4)
        cpu_s, began = usage(server.pid)[0], time.perf_counter()
        answered = await _drive(connections, lambda: load.request(kind), turn_s)
        spent_s, took_s = usage(server.pid)[0] - cpu_s, time.perf_counter() - began
    return answered / took_s, 1000 * spent_s / answered


async def _drive(
    connections: Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]], make: Callable[[], bytes], span_s: float
) -> int:
    """Ask on every connection until the time is up; how many answers came. Raises AssertionError: one was no success."""
    ends = time.perf_counter() + span_s

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        answered = 0
        while time.perf_counter() < ends:
            writer.write(make())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, _, length = head.partition(b"content-length: ")
            body = await reader.readexactly(int(length.partition(b"\r\n")[0]))
            assert head[9:12] in (b"200", b"201"), (head, body)
            answered += 1
        return answered

    return sum(await asyncio.gather(*(ask(reader, writer) for reader, writer in connections)))


@asynccontextmanager
async def _contenders(
    stage: Stage, size: Size
) -> AsyncIterator[tuple[dict[str, Server], Load, Callable[[], Awaitable[None]]]]:
    """All services on one database with `size.rows` rows, the load, and what removes the rows that the load made."""
    project = stage.folder / "service"
    compiled(DOCUMENT.read_bytes()).files.write(project)
    stage.say("installing the packages of the service")
    python = await asyncio.to_thread(_environment, project / "requirements.lock")
    dsn, _ = await stage.journal("postgres")  # an empty database; nobody makes a journal in it
    variables = {"PATH": os.environ["PATH"], "SERVICE_DATABASE_URL": dsn, "SERVICE_LOG_LEVEL": "info"}
    await _run(python, "-m", "alembic", "upgrade", "head", cwd=project, environment=variables)
    minted = orjson.loads(await _run(python, "-m", "app.dev", "credentials", cwd=project, environment=variables))
    token = minted["schemes"]["staff"]["headers"]["Authorization"]
    variables |= minted["environment"]
    programs = {
        "delivered": ([str(python), "-m", "app"], variables),
        **{
            peer: (
                [str(python), str(Path(__file__).with_name("service_peer.py"))],
                {
                    "PEER_ROWS": peer,
                    "PEER_DATABASE_URL": dsn,
                    "PEER_PUBLIC_KEY": minted["environment"]["SERVICE_AUTH_STAFF_PUBLIC_KEY"],
                },
            )
            for peer in PEERS
        },
    }
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(_server(stage, name, argv, environment, project))
            for name, (argv, environment) in programs.items()
        }
        connection = await asyncpg.connect(dsn)
        stack.push_async_callback(connection.close)
        load = await _filled(connection, servers["delivered"], token, size.rows)

        async def tidy() -> None:
            await connection.execute("DELETE FROM equipment WHERE name = $1", MADE)
            await connection.execute("VACUUM ANALYZE equipment")

        yield servers, load, tidy


async def _filled(connection: "asyncpg.Connection[asyncpg.Record]", server: Server, token: str, rows: int) -> Load:
    """Make rows through the API and copy them."""
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}/v1", headers={"Authorization": token}
    ) as http:
        category = (await http.post("/categories", json={"name": "Earthmoving"})).raise_for_status().json()["id"]
        one = await http.post("/equipment", json=Load(token, category, ()).equipment("Mini excavator"))
        one.raise_for_status()
    await connection.execute(
        "INSERT INTO equipment (id, name, model, category_id, status, daily_rate, tags, specification, created_at, updated_at)"
        " SELECT gen_random_uuid(), name || n, model, category_id, status, daily_rate, tags, specification, created_at,"
        " updated_at FROM equipment, generate_series(2, $1) n",
        rows,
    )
    await connection.execute("VACUUM ANALYZE equipment")
    keys = [str(row["id"]) for row in await connection.fetch("SELECT id FROM equipment LIMIT 500")]
    return Load(token, category, keys)


@asynccontextmanager
async def _server(
    stage: Stage, name: str, argv: Sequence[str], environment: Mapping[str, str], folder: Path
) -> AsyncIterator[Server]:
    """A process that is ready to answer; its output goes to a file, as a container's would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = stage.folder / f"{name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=folder, stdout=output, stderr=output,
            env={"PATH": os.environ["PATH"], **environment, "SERVICE_PORT": str(port), "PEER_PORT": str(port)},
        )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def ready() -> bool:
                if process.returncode is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}: {log.read_text()[-1000:]}")
                try:
                    return (await http.get("/health/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(ready, f"{name} is ready")
        yield Server(port, process.pid)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _environment(lock: Path) -> Path:
    """The interpreter of an environment with the packages of a lock file, made once for its content."""
    folder = BUILD / f"bench-service-{sha256(lock.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise RuntimeError("uv is not installed")
    for argv in (
        [uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "sync", "-q", "--require-hashes", "--python", str(python), str(lock)],
    ):
        subprocess.run(argv, check=True, capture_output=True, timeout=300)
    (folder / "complete").touch()
    return python


async def _run(*argv: str | Path, cwd: Path, environment: Mapping[str, str]) -> bytes:
    """Output of a command. Raises RuntimeError with the end of what it said when it fails."""
    process = await asyncio.create_subprocess_exec(
        *map(str, argv), cwd=cwd, env=dict(environment), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    if process.returncode:
        raise RuntimeError(f"{argv[1:]} ended with {process.returncode}: {errors.decode(errors='replace')[-500:]}")
    return output
