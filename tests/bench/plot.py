"""build/bench.svg: one bar per figure that has a target, on one scale: how far it is from the target.

The bar is value over target (or target over value where less is better), so that one line in the middle is the target
for all, and longer is better for all. Logarithmic, two decades to each side.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

LEFT, WIDTH, ROW, TOP = 330, 420, 20, 52
DECADES = 2.0
GOOD, BAD, INK, FAINT = "#2a9d6f", "#c8553d", "#222222", "#d9d9d9"


def advantage(value: float, target: str) -> float:
    """How many times better than its target; 1 is exactly the target. `target` is as in build/bench.json."""
    relation, _, text = target.partition(" ")
    threshold = float(text)
    above, below = (value, threshold) if relation == ">=" else (threshold, value)
    if below <= 0:
        return math.inf  # nothing at all where little was allowed
    return above / below


def svg(lines: Sequence[dict[str, Any]], title: str) -> str:
    """The drawing, for the lines of build/bench.json."""
    rows = [line for line in lines if line["target"] is not None]
    height = TOP + ROW * len(rows) + 30
    middle = LEFT + WIDTH / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 190}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="12" y="20" font-size="14" fill="{INK}">{escape(title)}</text>',
    ]
    for factor in (0.01, 0.1, 1, 10, 100):
        x = _x(factor)
        label = "target" if factor == 1 else f"×{factor:g}"
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{TOP - 6}" y2="{height - 24}" stroke="{INK if factor == 1 else FAINT}"/>'
        )
        parts.append(f'<text x="{x}" y="{TOP - 12}" text-anchor="middle" fill="{INK}">{label}</text>')
    for number, line in enumerate(rows):
        y = TOP + ROW * number
        end = _x(advantage(line["value"], line["target"]))
        start, width = min(middle, end), max(1.0, abs(end - middle))
        colour = GOOD if line["met"] else BAD
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end" fill="{INK}">{escape(line["name"])}</text>')
        parts.append(f'<rect x="{start:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 6}" fill="{colour}"/>')
        text = f"{line['value']:g} {line['unit']} ({line['target']})"
        parts.append(f'<text x="{LEFT + WIDTH + 10}" y="{y + 13}" fill="{INK}">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(factor: float) -> float:
    """Place of a factor on the logarithmic scale, within its bounds."""
    decades = DECADES if math.isinf(factor) else math.log10(max(factor, 1e-9))
    return LEFT + WIDTH / 2 + max(-DECADES, min(DECADES, decades)) / DECADES * WIDTH / 2
