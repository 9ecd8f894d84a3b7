"""The answer to a request that succeeded: the row or the rows, inside what the document puts around them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from app import store
from app.database import Connection, Row
from app.errors import as_uuid
from app.model import ABSENT, Answer, Envelope, Meta, Resource
from app.routing import Call, answer

Json = Any


async def respond(
    call: Call,
    connection: Connection,
    reply: Answer,
    row: Row | None,
    *,
    owner: Resource | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A success that shows a row of `owner`, or nothing if the answer has no body."""
    meta: dict[Meta, Json] = {}
    if row is not None and owner is not None:
        meta[Meta.KEY] = row[owner.key.column.name]
    if reply.shape is None or row is None:
        return without_row(call, reply, headers, meta)
    shown = await store.show(connection, reply.shape, [row])
    body = wrap(reply.envelope, shown[0], meta, call, reply.status)
    headers = {**(headers or {}), **extra_headers(reply, meta, call)}
    return answer(reply.status, body, media_type=reply.media_type, headers=headers)


def without_row(
    call: Call, reply: Answer, headers: Mapping[str, str] | None = None, meta: Mapping[Meta, Json] | None = None
) -> Response:
    """A success without an entity: no body, or an envelope alone."""
    headers = {**(headers or {}), **extra_headers(reply, meta or {}, call)}
    if not (reply.envelope.fields or reply.envelope.bare):
        return Response(None, reply.status, headers)
    body = wrap(reply.envelope, ABSENT, meta or {}, call, reply.status)
    return answer(reply.status, body, media_type=reply.media_type, headers=headers)


def fact(source: Meta, meta: Mapping[Meta, Json], call: Call, status: int) -> Json:
    """A value of an envelope or header: `meta` knows it, or any answer does; None if it is not known."""
    if source in meta:
        return meta[source]
    match source:
        case Meta.STATUS:
            return status
        case Meta.REQUEST_ID:
            return as_uuid(call.request_id)
        case Meta.NOW:
            return datetime.now(UTC)
        case Meta.MESSAGE:
            return HTTPStatus(status).phrase
        case _:
            return None


def extra_headers(reply: Answer, meta: Mapping[Meta, Json], call: Call) -> dict[str, str]:
    """Declared response headers that we can fill."""
    found = ((name, fact(source, meta, call, reply.status)) for name, source in reply.headers)
    return {name: quote(str(value), safe=" /?&=%:;,.+~@") for name, value in found if value is not None}


def wrap(envelope: Envelope, content: Json, meta: Mapping[Meta, Json], call: Call, status: int) -> Json:
    """`content` inside its envelope."""
    if not envelope.path and not envelope.fields and not envelope.bare:
        return content
    body: dict[str, Json] = {}
    for part in envelope.fields:
        value = part.constant if part.source is Meta.CONSTANT else fact(part.source, meta, call, status)
        if value is not None or part.nullable or part.source is Meta.CONSTANT:
            place(body, part.path, value)
    if content is not ABSENT and envelope.path:
        place(body, envelope.path, content)
    return body


def place(body: dict[str, Json], path: Sequence[str], value: Json) -> None:
    """Set a value at a path, making what lies between."""
    for name in path[:-1]:
        body = body.setdefault(name, {})
    body[path[-1]] = value
