"""A set of files in memory: what the compiler makes, the gates check and the delivery holds."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Not part of the digest: the manifest carries our version, the evidence is about the digest, .git is transport.
OUTSIDE_DIGEST = (".backwright/", ".git/")


@dataclass(frozen=True, slots=True)
class File:
    """Content and mode of one file; `executable` is the only mode bit that we deliver."""

    content: bytes
    executable: bool = False

    @property
    def sha256(self) -> str:
        """Hex digest of the content."""
        return hashlib.sha256(self.content).hexdigest()


class UnsafePath(ValueError):
    """A path that would leave the folder or that a file system could read differently."""


def safe_path(path: str) -> str:
    """Return `path` if it is relative, normalised POSIX and stays inside; raise UnsafePath otherwise."""
    pure = PurePosixPath(path)
    bad = not path or pure.is_absolute() or str(pure) != path or ".." in pure.parts or "\\" in path
    if bad or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise UnsafePath(f"not a safe relative path: {path[:80]!r}")
    return path


class FileSet(Mapping[str, File]):
    """Immutable mapping from relative POSIX path to file, sorted by path."""

    def __init__(self, files: Mapping[str, File] | Iterable[tuple[str, File]] = ()) -> None:
        pairs = files.items() if isinstance(files, Mapping) else files
        self._files: dict[str, File] = {safe_path(path): file for path, file in sorted(pairs)}

    def __getitem__(self, path: str) -> File:
        return self._files[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __or__(self, other: Mapping[str, File]) -> "FileSet":
        return FileSet({**self._files, **other})

    @property
    def digest(self) -> str:
        """`sha256:` over sorted (path, mode, content hash), without manifest, evidence and .git."""
        whole = hashlib.sha256()
        for path, file in self._files.items():
            if not path.startswith(OUTSIDE_DIGEST):
                mode = "755" if file.executable else "644"
                whole.update(f"{path}\0{mode}\0{file.sha256}\n".encode())
        return f"sha256:{whole.hexdigest()}"

    def write(self, folder: Path) -> None:
        """Write every file below `folder`, creating folders. Raises OSError; follows no symbolic link inside."""
        for path, file in self._files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_symlink() or any(
                p.is_symlink() for p in target.parents if p != folder and folder in p.parents
            ):
                raise UnsafePath(f"symbolic link in the way of {path!r}")
            target.write_bytes(file.content)
            target.chmod(0o755 if file.executable else 0o644)

    @classmethod
    def read(cls, folder: Path, *, ignore: tuple[str, ...] = (".git/",)) -> "FileSet":
        """Read every regular file below `folder`; symbolic links and what `ignore` prefixes are left out."""
        return cls(
            (relative, File(path.read_bytes(), executable=bool(path.stat().st_mode & 0o100)))
            for path in folder.rglob("*")
            if path.is_file()
            and not path.is_symlink()
            and not (relative := path.relative_to(folder).as_posix()).startswith(ignore)
        )
