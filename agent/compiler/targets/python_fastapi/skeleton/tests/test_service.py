"""This service, operation by operation, from the samples of the manifest: what it promises and what it refuses."""

import asyncio
import copy
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.util import CommandError

from app.contract import Contract
from app.main import load_service
from tests.conftest import alembic, settings_for
from tests.harness import Client, at, decode
from tests.walker import OPERATIONS, Walker, name_of

Json = Any
DERIVED = [operation for operation in OPERATIONS if operation["verdict"] in ("derived", "declared")]
HOOKED = [operation for operation in OPERATIONS if operation["verdict"] not in ("derived", "declared")]


def only(operations: list[Json], *actions: str) -> pytest.MarkDecorator:
    """Parametrised by the operations with one of these actions; one that says so where there is none."""
    chosen = [operation for operation in operations if not actions or operation["action"] in actions]
    return pytest.mark.parametrize("operation", chosen or [None], ids=name_of)


@only(OPERATIONS)
async def test_secured_operation_refuses_strangers(walker: Walker, operation: Json) -> None:
    """Deny by default, before the body is looked at; an open operation has no scheme to refuse with."""
    if operation is None or not operation["security"] or {} in operation["security"]:
        return
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic eDp4"}):
        answered = await walker.send(operation, headers=headers, anonymous=True, content=b"{")

        assert answered.status_code == 401
        assert answered.headers["www-authenticate"]


@only(HOOKED)
async def test_hooked_operation_says_so(walker: Walker, operation: Json) -> None:
    """501 and a problem document until somebody writes it."""
    if operation is None:
        return
    answered = await walker.send(operation)

    assert answered.status_code == 501
    assert answered.headers["content-type"].startswith("application/")


@only(DERIVED, "create")
async def test_created_row_is_shown(walker: Walker, operation: Json) -> None:
    """A valid body makes a row; the answer has the declared status."""
    if operation is None:
        return
    if not await walker.can(operation):
        assert await walker.answers(operation)
        return
    answered = await walker.send(operation, body=await walker.tied(operation, walker.fresh(operation)))

    assert answered.status_code == operation["success"], answered.text
    if "location" in answered.headers:
        found = await walker.client.send("GET", answered.headers["location"], root=True, **walker.credential(operation))
        assert found.status_code in (200, 404, 405)


@only(DERIVED, "list")
async def test_list_answers_with_its_status(walker: Walker, operation: Json) -> None:
    """Empty or not, a list is a list."""
    if operation is None:
        return
    if not await walker.can(operation):
        assert await walker.answers(operation)
        return
    answered = await walker.send(operation)

    assert answered.status_code == operation["success"], answered.text
    assert answered.headers["x-request-id"]


@only(DERIVED, "get", "replace", "patch", "delete")
async def test_row_is_found_by_its_key(walker: Walker, operation: Json) -> None:
    """A row that exists is found; its operations have their declared status."""
    if operation is None:
        return
    if not await walker.can(operation, with_key=True):
        assert await walker.answers(operation)
        return
    answered = await walker.send(operation, body=await walker.tied(operation, walker.sample(operation)))

    assert answered.status_code == operation["success"], answered.text


@only(DERIVED)
async def test_unknown_row_is_not_found(walker: Walker, operation: Json) -> None:
    """A key in the path that no row has."""
    if operation is None or not operation["path_keys"]:
        return
    values = walker.unknown(operation)
    if values is None:
        return
    answered = await walker.send(operation, path=values, body=walker.sample(operation))

    assert answered.status_code == 404, answered.text


@only(DERIVED, "create", "replace", "patch", "upsert", "create_many", "patch_many")
async def test_broken_body_is_refused(walker: Walker, operation: Json) -> None:
    """Not JSON, not UTF-8, and U+0000, which no database text can hold."""
    if operation is None or operation["sample"] is None:
        return
    if not await walker.can(operation, with_key=True):
        assert await walker.answers(operation)
        return
    media_type = operation["sample"]["media_type"]
    for content in (b"{", b"\xff", b'{"\\u0000": "\\u0000"}', b'{"a": 1e999}'):
        answered = await walker.send(operation, content=content, headers={"content-type": media_type})

        assert answered.status_code in (400, 422), answered.text


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
    bare = Service("bare", "", b'{"openapi": "3.1.0", "paths": {}}', [], revision=service.revision)
    empty = await asyncio.to_thread(make_database)
    for dsn in (empty, "postgresql://nobody:x@127.0.0.1:1/none"):
        async with Client(create_app(settings_for(dsn, pool_timeout_s=1), bare), "", {}) as client:
            assert (await client.send("GET", "/health/ready", root=True)).status_code == 503


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


def test_nothing_secret_is_delivered(root: Path) -> None:
    """Credentials come from the environment only."""
    for path in (root / "app").rglob("*.py"):
        assert "BEGIN PRIVATE KEY" not in path.read_text("utf-8")


def test_manifest_is_json(root: Path) -> None:
    """Gates and commands read it."""
    manifest = json.loads((root / ".backwright" / "manifest.json").read_text("utf-8"))

    assert manifest["service"] == load_service().name
    assert copy.deepcopy(manifest) == manifest
    assert at("/a/{b}", b=uuid.UUID(int=0)) == "/a/00000000-0000-0000-0000-000000000000"
