"""A client for tests: knows base path, credentials and samples, and reads JSON strictly."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec
from starlette.types import ASGIApp

from app.auth import sign

Json = Any


def decode(body: bytes) -> Json:
    """JSON."""
    return msgspec.json.decode(body)


class Client:
    """An HTTP client on an ASGI application."""

    def __init__(self, app: ASGIApp, base_path: str, schemes: Json, keys: Mapping[str, str] | None = None) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://service")
        self._base_path, self.schemes, self._keys = base_path, schemes, keys or {}

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def send(self, method: str, path: str, *, root: bool = False, **more: Any) -> httpx.Response:
        """One request; `path` without the base path, unless `root`."""
        return await self._http.request(method, path if root else self._base_path + path, **more)

    def token(self, scheme: str, claims: Json, *, valid_s: int = 3600) -> str:
        """A token that the service takes for genuine, with claims of a test's own."""
        return sign(self._keys[scheme], {**claims, "exp": int(time.time()) + valid_s})

    def carried(self, scheme: str) -> Json:
        """Headers, query and cookies of a credential, as httpx takes them."""
        minted = self.schemes[scheme]
        cookies = "; ".join(f"{name}={value}" for name, value in minted["cookies"].items())
        return {
            "headers": {**minted["headers"], **({"cookie": cookies} if cookies else {})},
            "params": dict(minted["query"]),
        }


def at(path: str, /, **values: Any) -> str:
    """A path template with its parameters filled in."""
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
    return path
