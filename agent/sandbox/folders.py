"""Temporary folders of this process, below one base; what a killed process left is swept by a later one."""

import atexit
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PREFIX = "backwright-"
LOCK = ".lock"
YOUNG_S = 60  # a base that young may be between its making and its locking


class Base:
    """One folder of ours in the system's temporary folder. Its lock is held as long as this process lives."""

    def __init__(self, *, others_pass: bool, inside: Path | None = None) -> None:
        """`others_pass`: another user may go through it to a folder of its own (when we are root)."""
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.geteuid()}-", dir=inside))
        self.path.chmod(0o711 if others_pass else 0o700)
        self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove everything. Idempotent."""
        atexit.unregister(self.remove)
        if self._lock >= 0:
            remove_tree(self.path)
            os.close(self._lock)
            self._lock = -1


def sweep(inside: Path | None = None) -> int:
    """Remove bases of our own user whose process is dead (their lock is free); returns how many."""
    pattern = re.compile(rf"{re.escape(PREFIX)}{os.geteuid()}-\w+")
    removed = 0
    for path in (inside or Path(tempfile.gettempdir())).iterdir():
        if pattern.fullmatch(path.name) and _is_abandoned(path):
            remove_tree(path)
            removed += 1
    return removed


def remove_tree(path: Path) -> None:
    """Remove a tree, read-only folders in it too. What cannot be removed stays; never raises OSError.

    Without following links: a child may have left any. Opening up goes by path, so only where the tree is our own
    user's anyway; root needs no permission.
    """

    def make_removable(function: Callable[..., Any], name: str, _fault: object) -> None:
        target = Path(name)
        try:
            target.parent.chmod(stat.S_IRWXU)
            if target.is_dir() and not target.is_symlink():
                target.chmod(stat.S_IRWXU)
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)
        except OSError:
            return

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=os.geteuid() == 0, onerror=make_removable)


def give(folder: Path, uid: int, gid: int) -> None:
    """Make `uid` the owner of `folder` and of everything below; symbolic links are changed, not followed."""
    for _root, folders, files, descriptor in os.fwalk(folder):
        os.fchown(descriptor, uid, gid)
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)


def open_up(tree: Path) -> None:
    """Let everybody read a tree that we have just copied, and execute in it what its owner may."""
    for folder, _folders, files in os.walk(tree):
        Path(folder).chmod(0o755)
        for path in (Path(folder) / name for name in files):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def make_passable(folder: Path) -> None:
    """Make a folder with its parents; those that are new may be gone through by everybody, whatever our umask is."""
    if not folder.is_dir():
        make_passable(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def _is_abandoned(path: Path) -> bool:
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or time.time() - status.st_mtime < YOUNG_S:
            return False
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # being made or removed at this moment, or not ours
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
