"""The three stores of the journal, one after the other; a module about one of them has a `store` of its own."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.journals import MemoryStore, PostgresStore, SqliteStore, Store


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """The DSN of one database for this module, made when it is first asked for."""
    made: list[str] = []

    def dsn() -> str:
        if not made:
            made.append(request.getfixturevalue("postgres_server").create())
        return made[0]

    yield dsn
    for each in made:
        request.getfixturevalue("postgres_server").drop(each)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, database: Callable[[], str]) -> AsyncIterator[Store]:
    """An open journal of each kind."""
    made: Store
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = SqliteStore(tmp_path)
    else:
        made = PostgresStore(database())
    await made.open()
    try:
        yield made
    finally:
        await made.close()
