"""tests: the service's own tests on a real PostgreSQL, with branch coverage; every test runs."""

import json
import re
from typing import Any

from agent.gates.static import faults_in
from agent.gates.trial import Trial, last_line, measured, read_report
from contracts.delivery import Evidence

COUNTED = ("passed", "failed", "error", "skipped", "xfailed", "xpassed", "deselected")
# What keeps a test from being one that ran and asserted.
NOT_RUN = ("skipped", "xfailed", "xpassed", "deselected")
TEST_FAULT = re.compile(r"^(FAILED|ERROR|SKIPPED|XFAIL|XPASS) ")  # of pytest's short summary


@measured("tests")
async def check(trial: Trial) -> Evidence:
    """pytest under coverage: all pass, none is left out, statements and branches reach the threshold."""
    report = trial.folder / "coverage.json"
    python = trial.environment.python
    async with trial.tools.databases.server(leash=trial.tools.leash) as server:
        database = await server.database()
        done = await trial.run(
            python, "-m", "coverage", "run", "--branch", "-m", "pytest", "-ra", "-p", "no:cacheprovider",
            environment={"SERVICE_TEST_DATABASE_URL": database.dsn},
        )  # fmt: skip
    await trial.run(python, "-m", "coverage", "json", "-q", "-o", report)
    counts = pytest_counts(done.output)
    covered = coverage_figures(read_report(report) or "")
    threshold = trial.tools.settings.coverage_min_percent
    faults = [
        *_test_faults(counts, done.exit_code, done.output),
        *_coverage_faults(covered, threshold, trial),
    ]
    branch = covered["branch_percent"] if covered else None
    return await trial.evidence(
        not faults,
        "; ".join(faults) or f"{counts['passed']} tests passed, none skipped; {branch} % of the branches covered",
        value=branch,
        unit="% of branches",
        threshold=threshold,
        tool="pytest",
        details={
            "tests": counts,
            "faults": faults_in(done.output, TEST_FAULT),
            **(covered or {}),
            "coverage_version": trial.environment.version("coverage"),
            "postgresql": server.version,
        },
    )


def _test_faults(counts: dict[str, int], exit_code: int, output: str) -> list[str]:
    if not counts["passed"] and not counts["failed"]:
        return [f"no test passed (pytest ended with {exit_code}: {last_line(output)})"]
    faults = [f"{counts[kind]} {kind}" for kind in ("failed", "error", *NOT_RUN) if counts[kind]]
    if exit_code and not faults:
        faults.append(f"pytest ended with {exit_code}: {last_line(output)}")
    return faults


def _coverage_faults(covered: dict[str, Any] | None, threshold: float, trial: Trial) -> list[str]:
    if covered is None:
        return ["no coverage was measured"]
    faults = []
    if covered["branches"] is None:
        faults.append("branches were not measured")
    measured = {what: covered[f"{what}_percent"] for what in ("branch", "statement")}
    faults += [
        f"{what} coverage {percent} % is below {threshold:g} %"
        for what, percent in measured.items()
        if percent is not None and percent < threshold
    ]
    code = {p.relative_to(trial.project).as_posix() for p in (trial.project / "app").rglob("*.py") if p.stat().st_size}
    if unmeasured := sorted(code - set(covered["files"])):
        faults.append(f"{len(unmeasured)} files left out of the measurement, for example {unmeasured[0]}")
    covered["files"] = len(covered["files"])
    return faults


def pytest_counts(output: str) -> dict[str, int]:
    """How many tests ended how, from pytest's closing line (`== 3 failed, 40 passed, 1 skipped in 2.10s ==`)."""
    closing = next((line for line in reversed(output.splitlines()) if re.search(r"\bin [\d.]+s\b", line)), "")
    found = {kind: int(n) for n, kind in re.findall(r"(\d+) ([a-z]+)", closing)}
    found["error"] = found.get("error", 0) + found.get("errors", 0)
    return {kind: found.get(kind, 0) for kind in COUNTED}


def coverage_figures(text: str) -> dict[str, Any] | None:
    """Figures of a coverage JSON report, percentages rounded down to a tenth; None if it is not one."""
    try:
        report = json.loads(text)
        totals = report["totals"]
        branches, taken = totals.get("num_branches"), totals.get("covered_branches")
        if not report["meta"]["branch_coverage"]:
            branches = None
        return {
            "branch_percent": None if branches is None else _percent(taken, branches),
            "statement_percent": _percent(totals["covered_lines"], totals["num_statements"]),
            "branches": branches,
            "statements": totals["num_statements"],
            "files": sorted(report["files"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _percent(part: int, whole: int) -> float:
    # Down, not to nearest: 79.96 % is not 80 %.
    return int(part / whole * 1000) / 10 if whole else 100.0
