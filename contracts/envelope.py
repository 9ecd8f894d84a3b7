"""CloudEvents 1.0 attributes as we use them, and the table of message types."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from contracts import context, control, delivery, failures, status, tasks, topics
from contracts.base import Payload
from contracts.topics import Topic


@dataclass(frozen=True, slots=True)
class MessageType:
    """One row of the contract: name, topic, model. On the wire the type is `backwright.<name>.v1`."""

    name: str
    topic: Topic
    model: type[Payload]

    @property
    def wire(self) -> str:
        """Value of the CloudEvents attribute `type`."""
        return f"backwright.{self.name}.v1"


TASK_REQUESTED = MessageType("task.requested", topics.TASKS, tasks.TaskRequested)
TASK_CANCEL = MessageType("task.cancel", topics.CONTROL, control.TaskCancel)
TASK_REPRIORITISE = MessageType("task.reprioritise", topics.CONTROL, control.TaskReprioritise)
DEAD_LETTER_REPLAY = MessageType("dead_letter.replay", topics.CONTROL, control.DeadLetterReplay)
DEAD_LETTER_DISCARD = MessageType("dead_letter.discard", topics.CONTROL, control.DeadLetterDiscard)
TASK_STATUS = MessageType("task.status", topics.STATUS, status.TaskStatus)
COMMAND_REFUSED = MessageType("command.refused", topics.STATUS, control.CommandRefused)
OPERATOR_ACTED = MessageType("operator.acted", topics.STATUS, control.OperatorActed)
TASK_DELIVERED = MessageType("task.delivered", topics.DELIVERIES, delivery.TaskDelivered)
TASK_DEAD_LETTERED = MessageType("task.dead_lettered", topics.DEAD_LETTERS, failures.TaskDeadLettered)
CONTEXT_QUERY = MessageType("context.query", topics.CONTEXT_QUERIES, context.ContextQuery)
CONTEXT_ANSWER = MessageType("context.answer", topics.CONTEXT_ANSWERS, context.ContextAnswer)

MESSAGE_TYPES = (
    TASK_REQUESTED, TASK_CANCEL, TASK_REPRIORITISE, DEAD_LETTER_REPLAY, DEAD_LETTER_DISCARD, TASK_STATUS, COMMAND_REFUSED,
    OPERATOR_ACTED, TASK_DELIVERED, TASK_DEAD_LETTERED, CONTEXT_QUERY, CONTEXT_ANSWER,
)  # fmt: skip
BY_WIRE_TYPE = {message_type.wire: message_type for message_type in MESSAGE_TYPES}


class Envelope(NamedTuple):
    """CloudEvents context attributes (required ones first, then the extensions that we know).

    A named tuple, because each record has one: it is made in a third of the time, and its fields are a slice of it.
    """

    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime | None = None
    correlationid: str | None = None
    causationid: str | None = None
    idempotencykey: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    expirytime: datetime | None = None
    dataref: str | None = None
    sequence: str | None = None

    @property
    def idempotency(self) -> tuple[str, str]:
        """(`source`, `idempotencykey` or `id`): one task per pair."""
        return self.source, self.idempotencykey or self.id
