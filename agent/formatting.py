"""The pinned formatter as a function, for the compiler, which starts no process of its own."""

import subprocess
import sys
import tempfile
from pathlib import Path

from agent.errors import PermanentError

TIMEOUT_S = 60


class FormattingFailed(PermanentError):
    """The formatter could not parse what was woven: a fault of a template, nothing was written."""


def ruff_format(files: dict[str, str]) -> dict[str, str]:
    """Format Python files by path, all in one run of ruff. Raises FormattingFailed; the input stays as it is."""
    with tempfile.TemporaryDirectory(prefix="backwright-format-") as folder:
        root = Path(folder)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [ruff(), "format", "--isolated", "--no-cache", "--line-length", "120", "--target-version", "py311", "."],
            cwd=root,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise FormattingFailed(f"ruff format: {done.stderr.strip()[:500]}")
        return {path: (root / path).read_text(encoding="utf-8") for path in files}


def ruff() -> str:
    """The ruff of this environment, never one of the PATH: its version decides the bytes."""
    beside = Path(sys.executable).with_name("ruff")
    return str(beside) if beside.is_file() else "ruff"
