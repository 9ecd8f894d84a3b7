"""Operations that make, change and delete one row, or delete many."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from app import store
from app.crud.entity import unwrap
from app.crud.listing import filter_values, used_filters
from app.crud.reply import respond, without_row
from app.crud.rows import apply, insert, is_plain
from app.database import Connection, Row
from app.errors import Kind, Problem
from app.model import Answer, Field, Filter, Intake, Reference, Resource, Scope, Shape, Step
from app.routing import Call
from app.values import Unstorable

Json = Any


def is_simple(scope: Scope, shape: Shape) -> bool:
    """Whether one statement is all: no parent to hold, no reference to look up, no collection to fill."""
    return not scope.steps and all(
        isinstance(source, Field) or (isinstance(source, Reference) and is_plain(source, shown))
        for shown, source in store.sources(shape)
    )


async def create(call: Call, scope: Scope, intake: Intake, reply: Answer, *, location: bool = False) -> Response:
    """A new row from the body."""
    entity = unwrap(call.body, intake.unwrap)
    work = call.database.connect() if is_simple(scope, intake.shape) else call.database.begin()
    async with work as connection:
        parent = await store.walk(connection, scope.steps, call.path, lock=True)
        row = await insert(connection, scope, parent, intake.shape, entity, call.path)
        headers = {"Location": location_of(call, scope.resource, row)} if location else {}
        return await respond(call, connection, reply, row, owner=scope.resource, headers=headers)


def location_of(call: Call, resource: Resource, row: Row) -> str:
    """Where the new row can be read: below the collection that it was posted to."""
    return f"{call.url_path.rstrip('/')}/{quote(str(row[resource.key.column.name]), safe='')}"


async def change(
    call: Call,
    steps: Sequence[Step],
    intake: Intake,
    reply: Answer,
    *,
    whole: bool,
    version: tuple[str, str] | None = None,
) -> Response:
    """Change the row at the path. `whole`: what the body leaves out goes back to its default (PUT), but not what the
    path says: the row stays where it was found.

    `version`: (property of the body, field): a body that names another version than the row's loses (409).
    """
    resource = steps[-1].resource
    entity = unwrap(call.body, intake.unwrap)
    work = call.database.connect() if is_simple(Scope(resource), intake.shape) else call.database.begin()
    async with work as connection:
        row = await store.walk(connection, steps, call.path)
        assert row is not None  # a path with steps leads to a row or raises
        if version is not None:
            check_version(resource, row, entity, version)
        kept = {steps[-1].field, steps[-1].via, *(part.field for part in steps[-1].fixed)}
        row = await apply(connection, resource, row, intake.shape, entity, whole=whole, kept=kept)
        return await respond(call, connection, reply, row, owner=resource)


def check_version(resource: Resource, row: Row, entity: Json, version: tuple[str, str]) -> None:
    """Optimistic locking. Raises Problem: somebody was faster."""
    given = entity.get(version[0]) if isinstance(entity, dict) else None
    if given is not None and given != row[resource.field(version[1]).column.name]:
        raise Problem(Kind.CONFLICT, "The version is not the current one.")


async def put_only_row(call: Call, scope: Scope, intake: Intake, reply: Answer, *, whole: bool) -> Response:
    """Write the single row of a scope, making it if need be."""
    entity = unwrap(call.body, intake.unwrap)
    async with call.database.begin() as connection:
        parent = await store.walk(connection, scope.steps, call.path, lock=True)
        row = await store.find_in_scope(connection, scope, parent, call.path)
        if row is None:
            row = await insert(connection, scope, parent, intake.shape, entity, call.path)
        else:
            row = await apply(connection, scope.resource, row, intake.shape, entity, whole=whole)
        return await respond(call, connection, reply, row, owner=scope.resource)


async def put_by_body(
    call: Call, scope: Scope, key: str, intake: Intake, reply: Answer, *, whole: bool, create_missing: bool
) -> Response:
    """Write the row whose key stands in the body. Missing: made, or not found."""
    entity = unwrap(call.body, intake.unwrap)
    async with call.database.begin() as connection:
        parent = await store.walk(connection, scope.steps, call.path, lock=True)
        row = await find_by_body(call, connection, scope, parent, key, intake, entity)
        if row is not None:
            row = await apply(connection, scope.resource, row, intake.shape, entity, whole=whole)
        elif create_missing:
            row = await insert(connection, scope, parent, intake.shape, entity, call.path)
        else:
            raise Problem(Kind.NOT_FOUND, f"There is no such {scope.resource.name}.")
        return await respond(call, connection, reply, row, owner=scope.resource)


async def find_by_body(
    call: Call,
    connection: Connection,
    scope: Scope,
    parent: Row | None,
    key: str,
    intake: Intake,
    entity: Json,
) -> Row | None:
    """The row whose field `key` an entity carries, by itself or by the key of its resource."""
    above = scope.steps[-1].resource if scope.steps else None
    for source in dict.fromkeys((key, scope.resource.key.name)):
        name = next((shown.name for shown in intake.shape.shown if shown.source == source), source)
        value = entity.get(name) if isinstance(entity, dict) else None
        if value is not None:
            step = Step("", scope.resource, source, via=scope.via, through=scope.through, fixed=scope.fixed)
            return await store.find(connection, step, value, parent, above, path=call.path)
    return None


async def remove(call: Call, steps: Sequence[Step], reply: Answer) -> Response:
    """Delete the row at the path; what belongs to it goes with it."""
    resource = steps[-1].resource
    async with call.database.begin() as connection:
        row = await store.walk(connection, steps, call.path)
        assert row is not None
        # Shown before it is gone; deleted before it is sent.
        response = await respond(call, connection, reply, row, owner=resource)
        gone = await connection.fetch_one(
            store.delete_statement(resource), {store.IDENTITY: row[resource.identity.name]}
        )
        if gone is None:
            raise Problem(Kind.NOT_FOUND, f"There is no such {resource.name}.")
    return response


async def remove_only_row(call: Call, scope: Scope, reply: Answer) -> Response:
    """Delete the single row of a scope."""
    async with call.database.begin() as connection:
        row = await store.only_row(connection, scope, call.path)
        response = await respond(call, connection, reply, row, owner=scope.resource)
        identity = {store.IDENTITY: row[scope.resource.identity.name]}
        await connection.fetch_one(store.delete_statement(scope.resource), identity)
    return response


async def remove_all(call: Call, scope: Scope, reply: Answer, filters: tuple[Filter, ...] = ()) -> Response:
    """Delete every row of a scope that the filters leave."""
    used = used_filters(call, filters)
    async with call.database.begin() as connection:
        parent = await store.walk(connection, scope.steps, call.path)
        try:
            values = {**store.scope_values(scope, parent, call.path), **filter_values(call, scope.resource, used)}
        except Unstorable:
            return without_row(call, reply)
        await connection.execute(store.delete_all_statement(scope, used), values)
    return without_row(call, reply)
