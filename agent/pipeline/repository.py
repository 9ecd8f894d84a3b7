"""The delivered git repository: branches `generated` (the compiler's) and `main` (everybody's).

What lies in the workspace belongs to somebody else and is data: its hooks, its configuration and its drivers are never
read. So every command runs in a git directory of our own that borrows the objects of the delivered one
(`objects/info/alternates`); into the delivered one go objects, two references by compare-and-swap, the files of `main`
and its index, each in a way that can be repeated.

1. `prepare` makes the commits and changes nothing in the workspace. Author and date come from the request, so that the
   same input makes the same commits.
2. `place` moves them in. A new repository appears by one rename. It can be repeated after a crash at any point.
"""

import asyncio
import hashlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.errors import EnvironmentUnfit, PermanentError
from agent.fileset import FileSet

NAME, EMAIL = "Backwright", "backwright@localhost"
GENERATED, MAIN = "refs/heads/generated", "refs/heads/main"
NOTHING = "0" * 40
MAX_NAMED = 10
# Nothing of the user's, the system's or the repository's configuration; what git would run is switched off by name too.
OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "commit.gpgSign=false",
    "core.autocrlf=false",
)


class Conflict(Exception):
    """What we would deliver does not go together with what lies there. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Commits that are ready. `was` holds the references that they were made for; None where there was none."""

    generated: str
    main: str
    was_generated: str | None
    was_main: str | None
    is_edited: bool  # main holds more than generated: somebody's edits
    pack: bytes = b""  # the new objects; not part of the checkpoint, it names them by their artefact

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "generated": self.generated, "main": self.main, "was_generated": self.was_generated, "was_main": self.was_main,
            "is_edited": self.is_edited,
        }  # fmt: skip


def service_folder(workspace: Path, name: str) -> Path:
    """`services/<name>` in the workspace. Raises Conflict if a symbolic link or something else is in the way."""
    folder = workspace / "services" / name
    if folder.parent.parent != workspace or folder.name != name or name.startswith("."):
        raise PermanentError(f"not a name of a service: {name[:80]!r}")
    for path in (folder.parent, folder, folder / ".git", folder / ".git" / "objects"):
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise Conflict(
                f"{path.relative_to(workspace)} is not a plain folder; move it away and send the request again"
            )
    return folder


async def prepare(folder: Path, scratch: Path, files: FileSet, *, when: datetime, message: str) -> Prepared:
    """Commit `files` on `generated` and merge into `main`, in `scratch` (empty, ours). Raises Conflict."""
    git = await Git.borrowing(scratch, folder, when)
    if _is_occupied(folder) and not (folder / ".git").is_dir():
        raise Conflict(
            f"services/{folder.name} holds files and is no repository; move it away and send the request again"
        )
    was_generated, was_main = await git.delivered(GENERATED), await git.delivered(MAIN)
    if (folder / ".git").is_dir() and (was_generated is None or was_main is None):
        raise Conflict(
            f"services/{folder.name} lacks the branch `generated` or `main`; restore it, or move the folder away"
        )
    if was_main is not None:
        await _check_tree(git, folder, was_main, was_main)
    generated = await git.commit(GENERATED, files, parent=was_generated, message=message)
    await _check_commit(git, generated, files)
    main = generated if was_main is None else await git.merge(was_main, generated, message=message)
    pack = await git.pack([generated, main], without=[c for c in (was_generated, was_main) if c])
    return Prepared(generated, main, was_generated, was_main, main != generated, pack)


async def place(folder: Path, scratch: Path, prepared: Prepared, *, when: datetime, tag: str) -> None:
    """Move what was prepared into the workspace; repeating it is harmless. Raises Conflict if somebody moved in between."""
    git = await Git.borrowing(scratch, folder, when)
    if prepared.was_main is None and not (folder / ".git").is_dir():
        await _place_new(git, folder, prepared, tag=tag)
        return
    present = (await git.delivered(GENERATED), await git.delivered(MAIN))
    if present not in {(prepared.generated, prepared.main), (prepared.was_generated, prepared.was_main)}:
        raise Conflict(
            f"the branches of services/{folder.name} moved while the delivery was made; nothing was changed; send the request again"
        )
    await git.store(folder / ".git" / "objects", prepared.pack)
    await _check_tree(git, folder, prepared.was_main or prepared.main, prepared.main)
    if present != (prepared.generated, prepared.main):
        await git.swap(prepared)
    await git.check_out(folder, prepared.was_main or prepared.main, prepared.main)


async def _place_new(git: "Git", folder: Path, prepared: Prepared, *, tag: str) -> None:
    """Build the repository beside its place and rename it: it is there whole, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / f".{folder.name}.{tag}"
    if beside.exists():  # of an attempt that died here
        shutil.rmtree(beside)
    await git.run("init", "--quiet", "--template=", str(beside), own=False)
    inside = Git(beside / ".git", git.environment)
    await inside.run("symbolic-ref", "HEAD", MAIN)
    await inside.store(beside / ".git" / "objects", prepared.pack)
    await inside.swap(prepared)
    await inside.check_out(beside, prepared.main, prepared.main)
    try:
        beside.rename(folder)  # replaces an empty folder, fails on anything else
    except OSError as exc:
        shutil.rmtree(beside)
        raise Conflict(
            f"services/{folder.name} came into being while the delivery was made; send the request again"
        ) from exc


class Git:
    """Commands in a git directory of ours. `target` is the delivered git directory whose references are read and moved."""

    def __init__(self, directory: Path, environment: Mapping[str, str], target: Path | None = None) -> None:
        self.directory = directory
        self.environment = environment
        self.target = target or directory

    @classmethod
    async def borrowing(cls, scratch: Path, folder: Path, when: datetime) -> "Git":
        """A new git directory in `scratch` that sees the objects of the repository in `folder`, if there is one."""
        date = f"{int(when.timestamp())} +0000"
        environment = {
            "PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": str(scratch),
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0",
            "GIT_AUTHOR_NAME": NAME, "GIT_AUTHOR_EMAIL": EMAIL, "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_NAME": NAME, "GIT_COMMITTER_EMAIL": EMAIL, "GIT_COMMITTER_DATE": date,
        }  # fmt: skip
        delivered = folder / ".git"
        git = cls(scratch / "git", environment, delivered if delivered.is_dir() else None)
        await git.run("init", "--quiet", "--bare", "--template=", str(git.directory), own=False)
        if delivered.is_dir():
            (git.directory / "objects" / "info").mkdir(exist_ok=True)
            (git.directory / "objects" / "info" / "alternates").write_text(f"{_quoted(str(delivered / 'objects'))}\n")
        return git

    async def delivered(self, reference: str) -> str | None:
        """The commit that a branch of the delivered repository points at; None without one."""
        if self.target == self.directory:
            return None
        found = await self.attempt("rev-parse", "--quiet", "--verify", f"{reference}^{{commit}}", directory=self.target)
        return found.decode().strip() if found else None

    async def commit(self, reference: str, files: FileSet, *, parent: str | None, message: str) -> str:
        """A commit with exactly `files`; its id depends on nothing but the arguments and the date."""
        date = self.environment["GIT_COMMITTER_DATE"]
        text = message.encode()
        head = f"commit {reference}\ncommitter {NAME} <{EMAIL}> {date}\ndata {len(text)}\n".encode() + text + b"\n"
        stream = [head, f"from {parent}\n".encode() if parent else b"", b"deleteall\n"]
        for path, file in files.items():
            mode = "100755" if file.executable else "100644"
            stream.append(
                f"M {mode} inline {_quoted(path)}\ndata {len(file.content)}\n".encode() + file.content + b"\n"
            )
        await self.run("fast-import", "--quiet", "--force", given=b"".join(stream))
        return (await self.run("rev-parse", "--verify", reference)).decode().strip()

    async def merge(self, ours: str, theirs: str, *, message: str) -> str:
        """`theirs` merged into `ours` with git's three-way merge. Raises Conflict with the paths."""
        if await self.attempt("merge-base", "--is-ancestor", ours, theirs) is not None:
            return theirs
        tree = self.directory.parent / "tree"
        tree.mkdir()
        options = {"GIT_WORK_TREE": str(tree)}
        await self.run("config", "core.bare", "false")
        await self.run("update-ref", "--no-deref", "HEAD", ours)
        await self.run("read-tree", "--reset", "-u", ours, cwd=tree, more=options)
        if await self.attempt("merge", "--quiet", "--no-ff", "-m", message, theirs, cwd=tree, more=options) is None:
            unmerged = await self.run("diff", "--name-only", "--diff-filter=U", "-z", cwd=tree, more=options)
            paths = [path.decode(errors="replace") for path in unmerged.split(b"\0") if path]
            raise Conflict(_sentence("your edits on `main` and the new code touch the same lines", paths))
        return (await self.run("rev-parse", "--verify", "HEAD")).decode().strip()

    async def pack(self, commits: Sequence[str], *, without: Sequence[str]) -> bytes:
        """The objects of `commits` that `without` does not have."""
        wanted = "".join(f"{commit}\n" for commit in (*commits, *(f"^{commit}" for commit in without)))
        return await self.run("pack-objects", "--quiet", "--revs", "--stdout", given=wanted.encode())

    async def store(self, objects: Path, pack: bytes) -> None:
        """Put a pack into an object folder."""
        more = {"GIT_OBJECT_DIRECTORY": str(objects)}
        await self.run("index-pack", "--stdin", "--fix-thin", given=pack, more=more)

    async def swap(self, prepared: Prepared) -> None:
        """Move both branches in one transaction, if they are where they were. Raises Conflict."""
        moves = (
            f"update {GENERATED} {prepared.generated} {prepared.was_generated or NOTHING}\n"
            f"update {MAIN} {prepared.main} {prepared.was_main or NOTHING}\n"
        )
        if await self.attempt("update-ref", "--stdin", given=moves.encode(), directory=self.target) is None:
            raise Conflict("the branches moved while the delivery was made; send the request again")

    async def tree(self, commit: str) -> dict[str, tuple[str, str]]:
        """Path → (mode, object id) of a commit's files."""
        listed = await self.run("ls-tree", "-r", "-z", "--full-tree", commit)
        rows = (row.split(b"\t", 1) for row in listed.split(b"\0") if row)
        return {os.fsdecode(path): (facts.split()[0].decode(), facts.split()[2].decode()) for facts, path in rows}

    async def check_out(self, folder: Path, before: str, after: str) -> None:
        """Bring the files of `folder` from `before` to `after`, and leave an index that says so."""
        index = self.target / "index.backwright"
        index.unlink(missing_ok=True)
        more = {"GIT_WORK_TREE": str(folder), "GIT_INDEX_FILE": str(index)}
        await self.run("read-tree", before, cwd=folder, more=more)
        await self.attempt("update-index", "-q", "--refresh", cwd=folder, more=more)
        await self.run("read-tree", "--reset", "-u", after, cwd=folder, more=more)
        index.replace(self.target / "index")

    async def run(self, *arguments: str, **options: Any) -> bytes:
        """Standard output of a command; `options` as for `attempt`. Raises PermanentError with git's last line."""
        code, output, errors = await self._execute(arguments, **options)
        if code:
            raise PermanentError(f"git {arguments[0]}: {_line(errors)}")
        return output

    async def attempt(self, *arguments: str, **options: Any) -> bytes | None:
        """Standard output of a command that may say no; None then."""
        code, output, _errors = await self._execute(arguments, **options)
        return None if code else output

    async def _execute(
        self, arguments: Sequence[str], *, given: bytes = b"", directory: Path | None = None, cwd: Path | None = None,
        more: Mapping[str, str] | None = None, own: bool = True,
    ) -> tuple[int, bytes, bytes]:  # fmt: skip
        """Exit code, output and errors. `directory`: another git directory than ours; `own=False`: none at all."""
        options = [part for option in OPTIONS for part in ("-c", option)]
        place = {"GIT_DIR": str(directory or self.directory)} if own else {}
        try:
            process = await asyncio.create_subprocess_exec(
                "git", *options, *arguments, cwd=cwd or self.directory.parent, env={**self.environment, **place, **(more or {})},
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except FileNotFoundError as exc:
            raise EnvironmentUnfit("git is not installed", remedy="install git 2.25 or later") from exc
        try:
            output, errors = await process.communicate(given)
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        return process.returncode or 0, output, errors


async def _check_commit(git: Git, commit: str, files: FileSet) -> None:
    """What was committed is, byte for byte, what was verified."""
    wanted = {path: ("100755" if file.executable else "100644", _blob(file.content)) for path, file in files.items()}
    if await git.tree(commit) != wanted:
        raise PermanentError("the commit does not hold the files that were verified")


async def _check_tree(git: Git, folder: Path, before: str, after: str) -> None:
    """Every file is as `before` or as `after` (an earlier try may have written some): nothing of anybody's gets lost."""
    head = (folder / ".git" / "HEAD").read_text(errors="replace").strip()
    if head != f"ref: {MAIN}":
        raise Conflict(
            f"services/{folder.name} has another branch than `main` checked out; check out `main` and send the request again"
        )
    old, new = await git.tree(before), await git.tree(after)
    present = await asyncio.to_thread(lambda: {path: _on_disk(folder, path) for path in old.keys() | new.keys()})
    edited = sorted(path for path, facts in present.items() if facts not in {old.get(path), new.get(path)})
    if edited:
        raise Conflict(_sentence(f"services/{folder.name} has edits that are not committed", edited))


def _on_disk(folder: Path, path: str) -> tuple[str, str] | None:
    """(mode, object id) that git would give a file; None if there is none. Symbolic links are not followed."""
    place = folder / path
    if any(parent.is_symlink() for parent in place.parents if folder in parent.parents):
        return ("link", path)
    try:
        facts = place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(facts.st_mode):
        return "120000", _blob(os.fsencode(place.readlink()))
    if not stat.S_ISREG(facts.st_mode):
        return ("folder", path)
    return "100755" if facts.st_mode & 0o100 else "100644", _blob(place.read_bytes())


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _is_occupied(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _quoted(path: str) -> str:
    """C-style quoting of git's own streams and files."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _sentence(what: str, paths: Sequence[str]) -> str:
    names = ", ".join(paths[:MAX_NAMED]) + (f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else "")
    return f"{what}: {names}; nothing was changed; commit, merge or revert them on `main` and send the request again"


def _line(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no message"
