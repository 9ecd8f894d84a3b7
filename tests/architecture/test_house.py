"""The house keeps its own rules: documents point to what exists, ports have suites, nothing names a machine."""

import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "skeleton", "workspace", "build", ".git"}.intersection(path.parts)
]
SUITES = {
    "agent/journal/port.py": "tests/conformance/test_journal.py",
    "agent/bus/port.py": "tests/conformance/test_bus.py",
    "agent/artifacts/port.py": "tests/conformance/test_artifacts.py",
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    """A newcomer follows them."""
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_names_in_the_folders_documents_exist() -> None:
    """`folder/module.Name`: a tour that leads to what was renamed is worse than none."""
    named = {
        match
        for document in (ROOT / "agent").rglob("README.md")
        for match in re.findall(r"`((?:[a-z_]+/)+[a-z_]+)\.([A-Za-z_]\w*(?:\.\w+)?)`", document.read_text())
    }
    code = {(module, name) for module, name in named if (ROOT / "agent" / f"{module}.py").is_file() and name != "py"}

    assert len(code) > 10, "the tour is not found"
    assert sorted((module, name) for module, name in code if not _has(module, name)) == []


def _has(module: str, name: str) -> bool:
    """Whether a module of the agent holds `name`, or `Class.name`."""
    found: object = importlib.import_module(f"agent.{module.replace('/', '.')}")
    for part in name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


@pytest.mark.parametrize(("port", "suite"), SUITES.items())
def test_every_port_with_adapters_has_one_conformance_suite(port: str, suite: str) -> None:
    """An adapter begins by passing it."""
    assert (ROOT / port).is_file()
    assert "parametrize" in (ROOT / suite).read_text() or "params=" in (ROOT / suite).read_text()


def test_no_committed_file_names_a_machine_or_a_registry() -> None:
    """What is committed must mean the same everywhere; lock files carry hashes, no addresses."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    places = re.compile(
        r"/(?:root|home)/[a-z.]|/work/|https?://[^/\s\"']*(?:pypi|pythonhosted|npmjs|repo[0-9]?\.maven)[^/\s\"']*/"
    )
    own = Path(__file__).relative_to(ROOT).as_posix()
    found = []
    for name in listed.split("\0"):
        path = ROOT / name
        if name and name != own and "/vendor/" not in name and path.is_file():
            found += [f"{name}: {match[0]}" for match in places.finditer(path.read_text(errors="ignore"))]

    assert found == []
