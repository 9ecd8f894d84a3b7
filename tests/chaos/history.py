"""What a storm left behind, read as a stranger reads it: the topics from their beginning, the journal's tables by SQL,
the file of effects. Plain data; nothing of `agent` is asked."""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from contracts.codec import task_id

READ = (topics.TASKS, topics.CONTROL, topics.STATUS, topics.DELIVERIES, topics.DEAD_LETTERS)
TASKS, CONTROL, STATUS, DELIVERIES, DEAD_LETTERS = (topic.name for topic in READ)
PUBLISHED = (STATUS, DELIVERIES, DEAD_LETTERS)
TERMINAL = ("completed", "failed", "cancelled", "rejected", "expired")
WRITE = re.compile(r"fence (\d+): (\S+) (begun|done|ended)")


@dataclass(frozen=True, slots=True)
class Seen:
    """A record of a topic. `id` and the rest of the envelope are empty where it has none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    id: str
    source: str
    type: str
    task: str
    sequence: int | None
    at: float  # the event's own time, epoch seconds; 0 without one
    value: bytes

    @property
    def data(self) -> Mapping[str, Any]:
        """The JSON value."""
        found: Mapping[str, Any] = orjson.loads(self.value)
        return found


@dataclass(frozen=True, slots=True)
class Effect:
    """A step that took effect, in the moment before its checkpoint was stored (or was not)."""

    task: str
    fence: int
    step: str
    at: float


@dataclass(frozen=True, slots=True)
class Row:
    """A task in the journal, at the end."""

    task: str
    number: int  # order of acceptance
    state: str
    fence: int
    crashes: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the audit that the database itself keeps (tests/chaos/stack.py): a change of a task, or a checkpoint."""

    what: str  # "task" or "checkpoint"
    task: str
    before: str | None
    state: str
    fence_before: int | None
    fence: int  # of the task's row
    written_fence: int | None  # of the checkpoint


@dataclass(frozen=True, slots=True)
class Write:
    """An accepted write of an attempt, as its published status tells: which attempt, what about which step."""

    fence: int
    step: str
    word: str


@dataclass(frozen=True)
class History:
    """Everything that the checkers look at. `kinds` says what was sent (tests/chaos/plan.py), by task id."""

    records: Sequence[Seen]
    effects: Sequence[Effect]
    rows: Mapping[str, Row]
    checkpoints: Mapping[tuple[str, str], int]  # (task, step) → fence, of the last epoch
    steps: Sequence[str]
    kinds: Mapping[str, str] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    unsent: int = 0
    parked: Sequence[str] = ()  # task ids
    orphans: Sequence[str] = ()
    max_crashes: int = 3

    def of(self, topic: str) -> list[Seen]:
        """Everything on a topic, repeats included, in order per partition."""
        return [seen for seen in self.records if seen.topic == topic]

    @cached_property
    def requests(self) -> Mapping[str, list[Seen]]:
        """Well-formed requests by the id of their task, which follows from the envelope alone."""
        found: dict[str, list[Seen]] = {}
        for seen in self.of(TASKS):
            if seen.id and seen.type:
                found.setdefault(task_id(seen.source, seen.id), []).append(seen)
        return found

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """The ordering key of each request: the service that it names."""
        return {task: str(seen[0].data.get("service") or task) for task, seen in self.requests.items()}

    @cached_property
    def firsts(self) -> Sequence[Seen]:
        """What was published by the agents, each event at its first appearance, in order per partition."""
        known: set[str] = set()
        found = []
        for seen in self.records:
            if seen.topic in PUBLISHED and seen.id not in known:
                known.add(seen.id)
                found.append(seen)
        return found

    @cached_property
    def statuses(self) -> Mapping[str, list[Seen]]:
        """`task.status` at first appearance, by task, in order of appearance."""
        found: dict[str, list[Seen]] = {}
        for seen in self.firsts:
            if seen.type == "backwright.task.status.v1":
                found.setdefault(seen.task, []).append(seen)
        return found

    @cached_property
    def epochs(self) -> Mapping[str, list[list[Seen]]]:
        """Statuses by task, in order of sequence, cut after each terminal one: each replay begins another epoch."""
        return {task: list(_cut(statuses)) for task, statuses in self.statuses.items()}

    @cached_property
    def acts(self) -> Sequence[Mapping[str, Any]]:
        """What commands did, as `operator.acted` tells."""
        return [seen.data for seen in self.firsts if seen.type == "backwright.operator.acted.v1"]

    @cached_property
    def replays(self) -> Counter[str]:
        """Replays that took effect, by task."""
        return Counter(str(act["task_id"]) for act in self.acts if act["command"] == "dead_letter.replay")

    @cached_property
    def ends(self) -> Mapping[str, list[tuple[Seen, str]]]:
        """Terminal statuses by task."""
        return {
            task: [(seen, seen.data["status"]) for seen in statuses if seen.data["status"] in TERMINAL]
            for task, statuses in self.statuses.items()
        }

    @cached_property
    def writes(self) -> Mapping[str, list[tuple[Seen, Write]]]:
        """Accepted writes of attempts by task, in order of sequence."""
        return {
            task: sorted(
                ((seen, write) for seen in statuses if (write := write_of(seen)) is not None),
                key=lambda pair: pair[0].sequence or 0,
            )
            for task, statuses in self.statuses.items()
        }


def _cut(statuses: Sequence[Seen]) -> Iterator[list[Seen]]:
    epoch: list[Seen] = []
    for seen in sorted(statuses, key=lambda seen: seen.sequence or 0):
        epoch.append(seen)
        if seen.data["status"] in TERMINAL:
            yield epoch
            epoch = []
    if epoch:
        yield epoch


def write_of(seen: Seen) -> Write | None:
    """Which attempt wrote it; None for what the journal and the worker say themselves."""
    found = WRITE.fullmatch(str(seen.data.get("message", "")))
    return Write(int(found[1]), found[2], found[3]) if found else None


async def read_topics(bootstrap_servers: str, prefix: str = "") -> list[Seen]:
    """All records of our topics, from the first to the last of this moment."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False, max_poll_records=5000)
    await consumer.start()
    try:
        found: list[Seen] = []
        for topic in READ:
            partitions = [TopicPartition(prefix + topic.name, number) for number in range(topic.partitions)]
            found += await _read(consumer, partitions, prefix)
        return found
    finally:
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], prefix: str) -> list[Seen]:
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends = await consumer.end_offsets(partitions)
    found: list[Seen] = []
    while any([await consumer.position(partition) < end for partition, end in ends.items()]):
        for partition, records in (await consumer.getmany(timeout_ms=500)).items():
            found += [_seen(partition.topic.removeprefix(prefix), record) for record in records]
    return found


def _seen(topic: str, record: Any) -> Seen:
    envelope = {name: raw.decode(errors="replace") for name, raw in record.headers if name.startswith("ce_") and raw}
    sequence, at = envelope.get("ce_sequence"), envelope.get("ce_time")
    return Seen(
        topic, record.partition, record.offset, record.timestamp, envelope.get("ce_id", ""),
        envelope.get("ce_source", ""), envelope.get("ce_type", ""), envelope.get("ce_subject", ""),
        int(sequence) if sequence else None, datetime.fromisoformat(at).timestamp() if at else 0.0, record.value,
    )  # fmt: skip


def read_effects(path: Path) -> list[Effect]:
    """The lines of ScriptedWork, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Effect(words[0], int(words[1]), words[2], float(words[3])) for line in lines if (words := line.split())]


_ROWS = """
SELECT r.task_id, r.id, t.state, t.fence, t.crashes, t.sequence
FROM request r JOIN task t ON t.id = r.id ORDER BY r.id
"""
_CHECKPOINTS = """
SELECT r.task_id, c.step, c.output FROM checkpoint c JOIN task t ON t.id = c.task AND t.epoch = c.epoch
JOIN request r ON r.id = c.task
"""
_PARKED = "SELECT r.task_id FROM parked p LEFT JOIN request r ON r.id = p.task"
_UNSENT = "SELECT count(*) FROM outbox"
_CHANGES = """
SELECT a.what, r.task_id, a.before, a.state, a.fence_before, a.fence, a.written_fence
FROM chaos.audit a JOIN request r ON r.id = a.task ORDER BY a.id
"""


async def read_postgres(dsn: str) -> dict[str, Any]:
    """The journal's part of a History."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "backwright_journal"})
    try:
        return _journal(
            await connection.fetch(_ROWS), await connection.fetch(_CHECKPOINTS), await connection.fetch(_PARKED),
            await connection.fetchval(_UNSENT), await connection.fetch(_CHANGES),
        )  # fmt: skip
    finally:
        await connection.close()


def read_sqlite(path: Path) -> dict[str, Any]:
    """The same of a SQLite journal; nobody audits there."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows, points, parked, (unsent,) = (
            connection.execute(statement).fetchall() for statement in (_ROWS, _CHECKPOINTS, _PARKED, _UNSENT)
        )
        return _journal(rows, points, parked, unsent[0], ())
    finally:
        connection.close()


def _journal(
    rows: Sequence[Any], points: Sequence[Any], parked: Sequence[Any], unsent: int, changes: Sequence[Any]
) -> dict[str, Any]:
    return {
        "rows": {values[0]: Row(*values) for values in rows},
        "checkpoints": {(task, step): int(orjson.loads(output)["fence"]) for task, step, output in points},
        "parked": [task for (task,) in parked],
        "unsent": unsent,
        "changes": [Change(*values) for values in changes],
    }
