"""The port on a file: each call is a unit of the thread that writes, or of the one that reads."""

import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agent.clock import Clock, SystemClock
from agent.errors import EnvironmentUnfit, JournalUnavailable
from agent.journal import lifecycle, rows
from agent.journal.port import (
    ALL_LETTERS,
    Acceptance,
    Checkpoint,
    Claim,
    DeadLetter,
    Depths,
    Event,
    Finish,
    Intake,
    LetterFilter,
    OutboxRow,
    Renewal,
    State,
    TaskView,
    Tidied,
)
from agent.journal.sqlite import file, intake, views, work
from agent.journal.sqlite.group import GroupCommit, Transaction
from agent.journal.sqlite.statements import SQL, one
from agent.journal.sqlite.writes import ARCHIVE, Writes
from agent.journal.wakeups import Wakeups

T = TypeVar("T")
TIDY_LIMIT = 200  # with a million archived tasks 10 ms for whoever waits behind it; 1000 are 50 ms


class SqliteJournal:
    """Implements agent.journal.port.Journal."""

    _writes: Writes  # since `open`

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._wakeups = Wakeups()
        self._lock: int | None = None
        self._group: GroupCommit | None = None
        self._reader: GroupCommit | None = None  # a connection and a thread of its own: who looks waits for no commit
        self._is_readonly = False

    @classmethod
    def open_readonly(cls, path: Path) -> "SqliteJournal":
        """A journal for looking only, beside a running agent: `open` takes no lock; what writes raises JournalUnavailable."""
        journal = cls(path, SystemClock())
        journal._is_readonly = True
        return journal

    async def open(self) -> None:
        if self._is_readonly:
            self._open_to_look()
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = file.lock(self._path)
        self._path.touch(mode=0o600)  # requests are nobody else's business; -wal and -shm get the same mode
        try:
            connection = file.connect(self._path, file.WRITER)
            file.migrate(connection)
            self._writes = Writes(connection)
        except sqlite3.Error as error:
            self._unlock()
            raise EnvironmentUnfit(
                f"the journal {self._path} cannot be opened: {error}", remedy="free disk space, or move the file away"
            ) from error
        self._group = GroupCommit(connection, self._wakeups.bump)
        await self._run(lambda _: work.release_all(self._writes, self._clock.now()))
        self._reader = GroupCommit(file.connect(self._path, file.READER), self._wakeups.bump, begin="BEGIN")

    def _open_to_look(self) -> None:
        if not self._path.is_file():
            raise EnvironmentUnfit(f"there is no journal at {self._path}", remedy="start `backwright run` first")
        connection = file.connect(self._path, file.READER)
        try:
            version = file.version(connection)
        except sqlite3.Error as error:
            connection.close()
            if isinstance(error, sqlite3.OperationalError):  # locked, a failing disk: of the moment, not of the file
                raise file.unavailable(error) from error
            raise EnvironmentUnfit(
                f"the journal {self._path} cannot be read: {error}",
                remedy="name the agent's own in BACKWRIGHT_WORKSPACE or BACKWRIGHT_JOURNAL__URL, or restore it from a backup",
            ) from error
        if version != file.LATEST:
            connection.close()
            raise EnvironmentUnfit(
                f"the journal {self._path} is of another release", remedy="start `backwright run` of this one first"
            )
        self._writes = Writes(connection)
        self._group = self._reader = GroupCommit(connection, self._wakeups.bump, begin="BEGIN")

    async def close(self) -> None:
        groups = (self._reader, self._group)
        self._reader = self._group = None
        for group in groups:
            if group is not None:
                await group.close()
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    @property
    def commits(self) -> int:
        """Commits that wrote something since `open`, for the benchmark's guard on group commit."""
        return self._group.commits if self._group else 0

    # --- intake ---------------------------------------------------------------------------------------------------

    async def accept(self, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        return await self._run(lambda transaction: self._accept(transaction, rows.cleaned(batch)))

    def _accept(self, transaction: Transaction, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        outcomes = intake.accept(self._writes, batch, self._clock.now())
        transaction.changed |= Acceptance.ACCEPTED in outcomes
        return outcomes

    # --- work -----------------------------------------------------------------------------------------------------

    async def claim(self, worker: str, *, limit: int, lease_s: float) -> Sequence[Claim]:
        self._wakeups.note()
        return await self._run(lambda transaction: self._claim(transaction, worker, limit, lease_s))

    def _claim(self, transaction: Transaction, worker: str, limit: int, lease_s: float) -> Sequence[Claim]:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        transaction.changed |= work.upkeep(self._writes, now, monotonic)
        return work.claim(self._writes, worker, limit, monotonic + lease_s, now)

    async def renew(self, claims: Sequence[Claim], *, lease_s: float) -> Mapping[str, Renewal]:
        # No hurry: opening the file releases every lease, so nobody reads from the disk what is renewed here.
        return await _opened(self._group).run(
            lambda _: work.renew(self._writes, claims, self._clock.monotonic() + lease_s), in_company=True
        )

    async def checkpoints(self, task_id: str) -> Mapping[str, Checkpoint]:
        return await self._look(lambda connection: views.checkpoints(connection, task_id))

    async def record(
        self, claim: Claim, checkpoint: Checkpoint | None, events: Sequence[Event], *, final: bool = False
    ) -> None:
        write = work.Write(claim, lambda row, now: lifecycle.record(row, events, final=final, now=now), checkpoint)
        await _opened(self._group).run_together(self._write, write)

    async def finish(self, claim: Claim, finish: Finish) -> None:
        write = work.Write(claim, lambda row, now: lifecycle.finish(row, finish, now))
        await _opened(self._group).run_together(self._write, write)

    def _write(self, transaction: Transaction, given: Sequence[work.Write]) -> Sequence[Exception | None]:
        errors, is_news = work.write(self._writes, given, self._clock.now())
        transaction.changed |= is_news
        return errors

    async def answer(self, query_id: str) -> bytes | None:
        self._wakeups.note()
        found = await self._look(lambda connection: one(connection, "answer", rows.indexed(query_id)))
        return found[0] if found else None

    # --- outbox ---------------------------------------------------------------------------------------------------

    async def unsent(self, *, limit: int, besides: Collection[int] = ()) -> Sequence[OutboxRow]:
        self._wakeups.note()
        return [rows.outbox_row(values) for values in await self._all("unsent", rows.dump(list(besides)), limit)]

    async def sent(self, positions: Collection[int]) -> None:
        values = (rows.dump(list(positions)),)
        await _opened(self._group).run(
            lambda transaction: transaction.connection.execute(SQL["delete_outbox"], values) and None, in_company=True
        )

    async def park(self, position: int, replacement: Event, *, reason: str) -> None:
        await self._run(lambda transaction: self._park(transaction, position, replacement, reason))

    def _park(self, transaction: Transaction, position: int, replacement: Event, reason: str) -> None:
        connection = transaction.connection
        connection.execute(SQL["park"], (rows.plain(reason), self._clock.now().timestamp(), position))
        values = (replacement.type, rows.dump(replacement.key), rows.dump(replacement.data), position)
        connection.execute(SQL["replace_outbox"], values)
        transaction.changed = True

    # --- views ----------------------------------------------------------------------------------------------------

    async def task(self, task_id: str) -> TaskView | None:
        return await self._look(lambda connection: views.task(connection, task_id))

    async def tasks(self, *, states: Sequence[State] = (), limit: int = 100) -> Sequence[TaskView]:
        return await self._look(lambda connection: views.tasks(connection, states, limit))

    async def dead_letters(self, wanted: LetterFilter = ALL_LETTERS, *, limit: int = 100) -> Sequence[DeadLetter]:
        since, parts = rows.letter_filter(wanted)
        found = await self._all("dead_letters", since, *map(rows.dump, parts), limit)
        return [rows.dead_letter(letter) for letter in found]

    async def dead_letter(self, dead_letter_id: str) -> DeadLetter | None:
        found = await self._look(lambda connection: one(connection, "dead_letter", dead_letter_id))
        return rows.dead_letter(found) if found else None

    async def depths(self) -> Depths:
        return await self._look(lambda connection: views.depths(connection, self._clock.now().timestamp()))

    async def referenced(self) -> frozenset[str]:
        return frozenset(name for (text,) in await self._all("mentions") for name in rows.ARTIFACT_NAME.findall(text))

    # --- housekeeping ---------------------------------------------------------------------------------------------

    async def tidy(self, *, older_than_s: float, limit: int = TIDY_LIMIT) -> Tidied:
        return await self._run(lambda transaction: self._tidy(transaction.connection, older_than_s, limit))

    def _tidy(self, connection: sqlite3.Connection, older_than_s: float, limit: int) -> Tidied:
        before = self._clock.now().timestamp() - older_than_s
        ended = connection.execute(SQL["ended_tasks"], (before, limit)).fetchall()
        for statement in ARCHIVE:
            connection.executemany(SQL[statement], ended)
        answers = connection.execute(SQL["delete_answers"], (before, limit)).rowcount
        commands = connection.execute(SQL["delete_commands"], (before, limit)).rowcount
        return Tidied(archived=len(ended), answers=answers, commands=commands)

    async def changed(self, *, timeout_s: float) -> None:
        await self._wakeups.wait(timeout_s)

    # --- the two threads ------------------------------------------------------------------------------------------

    async def _run(self, unit: Callable[[Transaction], T]) -> T:
        return await _opened(self._group).run(unit)

    async def _look(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """What only reads: it sees all that is committed."""
        return await _opened(self._reader).run(lambda transaction: look(transaction.connection))

    async def _all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self._look(lambda connection: connection.execute(SQL[statement], values).fetchall())


def _opened(group: GroupCommit | None) -> GroupCommit:
    if group is None:
        raise JournalUnavailable("the journal is not open")
    return group
