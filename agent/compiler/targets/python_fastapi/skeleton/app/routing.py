"""From a declared operation to a route: authenticate, check, call, answer.

Every operation goes the same way: who calls (before the body is read), is the request what the contract says, then the
function, then its response or a problem document in the shape that the operation declares.
"""

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.auth import Caller, Gate
from app.contract import METHODS, Contract, Inputs, OperationContract, pairs_of, refuse_nul
from app.database import Database
from app.errors import ErrorShapes, Kind, NotImplementedYet, Problem, render
from app.settings import Settings
from app.values import encode

Json = Any
log = structlog.get_logger()
# Stands for an encoded slash in a path, see app/middleware.py: a noncharacter that no text needs.
HIDDEN_SLASH = "\ufdd0"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What every call shares."""

    settings: Settings
    database: Database
    gate: Gate


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one operation, authenticated and checked."""

    request: Request
    runtime: Runtime
    contract: OperationContract
    caller: Caller
    inputs: Inputs

    @property
    def path(self) -> Mapping[str, Json]:
        return self.inputs.path

    @property
    def query(self) -> Mapping[str, Json]:
        return self.inputs.query

    @property
    def body(self) -> Json:
        return self.inputs.body

    @property
    def database(self) -> Database:
        return self.runtime.database

    @property
    def settings(self) -> Settings:
        return self.runtime.settings

    @property
    def request_id(self) -> str:
        return request_id(self.request)


Handler = Callable[[Call], Awaitable[Response]]


def request_id(request: Request) -> str:
    """The correlation id that the middleware gave."""
    return str(request.scope.get("request_id", ""))


def answer(
    status: int, body: Json = None, *, media_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    """A response in JSON."""
    return Response(encode(body), status, dict(headers or {}), media_type)


def unwritten(reason: str) -> Callable[[Handler], Handler]:
    """Marks a hook that nobody wrote yet: it answers 501 at once. Remove the mark when you write the hook.

    Until then requests are authenticated but not validated, so that 501 is the answer to any request.
    """

    def mark(hook: Handler) -> Handler:
        hook.__dict__["unwritten"] = reason
        return hook

    return mark


@dataclass(frozen=True, slots=True)
class Route:
    """An operation as the routers describe it; `path` as in the document."""

    operation: str
    method: str
    path: str
    handler: Handler
    errors: ErrorShapes
    hook: Handler | None = None

    @property
    def is_unwritten(self) -> bool:
        """Whether the operation waits for somebody to write its hook."""
        return self.hook is not None and "unwritten" in self.hook.__dict__


@dataclass(slots=True)
class Routes:
    """The operations of one router."""

    tag: str
    routes: list[Route] = field(default_factory=list)

    def operation(
        self, operation: str, method: str, path: str, *, errors: ErrorShapes | None = None, hook: Handler | None = None
    ) -> Callable[[Handler], Handler]:
        """Registers the function below as an operation. `hook`: the function of app/hooks.py that does the work."""

        def register(handler: Handler) -> Handler:
            self.routes.append(Route(operation, method, path, handler, errors or {}, hook))
            return handler

        return register


_PARAMETER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A path of the document. Its parameters may have any name; Starlette's must be identifiers."""

    names: tuple[str, ...]
    path: str

    @classmethod
    def of(cls, path: str) -> "Template":
        names = _PARAMETER.findall(path)
        numbers = iter(range(len(names)))
        return cls(tuple(names), _PARAMETER.sub(lambda _: f"{{p{next(numbers)}}}", path))

    @property
    def generality(self) -> tuple[bool, ...]:
        """Sorts concrete paths before templated ones: `/pets/mine` before `/pets/{id}`."""
        return tuple("{" in part for part in self.path.split("/"))

    def values(self, request: Request) -> dict[str, str]:
        """Texts of the parameters."""
        found = (request.path_params[f"p{place}"] for place in range(len(self.names)))
        return {name: text.replace(HIDDEN_SLASH, "/") for name, text in zip(self.names, found, strict=True)}


def include(app: FastAPI, contract: Contract, runtime: Runtime, routers: Sequence[Routes], base_path: str) -> None:
    """Add every operation to the application, concrete paths first."""
    found = [(Template.of(route.path), route, routes.tag) for routes in routers for route in routes.routes]
    found.sort(key=lambda item: (item[0].generality, item[0].path))
    for path, group in itertools.groupby(found, key=lambda item: item[0].path):
        operations = list(group)
        for template, route, tag in operations:
            operation = contract.operation(route.method, route.path)
            if not route.is_unwritten:
                operation.compile()
            endpoint = Endpoint(operation, route, template, runtime)
            add_route(app, base_path + path, endpoint.serve, [route.method], name=route.operation, tags=[tag])
        # A concrete path wins for every method: DELETE /pets/mine must not reach /pets/{id}.
        methods = {route.method for _, route, _ in operations}
        add_route(app, base_path + path, no_such_method, [method for method in METHODS if method not in methods])


async def no_such_method(request: Request) -> Response:
    """The path exists, the method does not; app/main.py makes the answer."""
    raise HTTPException(405)


def add_route(
    app: FastAPI, path: str, endpoint: Callable[[Request], Awaitable[Response]], methods: list[str], **more: Any
) -> None:
    """A route on which FastAPI neither reads the body nor makes up a document: both are ours."""
    app.add_api_route(path, endpoint, methods=methods, include_in_schema=False, response_model=None, **more)


class Endpoint:
    """One operation at work."""

    def __init__(self, contract: OperationContract, route: Route, template: Template, runtime: Runtime) -> None:
        self._contract, self._route, self._template, self._runtime = contract, route, template, runtime

    async def serve(self, request: Request) -> Response:
        """Answer a request. Every failure becomes a problem document; none is swallowed without a log line."""
        request.scope["operation"] = self._route.operation
        request.scope["route_template"] = self._route.path
        try:
            async with asyncio.timeout(self._runtime.settings.request_timeout_s):
                return await self._serve(request)
        except Problem as problem:
            return self._refuse(request, problem)
        except DBAPIError as exc:
            return self._refuse(request, translate(exc))
        except TimeoutError:
            return self._refuse(request, Problem(Kind.TIMED_OUT, "The request took too long."))

    async def _serve(self, request: Request) -> Response:
        caller = await self._runtime.gate.admit(request, self._contract.security)
        if self._route.is_unwritten:
            raise NotImplementedYet(self._route.operation)
        inputs = await self._inputs(request)
        return await self._route.handler(Call(request, self._runtime, self._contract, caller, inputs))

    async def _inputs(self, request: Request) -> Inputs:
        path = self._template.values(request)
        headers = [(name, text) for name, text in request.headers.items()]
        refuse_nul((*path.values(), *(text for _, text in headers)))
        values = self._contract.check_parameters(
            path, pairs_of(request.scope["query_string"]), headers, request.cookies
        )
        body: Json = None
        if self._contract.body is not None:
            content = await read_body(request, self._runtime.settings.body_limit_bytes)
            body = self._contract.body.read(request.headers.get("content-type"), content)
        return Inputs(values["path"], values["query"], values["header"], values["cookie"], body)

    def _refuse(self, request: Request, problem: Problem) -> Response:
        rendered = render(
            problem,
            declared=self._contract.responses,
            shapes=self._route.errors,
            instance=request.url.path,
            request_id=request_id(request),
        )
        return answer(rendered.status, rendered.body, media_type=rendered.media_type, headers=rendered.headers)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes. Raises Problem when it is larger, before it is read whole."""
    content = bytearray()
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > limit:
                raise Problem(Kind.TOO_LARGE, f"A body may have {limit} bytes.", headers={"Connection": "close"})
    except ClientDisconnect as exc:
        raise Problem(Kind.INVALID, "The body ended early.") from exc
    return bytes(content)


# SQLSTATE (or its class) → what it means for a client.
_STATES = {
    "23505": (Kind.CONFLICT, "A value is taken already."),
    "23503": (Kind.CONFLICT, "Something else refers to this, or what this refers to does not exist."),
    "23": (Kind.CONFLICT, "The change breaks a rule of the data."),
    "22": (Kind.INVALID, "A value is out of range."),
    "40": (Kind.UNAVAILABLE, "The change collided with another one; try again."),
    "57014": (Kind.TIMED_OUT, "The request took too long."),
    "08": (Kind.UNAVAILABLE, "The service is not available."),
    "53": (Kind.UNAVAILABLE, "The service is busy."),
    "57": (Kind.UNAVAILABLE, "The service is not available."),
}


def translate(error: DBAPIError) -> Problem:
    """A database error as a problem; what cannot be the client's doing is logged and says nothing about the inside."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state in _STATES or state[:2] in _STATES:
        kind, detail = _STATES.get(state) or _STATES[state[:2]]
        return Problem(kind, detail)
    log.error("database.failed", sqlstate=state, error_type=type(error.orig).__name__)
    return Problem(Kind.UNAVAILABLE if error.connection_invalidated else Kind.FAILED, "Something went wrong.")
