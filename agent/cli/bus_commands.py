"""`submit`, `watch`, `cancel`, `reprioritise`, `topics`: what a person does on the bus."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from agent import app as root
from agent.cli.common import (
    Exit,
    Panel,
    ServiceName,
    fail,
    load_settings,
    print_json,
    read_document,
    run,
    stderr,
    stdout,
)
from agent.cli.outgoing import command_record, media_type_of, request, request_for, send, valid
from agent.cli.progress import Progress, follow
from agent.cli.report import end_of, show_end
from agent.clock import SystemClock
from agent.settings import Settings
from contracts import envelope
from contracts.control import TaskCancel, TaskId, TaskReprioritise

topics_app = typer.Typer(
    help="Create the topics on the broker, or compare them with what they should be.", no_args_is_help=True
)


def _task(text: str) -> str:
    """The id of a task as somebody typed it. Ends with exit code 2 for what cannot be one."""
    try:
        return TypeAdapter(TaskId).validate_python(text)
    except ValidationError:
        fail(Exit.BAD_INPUT, f"{text!r} is no id of a task", "`submit` prints it, `backwright tasks` lists them")


TaskArgument = Annotated[
    str, typer.Argument(help="Id of the task: `submit` prints it, `backwright tasks` lists them.", callback=_task)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=Panel.BUS)(submit)
    app.command(rich_help_panel=Panel.BUS)(watch)
    app.command(rich_help_panel=Panel.OPERATE)(cancel)
    app.command(rich_help_panel=Panel.OPERATE)(reprioritise)
    topics_app.command("ensure")(topics_ensure)
    topics_app.command("check")(topics_check)
    app.add_typer(topics_app, name="topics", rich_help_panel=Panel.BUS)


def submit(
    file: Annotated[Path, typer.Argument(help="An OpenAPI 3.0 or 3.1 document (YAML or JSON).")],
    service: ServiceName = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key and document make one task.")] = None,
    wait: Annotated[bool, typer.Option("--watch", "-w", help="Stay and show the task until it ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask for a service: publish `task.requested` with a document. Prints the task's id; `--watch` stays until it ends."""
    settings = load_settings()
    payload = request_for(read_document(file), service=service, media_type=media_type_of(file))
    made = run(request(settings, payload, idempotency_key=key))
    if not wait:
        if as_json:
            print_json({"task_id": made})
        else:
            stdout.print(made)
            stderr.print(f"watch it with: backwright watch {made}")
        return
    stderr.print(f"task {made}")
    _watch(settings, made, as_json)


def watch(
    task: TaskArgument,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the last status and the delivery as one JSON object.")
    ] = False,
) -> None:
    """Show a task from its first status to its end. Exit code 0 if it completes, 2 if its document is refused, else 1.

    A broker that goes away meanwhile is waited for; Ctrl-C ends the watch.
    """
    _watch(load_settings(), task, as_json)


def _watch(settings: Settings, task: str, as_json: bool) -> None:
    progress: Progress = run(follow(root.bus(settings), task, stderr, clock=SystemClock()))
    if as_json:
        print_json({
            "task_id": task,
            "status": progress.last.model_dump(mode="json", exclude_none=True) if progress.last else None,
            "delivery": progress.delivery.model_dump(mode="json", exclude_none=True) if progress.delivery else None,
        })  # fmt: skip
    else:
        show_end(progress, settings.workspace)
    raise typer.Exit(end_of(progress))


def cancel(
    task: TaskArgument,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the event.")] = None,
) -> None:
    """Ask for a task to be stopped. One that is not known yet is cancelled when it arrives."""
    payload = valid(TaskCancel, task_id=task, reason=reason)
    _, record = command_record(envelope.TASK_CANCEL, payload, about=task, clock=SystemClock())
    run(send(load_settings(), record))
    stderr.print(f"cancellation of {task} published; `backwright watch {task}` shows what becomes of it")


def reprioritise(
    task: TaskArgument,
    priority: Annotated[int, typer.Argument(min=0, max=9, help="0 to 9; higher is sooner.")],
) -> None:
    """Serve a task sooner or later; it keeps the age that it has gained by waiting. One not known yet gets it when it arrives."""
    payload = valid(TaskReprioritise, task_id=task, priority=priority)
    _, record = command_record(envelope.TASK_REPRIORITISE, payload, about=task, clock=SystemClock())
    run(send(load_settings(), record))
    stderr.print(
        f"priority {priority} for {task} published; operator.acted or command.refused tells on the status topic what became of it"
    )


def topics_ensure() -> None:
    """Create missing topics with their partitions and retention; change nothing that exists."""

    async def ensure() -> None:
        async for line in root.bus(load_settings()).ensure_topics():
            stdout.print(line, markup=False)

    run(ensure())


def topics_check() -> None:
    """Compare the topics with what they should be. Exit code 1 if something differs."""
    faults = asyncio.run(root.bus(load_settings()).check_topics())
    for fault in faults:
        stdout.print(fault, markup=False)
    if faults:
        raise typer.Exit(Exit.FAILED)
    stdout.print("all topics are as they should be")
