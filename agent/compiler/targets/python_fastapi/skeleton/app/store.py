"""Rows: every SQL statement of the service is built here, from descriptions, once, and kept.

A kept statement costs nothing to build again and stays prepared in the driver. Single statements run on their own
(autocommit); whoever needs several that belong together opens a transaction (see `app/database.py`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Insert,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import cast as cast_column
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.errors import Kind, Problem
from app.model import (
    Children,
    Collection,
    Field,
    Filter,
    Fixed,
    Links,
    Operator,
    Reference,
    Resource,
    Scope,
    Search,
    Shape,
    Shown,
    Step,
    Type,
)
from app.values import Unstorable, to_column

Json = Any
Row = Mapping[str, Any]
_TEXT = Text()
IDENTITY = "backwright_identity"  # bound names that no column has
PARENT = "backwright_parent"
KEYS = "backwright_keys"


async def fetch_all(connection: AsyncConnection, statement: Select[Any], values: Mapping[str, Any]) -> list[Row]:
    """All rows of a statement, as mappings by column name."""
    return cast("list[Row]", (await connection.execute(statement, dict(values))).mappings().all())


async def fetch_one(
    connection: AsyncConnection, statement: TypedReturnsRows[Any], values: Mapping[str, Any]
) -> Row | None:
    """The first row of a statement, if there is one."""
    return cast("Row | None", (await connection.execute(statement, dict(values))).mappings().first())


# --- One row --------------------------------------------------------------------------------------------------------


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
    connection: AsyncConnection,
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
    return await fetch_one(connection, statement, values)


async def find_equal(connection: AsyncConnection, resource: Resource, values: Mapping[str, Json]) -> Row | None:
    """A row that is equal in some fields, given as JSON; None if there is none."""
    try:
        bound = {
            f"key_{place}": to_column(resource.field(name).type, value)
            for place, (name, value) in enumerate(values.items())
        }
    except Unstorable:
        return None
    return await fetch_one(connection, find_statement(resource, tuple(values), None, None, (), True), bound)


async def walk(
    connection: AsyncConnection, steps: Sequence[Step], path: Mapping[str, Json], *, lock: bool = False
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
    connection: AsyncConnection, scope: Scope, parent: Row | None, path: Mapping[str, Json]
) -> Row | None:
    """The only row of a scope (a singleton)."""
    statement = find_statement(scope.resource, (), scope.via, scope_link(scope), scope.fixed, False)
    try:
        return await fetch_one(connection, statement, scope_values(scope, parent, path))
    except Unstorable:
        return None


def scope_values(scope: Scope, parent: Row | None, path: Mapping[str, Json]) -> dict[str, Any]:
    """What binds the conditions of a scope. Raises Unstorable."""
    values = fixed_values(scope.resource, scope.fixed, path)
    if parent is not None and (scope.via is not None or scope.through is not None):
        values[PARENT] = parent[scope.steps[-1].resource.identity.name]
    return values


# --- Lists ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """One column of an order; nulls come last either way."""

    field: str
    descending: bool = False


def comparison(operator: Operator, left: Any, right: Any) -> ColumnElement[bool]:
    """`left` operator `right`."""
    match operator:
        case Operator.AT_LEAST:
            return cast("ColumnElement[bool]", left >= right)
        case Operator.AT_MOST:
            return cast("ColumnElement[bool]", left <= right)
        case Operator.GREATER:
            return cast("ColumnElement[bool]", left > right)
        case Operator.LESS:
            return cast("ColumnElement[bool]", left < right)
        case Operator.CONTAINS:
            return func.strpos(func.lower(left), func.lower(right)) > 0
        case Operator.IN:
            return cast("ColumnElement[bool]", left == any_(right))
        case _:
            return cast("ColumnElement[bool]", left == right)


def filter_column(resource: Resource, source: str) -> tuple[Column[Any], Type]:
    """The column that a filter compares, and how values for it are written."""
    for field in resource.fields:
        if field.name == source:
            return field.column, field.type
    reference = resource.reference(source)
    return reference.column, reference.target().key.type


def filter_clause(resource: Resource, filter_: Filter) -> ColumnElement[bool]:
    """The comparison of one filter; its value is bound as `f_<parameter>`."""
    column, kind = filter_column(resource, filter_.source)
    name = f"f_{filter_.parameter}"
    if kind is Type.JSON:
        # One element that fits is enough; a value that is no array counts as an array of one.
        array = case((func.jsonb_typeof(column) == "array", column), else_=func.jsonb_build_array(column))
        element = func.jsonb_array_elements_text(array).column_valued("element")
        many = filter_.operator is Operator.IN
        value = bindparam(name, type_=ARRAY(_TEXT) if many else _TEXT)
        return exists(select(element).where(comparison(filter_.operator, element, value)))
    compared = filter_target(resource, filter_.source) or column
    value = bindparam(name, type_=ARRAY(compared.type) if filter_.operator is Operator.IN else compared.type)
    if compared is column:
        return comparison(filter_.operator, column, value)
    identity = compared.table.primary_key.columns[0]
    return column.in_(select(identity).where(comparison(filter_.operator, compared, value)))


def filter_target(resource: Resource, source: str) -> Column[Any] | None:
    """For a reference that holds a hidden row id: the key that clients know."""
    if any(field.name == source for field in resource.fields):
        return None
    target = resource.reference(source).target()
    return None if target.key.column is target.identity else target.key.column


def filter_value(resource: Resource, filter_: Filter, given: Json) -> Any:
    """What to bind for a filter. Raises Unstorable: then no row fits."""
    _, kind = filter_column(resource, filter_.source)
    if filter_.operator is Operator.IN:
        if filter_.separator is not None and isinstance(given, str):
            given = given.split(filter_.separator)
        parts = given if isinstance(given, list) else [given]
        return [str(part) if kind is Type.JSON else to_column(kind, part) for part in parts]
    if isinstance(given, list):
        given = given[0] if given else None
    return str(given) if kind is Type.JSON else to_column(kind, given)


@lru_cache(maxsize=1024)
def list_statement(
    scope: Scope,
    filters: tuple[Filter, ...],
    search: Search | None,
    order: tuple[Order, ...],
    after: tuple[bool, ...] | None,
) -> Select[Any]:
    """A page of a scope. `after`: continue behind the row whose order values are bound; True where one is null."""
    resource = scope.resource
    statement = select(resource.table).where(*conditions(scope, filters))
    if search is not None:
        statement = statement.where(search_clause(resource, search))
    columns = [(resource.field(part.field).column, part.descending) for part in order]
    if after is not None:
        statement = statement.where(behind(columns, after))
    ordered = [_ordered(column, descending) for column, descending in columns]
    return statement.order_by(*ordered).limit(bindparam("limit_")).offset(bindparam("offset_"))


def _ordered(column: Column[Any], descending: bool) -> ColumnElement[Any]:
    ordered = column.desc() if descending else column.asc()
    return ordered.nulls_last() if column.nullable else ordered  # plain where an index can serve


def conditions(scope: Scope, filters: tuple[Filter, ...]) -> list[ColumnElement[bool]]:
    """What a row must fulfil to be in a list."""
    hanging = below(scope.resource, scope.via, scope_link(scope))
    fixed = fixed_clauses(scope.resource, scope.fixed)
    return [*hanging, *fixed, *(filter_clause(scope.resource, filter_) for filter_ in filters)]


def search_clause(resource: Resource, search: Search) -> ColumnElement[bool]:
    """Some field contains the text that is bound as `search_`."""
    text = func.lower(bindparam("search_", type_=_TEXT))
    columns = (cast_column(resource.field(source).column, _TEXT) for source in search.sources)
    return or_(*(func.strpos(func.lower(column), text) > 0 for column in columns))


def behind(columns: Sequence[tuple[Column[Any], bool]], nulls: tuple[bool, ...]) -> ColumnElement[bool]:
    """Rows behind the bound one: equal in the first columns, later in the next (lexicographic, nulls last)."""
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for place, ((column, descending), is_null) in enumerate(zip(columns, nulls, strict=True)):
        value = bindparam(f"after_{place}", type_=column.type)
        later: ColumnElement[bool] = false() if is_null else (column < value if descending else column > value)
        if column.nullable and not is_null:
            later = or_(later, column.is_(None))
        alternatives.append(and_(*equal, later))
        equal.append(column.is_(None) if is_null else column == value)
    return or_(*alternatives)


@lru_cache(maxsize=1024)
def count_statement(scope: Scope, filters: tuple[Filter, ...], search: Search | None) -> Select[Any]:
    """How many rows a list has."""
    counted = select(func.count().label("total")).select_from(scope.resource.table).where(*conditions(scope, filters))
    return counted if search is None else counted.where(search_clause(scope.resource, search))


# --- Showing --------------------------------------------------------------------------------------------------------

Source = Field | Reference | Collection


@cache
def sources(shape: Shape) -> tuple[tuple[Shown, Source], ...]:
    """Each shown property with what it comes from."""
    resource = shape.resource
    named: dict[str, Source] = {}
    for part in (*resource.collections, *resource.references, *resource.fields):
        named[part.name] = part
    return tuple((shown, named[shown.source]) for shown in shape.shown)


async def show(connection: AsyncConnection, shape: Shape, rows: Sequence[Row]) -> list[dict[str, Json]]:
    """Rows as JSON. One query per reference and collection for all rows together, never one per row."""
    parts: list[tuple[Shown, Sequence[Json]]] = [
        (shown, await _values(connection, shown, source, shape.resource, rows)) for shown, source in sources(shape)
    ]
    return [
        {shown.name: values[index] for shown, values in parts if values[index] is not None or shown.null_when_absent}
        for index in range(len(rows))
    ]


async def _values(
    connection: AsyncConnection, shown: Shown, source: Source, resource: Resource, rows: Sequence[Row]
) -> Sequence[Json]:
    if isinstance(source, Field):
        return [row[source.column.name] for row in rows]
    if isinstance(source, Reference):
        return await _targets(connection, source, shown.nested, [row[source.column.name] for row in rows])
    return await _members(connection, source, shown.nested, [row[resource.identity.name] for row in rows])


@cache
def by_identity(resource: Resource) -> Select[Any]:
    """Several rows by primary key."""
    return select(resource.table).where(resource.identity == any_(bindparam(KEYS, type_=ARRAY(resource.identity.type))))


async def _targets(
    connection: AsyncConnection, reference: Reference, nested: Shape | None, identities: list[Any]
) -> Sequence[Json]:
    target = reference.target()
    if nested is None and target.key.column is target.identity:
        return identities
    keys = list({identity for identity in identities if identity is not None})
    rows = await fetch_all(connection, by_identity(target), {KEYS: keys}) if keys else []
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
    connection: AsyncConnection, collection: Collection, nested: Shape | None, identities: list[Any]
) -> Sequence[Json]:
    if not identities:
        return []
    rows = await fetch_all(connection, members_statement(collection), {KEYS: identities})
    target = collection.target()
    shown: Sequence[Json] = [row[target.key.column.name] for row in rows]
    if nested is not None:
        shown = await show(connection, nested, rows)
    grouped: defaultdict[Any, list[Json]] = defaultdict(list)
    for row, value in zip(rows, shown, strict=True):
        grouped[row[PARENT]].append(value)
    return [grouped[identity] for identity in identities]


# --- Writing --------------------------------------------------------------------------------------------------------


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


async def link(connection: AsyncConnection, links: Links, here: Any, there: Sequence[Any]) -> None:
    """Tie rows to a row."""
    if there:
        rows = [{links.here.name: here, links.there.name: identity} for identity in dict.fromkeys(there)]
        await connection.execute(link_statement(links), rows)


@cache
def orphan_statement(children: Children) -> Delete:
    """All children of a row."""
    target = children.target()
    return delete(target.table).where(target.reference(children.via).column == bindparam(PARENT))


@lru_cache(maxsize=256)
def delete_all_statement(scope: Scope, filters: tuple[Filter, ...]) -> Delete:
    """Every row of a scope that the filters leave."""
    return delete(scope.resource.table).where(*conditions(scope, filters))
