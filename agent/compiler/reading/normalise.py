"""Any OpenAPI 3.0 or 3.1 tree → a valid OpenAPI 3.1 document, with a line for every change.

The walk follows `grammar`: what an object may not hold is left out and listed, what is harmlessly wrong is corrected
and listed, what cannot be understood refuses the document. `$ref`s stay references; only local ones survive.
"""

import re
from dataclasses import dataclass
from typing import Any

from agent.compiler.diagnostics import Told, reject, shown
from agent.compiler.reading.document_walk import DocumentWalk
from agent.compiler.reading.log import Log
from agent.compiler.reading.references import check_references
from agent.compiler.reading.source import Source
from agent.settings import CompilerSettings

Json = Any

_VERSION = re.compile(r"3\.([01])(?:\.\d+)?(?:-[\w.]+)?\Z")


@dataclass(frozen=True, slots=True)
class Normalised:
    """A valid OpenAPI 3.1 document and what was done to make it one."""

    document: dict[str, Json]
    told: Told
    changes: tuple[str, ...]


def normalise(source: Source, settings: CompilerSettings) -> Normalised:
    """Make a valid OpenAPI 3.1 document. Raises SpecRejected for faults of the whole document."""
    minor = _check_version(source.tree)
    log = Log()
    for pointer in source.unquoted:
        log.change("key without quotes, read as a text", pointer)
    if source.merged:
        log.change("YAML merge keys (`<<`) resolved", "")
    walk = DocumentWalk(source.tree, minor, settings, log)
    document = walk.document()
    document["openapi"] = "3.1.0" if minor == "0" else str(source.tree["openapi"])
    if minor == "0":
        log.change(f"OpenAPI {source.tree['openapi']} became 3.1.0", "/openapi")
    check_references(document, walk.references, walk.kinds, walk.in_place)
    for line, pointer in log.lines(told=True):
        log.told.tell("normalised", pointer, change=line)
    return Normalised(document, log.told, tuple(line for line, _ in log.lines()))


# --- the kind of document ---------------------------------------------------------------------------------------------


def _check_version(tree: dict[str, Json]) -> str:
    """The minor version, "0" or "1". Raises SpecRejected for everything that is not OpenAPI 3.0 or 3.1."""
    if "openapi" not in tree:
        if "swagger" in tree:
            raise reject("document.swagger2", "/swagger")
        if "asyncapi" in tree:
            raise reject("document.asyncapi", "/asyncapi")
        raise reject("document.not-openapi", detail="it has no key `openapi`")
    version = tree["openapi"]
    found = _VERSION.match(str(version)) if isinstance(version, str | float) else None
    if found is None:
        raise reject("document.version", "/openapi", version=shown(version))
    if not isinstance(tree.get("paths"), dict):
        raise reject(
            "document.no-paths", "/paths" if "paths" in tree else "", detail="`paths` is missing or not a mapping"
        )
    return found.group(1)
