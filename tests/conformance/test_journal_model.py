"""A state machine draws histories of a journal; the durable ones must tell the same story as the one in memory.

Rules are what can happen to a journal: deliveries, duplicates, commands, claims, checkpoints, ends, crashes, lost leases,
drains, steps of the wall clock, relays that lose their mark, housekeeping. After each step both journals are looked at,
and the promised invariants are checked on what was published. What a search by hand finds becomes a test of its own.
"""

import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.errors import Fenced
from agent.journal.memory import MemoryJournal
from agent.journal.port import (
    TERMINAL,
    Acceptance,
    CancelRequested,
    Claim,
    Ending,
    Finish,
    Journal,
    NewTask,
    OutboxRow,
    State,
)
from agent.journal.postgres import PostgresJournal
from agent.journal.sqlite import SqliteJournal
from tests.conformance.journals import (
    LEASE_S,
    SETTINGS,
    FakeClock,
    PostgresStore,
    about_letter,
    cancel,
    checkpoint,
    letter,
    lone_letter,
    new_task,
    reprioritise,
    status,
)
from tests.postgres import PostgresServer

NAMES = [f"t{nr}" for nr in range(6)]  # few names and two keys: collisions are what is looked for
names = st.sampled_from(NAMES)
digests = st.sampled_from(["d1", "d1", "d1", "d2"])
endings = st.sampled_from(list(Ending))


class JournalMachine(RuleBasedStateMachine):
    """The SQLite journal beside the one in memory, on one clock."""

    lease_s = LEASE_S

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.memory = MemoryJournal(self.clock)
        self.durable = self.durable_journal()
        self.claims: list[Claim] = []  # every claim ever made, the oldest first
        self.letters: list[str] = []
        self.commands = 0
        self.published: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.seen: set[str] = set()

    def durable_journal(self) -> Journal:
        return SqliteJournal(Path(self.folder.name) / "journal.sqlite", self.clock)

    @initialize()
    def open(self) -> None:
        self.both(lambda journal: journal.open())

    def teardown(self) -> None:
        self.loop.run_until_complete(self.durable.close())
        self.loop.close()
        self.folder.cleanup()

    def both(self, call: Callable[[Journal], Awaitable[Any]]) -> Any:
        """Do the same to both, and hold the answers side by side."""
        answers = [self.loop.run_until_complete(_outcome(call(journal))) for journal in (self.memory, self.durable)]
        assert self.comparable(answers[0]) == self.comparable(answers[1])
        return answers[0]

    def comparable(self, answer: Any) -> Any:
        """On one clock everything is the same, to the microsecond."""
        return answer

    def task(self, name: str, digest: str = "d1") -> NewTask:
        """Key, priority, delay and expiry follow from the name."""
        nr = NAMES.index(name)
        expires_at = self.clock.now() + timedelta(seconds=25) if nr == 4 else None
        return new_task(
            name, key=f"key{nr % 2}", payload_digest=digest, priority=nr, expires_at=expires_at,
            run_after_s=60.0 if nr == 5 else 0.0,
        )  # fmt: skip

    # --- intake -------------------------------------------------------------------------------------------------------

    @rule(name=names, digest=digests)
    def deliver(self, name: str, digest: str) -> None:
        self.both(lambda journal: journal.accept([self.task(name, digest)]))

    @rule(batch=st.lists(names, max_size=4), twice=st.booleans())
    def deliver_batch(self, batch: list[str], twice: bool) -> None:
        tasks = [self.task(name) for name in batch]
        outcomes = self.both(lambda journal: journal.accept([*tasks, lone_letter()]))
        if twice:
            again = self.both(lambda journal: journal.accept([*tasks, lone_letter()]))
            assert set(again) == {Acceptance.DUPLICATE} or Acceptance.CONFLICT in outcomes + again

    @rule(name=names, repeat=st.booleans())
    def cancel(self, name: str, repeat: bool) -> None:
        self.commands += not repeat
        command = cancel(self.task(name), f"c{self.commands}")
        self.both(lambda journal: journal.accept([command]))

    @rule(name=names, priority=st.integers(-1, 9))
    def reprioritise(self, name: str, priority: int) -> None:
        self.commands += 1
        command = reprioritise(self.task(name), priority, f"c{self.commands}")
        self.both(lambda journal: journal.accept([command]))

    @precondition(lambda self: self.letters)
    @rule(data=st.data(), verb=st.sampled_from(["dead_letter.replay", "dead_letter.replay", "dead_letter.discard"]))
    def command_letter(self, data: st.DataObject, verb: str) -> None:
        self.commands += 1
        command = about_letter(data.draw(st.sampled_from(self.letters)), verb, f"c{self.commands}")
        self.both(lambda journal: journal.accept([command]))

    # --- work ---------------------------------------------------------------------------------------------------------

    @rule(limit=st.integers(0, 3))
    def claim(self, limit: int) -> None:
        found = self.both(lambda journal: journal.claim("w", limit=limit, lease_s=self.lease_s))
        self.claims += found

    def some_claim(self, data: st.DataObject) -> Claim:
        """One of the last claims: often one that is still in force, sometimes an old one."""
        claim: Claim = data.draw(st.sampled_from(self.claims[-4:]))
        return claim

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), step=st.sampled_from(["a", "b"]), events=st.integers(0, 2), final=st.booleans())
    def record(self, data: st.DataObject, step: str, events: int, final: bool) -> None:
        claim = self.some_claim(data)
        row = [status(new_task(), "developing")] * events
        point = checkpoint(step, {"fence": claim.fence})
        self.both(lambda journal: journal.record(claim, point, row, final=final))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), ending=endings, delay_s=st.sampled_from([0.0, 60.0]), dead=st.booleans(), told=st.booleans())
    def finish(self, data: st.DataObject, ending: Ending, delay_s: float, dead: bool, told: bool) -> None:
        claim = self.some_claim(data)
        events = []
        if ending is Ending.FAILED and dead:
            self.letters.append(f"letter-{claim.task_id}-{claim.epoch}")
            events.append(letter(self.letters[-1]))
        if told and ending not in (Ending.RETRY, Ending.INTERRUPTED):
            events.append(status(new_task(), State(ending.value).value))
        line = {"attempt": claim.attempt, "error": {"kind": "transient"}}
        self.both(lambda journal: journal.finish(claim, Finish(ending, events, delay_s, line)))

    @precondition(lambda self: self.claims)
    @rule()
    def drain(self) -> None:
        for claim in self.claims[-4:]:
            self.both(partial(interrupt, claim))

    @precondition(lambda self: self.claims)
    @rule()
    def renew(self) -> None:
        claims = {claim.task_id: claim for claim in self.claims}.values()
        self.both(lambda journal: journal.renew(list(claims), lease_s=self.lease_s))

    # --- faults and time ----------------------------------------------------------------------------------------------

    @rule()
    def crash(self) -> None:
        self.loop.run_until_complete(self.durable.close())
        self.both(lambda journal: journal.open())

    @rule(seconds=st.sampled_from([1, 6, 11, 40, 700]))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-3600, -5, 3600]))
    def step_wall_clock(self, seconds: int) -> None:
        steady = self.clock.steady
        self.clock.advance(seconds)
        self.clock.steady = steady

    # --- outbox -------------------------------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 30), marked=st.booleans())
    def relay(self, limit: int, marked: bool) -> None:
        rows: list[tuple[Any, ...]] = []
        for journal in (self.memory, self.durable):
            found = self.loop.run_until_complete(journal.unsent(limit=limit))
            rows.append(tuple((row.position, row.task_id, row.type, row.sequence, row.data) for row in found))
            if journal is self.durable:
                for row in found:
                    self.publish(row)
            if marked:
                self.loop.run_until_complete(journal.sent([row.position for row in found]))
        self.align(rows)

    def align(self, rows: list[tuple[Any, ...]]) -> None:
        """Positions may differ after a restart; what they stand for may not."""
        assert self.comparable([values[1:] for values in rows[0]]) == self.comparable(
            [values[1:] for values in rows[1]]
        )

    def publish(self, row: OutboxRow) -> None:
        if row.event_id in self.seen:
            return
        self.seen.add(row.event_id)
        if row.task_id is not None and row.sequence is not None:
            self.published[row.task_id].append((row.sequence, row.data["status"]))

    @rule(older_than_s=st.sampled_from([0, 60]))
    def tidy(self, older_than_s: int) -> None:
        self.both(lambda journal: journal.tidy(older_than_s=older_than_s))

    # --- invariants ---------------------------------------------------------------------------------------------------

    @invariant()
    def views_agree(self) -> None:
        views = self.both(lambda journal: journal.tasks())
        self.both(lambda journal: journal.depths())
        self.both(lambda journal: journal.dead_letters())
        for view in views:
            self.both(partial(checkpoints_of, view.task_id))

    @invariant()
    def at_most_one_attempt_per_ordering_key(self) -> None:
        running = [
            view.ordering_key for view in self.loop.run_until_complete(self.durable.tasks(states=[State.RUNNING]))
        ]
        assert len(running) == len(set(running))

    @invariant()
    def fences_only_grow(self) -> None:
        fences: dict[str, int] = defaultdict(int)
        for claim in self.claims:
            assert claim.fence > fences[claim.task_id]
            fences[claim.task_id] = claim.fence

    @invariant()
    def first_appearances_are_gapless_and_in_order(self) -> None:
        for events in self.published.values():
            assert [number for number, _ in events] == list(range(1, len(events) + 1))

    @invariant()
    def nothing_follows_an_end_but_a_replay(self) -> None:
        ends = {state.value for state in TERMINAL}
        for events in self.published.values():
            kinds = [kind for _, kind in events]
            assert all(after == "queued" for before, after in pairwise(kinds) if before in ends)


def interrupt(claim: Claim, journal: Journal) -> Awaitable[None]:
    """What a drain does with an attempt."""
    return journal.finish(claim, Finish(Ending.INTERRUPTED))


def checkpoints_of(task_id: str, journal: Journal) -> Awaitable[Any]:
    """Look at what a task has behind it."""
    return journal.checkpoints(task_id)


async def _outcome(call: Awaitable[Any]) -> Any:
    """What a call gives, or which of our errors it raises."""
    try:
        return await call
    except (Fenced, CancelRequested) as error:
        return type(error)


class PostgresMachine(JournalMachine):
    """The PostgreSQL journal beside the one in memory. Its clock is the server's: the fake one follows the real one.

    Steps of time are longer than every lease and delay, so that the milliseconds between two calls decide nothing.
    """

    lease_s = 60.0
    dsn = ""

    def __init__(self) -> None:
        super().__init__()
        self.store = PostgresStore(self.dsn)
        self.store.journal = self.durable
        self.followed = time.monotonic()

    def durable_journal(self) -> Journal:
        return PostgresJournal(self.dsn, SETTINGS)

    @initialize()
    def open(self) -> None:
        self.loop.run_until_complete(self.memory.open())
        self.loop.run_until_complete(self.store.open())

    def both(self, call: Callable[[Journal], Awaitable[Any]]) -> Any:
        now = time.monotonic()
        self.clock.advance(now - self.followed)
        self.followed = now
        return super().both(call)

    def comparable(self, answer: Any) -> Any:
        """All but the times, and the owner of a lease."""
        if is_dataclass(answer) and not isinstance(answer, type):
            answer = {field.name: getattr(answer, field.name) for field in fields(answer)}
        elif isinstance(answer, tuple) and hasattr(answer, "_asdict"):
            answer = answer._asdict()
        if isinstance(answer, Mapping):
            return {
                name: self.comparable(value)
                for name, value in answer.items()
                if not str(name).endswith("_at")
                and not str(name).startswith("oldest_")
                and name not in ("at", "worker")
            }
        if isinstance(answer, list | tuple):
            return [self.comparable(value) for value in answer]
        return answer

    def task(self, name: str, digest: str = "d1") -> NewTask:
        return super().task(name, digest)._replace(expires_at=None)  # a moment of the fake clock

    @rule(seconds=st.sampled_from([130, 700]))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.loop.run_until_complete(self.store.advance(seconds))

    @rule()
    def crash(self) -> None:
        """A worker's, found when its lease has run out."""
        self.pass_time_of_a_lease()
        self.both(lambda journal: journal.claim("w", limit=0, lease_s=1))

    def pass_time_of_a_lease(self) -> None:
        self.clock.advance(130)
        self.loop.run_until_complete(self.store.advance(130))

    def step_wall_clock(self) -> None:
        """No rule here: a server's clock is not ours to set."""


def length(examples: int, steps: int, *, search: bool = False) -> settings:
    """The same histories in every run, in a few seconds; new ones in a search by hand."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=not search,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def test_sqlite_tells_the_same_story_as_memory() -> None:
    """One clock, every rule."""
    run_state_machine_as_test(JournalMachine, settings=length(60, 40))


def test_postgres_tells_the_same_story_as_memory(postgres_server: PostgresServer) -> None:
    """Fewer and shorter histories: each call is a round trip."""
    PostgresMachine.dsn = postgres_server.create()

    run_state_machine_as_test(PostgresMachine, settings=length(12, 25))

    postgres_server.drop(PostgresMachine.dsn)


if __name__ == "__main__":  # python -m tests.conformance.test_journal_model EXAMPLES STEPS
    run_state_machine_as_test(JournalMachine, settings=length(int(sys.argv[1]), int(sys.argv[2]), search=True))
