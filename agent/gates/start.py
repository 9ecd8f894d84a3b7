"""start: the service comes up from its settings alone, answers health, shows metrics, and ends in order."""

import asyncio
from typing import Any

from agent.gates.live import HOST, STOP_GRACE_S, LiveService, NotReady, client, fetch, live_service
from agent.gates.trial import Trial, measured
from contracts.delivery import Evidence

REFUSAL_S = 30.0


@measured("start")
async def check(trial: Trial) -> Evidence:
    """Start, look at health and metrics, SIGTERM; and once without a database URL, which must be refused."""
    details: dict[str, Any] = {"runbook": runbook(trial)}
    try:
        async with live_service(trial) as service:
            refusal = asyncio.create_task(refuses_without_settings(trial))
            try:
                details |= await look(service)
            finally:
                details["refuses_without_settings"] = await refusal
            details |= {"ready_s": service.ready_s, "postgresql": service.postgresql}
            details |= await stopped(trial, service)
    except NotReady as exc:
        return await trial.evidence(
            False, str(exc), threshold=trial.tools.settings.start_timeout_s, unit="s to ready", details=details
        )
    faults = start_faults(details)
    return await trial.evidence(
        not faults,
        "; ".join(faults)
        or f"ready after {details['ready_s']:.1f} s; health and metrics answer; SIGTERM ends it in {details['stop_s']:.1f} s",
        value=details["ready_s"],
        unit="s to ready",
        threshold=trial.tools.settings.start_timeout_s,
        tool="uvicorn",
        details=details,
    )


async def look(service: LiveService) -> dict[str, Any]:
    """Statuses of health and metrics."""
    async with client() as http:
        answers = {
            name: await fetch(http, "GET", service.url + service.path(name)) for name in ("live", "ready", "metrics")
        }
    metrics = answers["metrics"]
    families = metrics.content.count(b"# TYPE ") if metrics and metrics.status_code == 200 else 0
    return {
        "live": answers["live"] is not None and answers["live"].status_code == 200,
        "ready": answers["ready"] is not None and answers["ready"].status_code == 200,
        "metric_families": families,
    }


async def stopped(trial: Trial, service: LiveService) -> dict[str, Any]:
    """SIGTERM, and how long it took."""
    asked = trial.tools.clock.monotonic()
    code = await service.running.stop(grace_s=STOP_GRACE_S)
    trial.served_exit_code = code
    return {"stop_exit_code": code, "stop_s": round(trial.tools.clock.monotonic() - asked, 3)}


async def refuses_without_settings(trial: Trial) -> bool:
    """Whether the service ends by itself, with an error, when no database is named."""
    done = await trial.run(
        trial.runtime.python,
        "-m",
        "app",
        environment={"SERVICE_HOST": HOST, "SERVICE_PORT": "0"},
        time_s=REFUSAL_S,
        aside=True,
    )
    return not done.timed_out and done.exit_code > 0


def runbook(trial: Trial) -> str | None:
    """Path of the runbook in the project, if there is one with something in it."""
    names = (f for f in trial.project.iterdir() if f.name.lower() == "runbook.md" and f.is_file() and f.stat().st_size)
    return next((found.name for found in names), None)


def start_faults(details: dict[str, Any]) -> list[str]:
    """What is not as it should be, as sentences."""
    checks = (
        (details["live"], "the live check does not answer 200"),
        (details["ready"], "the ready check does not answer 200"),
        (details["metric_families"], "no Prometheus metrics are exposed"),
        (details["stop_exit_code"] == 0, f"SIGTERM ends it with {details['stop_exit_code']}, not 0"),
        (details["refuses_without_settings"], "it starts without a database URL"),
    )
    return [fault for holds, fault in checks if not holds]
