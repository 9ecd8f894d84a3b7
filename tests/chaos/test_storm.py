"""One minute of the storm, with a fixed seed: what CI can afford of `make chaos`."""

import secrets
from pathlib import Path

import pytest

from agent.settings import KafkaSettings
from tests.acceptance.kafka import Kafka
from tests.chaos.plan import Fault, agent_strikes, crash_points, sendings
from tests.chaos.stack import Ground, large, small
from tests.chaos.storm import Options, Storm, Totals, conclude

pytestmark = pytest.mark.acceptance


def faults_of(totals: Totals) -> dict[str, object]:
    """Everything that did not hold."""
    return {name: faults for name, faults in (*totals.verdicts.items(), ("findings", totals.findings)) if faults}


@pytest.mark.kafka
async def test_a_minute_of_faults_with_three_agents_on_kafka_and_postgres(kafka: Kafka, tmp_path: Path) -> None:
    """Everything of `make chaos` but the faults of the broker, which other tests share."""
    prefix = f"storm-{secrets.token_hex(4)}."
    settings = {"bootstrap_servers": kafka.bootstrap_servers, "topic_prefix": prefix}
    asked = Options(tasks=250, seed=20260101, minutes=0.5, agent_fault_every_s=2.5, broker_faults=False)
    with Ground() as ground:
        async with large(KafkaSettings.model_validate(settings), None, tmp_path) as stack:
            totals, history = await Storm(asked, stack).run()
        totals = conclude(totals, history, await ground.left())

    assert faults_of(totals) == {}
    assert totals.tasks == 250
    assert {Fault.KILL, Fault.POSTGRES, Fault.CLOCK, Fault.CUT_POSTGRES} <= totals.faults.keys()


async def test_a_minute_of_faults_with_one_agent_on_sqlite(tmp_path: Path) -> None:
    """The embedded default, on any machine."""
    asked = Options(tasks=200, seed=20260102, minutes=0.5, agent_fault_every_s=4)
    with Ground() as ground:
        async with small(tmp_path) as stack:
            totals, history = await Storm(asked, stack).run()
        totals = conclude(totals, history, await ground.left())

    assert faults_of(totals) == {}
    assert totals.tasks == 200
    assert totals.faults.keys() >= {Fault.KILL}


def test_the_same_seed_is_the_same_storm() -> None:
    """A run that found something can be run again."""

    def drawn(seed: int) -> object:
        strikes, points = agent_strikes(seed, 3, 4.0, 4.0), crash_points(seed)
        sent = [(round(s.at_s, 6), s.task, s.kind, len(s.records)) for s in sendings(seed, 500, 60)]
        return sent, [next(strikes) for _ in range(50)], [next(points) for _ in range(50)]

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)
