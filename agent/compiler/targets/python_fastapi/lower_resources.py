"""Resources with their tables: every name of a table, column, key and index, and every type."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from agent.compiler import ir
from agent.compiler.diagnostics import tokens
from agent.compiler.targets.python_fastapi.names import COLUMN_WORDS, KEYWORDS, TABLE_WORDS, Names, limited, snake
from agent.compiler.targets.python_fastapi.project import (
    Collection,
    Column,
    Constraint,
    Field,
    ForeignKey,
    Reference,
    Resource,
    Table,
)

INDEXED_TEXT_MAX = 500  # longer texts do not fit into an index entry (2.7 kB)

_SQL_TYPES = {
    ir.ColumnType.STRING: "Text()",
    ir.ColumnType.INTEGER: "Integer()",
    ir.ColumnType.BIGINT: "BigInteger()",
    ir.ColumnType.NUMERIC: "Numeric()",
    ir.ColumnType.FLOAT: "Double()",
    ir.ColumnType.BOOLEAN: "Boolean()",
    ir.ColumnType.DATE: "Date()",
    ir.ColumnType.DATETIME: "DateTime(timezone=True)",
    ir.ColumnType.UUID: "Uuid(as_uuid=False)",
    ir.ColumnType.JSON: "JSONB(none_as_null=True)",
}
_INTEGERS = (ir.ColumnType.INTEGER, ir.ColumnType.BIGINT)


@dataclass(slots=True)
class _Named:
    """Names of one resource."""

    resource: ir.Resource
    constant: str
    table: str
    identity: str = ""
    identity_type: str = ""
    columns: dict[str, str] = field(default_factory=dict)  # property → column
    references: dict[str, str] = field(default_factory=dict)  # reference → column


def _deletes(operation: ir.Operation, resource: str) -> bool:
    plan = operation.plan
    return plan is not None and plan.resource == resource and plan.action in (ir.Action.DELETE, ir.Action.DELETE_ALL)


def counted(resource: ir.Resource) -> ir.Resource:
    """Numbers that the database counts are bigint, also where the document names no format: numeric cannot be counted."""
    wide = (
        replace(part, type=ir.ColumnType.BIGINT)
        if part.generated is ir.Generated.IDENTITY and part.type is ir.ColumnType.NUMERIC
        else part
        for part in resource.properties
    )
    return replace(resource, properties=tuple(wide))


class Model:
    """Resources with every name and type decided."""

    def __init__(self, api: ir.Api) -> None:
        self.api = api
        constants, tables = Names(), Names(TABLE_WORDS)
        self.named = {
            r.name: _Named(counted(r), constants.give(r.name).upper(), tables.give(r.name)) for r in api.resources
        }
        self._tables = tables
        self._links: dict[tuple[str, str], str] = {}
        self._names = {r.name: Names(words=COLUMN_WORDS | KEYWORDS) for r in api.resources}
        for named in self.named.values():
            self._name_columns(named)
        for named in self.named.values():
            for reference in named.resource.references:
                text = reference.name if snake(reference.name).endswith(("_id", "_key")) else f"{reference.name}_id"
                named.references[reference.name] = self._names[named.resource.name].give(text)

    def _name_columns(self, named: _Named) -> None:
        names, resource = self._names[named.resource.name], named.resource
        for part in resource.properties:
            named.columns[part.name] = names.give(part.name)
        key = property_of(resource, resource.key)
        if resource.key_scope or key.type is ir.ColumnType.JSON or (key.nullable and key.generated is None):
            named.identity, named.identity_type = names.give("row_id"), "BigInteger()"
        else:
            named.identity, named.identity_type = named.columns[resource.key], _SQL_TYPES[key.type]

    def has_row_id(self, named: _Named) -> bool:
        """Whether rows have a hidden number as primary key, because their key is not unique alone."""
        return named.identity not in named.columns.values()

    def link_table(self, owner: str, collection: str) -> str:
        """The name of a many-to-many collection's table."""
        if (owner, collection) not in self._links:
            self._links[owner, collection] = self._tables.give(f"{owner} {collection}")
        return self._links[owner, collection]

    # tables

    def tables(self) -> tuple[Table, ...]:
        """All tables, links last."""
        made = [self._table(named) for named in self.named.values()]
        for named in self.named.values():
            own = (part for part in named.resource.collections if part.through and part.inverse is None)
            made.extend(self._link(named, part) for part in own)
        return tuple(made)

    def _table(self, named: _Named) -> Table:
        resource, columns = named.resource, []
        if self.has_row_id(named):
            columns.append(Column(named.identity, "BigInteger()", False, primary=True, identity=True))
        for part in resource.properties:
            name = named.columns[part.name]
            primary = name == named.identity
            identity = part.generated is ir.Generated.IDENTITY and part.type in _INTEGERS
            nullable = not primary and (part.nullable or not part.required) and not identity
            columns.append(Column(name, _SQL_TYPES[part.type], nullable, primary, identity))
        keys = []
        for reference in resource.references:
            target, name = self.named[reference.target], named.references[reference.name]
            nullable = reference.nullable or not reference.required
            columns.append(Column(name, target.identity_type, nullable))
            keys.append(
                ForeignKey(
                    limited(f"fk_{named.table}_{name}"),
                    name,
                    target.table,
                    target.identity,
                    self.on_delete(reference, nullable),
                )
            )
        uniques = self._uniques(named)
        indexes = self._indexes(named, uniques)
        return Table(named.table, tuple(columns), tuple(keys), uniques, indexes)

    def on_delete(self, part: ir.Reference, nullable: bool) -> str:
        """What happens to a row when the row that it points at is deleted."""
        if part.parent:
            return "CASCADE"
        answers = (one.responses for one in self.api.operations if _deletes(one, part.target))
        if part.target not in self.removable or any("409" in responses for responses in answers):
            return "RESTRICT"
        return "SET NULL" if nullable else "CASCADE"

    @cached_property
    def removable(self) -> frozenset[str]:
        """Resources of which an operation may remove a row: itself, in its parent's body, or with what it refers to."""
        resources = self.api.resources
        found = {
            one.name for one in resources if any(_deletes(operation, one.name) for operation in self.api.operations)
        }
        found |= {part.target for one in resources for part in one.collections if not part.through}
        while more := {
            one.name for one in resources if one.name not in found and any(r.target in found for r in one.references)
        }:
            found |= more
        return frozenset(found)

    def _uniques(self, named: _Named) -> tuple[Constraint, ...]:
        resource, found = named.resource, []
        if self.has_row_id(named):
            scope = [named.references.get(part) or named.columns[part] for part in resource.key_scope]
            found.append((*scope, named.columns[resource.key]))
        found.extend(
            (named.columns[part.name],)
            for part in resource.properties
            if part.unique and part.name != resource.key and part.type is not ir.ColumnType.JSON
        )
        return tuple(Constraint(limited(f"uq_{named.table}_{'_'.join(columns)}"), columns) for columns in found)

    def _indexes(self, named: _Named, uniques: Sequence[Constraint]) -> tuple[Constraint, ...]:
        resource = named.resource
        wanted = list(named.references.values())
        for operation in self.api.operations:
            if operation.plan and operation.plan.resource == resource.name:
                for filter_ in operation.plan.filters:
                    part = next((p for p in resource.properties if p.name == filter_.property), None)
                    if part and filter_.operator is ir.FilterOperator.EQUALS and is_indexable(part):
                        wanted.append(named.columns[part.name])
        served = {unique.columns[0] for unique in uniques} | {named.identity}
        single = [(column,) for column in dict.fromkeys(wanted) if column not in served]
        return tuple(
            Constraint(limited(f"ix_{named.table}_{'_'.join(columns)}"), columns)
            for columns in (
                *single,
                *(pair for pair in dict.fromkeys(self._default_orders(named)) if pair[0] not in served),
            )
        )

    def _default_orders(self, named: _Named) -> Iterator[tuple[str, str]]:
        """(column, key) of the orders in which lists come unless asked otherwise: a page of many rows needs no sort."""
        resource = named.resource
        for operation in self.api.operations:
            plan = operation.plan
            if plan is None or plan.sort is None or plan.resource != resource.name or plan.ancestors:
                continue
            text = default_of(self.api, operation, plan.sort.parameter)
            name, _ = plan.sort.values.get(text) or (text.lstrip("+-"), False)
            part = next((p for p in resource.properties if p.name == name and p.name != resource.key), None)
            if part and is_indexable(part):
                yield named.columns[part.name], named.columns[resource.key]

    def _link(self, owner: _Named, part: ir.Collection) -> Table:
        target = self.named[part.target]
        name = self.link_table(owner.resource.name, part.name)
        here, there = self._link_columns(owner, target)
        columns = (
            Column(here, owner.identity_type, False, primary=True),
            Column(there, target.identity_type, False, primary=True),
        )
        keys = (
            ForeignKey(limited(f"fk_{name}_{here}"), here, owner.table, owner.identity, "CASCADE"),
            ForeignKey(limited(f"fk_{name}_{there}"), there, target.table, target.identity, "CASCADE"),
        )
        return Table(name, columns, keys, (), (Constraint(limited(f"ix_{name}_{there}"), (there,)),))

    def _link_columns(self, owner: _Named, target: _Named) -> tuple[str, str]:
        here = f"{owner.table}_id"
        return here, f"{target.table}_id" if target is not owner else f"other_{target.table}_id"

    # resources

    def resources(self) -> tuple[Resource, ...]:
        """All resources, as app/resources.py describes them."""
        return tuple(self._resource(named) for named in self.named.values())

    def _resource(self, named: _Named) -> Resource:
        resource = named.resource
        taken = self._given_by_clients(resource)
        fields = tuple(
            Field(
                name=part.name,
                column=named.columns[part.name],
                type=part.type.name,
                required=part.required,
                generated=part.generated.name if part.generated else None,
                has_default=part.has_default and part.generated is None,
                default=part.default,
                chosen=part.generated is not None and part.name in taken,
                secret=part.secret,
            )
            for part in resource.properties
        )
        references = tuple(
            Reference(part.name, named.references[part.name], self.named[part.target].constant, part.required)
            for part in resource.references
        )
        return Resource(
            named.constant,
            resource.name,
            named.table,
            named.identity,
            resource.key,
            fields,
            references,
            tuple(self._collection(named, part) for part in resource.collections),
        )

    def _given_by_clients(self, resource: ir.Resource) -> set[str]:
        """Generated properties that some request body takes: the client's value is used."""
        return {
            shown.property
            for operation in self.api.operations
            if operation.body and operation.body.shape and operation.body.shape.resource == resource.name
            for shown in operation.body.shape.fields
        }

    def _collection(self, named: _Named, part: ir.Collection) -> Collection:
        target = self.named[part.target]
        if not part.through:
            return Collection(part.name, target.constant, part.via or "")
        if part.inverse is None:
            here, there = self._link_columns(named, target)
            return Collection(
                part.name, target.constant, None, self.link_table(named.resource.name, part.name), here, there
            )
        there, here = self._link_columns(target, named)
        return Collection(part.name, target.constant, None, self.link_table(part.target, part.inverse), here, there)


def property_of(resource: ir.Resource, name: str) -> ir.Property:
    """A property by name."""
    return next(part for part in resource.properties if part.name == name)


def default_of(api: ir.Api, operation: ir.Operation, name: str) -> str:
    """The text that a query parameter has when a request leaves it out; empty if it has none."""
    pointer = next((p.schema_pointer for p in operation.parameters if p.name == name), None)
    node: Any = api.document
    for part in tokens(pointer) if pointer else ():
        node = node[int(part)] if isinstance(node, list) else node.get(part, {})
    found = node.get("default") if pointer and isinstance(node, dict) else None
    return found if isinstance(found, str) else ""


def is_indexable(part: ir.Property) -> bool:
    """Whether values of a property fit into an index."""
    if part.type is ir.ColumnType.STRING:
        return bool(part.enum) or (part.max_length is not None and part.max_length <= INDEXED_TEXT_MAX)
    return part.type is not ir.ColumnType.JSON
