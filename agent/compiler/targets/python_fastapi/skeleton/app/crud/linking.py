"""Operations that tie a row to another one, and untie it."""

from collections.abc import Sequence

from starlette.responses import Response

from app import store
from app.crud.entity import unwrap
from app.crud.reply import respond
from app.errors import Kind, Problem
from app.model import Answer, Intake, Step
from app.routing import Call


async def link(
    call: Call, steps: Sequence[Step], collection: str, target: Step, reply: Answer, intake: Intake | None = None
) -> Response:
    """Tie a row to the one at the path. The target's key stands in the path, or in the body (`intake`)."""
    owner = steps[-1].resource
    links = store.links_of(owner, collection)
    async with call.database.begin() as connection:
        row = await store.walk(connection, steps, call.path, lock=True)
        assert row is not None
        if intake is not None:
            entity = unwrap(call.body, intake.unwrap)
            name = next((s.name for s in intake.shape.shown if s.source == target.field), target.field)
            value = entity.get(name) if isinstance(entity, dict) else entity
        else:
            value = call.path.get(target.parameter)
        other = await store.find(connection, target, value, lock=True)
        if other is None:
            raise Problem(Kind.NOT_FOUND, f"There is no such {target.resource.name}.")
        await store.link(connection, links, row[owner.identity.name], [other[target.resource.identity.name]])
        is_other = reply.shape is not None and reply.shape.resource is target.resource
        return await respond(call, connection, reply, other if is_other else row)


async def unlink(call: Call, steps: Sequence[Step], collection: str, target: Step, reply: Answer) -> Response:
    """Untie a row from the one at the path. Not tied: not found."""
    owner = steps[-1].resource
    links = store.links_of(owner, collection)
    async with call.database.begin() as connection:
        row = await store.walk(connection, steps, call.path)
        assert row is not None
        other = await store.find(connection, target, call.path.get(target.parameter))
        gone = None
        if other is not None:
            values = {store.PARENT: row[owner.identity.name], store.IDENTITY: other[target.resource.identity.name]}
            gone = await connection.fetch_one(store.unlink_statement(links), values)
        if gone is None:
            raise Problem(Kind.NOT_FOUND, f"There is no such {target.resource.name} here.")
        return await respond(call, connection, reply, row)
