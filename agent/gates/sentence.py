"""The delivery sentence in the origin's manner. A number appears only if a gate measured it on what is delivered."""

from collections.abc import Mapping, Sequence

from contracts.delivery import Evidence, GateVerdict, OperationReport

STACKS = {"python-fastapi": "Python/FastAPI", "go-gin": "Go/Gin", "node-fastify": "Node.js/Fastify"}
IMPLEMENTED = ("derived", "declared")


def sentence(
    evidence: Sequence[Evidence],
    *,
    target: str,
    path: str,
    operations: Sequence[OperationReport] = (),
    features: Sequence[str] = (),
) -> str:
    """`path`: where the service lies, for example `services/orders`. `features`: claims that the caller can show."""
    by_gate = {one.gate: one for one in evidence if one.verdict in (GateVerdict.PASS, GateVerdict.WAIVED)}
    parts = [
        "Backend implementation complete.",
        f"Delivered {_extent(operations)} using {STACKS.get(target, target)} in `{path}`.",
        f"Features include {_listed(features)}." if features else "",
        _achieved(by_gate),
        _fuzzed(by_gate),
        _not_performed(evidence),
    ]
    return " ".join(part for part in parts if part)


def _extent(operations: Sequence[OperationReport]) -> str:
    if not operations:
        return "a service"
    done = sum(operation.verdict in IMPLEMENTED for operation in operations)
    if done == len(operations):
        return "its one operation" if done == 1 else f"all {done} operations"
    pending = len(operations) - done
    return f"{done} of {len(operations)} operations ({pending} pending)"


def _achieved(by_gate: Mapping[str, Evidence]) -> str:
    coverage = _number(by_gate.get("tests"))
    latency = _number(by_gate.get("load"))
    rate = by_gate["load"].details.get("rate") if "load" in by_gate else None
    claims = []
    if coverage is not None:
        claims.append(f"{coverage:g}% branch coverage")
    if latency is not None:
        claims.append(f"{_milliseconds(latency)} p95 latency" + (f" at {rate:g} requests/s" if rate else ""))
    return f"Achieved {' with '.join(claims)}." if claims else ""


def _fuzzed(by_gate: Mapping[str, Evidence]) -> str:
    fuzz = by_gate.get("fuzz")
    cases = fuzz.details.get("cases") if fuzz else None
    return f"{cases:,} generated requests against the document found no failure." if cases else ""


def _not_performed(evidence: Sequence[Evidence]) -> str:
    skipped = [one.gate for one in evidence if one.verdict is GateVerdict.SKIPPED and one.gate != "holes"]
    return f"Not performed: {_listed(skipped)}." if skipped else ""


def _number(one: Evidence | None) -> float | None:
    value = one.value if one else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _listed(words: Sequence[str]) -> str:
    if len(words) < 3:
        return " and ".join(words)
    return f"{', '.join(words[:-1])}, and {words[-1]}"
