"""holes: every operation that could not be derived says so: 501 and a problem document, never a fake success."""

from collections.abc import Mapping
from typing import Any

import httpx

from agent.gates.live import Answer, LiveService, NotReady, Proof, client, fetch, live_service
from agent.gates.requests import Request, operation_request
from agent.gates.seed import plant_all
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
            await plant_all(service)
            faults = [fault for operation in hooked for fault in await probe(service, http, operation)]
    except NotReady as exc:
        return await trial.evidence(False, str(exc), unit="faults", threshold=0)
    trial.note("\n".join(faults))
    return await trial.evidence(
        not faults,
        f"{len(faults)} faults, first: {faults[0]}" if faults
        else f"{len(hooked)} hooked operations answer 501 with a problem document",
        value=len(faults),
        unit="faults",
        threshold=0,
        tool="httpx",
        tool_version=httpx.__version__,
        details={"hooked": [o["id"] for o in hooked], "faults": faults[:20]},
    )  # fmt: skip


async def probe(service: LiveService, http: httpx.AsyncClient, operation: Mapping[str, Any]) -> list[str]:
    """What is wrong with one hooked operation, as sentences."""
    name = f"{operation['method']} {operation['path']}"
    request = operation_request(operation, service.document)
    proof = service.credentials.for_security(operation["security"])
    answer = await send(service, http, request, proof)
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
