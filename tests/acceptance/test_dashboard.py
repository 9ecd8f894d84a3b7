"""Every query of the dashboard and every alert rule, on a real Prometheus that scrapes a real agent at work.

What Grafana provisions proves nothing: it loads broken queries silently. So the agent does here what the panels show:
it refuses a document, gets a record that nobody can read, builds a service, and is told to stop amid the gates.
"""

import asyncio
import contextlib
import json
import math
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.bus.embedded import EmbeddedBroker, embedded_settings
from agent.bus.kafka import KafkaBus
from agent.bus.port import Outgoing
from agent.testing.process import AgentProcess
from agent.testing.waiting import until
from contracts.codec import encode, task_id
from contracts.control import TaskCancel
from contracts.envelope import TASK_CANCEL, TASK_REQUESTED, Envelope
from contracts.samples import DOCUMENT
from contracts.tasks import Specification, TaskRequested
from tests.dashboard import ALERTS, ROOT, queries

pytestmark = pytest.mark.acceptance

Alive = Callable[[], str | None]

SOURCE = "/tests/dashboard"
LIMIT_S = 300.0
QUICK = {"BACKWRIGHT_CONTEXT__TIMEOUT_S": "0.2"}  # nobody answers here
GATES_AT_WORK = "sum(backwright_gates_total) >= 2"
STOPPED = 'sum(backwright_tasks_finished_total{verdict="cancelled"}) >= 1 and sum(backwright_outbox_pending) == 0'
REFUSED = "max(backwright_dead_letters_stored) >= 1"


class Prometheus:
    """The real one, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer; a refused query raises with Prometheus' own words."""
        url = f"{self._base}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def values(self, expr: str) -> list[float]:
        """Figures of an instant query, without those that are not numbers."""
        found = [float(row["value"][1]) for row in self.get("/api/v1/query", query=expr)["result"]]
        return [value for value in found if not math.isnan(value)]

    async def until(self, expr: str, *, alive: Alive) -> None:
        """Return once `expr` has a value; fails with what `alive` says when the agent has died or time is up."""

        async def has_value() -> bool:
            if trouble := alive():
                pytest.fail(f"waiting for {expr}: {trouble}")
            return bool(await asyncio.to_thread(self.values, expr))

        await until(has_value, f"a value of {expr}", limit_s=LIMIT_S, every_s=0.5)


async def test_every_query_returns_data_while_the_agent_works(tmp_path: Path) -> None:
    """An empty panel is found here, not on the night when somebody needs it."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt install prometheus)")
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(EmbeddedBroker())
        argv = (sys.executable, "-m", "agent", "run")
        agent = AgentProcess(tmp_path / "workspace", servers, argv=argv, environment=QUICK)
        await stack.enter_async_context(agent)
        await agent.wait_ready()
        prometheus = await stack.enter_async_context(_prometheus(program, agent.port, tmp_path))
        alive = _alive(agent)
        await prometheus.until('up{job="backwright"} == 1', alive=alive)

        await _publish(servers, [_request("bad", "swagger: '2.0'"), _garbage(), _request("good", DOCUMENT)])
        await prometheus.until(GATES_AT_WORK, alive=alive)
        await _publish(servers, [_cancel("good")])
        await prometheus.until(STOPPED, alive=alive)
        await prometheus.until(REFUSED, alive=alive)

        empty = [f"{query.panel}: {query.expr}" for query in queries() if not prometheus.values(_filled(query))]
        groups = prometheus.get("/api/v1/rules")["groups"]
        assert await agent.kill(signal.SIGTERM) == 0
    assert not empty
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == _alert_names()
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []


def _alive(agent: AgentProcess) -> Alive:
    return lambda: None if agent.exit_code is None else f"the agent ended with {agent.exit_code}: {agent.tail()}"


def _filled(query: Any) -> str:
    filled: str = query.concrete(rate_interval="5m", range_="15m")
    return filled


def _alert_names() -> set[str]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def _request(service: str, document: str) -> Outgoing:
    payload = TaskRequested(service=service, specification=Specification(content=document))
    encoded = encode(TASK_REQUESTED, Envelope(service, SOURCE, TASK_REQUESTED.wire), payload, key=service)
    return Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers)


def _cancel(service: str) -> Outgoing:
    task = task_id(SOURCE, service)
    envelope = Envelope(f"stop-{service}", SOURCE, TASK_CANCEL.wire, subject=task)
    encoded = encode(TASK_CANCEL, envelope, TaskCancel(task_id=task), key=task)
    return Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers)


def _garbage() -> Outgoing:
    return Outgoing(TASK_REQUESTED.topic.name, b"\xfe", b"\x00\xff not a task", ())


async def _publish(servers: str, records: list[Outgoing]) -> None:
    producer = KafkaBus(embedded_settings(servers)).producer()
    await producer.start()
    try:
        await producer.send(records)
    finally:
        await producer.stop()


@asynccontextmanager
async def _prometheus(program: str, target: int, folder: Path) -> AsyncIterator[Prometheus]:
    """Prometheus with the rules of deploy/, scraping the agent each second."""
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {"job_name": "backwright", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]},
        ],
    }
    file, port = folder / "prometheus.yaml", _free_port()
    file.write_text(yaml.safe_dump(configuration))
    argv = [program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    async with _process(argv, folder / "prometheus.log", None) as alive:

        async def is_ready() -> bool:
            if trouble := alive():
                pytest.fail(trouble)
            return await asyncio.to_thread(_is_ready, port)

        await until(is_ready, "Prometheus", limit_s=30, every_s=0.1)
        yield Prometheus(port)


@asynccontextmanager
async def _process(argv: list[str], log: Path, environment: dict[str, str] | None) -> AsyncIterator[Alive]:
    """A program that logs to a file and is ended by SIGTERM; the function says what is wrong with it, if anything."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )  # fmt: skip

    def alive() -> str | None:
        if process.returncode is None:
            return None
        return f"{argv[0]} ended with {process.returncode}: {log.read_text(errors='replace')[-3000:]}"

    try:
        yield alive
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 40)
        except TimeoutError:
            process.kill()
            await process.wait()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
