"""`dead-letters`: which letters are meant, what is said beforehand, how fast commands leave; no broker is needed."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from agent.artifacts.folder import FolderArtifacts
from agent.artifacts.name import name_of
from agent.bus.memory import MemoryBus
from agent.cli.common import plain
from agent.cli.letter_filter import moment
from agent.cli.letter_plan import DISCARD, MADE_NO_TASK, REPLAY, Verb, command_of, plan, publish
from agent.cli.letter_sheet import advice, letters_table, sheet
from agent.cli.main import app
from agent.clock import SystemClock
from agent.journal.memory import MemoryJournal
from agent.journal.port import (
    ALL_LETTERS,
    DeadLetter,
    Ending,
    Event,
    Finish,
    Journal,
    LetterFilter,
    NewCommand,
    NewDeadLetter,
    NewTask,
    Origin,
)
from agent.journal.sqlite import SqliteJournal
from agent.testing.clock import ManualClock
from agent.testing.waiting import settle
from contracts import topics
from contracts.codec import decode, task_id

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
TASK = task_id("/tests", "one")


def letter(letter_id: str = "l1", *, value: bytes | None = b'{"service": "orders"}', **changes: Any) -> dict[str, Any]:
    """A dead letter as the journal gives it."""
    original = {"topic": topics.TASKS.name, "partition": 2, "offset": 41, "key": b64(b"shelf"), "headers": []}
    original |= {"size_bytes": len(value or b"")} | ({} if value is None else {"value": b64(value)})
    found = {
        "dead_letter_id": letter_id,
        "reason": {"kind": "permanent", "code": "payload.not_json", "message": "Invalid [red]JSON"},
        "original": original,
        "dead_lettered_at": "2026-01-05T08:00:00Z",
        "code_version": "1",
    }
    return {**found, **changes}


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


# --- which ones -------------------------------------------------------------------------------------------------------


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
    lone = NewDeadLetter(
        "lone", Origin(topics.TASKS.name, 0, 2, 0, None, (), b"x"), dead_event("lone"), "payload.not_json"
    )
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
    made = await plan(journal, REPLAY, ALL_LETTERS, 10)

    obstacles = {item.dead_letter_id: item.obstacle for item in made.letters}
    assert obstacles["dead"] is None
    assert "publish it again" in str(obstacles["lone"])


async def test_discard_takes_any_open_letter(journal: Journal) -> None:
    """Also one without a task."""
    made = await plan(journal, DISCARD, ALL_LETTERS, 10)

    assert [(item.dead_letter_id, item.obstacle) for item in made.letters] == [("dead", None), ("lone", None)]


@pytest.mark.parametrize("verb", [REPLAY, DISCARD], ids=lambda verb: verb.word)
async def test_closed_letter_is_known_and_nothing_is_published_about_it(journal: Journal, verb: Verb) -> None:
    """It was replayed; its task runs again."""
    await journal.accept([NewCommand("c1", "dead_letter.replay", "dead", {})])

    [named] = (await plan(journal, verb, LetterFilter(ids=frozenset({"dead"})), 10)).letters
    by_filter = (await plan(journal, verb, LetterFilter(tasks=frozenset({TASK})), 10)).letters

    assert "before" in str(named.obstacle)
    assert by_filter == []


async def test_unknown_ids_and_those_beyond_the_limit_are_told(journal: Journal) -> None:
    """Neither is passed over in silence; what is named is never beyond it."""
    named = LetterFilter(ids=frozenset({"dead", "lone", "none"}))

    by_name, by_limit = await plan(journal, REPLAY, named, 1), await plan(journal, DISCARD, ALL_LETTERS, 1)

    assert (by_name.unknown, len(by_name.letters), by_name.has_more) == (["none"], 2, False)
    assert (len(by_limit.letters), by_limit.has_more) == (1, True)


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
        await settle()
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
    async with writing(tmp_path) as journal:
        await filled(journal)
    return {"BACKWRIGHT_WORKSPACE": str(tmp_path), "BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}


@asynccontextmanager
async def writing(workspace: Path) -> AsyncIterator[Journal]:
    """The journal of an agent that runs in `workspace`."""
    store = SqliteJournal(workspace / "journal.sqlite", SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


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
        (["--since", "1h", "--code", "other"], []),
        (["--since", "2100-01-01"], []),
        (["--service", "nobody"], []),
        (["--service", "shelf", "--topic", topics.TASKS.name], ["dead", "lone"]),
    ],
)
async def test_list_takes_the_filters(environment: Mapping[str, str], arguments: list[str], found: list[str]) -> None:
    """The same ones as replay and discard, so that one looks before one acts."""
    code, shown = await cli(environment, "dead-letters", "list", "--json", *arguments)

    assert code == 0
    assert [item["dead_letter_id"] for item in orjson.loads(shown)["dead_letters"]] == found


async def test_list_as_json_has_one_shape(environment: Mapping[str, str]) -> None:
    """Scripts read these keys; a letter without a task has them all."""
    _, shown = await cli(environment, "dead-letters", "list", "--json", "--limit", "1")
    _, all_shown = await cli(environment, "dead-letters", "list", "--json")

    [newest], oldest = orjson.loads(shown)["dead_letters"], orjson.loads(all_shown)["dead_letters"][-1]
    assert (orjson.loads(shown)["has_more"], orjson.loads(all_shown)["has_more"]) == (True, False)
    assert list(newest) == list(oldest)
    assert newest["task_id"] == TASK
    assert oldest == {
        "dead_letter_id": "lone",
        "dead_lettered_at": "2026-01-05T08:00:00Z",
        "task_id": None,
        "service": "shelf",
        "kind": "permanent",
        "code": "payload.not_json",
        "message": "Invalid [red]JSON",
        "topic": topics.TASKS.name,
        "partition": 2,
        "offset": 41,
        "size_bytes": 21,
    }


async def test_show_as_json_holds_the_letter_as_it_was_published(environment: Mapping[str, str]) -> None:
    """And what a script needs to decide: is it open, can it be replayed."""
    dead = orjson.loads((await cli(environment, "dead-letters", "show", "dead", "--json"))[1])
    lone = orjson.loads((await cli(environment, "dead-letters", "show", "lone", "--json"))[1])

    assert list(dead) == ["state", "service", "obstacle", "letter"]
    assert (dead["state"], dead["service"], dead["obstacle"]) == ("open", "shelf", None)
    assert dead["letter"] == letter("dead", task_id=TASK)
    assert "made no task" in lone["obstacle"]


async def test_sheet_of_a_record_that_nobody_understood_says_what_to_do(environment: Mapping[str, str]) -> None:
    """Why there is nothing to replay, where the bytes are, what to do instead; what a stranger wrote is text."""
    code, shown = await cli(environment, "dead-letters", "show", "lone")
    shown = " ".join(shown.split())  # lines break where the terminal is narrow

    assert code == 0
    for told in (
        "payload.not_json (permanent)",
        "Invalid [red]JSON",
        "21 bytes, in this letter",
        '{"service": "orders"}',
        "there is nothing to replay",
        "backwright dead-letters show lone --bytes > record",
        "backwright dead-letters discard lone --yes",
    ):
        assert told in shown
    assert "dead-letters replay" not in shown


async def test_sheet_of_a_failed_task_says_how_to_try_again(environment: Mapping[str, str]) -> None:
    """The one command, to be copied."""
    _, shown = await cli(environment, "dead-letters", "show", "dead")

    assert TASK in shown
    assert "backwright dead-letters replay dead --yes" in shown


async def test_sheet_holds_no_control_characters(tmp_path: Path) -> None:
    """A stranger's key, header or value must not move the cursor of whoever looks."""
    hostile = b64(b"\x1b[2J\x07[bold]")
    original = {**letter()["original"], "key": hostile, "value": hostile, "headers": [["ce_\x1bsource", hostile]]}
    stored = DeadLetter(letter(original=original), service="\x1b]0;x\x07", is_closed=False)

    text = "".join(name + line for name, line in sheet(stored)) + "".join(map(plain, advice(stored, MADE_NO_TASK)))

    assert "[2J" in text
    assert text.isprintable()


@pytest.mark.parametrize("columns", [80, 140])
def test_letters_fit_the_terminal(columns: int) -> None:
    """An id is copied whole; on a narrow terminal the message has a line of its own."""
    reason = {"kind": "permanent", "code": "envelope.missing", "message": "no CloudEvents attribute at ce_id " * 3}
    letters = [DeadLetter(letter(str(uuid4()), reason=reason), "a-long-name-of-a-service", False) for _ in range(2)]
    stream = io.StringIO()

    Console(file=stream, width=columns).print(letters_table(letters, columns=columns))

    shown = stream.getvalue()
    assert max(map(len, shown.splitlines())) <= columns
    for text in (*(one.data["dead_letter_id"] for one in letters), "envelope.missing", "a-long-name-of-a-service"):
        assert text in shown


@pytest.mark.parametrize("stored_in", ["the letter", "the artefact store", "a store that lost it"])
async def test_bytes_of_a_record_come_back_as_they_were(
    environment: Mapping[str, str], tmp_path: Path, stored_in: str
) -> None:
    """Mended with any tool, and published again."""
    value = b"\xff\x00 not json \r\n"
    store = FolderArtifacts(tmp_path / "artifacts")
    dataref = name_of(value) if stored_in == "a store that lost it" else await store.put(value)
    changed = {"value": b64(value)} if stored_in == "the letter" else {"dataref": dataref}
    original = {name: each for name, each in letter()["original"].items() if name != "value"} | changed
    async with writing(tmp_path) as journal:
        place = Origin(topics.TASKS.name, 0, 9, 0, None, (), None)
        await journal.accept([NewDeadLetter("raw", place, dead_event("raw", original=original), "c")])

    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["dead-letters", "show", "raw", "--bytes"], env=dict(environment)
    )

    lost = stored_in == "a store that lost it"
    assert (result.exit_code, result.stdout_bytes) == ((1, b"") if lost else (0, value))


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
