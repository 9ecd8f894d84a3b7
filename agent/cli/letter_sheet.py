"""How a dead letter reads: one line of a list, one sheet for a person, and what can be done about it.

Every value of a letter is a stranger's text: `plain` stands before each one that goes to a terminal.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.padding import Padding
from rich.table import Table

from agent.cli.common import WIDE_COLUMNS, plain
from agent.cli.letter_plan import MADE_NO_TASK
from agent.journal.port import DeadLetter

PREVIEW_CHARACTERS = 400
SHOW = "backwright dead-letters show"


def summary(letter: DeadLetter) -> Mapping[str, Any]:
    """A letter in `list --json`: always these keys, null where there is nothing; the bytes are in `show --json`."""
    data, original, reason = letter.data, letter.data["original"], letter.data["reason"]
    return {
        "dead_letter_id": data["dead_letter_id"],
        "dead_lettered_at": data["dead_lettered_at"],
        "task_id": data.get("task_id"),
        "service": letter.service,
        "kind": reason["kind"],
        "code": reason["code"],
        "message": reason["message"],
        "topic": original["topic"],
        "partition": original["partition"],
        "offset": original["offset"],
        "size_bytes": original["size_bytes"],
    }


def letters_table(letters: Sequence[DeadLetter], *, columns: int) -> Table:
    """A list of letters; below WIDE_COLUMNS each has its message on a line of its own."""
    is_wide = columns >= WIDE_COLUMNS
    table = Table(box=None, header_style="dim") if is_wide else Table.grid(padding=(0, 2))
    for column in ("dead letter", "when", "code", "service", "message") if is_wide else ("",):
        table.add_column(column, overflow="fold", no_wrap=column in ("dead letter", "when"))  # an id is copied whole
    for letter in letters:
        data, reason = letter.data, letter.data["reason"]
        when = str(data["dead_lettered_at"])[:19].replace("T", " ")
        texts = [
            plain(text) for text in (data["dead_letter_id"], when, reason["code"], letter.service, reason["message"])
        ]
        if is_wide:
            table.add_row(*texts)
        else:
            table.add_row("  ".join(texts[:2]))
            table.add_row(Padding(": ".join(filter(None, texts[2:])), (0, 0, 0, 2)))
    return table


def sheet(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    """(what, text) line by line, safe for a terminal."""
    for name, text in (*_facts(letter), *_record(letter.data["original"]), *_attempts(letter)):
        yield name, plain(text)


def _facts(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    data, reason = letter.data, letter.data["reason"]
    yield "dead letter", f"{data['dead_letter_id']} ({'closed' if letter.is_closed else 'open'})"
    yield "reason", f"{reason['code']} ({reason['kind']})"
    yield "", reason["message"]
    yield "when", f"{data['dead_lettered_at']}, by version {data['code_version']}"
    yield "task", data.get("task_id") or "none was made"
    yield "service", letter.service or "-"
    if checkpoint := data.get("last_checkpoint"):
        yield "got to", checkpoint
    if trace := data.get("trace_id"):
        yield "trace", trace


def _record(original: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "record", f"{original['topic']}, partition {original['partition']}, offset {original['offset']}"
    yield "key", _text(original.get("key"))
    for index, (name, value) in enumerate(original.get("headers", ())):
        yield "" if index else "headers", f"{name}: {_text(value)}"
    if dataref := original.get("dataref"):
        yield "value", f"{original['size_bytes']} bytes, in the artefact store as {dataref}"
    elif "value" not in original:
        yield "value", "null"
    else:
        yield "value", f"{original['size_bytes']} bytes, in this letter; they begin:"
        yield "", _text(original["value"])


def _attempts(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    for attempt in letter.data.get("attempts", ()):
        error = attempt["error"]
        yield f"attempt {attempt['attempt']}", f"{error['code']} ({error['kind']}): {error['message']}"


def advice(letter: DeadLetter, obstacle: str | None) -> Iterator[str]:
    """What the letter is, whether it can be replayed, and what to do instead; commands are indented.

    `obstacle`: what stands in the way of a replay.
    """
    letter_id = letter.data["dead_letter_id"]
    if letter.is_closed:
        yield "It was replayed or discarded: nothing is left to do."
        return
    if obstacle is None:
        yield "Its task failed. When what made it fail is mended, try it again, from its first step:"
        yield f"  backwright dead-letters replay {letter_id} --yes"
    elif obstacle == MADE_NO_TASK:
        yield (
            "The record was refused before a task was made of it: there is nothing to replay, and the same bytes would be"
            " refused again. Take them, mend what the reason names, and publish them to the same topic under a new id:"
        )
        yield f"  {SHOW} {letter_id} --bytes > record"
        yield from _sender(letter)
    else:
        yield f"It cannot be replayed now: {obstacle}."
    yield "To close it for good (it can still be shown):"
    yield f"  backwright dead-letters discard {letter_id} --yes"


def _sender(letter: DeadLetter) -> Iterator[str]:
    for name, value in letter.data["original"].get("headers", ()):
        if name == "ce_source":
            yield f"Their sender calls itself {_text(value)} (ce_source)."


def _text(encoded: str | None) -> str:
    """The beginning of bytes that a letter carries in base64, as text as far as they are text."""
    if encoded is None:
        return "null"
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return "(not base64)"
    return text[:PREVIEW_CHARACTERS] + ("…" if len(text) > PREVIEW_CHARACTERS else "")
