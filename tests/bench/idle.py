"""What waiting tasks cost an agent that has nothing to do: CPU, and memory per 1,000 of them."""

import asyncio
import secrets
import time
from collections.abc import Sequence

from agent.testing.waiting import until
from contracts import topics
from tests.bench.figures import Figure, figure
from tests.bench.requests import request
from tests.bench.stage import Child, Stage, usage

DELAY_S = 3600.0


async def run(stage: Stage, quick: bool) -> Sequence[Figure]:
    """Empty; then with a few delayed tasks in the journal, after which all buffers have been used once; then with many."""
    few, many, seconds = (500, 2_000, 2.0) if quick else (1_000, 10_000, 4.0)
    figures: list[Figure] = []
    for kind in ("sqlite", "postgres"):
        await stage.fresh_broker()
        journal, folder = await stage.journal(kind)
        # 100 ms is what production has; the embedded broker's own 10 ms would be the cost that we measure.
        async with Child(stage, "life", journal=journal, folder=folder, fetch_max_wait_ms=100) as agent:
            await agent.ready()
            stage.say(f"{kind}, empty")
            empty_cpu, empty_mb = await _rest(agent.pid, seconds)
            stage.say(f"{kind}, {few} tasks wait, then {many}")
            await _delay(stage, few)
            _, few_mb = await _rest(agent.pid, 0.1)
            await _delay(stage, many - few)
            cpu, megabytes = await _rest(agent.pid, seconds)
            await agent.stop()
        figures += [
            figure(f"idle.{kind}.empty.cpu", "% of a core", empty_cpu),
            figure(f"idle.{kind}.empty.rss", "MB", empty_mb),
            figure(f"idle.{kind}.{many}_waiting.cpu", "% of a core", cpu),
            figure(f"idle.{kind}.{many}_waiting.rss", "MB", megabytes),
            figure(f"idle.{kind}.cpu_per_1000_waiting", "% of a core", max(0.0, cpu - empty_cpu) / many * 1000),
            # From few to many: the first burst also grows buffers that are there for good.
            figure(f"idle.{kind}.memory_per_1000_waiting", "MB", (megabytes - few_mb) / (many - few) * 1000),
        ]
    return figures


async def _delay(stage: Stage, number: int) -> None:
    """Publish requests that may not start for an hour, and wait until all are accepted and told."""
    run = secrets.token_hex(4)
    expected = await stage.ends(topics.STATUS.name) + number
    await stage.publish([request(f"{run}-{index}", run_after_s=DELAY_S) for index in range(number)])

    async def accepted() -> bool:
        return await stage.ends(topics.STATUS.name) >= expected

    await until(accepted, "the acceptance of all", every_s=0.2)


async def _rest(pid: int, seconds: float) -> tuple[float, float]:
    """(CPU in per cent of one core, resident MB) over a while of rest, after a second to settle."""
    await asyncio.sleep(1.0)
    before, began = usage(pid)[0], time.perf_counter()
    await asyncio.sleep(seconds)
    after, megabytes = usage(pid)
    return (after - before) / (time.perf_counter() - began) * 100, megabytes
