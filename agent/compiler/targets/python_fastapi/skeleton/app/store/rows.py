"""One row: by its key, below the row that the path led to."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, exists, select

from app.database import Connection, Row
from app.errors import Kind, Problem
from app.model import Fixed, Links, Resource, Scope, Step
from app.values import Unstorable, to_column

Json = Any
PARENT = "backwright_parent"  # a bound name that no column has


@cache
def find_statement(
    resource: Resource,
    names: tuple[str, ...],
    via: str | None,
    link: Links | None,
    fixed: tuple[Fixed, ...],
    lock: bool,
) -> Select[Any]:
    """A row by some fields (bound as `key_0`…), below a row that a reference or a link table ties it to."""
    statement = select(resource.table).limit(1)
    for place, name in enumerate(names):
        statement = statement.where(resource.field(name).column == bindparam(f"key_{place}"))
    statement = statement.where(*below(resource, via, link), *fixed_clauses(resource, fixed))
    # KEY SHARE: the row must stay while others begin to point at it, but may change meanwhile.
    return statement.with_for_update(key_share=True, read=True, of=resource.table) if lock else statement


def below(resource: Resource, via: str | None, link: Links | None) -> list[ColumnElement[bool]]:
    """The condition that a row hangs on the row bound as PARENT; none for a row that hangs on nothing."""
    if via is not None:
        return [resource.reference(via).column == bindparam(PARENT)]
    if link is not None:
        return [exists().where(link.there == resource.identity, link.here == bindparam(PARENT))]
    return []


def fixed_clauses(resource: Resource, fixed: tuple[Fixed, ...]) -> list[ColumnElement[bool]]:
    """Columns that a path fixes, bound as `fixed_0`…"""
    return [resource.field(part.field).column == bindparam(f"fixed_{place}") for place, part in enumerate(fixed)]


def fixed_values(resource: Resource, fixed: tuple[Fixed, ...], path: Mapping[str, Json]) -> dict[str, Any]:
    """What binds them. Raises Unstorable."""
    return {
        f"fixed_{place}": to_column(resource.field(part.field).type, path.get(part.parameter))
        for place, part in enumerate(fixed)
    }


def links_of(resource: Resource, name: str) -> Links:
    """A many-to-many collection by name."""
    found = resource.collection(name)
    if not isinstance(found, Links):
        raise TypeError(f"{name!r} is no many-to-many collection")
    return found


async def find(
    connection: Connection,
    step: Step,
    value: Json,
    parent: Row | None = None,
    above: Resource | None = None,
    *,
    path: Mapping[str, Json] | None = None,
    lock: bool = False,
) -> Row | None:
    """The row that a value picks below `parent`, a row of `above`; None if there is none."""
    link = links_of(above, step.through) if above is not None and step.through is not None else None
    try:
        values = {"key_0": to_column(step.resource.field(step.field).type, value)}
        values |= fixed_values(step.resource, step.fixed, path or {})
    except Unstorable:
        return None
    if above is not None and parent is not None and (step.via or link):
        values[PARENT] = parent[above.identity.name]
    statement = find_statement(step.resource, (step.field,), step.via, link, step.fixed, lock)
    return await connection.fetch_one(statement, values)


async def find_equal(connection: Connection, resource: Resource, values: Mapping[str, Json]) -> Row | None:
    """A row that is equal in some fields, given as JSON; None if there is none."""
    try:
        bound = {
            f"key_{place}": to_column(resource.field(name).type, value)
            for place, (name, value) in enumerate(values.items())
        }
    except Unstorable:
        return None
    return await connection.fetch_one(find_statement(resource, tuple(values), None, None, (), True), bound)


async def walk(
    connection: Connection, steps: Sequence[Step], path: Mapping[str, Json], *, lock: bool = False
) -> Row | None:
    """The row at the end of a path; None for an empty path. Raises Problem (not found) at the first gap."""
    row: Row | None = None
    above: Resource | None = None
    for step in steps:
        row = await find(connection, step, path.get(step.parameter), row, above, path=path, lock=lock)
        if row is None:
            raise Problem(Kind.NOT_FOUND, f"There is no such {step.resource.name}.")
        above = step.resource
    return row


def scope_link(scope: Scope) -> Links | None:
    """The link table between the last step of a scope and its resource."""
    return links_of(scope.steps[-1].resource, scope.through) if scope.through is not None else None


async def find_in_scope(
    connection: Connection, scope: Scope, parent: Row | None, path: Mapping[str, Json]
) -> Row | None:
    """The only row of a scope (a singleton); None if there is none yet."""
    statement = find_statement(scope.resource, (), scope.via, scope_link(scope), scope.fixed, False)
    try:
        return await connection.fetch_one(statement, scope_values(scope, parent, path))
    except Unstorable:
        return None


async def only_row(connection: Connection, scope: Scope, path: Mapping[str, Json]) -> Row:
    """The only row of a scope, below the row that the path leads to. Raises Problem (not found)."""
    row = await find_in_scope(connection, scope, await walk(connection, scope.steps, path), path)
    if row is None:
        raise Problem(Kind.NOT_FOUND, f"There is no {scope.resource.name} yet.")
    return row


def scope_values(scope: Scope, parent: Row | None, path: Mapping[str, Json]) -> dict[str, Any]:
    """What binds the conditions of a scope. Raises Unstorable."""
    values = fixed_values(scope.resource, scope.fixed, path)
    if parent is not None and (scope.via is not None or scope.through is not None):
        values[PARENT] = parent[scope.steps[-1].resource.identity.name]
    return values
