"""What every artefact store promises (agent/artifacts/port.py), on all adapters."""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from agent.artifacts.folder import FolderArtifacts
from agent.artifacts.memory import MemoryArtifacts
from agent.artifacts.port import ArtifactMissing, Artifacts
from agent.artifacts.postgres import PostgresArtifacts
from agent.errors import EnvironmentUnfit, PermanentError, TransientError

UNKNOWN = "sha256:" + "0" * 64


@pytest.fixture(params=["memory", "folder", "postgres"])
async def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Artifacts]:
    """The adapter under test, empty."""
    if request.param == "memory":
        yield MemoryArtifacts()
    elif request.param == "folder":
        yield FolderArtifacts(tmp_path / "deep" / "artifacts")
    else:
        store = PostgresArtifacts(request.getfixturevalue("postgres_dsn"))
        yield store
        await store.close()


async def test_what_was_put_comes_back_under_the_name_of_its_hash(artifacts: Artifacts) -> None:
    """Everyone can compute the name: a journal row needs nothing else."""
    content = b"\x00\xff\r\n" * 1000

    name = await artifacts.put(content)

    assert name == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert await artifacts.get(name) == content
    assert await artifacts.has(name)


@pytest.mark.parametrize("content", [b"", b"x", bytes(3 * 1024**2)], ids=["empty", "one byte", "3 MiB"])
async def test_any_size_is_kept(artifacts: Artifacts, content: bytes) -> None:
    """A log may be empty, a document large."""
    assert await artifacts.get(await artifacts.put(content)) == content


async def test_the_same_bytes_again_are_harmless(artifacts: Artifacts) -> None:
    """A step that is repeated after a crash stores what it stored before."""
    first, second = await artifacts.put(b"same"), await artifacts.put(b"same")

    assert first == second
    assert await artifacts.collect(frozenset(), older_than_s=0) == 1


async def test_many_puts_at_once_of_the_same_bytes_agree(artifacts: Artifacts) -> None:
    """Two attempts of one task may both be alive for a moment."""
    names = await asyncio.gather(*(artifacts.put(b"race") for _ in range(20)))

    assert len(set(names)) == 1
    assert await artifacts.get(names[0]) == b"race"


async def test_an_unknown_name_is_missing(artifacts: Artifacts) -> None:
    """Missing is told apart from malformed: one may heal, the other never."""
    assert not await artifacts.has(UNKNOWN)
    with pytest.raises(ArtifactMissing):
        await artifacts.get(UNKNOWN)


@pytest.mark.parametrize(
    "name",
    ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "sha256:../../etc/passwd", UNKNOWN + "\n", "md5:0"],
)
async def test_a_name_of_another_form_is_refused(artifacts: Artifacts, name: str) -> None:
    """`dataref` comes from the bus: it must never become a path."""
    with pytest.raises(ValueError, match="not the name"):
        await artifacts.get(name)
    with pytest.raises(ValueError, match="not the name"):
        await artifacts.has(name)


async def test_collect_spares_what_is_kept_and_what_is_young(artifacts: Artifacts) -> None:
    """A young artefact may belong to a step whose checkpoint is being written."""
    kept, loose = await artifacts.put(b"kept"), await artifacts.put(b"loose")

    assert await artifacts.collect(frozenset({kept}), older_than_s=3600) == 0
    assert await artifacts.collect(frozenset({kept}), older_than_s=0) == 1

    assert await artifacts.has(kept)
    assert not await artifacts.has(loose)


async def test_collect_of_an_empty_store_removes_nothing(artifacts: Artifacts) -> None:
    """The janitor may come before the first artefact."""
    assert await artifacts.collect(frozenset(), older_than_s=0) == 0


async def test_put_and_collect_at_once_lose_nothing(artifacts: Artifacts) -> None:
    """What `put` returned is there, even if a collector went through at that moment."""
    await artifacts.put(b"old")

    async def put() -> str:
        return await artifacts.put(b"old")

    for _ in range(20):
        # Nothing here is an hour old, so nothing may go, however put and collect interleave.
        name, *_rest = await asyncio.gather(put(), artifacts.collect(frozenset(), older_than_s=3600), put())
        assert await artifacts.has(name)


async def test_folder_keeps_files_to_itself_and_leaves_no_half_files(tmp_path: Path) -> None:
    """Documents may be confidential, and a reader must never see a part."""
    store = FolderArtifacts(tmp_path / "artifacts")
    name = await store.put(b"secret")
    digest = name.removeprefix("sha256:")
    path = tmp_path / "artifacts" / digest[:2] / digest[2:]

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list((tmp_path / "artifacts" / "incoming").iterdir()) == []


async def test_folder_does_not_deliver_damaged_bytes_and_put_repairs_them(tmp_path: Path) -> None:
    """A disk may rot; the hash is checked at each read."""
    store = FolderArtifacts(tmp_path)
    name = await store.put(b"right")
    digest = name.removeprefix("sha256:")
    (tmp_path / digest[:2] / digest[2:]).write_bytes(b"wrong")

    with pytest.raises(ArtifactMissing, match="damaged"):
        await store.get(name)
    await store.put(b"right")

    assert await store.get(name) == b"right"


async def test_folder_renews_the_age_of_what_is_put_again(tmp_path: Path) -> None:
    """Otherwise a collector could take what a new step has just stored."""
    store = FolderArtifacts(tmp_path)
    name = await store.put(b"again")
    digest = name.removeprefix("sha256:")
    os.utime(tmp_path / digest[:2] / digest[2:], (0, 0))

    await store.put(b"again")

    assert await store.collect(frozenset(), older_than_s=3600) == 0


async def test_folder_that_cannot_be_written_is_an_unfit_environment(tmp_path: Path) -> None:
    """A full or read-only disk stops the agent with one clear line; retrying would not help."""
    (tmp_path / "file").write_bytes(b"")
    store = FolderArtifacts(tmp_path / "file" / "artifacts")

    with pytest.raises((EnvironmentUnfit, TransientError)):
        await store.put(b"x")


async def test_postgres_renews_the_age_and_two_stores_share(postgres_dsn: str) -> None:
    """Workers that share no disk meet in the database, also when both create the schema at once."""
    first, second = PostgresArtifacts(postgres_dsn), PostgresArtifacts(postgres_dsn)
    name, same = await asyncio.gather(first.put(b"shared"), second.put(b"shared"))
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("UPDATE backwright_artifacts.artifact SET stored_at = 'epoch'")

    await second.put(b"shared")

    assert name == same
    assert await first.collect(frozenset(), older_than_s=3600) == 0
    assert await first.get(name) == b"shared"
    for closing in (connection, first, second):
        await closing.close()


async def test_postgres_refuses_what_is_too_large(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row goes through memory in one piece; retrying would not make it smaller."""
    monkeypatch.setattr("agent.artifacts.postgres.LARGEST_BYTES", 10)
    store = PostgresArtifacts(postgres_dsn)

    with pytest.raises(PermanentError, match="larger than"):
        await store.put(b"x" * 11)


async def test_postgres_out_of_reach_is_transient() -> None:
    """A database that restarts must not cost a task."""
    store = PostgresArtifacts("postgresql://nobody:x@127.0.0.1:1/none")

    with pytest.raises(TransientError):
        await store.put(b"x")
