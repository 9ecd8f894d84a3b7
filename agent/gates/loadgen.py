"""An open-model HTTP load generator in one file: standard library only, run as `python loadgen.py plan.json`.

It is copied next to the service under test and run by that service's interpreter, so that anybody can repeat a
measurement. The rules that keep the figures honest:

- The schedule (when, what) is drawn before the first request and never moves: arrivals are issued whether or not
  earlier ones were answered.
- Latency counts from the *scheduled* time, so a stalled server cannot hide behind a stalled client (coordinated
  omission; Gil Tene, "How NOT to measure latency").
- Waiting for one of the bounded connections is part of the latency. An arrival that could not be written in time is
  not issued, and is reported as such.

Plan (JSON): host, port, rate (1/s), duration_s, warmup_s, connections, timeout_s, seed, kinds: [{kind, weight,
operations: [{operation, weight, once, requests: [{method, target, headers, body}]}]}]. `once`: no request twice
(creates). Output: one JSON object on stdout.
"""

import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 16 * 1024**2  # a larger answer is an error: nobody pages through that


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that will be issued at `at_s` after the start."""

    at_s: float
    kind: str
    operation: str
    request: bytes


@dataclass(slots=True)
class Outcome:
    """What became of an arrival. `latency_s` from the scheduled time; `lag_s` from there to the first byte written."""

    arrival: Arrival
    lag_s: float | None = None
    latency_s: float | None = None
    status: int | None = None
    error: str | None = None

    @property
    def is_error(self) -> bool:
        """No answer, or not a 2xx one."""
        return self.error is not None or self.status is None or not 200 <= self.status < 300


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Smallest value that is at least as large as `percent` % of `values` (nearest rank); None for no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def arrival_times(rate: float, duration_s: float, draw: random.Random) -> list[float]:
    """Exactly round(rate x duration) moments in [0, duration), sorted: a Poisson process with its count fixed.

    Evenly spaced arrivals would never queue behind each other and flatter the service.
    """
    return sorted(draw.random() * duration_s for _ in range(round(rate * duration_s)))


def shares(weights: Sequence[float], count: int) -> list[int]:
    """`count` split by `weights`, exact in sum (largest remainder)."""
    total = sum(weights)
    exact = [weight / total * count for weight in weights]
    parts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: exact[i] - parts[i], reverse=True)
    for index in by_remainder[: count - sum(parts)]:
        parts[index] += 1
    return parts


def encode(request: dict[str, Any], host: str) -> bytes:
    """A request of the plan as HTTP/1.1 bytes. Raises ValueError where a value could smuggle a second header."""
    body = request.get("body")
    payload = b"" if body is None else str(body).encode()
    headers = {"Host": host, "Accept": "application/json, */*;q=0.1", **request.get("headers", {})}
    if body is not None or request["method"] not in {"GET", "HEAD", "DELETE"}:
        headers["Content-Length"] = str(len(payload))
    lines = [f"{request['method']} {request['target']} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("line break in a request line or header")
    return "\r\n".join([*lines, "", ""]).encode() + payload


def schedule(plan: dict[str, Any], duration_s: float, supply: "Supply", draw: random.Random) -> list[Arrival]:
    """All arrivals of a run, in order, decided before it starts."""
    times = arrival_times(plan["rate"], duration_s, draw)
    slots: list[tuple[str, str]] = []
    kinds = plan["kinds"]
    for kind, count in zip(kinds, shares([k["weight"] for k in kinds], len(times)), strict=True):
        operations = kind["operations"]
        for operation, part in zip(operations, shares([o["weight"] for o in operations], count), strict=True):
            slots += [(kind["kind"], operation["operation"])] * part
    draw.shuffle(slots)
    return [
        Arrival(at_s, kind, operation, supply.take(operation))
        for at_s, (kind, operation) in zip(times, slots, strict=True)
    ]


class Supply:
    """Requests per operation: endless for reads, each only once where the plan says so."""

    def __init__(self, plan: dict[str, Any]) -> None:
        host = f"{plan['host']}:{plan['port']}"
        self._sources: dict[str, Iterator[bytes]] = {}
        for kind in plan["kinds"]:
            for operation in kind["operations"]:
                encoded = [encode(request, host) for request in operation["requests"]]
                self._sources[operation["operation"]] = iter(encoded) if operation.get("once") else cycle(encoded)

    def take(self, operation: str) -> bytes:
        """The next request. Raises ValueError when the plan holds too few."""
        request = next(self._sources[operation], None)
        if request is None:
            raise ValueError(f"the plan holds too few requests for {operation}")
        return request


@dataclass(slots=True)
class Connection:
    """One kept-alive connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def exchange(self, request: bytes, written: Callable[[], None]) -> tuple[int, bool]:
        """Send and read one whole answer; (status, may the connection be used again)."""
        self.writer.write(request)
        await self.writer.drain()
        written()
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        await self._body(status, headers)
        return status, headers.get("connection", "").lower() != "close"

    async def _body(self, status: int, headers: dict[str, str]) -> None:
        if status in {204, 304}:
            return
        if headers.get("transfer-encoding", "").lower() == "chunked":
            await self._chunks()
            return
        length = int(headers.get("content-length", "0"))
        if length > MAX_BODY_BYTES:
            raise ValueError("answer too large")
        await self.reader.readexactly(length)

    async def _chunks(self) -> None:
        total = 0
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            total += size
            if total > MAX_BODY_BYTES:
                raise ValueError("answer too large")
            await self.reader.readexactly(size + 2)
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass

    def close(self) -> None:
        """Give the socket back."""
        self.writer.close()


@dataclass(slots=True)
class Pool:
    """At most `size` connections; idle ones are reused, newest first."""

    host: str
    port: int
    size: int
    idle: list[Connection] = field(default_factory=list)
    free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.free = asyncio.Semaphore(self.size)

    async def send(self, request: bytes, written: Callable[[], None]) -> int:
        """One exchange on a free connection; returns the status. Raises OSError, EOFError, ValueError."""
        async with self.free:
            connection = self._reusable() or await self._open()
            reusable = False
            try:
                status, reusable = await connection.exchange(request, written)
                return status
            finally:
                if reusable:
                    self.idle.append(connection)
                else:
                    connection.close()

    def _reusable(self) -> Connection | None:
        # A server closes what was idle for some seconds; writing there would count as its error.
        while self.idle:
            connection = self.idle.pop()
            if not connection.reader.at_eof():
                return connection
            connection.close()
        return None

    async def _open(self) -> Connection:
        return Connection(*await asyncio.open_connection(self.host, self.port, limit=MAX_HEAD_BYTES))

    def close(self) -> None:
        """Close what is idle."""
        for connection in self.idle:
            connection.close()


async def issue(outcome: Outcome, pool: Pool, started: float, timeout_s: float) -> None:
    """Send one arrival and write down what happened."""
    due = started + outcome.arrival.at_s

    def written() -> None:
        outcome.lag_s = time.perf_counter() - due

    try:
        async with asyncio.timeout(timeout_s):
            outcome.status = await pool.send(outcome.arrival.request, written)
    except TimeoutError:
        outcome.error = "timeout"
    except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as exc:
        outcome.error = type(exc).__name__
    else:
        outcome.latency_s = time.perf_counter() - due


async def run(arrivals: Sequence[Arrival], pool: Pool, timeout_s: float) -> list[Outcome]:
    """Issue each arrival at its moment, never later because an earlier one is unanswered."""
    outcomes = [Outcome(arrival) for arrival in arrivals]
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for outcome in outcomes:
            delay = started + outcome.arrival.at_s - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            group.create_task(issue(outcome, pool, started, timeout_s))
    return outcomes


def milliseconds(value: float | None) -> float | None:
    """Seconds as rounded milliseconds."""
    return None if value is None else round(value * 1000, 2)


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts and percentiles of some outcomes."""
    latencies = [o.latency_s for o in outcomes if o.latency_s is not None]
    return {
        "arrivals": len(outcomes),
        "issued": sum(o.lag_s is not None for o in outcomes),
        "errors": sum(o.is_error for o in outcomes),
        "p50_ms": milliseconds(percentile(latencies, 50)),
        "p95_ms": milliseconds(percentile(latencies, 95)),
        "p99_ms": milliseconds(percentile(latencies, 99)),
        "max_ms": milliseconds(max(latencies, default=None)),
    }


def report(outcomes: Sequence[Outcome], wall_s: float) -> dict[str, Any]:
    """The whole result."""
    faults: dict[str, int] = {}
    for outcome in (o for o in outcomes if o.is_error):
        fault = f"{outcome.arrival.operation}: {outcome.error or outcome.status}"
        faults[fault] = faults.get(fault, 0) + 1
    kinds = dict.fromkeys(o.arrival.kind for o in outcomes)
    operations = dict.fromkeys(o.arrival.operation for o in outcomes)
    lags = [o.lag_s for o in outcomes if o.lag_s is not None]
    return {
        **figures(outcomes),
        "wall_s": round(wall_s, 3),
        "lag_p99_ms": milliseconds(percentile(lags, 99)),
        "kinds": {kind: figures([o for o in outcomes if o.arrival.kind == kind]) for kind in kinds},
        "operations": {name: figures([o for o in outcomes if o.arrival.operation == name]) for name in operations},
        "faults": dict(sorted(faults.items(), key=lambda pair: -pair[1])[:20]),
    }


async def measure(plan: dict[str, Any]) -> dict[str, Any]:
    """Warm up, then run the schedule once."""
    draw = random.Random(plan["seed"])  # noqa: S311 - a schedule that can be repeated, not a secret
    supply = Supply(plan)
    warmup, arrivals = (schedule(plan, plan[key], supply, draw) for key in ("warmup_s", "duration_s"))
    pool = Pool(plan["host"], plan["port"], plan["connections"])
    try:
        warm = await run(warmup, pool, plan["timeout_s"])
        started = time.perf_counter()
        outcomes = await run(arrivals, pool, plan["timeout_s"])
        return {**report(outcomes, time.perf_counter() - started), "warmup": figures(warm)}
    finally:
        pool.close()


def main() -> int:
    """Read the plan, print the report."""
    result = asyncio.run(measure(json.loads(Path(sys.argv[1]).read_bytes())))
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
