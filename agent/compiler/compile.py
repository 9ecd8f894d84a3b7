"""The compiler's entry: bytes in, a complete project out. Pure: no clock, no process, no network, nothing written."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from agent.compiler import ir
from agent.compiler.report import Report, make_report
from agent.compiler.targets.python_fastapi import target as python_fastapi
from agent.compiler.targets.python_fastapi.manifest import make_manifest
from agent.compiler.targets.python_fastapi.names import snake
from agent.compiler.understand import understand
from agent.compiler.weave import pretty_json
from agent.errors import PermanentError
from agent.fileset import File, FileSet
from agent.settings import CompilerSettings
from contracts.status import Diagnostic
from contracts.tasks import Target

Json = Any
Formatter = Callable[[dict[str, str]], dict[str, str]]
GENERATOR = "backwright"
MANIFEST = ".backwright/manifest.json"  # outside the digest: it carries our version
SERVICE_LENGTH_MAX = 40


@dataclass(frozen=True, slots=True)
class Compilation:
    """What a document became."""

    api: ir.Api
    files: FileSet
    manifest: dict[str, Json]
    report: Report
    diagnostics: tuple[Diagnostic, ...]
    digest: str
    service: str


def compile_document(
    given: bytes,
    *,
    service: str | None,
    target: Target,
    settings: CompilerSettings,
    format: Formatter,  # noqa: A002 - what the composition root injects
) -> Compilation:
    """Compile a document for a target. Raises SpecRejected; PermanentError for a target that does not exist yet."""
    if target is not Target.PYTHON_FASTAPI:
        raise PermanentError(f"the target {target.value} does not exist yet")
    api, diagnostics = understand(given, settings)
    name = service or service_name(api.title, given)
    woven = python_fastapi.weave(api, name, format)
    api = replace(api, operations=woven.lowered.operations)
    manifest = {
        "generator": {"name": GENERATOR, "version": version(GENERATOR)},
        **make_manifest(api, woven.files, woven.seeded, woven.lowered),
    }
    digest = woven.files.digest
    files = woven.files | {MANIFEST: File(pretty_json(manifest).encode())}
    return Compilation(api, files, manifest, make_report(api, diagnostics, digest), tuple(diagnostics), digest, name)


def service_name(title: str, given: bytes) -> str:
    """A name from the title, else one from the bytes; always `^[a-z][a-z0-9-]{0,39}$`."""
    # In lower case first: the capitals of a title are a brand's (VAmPI, OpenFGA, iTwin), not the beginnings of words.
    name = snake(title.lower()).replace("_", "-")[:SERVICE_LENGTH_MAX].strip("-")
    if name in ("", "x") or not name[0].isalpha():
        return f"service-{hashlib.sha256(given).hexdigest()[:8]}"
    return name
