"""Between the port's values and columns: what the SQL adapters share. JSON is text, bytes inside JSON are base64."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import orjson

from agent.journal.lifecycle import TaskRow
from agent.journal.port import Event, Origin

TASK_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(TaskRow))
FIXED_COLUMNS = ("id", "task_id")  # of TaskRow, never updated
MOVING_COLUMNS: tuple[str, ...] = TASK_COLUMNS[:0] + tuple(name for name in TASK_COLUMNS if name not in FIXED_COLUMNS)


def dump(value: Any) -> str:
    """Compact JSON; keys keep their order."""
    return orjson.dumps(value).decode()


def load(text: str) -> Any:
    """What `dump` made."""
    return orjson.loads(text)


def dump_origin(origin: Origin) -> str:
    """An origin without its value, which is stored as it is."""
    headers = [(name, None if value is None else b64encode(value).decode()) for name, value in origin.headers]
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
        headers=tuple((name, None if given is None else b64decode(given)) for name, given in headers),
        value=None if is_null else value,
    )


def place_of(origin: Origin) -> str:
    """What dead letters without a task are deduplicated by."""
    return dump((origin.topic, origin.topic_id, origin.partition, origin.offset))


def letters_in(events: Sequence[Event]) -> Sequence[tuple[str, Mapping[str, Any], str]]:
    """(dead letter id, data, code) of the dead letters among a task's events."""
    return [
        (event.data["dead_letter_id"], event.data, str(event.data.get("reason", {}).get("code", "")))
        for event in events
        if event.type == "task.dead_lettered"
    ]
