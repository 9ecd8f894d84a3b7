"""What the runtime gives to work, and what work gives back. The worker implements `Ledger`, the engine `Work`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.journal.port import Checkpoint, Claim, Ending, Event
from agent.sandbox.port import Leash


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work ended when no exception was needed: COMPLETED, FAILED (a gate) or REJECTED, with the last events."""

    ending: Ending
    events: Sequence[Event]


class Ledger(Protocol):
    """The fenced hand of one attempt. Every method raises Fenced when the attempt no longer owns the task."""

    @property
    def claim(self) -> Claim:
        """The attempt."""

    @property
    def leash(self) -> Leash:
        """Ties child processes to this attempt: they die when it dies or stops renewing."""

    @property
    def folder(self) -> Path:
        """The attempt's own folder, empty at the start, removed at the end."""

    async def checkpoints(self) -> Mapping[str, Checkpoint]:
        """Finished steps of earlier attempts."""

    async def record(self, checkpoint: Checkpoint | None, events: Sequence[Event] = (), *, final: bool = False) -> None:
        """Store a checkpoint and its events together; `final` is the point of no return.

        Events alone are on their way when this returns: stored in order, before or with the next checkpoint or the end,
        and at the latest when the attempt next waits for something. What refuses them is raised by the next write.
        """

    async def answer(self, query_id: str, *, timeout_s: float) -> bytes | None:
        """Wait for a context answer, at most `timeout_s`."""


class Work(Protocol):
    """Something that an attempt does."""

    async def run(self, ledger: Ledger) -> Outcome:
        """Do the task from its first step without a checkpoint on. Cancellable at every await.

        Raises TransientError (retry), PermanentError (dead letter), Fenced. Expected ends are an Outcome.
        """
