"""The outermost layer: correlation id, access log, metrics, span, headers, and the last resort for what nobody caught."""

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract import METHODS
from app.dispatch import refusal
from app.errors import Kind, Problem
from app.telemetry import Metrics

log = structlog.get_logger()
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")
_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_PROPAGATOR = TraceContextTextMapPropagator()
_METHODS = frozenset(METHODS)
QUIET = ("/health/live", "/health/ready", "/metrics")  # scraped all the time: not logged


class Observe:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, tracer: trace.Tracer | None) -> None:
        self._app, self._metrics, self._tracer = app, metrics, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = scope["request_id"] = correlation_id(scope["headers"])
        status = 0  # nothing was sent yet

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *common_headers(request_id)]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        self._metrics.in_flight.inc()
        try:
            with self._span(scope) as span:
                try:
                    await self._app(scope, receive, send_observed)
                except Exception as exc:  # the boundary of a request: nothing leaves it but a problem document
                    log.exception("request.failed", error_type=type(exc).__name__)
                    span.record_exception(exc)
                    if status:
                        raise
                    await refusal(scope, Problem(Kind.FAILED, "Something went wrong."))(scope, receive, send_observed)
                finally:
                    self._finish(scope, span, status or 500, time.perf_counter() - started)
        finally:
            self._metrics.in_flight.dec()

    @contextmanager
    def _span(self, scope: Scope) -> Iterator[trace.Span]:
        if self._tracer is None:
            yield trace.INVALID_SPAN
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        context = _PROPAGATOR.extract(headers)
        with self._tracer.start_as_current_span(scope["method"], context, kind=trace.SpanKind.SERVER) as span:
            yield span

    def _finish(self, scope: Mapping[str, Any], span: trace.Span, status: int, duration_s: float) -> None:
        route = scope.get("route_template", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.answered(method, route, status, duration_s)
        if span.is_recording():
            span.update_name(f"{method} {route}")
            span.set_attributes(
                {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            )
        if "operation" in scope or route not in QUIET:
            log.info(
                "request.answered",
                method=method,
                route=route,
                operation=scope.get("operation"),
                status=status,
                duration_ms=round(duration_s * 1000, 2),
            )


def correlation_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The caller's X-Request-ID if it is harmless, else the trace's id, else a new one."""
    given = parent = b""
    for name, value in headers:
        if name == b"x-request-id":
            given = value
        elif name == b"traceparent":
            parent = value
    if _REQUEST_ID.match(given):
        return given.decode("ascii")
    trace_parent = _TRACE_PARENT.match(parent)
    return trace_parent.group(1).decode("ascii") if trace_parent else uuid.uuid4().hex


def common_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    """Headers of every response."""
    return [
        (b"x-request-id", request_id.encode("latin-1")),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    ]
