"""The journal of many replicas: PostgreSQL, where row locks stand between two writers and the database's clock counts leases.

Rules for editors:
1. All lease time is `clock_timestamp()`; this process's clock is never compared with it.
2. A task's row is locked (`lock_tasks`, in order of id, or SKIP LOCKED) before lifecycle decides about it, and positions
   of the outbox are taken after that: so the order of a task's events is the order of its commits.
3. Nothing waits for a lock while it holds one out of order: locks of rows ascend, locks of ordering keys are tried.
4. A commit whose answer was lost may have happened. Every call can be repeated; a repeated claim takes what the lost one
   had taken.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Any, Final, TypeVar
from zlib import crc32

import asyncpg

from agent.errors import EnvironmentUnfit, Fenced, JournalUnavailable
from agent.journal import lifecycle, rows, sql
from agent.journal.lifecycle import Decision, Numbered, TaskRow
from agent.journal.port import (
    Acceptance,
    CancelRequested,
    Checkpoint,
    Claim,
    Depths,
    Event,
    Finish,
    Intake,
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
Connection = Any  # asyncpg's connection, or its proxy in a pool: their stubs have no common name

SCHEMA = "backwright_journal"  # also the channel of NOTIFY
SHARDS = 64  # rows of relay_shard
RELAY_HELD_S = 10.0
RELAY_KEEP_S = 3.0
NOTIFY_EVERY_S = 0.02  # a NOTIFY takes a lock of the whole database at commit: one for many changes
POLL_S = 1.0  # longest sleep while nobody listens
GROUP_LIMIT = 200
UPKEEP_LIMIT = 200
TRIES = 5

# Any fixed numbers, as long as nobody else on this database uses them.
MIGRATION_LOCK = 7_260_401
INTAKE_LOCK = 7_260_402
KEY_LOCK_SEED = 7_260_403

_TYPES = {
    "id": "bigint", "task_id": "text", "state": "text", "priority": "integer", "rank": "float8", "updated_at": "float8",
    "run_at": "float8", "expires_at": "float8", "attempt": "integer", "crashes": "integer", "fence": "bigint",
    "epoch": "integer", "sequence": "integer", "lease_owner": "text", "lease_until": "float8", "cancel_id": "text",
    "cancel_reason": "text", "is_final": "boolean", "holds_key": "boolean", "first_started_at": "float8",
    "started_at": "float8", "history": "json", "progress": "json",
}  # fmt: skip
_FILLED = {
    # A sub-select is evaluated once per statement, so that an index can be searched with it.
    "{now}": "(SELECT extract(epoch FROM clock_timestamp())::float8)",
    "{task}": ", ".join(rows.TASK_COLUMNS),
    "{t.task}": ", ".join(f"t.{name}" for name in rows.TASK_COLUMNS),
    "{arrays}": ", ".join(f"${nr}::{_TYPES[name]}[]" for nr, name in enumerate(rows.TASK_COLUMNS, start=1)),
    "{after}": f"${len(rows.TASK_COLUMNS) + 1}",
}


def _filled(text: str) -> str:
    for name, value in _FILLED.items():
        text = text.replace(name, value)
    return text


SQL: Final[Mapping[str, str]] = {name: _filled(text) for name, text in sql.statements("postgres").items()}


@dataclass(slots=True)
class _Writes:
    """What one transaction stores, gathered first and sent in few statements."""

    now: datetime
    archived: set[int] = field(default_factory=set)
    inserted: dict[int, tuple[TaskRow, str]] = field(default_factory=dict)
    updated: dict[int, TaskRow] = field(default_factory=dict)
    points: dict[tuple[int, int, str], Checkpoint] = field(default_factory=dict)
    events: list[tuple[int | None, Numbered]] = field(default_factory=list)

    def add(self, before: TaskRow, decision: Decision) -> TaskRow:
        """Note a decision about a row that exists; returns the row as it becomes."""
        row = decision.row
        if row.id in self.inserted:
            self.inserted[row.id] = (row, self.inserted[row.id][1])
        elif row != before:
            self.updated[row.id] = row
        self.events += [(row.id, numbered) for numbered in decision.events]
        return row

    async def store(self, connection: Connection) -> None:
        """Send it all; an empty part costs nothing."""
        if self.inserted:
            columns = _transposed(rows.task_columns(row) for row, _ in self.inserted.values())
            await connection.execute(SQL["insert_tasks"], *columns, [key for _, key in self.inserted.values()])
        if back := [row_id for row_id in self.updated if row_id in self.archived]:
            await connection.execute(SQL["restore_tasks"], back)
        if self.updated:
            columns = _transposed(rows.task_columns(row) for row in self.updated.values())
            await connection.execute(SQL["update_tasks"], *columns)
        if self.points:
            columns = _transposed(
                (row_id, epoch, step, point.input_hash, rows.dump(point.output), point.code_version, point.duration_s)
                for (row_id, epoch, step), point in self.points.items()
            )
            await connection.execute(SQL["upsert_checkpoints"], *columns)
        if self.events:
            await self._publish(connection)

    async def _publish(self, connection: Connection) -> None:
        ids, tasks, types, keys, data, sequences, shards = _transposed(
            (
                token_hex(16), row_id, numbered.event.type, rows.dump(numbered.event.key), rows.dump(numbered.event.data),
                numbered.sequence, _shard(row_id, numbered.event.key),
            )
            for row_id, numbered in self.events
        )  # fmt: skip
        at = self.now.timestamp()
        await connection.execute(SQL["insert_outbox"], ids, tasks, types, keys, data, sequences, at, shards)
        letters = [
            (letter_id, row_id, None, code, rows.dump(content))
            for row_id, numbered in self.events
            if row_id is not None
            for letter_id, content, code in rows.letters_in([numbered.event])
        ]
        if letters:
            await connection.execute(SQL["insert_letters"], *_transposed(letters), at)


@dataclass(slots=True, eq=False)
class _Unit:
    """One attempt's write, waiting for the next group."""

    claim: Claim
    decide: Callable[[TaskRow, datetime], Decision]
    point: Checkpoint | None
    done: "asyncio.Future[None]"


class PostgresJournal:
    """Implements agent.journal.port.Journal. `renew` may be called from another event loop than the one of `open`."""

    def __init__(self, dsn: str, settings: JournalSettings) -> None:
        self._dsn = dsn
        self._settings = settings
        self._name = token_hex(16)  # of this process's start, never of a host: hosts are reused
        self._wakeups = Wakeups()
        self._pool: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._elsewhere: dict[asyncio.AbstractEventLoop, Any] = {}  # a connection per other loop that renews
        self._background: list[asyncio.Task[None]] = []
        self._dirty = asyncio.Event()
        self._is_listening = False
        self._units: list[_Unit] = []
        self._writer: asyncio.Task[None] | None = None
        self._claims = 0
        self._lost_claims: dict[str, list[str]] = defaultdict(list)  # owners of claims whose answer was lost, by worker
        self._kept_at = float("-inf")
        self._in_hand: dict[int, int] = {}  # shard of each position that was given out and not yet sent

    # --- connection -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        with _translated():
            await self._migrate()
            self._pool = await asyncpg.create_pool(
                self._dsn, min_size=1, max_size=self._settings.pool_size, reset=_keep, **self._options()
            )
        self._background = [asyncio.create_task(self._listen()), asyncio.create_task(self._notify())]

    async def close(self) -> None:
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            with contextlib.suppress(JournalUnavailable), _translated():
                if self._kept_at > float("-inf"):
                    await pool.execute(SQL["leave_relays"], self._name)
                async with asyncio.timeout(self._settings.statement_timeout_s):
                    await pool.close()
            pool.terminate()
        for connection in self._elsewhere.values():
            with contextlib.suppress(RuntimeError):  # its loop is closed
                connection.terminate()
        self._elsewhere.clear()

    def _options(self) -> dict[str, Any]:
        timeout_ms = str(int(self._settings.statement_timeout_s * 1000))
        return {
            "timeout": self._settings.statement_timeout_s,
            "command_timeout": self._settings.statement_timeout_s + 1,
            "server_settings": {
                "application_name": "backwright",
                "search_path": SCHEMA,
                "statement_timeout": timeout_ms,
                "lock_timeout": timeout_ms,
                # A process that was stopped in the middle of a transaction must not keep its locks.
                "idle_in_transaction_session_timeout": timeout_ms,
                "synchronous_commit": "on",
            },
        }

    async def _migrate(self) -> None:
        """Bring the schema up to date, one replica at a time. Scripts only add, so that old replicas go on working."""
        connection = await asyncpg.connect(self._dsn, **self._options())
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
                await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
                await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                await connection.execute(
                    "CREATE TABLE IF NOT EXISTS migration (number integer PRIMARY KEY, applied_at timestamptz NOT NULL)"
                )
                done = {number for (number,) in await connection.fetch("SELECT number FROM migration")}
                for number, script in sql.migrations("postgres"):
                    if number not in done:
                        await connection.execute(script)
                        await connection.execute("INSERT INTO migration VALUES ($1, clock_timestamp())", number)
        finally:
            await connection.close(timeout=self._settings.statement_timeout_s)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        if self._pool is None:
            raise JournalUnavailable("the journal is not open")
        with _translated():
            async with self._pool.acquire(timeout=self._settings.statement_timeout_s) as connection:
                yield connection

    async def _in_transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction; once more if PostgreSQL chose it as the victim of a deadlock."""
        for left in reversed(range(TRIES)):
            try:
                async with self._connected() as connection, connection.transaction():
                    return await work(connection)
            except _Again:
                if not left:
                    raise
                await asyncio.sleep(0.01 * (TRIES - left))
        raise AssertionError("unreachable")

    async def _fetch(self, statement: str, *values: Any) -> Sequence[Any]:
        async with self._connected() as connection:
            found: Sequence[Any] = await connection.fetch(SQL[statement], *values)
            return found

    # --- intake ---------------------------------------------------------------------------------------------------

    async def accept(self, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        if not batch:
            return []
        outcomes = await self._in_transaction(lambda connection: _Acceptor(connection, rows.cleaned(batch)).run())
        if Acceptance.ACCEPTED in outcomes:
            self._changed()
        return outcomes

    # --- work -----------------------------------------------------------------------------------------------------

    async def claim(self, worker: str, *, limit: int, lease_s: float) -> Sequence[Claim]:
        self._wakeups.note()
        self._claims += 1
        owner = f"{worker}#{self._claims}"
        lost = self._lost_claims[worker]
        try:
            adopted = await self._in_transaction(lambda connection: _adopt(connection, lost, lease_s)) if lost else []
            self._lost_claims[worker].clear()
            moved, claims = await self._in_transaction(
                lambda connection: _claim(connection, owner, limit - len(adopted), lease_s)
            )
        except (JournalUnavailable, asyncio.CancelledError):
            self._lost_claims[worker].append(owner)
            raise
        if moved:
            self._changed()
        return [*adopted, *claims]

    async def renew(self, claims: Sequence[Claim], *, lease_s: float) -> Mapping[str, Renewal]:
        given = ([claim.task_id for claim in claims], [claim.fence for claim in claims], lease_s)
        if asyncio.get_running_loop() is self._loop:
            held = await self._fetch("renew", *given)
        else:
            held = await self._renew_elsewhere(given)
        answers = {claim.task_id: Renewal(held=False) for claim in claims}
        answers.update({task_id: Renewal(held=True, cancel_requested=asked) for task_id, asked in held})
        return answers

    async def _renew_elsewhere(self, given: tuple[Any, ...]) -> Sequence[Any]:
        """In the caller's loop, on a connection of its own: a blocked main loop does not stop the renewal."""
        loop = asyncio.get_running_loop()
        with _translated():
            connection = self._elsewhere.get(loop)
            if connection is None or connection.is_closed():
                connection = self._elsewhere[loop] = await asyncpg.connect(self._dsn, **self._options())
            try:
                found: Sequence[Any] = await connection.fetch(SQL["renew"], *given)
            except (asyncpg.InterfaceError, asyncio.CancelledError, TimeoutError):
                connection.terminate()  # it may be in the middle of an answer
                raise
            return found

    async def checkpoints(self, task_id: str) -> Mapping[str, Checkpoint]:
        return {
            step: Checkpoint(step, input_hash, rows.load(output), code_version, duration_s)
            for step, input_hash, output, code_version, duration_s in await self._fetch("checkpoints", task_id)
        }

    async def record(
        self, claim: Claim, checkpoint: Checkpoint | None, events: Sequence[Event], *, final: bool = False
    ) -> None:
        await self._write(claim, lambda row, now: lifecycle.record(row, events, final=final, now=now), checkpoint)
        if events:
            self._changed()

    async def finish(self, claim: Claim, finish: Finish) -> None:
        await self._write(claim, lambda row, now: lifecycle.finish(row, finish, now))
        self._changed()

    async def answer(self, query_id: str) -> bytes | None:
        self._wakeups.note()
        found = await self._fetch("answer", rows.plain(query_id))
        return found[0][0] if found else None

    async def _write(
        self, claim: Claim, decide: Callable[[TaskRow, datetime], Decision], point: Checkpoint | None = None
    ) -> None:
        """Join the next group: what waits while a transaction runs shares the following one."""
        unit = _Unit(claim, decide, point, asyncio.get_running_loop().create_future())
        self._units.append(unit)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_groups())
        await unit.done

    async def _write_groups(self) -> None:
        while self._units:
            group = [unit for unit in self._units[:GROUP_LIMIT] if not unit.done.done()]
            del self._units[:GROUP_LIMIT]
            (failed,) = await asyncio.gather(
                self._in_transaction(lambda connection, group=group: _write_group(connection, group)),  # type: ignore[misc]  # a default binds it
                return_exceptions=True,
            )
            for unit, error in zip(group, failed if isinstance(failed, list) else [failed] * len(group), strict=True):
                if unit.done.done():
                    continue  # the caller was cancelled meanwhile
                if error is None:
                    unit.done.set_result(None)
                else:
                    unit.done.set_exception(error)

    # --- outbox ---------------------------------------------------------------------------------------------------

    async def unsent(self, *, limit: int) -> Sequence[OutboxRow]:
        self._wakeups.note()
        now = asyncio.get_running_loop().time()
        if now - self._kept_at > RELAY_KEEP_S:
            await self._in_transaction(self._keep_shards)
            self._kept_at = now
        found = await self._fetch("unsent", self._name, limit)
        if len(found) < limit:
            self._in_hand.clear()  # that is all there is
        self._in_hand.update({values[0]: values[-1] for values in found})
        return [rows.outbox_row(tuple(values)[:-1]) for values in found]

    async def _keep_shards(self, connection: Connection) -> None:
        """Stay a relay, with a fair share: take what is free below it, let go what is idle above it."""
        await connection.execute(SQL["join_relays"], self._name, RELAY_HELD_S)
        await connection.execute(SQL["forget_relays"])
        relays = await connection.fetchval(SQL["count_relays"])
        mine = {shard for (shard,) in await connection.fetch(SQL["keep_shards"], self._name, RELAY_HELD_S)}
        share = -(-SHARDS // max(1, relays))
        if len(mine) < share:
            await connection.execute(SQL["take_shards"], self._name, RELAY_HELD_S, share - len(mine))
        elif len(mine) > share:
            idle = sorted(mine - set(self._in_hand.values()))
            await connection.execute(SQL["release_shards"], self._name, idle[: len(mine) - share])

    async def sent(self, positions: Sequence[int]) -> None:
        async with self._connected() as connection:
            await connection.execute(SQL["delete_outbox"], list(positions))
        for position in positions:
            self._in_hand.pop(position, None)

    async def park(self, position: int, replacement: Event, *, reason: str) -> None:
        async with self._connected() as connection:
            data = rows.dump(replacement.data)
            await connection.execute(
                SQL["park"], position, replacement.type, rows.dump(replacement.key), data, rows.plain(reason)
            )
        self._changed()

    # --- views ----------------------------------------------------------------------------------------------------

    async def task(self, task_id: str) -> TaskView | None:
        found = await self._fetch("view", task_id) or await self._fetch("archived_view", task_id)
        return rows.task_view(tuple(found[0]))[1] if found else None

    async def tasks(self, *, states: Sequence[State] = (), limit: int = 100) -> Sequence[TaskView]:
        wanted = [state.value for state in states]
        found = [
            values
            for statement in rows.view_statements(states)
            for values in await self._fetch(statement, wanted, limit)
        ]
        views = dict(rows.task_view(tuple(values)) for values in found)
        return [views[row_id] for row_id in sorted(views, reverse=True)[:limit]]

    async def dead_letters(self, *, limit: int = 100) -> Sequence[Mapping[str, Any]]:
        return [rows.load(data) for (data,) in await self._fetch("dead_letters", limit)]

    async def dead_letter(self, dead_letter_id: str) -> Mapping[str, Any] | None:
        found = await self._fetch("dead_letter", dead_letter_id)
        return rows.load(found[0][0]) if found else None

    async def depths(self) -> Depths:
        counts = await self._fetch("counts")
        sums = await self._fetch("sums", lifecycle.AGEING_STEP_S)
        outbox, letters, available, running, unsent, now = sums[0]
        return Depths(
            by_state={State(state): count for state, count in counts},
            outbox=outbox,
            dead_letters=letters,
            oldest_available_s=rows.age_s(now, available),
            oldest_running_s=rows.age_s(now, running),
            oldest_outbox_s=rows.age_s(now, unsent),
        )

    async def referenced(self) -> frozenset[str]:
        found = await self._fetch("mentions")
        return frozenset(name for (text,) in found for name in rows.ARTIFACT_NAME.findall(text))

    async def tidy(self, *, older_than_s: float, limit: int = 1000) -> Tidied:
        async with self._connected() as connection:
            counts = [
                _count(await connection.execute(SQL[statement], older_than_s, limit))
                for statement in ("archive_tasks", "delete_answers", "delete_commands")
            ]
        return Tidied(*counts)

    async def changed(self, *, timeout_s: float) -> None:
        await self._wakeups.wait(timeout_s if self._is_listening else min(timeout_s, POLL_S))

    # --- in the background ----------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Wake who waits here at once, and the other replicas soon."""
        self._wakeups.bump()
        self._dirty.set()

    async def _notify(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            with contextlib.suppress(JournalUnavailable):  # the others poll
                async with self._connected() as connection:
                    await connection.execute("SELECT pg_notify($1, $2)", SCHEMA, self._name)
            await asyncio.sleep(NOTIFY_EVERY_S)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(JournalUnavailable), _translated():
                await self._listen_once()
            self._is_listening = False
            self._wakeups.bump()  # whoever sleeps long looks again, and polls from now on
            await asyncio.sleep(POLL_S)

    async def _listen_once(self) -> None:
        """Until the connection is lost."""
        lost = asyncio.Event()
        connection = await asyncpg.connect(self._dsn, **self._options())
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(SCHEMA, self._heard)
            self._is_listening = True
            await lost.wait()
        finally:
            connection.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload != self._name:
            self._wakeups.bump()


class _Acceptor:
    """One call of `accept`: a few statements for the whole batch, then the items one by one, in order, in memory."""

    def __init__(self, connection: Connection, batch: Sequence[Intake]) -> None:
        self._connection = connection
        self._batch = batch
        self._tasks = [item for item in batch if isinstance(item, NewTask)]
        self._commands = [item for item in batch if isinstance(item, NewCommand)]
        self._rows: dict[str, TaskRow] = {}
        self._letters: dict[str, tuple[bool, str | None]] = {}
        self._early: dict[str, list[NewCommand]] = defaultdict(list)
        self._applied: list[str] = []
        self._closed: list[str] = []
        self._new: dict[str, int] = {}  # task ids that are new, until their item is met
        self._digests: dict[str, str] = {}
        self._new_others: set[tuple[type, str]] = set()

    async def run(self) -> list[Acceptance]:
        self._writes = _Writes(await self._lock())
        await self._insert_requests()
        await self._insert_commands()
        await self._insert_answers()
        await self._insert_letters()
        outcomes = [self._outcome(item) for item in self._batch]
        await self._writes.store(self._connection)
        if self._applied:
            await self._connection.execute(SQL["mark_commands"], self._applied, False)
        if still := [given.command_id for early in self._early.values() for given in early]:
            await self._connection.execute(SQL["mark_commands"], still, True)
        if self._closed:
            await self._connection.execute(SQL["close_letters"], self._closed)
        return outcomes

    async def _lock(self) -> datetime:
        if self._commands:
            found = await self._connection.fetchrow(SQL["own_intake"], INTAKE_LOCK)
        elif self._tasks:
            found = await self._connection.fetchrow(SQL["share_intake"], INTAKE_LOCK)
        else:
            found = await self._connection.fetchrow(SQL["now"])
        return rows.moment(found[-1])

    async def _insert_requests(self) -> None:
        if not self._tasks:
            return
        first = {task.task_id: task for task in reversed(self._tasks)}
        given = [first.pop(task.task_id) for task in self._tasks if task.task_id in first]
        columns = _transposed(rows.request_columns(0, task, self._writes.now)[1:] for task in given)
        self._new = {
            task_id: row_id for row_id, task_id in await self._connection.fetch(SQL["insert_requests"], *columns)
        }
        known = [task.task_id for task in given if task.task_id not in self._new]
        if known:
            self._digests = dict(await self._connection.fetch(SQL["known_requests"], known))
        if self._new:
            for command_id, name, subject, data in await self._connection.fetch(
                SQL["waiting_commands"], list(self._new)
            ):
                self._early[subject].append(NewCommand(command_id, name, subject, rows.load(data)))

    async def _insert_commands(self) -> None:
        if not self._commands:
            return
        columns = _transposed((c.command_id, c.command, c.task_id, rows.dump(c.data)) for c in self._commands)
        fresh = await self._connection.fetch(SQL["insert_commands"], *columns, self._writes.now.timestamp())
        self._new_others |= {(NewCommand, command_id) for (command_id,) in fresh}
        subjects = {given.task_id for given in self._commands}
        for letter_id, is_closed, task_id in await self._connection.fetch(SQL["lock_letters"], list(subjects)):
            self._letters[letter_id] = (is_closed, task_id)
            if task_id is not None:
                subjects.add(task_id)
        self._rows, self._writes.archived = await _lock_rows(self._connection, sorted(subjects))

    async def _insert_answers(self) -> None:
        given = [(item.query_id, item.data) for item in self._batch if isinstance(item, NewAnswer)]
        if given:
            at = self._writes.now.timestamp()
            fresh = await self._connection.fetch(SQL["insert_answers"], *_transposed(given), at)
            self._new_others |= {(NewAnswer, query_id) for (query_id,) in fresh}

    async def _insert_letters(self) -> None:
        given = [
            (item.dead_letter_id, None, rows.place_of(item.origin), item.code, rows.dump(item.event.data))
            for item in self._batch
            if isinstance(item, NewDeadLetter)
        ]
        if given:
            at = self._writes.now.timestamp()
            fresh = await self._connection.fetch(SQL["insert_letters"], *_transposed(given), at)
            self._new_others |= {(NewDeadLetter, letter_id) for (letter_id,) in fresh}

    # --- in memory ------------------------------------------------------------------------------------------------

    def _outcome(self, item: Intake) -> Acceptance:
        if isinstance(item, NewTask):
            return self._accept_task(item)
        name = {NewCommand: "command_id", NewAnswer: "query_id", NewDeadLetter: "dead_letter_id"}[type(item)]
        mark = (type(item), getattr(item, name))
        if mark not in self._new_others:
            return Acceptance.DUPLICATE
        self._new_others.discard(mark)
        if isinstance(item, NewCommand):
            self._accept_command(item)
        elif isinstance(item, NewDeadLetter):
            self._writes.events.append((None, Numbered(item.event, None)))
        return Acceptance.ACCEPTED

    def _accept_task(self, task: NewTask) -> Acceptance:
        row_id = self._new.pop(task.task_id, None)
        if row_id is None:
            same = self._digests[task.task_id] == task.payload_digest
            return Acceptance.DUPLICATE if same else Acceptance.CONFLICT
        self._digests[task.task_id] = task.payload_digest
        early = self._early.pop(task.task_id, [])
        self._applied += [given.command_id for given in early]
        decision = lifecycle.accept(row_id, task, early, self._writes.now)
        self._writes.inserted[row_id] = (decision.row, task.ordering_key)
        self._rows[task.task_id] = self._writes.add(decision.row, decision)
        return Acceptance.ACCEPTED

    def _accept_command(self, given: NewCommand) -> None:
        if given.command.startswith("dead_letter."):
            self._command_letter(given)
        elif (row := self._rows.get(given.task_id)) is None:
            self._early[given.task_id].append(given)
        else:
            self._rows[given.task_id] = self._writes.add(row, lifecycle.command(row, given, self._writes.now))

    def _command_letter(self, given: NewCommand) -> None:
        is_closed, task_id = self._letters.get(given.task_id, (False, None))
        row = self._rows.get(task_id) if task_id else None
        refusal = lifecycle.letter_refusal(
            given, is_known=given.task_id in self._letters, is_closed=is_closed, has_task=row is not None
        )
        if refusal is not None:
            self._writes.events.append((None, Numbered(refusal, None)))
            return
        if given.command == "dead_letter.replay" and row is not None:
            after = lifecycle.replay(row, given.command_id, self._writes.now)
            self._rows[row.task_id] = self._writes.add(row, after)
            if after.row.epoch == row.epoch:
                return  # refused: the letter stays open
        self._letters[given.task_id] = (True, task_id)
        self._closed.append(given.task_id)


async def _lock_rows(connection: Connection, task_ids: Sequence[str]) -> tuple[dict[str, TaskRow], set[int]]:
    """The rows of these tasks, locked, by task id; and which of them are archived."""
    live = [rows.task_row(tuple(values)) for values in await connection.fetch(SQL["lock_tasks"], task_ids)]
    missing = set(task_ids) - {row.task_id for row in live}
    archived = []
    if missing:
        found = await connection.fetch(SQL["archived_tasks"], sorted(missing))
        archived = [rows.task_row(tuple(values)) for values in found]
    return {row.task_id: row for row in (*live, *archived)}, {row.id for row in archived}


async def _adopt(connection: Connection, owners: Sequence[str], lease_s: float) -> list[Claim]:
    """Claims that were committed although their answer was lost: still leased to us, and nobody knew."""
    found = await connection.fetch(SQL["adopt"], list(owners), lease_s)
    return [_claim_of(rows.task_row(tuple(values)[: len(rows.TASK_COLUMNS)]), values) for values in found]


async def _claim(connection: Connection, owner: str, limit: int, lease_s: float) -> tuple[bool, list[Claim]]:
    """(whether upkeep moved something that others wait for, the claims)."""
    moved = await _upkeep(connection)
    candidates = await connection.fetch(SQL["startable"], limit) if limit > 0 else []
    if not candidates:
        return moved, []
    ids, keys = _transposed(candidates)
    mine = [row_id for (row_id,) in await connection.fetch(SQL["lock_keys"], ids, keys, KEY_LOCK_SEED)]
    found = await connection.fetch(SQL["started_now"], mine) if mine else []
    if not found:
        return moved, []
    now = rows.moment(found[0][0])
    writes = _Writes(now)
    claims = []
    for values in found:
        row = rows.task_row(tuple(values)[1 : 1 + len(rows.TASK_COLUMNS)])
        after = writes.add(row, lifecycle.claim(row, owner, now.timestamp() + lease_s, now))
        claims.append(_claim_of(after, values))
    await writes.store(connection)
    return moved, claims


async def _upkeep(connection: Connection) -> bool:
    found = await connection.fetch(SQL["upkeep"], UPKEEP_LIMIT)
    if not found:
        return False
    now = rows.moment(await connection.fetchval(SQL["now"]))
    writes = _Writes(now)
    for values in found:
        row = rows.task_row(tuple(values))
        if row.state is State.RUNNING:
            decision = lifecycle.crash(row, now)
        elif lifecycle.is_overdue(row, now):
            decision = lifecycle.overdue(row, now)
        else:
            decision = lifecycle.due(row, now)
        writes.add(row, decision)
    await writes.store(connection)
    return True


async def _write_group(connection: Connection, group: Sequence[_Unit]) -> list[Exception | None]:
    """Store what the units decide, each on the row as the former left it; one error (or None) per unit."""
    found, _ = await _lock_rows(connection, list({unit.claim.task_id for unit in group}))
    writes = _Writes(rows.moment(await connection.fetchval(SQL["now"])))
    errors: list[Exception | None] = []
    for unit in group:
        row = found.get(unit.claim.task_id)
        if row is None or not lifecycle.owns(row, unit.claim.fence):
            errors.append(Fenced(f"fence {unit.claim.fence} of task {unit.claim.task_id} is no longer in force"))
            continue
        try:
            decision = unit.decide(row, writes.now)
        except (CancelRequested, lifecycle.NotAllowed) as error:
            errors.append(error)
            continue
        if unit.point is not None:
            writes.points[row.id, row.epoch, unit.point.step] = unit.point
        found[row.task_id] = writes.add(row, decision)
        errors.append(None)
    await writes.store(connection)
    return errors


def _claim_of(row: TaskRow, values: Any) -> Claim:
    return rows.claim_of(row, tuple(values)[-10:])


def _shard(row_id: int | None, key: str) -> int:
    return (crc32(key.encode()) if row_id is None else row_id) % SHARDS


def _transposed(given: Iterable[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*given, strict=True)]


def _count(tag: str) -> int:
    """Rows of a command tag such as `DELETE 7`."""
    return int(tag.rsplit(" ", 1)[1])


async def _keep(_connection: Any) -> None:
    """Instead of asyncpg's reset between two users of a pooled connection: we leave nothing behind in a session."""


class _Again(JournalUnavailable):
    """PostgreSQL undid the transaction to resolve a deadlock."""


@contextlib.contextmanager
def _translated() -> Any:
    """Trouble with the database in our words."""
    try:
        yield
    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.UniqueViolationError) as error:
        raise _Again(f"PostgreSQL: {error}", retry_after_s=0.1) from error
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise EnvironmentUnfit(
            f"the journal's database refuses us: {error}", remedy="check the journal's URL"
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise JournalUnavailable(f"PostgreSQL: {type(error).__name__}: {error}", retry_after_s=1.0) from error
