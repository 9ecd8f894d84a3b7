"""The delivery as people read it: `.backwright/README.md` and its picture, rendered from the evidence alone. Pure.

A forge shows the page when somebody opens the folder. A stranger's text reaches it as a code span or not at all.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from agent.pipeline.sight import quoted
from contracts.delivery import Evidence, GateVerdict, ReadinessItem

PAGE, PLOT = "README.md", "load.svg"
MARKS = {GateVerdict.PASS: "✓", GateVerdict.FAIL: "✗", GateVerdict.WAIVED: "waived", GateVerdict.SKIPPED: "–"}
FOOT = (
    "Everything measured, with commands and tool versions: `evidence.json`. Why each operation is what it is: "
    "`report.json`. What was found in the document and in its surroundings: `analysis.md`."
)
ROW, LEFT, WIDTH, TOP = 22, 220, 760, 42  # pixels
FONT = 'font-family="sans-serif" font-size="12" fill="#57606a"'


def page(
    summary: str,
    evidence: Sequence[Evidence],
    readiness: Sequence[ReadinessItem],
    pending: Sequence[str],
    resources: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """File name to text. `resources`: those of `plan.json`. The picture is there only if load was measured."""
    plot = load_plot(evidence)
    sections = [
        ["# Delivery", "", summary],
        ["## Measured", "", *_gates(evidence)],
        ["## Latency under load", "", f"![p50, p95 and p99 of each operation]({PLOT})"] if plot else [],
        ["## Production readiness", "", *_readiness(readiness)],
        ["## Pending", "", *(f"- {quoted(line, 300)}" for line in pending)] if pending else [],
        ["## Data", "", *_diagram(resources)] if resources else [],
        [FOOT],
    ]
    text = "\n\n".join("\n".join(section) for section in sections if section) + "\n"
    return {PAGE: text} | ({PLOT: plot} if plot else {})


def _gates(evidence: Sequence[Evidence]) -> Iterator[str]:
    yield "| gate | | measured | threshold | what was seen |"
    yield "|---|---|---|---|---|"
    for one in evidence:
        measured, threshold = _figure(one.value, one.unit), _figure(one.threshold, one.unit)
        yield f"| {one.gate} | {MARKS[one.verdict]} | {measured} | {threshold} | {_cell(one.summary)} |"


def _figure(value: float | str | bool | None, unit: str | None) -> str:
    if value is None or isinstance(value, bool):
        return ""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return _cell(f"{shown} {unit or ''}")


def _cell(text: str) -> str:
    """A table splits its cells inside of code spans, too."""
    return quoted(text, 300).replace("|", r"\|")


def _readiness(items: Sequence[ReadinessItem]) -> Iterator[str]:
    for item in items:
        note = f", {quoted(item.note, 300)}" if item.note else ""
        yield f"- {item.item}: {item.state}{note}"


def _diagram(resources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Mermaid, which forges draw: what is stored, and what points to what."""
    yield from ("```mermaid", "erDiagram")
    for resource in resources:
        name = _entity(resource["name"])
        yield f'    "{name}"'
        for reference in resource["references"]:
            yield f'    "{_entity(reference["target"])}" ||--o{{ "{name}" : "{_entity(reference["name"])}"'
    yield "```"


def _entity(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_ .-]", "_", name)[:60] or "_"


def load_plot(evidence: Sequence[Evidence]) -> str | None:
    """p50, p95 and p99 in milliseconds of each operation on a logarithmic axis, and the threshold; None if not measured."""
    load = next((one for one in evidence if one.gate == "load" and one.value is not None), None)
    measured = load.details.get("operations", {}) if load else {}
    rows = [(name, [seen[f"p{n}_ms"] for n in (50, 95, 99)]) for name, seen in measured.items()]
    rows = [(name, values) for name, values in rows if all(value is not None for value in values)]
    if load is None or not rows:
        return None
    limit = float(load.threshold) if isinstance(load.threshold, int | float) else None
    top = max(limit or 0.0, *(values[-1] for _, values in rows)) * 1.3
    return _svg(
        rows, limit, top, f"{load.details.get('rate', '?')} requests/s, {load.details.get('duration_s', '?')} s"
    )


def _svg(rows: Sequence[tuple[str, Sequence[float]]], limit: float | None, top: float, title: str) -> str:
    def x(milliseconds: float) -> float:
        share = math.log10(max(milliseconds, 1.0)) / math.log10(max(top, 10.0))
        return round(LEFT + share * (WIDTH - LEFT - 40), 1)

    bottom = TOP + ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 40}" {FONT}>',
        f'<rect width="{WIDTH}" height="{bottom + 40}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-weight="bold">p50 ─ p95 ─ p99 in ms, {escape(title)}</text>',
    ]
    for tick in (t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if t <= top):
        parts.append(f'<path d="M{x(tick)} {TOP - 8}V{bottom}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{x(tick)}" y="{bottom + 18}" text-anchor="middle">{tick}</text>')
    if limit is not None:
        parts.append(f'<path d="M{x(limit)} {TOP - 8}V{bottom}" stroke="#cf222e" stroke-dasharray="4 3"/>')
        parts.append(
            f'<text x="{x(limit)}" y="{bottom + 34}" text-anchor="middle" fill="#cf222e">p95 limit {limit:g}</text>'
        )
    for number, (name, (p50, p95, p99)) in enumerate(rows):
        y = TOP + ROW * number + ROW // 2
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{_label(name)}</text>')
        parts.append(f'<path d="M{x(p50)} {y}H{x(p99)}" stroke="#54aeff" stroke-width="3"/>')
        parts += [
            f'<circle cx="{x(value)}" cy="{y}" r="4" fill="{colour}"><title>{value:g} ms</title></circle>'
            for value, colour in ((p50, "#0969da"), (p95, "#8250df"), (p99, "#bf3989"))
        ]
    return "\n".join([*parts, "</svg>", ""])


def _label(name: str) -> str:
    """XML knows no control characters, not even escaped."""
    return escape("".join(c if c.isprintable() else " " for c in name)[:32])
