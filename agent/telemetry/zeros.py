"""Series that exist from the start, at zero.

Prometheus sees no increase in a series' first sample. Without this, the first failed task, the first dead letter of a
code and the first gate of each kind after a start would be missing from every rate, graph and alert.
"""

from collections.abc import Iterable

from agent.telemetry.metrics import Metrics
from contracts import topics
from contracts.codec import REMEDIES
from contracts.delivery import GateVerdict
from contracts.envelope import MESSAGE_TYPES

INTAKE_KINDS = ("task", "command", "answer", "dead_letter")
OUTCOMES = ("accepted", "duplicate", "conflict")
# Endings of an attempt, and the states in which a task ends.
ENDINGS = ("completed", "failed", "rejected", "cancelled", "expired")
STATES = ("available", "scheduled", "running", "waiting", *ENDINGS)
RETRIED_KINDS = ("transient", "expired", "interrupted")
OPERATION_VERDICTS = ("derived", "declared", "hooked", "refused")
JOURNAL_OPERATIONS = ("accept", "claim", "depths")
RESTART_REASONS = ("BusUnavailable", "JournalUnavailable")
READ = (topics.TASKS, topics.CONTROL, topics.CONTEXT_ANSWERS)


def start_at_zero(metrics: Metrics, *, gates: Iterable[str], steps: Iterable[tuple[str, str]]) -> None:
    """Make every series whose labels are known: `gates` by name, `steps` as (phase, step)."""
    for topic in READ:
        metrics.records_consumed.labels(topic.name)
        metrics.consumer_lag.labels(topic.name)
    for operation in JOURNAL_OPERATIONS:
        metrics.journal_errors.labels(operation)
    for reason in RESTART_REASONS:
        metrics.consumer_restarts.labels(reason)
    for kind in INTAKE_KINDS:
        for outcome in OUTCOMES:
            metrics.accepted.labels(kind, outcome)
    for ending in ENDINGS:
        metrics.finished.labels(ending)
        metrics.task_duration.labels(ending)
    for state in STATES:
        metrics.tasks.labels(state)
    for kind in RETRIED_KINDS:
        metrics.retried.labels(kind)
    for gate in gates:
        for verdict in GateVerdict:
            metrics.gates.labels(gate, verdict.value)
    for phase, step in steps:
        metrics.phase_duration.labels(phase)
        metrics.step_duration.labels(phase, step)
    for became in OPERATION_VERDICTS:
        metrics.operations.labels(became)
    for code in REMEDIES:
        metrics.dead_lettered.labels(code)
    for message_type in MESSAGE_TYPES:
        metrics.published.labels(message_type.name)
