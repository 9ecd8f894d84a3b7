"""What a child has and what it does not have."""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import EnvironmentUnfit
from agent.sandbox.accounts import Account, choose, find_interpreter
from agent.sandbox.local import LocalSandbox
from agent.sandbox.port import Command, Completed, Leash, Limits
from agent.settings import SandboxSettings
from tests.unit.sandbox.processes import ROOT, exists

HERE = Path("/")
AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="changing the user needs root; we are an ordinary user")


async def run(sandbox: LocalSandbox, *argv: str, network: str = "host", limits: Limits | None = None) -> Completed:
    """Run to the end, without a leash."""
    return await sandbox.run(Command(argv, cwd=HERE, network=network, limits=limits or Limits()), leash=Leash())


async def python(sandbox: LocalSandbox, code: str, *, network: str = "host", limits: Limits | None = None) -> Completed:
    """Run a line of Python."""
    return await run(sandbox, str(sandbox.interpreter()), "-I", "-c", code, network=network, limits=limits)


async def test_environment_is_an_allow_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broker, model and cloud secrets of ours are none of a service's business."""
    for name in ("OPENAI_API_KEY", "BACKWRIGHT_KAFKA__SASL_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "planted")
    sandbox = LocalSandbox(SandboxSettings(), tmp_path)

    done = await sandbox.run(Command(["env"], cwd=HERE, environment={"SERVICE_PORT": "1"}), leash=Leash())

    values = dict(line.split("=", 1) for line in done.output.splitlines())
    assert set(values) == {"PATH", "LANG", "HOME", "TMPDIR", "SERVICE_PORT"}
    assert "planted" not in done.output
    sandbox.close()


async def test_a_client_of_the_engine_is_ourselves_and_ends_like_every_child(sandbox: LocalSandbox) -> None:
    """Who may speak to an engine owns the machine: the agent may, the code under test is another user where it can be."""
    command = Command(["sh", "-c", "id -u; id -G; grep NoNewPrivs /proc/self/status; sleep 300"], cwd=HERE, engine=True)

    done = await sandbox.run(replace(command, limits=Limits(time_s=0.5)), leash=Leash())

    uid, groups, gains = done.output.splitlines()
    assert int(uid) == os.geteuid()
    assert {int(group) for group in groups.split()} == {os.getegid(), *os.getgroups()}
    assert gains.split() == ["NoNewPrivs:", "0"]
    assert done.timed_out
    assert "the privileges of the agent" in done.isolation


async def test_home_is_new_writable_and_gone_afterwards(sandbox: LocalSandbox) -> None:
    """Two children share nothing by accident."""
    done = await run(sandbox, "sh", "-c", 'echo x > "$HOME/a"; mkdir "$TMPDIR/b"; chmod 500 "$TMPDIR/b"; echo "$HOME"')

    home = Path(done.output.strip())
    assert done.exit_code == 0
    assert home.is_relative_to(sandbox.base)
    assert not exists(home)


async def test_child_inherits_no_descriptor(sandbox: LocalSandbox) -> None:
    """A child that held the status pipe could forge its own result."""
    done = await python(sandbox, "import os; print(sorted(os.listdir('/proc/self/fd')))")

    assert done.output.strip() == "['0', '1', '2', '3']"  # 3 is the listing itself


@needs_root
async def test_root_gives_itself_up_for_good(sandbox: LocalSandbox, tmp_path: Path) -> None:
    """No user, group, capability or new privilege of ours is left."""
    (tmp_path / "secret").write_text("ours")
    (tmp_path / "secret").chmod(0o600)
    done = await run(
        sandbox,
        "sh",
        "-c",
        f"id -u; id -G; grep -E 'Groups|CapEff|NoNewPrivs' /proc/self/status; cat {tmp_path}/secret",
    )

    assert "Permission denied" in done.output
    uid, groups, *status = done.output.splitlines()
    assert (uid, groups) == (str(sandbox.account.uid), str(sandbox.account.gid))
    assert [line.split() for line in status[:3]] == [["Groups:"], ["CapEff:", "0" * 16], ["NoNewPrivs:", "1"]]
    assert f"user nobody ({uid})" in done.isolation


async def test_memory_is_limited(sandbox: LocalSandbox) -> None:
    """One hungry test must not take the machine down."""
    done = await python(sandbox, "bytearray(1 << 30)", limits=Limits(memory_bytes=256 << 20))

    assert done.exit_code == 1
    assert "MemoryError" in done.output
    assert "memory 256 MiB" in done.isolation


async def test_size_of_a_file_is_limited(sandbox: LocalSandbox) -> None:
    """A log that runs away stops."""
    code = "import os; f = open(os.environ['TMPDIR'] + '/f', 'wb'); f.write(bytes(2 << 20)); f.flush()"

    done = await python(sandbox, code, limits=Limits(file_bytes=1 << 20))

    assert done.exit_code != 0
    assert "File too large" in done.output


async def test_open_files_are_limited(sandbox: LocalSandbox) -> None:
    """Descriptors are a shared resource as well."""
    done = await python(sandbox, "l = [open('/dev/null') for _ in range(100)]", limits=Limits(open_files=50))

    assert "Too many open files" in done.output


async def test_processes_are_limited(sandbox: LocalSandbox) -> None:
    """Counted on top of what the user has already: a desktop has hundreds."""
    code = """
import os, time
n = 0
try:
    for n in range(200):
        if os.fork() == 0:
            time.sleep(60); os._exit(0)
except OSError:
    print("stopped at", n)
"""
    numbers: list[int] = []
    while len(numbers) < 5 and not any(
        number <= 40 for number in numbers
    ):  # others of the user end meanwhile, and make room
        done = await python(sandbox, code, limits=Limits(processes=40))
        assert done.output.startswith("stopped at")
        numbers.append(int(done.output.split()[-1]))

    assert min(numbers) <= 40


async def test_no_core_dump_is_written(sandbox: LocalSandbox) -> None:
    """A dump of a process that held credentials would lie around."""
    done = await run(sandbox, "sh", "-c", "ulimit -c; umask")

    assert done.output.split() == ["0", "0022"]


async def test_network_none_means_loopback_only(sandbox: LocalSandbox) -> None:
    """Where the machine refuses the isolation, the evidence says so and the child runs on the host's network."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
import socket
own = socket.create_server(("127.0.0.1", 0))
socket.create_connection(own.getsockname(), timeout=2)
print("loopback works")
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=2)
    print("host reached")
except OSError:
    print("host out of reach")
"""
        done = await python(sandbox, code, network="none")

    assert "loopback works" in done.output
    if "network loopback only" in done.isolation:
        assert "host out of reach" in done.output
    else:
        assert "refused" in done.isolation
        assert "host reached" in done.output


async def test_output_keeps_its_tail_within_the_limit(sandbox: LocalSandbox) -> None:
    """The end of a log says what went wrong; its whole may be endless."""
    code = "import sys\nfor i in range(200000): print(i)\nsys.stderr.write('the end')"

    done = await python(sandbox, code, limits=Limits(output_bytes=1000))

    assert done.output.endswith("the end")
    assert done.output.startswith("[")
    assert len(done.output) < 1100


async def test_output_that_is_not_text_is_replaced(sandbox: LocalSandbox) -> None:
    """A hostile byte must not break a report."""
    done = await python(sandbox, "import os; os.write(1, b'\\xff\\xfe ok')")

    assert done.output.endswith("ok")


async def test_exit_codes_and_signals_are_told_apart(sandbox: LocalSandbox) -> None:
    """Evidence names both."""
    exited, killed = await asyncio.gather(run(sandbox, "sh", "-c", "exit 3"), run(sandbox, "sh", "-c", "kill -SEGV $$"))

    assert (exited.exit_code, killed.exit_code) == (3, -11)
    assert not exited.timed_out


@pytest.mark.parametrize("argv", [["no-such-program"], ["/no/such/program"], ["/"], ["a\0b"], []])
async def test_what_cannot_be_started_says_why(sandbox: LocalSandbox, argv: list[str]) -> None:
    """A missing program is the machine's fault, not the service's."""
    with pytest.raises(EnvironmentUnfit, match="cannot be started"):
        await sandbox.run(Command(argv, cwd=HERE), leash=Leash())


async def test_folder_that_does_not_exist_says_why(sandbox: LocalSandbox) -> None:
    """The same for the working folder."""
    with pytest.raises(EnvironmentUnfit, match="/no/such/folder"):
        await sandbox.run(Command(["true"], cwd=Path("/no/such/folder")), leash=Leash())


async def test_scratch_can_be_used_and_is_removed_with_read_only_parts(sandbox: LocalSandbox) -> None:
    """Installers make folders read-only; what we made we remove."""
    async with sandbox.scratch("work-") as folder:
        done = await sandbox.run(
            Command(["sh", "-c", "mkdir -p a/b; echo x > a/b/c; ln -s /etc/hosts a/link; chmod 500 a/b a"], cwd=folder),
            leash=Leash(),
        )
        assert done.exit_code == 0
        assert (folder / "a/b/c").read_text() == "x\n"

    assert not folder.exists()
    assert exists(Path("/etc/hosts"))


async def test_interpreter_and_tools_run_inside(sandbox: LocalSandbox) -> None:
    """Ours may lie below a folder that is closed to others; then another one, or a copy, is found."""
    version = await run(
        sandbox, str(sandbox.interpreter()), "-c", "import sys, ssl, sqlite3; print(sys.version_info[:2])"
    )
    uv = await run(sandbox, str(sandbox.tool("uv")), "--version")

    assert version.output.strip() in {"(3, 11)", "(3, 12)", "(3, 13)"}
    assert uv.output.startswith("uv ")


@needs_root
async def test_what_lies_below_a_closed_folder_is_copied(sandbox: LocalSandbox, tmp_path: Path) -> None:
    """/root is 0700: neither our environment nor the wheel's binaries can be used in place."""
    closed = tmp_path / "closed"
    (closed / "package").mkdir(parents=True)
    (closed / "package" / "data").write_text("readable")
    closed.chmod(0o700)

    copy = sandbox.readable(closed / "package")

    assert not sandbox.account.reaches(closed / "package")
    assert (await run(sandbox, "cat", str(copy / "data"))).output == "readable"
    assert sandbox.readable(closed / "package") == copy


@needs_root
async def test_tools_and_copies_can_be_used_whatever_our_umask_is(
    sandbox: LocalSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A careful root has umask 077, and an environment below a closed folder."""
    closed = tmp_path / "closed"
    (closed / "package/inner").mkdir(parents=True)
    shutil.copy("/bin/true", closed / "package/inner/true")
    shutil.copy("/bin/true", closed / "uv")
    closed.chmod(0o700)
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(closed))
    before = os.umask(0o077)

    try:
        tool, package = (
            sandbox.tool("uv"),
            await asyncio.gather(*(asyncio.to_thread(sandbox.readable, closed / "package") for _ in range(3))),
        )
    finally:
        os.umask(before)

    assert not tool.is_relative_to(closed)
    assert len(set(package)) == 1
    assert (await run(sandbox, str(tool))).exit_code == 0
    assert (await run(sandbox, str(package[0] / "inner/true"))).exit_code == 0


@needs_root
def test_share_refuses_a_folder_that_the_user_cannot_come_to(sandbox: LocalSandbox) -> None:
    """Said at once instead of as a riddle in a child's output."""
    with tempfile.TemporaryDirectory() as closed:  # 0700
        inner = Path(closed) / "inner"
        inner.mkdir()
        with pytest.raises(EnvironmentUnfit, match="cannot reach"):
            sandbox.share(inner)


@needs_root
def test_unknown_user_is_refused_unless_root_is_allowed() -> None:
    """Running a service's tests as root is a decision, not a fallback."""
    with pytest.raises(EnvironmentUnfit, match="no user 'ghost'") as caught:
        choose(SandboxSettings(user="ghost"))
    assert "BACKWRIGHT_SANDBOX__USER" in caught.value.remedy

    assert choose(SandboxSettings(user="ghost", allow_root=True)).uid is None


def test_reach_follows_the_modes_of_every_folder_above(tmp_path: Path) -> None:
    """Owner, group and others are judged as the kernel does."""
    file = Path(tempfile.mkdtemp()) / "file"
    file.touch(mode=0o644)
    stranger = Account("stranger", 54321, 54321)

    try:
        file.parent.chmod(0o700)
        assert not stranger.reaches(file)
        file.parent.chmod(0o711)
        above = Path(tempfile.gettempdir()).resolve()
        assert stranger.reaches(file) == all(part.stat().st_mode & 0o1 for part in (above, *above.parents))
        assert not stranger.reaches(file, access=os.X_OK)
        assert not stranger.reaches(file.parent / "absent")
    finally:
        shutil.rmtree(file.parent)


def test_everything_holds_for_an_ordinary_user_too() -> None:
    """This machine's root shows one half; the whole suite of this folder shows the other one as `nobody`."""
    if not AS_ROOT:
        pytest.skip("we are an ordinary user: the other tests have shown it")
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("no setpriv to become an ordinary user with")
    nobody = pwd.getpwnam("nobody")  # in the user database: initdb wants to know its user's name
    stranger = Account("nobody", nobody.pw_uid, nobody.pw_gid)
    interpreter, packages = find_interpreter(stranger), Path(sysconfig.get_path("purelib"))
    if interpreter is None or not all(stranger.reaches(path) for path in (ROOT, packages)):
        pytest.skip("this checkout, its environment or every Python lies below a folder that is closed to others")
    if f"python{sys.version_info[0]}.{sys.version_info[1]}" != interpreter.resolve().name:
        pytest.skip("the only Python that others may execute has another version than our packages are made for")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        own = Path(folder) / "own"
        own.mkdir()
        os.chown(own, nobody.pw_uid, nobody.pw_gid)
        done = subprocess.run(
            [
                setpriv, f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all",
                str(interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", f"--basetemp={own}/pytest",
                "tests/unit/sandbox",
            ],
            cwd=ROOT, capture_output=True, text=True, timeout=300,
            env={"PATH": f"{sysconfig.get_path('scripts')}:/usr/bin:/bin", "HOME": str(own), "PYTHONPATH": f"{ROOT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
