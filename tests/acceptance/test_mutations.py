"""The tests that a service carries have teeth: each fault that is planted in our demonstration's service fails them.

Only the module that tells of the fault is run, so that it is this module that fails, and not the library's tests. One
environment and one PostgreSQL serve all; a mutation costs some seconds.
"""

import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from agent.app import package_cache
from agent.artifacts.folder import FolderArtifacts
from agent.cli.demo import DEMO_DOCUMENT
from agent.clock import SystemClock
from agent.compiler.compile import compile_document
from agent.formatting import ruff_format
from agent.gates import environment
from agent.gates.gate import Subject, Tools
from agent.gates.project import project_files
from agent.gates.trial import open_trial
from agent.sandbox.local import LocalSandbox
from agent.sandbox.port import Completed, Leash
from agent.services.embedded import EmbeddedPostgres
from agent.services.port import PostgreSQL
from agent.settings import CompilerSettings, GateSettings, PostgresSettings, SandboxSettings
from contracts.delivery import GateVerdict
from contracts.tasks import Target

pytestmark = [pytest.mark.acceptance, pytest.mark.asyncio(loop_scope="module")]


@dataclass(frozen=True)
class Mutation:
    """A fault: in a file, every place of a pattern becomes something else. `module` of the tests must fail."""

    name: str
    file: str
    pattern: str
    instead: str
    module: str


EQUIPMENT, INSPECTIONS = "app/routers/equipment.py", "app/routers/inspections.py"
MUTATIONS = (
    # what the document decides: woven files
    Mutation("a filter is skipped", EQUIPMENT, r'Filter\("status", "status"\),', "", "equipment"),
    Mutation("a bound excludes its value", EQUIPMENT, r"Operator\.AT_LEAST", "Operator.GREATER", "equipment"),
    Mutation("a filter looks elsewhere", EQUIPMENT, r'"maxDailyRate", "dailyRate"', '"maxDailyRate", "name"', "equipment"),
    Mutation("a search forgets a property", EQUIPMENT, r'\("name", "model"\)', '("name",)', "equipment"),
    Mutation("an order is swapped", EQUIPMENT, r'"-dailyRate": \("dailyRate", True\)', '"-dailyRate": ("dailyRate", False)', "equipment"),
    Mutation("pages count from another number", EQUIPMENT, r"first_page=1", "first_page=0", "equipment"),
    Mutation("a wrong status", EQUIPMENT, r"Answer\(201", "Answer(200", "equipment"),
    Mutation("PATCH overwrites", EQUIPMENT, r"whole=False", "whole=True", "equipment"),
    Mutation("PUT keeps what is left out", EQUIPMENT, r"whole=True", "whole=False", "equipment"),
    Mutation("DELETE does not", EQUIPMENT, r"crud\.remove\(", "crud.read(", "equipment"),
    Mutation("a row is found below another parent", INSPECTIONS, r'"id", via="equipmentId"\)', '"id")', "inspections"),
    Mutation("one property is stored as another", "app/shapes.py", r'Shown\("startsOn", "startsOn"\)', 'Shown("startsOn", "endsOn")', "rentals"),
    Mutation("what is referred to is deleted", "migrations/versions/0001_initial.py", r'ondelete="RESTRICT"', 'ondelete="CASCADE"', "equipment"),
    Mutation("the document forgets a bound", "openapi.json", r'"minimum": 0,', "", "equipment"),
    # what is the same in every service
    Mutation("anybody may call", "app/endpoint.py", r"self\._contract\.security\)", "())", "customers"),
    Mutation("a cursor is off by one", "app/crud/listing.py", r"rows\[-1\]\)", "rows[0])", "customers"),
    Mutation("new rows move a page", "app/crud/paging.py", r"limit, after=read_cursor\(.*\) if position else None", "limit, 2 if position else 0", "customers"),
    Mutation("a page is one row short", "app/crud/listing.py", r"rows\[: page\.limit\]", "rows[: page.limit - 1]", "rentals"),
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """The service as it is delivered, its environment, and a server for all of its databases."""

    project: Path
    work: Path
    tools: Tools
    server: PostgreSQL

    def subject(self, project: Path) -> Subject:
        """A project to be tested, with the shared environment."""
        return Subject(project, self.work, project_files(project).digest, {})

    async def test(self, project: Path, *modules: str) -> Completed:
        """Run modules of the service's own tests on a database of their own."""
        async with open_trial("mutation", self.subject(project), self.tools) as trial:
            database = await self.server.database()
            paths = [f"tests/test_{module}.py" for module in modules]
            return await trial.run(
                trial.environment.python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *paths,
                environment={"SERVICE_TEST_DATABASE_URL": database.dsn},
            )  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """Made once."""
    sandbox = LocalSandbox(SandboxSettings(), package_cache())
    project = tmp_path_factory.mktemp("demonstration")
    compile_document(
        DEMO_DOCUMENT.read_bytes(),
        service=None,
        target=Target.PYTHON_FASTAPI,
        settings=CompilerSettings(),
        format=ruff_format,
    ).files.write(project)
    databases = EmbeddedPostgres(sandbox, PostgresSettings())
    artifacts = FolderArtifacts(tmp_path_factory.mktemp("artefacts"))
    tools = Tools(sandbox, databases, artifacts, SystemClock(), Leash(), GateSettings())
    async with sandbox.scratch("work-") as work, databases.server(leash=Leash()) as server:
        made = Bench(project, work, tools, server)
        installed = await environment.check(made.subject(project), tools)
        assert installed.verdict is GateVerdict.PASS, installed.summary
        yield made
    sandbox.close()


async def test_service_as_it_is_delivered_passes(bench: Bench) -> None:
    """A module that fails without a fault would prove nothing below."""
    done = await bench.test(bench.project, *{mutation.module for mutation in MUTATIONS})

    assert done.exit_code == 0, done.output[-3000:]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "-"))
async def test_fault_fails_the_tests_of_the_service(bench: Bench, tmp_path: Path, mutation: Mutation) -> None:
    """A test fails, on an assertion: not the import, not the collection, not the database."""
    project = tmp_path / "mutated"
    shutil.copytree(bench.project, project)
    file = project / mutation.file
    text, places = re.subn(mutation.pattern, lambda _: mutation.instead, file.read_text("utf-8"))
    assert places, f"{mutation.file} holds no {mutation.pattern}: this mutation must be written anew"
    file.write_text(text, "utf-8")

    done = await bench.test(project, mutation.module)

    assert done.exit_code == 1, done.output[-3000:]
    assert re.search(r"\b1 failed\b", done.output), done.output[-3000:]
