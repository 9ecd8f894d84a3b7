"""Contenders side by side: one process each, the same records, in an order that turns with every round."""

import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts import topics
from tests.bench.child import STATUSES
from tests.bench.figures import Figure, figure, ratios
from tests.bench.stage import Lost, Stage, install_peer


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to handle the records."""

    name: str
    role: str
    journal: str = "memory"
    telemetry: bool = True


CONTENDERS = (
    Contender("raw", "raw"),
    Contender("accept.memory", "accept"),
    Contender("accept.sqlite", "accept", "sqlite"),
    Contender("accept.postgres", "accept", "postgres"),
    Contender("life.memory", "life"),
    Contender("life.sqlite", "life", "sqlite"),
    Contender("life.sqlite.silent", "life", "sqlite", telemetry=False),
    Contender("life.postgres", "life", "postgres"),
    Contender("faststream", "faststream"),
)
# (above, below) of each ratio
RATIOS = {
    "accept.sqlite/raw": ("accept.sqlite", "raw"),
    "accept.postgres/raw": ("accept.postgres", "raw"),
    "life.sqlite/raw": ("life.sqlite", "raw"),
    "accept.sqlite/memory": ("accept.sqlite", "accept.memory"),
    "accept.postgres/memory": ("accept.postgres", "accept.memory"),
    "life.sqlite/memory": ("life.sqlite", "life.memory"),
    "accept.sqlite/faststream": ("accept.sqlite", "faststream"),
    "accept.postgres/faststream": ("accept.postgres", "faststream"),
    "life.sqlite/faststream": ("life.sqlite", "faststream"),
    "accept.postgres/sqlite": ("accept.postgres", "accept.sqlite"),
    "life.postgres/sqlite": ("life.postgres", "life.sqlite"),
    "life.telemetry_on/off": ("life.sqlite", "life.sqlite.silent"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """Records per round and role, and rounds."""

    accept: int = 18_000  # 3,000 per partition: the broker keeps 5 MiB of each
    life: int = 2_500
    faststream: int = 1_500
    rounds: int = 5
    least: int = 3  # rounds that are run however long they take
    budget_s: float = 130.0  # after that no new round begins


QUICK = Size(accept=6_000, life=1_000, faststream=500, rounds=2, least=2)


async def run(stage: Stage, quick: bool) -> Sequence[Figure]:
    """All rounds, then rates and ratios."""
    size = QUICK if quick else Size()
    why_not = install_peer()
    if why_not:
        stage.say(f"FastStream: not performed ({why_not})")
    contenders = [each for each in CONTENDERS if each.role != "faststream" or not why_not]
    rates: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, list[float]] = defaultdict(list)
    spent: dict[str, list[float]] = defaultdict(list)
    commits: list[float] = []
    began = time.monotonic()
    for number in range(size.rounds):
        if number >= size.least and time.monotonic() - began > size.budget_s:
            stage.say(f"{number} rounds instead of {size.rounds}: the machine is busy")
            break
        # Two brokers a round: with as many records as a role takes, so that each contender reads a whole topic.
        for roles, records in ((("raw", "accept"), size.accept), (("life", "faststream"), size.life)):
            await stage.fresh_broker()
            await stage.preload(records)
            heat = [each for each in contenders if each.role in roles]
            for contender in heat if number % 2 == 0 else reversed(heat):
                stage.say(f"round {number + 1} of {size.rounds}: {contender.name}")
                found = await _once(stage, contender, records, size)
                rates[contender.name].append(found["rate"])
                if "peak_mb" in found:
                    peaks[contender.name].append(found["peak_mb"])
                if "cpu_us" in found:
                    spent[contender.name].append(found["cpu_us"])
                if found.get("commits"):
                    commits.append(found["commits"] / records)
    commits_per_task = figure("life.commits_per_task", "ratio", commits)
    return [*_rates(rates), *_ratios(rates), *_costs(spent), *_peaks(peaks), commits_per_task]


async def over_a_distance(stage: Stage, quick: bool) -> Sequence[Figure]:
    """The same with a broker that answers after 3 ms: who waits for each answer stands still."""
    rounds, records, few = (1, 500, 60) if quick else (2, 2_000, 200)
    has_peer = install_peer() is None
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        broker = await stage.fresh_broker()
        await stage.preload(records)
        for distance in (0, 3) if number % 2 == 0 else (3, 0):
            stage.say(f"round {number + 1} of {rounds}: {distance} ms")
            await broker.tell(f"rtt {distance}")
            size = Size(faststream=few)
            found = await _once(stage, Contender("life.sqlite", "life", "sqlite"), records, size)
            rates[f"life.rtt{distance}"].append(found["rate"])
            if distance and has_peer:
                peer = await _once(stage, Contender("faststream", "faststream"), records, size)
                rates["faststream.rtt3"].append(peer["rate"])
    figures = [figure("life.rtt3/rtt0", "ratio", ratios(rates["life.rtt3"], rates["life.rtt0"]))]
    if has_peer:
        figures.append(
            figure("life.rtt3/faststream.rtt3", "ratio", ratios(rates["life.rtt3"], rates["faststream.rtt3"]))
        )
    return [*_rates(rates), *figures]


async def _once(stage: Stage, contender: Contender, records: int, size: Size) -> Mapping[str, Any]:
    """One contender, one round. Raises Lost unless everything that it counts is where it belongs."""
    if contender.role == "faststream":
        return await stage.faststream(f"peer-{secrets.token_hex(5)}", size.faststream)
    before = await stage.ends(topics.STATUS.name)
    journal, folder = await stage.journal(contender.journal)
    found = await stage.play(
        contender.role, records=records, journal=journal, folder=folder, telemetry=contender.telemetry
    )
    if found["records"] != records:
        raise Lost(f"{contender.name}: {records} records, {found['records']} in the journal")
    arrived = await stage.ends(topics.STATUS.name) - before
    if arrived != (expected := records * STATUSES if contender.role == "life" else 0):
        raise Lost(f"{contender.name}: {expected} statuses were counted, {arrived} arrived")
    return found


def _rates(rates: Mapping[str, Sequence[float]]) -> list[Figure]:
    return [figure(f"{name}.rate", "records/s", values) for name, values in rates.items()]


def _ratios(rates: Mapping[str, Sequence[float]]) -> list[Figure]:
    return [
        figure(name, "ratio", ratios(rates[above], rates[below]))
        for name, (above, below) in RATIOS.items()
        if rates.get(above) and rates.get(below)
    ]


def _costs(spent: Mapping[str, Sequence[float]]) -> list[Figure]:
    """CPU time of all threads of our process: what other processes do shows less in it than in a rate."""
    return [figure(f"{name}.cpu", "us", values) for name, values in spent.items()]


def _peaks(peaks: Mapping[str, Sequence[float]]) -> list[Figure]:
    return [
        figure(f"{name}.peak_rss", "MB", peaks[name]) for name in ("life.sqlite", "life.postgres") if peaks.get(name)
    ]
