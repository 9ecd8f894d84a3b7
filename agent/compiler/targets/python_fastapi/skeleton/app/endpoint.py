"""The way of a request through an operation: authenticate, check, call, answer.

Who calls is known before the body is read; the function gets a request that is what the contract says; every failure
becomes a problem document in the shape that the operation declares.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.contract import Contract, Inputs, OperationContract
from app.contract.text import pairs_of, refuse_nul
from app.database import DatabaseError, translate
from app.dispatch import Dispatch
from app.errors import Kind, NotImplementedYet, Problem, render
from app.routing import Call, Route, Routes, Runtime, answer

Json = Any
log = structlog.get_logger()


def include(
    dispatch: Dispatch, contract: Contract, runtime: Runtime, routers: Sequence[Routes], base_path: str
) -> None:
    """Add every operation of the routers."""
    for routes in routers:
        for route in routes.routes:
            operation = contract.operation(route.method, route.path)
            if not route.is_unwritten:
                operation.compile()
            dispatch.add(route.method, base_path + route.path, Endpoint(operation, route, runtime))


class Endpoint:
    """One operation at work, an ASGI application."""

    def __init__(self, contract: OperationContract, route: Route, runtime: Runtime) -> None:
        self._contract, self._route, self._runtime = contract, route, runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["operation"], scope["route_template"] = self._route.operation, self._route.path
        request = Request(scope, receive)
        try:
            async with asyncio.timeout(self._runtime.settings.request_timeout_s):
                response = await self._serve(request)
        except HTTPException:  # of a hook that speaks FastAPI: app/main.py answers it
            raise
        except Exception as exc:  # the boundary of an operation: nothing leaves it but its own problem document
            response = self._refuse(scope, problem_of(exc))
        await response(scope, receive, send)

    async def _serve(self, request: Request) -> Response:
        caller = await self._runtime.gate.admit(request, self._contract.security)
        if self._route.is_unwritten:
            raise NotImplementedYet(self._route.operation)
        inputs = await self._inputs(request)
        return await self._route.handler(Call(request, self._runtime, self._contract, caller, inputs))

    async def _inputs(self, request: Request) -> Inputs:
        contract, scope = self._contract, request.scope
        path: Mapping[str, str] = scope["path_texts"]
        refuse_nul(path.values())
        query = pairs_of(scope["query_string"]) if scope["query_string"] else []
        headers = request.headers.items() if contract.parameters["header"] else []
        refuse_nul(text for _, text in headers)
        cookies = list(request.cookies.items()) if contract.parameters["cookie"] else []
        return Inputs(
            contract.check("path", list(path.items())),
            contract.check("query", query),
            contract.check("header", headers),
            contract.check("cookie", cookies),
            await self._body(request),
        )

    async def _body(self, request: Request) -> Json:
        if self._contract.body is None:
            return None
        content = await read_body(request, self._runtime.settings.body_limit_bytes)
        return self._contract.body.read(request.headers.get("content-type"), content)

    def _refuse(self, scope: Scope, problem: Problem) -> Response:
        rendered = render(
            problem,
            declared=self._contract.responses,
            shapes=self._route.errors,
            instance=scope["path"],
            request_id=str(scope.get("request_id", "")),
        )
        return answer(rendered.status, rendered.body, media_type=rendered.media_type, headers=rendered.headers)


def problem_of(error: Exception) -> Problem:
    """What a failure means for the client; one that nobody foresaw is logged with its traceback."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, TimeoutError):
        return Problem(Kind.TIMED_OUT, "The request took too long.", headers={"Connection": "close"})
    if isinstance(error, DatabaseError):
        return translate(error)
    log.error("request.failed", error_type=type(error).__name__, exc_info=error)
    return Problem(Kind.FAILED, "Something went wrong.")


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
