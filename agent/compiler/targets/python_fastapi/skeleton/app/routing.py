"""What routers and hooks are written with: `Routes` declares operations, a `Call` is one request to one of them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from app.auth import Caller, Gate
from app.contract import Inputs, OperationContract
from app.database import Database
from app.errors import ErrorShapes
from app.settings import Settings
from app.values import encode

Json = Any


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
        """The correlation id that the middleware gave."""
        return str(self.request.scope.get("request_id", ""))

    @property
    def url_path(self) -> str:
        """The path of the request as it was sent, percent-encoded."""
        return encoded_path(self.request.scope)


Handler = Callable[[Call], Awaitable[Response]]


def encoded_path(scope: Mapping[str, Any]) -> str:
    """The path of a request as it was sent; servers that do not tell it get one that is encoded again."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.partition(b"?")[0].decode("latin-1")


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
