"""Group commit: one thread owns the SQLite connection, and what waits while a commit runs shares the next one.

A transaction costs an fsync however much it holds, so the journal is fast when many units share one. Units do not know
of each other: each runs in its own savepoint, and one that fails is undone alone. A caller hears of its result only
after the commit that holds it.

Units of the same work that wait side by side run as one (`run_together`): a statement from Python costs more than what
SQLite does for it, so 64 attempts that end together load and store their rows in a handful of statements.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Generic, TypeVar

from agent.errors import JournalUnavailable
from agent.journal.sqlite.file import unavailable

T = TypeVar("T")
Item = TypeVar("Item")
COMPANY_S = 0.05
MAX_UNITS = 1000  # per transaction: bounds how long the first caller of a group waits


@dataclass(slots=True)
class Transaction:
    """What a unit works with. `changed` is set by units that somebody may be waiting for."""

    connection: sqlite3.Connection
    changed: bool = False


Together = Callable[[Transaction, Sequence[Item]], Sequence[Exception | None]]


@dataclass(slots=True, eq=False)
class _Unit(Generic[T]):
    """`work` alone, or `item` for a `work` that takes the items of its neighbours, too."""

    work: Callable[..., Any]
    future: "asyncio.Future[T]"
    loop: asyncio.AbstractEventLoop
    item: Any = None
    is_alone: bool = True
    result: T | None = None
    error: BaseException | None = field(default=None)

    @property
    def run(self) -> object:
        """What neighbours must have in common to run as one."""
        return self if self.is_alone else self.work


class GroupCommit:
    """Runs units in one thread. Units may come from any event loop."""

    def __init__(
        self, connection: sqlite3.Connection, committed: Callable[[], None], *, begin: str = "BEGIN IMMEDIATE"
    ) -> None:
        """`committed` is called from the thread after each transaction that changed something."""
        self._connection = connection
        self._begin = begin
        self._committed = committed
        self._waiting: deque[_Unit[Any]] = deque()
        self._signal = threading.Condition()
        self._ringing: set[asyncio.AbstractEventLoop] = set()  # those that are about to wake the thread
        self._is_rung = False
        self._is_closing = False
        self.commits = 0  # that wrote something, and waited for the disk
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Transaction], T], *, in_company: bool = False) -> T:
        """The result of `work` once it is durable. Raises what it raised, or JournalUnavailable.

        `in_company`: nobody is in a hurry, so it waits a moment for a transaction that is made anyway.
        """
        loop = asyncio.get_running_loop()
        return await self._queued(_Unit(work, loop.create_future(), loop), COMPANY_S if in_company else 0.0)

    async def run_together(self, work: Together[Item], item: Item) -> None:
        """Return once what `work` did for `item` and its neighbours is durable. Raises what it answered for the item."""
        loop = asyncio.get_running_loop()
        await self._queued(_Unit(work, loop.create_future(), loop, item, is_alone=False))

    async def _queued(self, unit: _Unit[T], within_s: float = 0.0) -> T:
        with self._signal:
            if self._is_closing:
                raise JournalUnavailable("the journal is closed")
            self._waiting.append(unit)
            if within_s:
                unit.loop.call_later(within_s, self._ring, unit.loop)
            elif unit.loop not in self._ringing:
                self._ringing.add(unit.loop)
                unit.loop.call_soon(self._ring, unit.loop)
        return await unit.future

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake the thread once per turn of a loop: attempts that end together, and the claim that takes their places,
        share a commit."""
        with self._signal:
            self._ringing.discard(loop)
            self._is_rung = bool(self._waiting)
            self._signal.notify()

    async def close(self) -> None:
        """Commit what waits, then end the thread and close the connection."""
        with self._signal:
            self._is_closing = True
            self._signal.notify()
        await asyncio.to_thread(self._thread.join)

    # --- in the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while units := self._next():
            try:
                self._commit(units)
            except sqlite3.Error as error:
                self._undo()
                for unit in units:
                    unit.error = unavailable(error)
            _deliver(units)
        self._connection.close()

    def _next(self) -> list[_Unit[Any]]:
        """What waits now, at least one; nothing when all is done."""
        with self._signal:
            self._signal.wait_for(lambda: (self._waiting and self._is_rung) or self._is_closing)
            self._is_rung = len(self._waiting) > MAX_UNITS
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_UNITS))]

    def _commit(self, units: Sequence[_Unit[Any]]) -> None:
        transaction = Transaction(self._connection)
        changes = self._connection.total_changes
        self._connection.execute(self._begin)
        for _, neighbours in groupby(units, key=lambda unit: unit.run):
            self._perform(list(neighbours), transaction)
        self._connection.execute("COMMIT")
        self.commits += self._connection.total_changes > changes
        if transaction.changed:
            self._committed()

    def _perform(self, units: Sequence[_Unit[Any]], transaction: Transaction) -> None:
        self._connection.execute("SAVEPOINT unit")
        before = transaction.changed
        try:
            _work(units, transaction)
        except BaseException as error:  # handed to the callers, who raise it
            if not self._connection.in_transaction:  # disk full, I/O error: SQLite undid all units
                raise sqlite3.OperationalError(f"transaction undone: {error}") from error
            for unit in units:
                unit.error = unavailable(error) if isinstance(error, sqlite3.Error) else error
            transaction.changed = before
            self._connection.execute("ROLLBACK TO unit")
        self._connection.execute("RELEASE unit")

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _work(units: Sequence[_Unit[Any]], transaction: Transaction) -> None:
    first = units[0]
    if first.is_alone:
        first.result = first.work(transaction)
        return
    for unit, error in zip(units, first.work(transaction, [unit.item for unit in units]), strict=True):
        unit.error = error


def _deliver(units: Sequence[_Unit[Any]]) -> None:
    """Hand the results over, one call per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Unit[Any]]] = {}
    for unit in units:
        by_loop.setdefault(unit.loop, []).append(unit)
    for loop, theirs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, theirs)
        except RuntimeError:
            continue  # the loop is closed: its callers are gone


def _resolve(units: Sequence[_Unit[Any]]) -> None:
    for unit in units:
        if unit.future.done():
            continue  # the caller was cancelled meanwhile
        if unit.error is not None:
            unit.future.set_exception(unit.error)
        else:
            unit.future.set_result(unit.result)
