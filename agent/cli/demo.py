"""`demo`: the main job on one machine. An event goes on an embedded bus, statuses come back, a measured service stands."""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer

from agent import app as root
from agent.bus.apache import LocalKafka
from agent.bus.embedded import EmbeddedBroker, embedded_settings
from agent.cli.common import Exit, Panel, fail, load_settings, plain, read_document, run, stderr, stdout
from agent.cli.local_service import first_answer
from agent.cli.outgoing import media_type_of, request, request_for
from agent.cli.progress import Progress, follow
from agent.cli.report import end_of, show_end
from agent.clock import SystemClock
from agent.context.manager import ContextManager
from agent.errors import EnvironmentUnfit
from agent.fileset import UnsafePath, safe_path
from agent.settings import Settings
from agent.telemetry import logs

HERE = Path(__file__).parent
DEMO_DOCUMENT = HERE / "demo.openapi.yaml"
DEMO_CONTEXT = HERE / "demo.context.yaml"
STOP_TIMEOUT_S = 30.0


class Broker(StrEnum):
    """Which broker the demo brings."""

    EMBEDDED = "embedded"
    KAFKA = "kafka"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", rich_help_panel=Panel.TRY)(demo)


def demo(
    spec: Annotated[
        Path, typer.Option(help="An OpenAPI 3.0 or 3.1 document; default: our own example.", show_default=False)
    ] = DEMO_DOCUMENT,
    broker: Annotated[
        Broker,
        typer.Option(
            help="embedded: librdkafka's mock cluster; kafka: Apache Kafka from its jars (needs Java and Maven)."
        ),
    ] = Broker.EMBEDDED,
) -> None:
    """See the whole job here: one request on a bus of its own, its statuses, a measured service.

    Starts a broker, the agent and a context manager, and stops them all at the end. Needs no Docker and no root.
    """
    document = read_document(spec)
    settings = load_settings()
    folder = settings.workspace.absolute() / "demo"
    root.check_disk(settings.workspace)
    # The broker forgets everything when it ends, so its journal starts anew with it.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _say_beforehand(spec, settings, folder)
    progress = run(_run(settings, folder, document, media_type_of(spec), broker))
    show_end(progress, settings.workspace)
    if progress.delivery is None:
        fail(
            end_of(progress),
            "no service was delivered",
            f"read the lines above; the agent's log is {folder / 'agent.log'}",
        )
    service = _service_folder(settings.workspace, progress.delivery.service.path)
    call, answer = run(first_answer(settings, service))
    stdout.print(f"[bold]Start it[/]  {sys.argv[0]} serve {service} --port 8080")
    stdout.print(f"[bold]Call it[/]   {plain(call)}")
    stdout.print(f"          tried just now: {plain(answer)}")


def _service_folder(workspace: Path, path: str) -> Path:
    """Where a delivery says that the service lies. Ends with exit code 1 for a place outside: what is there is run."""
    try:
        return workspace / safe_path(path)
    except UnsafePath as exc:
        fail(Exit.FAILED, f"the delivery names {exc}", "somebody else publishes on this broker")


def _say_beforehand(spec: Path, settings: Settings, folder: Path) -> None:
    workspace, cache = settings.workspace.absolute(), root.package_cache()
    stderr.print(f"[bold]backwright demo[/]  {spec.name} → a measured service in {workspace / 'services'}")
    known = "already in" if cache.is_dir() and any(cache.iterdir()) else "63 MB to download, once, into"
    stderr.print(f"  packages of the service: {known} {cache}; disk: about 400 MB while it runs, 3 MB of results")
    stderr.print(f"  log of the agent: {folder / 'agent.log'}   clean up: rm -r {workspace} {cache}")


async def _run(settings: Settings, folder: Path, document: bytes, media_type: str, broker: Broker) -> Progress:
    async with AsyncExitStack() as stack:
        # What the context manager and the client libraries say in this process is not for the terminal.
        logs.configure(settings.telemetry, stream=stack.enter_context((folder / "demo.log").open("w")))
        servers = await stack.enter_async_context(
            EmbeddedBroker()
            if broker is Broker.EMBEDDED
            else LocalKafka(progress=lambda line: stderr.print(f"  {line}", markup=False))
        )
        kafka = (
            embedded_settings(servers, settings.kafka)
            if broker is Broker.EMBEDDED
            else settings.kafka.model_copy(update={"bootstrap_servers": servers})
        )
        here = settings.model_copy(update={"kafka": kafka})
        if broker is Broker.KAFKA:
            async for _line in root.bus(here).ensure_topics():
                pass
        await stack.enter_async_context(_context_manager(here))
        agent = await stack.enter_async_context(_agent(here, folder))
        task = await request(here, request_for(document, service=None, media_type=media_type))
        stderr.print(f"  broker {servers} ({broker}), task {task}\n")
        return await _follow_or_die(here, task, agent, folder)


async def _follow_or_die(settings: Settings, task: str, agent: asyncio.subprocess.Process, folder: Path) -> Progress:
    """Watch until the task ends. Raises EnvironmentUnfit if the agent dies before."""
    watching = asyncio.create_task(follow(root.bus(settings), task, stderr, clock=SystemClock()))
    dying = asyncio.create_task(agent.wait())
    try:
        await asyncio.wait({watching, dying}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            return watching.result()
        lines = (folder / "agent.log").read_text(errors="replace").splitlines()
        raise EnvironmentUnfit(
            f"the agent ended with code {agent.returncode}: {lines[-1] if lines else 'it said nothing'}",
            remedy=f"read {folder / 'agent.log'}",
        )
    finally:
        for pending in (watching, dying):
            pending.cancel()
        await asyncio.gather(watching, dying, return_exceptions=True)


@asynccontextmanager
async def _agent(settings: Settings, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`backwright run` in a process of its own, as in production; ended by SIGTERM."""
    environment = os.environ | _as_environment(settings) | {
        "BACKWRIGHT_WORKSPACE": str(settings.workspace.absolute()),
        "BACKWRIGHT_JOURNAL__URL": f"sqlite:///{folder / 'journal.sqlite'}",
        "BACKWRIGHT_HTTP__PORT": "0",
        "BACKWRIGHT_WORKER__DRAIN_S": "0",  # nothing of an interrupted demo is wanted: its broker forgets it
    }  # fmt: skip
    with (folder / "agent.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent", "run", env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _as_environment(settings: Settings) -> dict[str, str]:
    """The Kafka section as variables for a child: only what differs from the defaults."""
    section = settings.kafka
    changed = {
        name: getattr(section, name)
        for name in type(section).model_fields
        if getattr(section, name) != type(section).model_fields[name].default
    }
    return {f"BACKWRIGHT_KAFKA__{name.upper()}": _text(value) for name, value in changed.items()}


def _text(value: object) -> str:
    if hasattr(value, "get_secret_value"):
        return str(value.get_secret_value())
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode().strip('"')


@asynccontextmanager
async def _context_manager(settings: Settings) -> AsyncIterator[None]:
    """The embedded context manager with the demo's facts."""
    stop = asyncio.Event()
    running = asyncio.create_task(ContextManager(root.bus(settings), DEMO_CONTEXT).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(running, return_exceptions=True)
