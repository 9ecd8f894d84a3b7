"""An agent with children, for tests that kill it: `python -m tests.unit.sandbox.victim KIND TOKEN [LEASH]`.

Says one line when its children run, then waits for ever.
"""

import asyncio
import sys
from pathlib import Path

import asyncpg

from agent.sandbox.local import LocalSandbox
from agent.sandbox.port import Command, Leash
from agent.services.embedded import EmbeddedPostgres
from agent.settings import PostgresSettings, SandboxSettings

# A child, a grandchild in a session of its own, and a daemon whose parent is gone: PostgreSQL's ways, and a hostile one's.
TREE = "setsid sleep 1{token} & (setsid sh -c 'sleep 2{token} & sleep 3{token}' &) ; exec sleep 4{token}"


def say(line: str) -> None:
    """To the test, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(kind: str, token: str, leash: Leash) -> None:
    """Start the children of this kind."""
    sandbox = LocalSandbox(SandboxSettings(), Path("unused"))
    if kind == "tree":
        child = await sandbox.start(Command(["sh", "-c", TREE.format(token=token)], cwd=Path("/")), leash=leash)
        say(f"running {sandbox.base}")
        await child.wait()
        say("ended")
        await asyncio.Event().wait()
    async with EmbeddedPostgres(sandbox, PostgresSettings()).server(leash=leash) as server:
        database = await server.database()
        connection = await asyncpg.connect(database.dsn)
        say(f"running {sandbox.base}")
        await asyncio.Event().wait()
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Leash(Path(sys.argv[3])) if len(sys.argv) > 3 else Leash()))
