"""Statements that change something: rows, and the links between them."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Delete, Insert, bindparam, delete, insert, update
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.database import Connection
from app.model import Children, Filter, Links, Resource, Scope
from app.store.lists import conditions
from app.store.rows import PARENT

IDENTITY = "backwright_identity"  # a bound name that no column has


@cache
def insert_statement(resource: Resource) -> TypedReturnsRows[Any]:
    """A new row; its columns are those that are bound."""
    return insert(resource.table).returning(*resource.table.c)


@cache
def insert_new_statement(resource: Resource) -> TypedReturnsRows[Any]:
    """A new row with a number of the database's; none if somebody took that number for himself."""
    return (
        insert_or_ignore(resource.table)
        .on_conflict_do_nothing(index_elements=[resource.identity])
        .returning(*resource.table.c)
    )


@cache
def update_statement(resource: Resource) -> TypedReturnsRows[Any]:
    """A changed row; its columns are those that are bound."""
    return update(resource.table).where(resource.identity == bindparam(IDENTITY)).returning(*resource.table.c)


@cache
def delete_statement(resource: Resource) -> TypedReturnsRows[Any]:
    """A row less, by primary key."""
    return delete(resource.table).where(resource.identity == bindparam(IDENTITY)).returning(resource.identity)


@cache
def link_statement(links: Links) -> Insert:
    """A new link; one that exists stays."""
    return insert_or_ignore(links.link).on_conflict_do_nothing()


@cache
def unlink_all_statement(links: Links) -> Delete:
    """All links of a row."""
    return delete(links.link).where(links.here == bindparam(PARENT))


@cache
def unlink_statement(links: Links) -> TypedReturnsRows[Any]:
    """The link between two rows."""
    pair = (links.here == bindparam(PARENT), links.there == bindparam(IDENTITY))
    return delete(links.link).where(*pair).returning(links.there)


async def link(connection: Connection, links: Links, here: Any, there: Sequence[Any]) -> None:
    """Tie rows to a row."""
    if there:
        rows = [{links.here.name: here, links.there.name: identity} for identity in dict.fromkeys(there)]
        await connection.execute_each(link_statement(links), rows)


@cache
def orphan_statement(children: Children) -> Delete:
    """All children of a row."""
    target = children.target()
    return delete(target.table).where(target.reference(children.via).column == bindparam(PARENT))


@lru_cache(maxsize=256)
def delete_all_statement(scope: Scope, filters: tuple[Filter, ...]) -> Delete:
    """Every row of a scope that the filters leave."""
    return delete(scope.resource.table).where(*conditions(scope, filters))
