"""Each checker is silent about a sound history and speaks about one in which its own promise is broken."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from contracts import topics
from contracts.codec import task_id
from tests.chaos.checkers import CHECKERS, check
from tests.chaos.history import Change, Effect, History, Row, Seen

SOURCE = "/tests"
FIRST, SECOND, BROKEN, STOPPED, AGAIN = (task_id(SOURCE, n) for n in ("first", "second", "broken", "stopped", "again"))


def seen(topic: topics.Topic, kind: str, task: str, data: dict[str, Any], *, at: float = 0, **fields: Any) -> Seen:
    """A record; its id follows from what it says unless it is given."""
    value = orjson.dumps(data)
    given = {"id": f"{kind} {task} {fields.get('sequence')} {value!r}", "sequence": None, "offset": 0, **fields}
    return Seen(
        topic=topic.name, partition=0, timestamp_ms=int(at * 1000), source=SOURCE, type=kind and f"backwright.{kind}.v1",
        task=task, at=at, value=value, **given,
    )  # fmt: skip


def requested(name: str, service: str, offset: int) -> Seen:
    """A request."""
    return seen(topics.TASKS, "task.requested", "", {"service": service}, id=name, offset=offset)


def told(task: str, sequence: int, status: str, at: float, message: str = "", **data: Any) -> Seen:
    """A status."""
    return seen(
        topics.STATUS, "task.status", task, {"status": status, "message": message, **data}, at=at, sequence=sequence
    )


def letter(task: str | None, offset: int) -> Seen:
    """A dead letter."""
    original = {"topic": topics.TASKS.name, "partition": 0, "offset": offset}
    return seen(topics.DEAD_LETTERS, "task.dead_lettered", task or "", {"original": original, "task_id": task})


def completed(task: str, fence: int, at: float) -> list[Seen]:
    """All that is published about a task of one step."""
    return [
        told(task, 1, "queued", at),
        told(task, 2, "analysing", at + 1, f"fence {fence}: read begun"),
        told(task, 3, "analysing", at + 2, f"fence {fence}: read done"),
        seen(topics.DELIVERIES, "task.delivered", task, {"task_id": task}, at=at + 3),
        told(task, 4, "completed", at + 3, f"fence {fence}: read ended"),
    ]


def sound() -> History:
    """Two tasks of one service, one that was given up, one that was stopped, and a record that is no event."""
    records = [
        requested("first", "a", 0), requested("first", "a", 1), requested("second", "a", 2), requested("broken", "b", 3),
        requested("stopped", "c", 4), seen(topics.TASKS, "", "", {"what": "rubbish"}, id="", offset=5),
        seen(topics.CONTROL, "task.cancel", "", {"task_id": STOPPED}, id="cancel"),
        requested("again", "d", 6), seen(topics.CONTROL, "dead_letter.replay", "", {"dead_letter_id": "l"}, id="replay"),
        told(AGAIN, 1, "queued", 10), told(AGAIN, 2, "analysing", 11, "fence 1: read done"), told(AGAIN, 3, "failed", 12),
        letter(AGAIN, 6), told(AGAIN, 4, "queued", 13),
        seen(topics.STATUS, "operator.acted", AGAIN, {"command_id": "replay", "command": "dead_letter.replay",
             "task_id": AGAIN, "dead_letter_id": "l"}), told(AGAIN, 5, "failed", 15),
        replace(letter(AGAIN, 6), id="its second letter"),
        *completed(FIRST, 1, 10), *completed(SECOND, 2, 20),
        told(BROKEN, 1, "queued", 10), told(BROKEN, 2, "failed", 12), letter(BROKEN, 3),
        told(STOPPED, 1, "queued", 10), told(STOPPED, 2, "cancelled", 12), letter(None, 5),
    ]  # fmt: skip
    rows = [
        Row(FIRST, 1, "completed", 1, 0, 4), Row(SECOND, 2, "completed", 2, 1, 4), Row(BROKEN, 3, "failed", 3, 0, 2),
        Row(STOPPED, 4, "cancelled", 1, 0, 2), Row(AGAIN, 5, "failed", 2, 0, 5),
    ]  # fmt: skip
    changes = [
        Change("task", FIRST, "available", "running", 0, 1, None), Change("checkpoint", FIRST, None, "running", None, 1, 1),
        Change("task", FIRST, "running", "completed", 1, 1, None), Change("task", SECOND, "available", "running", 0, 1, None),
        Change("task", SECOND, "running", "available", 1, 1, None), Change("task", SECOND, "available", "running", 1, 2, None),
        Change("checkpoint", SECOND, None, "running", None, 2, 2), Change("task", SECOND, "running", "completed", 2, 2, None),
        Change("task", AGAIN, "available", "running", 0, 1, None), Change("task", AGAIN, "running", "failed", 1, 1, None),
        Change("task", AGAIN, "failed", "available", 1, 1, None), Change("task", AGAIN, "available", "running", 1, 2, None),
        Change("task", AGAIN, "running", "failed", 2, 2, None),
    ]  # fmt: skip
    return History(
        records=records, effects=[
            Effect(FIRST, 1, "read", 12), Effect(SECOND, 1, "read", 14), Effect(SECOND, 2, "read", 22),
            Effect(AGAIN, 1, "read", 11), Effect(AGAIN, 2, "read", 14),  # the second one of the replay, which wrote nothing
        ],
        rows={row.task: row for row in rows}, checkpoints={(FIRST, "read"): 1, (SECOND, "read"): 2}, steps=("read",),
        kinds={FIRST: "plain", SECOND: "plain", BROKEN: "broken", STOPPED: "hang"}, changes=changes,
    )  # fmt: skip


def without(history: History, wanted: Callable[[Seen], bool]) -> History:
    """Without the records for which `wanted` holds."""
    return replace(history, records=[record for record in history.records if not wanted(record)])


def also(history: History, *records: Seen) -> History:
    """With more records at the end."""
    return replace(history, records=[*history.records, *records])


def row(history: History, task: str, **changes: Any) -> History:
    """With another row in the journal."""
    return replace(history, rows={**history.rows, task: replace(history.rows[task], **changes)})


def shifted(history: History, task: str, seconds: float) -> History:
    """With all that a task did at another time."""
    return replace(history, records=[replace(r, at=r.at + seconds) if r.task == task else r for r in history.records])


BREACHES: list[tuple[str, str, Callable[[History], History]]] = [
    ("each_request_is_one_task", "lost", lambda h: replace(h, rows={k: v for k, v in h.rows.items() if k != FIRST})),
    ("each_request_is_one_task", "made up", lambda h: without(h, lambda r: r.id == "second")),
    ("each_task_ends_once", "never", lambda h: without(h, lambda r: r.task == FIRST and r.sequence == 4)),
    ("each_task_ends_once", "twice", lambda h: also(h, told(FIRST, 5, "failed", 14))),
    ("each_task_ends_once", "goes on", lambda h: also(h, told(FIRST, 5, "analysing", 14))),
    ("each_task_ends_once", "otherwise", lambda h: row(h, FIRST, state="failed")),
    ("each_end_fits_its_task", "", lambda h: replace(h, kinds={**h.kinds, BROKEN: "plain"})),
    ("sequences_are_gapless", "gap", lambda h: without(h, lambda r: r.task == FIRST and r.sequence == 2)),
    ("sequences_are_gapless", "order", lambda h: replace(h, records=h.records[::-1])),
    ("repeats_are_identical", "", lambda h: also(h, replace(next(r for r in h.records if r.task == FIRST), value=b'{"status": "failed"}'))),
    ("old_fences_write_nothing", "after", lambda h: also(h, told(SECOND, 5, "analysing", 24, "fence 1: read done"))),
    ("old_fences_write_nothing", "unknown", lambda h: row(h, SECOND, fence=1)),
    ("no_effect_counts_twice", "two attempts", lambda h: also(h, told(SECOND, 5, "analysing", 24, "fence 1: read done"))),
    ("no_effect_counts_twice", "repeated", lambda h: replace(h, effects=[*h.effects, Effect(FIRST, 2, "read", 15)])),
    ("no_effect_counts_twice", "one attempt", lambda h: replace(h, effects=[*h.effects, *h.effects[:1]])),
    ("no_effect_counts_twice", "other row", lambda h: replace(h, checkpoints={**h.checkpoints, (SECOND, "read"): 1})),
    ("no_step_is_lost", "no effect", lambda h: replace(h, effects=h.effects[1:])),
    ("no_step_is_lost", "no checkpoint", lambda h: replace(h, steps=("read", "make"))),
    ("one_attempt_per_key", "", lambda h: shifted(h, SECOND, -9)),
    ("keys_keep_their_order", "", lambda h: shifted(h, SECOND, -15)),
    ("deliveries_come_once", "never", lambda h: without(h, lambda r: r.topic == topics.DELIVERIES.name)),
    ("deliveries_come_once", "twice", lambda h: also(h, *(replace(r, id="another") for r in h.records if r.topic == topics.DELIVERIES.name))),
    ("deliveries_come_once", "late", lambda h: replace(h, records=[replace(r, timestamp_ms=99_000) if r.topic == topics.DELIVERIES.name else r for r in h.records])),
    ("dead_letters_come_once", "rubbish", lambda h: without(h, lambda r: r.topic == topics.DEAD_LETTERS.name and not r.task)),
    ("dead_letters_come_once", "given up", lambda h: without(h, lambda r: r.topic == topics.DEAD_LETTERS.name and bool(r.task))),
    ("dead_letters_come_once", "twice", lambda h: also(h, replace(letter(None, 5), id="another"))),
    ("commands_are_answered", "replay", lambda h: without(h, lambda r: r.type == "backwright.operator.acted.v1")),
    ("letters_are_closed_once", "", lambda h: also(h, *(replace(r, id="other") for r in h.records if "operator" in r.type))),
    ("commands_are_answered", "", lambda h: also(h, seen(topics.CONTROL, "task.cancel", "", {"task_id": FIRST}, id="late"))),
    ("nothing_is_left", "unsent", lambda h: replace(h, unsent=1)),
    ("nothing_is_left", "parked", lambda h: replace(h, parked=[FIRST])),
    ("nothing_is_left", "running", lambda h: row(h, FIRST, state="running")),
    ("nothing_lives_on", "", lambda h: replace(h, orphans=["process 1 lives on"])),
    ("audit_agrees", "old fence", lambda h: replace(h, changes=[*h.changes[:6], replace(h.changes[6], written_fence=1), h.changes[7]])),
    ("audit_agrees", "no claim", lambda h: replace(h, changes=[replace(h.changes[0], fence=2), *h.changes[1:]])),
    ("audit_agrees", "after the end", lambda h: replace(h, changes=[*h.changes, Change("task", FIRST, "completed", "available", 1, 1, None)])),
    ("audit_agrees", "no replay", lambda h: replace(h, changes=[*h.changes, Change("task", BROKEN, "failed", "cancelled", 3, 3, None)])),
    ("no_effect_counts_twice", "before the replay", lambda h: replace(h, changes=[*h.changes[:8], h.changes[11], *h.changes[8:11], h.changes[12]])),
    ("audit_agrees", "shared key", lambda h: replace(h, changes=[h.changes[0], *h.changes[3:]])),
]  # fmt: skip


def test_a_sound_history_has_no_faults() -> None:
    """Otherwise every verdict would be noise."""
    assert check(sound()) == {name: [] for name in CHECKERS}


@pytest.mark.parametrize(("name", "breach"), [pytest.param(n, b, id=f"{n} {w}".strip()) for n, w, b in BREACHES])
def test_a_breach_is_noticed(name: str, breach: Callable[[History], History]) -> None:
    """By the checker whose promise it is."""
    assert check(breach(sound()))[name] != []


def test_a_replay_that_was_cancelled_at_once_is_a_replay() -> None:
    """Both commands came in one batch: the database sees one change."""
    history = sound()
    cancelled = Change("task", AGAIN, "failed", "cancelled", 1, 1, None)
    assert check(replace(history, changes=[*history.changes[:10], cancelled]))["audit_agrees"] == []


def test_every_checker_has_a_breach() -> None:
    """One that never speaks checks nothing."""
    assert {name for name, _, _ in BREACHES} == set(CHECKERS)
