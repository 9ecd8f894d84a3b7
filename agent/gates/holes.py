"""holes: every operation that could not be derived says so: 501 and a problem document, never a fake success."""

from collections.abc import Mapping
from typing import Any

import httpx

from agent.gates.live import Answer, LiveService, NotReady, Proof, client, fetch, live_service
from agent.gates.requests import Request, is_complete, operation_request
from agent.gates.trial import Trial, measured
from contracts.delivery import Evidence

PROBLEM = "application/problem+json"


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
    trial.note("\n".join(faults))
    if len(unprobed) == len(hooked):
        return await trial.skipped(
            "no valid request for a hooked operation could be made", details={"unprobed": unprobed}
        )
    return await trial.evidence(
        not faults,
        f"{len(faults)} faults, first: {faults[0]}" if faults
        else f"{len(hooked) - len(unprobed)} of {len(hooked)} hooked operations answer 501 with a problem document",
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
    faults = [f"{name}: {fault}" for fault in hole_faults(answer, 501)]
    if operation["security"] and all(operation["security"]):
        refused = await send(service, http, request, Proof())
        faults += [f"{name} without credentials: {fault}" for fault in hole_faults(refused, 401)]
    return faults


async def send(service: LiveService, http: httpx.AsyncClient, request: Request, proof: Proof) -> Answer | None:
    """One request with what proves the caller."""
    return await fetch(
        http, request.method, service.url + request.target(proof.query),
        headers=request.headers(proof.headers, proof.cookies), content=request.body,
    )  # fmt: skip


def hole_faults(answer: Answer | None, status: int) -> list[str]:
    """Why `answer` is not a problem document of `status` (RFC 9457)."""
    if answer is None:
        return ["no answer"]
    if answer.status_code != status:
        return [f"answers {answer.status_code}, not {status}"]
    if answer.media_type != PROBLEM:
        return [f"answers as {answer.media_type or 'nothing'}, not {PROBLEM}"]
    try:
        problem = answer.json()
    except ValueError:
        return ["the problem document is not JSON"]
    if not isinstance(problem, dict):
        return ["the problem document is not an object"]
    faults = [] if problem.get("status", status) == status else [f"the problem says status {problem.get('status')!r}"]
    return faults + [f"the problem has no {key}" for key in ("title",) if not isinstance(problem.get(key), str)]
