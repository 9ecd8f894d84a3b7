"""Metrics and health answer over HTTP, and a taken port is named."""

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from agent.errors import EnvironmentUnfit
from agent.settings import HttpSettings
from agent.telemetry.http import HttpServer
from agent.telemetry.metrics import Metrics


@pytest.fixture
def port() -> Iterator[int]:
    metrics = Metrics()
    metrics.published.labels("task.status").inc(3)
    server = HttpServer(
        HttpSettings(port=0),
        metrics.registry,
        live=lambda: (True, {"poll_age_s": 0.1}),
        ready=lambda: (False, {"joined": False}),
    )
    yield server.start()
    server.stop()


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_are_exposed_in_the_text_format(port: int) -> None:
    """Prometheus scrapes this."""
    status, body = _get(port, "/metrics")

    assert status == 200
    assert 'backwright_events_published_total{type="task.status"} 3.0' in body


def test_probes_tell_their_facts_and_fail_with_503(port: int) -> None:
    """Kubernetes looks at the code, people at the body."""
    assert _get(port, "/health/live") == (200, '{"ok":true,"poll_age_s":0.1}')
    assert _get(port, "/health/ready") == (503, '{"ok":false,"joined":false}')
    assert _get(port, "/secret")[0] == 404


def test_a_taken_port_is_named_with_a_remedy(port: int) -> None:
    """The second agent on one machine must know what to change."""
    metrics = Metrics()
    second = HttpServer(HttpSettings(port=port), metrics.registry, live=lambda: (True, {}), ready=lambda: (True, {}))

    with pytest.raises(EnvironmentUnfit, match=str(port)) as caught:
        second.start()

    assert "BACKWRIGHT_HTTP__PORT" in caught.value.remedy
