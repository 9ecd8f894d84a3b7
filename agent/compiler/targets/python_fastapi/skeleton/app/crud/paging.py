"""Which part of a list is asked for, and where the next one begins."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from app import store
from app.contract.text import pairs_of
from app.database import Row
from app.errors import Fault, Kind, Problem
from app.model import Meta, Paging, Resource, Style
from app.routing import Call
from app.values import to_column

Json = Any
CURSOR = "_cursor"  # the query parameter of our own `next` links, where the document declares no position


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for. `after`: order values of the row before."""

    limit: int
    offset: int = 0
    number: int = 0
    after: tuple[Any, ...] | None = None


def page_of(call: Call, paging: Paging, resource: Resource, order: tuple[store.Order, ...]) -> Page:
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
            limit = settings.page_limit_max if paging.limit is None else limit
            text = next((text for name, text in pairs_of(call.request.scope["query_string"]) if name == CURSOR), "")
            return Page(limit, after=read_cursor(resource, order, text, CURSOR) if text else None)


def write_cursor(resource: Resource, order: tuple[store.Order, ...], row: Row) -> str:
    """Where a page ended: the order and its values, opaque to clients."""
    values = [row[resource.field(part.field).column.name] for part in order]
    names = [f"{'-' if part.descending else ''}{part.field}" for part in order]
    return base64.urlsafe_b64encode(msgspec.json.encode([names, values])).decode().rstrip("=")


def read_cursor(resource: Resource, order: tuple[store.Order, ...], text: str, parameter: str) -> tuple[Any, ...]:
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
    values = {Style.OFFSET: str(page.offset + page.limit), Style.PAGE: str(page.number + 1)}
    name, value = paging.position or CURSOR, values.get(paging.style, cursor)
    pairs = [pair for pair in pairs_of(call.request.scope["query_string"]) if pair[0] != name]
    return f"{call.url_path}?{urlencode([*pairs, (name, value)])}"
