"""The journal of one agent: a SQLite file in WAL mode, `synchronous=FULL`, written by one thread (group.py).

No second agent can open the file (a lock beside it); other commands read it with `open_readonly`. Lease time is the
clock's monotonic time, which is good enough because opening the file releases every lease: whoever held one is dead.
Statements stay within SQLite 3.26 (RHEL 8), so there is no RETURNING and no UPDATE FROM.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, TypeVar

from agent.clock import Clock, SystemClock
from agent.errors import EnvironmentUnfit, Fenced, JournalUnavailable
from agent.journal import lifecycle, rows, sql
from agent.journal.group import GroupCommit, Transaction, unavailable
from agent.journal.lifecycle import Decision, Numbered, TaskRow
from agent.journal.port import (
    ALL_LETTERS,
    TERMINAL,
    Acceptance,
    CancelRequested,
    Checkpoint,
    Claim,
    DeadLetter,
    Depths,
    Event,
    Finish,
    Intake,
    LetterFilter,
    NewAnswer,
    NewCommand,
    NewDeadLetter,
    NewTask,
    OutboxRow,
    Renewal,
    State,
    TaskView,
    Tidied,
)
from agent.journal.wakeups import Wakeups
from agent.settings import JournalSettings

T = TypeVar("T")

CHUNK = 500  # keys per IN list; older SQLite takes 999 placeholders
ROWS = 32  # per statement, for the same reason: of at most 25 columns; a power of two
STATEMENTS = 300  # prepared ones that are kept: some fifty, and ten more by number of rows
UPKEEP_LIMIT = 1000  # rows of one kind that a claim moves on
TIDY_LIMIT = 200  # with a million archived tasks 10 ms for whoever waits behind it; 1000 are 50 ms
LATEST: Final = max(number for number, _ in sql.migrations("sqlite"))

# A task and its request, the one way and the other.
ARCHIVE = (
    "archive_task", "forget_request", "archive_request", "delete_task", "delete_request", "delete_checkpoints",
)  # fmt: skip
RESTORE = ("restore_task", "restore_request", "delete_archived_task", "delete_archived_request")

_REQUEST = (
    "id, task_id, payload_digest, source, idempotency_key, kind, ordering_key, accepted_at, attempt_deadline_s,"
    " total_deadline_s, attributes, origin, origin_value, request"
)
_TASK = ", ".join(rows.TASK_COLUMNS)
SQL: Final[Mapping[str, str]] = {
    name: text.replace("{task}", _TASK).replace("{request}", _REQUEST)
    for name, text in sql.statements("sqlite").items()
}


@dataclass(frozen=True, slots=True)
class _Write:
    """What an attempt wants to store: decided on its row, if that is still its own."""

    claim: Claim
    decide: Callable[[TaskRow, datetime], Decision]
    point: Checkpoint | None = None


class SqliteJournal:
    """Implements agent.journal.port.Journal."""

    def __init__(self, path: Path, clock: Clock, settings: JournalSettings) -> None:
        self._path = path
        self._clock = clock
        self._settings = settings
        self._wakeups = Wakeups()
        self._lock: int | None = None
        self._group: GroupCommit | None = None
        self._reader: GroupCommit | None = None  # a connection and a thread of its own: who looks waits for no commit
        self._is_readonly = False
        self._next_id = 1
        self._next_position = 1
        self._event_prefix = token_hex(8)  # of this process; with the position, no other event has this id

    @classmethod
    def open_readonly(cls, path: Path, settings: JournalSettings | None = None) -> "SqliteJournal":
        """A journal for looking only, beside a running agent: `open` takes no lock; what writes raises PermissionError."""
        journal = cls(path, SystemClock(), settings or JournalSettings())
        journal._is_readonly = True
        return journal

    async def open(self) -> None:
        if self._is_readonly:
            if not self._path.is_file():
                raise EnvironmentUnfit(f"there is no journal at {self._path}", remedy="start `backwright run` first")
            connection = self._connect(READER)
            if _version(connection) != LATEST:
                connection.close()
                raise EnvironmentUnfit(
                    f"the journal {self._path} is of another release", remedy="start `backwright run` of this one first"
                )
            self._group = self._reader = GroupCommit(connection, self._wakeups.bump, begin="BEGIN")
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._path.with_name(self._path.name + ".lock"))
        self._path.touch(mode=0o600)  # requests are nobody else's business; -wal and -shm get the same mode
        try:
            connection = self._connect(PRAGMAS)
            _migrate(connection)
            self._next_id = connection.execute(SQL["next_id"]).fetchone()[0]
            self._next_position = connection.execute(SQL["next_position"]).fetchone()[0]
        except sqlite3.Error as error:
            self._unlock()
            raise EnvironmentUnfit(
                f"the journal {self._path} cannot be opened: {error}", remedy="free disk space, or move the file away"
            ) from error
        self._group = GroupCommit(connection, self._wakeups.bump)
        await self._run(self._release_all)
        self._reader = GroupCommit(self._connect(READER), self._wakeups.bump, begin="BEGIN")

    async def close(self) -> None:
        groups = (self._reader, self._group)
        self._reader = self._group = None
        for group in groups:
            if group is not None:
                await group.close()
        self._unlock()

    @property
    def commits(self) -> int:
        """Commits that wrote something since `open`, for the benchmark's guard on group commit."""
        return self._group.commits if self._group else 0

    # --- intake ---------------------------------------------------------------------------------------------------

    async def accept(self, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        return await self._run(lambda transaction: self._accept(transaction, rows.cleaned(batch)))

    def _accept(self, transaction: Transaction, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        """Runs of tasks are stored together; anything else, one by one, in its place."""
        now = self._clock.now()
        outcomes: list[Acceptance] = []
        for are_tasks, items in _runs(batch):
            if are_tasks:
                outcomes += self._accept_tasks(transaction, items, now)
            else:
                outcomes += [self._accept_other(transaction, item, now) for item in items]
        transaction.changed |= Acceptance.ACCEPTED in outcomes
        return outcomes

    def _accept_tasks(self, transaction: Transaction, tasks: Sequence[NewTask], now: datetime) -> list[Acceptance]:
        connection = transaction.connection
        known = _known(connection, [task.task_id for task in tasks])
        has_waiting = connection.execute(SQL["any_waiting_command"]).fetchone() is not None
        outcomes: list[Acceptance] = []
        requests: list[tuple[Any, ...]] = []
        stored: list[tuple[Any, ...]] = []
        published: list[tuple[Any, ...]] = []
        for task in tasks:
            if task.task_id in known:
                same = known[task.task_id] == task.payload_digest
                outcomes.append(Acceptance.DUPLICATE if same else Acceptance.CONFLICT)
                continue
            known[task.task_id] = task.payload_digest
            row_id, self._next_id = self._next_id, self._next_id + 1
            early = _early(connection, task.task_id) if has_waiting else []
            decision = lifecycle.accept(row_id, task, early, now)
            requests.append(rows.request_columns(row_id, task, now))
            stored.append((task.ordering_key, *rows.task_columns(decision.row)))
            published += self._outbox(row_id, decision.events, now)
            outcomes.append(Acceptance.ACCEPTED)
        _write_rows(connection, "insert_request", requests)
        _write_rows(connection, "insert_task", stored)
        _write_rows(connection, "insert_outbox", published)
        return outcomes

    def _accept_other(self, transaction: Transaction, item: Intake, now: datetime) -> Acceptance:
        if isinstance(item, NewCommand):
            is_new = self._accept_command(transaction.connection, item, now)
        elif isinstance(item, NewAnswer):
            values = (item.query_id, item.data, now.timestamp())
            is_new = transaction.connection.execute(SQL["insert_answer"], values).rowcount == 1
        else:
            assert isinstance(item, NewDeadLetter)
            is_new = self._accept_letter(transaction.connection, item, now)
        return Acceptance.ACCEPTED if is_new else Acceptance.DUPLICATE

    def _accept_command(self, connection: sqlite3.Connection, given: NewCommand, now: datetime) -> bool:
        is_about_letter = given.command.startswith("dead_letter.")
        row = None if is_about_letter else self._known_row(connection, given.task_id)
        is_waiting = row is None and not is_about_letter
        values = (
            rows.known_as(given), given.command_id, given.command, given.task_id, rows.dump(given.data), given.source, now.timestamp(), is_waiting,
        )  # fmt: skip
        if connection.execute(SQL["insert_command"], values).rowcount == 0:
            return False
        if is_about_letter:
            self._command_letter(connection, given, now)
        elif row is not None:
            self._store(connection, row, lifecycle.command(row, given, now), now)
        return True

    def _accept_letter(self, connection: sqlite3.Connection, letter: NewDeadLetter, now: datetime) -> bool:
        values = (
            letter.dead_letter_id, None, rows.place_of(letter.origin), letter.code, rows.dump(letter.event.data),
            now.timestamp(),
        )  # fmt: skip
        if connection.execute(SQL["insert_dead_letter"], values).rowcount == 0:
            return False
        _write_rows(connection, "insert_outbox", self._outbox(None, [Numbered(letter.event, None)], now))
        return True

    def _command_letter(self, connection: sqlite3.Connection, given: NewCommand, now: datetime) -> None:
        found = connection.execute(SQL["letter_state"], (given.task_id,)).fetchone()
        is_closed, task_id = found or (False, None)
        row = self._known_row(connection, task_id) if task_id else None
        refusal = lifecycle.letter_refusal(
            given, is_known=found is not None, is_closed=bool(is_closed), has_task=row is not None
        )
        if refusal is not None:
            _write_rows(connection, "insert_outbox", self._outbox(None, [Numbered(refusal, None)], now))
            return
        if given.command == "dead_letter.replay" and row is not None:
            after = lifecycle.replay(row, given, now)
            self._store(connection, row, after, now)
            if after.row.epoch == row.epoch:
                return  # refused: the letter stays open
        else:
            acted = Numbered(lifecycle.discarded(given, task_id, now), None)
            self._publish(connection, [(row.id if row else None, [acted])], now)
        connection.execute(SQL["close_letter"], (given.task_id,))

    # --- work -----------------------------------------------------------------------------------------------------

    async def claim(self, worker: str, *, limit: int, lease_s: float) -> Sequence[Claim]:
        self._wakeups.note()
        return await self._run(lambda transaction: self._claim(transaction, worker, limit, lease_s))

    def _claim(self, transaction: Transaction, worker: str, limit: int, lease_s: float) -> Sequence[Claim]:
        connection, now, monotonic = transaction.connection, self._clock.now(), self._clock.monotonic()
        transaction.changed |= self._upkeep(connection, now, monotonic)
        decisions = [
            (row, lifecycle.claim(row, worker, monotonic + lease_s, now))
            for row in _rows(connection, "startable_tasks", limit)
        ]
        _write_rows(connection, "claim_task", [rows.claim_changes(decision.row) for _, decision in decisions])
        requests = _in_chunks(connection, "claimed_requests", [row.id for row, _ in decisions])
        by_id = {request[0]: request for request in requests}
        return [rows.claim_of(decision.row, by_id[row.id]) for row, decision in decisions]

    def _upkeep(self, connection: sqlite3.Connection, now: datetime, monotonic: float) -> bool:
        """Expired leases, tasks not started in time, delayed tasks that are due; whether there were any."""
        at = now.timestamp()
        lost = _rows(connection, "lost_tasks", monotonic)
        for row in lost:
            self._store(connection, row, lifecycle.crash(row, now), now)
        overdue = _rows(connection, "overdue_tasks", at)
        for row in overdue:
            self._store(connection, row, lifecycle.overdue(row, now), now)
        due = _rows(connection, "due_tasks", at)
        for row in due:
            self._store(connection, row, lifecycle.due(row, now), now)
        return bool(lost or overdue)

    def _release_all(self, transaction: Transaction) -> None:
        """This file was opened again: whoever held a lease is dead, and died at work."""
        now = self._clock.now()
        for row in _rows(transaction.connection, "running_tasks"):
            self._store(transaction.connection, row, lifecycle.crash(row, now), now)

    async def renew(self, claims: Sequence[Claim], *, lease_s: float) -> Mapping[str, Renewal]:
        # No hurry: opening the file releases every lease, so nobody reads from the disk what is renewed here.
        return await _opened(self._group).run(
            lambda transaction: self._renew(transaction.connection, claims, lease_s), in_company=True
        )

    def _renew(self, connection: sqlite3.Connection, claims: Sequence[Claim], lease_s: float) -> Mapping[str, Renewal]:
        until = self._clock.monotonic() + lease_s
        answers = {}
        for claim in claims:
            held = connection.execute(SQL["renew"], (until, claim.task_id, claim.fence)).rowcount == 1
            asked = held and connection.execute(SQL["is_cancel_requested"], (claim.task_id,)).fetchone()[0]
            answers[claim.task_id] = Renewal(held=held, cancel_requested=bool(asked))
        return answers

    async def checkpoints(self, task_id: str) -> Mapping[str, Checkpoint]:
        return await self._look(lambda transaction: _checkpoints(transaction.connection, task_id))

    async def record(
        self, claim: Claim, checkpoint: Checkpoint | None, events: Sequence[Event], *, final: bool = False
    ) -> None:
        write = _Write(claim, lambda row, now: lifecycle.record(row, events, final=final, now=now), checkpoint)
        await _opened(self._group).run_together(self._write, write)

    async def finish(self, claim: Claim, finish: Finish) -> None:
        write = _Write(claim, lambda row, now: lifecycle.finish(row, finish, now))
        await _opened(self._group).run_together(self._write, write)

    def _write(self, transaction: Transaction, writes: Sequence[_Write]) -> Sequence[Exception | None]:
        """Store what attempts decide, each on the row as the former left it; an error (or None) for each.

        All decide before anything is written, so that one that may not write leaves nothing behind.
        """
        connection, now = transaction.connection, self._clock.now()
        found = _found(connection, [write.claim.task_id for write in writes])
        changed: dict[int, TaskRow] = {}
        points: list[tuple[Any, ...]] = []
        published: list[tuple[int, Sequence[Numbered]]] = []
        errors: list[Exception | None] = []
        for write in writes:
            try:
                row = _owned(found, write.claim)
                decision = write.decide(row, now)
            except (Fenced, CancelRequested, lifecycle.NotAllowed) as error:
                errors.append(error)
                continue
            errors.append(None)
            found[row.task_id] = changed[row.id] = decision.row
            published.append((row.id, decision.events))
            if (point := write.point) is not None:
                output = rows.dump(point.output)
                points.append(
                    (row.id, row.epoch, point.step, point.input_hash, output, point.code_version, point.duration_s)
                )
        _write_rows(connection, "upsert_checkpoint", points)
        ends, goes_on = _parted(changed.values(), lambda row: row.state is not State.RUNNING)
        _write_rows(connection, "update_task", [rows.task_columns(row) for row in ends])
        _write_rows(connection, "update_progress", [rows.progress_changes(row) for row in goes_on])
        self._publish(connection, published, now)
        transaction.changed |= bool(ends) or any(events for _, events in published)
        return errors

    async def answer(self, query_id: str) -> bytes | None:
        self._wakeups.note()
        found = await self._look(lambda transaction: _one(transaction.connection, "answer", rows.indexed(query_id)))
        return found[0] if found else None

    # --- outbox ---------------------------------------------------------------------------------------------------

    async def unsent(self, *, limit: int, besides: Collection[int] = ()) -> Sequence[OutboxRow]:
        self._wakeups.note()
        values = (rows.dump(list(besides)), limit)
        found = await self._look(lambda transaction: transaction.connection.execute(SQL["unsent"], values).fetchall())
        return [rows.outbox_row(values) for values in found]

    async def sent(self, positions: Collection[int]) -> None:
        values = (rows.dump(list(positions)),)
        await _opened(self._group).run(
            lambda transaction: transaction.connection.execute(SQL["delete_outbox"], values) and None,
            in_company=True,
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
        return await self._look(lambda transaction: _view(transaction.connection, task_id))

    async def tasks(self, *, states: Sequence[State] = (), limit: int = 100) -> Sequence[TaskView]:
        return await self._look(lambda transaction: _views(transaction.connection, states, limit))

    async def dead_letters(self, wanted: LetterFilter = ALL_LETTERS, *, limit: int = 100) -> Sequence[DeadLetter]:
        since, parts = rows.letter_filter(wanted)
        values = (since, *map(rows.dump, parts), limit)
        found = await self._look(
            lambda transaction: transaction.connection.execute(SQL["dead_letters"], values).fetchall()
        )
        return [rows.dead_letter(letter) for letter in found]

    async def dead_letter(self, dead_letter_id: str) -> DeadLetter | None:
        found = await self._look(lambda transaction: _one(transaction.connection, "dead_letter", dead_letter_id))
        return rows.dead_letter(found) if found else None

    async def depths(self) -> Depths:
        return await self._look(lambda transaction: self._depths(transaction.connection))

    def _depths(self, connection: sqlite3.Connection) -> Depths:
        now = self._clock.now().timestamp()
        counts = connection.execute(SQL["counts"]).fetchall()
        step = lifecycle.AGEING_STEP_S
        outbox, letters, available, running, unsent = connection.execute(SQL["sums"], (step,)).fetchone()
        return Depths(
            by_state={State(state): count for state, count in counts},
            outbox=outbox,
            dead_letters=letters,
            oldest_available_s=rows.age_s(now, available),
            oldest_running_s=rows.age_s(now, running),
            oldest_outbox_s=rows.age_s(now, unsent),
        )

    async def referenced(self) -> frozenset[str]:
        found = await self._look(lambda transaction: transaction.connection.execute(SQL["mentions"]).fetchall())
        return frozenset(name for (text,) in found for name in rows.ARTIFACT_NAME.findall(text))

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

    # --- parts ----------------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[Transaction], T]) -> T:
        return await _opened(self._group).run(work)

    async def _look(self, work: Callable[[Transaction], T]) -> T:
        """The same, for what only reads: it sees all that is committed."""
        return await _opened(self._reader).run(work)

    def _connect(self, pragmas: Sequence[str]) -> sqlite3.Connection:
        # A reader that may write the folder opens it for writing: WAL needs its -shm file, which a clean stop removes.
        mode = "rw" if os.access(self._path, os.W_OK) else "ro"
        uri = f"{self._path.absolute().as_uri()}?mode={mode}"
        try:
            connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=STATEMENTS
            )
        except sqlite3.Error as error:
            raise unavailable(error) from error
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _store(self, connection: sqlite3.Connection, before: TaskRow, decision: Decision, now: datetime) -> None:
        """Write a decision: the row, its events, the dead letters among them."""
        if decision.row != before:
            if before.state in TERMINAL:  # a replay: if the task is archived, it comes back
                for statement in RESTORE:
                    connection.execute(SQL[statement], (before.id,))
            _write_rows(connection, "update_task", [rows.task_columns(decision.row)])
        self._publish(connection, [(before.id, decision.events)], now)

    def _publish(
        self, connection: sqlite3.Connection, published: Iterable[tuple[int | None, Sequence[Numbered]]], now: datetime
    ) -> None:
        """Events by the row of their task, into the outbox; the dead letters among them are kept as well."""
        outgoing: list[tuple[Any, ...]] = []
        for row_id, events in published:
            outgoing += self._outbox(row_id, events, now)
            for letter_id, data, code in rows.letters_in([numbered.event for numbered in events]):
                values = (letter_id, row_id, None, code, rows.dump(data), now.timestamp())
                connection.execute(SQL["insert_dead_letter"], values)
        _write_rows(connection, "insert_outbox", outgoing)

    def _outbox(self, row_id: int | None, events: Sequence[Numbered], now: datetime) -> list[tuple[Any, ...]]:
        first = self._next_position
        self._next_position += len(events)
        return [
            (
                first + index, f"{self._event_prefix}{first + index:016x}", row_id, numbered.event.type, rows.dump(numbered.event.key),
                rows.dump(numbered.event.data), now.timestamp(), numbered.sequence,
            )
            for index, numbered in enumerate(events)
        ]  # fmt: skip

    def _known_row(self, connection: sqlite3.Connection, task_id: str) -> TaskRow | None:
        found = _rows(connection, "task_by_task_id", task_id) or _rows(connection, "archived_by_task_id", task_id)
        return found[0] if found else None


PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "cache_size=-65536",  # 64 MiB: the index of idempotency keys is read at random
    "temp_store=MEMORY",
    "wal_autocheckpoint=4000",
)
READER = ("query_only=ON",)


def _opened(group: GroupCommit | None) -> GroupCommit:
    if group is None:
        raise JournalUnavailable("the journal is not open")
    return group


def _lock(path: Path) -> int:
    """Hold the agent's lock until the descriptor is closed (or the process dies)."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise EnvironmentUnfit(
            f"another agent is using the journal {path.with_suffix('')}",
            remedy="stop it, give this one a BACKWRIGHT_WORKSPACE of its own, or share a PostgreSQL journal",
        ) from error
    return descriptor


def _migrate(connection: sqlite3.Connection) -> None:
    """Run the scripts that this file has not seen, each in a transaction of its own."""
    version = _version(connection)
    if version > LATEST:
        raise sqlite3.DatabaseError("a later release has written it")
    for number, script in sql.migrations("sqlite"):
        if number > version:
            connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number:d}; COMMIT;")


def _version(connection: sqlite3.Connection) -> int:
    """Number of the last script that the file has seen."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _runs(batch: Iterable[Intake]) -> Iterable[tuple[bool, list[Any]]]:
    """Neighbours of one sort, in order: (are they tasks, the items)."""
    return ((are_tasks, list(items)) for are_tasks, items in groupby(batch, lambda item: isinstance(item, NewTask)))


def _known(connection: sqlite3.Connection, task_ids: Sequence[str]) -> dict[str, str]:
    """Payload digests of the tasks that are known already."""
    archived = _in_chunks(connection, "known_archived_requests", task_ids)
    return dict([*_in_chunks(connection, "known_requests", task_ids), *archived])


def _early(connection: sqlite3.Connection, task_id: str) -> list[NewCommand]:
    """Commands that came before their task, now applied."""
    found = connection.execute(SQL["waiting_commands"], (task_id,)).fetchall()
    connection.execute(SQL["commands_applied"], (task_id,))
    return [rows.command_of(values) for values in found]


def _one(connection: sqlite3.Connection, statement: str, *values: Any) -> tuple[Any, ...] | None:
    found: tuple[Any, ...] | None = connection.execute(SQL[statement], values).fetchone()
    return found


def _rows(connection: sqlite3.Connection, statement: str, *values: Any) -> list[TaskRow]:
    return [rows.task_row(found) for found in connection.execute(SQL[statement], values).fetchall()]


def _found(connection: sqlite3.Connection, task_ids: Sequence[str]) -> dict[str, TaskRow]:
    """Rows by task id, without the archived ones."""
    return {row.task_id: row for row in map(rows.task_row, _in_chunks(connection, "tasks_by_task_id", task_ids))}


def _owned(found: Mapping[str, TaskRow], claim: Claim) -> TaskRow:
    row = found.get(claim.task_id)
    if row is None or not lifecycle.owns(row, claim.fence):
        raise Fenced(f"fence {claim.fence} of task {claim.task_id} is no longer in force")
    return row


def _in_chunks(connection: sqlite3.Connection, statement: str, keys: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
    """What a statement with {keys} finds."""
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        yield from connection.execute(SQL[statement].replace("{keys}", ",".join("?" * len(chunk))), chunk).fetchall()


def _write_rows(connection: sqlite3.Connection, statement: str, given: Sequence[Sequence[Any]]) -> None:
    """Run a statement with {rows} for all that is given, in its order.

    Not `executemany`, which gives the interpreter's lock away and waits for it again at each row: beside a busy loop,
    that waiting took longer than SQLite's work.
    """
    start, number = 0, ROWS
    while start < len(given):
        while number > len(given) - start:
            number //= 2
        some = given[start : start + number]
        connection.execute(_with_rows(statement, number, len(some[0])), [*chain.from_iterable(some)])
        start += number


@cache  # a statement has one width, and a number is a power of two
def _with_rows(statement: str, number: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return SQL[statement].replace("{rows}", ", ".join([row] * number))


def _parted(given: Iterable[TaskRow], is_first: Callable[[TaskRow], bool]) -> tuple[list[TaskRow], list[TaskRow]]:
    """Those of which it is true, and the others."""
    parts: tuple[list[TaskRow], list[TaskRow]] = ([], [])
    for row in given:
        parts[0 if is_first(row) else 1].append(row)
    return parts


def _checkpoints(connection: sqlite3.Connection, task_id: str) -> Mapping[str, Checkpoint]:
    found = connection.execute(SQL["checkpoints"], (task_id,)).fetchall()
    return {
        step: Checkpoint(step, input_hash, rows.load(output), code_version, duration_s)
        for step, input_hash, output, code_version, duration_s in found
    }


def _view(connection: sqlite3.Connection, task_id: str) -> TaskView | None:
    found = _one(connection, "view", task_id) or _one(connection, "archived_view", task_id)
    return rows.task_view(found)[1] if found else None


def _views(connection: sqlite3.Connection, states: Sequence[State], limit: int) -> Sequence[TaskView]:
    wanted = f",{','.join(states)}," if states else ""
    found = [
        rows.task_view(values)
        for statement in rows.view_statements(states)
        for values in connection.execute(SQL[statement], (wanted, limit))
    ]
    return [view for _, view in sorted(found, key=lambda pair: -pair[0])[:limit]]
