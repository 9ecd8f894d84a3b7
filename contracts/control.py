"""Commands on `backend.control.v1`, and what is told of them: `operator.acted` or `command.refused`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from contracts.base import Payload

TaskId = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$",
        description="UUIDv5 of (source, idempotency key): a sender knows it beforehand.",
    ),
]


# Any text: one that names nothing is refused by the journal, which knows.
DeadLetterId = Annotated[
    str, Field(min_length=1, max_length=200, description="`dead_letter_id` of the `task.dead_lettered` event.")
]


class TaskCancel(Payload):
    """Stop a task. One for a task that is not known yet is kept and applied when the task is accepted."""

    task_id: TaskId
    reason: str | None = Field(None, max_length=1000)


class TaskReprioritise(Payload):
    """Serve a task sooner or later. It keeps the age that it has gained by waiting."""

    task_id: TaskId
    priority: int = Field(ge=0, le=9, description="0 to 9, higher first; ten minutes of waiting are worth one step.")


class DeadLetterReplay(Payload):
    """Try a dead-lettered task again, under the same idempotency key: attempts and checkpoints start afresh."""

    dead_letter_id: DeadLetterId
    reason: str | None = Field(None, max_length=1000)


class DeadLetterDiscard(Payload):
    """Close a dead letter without trying again. It can still be read, and no longer be replayed."""

    dead_letter_id: DeadLetterId
    reason: str | None = Field(None, max_length=1000)


class Outcome(StrEnum):
    """What a command did."""

    REPRIORITISED = "reprioritised"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class OperatorActed(Payload):
    """The audit trail: one per command that took effect, stored in the same transaction as the effect."""

    command_id: str = Field(description="Event id of the command.")
    command: str = Field(description="Type of the command, for example `dead_letter.replay`.")
    task_id: str | None = Field(None, description="The task it was about; absent for a record that made none.")
    dead_letter_id: str | None = Field(None, description="The dead letter it was about, if it was about one.")
    outcome: Outcome
    detail: str | None = Field(None, description="What changed, for people: `priority 5 to 9`.")
    reason: str | None = Field(None, description="Why, as the command said.")
    who: str = Field(description="`source` of the command's event.")
    at: datetime


class CommandRefused(Payload):
    """A command came too late or makes no sense in the state of its task."""

    task_id: str = Field(description="The task; for a command about a dead letter that has none, the dead letter's id.")
    command_id: str = Field(description="Event id of the command.")
    command: str = Field(description="Type of the command, for example `task.cancel`.")
    state: str = Field(description="State of the task that refused it.")
    reason: str
