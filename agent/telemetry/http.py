"""Metrics and health on a loopback port: `/metrics`, `/health/live`, `/health/ready`.

Served from a thread: a blocked event loop must still be able to say that it is blocked.
"""

from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from agent.errors import EnvironmentUnfit
from agent.settings import HttpSettings

Probe = Callable[[], tuple[bool, Mapping[str, Any]]]


class HttpServer:
    """Answers GET on three paths. Probes return (well, facts) and are called from the server's threads."""

    def __init__(self, settings: HttpSettings, registry: CollectorRegistry, *, live: Probe, ready: Probe) -> None:
        self._settings = settings
        self._handler = type(
            "Handler", (_Handler,), {"registry": registry, "probes": {"/health/live": live, "/health/ready": ready}}
        )
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> int:
        """Listen in the background; returns the port. Raises EnvironmentUnfit when it is taken."""
        host, port = self._settings.host, self._settings.port
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler)
        except OSError as exc:
            raise EnvironmentUnfit(
                f"cannot listen on {host}:{port} for metrics and health: {exc.strerror or exc}",
                remedy="free the port, or set BACKWRIGHT_HTTP__PORT to another one (0: any free port)",
            ) from exc
        Thread(target=self._server.serve_forever, name="http", daemon=True).start()
        return self._server.server_port

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    probes: Mapping[str, Probe]
    timeout = 5  # seconds for a slow client; it holds one thread, not the agent

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._reply(200, CONTENT_TYPE_LATEST, generate_latest(self.registry))
        elif probe := self.probes.get(path):
            well, facts = probe()
            self._reply(200 if well else 503, "application/json", orjson.dumps({"ok": well, **facts}, default=str))
        else:
            self._reply(404, "text/plain", b"/metrics, /health/live, /health/ready\n")

    def _reply(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: a scrape every few seconds is not news."""
