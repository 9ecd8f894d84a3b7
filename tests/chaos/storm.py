"""A storm: tasks are sent while faults strike, then calm, then the history is read and checked."""

import asyncio
import contextlib
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from agent.bus.kafka import KafkaBus
from agent.bus.port import Outgoing
from agent.errors import BusUnavailable
from agent.testing.clock import SteppedClock
from agent.testing.work import STEPS
from contracts import topics
from tests.chaos.checkers import check
from tests.chaos.history import PUBLISHED, TERMINAL, History, read_effects, read_topics
from tests.chaos.plan import (
    Fault,
    Sending,
    Strike,
    about_letter,
    agent_strikes,
    broker_strikes,
    clock_strikes,
    crash_points,
    network_strikes,
    postgres_strikes,
    sendings,
)
from tests.chaos.stack import LEASE_S, MAX_CRASHES, Slot, Stack

SENDING_SHARE = 0.8  # of the time; the rest is for what is retried, delayed or repeated
# The journal is away, or not there yet: the next look will tell.
AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error)
CALM_S = 120.0  # without faults everything must have ended by then


@dataclass(frozen=True, slots=True)
class Options:
    """What `make chaos` may be asked for."""

    tasks: int = 10_000
    seed: int = 1
    minutes: float = 12.0
    agent_fault_every_s: float = 4.0
    network_fault_every_s: float = 1.0
    broker_faults: bool = True
    calm_s: float = CALM_S


@dataclass(slots=True)
class Totals:
    """What came of it; `asdict` is build/chaos.json."""

    options: dict[str, Any]
    duration_s: float = 0.0
    tasks: int = 0
    tasks_by_kind: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    crash_points: dict[str, int] = field(default_factory=dict)
    process_ends: dict[str, int] = field(default_factory=dict)
    records_sent: int = 0
    events: int = 0
    repeated_events: int = 0
    effects: int = 0
    effects_that_count: int = 0
    lost_leases: int = 0
    dead_letters: int = 0
    audited_changes: int = 0
    verdicts: dict[str, list[str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    @property
    def faults_found(self) -> int:
        """Zero is what we want."""
        return sum(map(len, self.verdicts.values())) + len(self.findings)

    def to_json(self) -> dict[str, Any]:
        """Long lists of faults are cut."""
        found = asdict(self)
        found["verdicts"] = {
            name: {"faults": len(faults), "examples": faults[:10]} for name, faults in self.verdicts.items()
        }
        return found


@dataclass(slots=True)
class Progress:
    """For whoever watches."""

    tasks: int
    elapsed_s: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    phase: str = "storm"

    @property
    def ended(self) -> int:
        """Tasks in a terminal state."""
        return sum(self.states[state] for state in TERMINAL)


class Storm:
    """One run over a stack that stands already."""

    def __init__(
        self, options: Options, stack: Stack, watch: Callable[[Progress], None] = lambda _progress: None
    ) -> None:
        self._options = options
        self._stack = stack
        self._watch = watch
        self._sendings = sendings(options.seed, options.tasks, options.minutes * 60 * SENDING_SHARE)
        self.kinds = {sending.task: sending.kind for sending in self._sendings if sending.task}
        self._progress = Progress(len(self.kinds))
        self._faults: Counter[str] = self._progress.faults
        self._sent = 0
        self._findings: list[str] = []
        points = crash_points(options.seed)
        self._slots = [Slot(stack, number, points) for number in range(stack.agents)]
        self._started = 0.0
        self._storming = True

    async def run(self) -> tuple[Totals, History]:
        """Blow, calm down, end the agents, read. Nothing is checked yet (see `conclude`)."""
        self._started = time.monotonic()
        keepers = [asyncio.create_task(slot.keep()) for slot in self._slots]
        watching = asyncio.create_task(self._keep_watching())
        try:
            await self._blow()
            self._progress.phase = "calm"
            await self._calm_down()
            self._progress.phase = "drain"
            await asyncio.gather(*(slot.close() for slot in self._slots))
            await asyncio.gather(*keepers)
            history = await self._history()
        finally:
            watching.cancel()
            for task in keepers:
                task.cancel()
            for slot in self._slots:
                slot.agent.signal(signal.SIGKILL)
        return self._totals(history), history

    # --- the storm --------------------------------------------------------------------------------------------------

    async def _blow(self) -> None:
        stack, options = self._stack, self._options
        feeding = asyncio.create_task(self._feed())
        strikes = [
            self._strike(agent_strikes(options.seed, stack.agents, LEASE_S, options.agent_fault_every_s)),
            self._strike(clock_strikes(options.seed, stack.agents)),
        ]
        if stack.journals:
            strikes.append(self._strike(network_strikes(options.seed, stack.agents, options.network_fault_every_s)))
        if stack.postgres is not None:
            strikes.append(self._strike(postgres_strikes(options.seed)))
        if stack.broker is not None and options.broker_faults:
            strikes.append(self._strike(broker_strikes(options.seed)))
        operating = asyncio.create_task(self._operate(feeding.done))
        striking = [asyncio.create_task(strike) for strike in strikes]
        deadline = self._started + options.minutes * 60
        try:
            while time.monotonic() < deadline and not (operating.done() and self._is_over()):
                await asyncio.sleep(0.5)
                for task in striking:
                    if task.done():
                        task.result()
        finally:
            self._storming = False
            await asyncio.gather(*striking)
        await feeding
        await operating

    def _is_over(self) -> bool:
        return self._progress.ended >= len(self.kinds) and not self._progress.states["unsent"]

    async def _feed(self) -> None:
        """Publish everything at its time; what is not acknowledged is published again."""
        bus = KafkaBus(self._stack.kafka)
        producer = bus.producer()
        pending = list(reversed(self._sendings))
        while pending:
            now = time.monotonic() - self._started
            due: list[Sending] = []
            while pending and pending[-1].at_s <= now and len(due) < 200:
                due.append(pending.pop())
            await self._publish(producer, [record for sending in due for record in sending.records])
            await asyncio.sleep(0.1)
        await producer.stop()

    async def _operate(self, ended: Callable[[], bool]) -> None:
        """Replay and discard dead letters as they come, until all is sent."""
        bus, known = KafkaBus(self._stack.kafka), set[str]()
        producer = bus.producer()
        while not ended():
            consumer = bus.consumer([topics.DEAD_LETTERS.name], group=None)
            try:
                await consumer.start()
                while not ended():
                    for record in await consumer.poll(timeout_s=0.5):
                        letter = str(orjson.loads(record.value or b"{}")["dead_letter_id"])
                        if letter not in known:
                            known.add(letter)
                            await self._publish(producer, about_letter(self._options.seed, letter))
            except BusUnavailable:
                await asyncio.sleep(0.5)
            finally:
                await consumer.stop()
        await producer.stop()

    async def _publish(self, producer: Any, records: Sequence[Outgoing]) -> None:
        while records:
            try:
                await producer.send(records)
            except BusUnavailable:
                await asyncio.sleep(0.5)
            else:
                self._sent += len(records)
                return

    async def _strike(self, strikes: Iterator[Strike]) -> None:
        """Faults of one family, one after the other."""
        for strike in strikes:
            ends = time.monotonic() + strike.after_s
            while time.monotonic() < ends:
                if not self._storming:
                    return
                await asyncio.sleep(0.1)
            if not self._storming:
                return
            if await _HOW[strike.fault](self, strike):
                self._faults[strike.fault] += 1

    async def _kill(self, strike: Strike) -> bool:
        slot = self._slots[strike.agent]
        if slot.agent.exit_code is not None:
            return False
        slot.killed = True
        slot.agent.signal(signal.SIGKILL)
        return True

    async def _drain(self, strike: Strike) -> bool:
        slot = self._slots[strike.agent]
        if slot.agent.exit_code is not None or slot.agent.pid == 0:
            return False
        slot.agent.signal(signal.SIGTERM)
        return True

    async def _freeze(self, strike: Strike) -> bool:
        """SIGSTOP for a while; strikes go on meanwhile, for the others."""
        slot = self._slots[strike.agent]
        if slot.agent.exit_code is not None:
            return False
        pid = slot.agent.pid
        slot.agent.signal(signal.SIGSTOP)

        def thaw() -> None:
            with contextlib.suppress(ProcessLookupError):
                if slot.agent.pid == pid:
                    slot.agent.signal(signal.SIGCONT)

        asyncio.get_running_loop().call_later(strike.lasts_s, thaw)
        return True

    async def _step_clock(self, strike: Strike) -> bool:
        SteppedClock.step(self._slots[strike.agent].clock, strike.lasts_s)
        return True

    async def _disturb_postgres(self, strike: Strike) -> bool:
        proxy = self._stack.journals[strike.agent]
        return bool(proxy.cut() if strike.fault is Fault.CUT_POSTGRES else await proxy.hold(strike.lasts_s))

    async def _disturb_broker(self, strike: Strike) -> bool:
        proxy = self._stack.broker_proxy
        if proxy is None:
            return False
        return bool(proxy.cut() if strike.fault is Fault.CUT_BROKER else await proxy.hold(strike.lasts_s))

    async def _restart_postgres(self, strike: Strike) -> bool:
        server = self._stack.postgres
        assert server is not None
        await asyncio.to_thread(server.end, signal.SIGKILL)
        await asyncio.sleep(strike.lasts_s)
        await asyncio.to_thread(server.start)
        return True

    async def _restart_broker(self, strike: Strike) -> bool:
        broker = self._stack.broker
        assert broker is not None
        await (broker.kill() if strike.fault is Fault.BROKER_KILL else broker.stop())
        await asyncio.sleep(strike.lasts_s)
        await broker.start()
        return True

    async def _pause_broker(self, strike: Strike) -> bool:
        broker = self._stack.broker
        assert broker is not None
        broker.pause()
        await asyncio.sleep(2 + strike.lasts_s)
        broker.resume()
        return True

    # --- afterwards -------------------------------------------------------------------------------------------------

    async def _calm_down(self) -> None:
        ends = time.monotonic() + self._options.calm_s
        while time.monotonic() < ends:
            if self._is_over() and await self._all_read() and self._is_over():
                return
            await asyncio.sleep(0.5)
        self._findings.append(f"after {self._options.calm_s:.0f} s of calm: {dict(self._progress.states)}")

    async def _all_read(self) -> bool:
        """Whether the group has committed all that was sent; a look at the states follows, for what that changed."""
        kafka = self._stack.kafka
        consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap_servers, group_id=kafka.group_id, enable_auto_commit=False
        )
        await consumer.start()
        try:
            places = [
                TopicPartition(kafka.topic_prefix + topic.name, number)
                for topic in (topics.TASKS, topics.CONTROL)
                for number in range(topic.partitions)
            ]
            ends = await consumer.end_offsets(places)
            consumer.assign(places)
            behind = [place for place in places if (await consumer.committed(place) or 0) < ends[place]]
        finally:
            await consumer.stop()
        if not behind:
            self._progress.states = await self._stack.states()
        return not behind

    async def _keep_watching(self) -> None:
        while True:
            with contextlib.suppress(*AWAY):
                self._progress.states = await self._stack.states()
            self._progress.elapsed_s = time.monotonic() - self._started
            self._watch(self._progress)
            await asyncio.sleep(1.0)

    async def _history(self) -> History:
        records = await read_topics(self._stack.kafka.bootstrap_servers, self._stack.kafka.topic_prefix)
        return History(
            records=records, effects=read_effects(self._stack.effects), steps=STEPS, kinds=self.kinds,
            max_crashes=MAX_CRASHES, **await self._stack.journal(),
        )  # fmt: skip

    def _totals(self, history: History) -> Totals:
        faults = Counter(self._faults)
        points: Counter[str] = sum((slot.crashed_at for slot in self._slots), Counter())
        if points:
            faults[Fault.CRASH_POINT] = points.total()
        published = sum(seen.topic in PUBLISHED for seen in history.records)
        counted = [write for writes in history.writes.values() for _, write in writes if write.word == "done"]
        return Totals(
            options=asdict(self._options), duration_s=round(time.monotonic() - self._started, 1), tasks=len(history.requests),
            tasks_by_kind=dict(Counter(self.kinds.values()).most_common()),
            ends=dict(Counter(row.state for row in history.rows.values()).most_common()),
            faults={str(fault): number for fault, number in faults.most_common()}, crash_points=dict(points),
            process_ends=dict(sum((slot.ends for slot in self._slots), Counter())), records_sent=self._sent,
            events=len(history.firsts), repeated_events=published - len(history.firsts),
            effects=len(history.effects), effects_that_count=len(counted),
            lost_leases=sum(row.crashes for row in history.rows.values()),
            dead_letters=sum(seen.type == "backwright.task.dead_lettered.v1" for seen in history.firsts),
            audited_changes=len(history.changes),
            findings=[*self._findings, *(finding for slot in self._slots for finding in slot.findings)],
        )  # fmt: skip


_HOW = {
    Fault.KILL: Storm._kill,
    Fault.STOP: Storm._freeze,
    Fault.PAUSE: Storm._freeze,
    Fault.DRAIN: Storm._drain,
    Fault.CLOCK: Storm._step_clock,
    Fault.CUT_POSTGRES: Storm._disturb_postgres,
    Fault.HOLD_POSTGRES: Storm._disturb_postgres,
    Fault.CUT_BROKER: Storm._disturb_broker,
    Fault.HOLD_BROKER: Storm._disturb_broker,
    Fault.POSTGRES: Storm._restart_postgres,
    Fault.BROKER_KILL: Storm._restart_broker,
    Fault.BROKER_STOP: Storm._restart_broker,
    Fault.BROKER_PAUSE: Storm._pause_broker,
}


def conclude(totals: Totals, history: History, orphans: Sequence[str]) -> Totals:
    """With the verdict of every checker; `orphans` is what lives on when agents and servers have ended."""
    totals.verdicts = check(replace(history, orphans=orphans))
    return totals
