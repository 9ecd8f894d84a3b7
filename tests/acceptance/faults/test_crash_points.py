"""One test per named crash point: the real process dies there (SIGKILL), is started again, and nothing is amiss."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.runtime.crashpoints import POINTS
from agent.testing.harness import request
from agent.testing.process import AgentProcess
from agent.testing.watcher import Watcher
from agent.testing.work import STEPS
from tests.chaos.checkers import CHECKERS, check
from tests.chaos.history import History, read_effects, read_sqlite, read_topics

pytestmark = pytest.mark.acceptance

# How often the point is passed before the process dies there: the first time is not always the interesting one.
HITS = {
    "inbox.polled": (1,),
    "inbox.accepted": (1,),
    "inbox.committed": (1,),
    "worker.claimed": (1, 2),
    "worker.step_done": (1, 3, 4),
    "worker.checkpointed": (1, 4),
    "worker.work_done": (1,),
    "worker.finished": (1,),
    "worker.draining": (1,),
    "outbox.taken": (1, 4),
    "outbox.published": (1, 2, 5),
    "outbox.marked": (1, 3),
}
CASES = [(point, hits) for point, all_hits in HITS.items() for hits in all_hits]


def test_every_point_has_a_test() -> None:
    """A place that is worth a name is worth a kill."""
    assert set(HITS) == set(POINTS)


def test_every_point_stands_in_the_code_once() -> None:
    """A name that nothing calls tests nothing."""
    root = Path(__file__).parents[3] / "agent"
    called = [
        name for path in root.rglob("*.py") for name in re.findall(r'crash_point\("([a-z._]+)"[,)]', path.read_text())
    ]

    assert sorted(called) == sorted(POINTS)


@pytest.mark.parametrize(("point", "hits"), CASES)
async def test_a_crash_at_a_named_point_loses_nothing(
    agents: Callable[..., AgentProcess], watcher: Watcher, servers: str, point: str, hits: int
) -> None:
    """Two tasks on their way; the process dies, comes back, and finishes both."""
    agent = agents(SCRIPT_STEP_S="0.05")
    sent = [request("slow-a"), request("slow-b")]
    for given in sent:
        await watcher.send(given, times=2)
    await agent.start(BACKWRIGHT_CRASH_POINT=f"{point}:{hits}")
    if point == "worker.draining":
        await watcher.until(lambda: len(agent.done()) >= 1)
        agent.signal(signal.SIGTERM)
    assert await agent.wait(30) == -signal.SIGKILL
    await agent.start()
    for given in sent:
        assert await watcher.ended(given.task_id) == "completed"
    await agent.wait_started()
    assert await agent.kill(signal.SIGTERM) == 0

    history = History(
        records=await read_topics(servers), effects=read_effects(agent.effects), steps=STEPS,
        **read_sqlite(agent.workspace / "journal.sqlite"),
    )  # fmt: skip
    assert check(history) == {name: [] for name in CHECKERS}
    assert watcher.dead_letters() == []
