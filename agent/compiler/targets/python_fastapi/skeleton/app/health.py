"""Is the process alive, is it ready, what does it measure, what does it promise: routes of our own beside the contract."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.database import Database
from app.dispatch import Dispatch
from app.errors import Problem
from app.paths import Paths
from app.routing import answer
from app.telemetry import Metrics

REVISION = text("SELECT version_num FROM alembic_version")


def known_revisions() -> tuple[str, ...]:
    """The migrations that this code knows, the newest first: that is the one it was written for."""
    root = Path(__file__).resolve().parents[1]
    scripts = ScriptDirectory.from_config(Config(toml_file=root / "pyproject.toml"))
    return tuple(script.revision for script in scripts.walk_revisions())


class Health:
    """Answers about the service itself."""

    def __init__(self, database: Database, metrics: Metrics, document: bytes, revisions: Sequence[str]) -> None:
        self._database, self._metrics, self._document, self._revisions = database, metrics, document, revisions

    def include(self, dispatch: Dispatch, paths: Paths) -> None:
        """Add the routes, unauthenticated: they tell nothing but state."""
        for path, route, endpoint in (
            (paths.live, "/health/live", self.live),
            (paths.ready, "/health/ready", self.ready),
            (paths.metrics, "/metrics", self.metrics),
            (paths.document, "/openapi.json", self.document),
        ):
            dispatch.add("GET", path, served(route, endpoint))

    async def live(self) -> Response:
        """The event loop turns."""
        return answer(200, {"status": "live"})

    async def ready(self) -> Response:
        """The database answers, and is not older than this code.

        A migration that this code does not know is a newer one: the replicas that run must not all leave when the next
        version migrates.
        """
        try:
            async with self._database.connect() as connection:
                row = await connection.fetch_one(REVISION)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, Problem):
            return answer(503, {"status": "database unreachable or not migrated"})
        revision = row["version_num"] if row else None
        if revision is None or revision in self._revisions[1:]:
            return answer(503, {"status": "a migration is needed"})
        return answer(200, {"status": "ready", "revision": revision})

    async def metrics(self) -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def document(self) -> Response:
        """The contract, as it was compiled."""
        return Response(self._document, media_type="application/json")


def served(route: str, endpoint: Callable[[], Awaitable[Response]]) -> ASGIApp:
    """An ASGI application that answers; metrics and logs know it as `route`, wherever it lies."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route_template"] = route
        response = await endpoint()
        await response(scope, receive, send)

    return serve
