"""One call of `accept` on the shared journal."""

from collections import defaultdict
from collections.abc import Sequence

from agent.journal import lifecycle, rows
from agent.journal.lifecycle import Numbered, TaskRow
from agent.journal.port import Acceptance, Intake, NewAnswer, NewCommand, NewDeadLetter, NewTask
from agent.journal.postgres.session import SQL, Connection
from agent.journal.postgres.writes import Writes, columns, lock_rows

INTAKE_LOCK = 7_260_402  # any number, as long as nobody else on this database locks with it


def opening(batch: Sequence[Intake]) -> str:
    """How the transaction that accepts `batch` begins.

    Commands about tasks that are not known yet and the acceptance of those tasks must see each other: whoever stores
    commands holds a lock alone, whoever stores tasks shares it. Without it both miss each other (write skew).
    """
    if any(isinstance(item, NewCommand) for item in batch):
        return f"BEGIN; SELECT pg_advisory_xact_lock({INTAKE_LOCK})"
    if any(isinstance(item, NewTask) for item in batch):
        return f"BEGIN; SELECT pg_advisory_xact_lock_shared({INTAKE_LOCK})"
    return "BEGIN"


class Acceptor:
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
        await self._insert_requests()
        await self._insert_commands()
        await self._insert_answers()
        await self._insert_letters()
        outcomes = [self._outcome(item) for item in self._batch]
        await self._writes.store(self._connection)
        if self._applied:
            await self._connection.execute(SQL["commands_applied"], self._applied)
        if still := [rows.known_as(given) for early in self._early.values() for given in early]:
            await self._connection.execute(SQL["commands_wait"], still)
        if self._closed:
            await self._connection.execute(SQL["close_letters"], self._closed)
        return outcomes

    async def _insert_requests(self) -> None:
        if not self._tasks:
            self._writes = Writes(rows.moment(await self._connection.fetchval(SQL["now"])))
            return
        first = {task.task_id: task for task in reversed(self._tasks)}
        given = [first.pop(task.task_id) for task in self._tasks if task.task_id in first]
        values = columns((rows.request_columns(0, task, None)[1:] for task in given), 13)
        found = await self._connection.fetch(SQL["insert_requests"], *values)
        self._writes = Writes(rows.moment(found[0][0]))
        self._new = {task_id: row_id for _, task_id, row_id, _, _ in found if row_id is not None}
        self._digests = {task_id: digest for _, task_id, _, digest, _ in found if digest is not None}
        # Known, and not yet visible to that statement: another replica stored them meanwhile.
        if late := [task_id for _, task_id, row_id, digest, _ in found if row_id is None and digest is None]:
            self._digests |= dict(await self._connection.fetch(SQL["known_requests"], late))
        if waiting := [task_id for _, task_id, row_id, _, has_commands in found if row_id is not None and has_commands]:
            for values in await self._connection.fetch(SQL["waiting_commands"], waiting):
                early = rows.command_of(tuple(values))
                self._early[early.task_id].append(early)

    async def _insert_commands(self) -> None:
        if not self._commands:
            return
        values = columns(map(_command_columns, self._commands), 6)
        fresh = await self._connection.fetch(SQL["insert_commands"], *values, self._writes.now.timestamp())
        self._new_others |= {(NewCommand, command_id) for (command_id,) in fresh}
        subjects = {given.task_id for given in self._commands}
        for letter_id, is_closed, task_id in await self._connection.fetch(SQL["lock_letters"], list(subjects)):
            self._letters[letter_id] = (is_closed, task_id)
            if task_id is not None:
                subjects.add(task_id)
        self._rows, self._writes.archived = await lock_rows(self._connection, sorted(subjects))

    async def _insert_answers(self) -> None:
        given = [(item.query_id, item.data) for item in self._batch if isinstance(item, NewAnswer)]
        if given:
            at = self._writes.now.timestamp()
            fresh = await self._connection.fetch(SQL["insert_answers"], *columns(given, 2), at)
            self._new_others |= {(NewAnswer, query_id) for (query_id,) in fresh}

    async def _insert_letters(self) -> None:
        given = [
            (item.dead_letter_id, None, rows.place_of(item.origin), item.code, rows.dump(item.event.data))
            for item in self._batch
            if isinstance(item, NewDeadLetter)
        ]
        if given:
            at = self._writes.now.timestamp()
            fresh = await self._connection.fetch(SQL["insert_letters"], *columns(given, 5), at)
            self._new_others |= {(NewDeadLetter, letter_id) for (letter_id,) in fresh}

    # --- in memory ------------------------------------------------------------------------------------------------

    def _outcome(self, item: Intake) -> Acceptance:
        if isinstance(item, NewTask):
            return self._accept_task(item)
        mark = (type(item), _known_as(item))
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
        if early := self._early.pop(task.task_id, []):
            self._applied.append(task.task_id)
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
            after = lifecycle.replay(row, given, self._writes.now)
            self._rows[row.task_id] = self._writes.add(row, after)
            if after.row.epoch == row.epoch:
                return  # refused: the letter stays open
        else:
            acted = Numbered(lifecycle.discarded(given, task_id, self._writes.now), None)
            self._writes.events.append((row.id if row else None, acted))
        self._letters[given.task_id] = (True, task_id)
        self._closed.append(given.task_id)


def _command_columns(given: NewCommand) -> tuple[str, ...]:
    return (
        rows.known_as(given), given.command_id, given.command, given.task_id, rows.dump(given.data), given.source
    )  # fmt: skip


def _known_as(item: NewCommand | NewAnswer | NewDeadLetter) -> str:
    if isinstance(item, NewCommand):
        return rows.known_as(item)
    return item.query_id if isinstance(item, NewAnswer) else item.dead_letter_id
