"""The application: everything is put together here, and nowhere else."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp

from app.auth import Gate
from app.contract import METHODS, Contract
from app.database import Database
from app.errors import Kind, Problem, render
from app.health import Health, Paths, newest_revision
from app.middleware import Observe
from app.routing import Routes, Runtime, answer, include, no_such_method, request_id
from app.settings import Settings
from app.telemetry import Metrics, configure_traces, tracer_of

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Service:
    """What makes this service this service: its document and its operations."""

    name: str
    base_path: str
    document: bytes
    routers: Sequence[Routes]
    paths: Paths = Paths()
    revision: str | None = None


def load_service() -> Service:
    """The service that lies in this folder."""
    from app.service import BASE_PATH, NAME, PATHS, ROUTERS

    return Service(NAME, BASE_PATH, (ROOT / "openapi.json").read_bytes(), ROUTERS, PATHS, newest_revision())


def create_app(settings: Settings, service: Service, environment: Mapping[str, str] | None = None) -> ASGIApp:
    """The ASGI application. Raises ConfigurationError: a secured service without credentials to check against."""
    contract = Contract(msgspec.json.decode(service.document))
    found = [contract.operation(route.method, route.path) for routes in service.routers for route in routes.routes]
    used = {name for operation in found for way in operation.security for name in way}
    gate = Gate(contract.security_schemes, used, os.environ if environment is None else environment)
    database, metrics = Database(settings), Metrics.create()
    provider = configure_traces(settings, service.name)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()
        if provider is not None:
            provider.shutdown()

    # The document is served as compiled: FastAPI's own one would be a second truth.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.add_exception_handler(HTTPException, refuse)
    include(app, contract, Runtime(settings, database, gate), service.routers, service.base_path)
    Health(database, metrics, service.document, service.revision).include(app, service.paths)
    return Observe(app, metrics=metrics, tracer=tracer_of(provider))


async def refuse(request: Request, exc: Exception) -> Response:
    """No route, or no such method: 404, 405 with every method of the path, 204 to OPTIONS."""
    allowed = allowed_methods(request)
    if not allowed:
        return problem_response(request, Problem(Kind.NOT_FOUND, "There is nothing at this path."))
    headers = {"Allow": ", ".join([*allowed, "OPTIONS"])}
    if request.method == "OPTIONS":
        return Response(None, 204, headers)
    problem = Problem(Kind.METHOD_NOT_ALLOWED, f"Methods of this path: {headers['Allow']}.", headers=headers)
    return problem_response(request, problem)


def problem_response(request: Request, problem: Problem) -> Response:
    """A problem outside any operation."""
    rendered = render(problem, shapes={}, instance=request.url.path, request_id=request_id(request))
    return answer(rendered.status, rendered.body, media_type=rendered.media_type, headers=rendered.headers)


def allowed_methods(request: Request) -> list[str]:
    """The methods of the most concrete path that fits; Starlette alone names those of its first route."""
    fitting: str | None = None
    methods: set[str] = set()
    for route in request.app.routes:
        if fitting is None and route.matches(request.scope)[0] is not Match.NONE:
            fitting = route.path
        if route.path == fitting and route.endpoint is not no_such_method:
            methods |= set(route.methods or ())
    return [method for method in METHODS if method in methods]
