"""The question to the context manager, and what may be believed of its answer.

An answer is data from somebody else: it is size-limited, its facts are plain values, and nothing in it is ever an
instruction, a path or a command.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from pydantic import ValidationError

from contracts.context import AnswerStatus, ContextAnswer, ContextQuery, Facet, Fact

MAX_ANSWER_BYTES = 256 * 1024  # a record of the bus holds at most 1 MB; a system overview is a few KiB
MAX_FACTS = 200
MAX_VALUE_CHARS = 2_000  # of one fact, as JSON
MAX_NAME_CHARS = 120

# What we build on where nobody tells us otherwise; each line that was used stands in the delivery.
DEFAULTS: Mapping[Facet, str] = {
    Facet.SERVICE_ARCHITECTURE: "the service stands alone and calls no other service",
    Facet.DATA_STORES: "a PostgreSQL database of its own stores everything",
    Facet.API_GATEWAY: "no gateway: TLS and rate limits stand in front of the service, paths are served as declared",
    Facet.AUTH_PROVIDERS: "keys and token issuers come from the service's settings, as the document declares",
    Facet.MESSAGE_BROKERS: "the service publishes and consumes no messages",
    Facet.DEPLOYMENT_PATTERNS: "one container, configured by environment variables, health probes on HTTP",
}


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known about the system around the service, and what had to be assumed instead."""

    status: str  # an AnswerStatus, or "unanswered" / "unusable"
    facts: tuple[Fact, ...]
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For the step's checkpoint."""
        return {
            "status": self.status,
            "facts": [fact.model_dump(mode="json", exclude_none=True) for fact in self.facts],
            "assumptions": list(self.assumptions),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Knowledge":
        """The inverse of `to_json`."""
        facts = tuple(Fact.model_validate(fact) for fact in value["facts"])
        return cls(value["status"], facts, tuple(value["assumptions"]))


def query_id(task_id: str) -> str:
    """UUIDv5 of the task: a resumed step finds the answer to the question of its predecessor."""
    return str(uuid5(UUID(task_id), "context"))


def build_query(task_id: str, *, deadline: datetime) -> ContextQuery:
    """The origin's three fields to the letter, typed fields beside them."""
    return ContextQuery(query_id=query_id(task_id), task_id=task_id, facets=tuple(Facet), deadline=deadline)


def unanswered(timeout_s: float) -> Knowledge:
    """Nobody answered in time: the work goes on, and says on what it builds."""
    return _assume("unanswered", (), tuple(Facet), f"no answer from the context manager within {timeout_s:g} s")


def parse_answer(data: bytes) -> Knowledge:
    """What an answer tells us. Never raises: an unusable answer is the same as none."""
    if len(data) > MAX_ANSWER_BYTES:
        return _unusable(f"the context manager's answer has {len(data)} bytes, more than {MAX_ANSWER_BYTES}")
    try:
        answer = ContextAnswer.model_validate_json(data)
    except ValidationError:
        return _unusable("the context manager's answer is not a context.answer")
    if answer.status is AnswerStatus.DENIED:
        return _assume("denied", (), tuple(Facet), "the context manager denied the answer")
    facts = tuple(fact for fact in answer.facts[:MAX_FACTS] if _is_plain(fact))
    known = {fact.facet for fact in facts}
    missing = tuple(facet for facet in Facet if facet.value not in known)
    knowledge = _assume(answer.status.value, facts, missing, "the context manager knows nothing about it")
    left_out = len(answer.facts) - len(facts)
    if not left_out:
        return knowledge
    note = f"{left_out} fact(s) of the context manager were left out: too many, too long or of no known facet"
    return Knowledge(knowledge.status, facts, (*knowledge.assumptions, note))


def _is_plain(fact: Fact) -> bool:
    named = fact.facet in set(Facet) and 0 < len(fact.key) <= MAX_NAME_CHARS
    return named and len(json.dumps(fact.value)) <= MAX_VALUE_CHARS and len(fact.source or "") <= MAX_VALUE_CHARS


def _unusable(reason: str) -> Knowledge:
    return _assume("unusable", (), tuple(Facet), reason)


def _assume(status: str, facts: tuple[Fact, ...], missing: Sequence[Facet], reason: str) -> Knowledge:
    lines = tuple(f"{facet.value}: {DEFAULTS[facet]} ({reason})" for facet in missing)
    return Knowledge(status, facts, lines)
