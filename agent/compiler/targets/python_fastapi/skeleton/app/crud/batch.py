"""Operations on many rows that a body lists."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from starlette.responses import Response

from app import store
from app.crud.entity import unwrap
from app.crud.reply import without_row, wrap
from app.crud.rows import apply, insert
from app.crud.writing import find_by_body
from app.database import Connection, Row, translate
from app.errors import Kind, Problem, choose_status
from app.model import ABSENT, Answer, Envelope, Intake, Meta, Scope
from app.routing import Call, answer

Json = Any


async def create_many(
    call: Call, scope: Scope, intake: Intake, reply: Answer, item: Envelope | None = None
) -> Response:
    """New rows from a list in the body: all or none, or each for itself where each has an answer (`item`)."""

    async def make(connection: Connection, parent: Row | None, entity: Json) -> Row:
        return await insert(connection, scope, parent, intake.shape, entity, call.path)

    return await each(call, scope, intake, reply, item, make, success=201)


async def change_many(
    call: Call, scope: Scope, key: str, intake: Intake, reply: Answer, item: Envelope | None = None
) -> Response:
    """Changes from a list in the body; each element carries the key of its row."""

    async def alter(connection: Connection, parent: Row | None, entity: Json) -> Row:
        row = await find_by_body(call, connection, scope, parent, key, intake, entity)
        if row is None:
            raise Problem(Kind.NOT_FOUND, f"There is no such {scope.resource.name}.")
        return await apply(connection, scope.resource, row, intake.shape, entity, whole=False)

    return await each(call, scope, intake, reply, item, alter, success=200)


async def each(
    call: Call,
    scope: Scope,
    intake: Intake,
    reply: Answer,
    item: Envelope | None,
    work: Callable[[Connection, Row | None, Json], Awaitable[Row]],
    *,
    success: int,
) -> Response:
    """Do something with every entity of a body that is a list."""
    entities = [unwrap(element, intake.unwrap) for element in (call.body if isinstance(call.body, list) else [])]
    contents: list[Json] = []
    async with call.database.begin() as connection:
        parent = await store.walk(connection, scope.steps, call.path, lock=True)
        for entity in entities:
            if item is None:
                contents += await shown_or_nothing(connection, reply, await work(connection, parent, entity))
                continue
            try:
                async with connection.savepoint():
                    row = await work(connection, parent, entity)
                    content = await shown_or_nothing(connection, reply, row)
                key = {Meta.KEY: row[scope.resource.key.column.name]}
                contents.append(wrap(item, content[0] if content else ABSENT, key, call, success))
            except (Problem, asyncpg.PostgresError) as exc:
                problem = exc if isinstance(exc, Problem) else translate(exc)
                meta = {Meta.MESSAGE: problem.detail}
                contents.append(wrap(item, ABSENT, meta, call, choose_status(problem.kind, ())))
    if reply.shape is None and item is None:
        return without_row(call, reply)
    body = wrap(reply.envelope, contents, {Meta.COUNT: len(contents)}, call, reply.status)
    return answer(reply.status, body, media_type=reply.media_type)


async def shown_or_nothing(connection: Connection, reply: Answer, row: Row) -> list[Json]:
    """The row as the answer shows it, if it does."""
    return list(await store.show(connection, reply.shape, [row])) if reply.shape else []
