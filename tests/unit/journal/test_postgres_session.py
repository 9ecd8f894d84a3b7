"""Trouble with PostgreSQL is the journal's trouble, whatever asyncpg calls it."""

import asyncpg
import pytest

from agent.errors import JournalUnavailable
from agent.journal.postgres.session import translated


@pytest.mark.parametrize(
    "trouble",
    [
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_a_cut_connection_is_an_unavailable_journal(trouble: Exception) -> None:
    """The first one ended an agent in a storm: it is neither a PostgresError nor an InterfaceError."""
    with pytest.raises(JournalUnavailable), translated():
        raise trouble
