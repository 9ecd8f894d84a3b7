"""Logs, metrics and traces. A log line is an event with fields; no text of a request is part of an event's name."""

import logging
import sys
from dataclasses import dataclass, field
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.settings import Settings
from app.values import encode

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


def configure_logs(settings: Settings) -> None:
    """Everything, uvicorn's lines included, goes to stdout as JSON (or readable, for a console)."""
    level = getattr(logging, settings.log_level.upper())
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=lambda value, **_: encode(value).decode())
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.INFO), force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"  # the middleware writes the access line


@dataclass(frozen=True, slots=True)
class Metrics:
    """What Prometheus scrapes. Labels come from the document, never from a request."""

    registry: CollectorRegistry
    requests: Counter
    durations: Histogram
    in_flight: Gauge
    _bound: dict[tuple[str, str, int], tuple[Counter, Histogram]] = field(default_factory=dict)

    def answered(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count a request."""
        bound = self._bound.get((method, route, status))
        if bound is None:
            counter, histogram = self.requests.labels(method, route, str(status)), self.durations.labels(method, route)
            bound = self._bound[method, route, status] = counter, histogram
        bound[0].inc()
        bound[1].observe(duration_s)

    @classmethod
    def create(cls) -> "Metrics":
        registry = CollectorRegistry()
        labels = ("method", "route", "status")
        return cls(
            registry,
            Counter("http_requests_total", "Requests answered.", labels, registry=registry),
            Histogram(
                "http_request_duration_seconds",
                "From first byte in to last byte out.",
                ("method", "route"),
                buckets=BUCKETS,
                registry=registry,
            ),
            Gauge("http_requests_in_flight", "Requests being answered.", registry=registry),
        )


def configure_traces(settings: Settings, service: str) -> TracerProvider | None:
    """Export spans over OTLP/HTTP, if an endpoint is set. Close the provider to flush."""
    if settings.otlp_endpoint is None:
        return None
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint.rstrip("/") + "/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
