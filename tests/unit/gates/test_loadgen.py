"""The load generator: what it schedules, how it counts, and that a slow server cannot hide."""

import asyncio
import itertools
import random
from typing import Any

import pytest

from agent.gates.loadgen import (
    Arrival,
    Outcome,
    Supply,
    arrival_times,
    encode,
    figures,
    measure,
    percentile,
    report,
    schedule,
    shares,
)

PLAN: dict[str, Any] = {
    "host": "127.0.0.1", "port": 1, "rate": 50, "duration_s": 10, "warmup_s": 0, "connections": 4, "timeout_s": 2, "seed": 1,
    "kinds": [
        {"kind": "get", "weight": 50, "operations": [{"operation": "getPet", "weight": 1, "requests": [{"method": "GET", "target": "/pets/1"}]}]},
        {"kind": "list", "weight": 40, "operations": [
            {"operation": "listPets", "weight": 3, "requests": [{"method": "GET", "target": "/pets"}]},
            {"operation": "listToys", "weight": 1, "requests": [{"method": "GET", "target": "/toys"}]},
        ]},
        {"kind": "create", "weight": 10, "operations": [{
            "operation": "addPet", "weight": 1, "once": True,
            "requests": [{"method": "POST", "target": "/pets", "body": f'{{"n": {n}}}'} for n in range(50)],
        }]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 95, None),
        ([7.0], 95, 7.0),
        (list(range(1, 101)), 95, 95),
        (list(range(1, 101)), 100, 100),
        ([3, 1, 2], 50, 2),
    ],
)
def test_percentile_is_nearest_rank(values: list[float], percent: float, expected: float | None) -> None:
    """No interpolation: the figure is a latency that some request really had."""
    assert percentile(values, percent) == expected


def test_arrivals_are_exact_in_number_and_irregular_in_time() -> None:
    """The count is what the evidence says; even spacing would never queue."""
    times = arrival_times(50, 10, random.Random(1))

    assert len(times) == 500
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < 10
    assert len({round(b - a, 4) for a, b in itertools.pairwise(times)}) > 100


@pytest.mark.parametrize(
    ("weights", "count"), [([50, 40, 10], 500), ([1, 1, 1], 100), ([0.5, 0.25, 0.25], 7), ([1], 3)]
)
def test_shares_add_up(weights: list[float], count: int) -> None:
    """No arrival is lost in rounding."""
    assert sum(shares(weights, count)) == count


def test_schedule_keeps_the_mix_and_is_fixed_by_the_seed() -> None:
    """Everything is decided before the first request, and can be repeated."""
    arrivals = [schedule(PLAN, 10, Supply(PLAN), random.Random(1)) for _ in range(2)]
    kinds = [a.kind for a in arrivals[0]]

    assert arrivals[0] == arrivals[1]
    assert {kind: kinds.count(kind) for kind in ("get", "list", "create")} == {"get": 250, "list": 200, "create": 50}
    assert sum(a.operation == "listPets" for a in arrivals[0]) == 150


def test_creates_are_never_repeated() -> None:
    """The same body twice would be a conflict that the service is right to report."""
    creates = [a.request for a in schedule(PLAN, 10, Supply(PLAN), random.Random(1)) if a.kind == "create"]

    assert len(set(creates)) == len(creates) == 50


def test_a_plan_with_too_few_creates_is_refused() -> None:
    """Better no figure than one that measured conflicts."""
    with pytest.raises(ValueError, match="too few requests for addPet"):
        schedule({**PLAN, "rate": 100}, 10, Supply(PLAN), random.Random(1))


@pytest.mark.parametrize("field", ["target", "header"])
def test_a_line_break_cannot_become_a_second_header(field: str) -> None:
    """Paths and headers come from the document and its samples."""
    request = {"method": "GET", "target": "/a", "headers": {"X": "y"}}
    request |= {"target": "/a HTTP/1.1\r\nEvil: 1"} if field == "target" else {"headers": {"X": "y\r\nEvil: 1"}}

    with pytest.raises(ValueError, match="line break"):
        encode(request, "127.0.0.1:1")


def test_figures_count_what_was_not_issued_and_what_failed() -> None:
    """An arrival without answer is an error; without a written byte it is not issued either."""
    arrival = Arrival(0, "get", "getPet", b"")
    outcomes = [
        Outcome(arrival, lag_s=0.001, latency_s=0.010, status=200),
        Outcome(arrival, lag_s=0.001, latency_s=0.020, status=500),
        Outcome(arrival, error="timeout"),
    ]

    found = figures(outcomes)

    assert (found["arrivals"], found["issued"], found["errors"]) == (3, 2, 2)
    assert found["max_ms"] == 20
    assert report(outcomes, 1.0)["faults"] == {"getPet: 500": 1, "getPet: timeout": 1}


async def serve(stall_s: float, answer: bytes) -> asyncio.Server:
    """A server that stalls before its fifth answer."""
    seen = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                seen += 1
                if seen == 5:
                    await asyncio.sleep(stall_s)  # the stall that is measured
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


def one_route(port: int, **more: Any) -> dict[str, Any]:
    """A plan with one get."""
    kinds = [PLAN["kinds"][0]]
    return {**PLAN, "kinds": kinds, "port": port, "rate": 100, "duration_s": 0.5, **more}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
async def test_answers_of_every_framing_are_read_whole(answer: bytes) -> None:
    """A connection is only reused after the whole answer was taken."""
    async with await serve(0, answer) as server:
        found = await measure(one_route(server.sockets[0].getsockname()[1]))

    assert (found["issued"], found["errors"]) == (50, 0)


async def test_a_stall_shows_in_the_latency_of_those_who_waited() -> None:
    """Coordinated omission: with one connection, all that were scheduled during the stall waited for it."""
    async with await serve(0.3, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as server:
        found = await measure(one_route(server.sockets[0].getsockname()[1], connections=1))

    assert found["issued"] == 50
    # About thirty arrivals fall into the stall; counted from the moment of sending, only one would be slow.
    assert found["p95_ms"] > 150
    assert found["max_ms"] >= 300


async def test_a_dead_server_is_errors_not_silence() -> None:
    """Nobody listens: every arrival fails, none is issued, and the report says so."""
    async with await serve(0, b"") as server:
        port = server.sockets[0].getsockname()[1]
    found = await measure(one_route(port))

    assert (found["arrivals"], found["issued"], found["errors"], found["p95_ms"]) == (50, 0, 50, None)
