"""Rows for a running service: one of each resource, parents first, through its own API where that creates them.

Everything goes by the manifest and PostgreSQL's catalogue. A resource that no derived operation creates (or that the
API refuses to create from the manifest's sample) gets a row by SQL, from its sample; both are reported.
"""

import copy
import decimal
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx

from agent.gates.catalogue import Connection, ForeignKey, columns, foreign_keys, quoted
from agent.gates.live import LiveService, NotReady, client, fetch
from agent.gates.requests import operation_request

DERIVED = ("derived", "declared")
# Values for required columns that the sample does not have: keys and times that the service itself would make.
PLACEHOLDERS: Mapping[str, Any] = {
    "int2": 1, "int4": 1, "int8": 1, "numeric": 1, "float4": 1, "float8": 1, "bool": False, "date": "2026-01-31",
    "timestamp": "2026-01-31T12:00:00Z", "timestamptz": "2026-01-31T12:00:00Z", "json": {}, "jsonb": {},
    "uuid": "0b6e3b0a-2f5c-4b1e-9d3a-5a7c1f0e8d42",
}  # fmt: skip


@dataclass(slots=True)
class Planter:
    """Creates one row per resource; remembers the rows by resource name."""

    service: LiveService
    http: httpx.AsyncClient
    connection: Connection
    keys: Sequence[ForeignKey]
    rows: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    inserted: list[str] = field(default_factory=list)  # by SQL

    def details(self) -> dict[str, Any]:
        """What was not made through the API, for the evidence."""
        return {"seeded_by_sql": list(self.inserted), "seeding_refused": dict(self.refused)}

    @property
    def resources(self) -> dict[str, Mapping[str, Any]]:
        """Resources of the manifest by name."""
        return {resource["name"]: resource for resource in self.service.facts.get("resources", ())}

    async def plant(self, name: str) -> Mapping[str, Any] | None:
        """A row of the resource, made if there is none yet; None if there is no way."""
        if name not in self.rows:
            self.rows[name] = None  # a resource that needs itself does without
            if (operation := self._creator(name)) is not None:
                await self._create(operation)
            self.rows[name] = await self._newest(name)
            if self.rows[name] is None and await self._insert(name):
                self.rows[name] = await self._newest(name)
        return self.rows[name]

    async def path_values(self, operation: Mapping[str, Any]) -> dict[str, str] | None:
        """Real values for the ancestors in an operation's path; None if one of them cannot be made."""
        values: dict[str, str] = {}
        for key in operation.get("path_keys", ()):
            if key["role"] != "ancestor":
                continue
            row = await self.plant(key["resource"])
            column = column_of(self.resources[key["resource"]], key["property"])
            if row is None or column is None or row.get(column) is None:
                return None
            values[key["parameter"]] = shown(row[column])
        return values

    async def body(self, operation: Mapping[str, Any]) -> Any:
        """The manifest's sample with references to rows that exist."""
        body = copy.deepcopy((operation.get("sample") or {}).get("body"))
        resource = self.resources.get(operation.get("resource") or "")
        entity = entity_in(body, resource) if resource else None
        if resource is None or entity is None:
            return body
        in_path = {key["resource"] for key in operation["path_keys"] if key["role"] == "ancestor"}
        for reference in resource["references"]:
            target, place = self._resource_of(reference["table"]), reference["property"]
            if target is None or place not in entity or target["name"] in in_path:
                continue
            row = await self.plant(target["name"]) if target["name"] != resource["name"] else None
            if row is not None:
                put_reference(entity, place, target["key"], jsonable(row[target["key_column"]]))
            elif target["name"] == resource["name"]:
                del entity[place]
        return body

    def _resource_of(self, table: str) -> Mapping[str, Any] | None:
        return next((r for r in self.resources.values() if r["table"] == table), None)

    def _creator(self, name: str) -> Mapping[str, Any] | None:
        creators = [
            operation
            for operation in derived(self.service.facts, "create", "create_many", "upsert")
            if operation["resource"] == name
        ]
        return min(
            creators, key=lambda operation: (len(operation.get("path_keys", ())), operation["action"]), default=None
        )

    async def _create(self, operation: Mapping[str, Any]) -> None:
        path = await self.path_values(operation)
        if path is None:
            self.refused[operation["id"]] = "no parent row"
            return
        request = operation_request(operation, path=path, body=await self.body(operation))
        proof = self.service.credentials.for_security(operation.get("security", ()))
        answer = await fetch(
            self.http, request.method, self.service.url + request.target(proof.query),
            headers=request.headers(proof.headers, proof.cookies), content=request.body,
        )  # fmt: skip
        if answer is None or not 200 <= answer.status_code < 300:
            self.refused[operation["id"]] = "no answer" if answer is None else f"{answer.status_code}"

    async def _insert(self, name: str) -> bool:
        """A row from the resource's sample, references to planted rows, and placeholders for what is still required."""
        resource = self.resources[name]
        table = resource["table"]
        found = await columns(self.connection, table)
        given = resource.get("sample")
        sample = given if isinstance(given, dict) else {}
        values: dict[str, Any] = {
            column: sample[name] for name, column in resource["fields"].items() if sample.get(name) is not None
        }
        for key in self.keys:
            if is_table(key.child, table) and (parent := await self._parent_row(key)) is not None:
                values |= {c: jsonable(parent[t]) for c, t in zip(key.columns, key.targets, strict=True)}
        for column in found:
            if column.required and not (column.generated or column.has_default or column.name in values):
                values[column.name] = PLACEHOLDERS.get(column.type, "text")
        names = [column.name for column in found if column.name in values and not column.generated]
        statement = row_statement(table, names)
        try:
            await self.connection.execute(statement, json.dumps(values))
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.SyntaxOrAccessError) as exc:
            self.refused[name] = f"no row by SQL: {type(exc).__name__}"
            return False
        self.inserted.append(name)
        return True

    async def _parent_row(self, key: ForeignKey) -> Mapping[str, Any] | None:
        parent = next((r for r in self.resources.values() if is_table(key.parent, r["table"])), None)
        return (
            await self.plant(parent["name"])
            if parent is not None and not is_table(key.child, parent["table"])
            else None
        )

    async def _newest(self, name: str) -> Mapping[str, Any] | None:
        # A table that only ever grew: the physically last row is the newest.
        table = quoted(self.resources[name]["table"])
        row = await self.connection.fetchrow(f"select * from {table} order by ctid desc limit 1")  # noqa: S608 - quoted
        return None if row is None else dict(row)


@asynccontextmanager
async def planting(service: LiveService) -> AsyncIterator[Planter]:
    """A planter with one row of each resource planted. Raises NotReady when the database is not what the manifest says."""
    try:
        connection = await asyncpg.connect(service.dsn)
        try:
            async with client() as http:
                planter = Planter(service, http, connection, await foreign_keys(connection))
                for name in planter.resources:
                    await planter.plant(name)
                yield planter
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        raise NotReady(f"the database does not hold what the manifest says: {type(exc).__name__}") from exc


async def plant_all(service: LiveService) -> dict[str, Any]:
    """One row of each resource; what of it was not made through the API. Raises NotReady."""
    async with planting(service) as planter:
        return planter.details()


def derived(facts: Mapping[str, Any], *actions: str) -> list[Mapping[str, Any]]:
    """Derived operations with one of these actions, in the document's order."""
    return [o for o in facts.get("operations", ()) if o["verdict"] in DERIVED and o.get("action") in actions]


def column_of(resource: Mapping[str, Any], name: str) -> str | None:
    """Column of a property, by the manifest; None where the property is not stored."""
    column = resource["fields"].get(name, resource["key_column"] if name == resource["key"] else None)
    return None if column is None else str(column)


def row_statement(table: str, names: Iterable[str]) -> str:
    """INSERT of one row with these columns, its values in the JSON object `$1`."""
    columns = ", ".join(map(quoted, names))
    # Not `null::"trigger"`: where a table has the name of a type of PostgreSQL's own, that type is meant.
    return (
        f"insert into {quoted(table)} ({columns}) select {columns} "  # noqa: S608 - identifiers of the catalogue, quoted
        f"from jsonb_populate_record((select t from {quoted(table)} t limit 0), $1::jsonb)"
    )


def entity_in(body: Any, resource: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object in a body that is the resource's representation: the one with most of its properties, outermost first.

    Bodies wrap it (`{"catalog": {…}}`) or hold a list of it.
    """
    names = set(resource["fields"]) | {reference["property"] for reference in resource["references"]}
    objects = list(_objects(body))
    return max(objects, key=lambda found: len(names & found.keys()), default=None)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _objects(inner)


def put_reference(body: dict[str, Any], place: str, key: str, value: Any) -> None:
    """Point the property at a row: an embedded object gets the key inside."""
    if isinstance(body[place], dict):
        body[place] = {**body[place], key: value}
    elif isinstance(body[place], list):
        body[place] = [value if not isinstance(element, dict) else {**element, key: value} for element in body[place]]
    else:
        body[place] = value


def shown(value: Any) -> str:
    """A column's value as it stands in a path."""
    return str(jsonable(value))


def jsonable(value: Any) -> Any:
    """A column's value as JSON has it."""
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, bool | int | float | str) or value is None else _text(value)


def _text(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def path_query(
    operation: Mapping[str, Any], resources: Mapping[str, Mapping[str, Any]], keys: Iterable[ForeignKey]
) -> str | None:
    """SELECT of up to `$1` consistent sets of path values, one column per path key, spread over the rows.

    None when the manifest's tables are not joined by foreign keys, or a property has no column.
    """
    path_keys = operation.get("path_keys", ())
    if any(key["resource"] not in resources for key in path_keys):
        return None
    selected, joined = [], ""
    for number, key in enumerate(reversed(path_keys)):
        resource = resources[key["resource"]]
        column = column_of(resource, key["property"])
        if column is None:
            return None
        selected.append(f"t{number}.{quoted(column)}")
        if number:
            child = resources[path_keys[len(path_keys) - number]["resource"]]
            link = next(
                (k for k in keys if is_table(k.child, child["table"]) and is_table(k.parent, resource["table"])), None
            )
            if link is None:
                return None
            on = " and ".join(
                f"t{number - 1}.{quoted(c)} = t{number}.{quoted(t)}"
                for c, t in zip(link.columns, link.targets, strict=True)
            )
            joined += f" join {quoted(resource['table'])} t{number} on {on}"
    table = quoted(resources[path_keys[-1]["resource"]]["table"])
    order = f"md5({selected[0]}::text)"
    columns = ", ".join(reversed(selected))
    return f"select {columns} from {table} t0{joined} order by {order} limit $1::int"  # noqa: S608 - quoted identifiers


def is_table(printed: str, table: str) -> bool:
    """Whether `printed`, as PostgreSQL prints a relation (quoted where needed), is `table`."""
    return printed in (table, quoted(table))
