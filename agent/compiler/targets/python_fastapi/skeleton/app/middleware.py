"""The outermost layer: correlation id, access log, metrics, span, headers, and the last resort for what nobody caught."""

import re
import time
import uuid
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import PROBLEM, Kind, Problem, render
from app.routing import HIDDEN_SLASH
from app.telemetry import Metrics
from app.values import encode

log = structlog.get_logger()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_PROPAGATOR = TraceContextTextMapPropagator()
QUIET = ("/health/live", "/health/ready", "/metrics")  # scraped all the time: not logged


class Observe:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, tracer: trace.Tracer) -> None:
        self._app, self._metrics, self._tracer = app, metrics, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        scope["request_id"] = correlation_id(headers)
        started = time.perf_counter()
        status = 500
        is_started = False

        async def send_observed(message: Message) -> None:
            nonlocal status, is_started
            if message["type"] == "http.response.start":
                status, is_started = message["status"], True
                message["headers"] = [*message["headers"], *common_headers(scope["request_id"])]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=scope["request_id"])
        with self._metrics.in_flight.track_inprogress(), self._span(scope, headers) as span:
            try:
                if hide_slashes(scope):
                    await self._app(scope, receive, send_observed)
                else:
                    problem = Problem(Kind.INVALID, "The path is not valid UTF-8.")
                    await send_problem(problem, scope, send_observed)
            except Exception as exc:  # the boundary of a request: nothing may leave it but a problem document
                log.exception("request.failed", error_type=type(exc).__name__)
                span.record_exception(exc)
                if is_started:
                    raise
                await send_problem(Problem(Kind.FAILED, "Something went wrong."), scope, send_observed)
            self._finish(scope, span, status, time.perf_counter() - started)

    def _span(self, scope: Scope, headers: Mapping[str, str]) -> Any:
        context = _PROPAGATOR.extract(headers)
        return self._tracer.start_as_current_span(scope["method"], context, kind=trace.SpanKind.SERVER)

    def _finish(self, scope: Scope, span: trace.Span, status: int, duration_s: float) -> None:
        route = scope.get("route_template", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.durations.labels(method, route).observe(duration_s)
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        if scope["path"] not in QUIET:
            log.info(
                "request.answered",
                method=method,
                route=route,
                operation=scope.get("operation"),
                status=status,
                duration_ms=round(duration_s * 1000, 2),
            )


_METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"})


def correlation_id(headers: Mapping[str, str]) -> str:
    """The caller's X-Request-ID if it is harmless, else the trace's id, else a new one."""
    given = headers.get("x-request-id", "")
    if _REQUEST_ID.match(given):
        return given
    parent = _TRACE_PARENT.match(headers.get("traceparent", ""))
    return parent.group(1) if parent else uuid.uuid4().hex


def common_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    """Headers of every response."""
    return [
        (b"x-request-id", request_id.encode("latin-1")),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    ]


def hide_slashes(scope: MutableMapping[str, Any]) -> bool:
    """Keep an encoded slash in a path apart from a separator; False for a path that is not UTF-8."""
    raw = scope.get("raw_path")
    if not raw or b"%" not in raw:
        return True
    try:
        parts = [unquote(part, errors="strict") for part in raw.partition(b"?")[0].decode("ascii").split("/")]
    except UnicodeDecodeError:
        return False
    scope["path"] = "/".join(part.replace("/", HIDDEN_SLASH) for part in parts)
    return True


async def send_problem(problem: Problem, scope: Scope, send: Send) -> None:
    """A problem document, without the help of the application."""
    rendered = render(problem, shapes={}, instance=scope["path"], request_id=scope["request_id"])
    body = encode(rendered.body)
    headers = [(b"content-type", PROBLEM.media_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": HTTPStatus(rendered.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
