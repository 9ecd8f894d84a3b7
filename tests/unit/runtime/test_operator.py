"""Commands of operators, from the bus to what is told of them: replay, discard, priority."""

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent.bus.port import Outgoing
from agent.cli.outgoing import command_record
from agent.errors import PermanentError
from agent.journal.port import State
from agent.pipeline.port import Ledger
from agent.testing.harness import Harness, request
from contracts import topics
from contracts.base import Payload
from contracts.control import DeadLetterDiscard, DeadLetterReplay, TaskReprioritise
from contracts.envelope import DEAD_LETTER_DISCARD, DEAD_LETTER_REPLAY, TASK_REPRIORITISE, MessageType


def command(harness: Harness, message_type: MessageType, payload: Payload, about: str) -> Outgoing:
    """As `backwright` publishes it."""
    return command_record(message_type, payload, about=about, clock=harness.clock)[1]


def replay(harness: Harness, letter_id: str) -> Outgoing:
    payload = DeadLetterReplay(dead_letter_id=letter_id, reason="mended")
    return command(harness, DEAD_LETTER_REPLAY, payload, letter_id)


def told(harness: Harness, name: str) -> list[Any]:
    """Values of the events of one type on the status topic."""
    return [orjson.loads(message.data) for message in harness.messages() if message.message_type.name == name]


def fail_times(harness: Harness, number: int) -> None:
    """The next `number` attempts fail for good in the step `make`."""
    left = [number]

    async def act(ledger: Ledger) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise PermanentError("not mended yet")

    harness.scripted.before["make"] = act


async def dead_lettered(harness: Harness, sent: Any) -> str:
    """Deliver a request that fails; returns the id of its dead letter."""
    await harness.deliver(sent)
    await harness.until_state(sent.task_id, State.FAILED)
    return str(harness.dead_letters()[-1]["dead_letter_id"])


async def test_a_replayed_task_runs_again_and_completes_under_its_old_id(harness: Harness) -> None:
    """Fail, dead letter, mend, replay: the sender sees one task whose statuses go on without a gap."""
    fail_times(harness, 1)
    sent = request("ok-orders")
    letter_id = await dead_lettered(harness, sent)

    await harness.deliver(replay(harness, letter_id))
    view = await harness.until_state(sent.task_id, State.COMPLETED)

    statuses = harness.statuses(sent.task_id)
    assert statuses[statuses.index("failed") + 1] == "queued"
    assert statuses[-1] == "completed"
    assert [number for number in harness.sequences(sent.task_id) if number] == list(range(1, view.sequence + 1))
    assert len(harness.messages(topics.DELIVERIES)) == 1
    [acted] = told(harness, "operator.acted")
    assert (acted["outcome"], acted["task_id"], acted["dead_letter_id"]) == ("replayed", sent.task_id, letter_id)
    assert acted["reason"] == "mended"
    assert acted["who"].startswith("/backwright/cli/")
    assert await harness.journal.dead_letters() == []


async def test_a_replay_starts_at_the_first_step(harness: Harness) -> None:
    """What was checkpointed before the failure may be what was wrong."""
    fail_times(harness, 1)
    sent = request("ok-orders")
    letter_id = await dead_lettered(harness, sent)

    await harness.deliver(replay(harness, letter_id))
    await harness.until_state(sent.task_id, State.COMPLETED)

    assert [step for _, _, step in harness.scripted.effects] == ["read", "read", "make", "check", "deliver"]


async def test_a_replay_waits_until_the_folder_of_the_failed_attempt_is_gone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that failed may claim the replay while it still cleans up; a slow disk stands for a large folder."""
    gone, remove = threading.Event(), shutil.rmtree

    def slowly(path: Path, **options: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            gone.wait(10)
        remove(path, **options)

    async def make(ledger: Ledger) -> None:
        (ledger.folder / "made").touch()
        if ledger.claim.epoch == 0:
            raise PermanentError("not mended yet")

    async def check(ledger: Ledger) -> None:
        if not (ledger.folder / "made").exists():
            raise PermanentError("somebody removed it")

    monkeypatch.setattr(shutil, "rmtree", slowly)
    harness.scripted.before |= {"make": make, "check": check}
    sent = request("ok-orders")
    letter_id = await dead_lettered(harness, sent)

    await harness.deliver(replay(harness, letter_id))
    await harness.until_state(sent.task_id, State.RUNNING)
    assert harness.supervisor.worker.running == 2
    assert len(harness.scripted.effects) == 1, "it has not begun"
    gone.set()

    await harness.until_state(sent.task_id, State.COMPLETED)
    await harness.until(lambda: harness.supervisor.worker.running == 0)


async def test_the_request_sent_again_after_a_replay_makes_nothing_new(harness: Harness) -> None:
    """The idempotency key is that of the first request, for ever."""
    fail_times(harness, 1)
    sent = request("ok-orders")
    letter_id = await dead_lettered(harness, sent)
    await harness.deliver(replay(harness, letter_id))
    await harness.until_state(sent.task_id, State.COMPLETED)
    before = harness.status_events(sent.task_id)

    await harness.deliver(sent)
    later = await harness.deliver(request("ok-other"))
    await harness.until_state(later, State.COMPLETED)

    assert harness.status_events(sent.task_id) == before
    assert len(await harness.tasks()) == 2


async def test_a_replay_that_fails_makes_a_second_dead_letter(harness: Harness) -> None:
    """Each epoch has its own; the first stays closed."""
    fail_times(harness, 2)
    sent = request("ok-orders")
    first = await dead_lettered(harness, sent)

    await harness.deliver(replay(harness, first))
    await harness.until(lambda: len(harness.dead_letters()) == 2)
    await harness.until_state(sent.task_id, State.FAILED)
    await harness.deliver(replay(harness, first))
    await harness.until(lambda: told(harness, "command.refused"))

    second = harness.dead_letters()[-1]["dead_letter_id"]
    assert second != first
    assert [letter.data["dead_letter_id"] for letter in await harness.journal.dead_letters()] == [second]
    assert told(harness, "command.refused")[0]["state"] == "closed"
    await harness.deliver(replay(harness, second))
    await harness.until_state(sent.task_id, State.COMPLETED)


async def test_one_replay_delivered_often_and_another_beside_it_run_the_task_once(harness: Harness) -> None:
    """Kafka repeats, and two people press the same button."""
    fail_times(harness, 1)
    sent = request("ok-orders")
    letter_id = await dead_lettered(harness, sent)

    await harness.deliver(replay(harness, letter_id), times=3)
    await harness.deliver(replay(harness, letter_id))
    await harness.until_state(sent.task_id, State.COMPLETED)
    await harness.until(lambda: told(harness, "command.refused"))

    assert len(told(harness, "operator.acted")) == 1
    assert len(told(harness, "command.refused")) == 1
    assert harness.statuses(sent.task_id).count("completed") == 1


async def test_a_discarded_letter_is_told_and_can_no_longer_be_replayed(harness: Harness) -> None:
    """The task stays failed."""
    fail_times(harness, 1)
    sent = request("ok-orders")
    letter_id = await dead_lettered(harness, sent)
    discard = DeadLetterDiscard(dead_letter_id=letter_id, reason="no longer wanted")

    await harness.deliver(command(harness, DEAD_LETTER_DISCARD, discard, letter_id))
    await harness.until(lambda: told(harness, "operator.acted"))
    await harness.deliver(replay(harness, letter_id))
    await harness.until(lambda: told(harness, "command.refused"))

    assert told(harness, "operator.acted")[0]["outcome"] == "discarded"
    await harness.until_state(sent.task_id, State.FAILED)
    assert await harness.journal.dead_letters() == []


async def test_a_record_that_made_no_task_is_not_replayed_and_the_refusal_says_what_to_do(harness: Harness) -> None:
    """There is no task to try again; the letter stays open for whoever mends the record."""
    harness.bus.append_raw(topics.TASKS.name, b"k", b"not json", {"content-type": b"application/json"})
    await harness.until(harness.dead_letters)
    letter_id = harness.dead_letters()[0]["dead_letter_id"]

    await harness.deliver(replay(harness, letter_id))
    await harness.until(lambda: told(harness, "command.refused"))

    [refusal] = told(harness, "command.refused")
    assert "publish it again" in refusal["reason"]
    assert told(harness, "operator.acted") == []
    assert len(await harness.journal.dead_letters()) == 1


async def test_a_task_is_moved_ahead_of_those_that_wait(tmp_path: Path) -> None:
    """The one worker is busy; the last to come is the next to start."""
    async with Harness(tmp_path / "attempts", concurrency=1) as harness:
        release = asyncio.Event()

        async def hold(ledger: Ledger) -> None:
            await release.wait()

        harness.scripted.before["read"] = hold
        first = await harness.deliver(request("ok-first"))
        await harness.until_state(first, State.RUNNING)
        waiting = [await harness.deliver(request(f"ok-{name}")) for name in ("second", "third")]
        for about in waiting:
            await harness.until_state(about, State.AVAILABLE)
        payload = TaskReprioritise(task_id=waiting[1], priority=9)

        await harness.deliver(command(harness, TASK_REPRIORITISE, payload, waiting[1]))
        await harness.until(lambda: told(harness, "operator.acted"))
        release.set()
        for about in (first, *waiting):
            await harness.until_state(about, State.COMPLETED)

        order = list(dict.fromkeys(task_id for task_id, _, _ in harness.scripted.effects))
        assert order == [first, waiting[1], waiting[0]]
        assert told(harness, "operator.acted")[0]["detail"] == "priority 5 to 9"


async def test_a_priority_for_a_task_that_has_ended_is_refused(harness: Harness) -> None:
    """Told, not swallowed."""
    about = await harness.deliver(request("ok"))
    await harness.until_state(about, State.COMPLETED)

    payload = TaskReprioritise(task_id=about, priority=9)
    await harness.deliver(command(harness, TASK_REPRIORITISE, payload, about))
    await harness.until(lambda: told(harness, "command.refused"))

    [refusal] = told(harness, "command.refused")
    assert (refusal["command"], refusal["state"]) == ("task.reprioritise", "completed")
    assert told(harness, "operator.acted") == []
