"""One JSON object a line; local variables never."""

import io
import json
import logging
from typing import Literal

import pytest
import structlog

from agent.settings import TelemetrySettings
from agent.telemetry import logs


@pytest.fixture
def passing() -> list[float]:
    """The time in seconds, as its only item; the test moves it."""
    return [0.0]


@pytest.fixture
def stream(passing: list[float]) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(TelemetrySettings(), stream=stream, monotonic=lambda: passing[0])
    return stream


def test_every_line_is_one_object_with_the_bound_ids(stream: io.StringIO) -> None:
    """Ids are bound once by context; a newline in a value cannot forge a second line."""
    with structlog.contextvars.bound_contextvars(task_id="t-1"):
        structlog.get_logger().info("phase.completed", phase="verify\nforged line")
    logging.getLogger("aiokafka").warning("a library speaks")

    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["task_id"], first["phase"]) == ("phase.completed", "t-1", "verify\nforged line")
    assert second["event"] == "a library speaks"


def test_a_traceback_holds_no_local_variables(stream: io.StringIO) -> None:
    """Frames hold specifications and secrets."""
    secret = "hunter2"  # the frame's variable that must not appear
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().error("attempt.failed", exc_info=True)

    assert "ValueError" in stream.getvalue()
    assert secret not in stream.getvalue()


def test_a_library_repeats_itself_once_in_ten_seconds(stream: io.StringIO, passing: list[float]) -> None:
    """The Kafka client writes sixty lines a second while the broker is away, always with the same template."""
    kafka = logging.getLogger("aiokafka.client")
    for second in range(21):
        passing[0] = float(second)
        for node in range(3):
            kafka.error("Unable connect to node with id %s", node)

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"][-1] for line in lines] == ["0", "0", "0"]
    assert [line.get("suppressed") for line in lines] == [None, 29, 29]


def test_what_differs_is_no_repetition(stream: io.StringIO) -> None:
    """Another logger, another template, another exception: each is news. Our own lines are never held back."""
    for number in range(2):
        logging.getLogger("aiokafka.client").error("lost")
        logging.getLogger("aiokafka.conn").error("lost")
        logging.getLogger("aiokafka.conn").error("closed")
        logging.getLogger("aiokafka.conn").error("closed", exc_info=OSError("unplugged"))
        structlog.get_logger().error("task.failed", number=number)

    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["lost", "lost", "closed", "closed", "task.failed", "task.failed"]


def test_kinds_of_lines_are_forgotten() -> None:
    """A library that writes the numbers into its templates does not fill the memory."""
    repetitions = logs.Repetitions(lambda: 0.0)
    for number in range(logs.KINDS_KEPT * 2):
        repetitions.filter(logging.makeLogRecord({"name": "chatty", "msg": f"number {number}"}))

    assert len(repetitions._kinds) == logs.KINDS_KEPT


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ],
)
def test_people_read_on_a_terminal_and_programs_elsewhere(
    log_format: Literal["auto", "json", "console"], stream: io.StringIO, is_json: bool
) -> None:
    """Unless somebody has said which."""
    logs.configure(TelemetrySettings(log_format=log_format), stream=stream)

    structlog.get_logger().info("phase.completed", phase="verify")

    assert stream.getvalue().startswith("{") == is_json
    assert "phase.completed" in stream.getvalue()


def test_nothing_in_a_field_steers_the_terminal() -> None:
    """Errors quote what strangers sent."""
    stream = io.StringIO()
    logs.configure(TelemetrySettings(log_format="console"), stream=stream)

    structlog.get_logger().warning("task.retried", error="a\x1b]0;title\nforged \u202eline", parts=["\x1b[2J"])
    logging.getLogger("aiokafka").warning("bad %s", "\x1b[2J\nname")
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        structlog.get_logger().error("attempt.failed", exc_info=True)

    assert set(filter(lambda c: not c.isprintable(), stream.getvalue())) == {"\n"}
    assert not [line for line in stream.getvalue().splitlines() if line.startswith(("forged", "name"))]
