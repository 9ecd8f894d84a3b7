"""Pages of rows: filters, search, order, and what lies behind a cursor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    exists,
    false,
    func,
    or_,
    select,
)
from sqlalchemy import cast as cast_column
from sqlalchemy.dialects.postgresql import ARRAY

from app.model import Filter, Operator, Resource, Scope, Search, Type
from app.store.rows import below, fixed_clauses, scope_link
from app.values import to_column

Json = Any
_TEXT = Text()


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
    return None if target.is_known_by_identity else target.key.column


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
