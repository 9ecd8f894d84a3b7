"""One call of `accept`: runs of tasks are stored together; anything else, one by one, in its place."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from agent.journal import lifecycle, rows
from agent.journal.lifecycle import Numbered
from agent.journal.port import Acceptance, Intake, NewAnswer, NewCommand, NewDeadLetter, NewTask
from agent.journal.sqlite.statements import SQL, in_chunks, one, write_rows
from agent.journal.sqlite.writes import Writes


def accept(writes: Writes, batch: Sequence[Intake], now: datetime) -> list[Acceptance]:
    """Store what is new; an outcome for each, in order."""
    outcomes: list[Acceptance] = []
    for are_tasks, items in _runs(batch):
        if are_tasks:
            outcomes += _tasks(writes, items, now)
        else:
            outcomes += [Acceptance.ACCEPTED if _other(writes, item, now) else Acceptance.DUPLICATE for item in items]
    return outcomes


def _runs(batch: Iterable[Intake]) -> Iterable[tuple[bool, list[Any]]]:
    """Neighbours of one sort, in order: (are they tasks, the items)."""
    return ((are_tasks, list(items)) for are_tasks, items in groupby(batch, lambda item: isinstance(item, NewTask)))


def _tasks(writes: Writes, tasks: Sequence[NewTask], now: datetime) -> list[Acceptance]:
    known = _known_digests(writes, [task.task_id for task in tasks])
    has_waiting = one(writes.connection, "any_waiting_command") is not None
    outcomes: list[Acceptance] = []
    requests: list[tuple[Any, ...]] = []
    stored: list[tuple[Any, ...]] = []
    published: list[tuple[int, Sequence[Numbered]]] = []
    for task in tasks:
        if task.task_id in known:
            same = known[task.task_id] == task.payload_digest
            outcomes.append(Acceptance.DUPLICATE if same else Acceptance.CONFLICT)
            continue
        known[task.task_id] = task.payload_digest
        row_id = writes.new_id()
        early = _early_commands(writes, task.task_id) if has_waiting else []
        decision = lifecycle.accept(row_id, task, early, now)
        requests.append(rows.request_columns(row_id, task, now))
        stored.append((task.ordering_key, *rows.task_columns(decision.row)))
        published.append((row_id, decision.events))
        outcomes.append(Acceptance.ACCEPTED)
    write_rows(writes.connection, "insert_request", requests)
    write_rows(writes.connection, "insert_task", stored)
    writes.publish(published, now)
    return outcomes


def _known_digests(writes: Writes, task_ids: Sequence[str]) -> dict[str, str]:
    """Payload digests of the tasks that are known already."""
    archived = in_chunks(writes.connection, "known_archived_requests", task_ids)
    return dict([*in_chunks(writes.connection, "known_requests", task_ids), *archived])


def _early_commands(writes: Writes, task_id: str) -> list[NewCommand]:
    """Commands that came before their task, now applied."""
    found = writes.connection.execute(SQL["waiting_commands"], (task_id,)).fetchall()
    writes.connection.execute(SQL["commands_applied"], (task_id,))
    return [rows.command_of(values) for values in found]


def _other(writes: Writes, item: Intake, now: datetime) -> bool:
    """Whether it is new."""
    if isinstance(item, NewCommand):
        return _command(writes, item, now)
    if isinstance(item, NewAnswer):
        values = (item.query_id, item.data, now.timestamp())
        return writes.connection.execute(SQL["insert_answer"], values).rowcount == 1
    assert isinstance(item, NewDeadLetter)
    return _letter(writes, item, now)


def _command(writes: Writes, given: NewCommand, now: datetime) -> bool:
    is_about_letter = given.command.startswith("dead_letter.")
    row = None if is_about_letter else writes.known(given.task_id)
    is_waiting = row is None and not is_about_letter
    values = (
        rows.known_as(given), given.command_id, given.command, given.task_id, rows.dump(given.data), given.source, now.timestamp(),
        is_waiting,
    )  # fmt: skip
    if writes.connection.execute(SQL["insert_command"], values).rowcount == 0:
        return False
    if is_about_letter:
        _command_letter(writes, given, now)
    elif row is not None:
        writes.store(row, lifecycle.command(row, given, now), now)
    return True


def _letter(writes: Writes, letter: NewDeadLetter, now: datetime) -> bool:
    values = (
        letter.dead_letter_id, None, rows.place_of(letter.origin), letter.code, rows.dump(letter.event.data),
        now.timestamp(),
    )  # fmt: skip
    if writes.connection.execute(SQL["insert_dead_letter"], values).rowcount == 0:
        return False
    writes.publish([(None, [Numbered(letter.event, None)])], now)
    return True


def _command_letter(writes: Writes, given: NewCommand, now: datetime) -> None:
    found = one(writes.connection, "letter_state", given.task_id)
    is_closed, task_id = found or (False, None)
    row = writes.known(task_id) if task_id else None
    refusal = lifecycle.letter_refusal(
        given, is_known=found is not None, is_closed=bool(is_closed), has_task=row is not None
    )
    if refusal is not None:
        writes.publish([(None, [Numbered(refusal, None)])], now)
        return
    if given.command == "dead_letter.replay" and row is not None:
        after = lifecycle.replay(row, given, now)
        writes.store(row, after, now)
        if after.row.epoch == row.epoch:
            return  # refused: the letter stays open
    else:
        acted = Numbered(lifecycle.discarded(given, task_id, now), None)
        writes.publish([(row.id if row else None, [acted])], now)
    writes.connection.execute(SQL["close_letter"], (given.task_id,))
