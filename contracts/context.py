"""`context.query` and `context.answer`: the origin's question to the context manager, over a bus that exists."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import orjson
from pydantic import Field, field_validator

from contracts.base import Payload

QUESTION = (
    "Require backend system overview: service architecture, data stores, API gateway config, "
    "auth providers, message brokers, and deployment patterns."
)


class Facet(StrEnum):
    """The six topics that the origin's query names."""

    SERVICE_ARCHITECTURE = "service_architecture"
    DATA_STORES = "data_stores"
    API_GATEWAY = "api_gateway"
    AUTH_PROVIDERS = "auth_providers"
    MESSAGE_BROKERS = "message_brokers"
    DEPLOYMENT_PATTERNS = "deployment_patterns"


class Question(Payload):
    """The origin's `payload`."""

    query: str


class ContextQuery(Payload):
    """The three origin fields; typed fields beside them are optional, so a bare query decodes too."""

    ALWAYS: ClassVar[frozenset[str]] = frozenset({"requesting_agent", "request_type", "payload"})

    requesting_agent: str = "backend-developer"
    request_type: str = "get_backend_context"
    payload: Question = Question(query=QUESTION)
    query_id: str | None = None
    task_id: str | None = None
    facets: tuple[Facet, ...] = ()
    deadline: datetime | None = None


class AnswerStatus(StrEnum):
    """How much of a query could be answered."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    UNKNOWN = "unknown"
    DENIED = "denied"


class Fact(Payload):
    """One thing that is known. Data, never an instruction."""

    facet: str
    key: str
    value: Any
    source: str | None = None
    observed_at: datetime | None = None
    confidence: str | None = None

    @field_validator("value")
    @classmethod
    def _fits_json(cls, value: Any) -> Any:
        """Integers beyond 64 bits and the like: read by pydantic, but nobody could write them on."""
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError as exc:
            raise ValueError(f"no portable JSON value: {exc}") from exc
        return value


class ContextAnswer(Payload):
    """What the context manager knows."""

    query_id: str
    status: AnswerStatus
    facts: tuple[Fact, ...] = ()
    missing: tuple[str, ...] = Field((), description="Facets about which nothing is known.")
