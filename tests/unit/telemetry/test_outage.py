"""What an operator reads while the broker is away."""

from structlog.testing import capture_logs

from agent.bus.kafka.calls import Reach


def test_an_outage_is_told_when_it_begins_now_and_then_and_when_it_ends() -> None:
    """Once each, whatever the number of tries."""
    now = 0.0
    reach = Reach(lambda: now)

    with capture_logs() as told:
        reach.note(False)  # never there: not lost
        reach.note(True)
        for tenth in range(10, 221):
            now = tenth / 10
            reach.note(False)
        now = 22.5
        reach.note(True)
        reach.note(True)

    assert [(line["event"], line.get("tries"), line.get("away_s")) for line in told] == [
        ("bus.lost", None, None),
        ("bus.still_lost", 101, 10.0),
        ("bus.still_lost", 201, 20.0),
        ("bus.reached_again", 211, 21.5),
    ]
