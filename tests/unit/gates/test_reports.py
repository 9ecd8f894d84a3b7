"""What tools print becomes figures; what they do not print becomes no figure."""

import json

import pytest

from agent.gates.container import images_of, reason
from agent.gates.environment import pins
from agent.gates.fuzz import bare, case_failures, curl, run_report
from agent.gates.live import Credentials, NotReady
from agent.gates.static import (
    PLACE,
    UNFORMATTED,
    bandit_report,
    faults_in,
    lint_findings,
    type_errors,
    unformatted_files,
)
from agent.gates.tests import TEST_FAULT, coverage_figures, pytest_counts
from agent.gates.trial import last_line


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("All checks passed!\n", 0),
        ("app/main.py:1:1: F401 unused\nFound 12 errors.\n[*] 2 fixable", 12),
        ("Found 1 error.", 1),
        ("", 0),
    ],
)
def test_lint_findings(output: str, expected: int) -> None:
    """ruff's own count, not the number of lines."""
    assert lint_findings(output) == expected


@pytest.mark.parametrize(
    ("output", "files", "faults"),
    [
        ("73 files already formatted\n", 0, []),
        ("unformatted: File would be reformatted\n  --> app/a.py:61:1\n   |\n60 |     x\n\n1 file would be reformatted, 73 files already formatted", 1, ["--> app/a.py:61:1"]),
        ("12 files would be reformatted", 12, []),
        ("error: Failed to parse app/a.py", 0, []),
    ],
)  # fmt: skip
def test_unformatted_files(output: str, files: int, faults: list[str]) -> None:
    """By the closing line: how a file is named has changed between versions of ruff."""
    assert unformatted_files(output) == files
    assert faults_in(output, UNFORMATTED) == faults


def test_lines_that_tell_of_a_fault_are_few_and_short() -> None:
    """They travel in events; the log has all."""
    output = "Found 40 errors\n" + "\n".join(f"app/a.py:{line}:1: E402 {'x' * 1000}" for line in range(40))

    found = faults_in(output, PLACE)

    assert len(found) == 20
    assert {len(line) for line in found} == {300}


@pytest.mark.parametrize(
    ("output", "faults"),
    [
        ("FAILED tests/test_a.py::test_it - assert 1\n1 failed", ["FAILED tests/test_a.py::test_it - assert 1"]),
        ("ERROR tests/test_a.py\nERRORS happen", ["ERROR tests/test_a.py"]),
        ("it FAILED here\n3 passed", []),
    ],
)
def test_failed_tests_are_named(output: str, faults: list[str]) -> None:
    """As pytest's short summary names them."""
    assert faults_in(output, TEST_FAULT) == faults


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Success: no issues found in 31 source files", (0, 31)),
        ("app/x.py:1: error: no\nFound 3 errors in 2 files (checked 31 source files)", (3, 31)),
        ("Found 1 error in 1 file (errors prevented further checking)", (None, 0)),
        ("mypy: can't read file 'app'", (None, 0)),
    ],
)
def test_type_errors(output: str, expected: tuple[int | None, int]) -> None:
    """A run that stopped early has no count."""
    assert type_errors(output) == expected


@pytest.mark.parametrize(
    ("output", "passed", "other"),
    [
        ("== 40 passed in 2.10s ==", 40, {}),
        ("40 passed, 2 skipped, 1 xfailed in 61.10s (0:01:01)", 40, {"skipped": 2, "xfailed": 1}),
        ("=== 1 failed, 3 passed, 2 errors in 0.5s ===", 3, {"failed": 1, "error": 2}),
        ("12 passed, 3 deselected, 4 warnings in 1.0s", 12, {"deselected": 3}),
        ("no tests ran in 0.01s", 0, {}),
        ("Segmentation fault", 0, {}),
    ],
)
def test_pytest_counts(output: str, passed: int, other: dict[str, int]) -> None:
    """The closing line in each of its forms; text in between that looks like it does not count."""
    counts = pytest_counts("test says: 999 passed in the log\n" + output)

    assert counts["passed"] == passed
    assert {kind: n for kind, n in counts.items() if n and kind != "passed"} == other


def test_coverage_is_rounded_down_and_needs_branches() -> None:
    """79.96 % is not 80 %; a report without branches has no branch figure."""
    report = {
        "meta": {"branch_coverage": True},
        "totals": {"num_branches": 10_000, "covered_branches": 7_996, "covered_lines": 9, "num_statements": 10},
        "files": {"app/a.py": {}},
    }

    assert coverage_figures(json.dumps(report)) == {
        "branch_percent": 79.9, "statement_percent": 90.0, "branches": 10_000, "statements": 10, "files": ["app/a.py"],
    }  # fmt: skip
    report["meta"] = {"branch_coverage": False}
    without = coverage_figures(json.dumps(report))
    assert without is not None
    assert without["branch_percent"] is None


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"totals": 1}', '{"results": {}, "metrics": {}}'])
def test_reports_of_another_shape_are_no_reports(text: str) -> None:
    """A tool that crashed halfway must not become a green gate."""
    assert coverage_figures(text) is None
    assert bandit_report(text) is None
    assert run_report(text) is None


def test_bandit_report_counts_severities() -> None:
    """Low findings are shown, medium and high ones decide."""
    results = [
        {"issue_severity": s, "filename": "app/a.py", "line_number": 1, "test_id": "B1", "issue_text": "x"}
        for s in ("LOW", "HIGH", "HIGH")
    ]
    found = bandit_report(
        json.dumps({"results": results, "errors": [], "metrics": {"_totals": {"loc": 10, "nosec": 1}}})
    )

    assert found is not None
    assert found["severities"] == {"LOW": 1, "HIGH": 2}
    assert (found["lines"], found["suppressed"]) == (10, 1)
    assert found["faults"] == ["app/a.py:1: B1 HIGH: x"] * 2


def event(**recorder: object) -> str:
    """A line of Schemathesis' NDJSON report."""
    return json.dumps({"ScenarioFinished": {"recorder": recorder}})


FAILURE = {
    "name": "not_a_server_error", "status": "failure",
    "failure_info": {"failure": {"operation": "GET /pets/{id}", "title": "Server error", "message": "boom\nmore"}},
}  # fmt: skip
INTERACTION = {
    "request": {"method": "GET", "uri": "http://127.0.0.1:1/pets/0", "headers": {"X": ["a'b"]}},
    "response": {"status_code": 500},
}


def test_failures_are_counted_once_with_a_request_that_repeats_them() -> None:
    """The same fault in a hundred cases is one fault; without a request nobody can act on it."""
    line = event(
        label="x", checks={"a": [FAILURE, {"name": "ignored_auth", "status": "success"}], "b": [FAILURE]},
        interactions={"a": INTERACTION, "b": INTERACTION},
    )  # fmt: skip

    failures, ran = case_failures([line, "{half a li"])

    assert [f["check"] for f in failures] == ["not_a_server_error"]
    assert failures[0]["reproduce"] == """curl -i -X GET -H 'X: a'"'"'b' http://127.0.0.1:1/pets/0"""
    assert failures[0]["status"] == 500
    assert ran == {"ignored_auth": 1, "not_a_server_error": 2}


def test_a_reproduction_is_printable_and_bounded() -> None:
    """Generated bodies hold anything; the evidence is read on terminals."""
    shown = curl({"method": "POST", "uri": "http://h/", "headers": {}, "body": {"$base64": "AAob" + "QUFB" * 1000}})

    assert shown.isprintable()
    assert len(shown) <= 600


def test_run_report_of_schemathesis() -> None:
    """The figures that stand in the evidence."""
    report = {
        "test_cases": {"generated": 64, "unique_failures": 4}, "operations": {"tested": 2},
        "phases": {"fuzzing": {"status": "failure"}, "stateful": {"status": "skip"}},
        "errors": [{"title": "x"}], "complete": True, "stop_reason": "completed", "seed": 1,
    }  # fmt: skip

    assert run_report(json.dumps(report)) == {
        "cases": 64, "unique_failures": 4, "tested": 2, "phases": {"fuzzing": "failure", "stateful": "skip"},
        "errors": ['{"title": "x"}'], "complete": True, "stop_reason": "completed", "seed": 1,
    }  # fmt: skip


def test_pins_ignore_hashes_markers_and_spelling() -> None:
    """Both lock files are compared by what they pin."""
    lock = 'Foo_Bar==1.0 ; sys_platform == "x" \\\n    --hash=sha256:00\n    # via baz\nuvloop[x]==2\n'

    assert pins(lock) == {("foo-bar", "1.0"), ("uvloop", "2")}


def test_credentials_prove_the_first_alternative_that_they_can() -> None:
    """`security` is a list of alternatives; one with several schemes needs all of them."""
    text = json.dumps(
        {"environment": {"A": 1}, "schemes": {"key": {"headers": {"X-Key": "k"}}, "cookie": {"cookies": {"c": "v"}}}}
    )
    credentials = Credentials.parse("a warning\n" + text)

    assert credentials.environment == {"A": "1"}
    proof = credentials.for_security([{"unknown": []}, {"key": [], "cookie": []}])
    assert (proof.headers, proof.cookies) == ({"X-Key": "k"}, {"c": "v"})
    assert credentials.for_security([]).headers == {}
    with pytest.raises(NotReady):
        credentials.for_security([{"unknown": []}])


@pytest.mark.parametrize("text", ["", "[]", "null", "traceback", '{"schemes": {}}'])
def test_credentials_of_another_shape_are_refused(text: str) -> None:
    """Whatever the service prints, it does not become a header."""
    with pytest.raises(ValueError):
        Credentials.parse(text)


def test_last_line_is_short_and_printable() -> None:
    """It stands in a summary on a terminal."""
    assert last_line("one\n\x1b[31mtwo" + "x" * 500 + "\n\n") == ("?[31mtwo" + "x" * 500)[:200]
    assert last_line("") == "no output"


def test_images_of_a_dockerfile() -> None:
    """What must be on the machine before a build is tried: stages and `scratch` are no images."""
    dockerfile = (
        'ARG PYTHON=3.12\nARG BASE="debian:12"\nFROM --platform=linux/amd64 python:${PYTHON}-slim AS build\nRUN true\n'
        "from $BASE as run\nCOPY --from=build /a /a\nFROM run\nFROM scratch\n"
    )

    assert images_of(dockerfile) == ["python:3.12-slim", "debian:12"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("ERROR: failed to solve: exit code: 1\n\nView build details: docker-desktop://x\n", "ERROR: failed to solve: exit code: 1"),
        ("Step 2/2 : RUN false\nThe command returned a non-zero code: 1\n", "The command returned a non-zero code: 1"),
        ('Error: building at STEP "RUN false": exit status 1\n', 'Error: building at STEP "RUN false": exit status 1'),
    ],
)  # fmt: skip
def test_reason_of_a_build_that_ended(output: str, expected: str) -> None:
    """As BuildKit with its hint, the builder before it, and podman say it."""
    assert reason(output) == expected


def test_images_that_a_build_takes_files_or_its_syntax_from_are_fetched_too() -> None:
    """A user may have written such a Dockerfile; a syntax is a program that reads the project."""
    dockerfile = (
        "# escape=`\n# syntax=docker/dockerfile:1\nFROM scratch AS One\nCOPY --chown=1:1 --from=ghcr.io/a/uv:0.9 /uv /\n"
        "COPY \\\n  --from=one /x /y\nCOPY --from=0 /x /y\nRUN --mount=type=bind,from=debian:12,target=/d true\n"
    )

    assert images_of(dockerfile) == ["docker/dockerfile:1", "ghcr.io/a/uv:0.9", "debian:12"]


@pytest.mark.parametrize(
    ("carried", "kind", "expected"),
    [
        ("k3y", "api_key", {"": "k3y"}),
        ("Bearer a.b.c", "bearer", {"": "a.b.c", "_TOKEN": "a.b.c"}),
        ("Basic ZGV2OnA6dw==", "basic", {"": "dev:p:w", "_USERNAME": "dev", "_PASSWORD": "p:w"}),
    ],
)
def test_credentials_are_handed_to_the_fuzzer_bare(carried: str, kind: str, expected: dict[str, str]) -> None:
    """The tool adds `Bearer` and encodes basic itself."""
    assert bare(carried, kind) == expected
