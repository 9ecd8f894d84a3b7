"""Reading one row."""

from collections.abc import Sequence

from starlette.responses import Response

from app import store
from app.crud.reply import respond, without_row
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
        row = await store.only_row(connection, scope, call.path)
        return await respond(call, connection, reply, row)


async def confirm(call: Call, reply: Answer) -> Response:
    """Says that the service is there."""
    return without_row(call, reply)
