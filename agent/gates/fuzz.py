"""fuzz: Schemathesis with all its checks against a freshly seeded service; hooked operations are left out by name.

The woven configuration is the only place where a check is relaxed; each relaxation has a rule and a reason in the
manifest, and both stand in the evidence.
"""

import base64
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from agent.gates.live import LiveService, NotReady, live_service
from agent.gates.seed import plant_all
from agent.gates.trial import Trial, last_line, measured, read_report
from contracts.delivery import Evidence

LISTED = 20
CURL_CHARACTERS = 600


@measured("fuzz")
async def check(trial: Trial) -> Evidence:
    """Seed, run the tool, count failures; every failure comes with a request that repeats it."""
    tested = [o for o in trial.subject.facts.get("operations", ()) if o["verdict"] in ("derived", "declared")]
    if not tested:
        return await trial.skipped("no operation is derived, so there is nothing to hold against the document")
    try:
        async with live_service(trial) as service:
            planted = await plant_all(service)
            trial.tools.progress(f"fuzz: {len(tested)} operations, {trial.tools.settings.fuzz_examples} examples each")
            timed_out, exit_code, output = await _run(trial, service)
            alive = service.running.exit_code() is None
    except NotReady as exc:
        return await trial.evidence(False, str(exc), unit="failures", threshold=0, tool="schemathesis")
    report = run_report(read_report(trial.folder / "report.json") or "")
    if report is None:
        why = f"not finished within {trial.tools.settings.fuzz_time_s:g} s" if timed_out else last_line(output)
        return await trial.evidence(
            False, f"schemathesis ended with {exit_code}: {why}", unit="failures", threshold=0, tool="schemathesis"
        )
    failures, checks = case_failures((read_report(trial.folder / "events.ndjson") or "").splitlines())
    trial.note(json.dumps({"failures": failures, "checks": checks}, indent=1))
    return await _judge(trial, report, failures, checks, planted=planted, alive=alive, wanted=len(tested))


async def _run(trial: Trial, service: LiveService) -> tuple[bool, int, str]:
    settings, facts = trial.tools.settings, trial.subject.facts
    config = facts.get("fuzz", {}).get("config")
    done = await trial.run(
        trial.environment.tool("schemathesis"), *(("--config-file", str(config)) if config else ()),
        "run", "openapi.json", "--url", service.url + service.base_path,
        "--max-examples", str(settings.fuzz_examples), "--seed", str(settings.fuzz_seed),
        "--workers", "1", "--continue-on-failure", "--generation-database", "none",
        "--report", "json,ndjson", "--report-dir", trial.folder / "reports",
        "--report-json-path", trial.folder / "report.json", "--report-ndjson-path", trial.folder / "events.ndjson",
        environment=fuzz_environment(service), time_s=settings.fuzz_time_s,
    )  # fmt: skip
    return done.timed_out, done.exit_code, done.output


def fuzz_environment(service: LiveService) -> dict[str, str]:
    """What the woven configuration refers to, by the number of the security scheme in the manifest.

    `SERVICE_FUZZ_<n>`: the bare credential (`user:password` for basic); `…_USERNAME`, `…_PASSWORD` for basic; `…_TOKEN` for bearer.
    """
    variables: dict[str, str] = {}
    for number, scheme in enumerate(service.facts.get("security_schemes", ())):
        proof = service.credentials.schemes.get(scheme["name"])
        carried = {**proof.headers, **proof.query, **proof.cookies} if proof else {}
        for value in list(carried.values())[:1]:
            variables |= {f"SERVICE_FUZZ_{number}{part}": text for part, text in bare(value, scheme["kind"]).items()}
    return variables


def bare(carried: str, kind: str) -> dict[str, str]:
    """A credential as Schemathesis' configuration wants it, from what a request carries."""
    credential = carried if kind == "api_key" else carried.partition(" ")[2]
    if kind == "bearer":
        return {"": credential, "_TOKEN": credential}
    if kind != "basic":
        return {"": credential}
    try:
        decoded = base64.b64decode(credential).decode()
    except ValueError:
        return {"": credential}
    user, _, password = decoded.partition(":")
    return {"": decoded, "_USERNAME": user, "_PASSWORD": password}


async def _judge(
    trial: Trial,
    report: Mapping[str, Any],
    failures: list[dict[str, Any]],
    checks: dict[str, int],
    *,
    planted: dict[str, Any],
    alive: bool,
    wanted: int,
) -> Evidence:
    facts = trial.subject.facts
    unique, errors = report["unique_failures"], report["errors"]
    faults = [
        f"{unique} failures" if unique else "",
        f"{len(errors)} errors of the tool: {errors[0]}" if errors else "",
    ]
    faults += [
        "" if report["complete"] else f"the run stopped early ({report['stop_reason']})",
        "" if report["tested"] == wanted else f"{report['tested']} of {wanted} operations were tested",
        "" if alive else "the service died",
    ]
    faults = [fault for fault in faults if fault]
    exceptions = list(facts.get("fuzz", {}).get("exceptions", ()))
    rules = sorted({exception["rule"] for exception in exceptions})
    hooked = sum(o["verdict"] == "hooked" for o in facts.get("operations", ()))
    figures = f"{report['cases']} cases on {report['tested']} operations, {len(checks)} checks"
    return await trial.evidence(
        not faults,
        f"{'; '.join(faults)} ({figures})" if faults
        else f"no failure in {figures}; {hooked} hooked operations left out, {len(exceptions)} exceptions by {len(rules)} rules",
        value=unique + len(errors),
        unit="failures",
        threshold=0,
        tool="schemathesis",
        details={
            "cases": report["cases"],
            "operations_tested": report["tested"],
            "operations_hooked": hooked,
            "examples_per_operation": trial.tools.settings.fuzz_examples,
            "seed": report["seed"],
            "phases": report["phases"],
            "checks": checks,
            "failures_by_check": dict(Counter(f["check"] for f in failures)),
            "failures": failures[:LISTED],
            "errors": errors[:LISTED],
            "exceptions": exceptions,
            **planted,
        },
    )  # fmt: skip


def run_report(text: str) -> dict[str, Any] | None:
    """What we take from Schemathesis' JSON report; None if it is not one."""
    try:
        report = json.loads(text)
        return {
            "cases": report["test_cases"]["generated"],
            "unique_failures": report["test_cases"]["unique_failures"],
            "tested": report["operations"]["tested"],
            "phases": {name: phase["status"] for name, phase in report["phases"].items()},
            "errors": [_short(error) for error in report["errors"]],
            "complete": report["complete"],
            "stop_reason": report["stop_reason"],
            "seed": report["seed"],
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def case_failures(lines: list[str]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """(one failure per operation, check and message, with its request; how often each check ran) from NDJSON events."""
    failures: dict[tuple[str, str, str], dict[str, Any]] = {}
    ran: Counter[str] = Counter()
    for recorder in _recorders(lines):
        for case, checks in recorder.get("checks", {}).items():
            ran.update(check["name"] for check in checks)
            for check in (c for c in checks if c["status"] == "failure"):
                failure = check["failure_info"]["failure"]
                key = (failure["operation"], check["name"], _first_line(failure["message"]))
                failures.setdefault(key, _failure(check["name"], failure, recorder["interactions"].get(case)))
    return list(failures.values()), dict(sorted(ran.items()))


def _recorders(lines: list[str]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        if isinstance(event, dict) and isinstance(found := event.get("ScenarioFinished", {}).get("recorder"), dict):
            yield found


def _failure(check: str, failure: Mapping[str, Any], interaction: Mapping[str, Any] | None) -> dict[str, Any]:
    response = (interaction or {}).get("response") or {}
    return {
        "check": check,
        "operation": failure["operation"],
        "title": failure["title"],
        "message": _short(failure["message"]),
        "status": response.get("status_code"),
        "reproduce": curl(interaction["request"]) if interaction else None,
    }


def curl(request: Mapping[str, Any]) -> str:
    """The request as a command line, every part quoted, cut where a body is long."""
    words = ["curl", "-i", "-X", str(request["method"])]
    for name, values in request.get("headers", {}).items():
        for value in values:
            words += ["-H", f"{name}: {value}"]
    body = request.get("body")
    if isinstance(body, dict) and "$base64" in body:
        words += ["--data-binary", base64.b64decode(body["$base64"]).decode(errors="backslashreplace")]
    whole = shlex.join([*words, str(request["uri"])])
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in whole)[:CURL_CHARACTERS]


def _first_line(text: Any) -> str:
    return str(text).partition("\n")[0]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)[:400]
