"""What the fuzz configuration is told: each exception by a rule that the document proves."""

from collections.abc import Sequence
from dataclasses import replace

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.project import (
    FuzzException,
)

_IMPLIED_REASONS = {
    204: "the document declares no success",
    400: "the document restricts the request, but declares no status for one that breaks the restriction",
    401: "the document secures the operation, but does not declare 401",
    403: "the document demands scopes, but does not declare 403",
    404: "the path names a row, but the document does not declare 404",
    409: "a key is unique or a row is referenced, but the document does not declare 409",
    413: "bodies are limited, but the document does not declare 413",
    415: "the body has a media type, but the document does not declare 415",
}


def fuzz_exceptions(api: ir.Api, operations: Sequence[ir.Operation]) -> tuple[FuzzException, ...]:
    """What the fuzz configuration lets pass, each by a rule that the document proves."""
    found: list[FuzzException] = []
    for operation in operations:
        here = (operation.path, operation.method)
        for status in operation.implied:
            reason = _IMPLIED_REASONS.get(status, f"the service answers {status}, which the document does not declare")
            found.append(FuzzException("implied-status", operation.id, f"{status}: {reason}", *here))
        plan = operation.plan
        if plan is None:
            continue
        if operation.body is not None and operation.body.other_media_types:
            reason = f"bodies are taken as JSON only, not as {', '.join(operation.body.other_media_types)}"
            found.append(FuzzException("media-type", operation.id, reason, *here))
        expected = []
        if plan.paging and plan.paging.style is ir.PagingStyle.CURSOR and plan.paging.position:
            reason = "a cursor is opaque: only one that the service gave is meaningful, others are refused"
            found.append(FuzzException("opaque-cursor", operation.id, reason, *here))
            expected.append(_refusal_status(operation))
        if plan.sort is not None and not plan.sort.values:
            reason = "the order names properties, which the schema of the parameter does not list"
            found.append(FuzzException("order-names-properties", operation.id, reason, *here))
            expected.append(_refusal_status(operation))
        refusal = next((s for s in ("404", "409", "422", "400") if s in operation.responses), "404")
        if _has_reference(operation) and refusal in ("422", "400"):
            reason = f"a body that names a row that does not exist is answered with {refusal}, as the document declares"
            found.append(FuzzException("unknown-reference", operation.id, reason, *here))
            expected.append(refusal)
        if expected:
            statuses = ("2xx", "401", "403", "404", "409", "429", "5xx", *dict.fromkeys(expected))
            found[-1] = replace(found[-1], check="positive_data_acceptance", statuses=statuses)
        if plan.action in (ir.Action.CREATE, ir.Action.UPSERT) and plan.ancestors and _has_reference(operation):
            reason = (
                "404 for an unknown row that the body names is read as if the parent that was just made were missing"
            )
            found.append(
                FuzzException("unknown-reference", operation.id, reason, *here, check="ensure_resource_availability")
            )
        if plan.action is ir.Action.GET and plan.key is None and plan.ancestors:
            reason = "it is made by its first write, not together with what stands above it in the path: until then 404"
            found.append(
                FuzzException("made-by-first-write", operation.id, reason, *here, check="ensure_resource_availability")
            )
    return tuple(found)


def implied_statuses(api: ir.Api, operations: Sequence[ir.Operation]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Statuses that operations can answer although the document does not name them; for the fuzz tool only."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for operation in operations:
        if operation.implied:
            found.setdefault(operation.path, {})[operation.method.lower()] = tuple(operation.implied)
    return found


def refused_media(operations: Sequence[ir.Operation]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Declared media types of bodies that the service does not take."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for operation in operations:
        if operation.plan is not None and operation.body is not None and operation.body.other_media_types:
            found.setdefault(operation.path, {})[operation.method.lower()] = operation.body.other_media_types
    return found


def _refusal_status(operation: ir.Operation) -> str:
    """What the service answers to what is not valid: Kind.INVALID of the skeleton's errors.py, best declared first."""
    declared = {error.status for error in operation.errors}
    return "422" if "422" in declared and "400" not in declared else "400"


def _has_reference(operation: ir.Operation) -> bool:
    shape = operation.body.shape if operation.body else None
    return shape is not None and any(part.kind != "property" for part in shape.fields)
