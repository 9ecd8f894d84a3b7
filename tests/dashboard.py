"""What the dashboard asks, as a Prometheus can be asked."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "backwright.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
RUNBOOK = ROOT / "deploy" / "runbook.md"


@dataclass(frozen=True)
class Query:
    """One target of one panel."""

    panel: str
    expr: str

    def concrete(self, *, rate_interval: str, range_: str) -> str:
        """The expression with Grafana's variables filled in (`instance`: All)."""
        filled = self.expr.replace("$__rate_interval", rate_interval).replace("$__range", range_)
        filled = filled.replace("$instance", ".+")
        assert "$" not in filled, f"{self.panel}: unknown variable in {filled}"
        return filled


def dashboard() -> dict[str, Any]:
    """The committed dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel that shows something; rows are only headings."""
    return (panel for panel in found["panels"] if panel["type"] != "row")


def queries() -> list[Query]:
    """Every query of every panel."""
    return [Query(panel["title"], target["expr"]) for panel in panels(dashboard()) for target in panel["targets"]]


def names(expr: str) -> set[str]:
    """Names of our series in an expression."""
    return set(re.findall(r"\bbackwright_\w+", expr))


def labels(expr: str) -> set[str]:
    """Labels that an expression groups by or selects on."""
    grouped = re.findall(r"\bby \(([^)]*)\)", expr)
    selected = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expr)
    return {label.strip() for group in grouped for label in group.split(",")} | set(selected)
