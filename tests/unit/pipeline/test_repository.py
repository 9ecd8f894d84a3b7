"""The delivered repository: commits that depend on nothing but the input, and edits that nobody overwrites."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.fileset import File, FileSet
from agent.pipeline import repository
from agent.pipeline.repository import Conflict, Prepared

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST = {"app/main.py": "one\ntwo\nthree\n", "README.md": "# Orders\n", "data/übung.txt": "ü", 'we"ird.txt': "x"}


def files(texts: Mapping[str, str]) -> FileSet:
    """Texts as a file set with one executable beside them."""
    return FileSet({p: File(t.encode()) for p, t in texts.items()} | {"run.sh": File(b"#!/bin/sh\n", executable=True)})


def git(folder: Path, *arguments: str) -> str:
    """What a person would type."""
    environment = {
        **os.environ, "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org", "GIT_CONFIG_GLOBAL": "/dev/null",
    }  # fmt: skip
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


class Yard:
    """A workspace in which deliveries are made."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.workspace = base / "workspace"
        self.folder = repository.service_folder(self.workspace, "orders")
        self.count = 0

    def scratch(self) -> Path:
        self.count += 1
        folder = self.base / "scratch" / str(self.count)
        folder.mkdir(parents=True)
        return folder

    async def prepare(self, texts: Mapping[str, str], *, day: int = 0) -> Prepared:
        when = WHEN + timedelta(days=day)
        return await repository.prepare(self.folder, self.scratch(), files(texts), when=when, message="Build orders\n")

    async def place(self, prepared: Prepared) -> None:
        await repository.place(self.folder, self.scratch(), prepared, when=WHEN, tag="abc")

    async def deliver(self, texts: Mapping[str, str], *, day: int = 0) -> Prepared:
        prepared = await self.prepare(texts, day=day)
        await self.place(prepared)
        return prepared


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, git's own included, but for what git rewrites without meaning."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def test_the_first_delivery_has_both_branches_and_a_clean_tree(yard: Yard) -> None:
    """From day one `generated` is the compiler's and `main` everybody's."""
    prepared = await yard.deliver(FIRST)

    assert git(yard.folder, "status", "--porcelain") == ""
    assert git(yard.folder, "rev-parse", "main", "generated").split() == [prepared.main, prepared.generated]
    assert git(yard.folder, "branch", "--show-current") == "main"
    assert git(yard.folder, "log", "-1", "--format=%an <%ae> %at %ct %ai") == (
        "Backwright <backwright@localhost> 1772366400 1772366400 2026-03-01 12:00:00 +0000"
    )
    assert FileSet.read(yard.folder).digest == files(FIRST).digest
    assert git(yard.folder, "fsck", "--full") == ""
    assert [path.name for path in yard.folder.parent.iterdir()] == ["orders"]


async def test_equal_input_makes_the_same_commit(yard: Yard, tmp_path: Path) -> None:
    """A step that is repeated after a crash must not make another delivery."""
    again = Yard(tmp_path / "again")

    assert (await yard.prepare(FIRST)).main == (await again.prepare(FIRST)).main


async def test_preparing_changes_nothing_in_the_workspace(yard: Yard) -> None:
    """Only what the journal has recorded under its fence may move anything."""
    await yard.deliver(FIRST)
    before = snapshot(yard.folder)

    await yard.prepare({**FIRST, "app/main.py": "other\n"}, day=1)

    assert snapshot(yard.folder) == before


async def test_a_second_build_moves_an_unedited_main_along(yard: Yard) -> None:
    """Files that are gone vanish, new ones come, `main` follows `generated`."""
    await yard.deliver(FIRST)

    prepared = await yard.deliver({"app/main.py": "one\n2\nthree\n", "new.txt": "new"}, day=1)

    assert not prepared.is_edited
    assert prepared.main == prepared.generated
    assert git(yard.folder, "status", "--porcelain") == ""
    assert not (yard.folder / "README.md").exists()
    assert (yard.folder / "new.txt").read_text() == "new"
    assert git(yard.folder, "rev-list", "--count", "main") == "2"


async def test_edits_elsewhere_are_merged(yard: Yard) -> None:
    """Git's own three-way merge; both lines are there afterwards."""
    await yard.deliver({"app/main.py": "one\n\n\n\n\n\nseven\n"})
    (yard.folder / "app/main.py").write_text("one\n\n\n\n\n\nseven, edited\n")
    git(yard.folder, "commit", "-qam", "my edit")

    prepared = await yard.deliver({"app/main.py": "uno\n\n\n\n\n\nseven\n"}, day=1)

    assert prepared.is_edited
    assert (yard.folder / "app/main.py").read_text() == "uno\n\n\n\n\n\nseven, edited\n"
    assert git(yard.folder, "show", "generated:app/main.py") == "uno\n\n\n\n\n\nseven"
    assert git(yard.folder, "status", "--porcelain") == ""
    assert git(yard.folder, "log", "--format=%an", "main").splitlines().count("Ada") == 1


async def test_a_conflict_is_reported_and_nothing_is_touched(yard: Yard) -> None:
    """An edit is never overwritten: the delivery fails and names the file."""
    await yard.deliver(FIRST)
    (yard.folder / "app/main.py").write_text("one\nmine\nthree\n")
    git(yard.folder, "commit", "-qam", "my edit")
    before = snapshot(yard.folder)

    with pytest.raises(Conflict, match=r"app/main\.py"):
        await yard.deliver({**FIRST, "app/main.py": "one\ntheirs\nthree\n"}, day=1)

    assert snapshot(yard.folder) == before


async def test_edits_that_are_not_committed_are_a_conflict(yard: Yard) -> None:
    """Git would refuse or overwrite; we say which file it is."""
    await yard.deliver(FIRST)
    (yard.folder / "README.md").write_text("# Mine\n")

    with pytest.raises(Conflict, match=r"not committed: README\.md"):
        await yard.prepare({**FIRST, "app/main.py": "new\n"}, day=1)

    assert (yard.folder / "README.md").read_text() == "# Mine\n"


async def test_an_untracked_file_in_the_way_is_a_conflict(yard: Yard) -> None:
    """`git read-tree --reset -u` would overwrite it silently."""
    await yard.deliver(FIRST)
    prepared = await yard.prepare({**FIRST, "notes.txt": "theirs"}, day=1)
    (yard.folder / "notes.txt").write_text("mine")

    with pytest.raises(Conflict, match=r"notes\.txt"):
        await yard.place(prepared)

    assert (yard.folder / "notes.txt").read_text() == "mine"
    assert git(yard.folder, "rev-parse", "main") == prepared.was_main


async def test_another_untracked_file_stays(yard: Yard) -> None:
    """A `.env` or an environment beside the code is nobody's business."""
    await yard.deliver(FIRST)
    (yard.folder / ".env").write_text("SECRET=1")

    await yard.deliver({**FIRST, "app/main.py": "new\n"}, day=1)

    assert (yard.folder / ".env").read_text() == "SECRET=1"


async def test_a_branch_that_moved_in_between_stops_the_delivery(yard: Yard) -> None:
    """Compare-and-swap: what was prepared for another main is not forced in."""
    await yard.deliver(FIRST)
    prepared = await yard.prepare({**FIRST, "app/main.py": "new\n"}, day=1)
    (yard.folder / "README.md").write_text("# Mine\n")
    git(yard.folder, "commit", "-qam", "my edit")
    mine = git(yard.folder, "rev-parse", "main")

    with pytest.raises(Conflict, match="moved"):
        await yard.place(prepared)

    assert git(yard.folder, "rev-parse", "main") == mine
    assert (yard.folder / "README.md").read_text() == "# Mine\n"


async def test_references_move_together_by_compare_and_swap(yard: Yard) -> None:
    """Somebody commits after the last look: git itself refuses, and `generated` does not move alone."""
    first = await yard.deliver(FIRST)
    prepared = await yard.prepare({**FIRST, "app/main.py": "new\n"}, day=1)
    delivered = await repository.Git.borrowing(yard.scratch(), yard.folder, WHEN)
    await delivered.store(yard.folder / ".git" / "objects", prepared.pack)
    git(yard.folder, "commit", "-q", "--allow-empty", "-m", "mine")
    mine = git(yard.folder, "rev-parse", "main")

    with pytest.raises(Conflict, match="moved"):
        await delivered.swap(prepared)

    assert git(yard.folder, "rev-parse", "main", "generated").split() == [mine, first.generated]


async def test_a_zombie_moves_nothing_back(yard: Yard) -> None:
    """It slept between its checkpoint and its delivery; others have delivered that and the next build meanwhile."""
    await yard.deliver(FIRST)
    slept_on = await yard.deliver({**FIRST, "app/main.py": "two\n"}, day=1)
    latest = await yard.deliver({**FIRST, "app/main.py": "three\n"}, day=2)
    before = snapshot(yard.folder)

    with pytest.raises(Conflict, match="moved"):
        await yard.place(slept_on)

    assert snapshot(yard.folder) == before
    assert git(yard.folder, "rev-parse", "main") == latest.main


async def test_another_branch_checked_out_stops_the_delivery(yard: Yard) -> None:
    """Files of another branch cannot be brought up to date."""
    await yard.deliver(FIRST)
    git(yard.folder, "checkout", "-qb", "feature")

    with pytest.raises(Conflict, match="check out `main`"):
        await yard.prepare(FIRST, day=1)


async def test_placing_can_be_repeated_at_any_point(yard: Yard) -> None:
    """A crash may come before or after the references, or halfway through the files."""
    await yard.deliver(FIRST)
    prepared = await yard.prepare({**FIRST, "app/main.py": "new\n", "b.txt": "b"}, day=1)
    await yard.place(prepared)
    await yard.place(prepared)
    # As after a kill between references and files:
    (yard.folder / "b.txt").unlink()
    (yard.folder / "app/main.py").write_text(FIRST["app/main.py"])

    await yard.place(prepared)

    assert git(yard.folder, "status", "--porcelain") == ""
    assert (yard.folder / "b.txt").read_text() == "b"
    assert (yard.folder / "app/main.py").read_text() == "new\n"


def recorded(prepared: Prepared) -> Prepared:
    """What a later attempt knows of it: the checkpoint, as the journal gives it back, and the artefact that it names."""
    return Prepared(**json.loads(json.dumps(prepared.to_json())), pack=prepared.pack)


async def test_a_lost_repository_is_rebuilt_from_what_was_recorded(yard: Yard) -> None:
    """A disk is gone, or another worker goes on: the checkpoint and its artefact make the same commits again."""
    prepared = await yard.deliver(FIRST)
    before = git(yard.folder, "for-each-ref"), git(yard.folder, "ls-tree", "-r", "main")
    shutil.rmtree(yard.folder)

    await yard.place(recorded(prepared))

    assert (git(yard.folder, "for-each-ref"), git(yard.folder, "ls-tree", "-r", "main")) == before
    assert git(yard.folder, "status", "--porcelain") == ""


async def test_references_that_fell_back_are_moved_again(yard: Yard) -> None:
    """A power cut may take back what git had not yet put on the disk; what the journal recorded decides."""
    first = await yard.deliver(FIRST)
    second = await yard.deliver({**FIRST, "README.md": "# Orders 2\n"}, day=1)
    for branch in ("generated", "main"):
        git(yard.folder, "update-ref", f"refs/heads/{branch}", first.main)

    await yard.place(recorded(second))

    assert git(yard.folder, "rev-parse", "main", "generated").split() == [second.main, second.generated]
    assert git(yard.folder, "status", "--porcelain") == ""


async def test_placing_a_new_service_can_be_repeated(yard: Yard) -> None:
    """Left-overs of an attempt that died before the rename are removed, a finished one is recognised."""
    prepared = await yard.prepare(FIRST)
    left_over = yard.folder.parent / ".orders.abc"
    (left_over / ".git").mkdir(parents=True)
    (left_over / "half").write_text("half")

    await yard.place(prepared)
    await yard.place(prepared)

    assert git(yard.folder, "status", "--porcelain") == ""
    assert [path.name for path in yard.folder.parent.iterdir()] == ["orders"]


async def test_nothing_of_the_delivered_repository_is_executed(yard: Yard, tmp_path: Path) -> None:
    """Hooks, filters, merge drivers, monitors and signers in its configuration would run as the agent."""
    await yard.deliver({**FIRST, ".gitattributes": "*.py filter=evil merge=evil diff=evil\n"})
    mark = tmp_path / "executed"
    evil = tmp_path / "evil.sh"
    evil.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    evil.chmod(0o755)
    (yard.folder / "README.md").write_text("# Edited\n")
    git(yard.folder, "commit", "-qam", "my edit")
    for key in (
        "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "merge.evil.driver", "diff.evil.textconv",
        "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "gpg.program", "uploadpack.packObjectsHook",
    ):  # fmt: skip
        git(yard.folder, "config", key, str(evil))
    git(yard.folder, "config", "commit.gpgSign", "true")
    for name in ("reference-transaction", "post-checkout", "post-merge", "pre-commit", "post-index-change", "update"):
        hook = yard.folder / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
        hook.chmod(0o755)

    prepared = await yard.deliver(
        {**FIRST, "app/main.py": "new\n", ".gitattributes": "*.py filter=evil merge=evil\n"}, day=1
    )

    assert prepared.is_edited
    assert (yard.folder / "app/main.py").read_text() == "new\n"
    assert (yard.folder / "README.md").read_text() == "# Edited\n"
    assert not mark.exists()


@pytest.mark.parametrize("place", ["services", "services/orders", "services/orders/.git"])
async def test_a_symbolic_link_is_not_followed(tmp_path: Path, place: str) -> None:
    """The delivery must not end up, or do harm, somewhere else."""
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    outside.mkdir()
    link = workspace / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)

    with pytest.raises(Conflict):
        repository.service_folder(workspace, "orders")


async def test_a_linked_folder_inside_the_service_is_not_written_through(yard: Yard, tmp_path: Path) -> None:
    """Somebody replaced `app/` by a link: what it leads to is not ours."""
    await yard.deliver(FIRST)
    outside = tmp_path / "outside"
    (yard.folder / "app").rename(outside)
    (yard.folder / "app").symlink_to(outside)

    with pytest.raises(Conflict):
        await yard.deliver({**FIRST, "app/main.py": "new\n"}, day=1)

    assert (outside / "main.py").read_text() == FIRST["app/main.py"]


async def test_files_of_others_are_not_taken_over(yard: Yard) -> None:
    """A folder that is no repository of ours holds somebody's work."""
    yard.folder.mkdir(parents=True)
    (yard.folder / "thesis.txt").write_text("mine")

    with pytest.raises(Conflict, match="no repository"):
        await yard.prepare(FIRST)


async def test_an_empty_folder_may_be_there_already(yard: Yard) -> None:
    """`mkdir` beforehand is harmless."""
    yard.folder.mkdir(parents=True)

    await yard.deliver(FIRST)

    assert git(yard.folder, "status", "--porcelain") == ""


async def test_a_repository_without_our_branches_is_left_alone(yard: Yard) -> None:
    """Somebody's own repository of the same name."""
    yard.folder.mkdir(parents=True)
    git(yard.folder, "init", "-q", ".")

    with pytest.raises(Conflict, match="generated"):
        await yard.prepare(FIRST)


async def test_conflicts_of_kinds_are_reported(yard: Yard) -> None:
    """Deleted by one side, changed by the other: git's merge says so, we pass it on."""
    await yard.deliver(FIRST)
    git(yard.folder, "rm", "-q", "app/main.py")
    git(yard.folder, "commit", "-qm", "I need no main")

    with pytest.raises(Conflict, match=r"app/main\.py"):
        await yard.prepare({**FIRST, "app/main.py": "new\n"}, day=1)
