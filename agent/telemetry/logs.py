"""Structured logs: one JSON object a line on stderr, ids bound once by context, no text of a specification ever."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import orjson
import structlog

from agent.settings import TelemetrySettings

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def _dumps(value: Any, **_options: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def configure(settings: TelemetrySettings, *, stream: TextIO | None = None) -> None:
    """Set structlog and the standard library (aiokafka, asyncpg) to write the same lines. Call once per process."""
    stream = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _traceback(settings),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_dumps)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.log_level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_without_internals, renderer])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[settings.log_level], logging.WARNING))


def _without_internals(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event


def _traceback(settings: TelemetrySettings) -> Any:
    # Never with local variables: a frame holds specifications, requests and secrets.
    if settings.log_format == "json":
        return structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    return structlog.processors.format_exc_info
