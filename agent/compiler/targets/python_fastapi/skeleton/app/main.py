"""The application: everything is put together here, and nowhere else."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from app.auth import Gate
from app.contract import Contract
from app.database import Database
from app.dispatch import Dispatch
from app.endpoint import include
from app.errors import PROBLEM
from app.health import Health, known_revisions
from app.middleware import Observe
from app.paths import PATHS, Paths
from app.routing import Routes, Runtime, answer
from app.settings import Settings
from app.telemetry import Metrics, configure_traces

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Service:
    """What makes this service this service: its document and its operations."""

    name: str
    base_path: str
    document: bytes
    routers: Sequence[Routes]
    paths: Paths = Paths()
    revisions: Sequence[str] = ()


def load_service() -> Service:
    """The service that lies in this folder."""
    from app.service import BASE_PATH, NAME, ROUTERS

    return Service(NAME, BASE_PATH, (ROOT / "openapi.json").read_bytes(), ROUTERS, PATHS, known_revisions())


def create_app(settings: Settings, service: Service, environment: Mapping[str, str] | None = None) -> ASGIApp:
    """The ASGI application. Raises ConfigurationError: a secured service without credentials to check against."""
    contract = Contract(msgspec.json.decode(service.document))
    found = [contract.operation(route.method, route.path) for routes in service.routers for route in routes.routes]
    used = {name for operation in found for way in operation.security for name in way}
    gate = Gate(contract.security_schemes, used, os.environ if environment is None else environment)
    database, metrics, dispatch = Database(settings), Metrics.create(), Dispatch()
    provider = configure_traces(settings, service.name)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()
        if provider is not None:
            provider.shutdown()

    include(dispatch, contract, Runtime(settings, database, gate), service.routers, service.base_path)
    Health(database, metrics, service.document, service.revisions).include(dispatch, service.paths)
    # The document is served as compiled: FastAPI's own one would be a second truth.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.add_exception_handler(HTTPException, refuse)
    # Behind whatever routes and middleware somebody adds with FastAPI's own means.
    app.router.default = dispatch
    return Observe(app, metrics=metrics, tracer=provider.get_tracer("app") if provider else None)


async def refuse(request: Request, exc: Exception) -> Response:
    """FastAPI's way to refuse, as a problem document."""
    assert isinstance(exc, HTTPException)
    title = HTTPStatus(exc.status_code).phrase
    body = {"type": "about:blank", "title": title, "status": exc.status_code, "detail": exc.detail}
    return answer(exc.status_code, body, media_type=PROBLEM.media_type, headers=exc.headers)
