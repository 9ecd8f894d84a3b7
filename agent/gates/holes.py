"""holes: every operation that could not be derived says so: 501 and an error document, never a fake success.

The error document is a problem document (RFC 9457), unless the document declares another form for the errors of the operation.
"""

from collections.abc import Mapping
from typing import Any

import httpx

from agent.gates.live import Answer, LiveService, NotReady, Proof, client, fetch, live_service
from agent.gates.requests import Request, is_complete, operation_request
from agent.gates.trial import Trial, measured
from contracts.delivery import Evidence

PROBLEM = "application/problem+json"
PENDING = 501


@measured("holes")
async def check(trial: Trial) -> Evidence:
    """Call each hooked operation with a valid request; and, where it is secured, without credentials."""
    hooked = [o for o in trial.subject.facts.get("operations", ()) if o["verdict"] == "hooked"]
    if not hooked:
        return await trial.skipped("no operation is hooked")
    try:
        async with live_service(trial) as service, client() as http:
            found = [await probe(service, http, operation) for operation in hooked]
    except NotReady as exc:
        return await trial.evidence(False, str(exc), unit="faults", threshold=0)
    faults = [fault for probed in found for fault in probed or ()]
    unprobed = [o["id"] for o, probed in zip(hooked, found, strict=True) if probed is None]
    forms = {operation.get("pending_media_type", PROBLEM) for operation in hooked}
    form = "a problem document" if forms == {PROBLEM} else "an error document as declared"
    trial.note("\n".join(faults))
    if len(unprobed) == len(hooked):
        return await trial.skipped(
            "no valid request for a hooked operation could be made", details={"unprobed": unprobed}
        )
    return await trial.evidence(
        not faults,
        f"{len(faults)} faults, first: {faults[0]}" if faults
        else f"{len(hooked) - len(unprobed)} of {len(hooked)} hooked operations answer 501 with {form}",
        value=len(faults),
        unit="faults",
        threshold=0,
        tool="httpx",
        tool_version=httpx.__version__,
        details={"hooked": [o["id"] for o in hooked], "unprobed": unprobed, "faults": faults[:20]},
    )  # fmt: skip


async def probe(service: LiveService, http: httpx.AsyncClient, operation: Mapping[str, Any]) -> list[str] | None:
    """What is wrong with one hooked operation, as sentences; None where we have no valid request and it was refused."""
    name = f"{operation['method']} {operation['path']}"
    request = operation_request(operation)
    answer = await send(service, http, request, service.credentials.for_security(operation["security"]))
    if answer is not None and 400 <= answer.status_code < 500 and not is_complete(operation):
        return None
    faults = [f"{name}: {fault}" for fault in hole_faults(answer, operation.get("pending_media_type", PROBLEM))]
    if operation["security"] and all(operation["security"]):
        refused = await send(service, http, request, Proof())
        # Its form is the document's affair: a declared 401 may have a shape of its own. The fuzz looks at that.
        if refused is None or refused.status_code != 401:
            faults.append(f"{name} without credentials: answers {refused and refused.status_code}, not 401")
    return faults


async def send(service: LiveService, http: httpx.AsyncClient, request: Request, proof: Proof) -> Answer | None:
    """One request with what proves the caller."""
    return await fetch(
        http, request.method, service.url + request.target(proof.query),
        headers=request.headers(proof.headers, proof.cookies), content=request.body,
    )  # fmt: skip


def hole_faults(answer: Answer | None, media_type: str = PROBLEM) -> list[str]:
    """Why `answer` is not a 501 with an error document of `media_type`; the form of a declared one is the document's affair."""
    if answer is None:
        return ["no answer"]
    if answer.status_code != PENDING:
        return [f"answers {answer.status_code}, not {PENDING}"]
    if answer.media_type != media_type:
        return [f"answers as {answer.media_type or 'nothing'}, not {media_type}"]
    try:
        problem = answer.json()
    except ValueError:
        return ["the error document is not JSON"]
    if media_type != PROBLEM:
        return []
    if not isinstance(problem, dict):
        return ["the problem document is not an object"]
    faults = [] if isinstance(problem.get("title"), str) else ["the problem has no title"]
    if problem.get("status", PENDING) != PENDING:
        faults.append(f"the problem says status {problem['status']!r}")
    return faults
