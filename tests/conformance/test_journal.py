"""One suite for every journal: each promise that concerns it (tests/README.md has the list).

What needs two processes on one store is in test_journal_postgres.py, what needs a file in test_journal_sqlite.py.
"""

import asyncio
import random
import string
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.errors import Fenced
from agent.journal import lifecycle
from agent.journal.port import (
    ALL_LETTERS,
    CancelRequested,
    DeadLetter,
    Ending,
    Event,
    Finish,
    Journal,
    LetterFilter,
    NewTask,
    State,
    Tidied,
)
from agent.testing.waiting import settle
from contracts.control import CommandRefused, OperatorActed
from contracts.status import TaskStatus
from tests.conformance.journals import (
    LEASE_S,
    OPERATOR,
    Store,
    about_letter,
    accept,
    accepted,
    answer,
    cancel,
    checkpoint,
    claim_one,
    delivered,
    letter,
    lone_letter,
    new_task,
    numbers,
    relay,
    reprioritise,
    status,
)


@pytest.fixture
def journal(store: Store) -> Journal:
    return store.journal


# --- accept, the table of outcomes ------------------------------------------------------------------------------------


async def test_accepted_task_is_available_with_its_first_status(journal: Journal) -> None:
    """`queued` is the first event of every task, and has number 1."""
    task = new_task()

    await accepted(journal, task)

    view = await journal.task(task.task_id)
    assert view is not None
    assert (view.state, view.attempt, view.sequence, view.priority) == (State.AVAILABLE, 0, 1, 5)
    (row,) = await journal.unsent(limit=10)
    model = TaskStatus.model_validate(row.data)
    assert (row.sequence, row.type, row.key, model.status.value) == (1, "task.status", task.task_id, "queued")
    assert {"agent", "status", "phase", "completed", "pending"} <= set(row.data)
    assert row.attributes == task.attributes


async def test_same_request_again_makes_nothing_new(journal: Journal) -> None:
    """One task per idempotency key, also within one batch."""
    task = new_task()

    assert await accept(journal, task, task) == ["accepted", "duplicate"]
    assert await accept(journal, task) == ["duplicate"]

    assert len(await journal.tasks()) == 1
    assert len(await relay(journal)) == 1


async def test_same_key_with_another_payload_is_a_conflict(journal: Journal) -> None:
    """The existing task is not touched."""
    task = new_task()
    await accepted(journal, task)

    assert await accept(journal, task._replace(payload_digest="d2"), new_task("two")) == ["conflict", "accepted"]

    assert [row.task_id for row in await relay(journal)] == [task.task_id, new_task("two").task_id]


async def test_conflict_within_one_batch(journal: Journal) -> None:
    """The first of two wins, even if they come together."""
    task = new_task()

    assert await accept(journal, task, task._replace(payload_digest="d2")) == ["accepted", "conflict"]


async def test_outcomes_stand_in_the_order_of_a_mixed_batch(journal: Journal) -> None:
    """A poll brings everything at once; each item has its own outcome at its own place."""
    task, other = new_task(), new_task("two")

    outcomes = await accept(journal, answer(), task, cancel(task), lone_letter(), answer(), other, cancel(task), task)

    assert outcomes == [
        "accepted", "accepted", "accepted", "accepted", "duplicate", "accepted", "duplicate", "duplicate",
    ]  # fmt: skip


async def test_empty_batch(journal: Journal) -> None:
    """A poll may bring nothing."""
    assert await accept(journal) == []


async def test_first_answer_counts(journal: Journal) -> None:
    """A resumed step asks again under the same id and takes the earlier answer."""
    assert await journal.answer("q1") is None

    assert await accept(journal, answer(data=b"first")) == ["accepted"]
    assert await accept(journal, answer(data=b"second")) == ["duplicate"]

    assert await journal.answer("q1") == b"first"


async def test_dead_letter_without_task_is_stored_once_per_place(journal: Journal) -> None:
    """Redelivery of garbage makes no second dead letter; the same offset of a topic made anew is another place."""
    again = replace(lone_letter(), dead_letter_id="other id")

    assert await accept(journal, lone_letter(), again) == ["accepted", "duplicate"]
    assert await accept(journal, again, lone_letter("new topic", topic_id="U")) == ["duplicate", "accepted"]

    assert [row.type for row in await relay(journal)] == ["task.dead_lettered"] * 2
    assert await letter_ids(journal) == ["new topic", "lone"]
    assert await journal.dead_letter("lone") == DeadLetter(lone_letter().event.data, service="", is_closed=False)
    assert await journal.dead_letter("none") is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (LetterFilter(), ["letter-1", "other", "lone"]),
        (LetterFilter(ids=frozenset({"lone", "none"})), ["lone"]),
        (LetterFilter(codes=frozenset({"payload.not_json", "type.unknown"})), ["other", "lone"]),
        (LetterFilter(tasks=frozenset({new_task().task_id})), ["letter-1"]),
        (LetterFilter(services=frozenset({new_task().ordering_key})), ["letter-1"]),
        (LetterFilter(services=frozenset({"käse", "x"})), ["other"]),
        (LetterFilter(topics=frozenset({"backend.control.v1"})), ["other"]),
        (LetterFilter(codes=frozenset({"payload.not_json"}), topics=frozenset({"backend.control.v1"})), []),
        (LetterFilter(services=frozenset({"' OR 1=1 --", '"]'})), []),
    ],
)
async def test_dead_letters_are_filtered_where_they_lie(
    journal: Journal, wanted: LetterFilter, found: list[str]
) -> None:
    """A filter that lets too much through replays what nobody meant; a limit counts what passes, not what is looked at."""
    lone = lone_letter("lone", topic="backend.tasks.v1", key=None)
    other = lone_letter("other", topic="backend.control.v1", key="käse", code="type.unknown")
    await accepted(journal, lone, other)
    await fail_with_letter(journal)

    assert await letter_ids(journal, wanted) == found
    assert await letter_ids(journal, wanted, limit=1) == found[:1]


async def test_dead_letters_are_found_by_when_they_were_stored(store: Store) -> None:
    """By the journal's clock: that of the worker that failed may be wrong."""
    await accepted(store.journal, lone_letter("early"))
    await store.advance(3600)
    await accepted(store.journal, lone_letter("late", offset=4))
    late = (await store.now()) - timedelta(minutes=10)

    assert await letter_ids(store.journal, LetterFilter(since=late)) == ["late"]
    assert await letter_ids(store.journal, LetterFilter(since=late - timedelta(hours=1))) == ["late", "early"]


async def letter_ids(journal: Journal, wanted: LetterFilter = ALL_LETTERS, *, limit: int = 100) -> list[str]:
    return [letter.data["dead_letter_id"] for letter in await journal.dead_letters(wanted, limit=limit)]


async def test_hostile_text_of_a_sender_is_stored(journal: Journal) -> None:
    """NUL and half a surrogate pair are bytes that a sender may put into a header or a value."""
    hostile = "a\x00b'\"; DROP TABLE task; --\\"
    task = new_task()._replace(
        source=hostile + "\ud800", idempotency_key=hostile, attributes={"id": hostile, "\n": "\x00"}
    )

    await accepted(journal, task, cancel(task, reason=hostile))

    assert [(row.sequence, row.data["status"]) for row in await relay(journal)] == [(1, "queued"), (2, "cancelled")]


@pytest.mark.parametrize(
    "hostile", ["a\x00b", "x" * 100_000, "€" * 4096], ids=["NUL", "a header's limit and more", "three bytes each"]
)
async def test_what_a_sender_chose_is_never_too_much_for_an_index(journal: Journal, hostile: str) -> None:
    """A record that the store refuses for ever would stop its partition: keys and ids that are looked up by."""
    hostile += "".join(random.Random(7).choices(string.ascii_letters, k=len(hostile)))  # compression is no help
    first, second = new_task("a", key=hostile), new_task("b", key=hostile)
    other = new_task("c", key=hostile + "!")
    command = replace(cancel(other), command_id=hostile, source=hostile)

    await accepted(journal, first, second, other, command, answer(hostile), replace(cancel(first), task_id=hostile))

    assert await journal.answer(hostile) == b"{}"
    assert await accept(journal, command, answer(hostile)) == ["duplicate"] * 2
    assert [claim.task_id for claim in await journal.claim("w1", limit=5, lease_s=LEASE_S)] == [first.task_id]
    view = await journal.task(other.task_id)
    assert view is not None
    assert view.state is State.CANCELLED


# --- claim ------------------------------------------------------------------------------------------------------------


async def test_claim_hands_over_everything_that_an_attempt_needs(journal: Journal) -> None:
    """Bytes, headers and place of the record come back as they were given."""
    task = new_task(attempt_deadline_s=60.0, total_deadline_s=600.0)
    await accepted(journal, task)

    claim = await claim_one(journal)

    assert (claim.task_id, claim.fence, claim.attempt, claim.crashes, claim.epoch) == (task.task_id, 1, 1, 0, 0)
    assert (claim.request, claim.origin, claim.attributes) == (task.request, task.origin, task.attributes)
    assert (claim.kind, claim.ordering_key, claim.history) == ("build", "one", ())
    assert (claim.attempt_deadline_s, claim.total_deadline_s) == (60.0, 600.0)
    assert claim.accepted_at <= claim.first_started_at == claim.started_at


async def test_origin_that_is_not_the_request_is_kept(journal: Journal) -> None:
    """A structured record holds the request inside; a dead letter needs the whole of it. A tombstone has none."""
    envelope, tombstone = new_task(), new_task("two")
    envelope = envelope._replace(origin=envelope.origin._replace(value=b'{"data": {}}', headers=(), key=None))
    tombstone = tombstone._replace(origin=tombstone.origin._replace(value=None))
    await accepted(journal, envelope, tombstone)

    claims = await journal.claim("w1", limit=2, lease_s=LEASE_S)

    assert [claim.origin for claim in claims] == [envelope.origin, tombstone.origin]


async def test_task_has_one_live_lease(journal: Journal) -> None:
    """What is leased is not given out again."""
    await accepted(journal, new_task())
    await claim_one(journal)

    assert await journal.claim("w2", limit=5, lease_s=LEASE_S) == []


async def test_concurrent_claims_share_the_tasks(journal: Journal) -> None:
    """No task twice, none left, however the calls interleave."""
    await accepted(journal, *[new_task(f"t{nr}") for nr in range(40)])

    rounds = await asyncio.gather(*[journal.claim(f"w{nr}", limit=5, lease_s=LEASE_S) for nr in range(8)])
    rest = await journal.claim("w", limit=50, lease_s=LEASE_S)

    ids = [claim.task_id for claims in (*rounds, rest) for claim in claims]
    assert len(ids) == len(set(ids)) == 40


async def test_limit_is_kept(journal: Journal) -> None:
    """A worker has a number of free places, and no more."""
    await accepted(journal, *[new_task(f"t{nr}") for nr in range(5)])

    assert len(await journal.claim("w1", limit=3, lease_s=LEASE_S)) == 3
    assert len(await journal.claim("w1", limit=0, lease_s=LEASE_S)) == 0


async def test_oldest_of_one_priority_first(journal: Journal) -> None:
    """Order of acceptance is the order of work."""
    tasks = [new_task(f"t{nr}") for nr in range(5)]
    await accepted(journal, *tasks)

    claims = await journal.claim("w1", limit=5, lease_s=LEASE_S)

    assert [claim.task_id for claim in claims] == [task.task_id for task in tasks]


async def test_higher_priority_first_until_waiting_outweighs_it(store: Store) -> None:
    """Ageing against starvation: an old task of low priority comes before a fresh one of high priority."""
    old, urgent = new_task("old", priority=0), new_task("urgent", priority=9)
    await accepted(store.journal, old)
    await store.advance(9 * lifecycle.AGEING_STEP_S - 60)
    await accepted(store.journal, urgent)
    assert (await claim_one(store.journal)).task_id == urgent.task_id

    later = new_task("later", priority=9)
    await store.advance(120)
    await accepted(store.journal, later)

    assert (await claim_one(store.journal)).task_id == old.task_id


async def test_store_orders_as_the_formula_does(store: Store) -> None:
    """SQL sorts by a stored rank, people think in aged priorities: both must be the same order."""
    given = [(5, 100), (3, 2000), (9, 10), (0, 900), (5, 700), (4, 50), (9, 1)]  # (priority, seconds until the next)
    for nr, (priority, pause_s) in enumerate(given):
        await accepted(store.journal, new_task(f"t{nr}", priority=priority))
        await store.advance(pause_s)
    now = await store.now()

    claims = await store.journal.claim("w1", limit=10, lease_s=LEASE_S)

    aged = {
        new_task(f"t{nr}").task_id: lifecycle.aged_priority(
            now, now - timedelta(seconds=sum(pause_s for _, pause_s in given[nr:])), priority
        )
        for nr, (priority, _) in enumerate(given)
    }
    assert [claim.task_id for claim in claims] == sorted(aged, key=lambda name: -aged[name])


async def test_ordering_key_runs_one_task_at_a_time_in_order_of_acceptance(journal: Journal) -> None:
    """Two builds of one service would tread on each other, and the second is meant on top of the first."""
    first, second = new_task("a", key="orders"), new_task("b", key="orders", priority=9)
    await accepted(journal, first, second, new_task("c", key="other"))

    claims = await journal.claim("w1", limit=5, lease_s=LEASE_S)
    assert [claim.ordering_key for claim in claims] == ["orders", "other"]
    assert claims[0].task_id == first.task_id
    assert await journal.claim("w2", limit=5, lease_s=LEASE_S) == []

    await journal.finish(claims[0], Finish(Ending.COMPLETED))
    assert (await claim_one(journal)).task_id == second.task_id


async def test_two_claims_at_once_on_one_ordering_key(journal: Journal) -> None:
    """SKIP LOCKED alone lets two through: each skips what the other holds."""
    await accepted(journal, *[new_task(f"t{nr}", key="orders") for nr in range(20)])

    rounds = await asyncio.gather(*[journal.claim(f"w{nr}", limit=3, lease_s=LEASE_S) for nr in range(10)])

    assert sum(len(claims) for claims in rounds) == 1


async def test_retrying_task_keeps_its_ordering_key(store: Store) -> None:
    """What was started is finished before the next one of the same service begins."""
    first, second = new_task("a", key="orders"), new_task("b", key="orders")
    await accepted(store.journal, first, second)
    await store.journal.finish(await claim_one(store.journal), Finish(Ending.RETRY, delay_s=60))

    assert await store.journal.claim("w1", limit=5, lease_s=LEASE_S) == []
    await store.advance(61)

    assert (await claim_one(store.journal)).task_id == first.task_id


async def test_delayed_task_that_never_started_does_not_block_its_key(store: Store) -> None:
    """A request for next month is no reason to wait until then."""
    later, now = new_task("a", key="orders", run_after_s=3600), new_task("b", key="orders")
    await accepted(store.journal, later, now)

    assert (await claim_one(store.journal)).task_id == now.task_id


async def test_delayed_task_waits_for_its_time(store: Store) -> None:
    """`run_after_s` is a row with `run_at`, not a sleep."""
    task = new_task(run_after_s=60)
    await accepted(store.journal, task)
    view = await store.journal.task(task.task_id)
    assert view is not None
    assert view.state is State.SCHEDULED
    assert view.run_at is not None

    await store.advance(59)
    assert await store.journal.claim("w1", limit=1, lease_s=LEASE_S) == []
    await store.advance(2)

    assert (await claim_one(store.journal)).task_id == task.task_id


async def test_task_not_started_in_time_expires_with_its_status(store: Store) -> None:
    """Nobody wants the answer any more; the sender is told."""
    soon = await store.now() + timedelta(seconds=30)
    task, delayed = new_task(expires_at=soon), new_task("two", expires_at=soon, run_after_s=600)
    await accepted(store.journal, task, delayed)
    await store.advance(31)

    assert await store.journal.claim("w1", limit=5, lease_s=LEASE_S) == []

    found = await relay(store.journal)
    for each in (task, delayed):
        assert numbers(found, each) == [(1, "queued"), (2, "expired")]
        view = await store.journal.task(each.task_id)
        assert view is not None
        assert view.state is State.EXPIRED


async def test_started_task_does_not_expire(store: Store) -> None:
    """`expires_at` bounds the start; the deadlines bound the rest."""
    task = new_task(expires_at=await store.now() + timedelta(seconds=30))
    await accepted(store.journal, task)
    await store.journal.finish(await claim_one(store.journal), Finish(Ending.RETRY, delay_s=60))
    await store.advance(61)

    assert (await claim_one(store.journal)).attempt == 2


# --- lease and fence --------------------------------------------------------------------------------------------------


async def test_lost_lease_counts_a_crash_and_is_claimed_again(store: Store) -> None:
    """A worker that died says nothing; the next attempt has the next fence and knows of the crash."""
    task = new_task()
    await accepted(store.journal, task)
    first = await claim_one(store.journal, "w1")
    await store.advance(LEASE_S - 1)
    assert await store.journal.claim("w2", limit=1, lease_s=LEASE_S) == []
    await store.advance(2)

    second = await claim_one(store.journal, "w2")

    assert (second.task_id, second.fence, second.attempt, second.crashes) == (first.task_id, 2, 2, 1)
    (line,) = second.history
    assert (line["attempt"], line["error"]["kind"], line["error"]["code"]) == (1, "poison", "worker.lost")
    assert str(line["worker"]).startswith("w1")
    assert abs((second.first_started_at - first.started_at).total_seconds()) < 1e-3


async def test_renewal_keeps_the_lease(store: Store) -> None:
    """A long attempt lives on renewals."""
    await accepted(store.journal, new_task())
    claim = await claim_one(store.journal)
    for _ in range(4):
        await store.advance(LEASE_S - 1)
        renewal = (await store.journal.renew([claim], lease_s=LEASE_S))[claim.task_id]
        assert renewal.held

    assert await store.journal.claim("w2", limit=1, lease_s=LEASE_S) == []


async def test_renewal_of_a_lost_lease_says_so(store: Store) -> None:
    """A worker that was stopped finds itself fenced on wake-up."""
    await accepted(store.journal, new_task(), new_task("two"))
    old, other = await store.journal.claim("w1", limit=2, lease_s=LEASE_S)
    await store.advance(LEASE_S + 1)
    await store.journal.renew([other], lease_s=LEASE_S)
    await claim_one(store.journal, "w2")

    answers = await store.journal.renew([old, other], lease_s=LEASE_S)

    assert (answers[old.task_id].held, answers[other.task_id].held) == (False, True)


@pytest.mark.parametrize("reclaimed", [True, False], ids=["claimed again", "only given up"])
async def test_write_with_an_old_fence_takes_no_effect(store: Store, reclaimed: bool) -> None:
    """Two processes may be alive for a moment; only one can write."""
    task = new_task()
    await accepted(store.journal, task)
    old = await claim_one(store.journal, "w1")
    await store.advance(LEASE_S + 1)
    await store.journal.claim("w2", limit=1 if reclaimed else 0, lease_s=LEASE_S)
    await relay(store.journal)

    with pytest.raises(Fenced):
        await store.journal.record(old, checkpoint("late"), [status(task)])
    with pytest.raises(Fenced):
        await store.journal.finish(old, Finish(Ending.COMPLETED, [status(task, "completed")]))

    assert await store.journal.checkpoints(task.task_id) == {}
    assert await relay(store.journal) == []


async def test_write_after_the_end_is_fenced(journal: Journal) -> None:
    """An attempt that finished has nothing more to say."""
    task = new_task()
    await accepted(journal, task)
    claim = await claim_one(journal)
    await journal.finish(claim, Finish(Ending.COMPLETED, [status(task, "completed")]))

    with pytest.raises(Fenced):
        await journal.record(claim, None, [status(task)])
    assert not (await journal.renew([claim], lease_s=LEASE_S))[task.task_id].held


async def test_write_for_an_unknown_task_is_fenced(journal: Journal) -> None:
    """Another journal's claim means nothing here."""
    await accepted(journal, new_task())
    claim = (await claim_one(journal))._replace(task_id="00000000-0000-0000-0000-000000000000")

    with pytest.raises(Fenced):
        await journal.record(claim, checkpoint(), [])


# --- checkpoints and events -------------------------------------------------------------------------------------------


async def test_new_attempt_finds_what_lies_behind(store: Store) -> None:
    """After a crash the work resumes at the first step without a checkpoint."""
    task = new_task()
    await accepted(store.journal, task)
    claim = await claim_one(store.journal)
    steps = [checkpoint("read", {"digest": "sha256:" + "a" * 64}), checkpoint("infer", {"n": [1, {"a": None}]})]
    for step in steps:
        await store.journal.record(claim, step, [status(task)])
    await store.advance(LEASE_S + 1)

    again = await claim_one(store.journal)

    assert list((await store.journal.checkpoints(again.task_id)).values()) == steps


async def test_checkpoint_of_the_same_step_replaces(journal: Journal) -> None:
    """A round of develop and verify comes by the same step again."""
    await accepted(journal, new_task())
    claim = await claim_one(journal)

    await journal.record(claim, checkpoint("gates", {"round": 1}), [])
    await journal.record(claim, checkpoint("gates", {"round": 2}), [])

    found = await journal.checkpoints(claim.task_id)
    assert found["gates"].output == {"round": 2}


async def test_sequence_is_gapless_across_attempts(store: Store) -> None:
    """From 1, across retries and crashes; other topics' events take no number, and stand between in their place."""
    task = new_task()
    await accepted(store.journal, task)
    claim = await claim_one(store.journal)
    await store.journal.record(claim, checkpoint(), [status(task, "analysing"), status(task)])
    await store.advance(LEASE_S + 1)
    claim = await claim_one(store.journal)
    await store.journal.finish(claim, Finish(Ending.RETRY, [status(task, "waiting")], delay_s=0))
    claim = await claim_one(store.journal)
    await store.journal.finish(claim, Finish(Ending.COMPLETED, [delivered(task), status(task, "completed")]))

    assert numbers(await relay(store.journal), task) == [
        (1, "queued"), (2, "analysing"), (3, "developing"), (4, "waiting"), (None, "task.delivered"), (5, "completed"),
    ]  # fmt: skip


async def test_unsent_rows_come_again_with_the_same_id_until_sent(journal: Journal) -> None:
    """Published but not marked: the repeat has the id of the first appearance, so that consumers drop it."""
    await accepted(journal, new_task(), new_task("two"))

    first = await journal.unsent(limit=10)
    await journal.sent([first[1].position])

    assert await journal.unsent(limit=10) == [first[0]]
    await journal.sent([first[0].position])
    assert await journal.unsent(limit=10) == []
    await journal.sent([first[0].position])  # a late repeat is harmless


async def test_limit_of_unsent_takes_the_oldest(journal: Journal) -> None:
    """A relay works through a backlog in order."""
    await accepted(journal, *[new_task(f"t{nr}") for nr in range(5)])

    found = await journal.unsent(limit=2)

    assert [row.task_id for row in found] == [new_task("t0").task_id, new_task("t1").task_id]


async def test_what_a_relay_has_in_hand_is_not_given_to_it_again(journal: Journal) -> None:
    """It is acknowledged and not marked yet: the look goes past it, and its limit counts the others."""
    await accepted(journal, *[new_task(f"t{nr}") for nr in range(5)])
    first, second, *others = await journal.unsent(limit=10)

    found = await journal.unsent(limit=2, besides={first.position, second.position})

    assert found == others[:2]
    assert await journal.unsent(limit=10) == [first, second, *others]  # they are not marked


async def test_each_of_many_that_move_together_keeps_its_own(journal: Journal) -> None:
    """Stores write many rows at once, in numbers that are not round; two of three end here."""
    tasks = [new_task(f"t{number}", priority=number % 10) for number in range(77)]
    await accepted(journal, *tasks)
    claims = {claim.task_id: claim for claim in await journal.claim("w", limit=100, lease_s=LEASE_S)}

    async def go_on(number: int, task: NewTask) -> None:
        claim = claims[task.task_id]
        await journal.record(claim, checkpoint(f"step {number}"), [status(task, f"word {number}")])
        if number % 3:
            await journal.finish(claim, Finish(Ending.COMPLETED, [status(task, "completed")]))

    await asyncio.gather(*(go_on(number, task) for number, task in enumerate(tasks)))

    views = {view.task_id: view for view in await journal.tasks(limit=100)}
    told = await relay(journal)
    for number, task in enumerate(tasks):
        words = [word for _, word in numbers(told, task)]
        assert words == ["queued", f"word {number}", *(["completed"] if number % 3 else [])]
        view = views[task.task_id]
        expected = State.COMPLETED if number % 3 else State.RUNNING
        assert (view.state, view.priority, view.sequence) == (expected, number % 10, len(words))
        assert list(await journal.checkpoints(task.task_id)) == [f"step {number}"]


async def test_parked_row_is_replaced_in_its_place(journal: Journal) -> None:
    """An event that no broker takes must not stop those behind it, nor leave a gap."""
    task = new_task()
    await accepted(journal, task)
    claim = await claim_one(journal)
    await journal.record(claim, None, [status(task), status(task, "verifying")])
    before = await journal.unsent(limit=10)

    await journal.park(before[1].position, Event("task.status", task.task_id, {"status": "developing"}), reason="big")
    await journal.park(999_999, Event("task.status", task.task_id, {}), reason="not there")

    after = await journal.unsent(limit=10)
    assert [(row.position, row.event_id, row.sequence) for row in after] == [
        (row.position, row.event_id, row.sequence) for row in before
    ]
    assert after[1].data == {"status": "developing"}


async def test_progress_of_the_last_status_is_shown(journal: Journal) -> None:
    """`backwright tasks` says how far it is."""
    task = new_task()
    await accepted(journal, task)
    await journal.record(await claim_one(journal), None, [status(task, completed=("Data models",))])

    view = await journal.task(task.task_id)

    assert view is not None
    assert view.progress == {
        "phase": "Service implementation", "completed": ["Data models"], "pending": ["Cache integration"],
    }  # fmt: skip


# --- endings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        (Ending.COMPLETED, State.COMPLETED),
        (Ending.FAILED, State.FAILED),
        (Ending.REJECTED, State.REJECTED),
        (Ending.CANCELLED, State.CANCELLED),
        (Ending.EXPIRED, State.EXPIRED),
    ],
)
async def test_terminal_event_is_never_lost(journal: Journal, ending: Ending, state: State) -> None:
    """An end that brings no terminal status gets one, with the last known progress."""
    task = new_task()
    await accepted(journal, task)
    claim = await claim_one(journal)
    await journal.record(claim, None, [status(task, completed=("Data models",))])

    await journal.finish(claim, Finish(ending, [delivered(task)]))

    *_, last = await relay(journal)
    assert (last.sequence, last.data["status"], last.data["completed"]) == (3, state.value, ["Data models"])
    view = await journal.task(task.task_id)
    assert view is not None
    assert view.state is state


async def test_retry_comes_back_after_its_delay_with_its_history(store: Store) -> None:
    """Backoff is a row with `run_at`."""
    task = new_task()
    await accepted(store.journal, task)
    line = {"attempt": 1, "error": {"kind": "transient", "code": "x", "message": "y"}}
    await store.journal.finish(await claim_one(store.journal), Finish(Ending.RETRY, delay_s=30, failure=line))
    assert await store.journal.claim("w1", limit=1, lease_s=LEASE_S) == []
    await store.advance(31)

    claim = await claim_one(store.journal)

    assert (claim.attempt, claim.fence, claim.crashes, claim.history) == (2, 2, 0, (line,))


async def test_interrupted_attempt_is_available_at_once_and_not_counted(journal: Journal) -> None:
    """A drain is not the task's fault."""
    task = new_task()
    await accepted(journal, task)
    first = await claim_one(journal)
    await journal.record(first, checkpoint(), [])
    await journal.finish(first, Finish(Ending.INTERRUPTED))

    again = await claim_one(journal)

    assert (again.attempt, again.crashes, again.fence, again.history) == (1, 0, 2, ())
    assert list(await journal.checkpoints(task.task_id)) == ["read"]
    assert [number for number, _ in numbers(await relay(journal), task)] == [1]


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_cancel_of_a_waiting_task_ends_it(journal: Journal) -> None:
    """Nothing runs, so nothing has to be asked."""
    task = new_task()
    await accepted(journal, task)

    await accepted(journal, cancel(task, reason="not needed"))

    assert await journal.claim("w1", limit=1, lease_s=LEASE_S) == []
    *_, last = await relay(journal)
    model = TaskStatus.model_validate(last.data)
    assert (last.sequence, model.status.value, model.message) == (2, "cancelled", "not needed")


async def test_cancel_before_its_task_is_kept_and_applied(journal: Journal) -> None:
    """Two topics have no common order."""
    task = new_task()
    assert await accept(journal, cancel(task)) == ["accepted"]
    assert await relay(journal) == []

    await accepted(journal, task)

    assert numbers(await relay(journal), task) == [(1, "queued"), (2, "cancelled")]
    assert await accept(journal, cancel(task)) == ["duplicate"]


async def test_cancel_before_its_task_in_one_batch(journal: Journal) -> None:
    """The same, in one poll."""
    task = new_task()

    await accepted(journal, cancel(task), task, new_task("two"))

    assert numbers(await relay(journal), task) == [(1, "queued"), (2, "cancelled")]


async def test_cancel_of_a_running_task_is_observed_by_its_renewal(journal: Journal) -> None:
    """The attempt is told, stops, and says that it has ended."""
    task = new_task()
    await accepted(journal, task)
    claim = await claim_one(journal)
    assert not (await journal.renew([claim], lease_s=LEASE_S))[task.task_id].cancel_requested

    await accepted(journal, cancel(task))

    assert (await journal.renew([claim], lease_s=LEASE_S))[task.task_id].cancel_requested
    await journal.finish(claim, Finish(Ending.CANCELLED, [status(task, "cancelled")]))
    assert numbers(await relay(journal), task) == [(1, "queued"), (2, "cancelled")]


async def test_cancel_of_a_retrying_task_ends_it(journal: Journal) -> None:
    """It holds its ordering key; cancelling frees it."""
    task, behind = new_task("a", key="orders"), new_task("b", key="orders")
    await accepted(journal, task, behind)
    await journal.finish(await claim_one(journal), Finish(Ending.RETRY, delay_s=600))

    await accepted(journal, cancel(task))

    assert (await claim_one(journal)).task_id == behind.task_id


@pytest.mark.parametrize("ending", [Ending.RETRY, Ending.INTERRUPTED])
async def test_stored_cancellation_wins_over_another_try(journal: Journal, ending: Ending) -> None:
    """Also during drain: what was cancelled is not handed back to be run again."""
    task = new_task()
    await accepted(journal, task)
    claim = await claim_one(journal)
    await accepted(journal, cancel(task))

    await journal.finish(claim, Finish(ending))

    assert numbers(await relay(journal), task) == [(1, "queued"), (2, "cancelled")]
    assert await journal.claim("w1", limit=1, lease_s=LEASE_S) == []


async def test_stored_cancellation_wins_over_a_crash(store: Store) -> None:
    """The worker died before it saw the cancellation; nobody resumes a cancelled task."""
    task = new_task()
    await accepted(store.journal, task)
    await claim_one(store.journal)
    await accepted(store.journal, cancel(task))
    await store.advance(LEASE_S + 1)

    assert await store.journal.claim("w2", limit=1, lease_s=LEASE_S) == []

    assert numbers(await relay(store.journal), task) == [(1, "queued"), (2, "cancelled")]


async def test_cancellation_that_loses_against_the_end_is_refused(journal: Journal) -> None:
    """Cancel and finish come from different loops: one wins, the other is answered."""
    task = new_task()
    await accepted(journal, task)
    claim = await claim_one(journal)
    await accepted(journal, cancel(task))

    await journal.finish(claim, Finish(Ending.COMPLETED, [status(task, "completed")]))

    *_, last = found = await relay(journal)
    assert numbers(found, task) == [(1, "queued"), (2, "completed"), (None, "command.refused")]
    refused = CommandRefused.model_validate(last.data)
    assert (refused.command_id, refused.command, refused.state) == ("cancel-1", "task.cancel", "completed")


async def test_cancel_of_an_ended_task_is_refused(journal: Journal) -> None:
    """Too late, and told so; once per command."""
    task = new_task()
    await accepted(journal, task)
    await journal.finish(await claim_one(journal), Finish(Ending.FAILED, [status(task, "failed")]))

    assert await accept(journal, cancel(task), cancel(task)) == ["accepted", "duplicate"]

    assert numbers(await relay(journal), task)[2:] == [(None, "command.refused")]


async def test_cancel_after_the_point_of_no_return_is_refused(store: Store) -> None:
    """Deliver's checkpoint: from then on the delivery happens, also after a crash."""
    task = new_task()
    await accepted(store.journal, task)
    claim = await claim_one(store.journal)
    await store.journal.record(claim, checkpoint("deliver"), [], final=True)

    await accepted(store.journal, cancel(task))

    assert not (await store.journal.renew([claim], lease_s=LEASE_S))[task.task_id].cancel_requested
    await store.advance(LEASE_S + 1)
    again = await claim_one(store.journal)
    await accepted(store.journal, cancel(task, "cancel-2"))
    await store.journal.finish(again, Finish(Ending.COMPLETED, [status(task, "completed")]))
    assert [kind for _, kind in numbers(await relay(store.journal), task)] == [
        "queued", "command.refused", "command.refused", "completed",
    ]  # fmt: skip


async def test_cancel_before_the_point_of_no_return_wins(journal: Journal) -> None:
    """The final checkpoint asks, and nothing of it is stored."""
    task = new_task()
    await accepted(journal, task)
    claim = await claim_one(journal)
    await accepted(journal, cancel(task))

    with pytest.raises(CancelRequested):
        await journal.record(claim, checkpoint("deliver"), [status(task, "delivering")], final=True)
    await journal.record(claim, checkpoint("clean up"), [])

    assert list(await journal.checkpoints(task.task_id)) == ["clean up"]
    assert numbers(await relay(journal), task) == [(1, "queued")]


async def test_cancel_races_the_final_checkpoint(journal: Journal) -> None:
    """Whatever the order: either the checkpoint is refused, or the cancellation; never both, never neither."""
    tasks = [new_task(f"t{nr}") for nr in range(20)]
    await accepted(journal, *tasks)
    claims = await journal.claim("w1", limit=20, lease_s=LEASE_S)
    calls: list[Awaitable[object]] = []
    for nr, (claim, task) in enumerate(zip(claims, tasks, strict=True)):
        pair: list[Awaitable[object]] = [
            journal.record(claim, checkpoint("deliver"), [], final=True),
            accept(journal, cancel(task, f"cancel-{nr}")),
        ]
        calls += pair if nr % 2 else reversed(pair)

    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    raised = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(outcome, CancelRequested) for outcome in raised)
    refused = sum(row.type == "command.refused" for row in await relay(journal))
    assert len(raised) + refused == 20


async def test_cancel_races_finish(journal: Journal) -> None:
    """Each task ends once, and a cancellation that came too late is answered."""
    tasks = [new_task(f"t{nr}") for nr in range(20)]
    await accepted(journal, *tasks)
    claims = await journal.claim("w1", limit=20, lease_s=LEASE_S)
    calls: list[Awaitable[object]] = []
    for nr, (claim, task) in enumerate(zip(claims, tasks, strict=True)):
        pair: list[Awaitable[object]] = [
            journal.finish(claim, Finish(Ending.COMPLETED, [status(task, "completed")])),
            accept(journal, cancel(task, f"cancel-{nr}")),
        ]
        calls += pair if nr % 2 else reversed(pair)

    await asyncio.gather(*calls)

    found = await relay(journal)
    for task in tasks:
        assert numbers(found, task) == [(1, "queued"), (2, "completed"), (None, "command.refused")]


async def test_priority_can_be_changed_while_a_task_waits(journal: Journal) -> None:
    """It keeps the age that it has."""
    low, high = new_task("low", priority=1), new_task("high", priority=2)
    await accepted(journal, low, high)

    await accepted(journal, reprioritise(low, 9))

    claims = await journal.claim("w1", limit=2, lease_s=LEASE_S)
    assert [claim.task_id for claim in claims] == [low.task_id, high.task_id]
    view = await journal.task(low.task_id)
    assert view is not None
    assert view.priority == 9


@pytest.mark.parametrize("priority", [10, -1, "9", None, True, 1.5])
async def test_priority_that_makes_no_sense_is_refused(journal: Journal, priority: object) -> None:
    """What a command carries was written by others."""
    task = new_task()
    await accepted(journal, task, reprioritise(task, priority))

    assert numbers(await relay(journal), task) == [(1, "queued"), (None, "command.refused")]


async def test_unknown_command_is_refused(journal: Journal) -> None:
    """A newer sender may know more than we do."""
    task = new_task()
    await accepted(journal, task, replace(cancel(task), command="task.paint"))

    assert numbers(await relay(journal), task) == [(1, "queued"), (None, "command.refused")]


# --- dead letters -----------------------------------------------------------------------------------------------------


async def fail_with_letter(journal: Journal, task_name: str = "one", letter_id: str = "letter-1") -> None:
    """A task that is accepted, tried, and dead-lettered."""
    task = new_task(task_name)
    await accepted(journal, task)
    claim = await claim_one(journal)
    await journal.record(claim, checkpoint(), [status(task)])
    line = {"attempt": 1, "error": {"kind": "permanent", "code": "x", "message": "y"}}
    await journal.finish(claim, Finish(Ending.FAILED, [letter(letter_id), status(task, "failed")], failure=line))


async def test_dead_letter_of_a_task_is_stored_with_its_end(journal: Journal) -> None:
    """On its topic and in the journal."""
    await fail_with_letter(journal)

    assert await journal.dead_letters() == [DeadLetter(letter().data, new_task().ordering_key, is_closed=False)]
    assert [kind for _, kind in numbers(await relay(journal), new_task())] == [
        "queued", "developing", "task.dead_lettered", "failed",
    ]  # fmt: skip


async def test_replay_starts_a_new_epoch(journal: Journal) -> None:
    """The key and the sequence go on; attempts, crashes, history and checkpoints start afresh."""
    await fail_with_letter(journal)
    task = new_task()

    assert await accept(journal, about_letter("letter-1"), task) == ["accepted", "duplicate"]

    claim = await claim_one(journal)
    assert (claim.attempt, claim.crashes, claim.epoch, claim.fence, claim.history) == (1, 0, 1, 2, ())
    assert await journal.checkpoints(task.task_id) == {}
    assert await journal.dead_letters() == []
    assert await journal.dead_letter("letter-1") == DeadLetter(letter().data, task.ordering_key, is_closed=True)
    await journal.finish(claim, Finish(Ending.COMPLETED, [status(task, "completed")]))
    assert numbers(await relay(journal), task)[-3:] == [(4, "queued"), (None, "operator.acted"), (5, "completed")]


async def test_replayed_task_may_fail_again(journal: Journal) -> None:
    """Each epoch has its dead letter; the older one stays closed."""
    await fail_with_letter(journal)
    await accepted(journal, about_letter("letter-1"))
    await journal.finish(await claim_one(journal), Finish(Ending.FAILED, [letter("letter-2")]))

    assert await letter_ids(journal) == ["letter-2"]
    assert await accept(journal, about_letter("letter-1", command_id="again")) == ["accepted"]
    assert [row.type for row in await relay(journal)][-1] == "command.refused"


async def test_discarded_dead_letter_is_not_listed_and_not_replayed(journal: Journal) -> None:
    """Looked at, and let go."""
    await fail_with_letter(journal)

    await accepted(journal, about_letter("letter-1", "dead_letter.discard", "discard-1"))
    await accepted(journal, about_letter("letter-1"))

    assert await journal.dead_letters() == []
    assert await journal.claim("w1", limit=1, lease_s=LEASE_S) == []
    *_, last = await relay(journal)
    assert CommandRefused.model_validate(last.data).state == "closed"


@pytest.mark.parametrize("command", ["dead_letter.replay", "dead_letter.discard", "dead_letter.paint"])
async def test_command_about_an_unknown_dead_letter_is_refused(journal: Journal, command: str) -> None:
    """Nothing is kept for later: a dead letter is known before anybody can name it."""
    await accepted(journal, about_letter("nothing", command))

    (row,) = await relay(journal)
    assert (row.type, row.task_id, row.data["state"]) == ("command.refused", None, "unknown")


async def test_record_that_made_no_task_cannot_be_replayed(journal: Journal) -> None:
    """There is no task to try again; it may be discarded."""
    await accepted(journal, lone_letter(), about_letter("lone"))
    assert [row.type for row in await relay(journal)] == ["task.dead_lettered", "command.refused"]

    await accepted(journal, about_letter("lone", "dead_letter.discard", "discard-1"))

    assert await journal.dead_letters() == []


# --- the audit trail --------------------------------------------------------------------------------------------------


async def acts(journal: Journal) -> list[OperatorActed]:
    """The audit events among what is not told yet; tells it all."""
    return [OperatorActed.model_validate(row.data) for row in await relay(journal) if row.type == "operator.acted"]


async def test_each_command_that_took_effect_is_told_once_with_who_what_and_why(journal: Journal) -> None:
    """Whoever asks later what happened to a task finds it beside the task's statuses."""
    await fail_with_letter(journal)
    await fail_with_letter(journal, "two", "letter-2")
    task = new_task("three")
    await accepted(
        journal,
        task,
        reprioritise(task, 7),
        about_letter("letter-1"),
        about_letter("letter-2", "dead_letter.discard", "discard-1"),
    )

    found = await acts(journal)

    assert [(act.command_id, act.outcome, act.task_id, act.dead_letter_id) for act in found] == [
        ("priority-1", "reprioritised", task.task_id, None),
        ("replay-1", "replayed", new_task().task_id, "letter-1"),
        ("discard-1", "discarded", new_task("two").task_id, "letter-2"),
    ]
    assert [act.command for act in found] == ["task.reprioritise", "dead_letter.replay", "dead_letter.discard"]
    assert [(act.detail, act.reason) for act in found] == [
        ("priority 5 to 7", None),
        ("attempt epoch 1", "mended"),
        (None, "mended"),
    ]
    assert {act.who for act in found} == {OPERATOR}
    assert all(act.at.tzinfo is not None for act in found)


async def test_command_delivered_twice_is_told_once(journal: Journal) -> None:
    """Kafka repeats; an audit trail that repeats with it would be doubted."""
    task = new_task()
    await fail_with_letter(journal)
    batch = [about_letter("letter-1"), reprioritise(task, 8)]
    await accepted(journal, *batch)

    assert await accept(journal, *batch, *batch) == ["duplicate"] * 4

    assert [act.outcome for act in await acts(journal)] == ["replayed", "reprioritised"]


async def test_one_id_of_two_senders_is_two_commands(journal: Journal) -> None:
    """Events are the same by source and id together: nobody silences another's command by using its id first."""
    task = new_task()
    mine, theirs = reprioritise(task, 8, "id"), replace(reprioritise(task, 2, "id"), source="/tests/other")
    await accepted(journal, mine, theirs)  # before their task

    await accepted(journal, task)

    assert await accept(journal, theirs, mine) == ["duplicate"] * 2
    assert [(act.who, act.command_id) for act in await acts(journal)] == [(OPERATOR, "id"), ("/tests/other", "id")]
    view = await journal.task(task.task_id)
    assert view is not None
    assert view.priority == 2


async def test_second_command_about_a_letter_is_refused_and_no_act(journal: Journal) -> None:
    """Two operators, one letter: one of them acted, the other is told so."""
    await fail_with_letter(journal)

    await accepted(
        journal,
        about_letter("letter-1"),
        about_letter("letter-1", command_id="replay-2"),
        about_letter("letter-1", "dead_letter.discard", "discard-1"),
    )

    told = [(row.type, row.data["command_id"]) for row in await relay(journal) if "command_id" in row.data]
    assert sorted(told) == [
        ("command.refused", "discard-1"),
        ("command.refused", "replay-2"),
        ("operator.acted", "replay-1"),
    ]
    assert (await claim_one(journal)).epoch == 1


async def test_discard_of_a_record_without_task_is_told_under_the_letters_id(journal: Journal) -> None:
    """There is no task whose events it could stand among."""
    await accepted(journal, lone_letter())
    await accepted(journal, about_letter("lone", "dead_letter.discard"))

    *_, row = await relay(journal)

    assert (row.type, row.task_id, row.key, row.sequence) == ("operator.acted", None, "lone", None)
    assert OperatorActed.model_validate(row.data).task_id is None


async def test_priority_that_comes_before_its_task_is_told_with_its_sender(journal: Journal) -> None:
    """It is kept until the task comes, and so is who sent it."""
    task = new_task()
    await accepted(journal, reprioritise(task, 9))
    assert await acts(journal) == []

    await accepted(journal, task)

    [act] = await acts(journal)
    assert (act.who, act.outcome, act.detail) == (OPERATOR, "reprioritised", "priority 5 to 9")
    view = await journal.task(task.task_id)
    assert view is not None
    assert view.priority == 9


# --- views, housekeeping, waking up -----------------------------------------------------------------------------------


async def test_tasks_newest_first_by_state(journal: Journal) -> None:
    """What a person wants to see first."""
    tasks = [new_task(f"t{nr}") for nr in range(4)]
    await accepted(journal, *tasks)
    await claim_one(journal)

    newest = [view.task_id for view in await journal.tasks(limit=2)]
    running = [view.task_id for view in await journal.tasks(states=[State.RUNNING, State.FAILED])]

    assert newest == [tasks[3].task_id, tasks[2].task_id]
    assert running == [tasks[0].task_id]
    assert await journal.task("none") is None


async def test_depths_count_and_age(store: Store) -> None:
    """What metrics and back-pressure look at."""
    await accepted(store.journal, new_task(), new_task("two"), new_task("three", run_after_s=60), lone_letter())
    await claim_one(store.journal)
    await store.advance(5)

    depths = await store.journal.depths()

    assert depths.by_state == {State.AVAILABLE: 1, State.RUNNING: 1, State.SCHEDULED: 1}
    assert (depths.outbox, depths.dead_letters) == (4, 1)
    assert depths.oldest_available_s == pytest.approx(5, abs=2)
    assert depths.oldest_outbox_s == pytest.approx(5, abs=2)


async def test_depths_of_nothing(journal: Journal) -> None:
    """An idle agent has ages of zero, not of infinity."""
    depths = await journal.depths()

    assert (depths.by_state, depths.outbox, depths.dead_letters) == ({}, 0, 0)
    assert (depths.oldest_available_s, depths.oldest_running_s, depths.oldest_outbox_s) == (0, 0, 0)


async def test_tidy_archives_what_has_ended_and_is_told(store: Store) -> None:
    """Tables stay small; the idempotency key, the view and the dead letter stay."""
    await fail_with_letter(store.journal)
    waiting = new_task("waiting", key="one")
    await accepted(store.journal, waiting, answer())
    assert await store.journal.tidy(older_than_s=60) == Tidied()
    await store.advance(61)
    assert await store.journal.tidy(older_than_s=60) == Tidied(answers=1), "its events are not sent yet"
    await relay(store.journal)

    assert await store.journal.tidy(older_than_s=60) == Tidied(archived=1)

    assert await accept(store.journal, new_task(), new_task()._replace(payload_digest="d2")) == [
        "duplicate",
        "conflict",
    ]
    assert [view.state for view in await store.journal.tasks()] == [State.AVAILABLE, State.FAILED]
    view = await store.journal.task(new_task().task_id)
    assert view is not None
    assert (view.state, view.sequence) == (State.FAILED, 3)
    assert (await store.journal.depths()).by_state == {State.AVAILABLE: 1}
    assert await store.journal.checkpoints(new_task().task_id) == {}
    assert (await claim_one(store.journal)).task_id == waiting.task_id


async def test_archived_task_answers_commands_and_can_be_replayed(store: Store) -> None:
    """A dead letter may be looked at long after."""
    await fail_with_letter(store.journal)
    await relay(store.journal)
    await store.advance(61)
    await store.journal.tidy(older_than_s=60)
    task = new_task()

    await accepted(store.journal, cancel(task))
    assert numbers(await relay(store.journal), task) == [(None, "command.refused")]
    assert (await store.journal.depths()).by_state == {}, "a refusal does not bring it back"
    await accepted(store.journal, about_letter("letter-1"))

    claim = await claim_one(store.journal)
    assert (claim.task_id, claim.epoch, claim.fence) == (task.task_id, 1, 2)
    assert (claim.request, claim.origin) == (task.request, task.origin)
    assert numbers(await relay(store.journal), task) == [(4, "queued"), (None, "operator.acted")]
    await store.journal.finish(claim, Finish(Ending.COMPLETED))
    await relay(store.journal)
    await store.advance(61)
    assert (await store.journal.tidy(older_than_s=60)).archived == 1


async def test_tidy_forgets_applied_commands_and_keeps_waiting_ones(store: Store) -> None:
    """A command for a task that has not come yet has no age limit."""
    task = new_task()
    await accepted(store.journal, task, cancel(task), cancel(new_task("two"), "early"))
    await store.advance(61)

    assert (await store.journal.tidy(older_than_s=60)).commands == 1
    assert (await store.journal.tidy(older_than_s=60)).commands == 0
    await accepted(store.journal, new_task("two"))

    assert [kind for _, kind in numbers(await relay(store.journal), new_task("two"))] == ["queued", "cancelled"]


async def test_referenced_artefacts_are_those_of_kept_rows(journal: Journal) -> None:
    """What is collected must not be needed any more."""
    names = ["sha256:" + letter * 64 for letter in "abc"]
    task = new_task(attributes={"dataref": names[2]})
    await accepted(journal, task)
    claim = await claim_one(journal)
    await journal.record(claim, checkpoint("weave", {"files": [{"artifact": names[0]}]}), [])
    event = Event("task.dead_lettered", "k", {"dead_letter_id": "l", "original": {"dataref": names[1]}, "reason": {}})
    await journal.finish(claim, Finish(Ending.FAILED, [event]))

    assert await journal.referenced() == frozenset(names)


async def test_change_wakes_who_waits(journal: Journal) -> None:
    """A new task is claimed at once, not at the next poll."""
    assert await journal.claim("w1", limit=1, lease_s=LEASE_S) == []
    waiting = asyncio.create_task(journal.changed(timeout_s=60))
    await settle()
    assert not waiting.done()

    await accepted(journal, new_task())

    await asyncio.wait_for(waiting, 5)


async def test_change_since_the_last_look_is_not_slept_through(journal: Journal) -> None:
    """It came between the look and the wait."""
    assert await journal.unsent(limit=1) == []
    await accepted(journal, new_task())

    await asyncio.wait_for(journal.changed(timeout_s=60), 5)


async def test_change_times_out(journal: Journal) -> None:
    """Time that passes is no change; the caller looks again by itself."""
    await journal.claim("w1", limit=1, lease_s=LEASE_S)

    await asyncio.wait_for(journal.changed(timeout_s=0.01), 5)
