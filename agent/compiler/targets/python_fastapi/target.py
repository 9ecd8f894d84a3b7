"""python-fastapi: which files are copied from the skeleton, which are woven, and who owns them."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi import lower
from agent.compiler.targets.python_fastapi import project as parts
from agent.compiler.targets.python_fastapi.suite.lower import lower_suite, parameter_types
from agent.compiler.weave import pretty_json, render
from agent.fileset import File, FileSet

PACKAGE = "agent.compiler.targets.python_fastapi"
Json = Any
Formatter = Callable[[dict[str, str]], dict[str, str]]

# What has a template. Everything else of the skeleton is copied verbatim.
WOVEN = {
    "README.md": "README.md.jinja",
    "REPORT.md": "REPORT.md.jinja",
    "RUNBOOK.md": "RUNBOOK.md.jinja",
    "app/hooks.py": "hooks.py.jinja",
    "app/paths.py": "paths.py.jinja",
    "app/resources.py": "resources.py.jinja",
    "app/routers/__init__.py": "routers.py.jinja",
    "app/service.py": "service.py.jinja",
    "app/shapes.py": "shapes.py.jinja",
    "app/tables.py": "tables.py.jinja",
    "migrations/versions/0001_initial.py": "migration.py.jinja",
    "pyproject.toml": "pyproject.toml.jinja",
    "schemathesis.toml": "schemathesis.toml.jinja",
    "tests/factories.py": "factories.py.jinja",
    "tests/fuzz.py": "fuzz.py.jinja",
}
SEEDED = frozenset({"app/hooks.py"})
EXECUTABLE: frozenset[str] = frozenset()
# Woven for each document under names that the document decides.
VARYING = re.compile(r"(app/routers/.+\.py|openapi\.given\.(yaml|json)|openapi\.json|\.backwright/.+)\Z")
# Of modules of tests some are woven too, and say so in their first line; the others are the same everywhere.
TEST = re.compile(r"tests/test_(.+)\.py\Z")
GENERATED = b"Generated from the document by Backwright."
LITTER = re.compile(
    r"(^|/)(__pycache__|\.mypy_cache|\.ruff_cache|\.pytest_cache|\.venv|\.hypothesis|\.schemathesis)(/|$)|\.pyc\Z|(^|/)\.coverage"
)


@dataclass(frozen=True, slots=True)
class Woven:
    """What weaving gives."""

    files: FileSet
    seeded: frozenset[str]
    lowered: parts.Lowered


def weave(api: ir.Api, service: str, format: Formatter) -> Woven:  # noqa: A002 - the name of the composition root
    """The whole project for a document. Raises what the formatter raises; writes nothing."""
    lowered = lower.lower(api, service)
    text = render_all(api, lowered)
    formatted = format({path: content for path, content in text.items() if path.endswith(".py")})
    woven = {path: File(formatted.get(path, content).encode()) for path, content in text.items()}
    woven["openapi.json"] = File(pretty_json(api.document).encode())
    woven[api.given_name] = File(api.given)
    return Woven(FileSet({**static_files(), **woven}), SEEDED, lowered)


def render_all(api: ir.Api, lowered: parts.Lowered) -> dict[str, str]:
    """Every woven text, before the formatter."""
    project = lowered.project
    taken = (match[1] for path in static_files() if (match := TEST.match(path)))
    suite = lower_suite(api, project, lowered.operations, taken)
    values = {**values_for(api, lowered), "suite": suite}
    found = {path: render(PACKAGE, template, values) for path, template in WOVEN.items()}
    for router in project.routers:
        found[f"app/routers/{router.module}.py"] = render(PACKAGE, "router.py.jinja", router_values(router))
    for module in suite.modules:
        values = {"module": module, "types": parameter_types}
        found[f"tests/{module.name}.py"] = render(PACKAGE, "test_resource.py.jinja", values)
    return found


def values_for(api: ir.Api, lowered: parts.Lowered) -> dict[str, Any]:
    """What the templates of whole-project files may use."""
    project = lowered.project
    types = {column.type for table in project.tables for column in table.columns}
    parts = {"Column", "Table"} if project.tables else set()
    parts |= {kind.partition("(")[0] for kind in types if not kind.startswith("JSONB")}
    if any(column.identity for table in project.tables for column in table.columns):
        parts.add("Identity")
    for name, attribute in (
        ("ForeignKeyConstraint", "foreign_keys"),
        ("UniqueConstraint", "uniques"),
        ("Index", "indexes"),
    ):
        if any(getattr(table, attribute) for table in project.tables):
            parts.add(name)
    return {
        "project": project,
        "operations": lowered.operations,
        "hooked": [o for o in lowered.operations if o.verdict not in (ir.Verdict.DERIVED, ir.Verdict.DECLARED)],
        "changes": api.changes,
        "sqlalchemy": sorted({"MetaData", *parts}),
        "jsonb": any(kind.startswith("JSONB") for kind in types),
        "names": resource_names(project),
        "shown": any(shape.shown for shape in project.shapes),
        "routers": sorted(project.routers, key=lambda router: natural(router.module)),
        "checks": fuzz_checks(project),
    }


def fuzz_checks(project: parts.Project) -> list[tuple[str, str, list[parts.FuzzException]]]:
    """Relaxed checks by operation: (path, method, exceptions that name a check)."""
    found: dict[tuple[str, str], list[parts.FuzzException]] = {}
    for exception in project.exceptions:
        if exception.check is not None:
            found.setdefault((exception.path, exception.method), []).append(exception)
    return [(path, method, exceptions) for (path, method), exceptions in found.items()]


def resource_names(project: parts.Project) -> list[str]:
    """What app/resources.py uses of app/model.py."""
    if not project.resources:
        return []
    found = {"Resource", "Field", "Type"}
    for resource in project.resources:
        if any(part.generated for part in resource.fields):
            found.add("Generated")
        if resource.references:
            found.add("Reference")
        found |= {"Links" if part.link else "Children" for part in resource.collections}
    return sorted(found)


def router_values(router: parts.Router) -> dict[str, Any]:
    """What the template of a router may use."""
    works = [operation.work for operation in router.operations if operation.work]
    modules = set()
    if works:
        modules.add("crud")
    if any(operation.hook for operation in router.operations):
        modules.add("hooks")
    if any(work.scope or work.steps or work.target for work in works):
        modules.add("resources")
    if any(operation.errors for operation in router.operations) or any(
        work.answer.shape or work.intake for work in works
    ):
        modules.add("shapes")
    return {"router": router, "modules": sorted(modules), "listing": any(work.call == "read_list" for work in works)}


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts like ruff: digits as numbers."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"([0-9]+)", name) if part)


@cache
def static_files() -> Mapping[str, File]:
    """What the skeleton holds that no document changes."""
    root = files(PACKAGE).joinpath("skeleton")
    return {
        path: File(content, executable=path in EXECUTABLE)
        for path, content in _walk(root, "")
        if path not in WOVEN and not VARYING.match(path) and not LITTER.search(path)
        if not (TEST.match(path) and GENERATED in content.partition(b"\n")[0])
    }


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for child in sorted(folder.iterdir(), key=lambda part: part.name):
        path = f"{prefix}{child.name}"
        if LITTER.search(path):
            continue
        if child.is_dir():
            yield from _walk(child, f"{path}/")
        else:
            yield path, child.read_bytes()
