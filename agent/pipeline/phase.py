"""Steps, and how they add up to `completed` and `pending`. Pure: what a step does stands in its phase's module.

Rules for editors:
1. Whoever changes the meaning of a step's output raises its `version`; checkpoints of the former version are then
   not taken but made again. Nothing is ever refused silently or stranded.
2. `items` are the public catalogue of work items. `completed` and `pending` together are constant over the life of
   a task, except for one item per hole, which joins `pending` when the document has been read and stays there.
3. An output is JSON. A step that wants the task to end as failed says so in it (`halt`), so that a resumed attempt
   ends alike.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from agent.journal.port import Event
from contracts.delivery import Evidence, OperationReport
from contracts.status import Diagnostic, ErrorReport, Phase, Status

if TYPE_CHECKING:
    from agent.pipeline.attempt import Attempt

PHASES = (Phase.ANALYSE, Phase.DEVELOP, Phase.VERIFY, Phase.DELIVER)
STATUS = {
    Phase.ANALYSE: Status.ANALYSING,
    Phase.DEVELOP: Status.DEVELOPING,
    Phase.VERIFY: Status.VERIFYING,
    Phase.DELIVER: Status.DELIVERING,
}
# The origin's manner: nouns that a person would tick off. A gate without a line here shows its own title.
GATE_ITEMS = {
    "install": "Environment installed",
    "lint": "Static checks",
    "types": "Type checks",
    "tests": "Test run",
    "migrations": "Migrations verified",
    "start": "Service start",
    "document": "API docs verified",
    "fuzz": "Contract fuzzing",
    "holes": "Open operations probed",
    "container": "Container image",
    "load": "Load test",
    "security": "Security scan",
}
Outputs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a step gives back. `events` are published in the transaction of the checkpoint, before the status."""

    output: Mapping[str, Any]
    message: str | None = None
    gate: Evidence | None = None
    operations: tuple[OperationReport, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """The smallest checkpointed unit inside a phase."""

    name: str  # key of the checkpoint
    phase: Phase
    stage: int  # within the phase: stages follow each other, steps of one stage may run at the same time
    run: "Callable[[Attempt], Awaitable[Result]]"
    items: tuple[str, ...] = ()  # work items that are completed with it
    needs: tuple[str, ...] = ()  # steps whose outputs it reads
    version: int = 1
    settings: str = ""  # what else decides its output: thresholds, limits
    exclusive: bool = False  # runs alone
    brief: bool = False  # over in a moment: no `started` event
    commits: bool = False  # its checkpoint is the point of no return
    stores: tuple[str, ...] = ()  # keys of its output that name artefacts (or hold a table of names)


def input_hash(step: Step, request_digest: str, outputs: Outputs) -> str:
    """Hex SHA-256 over everything that decides the step's output. Raises KeyError if one of `needs` has not run."""
    whole = [step.name, step.version, step.settings, request_digest, [outputs[name] for name in step.needs]]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def artifacts_of(step: Step, output: Mapping[str, Any]) -> Sequence[str]:
    """Names of the artefacts without which the output is of no use."""
    named = [output[key] for key in step.stores if key in output]
    return [name for value in named for name in (value.values() if isinstance(value, Mapping) else [value])]


def stages(steps: Sequence[Step]) -> list[list[Step]]:
    """Groups to run one after the other; an exclusive step is a group of its own, after the others of its stage."""
    groups = []
    ordered = sorted(steps, key=_place)
    for _place_of_stage, members in groupby(ordered, key=_place):
        together = list(members)
        shared = [step for step in together if not step.exclusive]
        groups += [shared] if shared else []
        groups += [[step] for step in together if step.exclusive]
    return groups


def _place(step: Step) -> tuple[int, int]:
    return PHASES.index(step.phase), step.stage


def progress(steps: Sequence[Step], outputs: Outputs) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(`completed`, `pending`) in the catalogue's order; holes come last and are never completed."""
    completed: list[str] = []
    pending: list[str] = []
    for step in steps:
        (completed if is_complete(outputs.get(step.name)) else pending).extend(step.items)
    return tuple(completed), (*pending, *(f"Operation {name}" for name in holes(outputs)))


def holes(outputs: Outputs) -> Sequence[str]:
    """Operations that are left open: as the document says, and once it is compiled, as the target says."""
    found: Sequence[str] = (outputs.get("compile") or outputs.get("document") or {}).get("holes", ())
    return found


def is_complete(output: Mapping[str, Any] | None) -> bool:
    """Whether a step has run and did what its items say; a gate that failed or was skipped did not.

    `is_vacuous`: there was nothing to do.
    """
    return output is not None and (
        output.get("verdict", "pass") in {"pass", "waived"} or bool(output.get("is_vacuous"))
    )


def halt_of(outputs: Outputs) -> ErrorReport | None:
    """Why the task has to end as failed: the first reason, and the names of others; None while all is well."""
    halted = [ErrorReport.model_validate(output["halt"]) for output in outputs.values() if "halt" in output]
    if len(halted) < 2:
        return halted[0] if halted else None
    others = ", ".join(error.code for error in halted[1:])
    return halted[0].model_copy(update={"message": f"{halted[0].message} Failed as well: {others}."})
