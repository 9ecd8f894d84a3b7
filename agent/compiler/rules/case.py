"""One operation as the rules see it, and what a rule makes of it.

What stands against a derivation is raised where it is found (`NotDerived`), however deep below the rule; the planner
alone catches it, and makes it the reason of the hook. So a rule reads as what it takes to be true.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.compiler.inference.model import Model
from agent.compiler.inference.paths import Route
from agent.compiler.inference.resources import Request
from agent.compiler.inference.response import Answer
from agent.compiler.ir import (
    PathKey,
    Plan,
    Scope,
    Shape,
    Verdict,
    Wrapper,
)
from agent.compiler.schemas.document import RawOperation

_CONFIDENCE = ("high", "medium", "low")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one operation."""

    verdict: Verdict
    rule: str
    reason: str | None = None
    plan: Plan | None = None
    body: Request | None = None
    confidence: str = "high"
    alternative: str | None = None


def hooked(rule: str, reason: str) -> Outcome:
    """Not derivable: a hole."""
    return Outcome(Verdict.HOOKED, rule, reason)


def refused(rule: str, reason: str) -> Outcome:
    """A feature that is not supported, by name."""
    return Outcome(Verdict.REFUSED, rule, reason)


class NotDerived(Exception):
    """The document does not prove what a rule would need; its text says what is missing, to people."""


def need_none(reasons: Iterable[str]) -> None:
    """Raises NotDerived with the first reason, if there is one."""
    for reason in reasons:
        raise NotDerived(reason)


@dataclass(slots=True)
class Case:
    """One operation with all that is known before a rule looks at it."""

    operation: RawOperation
    route: Route
    model: Model | None
    answer: Answer
    rule: str = "unknown"  # the one that looks at it now: its verdict bears this name
    doubts: list[tuple[int, str]] = field(default_factory=list)  # (level of confidence, the alternative reading)

    @property
    def thing(self) -> Model:
        """The resource, for rules that look only where there is one."""
        assert self.model is not None
        return self.model

    def doubt(self, level: int, alternative: str) -> None:
        """Note that the reading could be wrong, and how."""
        self.doubts.append((level, alternative))

    def derived(self, plan: Plan, body: Request | None = None) -> Outcome:
        """A derivation, with the confidence that the doubts leave."""
        level = max((level for level, _ in self.doubts), default=0)
        alternative = "; ".join(dict.fromkeys(text for _, text in self.doubts)) or None
        return Outcome(Verdict.DERIVED, self.rule, None, plan, body, _CONFIDENCE[level], alternative)


@dataclass(frozen=True, slots=True)
class Located:
    """Where in the tree of things an operation works."""

    ancestors: tuple[PathKey, ...] = ()
    key: PathKey | None = None
    scopes: tuple[Scope, ...] = ()
    via: str | None = None
    through: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a success shows."""

    shape: Shape | None
    wrapper: Wrapper


def resources_of(plan: Plan) -> Iterable[str]:
    """Names of all resources that a plan speaks of."""
    names = [plan.resource, *(one.resource for one in plan.ancestors)]
    names += [plan.key.resource] if plan.key else []
    names += [plan.member.resource] if plan.member else []
    return [one for one in dict.fromkeys(names) if one]


Rule = Callable[[Case], Outcome | None]
