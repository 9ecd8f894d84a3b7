"""This service as a whole: who may call it, what is not written yet, its database, its document, its health."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from alembic import command
from alembic.util import CommandError

from app.auth import new_key_pair, sign
from app.contract import Contract
from app.main import load_service
from tests.api import MANIFEST, OPERATIONS, STRANGERS, Api
from tests.conftest import alembic, settings_for
from tests.harness import Client, decode

Json = Any
HOOKED = [operation for operation in OPERATIONS if operation["verdict"] not in ("derived", "declared")]
SECURED = [operation for operation in OPERATIONS if operation["security"] and {} not in operation["security"]]
BEARERS = {scheme["name"] for scheme in MANIFEST["security_schemes"] if scheme["kind"] == "bearer"}
TOKENED = [o for o in SECURED if all(list(way) and set(way) <= BEARERS for way in o["security"])]
SCOPED = [o for o in TOKENED if all(any(way.values()) for way in o["security"])]


def each(operations: list[Json]) -> Callable[[Callable[..., Any]], Any]:
    """One case per operation. Without any the test does not exist: it could not fail."""
    return pytest.mark.parametrize("operation", operations, ids=name_of) if operations else lambda test: None


def name_of(operation: Json) -> str:
    """The id of a case."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", operation["id"])[:60]


def assert_problem(answered: httpx.Response, status: int) -> None:
    """A refusal with this status and a JSON body that says what is wrong."""
    assert answered.status_code == status, answered.text
    assert answered.headers["content-type"].endswith("json")
    assert isinstance(answered.json(), dict)


# --- Who may call ---------------------------------------------------------------------------------------------------


@each([operation for operation in SECURED if operation["resource"] is None])
async def test_secured_operation_refuses_strangers(service: Api, operation: Json) -> None:
    """Deny by default, before the body is looked at. What has rows is tested with its resource."""
    for headers in STRANGERS:
        answered = await service.request(operation, headers=headers, anonymous=True, content=b"{")

        assert_problem(answered, 401)
        assert answered.headers["www-authenticate"]


@each(TOKENED)
async def test_forged_or_expired_token_is_refused(service: Api, operation: Json) -> None:
    """Out of date, until a time that no clock shows, signed by somebody else, and not signed at all."""
    scopes = " ".join(scope for way in operation["security"] for needed in way.values() for scope in needed)
    claims = {"sub": "x", "scope": scopes}
    tokens = [
        *(
            service.token(name, claims, valid_s=valid_s)
            for way in operation["security"]
            for name in way
            for valid_s in (-3600, 10**400)
        ),
        sign(new_key_pair()[0], claims),
        jwt.encode({**claims, "exp": 2**33}, "", algorithm="none"),
    ]
    for token in tokens:
        answered = await service.request(operation, anonymous=True, headers={"authorization": f"Bearer {token}"})

        assert_problem(answered, 401)


@each(SCOPED)
async def test_token_without_the_scope_is_forbidden(service: Api, operation: Json) -> None:
    """A good signature is not a permission."""
    name = next(iter(operation["security"][0]))
    token = service.token(name, {"sub": "x", "scope": "nothing"})

    assert_problem(await service.request(operation, anonymous=True, headers={"authorization": f"Bearer {token}"}), 403)


@each(HOOKED)
async def test_hooked_operation_says_so(service: Api, operation: Json) -> None:
    """501 and a problem document until somebody writes it."""
    assert_problem(await service.request(operation), 501)


# --- The service as a whole -----------------------------------------------------------------------------------------


async def test_service_is_ready_and_measured(client: Client) -> None:
    """Health, metrics and document are open and where the manifest says."""
    paths = load_service().paths
    assert (await client.send("GET", paths.live, root=True)).json() == {"status": "live"}
    assert (await client.send("GET", paths.ready, root=True)).status_code == 200
    served = await client.send("GET", paths.document, root=True)
    assert decode(served.content) == decode(load_service().document)
    await client.send("GET", "/nothing-is-here", root=True)
    measured = (await client.send("GET", paths.metrics, root=True)).text
    assert 'http_requests_total{method="GET",route="unmatched",status="404"}' in measured


async def test_service_without_migrations_is_not_ready(make_database: Any) -> None:
    """A pod must not get traffic before its tables exist."""
    from app.main import Service, create_app

    service = load_service()
    bare = Service("bare", "", b'{"openapi": "3.1.0", "paths": {}}', [], revisions=service.revisions)
    empty = await asyncio.to_thread(make_database)
    for dsn in (empty, "postgresql://nobody:x@127.0.0.1:1/none"):
        async with Client(create_app(settings_for(dsn, pool_timeout_s=1), bare), "", {}) as client:
            assert (await client.send("GET", "/health/ready", root=True)).status_code == 503


async def test_readiness_follows_the_migrations(make_database: Any) -> None:
    """Code that is newer than the database waits; code that is older goes on while the next version is rolled out."""
    from app.main import Service, create_app

    database, known = await asyncio.to_thread(make_database), load_service().revisions
    await asyncio.to_thread(command.upgrade, alembic(database), "head")
    for revisions, status in ((known, 200), (("next", *known), 503), (("former",), 200)):
        bare = Service("bare", "", b'{"openapi": "3.1.0", "paths": {}}', [], revisions=revisions)
        async with Client(create_app(settings_for(database), bare), "", {}) as client:
            assert (await client.send("GET", "/health/ready", root=True)).status_code == status


def test_migrations_go_down_and_up_and_agree_with_the_tables(make_database: Any) -> None:
    """What alembic would generate is nothing."""
    config = alembic(make_database())
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    command.upgrade(config, "head")
    try:
        command.check(config)
    except CommandError as exc:
        pytest.fail(str(exc))


def test_every_operation_of_the_document_has_a_route() -> None:
    """Nothing that is promised is forgotten, nothing is added."""
    service = load_service()
    document = decode(service.document)
    promised = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "put", "post", "delete", "patch", "head", "options", "trace")
    }
    routed = {(route.method, route.path) for routes in service.routers for route in routes.routes}

    assert routed == promised
    assert {(o["method"], o["path"]) for o in OPERATIONS} == {(m, service.base_path + p) for m, p in promised}


def test_document_compiles_as_a_whole() -> None:
    """Every schema that a request can meet."""
    service = load_service()
    contract = Contract(decode(service.document))
    for routes in service.routers:
        for route in routes.routes:
            contract.operation(route.method, route.path).compile()
