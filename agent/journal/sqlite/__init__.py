"""The journal of one agent: a SQLite file in WAL mode, `synchronous=FULL`, written by one thread (group.py).

No second agent can open the file (a lock beside it); other commands read it with `open_readonly`. Lease time is the
clock's monotonic time, which is good enough because opening the file releases every lease: whoever held one is dead.
Statements stay within SQLite 3.26 (RHEL 8), so there is no RETURNING and no UPDATE FROM.
"""

from agent.journal.sqlite.journal import SqliteJournal

__all__ = ["SqliteJournal"]
