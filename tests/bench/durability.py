"""What a checkpoint costs, and what `kill -9` costs: time until work goes on, and work that is done again."""

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from agent.bus.embedded import embedded_settings
from agent.bus.kafka import KafkaBus
from agent.journal.port import Journal
from agent.journal.postgres import PostgresJournal
from agent.journal.sqlite import SqliteJournal
from agent.settings import JournalSettings
from agent.testing.process import AgentProcess
from agent.testing.waiting import until
from agent.testing.watcher import Watcher
from tests.bench.figures import Figure, figure, percentile
from tests.bench.requests import identity_of, request
from tests.bench.stage import Lost, Stage

STEP_S = 0.1
STEPS = ",".join(f"step{number}" for number in range(20))
KILL_AFTER = 5  # effects
GROUP = "BACKWRIGHT_KAFKA__GROUP_ID"


async def checkpoints(stage: Stage, quick: bool) -> Sequence[Figure]:
    """ms of one `record` with nobody else at work: no other writer to share its commit with."""
    figures: list[Figure] = []
    for kind in ("memory", "sqlite", "postgres"):
        stage.say(kind)
        journal, folder = await stage.journal(kind)
        number = 100 if quick else 500
        found = await stage.play("checkpoint", records=number, journal=journal, folder=folder)
        if found["records"] != number:
            raise Lost(f"{found['records']} of {number} checkpoints are in the journal")
        figures += [figure(f"checkpoint.{kind}.p{p}", "ms", percentile(found["ms"], p)) for p in (50, 95)]
    return figures


async def crashes(stage: Stage, quick: bool) -> Sequence[Figure]:
    """Kill an agent in the middle of its steps. SQLite: it is started again at once. PostgreSQL: another takes over."""
    figures: list[Figure] = []
    for kind, how, kills in (("sqlite", "restarted", 3), ("postgres", "taken_over", 2)):
        rounds = 1 if quick else kills
        recovered: list[float] = []
        repeated: list[float] = []
        for number in range(rounds):
            stage.say(f"{kind}, kill {number + 1} of {rounds}")
            seconds, steps = await _crash(stage, kind)
            recovered.append(seconds)
            repeated.append(float(steps))
        figures.append(figure(f"recovery.{kind}.{how}", "s", recovered))
        # The worst, not the median: it is a promise.
        figures.append(figure(f"work_lost.{kind}", "steps", max(repeated)))
    return figures


async def _crash(stage: Stage, kind: str) -> tuple[float, int]:
    """(seconds from the kill to the first new checkpoint in the journal, steps that were done twice)."""
    await stage.fresh_broker()
    journal, folder = await stage.journal(kind)
    effects = Path(folder) / "effects.txt"
    environment = {"SCRIPT_STEPS": STEPS, "SCRIPT_STEP_S": str(STEP_S), "SCRIPT_EFFECTS": str(effects)}
    if kind == "postgres":
        environment["BACKWRIGHT_JOURNAL__URL"] = journal
    identity = f"slow-{secrets.token_hex(6)}"
    about = identity_of(identity)
    async with AsyncExitStack() as stack:
        agents = [
            # The embedded broker knows one member per group; the journal, not the group, is what two agents share.
            AgentProcess(Path(folder) / name, stage.bootstrap, name=name, environment={**environment, GROUP: name})
            for name in ("one", "two")[: 2 if kind == "postgres" else 1]
        ]
        for agent in agents:
            await stack.enter_async_context(agent)
        watcher = await stack.enter_async_context(Watcher(KafkaBus(embedded_settings(stage.bootstrap))))
        for agent in agents:
            await agent.wait_ready()
        await watcher.send(request(identity, service="slow"))
        await until(lambda: effects.exists() and len(_steps(effects)) >= KILL_AFTER, "the first steps")
        (victim,) = [agent for agent in agents if (await agent.health("ready"))[1].get("running")]
        view = _view(kind, journal, folder)
        await view.open()
        try:
            killed = time.perf_counter()
            await victim.kill()
            before = len(await view.checkpoints(about))
            if kind == "sqlite":
                await victim.start()

            async def goes_on() -> bool:
                return len(await view.checkpoints(about)) > before

            await until(goes_on, "a checkpoint after the kill")
            seconds = time.perf_counter() - killed
        finally:
            await view.close()
        if (ending := await watcher.ended(about, limit_s=60)) != "completed":
            raise Lost(f"the task ended as {ending}")
    return seconds, sum(number - 1 for number in Counter(_steps(effects)).values())


def _view(kind: str, journal: str, folder: str) -> Journal:
    if kind == "postgres":
        return PostgresJournal(journal, JournalSettings())
    return SqliteJournal.open_readonly(Path(folder) / "one" / "journal.sqlite")


def _steps(effects: Path) -> list[str]:
    """Steps that took effect, repeats included."""
    return [line.split()[2] for line in effects.read_text().splitlines() if len(line.split()) == 4]
