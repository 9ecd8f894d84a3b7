"""document: what the service serves is the normalised document of the delivery, value for value."""

import json
from collections.abc import Iterator
from typing import Any

from agent.gates.live import NotReady, client, fetch, live_service
from agent.gates.trial import Trial, measured, read_report
from contracts.delivery import Evidence

LISTED = 20


@measured("document")
async def check(trial: Trial) -> Evidence:
    """Fetch the document without credentials and compare it with `openapi.json`."""
    try:
        delivered = json.loads(read_report(trial.project / "openapi.json") or "")
    except ValueError:
        return await trial.evidence(False, "openapi.json of the delivery is not JSON", threshold=0, unit="differences")
    try:
        async with live_service(trial) as service, client() as http:
            answer = await fetch(http, "GET", service.url + service.path("document"))
    except NotReady as exc:
        return await trial.evidence(False, str(exc), threshold=0, unit="differences")
    if answer is None or answer.status_code != 200:
        status = "nothing" if answer is None else answer.status_code
        return await trial.evidence(False, f"GET {service.path('document')} answers {status}", threshold=0)
    try:
        served = answer.json()
    except ValueError:
        return await trial.evidence(False, "the served document is not JSON", threshold=0, unit="differences")
    found = list(differences(delivered, served))
    changes = [str(change)[:300] for change in trial.subject.facts.get("changes", ())]
    trial.note("changes from the given document:\n" + "\n".join(changes))
    return await trial.evidence(
        not found,
        f"the served document differs in {len(found)} places, first at {found[0] or '/'}" if found
        else f"served as delivered; {len(changes)} changes from the given document are listed",
        value=len(found),
        unit="differences",
        threshold=0,
        details={"differences": found[:LISTED], "changes": changes[:200], "operations": count_operations(delivered)},
    )  # fmt: skip


def differences(left: Any, right: Any, pointer: str = "") -> Iterator[str]:
    """JSON pointers at which two values differ; 1 and 1.0 and true are three different things."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            here = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
            if key in left and key in right:
                yield from differences(left[key], right[key], here)
            else:
                yield here
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from differences(one, other, f"{pointer}/{index}")
    elif type(left) is not type(right) or left != right:
        yield pointer


def count_operations(document: Any) -> int:
    """Operations of an OpenAPI document."""
    methods = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
    paths = document.get("paths", {}) if isinstance(document, dict) else {}
    return sum(len(methods & item.keys()) for item in paths.values() if isinstance(item, dict))
