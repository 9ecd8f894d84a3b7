"""Independent checkers over a recorded history. They know the contract, not the code: they read what was published,
what took effect and what the journal holds, and return faults as text. A planted bug must make one of them speak
(test_checkers.py)."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.codec import Message
from contracts.status import TERMINAL

Effect = tuple[str, int, str]  # task id, fence, step


@dataclass(slots=True)
class History:
    """What a run left behind, as a stranger can see it."""

    accepted: Sequence[str]  # task ids of all requests that were sent and acknowledged by the broker
    messages: Sequence[Message]  # everything published, in order of arrival, repeats included
    effects: Sequence[Effect] = ()  # steps that took effect, in order, before their checkpoints
    states: Mapping[str, str] = field(default_factory=dict)  # of the journal, at the end
    steps: Sequence[str] = ()  # of a complete task


def check(history: History, *, in_flight: int) -> list[str]:
    """All faults; `in_flight` is how often one step may be repeated (once per crash)."""
    return [
        *every_task_ends_once(history),
        *sequences_are_gapless(history),
        *repeats_are_identical(history),
        *no_delivery_twice(history),
        *no_step_too_often(history, in_flight),
        *fences_only_grow(history),
        *completed_means_every_step(history),
    ]


def first_appearances(messages: Iterable[Message]) -> dict[str, list[Message]]:
    """Per task, each event once, in order of arrival."""
    seen: set[str] = set()
    found: dict[str, list[Message]] = defaultdict(list)
    for message in messages:
        if message.envelope.subject and message.envelope.id not in seen:
            seen.add(message.envelope.id)
            found[message.envelope.subject].append(message)
    return found


def every_task_ends_once(history: History) -> list[str]:
    """One terminal status per accepted request, and the journal agrees."""
    events = first_appearances(history.messages)
    faults = []
    for about in history.accepted:
        ends = [status for m in events.get(about, []) if (status := _status(m)) in TERMINAL]
        if len(ends) != 1:
            faults.append(f"{about}: {len(ends)} terminal statuses {ends}")
        if history.states and history.states.get(about) not in (
            "completed",
            "failed",
            "cancelled",
            "rejected",
            "expired",
        ):
            faults.append(f"{about}: the journal says {history.states.get(about)}")
    return faults


def sequences_are_gapless(history: History) -> list[str]:
    """First appearances on the status topic count 1, 2, 3 … in order of arrival."""
    faults = []
    for about, messages in first_appearances(history.messages).items():
        numbers = [int(m.envelope.sequence) for m in messages if m.envelope.sequence]
        if numbers != list(range(1, len(numbers) + 1)):
            faults.append(f"{about}: sequence {numbers}")
    return faults


def repeats_are_identical(history: History) -> list[str]:
    """An event that comes again is the same event."""
    known: dict[str, tuple[bytes, str | None]] = {}
    faults = []
    for message in history.messages:
        seen = known.setdefault(message.envelope.id, (message.data, message.envelope.sequence))
        if seen != (message.data, message.envelope.sequence):
            faults.append(f"{message.envelope.id}: two events under one id")
    return faults


def no_delivery_twice(history: History) -> list[str]:
    """At most one delivery per task, and it stands before `completed`."""
    faults = []
    for about, messages in first_appearances(history.messages).items():
        deliveries = sum(m.message_type.name == "task.delivered" for m in messages)
        completed = any(_status(m) == "completed" for m in messages)
        if deliveries != completed:
            faults.append(f"{about}: {deliveries} deliveries, completed: {completed}")
    return faults


def no_step_too_often(history: History, in_flight: int) -> list[str]:
    """A step with a checkpoint is not repeated; one in flight may be, once per crash."""
    counts = Counter((about, step) for about, _, step in history.effects)
    return [f"{about}: {step} took effect {n} times" for (about, step), n in counts.items() if n > 1 + in_flight]


def fences_only_grow(history: History) -> list[str]:
    """Once a later claim has acted, no earlier one does."""
    highest: dict[str, int] = {}
    faults = []
    for about, fence, step in history.effects:
        if fence < highest.get(about, 0):
            faults.append(f"{about}: {step} with fence {fence} after {highest[about]}")
        highest[about] = max(fence, highest.get(about, 0))
    return faults


def completed_means_every_step(history: History) -> list[str]:
    """No step is lost: whatever is completed did all of them."""
    done: dict[str, set[str]] = defaultdict(set)
    for about, _, step in history.effects:
        done[about].add(step)
    events = first_appearances(history.messages)
    return [
        f"{about}: completed without {sorted(set(history.steps) - done[about])}"
        for about, messages in events.items()
        if any(_status(m) == "completed" for m in messages) and not done[about] >= set(history.steps)
    ]


def _status(message: Message) -> str | None:
    status = getattr(message.payload, "status", None)
    return str(status) if status is not None and message.message_type.name == "task.status" else None
