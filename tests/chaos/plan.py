"""What a storm does, drawn from its seed: which tasks are sent and when, which faults strike and when. Pure."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from agent.bus.port import Outgoing
from agent.runtime.crashpoints import POINTS
from agent.testing.harness import Request, answer, cancel, discard, replay, reprioritise, request
from contracts import topics

STEP_S = 0.31457  # of the slow steps; also the mark by which their children are found
COMPLETED, FAILED = ("completed",), ("failed",)


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of task: how often it is sent, what ScriptedWork does with it, how it may end."""

    weight: int
    service: str
    ends: tuple[str, ...] = COMPLETED
    shared_key: bool = False  # several tasks have one service name, hence one ordering key
    fields: Mapping[str, Any] = field(default_factory=dict)
    replayed: tuple[str, ...] = ()  # how it may end after a replay, if not as before
    cancelled: bool = False  # always: it would not end otherwise
    expires_after_s: float | None = None


KINDS: Mapping[str, Kind] = {
    "plain": Kind(6600, "ok"),
    "keyed": Kind(1500, "ok", shared_key=True),
    "slow": Kind(700, "slow"),
    "flaky": Kind(250, "flaky"),
    "flaky in line": Kind(150, "flaky", shared_key=True),
    "urgent": Kind(150, "ok", fields={"priority": 9}),
    "child": Kind(100, "child"),
    "delayed": Kind(100, "ok", fields={"run_after_s": 3.0}),
    "hang": Kind(100, "hang", ("cancelled",), cancelled=True),
    "broken": Kind(60, "broken", FAILED),
    "refused": Kind(60, "refused", FAILED),
    "rejected": Kind(60, "rejected", ("rejected",)),
    "mended": Kind(120, "mended", FAILED, replayed=COMPLETED),
    "gate": Kind(60, "gate", FAILED),
    "late": Kind(40, "hang", ("failed", "expired"), fields={"total_deadline_s": 2.0}),
    "expiring": Kind(40, "ok", ("expired",), fields={"run_after_s": 20.0}, expires_after_s=2.0),
    "asks": Kind(20, "asks", ("completed", "failed")),
    "deaf": Kind(10, "deaf"),
    "poison": Kind(6, "poison", FAILED),
    "huge": Kind(6, "huge"),
}
KEYS_PER_TASK = 0.02  # 10,000 tasks share 200 keys
SHARE_CANCELLED = 0.03
SHARE_DUPLICATED = 0.10
SHARE_REPRIORITISED = 0.03
SHARE_REPEATED_LATER = 0.04
SHARE_CONFLICTING = 0.004
SHARE_RUBBISH = 0.004


@dataclass(frozen=True, slots=True)
class Sending:
    """Records to publish, in this order, at this time (seconds from the start)."""

    at_s: float
    records: tuple[Outgoing, ...]
    task: str = ""
    kind: str = ""


def sendings(seed: int, tasks: int, duration_s: float) -> list[Sending]:
    """All that is sent, spread over `duration_s`, in order of time."""
    return sorted(_Sender(random.Random(seed), tasks).all(duration_s), key=lambda sending: sending.at_s)


class _Sender:
    def __init__(self, chance: random.Random, tasks: int) -> None:
        self._chance = chance
        self._tasks = tasks
        self._keys = max(2, math.ceil(tasks * KEYS_PER_TASK))
        self._now = datetime.now(UTC)

    def all(self, duration_s: float) -> Iterator[Sending]:
        names, weights = list(KINDS), [kind.weight for kind in KINDS.values()]
        # A rare kind that a small storm would not draw is sent once.
        drawn = [*names, *self._chance.choices(names, weights, k=self._tasks)][: self._tasks]
        self._chance.shuffle(drawn)
        for index, name in enumerate(drawn):
            yield from self._task(index, name, duration_s * index / self._tasks, duration_s)

    def _task(self, index: int, name: str, at_s: float, duration_s: float) -> Iterator[Sending]:
        chance, kind = self._chance, KINDS[name]
        number = chance.randrange(self._keys) if kind.shared_key else f"{name.replace(' ', '-')}-{index}"
        asked = self._request(f"storm-{index}-{self._id().hex[:8]}", name, f"{kind.service}-{number}", at_s)
        copies = chance.choice((2, 3)) if chance.random() < SHARE_DUPLICATED else 1
        records = [asked.outgoing] * copies
        about = asked.task_id
        if name == "asks":
            records.append(answer(f"q-{about}"))
        if kind.cancelled or chance.random() < SHARE_CANCELLED:
            stop = cancel(about, identity=self._id().hex)
            yield Sending(max(0.0, at_s + chance.uniform(-2, 4)), (stop,) * chance.choice((1, 1, 2)))
        if chance.random() < SHARE_REPRIORITISED:
            sooner = reprioritise(about, chance.randrange(10), identity=self._id().hex)
            yield Sending(max(0.0, at_s + chance.uniform(-1, 2)), (sooner,) * chance.choice((1, 1, 2)))
        if chance.random() < SHARE_REPEATED_LATER:
            yield Sending(at_s + chance.uniform(1, min(60.0, duration_s / 4)), (asked.outgoing,))
        if chance.random() < SHARE_CONFLICTING:
            other = self._request(
                asked.id, name, f"{kind.service}-{number}", at_s, specification={"content": "another"}
            )
            yield Sending(at_s + chance.uniform(0.1, 5), (other.outgoing,))
        if chance.random() < SHARE_RUBBISH:
            yield Sending(at_s, (Outgoing(topics.TASKS.name, b"rubbish", chance.randbytes(40), ()),))
        yield Sending(at_s, tuple(records), about, name)

    def _request(self, identity: str, name: str, service: str, at_s: float, **fields: Any) -> Request:
        kind = KINDS[name]
        expires = None if kind.expires_after_s is None else self._now + timedelta(seconds=at_s + kind.expires_after_s)
        return request(service, identity=identity, expirytime=expires, **{**kind.fields, **fields})

    def _id(self) -> UUID:
        return UUID(int=self._chance.getrandbits(128), version=4)


def about_letter(seed: int, letter: str) -> tuple[Outgoing, ...]:
    """What an operator publishes about a dead letter: half of them are replayed, some twice, some are discarded."""
    chance = random.Random(f"letter {seed} {letter}")

    def identity() -> str:
        return UUID(int=chance.getrandbits(128), version=4).hex

    again = replay(letter, identity=identity())
    away = discard(letter, identity=identity())
    other = replay(letter, identity=identity())
    return chance.choices([(again,), (again, again), (again, other), (away,), (away, again), ()], (6, 2, 2, 2, 1, 5))[0]


# --- faults -----------------------------------------------------------------------------------------------------------


class Fault(StrEnum):
    """What strikes."""

    KILL = "SIGKILL of an agent"
    STOP = "SIGSTOP of an agent beyond its lease"
    PAUSE = "SIGSTOP of an agent within its lease"
    DRAIN = "SIGTERM of an agent"
    CLOCK = "an agent's wall clock stepped by minutes"
    CUT_POSTGRES = "an agent's connections to PostgreSQL cut"
    HOLD_POSTGRES = "an agent's connections to PostgreSQL held"
    CUT_BROKER = "all connections to the broker cut"
    HOLD_BROKER = "all connections to the broker held"
    CRASH_POINT = "an agent died at a named crash point"
    POSTGRES = "PostgreSQL killed and restarted"
    BROKER_KILL = "the broker killed and restarted"
    BROKER_STOP = "the broker stopped and restarted"
    BROKER_PAUSE = "the broker frozen"


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault: how long after the former one of its family, whom it hits, how long it lasts."""

    after_s: float
    fault: Fault
    agent: int = 0
    lasts_s: float = 0.0  # CLOCK: how wrong it is from then on


def agent_strikes(seed: int, agents: int, lease_s: float, every_s: float) -> Iterator[Strike]:
    """Faults of agents, without end."""
    chance = random.Random(f"agents {seed}")
    faults, weights = (Fault.KILL, Fault.STOP, Fault.PAUSE, Fault.DRAIN), (5, 2, 1, 3)
    while True:
        fault = chance.choices(faults, weights)[0]
        lasts_s = {
            Fault.STOP: chance.uniform(1.1, 2.5) * lease_s, Fault.PAUSE: chance.uniform(0.1, 0.9) * lease_s,
        }.get(fault, 0.0)  # fmt: skip
        yield Strike(chance.uniform(0.4, 1.6) * every_s, fault, chance.randrange(agents), lasts_s)


def clock_strikes(seed: int, agents: int) -> Iterator[Strike]:
    """Up to ten minutes fast or slow, or right again."""
    chance = random.Random(f"clocks {seed}")
    while True:
        error_s = chance.choice((0.0, 1.0, 1.0)) * chance.uniform(-600, 600)
        yield Strike(chance.uniform(2, 7), Fault.CLOCK, chance.randrange(agents), error_s)


def network_strikes(seed: int, agents: int, every_s: float) -> Iterator[Strike]:
    """Connections of an agent to PostgreSQL, or of all to the broker, are cut, or carry nothing for a while."""
    chance = random.Random(f"network {seed}")
    faults, weights = (Fault.CUT_POSTGRES, Fault.HOLD_POSTGRES, Fault.CUT_BROKER, Fault.HOLD_BROKER), (6, 2, 2, 1)
    while True:
        fault = chance.choices(faults, weights)[0]
        yield Strike(chance.uniform(0.4, 1.6) * every_s, fault, chance.randrange(agents), chance.uniform(0.3, 2.5))


def postgres_strikes(seed: int) -> Iterator[Strike]:
    """PostgreSQL every 10 to 40 s, away for up to three seconds."""
    chance = random.Random(f"postgres {seed}")
    while True:
        yield Strike(chance.uniform(10, 40), Fault.POSTGRES, lasts_s=chance.choice((0.0, 0.5, 1.0, 3.0)))


def broker_strikes(seed: int) -> Iterator[Strike]:
    """The broker at most once a minute."""
    chance = random.Random(f"broker {seed}")
    faults = (Fault.BROKER_KILL, Fault.BROKER_STOP, Fault.BROKER_PAUSE)
    while True:
        yield Strike(chance.uniform(60, 100), chance.choice(faults), lasts_s=chance.uniform(0, 6))


def crash_points(seed: int) -> Iterator[str | None]:
    """What each start of an agent is armed with: three times in five a named point that it will die at."""
    chance = random.Random(f"points {seed}")
    names = itertools.cycle(chance.sample(sorted(POINTS), len(POINTS)))
    while True:
        armed = chance.random() < 0.6
        yield f"{next(names)}:{chance.choice((1, 2, 7, 20, 50))}" if armed else None
