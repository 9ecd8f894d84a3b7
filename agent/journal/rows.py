"""Between the port's values and columns: what the SQL adapters share. JSON is text, bytes inside JSON are base64."""

import re
from base64 import b64decode, b64encode
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import orjson

from agent.journal.lifecycle import TaskRow
from agent.journal.port import (
    TERMINAL,
    Claim,
    DeadLetter,
    Event,
    Intake,
    LetterFilter,
    NewAnswer,
    NewCommand,
    NewDeadLetter,
    NewTask,
    Origin,
    OutboxRow,
    State,
    TaskView,
)

TASK_COLUMNS: tuple[str, ...] = TaskRow._fields
ARTIFACT_NAME = re.compile(r"sha256:[0-9a-f]{64}")
INDEXED_LENGTH = 500  # characters, of four bytes at most


def dump(value: Any) -> str:
    """Compact JSON; keys keep their order. Half a surrogate pair, which JSON cannot hold, becomes a question mark."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return orjson.dumps(_plain_tree(value)).decode()


def load(text: str) -> Any:
    """What `dump` made."""
    return orjson.loads(text)


def plain(text: str) -> str:
    """Text that every store takes: a sender may put NUL or half a surrogate pair into what becomes an id or a reason."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def indexed(text: str) -> str:
    """`plain` text that every store can index (PostgreSQL: 2704 bytes): a long one is its beginning and its digest."""
    text = plain(text)
    return text if len(text) <= INDEXED_LENGTH else f"{text[:100]}…{sha256(text.encode()).hexdigest()}"


def known_as(given: NewCommand) -> str:
    """By what a command is known again: events are the same by source and id together (CloudEvents 1.0)."""
    return sha256(f"{len(given.source)}:{given.source}{given.command_id}".encode()).hexdigest()


def maybe_plain(text: str | None) -> str | None:
    """`plain`, where there is a text."""
    return None if text is None else plain(text)


def _plain_tree(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_plain_tree(name): _plain_tree(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_tree(item) for item in value]
    return value


def dump_origin(origin: Origin) -> str:
    """An origin without its value, which is stored as it is."""
    headers = [
        (name, None if value is None else b2a_base64(value, newline=False).decode()) for name, value in origin.headers
    ]
    key = None if origin.key is None else b64encode(origin.key).decode()
    place = (origin.topic, origin.topic_id, origin.partition, origin.offset, origin.timestamp_ms)
    return dump((*place, key, headers, origin.value is None))


def load_origin(text: str, value: bytes) -> Origin:
    """What `dump_origin` made; `value` is ignored for a record that had none."""
    topic, topic_id, partition, offset, timestamp_ms, key, headers, is_null = orjson.loads(text)
    return Origin(
        topic=topic,
        topic_id=topic_id,
        partition=partition,
        offset=offset,
        timestamp_ms=timestamp_ms,
        key=None if key is None else b64decode(key),
        headers=tuple([(name, None if given is None else a2b_base64(given)) for name, given in headers]),
        value=None if is_null else value,
    )


def place_of(origin: Origin) -> str:
    """What dead letters without a task are deduplicated by."""
    return dump((origin.topic, origin.topic_id, origin.partition, origin.offset))


def cleaned(batch: Sequence[Intake]) -> list[Intake]:
    """The batch with ids and keys that every store takes: what a store refuses for ever would stop its partition."""
    return [_cleaned(item) for item in batch]


def _cleaned(item: Intake) -> Intake:
    if isinstance(item, NewTask):
        key = indexed(item.ordering_key)
        return item if key == item.ordering_key else item._replace(ordering_key=key)
    if isinstance(item, NewCommand):
        return NewCommand(
            plain(item.command_id), plain(item.command), indexed(item.task_id), item.data, plain(item.source)
        )
    if isinstance(item, NewAnswer):
        return NewAnswer(indexed(item.query_id), item.data)
    return NewDeadLetter(plain(item.dead_letter_id), item.origin, item.event, plain(item.code))


def command_of(values: tuple[Any, ...]) -> NewCommand:
    """What the statement `waiting_commands` selects."""
    command_id, name, subject, data, source = values
    return NewCommand(command_id, name, subject, load(data), source)


def view_statements(states: Sequence[State]) -> Sequence[str]:
    """The statements that find tasks in `states` (none: in any). The archive is large, and holds only what has ended."""
    return ("views", "archived_views") if not states or TERMINAL.intersection(states) else ("views",)


def letters_in(events: Sequence[Event]) -> Sequence[tuple[str, Mapping[str, Any], str]]:
    """(dead letter id, data, code) of the dead letters among a task's events."""
    return [
        (plain(event.data["dead_letter_id"]), event.data, plain(str(event.data.get("reason", {}).get("code", ""))))
        for event in events
        if event.type == "task.dead_lettered"
    ]


def dead_letter(values: Sequence[Any]) -> DeadLetter:
    """What the statements `dead_letter` and `dead_letters` select."""
    data, ordering_key, is_closed = values
    letter = load(data)
    return DeadLetter(letter, ordering_key or service_by_key(letter), bool(is_closed))


def service_by_key(letter: Mapping[str, Any]) -> str:
    """The service of a record that made no task: requests are keyed by it (contracts.topics)."""
    return b64decode(letter.get("original", {}).get("key") or "").decode("utf-8", "replace")


def letter_filter(wanted: LetterFilter) -> tuple[float | None, list[list[str]]]:
    """(since, [ids, codes, task ids, topics, services, services as keys of records]) for `dead_letters`."""
    parts = (wanted.ids, wanted.codes, wanted.tasks, wanted.topics, wanted.services)
    keys = [b64encode(service.encode("utf-8", "replace")).decode() for service in sorted(wanted.services)]
    return seconds(wanted.since), [*(sorted(map(plain, part)) for part in parts), keys]


def claim_of(row: TaskRow, request: Sequence[Any]) -> Claim:
    """A claimed row with what the statement `claimed_requests` selects for it."""
    (
        _, kind, key, accepted_at, attempt_deadline_s, total_deadline_s, attributes, origin, origin_value, body,
    ) = request  # fmt: skip
    assert row.started_at is not None
    assert row.first_started_at is not None
    return Claim(
        task_id=row.task_id,
        fence=row.fence,
        attempt=row.attempt,
        crashes=row.crashes,
        epoch=row.epoch,
        kind=kind,
        ordering_key=key,
        request=body,
        attributes=load(attributes),
        origin=load_origin(origin, body if origin_value is None else origin_value),
        accepted_at=moment(accepted_at),
        started_at=row.started_at,
        first_started_at=row.first_started_at,
        attempt_deadline_s=attempt_deadline_s,
        total_deadline_s=total_deadline_s,
        is_final=row.is_final,
        history=row.history,
    )


def task_row(values: tuple[Any, ...]) -> TaskRow:
    """A row as selected by {task}."""
    (
        row_id, task_id, state, priority, rank, updated_at, run_at, expires_at, attempt, crashes, fence, epoch, sequence,
        lease_owner, lease_until, cancel_id, cancel_reason, is_final, holds_key, first_started_at, started_at, history,
        progress,
    ) = values  # fmt: skip
    return TaskRow(
        row_id, task_id, State(state), priority, rank, moment(updated_at), maybe_moment(run_at), maybe_moment(expires_at), attempt,
        crashes, fence, epoch, sequence, lease_owner, lease_until, cancel_id, cancel_reason, bool(is_final),
        bool(holds_key), maybe_moment(first_started_at), maybe_moment(started_at),
        () if history == "[]" else tuple(load(history)), load(progress),
    )  # fmt: skip


def task_columns(row: TaskRow) -> tuple[Any, ...]:
    """The inverse of `task_row`: a row of `insert_task` and `update_task`."""
    return (
        row.id, row.task_id, row.state.value, row.priority, row.rank, row.updated_at.timestamp(), seconds(row.run_at),
        seconds(row.expires_at), row.attempt, row.crashes, row.fence, row.epoch, row.sequence, row.lease_owner,
        row.lease_until, maybe_plain(row.cancel_id), maybe_plain(row.cancel_reason), row.is_final, row.holds_key, seconds(row.first_started_at),
        seconds(row.started_at), dump(row.history) if row.history else "[]",
        dump(row.progress) if row.progress else "{}",
    )  # fmt: skip


def claim_changes(row: TaskRow) -> tuple[Any, ...]:
    """A row of `claim_task`: what changes with a claim."""
    return (
        row.id, row.state.value, row.updated_at.timestamp(), row.attempt, row.fence, row.lease_owner, row.lease_until,
        row.holds_key, seconds(row.first_started_at), seconds(row.started_at),
    )  # fmt: skip


def progress_changes(row: TaskRow) -> tuple[Any, ...]:
    """A row of `update_progress`: what changes while a task runs."""
    progress = dump(row.progress) if row.progress else "{}"
    return row.id, row.sequence, row.updated_at.timestamp(), row.is_final, progress


def request_columns(row_id: int, task: NewTask, now: datetime | None) -> tuple[Any, ...]:
    value = task.origin.value
    return (
        row_id, task.task_id, task.payload_digest, plain(task.source), plain(task.idempotency_key), task.kind, task.ordering_key,
        seconds(now), task.attempt_deadline_s, task.total_deadline_s, dump(dict(task.attributes)),
        dump_origin(task.origin), None if value is None or value == task.request else value, task.request,
    )  # fmt: skip


def outbox_row(values: tuple[Any, ...]) -> OutboxRow:
    position, event_id, task_id, name, key, data, created_at, sequence, attributes = values
    return OutboxRow(
        position=position,
        event_id=event_id,
        task_id=task_id,
        type=name,
        key=load(key),  # JSON, because the key of a record that nobody could read may be any text
        body=data,
        created_at=moment(created_at),
        sequence=sequence,
        attributes=_attributes(attributes) if attributes else {},
    )


@lru_cache(1024)  # the events of a task mostly leave together
def _attributes(text: str) -> Mapping[str, str]:
    return MappingProxyType(orjson.loads(text))


def task_view(values: tuple[Any, ...]) -> tuple[int, TaskView]:
    (
        row_id, task_id, state, kind, key, attempt, crashes, fence, sequence, priority, accepted_at, updated_at, run_at,
        progress,
    ) = values  # fmt: skip
    return row_id, TaskView(
        task_id=task_id,
        state=State(state),
        kind=kind,
        ordering_key=key,
        attempt=attempt,
        crashes=crashes,
        fence=fence,
        sequence=sequence,
        priority=priority,
        accepted_at=moment(accepted_at),
        updated_at=moment(updated_at),
        run_at=maybe_moment(run_at),
        progress=load(progress),
    )


@lru_cache(1024)  # what is stored together has one time
def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def maybe_moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def age_s(now: float, since: float | None) -> float:
    return 0.0 if since is None else max(0.0, now - since)
