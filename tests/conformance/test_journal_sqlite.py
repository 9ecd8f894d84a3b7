"""What only the journal in a file promises: one agent, durability, group commit, readers beside it."""

import asyncio
import re
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from agent.errors import EnvironmentUnfit, Fenced, JournalUnavailable
from agent.journal.port import Ending, Finish, State
from agent.journal.sqlite import SqliteJournal
from agent.journal.sqlite.file import LATEST
from agent.journal.sqlite.group import Transaction
from agent.journal.sqlite.statements import SQL
from tests.conformance.journals import (
    LEASE_S,
    FakeClock,
    SqliteStore,
    about_letter,
    accept,
    accepted,
    answer,
    cancel,
    checkpoint,
    claim_one,
    letter,
    lone_letter,
    new_task,
    numbers,
    relay,
    status,
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path)
    await made.open()
    yield made
    await made.journal.close()


async def test_second_agent_is_refused(store: SqliteStore) -> None:
    """Lease time is one process's monotonic clock: two agents on one file would claim from each other."""
    other = SqliteJournal(store.folder / "journal.sqlite", FakeClock())

    with pytest.raises(EnvironmentUnfit, match="another agent") as raised:
        await other.open()

    assert raised.value.remedy
    await store.journal.close()
    await other.open()
    await other.close()


async def test_restart_releases_all_leases_as_crashes(store: SqliteStore) -> None:
    """Whoever held a lease died with the process: no waiting for its end, and a killer task is counted."""
    task = new_task()
    await accepted(store.journal, task)
    old = await claim_one(store.journal)
    await store.journal.record(old, checkpoint(), [status(task)])

    await store.reopen()

    again = await claim_one(store.journal)
    assert (again.attempt, again.crashes, again.fence) == (2, 1, 2)
    assert list(await store.journal.checkpoints(task.task_id)) == ["read"]
    with pytest.raises(Fenced):
        await store.journal.finish(old, Finish(Ending.COMPLETED))


async def test_clean_stop_leaves_nothing_to_count(store: SqliteStore) -> None:
    """A drain hands everything back before it closes."""
    await accepted(store.journal, new_task())
    await store.journal.finish(await claim_one(store.journal), Finish(Ending.INTERRUPTED))

    await store.reopen()

    assert (await claim_one(store.journal)).crashes == 0


async def test_everything_acknowledged_survives_a_crash_at_any_step(store: SqliteStore) -> None:
    """After each acknowledged call the file on disk, as it lies there, holds all of it."""
    task = new_task()
    await accepted(store.journal, cancel(new_task("early")), answer(data=b"fact"))
    await store.crash()
    await accepted(store.journal, task, lone_letter())
    await store.crash()
    claim = await claim_one(store.journal)
    await store.journal.record(claim, checkpoint(), [status(task)])
    await store.crash()
    assert list(await store.journal.checkpoints(task.task_id)) == ["read"]
    claim = await claim_one(store.journal)
    assert claim.crashes == 1
    await store.journal.finish(claim, Finish(Ending.FAILED, [letter(), status(task, "failed")]))
    await store.crash()

    assert await store.journal.answer("q1") == b"fact"
    assert await accept(store.journal, new_task("early"), task, lone_letter()) == ["accepted", "duplicate", "duplicate"]
    found = await relay(store.journal)
    assert [number for number, _ in numbers(found, task)] == [1, 2, None, 3]
    assert numbers(found, new_task("early")) == [(1, "queued"), (2, "cancelled")]
    await store.crash()
    assert await relay(store.journal) == [], "marked is marked"
    assert len(await store.journal.dead_letters()) == 2


async def test_events_keep_id_and_number_over_a_crash(store: SqliteStore) -> None:
    """Published, not marked, killed: the repeat is recognisable."""
    await accepted(store.journal, new_task())
    before = await store.journal.unsent(limit=10)

    await store.crash()

    assert await store.journal.unsent(limit=10) == before


async def test_positions_are_not_used_again_after_a_restart(store: SqliteStore) -> None:
    """A late `sent` must never hit another row of the same process."""
    await accepted(store.journal, new_task())
    (row,) = await relay(store.journal)
    await accepted(store.journal, new_task("two"))

    await store.journal.sent([row.position])

    assert len(await relay(store.journal)) == 1


async def test_units_that_wait_share_a_transaction(store: SqliteStore) -> None:
    """Group commit: an fsync costs the same for one and for a hundred."""
    tasks = [new_task(f"t{nr}") for nr in range(100)]
    await accepted(store.journal, *tasks)
    claims = await store.journal.claim("w1", limit=100, lease_s=LEASE_S)
    assert isinstance(store.journal, SqliteJournal)
    before = store.journal.commits

    await asyncio.gather(*[store.journal.record(claim, checkpoint(), []) for claim in claims])

    assert store.journal.commits - before <= 5


async def test_failing_unit_does_not_spoil_its_group(store: SqliteStore) -> None:
    """A stale fence is one caller's trouble."""
    tasks = [new_task(f"t{nr}") for nr in range(10)]
    await accepted(store.journal, *tasks)
    claims = list(await store.journal.claim("w1", limit=10, lease_s=LEASE_S))
    await store.journal.finish(claims[4], Finish(Ending.INTERRUPTED))

    outcomes = await asyncio.gather(
        *[store.journal.record(claim, checkpoint(), [status(task)]) for claim, task in zip(claims, tasks, strict=True)],
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [Fenced if nr == 4 else type(None) for nr in range(10)]
    assert len(await store.journal.checkpoints(tasks[5].task_id)) == 1
    assert await store.journal.checkpoints(tasks[4].task_id) == {}


async def test_unit_that_fails_halfway_is_undone_alone(store: SqliteStore) -> None:
    """What it had written goes, what its neighbours wrote stays."""
    outcomes = await asyncio.gather(
        store.journal.accept([new_task("before")]),
        store.journal.accept([new_task("half"), cancel(new_task("half")), new_task("odd", priority=2**70)]),
        store.journal.accept([new_task("after")]),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [list, OverflowError, list]
    assert {view.task_id for view in await store.journal.tasks()} == {
        new_task("before").task_id, new_task("after").task_id,
    }  # fmt: skip
    assert await accept(store.journal, new_task("half")) == ["accepted"]
    assert len(await relay(store.journal)) == 3


async def test_bytes_of_a_task_that_cannot_run_again_are_not_kept(store: SqliteStore) -> None:
    """A million documents of 200 kB would fill the disk; a failed task keeps its own, for a replay."""
    for name, ending in (("done", Ending.COMPLETED), ("failed", Ending.FAILED)):
        await accepted(store.journal, new_task(name))
        await store.journal.finish(await claim_one(store.journal), Finish(ending))
    await relay(store.journal)
    await store.journal.tidy(older_than_s=0)
    await store.journal.close()

    connection = sqlite3.connect(store.folder / "journal.sqlite")
    kept = dict(connection.execute("SELECT idempotency_key, length(request) > 0 FROM archived_request").fetchall())
    connection.close()
    assert kept == {"done": 0, "failed": 1}


async def test_keys_of_archived_tasks_lie_apart(store: SqliteStore) -> None:
    """A new key dirties a page of an index that is as large as what is at work, not as what ever was."""
    task = new_task("failed")
    await accepted(store.journal, task)
    await store.journal.finish(await claim_one(store.journal), Finish(Ending.FAILED, [letter("letter-failed")]))
    await relay(store.journal)
    await store.journal.tidy(older_than_s=0)

    assert await _held(store) == {"request": 0, "archived_request": 1}
    assert await accept(store.journal, task, task._replace(payload_digest="other")) == ["duplicate", "conflict"]
    await accept(store.journal, about_letter("letter-failed"))
    assert await _held(store) == {"request": 1, "archived_request": 0}, "a replay brings it back"
    assert await accept(store.journal, task) == ["duplicate"]
    assert (await claim_one(store.journal)).request == task.request


async def _held(store: SqliteStore) -> dict[str, int]:
    journal = store.journal
    assert isinstance(journal, SqliteJournal)

    def count(transaction: Transaction, table: str) -> int:
        return int(transaction.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    return {table: await journal._run(partial(count, table=table)) for table in ("request", "archived_request")}


async def test_ids_are_not_used_again_when_the_newest_task_is_archived(store: SqliteStore) -> None:
    """Both tables count: else the next task would take the row of an archived one."""
    await accepted(store.journal, new_task("old"))
    await store.journal.finish(await claim_one(store.journal), Finish(Ending.COMPLETED))
    await relay(store.journal)
    await store.journal.tidy(older_than_s=0)
    await store.reopen()

    await accepted(store.journal, new_task("new"))

    assert [(view.task_id, view.state) for view in await store.journal.tasks()] == [
        (new_task("new").task_id, State.AVAILABLE), (new_task("old").task_id, State.COMPLETED),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "statement", [name for name, text in SQL.items() if "request" in text and "{rows}" not in text]
)
async def test_no_statement_reads_all_requests(store: SqliteStore, statement: str) -> None:
    """A million archived tasks are found by an index, or, where people list the newest, from the end of the ids."""
    await store.journal.close()
    text = SQL[statement].replace("{keys}", "?, ?")
    numbered = re.findall(r"\?(\d+)", text)
    values = [None] * (max(map(int, numbered)) if numbered else text.count("?"))
    connection = sqlite3.connect(store.folder / "journal.sqlite")
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    connection.close()

    names = {"request", "archived_request"} | set(
        re.findall(r"(?:FROM|JOIN) (?:archived_)?request (?:AS )?([a-z])\b", text)
    )
    scanned = [
        step for step in plan if (found := re.match(r"SCAN (?:TABLE \w+ AS |TABLE )?(\w+)", step)) and found[1] in names
    ]
    assert scanned == []
    assert not [step for step in plan if "AUTOMATIC" in step]


@pytest.mark.parametrize("version", [LATEST - 1, LATEST + 1])
async def test_journal_of_another_release(store: SqliteStore, version: int) -> None:
    """Who only looks brings nothing up to date; what a later release wrote is not guessed at."""
    await store.journal.close()
    path = store.folder / "journal.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()

    with pytest.raises(EnvironmentUnfit, match="another release"):
        await SqliteJournal.open_readonly(path).open()
    if version > LATEST:
        with pytest.raises(EnvironmentUnfit, match="later release"):
            await store.journal.open()


async def test_full_disk_is_unavailable_and_nothing_is_stored(store: SqliteStore) -> None:
    """The caller keeps its batch and tries again."""
    await accepted(store.journal, new_task())
    journal = store.journal
    assert isinstance(journal, SqliteJournal)
    await _pragma(journal, "max_page_count = 60")
    large = new_task("large", request=b"x" * 1_000_000)

    with pytest.raises(JournalUnavailable):
        await journal.accept([new_task("two"), large])

    await _pragma(journal, "max_page_count = 1000000")
    assert await accept(journal, new_task("two"), large) == ["accepted", "accepted"]


async def _pragma(journal: SqliteJournal, text: str) -> int:
    return int(await journal._run(lambda transaction: transaction.connection.execute(f"PRAGMA {text}").fetchone()[0]))


async def test_calls_before_open_and_after_close_are_unavailable(tmp_path: Path) -> None:
    """A late caller in a shutdown gets an error of ours."""
    journal = SqliteJournal(tmp_path / "j.sqlite", FakeClock())
    with pytest.raises(JournalUnavailable):
        await journal.accept([new_task()])

    await journal.open()
    await journal.close()
    await journal.close()

    with pytest.raises(JournalUnavailable):
        await journal.depths()


async def test_close_commits_what_was_handed_in(store: SqliteStore) -> None:
    """Finish what is in flight."""
    pending = [asyncio.create_task(store.journal.accept([new_task(f"t{nr}")])) for nr in range(20)]
    await asyncio.sleep(0)  # one turn, in which each hands in its unit

    await store.reopen()

    assert await asyncio.gather(*pending) == [["accepted"]] * 20
    assert len(await store.journal.tasks()) == 20


async def test_cancelled_caller_leaves_the_journal_whole(store: SqliteStore) -> None:
    """A caller may go; its unit is stored or not, and the others do not notice."""
    calls = [asyncio.create_task(store.journal.accept([new_task(f"t{nr}")])) for nr in range(10)]
    await asyncio.sleep(0)  # one turn, in which each hands in its unit
    calls[3].cancel()

    await asyncio.gather(*calls, return_exceptions=True)

    assert await accept(store.journal, new_task("after")) == ["accepted"]
    assert 10 <= len(await store.journal.tasks()) <= 11


async def test_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    """One clear line, and the file is left alone."""
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database, but somebody's notes" * 100)

    for journal in (SqliteJournal(path, FakeClock()), SqliteJournal.open_readonly(path)):
        with pytest.raises(EnvironmentUnfit, match="not a database"):
            await journal.open()

    assert path.read_bytes().startswith(b"not a database")


async def test_other_commands_read_beside_the_agent_and_cannot_write(store: SqliteStore) -> None:
    """`backwright tasks` looks; what changes goes over the control topic."""
    await accepted(store.journal, new_task())
    reader = SqliteJournal.open_readonly(store.folder / "journal.sqlite")
    await reader.open()
    assert [view.state for view in await reader.tasks()] == [State.AVAILABLE]

    await accepted(store.journal, new_task("two"))

    assert len(await reader.tasks()) == 2
    with pytest.raises(JournalUnavailable, match="read"):
        await reader.accept([new_task("three")])
    await reader.close()
    assert len(await store.journal.tasks()) == 2
    await store.journal.close()
    await reader.open()
    assert len(await reader.tasks()) == 2, "also while no agent runs"
    await reader.close()


async def test_reader_of_a_journal_that_is_not_there(tmp_path: Path) -> None:
    """Nothing is created by looking."""
    with pytest.raises(EnvironmentUnfit, match="no journal"):
        await SqliteJournal.open_readonly(tmp_path / "none" / "journal.sqlite").open()

    assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []


async def test_renewal_from_another_event_loop(store: SqliteStore) -> None:
    """The lease keeper lives in a thread, so that a blocked loop does not lose its work at once."""
    await accepted(store.journal, new_task())
    claim = await claim_one(store.journal)
    held: list[bool] = []

    def keeper() -> None:
        answers = asyncio.run(store.journal.renew([claim], lease_s=LEASE_S))
        held.append(answers[claim.task_id].held)

    thread = threading.Thread(target=keeper)
    thread.start()
    thread.join(10)  # this loop is blocked meanwhile, on purpose

    assert held == [True]


async def test_wall_clock_that_is_set_does_not_move_leases(store: SqliteStore) -> None:
    """Lease time is monotonic."""
    await accepted(store.journal, new_task())
    await claim_one(store.journal)

    store.clock.wall = store.clock.wall.replace(year=2030)
    assert await store.journal.claim("w2", limit=1, lease_s=LEASE_S) == []
    store.clock.wall = store.clock.wall.replace(year=2020)
    store.clock.steady += LEASE_S + 1

    assert (await claim_one(store.journal, "w2")).crashes == 1


async def test_ordering_key_is_held_by_an_index_too(store: SqliteStore) -> None:
    """Should a query ever be wrong, the file refuses a second holder."""
    await accepted(store.journal, new_task("a", key="orders"), new_task("b", key="orders"))
    await claim_one(store.journal)
    await store.journal.close()
    connection = sqlite3.connect(store.folder / "journal.sqlite")

    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE task SET holds_key = 1")

    connection.close()


async def test_file_is_ours_alone_and_synchronous(store: SqliteStore) -> None:
    """Requests may hold what others must not read; FULL is what makes `accepted` mean durable."""
    journal = store.journal
    assert isinstance(journal, SqliteJournal)

    assert await _pragma(journal, "synchronous") == 2
    assert stat.S_IMODE(await asyncio.to_thread(lambda: (store.folder / "journal.sqlite").stat().st_mode)) == 0o600
