"""A delivered service in its process: what clients may cost it, an issuer with real keys, a collector of spans.

The service is the canonical one, in the environment of its runtime lock, with a real PostgreSQL.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, TypeVar

import httpx
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from agent.app import package_cache
from agent.artifacts.folder import FolderArtifacts
from agent.clock import SystemClock
from agent.gates.environment import RUNTIME_LOCK, create_environment
from agent.gates.gate import Subject, Tools
from agent.gates.live import Credentials, LiveService, live_service, mint
from agent.gates.project import project_files
from agent.gates.trial import Trial, open_trial
from agent.sandbox.local import LocalSandbox
from agent.sandbox.port import Leash
from agent.services.embedded import EmbeddedPostgres
from agent.settings import GateSettings, PostgresSettings, SandboxSettings
from agent.testing.waiting import until
from tests.golden.weaving import CANONICAL, compiled

pytestmark = [pytest.mark.acceptance, pytest.mark.asyncio(loop_scope="module")]
Server = TypeVar("Server", bound=ThreadingHTTPServer)
API = "/api/v1"
TRACE = "0af7651916cd43dd8448eb211c80319c"
LIMITS = {"SERVICE_HEAD_LIMIT_BYTES": "4096", "SERVICE_HEAD_TIMEOUT_S": "1", "SERVICE_CONNECTIONS_MAX": "20"}
# Keys and tokens of an issuer; in the service's environment, because ours has no cryptography.
SIGN = """
import json, time, jwt
from cryptography.hazmat.primitives.asymmetric import ec
made = []
for kid in ("first", "second", "stranger"):
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    claims = {"sub": "tester", "exp": int(time.time()) + 3600, "scope": "members:read members:write"}
    token = jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid})
    made.append({"jwk": {**public, "kid": kid, "use": "sig", "alg": "ES256"}, "token": token})
print(json.dumps(made))
"""


class Issuer(ThreadingHTTPServer):
    """Publishes keys at any path; `keys` None: it is out of order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _KeysHandler)
        self.keys: list[Any] | None = None
        self.asked = 0


class _KeysHandler(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked += 1
        body = json.dumps({"keys": self.server.keys}).encode()
        self.send_response(500 if self.server.keys is None else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet."""


class Collector(ThreadingHTTPServer):
    """An OTLP receiver that keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SpansHandler)
        self.received: list[ExportTraceServiceRequest] = []

    def spans(self) -> list[Span]:
        """All spans so far."""
        return [s for r in self.received for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]


class _SpansHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet."""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server, answering in a thread."""
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Running:
    """The service with everything around it."""

    service: LiveService
    http: httpx.AsyncClient
    issuer: Issuer
    collector: Collector
    signed: list[Any]

    async def members(self, token: str) -> int:
        """Status of a read that needs a token."""
        answer = await self.http.get(f"{API}/members", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code

    async def create(self, content: bytes, content_type: str = "application/json") -> httpx.Response:
        """Send a body that makes a category."""
        proof = self.service.credentials.schemes["desk"].headers
        headers = {**proof, "content-type": content_type}
        return await self.http.post(f"{API}/categories", content=content, headers=headers)

    async def raw(self, *pieces: bytes, pause_s: float = 0.0) -> bytes:
        """Send pieces on a connection of its own; all that is answered until the service closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.service.port)
        answered = bytearray()

        async def listen() -> None:
            with suppress(ConnectionError):  # closed while we still sent
                while piece := await reader.read(65536):
                    answered.extend(piece)

        listening = asyncio.create_task(listen())
        for piece in pieces:
            if not listening.done():
                writer.write(piece)
                await asyncio.wait([listening], timeout=pause_s)
        await asyncio.wait([listening], timeout=3)
        writer.close()
        assert listening.done(), f"the service holds the connection after {bytes(answered)!r}"
        return bytes(answered)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Started once, with an issuer that is out of order."""
    sandbox = LocalSandbox(SandboxSettings(), package_cache())
    tools = Tools(
        sandbox, EmbeddedPostgres(sandbox, PostgresSettings()), FolderArtifacts(tmp_path_factory.mktemp("artefacts")),
        SystemClock(), Leash(), GateSettings(),
    )  # fmt: skip
    made = compiled(CANONICAL.read_bytes())
    project = tmp_path_factory.mktemp("service")
    made.files.write(project)
    with serving(Issuer()) as issuer, serving(Collector()) as collector:
        async with sandbox.scratch("work-") as work:
            subject = Subject(project, work, project_files(project).digest, made.manifest)
            async with open_trial("delivered", subject, tools) as trial:
                assert await create_environment(trial, trial.runtime.folder, RUNTIME_LOCK) is None, trial.log
                signed = json.loads((await trial.run(trial.runtime.python, "-c", SIGN)).output)
                accepted = await _credentials(trial, issuer, collector)
                async with (
                    live_service(trial, credentials=accepted) as service,
                    httpx.AsyncClient(base_url=service.url, timeout=10, trust_env=False) as http,
                ):
                    yield Running(service, http, issuer, collector, signed)
    sandbox.close()


async def _credentials(trial: Trial, issuer: Issuer, collector: Collector) -> Credentials:
    """Minted ones; tokens are the issuer's."""
    minted = await mint(trial)
    variables = {name: text for name, text in minted.environment.items() if not name.startswith("SERVICE_AUTH_TOKEN")}
    variables |= {
        "SERVICE_AUTH_TOKEN_JWKS_URL": f"http://127.0.0.1:{issuer.server_port}/keys",
        "SERVICE_AUTH_TOKEN_ALGORITHMS": "ES256",
        "SERVICE_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
    }
    return Credentials({**variables, **LIMITS}, minted.schemes)


# --- Bodies ---------------------------------------------------------------------------------------------------------


async def test_two_members_of_one_name_are_refused(running: Running) -> None:
    """Whoever checks and whoever acts could take another one of the two."""
    for body in (
        b'{"name": "a", "name": "b"}',
        b'{"name": "a", "na\\u006de": "b"}',
        b'{"name": "a", "x": {"y": 1, "y": 1}}',
    ):
        assert (await running.create(body)).status_code == 400, body
    for name in ('a "quoted": colon', "back\\slash: ", '{"a": 1}'):
        answer = await running.create(json.dumps({"name": name}).encode())
        assert (answer.status_code, answer.json()["name"]) == (201, name)


async def test_another_charset_is_refused(running: Running) -> None:
    """JSON is UTF-8 between systems (RFC 8259, 8.1); guessing would store other letters than were meant."""
    latin = '{"name": "Gerät"}'.encode("latin-1")
    for charset in ("latin-1", "utf-16", '"ISO-8859-1"'):
        answer = await running.create(latin, f"application/json; charset={charset}")
        # The document declares 400 for this operation and not 415.
        assert (answer.status_code, answer.json()["code"]) == (400, "unsupported_media_type"), charset
    for charset in ("utf-8", "UTF-8", '"utf-8"'):
        assert (await running.create(b'{"name": "x"}', f"application/json; charset={charset}")).status_code == 201


# --- What a client may cost -----------------------------------------------------------------------------------------


async def test_a_head_that_is_too_large_is_refused(running: Running) -> None:
    """In one piece, as many small headers, and as one that never ends: memory stays bounded."""
    start = f"GET {API}/categories HTTP/1.1\r\nHost: x\r\n".encode()
    for head in (
        (start + b"X-Long: " + b"x" * 5000 + b"\r\n\r\n",),
        (start + b"".join(b"X-%d: 1\r\n" % number for number in range(600)) + b"\r\n",),
        (start + b"X-Endless: ", *[b"x" * 3000] * 3),
    ):
        answer = await running.raw(*head, pause_s=0.02)
        assert answer.startswith(b"HTTP/1.1 431 "), answer[:200]
        assert b"application/problem+json" in answer


async def test_what_is_no_http_gets_a_problem_document(running: Running) -> None:
    """The parser refuses before the application is asked."""
    answer = await running.raw(b"GET / HTTP/1.1\r\nHost: x\r\nBroken\x00: 1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


async def test_a_slow_head_ends(running: Running) -> None:
    """A client that says nothing is hung up on; one that drips is told why."""
    assert await running.raw() == b""
    answer = await running.raw(b"GET / HTTP/1.1\r\n", *[b"X: 1\r\n"] * 4, pause_s=0.4)
    assert answer.startswith(b"HTTP/1.1 408 "), answer


async def test_a_body_that_nobody_reads_does_not_hold_the_connection(running: Running) -> None:
    """The answer (401) is there long before the body ends."""
    head = (
        f"POST {API}/categories HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
    )
    answer = await running.raw(head.encode(), *[b" "] * 4, pause_s=0.4)

    assert answer.startswith(b"HTTP/1.1 401 "), answer


async def test_two_requests_in_one_piece_are_both_answered(running: Running) -> None:
    """Pipelining is HTTP/1.1; the bounds count per head."""
    one = f"GET {API}/categories HTTP/1.1\r\nHost: x\r\nX-Fill: {'x' * 2500}\r\n\r\n".encode()
    answer = await running.raw(one + one.replace(b"Host: x", b"Host: x\r\nConnection: close"))

    assert answer.count(b"HTTP/1.1 200 ") == 2


async def test_too_many_clients_are_turned_away(running: Running) -> None:
    """Those that are connected go on."""
    held = [await asyncio.open_connection("127.0.0.1", running.service.port) for _ in range(25)]
    answer = await running.raw(f"GET {API}/categories HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    for _, writer in held:
        writer.close()

    assert answer.startswith(b"HTTP/1.1 503 "), answer[:100]


# --- Issuer and collector -------------------------------------------------------------------------------------------


async def until_answered(running: Running, token: str, wanted: int) -> None:
    """Ask until a token gets this status (an unknown key asks the issuer again after 10 s)."""

    async def gets_it() -> bool:
        return await running.members(token) == wanted

    await until(gets_it, f"status {wanted}", limit_s=15, every_s=0.1)


async def test_keys_of_an_issuer_come_rotate_and_survive_its_outage(running: Running) -> None:
    """Out of reach from the start: 503, as soon as it is back: 200. Strangers get 401 and cost the issuer nothing."""
    first, second, stranger = (part["token"] for part in running.signed)
    keys = [part["jwk"] for part in running.signed]
    assert await running.members(first) == 503
    running.issuer.keys = keys[:1]
    await until_answered(running, first, 200)

    running.issuer.keys = keys[1:2]
    await until_answered(running, second, 200)
    asked = running.issuer.asked
    assert [await running.members(stranger) for _ in range(20)] == [401] * 20
    assert running.issuer.asked <= asked + 1

    running.issuer.keys = None
    assert await running.members(second) == 200


async def test_spans_reach_a_collector(running: Running) -> None:
    """One for each request, in the caller's trace, named by the document's path and not by the request's."""
    await running.http.get(f"{API}/categories", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})

    def traced() -> list[Span]:
        return [span for span in running.collector.spans() if span.trace_id.hex() == TRACE]

    await until(
        traced, "a span in the caller's trace", limit_s=10, every_s=0.1
    )  # the exporter sends every five seconds
    assert [span.name for span in traced()] == ["GET /categories"]
    assert {a.key: a.value.int_value for a in traced()[0].attributes}["http.response.status_code"] == 200
    resource = running.collector.received[0].resource_spans[0].resource
    assert {a.key: a.value.string_value for a in resource.attributes}["service.name"] == "tool-library"
