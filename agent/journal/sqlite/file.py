"""The file itself: its lock, its connections, its schema."""

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.errors import EnvironmentUnfit, JournalUnavailable
from agent.journal import sql

LATEST: Final = max(number for number, _ in sql.migrations("sqlite"))
STATEMENTS = 300  # prepared ones that are kept: some fifty, and ten more by number of rows
WRITER = (
    "page_size=8192",  # of a new file; an old one keeps its own
    "journal_mode=WAL",
    "synchronous=FULL",
    "cache_size=-65536",  # 64 MiB: the index of idempotency keys is read at random
    "temp_store=MEMORY",
    "wal_autocheckpoint=2000",
)
READER = ("query_only=ON",)


def lock(path: Path) -> int:
    """Hold the agent's lock on the journal at `path` until the descriptor is closed (or the process dies).

    Raises EnvironmentUnfit if another process holds it.
    """
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise EnvironmentUnfit(
            f"another agent is using the journal {path}",
            remedy="stop it, give this one a BACKWRIGHT_WORKSPACE of its own, or share a PostgreSQL journal",
        ) from error
    return descriptor


def connect(path: Path, pragmas: Sequence[str]) -> sqlite3.Connection:
    """A connection to a file that is there, in autocommit mode, for any thread. Raises JournalUnavailable."""
    # A reader that may write the folder opens it for writing: WAL needs its -shm file, which a clean stop removes.
    mode = "rw" if os.access(path, os.W_OK) else "ro"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=STATEMENTS
        )
    except sqlite3.Error as error:
        raise unavailable(error) from error
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Run the scripts that this file has not seen, each in a transaction of its own."""
    seen = version(connection)
    if seen > LATEST:
        raise sqlite3.DatabaseError("a later release has written it")
    for number, script in sql.migrations("sqlite"):
        if number > seen:
            connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number:d}; COMMIT;")


def version(connection: sqlite3.Connection) -> int:
    """Number of the last script that the file has seen."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def unavailable(error: sqlite3.Error) -> JournalUnavailable:
    """SQLite's trouble in our words."""
    return JournalUnavailable(f"SQLite: {error}", retry_after_s=1.0)
