"""One JSON object a line; local variables never."""

import io
import json
import logging

import pytest
import structlog

from agent.settings import TelemetrySettings
from agent.telemetry import logs


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    logs.configure(TelemetrySettings(), stream=stream)
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
