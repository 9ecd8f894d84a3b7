"""A benchmark that computes wrongly is worse than none."""

from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest

from tests.bench import plot
from tests.bench.child import STATUSES
from tests.bench.figures import Figure, figure, percentile, ratios, rounded, save
from tests.bench.replicas import AGENTS, checked, fairness
from tests.bench.requests import identity_of, new_task, request
from tests.bench.stage import Lost
from tests.bench.targets import TARGETS, at_least, at_most
from tests.bench.throughput import RATIOS


def test_ratio_is_taken_pair_by_pair_before_the_median() -> None:
    """The machine slowed down in the second round, both contenders alike: the ratio does not move."""
    given = figure("x/y", "ratio", ratios([10.0, 1.0, 8.0], [20.0, 2.0, 16.0]))

    assert given.value == 0.5
    assert given.spread() == "0.5–0.5"


def test_rounds_that_do_not_pair_up_are_refused() -> None:
    """A contender that failed once must not shift the pairs."""
    with pytest.raises(ValueError, match="2 rounds over 1"):
        ratios([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="not positive"):
        ratios([1.0], [0.0])


@pytest.mark.parametrize(("percent", "expected"), [(50, 50.0), (95, 95.0), (99, 99.0), (100, 100.0), (0.5, 1.0)])
def test_percentile_is_a_value_that_was_seen(percent: float, expected: float) -> None:
    """Nearest rank, no interpolation, in whatever order the values came."""
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


def test_percentile_of_few_values_is_the_worst_one() -> None:
    """A p99 of ten values must not look better than what was seen."""
    assert percentile([1.0] * 9 + [50.0], 99) == 50.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@pytest.mark.parametrize(("value", "expected"), [(0.08412, 0.0841), (12_345.6, 12_346.0), (1.2345, 1.23), (0.0, 0.0)])
def test_figures_keep_three_digits(value: float, expected: float) -> None:
    """More would be noise; whole numbers stay whole."""
    assert rounded(value) == expected


def test_direction_of_a_target_decides() -> None:
    """A rate must be high, a time must be low; the threshold itself is enough."""
    assert [at_least(2).met(value) for value in (1, 2, 3)] == [False, True, True]
    assert [at_most(2).met(value) for value in (1, 2, 3)] == [True, True, False]


def test_file_has_the_promised_fields_and_keeps_what_was_not_measured_again(tmp_path: Path) -> None:
    """`--only` adds to a file; the six fields are what others read."""
    path = tmp_path / "build" / "bench.json"
    save(path, [Figure("a", "ratio", 0.5, target=at_least(0.4)), Figure("b", "ms", 3.0)])
    save(path, [Figure("b", "ms", 4.0)])

    assert orjson.loads(path.read_bytes()) == [
        {"name": "a", "value": 0.5, "unit": "ratio", "target": ">= 0.4", "must": True, "met": True},
        {"name": "b", "value": 4.0, "unit": "ms", "target": None, "must": False, "met": None},
    ]


def test_each_ratio_with_a_target_is_measured() -> None:
    """A target whose name no benchmark knows would be missed in silence."""
    measured = {*RATIOS, "life.commits_per_task", "life.rtt3/rtt0", "life.rtt3/faststream.rtt3"}

    assert {name for name in TARGETS if name.startswith(("accept", "life"))} <= measured


def test_fairness_is_the_smallest_share_over_the_mean() -> None:
    """Even is 1, whatever the number of agents; who got nothing makes it 0."""
    assert fairness([5, 5]) == fairness([7, 7, 7, 7]) == 1.0
    assert fairness([1, 3]) == 0.5
    assert fairness([0, 4, 4, 4]) == 0.0
    with pytest.raises(ValueError, match="nobody"):
        fairness([0, 0])


@pytest.mark.parametrize(
    ("completed", "statuses", "worked", "match"),
    [(9, 30, 5, "9 are completed"), (10, 29, 5, "29 arrived"), (10, 31, 5, "31 arrived"), (10, 30, 6, "11 times")],
)
def test_replicas_that_lose_or_repeat_a_task_are_not_measured(
    completed: int, statuses: int, worked: int, match: str
) -> None:
    """A rate of tasks that two agents did is no rate."""
    checked(10, 10, 10 * STATUSES, [{"records": 4, "worked": 5}, {"records": 6, "worked": 5}])
    with pytest.raises(Lost, match=match):
        checked(10, completed, statuses, [{"records": 4, "worked": 5}, {"records": 6, "worked": worked}])


def test_each_target_of_replicas_is_measured() -> None:
    """A target whose name no benchmark knows would be missed in silence."""
    measured = {f"replicas.waiting.{agents}/1" for agents in AGENTS if agents > 1}

    assert {name for name in TARGETS if name.startswith("replicas")} == measured


def test_plot_is_well_formed_and_longer_is_better_for_both_directions() -> None:
    """Names and units are text, whatever they contain."""
    assert plot.advantage(0.8, ">= 0.4") == plot.advantage(0.4, "<= 0.8") == 2.0
    lines = [{"name": "<a> & b", "value": 0.0, "unit": "%", "target": "<= 1", "must": True, "met": True}]

    drawing = ElementTree.fromstring(plot.svg(lines, "title <1>"))

    assert "<a> & b" in [element.text for element in drawing.iter()]


def test_requests_differ_in_key_and_identity_and_weigh_a_kilobyte() -> None:
    """Else deduplication or an ordering key would be what we measure."""
    one, other = request("one"), request("other")

    assert one.key != other.key
    assert identity_of("one") != identity_of("other")
    assert 900 < len(one.value) < 1100
    assert new_task(1).task_id != new_task(1).task_id
