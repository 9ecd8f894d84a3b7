"""A delivered service that runs: throwaway database, migrations, throwaway credentials, process; all gone at the end.

Gates use `live_service`; commands that run a service use `served`.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from agent.errors import EnvironmentUnfit
from agent.gates.environment import RUNTIME_LOCK, create_environment
from agent.gates.gate import Subject, Tools
from agent.gates.trial import Trial, last_line, open_trial
from agent.sandbox.port import Running
from agent.services.port import Database

HOST = "127.0.0.1"
STOP_GRACE_S = 10.0
POLL_S = 0.05
PORT_ATTEMPTS = 3
BODY_BYTES = 16 * 1024**2
GATE_S = 3600.0  # a service that a gate looks at never lives longer
SERVE_S = 30 * 86_400.0


class NotReady(Exception):
    """The service did not come up; the message says where it stopped, and is fit for an evidence's summary."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What one security scheme (or an alternative of several) adds to a request."""

    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    def __or__(self, other: "Proof") -> "Proof":
        return Proof(
            {**self.headers, **other.headers}, {**self.query, **other.query}, {**self.cookies, **other.cookies}
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """Minted by `python -m app.dev credentials`: what the service is started with, and what a client sends."""

    environment: Mapping[str, str]
    schemes: Mapping[str, Proof]

    @classmethod
    def parse(cls, text: str) -> "Credentials":
        """Read the JSON object in the last line of `text`. Raises ValueError for anything else."""
        lines = text.strip().splitlines()
        data = json.loads(lines[-1]) if lines else None
        if not isinstance(data, dict) or not isinstance(data.get("environment"), dict):
            raise ValueError("no credentials object")
        schemes = {name: _proof(given) for name, given in dict(data.get("schemes", {})).items()}
        return cls({str(k): str(v) for k, v in data["environment"].items()}, schemes)

    def for_security(self, security: Sequence[Mapping[str, Any]]) -> Proof:
        """What satisfies the first alternative that we can prove; nothing for an open operation.

        Raises NotReady when no alternative can be proved.
        """
        for alternative in security:
            if all(name in self.schemes for name in alternative):
                proof = Proof()
                for name in alternative:
                    proof |= self.schemes[name]
                return proof
        if security:
            raise NotReady(f"no credentials were minted for {sorted(security[0])}")
        return Proof()


def _proof(given: Any) -> Proof:
    def part(name: str) -> dict[str, str]:
        return {str(key): str(value) for key, value in dict(given.get(name) or {}).items()}

    return Proof(part("headers"), part("query"), part("cookies"), str(given.get("description", "")))


@dataclass(frozen=True, slots=True)
class LiveService:
    """A running service. `ready_s`: from the start of the process to the first 200 of the ready check."""

    url: str  # http://127.0.0.1:port, without the base path
    port: int
    base_path: str
    dsn: str
    credentials: Credentials
    ready_s: float
    postgresql: str
    running: Running
    facts: Mapping[str, Any]

    def path(self, name: str) -> str:
        """Path of `live`, `ready`, `metrics` or `document`."""
        return well_known(self.facts, name)


def well_known(facts: Mapping[str, Any], name: str) -> str:
    """Where the manifest says that health, metrics and the document are."""
    usual = {"live": "/health/live", "ready": "/health/ready", "metrics": "/metrics", "document": "/openapi.json"}
    return str(facts.get("paths", {}).get(name, usual[name]))


@asynccontextmanager
async def live_service(
    trial: Trial, *, port: int = 0, credentials: Credentials | None = None, time_s: float = GATE_S
) -> AsyncIterator[LiveService]:
    """Bring the service of `trial` up on `port` (0: any free one) and take everything down afterwards.

    `credentials`: from an earlier run; absent, fresh ones are minted.

    Raises NotReady when the subject is at fault, EnvironmentUnfit when the machine is.
    """
    tools = trial.tools
    async with tools.databases.server(leash=tools.leash) as server:
        database = await server.database()
        accepted = await prepared(trial, database, credentials)
        environment = {"SERVICE_DATABASE_URL": database.dsn, "SERVICE_HOST": HOST, **accepted.environment}
        running, port, ready_s = await _started(trial, environment, port=port, time_s=time_s)
        try:
            yield LiveService(
                url=f"http://{HOST}:{port}",
                port=port,
                base_path=str(trial.subject.facts.get("base_path", "")).rstrip("/"),
                dsn=database.dsn,
                credentials=accepted,
                ready_s=ready_s,
                postgresql=database.version,
                running=running,
                facts=trial.subject.facts,
            )
        finally:
            await running.stop(grace_s=STOP_GRACE_S)
            trial.note(f"output of the service:\n{running.output().rstrip()}")


async def _started(
    trial: Trial, environment: Mapping[str, str], *, port: int, time_s: float
) -> tuple[Running, int, float]:
    """(process, port, seconds to ready). A free port may be taken before the service binds it: then another one."""
    clock = trial.tools.clock
    for attempt in range(PORT_ATTEMPTS):
        chosen = free_port(port)
        began = clock.monotonic()
        running = await trial.start(
            trial.runtime.python, "-m", "app", environment={**environment, "SERVICE_PORT": str(chosen)}, time_s=time_s
        )
        try:
            await until_ready(trial, running, f"http://{HOST}:{chosen}{well_known(trial.subject.facts, 'ready')}")
        except BaseException as exc:
            await running.stop(grace_s=STOP_GRACE_S)
            trial.note(f"output of the service:\n{running.output().rstrip()}")
            taken = isinstance(exc, NotReady) and "address already in use" in running.output().lower()
            if not taken:
                raise
            if port or attempt == PORT_ATTEMPTS - 1:
                raise EnvironmentUnfit(
                    f"port {chosen} on {HOST} is in use", remedy="choose another port, or close what uses it"
                ) from exc
        else:
            return running, chosen, round(clock.monotonic() - began, 3)
    raise AssertionError("the last attempt returns or raises")


async def prepared(trial: Trial, database: Database, known: Credentials | None) -> Credentials:
    """Migrate `database` and mint credentials unless they are known, side by side. Raises NotReady."""

    async def minted_or_known() -> Credentials:
        return known or await mint(trial)

    migrated, minted = await asyncio.gather(
        trial.run(
            trial.runtime.tool("alembic"),
            "upgrade",
            "head",
            environment={"SERVICE_DATABASE_URL": database.dsn},
            aside=True,
        ),
        minted_or_known(),
    )
    if migrated.exit_code:
        raise NotReady(f"alembic upgrade head ended with {migrated.exit_code}: {last_line(migrated.output)}")
    return minted


async def mint(trial: Trial) -> Credentials:
    """Throwaway credentials. They are not logged. Raises NotReady."""
    command = trial.command([trial.runtime.python, "-m", "app.dev", "credentials"])
    done = await trial.tools.sandbox.run(command, leash=trial.tools.leash)
    trial.note(f"$ {' '.join(trial.shown(command.argv))}\n[exit code {done.exit_code}; output not kept]")
    try:
        if done.exit_code == 0:
            return Credentials.parse(done.output)
    except (ValueError, TypeError, AttributeError):
        pass
    raise NotReady(f"app.dev credentials ended with {done.exit_code} and printed no credentials")


async def until_ready(trial: Trial, running: Running, url: str) -> None:
    """Poll `url` until it answers 200. Raises NotReady when the process ends or the time is up."""
    clock, limit_s = trial.tools.clock, trial.tools.settings.start_timeout_s
    deadline = clock.monotonic() + limit_s
    async with client() as http:
        while clock.monotonic() < deadline:
            if (code := running.exit_code()) is not None:
                raise NotReady(f"python -m app ended with {code}: {last_line(running.output())}")
            if (answer := await fetch(http, "GET", url)) is not None and answer.status_code == 200:
                return
            await clock.sleep(POLL_S)
    raise NotReady(f"not ready within {limit_s:g} s: {last_line(running.output())}")


def client() -> httpx.AsyncClient:
    """A client for loopback: no proxies, no redirects, short timeouts."""
    return httpx.AsyncClient(trust_env=False, timeout=10.0, follow_redirects=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer, bounded in size."""

    status_code: int
    headers: httpx.Headers
    content: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.content)

    @property
    def media_type(self) -> str:
        """Content type without parameters, lower case."""
        return str(self.headers.get("content-type", "")).partition(";")[0].strip().lower()


async def fetch(http: httpx.AsyncClient, method: str, url: str, **options: Any) -> Answer | None:
    """One exchange; None if no whole, reasonable answer came. A hostile service cannot fill our memory."""
    try:
        async with http.stream(method, url, **options) as response:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > BODY_BYTES:
                    return None
            return Answer(response.status_code, response.headers, bytes(content))
    except (httpx.HTTPError, httpx.InvalidURL):
        return None


def free_port(wanted: int = 0) -> int:
    """`wanted`, or a TCP port that was free a moment ago. Raises EnvironmentUnfit when it is taken or there is none.

    Asked before the start: whoever holds the port could answer our ready check in the service's place.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, wanted))
            return int(probe.getsockname()[1])
    except OSError as exc:
        what = f"port {wanted} on {HOST} cannot be used" if wanted else f"no free port on {HOST}"
        raise EnvironmentUnfit(f"{what}: {exc.strerror}", remedy="choose another port, or close what uses it") from exc


@asynccontextmanager
async def served(
    subject: Subject, tools: Tools, *, port: int = 0, credentials: Credentials | None = None
) -> AsyncIterator[LiveService]:
    """A project, running and ready: environment from its runtime lock, throwaway database, credentials.

    Everything is taken down at the end. Raises NotReady, EnvironmentUnfit.
    """
    async with open_trial("serve", subject, tools) as trial:
        if not trial.runtime.python.exists() and (
            fault := await create_environment(trial, trial.runtime.folder, RUNTIME_LOCK)
        ):
            raise NotReady(fault)
        async with live_service(trial, port=port, credentials=credentials, time_s=SERVE_S) as service:
            yield service
