"""Every gate on the reference service and on a broken one: it passes where it should, and fires where it must.

One environment for the whole file, made by the gate `install` itself; short figures: the mechanism is tested here, the
measuring happens in the gates.
"""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent.app import package_cache
from agent.artifacts.folder import FolderArtifacts
from agent.clock import SystemClock
from agent.gates.gate import Gate, Subject, Tools
from agent.gates.project import project_files
from agent.gates.suite import GATES, run_gate
from agent.sandbox.local import LocalSandbox
from agent.sandbox.port import Leash
from agent.services.embedded import EmbeddedPostgres
from agent.settings import GateSettings, PostgresSettings, SandboxSettings
from contracts.delivery import Evidence, GateVerdict
from tests.acceptance.reference import reference_project

pytestmark = pytest.mark.acceptance

SETTINGS = GateSettings(
    fuzz_examples=2, load_rate=30, load_duration_s=1, load_rows=500, load_p95_max_ms=5000, load_quiet_wait_s=0
)
PASS, FAIL, SKIPPED = GateVerdict.PASS, GateVerdict.FAIL, GateVerdict.SKIPPED
BY_NAME = {gate.name: gate for gate in GATES}

# A start module that puts something between the server and the application; works with any text of the original.
WRAPPED = """
import json
import sys

import app.main

made = app.main.create_app


def create_app(*arguments, **options):
    inner = made(*arguments, **options)

    async def application(scope, receive, send):
{body}
        await inner(scope, receive, send)

    return application


app.main.create_app = create_app
from app.original import main

sys.exit(main())
"""
ANSWER = """
        if scope["type"] == "http" and {condition}:
            await send({{"type": "http.response.start", "status": {status}, "headers": [(b"content-type", b"application/json")]}})
            await send({{"type": "http.response.body", "body": {content}}})
            return
"""


@dataclass(frozen=True)
class Workshop:
    """The reference project, its environment, and the tools."""

    project: Path
    work: Path
    tools: Tools
    installed: Evidence

    def subject(self, project: Path) -> Subject:
        """A project to be checked, with the shared environment."""
        facts = json.loads((project / ".backwright/manifest.json").read_bytes())
        return Subject(project, self.work, project_files(project).digest, facts)

    async def check(self, name: str, project: Path, **settings: Any) -> Evidence:
        """Run one gate whose needs are met."""
        gate: Gate = replace(BY_NAME[name], needs=())
        tools = replace(self.tools, settings=self.tools.settings.model_copy(update=settings))
        return await run_gate(gate, self.subject(project), tools, {})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def workshop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workshop]:
    """Made once: a second environment costs more than all the checks."""
    sandbox = LocalSandbox(SandboxSettings(), package_cache())
    project = tmp_path_factory.mktemp("reference")
    reference_project(project)
    tools = Tools(
        sandbox, EmbeddedPostgres(sandbox, PostgresSettings()), FolderArtifacts(tmp_path_factory.mktemp("artefacts")),
        SystemClock(), Leash(), SETTINGS,
    )  # fmt: skip
    async with sandbox.scratch("work-") as work:
        bare = Workshop(project, work, tools, Evidence(gate="install", verdict=SKIPPED, summary=""))
        yield replace(bare, installed=await bare.check("install", project))
    sandbox.close()


@pytest.fixture
def broken(workshop: Workshop, tmp_path: Path) -> Path:
    """A copy of the reference project, to be broken."""
    folder = tmp_path / "broken"
    shutil.copytree(workshop.project, folder)
    return folder


def append(project: Path, path: str, text: str) -> None:
    """Add to a file of the project (made if it is not there)."""
    with (project / path).open("a") as file:
        file.write(text)


def wrap(project: Path, body: str) -> None:
    """Put `body` between the server and the application."""
    (project / "app/__main__.py").rename(project / "app/original.py")
    (project / "app/__main__.py").write_text(WRAPPED.format(body=body))


def answer(condition: str, status: int, content: str = 'b"{}"') -> str:
    """A `body` for `wrap`: answer at once where `condition` on `scope` holds."""
    return ANSWER.format(condition=condition, status=status, content=content)


# --- The reference passes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [gate.name for gate in GATES if gate.name not in {"install", "container"}])
@pytest.mark.asyncio(loop_scope="session")
async def test_the_reference_passes(workshop: Workshop, name: str) -> None:
    """A gate that fires on everything proves nothing; and the evidence says everything that it must."""
    evidence = await workshop.check(name, workshop.project)

    assert evidence.verdict is PASS, (evidence.summary, evidence.details)
    assert evidence.subject_digest == project_files(workshop.project).digest
    assert evidence.value is not None
    assert evidence.command
    assert evidence.isolation
    assert evidence.started_at is not None
    assert evidence.log is not None
    assert await workshop.tools.artifacts.get(evidence.log)
    assert str(workshop.work) not in " ".join(evidence.command)


@pytest.mark.asyncio(loop_scope="session")
async def test_the_reference_installs(workshop: Workshop) -> None:
    """From both lock files, hashes checked."""
    assert workshop.installed.verdict is PASS, workshop.installed.summary
    assert workshop.installed.tool_version


# --- The broken fail ------------------------------------------------------------------------------------------------


def wrong_hash(project: Path) -> None:
    """A package that is not the one that was locked."""
    lock = project / "requirements-dev.lock"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", lock.read_text()))


def undeclared_import(project: Path) -> None:
    """Code that needs a development package."""
    append(project, "app/extra.py", "import hypothesis\n\n__all__ = ['hypothesis']\n")


def lint_fault(project: Path) -> None:
    """An unused import."""
    append(project, "app/extra.py", '"""Extra."""\n\nimport os\n')


def unformatted(project: Path) -> None:
    """Quotes of the other kind."""
    append(project, "app/extra.py", "NAME = 'text'\n")


def type_fault(project: Path) -> None:
    """A text that is called a number."""
    append(project, "app/extra.py", '"""Extra."""\n\nVALUE: int = "text"\n')


def unsafe_code(project: Path) -> None:
    """A shell with somebody else's text in it."""
    append(
        project,
        "app/extra.py",
        "import subprocess\n\n\ndef run(text: str) -> None:\n    subprocess.call(text, shell=True)\n",
    )


def one_test(text: str) -> Callable[[Path], None]:
    """Replace the project's tests by one."""

    def change(project: Path) -> None:
        shutil.rmtree(project / "tests")
        (project / "tests").mkdir()
        (project / "tests/test_one.py").write_text(text)

    return change


def no_downgrade(project: Path) -> None:
    """A downgrade that does nothing."""
    for path in (project / "migrations/versions").glob("*.py"):
        append(project, path.relative_to(project).as_posix(), "\n\ndef downgrade() -> None:\n    pass\n")


def broken_upgrade(project: Path) -> None:
    """An upgrade that raises."""
    for path in (project / "migrations/versions").glob("*.py"):
        append(
            project, path.relative_to(project).as_posix(), "\n\ndef upgrade() -> None:\n    raise RuntimeError('no')\n"
        )


def dies_at_once(project: Path) -> None:
    """A start that ends."""
    (project / "app/__main__.py").write_text("raise SystemExit('no luck')\n")


def no_metrics(project: Path) -> None:
    """Metrics that are none."""
    wrap(project, answer('scope["path"] == "/metrics"', 200))


def not_found(path: str) -> Callable[[Path], None]:
    """Nothing at this path."""
    return lambda project: wrap(project, answer(f'scope["path"] == "{path}"', 404))


def other_document(project: Path) -> None:
    """A served document that is not the delivered one."""
    wrap(project, answer('scope["path"] == "/openapi.json"', 200, 'b\'{"openapi": "3.1.0"}\''))


def server_errors(project: Path) -> None:
    """Every fourth request to the API fails."""
    body = '        create_app.seen = getattr(create_app, "seen", 0) + 1\n'
    wrap(
        project,
        body + answer('create_app.seen % 4 == 0 and scope["path"] not in ("/health/ready", "/openapi.json")', 500),
    )


def fake_success(project: Path) -> None:
    """Hooked operations that pretend."""
    wrap(project, answer('scope["path"] not in ("/health/ready", "/openapi.json")', 200))


BROKEN: Mapping[str, tuple[str, Callable[[Path], None], str]] = {
    "a package with another hash": ("install", wrong_hash, "could not be installed"),
    "an import of a development package": ("install", undeclared_import, "does not import with requirements.lock alone"),
    "no lock file": ("install", lambda p: (p / "requirements.lock").unlink(), "no requirements.lock"),
    "an unused import": ("lint", lint_fault, "1 findings"),
    "code that is not formatted": ("lint", unformatted, "0 findings, 1 files not formatted"),
    "a wrong type": ("types", type_fault, "1 errors"),
    "a shell command": ("security", unsafe_code, "1 findings of medium or high severity"),
    "a failing test": ("tests", one_test("def test_it() -> None:\n    assert 1 == 2\n"), "1 failed"),
    "a skipped test": (
        "tests",
        one_test("import pytest\n\n\n@pytest.mark.skip\ndef test_it() -> None: ...\n\n\ndef test_other() -> None: ...\n"),
        "1 skipped",
    ),
    "no tests": ("tests", one_test(""), "no test passed"),
    "too little coverage": ("tests", one_test("def test_it() -> None:\n    assert True\n"), "is below 80 %"),
    "a downgrade that does nothing": ("migrations", no_downgrade, "downgrade leaves"),
    "an upgrade that raises": ("migrations", broken_upgrade, "alembic upgrade head ended with 1"),
    "a start that ends": ("start", dies_at_once, "no luck"),
    "no metrics": ("start", no_metrics, "no Prometheus metrics are exposed"),
    "no ready check": ("start", not_found("/health/ready"), "not ready within 3 s"),
    "another document": ("document", other_document, "differs in"),
    "no document": ("document", not_found("/openapi.json"), "answers 404"),
    "a fake success": ("holes", fake_success, "answers 200, not 501"),
    "server errors": ("fuzz", server_errors, "failures"),
    "no Dockerfile": ("container", lambda p: (p / "Dockerfile").unlink(), "no Dockerfile"),
}  # fmt: skip


# --- The image ------------------------------------------------------------------------------------------------------


async def built(workshop: Workshop, project: Path, dockerfile: str) -> Evidence:
    """The evidence of a Dockerfile; the test is skipped where no engine answers."""
    (project / "Dockerfile").write_text(dockerfile)
    evidence = await workshop.check("container", project)
    if evidence.verdict is SKIPPED and "no container engine" in evidence.summary:
        pytest.skip(evidence.summary)
    return evidence


@pytest.mark.asyncio(loop_scope="session")
async def test_an_image_is_built(workshop: Workshop, broken: Path) -> None:
    """By the engine's own word; nothing of it stays."""
    evidence = await built(workshop, broken, "FROM scratch\nCOPY openapi.json /\n")

    assert evidence.verdict is PASS, evidence.summary
    assert evidence.summary.startswith(f"built by {evidence.tool} {evidence.tool_version}")
    assert evidence.command[:2] == (evidence.tool, "build")
    assert "the privileges of the agent" in str(evidence.isolation)


@pytest.mark.asyncio(loop_scope="session")
async def test_an_image_that_cannot_be_built_fails(workshop: Workshop, broken: Path) -> None:
    """The last line of the engine stands in the summary."""
    evidence = await built(workshop, broken, "FROM scratch\nCOPY not-there /\n")

    assert evidence.verdict is FAIL, evidence.summary
    assert "not-there" in evidence.summary


@pytest.mark.asyncio(loop_scope="session")
async def test_an_image_that_is_not_here_is_not_fetched(workshop: Workshop, broken: Path) -> None:
    """Neither as a base nor to take a file from it."""
    evidence = await built(workshop, broken, "FROM scratch\nCOPY --from=backwright/nowhere:1 /a /b\n")

    assert evidence.verdict is SKIPPED
    assert "backwright/nowhere:1 is not on this machine" in evidence.summary


# What a person has to find is named in the evidence, not in the log alone.
NAMED = {
    "an unused import": "app/extra.py:3:8: F401",
    "code that is not formatted": "not formatted: app/extra.py",
    "a wrong type": "app/extra.py:3: error",
    "a shell command": "app/extra.py",
    "a failing test": "::test_it",
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.asyncio(loop_scope="session")
async def test_the_broken_one_fails(workshop: Workshop, broken: Path, fault: str) -> None:
    """The gate fires, says why in one line, and keeps the log."""
    gate, breaks, why = BROKEN[fault]
    breaks(broken)

    if gate == "install":
        # In a folder of its own: the shared environment stays whole.
        async with workshop.tools.sandbox.scratch("work-") as work:
            evidence = await replace(workshop, work=work).check(gate, broken)
    else:
        evidence = await workshop.check(gate, broken, start_timeout_s=3 if "not ready" in why else 30)

    assert evidence.verdict is FAIL, evidence.summary
    assert why in evidence.summary
    assert evidence.log is not None
    if names := NAMED.get(fault):
        assert [told for told in evidence.details["faults"] if names in told], evidence.details


@pytest.mark.asyncio(loop_scope="session")
async def test_load_holds_its_figure_against_the_setting(workshop: Workshop) -> None:
    """The threshold is a setting; the figure is measured and shown in any case."""
    evidence = await workshop.check("load", workshop.project, load_p95_max_ms=0.001)

    assert evidence.verdict is FAIL, evidence.summary
    assert "not below 0.001 ms" in evidence.summary
    assert isinstance(evidence.value, float)


@pytest.mark.asyncio(loop_scope="session")
async def test_load_fails_on_errors_under_load(workshop: Workshop, broken: Path) -> None:
    """Refusals in the rehearsal are our fault; server errors are the service's, and count."""
    server_errors(broken)

    evidence = await workshop.check("load", broken)

    assert evidence.verdict is FAIL, evidence.summary
    assert "errors" in evidence.summary


@pytest.mark.asyncio(loop_scope="session")
async def test_a_folder_that_changed_after_its_digest_fails(workshop: Workshop, broken: Path) -> None:
    """Evidence is about a digest, or it is about nothing."""
    subject = workshop.subject(broken)
    append(broken, "app/extra.py", "\n")

    evidence = await run_gate(replace(BY_NAME["lint"], needs=()), subject, workshop.tools, {})

    assert evidence.verdict is FAIL
    assert evidence.summary == "the folder changed after its digest was taken"


@pytest.mark.asyncio(loop_scope="session")
async def test_a_cancelled_gate_leaves_no_process(workshop: Workshop) -> None:
    """Server, database, service and generator end before the cancellation is through."""
    under_load = asyncio.Event()

    def progress(line: str) -> None:
        if line.startswith("load:") and "rows" in line:
            under_load.set()

    tools = replace(workshop.tools, progress=progress)
    gate = replace(BY_NAME["load"], needs=())
    task = asyncio.create_task(run_gate(gate, workshop.subject(workshop.project), tools, {}))
    await asyncio.wait_for(under_load.wait(), 60)
    base = workshop.work.parent
    assert children_below(base)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert children_below(base) == []


def children_below(base: Path) -> list[str]:
    """Command lines of living processes that name a folder of this sandbox."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                dead = "\nState:\tZ" in (entry / "status").read_text()
            except OSError:
                continue
            if str(base) in line and not dead:
                found.append(line)
    return found
