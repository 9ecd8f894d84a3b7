"""OpenTelemetry traces: W3C context in and out of Kafka headers, spans exported when an endpoint is configured.

One short span per accepted record, then one trace per attempt with a link to it: a single span over an hour of work
would be lost on kill -9.
"""

import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, NonRecordingSpan, Span, SpanContext, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent import __version__
from agent.settings import TelemetrySettings

_W3C = TraceContextTextMapPropagator()


class Tracing:
    """The tracer of a process. `close` flushes; without an endpoint (or a processor) spans cost next to nothing."""

    def __init__(self, settings: TelemetrySettings, *, processor: SpanProcessor | None = None) -> None:
        if processor is None and settings.otlp_endpoint is None:
            self._provider: TracerProvider | None = None
            self.tracer: Tracer = trace.NoOpTracer()
            return
        resource = Resource.create({"service.name": "backwright", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, sampler=ALWAYS_ON)
        self._provider.add_span_processor(processor or _otlp(settings.otlp_endpoint or ""))
        self.tracer = _Sampler(self._provider.get_tracer("backwright", __version__), settings.sample_ratio)

    def close(self) -> None:
        """Export what is buffered; bounded by the exporter's own timeout."""
        if self._provider is not None:
            self._provider.shutdown()


_DROPPED = NonRecordingSpan(INVALID_SPAN_CONTEXT)  # stands for every span of a trace that nobody records


class _Sampler(Tracer):
    """Decides once per trace, before OpenTelemetry makes anything of it: its own samplers cost 10 us for each "no"."""

    def __init__(self, inner: Tracer, ratio: float) -> None:
        self._inner = inner
        self._ratio = ratio

    def start_span(self, name: str, context: Context | None = None, *args: Any, **options: Any) -> Span:
        if self._is_dropped(context):
            return _DROPPED
        return self._inner.start_span(name, context, *args, **options)

    def start_as_current_span(  # type: ignore[override]  # the base returns a private class of OpenTelemetry
        self, name: str, context: Context | None = None, *args: Any, **options: Any
    ) -> AbstractContextManager[Span]:
        if self._is_dropped(context):
            return _Dropped()
        return self._inner.start_as_current_span(name, context, *args, **options)

    def _is_dropped(self, context: Context | None) -> bool:
        parent = trace.get_current_span(context)
        if parent is _DROPPED or parent.get_span_context().is_valid:
            return parent is _DROPPED
        return random.random() >= self._ratio  # noqa: S311 - a sample, no secret


class _Dropped(AbstractContextManager[Span]):
    """Spans below it are dropped, too."""

    def __enter__(self) -> Span:
        self._token = contexts.attach(trace.set_span_in_context(_DROPPED))
        return _DROPPED

    def __exit__(self, *_: object) -> None:
        contexts.detach(self._token)


def _otlp(endpoint: str) -> SpanProcessor:
    # Imported here: the exporter pulls in protobuf and requests, which an agent without an endpoint need not load.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))


def remote(attributes: Mapping[str, str]) -> SpanContext | None:
    """The span context in `traceparent`/`tracestate`, if there is a valid one."""
    if "traceparent" not in attributes:
        return None
    context = trace.get_current_span(_W3C.extract(attributes)).get_span_context()
    return context if context.is_valid else None


def links(attributes: Mapping[str, str]) -> list[Link]:
    """A link to the sender's span, or none; none either if the sender says that it does not record the trace."""
    context = remote(attributes) if not attributes.get("traceparent", "").endswith("-00") else None
    return [Link(context)] if context else []


def carrier(span: Span) -> dict[str, str]:
    """`traceparent` (and `tracestate`) of a span; empty for a span that is not recorded."""
    headers: dict[str, str] = {}
    if span.get_span_context().is_valid:
        _W3C.inject(headers, context=trace.set_span_in_context(span))
    return headers
