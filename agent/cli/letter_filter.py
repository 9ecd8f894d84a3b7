"""The options that say which dead letters are meant, defined once, for every command that takes them."""

import functools
import inspect
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from agent.cli.common import Exit, fail
from agent.clock import SystemClock
from agent.journal.port import LetterFilter

_SPAN_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Codes = Annotated[list[str] | None, typer.Option("--code", help="Only this reason, for example payload.not_json; may be repeated.")]  # fmt: skip
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Only of this task; may be repeated.")]
Services = Annotated[list[str] | None, typer.Option("--service", help="Only of this service; may be repeated.")]
Topics = Annotated[list[str] | None, typer.Option("--topic", help="Only records of this topic; may be repeated.")]
Since = Annotated[str | None, typer.Option(help="Only since then: 90s, 30m, 2h, 7d ago, or an ISO 8601 time.")]


def filter_of(
    code: Codes = None, task: Tasks = None, service: Services = None, topic: Topics = None, since: Since = None
) -> LetterFilter:
    """The filter that these options make. Ends with exit code 2 where `--since` is no time."""
    try:
        after = moment(since, SystemClock().now()) if since is not None else None
    except ValueError:
        fail(Exit.BAD_INPUT, f"--since {since!r} is no time", "for example 30m, 2h, 7d, or 2026-01-05T09:00:00Z")
    parts = (frozenset(part or ()) for part in (code, task, service, topic))
    codes, tasks, services, topics = parts
    return LetterFilter(codes=codes, tasks=tasks, services=services, topics=topics, since=after)


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `wanted` is filled from the options of `filter_of`.

    typer reads a command's options from its signature: the one it sees has them in the place of `wanted`.
    """
    options = inspect.signature(filter_of).parameters
    own = inspect.signature(command).parameters

    @functools.wraps(command)
    def call(**given: Any) -> None:
        wanted = filter_of(**{name: given.pop(name) for name in options})
        command(**given, wanted=wanted)

    parameters = [*options.values(), *(each for name, each in own.items() if name != "wanted")]
    by_name = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    call.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]  # read by inspect.signature (PEP 362)
    return call


def moment(text: str, now: datetime) -> datetime:
    """`2h` before `now`, or an ISO 8601 time (UTC where it names no offset). Raises ValueError."""
    if span := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - timedelta(seconds=int(span[1]) * _SPAN_S[span[2]])
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
