"""What derived operations do. The routers say with which resource, scope and shape; the rules are here, once."""

import asyncio
import base64
import binascii
import secrets
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from app import store
from app.auth import hash_password
from app.contract import pairs_of
from app.errors import Fault, Kind, Problem, as_uuid, choose_status
from app.model import (
    ABSENT,
    Answer,
    Children,
    Collection,
    Envelope,
    Field,
    Filter,
    Fixed,
    Generated,
    Intake,
    Links,
    Meta,
    Paging,
    Reference,
    Resource,
    Scope,
    Search,
    Shape,
    Shown,
    Sort,
    Step,
    Style,
    Type,
)
from app.routing import Call, answer, translate
from app.store import IDENTITY, PARENT, Order, Row
from app.values import Unstorable, to_column

Json = Any
SKIPS_MAX = 1000  # numbers that clients took for themselves in a row
CURSOR = "_cursor"  # the query parameter of our own `next` links, where the document declares no paging
OFFSET_MAX = 2**63 - 1


# --- Reading --------------------------------------------------------------------------------------------------------


async def read(call: Call, steps: Sequence[Step], reply: Answer) -> Response:
    """The row that the path leads to."""
    async with call.database.read() as connection:
        row = await store.walk(connection, steps, call.path)
        return await respond(call, connection, reply, row, owner=steps[-1].resource)


async def read_only_row(call: Call, scope: Scope, reply: Answer) -> Response:
    """The single row of a scope."""
    async with call.database.read() as connection:
        parent = await store.walk(connection, scope.steps, call.path)
        row = await store.find_in_scope(connection, scope, parent, call.path)
        if row is None:
            raise Problem(Kind.NOT_FOUND, f"There is no {scope.resource.name} yet.")
        return await respond(call, connection, reply, row)


async def respond(
    call: Call,
    connection: AsyncConnection,
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


async def confirm(call: Call, reply: Answer) -> Response:
    """Says that the service is there."""
    return without_row(call, reply)


def facts_of(call: Call, status: int) -> dict[Meta, Json]:
    """What every envelope may tell."""
    return {
        Meta.STATUS: status,
        Meta.REQUEST_ID: as_uuid(call.request_id),
        Meta.NOW: datetime.now(UTC),
        Meta.MESSAGE: HTTPStatus(status).phrase,
    }


def extra_headers(reply: Answer, meta: Mapping[Meta, Json], call: Call) -> dict[str, str]:
    """Declared response headers that we can fill."""
    if not reply.headers:
        return {}
    known = {**facts_of(call, reply.status), **meta}
    return {
        name: quote(str(known[source]), safe=" /?&=%:;,.+~@")
        for name, source in reply.headers
        if known.get(source) is not None
    }


def wrap(envelope: Envelope, content: Json, meta: Mapping[Meta, Json], call: Call, status: int) -> Json:
    """`content` inside its envelope."""
    if not envelope.path and not envelope.fields and not envelope.bare:
        return content
    body: dict[str, Json] = {}
    known = {**facts_of(call, status), **meta}
    for part in envelope.fields:
        value = part.constant if part.source is Meta.CONSTANT else known.get(part.source)
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


# --- Lists ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """A list operation."""

    scope: Scope
    reply: Answer
    filters: tuple[Filter, ...] = ()
    sort: Sort | None = None
    paging: Paging = Paging()
    search: Search | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for. `after`: order values of the row before."""

    limit: int
    offset: int = 0
    number: int = 0
    after: tuple[Any, ...] | None = None


async def read_list(call: Call, listing: Listing) -> Response:
    """A page of rows."""
    scope = listing.scope
    order = order_of(call, scope.resource, listing.sort)
    page = page_of(call, listing.paging, scope.resource, order)
    async with call.database.read() as connection:
        parent = await store.walk(connection, scope.steps, call.path)
        rows, total = await select_page(call, connection, listing, order, page, parent)
        more = len(rows) > page.limit
        rows = rows[: page.limit]
        shown = await store.show(connection, listing.reply.shape, rows) if listing.reply.shape else []
    reply = listing.reply
    meta = meta_of(page, len(rows), more, total)
    headers: dict[str, str] = {}
    if more and rows:
        cursor = write_cursor(scope.resource, order, rows[-1])
        link = next_link(call, listing.paging, page, cursor)
        meta |= {Meta.NEXT_CURSOR: cursor, Meta.NEXT_LINK: link}
        headers["Link"] = f'<{link}>; rel="next"'
    body = wrap(reply.envelope, shown, meta, call, reply.status)
    headers |= extra_headers(reply, meta, call)
    return answer(reply.status, body, media_type=reply.media_type, headers=headers)


async def select_page(
    call: Call,
    connection: AsyncConnection,
    listing: Listing,
    order: tuple[Order, ...],
    page: Page,
    parent: Row | None,
) -> tuple[list[Row], int | None]:
    """One row more than the page has, so that we know whether there is a next one; and the total, if it is shown."""
    scope = listing.scope
    used = used_filters(call, listing.filters)
    try:
        values = {**store.scope_values(scope, parent, call.path), **filter_values(call, scope.resource, used)}
    except Unstorable:
        return [], 0  # no row can have such a value
    text = call.query.get(listing.search.parameter) if listing.search else None
    search = listing.search if text else None
    if search is not None:
        values["search_"] = str(text)
    total: int | None = None
    if needs_total(listing.reply):
        counted = await store.fetch_one(connection, store.count_statement(scope, used, search), values)
        total = counted["total"] if counted else 0
    if page.offset > OFFSET_MAX:
        return [], total
    nulls = None if page.after is None else tuple(value is None for value in page.after)
    bound = {f"after_{place}": value for place, value in enumerate(page.after or ()) if value is not None}
    statement = store.list_statement(scope, used, search, order, nulls)
    cut = {"limit_": page.limit + 1, "offset_": page.offset}
    return await store.fetch_all(connection, statement, {**values, **bound, **cut}), total


def needs_total(reply: Answer) -> bool:
    """Counting costs a scan: only where the document shows the number."""
    shown = [*(part.source for part in reply.envelope.fields), *(source for _, source in reply.headers)]
    return Meta.TOTAL in shown or Meta.PAGES in shown


def filter_given(call: Call, filter_: Filter) -> Json:
    """What the request says for a filter, in the query or in the path."""
    found = call.query.get(filter_.parameter)
    return call.path.get(filter_.parameter) if found is None else found


def used_filters(call: Call, filters: tuple[Filter, ...]) -> tuple[Filter, ...]:
    """The filters that the request sets."""
    return tuple(filter_ for filter_ in filters if filter_given(call, filter_) is not None)


def filter_values(call: Call, resource: Resource, filters: tuple[Filter, ...]) -> dict[str, Any]:
    """What binds them. Raises Unstorable."""
    return {
        f"f_{filter_.parameter}": store.filter_value(resource, filter_, filter_given(call, filter_))
        for filter_ in filters
    }


def order_of(call: Call, resource: Resource, sort: Sort | None) -> tuple[Order, ...]:
    """The order that is asked for, ended by the key so that it is total. Raises Problem: an unknown name."""
    wanted: list[Order] = []
    given = call.query.get(sort.parameter) if sort else None
    if sort is not None and given:
        direction = str(call.query.get(sort.directions) if sort.directions else "").lower()
        items = given if isinstance(given, list) else [given]
        wanted = [part_of_order(sort, str(item), direction) for item in items if str(item) in (sort.values or {})]
        if not wanted:
            texts = (part.strip() for item in items for part in str(item).split(","))
            wanted = [part_of_order(sort, text, direction) for text in texts]
    named = {order.field for order in wanted}
    return (*dict.fromkeys(wanted), *(() if resource.key.name in named else (Order(resource.key.name),)))


def part_of_order(sort: Sort, text: str, direction: str) -> Order:
    """One name of an order. Raises Problem: unknown."""
    down = direction.startswith("desc")
    if sort.values and text in sort.values:
        name, descending = sort.values[text]
        return Order(name, descending or down)
    name, _, suffix = text.lstrip("+-").partition(":")
    if name not in sort.allowed:
        fault = Fault(sort.parameter, f"known: {', '.join(sort.allowed)}")
        raise Problem(Kind.INVALID, "Unknown order.", faults=[fault])
    return Order(name, down or text.startswith("-") or suffix.lower() == "desc")


def page_of(call: Call, paging: Paging, resource: Resource, order: tuple[Order, ...]) -> Page:
    """The part of the list that is asked for, within our own limits. Raises Problem: a cursor that is not ours."""
    settings = call.settings
    asked = call.query.get(paging.limit) if paging.limit else None
    limit = asked if isinstance(asked, int | float) else paging.default_limit or settings.page_limit_default
    if paging.unlimited is not None and asked == paging.unlimited:
        limit = settings.page_limit_max
    limit = int(max(0, min(limit, paging.maximum_limit or settings.page_limit_max, settings.page_limit_max)))
    position = call.query.get(paging.position) if paging.position else None
    match paging.style:
        case Style.OFFSET:
            offset = int(max(0, position)) if isinstance(position, int | float) else 0
            return Page(limit, offset)
        case Style.PAGE:
            number = int(max(paging.first_page, position)) if isinstance(position, int | float) else paging.first_page
            return Page(limit, (number - paging.first_page) * limit, number)
        case Style.CURSOR:
            return Page(
                limit, after=read_cursor(resource, order, str(position), str(paging.position)) if position else None
            )
        case Style.NONE:
            limit = settings.page_limit_max
            text = next((text for name, text in pairs_of(call.request.scope["query_string"]) if name == CURSOR), "")
            return Page(limit, after=read_cursor(resource, order, text, CURSOR) if text else None)


def write_cursor(resource: Resource, order: tuple[Order, ...], row: Row) -> str:
    """Where a page ended: the order and its values, opaque to clients."""
    values = [row[resource.field(part.field).column.name] for part in order]
    names = [f"{'-' if part.descending else ''}{part.field}" for part in order]
    return base64.urlsafe_b64encode(msgspec.json.encode([names, values])).decode().rstrip("=")


def read_cursor(resource: Resource, order: tuple[Order, ...], text: str, parameter: str) -> tuple[Any, ...]:
    """The values of a cursor. It holds nothing secret and every part is checked, so it needs no signature."""
    try:
        names, values = msgspec.json.decode(
            base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True),
            type=tuple[list[str], list[Any]],
        )
        if names != [f"{'-' if part.descending else ''}{part.field}" for part in order] or len(values) != len(names):
            raise ValueError(text)
        fields = [resource.field(part.field) for part in order]
        read = tuple(to_column(field.type, value) for field, value in zip(fields, values, strict=True))
        if any(value is None and not field.column.nullable for field, value in zip(fields, read, strict=True)):
            raise ValueError(text)
        if any(isinstance(value, str) and "\x00" in value for value in read):
            raise ValueError(text)
    except (binascii.Error, msgspec.MsgspecError, ValueError) as exc:
        fault = Fault(parameter, "is not a cursor of this list")
        raise Problem(Kind.INVALID, "The cursor is not valid.", faults=[fault]) from exc
    return read


def meta_of(page: Page, count: int, more: bool, total: int | None) -> dict[Meta, Json]:
    """What the envelope may tell about a page."""
    pages = None if total is None else -(-total // page.limit) if page.limit else 0
    return {
        Meta.TOTAL: total,
        Meta.PAGE: page.number,
        Meta.LIMIT: page.limit,
        Meta.OFFSET: page.offset,
        Meta.PAGES: pages,
        Meta.HAS_MORE: more,
        Meta.COUNT: count,
    }


def next_link(call: Call, paging: Paging, page: Page, cursor: str) -> str:
    """The same request for the next page."""
    name, value = {
        Style.NONE: (CURSOR, cursor),
        Style.CURSOR: (paging.position or CURSOR, cursor),
        Style.OFFSET: (paging.position or "offset", str(page.offset + page.limit)),
        Style.PAGE: (paging.position or "page", str(page.number + 1)),
    }[paging.style]
    pairs = [pair for pair in pairs_of(call.request.scope["query_string"]) if pair[0] != name]
    return f"{quote(call.request.url.path)}?{urlencode([*pairs, (name, value)])}"


# --- Taking apart what a body brings --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """An entity from a body, sorted by where its parts go."""

    values: dict[str, Any]  # column → value
    references: list[tuple[Reference, Shown, Json]]
    collections: list[tuple[Collection, Shown, list[Json]]]


def draft_of(shape: Shape, entity: Json) -> Draft:
    """What an entity says about the columns. Raises Problem: a value that no column can hold."""
    draft = Draft({}, [], [])
    if not isinstance(entity, dict):
        return draft
    for shown, source in store.sources(shape):
        if shown.name not in entity:
            continue
        value = entity[shown.name]
        if isinstance(source, Field):
            if (source.generated is None or source.chosen) and not (value is None and not source.column.nullable):
                draft.values[source.column.name] = column_value(source, shown, value)
        elif isinstance(source, Reference):
            draft.references.append((source, shown, value))
        else:
            draft.collections.append((source, shown, value if isinstance(value, list) else []))
    return draft


def column_value(field: Field, shown: Shown, value: Json) -> Any:
    """The value for a column. Raises Problem where the column cannot hold it."""
    try:
        return to_column(field.type, value)
    except Unstorable as exc:
        raise Problem(Kind.INVALID, "The body is not valid.", faults=[Fault(f"/{shown.name}", str(exc))]) from exc


def unwrap(body: Json, path: Sequence[str]) -> Json:
    """The entity inside a body."""
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def complete(resource: Resource, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a new row: what the server makes, then defaults."""
    for field in resource.fields:
        name = field.column.name
        if name in values:
            continue
        match field.generated:
            case Generated.UUID:
                values[name] = str(uuid.uuid4())
            case Generated.TOKEN:
                values[name] = secrets.token_hex(16)
            case Generated.CREATED_AT | Generated.UPDATED_AT:
                values[name] = now_for(field)
            case Generated.VERSION:
                values[name] = 1
            case Generated.IDENTITY:
                pass  # the database makes it
            case None:
                if field.default is not ABSENT:
                    values[name] = to_column(field.type, field.default)
    return values


def now_for(field: Field) -> Any:
    """The time, as the column keeps it: a timestamp, a day, or milliseconds since 1970."""
    now = datetime.now(UTC)
    match field.type:
        case Type.DATETIME:
            return now
        case Type.DATE:
            return now.date()
        case Type.STRING:
            return now.isoformat().replace("+00:00", "Z")
        case _:
            return to_column(field.type, round(now.timestamp() * 1000))


def stamp(resource: Resource, row: Row, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a changed row: its time and version, if it keeps them."""
    for field in resource.fields:
        name = field.column.name
        if field.generated is Generated.UPDATED_AT:
            values[name] = now_for(field)
        elif field.generated is Generated.VERSION:
            values[name] = (row[name] or 0) + 1
    return values


async def seal(resource: Resource, values: dict[str, Any]) -> None:
    """Secrets are stored as salted hashes. Hashing is slow on purpose, so it happens beside the event loop."""
    for field in resource.fields:
        value = values.get(field.column.name)
        if field.secret and value is not None:
            values[field.column.name] = await asyncio.to_thread(hash_password, str(value))


# --- Writing --------------------------------------------------------------------------------------------------------


def is_simple(scope: Scope, shape: Shape) -> bool:
    """Whether one statement is all: no parent to hold, no reference to look up, no collection to fill."""
    return not scope.steps and all(isinstance(source, Field) for _, source in store.sources(shape))


async def create(call: Call, scope: Scope, intake: Intake, reply: Answer, *, location: bool = False) -> Response:
    """A new row from the body."""
    entity = unwrap(call.body, intake.unwrap)
    work = call.database.read() if is_simple(scope, intake.shape) else call.database.begin()
    async with work as connection:
        parent = await store.walk(connection, scope.steps, call.path, lock=True)
        row = await insert(connection, scope, parent, intake.shape, entity, call.path)
        headers = {"Location": location_of(call, scope.resource, row)} if location else {}
        return await respond(call, connection, reply, row, owner=scope.resource, headers=headers)


async def create_many(
    call: Call, scope: Scope, intake: Intake, reply: Answer, item: Envelope | None = None
) -> Response:
    """New rows from a list in the body: all or none, or each for itself where each has an answer (`item`)."""

    async def make(connection: AsyncConnection, parent: Row | None, entity: Json) -> Row:
        return await insert(connection, scope, parent, intake.shape, entity, call.path)

    return await each(call, scope, intake, reply, item, make, success=201)


async def change_many(
    call: Call, scope: Scope, key: str, intake: Intake, reply: Answer, item: Envelope | None = None
) -> Response:
    """Changes from a list in the body; each element carries the key of its row."""

    async def alter(connection: AsyncConnection, parent: Row | None, entity: Json) -> Row:
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
    work: Callable[[AsyncConnection, Row | None, Json], Awaitable[Row]],
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
                async with connection.begin_nested():
                    row = await work(connection, parent, entity)
                    content = await shown_or_nothing(connection, reply, row)
                key = {Meta.KEY: row[scope.resource.key.column.name]}
                contents.append(wrap(item, content[0] if content else ABSENT, key, call, success))
            except (Problem, DBAPIError) as exc:
                problem = exc if isinstance(exc, Problem) else translate(exc)
                meta = {Meta.MESSAGE: problem.detail}
                contents.append(wrap(item, ABSENT, meta, call, choose_status(problem.kind, ())))
    if reply.shape is None and item is None:
        return without_row(call, reply)
    body = wrap(reply.envelope, contents, {Meta.COUNT: len(contents)}, call, reply.status)
    return answer(reply.status, body, media_type=reply.media_type)


async def shown_or_nothing(connection: AsyncConnection, reply: Answer, row: Row) -> list[Json]:
    """The row as the answer shows it, if it does."""
    return list(await store.show(connection, reply.shape, [row])) if reply.shape else []


def location_of(call: Call, resource: Resource, row: Row) -> str:
    """Where the new row can be read: below the collection that it was posted to."""
    return f"{quote(call.request.url.path.rstrip('/'))}/{quote(str(row[resource.key.column.name]), safe='')}"


async def insert_row(connection: AsyncConnection, resource: Resource, values: dict[str, Any]) -> Row:
    """Insert one row. A number that a client took before the server did is skipped."""
    await seal(resource, values)
    key = resource.key
    if key.generated is not Generated.IDENTITY or not key.chosen or key.column.name in values:
        row = await store.fetch_one(connection, store.insert_statement(resource), values)
        assert row is not None  # RETURNING gives the row that was inserted
        return row
    for _ in range(SKIPS_MAX):
        row = await store.fetch_one(connection, store.insert_new_statement(resource), values)
        if row is not None:
            return row
    raise Problem(Kind.CONFLICT, "A value is taken already.")


def fix(resource: Resource, fixed: Sequence[Fixed], path: Mapping[str, Json], values: dict[str, Any]) -> None:
    """Set the columns that the path gives. Raises Problem: no column can hold such a value."""
    for part in fixed:
        field = resource.field(part.field)
        try:
            values[field.column.name] = to_column(field.type, path.get(part.parameter))
        except Unstorable as exc:
            raise Problem(Kind.NOT_FOUND, f"There is no such {part.parameter}.") from exc


async def insert(
    connection: AsyncConnection, scope: Scope, parent: Row | None, shape: Shape, entity: Json, path: Mapping[str, Json]
) -> Row:
    """Insert one entity with its references, links and children."""
    resource = scope.resource
    draft = draft_of(shape, entity)
    fix(resource, scope.fixed, path, draft.values)
    values = complete(resource, draft.values)
    await tie(connection, draft, values)
    if scope.via is not None and parent is not None:
        column = resource.reference(scope.via).column
        values[column.name] = parent[scope.steps[-1].resource.identity.name]
    row = await insert_row(connection, resource, values)
    links = store.scope_link(scope)
    if links is not None and parent is not None:
        here = parent[scope.steps[-1].resource.identity.name]
        await store.link(connection, links, here, [row[resource.identity.name]])
    await fill_collections(connection, resource, row, draft)
    return row


async def tie(connection: AsyncConnection, draft: Draft, values: dict[str, Any]) -> None:
    """Look up what the references name and hold it until the end. Raises Problem: it does not exist."""
    for reference, shown, value in draft.references:
        values[reference.column.name] = await identity_of(connection, reference.target(), shown, value)


async def identity_of(connection: AsyncConnection, target: Resource, shown: Shown, value: Json) -> Any:
    """The identity of the row that a key, or an object with a key, names. Raises Problem: there is none."""
    if value is None:
        return None
    key = value
    if shown.nested is not None:
        name = next((s.name for s in shown.nested.shown if s.source == target.key.name), target.key.name)
        key = value.get(name) if isinstance(value, dict) else None
    if key is not None:
        row = await store.find(connection, Step("", target, target.key.name), key, lock=True)
    else:
        row = await match_or_make(connection, target, shown, value)
    if row is None:
        fault = Fault(f"/{shown.name}", "names nothing that exists")
        raise Problem(Kind.UNKNOWN_REFERENCE, f"There is no such {target.name}.", faults=[fault])
    return row[target.identity.name]


async def match_or_make(connection: AsyncConnection, target: Resource, shown: Shown, value: Json) -> Row | None:
    """For an object without a key: the row that equals it in what identifies one, else a new row."""
    if not shown.match or shown.nested is None or not isinstance(value, dict):
        return None
    names = {part.source: part.name for part in shown.nested.shown}
    wanted = {source: value.get(names[source]) for source in shown.match if source in names}
    if not wanted or any(part is None for part in wanted.values()):
        return None
    row = await store.find_equal(connection, target, wanted)
    return row or await insert(connection, Scope(target), None, shown.nested, value, {})


async def fill_collections(
    connection: AsyncConnection, resource: Resource, row: Row, draft: Draft, *, replace: bool = False
) -> None:
    """Links and children that the body lists; `replace`: instead of those that were there."""
    identity = row[resource.identity.name]
    for collection, shown, items in draft.collections:
        target = collection.target()
        if isinstance(collection, Links):
            if replace:
                await connection.execute(store.unlink_all_statement(collection), {PARENT: identity})
            found = [await identity_of(connection, target, shown, item) for item in items]
            await store.link(connection, collection, identity, found)
        elif shown.nested is not None:
            await fill_children(connection, collection, identity, shown.nested, items, replace=replace)


async def fill_children(
    connection: AsyncConnection,
    children: Children,
    identity: Any,
    shape: Shape,
    items: Sequence[Json],
    *,
    replace: bool,
) -> None:
    """Children that live and die with their parent."""
    target = children.target()
    if replace:
        await connection.execute(store.orphan_statement(children), {PARENT: identity})
    for item in items:
        draft = draft_of(shape, item)
        values = complete(target, draft.values)
        await tie(connection, draft, values)
        values[target.reference(children.via).column.name] = identity
        await fill_collections(connection, target, await insert_row(connection, target, values), draft)


async def change(
    call: Call,
    steps: Sequence[Step],
    intake: Intake,
    reply: Answer,
    *,
    whole: bool,
    version: tuple[str, str] | None = None,
) -> Response:
    """Change the row at the path. `whole`: what the body leaves out goes back to its default (PUT).

    `version`: (property of the body, field): a body that names another version than the row's loses (409).
    """
    resource = steps[-1].resource
    entity = unwrap(call.body, intake.unwrap)
    work = call.database.read() if is_simple(Scope(resource), intake.shape) else call.database.begin()
    async with work as connection:
        row = await store.walk(connection, steps, call.path)
        assert row is not None  # a path with steps leads to a row or raises
        if version is not None:
            check_version(resource, row, entity, version)
        row = await apply(connection, resource, row, intake.shape, entity, whole=whole)
        return await respond(call, connection, reply, row, owner=resource)


def check_version(resource: Resource, row: Row, entity: Json, version: tuple[str, str]) -> None:
    """Optimistic locking. Raises Problem: somebody was faster."""
    given = entity.get(version[0]) if isinstance(entity, dict) else None
    if given is not None and given != row[resource.field(version[1]).column.name]:
        raise Problem(Kind.CONFLICT, "The version is not the current one.")


async def apply(
    connection: AsyncConnection, resource: Resource, row: Row, shape: Shape, entity: Json, *, whole: bool
) -> Row:
    """Write an entity over a row. An entity that says nothing changes nothing."""
    draft = draft_of(shape, entity)
    await tie(connection, draft, draft.values)
    if whole:
        reset_absent(shape, entity, draft)
    values = draft.values
    for field in resource.fields:  # nobody changes a key or what the server makes
        if field is resource.key or field.generated is not None:
            values.pop(field.column.name, None)
    changed: Row | None = row
    if values:
        await seal(resource, values)
        values = {**stamp(resource, row, values), IDENTITY: row[resource.identity.name]}
        changed = await store.fetch_one(connection, store.update_statement(resource), values)
    if changed is None:  # deleted meanwhile
        raise Problem(Kind.NOT_FOUND, f"There is no such {resource.name}.")
    await fill_collections(connection, resource, changed, draft, replace=True)
    return changed


def reset_absent(shape: Shape, entity: Json, draft: Draft) -> None:
    """A replacement that leaves out an optional property resets it; a column that must have a value keeps it."""
    for shown, source in store.sources(shape):
        if isinstance(entity, dict) and shown.name in entity:
            continue
        if isinstance(source, Field) and source.generated is None:
            if source.default is not ABSENT:
                draft.values[source.column.name] = to_column(source.type, source.default)
            elif source.column.nullable:
                draft.values[source.column.name] = None
        elif isinstance(source, Reference) and source.column.nullable:
            draft.values[source.column.name] = None


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
    connection: AsyncConnection,
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
        gone = await store.fetch_one(
            connection, store.delete_statement(resource), {IDENTITY: row[resource.identity.name]}
        )
        if gone is None:
            raise Problem(Kind.NOT_FOUND, f"There is no such {resource.name}.")
    return response


async def remove_only_row(call: Call, scope: Scope, reply: Answer) -> Response:
    """Delete the single row of a scope."""
    async with call.database.begin() as connection:
        parent = await store.walk(connection, scope.steps, call.path)
        row = await store.find_in_scope(connection, scope, parent, call.path)
        if row is None:
            raise Problem(Kind.NOT_FOUND, f"There is no {scope.resource.name} yet.")
        response = await respond(call, connection, reply, row, owner=scope.resource)
        identity = {IDENTITY: row[scope.resource.identity.name]}
        await store.fetch_one(connection, store.delete_statement(scope.resource), identity)
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


# --- Links ----------------------------------------------------------------------------------------------------------


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
            values = {PARENT: row[owner.identity.name], IDENTITY: other[target.resource.identity.name]}
            gone = await store.fetch_one(connection, store.unlink_statement(links), values)
        if gone is None:
            raise Problem(Kind.NOT_FOUND, f"There is no such {target.resource.name} here.")
        return await respond(call, connection, reply, row)
