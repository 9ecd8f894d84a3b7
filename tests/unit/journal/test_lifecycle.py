"""The table of transitions and the pure functions that follow it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.journal import lifecycle
from agent.journal.lifecycle import TRANSITIONS, Cause, Decision, NotAllowed, TaskRow
from agent.journal.port import TERMINAL, CancelRequested, Ending, Event, Finish, NewCommand, State
from contracts.control import CommandRefused
from contracts.status import TaskStatus
from tests.conformance.journals import about_letter, cancel, letter, new_task, reprioritise, status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=30)


def row(**changes: Any) -> TaskRow:
    """An accepted task; `changes` as wished."""
    fresh = lifecycle.accept(1, new_task(), [], NOW).row
    return fresh._replace(**changes)


def running(**changes: Any) -> TaskRow:
    return lifecycle.claim(row(), "w1", 10.0, NOW).row._replace(**changes)


def statuses(decision: Decision) -> list[str]:
    return [str(numbered.event.data["status"]) for numbered in decision.events if numbered.event.type == "task.status"]


# --- the table --------------------------------------------------------------------------------------------------------


def test_terminal_states_have_no_way_out_but_a_replay() -> None:
    """What has ended is told once."""
    ways_out = {(before, cause) for before, cause in TRANSITIONS if before in TERMINAL}

    assert ways_out == {(State.FAILED, Cause.REPLAYED)}


def test_every_state_but_waiting_is_reached() -> None:
    """Waiting is for approvals, which come later; nothing leads there yet."""
    reached = set(TRANSITIONS.values()) | {State.AVAILABLE, State.SCHEDULED}

    assert set(State) - reached == {State.WAITING}


def test_every_ending_has_a_transition_from_running() -> None:
    """An attempt can end in each way that the port offers."""
    for ending in Ending:
        assert lifecycle.finish(running(), Finish(ending), LATER).row.state is not State.RUNNING


def test_diagram_in_the_readme_is_drawn_from_the_table() -> None:
    """A picture that is not drawn from the code is wrong soon."""
    readme = Path(lifecycle.__file__).with_name("README.md").read_text(encoding="utf-8")

    assert f"```mermaid\n{lifecycle.diagram()}\n```" in readme


@pytest.mark.parametrize("state", [state for state in State if state is not State.AVAILABLE])
def test_only_what_is_available_is_claimed(state: State) -> None:
    """A bug in a query must not start a task twice."""
    with pytest.raises(NotAllowed):
        lifecycle.claim(row(state=state), "w1", 10.0, NOW)


# --- rules that SQL repeats -------------------------------------------------------------------------------------------

moments = st.floats(0, 1e7).map(lambda seconds: NOW + timedelta(seconds=seconds))
waits = st.tuples(moments, st.integers(0, 9))


@given(first=waits, second=waits, looked_s=st.floats(0, 1e7))
def test_rank_orders_as_aged_priority_does_whenever_one_looks(
    first: tuple[datetime, int], second: tuple[datetime, int], looked_s: float
) -> None:
    """Ageing is linear, so that an index over `rank` never has to be rebuilt."""
    now = NOW + timedelta(seconds=2e7 + looked_s)
    gap = lifecycle.rank(*first) - lifecycle.rank(*second)
    if abs(gap) < 1e-3:
        return  # a tie, up to rounding

    ahead = lifecycle.aged_priority(now, *first) > lifecycle.aged_priority(now, *second)

    assert ahead == (gap < 0)


@pytest.mark.parametrize(
    ("mine", "other", "free"),
    [
        ({"id": 2}, {"id": 1, "state": State.AVAILABLE}, False),
        ({"id": 1}, {"id": 2, "state": State.AVAILABLE}, True),
        ({"id": 2}, {"id": 1, "state": State.RUNNING, "holds_key": True}, False),
        ({"id": 1}, {"id": 2, "state": State.RUNNING, "holds_key": True}, False),
        ({"id": 2}, {"id": 1, "state": State.SCHEDULED}, True),
        ({"id": 2}, {"id": 1, "state": State.SCHEDULED, "holds_key": True}, False),
        ({"id": 2, "holds_key": True}, {"id": 1, "state": State.AVAILABLE}, True),
    ],
)
def test_ordering_key_is_free(mine: dict[str, Any], other: dict[str, Any], free: bool) -> None:
    """One that has started keeps its key; one that is delayed and never started does not block."""
    me, them = row(**mine), row(**other)

    assert lifecycle.may_start(me, [me, them]) is free


def test_overdue_is_only_what_never_started() -> None:
    """`expires_at` bounds the start."""
    assert lifecycle.is_overdue(row(expires_at=NOW), NOW)
    assert not lifecycle.is_overdue(row(expires_at=LATER), NOW)
    assert not lifecycle.is_overdue(row(), NOW)
    assert not lifecycle.is_overdue(running(expires_at=NOW), NOW)


# --- events -----------------------------------------------------------------------------------------------------------


def test_first_status_is_queued_with_number_one() -> None:
    """Consumers wait for 1."""
    decision = lifecycle.accept(1, new_task(), [], NOW)

    (numbered,) = decision.events
    assert numbered.sequence == 1 == decision.row.sequence
    model = TaskStatus.model_validate(numbered.event.data)
    assert model.model_dump(mode="json", exclude_unset=True) == numbered.event.data
    assert (model.status.value, model.state, model.task_id) == ("queued", "submitted", new_task().task_id)


def test_statuses_made_here_carry_the_last_progress() -> None:
    """The last thing that people read must not say that nothing was done."""
    worked = lifecycle.record(running(), [status(new_task(), completed=("Data models",))], final=False, now=NOW).row

    for decision in (
        lifecycle.finish(worked, Finish(Ending.FAILED), LATER),
        lifecycle.finish(worked._replace(cancel_id="c1"), Finish(Ending.INTERRUPTED), LATER),
        lifecycle.crash(worked._replace(cancel_id="c1"), LATER),
        lifecycle.command(lifecycle.crash(worked, LATER).row, cancel(new_task()), LATER),
    ):
        data = decision.events[-1].event.data
        assert (data["phase"], data["completed"]) == ("Service implementation", ["Data models"])
        assert {"agent", "status", "phase", "completed", "pending"} <= set(data)
        TaskStatus.model_validate(data)


def test_terminal_status_that_the_attempt_brings_is_the_only_one() -> None:
    """Two ends of one task would be one too many."""
    decision = lifecycle.finish(running(), Finish(Ending.FAILED, [letter(), status(new_task(), "failed")]), LATER)

    assert statuses(decision) == ["failed"]
    assert [numbered.sequence for numbered in decision.events] == [None, 2]


def test_status_with_an_enum_counts_as_terminal() -> None:
    """A model may be dumped in either mode."""
    event = Event("task.status", "k", TaskStatus.model_validate(status(new_task(), "completed").data).model_dump())

    assert len(lifecycle.finish(running(), Finish(Ending.COMPLETED, [event]), LATER).events) == 1


# --- commands and races -----------------------------------------------------------------------------------------------


def test_second_cancellation_of_a_running_task_changes_nothing() -> None:
    """The first one is answered, by the end of the task."""
    asked = lifecycle.command(running(), cancel(new_task(), "c1"), LATER).row

    again = lifecycle.command(asked, cancel(new_task(), "c2"), LATER)

    assert again == Decision(asked)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_commands_on_an_ended_task_are_refused(state: State) -> None:
    """With the state that refused it."""
    for command in (cancel(new_task()), reprioritise(new_task(), 3)):
        decision = lifecycle.command(row(state=state), command, LATER)

        refused = CommandRefused.model_validate(decision.events[0].event.data)
        assert (refused.state, refused.command) == (state.value, command.command)
        assert decision.row.state is state


def test_final_checkpoint_asks_first() -> None:
    """The point of no return is passed only if nobody has cancelled."""
    with pytest.raises(CancelRequested):
        lifecycle.record(running(cancel_id="c1"), [], final=True, now=LATER)

    passed = lifecycle.record(running(), [], final=True, now=LATER).row
    assert statuses(lifecycle.command(passed, cancel(new_task()), LATER)) == []
    assert lifecycle.command(passed, cancel(new_task()), LATER).events[0].event.type == "command.refused"


def test_replay_of_what_did_not_fail_is_refused() -> None:
    """Replayed twice, or cancelled meanwhile."""
    decision = lifecycle.replay(running(), about_letter("letter-1"), LATER)

    assert decision.row.epoch == 0
    assert decision.events[0].event.type == "command.refused"


def test_replay_forgets_what_bounded_the_first_epoch() -> None:
    """Otherwise a replayed task would expire, or be refused, at once."""
    failed = running(is_final=True, cancel_id="c1", expires_at=NOW, crashes=2, state=State.FAILED)

    fresh = lifecycle.replay(failed, about_letter("letter-1"), LATER).row

    assert (fresh.attempt, fresh.crashes, fresh.is_final, fresh.cancel_id, fresh.expires_at) == (
        0,
        0,
        False,
        None,
        None,
    )
    assert (fresh.epoch, fresh.fence, fresh.sequence) == (1, failed.fence, failed.sequence + 1)


def test_reprioritising_moves_the_rank_and_keeps_the_age() -> None:
    """A task that has waited long does not start to wait anew."""
    before = row(priority=5, rank=lifecycle.rank(NOW, 5))

    after = lifecycle.command(before, reprioritise(new_task(), 7), LATER).row

    assert after.rank == lifecycle.rank(NOW, 7)


def test_early_commands_are_applied_in_their_order() -> None:
    """A priority, then a cancellation, then one too many."""
    task = new_task()
    early = [reprioritise(task, 9), cancel(task, "c1"), NewCommand("c2", "task.cancel", task.task_id, {})]

    decision = lifecycle.accept(1, task, early, NOW)

    assert (decision.row.state, decision.row.priority) == (State.CANCELLED, 9)
    assert [numbered.event.type for numbered in decision.events] == [
        "task.status", "operator.acted", "task.status", "command.refused",
    ]  # fmt: skip
    assert [numbered.sequence for numbered in decision.events] == [1, None, 2, None]


def test_negative_delay_is_none() -> None:
    """A clock that was set back, or a jitter gone wrong."""
    retried = lifecycle.finish(running(), Finish(Ending.RETRY, delay_s=-5), LATER).row

    assert retried.run_at == LATER
