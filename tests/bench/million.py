"""A journal with 1,000,000 finished tasks beside an empty one, in alternating rounds: accept, and a task's whole life.

The million is made of one task that really lived and was archived by `tidy`: its rows are copied under random ids
(every column as it is, whatever the schema). Random ids are the point: the index of keys is read at random.
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import asyncpg

from agent.clock import SystemClock
from agent.journal.port import Claim, Ending, Event, Finish, Journal
from agent.journal.postgres import SCHEMA, PostgresJournal
from agent.journal.sqlite import SqliteJournal
from agent.settings import JournalSettings
from contracts.status import Phase
from tests.bench.figures import Figure, figure, ratios
from tests.bench.requests import new_task
from tests.bench.stage import Lost, Stage

BATCH = 500  # as the inbox accepts and the outbox relays
CONCURRENCY = 64


async def run(stage: Stage, quick: bool) -> Sequence[Figure]:
    """Both stores. `quick`: 50,000 tasks, which shows that this works and nothing else."""
    finished, rounds, tasks = (50_000, 2, 1_000) if quick else (1_000_000, 9, 6_000)
    figures: list[Figure] = []
    for kind in ("sqlite", "postgres"):
        places = {"empty": await stage.journal(kind), "full": await stage.journal(kind)}
        journals = {name: _journal(*place) for name, place in places.items()}
        stage.say(f"{kind}: {finished:,} finished tasks are made")
        await _archive_one(journals["full"])
        if kind == "sqlite":
            await asyncio.to_thread(_copy_sqlite, Path(places["full"][1]) / "journal.sqlite", finished)
        else:
            await _copy_postgres(places["full"][0], finished)
        figures += await _compare(stage, kind, journals, rounds, tasks)
    return figures


async def _compare(stage: Stage, kind: str, journals: dict[str, Journal], rounds: int, tasks: int) -> list[Figure]:
    accepted: dict[str, list[float]] = {"empty": [], "full": []}
    lived: dict[str, list[float]] = {"empty": [], "full": []}
    for journal in journals.values():
        await journal.open()
        await _round(journal, tasks)  # warm: both have read their pages, and both hold as many ended tasks
    try:
        for number in range(rounds):
            for name in ("empty", "full") if number % 2 == 0 else ("full", "empty"):
                stage.say(f"{kind}, round {number + 1} of {rounds}: {name}")
                one, other = await _round(journals[name], tasks)
                accepted[name].append(one)
                lived[name].append(other)
    finally:
        for journal in journals.values():
            await journal.close()
    return [
        figure(f"million.{kind}.accept", "ratio", ratios(accepted["full"], accepted["empty"])),
        figure(f"million.{kind}.life", "ratio", ratios(lived["full"], lived["empty"])),
        *(figure(f"million.{kind}.accept.{name}.rate", "tasks/s", rates) for name, rates in accepted.items()),
        *(figure(f"million.{kind}.life.{name}.rate", "tasks/s", rates) for name, rates in lived.items()),
    ]


async def _round(journal: Journal, tasks: int) -> tuple[float, float]:
    """(tasks accepted per second, tasks claimed, recorded, finished and relayed per second)."""
    given = [new_task(number) for number in range(tasks)]
    began = time.perf_counter()
    for first in range(0, tasks, BATCH):
        await journal.accept(given[first : first + BATCH])
    accepted = tasks / (time.perf_counter() - began)
    began = time.perf_counter()
    done = 0
    while claims := await journal.claim("bench", limit=CONCURRENCY, lease_s=60):
        await asyncio.gather(*(_attempt(journal, claim) for claim in claims))
        done += len(claims)
    if done != tasks:
        raise Lost(f"{tasks} tasks were accepted, {done} claimed")
    await _relay(journal)
    return accepted, tasks / (time.perf_counter() - began)


async def _attempt(journal: Journal, claim: Claim) -> None:
    def status(word: str) -> Event:
        return Event("task.status", claim.task_id, {"status": word, "phase": Phase.DEVELOP.value})

    await journal.record(claim, None, [status("developing")])
    await journal.finish(claim, Finish(Ending.COMPLETED, [status("completed")]))


async def _relay(journal: Journal) -> None:
    while rows := await journal.unsent(limit=BATCH):
        await journal.sent([row.position for row in rows])


def _journal(dsn: str, folder: str) -> Journal:
    if dsn == "sqlite":
        return SqliteJournal(Path(folder) / "journal.sqlite", SystemClock())
    return PostgresJournal(dsn, JournalSettings())


async def _archive_one(journal: Journal) -> None:
    """One task from acceptance to the archive."""
    await journal.open()
    try:
        await _round(journal, 1)
        if (await journal.tidy(older_than_s=0)).archived != 1:
            raise Lost("the task was not archived")
    finally:
        await journal.close()


def _copy_sqlite(path: Path, number: int) -> None:
    connection = sqlite3.connect(path)
    connection.create_function("fresh_id", 0, lambda: str(uuid4()))
    connection.execute("CREATE TEMP TABLE fresh (id INTEGER PRIMARY KEY, task_id TEXT)")
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i <= ?) INSERT INTO fresh SELECT i, fresh_id() FROM n",
        (number,),
    )
    for table in ("archived_request", "archive"):
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        connection.execute(_copy(table, names))
    connection.commit()
    (there,) = connection.execute("SELECT count(*) FROM archive").fetchone()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    if there != number + 1:
        raise Lost(f"{there} archived tasks instead of {number + 1}")


async def _copy_postgres(dsn: str, number: int) -> None:
    connection = await asyncpg.connect(dsn, timeout=10, server_settings={"search_path": SCHEMA})
    try:
        await connection.execute(
            "CREATE TEMP TABLE fresh AS SELECT i AS id, gen_random_uuid()::text AS task_id"
            f" FROM generate_series(2, {number + 1}) AS i"
        )
        for table in ("request", "archive"):
            found = await connection.fetch(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position",
                SCHEMA, table,
            )  # fmt: skip
            await connection.execute(_copy(table, [row[0] for row in found]))
        await connection.execute("SELECT setval(pg_get_serial_sequence('request', 'id'), max(id)) FROM request")
        await connection.execute("VACUUM (ANALYZE) request, archive")
        await connection.execute("CHECKPOINT")
        there = await connection.fetchval("SELECT count(*) FROM archive")
    finally:
        await connection.close()
    if there != number + 1:
        raise Lost(f"{there} archived tasks instead of {number + 1}")


def _copy(table: str, names: Sequence[str]) -> str:
    """Row 1 again for each fresh id, with that id and task id."""
    taken = ", ".join(f"fresh.{name}" if name in ("id", "task_id") else f"{table}.{name}" for name in names)
    return f"INSERT INTO {table} ({', '.join(names)}) SELECT {taken} FROM {table}, fresh WHERE {table}.id = 1"
