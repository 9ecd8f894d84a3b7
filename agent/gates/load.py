"""load: open-model arrivals on a filled table; the 95th percentile from the scheduled time, and nothing may fail.

What is measured stands in the evidence: rate, duration, warm-up, rows, mix, connections, cores, how busy the machine was with other work.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.gates.catalogue import NotMultipliable, multiply, row_count
from agent.gates.live import LiveService, NotReady, fetch, live_service
from agent.gates.requests import Request, operation_request
from agent.gates.seed import DERIVED, Planter, derived, path_query, planting, shown
from agent.gates.trial import Trial, last_line, measured
from agent.gates.vary import varied_bodies
from contracts.delivery import Evidence

WEIGHTS = {"get": 50, "list": 40, "create": 10}
KINDS = {"get": "get", "list": "list", "create": "create", "create_many": "create"}  # by action
WARMUP_S = 2.0
CONNECTIONS = 32
TIMEOUT_S = 10.0
BUSY_PERCENT = 30.0  # a quiet two-core machine with an idle service, database and broker shows 1 to 5
BUSY_SAMPLE_S = 0.5
TARGETS = 500  # different rows that gets ask for
LARGEST_SHARE = 0.5  # of a kind's requests, at least, go to the largest table
GENERATOR = Path(__file__).with_name("loadgen.py")


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the mix with requests that are ready to send."""

    kind: str
    operation: str
    resource: str
    requests: Sequence[dict[str, Any]]


@measured("load")
async def check(trial: Trial) -> Evidence:
    """Fill, rehearse, measure."""
    if not derived(trial.subject.facts, *KINDS):
        return await trial.skipped("no get, list or create is derived, so there is nothing to load")
    threshold = trial.tools.settings.load_p95_max_ms
    try:
        async with live_service(trial) as service:
            async with planting(service) as planter:
                filled = await fill_largest(planter, trial.tools.settings.load_rows)
                if filled.table is None and filled.passed_over:
                    return await trial.skipped("no table could be filled", details=filled.details())
                routes, left_out = await rehearsed(trial, planter)
            if not routes:
                return await trial.skipped("no derived operation could be called", details={"left_out": left_out})
            trial.tools.progress(f"load: {filled.rows} rows in {filled.table or 'no table'}, {len(routes)} operations")
            plan = load_plan(trial, service, routes, filled.resource)
            busy = await quiet(trial)
            report, fault = await _generate(trial, plan)
            alive = service.running.exit_code() is None
    except NotReady as exc:
        return await trial.evidence(False, str(exc), unit="ms p95", threshold=threshold)
    if report is None:
        return await trial.evidence(False, fault, unit="ms p95", threshold=threshold)
    trial.note(json.dumps(report, indent=1))
    details = {**describe(trial, plan, report), **filled.details(), "left_out": left_out, "busy_before_percent": busy}
    return await _judge(trial, report, details, alive=alive)


async def _judge(trial: Trial, report: Mapping[str, Any], details: dict[str, Any], *, alive: bool) -> Evidence:
    settings = trial.tools.settings
    faults = [*load_faults(report, settings.load_p95_max_ms, settings.load_issued_min_percent)]
    if not alive:
        faults.append("the service died")
    rows = f"{details['rows']:,} rows in {details['table']}" if details["table"] else "no filled table"
    if faults and details["busy_before_percent"] >= BUSY_PERCENT:
        faults.append(f"other work used {details['busy_before_percent']:.0f} % of the cores")
    circumstances = f"{settings.load_rate:g} requests/s for {settings.load_duration_s:g} s, {rows}"
    return await trial.evidence(
        not faults,
        f"{'; '.join(faults)} ({circumstances})"
        if faults
        else f"p95 {report['p95_ms']:g} ms at {circumstances}; no error",
        value=report["p95_ms"],
        unit="ms p95",
        threshold=settings.load_p95_max_ms,
        tool="backwright loadgen",
        details=details,
    )


def load_faults(report: Mapping[str, Any], p95_max_ms: float, issued_min_percent: float) -> list[str]:
    """What the report breaks, as sentences."""
    issued = issued_percent(report)
    checks = (
        (
            report["p95_ms"] is not None and report["p95_ms"] < p95_max_ms,
            f"p95 {report['p95_ms']} ms, not below {p95_max_ms:g} ms",
        ),
        (report["errors"] == 0, f"{report['errors']} errors: {next(iter(report['faults']), '')}"),
        (issued >= issued_min_percent, f"{issued:g} % of the arrivals were issued, not {issued_min_percent:g} %"),
    )
    return [fault for holds, fault in checks if not holds]


def issued_percent(report: Mapping[str, Any]) -> float:
    """Share of the scheduled arrivals that reached the wire, rounded down to a hundredth."""
    return int(report["issued"] / report["arrivals"] * 10_000) / 100 if report["arrivals"] else 0.0


@dataclass(frozen=True, slots=True)
class Filled:
    """The table that was filled (None: there is none), larger candidates that could not be, and creates refused."""

    resource: str | None
    table: str | None
    rows: int
    passed_over: Sequence[str]
    planted: Mapping[str, Any]

    def details(self) -> dict[str, Any]:
        """For the evidence."""
        return {
            "table": self.table,
            "rows": self.rows,
            "passed_over": list(self.passed_over),
            **self.planted,
        }


async def fill_largest(planter: Planter, rows: int) -> Filled:
    """Make one table large: the one with most of get, list, create that can be copied."""
    reasons: list[str] = []
    for name in candidates(planter.service.facts):
        table = planter.resources[name]["table"]
        if planter.rows.get(name) is None:
            reasons.append(f"no row of {name} could be made")
            continue
        try:
            await multiply(planter.connection, table, max(0, rows - await row_count(planter.connection, table)))
        except NotMultipliable as exc:
            reasons.append(str(exc))
            continue
        return Filled(name, table, await row_count(planter.connection, table), reasons, planter.details())
    return Filled(None, None, 0, reasons, planter.details())


def candidates(facts: Mapping[str, Any]) -> list[str]:
    """Resources worth filling: most kinds of operations first, then most columns, then the document's order."""
    resources = [r for r in facts.get("resources", ()) if not r.get("singleton")]
    kinds = {
        r["name"]: {KINDS[o["action"]] for o in derived(facts, *KINDS) if o["resource"] == r["name"]} for r in resources
    }
    ranked = sorted(resources, key=lambda r: (-len(kinds[r["name"]]), -len(r.get("columns", ()))))
    return [r["name"] for r in ranked if kinds[r["name"]]]


async def rehearsed(trial: Trial, planter: Planter) -> tuple[list[Route], dict[str, str]]:
    """Routes whose first requests are answered well; what is left out of the mix, and why.

    Refusals (4xx) mean that we cannot make a valid request from the manifest alone; a 5xx stays in and will count.
    """
    routes: list[Route] = []
    left_out: dict[str, str] = {}
    for operation in derived(planter.service.facts, *KINDS):
        requests = await route_requests(trial, planter, operation)
        answers = [await _rehearse(planter, request) for request in requests[:2]]
        refused = [status for status in answers if status is not None and 300 <= status < 500]
        if not requests:
            left_out[operation["id"]] = "no row to ask for"
        elif refused:
            left_out[operation["id"]] = f"a request made from the manifest was answered {refused[0]}"
        else:
            kind = KINDS[operation["action"]]
            spare = requests[2:] if kind == "create" else requests
            routes.append(Route(kind, operation["id"], operation["resource"], spare))
    return routes, left_out


async def route_requests(trial: Trial, planter: Planter, operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Requests of one operation for the plan: gets and nested lists of different rows, creates that all differ."""
    service = planter.service
    proof = service.credentials.for_security(operation.get("security", ()))

    def planned(request: Request) -> dict[str, Any]:
        headers = request.headers(proof.headers, proof.cookies)
        return {
            "method": request.method,
            "target": request.target(proof.query),
            "headers": headers,
            "body": request.body,
        }

    paths = await real_paths(planter, operation)
    if not paths:
        return []
    if KINDS[operation["action"]] != "create":
        return [planned(operation_request(operation, path=path)) for path in paths]
    settings = trial.tools.settings
    wanted = round(settings.load_rate * (settings.load_duration_s + WARMUP_S)) + 2
    resource = planter.resources[operation["resource"]]
    bodies = varied_bodies(await planter.body(operation), resource, wanted)
    return [
        planned(operation_request(operation, path=paths[i % len(paths)], body=body)) for i, body in enumerate(bodies)
    ]


async def real_paths(planter: Planter, operation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Path parameters of rows that exist; [{}] for a path without keys, [] where there is no such row."""
    names = [key["parameter"] for key in operation.get("path_keys", ())]
    if not names:
        return [{}]
    query = path_query(operation, planter.resources, planter.keys)
    rows = await planter.connection.fetch(query, TARGETS) if query else []
    return [dict(zip(names, map(shown, row.values()), strict=True)) for row in rows if None not in row.values()]


async def _rehearse(planter: Planter, request: Mapping[str, Any]) -> int | None:
    url = planter.service.url + request["target"]
    answer = await fetch(planter.http, request["method"], url, headers=request["headers"], content=request["body"])
    return None if answer is None else answer.status_code


def load_plan(trial: Trial, service: LiveService, routes: Sequence[Route], largest: str | None) -> dict[str, Any]:
    """The generator's input. Kinds that no operation offers leave their share to the others."""
    settings = trial.tools.settings
    kinds = []
    for kind, weight in WEIGHTS.items():
        if of_kind := [route for route in routes if route.kind == kind]:
            weights = operation_weights([route.resource == largest for route in of_kind])
            kinds.append({
                "kind": kind,
                "weight": weight,
                "operations": [
                    {"operation": r.operation, "weight": w, "once": kind == "create", "requests": list(r.requests)}
                    for r, w in zip(of_kind, weights, strict=True)
                ],
            })  # fmt: skip
    return {
        "host": "127.0.0.1", "port": service.port, "rate": settings.load_rate, "duration_s": settings.load_duration_s,
        "warmup_s": WARMUP_S, "connections": CONNECTIONS, "timeout_s": TIMEOUT_S, "seed": settings.fuzz_seed, "kinds": kinds,
    }  # fmt: skip


def operation_weights(on_largest: Sequence[bool]) -> list[float]:
    """Even shares, but those on the largest table have at least LARGEST_SHARE together."""
    count, large = len(on_largest), sum(on_largest)
    if not large or large == count or large / count >= LARGEST_SHARE:
        return [1.0] * count
    return [LARGEST_SHARE / large if flag else (1 - LARGEST_SHARE) / (count - large) for flag in on_largest]


async def _generate(trial: Trial, plan: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    shutil.copyfile(GENERATOR, trial.folder / "loadgen.py")
    (trial.folder / "plan.json").write_text(json.dumps(plan))
    trial.tools.sandbox.share(trial.folder)
    done = await trial.run(
        trial.environment.python, trial.folder / "loadgen.py", trial.folder / "plan.json",
        time_s=trial.tools.settings.load_duration_s + WARMUP_S + 4 * TIMEOUT_S, quiet=True,
    )  # fmt: skip
    try:
        report: dict[str, Any] = json.loads(done.output.strip().splitlines()[-1])
        return (report, "") if done.exit_code == 0 else (None, f"the generator ended with {done.exit_code}")
    except (ValueError, IndexError):
        return None, f"the generator ended with {done.exit_code}: {last_line(done.output)}"


async def quiet(trial: Trial) -> float:
    """Wait until the machine has little else to do, not for ever; how busy it still is, in percent of its cores.

    The service is idle here. What others use now they will use during the measurement, and it will count as latency.
    """
    clock, settings = trial.tools.clock, trial.tools.settings
    deadline = clock.monotonic() + settings.load_quiet_wait_s
    is_said = False
    while True:
        before = cpu_times()
        await clock.sleep(BUSY_SAMPLE_S)
        busy = busy_percent(before, cpu_times())
        if busy < BUSY_PERCENT or clock.monotonic() >= deadline:
            return busy
        if not is_said:
            limit = f"at most {settings.load_quiet_wait_s:g} s"
            trial.tools.progress(f"load: waiting, {limit}: other work uses {busy:.0f} % of the cores")
            is_said = True


def cpu_times() -> tuple[int, int]:
    """(busy, all) time of all cores since boot, in ticks."""
    user, nice, system, idle, wait, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return user + nice + system + sum(rest), user + nice + system + idle + wait + sum(rest)


def busy_percent(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Share of the time between two readings in which the cores worked."""
    whole = after[1] - before[1]
    return round((after[0] - before[0]) / whole * 100, 1) if whole else 0.0


def describe(trial: Trial, plan: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Circumstances and figures for the evidence."""
    figures = ("arrivals", "issued", "errors", "p50_ms", "p95_ms", "p99_ms", "max_ms", "lag_p99_ms", "wall_s")
    total = sum(kind["weight"] for kind in plan["kinds"])
    return {
        "rate": plan["rate"],
        "duration_s": plan["duration_s"],
        "warmup_s": plan["warmup_s"],
        "connections": plan["connections"],
        "cores": len(os.sched_getaffinity(0)),
        "mix_percent": {kind["kind"]: round(kind["weight"] / total * 100, 1) for kind in plan["kinds"]},
        "missing_kinds": [kind for kind in WEIGHTS if kind not in {k["kind"] for k in plan["kinds"]}],
        "derived_operations": sum(o["verdict"] in DERIVED for o in trial.subject.facts.get("operations", ())),
        "issued_percent": issued_percent(report),
        **{name: report[name] for name in figures},
        "kinds": report["kinds"],
        "operations": report["operations"],
        "faults": report["faults"],
        "model": "open: a Poisson schedule fixed before the start; latency counts from the scheduled time",
    }
