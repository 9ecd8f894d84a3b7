"""The files that are judged: read from a folder without what tools leave behind."""

from pathlib import Path, PurePosixPath

from agent.fileset import FileSet

# What checks, editors and interpreters put into a project; none of it is delivered, so none of it is digested.
LITTER = frozenset({
    ".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".coverage",
    "coverage.json", "htmlcov", "schemathesis-report", ".schemathesis",
})  # fmt: skip


def project_files(folder: Path) -> FileSet:
    """Every file of the project in `folder`, evidence included, tools' caches left out. Raises OSError, UnsafePath."""
    found = FileSet.read(folder, ignore=(".git/", ".venv/"))
    return FileSet((path, file) for path, file in found.items() if not LITTER.intersection(PurePosixPath(path).parts))
