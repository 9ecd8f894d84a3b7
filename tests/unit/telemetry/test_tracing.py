"""Spans leave through a real OTLP exporter, and W3C context survives Kafka headers."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent.settings import TelemetrySettings
from agent.telemetry.tracing import Tracing, carrier, links, remote

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Receiver(ThreadingHTTPServer):
    """An OTLP receiver that keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[ExportTraceServiceRequest] = []

    @classmethod
    @contextmanager
    def serving(cls) -> "Iterator[Receiver]":
        """On a free port, in a thread."""
        with cls() as server:
            Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver.serving() as receiver:
        yield receiver


def test_spans_reach_a_real_receiver_with_a_link_to_the_sender(receiver: Receiver) -> None:
    """One trace per attempt, linked to the request's own trace, exported when an endpoint is configured."""
    tracing = Tracing(TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:{receiver.server_port}"))

    with (
        tracing.tracer.start_as_current_span("task build", links=links({"traceparent": TRACEPARENT})),
        tracing.tracer.start_as_current_span("phase verify"),
    ):
        pass
    tracing.close()

    spans = [s for r in receiver.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]
    assert {s.name for s in spans} == {"task build", "phase verify"}
    root = next(s for s in spans if s.name == "task build")
    assert root.links[0].trace_id.hex() == TRACEPARENT.split("-")[1]


def test_without_an_endpoint_spans_cost_nothing_and_carry_nothing() -> None:
    """An agent without a collector must not send headers that point nowhere."""
    tracing = Tracing(TelemetrySettings())

    with tracing.tracer.start_as_current_span("task build") as span:
        headers = carrier(span)

    assert headers == {}


@pytest.mark.parametrize(
    "attributes", [{}, {"traceparent": "nonsense"}, {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"}]
)
def test_a_bad_traceparent_is_no_context(attributes: dict[str, str]) -> None:
    """Senders may write anything into a header."""
    assert remote(attributes) is None


@pytest.mark.parametrize(("ratio", "names"), [(0.0, []), (1.0, ["phase verify", "task build"])])
def test_a_trace_is_recorded_whole_or_not_at_all(ratio: float, names: list[str]) -> None:
    """The dice are cast once, for the root: a phase whose task was dropped would be a trace without a beginning."""
    exporter = InMemorySpanExporter()
    tracer = Tracing(TelemetrySettings(sample_ratio=ratio), processor=SimpleSpanProcessor(exporter)).tracer

    with tracer.start_as_current_span("task build"), tracer.start_as_current_span("phase verify") as span:
        assert bool(carrier(span)) is bool(names)

    assert [span.name for span in exporter.get_finished_spans()] == names


def test_below_a_dropped_task_nothing_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else half of the phases of dropped tasks would be recorded at a ratio of a half."""
    exporter = InMemorySpanExporter()
    tracer = Tracing(TelemetrySettings(sample_ratio=0.5), processor=SimpleSpanProcessor(exporter)).tracer
    dice = iter([0.9, 0.1, 0.1])
    monkeypatch.setattr("agent.telemetry.tracing.random.random", lambda: next(dice))

    with tracer.start_as_current_span("task one"), tracer.start_as_current_span("phase of one"):
        pass
    with tracer.start_as_current_span("task two"):
        pass

    assert [span.name for span in exporter.get_finished_spans()] == ["task two"]
