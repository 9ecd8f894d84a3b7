"""Structured logs: one JSON object a line on stderr, ids bound once by context, no text of a specification ever."""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import orjson
import structlog

from agent.settings import TelemetrySettings

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
REPEAT_S = 10.0
KINDS_KEPT = 256  # of lines; a library that builds its texts itself never says the same


def _dumps(value: Any, **_options: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def configure(
    settings: TelemetrySettings, *, stream: TextIO | None = None, monotonic: Callable[[], float] = time.monotonic
) -> None:
    """Set structlog and the standard library (aiokafka, asyncpg) to write the same lines. Call once per process."""
    stream = stream or sys.stderr
    is_json = settings.log_format == "json" or (settings.log_format == "auto" and not stream.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    written = _for_programs() if is_json else _for_people(stream)
    structlog.configure(
        processors=[*shared, *written],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.log_level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(Repetitions(monotonic))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_without_internals, *written])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[settings.log_level], logging.WARNING))


class Repetitions(logging.Filter):
    """Lets each kind of line of a library through once in REPEAT_S; the next one carries how many were `suppressed`.

    A kind is a logger, a template and the type of the exception. aiokafka alone writes sixty lines a second while the
    broker is away. Our own lines go through structlog and never come here.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._monotonic = monotonic
        # kind → (last let through, suppressed since)
        self._kinds: dict[tuple[str, str, type | None], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._monotonic()
        kind = (record.name, str(record.msg), record.exc_info[0] if record.exc_info else None)
        said_at, suppressed = self._kinds.get(kind, (now - REPEAT_S, 0))
        if now - said_at < REPEAT_S:
            self._kinds[kind] = (said_at, suppressed + 1)
            return False
        record.suppressed = suppressed
        self._kinds.pop(kind, None)  # said last, forgotten last
        self._kinds[kind] = (now, 0)
        if len(self._kinds) > KINDS_KEPT:
            del self._kinds[next(iter(self._kinds))]
        return True


def _without_internals(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if suppressed := getattr(event.pop("_record", None), "suppressed", 0):
        event["suppressed"] = suppressed
    event.pop("_from_structlog", None)
    return event


# Tracebacks never with local variables: a frame holds specifications, requests and secrets.


def _for_programs() -> list[Any]:
    return [
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]


def _for_people(stream: TextIO) -> list[Any]:
    return [
        structlog.processors.format_exc_info,
        _visible,
        structlog.dev.ConsoleRenderer(colors=stream.isatty()),
    ]


def _visible(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What would steer the terminal is escaped, as JSON does it: texts of strangers may stand in a field."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            keep = "\n" if name == "exception" else ""
            event[name] = "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in value)
    return event
