"""What PostgreSQL itself says about a table, and one row made many. Names come from its catalogue and are quoted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[Any]"  # only its stubs are generic

COLUMNS = """
select a.attname as name, t.typname as type, a.attnotnull as required,
       a.attidentity <> '' or a.attgenerated <> '' as generated, d.adbin is not null as has_default,
       case when t.typname in ('varchar', 'bpchar') and a.atttypmod > 4 then a.atttypmod - 4 end as length
from pg_catalog.pg_attribute a
join pg_catalog.pg_type t on t.oid = a.atttypid
left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""
UNIQUE = """
select array(select a.attname from unnest(i.indkey::int2[]) with ordinality k(n, o)
             join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.n order by k.o)::text[] as columns
from pg_catalog.pg_index i
where i.indrelid = $1::text::regclass and i.indisunique
"""
FOREIGN_KEYS = """
select c.conrelid::regclass::text as child, c.confrelid::regclass::text as parent,
       array(select a.attname from unnest(c.conkey) with ordinality k(n, o)
             join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.n order by k.o)::text[] as columns,
       array(select a.attname from unnest(c.confkey) with ordinality k(n, o)
             join pg_catalog.pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.n order by k.o)::text[] as targets
from pg_catalog.pg_constraint c
where c.contype = 'f'
"""
NUMBERS = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8"})
TEXTS = frozenset({"text", "varchar", "bpchar"})
SUFFIX = 8  # characters that tell copies apart: "-" and up to seven digits


class NotMultipliable(Exception):
    """A row of this table cannot be copied; the message says why."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    type: str
    required: bool
    generated: bool
    has_default: bool
    length: int | None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`child.columns` hold `parent.targets`; table names as `regclass` prints them (quoted where needed)."""

    child: str
    parent: str
    columns: tuple[str, ...]
    targets: tuple[str, ...]


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


async def columns(connection: Connection, table: str) -> list[Column]:
    """Columns of a table, in order."""
    return [Column(**dict(row)) for row in await connection.fetch(COLUMNS, quoted(table))]


async def foreign_keys(connection: Connection) -> list[ForeignKey]:
    """All foreign keys of the database."""
    rows = await connection.fetch(FOREIGN_KEYS)
    return [ForeignKey(r["child"], r["parent"], tuple(r["columns"]), tuple(r["targets"])) for r in rows]


async def row_count(connection: Connection, table: str) -> int:
    """Rows of a table."""
    return int(await connection.fetchval(f"select count(*) from {quoted(table)}"))  # noqa: S608 - quoted identifier


async def multiply(connection: Connection, table: str, copies: int) -> None:
    """Add `copies` copies of one row of `table`: unique columns vary, references and all else are kept; then ANALYZE.

    Raises NotMultipliable.
    """
    found = await columns(connection, table)
    references = {
        c for key in await foreign_keys(connection) if key.child in (table, quoted(table)) for c in key.columns
    }
    unique = [tuple(row["columns"]) for row in await connection.fetch(UNIQUE, quoted(table))]
    statement = copy_statement(table, found, unique, references, copies)
    try:
        await connection.execute(statement, copies)
        await connection.execute(f"vacuum analyze {quoted(table)}")
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as exc:
        raise NotMultipliable(f"copies of a row of {table} break a rule of the table: {type(exc).__name__}") from exc


def copy_statement(
    table: str, found: Sequence[Column], unique: Sequence[Sequence[str]], references: set[str], copies: int
) -> str:
    """INSERT … SELECT that makes `$1` copies of the first row. Raises NotMultipliable."""
    by_name = {column.name: column for column in found}
    omitted = {c.name for c in found if c.generated or (c.has_default and any(c.name in names for names in unique))}
    varied: dict[str, str] = {}
    for names in unique:
        if not omitted.intersection(names) and not varied.keys() & set(names):
            name, expression = _variation([by_name[n] for n in names if n not in references], copies, names, table)
            varied[name] = expression
    kept = [column.name for column in found if column.name not in omitted]
    if not kept:
        return f"insert into {quoted(table)} select from generate_series(1, $1::int)"
    targets = ", ".join(quoted(name) for name in kept)
    values = ", ".join(varied.get(name, f"src.{quoted(name)}") for name in kept)
    return (
        f"insert into {quoted(table)} ({targets}) select {values} "  # noqa: S608 - quoted identifiers from the catalogue
        f"from (select * from {quoted(table)} limit 1) as src, generate_series(1, $1::int) as g"
    )


def _variation(candidates: Sequence[Column], copies: int, names: Sequence[str], table: str) -> tuple[str, str]:
    for column in candidates:
        if expression := vary(column, copies):
            return column.name, expression
    raise NotMultipliable(f"nothing in the unique key ({', '.join(names)}) of {table} can be varied")


def vary(column: Column, copies: int) -> str | None:
    """SQL that differs for each copy `g`; None for a type that cannot tell so many copies apart."""
    source = f"src.{quoted(column.name)}"
    if column.type in NUMBERS:
        return f"{source} + g"
    if column.type == "uuid":
        return f"md5({source}::text || g::text)::uuid"
    if column.type == "date":
        return f"{source} + g"
    if column.type in ("timestamp", "timestamptz"):
        return f"{source} + g * interval '1 second'"
    if column.type in TEXTS and column.length is None:
        return f"case when {source} like '%@%' then g::text || {source} else {source} || '-' || g::text end"
    if column.type in TEXTS and column.length is not None and column.length > SUFFIX:
        room = column.length - SUFFIX
        return (
            f"case when {source} like '%@%' and length({source}) <= {room} then g::text || {source} "
            f"else left({source}, {room}) || '-' || g::text end"
        )
    if column.type in TEXTS and column.length is not None and 10**column.length > copies + 1:
        return f"lpad(g::text, {column.length}, '0')"
    return None
