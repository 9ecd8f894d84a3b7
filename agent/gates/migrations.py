"""migrations: up, down, up on a real PostgreSQL; nothing is left after down, and no drift after up."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from agent.gates.trial import Trial, last_line, measured
from contracts.delivery import Evidence

STEPS = (("upgrade", "head"), ("downgrade", "base"), ("upgrade", "head"), ("check",))
# Alembic keeps its own table, empty, after a downgrade to base.
OBJECTS = """
select c.relname
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and c.relkind in ('r', 'v', 'm', 'S', 'p', 'f')
  and c.relname <> 'alembic_version'
union all
select t.typname
from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and t.typtype in ('e', 'd')
order by 1
"""


@measured("migrations")
async def check(trial: Trial) -> Evidence:
    """Run the four steps; look at the catalogue after each of the first two."""
    alembic = trial.runtime.tool("alembic")
    made: list[str] = []
    left: list[str] = []
    fault: str | None = None
    async with trial.tools.databases.server(leash=trial.tools.leash) as server:
        database = await server.database()
        for number, step in enumerate(STEPS):
            done = await trial.run(alembic, *step, environment={"SERVICE_DATABASE_URL": database.dsn})
            if done.exit_code:
                fault = f"alembic {' '.join(step)} ended with {done.exit_code}: {last_line(done.output)}"
                break
            if number == 0:
                made = await objects(database.dsn)
            if number == 1 and (left := await objects(database.dsn)):
                fault = f"downgrade leaves {len(left)} objects behind, for example {left[0]}"
                break
    fault = fault or missing_tables(made, trial.subject.facts)
    return await trial.evidence(
        fault is None,
        fault
        or f"up, down, up and no drift on PostgreSQL {server.version.split()[0]}: {len(made)} tables, sequences, types",
        value=fault is None,
        threshold=True,
        tool="alembic",
        details={"postgresql": server.version, "objects": made[:200], "left_after_downgrade": left[:20]},
    )


def missing_tables(made: Sequence[str], facts: Mapping[str, Any]) -> str | None:
    """The fault of an upgrade that makes nothing, although something is stored; a service of hooks alone has no table."""
    return "upgrade makes no table" if facts.get("resources") and not made else None


async def objects(dsn: str) -> list[str]:
    """Tables, views, sequences and own types of the database."""
    connection = await asyncpg.connect(dsn)
    try:
        return [row["relname"] for row in await connection.fetch(OBJECTS)]
    finally:
        await connection.close()
