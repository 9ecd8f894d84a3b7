"""Reading one row."""

from collections.abc import Sequence

from starlette.responses import Response

from app import store
from app.crud.reply import respond, without_row
from app.errors import Kind, Problem
from app.model import Answer, Scope, Step
from app.routing import Call


async def read(call: Call, steps: Sequence[Step], reply: Answer) -> Response:
    """The row that the path leads to."""
    async with call.database.connect() as connection:
        row = await store.walk(connection, steps, call.path)
        return await respond(call, connection, reply, row, owner=steps[-1].resource)


async def read_only_row(call: Call, scope: Scope, reply: Answer) -> Response:
    """The single row of a scope."""
    async with call.database.connect() as connection:
        parent = await store.walk(connection, scope.steps, call.path)
        row = await store.find_in_scope(connection, scope, parent, call.path)
        if row is None:
            raise Problem(Kind.NOT_FOUND, f"There is no {scope.resource.name} yet.")
        return await respond(call, connection, reply, row)


async def confirm(call: Call, reply: Answer) -> Response:
    """Says that the service is there."""
    return without_row(call, reply)
