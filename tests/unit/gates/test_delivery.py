"""The readiness items and the delivery sentence say what was measured, and nothing else."""

from typing import Any

import pytest

from agent.gates.readiness import readiness
from agent.gates.sentence import sentence
from contracts.delivery import Evidence, GateVerdict, OperationReport

PASS, FAIL, SKIPPED = GateVerdict.PASS, GateVerdict.FAIL, GateVerdict.SKIPPED


def evidence(gate: str, verdict: GateVerdict = PASS, value: Any = None, **details: Any) -> Evidence:
    """One piece of evidence."""
    return Evidence(gate=gate, verdict=verdict, value=value, summary=f"{gate} says so", details=details)


ALL = (
    evidence("document"), evidence("migrations"), evidence("container", SKIPPED), evidence("load", value=14.2, rate=50),
    evidence("security", dependency_audit="not performed: why"), evidence("tests", value=91.2), evidence("fuzz", cases=1234),
    evidence("start", refuses_without_settings=True, metric_families=7, runbook="RUNBOOK.md"),
)  # fmt: skip


def test_the_eight_items_stand_in_the_origins_order() -> None:
    """The list is part of the contract with people."""
    assert [item.item for item in readiness(ALL)] == [
        "OpenAPI documentation complete", "Database migrations verified", "Container images built",
        "Configuration externalized", "Load tests executed", "Security scan passed", "Metrics exposed",
        "Operational runbook ready",
    ]  # fmt: skip


def test_an_item_without_evidence_is_not_performed() -> None:
    """Silence is not success."""
    assert {item.state for item in readiness(())} == {"not performed"}
    assert all(item.note for item in readiness(()))


def test_items_follow_their_evidence() -> None:
    """Passed, failed, and not performed with the reason of the gate."""
    items = {item.item: item for item in readiness(ALL)}

    assert items["Container images built"].state == "not performed"
    assert items["Container images built"].note == "container says so"
    assert items["Metrics exposed"].note == "7 metric families"
    assert items["Security scan passed"].note == "security says so; audit of dependencies not performed: why"
    assert items["Load tests executed"].evidence == ("load",)


@pytest.mark.parametrize(
    ("details", "failed"),
    [
        ({"refuses_without_settings": False, "metric_families": 7, "runbook": "R"}, "Configuration externalized"),
        ({"refuses_without_settings": True, "metric_families": 0, "runbook": "R"}, "Metrics exposed"),
        ({"refuses_without_settings": True, "metric_families": 7, "runbook": None}, "Operational runbook ready"),
    ],
)
def test_one_gate_can_show_several_items(details: dict[str, Any], failed: str) -> None:
    """A start without metrics is no fault of the configuration."""
    found = readiness((evidence("start", FAIL, **details),))

    assert [item.item for item in found if item.state == "failed"] == [failed]


def operation(verdict: str) -> OperationReport:
    """A line of the report."""
    return OperationReport(operation="x", method="GET", path="/x", verdict=verdict, rule="r")


def test_sentence_in_the_origins_manner() -> None:
    """Every number is a gate's value."""
    text = sentence(
        ALL, target="python-fastapi", path="services/orders", operations=[operation("derived")] * 12 + [operation("hooked")] * 2,
        features=["PostgreSQL persistence", "keyset pagination", "OAuth2 authentication"],
    )  # fmt: skip

    assert text == (
        "Backend implementation complete. Delivered 12 of 14 operations (2 pending) using Python/FastAPI in `services/orders`. "
        "Features include PostgreSQL persistence, keyset pagination, and OAuth2 authentication. "
        "Achieved 91.2% branch coverage with 14 ms p95 latency at 50 requests/s. "
        "1,234 generated requests against the document found no failure. Not performed: container."
    )


def test_a_failed_or_missing_gate_gives_no_number() -> None:
    """A figure of a failing gate is no achievement."""
    text = sentence(
        (evidence("tests", FAIL, 91.2), evidence("load", SKIPPED)), target="python-fastapi", path="services/x"
    )

    assert (
        text
        == "Backend implementation complete. Delivered a service using Python/FastAPI in `services/x`. Not performed: load."
    )


@pytest.mark.parametrize(("value", "shown"), [(8.26, "8.3 ms"), (99.4, "99 ms")])
def test_latency_has_as_many_digits_as_it_deserves(value: float, shown: str) -> None:
    """Nobody measures hundredths on a shared machine."""
    assert f"Achieved {shown} p95 latency." in sentence((evidence("load", value=value),), target="t", path="p")
