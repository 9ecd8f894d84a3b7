"""The origin's eight readiness items, each with its evidence or the plain statement that it was not performed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from contracts.delivery import Evidence, GateVerdict, ReadinessItem

PASSED, FAILED, NOT_PERFORMED = "passed", "failed", "not performed"
Judged = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Item:
    """One item: which gates show it, and what they have to say about it."""

    name: str
    gates: tuple[str, ...]
    judge: Callable[[Sequence[Evidence]], Judged]


def readiness(evidence: Sequence[Evidence]) -> tuple[ReadinessItem, ...]:
    """The eight items, in the origin's order."""
    by_gate = {one.gate: one for one in evidence}
    items = []
    for item in ITEMS:
        shown = [by_gate[gate] for gate in item.gates if gate in by_gate]
        state, note = item.judge(shown) if len(shown) == len(item.gates) else (NOT_PERFORMED, _missing(item, by_gate))
        items.append(ReadinessItem(item=item.name, state=state, evidence=tuple(e.gate for e in shown), note=note))
    return tuple(items)


def _missing(item: Item, by_gate: Mapping[str, Evidence]) -> str:
    absent = [gate for gate in item.gates if gate not in by_gate]
    return f"no evidence of {', '.join(absent)}"


def verdict_of(shown: Sequence[Evidence]) -> Judged:
    """Passed if all gates passed, failed if one failed; the note says which, or why not."""
    for one in shown:
        if one.verdict is GateVerdict.FAIL:
            return FAILED, one.summary
    for one in shown:
        if one.verdict is GateVerdict.SKIPPED:
            return NOT_PERFORMED, one.summary
    waived = [one.gate for one in shown if one.verdict is GateVerdict.WAIVED]
    if waived:
        return PASSED, f"waived by a person: {', '.join(waived)}"
    return PASSED, shown[0].summary


def _security(shown: Sequence[Evidence]) -> Judged:
    state, note = verdict_of(shown)
    audit = shown[0].details.get("dependency_audit")
    return state, f"{note}; audit of dependencies {audit}" if audit else note


def _fact(name: str, good: str, bad: str) -> Callable[[Sequence[Evidence]], Judged]:
    """An item that is one detail of a gate: the gate may have failed for another reason."""

    def judge(shown: Sequence[Evidence]) -> Judged:
        (one,) = shown
        if name not in one.details:
            return (NOT_PERFORMED if one.verdict is GateVerdict.SKIPPED else FAILED), one.summary
        value = one.details[name]
        return (PASSED, good.format(value)) if value else (FAILED, bad)

    return judge


ITEMS = (
    Item("OpenAPI documentation complete", ("document",), verdict_of),
    Item("Database migrations verified", ("migrations",), verdict_of),
    Item("Container images built", ("container",), verdict_of),
    Item(
        "Configuration externalized",
        ("start",),
        _fact(
            "refuses_without_settings",
            "started from environment variables alone, and refused to start without them",
            "it starts without its settings",
        ),
    ),
    Item("Load tests executed", ("load",), verdict_of),
    Item("Security scan passed", ("security",), _security),
    Item("Metrics exposed", ("start",), _fact("metric_families", "{} metric families", "no metrics are exposed")),
    Item(
        "Operational runbook ready",
        ("start",),
        _fact("runbook", "{}; that it is there is checked, not what it says", "no runbook in the delivery"),
    ),
)
