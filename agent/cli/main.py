"""`backwright`: one module per group of commands; this one assembles them and turns errors into exit codes."""

import logging
import os
import sys
from typing import Annotated

import structlog
import typer

from agent import __version__
from agent.cli import (
    agent_commands,
    bus_commands,
    dead_letters,
    demo,
    document_commands,
    journal_commands,
    service_commands,
)
from agent.cli.common import Exit, plain, stderr
from agent.errors import BusUnavailable, FatalError, TransientError

HELP = """A backend developer that lives on your Kafka bus: an OpenAPI document in, a measured service out.

Settings come from the environment: `backwright check-config` lists them.

Exit codes: 0 done · 1 the work failed · 2 bad input · 3 environment · 130 interrupted.
"""
NO_BROKER = (
    "name yours in BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS (host:port); without one, `backwright demo` brings an embedded broker"
    " and `docker compose up` a real Kafka"
)

app = typer.Typer(
    name="backwright",
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"backwright {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


demo.register(app)
agent_commands.register(app)
bus_commands.register(app)
journal_commands.register(app)
dead_letters.register(app)
document_commands.register(app)
service_commands.register(app)


def main() -> None:
    """Entry point: run a command and leave with its exit code."""
    _say_warnings_only()
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        code = Exit.INTERRUPTED
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except typer.TyperException as exc:
        # Wrong usage. typer carries a click of its own, and names the classes that can show themselves in private.
        show = getattr(exc, "show", None)
        if show is None:
            raise
        show()
        code = Exit.BAD_INPUT
    except FatalError as exc:
        code = _say(_without_cause(exc) if isinstance(exc.__cause__, BusUnavailable) else str(exc), exc.remedy)
    except BusUnavailable as exc:
        code = _say(f"the bus is out of reach: {_without_cause(exc)}", NO_BROKER)
    except TransientError as exc:
        code = _say(str(exc), "check that it is reachable, then repeat")
    except BrokenPipeError:
        # The reader of our output went away (`| head`): no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.DONE
    sys.exit(int(code or 0))


def _say_warnings_only() -> None:
    """What a command says that configures no logs: stdout is its result, and a person asked for no debug lines."""
    logging.getLogger().addHandler(_Warnings())
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_names: structlog.WriteLogger(sys.stderr),
    )


class _Warnings(logging.Handler):
    """Warnings of libraries, each once: the Kafka client names the reason of a lost connection, ninety times a second."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name.partition('.')[0]}: {record.getMessage()}"
        if text not in self._said:
            self._said.add(text)
            stderr.print(f"  {plain(text)}", style="dim")


def _without_cause(exc: Exception) -> str:
    """The text of an error without that of the one behind it, which ends in the representation of a foreign exception."""
    return str(exc).removesuffix(f": {exc.__cause__!r}").removesuffix(f": {exc.__cause__}")


def _say(message: str, remedy: str) -> int:
    stderr.print("[red]backwright:[/]", end=" ")
    stderr.print(message, markup=False)
    if remedy:
        stderr.print(f"  remedy: {remedy}", markup=False)
    return Exit.ENVIRONMENT
