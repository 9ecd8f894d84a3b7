"""Artefacts in a folder: `<folder>/ab/cdef…`, for one machine or a shared volume."""

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from agent.artifacts.name import digest_in, name_of
from agent.artifacts.port import ArtifactMissing
from agent.errors import EnvironmentUnfit, TransientError

INCOMING = "incoming"  # half-written files; a rename into a shard is what stores one
ABANDONED_S = 3600.0
UNFIT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
T = TypeVar("T")


class FolderArtifacts:
    """Implements Artifacts. Files are 0600 in folders of 0700; work happens in threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, content: bytes) -> str:
        """See the port. Raises EnvironmentUnfit (disk full, no permission) or TransientError."""
        name = name_of(content)
        await self._in_thread(lambda: self._put(digest_in(name), content))
        return name

    async def get(self, name: str) -> bytes:
        """See the port. Bytes that do not match their name are missing, not delivered; `put` repairs them."""
        path = self._path(digest_in(name))
        content = await self._in_thread(lambda: _read(path))
        if content is None:
            raise ArtifactMissing(name)
        if name_of(content) != name:
            raise ArtifactMissing(f"{name} is damaged on disk")
        return content

    async def has(self, name: str) -> bool:
        """See the port."""
        path = self._path(digest_in(name))
        return await self._in_thread(path.is_file)

    async def collect(self, keep: frozenset[str], *, older_than_s: float) -> int:
        """See the port."""
        return await self._in_thread(lambda: self._collect({digest_in(name) for name in keep}, older_than_s))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as fault:
            message = f"artefact store {self._folder}: {fault.strerror}"
            if fault.errno in UNFIT:
                raise EnvironmentUnfit(message, remedy="free space or permissions in that folder") from fault
            raise TransientError(message, retry_after_s=2.0) from fault

    def _put(self, digest: str, content: bytes) -> None:
        path = self._path(digest)
        _make(self._folder / INCOMING)
        with self._lock(fcntl.LOCK_SH):
            if _read(path) == content:
                os.utime(path)  # young again: somebody counts on it from now on
                return
            _make(path.parent)
            fresh = self._folder / INCOMING / secrets.token_hex(16)
            try:
                _write_durably(fresh, content)
                fresh.replace(path)
            except OSError:
                fresh.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)

    def _collect(self, keep: set[str], older_than_s: float) -> int:
        removed = 0
        if not self._folder.is_dir():
            return removed
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            # The lock keeps a `put` of the same bytes from counting on a file that goes at this moment.
            with self._lock(fcntl.LOCK_EX):
                if path.parent.name + path.name not in keep and _age_s(path) >= older_than_s:
                    path.unlink(missing_ok=True)
                    removed += 1
        for path in (self._folder / INCOMING).glob("*"):
            if _age_s(path) > ABANDONED_S:
                path.unlink(missing_ok=True)
        return removed

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:]

    @contextlib.contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        descriptor = os.open(self._folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)


def _make(folder: Path) -> None:
    """Make a folder and its parents, each durable in its own parent."""
    if folder.is_dir():
        return
    _make(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        _sync_folder(folder.parent)


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return -1.0
