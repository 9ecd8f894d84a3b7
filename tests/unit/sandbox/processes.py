"""Looking at processes from the outside."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def alive(token: str) -> list[int]:
    """Processes whose command line holds `token`; a zombie has none, so waiting for PID 1 to reap does not matter."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if token.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def exists(path: Path) -> bool:
    """For assertions in async tests."""
    return path.exists()


def shared_memory_of(pids: list[int]) -> list[str]:
    """System V shared memory segments that these processes made and that are still there."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return [row[1] for row in rows if int(row[4]) in pids]


class Victim:
    """An agent in a process of its own (victim.py), to be killed or stopped."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.sandbox.victim", *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def __enter__(self) -> "Victim":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.said.startswith(
            "running "
        ):  # where no guardian was left, a later agent sweeps; a test does not wait for it
            shutil.rmtree(self.said.removeprefix("running "), ignore_errors=True)
