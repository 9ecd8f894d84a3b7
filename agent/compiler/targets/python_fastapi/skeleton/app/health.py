"""Is the process alive, is it ready, what does it measure, what does it promise: routes of our own beside the contract."""

from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from app.database import Database
from app.errors import Problem
from app.routing import add_route, answer
from app.telemetry import Metrics

REVISION = text("SELECT version_num FROM alembic_version")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the routes lie: at the root, or below /_backwright where the contract uses that path itself."""

    live: str = "/health/live"
    ready: str = "/health/ready"
    metrics: str = "/metrics"
    document: str = "/openapi.json"


def newest_revision() -> str | None:
    """The migration that this code was written for."""
    root = Path(__file__).resolve().parents[1]
    return ScriptDirectory.from_config(Config(toml_file=root / "pyproject.toml")).get_current_head()


class Health:
    """Answers about the service itself."""

    def __init__(self, database: Database, metrics: Metrics, document: bytes, revision: str | None) -> None:
        self._database, self._metrics, self._document, self._revision = database, metrics, document, revision

    def include(self, app: FastAPI, paths: Paths) -> None:
        """Add the routes, unauthenticated: they tell nothing but state."""
        for path, endpoint in (
            (paths.live, self.live),
            (paths.ready, self.ready),
            (paths.metrics, self.metrics),
            (paths.document, self.document),
        ):
            add_route(app, path, endpoint, ["GET"])

    async def live(self, request: Request) -> Response:
        """The event loop turns."""
        return self._answer(request, "/health/live", 200, {"status": "live"})

    async def ready(self, request: Request) -> Response:
        """The database answers, and its migration is the one that this code needs."""
        try:
            async with self._database.read() as connection:
                revision = (await connection.execute(REVISION)).scalar_one_or_none()
        except (SQLAlchemyError, OSError, Problem):
            return self._answer(request, "/health/ready", 503, {"status": "database unreachable or not migrated"})
        if revision != self._revision:
            return self._answer(request, "/health/ready", 503, {"status": "another migration is needed"})
        return self._answer(request, "/health/ready", 200, {"status": "ready", "revision": revision})

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        request.scope["route_template"] = "/metrics"
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def document(self, request: Request) -> Response:
        """The contract, as it was compiled."""
        request.scope["route_template"] = "/openapi.json"
        return Response(self._document, media_type="application/json")

    def _answer(self, request: Request, route: str, status: int, body: dict[str, str | None]) -> Response:
        request.scope["route_template"] = route
        return answer(status, body)
