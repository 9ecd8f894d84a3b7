"""The system analysis: the origin's eight priorities and four syntheses, derived by rules from the document and the
context's facts. Pure. A line says what is the case and on what it rests (`basis`: a JSON pointer, a rule, a fact).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.compiler.ir import Api
from agent.context.client import Knowledge
from agent.pipeline.priorities import PRIORITIES
from agent.pipeline.sight import Finding, Sight, quoted
from agent.pipeline.syntheses import SYNTHESES
from agent.settings import GateSettings
from contracts.status import Diagnostic


@dataclass(frozen=True, slots=True)
class Section:
    """One priority or synthesis."""

    title: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """The whole analysis."""

    title: str
    priorities: tuple[Section, ...]
    syntheses: tuple[Section, ...]
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """`.backwright/analysis.json`."""
        return {
            "title": self.title,
            "priorities": [_section_json(section) for section in self.priorities],
            "syntheses": [_section_json(section) for section in self.syntheses],
            "assumptions": list(self.assumptions),
        }

    def to_markdown(self) -> str:
        """`.backwright/analysis.md`."""
        lines = [f"# System analysis: {quoted(self.title)}", ""]
        for heading, sections in (("Priorities", self.priorities), ("Synthesis", self.syntheses)):
            lines += [f"## {heading}", ""]
            for section in sections:
                lines += [f"### {section.title}", ""]
                lines += [f"- {finding.text} ({_shown(finding.basis)})" for finding in section.findings]
                lines.append("")
        lines += ["## Assumptions", "", *(f"- {line}" for line in self.assumptions or ("none",)), ""]
        return "\n".join(lines)


def survey(api: Api, knowledge: Knowledge, diagnostics: Sequence[Diagnostic], gates: GateSettings) -> Survey:
    """Apply every rule to the document's meaning and the context's facts."""
    sight = Sight(api, knowledge, tuple(diagnostics), gates)
    return Survey(
        api.title,
        tuple(Section(title, tuple(rule(sight))) for title, rule in PRIORITIES),
        tuple(Section(title, tuple(rule(sight))) for title, rule in SYNTHESES),
        knowledge.assumptions,
    )


def _shown(basis: str) -> str:
    """A JSON pointer holds names of the document."""
    return quoted(basis, 200) if basis.startswith("/") else basis


def _section_json(section: Section) -> dict[str, Any]:
    return {"title": section.title, "findings": [{"text": f.text, "basis": f.basis} for f in section.findings]}
