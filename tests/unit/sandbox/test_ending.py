"""Nothing of a child lives on, whatever ends it."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from agent.sandbox.local import LocalSandbox
from agent.sandbox.port import Command, Leash, Limits
from agent.testing.waiting import eventually
from tests.unit.sandbox.processes import Victim, alive, shared_memory_of
from tests.unit.sandbox.victim import TREE

HERE = Path("/")


def write_deadline(path: Path, seconds_from_now: float) -> Leash:
    """Renew a leash as the worker does: a whole file, renamed into place."""
    fresh = path.with_suffix(".new")
    fresh.write_text(str(time.clock_gettime(time.CLOCK_BOOTTIME) + seconds_from_now))
    fresh.replace(path)
    return Leash(path)


def tree(token: str, **limits: float) -> Command:
    """Four sleeping processes in three sessions."""
    return Command(["sh", "-c", TREE.format(token=token)], cwd=HERE, limits=Limits(**limits))  # type: ignore[arg-type]  # all of them are numbers


def test_kill_9_of_the_agent_ends_all_descendants(token: str) -> None:
    """The pipe closes with the agent, and a session of its own does not help a grandchild."""
    with Victim("tree", token) as victim:
        assert victim.said.startswith("running")
        eventually(lambda: len([pid for pid in alive(token) if pid != victim.process.pid]) >= 4)

        victim.signal(signal.SIGKILL)
        victim.process.wait()

        eventually(lambda: not alive(token), limit_s=5)
        eventually(lambda: not Path(victim.said.split()[1]).exists(), limit_s=5)


def test_kill_9_of_the_agent_ends_postgresql_and_removes_its_data(token: str) -> None:
    """PostgreSQL's backends are sessions of their own, and its shared memory outlives a careless end."""
    with Victim("postgres", token) as victim:
        base = victim.said.removeprefix("running ")
        servers = alive(base)
        assert shared_memory_of(servers) != []

        victim.signal(signal.SIGKILL)
        victim.process.wait()

        eventually(lambda: not alive(base), limit_s=5)
        eventually(lambda: not Path(base).exists(), limit_s=5)
        assert shared_memory_of(servers) == []


def test_stopped_agent_loses_its_children_when_the_leash_passes(token: str, tmp_path: Path) -> None:
    """A SIGSTOPped worker renews nothing; another one may claim its task, on clean ground."""
    leash = write_deadline(tmp_path / "leash", 2)
    with Victim("tree", token, str(leash.path)) as victim:
        assert victim.said.startswith("running")

        victim.signal(signal.SIGSTOP)

        eventually(lambda: alive(token) == [victim.process.pid], limit_s=6)
        victim.signal(signal.SIGCONT)
        assert victim.process.stdout is not None
        assert victim.process.stdout.readline().strip() == "ended"


async def test_leash_that_is_renewed_holds_and_one_that_passes_kills(
    sandbox: LocalSandbox, token: str, tmp_path: Path
) -> None:
    """The deadline moves with each renewal."""
    leash = write_deadline(tmp_path / "leash", 3600)
    child = await sandbox.start(tree(token), leash=leash)
    eventually(lambda: len(alive(token)) >= 4)
    assert child.exit_code() is None

    write_deadline(tmp_path / "leash", -1)

    assert await asyncio.wait_for(child.wait(), 5) == -signal.SIGKILL
    assert alive(token) == []


async def test_leash_that_cannot_be_read_leaves_the_last_deadline_standing(
    sandbox: LocalSandbox, token: str, tmp_path: Path
) -> None:
    """A removed attempt folder must not prolong a child's life, and a torn write must not end it."""
    leash = write_deadline(tmp_path / "leash", 1)
    child = await sandbox.start(tree(token), leash=leash)
    (tmp_path / "leash").write_text("")

    assert await asyncio.wait_for(child.wait(), 6) == -signal.SIGKILL
    assert alive(token) == []


async def test_leash_without_a_file_kills_at_once(sandbox: LocalSandbox, token: str, tmp_path: Path) -> None:
    """A child that is tied to nothing would live for ever."""
    child = await sandbox.start(tree(token), leash=Leash(tmp_path / "absent"))

    assert await asyncio.wait_for(child.wait(), 5) == -signal.SIGKILL


async def test_time_limit_ends_all_descendants(sandbox: LocalSandbox, token: str) -> None:
    """A hanging test of a delivered service costs its limit, not the task."""
    done = await sandbox.run(tree(token, time_s=0.3), leash=Leash())

    assert done.timed_out
    assert done.exit_code == -signal.SIGKILL
    assert done.duration_s < 5
    assert alive(token) == []


async def test_cancelled_run_returns_on_clean_ground(sandbox: LocalSandbox, token: str) -> None:
    """A cancelled task is reported when its processes are gone, not before."""
    run = asyncio.create_task(sandbox.run(tree(token), leash=Leash()))
    await asyncio.to_thread(eventually, lambda: len(alive(token)) >= 4)

    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert alive(token) == []


@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.01, 0.02, 0.03, 0.05])
async def test_start_that_is_cancelled_at_any_moment_leaves_nothing(
    sandbox: LocalSandbox, token: str, after_s: float
) -> None:
    """There is no window between fork and bookkeeping."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sandbox.run(tree(token), leash=Leash()), after_s)

    assert alive(token) == []
    assert [path for path in sandbox.base.iterdir() if path.name.startswith("home")] == []


async def test_daemons_left_by_a_child_that_ended_are_killed(sandbox: LocalSandbox, token: str) -> None:
    """A build tool's server must not stay behind."""
    done = await sandbox.run(Command(["sh", "-c", f"(setsid sleep 1{token} &); echo done"], cwd=HERE), leash=Leash())

    assert (done.exit_code, done.output) == (0, "done\n")
    assert alive(token) == []


async def test_fork_bomb_ends_with_its_time(sandbox: LocalSandbox, token: str) -> None:
    """Processes that multiply faster than they are killed are stopped first."""
    bomb = f"import os  # {token}\nwhile True:\n try: os.fork()\n except OSError: pass"
    command = Command([str(sandbox.interpreter()), "-c", bomb], cwd=HERE, limits=Limits(time_s=0.5, processes=60))

    done = await asyncio.wait_for(sandbox.run(command, leash=Leash()), 20)

    assert done.timed_out
    assert alive(token) == []


async def test_stop_asks_first_and_kills_after_the_grace(sandbox: LocalSandbox, token: str) -> None:
    """A server drains on SIGTERM; one that does not listen is killed."""
    polite = await sandbox.start(
        Command(["sh", "-c", "trap 'echo drained; exit 7' TERM; echo up; while :; do sleep 0.05; done"], cwd=HERE),
        leash=Leash(),
    )
    deaf = await sandbox.start(Command(["sh", "-c", f"trap '' TERM; echo up; sleep 1{token}"], cwd=HERE), leash=Leash())
    await asyncio.to_thread(eventually, lambda: len(alive(token)) >= 1)
    await asyncio.to_thread(eventually, lambda: "up" in polite.output() and "up" in deaf.output())

    assert await polite.stop(grace_s=5) == 7
    assert "drained" in polite.output()
    assert await deaf.stop(grace_s=0.2) == -signal.SIGKILL
    assert await deaf.stop() == -signal.SIGKILL
    assert alive(token) == []


async def test_guardian_that_gets_sigterm_stops_its_child(sandbox: LocalSandbox, token: str) -> None:
    """Whoever shuts the machine down signals everybody."""
    child = await sandbox.start(tree(token), leash=Leash())

    os.kill(child._process.pid, signal.SIGTERM)

    assert await asyncio.wait_for(child.wait(), 5) == -signal.SIGTERM
    assert alive(token) == []


async def test_killed_guardian_takes_its_child_along(sandbox: LocalSandbox, token: str) -> None:
    """The last line: the kernel kills the child with its parent, and the agent hears of it."""
    child = await sandbox.start(Command(["sleep", f"1{token}"], cwd=HERE), leash=Leash())

    os.kill(child._process.pid, signal.SIGKILL)

    assert await asyncio.wait_for(child.wait(), 5) == -signal.SIGKILL
    eventually(lambda: not alive(token))
