"""What a benchmark says: figures, the numbers behind them, and the file that keeps them.

A figure is a median with its spread. Ratios are taken pair by pair (two contenders of the same round), because a busy
machine slows both of a pair, and only then is the median taken.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.bench.targets import TARGETS, Target


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `values` are those of the rounds; the value is their median unless it was given."""

    name: str
    unit: str
    value: float
    values: tuple[float, ...] = ()
    target: Target | None = field(default=None)

    @property
    def met(self) -> bool | None:
        """None without a target."""
        return None if self.target is None else self.target.met(self.value)

    def line(self) -> dict[str, Any]:
        """The object of build/bench.json."""
        return {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "target": str(self.target) if self.target else None,
            "must": bool(self.target and self.target.must),
            "met": self.met,
        }

    def spread(self) -> str:
        """`lowest–highest` of the rounds; empty for a single measurement."""
        return f"{rounded(min(self.values))}–{rounded(max(self.values))}" if len(self.values) > 1 else ""


def figure(name: str, unit: str, values: Sequence[float] | float) -> Figure:
    """A figure with the target that the table has for its name. Raises ValueError without a value."""
    if isinstance(values, int | float):
        return Figure(name, unit, float(values), target=TARGETS.get(name))
    if not values:
        raise ValueError(f"nothing was measured for {name}")
    return Figure(name, unit, statistics.median(values), tuple(values), TARGETS.get(name))


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Ratio of each pair. Raises ValueError when the rounds do not pair up or a denominator is not positive."""
    if len(above) != len(below):
        raise ValueError(f"{len(above)} rounds over {len(below)}")
    if any(value <= 0 for value in below):
        raise ValueError("a rate that is not positive was not measured")
    return [one / other for one, other in zip(above, below, strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: a value that was really seen, never an interpolation. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is no percentile")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def rounded(value: float) -> float:
    """Three significant digits, whole numbers from a thousand on: more is noise."""
    if value == 0 or not math.isfinite(value):
        return value
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return round(value, digits) if digits else float(round(value))


def save(path: Path, figures: Sequence[Figure]) -> None:
    """Write the figures; those of an earlier run that were not measured now stay, so that `--only` adds to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: dict[str, Mapping[str, Any]] = {}
    if path.exists():
        lines = {line["name"]: line for line in orjson.loads(path.read_bytes())}
    lines |= {each.name: each.line() for each in figures}
    path.write_bytes(orjson.dumps(list(lines.values()), option=orjson.OPT_INDENT_2) + b"\n")
