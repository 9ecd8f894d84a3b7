"""A service in a folder, run here: what its gates and `serve` need, credentials that stay valid, a first call."""

import os
import shlex
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson

from agent import app as root
from agent.cli.common import Exit, fail, stderr
from agent.clock import SystemClock
from agent.errors import EnvironmentUnfit
from agent.gates.gate import Subject, Tools
from agent.gates.live import Credentials, LiveService, Proof, client, fetch, served
from agent.gates.project import project_files
from agent.sandbox.port import Leash
from agent.settings import Settings

MAX_AGE_S = 12 * 3600  # of kept credentials: minted tokens expire


@asynccontextmanager
async def subject_of(settings: Settings, folder: Path) -> AsyncIterator[tuple[Subject, Tools]]:
    """A project and what is needed to run it; scratch space is removed at the end. Ends with exit code 2 for another folder."""
    try:
        facts = root.facts_of(folder)
    except EnvironmentUnfit as exc:
        fail(Exit.BAD_INPUT, str(exc), exc.remedy)
    tools = root.workshop(settings)
    async with tools.sandbox.scratch("verify") as work:
        subject = Subject(folder=folder, work=work, digest=project_files(folder).digest, facts=facts)
        yield (
            subject,
            Tools(tools.sandbox, tools.databases, tools.artifacts, SystemClock(), Leash(), settings.gates, _say),
        )


def _say(line: str) -> None:
    stderr.print(f"  {line}", style="dim", markup=False)


class KeptCredentials:
    """Throwaway credentials of one service, kept between runs so that a `curl` stays valid; one file, mode 0600."""

    def __init__(self, settings: Settings, subject: Subject) -> None:
        # By digest: other code may declare other schemes. Names in a manifest are not ours to trust as paths.
        self._path = (
            settings.workspace.absolute() / "credentials" / f"{subject.digest.removeprefix('sha256:')[:16]}.json"
        )

    def load(self) -> Credentials | None:
        """Those of an earlier run, less than a day old."""
        try:
            if time.time() - self._path.stat().st_mtime > MAX_AGE_S:
                return None
            return Credentials.parse(self._path.read_text())
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, credentials: Credentials) -> None:
        """Write them if they are new."""
        if self.load() is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(asdict(credentials)))


@asynccontextmanager
async def service_of(settings: Settings, folder: Path, *, port: int = 0) -> AsyncIterator[LiveService]:
    """A project, running and ready, with credentials that an earlier run may have printed. Raises NotReady, EnvironmentUnfit."""
    async with subject_of(settings, folder) as (subject, tools):
        kept = KeptCredentials(settings, subject)
        async with served(subject, tools, port=port, credentials=kept.load()) as service:
            kept.keep(service.credentials)
            yield service


async def first_answer(settings: Settings, folder: Path) -> tuple[str, str]:
    """Start a delivered service, try its first call, stop it: (the `curl` for port 8080, what was answered)."""
    async with service_of(settings, folder) as service, client() as http:
        path, proof = _first_request(service.facts, service.credentials)
        answer = await fetch(
            http,
            "GET",
            service.url + path,
            headers=dict(proof.headers),
            params=dict(proof.query),
            cookies=dict(proof.cookies),
        )
        said = f"{answer.status_code} {answer.content[:200].decode(errors='replace')}" if answer else "no answer"
        return first_call(service.facts, service.credentials, "http://127.0.0.1:8080"), said


def _first_request(facts: Any, credentials: Credentials) -> tuple[str, Proof]:
    """Path and credentials of the first derived read that needs no parameter; the document where there is none."""
    for operation in facts["operations"]:
        is_read = operation["verdict"] == "derived" and operation["method"] == "GET" and not operation["path_keys"]
        if is_read and not any(parameter["required"] for parameter in operation["parameters"]):
            return operation["path"], credentials.for_security(operation["security"])
    return facts["paths"]["document"], Proof()


def first_call(facts: Any, credentials: Credentials, url: str) -> str:
    """A `curl` command with a working credential."""
    path, proof = _first_request(facts, credentials)
    query = "?" + urlencode(proof.query) if proof.query else ""
    words = ["curl", "-si", f"{url}{path}{query}"]
    for name, value in proof.headers.items():
        words += ["-H", f"{name}: {value}"]
    for name, value in proof.cookies.items():
        words += ["-b", f"{name}={value}"]
    return shlex.join(words)
