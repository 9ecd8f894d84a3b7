"""What the rules of the analysis look at, the lines that they write, and how a stranger's text stands in them. Pure."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from agent.compiler.ir import Api, Operation
from agent.context.client import Knowledge
from agent.settings import GateSettings
from contracts.context import Facet
from contracts.status import Diagnostic

WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
MAX_NAMED = 8  # names in one line; the rest is counted


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the analysis."""

    text: str
    basis: str


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything that the rules look at."""

    api: Api
    knowledge: Knowledge
    diagnostics: tuple[Diagnostic, ...]
    gates: GateSettings

    def facts(self, facet: Facet) -> Iterator[Finding]:
        """The context's facts of one facet, as lines."""
        for fact in self.knowledge.facts:
            if fact.facet == facet:
                value = fact.value if isinstance(fact.value, str) else json.dumps(fact.value, ensure_ascii=False)
                source = f", source {quoted(fact.source)}" if fact.source else ""
                yield Finding(
                    f"known of the system: {quoted(fact.key)} = {quoted(value, 200)}", f"context manager{source}"
                )


Rule = Callable[[Sight], Iterable[Finding]]


def quoted(text: str, limit: int = 80) -> str:
    """Text of a stranger as one inline code span: no markup, no line break, bounded."""
    plain = " ".join("".join(c if c.isprintable() and c != "`" else " " for c in text[: limit + 1]).split())
    return f"`{plain[:limit]}…`" if len(text) > limit else f"`{plain}`"


def named(names: Iterable[str]) -> str:
    """The first few names as code spans, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - MAX_NAMED} more" if len(every) > MAX_NAMED else ""
    return ", ".join(quoted(name) for name in every[:MAX_NAMED]) + more


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 table`, `2 tables`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def asks(operation: Operation) -> bool:
    """Whether every alternative of the operation demands something ({} among them means: optional)."""
    return bool(operation.security) and all(operation.security)
