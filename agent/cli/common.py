"""What every command shares: settings, exit codes, and the two streams (stdout for results, stderr for people)."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from difflib import get_close_matches
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import orjson
import pydantic
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from agent import app as root
from agent.journal.port import Journal
from agent.settings import Section, Settings
from contracts.tasks import SERVICE_NAME

T = TypeVar("T")
PIPE_COLUMNS = 140  # where neither a terminal nor COLUMNS says how wide it is (a log of CI)
WIDE_COLUMNS = 110  # below, a table leaves out what is not needed, or stacks it


class Output(Console):
    """A console that never breaks a line of text: paths, commands and ids are copied from it. Tables do fold."""

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        is_known = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
        super().__init__(stderr=stderr, highlight=False, width=None if is_known else PIPE_COLUMNS)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, with `soft_wrap` for plain text."""
        options.setdefault("soft_wrap", all(isinstance(part, str) for part in objects))
        super().print(*objects, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich's, without what would steer the terminal: whatever was forgotten to pass through `plain` ends here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, keep="\n"), segment.style)


stdout = Output()
stderr = Output(stderr=True)
PREFIX = "BACKWRIGHT_"
OF_TESTS = (f"{PREFIX}TEST_", f"{PREFIX}CRASH_POINT")


class Panel(StrEnum):
    """Where a command stands in `backwright --help`."""

    TRY = "Try it"
    BUS = "On your bus"
    OPERATE = "Operate"
    ALONE = "Without a bus"
    DEVELOP = "Develop Backwright"


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1  # the work failed: a gate, a task
    BAD_INPUT = 2  # arguments, document, configuration
    ENVIRONMENT = 3  # port taken, broker or database out of reach, disk full
    INTERRUPTED = 130


def fail(code: Exit, message: str, remedy: str = "") -> NoReturn:
    """One clear line on stderr, its remedy below, and the end."""
    stderr.print(f"[red]backwright:[/] {plain(message)}")
    if remedy:
        stderr.print(f"  remedy: {plain(remedy)}")
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """A result for programs, on stdout; what JSON need not escape but a terminal may obey is escaped too."""
    text = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode()
    sys.stdout.write("".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text) + "\n")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; Ctrl-C cancels it and surfaces as KeyboardInterrupt."""
    return asyncio.run(coroutine)


async def reading(settings: Settings, question: Callable[[Journal], Awaitable[T]]) -> T:
    """Ask the journal something, beside a running agent. Raises EnvironmentUnfit where there is none."""
    journal = await root.open_for_reading(settings)
    try:
        return await question(journal)
    finally:
        await journal.close()


def _service(name: str | None) -> str | None:
    """Ends with exit code 2 for what the contract does not allow."""
    if name is not None and not re.match(SERVICE_NAME, name):
        fail(
            Exit.BAD_INPUT,
            f"--service {name!r} is no service name",
            "a lower-case letter, then letters, digits or hyphens, 40 at most",
        )
    return name


ServiceName = Annotated[
    str | None, typer.Option("--service", help="Name of the service; default: from info.title.", callback=_service)
]


def read_document(path: Path) -> bytes:
    """The bytes of a document that a person named. Ends with exit code 2 where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        fail(
            Exit.BAD_INPUT,
            f"cannot read {path}: {exc.strerror}",
            "name a file that holds an OpenAPI 3.0 or 3.1 document",
        )


# `check-config` itself stops at the first fault, so the fault has to go before it can list anything.
CORRECT_IT = "correct it, or unset it: then `backwright check-config` lists every setting"


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, faults named. Ends with exit code 2 on a bad one."""
    if unknown := unknown_variables():
        fail(Exit.BAD_INPUT, f"unknown setting {unknown[0]}", remedy_for(unknown[0]))
    try:
        return Settings(**overrides)
    except pydantic.ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        name = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        fail(Exit.BAD_INPUT, f"setting {name}: {first['msg']}", CORRECT_IT)


def known_variables() -> dict[str, tuple[str, Any]]:
    """Every environment variable that we read → (description, default)."""
    known: dict[str, tuple[str, Any]] = {}
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Section):
            for inner, inner_field in type(default).model_fields.items():
                known[f"{PREFIX}{name}__{inner}".upper()] = (inner_field.description or "", getattr(default, inner))
        else:
            known[f"{PREFIX}{name}".upper()] = (field.description or "", default)
    return known


def unknown_variables() -> list[str]:
    """Variables with our prefix that no setting reads (those of the tests aside)."""
    known = known_variables()
    return sorted(
        n for n in os.environ if n.startswith(PREFIX) and n.upper() not in known and not n.startswith(OF_TESTS)
    )


def remedy_for(name: str) -> str:
    """The nearest setting that exists."""
    near = get_close_matches(name.upper(), known_variables(), n=1)
    return f"did you mean {near[0]}?" if near else CORRECT_IT


def plain(text: object) -> str:
    """Text of strangers as one line of a console: no markup, and nothing that is not `visible`."""
    return escape(visible(str(text)))


def visible(text: str, *, keep: str = "") -> str:
    """Text in which every character is one that people see, or one of `keep`.

    Gone are control characters (they begin the sequences that steer a terminal: colours, titles, links, the clipboard)
    and those that change the direction of what follows, so that a line reads otherwise than it is.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() or c in keep else "�" for c in text)
