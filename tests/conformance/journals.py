"""The three stores of the journal's conformance suite, and values to feed them with."""

import asyncio
import shutil
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from agent.journal.memory import MemoryJournal
from agent.journal.port import (
    Acceptance,
    Checkpoint,
    Claim,
    Event,
    Journal,
    NewAnswer,
    NewCommand,
    NewDeadLetter,
    NewTask,
    Origin,
    OutboxRow,
)
from agent.journal.postgres import SCHEMA, PostgresJournal
from agent.journal.sqlite import SqliteJournal
from agent.settings import JournalSettings
from contracts.codec import task_id as task_id_of

LEASE_S = 10.0
SETTINGS = JournalSettings()


class FakeClock:
    """A clock that tests move. Wall time and monotonic time can part, as on a machine whose clock is set."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 1, 1, tzinfo=UTC)
        self.steady = 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)  # time was moved; a turn for the others

    def advance(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady += seconds


class Store(Protocol):
    """What the suite needs of an adapter beside the port."""

    journal: Journal

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def advance(self, seconds: float) -> None:
        """Let time pass, for leases and for people."""

    async def now(self) -> datetime:
        """The store's wall time."""


class MemoryStore:
    """Time is a fake clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.journal: Journal = MemoryJournal(self.clock)

    async def open(self) -> None:
        await self.journal.open()

    async def close(self) -> None:
        await self.journal.close()

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def now(self) -> datetime:
        return self.clock.now()


class SqliteStore(MemoryStore):
    """A file; `crash` is a copy of it as it lies on the disk at that moment."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.crashes = 0
        self.journal = SqliteJournal(folder / "journal.sqlite", self.clock)

    async def reopen(self) -> None:
        """A stop without a word to the tasks, and a start."""
        await self.journal.close()
        await self.journal.open()

    async def crash(self) -> None:
        """What `kill -9` leaves: the file and its log as they are, opened by a new process."""
        self.crashes += 1
        folder = self.folder / f"crash{self.crashes}"
        folder.mkdir()
        for file in self.folder.glob("journal.sqlite*"):
            if not file.name.endswith(".lock"):
                shutil.copy(file, folder)
        await self.journal.close()
        self.folder = folder
        self.journal = SqliteJournal(folder / "journal.sqlite", self.clock)
        await self.journal.open()


class PostgresStore:
    """Time passes by moving everything that is stored into the past."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.journal: Journal = self.another()
        self.others: list[PostgresJournal] = []

    def another(self) -> PostgresJournal:
        """A journal of another replica; not open yet."""
        return PostgresJournal(self.dsn, SETTINGS)

    async def replica(self) -> PostgresJournal:
        """A journal of another replica, closed with the store."""
        journal = self.another()
        await journal.open()
        self.others.append(journal)
        return journal

    async def open(self) -> None:
        """On empty tables: quicker than a schema per test, which costs a hundred files."""
        await self.journal.open()
        tables = [
            "request",
            "task",
            "archive",
            "checkpoint",
            "outbox",
            "parked",
            "command",
            "answer",
            "dead_letter",
            "relay",
        ]
        await self.execute(
            "".join(f"DELETE FROM {table};" for table in tables)
            + "UPDATE relay_shard SET holder = NULL, held_until = 0 WHERE holder IS NOT NULL"
        )

    async def close(self) -> None:
        for journal in (self.journal, *self.others):
            await journal.close()

    async def advance(self, seconds: float) -> None:
        await self.execute(
            f"UPDATE task SET lease_until = lease_until - {seconds}, run_at = run_at - {seconds},"
            f" expires_at = expires_at - {seconds}, rank = rank - {seconds}, updated_at = updated_at - {seconds};"
            f"UPDATE outbox SET created_at = created_at - {seconds};"
            f"UPDATE command SET received_at = received_at - {seconds};"
            f"UPDATE answer SET received_at = received_at - {seconds};"
            f"UPDATE dead_letter SET created_at = created_at - {seconds};"
        )

    async def now(self) -> datetime:
        return datetime.now(UTC)

    async def execute(self, statement: str) -> None:
        connection = await self.connect()
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def connect(self) -> Any:
        return await asyncpg.connect(self.dsn, server_settings={"search_path": SCHEMA})


def new_task(name: str = "one", *, key: str | None = None, **changes: Any) -> NewTask:
    """A request by `name`; its ordering key is the name unless given."""
    value = b'{"kind":"build"}'
    origin = Origin(
        "backend.tasks.v1", 0, 7, 1_767_225_600_000, b"k", (("ce_id", name.encode()), ("x", None)), value, "T"
    )
    task = NewTask(
        task_id=task_id_of("/tests", name),
        source="/tests",
        idempotency_key=name,
        payload_digest="d1",
        kind="build",
        ordering_key=name if key is None else key,
        request=value,
        attributes={"id": name, "correlationid": "c"},
        origin=origin,
    )
    return task._replace(**changes)


def cancel(task: NewTask, command_id: str = "cancel-1", reason: str | None = None) -> NewCommand:
    return NewCommand(command_id, "task.cancel", task.task_id, {"task_id": task.task_id, "reason": reason})


OPERATOR = "/tests/operator"


def reprioritise(task: NewTask, priority: object, command_id: str = "priority-1") -> NewCommand:
    data = {"task_id": task.task_id, "priority": priority}
    return NewCommand(command_id, "task.reprioritise", task.task_id, data, OPERATOR)


def about_letter(letter_id: str, command: str = "dead_letter.replay", command_id: str = "replay-1") -> NewCommand:
    return NewCommand(command_id, command, letter_id, {"dead_letter_id": letter_id, "reason": "mended"}, OPERATOR)


def answer(query_id: str = "q1", data: bytes = b"{}") -> NewAnswer:
    return NewAnswer(query_id, data)


def lone_letter(
    letter_id: str = "lone", *, topic: str = "backend.tasks.v1", offset: int = 3, topic_id: str = "T",
    key: str | None = None, code: str = "payload.not_json",
) -> NewDeadLetter:  # fmt: skip
    """A record that made no task."""
    origin = Origin(topic, 0, offset, 0, key.encode() if key else None, (), None, topic_id)
    return NewDeadLetter(letter_id, origin, letter(letter_id, topic=topic, key=key, code=code), code)


def letter(
    letter_id: str = "letter-1", *, topic: str = "backend.tasks.v1", key: str | None = "k", code: str = "x"
) -> Event:
    original = {"topic": topic} | ({"key": b64encode(key.encode()).decode()} if key else {})
    reason = {"code": code, "kind": "permanent"}
    return Event("task.dead_lettered", "k", {"dead_letter_id": letter_id, "reason": reason, "original": original})


def status(task: NewTask, name: str = "developing", *, completed: tuple[str, ...] = ()) -> Event:
    data = {
        "agent": "backend-developer", "status": name, "phase": "Service implementation",
        "completed": list(completed), "pending": ["Cache integration"], "task_id": task.task_id,
    }  # fmt: skip
    return Event("task.status", task.task_id, data)


def delivered(task: NewTask) -> Event:
    return Event("task.delivered", task.ordering_key, {"agent": "backend-developer", "task_id": task.task_id})


def checkpoint(step: str = "read", output: Any = None) -> Checkpoint:
    return Checkpoint(step, "h1", {"value": 1} if output is None else output, "v1", 0.5)


async def accept(journal: Journal, *batch: Any) -> list[str]:
    return [outcome.value for outcome in await journal.accept(batch)]


async def accepted(journal: Journal, *batch: Any) -> None:
    assert set(await journal.accept(batch)) <= {Acceptance.ACCEPTED}


async def claim_one(journal: Journal, worker: str = "w1") -> Claim:
    (claim,) = await journal.claim(worker, limit=1, lease_s=LEASE_S)
    return claim


async def relay(journal: Journal) -> list[OutboxRow]:
    """Everything that is unsent, marked as sent."""
    found = list(await journal.unsent(limit=10_000))
    await journal.sent([row.position for row in found])
    return found


def numbers(found: list[OutboxRow], task: NewTask) -> list[tuple[int | None, str]]:
    """(sequence, status or type) of a task's events, in the order of the outbox."""
    return [
        (row.sequence, row.data["status"] if row.type == "task.status" else row.type)
        for row in found
        if row.task_id == task.task_id
    ]
