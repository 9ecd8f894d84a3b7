"""Documents at the edges become projects that parse, are clean under the service's own linter, and lie where they should."""

import ast
import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
import yaml

from agent.compiler.compile import Compilation
from agent.formatting import ruff
from tests.golden.variants import EVIL, VARIANTS
from tests.golden.weaving import SKELETON, compiled

Json = Any
SPECS = Path(__file__).resolve().parents[3] / "shared" / "specs"
GOLDEN = Path(__file__).parent / "specs" / "positive"


@pytest.fixture(scope="module")
def woven() -> dict[str, Compilation]:
    """Every variant, woven once."""
    return {name: compiled(document) for name, document in VARIANTS.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_python_file_parses(woven: dict[str, Compilation], name: str) -> None:
    """Whatever stands in a document stays text."""
    for path, file in woven[name].files.items():
        if path.endswith(".py"):
            tree = ast.parse(file.content)
            calls = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "system"]
            assert not calls, path


@pytest.mark.parametrize("name", VARIANTS)
def test_project_is_clean_under_its_own_linter(woven: dict[str, Compilation], name: str, tmp_path: Path) -> None:
    """Imports that are used, sorted and complete are decided in lower, not repaired afterwards."""
    woven[name].files.write(tmp_path)

    for command in (["check", "--no-cache", "."], ["format", "--no-cache", "--check", "."]):
        done = subprocess.run([ruff(), *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    assert_tests_are_typed(tmp_path)


def assert_tests_are_typed(project: Path) -> None:
    """For mypy alone, without the packages of the service: the gate has them, and costs a hundred times as much."""
    modules = [str(path.relative_to(project)) for path in sorted(project.glob("tests/test_*.py"))]
    command = [
        sys.executable, "-m", "mypy", "--config-file=", "--cache-dir=/dev/null", "--follow-imports=skip", "--ignore-missing-imports",
        *modules,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_operation_has_a_line_in_manifest_and_report(woven: dict[str, Compilation], name: str) -> None:
    """Nothing of the document is forgotten."""
    promised = sum(len([m for m in item if m != "parameters"]) for item in VARIANTS[name]["paths"].values())
    manifest = woven[name].manifest

    assert len(manifest["operations"]) == promised
    assert set(manifest["files"]) == set(woven[name].files) - {".backwright/manifest.json"}
    assert [path for path, fact in manifest["files"].items() if fact["owner"] == "seeded"] == ["app/hooks.py"]


def test_everything_hooked_has_a_hook_each(woven: dict[str, Compilation]) -> None:
    """A service without a single table still is a service."""
    compilation = woven["everything-hooked"]
    hooks = compilation.files["app/hooks.py"].content.decode()

    assert hooks.count("@unwritten(") == len(compilation.manifest["operations"])
    assert {operation["verdict"] for operation in compilation.manifest["operations"]} == {"hooked"}


def test_service_has_tests_of_what_its_document_has_and_of_nothing_else(woven: dict[str, Compilation]) -> None:
    """Open things are not tested for closed doors; actions that nobody wrote have no rows to test."""
    things = woven["no-auth"].files["tests/test_things.py"].content.decode()
    hooked = woven["everything-hooked"].files

    for kind in ("created_thing_is_read_back", "thing_is_replaced", "deleted_thing_is_gone", "every_thing_is_listed"):
        assert f"def test_{kind}(" in things, kind
    for kind in ("strangers", "are_sorted", "are_paged", "are_filtered", "patch"):
        assert kind not in things, kind
    assert "def " not in hooked["tests/factories.py"].content.decode()
    assert not any(b"What callers may count on" in file.content for file in hooked.values())


def test_hostile_names_are_kept_as_data(woven: dict[str, Compilation]) -> None:
    """The contract still has them; identifiers and paths have not."""
    compilation = woven["hostile-names"]

    assert EVIL in json.loads(compilation.files["openapi.json"].content)["info"]["title"]
    assert all("PWNED" not in path for path in compilation.files)
    for table in compilation.manifest["resources"]:
        assert all(column.isidentifier() for column in table["columns"])
        assert len(set(table["columns"])) == len(table["columns"])


def test_key_of_a_row_that_is_inserted_is_a_text_of_digits(woven: dict[str, Compilation]) -> None:
    """Nobody makes a source; its key must stand in the path that finds it."""
    factories = woven["more-pages"].files["tests/factories.py"].content.decode()

    assert '"id": str(next(numbers))' in factories


def test_key_of_a_row_that_is_inserted_follows_its_pattern() -> None:
    """Digits alone were refused by the path: 54 tests of a delivery failed."""
    document = copy.deepcopy(VARIANTS["more-pages"])
    like = {"type": "string", "minLength": 8, "maxLength": 8, "pattern": "^SR[0-9a-f]{6}$", "examples": ["SR00aa00"]}
    document["components"]["schemas"]["Source"]["properties"]["id"] = like
    document["paths"]["/sources/{id}"]["parameters"][0]["schema"] = like

    factories = compiled(document).files["tests/factories.py"].content.decode()
    assert '"id": f"SR00{next(numbers)}"' in factories


def test_key_that_a_client_may_leave_out_differs_in_tests() -> None:
    """The server makes one for who gives none; a factory that gives the same each time had 19 tests of a delivery fail."""
    document = copy.deepcopy(VARIANTS["no-auth"])
    document["components"]["schemas"]["Thing"] = {"type": "object", "properties": {"name": {"type": "string"}}}
    item = document["paths"].pop("/things/{id}")
    item["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    document["paths"]["/things/{name}"] = item

    factories = compiled(document).files["tests/factories.py"].content.decode()
    assert '"name": f"sample{next(numbers)}"' in factories


def test_key_that_the_server_counts_is_counted_without_a_format_too() -> None:
    """`id: {type: integer, readOnly: true}` became numeric, which PostgreSQL cannot count: every POST answered 409."""
    document = copy.deepcopy(VARIANTS["no-auth"])
    del document["components"]["schemas"]["Thing"]["properties"]["id"]["format"]

    tables = compiled(document).files["app/tables.py"].content.decode()
    assert 'Column("id", BigInteger(), Identity(), primary_key=True)' in tables


@pytest.mark.shared_specs
@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")) or [None], ids=lambda p: p.name if p else "absent")
def test_real_documents_compile_and_are_clean(path: Path | None, tmp_path: Path) -> None:
    """Nobody here wrote them."""
    if path is None:
        pytest.skip(f"no documents in {SPECS}")
    compilation = compiled(path.read_bytes())
    compilation.files.write(tmp_path)

    done = subprocess.run(
        [ruff(), "check", "--no-cache", "."], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert_tests_are_typed(tmp_path)
    document = yaml.safe_load(compilation.files["openapi.json"].content)
    assert compilation.digest.startswith("sha256:")
    assert document["openapi"].startswith("3.1")


def test_what_its_first_write_makes_is_not_expected_with_its_parent() -> None:
    """The fuzz of golden/devices took the twin that a new device has not yet for the device itself."""
    made = compiled((GOLDEN / "devices.yaml").read_bytes()).manifest["fuzz"]["exceptions"]

    assert [one["operation"] for one in made if one["rule"] == "made-by-first-write"] == ["get_twin"]


def test_nothing_says_where_a_body_of_alternatives_is_wrong() -> None:
    """The service tells that none of them fits; a test that asks for the place of a property would fail."""
    told = {}
    for name in ("no-auth", "optional-bodies"):
        document = copy.deepcopy(VARIANTS[name])
        for operation in (document["paths"]["/things"]["post"], document["paths"]["/things/{id}"]["put"]):
            del operation["responses"]["400"]
        tests = compiled(document).files["tests/test_things.py"].content.decode()
        told[name] = tests.count('["errors"][0]["pointer"]')

    assert told == {"no-auth": 2, "optional-bodies": 0}


def test_what_the_fuzz_tool_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body behind a reference may be shared: each operation gets its own copy without what is answered with 415.
    A whole number stands in a URL without a fraction."""
    document = copy.deepcopy(VARIANTS["no-auth"])
    post = document["paths"]["/things"]["post"]
    content = post["requestBody"]["content"]
    content["application/x-www-form-urlencoded"] = content["application/json"]
    document["components"]["requestBodies"] = {"a~b": post["requestBody"]}
    post["requestBody"] = {"$ref": "#/components/requestBodies/a~0b"}
    made = compiled(document)
    monkeypatch.setitem(sys.modules, "schemathesis", SimpleNamespace(hook=lambda hook: hook))
    facts: Json = {}
    exec(made.files["tests/fuzz.py"].content, facts)
    schema = json.loads(made.files["openapi.json"].content)

    facts["before_load_schema"](None, schema)

    case = SimpleNamespace(path_parameters={"id": 3.0, "name": "3.0"}, query={"at": 1.5, "from": -2.0})
    facts["before_call"](None, case, {})

    assert (case.path_parameters, case.query) == ({"id": 3, "name": "3.0"}, {"at": 1.5, "from": -2})
    assert str(case.path_parameters["id"]) == "3"
    assert [*schema["paths"]["/things"]["post"]["requestBody"]["content"]] == ["application/json"]
    [shared] = schema["components"]["requestBodies"].values()
    assert len(shared["content"]) == 2


async def test_credential_wins_over_a_parameter_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents name `X-API-Key` twice, as a security scheme and as a required header: its sample opens no door."""
    for name in ("app", "app.crud", "app.crud.entity", "app.crud.rows", "app.database", "app.main", "app.model",
                 "app.tables", "app.values", "tests.harness"):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, MagicMock())
    sys.modules["app.main"].ROOT = SKELETON  # type: ignore[attr-defined]
    sys.modules["app.main"].load_service.return_value.base_path = ""
    facts: Json = {"__name__": "api"}
    exec((SKELETON / "tests/api.py").read_bytes(), facts)
    client = AsyncMock()
    api = facts["Api"](client, None)
    api._credentials = lambda operation: {"headers": {"x-api-key": "real"}, "params": {}}
    facts["text"] = str
    header = {"name": "X-API-Key", "in": "header", "required": True, "sample": "sample"}

    await api.request({"method": "GET", "path": "/things", "parameters": [header], "sample": None})

    assert client.send.await_args.kwargs["headers"] == {"x-api-key": "real"}
