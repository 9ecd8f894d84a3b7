"""Weaving as tests and maintenance do it: the whole compiler with the pinned formatter, on bytes or on mappings."""

import json
from pathlib import Path
from typing import Any

from agent.compiler.compile import Compilation, compile_document
from agent.compiler.targets.python_fastapi import target
from agent.fileset import FileSet
from agent.formatting import ruff_format
from agent.settings import CompilerSettings
from contracts.tasks import Target

Json = Any
HOME = Path(target.__file__).resolve().parent
SKELETON = HOME / "skeleton"
CANONICAL = HOME / "canonical.openapi.yaml"
MANIFEST = ".backwright/manifest.json"


def compiled(document: bytes | Json, service: str | None = None) -> Compilation:
    """The project of a document."""
    given = document if isinstance(document, bytes) else json.dumps(document).encode()
    return compile_document(
        given, service=service, target=Target.PYTHON_FASTAPI, settings=CompilerSettings(), format=ruff_format
    )


def skeleton() -> FileSet:
    """The skeleton as it stands in the checkout, without what tools leave there and without the manifest."""
    found = FileSet.read(SKELETON)
    return FileSet({path: file for path, file in found.items() if not target.LITTER.search(path) and path != MANIFEST})


def delivered(compilation: Compilation) -> FileSet:
    """The files of a compilation without the manifest, which carries our version."""
    return FileSet({path: file for path, file in compilation.files.items() if path != MANIFEST})
