"""Deliver: the repository with its evidence, and the message that says what stands in it."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from agent.errors import PermanentError
from agent.fileset import File, FileSet
from agent.gates.gate import Gate
from agent.gates.project import project_files
from agent.journal.port import Event
from agent.pipeline import repository
from agent.pipeline.attempt import Attempt
from agent.pipeline.develop import document, stored_files
from agent.pipeline.page import page
from agent.pipeline.phase import Result, Step
from agent.pipeline.repository import Conflict, Prepared
from agent.pipeline.verify import measured, step_name
from contracts.delivery import DeliveredService, OperationReport, TaskDelivered
from contracts.envelope import TASK_DELIVERED
from contracts.status import ErrorReport, Phase

FINAL = "deliver"
PORT = 8080
EDITED = (
    "Branch main holds edits besides the generated code: the evidence is about branch generated; "
    "run `backwright verify` on the merged folder"
)
T = TypeVar("T")


def steps(gates: Sequence[Gate]) -> tuple[Step, ...]:
    """First the commits, recorded under the fence; only then anything in the workspace is touched.

    Both checkpoints are past the point of no return: what is being moved into the workspace is not cancelled halfway.
    """
    needs = ("plan", "compile", *(step_name(gate.name) for gate in gates))
    return (
        Step(
            "repository",
            Phase.DELIVER,
            1,
            make_repository,
            version=2,
            items=("Repository",),
            needs=needs,
            commits=True,
            stores=("pack",),
        ),
        Step(FINAL, Phase.DELIVER, 2, hand_over, items=("Delivery",), needs=(*needs, "repository"), commits=True),
    )


async def make_repository(attempt: Attempt) -> Result:
    """The commits of this delivery, with the evidence inside; nothing in the workspace changes yet."""
    compiled = attempt.outputs["compile"]
    files = await delivered_files(attempt)
    message = f"Build {compiled['service']}\n\nTask: {attempt.claim.task_id}\nDigest: {compiled['digest']}\n"
    try:
        prepared = await _in_scratch(
            attempt,
            lambda folder, scratch: repository.prepare(
                folder, scratch, files, when=attempt.claim.accepted_at, message=message
            ),
        )
    except Conflict as conflict:
        return _halted(conflict)
    pack = await attempt.means.artifacts.put(prepared.pack)
    return Result({**prepared.to_json(), "pack": pack}, message=f"commit {prepared.main[:12]} on main")


async def hand_over(attempt: Attempt) -> Result:
    """Move the commits into the workspace, check what lies there, and say what was delivered."""
    made = dict(attempt.outputs["repository"])
    pack = await attempt.means.artifacts.get(made.pop("pack"))
    prepared = Prepared(**made, pack=pack)
    claim, service = attempt.claim, attempt.outputs["compile"]["service"]
    try:
        await _in_scratch(
            attempt,
            lambda folder, scratch: repository.place(
                folder, scratch, prepared, when=claim.accepted_at, tag=claim.task_id[:8]
            ),
        )
    except Conflict as conflict:
        return _halted(conflict)
    await _check_folder(attempt, prepared)
    delivered = delivery(attempt, prepared)
    event = Event(TASK_DELIVERED.name, service, delivered.model_dump(mode="json", exclude_none=True))
    output = {"summary": delivered.summary, "path": delivered.service.path, "commit": prepared.main}
    return Result(output, message=delivered.summary, events=(event,))


async def delivered_files(attempt: Attempt) -> FileSet:
    """What was verified, plus analysis, plan, evidence, report and a page for people below `.backwright/` (outside the digest)."""
    means = attempt.means
    stored = {**attempt.outputs["plan"]["documents"], "report.json": attempt.outputs["compile"]["report"]}
    beside = {name: await means.artifacts.get(digest) for name, digest in stored.items()}
    known = measured(attempt)
    readiness = means.suite.readiness(known)
    beside["evidence.json"] = document([e.model_dump(mode="json", exclude_none=True) for e in known])
    beside["readiness.json"] = document([i.model_dump(mode="json") for i in readiness])
    resources = json.loads(beside["plan.json"])["resources"]
    shown = page(_sentence(attempt), known, readiness, list(_left_open(attempt)), resources)
    beside |= {name: text.encode() for name, text in shown.items()}
    return await stored_files(attempt) | {f".backwright/{name}": File(content) for name, content in beside.items()}


def delivery(attempt: Attempt, prepared: Prepared) -> TaskDelivered:
    """The message, every figure of it from a checkpoint."""
    compiled, planned = attempt.outputs["compile"], attempt.outputs["plan"]
    known, path = measured(attempt), _path(attempt)
    return TaskDelivered(
        task_id=attempt.claim.task_id,
        attempt=attempt.claim.attempt,
        service=DeliveredService(
            name=compiled["service"], target=attempt.request.target.value, path=path, branch="main", commit=prepared.main,
            digest=compiled["digest"], features=tuple(planned["features"]),
        ),
        summary=_sentence(attempt),
        evidence=known,
        readiness=attempt.means.suite.readiness(known),
        operations=_operations(attempt),
        pending=(*_left_open(attempt), *([EDITED] if prepared.is_edited else [])),
        assumptions=tuple(planned["assumptions"]),
        start_command=f"backwright serve {path} --port {PORT}",
    )  # fmt: skip


def _sentence(attempt: Attempt) -> str:
    planned, target = attempt.outputs["plan"], attempt.request.target.value
    return attempt.means.suite.sentence(
        measured(attempt),
        target=target,
        path=_path(attempt),
        operations=_operations(attempt),
        features=planned["features"],
    )


def _operations(attempt: Attempt) -> tuple[OperationReport, ...]:
    return tuple(OperationReport.model_validate(operation) for operation in attempt.outputs["compile"]["operations"])


def _left_open(attempt: Attempt) -> Iterator[str]:
    for operation in _operations(attempt):
        if operation.verdict in {"hooked", "refused"}:
            yield f"Operation {operation.operation}: {operation.reason or operation.rule}"


def _path(attempt: Attempt) -> str:
    return f"services/{attempt.outputs['compile']['service']}"


async def _in_scratch(attempt: Attempt, act: Callable[[Path, Path], Awaitable[T]]) -> T:
    """Call `act` with the service's folder and an empty folder of ours that is gone afterwards."""
    folder = repository.service_folder(attempt.means.workspace, attempt.outputs["compile"]["service"])
    scratch = Path(tempfile.mkdtemp(prefix="git-", dir=attempt.ledger.folder))
    try:
        return await act(folder, scratch)
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


async def _check_folder(attempt: Attempt, prepared: Prepared) -> None:
    """What lies in the workspace is what was verified, unless somebody's own edits are merged into it.

    Files besides (`.env`, an environment) are not ours to judge.
    """
    if prepared.is_edited:
        return
    compiled = attempt.outputs["compile"]
    folder = repository.service_folder(attempt.means.workspace, compiled["service"])
    ours = await stored_files(attempt)
    lies_there = await asyncio.to_thread(project_files, folder)
    digest = FileSet({path: file for path, file in lies_there.items() if path in ours}).digest
    if digest != compiled["digest"]:
        raise PermanentError(f"the delivered folder has {digest}, verified was {compiled['digest']}")


def _halted(conflict: Conflict) -> Result:
    error = ErrorReport(kind="permanent", code="delivery.conflict", message=str(conflict))
    return Result({"verdict": "fail", "halt": error.model_dump(mode="json", exclude_none=True)}, message=str(conflict))
