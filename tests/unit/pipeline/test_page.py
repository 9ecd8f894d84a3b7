"""The page of a delivery: every figure from evidence, every stranger's word inert, a picture only of what was measured."""

import re
from typing import Any
from xml.etree import ElementTree

from agent.pipeline.page import PAGE, PLOT, load_plot, page
from contracts.delivery import Evidence, GateVerdict, ReadinessItem

HOSTILE = 'a`|<script>\n# b](javascript:x) "}\x00\x1b[31m'
SVG = "{http://www.w3.org/2000/svg}"


def _load(**operations: Any) -> Evidence:
    return Evidence(
        gate="load", verdict=GateVerdict.PASS, value=12.5, unit="ms", threshold=100.0, summary="500 requests", exit_code=0,
        subject_digest="sha256:" + "0" * 64,
        details={"operations": operations, "rate": 50, "duration_s": 10},
    )  # fmt: skip


def _times(p50: float | None, p95: float, p99: float) -> dict[str, float | None]:
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def test_what_was_measured_stands_beside_its_threshold() -> None:
    """A reader needs no other file to see what passed by how much."""
    text = page("Built.", [_load(listOrders=_times(4, 12.5, 20))], [], [], [])[PAGE]

    assert "| load | ✓ | `12.5 ms` | `100 ms` | `500 requests` |" in text
    assert f"]({PLOT})" in text


def test_a_gate_that_was_not_performed_shows_no_number_and_no_picture() -> None:
    """Its reason stands where the others have what was seen."""
    skipped = Evidence(gate="load", verdict=GateVerdict.SKIPPED, summary="no derived operation")

    made = page("Built.", [skipped], [], [], [])

    assert "| load | – |  |  | `no derived operation` |" in made[PAGE]
    assert list(made) == [PAGE]


def test_empty_sections_are_left_out() -> None:
    """Nothing pending is said by saying nothing; what is pending is listed."""
    item = ReadinessItem(item="Load tests", state="passed", evidence=("load",))

    assert "## Pending" not in page("Built.", [], [item], [], [])[PAGE]
    assert (
        "- `Operation shipOrder: an action`" in page("Built.", [], [item], ["Operation shipOrder: an action"], [])[PAGE]
    )
    assert "- Load tests: passed" in page("Built.", [], [item], [], [])[PAGE]


def test_names_of_the_document_stay_inside_of_their_place() -> None:
    """No markup, no further cell, no way out of the diagram or of the picture."""
    resource = {"name": HOSTILE, "references": [{"name": HOSTILE, "target": HOSTILE}]}
    evidence = _load(**{HOSTILE: _times(1, 2, 3)}).model_copy(update={"summary": HOSTILE})

    made = page("Built.", [evidence], [], [HOSTILE], [resource])

    prose, diagram = made[PAGE].split("```mermaid")
    outside = re.sub(r"`[^`\n]*`", "", prose)
    assert "script" not in outside
    assert "javascript" not in outside
    row = next(line for line in made[PAGE].splitlines() if line.startswith("| load"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6
    assert "\x1b" not in made[PAGE] + made[PLOT]
    assert all(line.count('"') in {2, 6} for line in diagram.splitlines() if '"' in line)
    assert "<" not in diagram
    assert ElementTree.fromstring(made[PLOT]).findall(f".//{SVG}script") == []


def test_the_picture_puts_slower_to_the_right() -> None:
    """Dots are ordered as the figures are, on one axis for all rows; what was not measured has no row."""
    plot = load_plot([_load(fast=_times(1, 2, 3), slow=_times(10, 40, 90), never=_times(None, 1, 1))])

    assert plot is not None
    root = ElementTree.fromstring(plot)
    dots = [(float(dot.attrib["cx"]), dot.findtext(f"{SVG}title")) for dot in root.iter(f"{SVG}circle")]
    assert [title for _, title in dots] == ["1 ms", "2 ms", "3 ms", "10 ms", "40 ms", "90 ms"]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    assert len({x for x, _ in dots}) == 6
