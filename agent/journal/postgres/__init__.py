"""The journal of many replicas: PostgreSQL."""

from agent.journal.postgres.journal import PostgresJournal
from agent.journal.postgres.session import SCHEMA

__all__ = ["SCHEMA", "PostgresJournal"]
