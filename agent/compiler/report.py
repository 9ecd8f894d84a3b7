"""What became of a document: one line per operation with its rule; for programs, terminals and the delivery."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.compiler.ir import Api, Operation, Verdict
from contracts.status import Diagnostic

Json = Any

_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Line:
    """One operation of the report."""

    operation: str
    method: str
    path: str
    verdict: str
    rule: str
    confidence: str
    alternative: str | None
    reason: str | None
    pointer: str


@dataclass(frozen=True, slots=True)
class Report:
    """The report of one compilation. `digest` is that of the file set."""

    title: str
    lines: tuple[Line, ...]
    diagnostics: tuple[Diagnostic, ...]
    changes: tuple[str, ...]
    digest: str

    @property
    def summary(self) -> dict[str, int]:
        """Number of operations, and of each verdict."""
        counted = Counter(line.verdict for line in self.lines)
        return {"operations": len(self.lines), **{verdict.value: counted[verdict.value] for verdict in Verdict}}

    def to_json(self) -> dict[str, Json]:
        """The object that `backwright compile --json` prints."""
        return {
            "operations": [
                {
                    "operation": one.operation,
                    "method": one.method,
                    "path": one.path,
                    "verdict": one.verdict,
                    "rule": one.rule,
                    "confidence": one.confidence,
                    "alternative": one.alternative,
                    "reason": one.reason,
                    "pointer": one.pointer,
                }
                for one in self.lines
            ],
            "summary": self.summary,
            "changes": list(self.changes),
            "diagnostics": [diagnostic_json(one) for one in self.diagnostics],
            "digest": self.digest,
        }

    def to_text(self) -> str:
        """A table for a terminal, with the reasons below it."""
        rows = [("operation", "method", "path", "verdict", "rule", "confidence")]
        rows += [
            (_cell(one.operation, 44), one.method, _cell(one.path, 60), one.verdict, one.rule, one.confidence)
            for one in self.lines
        ]
        parts = [_table(rows), _sum(self.summary)]
        parts += _section(
            "Not derived",
            (f"{one.method} {_cell(one.path, 80)}: {_cell(one.reason or '', 200)}" for one in self.lines if one.reason),
        )
        told = [one for one in self.diagnostics if one.severity != "info"]
        parts += _section("Diagnostics", map(_told, told))
        return "\n".join(parts) + "\n"

    def to_markdown(self) -> str:
        """The same for the delivery; text of the document cannot leave its cell."""
        head = ["operation", "method", "path", "verdict", "rule", "confidence", "reason or other reading"]
        rows = [
            [
                one.operation,
                one.method,
                one.path,
                one.verdict,
                one.rule,
                one.confidence,
                one.reason or one.alternative or "",
            ]
            for one in self.lines
        ]
        table = [_row(head), _row(["---"] * len(head)), *(_row([_escape(cell) for cell in row]) for row in rows)]
        parts = [f"# {_escape(self.title)}: what became of each operation", "", _sum(self.summary), "", *table, ""]
        parts += _markdown_list("What was changed in the document", self.changes)
        parts += _markdown_list("Diagnostics", map(_told, self.diagnostics))
        return "\n".join(parts) + "\n"


def make_report(api: Api, diagnostics: Sequence[Diagnostic], digest: str) -> Report:
    """The report on an `Api`: errors first, otherwise in the order in which things were found."""
    ordered = sorted(diagnostics, key=lambda one: _SEVERITIES.index(one.severity) if one.severity in _SEVERITIES else 0)
    return Report(api.title, tuple(map(_line, api.operations)), tuple(ordered), api.changes, digest)


def diagnostic_json(one: Diagnostic) -> dict[str, Json]:
    """A diagnostic as a program reads it."""
    return {
        "pointer": one.pointer,
        "code": one.code,
        "severity": one.severity,
        "message": one.message,
        "remedy": one.remedy,
    }


def _line(one: Operation) -> Line:
    return Line(
        one.id,
        one.method,
        one.path,
        one.verdict.value,
        one.rule,
        one.confidence,
        one.alternative,
        one.reason,
        one.pointer,
    )


def _cell(text: str, width: int) -> str:
    clean = "".join(character if character.isprintable() else "�" for character in text)
    return clean if len(clean) <= width else clean[: width - 1] + "…"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _sum(summary: dict[str, int]) -> str:
    counts = ", ".join(
        f"{number} {verdict}" for verdict, number in summary.items() if verdict != "operations" and number
    )
    return f"{summary['operations']} operations: {counts or 'none'}"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    found = [f"  {line}" for line in lines]
    return ["", f"{title}:", *found] if found else []


def _told(one: Diagnostic) -> str:
    return f"{one.severity} {one.code} at {_cell(one.pointer or '/', 100)}: {one.message} {one.remedy}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    clean = _cell(text, 200)
    return "".join(f"\\{character}" if character in r"\`*_[]<>|#{}" else character for character in clean)


def _markdown_list(title: str, lines: Iterable[str]) -> list[str]:
    found = [f"- {_escape(line)}" for line in lines]
    return [f"## {title}", "", *found, ""] if found else []
