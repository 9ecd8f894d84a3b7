"""Develop: the compiler turns the document into a file set, which is stored under its digest."""

import io
import json
import tarfile
from typing import Any

from agent.compiler.ir import Verdict
from agent.errors import PermanentError
from agent.fileset import File, FileSet
from agent.pipeline.attempt import Attempt
from agent.pipeline.phase import Result, Step
from agent.settings import Settings
from contracts.status import Phase

ITEMS = ("Data models", "Business logic", "Auth layer", "API docs", "Test suites", "Observability")


def steps(settings: Settings) -> tuple[Step, ...]:
    """One step: the compiler is pure, so there is nothing in between that would be worth keeping."""
    limits = settings.compiler.model_dump_json()
    return (
        Step(
            "compile", Phase.DEVELOP, 1, write_service, items=ITEMS, needs=("document",), settings=limits,
            stores=("files", "report"),
        ),
    )  # fmt: skip


async def write_service(attempt: Attempt) -> Result:
    """Compile, and store the file set as one artefact."""
    given = await attempt.given()
    made = await attempt.means.compiler.make(given, service=attempt.request.service, target=attempt.request.target)
    if made.files.digest != made.digest:
        raise PermanentError(f"the compiler states {made.digest} for files with {made.files.digest}")
    artifacts = attempt.means.artifacts
    stored, report = await artifacts.put(pack(made.files)), await artifacts.put(document(made.report))
    for operation in made.operations:
        attempt.means.metrics.operations.labels(operation.verdict).inc()
    output = {
        "service": made.service,
        "digest": made.digest,
        "files": stored,
        "report": report,
        "count": len(made.files),
        "holes": [o.operation for o in made.operations if o.verdict == Verdict.HOOKED],
        "operations": [o.model_dump(mode="json", exclude_none=True) for o in made.operations],
    }
    derived = sum(o.verdict in {"derived", "declared"} for o in made.operations)
    message = f"{len(made.files)} files, {derived} of {len(made.operations)} operations implemented"
    return Result(output, message=message, operations=made.operations)


async def stored_files(attempt: Attempt) -> FileSet:
    """The file set that `compile` stored. Raises PermanentError if it is not the one whose digest it stated."""
    output = attempt.outputs["compile"]
    files = unpack(await attempt.means.artifacts.get(output["files"]))
    if files.digest != output["digest"]:
        raise PermanentError(f"the stored files have {files.digest}, the checkpoint says {output['digest']}")
    return files


def document(value: Any) -> bytes:
    """JSON for people: indented, in its own order, one line end."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


def pack(files: FileSet) -> bytes:
    """A tar without times, owners or order of its own: equal file sets give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, file in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(file.content), 0o755 if file.executable else 0o644
            archive.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()


def unpack(content: bytes) -> FileSet:
    """The inverse of `pack`, in memory: nothing is extracted to a disk."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for entry in archive:
            body = archive.extractfile(entry)
            if body is None:
                raise PermanentError("the archive holds something that is no file")
            files[entry.name] = File(body.read(), executable=bool(entry.mode & 0o100))
    return FileSet(files)
