"""Rows as the JSON that a shape shows. One query per reference and collection for all rows, never one per row."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, any_, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY

from app.database import Connection, Row
from app.model import Children, Collection, Field, Links, Reference, Resource, Shape, Shown
from app.store.rows import PARENT

Json = Any
KEYS = "backwright_keys"  # a bound name that no column has


Source = Field | Reference | Collection


@cache
def sources(shape: Shape) -> tuple[tuple[Shown, Source], ...]:
    """Each shown property with what it comes from."""
    resource = shape.resource
    named: dict[str, Source] = {}
    for part in (*resource.collections, *resource.references, *resource.fields):
        named[part.name] = part
    return tuple((shown, named[shown.source]) for shown in shape.shown)


@cache
def columns(shape: Shape) -> tuple[tuple[str, str, bool], ...] | None:
    """(property, column, shown when null) of a shape that a row answers by itself; None where others must be asked."""
    found: list[tuple[str, str, bool]] = []
    for shown, source in sources(shape):
        column = column_of(shown, source)
        if column is None:
            return None
        found.append((shown.name, column, shown.null_when_absent))
    return tuple(found)


def column_of(shown: Shown, source: Source) -> str | None:
    """The column that holds what is shown, be it a field or the key of another row."""
    if isinstance(source, Field):
        return source.column.name
    if isinstance(source, Reference) and shown.nested is None and source.target().is_known_by_identity:
        return source.column.name
    return None


async def show(connection: Connection, shape: Shape, rows: Sequence[Row]) -> list[dict[str, Json]]:
    """Rows as JSON; properties that have no value are left out, unless the document wants null."""
    own = columns(shape)
    if own is not None:
        return [
            {name: value for name, column, keep in own if (value := row[column]) is not None or keep} for row in rows
        ]
    parts: list[tuple[Shown, Sequence[Json]]] = [
        (shown, await _values(connection, shown, source, shape.resource, rows)) for shown, source in sources(shape)
    ]
    return [
        {shown.name: values[index] for shown, values in parts if values[index] is not None or shown.null_when_absent}
        for index in range(len(rows))
    ]


async def _values(
    connection: Connection, shown: Shown, source: Source, resource: Resource, rows: Sequence[Row]
) -> Sequence[Json]:
    if isinstance(source, Children | Links):
        return await _members(connection, source, shown.nested, [row[resource.identity.name] for row in rows])
    held = [row[source.column.name] for row in rows]
    if isinstance(source, Field) or column_of(shown, source) is not None:
        return held
    return await _targets(connection, source, shown.nested, held)


@cache
def by_identity(resource: Resource) -> Select[Any]:
    """Several rows by primary key."""
    return select(resource.table).where(resource.identity == any_(bindparam(KEYS, type_=ARRAY(resource.identity.type))))


async def _targets(
    connection: Connection, reference: Reference, nested: Shape | None, identities: list[Any]
) -> Sequence[Json]:
    target = reference.target()
    keys = list({identity for identity in identities if identity is not None})
    rows = await connection.fetch_all(by_identity(target), {KEYS: keys}) if keys else []
    shown: Sequence[Json] = [row[target.key.column.name] for row in rows]
    if nested is not None:
        shown = await show(connection, nested, rows)
    found = {row[target.identity.name]: value for row, value in zip(rows, shown, strict=True)}
    return [found.get(identity) for identity in identities]


@cache
def members_statement(collection: Collection) -> Select[Any]:
    """The members of a collection for several rows, each with the row that it belongs to."""
    target = collection.target()
    if isinstance(collection, Children):
        column = target.reference(collection.via).column
        statement = select(target.table, column.label(PARENT))
    else:
        column = collection.here
        statement = select(target.table, column.label(PARENT)).join(
            collection.link, collection.there == target.identity
        )
    return statement.where(column == any_(bindparam(KEYS, type_=ARRAY(column.type)))).order_by(target.identity)


async def _members(
    connection: Connection, collection: Collection, nested: Shape | None, identities: list[Any]
) -> Sequence[Json]:
    if not identities:
        return []
    rows = await connection.fetch_all(members_statement(collection), {KEYS: identities})
    target = collection.target()
    shown: Sequence[Json] = [row[target.key.column.name] for row in rows]
    if nested is not None:
        shown = await show(connection, nested, rows)
    grouped: defaultdict[Any, list[Json]] = defaultdict(list)
    for row, value in zip(rows, shown, strict=True):
        grouped[row[PARENT]].append(value)
    return [grouped[identity] for identity in identities]
