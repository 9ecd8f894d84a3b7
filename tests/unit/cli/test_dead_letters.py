"""`dead-letters`: which letters are meant, what is said beforehand, how fast commands leave; no broker is needed."""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from agent.bus.memory import MemoryBus
from agent.cli.dead_letters import DISCARD, REPLAY, Verb, Wanted, command_of, moment, plan, publish, service_of
from agent.cli.main import app
from agent.clock import SystemClock
from agent.journal.memory import MemoryJournal
from agent.journal.port import Ending, Event, Finish, Journal, NewCommand, NewDeadLetter, NewTask, Origin
from agent.journal.sqlite import SqliteJournal
from agent.settings import JournalSettings
from agent.testing.clock import ManualClock
from contracts import topics
from contracts.codec import decode, task_id

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
TASK = task_id("/tests", "one")


def letter(letter_id: str = "l1", *, value: bytes | None = b'{"service": "orders"}', **changes: Any) -> dict[str, Any]:
    """A dead letter as the journal gives it."""
    original = {"topic": topics.TASKS.name, "partition": 2, "offset": 41, "key": base64.b64encode(b"shelf").decode()}
    if value is not None:
        original["value"] = base64.b64encode(value).decode()
    found = {
        "dead_letter_id": letter_id,
        "reason": {"kind": "permanent", "code": "payload.not_json", "message": "Invalid [red]JSON"},
        "original": original,
        "dead_lettered_at": "2026-01-05T08:00:00Z",
    }
    return {**found, **changes}


# --- which ones -------------------------------------------------------------------------------------------------------

FILTERS = {
    "nothing asked": (Wanted(), True),
    "its code": (Wanted(codes=frozenset({"payload.not_json"})), True),
    "another code": (Wanted(codes=frozenset({"x"})), False),
    "its topic": (Wanted(topics=frozenset({topics.TASKS.name})), True),
    "another topic": (Wanted(topics=frozenset({topics.CONTROL.name})), False),
    "its service": (Wanted(services=frozenset({"orders"})), True),
    "another service": (Wanted(services=frozenset({"shelf"})), False),
    "a task, and it has none": (Wanted(tasks=frozenset({TASK})), False),
    "since before": (Wanted(since=datetime(2026, 1, 5, 7, tzinfo=UTC)), True),
    "since later": (Wanted(since=datetime(2026, 1, 5, 8, 30, tzinfo=UTC)), False),
    "one of two holds": (Wanted(codes=frozenset({"payload.not_json"}), services=frozenset({"x"})), False),
}


@pytest.mark.parametrize(("wanted", "passes"), FILTERS.values(), ids=FILTERS)
def test_filters_must_all_hold(wanted: Wanted, passes: bool) -> None:
    """A filter that lets too much through replays what nobody meant."""
    assert wanted.takes(letter()) is passes


@pytest.mark.parametrize(
    ("value", "service"),
    [
        (b'{"service": "orders"}', "orders"),
        (b'{"specversion": "1.0", "data": {"service": "orders"}}', "orders"),
        (b"not json", "shelf"),
        (b"[1]", "shelf"),
        (b'{"service": 5}', "shelf"),
        (None, "shelf"),
    ],
)
def test_service_is_read_from_the_value_else_from_the_key(value: bytes | None, service: str) -> None:
    """The record is there because it could not be read; its key often can."""
    assert service_of(letter(value=value)) == service


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", datetime(2026, 1, 5, 8, 58, 30, tzinfo=UTC)),
        ("30m", datetime(2026, 1, 5, 8, 30, tzinfo=UTC)),
        ("2h", datetime(2026, 1, 5, 7, 0, tzinfo=UTC)),
        ("7d", datetime(2025, 12, 29, 9, 0, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T10:00:00+01:00", datetime(2026, 1, 1, 9, 0, tzinfo=UTC)),
    ],
)
def test_since_is_a_span_or_a_moment(text: str, expected: datetime) -> None:
    """People say two hours ago; scripts say when."""
    assert moment(text, NOW) == expected


# --- the plan ---------------------------------------------------------------------------------------------------------


async def filled(journal: Journal) -> Journal:
    """A failed task with its letter `dead`, and `lone`, a record that made no task."""
    origin = Origin(topics.TASKS.name, 0, 1, 0, b"shelf", (), b"{}")
    task = NewTask(TASK, "/tests", "one", "d", "build", "shelf", b"{}", {"id": "one"}, origin)
    lone = NewDeadLetter("lone", Origin(topics.TASKS.name, 0, 2, 0, None, (), b"x"), dead_event("lone"), "c")
    await journal.accept([task, lone])
    (claim,) = await journal.claim("w", limit=1, lease_s=10)
    await journal.finish(claim, Finish(Ending.FAILED, [dead_event("dead", task_id=TASK)]))
    return journal


def dead_event(letter_id: str, **fields: Any) -> Event:
    return Event("task.dead_lettered", "k", letter(letter_id, **fields))


@pytest.fixture
async def journal() -> Journal:
    return await filled(MemoryJournal(ManualClock()))


async def test_replay_says_beforehand_what_will_be_refused(journal: Journal) -> None:
    """A record without a task is published again, not replayed."""
    made = await plan(journal, REPLAY, [], Wanted(), 10)

    obstacles = {item.dead_letter_id: item.obstacle for item in made.letters}
    assert obstacles["dead"] is None
    assert "publish it again" in str(obstacles["lone"])


async def test_discard_takes_any_open_letter(journal: Journal) -> None:
    """Also one without a task."""
    made = await plan(journal, DISCARD, [], Wanted(), 10)

    assert [(item.dead_letter_id, item.obstacle) for item in made.letters] == [("dead", None), ("lone", None)]


@pytest.mark.parametrize("verb", [REPLAY, DISCARD], ids=lambda verb: verb.word)
async def test_closed_letter_is_known_and_nothing_is_published_about_it(journal: Journal, verb: Verb) -> None:
    """It was replayed; its task runs again."""
    await journal.accept([NewCommand("c1", "dead_letter.replay", "dead", {})])

    [named] = (await plan(journal, verb, ["dead"], Wanted(), 10)).letters
    by_filter = (await plan(journal, verb, [], Wanted(tasks=frozenset({TASK})), 10)).letters

    assert "before" in str(named.obstacle)
    assert by_filter == []


async def test_unknown_ids_and_those_beyond_the_limit_are_counted(journal: Journal) -> None:
    """Neither is passed over in silence."""
    assert (await plan(journal, REPLAY, ["dead", "none"], Wanted(), 10)).unknown == ["none"]
    assert (await plan(journal, DISCARD, [], Wanted(), 1)).left_out == 1


# --- publishing -------------------------------------------------------------------------------------------------------


async def test_commands_leave_at_the_given_rate() -> None:
    """A thousand replays at once would push fresh work aside. Time is moved, not slept."""
    bus, clock = MemoryBus(), ManualClock()
    told: list[int] = []
    producer = bus.producer()
    await producer.start()
    records = [command_of(REPLAY, f"l{nr}", None, clock)[1] for nr in range(4)]
    running = asyncio.create_task(publish(producer, records, rate=2.0, clock=clock, told=told.append))
    counts = []
    for _ in range(5):
        for _ in range(20):
            await asyncio.sleep(0)
        counts.append(len(bus.records(topics.CONTROL.name)))
        clock.advance(0.5)
    await running

    assert counts == [1, 2, 3, 4, 4]
    assert told == [0, 1, 2, 3]


async def test_command_is_keyed_by_its_letter_and_names_its_person() -> None:
    """Commands about one letter keep their order, and the audit says who."""
    command_id, record = command_of(DISCARD, "l1", "old", ManualClock())

    message = decode(record.topic, record.headers, record.key, record.value)

    assert (message.message_type.name, record.key, message.envelope.id) == ("dead_letter.discard", b"l1", command_id)
    assert message.envelope.source.startswith("/backwright/cli/")
    assert json.loads(message.data) == {"dead_letter_id": "l1", "reason": "old"}


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
async def environment(tmp_path: Path) -> Mapping[str, str]:
    """A journal of an agent, and a broker that does not exist: whoever tries to publish fails."""
    store = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), JournalSettings())
    await store.open()
    await filled(store)
    await store.close()
    return {"BACKWRIGHT_WORKSPACE": str(tmp_path), "BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}


async def cli(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Exit code and stdout."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=dict(environment))
    return result.exit_code, result.stdout


@pytest.mark.parametrize("verb", ["replay", "discard"])
async def test_dry_run_is_the_default_and_publishes_nothing(environment: Mapping[str, str], verb: str) -> None:
    """It works without a broker, which is the proof."""
    code, shown = await cli(environment, "dead-letters", verb, "--all", "--json")

    made = orjson.loads(shown)
    assert (code, made["dry_run"], made["command"]) == (0, True, f"dead_letter.{verb}")
    assert [item["dead_letter_id"] for item in made["letters"]] == ["dead", "lone"]
    assert {item["command_id"] for item in made["letters"]} == {None}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--task", TASK], ["dead"]),
        (["--code", "payload.not_json", "--since", "2026-01-01"], ["dead", "lone"]),
        (["--since", "1h"], []),
        (["--service", "nobody"], []),
        (["--service", "orders", "--topic", topics.TASKS.name], ["dead", "lone"]),
    ],
)
async def test_list_takes_the_filters(environment: Mapping[str, str], arguments: list[str], found: list[str]) -> None:
    """The same ones as replay and discard, so that one looks before one acts."""
    code, shown = await cli(environment, "dead-letters", "list", "--json", *arguments)

    assert code == 0
    assert [item["dead_letter_id"] for item in orjson.loads(shown)] == found


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["replay"], 2),  # nothing named
        (["replay", "dead", "--all"], 2),
        (["replay", "none"], 2),
        (["replay", "lone"], 1),  # named, and it cannot be
        (["replay", "--since", "yesterday"], 2),
        (["discard", "dead", "--reason", "x" * 1001], 2),
        (["show", "none"], 2),
        (["show", "dead"], 0),
        (["replay", "dead"], 0),
    ],
)
async def test_exit_codes(environment: Mapping[str, str], arguments: list[str], code: int) -> None:
    """Scripts read these."""
    assert (await cli(environment, "dead-letters", *arguments))[0] == code


@pytest.mark.parametrize("arguments", [["no-id", "5"], [TASK, "10"], [TASK, "-1"], [TASK, "high"]])
async def test_reprioritise_refuses_what_the_contract_does_not_allow(
    environment: Mapping[str, str], arguments: list[str]
) -> None:
    """Before anything is published."""
    assert (await cli(environment, "reprioritise", *arguments))[0] == 2
