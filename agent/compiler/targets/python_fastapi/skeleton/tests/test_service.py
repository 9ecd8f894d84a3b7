"""This service, operation by operation, from the samples of the manifest: what it promises and what it refuses."""

import asyncio
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
from tests.conftest import alembic, settings_for
from tests.harness import Client, decode
from tests.walker import (
    MANIFEST,
    OPERATIONS,
    Walker,
    creator_of,
    is_reachable,
    keys_of,
    name_of,
    text,
    unique_names,
    unknown_path,
)

Json = Any
DERIVED = [operation for operation in OPERATIONS if operation["verdict"] in ("derived", "declared")]
HOOKED = [operation for operation in OPERATIONS if operation["verdict"] not in ("derived", "declared")]
SAMPLED = [operation for operation in DERIVED if operation["sample"] is not None]
CREATED = [operation for operation in SAMPLED if is_reachable(operation)]
UNIQUE = [operation for operation in CREATED if unique_names(operation)]
FOUND = [operation for operation in DERIVED if operation["path_keys"] and is_reachable(operation, with_key=True)]
LISTED = [operation for operation in DERIVED if is_reachable(operation)]
CHANGED = [operation for operation in FOUND if isinstance(operation["sample"], dict) and creator_of(operation)]
UNKNOWABLE = [operation for operation in DERIVED if operation["path_keys"] and unknown_path(operation) is not None]


def only(*actions: str, among: list[Json] = DERIVED) -> Callable[[Callable[..., Any]], Any]:
    """One case per operation with such an action. Without any the test does not exist: it could not fail."""
    chosen = [operation for operation in among if not actions or operation["action"] in actions]
    return pytest.mark.parametrize("operation", chosen, ids=name_of) if chosen else lambda test: None


def assert_problem(answered: httpx.Response, *statuses: int) -> None:
    """A refusal with one of these statuses and a JSON body that says what is wrong."""
    assert answered.status_code in statuses, answered.text
    assert answered.headers["content-type"].endswith("json")
    assert isinstance(answered.json(), dict)


# --- Who may call ---------------------------------------------------------------------------------------------------

SECURED = [o for o in OPERATIONS if o["security"] and {} not in o["security"]]
BEARERS = {scheme["name"] for scheme in MANIFEST["security_schemes"] if scheme["kind"] == "bearer"}
TOKENED = [o for o in SECURED if all(list(way) and set(way) <= BEARERS for way in o["security"])]
SCOPED = [o for o in TOKENED if all(any(way.values()) for way in o["security"])]


@only(among=SECURED)
async def test_secured_operation_refuses_strangers(walker: Walker, operation: Json) -> None:
    """Deny by default, before the body is looked at."""
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic eDp4"}):
        answered = await walker.send(operation, headers=headers, anonymous=True, content=b"{")

        assert_problem(answered, 401)
        assert answered.headers["www-authenticate"]


@only(among=TOKENED)
async def test_forged_or_expired_token_is_refused(walker: Walker, operation: Json) -> None:
    """Out of date, signed by somebody else, and not signed at all."""
    scopes = " ".join(scope for way in operation["security"] for needed in way.values() for scope in needed)
    claims = {"sub": "x", "scope": scopes}
    tokens = [
        *(walker.client.token(name, claims, valid_s=-3600) for way in operation["security"] for name in way),
        sign(new_key_pair()[0], claims),
        jwt.encode({**claims, "exp": 2**33}, "", algorithm="none"),
    ]
    for token in tokens:
        answered = await walker.send(operation, anonymous=True, headers={"authorization": f"Bearer {token}"})

        assert_problem(answered, 401)


@only(among=SCOPED)
async def test_token_without_the_scope_is_forbidden(walker: Walker, operation: Json) -> None:
    """A good signature is not a permission."""
    name = next(iter(operation["security"][0]))
    token = walker.client.token(name, {"sub": "x", "scope": "nothing"})

    assert_problem(await walker.send(operation, anonymous=True, headers={"authorization": f"Bearer {token}"}), 403)


@only(among=HOOKED)
async def test_hooked_operation_says_so(walker: Walker, operation: Json) -> None:
    """501 and a problem document until somebody writes it."""
    assert_problem(await walker.send(operation), 501)


# --- Rows -----------------------------------------------------------------------------------------------------------


@only("create", among=CREATED)
async def test_created_row_is_read_back_as_it_was_sent(walker: Walker, operation: Json) -> None:
    """Every plain property that was sent is shown, and its own address shows the same."""
    made = await walker.made(operation)

    assert made.shown == {**made.shown, **made.plain}
    if made.reader is not None:
        assert (await walker.read(made)) == {**(await walker.read(made)), **made.plain}


@only("create", among=CREATED)
async def test_row_without_a_required_property_is_refused(walker: Walker, operation: Json) -> None:
    """Each in its turn."""
    made = await walker.made(operation)
    for name in made.required:
        body = {key: value for key, value in made.sent.items() if key != name}
        answered = await walker.send(operation, path=made.path, body=body)

        assert_problem(answered, 400, 422)
        assert name in answered.text or "errors" not in answered.json()


@only("create", among=UNIQUE)
async def test_taken_value_is_a_conflict_also_at_the_same_time(walker: Walker, operation: Json) -> None:
    """The database decides, not a look beforehand: of two that race exactly one wins."""
    made = await walker.made(operation)
    assert_problem(await walker.send(operation, path=made.path, body=made.sent), 409)

    body = await walker.tied(operation, walker.fresh(operation), made.path)
    race = await asyncio.gather(*(walker.send(operation, path=made.path, body=body) for _ in range(2)))
    assert sorted(answered.status_code for answered in race) == [operation["success"], 409]


@only("delete", among=FOUND)
async def test_deleted_row_is_gone(walker: Walker, operation: Json) -> None:
    """A second time there is nothing to delete."""
    assert await walker.can(operation, with_key=True)
    assert (await walker.send(operation)).status_code == operation["success"]
    assert_problem(await walker.send(operation), 404)


@only("get", "replace", "patch", among=FOUND)
async def test_row_is_found_by_its_key(walker: Walker, operation: Json) -> None:
    """A row that exists is found, and a change of it with a valid body is accepted."""
    assert await walker.can(operation, with_key=True)
    body = await walker.tied(operation, walker.sample(operation))
    answered = await walker.send(operation, body=body)

    assert answered.status_code == operation["success"], answered.text


@only("patch", among=CHANGED)
async def test_change_keeps_what_it_does_not_name(walker: Walker, operation: Json) -> None:
    """PATCH is no PUT: one property is sent, every other one stays as it was."""
    made = await walker.made(creator_of(operation))
    before = await walker.read(made)
    path = made.path | {k["parameter"]: text(made.shown[k["property"]]) for k in keys_of(operation, "key")}
    for name in made.plain:
        if name in operation["sample"]["body"]:
            answered = await walker.send(operation, path=path, body={name: operation["sample"]["body"][name]})
            assert answered.status_code == operation["success"], answered.text
            after = await walker.read(made)

            assert {n: after.get(n) for n in made.plain} == {
                n: operation["sample"]["body"][n] if n == name else before.get(n) for n in made.plain
            }
            before = after


@only("list", among=LISTED)
async def test_list_answers_with_its_status(walker: Walker, operation: Json) -> None:
    """Empty or not, a list is a list."""
    assert await walker.can(operation)
    answered = await walker.send(operation)

    assert answered.status_code == operation["success"], answered.text


@only(among=UNKNOWABLE)
async def test_unknown_row_is_not_found(walker: Walker, operation: Json) -> None:
    """A key in the path that no row has."""
    path = unknown_path(operation)

    assert_problem(await walker.send(operation, path=path, body=walker.sample(operation)), 404)


@only("create", "replace", "patch", "upsert", "create_many", "patch_many", among=SAMPLED)
async def test_broken_body_is_refused(walker: Walker, operation: Json) -> None:
    """Not JSON, not UTF-8, U+0000, which no database text can hold, and a number beyond any range."""
    await walker.can(operation, with_key=True)
    media_type = operation["sample"]["media_type"]
    for content in (b"{", b"\xff", b'{"\\u0000": "\\u0000"}', b'{"a": 1e999}'):
        answered = await walker.send(operation, content=content, headers={"content-type": media_type})

        assert_problem(answered, 400, 422)


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
