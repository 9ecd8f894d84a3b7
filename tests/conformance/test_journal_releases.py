"""Journals of earlier releases are opened and their tasks resumed by the code of today.

`journals_of_releases/<version>.json` holds the rows that a release left behind, with a task in each situation that a stop
can find it in. They are loaded under that release's schema (its migrations, no later ones), then opened. To add one, at a
release: `python -m tests.conformance.test_journal_releases VERSION`.
"""

import asyncio
import hashlib
import json
import sqlite3
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agent.journal import sql
from agent.journal.port import Ending, Finish, Journal, State
from agent.journal.postgres import SCHEMA
from agent.journal.sqlite import SqliteJournal
from tests.conformance.journals import (
    LEASE_S,
    FakeClock,
    PostgresStore,
    SqliteStore,
    Store,
    about_letter,
    accept,
    answer,
    cancel,
    checkpoint,
    delivered,
    letter,
    lone_letter,
    new_task,
    numbers,
    relay,
    status,
)
from tests.postgres import PostgresServer

FOLDER = Path(__file__).with_name("journals_of_releases")
RELEASES = sorted(path.stem for path in FOLDER.glob("*.json"))


def content(release: str) -> Any:
    return json.loads((FOLDER / f"{release}.json").read_text(encoding="utf-8"))


# --- making one -------------------------------------------------------------------------------------------------------


async def situations(journal: Journal) -> None:
    """One task in each situation; its name says which. The last ones are found with their lease, as after a crash."""
    for name in ("archived", "completed", "failed"):
        await journal.accept([new_task(name)])
        (claim,) = await journal.claim("w0", limit=1, lease_s=LEASE_S)
        await journal.record(claim, checkpoint(), [status(new_task(name))])
        ends = [delivered(new_task(name)), status(new_task(name), "completed")]
        failure = [letter(f"letter-{name}"), status(new_task(name), "failed")]
        ending = Ending.FAILED if name == "failed" else Ending.COMPLETED
        await journal.finish(claim, Finish(ending, failure if name == "failed" else ends))
        if name == "archived":
            await relay(journal)
            await journal.tidy(older_than_s=0)
    await journal.accept([cancel(new_task("not yet accepted"), "c1"), answer(), lone_letter()])
    retrying = new_task("retrying")
    await journal.accept([retrying])
    (claim,) = await journal.claim("w0", limit=1, lease_s=LEASE_S)
    await journal.record(claim, checkpoint(), [status(retrying)])
    line = {"attempt": 1, "error": {"kind": "transient", "code": "x", "message": "y"}}
    await journal.finish(claim, Finish(Ending.RETRY, [status(retrying)], 60.0, line))
    names = ("running", "running, cancelled", "running, final")
    await journal.accept([new_task(name) for name in names])
    claims = await journal.claim("w1", limit=3, lease_s=LEASE_S)
    for claim, name in zip(claims, names, strict=True):
        await journal.record(claim, checkpoint(), [status(new_task(name))], final="final" in name)
    await journal.accept([cancel(new_task("running, cancelled"), "c2"), new_task("waiting", priority=7)])
    await journal.accept([new_task("delayed", run_after_s=3600.0)])


def dump(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows, by table; bytes as {"base64": …}."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
    rows = {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables}
    connection.close()
    return {
        table: [{name: _to_json(value) for name, value in row.items()} for row in found]
        for table, found in rows.items()
    }


def _to_json(value: Any) -> Any:
    return {"base64": b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(value: Any) -> Any:
    return b64decode(value["base64"]) if isinstance(value, dict) else value


async def make(release: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder) / "journal.sqlite", FakeClock())
        await journal.open()
        await situations(journal)
        await journal.close()
        rows = dump(Path(folder) / "journal.sqlite")
    made = {"migrations": migrations(), "rows": rows}
    text = json.dumps(made, indent=1, ensure_ascii=False)
    await asyncio.to_thread((FOLDER / f"{release}.json").write_text, text + "\n", encoding="utf-8")


def migrations() -> dict[str, dict[str, str]]:
    """SHA-256 of each migration, by store and number."""
    return {
        store: {str(number): hashlib.sha256(script.encode()).hexdigest() for number, script in sql.migrations(store)}
        for store in ("sqlite", "postgres")
    }


# --- opening it -------------------------------------------------------------------------------------------------------


def load_sqlite(path: Path, release: str) -> None:
    made = content(release)
    connection = sqlite3.connect(path)
    for number, script in sql.migrations("sqlite"):
        if str(number) in made["migrations"]["sqlite"]:
            connection.executescript(f"{script}; PRAGMA user_version = {number}")
    for table, found in made["rows"].items():
        for row in found:
            names = ", ".join(row)
            places = ", ".join("?" * len(row))
            values = [_from_json(value) for value in row.values()]
            connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)
    connection.commit()
    connection.close()


async def load_postgres(dsn: str, release: str) -> None:
    """The same rows. Ids and positions go on above them; leases and times are of another clock, and long over."""
    made = content(release)
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        f"CREATE SCHEMA {SCHEMA}; SET search_path TO {SCHEMA};"
        "CREATE TABLE migration (number integer PRIMARY KEY, applied_at timestamptz NOT NULL)"
    )
    for number, script in sql.migrations("postgres"):
        if str(number) in made["migrations"]["postgres"]:
            await connection.execute(script)
            await connection.execute("INSERT INTO migration VALUES ($1, now())", number)
    for name_in_sqlite, found in made["rows"].items():
        table = name_in_sqlite.replace("archived_request", "request")  # PostgreSQL keeps all in one
        columns = await connection.fetch(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1", table
        )
        kinds = dict(map(tuple, columns))
        for row in found:
            if table == "outbox":
                row.setdefault("shard", (row["task"] or 0) % 64)
            values = [_from_json(value) for value in row.values()]
            typed = [
                bool(value) if kinds[name] == "boolean" else value for name, value in zip(row, values, strict=True)
            ]
            places = ", ".join(f"${nr}" for nr in range(1, len(row) + 1))
            await connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *typed)
        if "id" in kinds and table not in ("task", "archive"):
            await connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) + 1 FROM {table}))"
            )
    await connection.execute("SELECT setval(pg_get_serial_sequence('outbox', 'position'), 1000)")
    await connection.close()


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def dsn() -> str:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        made.append(server.create())
        return made[-1]

    yield dsn
    for each in made:
        request.getfixturevalue("postgres_server").drop(each)


@pytest.fixture(params=[(kind, release) for release in RELEASES for kind in ("sqlite", "postgres")], ids="-".join)
async def store(request: pytest.FixtureRequest, tmp_path: Path, database: Callable[[], str]) -> AsyncIterator[Store]:
    """A journal that a release left behind, opened by the code of today."""
    kind, release = request.param
    made: Store
    if kind == "sqlite":
        load_sqlite(tmp_path / "journal.sqlite", release)
        made = SqliteStore(tmp_path)
        await made.open()
    else:
        dsn = database()
        await load_postgres(dsn, release)
        made = PostgresStore(dsn)
        await made.journal.open()
    yield made
    await made.close()


# --- what must go on --------------------------------------------------------------------------------------------------


async def test_tasks_of_an_earlier_release_are_resumed(store: Store) -> None:
    """Each where it was, with what lies behind it."""
    await store.advance(61)

    claims = {claim.task_id: claim for claim in await store.journal.claim("new", limit=20, lease_s=LEASE_S)}

    expected = {name: new_task(name).task_id for name in ("retrying", "running", "running, final", "waiting")}
    found = {name: claims.pop(task_id, None) for name, task_id in expected.items()}
    later = [claim.task_id for claim in claims.values()]
    assert later in ([], [new_task("delayed").task_id]), "in PostgreSQL, whose clock is today's, its hour has passed"
    for name in ("retrying", "running", "running, final"):
        claim = found[name]
        assert claim is not None
        assert (claim.attempt, claim.fence, claim.request) == (2, 2, new_task().request)
        assert claim.origin == new_task(name).origin
        assert claim.history
        assert list(await store.journal.checkpoints(claim.task_id)) == ["read"]
    assert found["running"] is not None
    assert found["running"].crashes == 1
    assert found["waiting"] is not None
    assert found["waiting"].attempt == 1


async def test_events_of_an_earlier_release_are_told(store: Store) -> None:
    """What was not sent is sent, with its number; the sequence goes on."""
    await store.journal.claim("new", limit=0, lease_s=LEASE_S)

    found = await relay(store.journal)

    assert numbers(found, new_task("running"))[:2] == [(1, "queued"), (2, "developing")]
    assert numbers(found, new_task("running, cancelled")) == [(1, "queued"), (2, "developing"), (3, "cancelled")]
    assert "task.dead_lettered" in {row.type for row in found if row.task_id is None}


async def test_memory_of_an_earlier_release_is_kept(store: Store) -> None:
    """Keys, also of archived tasks; early commands; answers; the point of no return; dead letters."""
    journal = store.journal

    known = [new_task(name) for name in ("completed", "failed", "archived", "running")]
    assert await accept(journal, *known, answer(), lone_letter()) == ["duplicate"] * 6
    assert await journal.answer("q1") == b"{}"
    await accept(journal, new_task("not yet accepted"), cancel(new_task("running, final"), "c9"))
    view = await journal.task(new_task("not yet accepted").task_id)
    assert view is not None
    assert view.state is State.CANCELLED
    assert numbers(await relay(journal), new_task("running, final"))[-1] == (None, "command.refused")
    await accept(journal, about_letter("letter-failed"))
    replayed = [view.task_id for view in await journal.tasks(states=[State.AVAILABLE])]
    assert new_task("failed").task_id in replayed


@pytest.mark.parametrize("release", RELEASES)
def test_migrations_of_a_release_are_never_edited(release: str) -> None:
    """They have run somewhere: what must change comes in a further script."""
    today = migrations()

    for store, scripts in content(release)["migrations"].items():
        for number, digest in scripts.items():
            assert today[store][number] == digest, f"{store} migration {number} was released and must stay as it is"


if __name__ == "__main__":
    asyncio.run(make(sys.argv[1]))
