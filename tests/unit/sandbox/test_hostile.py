"""A delivered test suite that means harm: what it reaches for, and what it gets."""

import json
import os
import socket
import time
from pathlib import Path

import pytest

from agent.sandbox.local import LocalSandbox
from agent.sandbox.port import Command, Completed, Leash, Limits

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="children have a user of their own only where we are root")

# Each attack is an expression; what it returns, or the fault's name, is told.
ATTACKS = """
import ctypes, json, os, pathlib, signal, socket, sys
agent, base, workspace = int(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
attacks = {
    "environment of the agent": lambda: pathlib.Path(f"/proc/{agent}/environ").read_bytes().decode(errors="replace"),
    "memory of the agent": lambda: open(f"/proc/{agent}/mem", "rb").read(1),
    "files of the agent": lambda: os.listdir(f"/proc/{agent}/fd"),
    "memory of the guardian": lambda: open(f"/proc/{os.getppid()}/mem", "rb").read(1),
    "a signal to the agent": lambda: os.kill(agent, signal.SIGCONT),
    "a signal to the guardian": lambda: os.kill(os.getppid(), signal.SIGCONT),
    "names of other tasks": lambda: os.listdir(base),
    "a file among the tools": lambda: (base / "planted").write_text("x"),
    "the journal": lambda: (workspace / "journal.sqlite").read_bytes(),
    "a file in the workspace": lambda: (workspace / "planted").write_text("x"),
    "a file of the system": lambda: pathlib.Path("/etc/planted").write_text("x"),
    "the leash": lambda: (workspace / "leash").write_text("1e12"),
    "root again": lambda: os.setuid(0),
    "a limit raised": lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_NPROC, (-1, -1)),
    "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "a mount": lambda: _raise(ctypes.CDLL(None, use_errno=True).mount(b"none", b"/mnt", b"tmpfs", 0, None)),
}
def _raise(code):
    if code:
        raise OSError(ctypes.get_errno(), "refused")
told = {}
for name, attack in attacks.items():
    try:
        told[name] = str(attack())
    except (OSError, ValueError) as fault:
        told[name] = "refused"
print(json.dumps(told))
"""


async def _run(sandbox: LocalSandbox, *argv: str, cwd: Path, limits: Limits | None = None) -> Completed:
    return await sandbox.run(Command(argv, cwd=cwd, limits=limits or Limits(), network="none"), leash=Leash())


@needs_root
async def test_what_a_hostile_suite_reaches_for_is_refused(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets, the agent, other tasks, the journal, its own limits: everything that another user may not."""
    monkeypatch.setenv("PLANTED", "secret")
    workspace = sandbox.base / "workspace"  # where others can come: its modes must refuse, not the way to it
    workspace.mkdir()
    workspace.chmod(0o755)
    for name in ("journal.sqlite", "leash"):
        (workspace / name).touch(mode=0o600)
    async with sandbox.scratch("work-") as work:
        done = await _run(
            sandbox, str(sandbox.interpreter()), "-I", "-c", ATTACKS, str(os.getpid()), str(sandbox.base), str(workspace), cwd=work
        )  # fmt: skip

    told = json.loads(done.output)
    assert {name: what for name, what in told.items() if what != "refused"} == {}
    assert len(told) == 16


async def test_suite_that_forks_ignores_sigterm_and_listens_ends_with_its_time(sandbox: LocalSandbox) -> None:
    """It detaches twice, ignores every signal that can be ignored, and holds a port: none of it is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = (
        "import os, signal, socket, time\n"
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        f"server = socket.create_server(('127.0.0.1', {port}))\n"
        "print('listening', flush=True)\n"
        "time.sleep(600)\n"
    )
    started = time.monotonic()
    command = Command([str(sandbox.interpreter()), "-I", "-c", code], cwd=Path("/"), limits=Limits(time_s=2.0))

    done = await sandbox.run(command, leash=Leash())

    assert done.timed_out
    assert "listening" in done.output
    assert time.monotonic() - started < 20
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_suite_that_fills_the_disk_is_killed_before_it_is_full(sandbox: LocalSandbox) -> None:
    """A bound per file is none on their number; the journal may lie on the same disk."""
    free = os.statvfs(sandbox.base)
    spare = free.f_bavail * free.f_frsize - 64 * 1024**2  # so that 64 MiB are "nearly full"
    code = "n=0; while :; do head -c 8388608 /dev/zero > f$n || exit 3; n=$((n+1)); done"
    async with sandbox.scratch("work-") as work:
        done = await _run(sandbox, "sh", "-c", code, cwd=work, limits=Limits(spare_bytes=spare, time_s=60))

    assert done.exit_code < 0
    assert not done.timed_out
    assert "the disk is nearly full" in done.output
