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
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from secrets import token_hex
from typing import Any, TypeVar

import asyncpg

from agent.errors import JournalUnavailable
from agent.journal import lifecycle, rows, sql
from agent.journal.lifecycle import Decision, TaskRow
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
from agent.journal.postgres.connections import Connections
from agent.journal.postgres.intake import Acceptor, opening
from agent.journal.postgres.pace import Pace
from agent.journal.postgres.session import SCHEMA, SQL, Again, Connection, Unanswered, transact, translated
from agent.journal.postgres.work import Group, Unit, adopt, look, start, upkeep
from agent.journal.postgres.writes import SHARDS
from agent.journal.wakeups import Wakeups
from agent.settings import JournalSettings

T = TypeVar("T")

RELAY_HELD_S = 10.0
RELAY_KEEP_S = 3.0
SHARDS_MOVED = "shards"  # told to the other relays, after our name
NOTIFY_EVERY_S = 0.02  # a NOTIFY takes a lock of the whole database at commit: one for many changes
POLL_S = 1.0  # longest sleep while nobody listens
GROUP_LIMIT = 200
BREATH_S = 0.005  # between two claims, two groups: so many statements more is what an acceptance would have to wait for
TRIES = 5
SETTLE_S = 10.0  # after that the leases are gone as well
SETTLE_PAUSE_S = 0.2
MIGRATION_LOCK = 7_260_401  # any number, as long as nobody else on this database locks with it


class PostgresJournal:
    """Implements agent.journal.port.Journal. `renew` may be called from another event loop than the one of `open`."""

    def __init__(self, dsn: str, settings: JournalSettings) -> None:
        self._connections = Connections(dsn, settings)
        self._timeout_s = settings.statement_timeout_s
        self._name = token_hex(16)  # of this process's start, never of a host: hosts are reused
        self._wakeups = Wakeups()
        self._claim_pace, self._write_pace = Pace(BREATH_S), Pace(BREATH_S)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._elsewhere: dict[asyncio.AbstractEventLoop, Any] = {}  # a connection per other loop that renews
        self._background: list[asyncio.Task[None]] = []
        self._dirty = asyncio.Event()
        self._is_listening = False
        self._units: list[Unit] = []
        self._writer: asyncio.Task[None] | None = None
        self._claims = 0
        self._lost_claims: dict[str, list[str]] = defaultdict(list)  # owners of claims whose answer was lost, by worker
        self._is_relay = False
        self._kept_at = float("-inf")
        self._in_hand: dict[int, int] = {}  # shard of each position that was given out and not yet sent

    # --- connection -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            with translated():
                await self._migrate()
            await self._connections.open()
        except JournalUnavailable as error:
            raise JournalUnavailable(f"no journal at {self._connections.place}: {error}", retry_after_s=1.0) from error
        self._background = [asyncio.create_task(self._listen()), asyncio.create_task(self._notify())]

    async def close(self) -> None:
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        with contextlib.suppress(JournalUnavailable):
            if self._is_relay:
                await self._fetch("leave_relays", self._name)
                await self._fetch("tell", SCHEMA, f"{self._name} {SHARDS_MOVED}")
        with contextlib.suppress(JournalUnavailable):
            await self._connections.close()
        for connection in self._elsewhere.values():
            with contextlib.suppress(RuntimeError):  # its loop is closed
                connection.terminate()
        self._elsewhere.clear()

    async def _migrate(self) -> None:
        """Bring the schema up to date, one replica at a time. Scripts only add, so that old replicas go on working."""
        connection = await self._connections.connect()
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
            await connection.close(timeout=self._timeout_s)

    async def _persistently(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` on a connection; once more if PostgreSQL chose it as the victim of a deadlock."""
        for left in reversed(range(TRIES)):
            try:
                async with self._connections.one() as connection:
                    return await work(connection)
            except Again:
                if not left:
                    raise
                await asyncio.sleep(0.01 * (TRIES - left))
        raise AssertionError("unreachable")

    async def _fetch(self, statement: str, *values: Any) -> Sequence[Any]:
        async with self._connections.one() as connection:
            found: Sequence[Any] = await connection.fetch(SQL[statement], *values)
            return found

    # --- intake ---------------------------------------------------------------------------------------------------

    async def accept(self, batch: Sequence[Intake]) -> Sequence[Acceptance]:
        if not batch:
            return []
        batch = rows.cleaned(batch)

        async def work(connection: Connection) -> list[Acceptance]:
            return await Acceptor(connection, batch).run()

        outcomes = await self._persistently(lambda connection: transact(connection, work, opening=opening(batch)))
        if Acceptance.ACCEPTED in outcomes:
            self._changed()
        return outcomes

    # --- work -----------------------------------------------------------------------------------------------------

    async def claim(self, worker: str, *, limit: int, lease_s: float) -> Sequence[Claim]:
        await self._claim_pace.keep()
        self._wakeups.note()
        self._claims += 1
        owner = f"{worker}#{self._claims}"
        lost = self._lost_claims[worker]
        try:
            adopted = await self._adopt(lost, lease_s) if lost else []
            self._lost_claims[worker].clear()
            return [*adopted, *await self._claim(owner, limit - len(adopted), lease_s)]
        except (JournalUnavailable, asyncio.CancelledError):
            self._lost_claims[worker].append(owner)
            raise

    async def _adopt(self, owners: Sequence[str], lease_s: float) -> list[Claim]:
        async with self._connections.one() as connection:
            return await adopt(connection, owners, lease_s)

    async def _claim(self, owner: str, limit: int, lease_s: float) -> list[Claim]:
        """Look, and look again while others take what was seen."""
        claims: list[Claim] = []
        for _ in range(TRIES):
            once = partial(self._claim_once, owner=owner, limit=limit - len(claims), lease_s=lease_s)
            seen, started = await self._persistently(once)
            claims += started
            if len(started) == seen:
                break
        return claims

    async def _claim_once(
        self, connection: Connection, *, owner: str, limit: int, lease_s: float
    ) -> tuple[int, list[Claim]]:
        """How many were seen, and what could be started of them."""
        sight = await look(connection, limit)
        if sight.is_due and await upkeep(connection):
            self._changed()
            sight = await look(connection, limit)
        started = await start(connection, sight, owner, lease_s) if sight.startable else []
        return len(sight.startable), started

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
        with translated():
            connection = self._elsewhere.get(loop)
            if connection is None or connection.is_closed():
                connection = self._elsewhere[loop] = await self._connections.connect()
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
        found = await self._fetch("answer", rows.indexed(query_id))
        return found[0][0] if found else None

    async def _write(
        self, claim: Claim, decide: Callable[[TaskRow, datetime], Decision], point: Checkpoint | None = None
    ) -> None:
        """Join the next group: what waits while a transaction runs shares the following one."""
        unit = Unit(claim, decide, point, asyncio.get_running_loop().create_future())
        self._units.append(unit)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_groups())
        await unit.done

    async def _write_groups(self) -> None:
        while self._units:
            group = Group([unit for unit in self._units[:GROUP_LIMIT] if not unit.done.done()])
            del self._units[:GROUP_LIMIT]
            (failed,) = await asyncio.gather(self._settle(group), return_exceptions=True)
            for unit in group.units:
                if unit.done.done():
                    continue  # the caller was cancelled meanwhile
                if error := unit.error if unit.is_settled else failed:
                    unit.done.set_exception(error)
                else:
                    unit.done.set_result(None)
            if len(group.units) > 1:  # who writes alone does not wait for company
                await self._write_pace.keep()

    async def _settle(self, group: Group) -> None:
        """Write a group. When an answer is lost, find out what happened, if the database comes back in time."""
        ends = time.monotonic() + SETTLE_S
        while True:
            try:
                return await self._persistently(group.write)
            except Unanswered:
                if not group.is_sent or time.monotonic() > ends:
                    raise
            await asyncio.sleep(SETTLE_PAUSE_S)

    # --- outbox ---------------------------------------------------------------------------------------------------

    async def unsent(self, *, limit: int, besides: Collection[int] = ()) -> Sequence[OutboxRow]:
        self._wakeups.note()
        now = asyncio.get_running_loop().time()
        if now - self._kept_at > RELAY_KEEP_S:
            self._kept_at = now  # before it is done: who moves shards meanwhile is heard
            try:
                await self._keep_shards()
            except JournalUnavailable:
                self._kept_at = float("-inf")
                raise
        found = await self._fetch("unsent", self._name, limit, list(besides))
        if len(found) < limit:  # that is all there is
            self._in_hand = {position: shard for position, shard in self._in_hand.items() if position in besides}
        self._in_hand.update({values[0]: values[-1] for values in found})
        return [rows.outbox_row(tuple(values)[:-1]) for values in found]

    async def _keep_shards(self) -> None:
        """Stay a relay, with a fair share: take what is free below it, let go what is idle above it.

        Who comes, lets go or leaves tells the others, so that no event waits for their next turn.
        """
        [(relays, held)] = await self._fetch("keep_relay", self._name, RELAY_HELD_S)
        share = -(-SHARDS // relays)
        is_news, self._is_relay = not self._is_relay and relays > 1, True
        if len(held) < share:
            await self._fetch("take_shards", self._name, RELAY_HELD_S, share - len(held))
        elif idle := sorted(set(held) - set(self._in_hand.values()))[: len(held) - share]:
            await self._fetch("release_shards", self._name, idle)
            is_news = True
        if is_news:
            await self._fetch("tell", SCHEMA, f"{self._name} {SHARDS_MOVED}")

    async def sent(self, positions: Collection[int]) -> None:
        async with self._connections.one() as connection:
            await connection.execute(SQL["delete_outbox"], list(positions))
        for position in positions:
            self._in_hand.pop(position, None)

    async def park(self, position: int, replacement: Event, *, reason: str) -> None:
        async with self._connections.one() as connection:
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

    async def dead_letters(self, wanted: LetterFilter = ALL_LETTERS, *, limit: int = 100) -> Sequence[DeadLetter]:
        since, parts = rows.letter_filter(wanted)
        return [rows.dead_letter(tuple(found)) for found in await self._fetch("dead_letters", since, *parts, limit)]

    async def dead_letter(self, dead_letter_id: str) -> DeadLetter | None:
        found = await self._fetch("dead_letter", dead_letter_id)
        return rows.dead_letter(tuple(found[0])) if found else None

    async def depths(self) -> Depths:
        found = await self._fetch("depths", lifecycle.AGEING_STEP_S)
        counts, outbox, letters, available, running, unsent, now = found[0]
        return Depths(
            by_state={State(state): number for state, number in rows.load(counts or "{}").items()},
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
        async with self._connections.one() as connection:
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
                async with self._connections.one() as connection:
                    await connection.execute(SQL["tell"], SCHEMA, self._name)
            await asyncio.sleep(NOTIFY_EVERY_S)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(JournalUnavailable), translated():
                await self._listen_once()
            self._is_listening = False
            self._wakeups.bump()  # whoever sleeps long looks again, and polls from now on
            await asyncio.sleep(POLL_S)

    async def _listen_once(self) -> None:
        """Until the connection is lost."""
        lost = asyncio.Event()
        connection = await self._connections.connect()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(SCHEMA, self._heard)
            self._is_listening = True
            await lost.wait()
        finally:
            connection.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        name, _, news = str(payload).partition(" ")
        if name == self._name:
            return
        if news == SHARDS_MOVED:
            self._kept_at = float("-inf")
        self._wakeups.bump()


def _count(tag: str) -> int:
    """Rows of a command tag such as `DELETE 7`."""
    return int(tag.rsplit(" ", 1)[1])
