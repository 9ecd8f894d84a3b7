"""The topics: name, purpose, partitions, retention. Names are given without the configurable prefix."""

from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """One Kafka topic. `partitions` is final from the start: adding one later moves keys (and forces a rejoin)."""

    name: str
    purpose: str
    key: str
    partitions: int = 6
    retention_ms: int = 7 * DAY_MS


TASKS = Topic("backend.tasks.v1", "Requests for work.", "service name")
CONTROL = Topic("backend.control.v1", "Commands about a task or a dead letter.", "task or dead-letter id")
STATUS = Topic("backend.status.v1", "How each task goes, gapless per task.", "task id")
DELIVERIES = Topic(
    "backend.deliveries.v1", "What was delivered, evidence inside.", "service name", retention_ms=30 * DAY_MS
)
DEAD_LETTERS = Topic(
    "backend.dead-letters.v1",
    "What could not be done, with the original record.",
    "original key",
    retention_ms=30 * DAY_MS,
)
CONTEXT_QUERIES = Topic(
    "backend.context.queries.v1", "Questions to the context manager.", "query id", retention_ms=DAY_MS
)
CONTEXT_ANSWERS = Topic(
    "backend.context.answers.v1", "Answers of the context manager.", "query id", retention_ms=DAY_MS
)

ALL = (TASKS, CONTROL, STATUS, DELIVERIES, DEAD_LETTERS, CONTEXT_QUERIES, CONTEXT_ANSWERS)
