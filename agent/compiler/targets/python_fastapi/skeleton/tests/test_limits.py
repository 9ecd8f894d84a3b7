"""What a client may cost before anybody knows who it is, and an issuer whose keys change: over real sockets."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import Problem
from app.jwks import IssuerKeys, key_id_of
from app.server import protocol_for
from app.settings import Settings

Json = Any
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
BOUNDS = Settings(database_url=SecretStr("postgresql://none"), head_limit_bytes=1024, head_timeout_s=0.2)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that does not read bodies."""
    assert scope["type"] == "http"
    await Response("here")(scope, receive, send)


class Announced(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[int]:
    """An application on a port of loopback."""
    server = Announced(uvicorn.Config(app, port=0, log_config=None, lifespan="off", **options))
    running = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.listens.wait(), 10)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[int]:
    """The application behind our protocol; the number of its port."""
    async with serving(answer, http=protocol_for(BOUNDS)) as port:
        yield port


async def exchange(port: int, *pieces: bytes, pause_s: float = 0.02) -> bytes:
    """All that is answered to some pieces until the service closes the connection, which it must within seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    whole = asyncio.create_task(read_all(reader))
    for piece in pieces:
        if not whole.done():
            writer.write(piece)
            await asyncio.wait([whole], timeout=pause_s)
    try:
        return await asyncio.wait_for(whole, 5)
    finally:
        writer.close()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed. A piece that was on its way when it was closed makes that a reset."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while block := await reader.read(65_536):
            found += block
    return found


async def test_requests_within_the_bounds_are_answered(port: int) -> None:
    """Two in one piece, the second one in two."""
    last = HEAD + b"Connection: close\r\n"
    assert (await exchange(port, HEAD + b"\r\n" + last, b"\r\n")).count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"X: " + b"x" * 2000 + b"\r\n\r\n"],
        [HEAD, *[b"X: 1\r\n" * 40] * 8],
        [HEAD + b"\r\n" + HEAD + b"X: ", *[b"x" * 400] * 4],
    ],
    ids=["at once", "many", "after another request"],
)
async def test_a_head_that_is_too_large_is_refused(port: int, pieces: list[bytes]) -> None:
    """However it comes: memory stays bounded."""
    answered = await exchange(port, *pieces)

    assert b"HTTP/1.1 431 " in answered
    assert b"application/problem+json" in answered


async def test_what_is_no_http_gets_a_problem_document(port: int) -> None:
    """The parser refuses before the application is asked."""
    answered = await exchange(port, b"GET /\x00 HTTP/1.1\r\n\r\n")

    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answered


async def test_slow_clients_are_hung_up_on(port: int) -> None:
    """Who says nothing, who drips a head, and who drips a body that nobody reads."""
    assert await exchange(port) == b""
    assert (await exchange(port, HEAD, b"X: 1\r\n", pause_s=0.1)).startswith(b"HTTP/1.1 408 ")
    dripped = await exchange(port, HEAD + b"Content-Length: 9\r\n\r\n", *[b"x"] * 5, pause_s=0.1)
    assert dripped.startswith(b"HTTP/1.1 200 ")


# --- Keys of an issuer ----------------------------------------------------------------------------------------------


class Issuer:
    """Publishes key sets; `answers` None: it is out of order."""

    def __init__(self) -> None:
        self.answers: Json = None
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await Response(json.dumps(self.answers), 500 if self.answers is None else 200)(scope, receive, send)


def key(name: str, **more: str) -> Json:
    """A public key in a key set."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(public)), "kid": name, **more}


@pytest.fixture
async def issuer() -> AsyncIterator[tuple[Issuer, IssuerKeys]]:
    """An issuer on a real port, and our keys of it, which ask as often as they like."""
    issuer = Issuer()
    async with serving(issuer) as port:
        keys = IssuerKeys(f"http://127.0.0.1:{port}/keys")
        keys.pause_s = -1.0
        yield issuer, keys


async def test_keys_are_fetched_when_they_are_needed(issuer: tuple[Issuer, IssuerKeys]) -> None:
    """A key that came since is found, one that the issuer withdrew is forgotten; one for encryption never counts."""
    at, keys = issuer
    at.answers = {"keys": [key("first"), key("other", use="enc")]}
    assert await keys.find("first")
    assert await keys.find(None)  # the only one for signatures
    assert await keys.find("other") is None

    at.answers = {"keys": [key("second"), key("third")]}
    assert await keys.find("second")
    assert await keys.find("first") is None
    assert await keys.find(None) is None


@pytest.mark.parametrize("broken", [None, "no object", {"keys": []}], ids=["out of order", "no key set", "empty"])
async def test_an_outage_of_the_issuer_is_not_ours_at_once(issuer: tuple[Issuer, IssuerKeys], broken: Json) -> None:
    """Without keys nobody can be judged; the last ones hold for a while."""
    at, keys = issuer
    at.answers = broken
    with pytest.raises(Problem, match="out of reach"):
        await keys.find("first")
    at.answers = {"keys": [key("first")]}
    assert await keys.find("first")

    at.answers, keys.fresh_s = broken, 0.0
    assert await keys.find("first")
    keys.stale_s = 0.0
    with pytest.raises(Problem, match="out of reach"):
        await keys.find("first")


async def test_guesses_do_not_reach_the_issuer(issuer: tuple[Issuer, IssuerKeys]) -> None:
    """Many at a time ask once; who comes within the pause does not ask at all."""
    at, keys = issuer
    at.answers = {"keys": [key("first")]}
    keys.pause_s = 60.0

    found = await asyncio.gather(*(keys.find(f"guess {number}") for number in range(20)))

    assert found == [None] * 20
    assert at.asked == 1


def test_a_key_id_is_a_text_or_nothing() -> None:
    """The header of a token is anybody's."""
    assert key_id_of(jwt.encode({}, "k" * 32, headers={"kid": "a"})) == "a"
    assert key_id_of(jwt.encode({}, "k" * 32)) is None
    with pytest.raises(jwt.PyJWTError):
        key_id_of("no token")
