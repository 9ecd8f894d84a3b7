"""Inserting and changing one row, with what it refers to and what belongs to it."""

from collections.abc import Container, Mapping, Sequence
from functools import cache
from typing import Any

import asyncpg

from app import store
from app.crud.entity import Draft, complete, draft_of, seal, stamp
from app.database import Connection, Row, translate
from app.errors import Fault, Kind, Problem
from app.model import (
    ABSENT,
    Children,
    Field,
    Fixed,
    Generated,
    Links,
    Reference,
    Resource,
    Scope,
    Shape,
    Shown,
    Step,
)
from app.values import Unstorable, to_column

Json = Any
SKIPS_MAX = 1000  # numbers that clients took for themselves in a row


async def insert_row(connection: Connection, resource: Resource, draft: Draft) -> Row:
    """Insert one row. A number that a client took before the server did is skipped. Raises Problem."""
    values = complete(resource, draft.values)
    await tie(connection, draft)
    await seal(resource, values)
    try:
        return await _insert(connection, resource, values)
    except asyncpg.ForeignKeyViolationError as exc:
        raise dangling(draft, exc) from exc


async def _insert(connection: Connection, resource: Resource, values: dict[str, Any]) -> Row:
    key = resource.key
    if key.generated is not Generated.IDENTITY or not key.chosen or key.column.name in values:
        row = await connection.fetch_one(store.insert_statement(resource), values)
        assert row is not None  # RETURNING gives the row that was inserted
        return row
    for _ in range(SKIPS_MAX):
        row = await connection.fetch_one(store.insert_new_statement(resource), values)
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
    connection: Connection, scope: Scope, parent: Row | None, shape: Shape, entity: Json, path: Mapping[str, Json]
) -> Row:
    """Insert one entity with its references, links and children."""
    resource = scope.resource
    draft = draft_of(shape, entity)
    fix(resource, scope.fixed, path, draft.values)
    if scope.via is not None and parent is not None:
        column = resource.reference(scope.via).column
        draft.fixed[column.name] = parent[scope.steps[-1].resource.identity.name]
    row = await insert_row(connection, resource, draft)
    links = store.scope_link(scope)
    if links is not None and parent is not None:
        here = parent[scope.steps[-1].resource.identity.name]
        await store.link(connection, links, here, [row[resource.identity.name]])
    await fill_collections(connection, resource, row, draft)
    return row


async def tie(connection: Connection, draft: Draft) -> None:
    """Fill the columns of the references. Raises Problem: what one names does not exist.

    A row that is named by its primary key is not looked up: the foreign key refuses what does not exist. Others are
    looked up and held until the end.
    """
    for reference, shown, value in draft.references:
        if is_plain(reference, shown):
            draft.values[reference.column.name] = key_of(reference.target(), shown, value)
        else:
            found = await identity_of(connection, reference.target(), shown, value)
            draft.values[reference.column.name] = found
    draft.values.update(draft.fixed)


def is_plain(reference: Reference, shown: Shown) -> bool:
    """Whether a body names the target by its primary key, and a foreign key of a known name watches over it."""
    return shown.nested is None and reference.target().is_known_by_identity and foreign_key(reference) is not None


@cache
def foreign_key(reference: Reference) -> str | None:
    """The name of the constraint behind a reference."""
    names = (key.constraint.name for key in reference.column.foreign_keys if key.constraint is not None)
    return next((str(name) for name in names if name), None)


def key_of(target: Resource, shown: Shown, value: Json) -> Any:
    """The value of a plain reference. Raises Problem: no key can be like this."""
    try:
        return to_column(target.key.type, value)
    except Unstorable as exc:
        raise unknown(target, shown) from exc


def dangling(draft: Draft, error: asyncpg.ForeignKeyViolationError) -> Problem:
    """What a refused foreign key means for the client."""
    for reference, shown, _ in draft.references:
        if error.constraint_name == foreign_key(reference):
            return unknown(reference.target(), shown)
    return translate(error)


def unknown(target: Resource, shown: Shown) -> Problem:
    """A reference that names nothing."""
    fault = Fault(f"/{shown.name}", "names nothing that exists")
    return Problem(Kind.UNKNOWN_REFERENCE, f"There is no such {target.name}.", faults=[fault])


async def identity_of(connection: Connection, target: Resource, shown: Shown, value: Json) -> Any:
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
        raise unknown(target, shown)
    return row[target.identity.name]


async def match_or_make(connection: Connection, target: Resource, shown: Shown, value: Json) -> Row | None:
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
    connection: Connection, resource: Resource, row: Row, draft: Draft, *, replace: bool = False
) -> None:
    """Links and children that the body lists; `replace`: instead of those that were there."""
    identity = row[resource.identity.name]
    for collection, shown, items in draft.collections:
        target = collection.target()
        if isinstance(collection, Links):
            if replace:
                await connection.execute(store.unlink_all_statement(collection), {store.PARENT: identity})
            found = [await identity_of(connection, target, shown, item) for item in items]
            await store.link(connection, collection, identity, found)
        elif shown.nested is not None:
            await fill_children(connection, collection, identity, shown.nested, items, replace=replace)


async def fill_children(
    connection: Connection,
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
        await connection.execute(store.orphan_statement(children), {store.PARENT: identity})
    for item in items:
        draft = draft_of(shape, item)
        draft.fixed[target.reference(children.via).column.name] = identity
        await fill_collections(connection, target, await insert_row(connection, target, draft), draft)


async def apply(
    connection: Connection,
    resource: Resource,
    row: Row,
    shape: Shape,
    entity: Json,
    *,
    whole: bool,
    kept: Container[str | None] = (),
) -> Row:
    """Write an entity over a row. An entity that says nothing changes nothing.

    `kept`: fields and references that a replacement leaves as they are where the entity does not speak of them.
    """
    draft = draft_of(shape, entity)
    await tie(connection, draft)
    if whole:
        reset_absent(shape, entity, draft, kept)
    values = draft.values
    for field in resource.fields:  # nobody changes a key or what the server makes
        if field is resource.key or field.generated is not None:
            values.pop(field.column.name, None)
    changed: Row | None = row
    if values:
        await seal(resource, values)
        values = {**stamp(resource, row, values), store.IDENTITY: row[resource.identity.name]}
        try:
            changed = await connection.fetch_one(store.update_statement(resource), values)
        except asyncpg.ForeignKeyViolationError as exc:
            raise dangling(draft, exc) from exc
    if changed is None:  # deleted meanwhile
        raise Problem(Kind.NOT_FOUND, f"There is no such {resource.name}.")
    await fill_collections(connection, resource, changed, draft, replace=True)
    return changed


def reset_absent(shape: Shape, entity: Json, draft: Draft, kept: Container[str | None]) -> None:
    """A replacement that leaves out an optional property resets it; a column that must have a value keeps it."""
    for shown, source in store.sources(shape):
        if shown.source in kept or (isinstance(entity, dict) and shown.name in entity):
            continue
        if isinstance(source, Field) and source.generated is None:
            if source.default is not ABSENT:
                draft.values[source.column.name] = to_column(source.type, source.default)
            elif source.column.nullable:
                draft.values[source.column.name] = None
        elif isinstance(source, Reference) and source.column.nullable:
            draft.values[source.column.name] = None
