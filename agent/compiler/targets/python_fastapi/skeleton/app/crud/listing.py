"""Reading a page of rows."""

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from app import store
from app.crud.paging import Page, meta_of, next_link, page_of, write_cursor
from app.crud.reply import extra_headers, wrap
from app.database import Connection, Row
from app.errors import Fault, Kind, Problem
from app.model import Answer, Filter, Meta, Paging, Resource, Scope, Search, Sort
from app.routing import Call, answer
from app.values import Unstorable

Json = Any
OFFSET_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """A list operation."""

    scope: Scope
    reply: Answer
    filters: tuple[Filter, ...] = ()
    sort: Sort | None = None
    paging: Paging = Paging()
    search: Search | None = None


async def read_list(call: Call, listing: Listing) -> Response:
    """A page of rows."""
    scope = listing.scope
    order = order_of(call, scope.resource, listing.sort)
    page = page_of(call, listing.paging, scope.resource, order)
    async with call.database.connect() as connection:
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
    connection: Connection,
    listing: Listing,
    order: tuple[store.Order, ...],
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
        counted = await connection.fetch_one(store.count_statement(scope, used, search), values)
        total = counted["total"] if counted else 0
    if page.offset > OFFSET_MAX:
        return [], total
    nulls = None if page.after is None else tuple(value is None for value in page.after)
    bound = {f"after_{place}": value for place, value in enumerate(page.after or ()) if value is not None}
    statement = store.list_statement(scope, used, search, order, nulls)
    cut = {"limit_": page.limit + 1, "offset_": page.offset}
    return await connection.fetch_all(statement, {**values, **bound, **cut}), total


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


def order_of(call: Call, resource: Resource, sort: Sort | None) -> tuple[store.Order, ...]:
    """The order that is asked for, ended by the key so that it is total. Raises Problem: an unknown name."""
    wanted: list[store.Order] = []
    given = call.query.get(sort.parameter) if sort else None
    if sort is not None and given:
        direction = str(call.query.get(sort.directions) if sort.directions else "").lower()
        items = given if isinstance(given, list) else [given]
        wanted = [part_of_order(sort, str(item), direction) for item in items if str(item) in (sort.values or {})]
        if not wanted:
            wanted = [order for item in items for order in orders_in(sort, str(item), direction)]
    named = {order.field for order in wanted}
    return (*dict.fromkeys(wanted), *(() if resource.key.name in named else (store.Order(resource.key.name),)))


def orders_in(sort: Sort, text: str, direction: str) -> list[store.Order]:
    """The orders that a text lists: `name,-age`, or `name,desc` with one direction for all that it names."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and parts[-1].lower() in ("asc", "desc") and parts[-1] not in sort.allowed:
        direction = parts.pop().lower()
    return [part_of_order(sort, part, direction) for part in parts]


def part_of_order(sort: Sort, text: str, direction: str) -> store.Order:
    """One name of an order. Raises Problem: unknown."""
    down = direction.startswith("desc")
    if sort.values and text in sort.values:
        name, descending = sort.values[text]
        return store.Order(name, descending or down)
    name, _, suffix = text.lstrip("+-").partition(":")
    if name not in sort.allowed:
        fault = Fault(sort.parameter, f"known: {', '.join(sort.allowed)}")
        raise Problem(Kind.INVALID, "Unknown order.", faults=[fault])
    return store.Order(name, down or text.startswith("-") or suffix.lower() == "desc")
