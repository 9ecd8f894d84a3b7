"""Commands on `backend.control.v1` and the answer of the one that lost a race."""

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


class TaskCancel(Payload):
    """Stop a task. One for a task that is not known yet is kept and applied when the task is accepted."""

    task_id: TaskId
    reason: str | None = Field(None, max_length=1000)


class CommandRefused(Payload):
    """A command came too late or makes no sense in the state of its task."""

    task_id: str
    command_id: str = Field(description="Event id of the command.")
    command: str = Field(description="Type of the command, for example `task.cancel`.")
    state: str = Field(description="State of the task that refused it.")
    reason: str
