"""lint, types, security: the service's own linters on its own configuration, without a network where that can be."""

import json
import re
from collections import Counter
from typing import Any

from agent.gates.trial import Trial, last_line, measured, read_report
from contracts.delivery import Evidence

BLOCKING = ("MEDIUM", "HIGH")
LISTED, LINE = 20, 300
PLACE = re.compile(r"^\S.*?:\d+:\d+: ")  # `ruff check --output-format concise`
UNFORMATTED = re.compile(r"^\s+--> ")
MYPY_ERROR = re.compile(r": error: ")


@measured("lint")
async def check_lint(trial: Trial) -> Evidence:
    """`ruff check` and `ruff format --check`: nothing to report, nothing to reformat."""
    ruff = trial.environment.tool("ruff")
    checked = await trial.run(ruff, "check", "--output-format", "concise", ".", network="none")
    formatted = await trial.run(ruff, "format", "--check", ".", network="none")
    findings, unformatted = lint_findings(checked.output), unformatted_files(formatted.output)
    faults = [
        *faults_in(checked.output, PLACE),
        *(f"not formatted: {place.removeprefix('--> ')}" for place in faults_in(formatted.output, UNFORMATTED)),
    ]
    crashed = next((d for d in (checked, formatted) if d.exit_code not in (0, 1)), None)
    clean = checked.exit_code == 0 and formatted.exit_code == 0
    return await trial.evidence(
        clean,
        f"ruff ended with {crashed.exit_code}: {last_line(crashed.output)}" if crashed
        else f"{findings} findings, {unformatted} files not formatted",
        value=None if crashed else findings + unformatted,
        unit="findings",
        threshold=0,
        tool="ruff",
        details={"findings": findings, "unformatted": unformatted, "faults": faults[:LISTED]},
    )  # fmt: skip


def lint_findings(output: str) -> int:
    """Findings in ruff's output; 0 where it says that all is well."""
    match = re.search(r"^Found (\d+) error", output, re.MULTILINE)
    return int(match[1]) if match else 0


def unformatted_files(output: str) -> int:
    """Files that `ruff format --check` would change; 0 where it names no number."""
    match = re.search(r"^(\d+) files? would be reformatted", output, re.MULTILINE)
    return int(match[1]) if match else 0


def faults_in(output: str, pattern: re.Pattern[str]) -> list[str]:
    """The lines of a tool's output that tell of a fault: the first of them, each cut to what a line of a report holds."""
    return [line.strip()[:LINE] for line in output.splitlines() if pattern.search(line)][:LISTED]


@measured("types")
async def check_types(trial: Trial) -> Evidence:
    """`mypy` as the project configures it: no error."""
    done = await trial.run(trial.environment.tool("mypy"), "--no-color-output", network="none")
    errors, files = type_errors(done.output)
    known = errors is not None and done.exit_code in (0, 1)
    return await trial.evidence(
        done.exit_code == 0 and errors == 0 and files > 0,
        f"{errors} errors in {files} files" if known else f"mypy ended with {done.exit_code}: {last_line(done.output)}",
        value=errors if known else None,
        unit="errors",
        threshold=0,
        tool="mypy",
        details={"files": files, "faults": faults_in(done.output, MYPY_ERROR)},
    )


def type_errors(output: str) -> tuple[int | None, int]:
    """(errors, files checked) from mypy's last line; None where it says nothing."""
    if match := re.search(r"^Success: no issues found in (\d+) source file", output, re.MULTILINE):
        return 0, int(match[1])
    if match := re.search(r"^Found (\d+) errors? in \d+ files? \(.*?(\d+) source file", output, re.MULTILINE):
        return int(match[1]), int(match[2])
    return None, 0


@measured("security")
async def check_security(trial: Trial) -> Evidence:
    """bandit on the code: nothing of medium or high severity. Says what it does not look at."""
    report = trial.folder / "bandit.json"
    done = await trial.run(
        trial.environment.tool("bandit"), "-q", "-r", "app", "-f", "json", "-o", report, "--exit-zero", network="none"
    )
    found = bandit_report(read_report(report) or "")
    if found is None or done.exit_code:
        return await trial.evidence(
            False, f"bandit ended with {done.exit_code}: {last_line(done.output)}", tool="bandit", threshold=0
        )
    trial.note(json.dumps(found["findings"], indent=1))
    blocking = sum(found["severities"].get(severity, 0) for severity in BLOCKING)
    return await trial.evidence(
        blocking == 0 and found["lines"] > 0 and not found["errors"],
        f"{blocking} findings of medium or high severity in {found['lines']} lines",
        value=blocking,
        unit="findings",
        threshold=0,
        tool="bandit",
        details={**found, "dependency_audit": "not performed: no source of advisories is configured"},
    )


def bandit_report(text: str) -> dict[str, Any] | None:
    """Counts and the first findings of a bandit JSON report; None if it is not one."""
    try:
        report = json.loads(text)
        results = report["results"]
        return {
            "lines": report["metrics"]["_totals"]["loc"],
            "severities": dict(Counter(result["issue_severity"] for result in results)),
            "suppressed": report["metrics"]["_totals"].get("nosec", 0)
            + report["metrics"]["_totals"].get("skipped_tests", 0),
            "errors": [f"{e['filename']}: {e['reason']}" for e in report["errors"]][:LISTED],
            "findings": [_bandit_line(r) for r in results][:LISTED],
            "faults": [_bandit_line(r) for r in results if r["issue_severity"] in BLOCKING][:LISTED],
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _bandit_line(result: dict[str, Any]) -> str:
    place = f"{result['filename']}:{result['line_number']}"
    return f"{place}: {result['test_id']} {result['issue_severity']}: {result['issue_text']}"
