"""Alembic's environment: the service's own driver and settings; offline mode is not supported."""

import asyncio
import os
from typing import Any

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeDecorator

from app.database import async_url
from app.tables import metadata


def render_item(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """Write out a TypeDecorator with its import: alembic alone forgets the latter, and the upgrade fails."""
    if kind == "type" and isinstance(item, TypeDecorator):
        autogen_context.imports.add(f"import {type(item).__module__}")
        return f"{type(item).__module__}.{item!r}"
    return False


def migrate(connection: Connection) -> None:
    """Run what was asked for, in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_item=render_item,
        compare_type=True,
        compare_server_default=False,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    """Connect with the DSN of the caller (tests) or of the environment."""
    dsn = context.config.attributes.get("dsn") or os.environ.get("SERVICE_DATABASE_URL")
    if not dsn:
        raise SystemExit("SERVICE_DATABASE_URL is missing: postgresql://user:password@host:port/database")
    engine = create_async_engine(async_url(dsn), poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(main())
