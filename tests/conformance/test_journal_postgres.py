"""What only the shared journal promises: many replicas, and a server that comes and goes."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from agent.errors import EnvironmentUnfit, Fenced, JournalUnavailable
from agent.journal import lifecycle
from agent.journal.port import CancelRequested, Claim, Ending, Finish, Journal, OutboxRow, Renewal, State
from agent.journal.postgres import SCHEMA, PostgresJournal, work
from agent.journal.postgres.session import SQL
from agent.journal.postgres.writes import SHARDS
from agent.settings import JournalSettings
from agent.testing.waiting import settle, until
from tests.conformance.journals import (
    LEASE_S,
    SETTINGS,
    PostgresStore,
    accept,
    accepted,
    cancel,
    checkpoint,
    claim_one,
    new_task,
    numbers,
    relay,
    status,
)
from tests.postgres import PostgresServer


@pytest.fixture(scope="module")
def dsn(postgres_server: PostgresServer) -> Iterator[str]:
    made = postgres_server.create()
    yield made
    postgres_server.drop(made)


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[PostgresStore]:
    made = PostgresStore(dsn)
    await made.open()
    yield made
    await made.close()


# --- ordering keys and claims -----------------------------------------------------------------------------------------


async def test_replicas_claim_each_task_once_and_each_key_once(store: PostgresStore) -> None:
    """Four replicas drain 40 tasks on 8 ordering keys: never two of a key at once, each key in order of acceptance."""
    replicas = [await store.replica() for _ in range(4)]
    tasks = [new_task(f"t{nr}", key=f"key{nr % 8}") for nr in range(40)]
    await accepted(store.journal, *tasks)
    running: set[str] = set()
    order: dict[str, list[str]] = {}

    async def work(journal: PostgresJournal, name: str) -> None:
        while sum(len(ids) for ids in order.values()) < 40:
            for claim in await journal.claim(name, limit=3, lease_s=60):
                assert claim.ordering_key not in running
                running.add(claim.ordering_key)
                order.setdefault(claim.ordering_key, []).append(claim.task_id)
                await asyncio.sleep(0)  # a turn for the others, while it runs
                running.discard(claim.ordering_key)
                await journal.finish(claim, Finish(Ending.COMPLETED))

    await asyncio.wait_for(asyncio.gather(*[work(each, f"w{nr}") for nr, each in enumerate(replicas)]), 60)

    assert [order[f"key{nr}"] for nr in range(8)] == [
        [task.task_id for task in tasks if task.ordering_key == f"key{nr}"] for nr in range(8)
    ]


async def test_claim_passes_by_what_another_has_locked(store: PostgresStore) -> None:
    """A replica that is stopped in the middle of a claim does not stop the others, and none starts a second of its key."""
    await accepted(store.journal, new_task("a", key="orders"), new_task("b", key="orders"), new_task("c"))
    stopped = await store.connect()
    transaction = stopped.transaction()
    await transaction.start()
    await stopped.fetch("SELECT id FROM task WHERE task_id = $1 FOR UPDATE", new_task("a").task_id)

    claims = await asyncio.wait_for(store.journal.claim("w1", limit=5, lease_s=LEASE_S), 5)

    assert [claim.task_id for claim in claims] == [new_task("c").task_id]
    await transaction.rollback()
    await stopped.close()
    assert (await claim_one(store.journal)).task_id == new_task("a").task_id


async def two_sights_of_a_key(store: PostgresStore, one: Any, two: Any) -> tuple[work.Sight, work.Sight]:
    """The interleaving that locks of rows let through: `one` saw the later task of a key alone, `two` sees the earlier one."""
    early, late = new_task("a", key="orders", run_after_s=60), new_task("b", key="orders")
    await accepted(store.journal, early, late)
    first = await work.look(one, 1)
    await store.execute(f"UPDATE task SET state = 'available', run_at = NULL WHERE task_id = '{early.task_id}'")
    second = await work.look(two, 1)
    assert [row.task_id for _, row in first.startable] == [late.task_id]
    assert [row.task_id for _, row in second.startable] == [early.task_id]
    return first, second


async def test_claim_goes_on_when_another_takes_what_it_saw(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is given fewer than it asked for sleeps: then there must be no more."""
    await accepted(store.journal, *(new_task(f"t{nr}") for nr in range(5)))
    other = await store.replica()
    look, taken = work.look, list[Claim]()

    async def look_slowly(connection: Any, limit: int) -> work.Sight:
        sight = await look(connection, limit)
        if limit == 3:
            taken.extend(await other.claim("other", limit=2, lease_s=LEASE_S))
        return sight

    monkeypatch.setattr("agent.journal.postgres.journal.look", look_slowly)

    claims = await store.journal.claim("one", limit=3, lease_s=LEASE_S)

    assert [len(taken), len(claims)] == [2, 3]
    assert len({claim.task_id for claim in (*taken, *claims)}) == 5


async def test_of_two_that_saw_a_key_free_one_starts(store: PostgresStore) -> None:
    """Seen before the other's commit, started after it."""
    one, two = await store.connect(), await store.connect()
    first, second = await two_sights_of_a_key(store, one, two)

    claims = [await work.start(two, second, "w2", LEASE_S), await work.start(one, first, "w1", LEASE_S)]

    assert [len(each) for each in claims] == [1, 0]
    for connection in (one, two):
        await connection.close()


async def test_key_that_another_is_claiming_is_passed_by_without_waiting(store: PostgresStore) -> None:
    """The other's claim is not committed yet, and may never be."""
    one, two = await store.connect(), await store.connect()
    first, second = await two_sights_of_a_key(store, one, two)
    transaction = one.transaction()
    await transaction.start()
    # Not through `start`, which would see that the earlier task is there by now.
    await one.execute("SELECT pg_advisory_xact_lock(hashtextextended('orders', $1))", work.KEY_LOCK_SEED)

    assert await asyncio.wait_for(work.start(two, second, "w2", LEASE_S), 5) == []

    await transaction.rollback()
    assert len(await work.start(two, second, "w2", LEASE_S)) == 1
    assert await work.start(one, first, "w1", LEASE_S) == []
    for connection in (one, two):
        await connection.close()


async def test_second_holder_of_a_key_is_undone(store: PostgresStore) -> None:
    """Behind all that is seen and locked stands the unique index: also against a replica that takes no lock of ours."""
    one, two = await store.connect(), await store.connect()
    _, second = await two_sights_of_a_key(store, one, two)
    transaction = one.transaction()
    await transaction.start()
    await one.execute("UPDATE task SET state = 'running', holds_key = true WHERE task_id = $1", new_task("b").task_id)

    starting = asyncio.create_task(work.start(two, second, "w2", LEASE_S))
    await until_blocked(store)
    await transaction.commit()

    with pytest.raises(asyncpg.UniqueViolationError):
        await starting
    for connection in (one, two):
        await connection.close()


async def until_blocked(store: PostgresStore) -> None:
    """Until somebody waits for a lock in this database."""
    watcher = await store.connect()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    await until(lambda: watcher.fetchval(waiting), "a wait for a lock", limit_s=10)
    await watcher.close()


class Cut:
    """Cuts the connection of a journal after a statement has taken effect, before its answer is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
        self.cuts = 0
        whole = asyncpg.Connection.fetch

        async def fetch(connection: Any, query: str, *values: Any, **options: Any) -> Any:
            found = await whole(connection, query, *values, **options)
            if query == SQL[statement]:
                self.cuts += 1
                monkeypatch.undo()  # once
                connection.terminate()
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            return found

        monkeypatch.setattr(asyncpg.Connection, "fetch", fetch)


async def test_claim_whose_answer_was_lost_is_given_again(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that went through although the connection broke must not cost the task a crash."""
    await accepted(store.journal, new_task(), new_task("two"))
    cut = Cut(monkeypatch, "start")
    with pytest.raises(JournalUnavailable):
        await store.journal.claim("w1", limit=1, lease_s=LEASE_S)

    claims = await store.journal.claim("w1", limit=2, lease_s=LEASE_S)

    assert cut.cuts == 1
    assert [(claim.task_id, claim.attempt, claim.fence) for claim in claims] == [
        (new_task().task_id, 1, 1), (new_task("two").task_id, 1, 1),
    ]  # fmt: skip
    assert claims[0].request == new_task().request
    assert (await store.journal.renew(claims, lease_s=LEASE_S))[claims[0].task_id] == Renewal(held=True)
    assert await store.journal.claim("w1", limit=2, lease_s=LEASE_S) == []


async def test_record_whose_answer_was_lost_is_told_once(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for, not assumed: neither a second number for the same status nor a checkpoint that is missing."""
    task = new_task()
    await accepted(store.journal, task)
    claim = await claim_one(store.journal)
    cut = Cut(monkeypatch, "store")

    await store.journal.record(claim, checkpoint(), [status(task)])

    assert cut.cuts == 1
    assert [number for number, _ in numbers(await relay(store.journal), task)] == [1, 2]
    assert len(await store.journal.checkpoints(task.task_id)) == 1


async def test_finish_whose_answer_was_lost_is_no_fence(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt ended, and its worker hears so; what another attempt of the group was refused stays refused."""
    task, other = new_task(), new_task("two")
    await accepted(store.journal, task, other)
    claims = await store.journal.claim("w1", limit=2, lease_s=LEASE_S)
    cut = Cut(monkeypatch, "store")

    outcomes = await asyncio.gather(
        store.journal.finish(claims[0], Finish(Ending.COMPLETED, [status(task, "completed")])),
        store.journal.record(claims[1]._replace(fence=9), checkpoint(), [status(other)]),
        return_exceptions=True,
    )

    assert cut.cuts == 1
    assert [type(outcome) for outcome in outcomes] == [type(None), Fenced]
    assert [number for number, _ in numbers(await relay(store.journal), task)] == [1, 2]


async def test_write_that_is_still_under_way_is_waited_for(store: PostgresStore) -> None:
    """The server goes on with a statement whose client is gone: whoever looks meanwhile sees the row of before."""
    task = new_task()
    await accepted(store.journal, task)
    claim = await claim_one(store.journal)
    ghost, here = await store.connect(), await store.connect()
    unit = work.Unit(
        claim, lambda row, now: lifecycle.record(row, [status(task)], final=False, now=now), None, asyncio.Future()
    )
    group = work.Group([unit])
    transaction = ghost.transaction()
    await transaction.start()
    await group.write(ghost)
    unit.is_settled = False  # its answer never came

    again = asyncio.create_task(group.write(here))
    await until_blocked(store)
    await transaction.commit()
    await again

    assert unit.error is None
    assert [number for number, _ in numbers(await relay(store.journal), task)] == [1, 2]
    for connection in (ghost, here):
        await connection.close()


async def test_a_row_that_changes_under_a_write_is_looked_at_again(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancellation that arrives between look and write is neither overwritten nor passed over."""
    task = new_task()
    await accepted(store.journal, task)
    claim = await claim_one(store.journal)
    whole, looks = work.Group._write, 0

    async def interrupted(group: work.Group, connection: Any, units: Any) -> None:
        nonlocal looks
        looks += 1
        fetch = connection.fetch

        async def then_cancel(query: str, *values: Any) -> Any:
            found = await fetch(query, *values)
            if query == SQL["rows"] and looks == 1:
                await accept(store.journal, cancel(task))
            return found

        await whole(group, SimpleNamespace(fetch=then_cancel), units)

    monkeypatch.setattr(work.Group, "_write", interrupted)
    with pytest.raises(CancelRequested):
        await store.journal.record(claim, checkpoint(), [status(task)], final=True)

    assert looks == 2
    assert await store.journal.checkpoints(task.task_id) == {}


async def test_replica_that_was_stopped_is_fenced_by_another(store: PostgresStore) -> None:
    """Both alive, one can write."""
    other = await store.replica()
    task = new_task()
    await accepted(store.journal, task)
    old = await claim_one(store.journal, "w1")
    await store.advance(LEASE_S + 1)
    new = await claim_one(other, "w2")

    outcomes = await asyncio.gather(
        store.journal.record(old, checkpoint("old"), [status(task)]),
        other.record(new, checkpoint("new"), [status(task)]),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [Fenced, type(None)]
    assert list(await other.checkpoints(task.task_id)) == ["new"]


# --- intake -----------------------------------------------------------------------------------------------------------


async def test_lease_time_is_that_of_the_moment_and_not_of_the_transaction(store: PostgresStore) -> None:
    """A statement that waited for a lock, in a transaction that began long ago, must not hand out a lease of the past."""
    connection = await store.connect()
    async with connection.transaction():
        began = float(await connection.fetchval("SELECT extract(epoch FROM now())"))
        await connection.execute("SELECT pg_sleep(0.05)")
        assert await connection.fetchval(SQL["now"]) >= began + 0.05
    await connection.close()

    of_the_transaction = re.compile(
        r"\b(now\(\)|(transaction|statement)_timestamp\(\)|current_timestamp)", re.IGNORECASE
    )
    assert [name for name, text in SQL.items() if of_the_transaction.search(text)] == []
    assert all("clock_timestamp()" in SQL[name] for name in ("look", "renew", "keep_relay"))


async def test_command_and_its_task_on_two_replicas_meet(store: PostgresStore) -> None:
    """Each might miss the other's uncommitted row; a cancellation that is lost so would never be found again."""
    other = await store.replica()
    for nr in range(30):
        task = new_task(f"t{nr}")
        await asyncio.gather(accept(store.journal, task), accept(other, cancel(task, f"c{nr}")))

    views = await store.journal.tasks()

    assert {view.state for view in views} == {State.CANCELLED}


async def test_same_batch_on_two_replicas_makes_each_task_once(store: PostgresStore) -> None:
    """Around a rebalance two consumers hold the same records for a moment, perhaps in another order."""
    other = await store.replica()
    tasks = [new_task(f"t{nr}") for nr in range(50)]

    outcomes = await asyncio.gather(accept(store.journal, *tasks), accept(other, *reversed(tasks)))

    flat = [outcome for each in outcomes for outcome in each]
    assert (flat.count("accepted"), flat.count("duplicate")) == (50, 50)
    assert len(await store.journal.tasks()) == 50
    assert len(await relay(store.journal)) == 50


async def test_commands_in_opposite_order_do_not_hang(store: PostgresStore) -> None:
    """Locks are taken in one order."""
    other = await store.replica()
    tasks = [new_task(f"t{nr}") for nr in range(20)]
    await accepted(store.journal, *tasks)

    await asyncio.wait_for(
        asyncio.gather(
            accept(store.journal, *[cancel(task, f"a{task.task_id}") for task in tasks]),
            accept(other, *[cancel(task, f"b{task.task_id}") for task in reversed(tasks)]),
        ),
        20,
    )

    assert {view.state for view in await store.journal.tasks()} == {State.CANCELLED}


# --- relays -----------------------------------------------------------------------------------------------------------


async def shards_of(store: PostgresStore) -> dict[str | None, int]:
    connection = await store.connect()
    found = await connection.fetch("SELECT holder, count(*) FROM relay_shard GROUP BY holder")
    await connection.close()
    return dict(found)


async def keep(journal: Any) -> list[OutboxRow]:
    """Look for rows, as if RELAY_KEEP_S had passed."""
    journal._kept_at = float("-inf")
    return list(await journal.unsent(limit=1000))


def relay_name(journal: Journal) -> str:
    """What a replica calls itself in the table of shards."""
    assert isinstance(journal, PostgresJournal)
    return journal._name


async def test_two_relays_never_hold_rows_of_one_task(store: PostgresStore) -> None:
    """Two relays with SKIP LOCKED swap neighbours: a task's rows go to one relay only, all of them."""
    other = await store.replica()
    tasks = [new_task(f"t{nr}") for nr in range(100)]
    await accepted(store.journal, *tasks)
    for claim in await store.journal.claim("w1", limit=100, lease_s=60):
        await store.journal.record(claim, None, [status(tasks[0])] * 3)
    await keep(store.journal)
    await keep(other)  # finds all shards taken, and says that it is there
    await store.journal.sent([row.position for row in await store.journal.unsent(limit=1000)][:200])

    mine, theirs = await keep(store.journal), await keep(other)

    assert {row.task_id for row in mine}.isdisjoint(row.task_id for row in theirs)


async def test_relays_share_when_their_hands_are_empty(store: PostgresStore) -> None:
    """What a relay has in hand it keeps; the rest is shared fairly, within a few seconds."""
    other = await store.replica()
    await keep(store.journal)
    assert await shards_of(store) == {relay_name(store.journal): SHARDS}
    await keep(other)
    await keep(store.journal)
    await keep(other)

    assert set(await shards_of(store)) == {relay_name(store.journal), relay_name(other)}
    assert set((await shards_of(store)).values()) == {SHARDS // 2}


async def test_relays_that_come_and_go_move_their_shards_at_once(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They tell each other: no event waits until a relay's next turn, which never comes here."""
    monkeypatch.setattr("agent.journal.postgres.journal.RELAY_KEEP_S", 1e9)
    other = await store.replica()
    journals: list[Any] = [store.journal, other]
    one, two = map(relay_name, journals)

    async def shared_as(expected: dict[str | None, int]) -> bool:
        """All look, as their outboxes do when they are woken."""
        for journal in journals:
            await journal.unsent(limit=10)
        return await shards_of(store) == expected

    await until(lambda: all(journal._is_listening for journal in journals), "both listen")

    await store.journal.unsent(limit=10)
    assert await shards_of(store) == {one: SHARDS}
    await until(lambda: shared_as({one: SHARDS // 2, two: SHARDS // 2}), "half of the shards for who came")

    await journals.pop().close()

    await until(lambda: shared_as({one: SHARDS}), "all shards for who stayed")


async def test_relay_keeps_the_shards_of_rows_in_flight(store: PostgresStore) -> None:
    """Rows that were given out and are not acknowledged must not be given to another meanwhile."""
    other = await store.replica()
    await accepted(store.journal, *[new_task(f"t{nr}") for nr in range(200)])
    in_flight = await keep(store.journal)
    await keep(other)
    await keep(store.journal)

    assert await keep(other) == []
    await store.journal.sent([row.position for row in in_flight])
    await keep(store.journal)
    await keep(other)
    assert set((await shards_of(store)).values()) == {SHARDS // 2}


async def test_relay_that_died_is_replaced(store: PostgresStore) -> None:
    """Its time runs out, by the database's clock; its rows come with the same ids."""
    other = await store.replica()
    await accepted(store.journal, new_task())
    before = await keep(store.journal)
    assert await keep(other) == []
    await store.execute("UPDATE relay SET held_until = 0; UPDATE relay_shard SET held_until = 1")

    assert await keep(other) == before
    assert await store.journal.unsent(limit=10) == [], "and the one that was only stopped is given nothing"


async def test_relay_that_closes_lets_go_at_once(store: PostgresStore) -> None:
    """A rolling deploy does not wait for leases."""
    other = await store.replica()
    await accepted(store.journal, new_task())
    await keep(other)
    assert await keep(store.journal) == []

    await other.close()

    assert len(await keep(store.journal)) == 1


async def test_late_commit_below_the_highest_id_is_found(store: PostgresStore) -> None:
    """Positions are taken before commits: rows are found by being unsent, never by a high-water mark."""
    late = await store.connect()
    transaction = late.transaction()
    await transaction.start()
    await late.execute(
        "INSERT INTO outbox (event_id, type, key, data, created_at, shard) VALUES ('late', 't', '\"k\"', '{}', 0, 1)"
    )
    await accepted(store.journal, new_task())
    assert [row.event_id for row in await relay(store.journal)] != ["late"]

    await transaction.commit()

    assert [row.event_id for row in await relay(store.journal)] == ["late"]
    await late.close()


async def test_order_of_a_task_is_the_order_of_its_commits(store: PostgresStore) -> None:
    """Sequence and position agree, whoever writes: the attempt, a command, the inbox of another replica."""
    other = await store.replica()
    tasks = [new_task(f"t{nr}") for nr in range(10)]
    await accepted(store.journal, *tasks)
    claims = await store.journal.claim("w1", limit=10, lease_s=60)

    async def attempt(claim: Claim, nr: int) -> None:
        for _ in range(10):
            await store.journal.record(claim, None, [status(tasks[nr])])

    async def commands(nr: int) -> None:
        for step in range(5):
            command = cancel(tasks[nr], f"c{nr}-{step}")
            await accept(other, command)

    await asyncio.gather(*[attempt(claim, nr) for nr, claim in enumerate(claims)], *[commands(nr) for nr in range(10)])

    found = await relay(store.journal)
    for task in tasks:
        assert [number for number, _ in numbers(found, task) if number] == list(range(1, 12))


# --- a server that comes and goes -------------------------------------------------------------------------------------


async def test_acknowledged_writes_survive_a_killed_server(
    store: PostgresStore, postgres_server: PostgresServer
) -> None:
    """kill -9 of PostgreSQL: calls fail as JournalUnavailable, then go on, and nothing acknowledged is gone."""
    task = new_task()
    await accepted(store.journal, task)
    claim = await claim_one(store.journal)
    await store.journal.record(claim, checkpoint(), [status(task)])

    await asyncio.to_thread(postgres_server.restart)

    with suppress(JournalUnavailable):  # the connections of before; each failure replaces one
        for _ in range(SETTINGS.pool_size):
            await store.journal.depths()
    assert await patiently(store.journal.checkpoints, task.task_id) != {}
    await patiently(store.journal.finish, claim, Finish(Ending.COMPLETED, [status(task, "completed")]))
    assert numbers(await relay(store.journal), task) == [(1, "queued"), (2, "developing"), (3, "completed")]
    await assert_hears(store)


async def patiently(call: Any, *values: Any) -> Any:
    for _ in range(20):
        with suppress(JournalUnavailable):
            return await call(*values)
    return await call(*values)


async def assert_hears(store: PostgresStore) -> None:
    """This replica's sleepers are woken by what another one stores: notified, long before they would look by themselves."""
    other = await store.replica()
    assert isinstance(store.journal, PostgresJournal)
    watcher = await store.connect()
    listening = "SELECT count(*) >= 2 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    await until(lambda: watcher.fetchval(listening), "two replicas that listen", limit_s=20)
    await watcher.close()
    await store.journal.claim("w", limit=0, lease_s=1)
    waiting = asyncio.create_task(store.journal.changed(timeout_s=30))
    await settle()
    assert store.journal._is_listening
    assert not waiting.done()

    await accepted(other, new_task("wake"))

    await asyncio.wait_for(waiting, 5)
    assert store.journal._is_listening, "it was not notified: it lost its connection"


async def test_change_on_one_replica_wakes_another(store: PostgresStore) -> None:
    """NOTIFY, not the next poll."""
    await assert_hears(store)


async def test_statement_that_hangs_is_cut(store: PostgresStore, dsn: str) -> None:
    """A lock that somebody forgot must not hang an agent for ever."""
    impatient = PostgresJournal(dsn, JournalSettings(statement_timeout_s=0.3))
    await impatient.open()
    task = new_task()
    await accepted(impatient, task)
    claim = await claim_one(impatient)
    holder = await store.connect()
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT 1 FROM task FOR UPDATE")

    with pytest.raises(JournalUnavailable):
        await impatient.record(claim, None, [status(task)])

    await transaction.rollback()
    await holder.close()
    await impatient.record(claim, None, [status(task)])
    await impatient.close()


async def test_unreachable_server_is_unavailable_and_wrong_password_is_fatal(dsn: str) -> None:
    """The first may pass; the second needs a person."""
    with pytest.raises(JournalUnavailable, match=r"no journal at 127\.0\.0\.1:1/none: ") as caught:
        await PostgresJournal("postgresql://u:secret@127.0.0.1:1/none", SETTINGS).open()
    assert "secret" not in str(caught.value)
    with pytest.raises(EnvironmentUnfit):
        await PostgresJournal(dsn.replace("tester:", "nobody:"), SETTINGS).open()


async def test_calls_before_open_and_after_close_are_unavailable(dsn: str) -> None:
    """A late caller in a shutdown gets an error of ours."""
    journal = PostgresJournal(dsn, SETTINGS)
    with pytest.raises(JournalUnavailable):
        await journal.accept([new_task()])
    await journal.open()
    await journal.close()
    await journal.close()

    with pytest.raises(JournalUnavailable):
        await journal.depths()


async def test_renewal_from_another_event_loop(store: PostgresStore) -> None:
    """The lease keeper lives in a thread with a connection of its own; here the main loop is blocked meanwhile."""
    await accepted(store.journal, new_task())
    claim = await claim_one(store.journal)
    held: list[bool] = []

    async def twice() -> None:
        for _ in range(2):
            answers = await store.journal.renew([claim], lease_s=LEASE_S)
            held.extend(answer.held for answer in answers.values())

    thread = threading.Thread(target=lambda: asyncio.run(twice()))
    thread.start()
    thread.join(20)

    assert held == [True, True]


# --- schema -----------------------------------------------------------------------------------------------------------


async def test_replicas_that_start_together_migrate_once(store: PostgresStore) -> None:
    """A deployment starts them all at once."""
    await store.journal.close()
    await store.execute(f"DROP SCHEMA {SCHEMA} CASCADE")

    replicas = [store.another() for _ in range(5)]
    await asyncio.gather(*[each.open() for each in replicas])

    await accepted(replicas[0], new_task())
    assert len(await replicas[4].tasks()) == 1
    for each in replicas:
        await each.close()


async def test_old_replica_goes_on_under_a_newer_schema(store: PostgresStore) -> None:
    """A migration only adds; code that does not know of it works on, also when it starts anew."""
    await store.execute(
        "ALTER TABLE task ADD COLUMN approved_by text; ALTER TABLE archive ADD COLUMN approved_by text;"
        "ALTER TABLE request ADD COLUMN tenant text DEFAULT 'x'; ALTER TABLE outbox ADD COLUMN schema_id integer;"
        "CREATE INDEX newer ON task (approved_by); INSERT INTO migration VALUES (999, now())"
    )
    other = await store.replica()
    task = new_task()

    for journal in (store.journal, other):
        assert await accept(journal, task, cancel(new_task("x"))) in (["accepted"] * 2, ["duplicate"] * 2)
    claim = await claim_one(other)
    await store.journal.record(claim, checkpoint(), [status(task)])
    await other.finish(claim, Finish(Ending.COMPLETED))
    assert len(await relay(store.journal)) == 3
    await store.advance(1)
    assert (await store.journal.tidy(older_than_s=0)).archived == 1
