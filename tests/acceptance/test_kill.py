"""`kill -9` and other ends of a real process, with the scripted work, on SQLite and the embedded broker."""

import asyncio
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from agent.bus.embedded import EmbeddedBroker
from agent.testing.harness import cancel, request
from agent.testing.process import AgentProcess
from agent.testing.watcher import Watcher
from agent.testing.work import STEPS

pytestmark = pytest.mark.acceptance
Agents = Callable[..., AgentProcess]


def check_history(watcher: Watcher, agent: AgentProcess, abouts: list[str], *, in_flight: int) -> None:
    """Every task ended once, its sequence is gapless and in order, and no step ran more often than it may."""
    for about in abouts:
        assert watcher.ending(about) == "completed"
        assert watcher.sequences(about) == list(range(1, len(watcher.sequences(about)) + 1))
        assert len(watcher.deliveries(about)) == 1
    for (about, step), times in Counter((about, step) for about, _, step in agent.done()).items():
        assert times <= 1 + in_flight, f"{step} of {about} ran {times} times"


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_in_any_step_loses_nothing(agents: Agents, watcher: Watcher, step: str) -> None:
    """After a restart the task is finished, from the step in flight on."""
    agent = agents(SCRIPT_STEP_S="0.5")
    await agent.start()
    about = await watcher.send(request("slow"))
    before = STEPS.index(step)
    await watcher.until(lambda: len(agent.done()) == before and len(watcher.statuses(about)) >= 2 + 2 * before)
    await agent.kill()
    await agent.start(SCRIPT_STEP_S="0")

    assert await watcher.ended(about) == "completed"

    check_history(watcher, agent, [about], in_flight=1)
    assert [name for _, _, name in agent.done()][-1] == STEPS[-1]


def has_done(agent: AgentProcess, steps: int) -> bool:
    """Whether so many steps lie behind it."""
    return len(agent.done()) >= steps


async def test_many_kills_lose_nothing(agents: Agents, watcher: Watcher) -> None:
    """Again and again, with several tasks at once: crashes are counted, steps go on."""
    agent = agents(
        SCRIPT_STEP_S="0.15", BACKWRIGHT_WORKER__CONCURRENCY="4", BACKWRIGHT_WORKER__MAX_CRASHES="50",
    )  # fmt: skip
    await agent.start()
    abouts = [await watcher.send(request(f"slow-{number}")) for number in range(12)]
    for _ in range(6):
        enough = min(len(agent.done()) + 3, 48)
        await watcher.until(partial(has_done, agent, enough))
        await agent.kill()
        await agent.start()

    for about in abouts:
        assert await watcher.ended(about) == "completed"

    check_history(watcher, agent, abouts, in_flight=6)


async def test_a_task_that_kills_the_process_becomes_a_dead_letter(agents: Agents, watcher: Watcher) -> None:
    """It raises nothing; only its crashes tell."""
    agent = agents()
    about = await watcher.send(request("poison"))
    for _ in range(3):
        await agent.start()
        assert await agent.wait() == -signal.SIGKILL
    await agent.start()

    assert await watcher.ended(about) == "failed"

    [letter] = watcher.dead_letters()
    assert letter["reason"]["kind"] == "poison"
    assert watcher.sequences(about) == list(range(1, len(watcher.sequences(about)) + 1))


async def test_children_die_with_the_process(agents: Agents, watcher: Watcher) -> None:
    """Nothing of a dead attempt lives on."""
    agent = agents(SCRIPT_STEP_S="321.25")
    await agent.start()
    await watcher.send(request("child"))
    await watcher.until(lambda: len(_sleepers("321.25")) == 1)
    await agent.kill()

    await watcher.until(lambda: not _sleepers("321.25"), limit_s=5)


async def test_children_die_when_the_process_is_stopped_past_its_lease(agents: Agents, watcher: Watcher) -> None:
    """SIGSTOP: it cannot kill them itself; the leash runs out. On waking up it finds that nothing of it counts."""
    agent = agents(
        SCRIPT_STEP_S="321.5", BACKWRIGHT_WORKER__LEASE_S="3", BACKWRIGHT_WORKER__SELF_STOP_S="2", BACKWRIGHT_WORKER__RENEW_S="0.5",
    )  # fmt: skip
    await agent.start()
    await watcher.send(request("child"))
    await watcher.until(lambda: len(_sleepers("321.5")) == 1)
    agent.signal(signal.SIGSTOP)

    await watcher.until(lambda: not _sleepers("321.5"), limit_s=6)

    agent.signal(signal.SIGCONT)
    await watcher.until(lambda: any(event["event"] == "attempt.fenced" for event in agent.events()), limit_s=10)


async def test_renewal_survives_a_blocked_event_loop(agents: Agents, watcher: Watcher) -> None:
    """A step that computes without yielding, longer than the lease, keeps its task."""
    agent = agents(
        SCRIPT_STEP_S="4", BACKWRIGHT_WORKER__LEASE_S="2", BACKWRIGHT_WORKER__SELF_STOP_S="1.5", BACKWRIGHT_WORKER__RENEW_S="0.4",
    )  # fmt: skip
    await agent.start()
    about = await watcher.send(request("deaf"))

    assert await watcher.ended(about) == "completed"

    assert {fence for _, fence, _ in agent.done()} == {1}


async def test_sigterm_finishes_what_it_can_and_ends_well(agents: Agents, watcher: Watcher) -> None:
    """A rolling deploy: exit code 0, the task completed, nothing unsent."""
    agent = agents(SCRIPT_STEP_S="0.3")
    await agent.start()
    about = await watcher.send(request("slow"))
    await watcher.until(lambda: len(agent.done()) == 1)

    assert await agent.kill(signal.SIGTERM) == 0

    assert watcher.ending(about) == "completed" or await watcher.ended(about, limit_s=3) == "completed"


async def test_sigterm_hands_back_what_cannot_finish(agents: Agents, watcher: Watcher) -> None:
    """An interrupted attempt is no failure: the next process goes on with attempt 1."""
    agent = agents(SCRIPT_STEP_S="30", BACKWRIGHT_WORKER__DRAIN_S="0.5")
    await agent.start()
    about = await watcher.send(request("slow"))
    await watcher.until(lambda: len(watcher.statuses(about)) == 2)
    assert await agent.kill(signal.SIGTERM) == 0
    await agent.start(SCRIPT_STEP_S="0")

    assert await watcher.ended(about) == "completed"

    assert watcher.statuses(about)[-1]["attempt"] == 1
    assert {event["error"]["kind"] for event in watcher.statuses(about) if "error" in event} == {"interrupted"}


async def test_a_running_task_is_cancelled_within_a_second(agents: Agents, watcher: Watcher) -> None:
    """From the record on the bus to the terminal status on the bus."""
    agent = agents()
    await agent.start()
    about = await watcher.send(request("hang"))
    await watcher.until(lambda: len(agent.done()) == 1)
    started = asyncio.get_running_loop().time()
    await watcher.send(cancel(about))

    assert await watcher.ended(about) == "cancelled"

    assert asyncio.get_running_loop().time() - started < 1.5


async def test_an_outage_of_the_broker_loses_nothing(agents: Agents, broker: EmbeddedBroker, watcher: Watcher) -> None:
    """Work goes on, events wait in the outbox, and new requests come in afterwards without a restart."""
    agent = agents(SCRIPT_STEP_S="0.1", BACKWRIGHT_KAFKA__REQUEST_TIMEOUT_MS="1000")
    await agent.start()
    first = await watcher.send(request("slow-a"))
    await watcher.until(lambda: len(agent.done()) >= 1)
    await broker.tell("down")
    await watcher.until(lambda: len(agent.done()) == len(STEPS))
    await watcher.until(lambda: any(event["event"] == "outbox.stalled" for event in agent.events()))
    await broker.tell("up")

    assert await watcher.ended(first, limit_s=60) == "completed"

    second = await watcher.send(request("ok"))
    assert await watcher.ended(second, limit_s=60) == "completed"
    check_history(watcher, agent, [first, second], in_flight=0)
    assert agent.exit_code is None


async def test_an_outage_of_the_journal_loses_nothing(agents: Agents, watcher: Watcher) -> None:
    """Somebody holds the database: requests are kept and stored when it answers again."""
    agent = agents(BACKWRIGHT_JOURNAL__STATEMENT_TIMEOUT_S="0.2")
    await agent.start()
    await agent.wait_ready()
    with closing(sqlite3.connect(agent.workspace / "journal.sqlite", isolation_level=None)) as vandal:
        vandal.execute("BEGIN IMMEDIATE")
        abouts = [await watcher.send(request(f"ok-{number}")) for number in range(5)]
        await watcher.until(lambda: any(event["event"] == "intake.stalled" for event in agent.events()))
        vandal.execute("ROLLBACK")

    for about in abouts:
        assert await watcher.ended(about) == "completed"

    check_history(watcher, agent, abouts, in_flight=0)


async def test_readiness_is_honest_and_duplicates_change_nothing(agents: Agents, watcher: Watcher) -> None:
    """A probe that says yes means that work is taken."""
    agent = agents()
    await agent.start()
    await agent.wait_ready()
    sent = request("ok")
    await watcher.send(sent, times=3)

    assert await watcher.ended(sent.task_id) == "completed"

    assert (await agent.health("live"))[0] == 200
    assert len(watcher.deliveries(sent.task_id)) == 1


def _sleepers(seconds: str) -> list[int]:
    """Processes that run `sleep SECONDS`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", seconds.encode()] and path.parent.name != str(os.getpid()):
            found.append(int(path.parent.name))
    return found
