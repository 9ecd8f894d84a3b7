"""The command as a stranger runs it: in a process of its own, in a folder of its own, with no setting of ours."""

import asyncio
import os
import sys
from pathlib import Path

from agent.testing.waiting import until

ROOT = Path(__file__).resolve().parents[2]
BACKWRIGHT = (sys.executable, "-m", "agent")
# The mechanism is tested here; figures are measured by `make demo` and `make bench`.
QUICK = {
    "BACKWRIGHT_CONTEXT__TIMEOUT_S": "0.2",
    "BACKWRIGHT_GATES__FUZZ_EXAMPLES": "1",
    "BACKWRIGHT_GATES__LOAD_DURATION_S": "2",
    "BACKWRIGHT_GATES__LOAD_RATE": "10",
    "BACKWRIGHT_GATES__LOAD_ROWS": "100",
    "BACKWRIGHT_GATES__LOAD_P95_MAX_MS": "5000",
    "BACKWRIGHT_GATES__LOAD_ISSUED_MIN_PERCENT": "50",
    "BACKWRIGHT_GATES__LOAD_QUIET_WAIT_S": "0",
    "BACKWRIGHT_WORKER__MAX_CRASHES": "20",
}


async def command(scratch: Path, *arguments: str) -> asyncio.subprocess.Process:
    """`backwright ARGUMENTS` in `scratch`, its output piped."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BACKWRIGHT_")}
    return await asyncio.create_subprocess_exec(
        *BACKWRIGHT, *arguments, cwd=scratch, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**environment, **QUICK, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip


def left_behind(scratch: Path) -> list[str]:
    """Processes that belong to a run in `scratch`: by working folder, program or command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            places = [str((process / link).readlink()) for link in ("cwd", "exe")]
        except OSError:
            continue  # ended meanwhile
        if any(str(scratch) in text for text in (words, *places)):
            found.append(f"{process.name} {words[:120]}")
    return found


async def until_none_left(scratch: Path) -> None:
    """Until no process of a run is left; AssertionError with those that are after 20 s."""
    await until(lambda: not left_behind(scratch), lambda: f"the end of {left_behind(scratch)}", limit_s=20, every_s=0.1)
