"""Keeps one child, and ends it with all its descendants. Run as `python -I -S guardian.py CONTROL STATUS`.

A program of its own with the standard library only: it must start fast, and it must survive the agent. In one file: Python
starts a folder through runpy, which costs each child 6 ms more.

CONTROL and STATUS are inherited pipe ends. The agent writes the order (one JSON line, `Order` below) to CONTROL and
keeps it open: end-of-file there means that the agent is dead, whatever killed it. Later lines are `stop SIGNAL
GRACE_S`. Answers on STATUS are JSON lines: {"started": {"pid", "isolation"}} or {"failed": reason}, at last
{"ended": {"exit_code", "cause"}} with cause exit | stopped | time | leash | disk | agent, written when no descendant is left.

Why nothing escapes: we are a child subreaper, so whatever a descendant does (setsid, double fork, as PostgreSQL's
backends do) it is re-parented to us and not to PID 1 when its parent dies. "None is left" is therefore exact: it is
the moment when we have no children any more (ECHILD), not a guess from /proc.
"""

import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
TICK_S = 0.25  # how often leash and time limit are looked at; well below the 3 s between self-stop and lease expiry
NEVER = float("inf")
LIBC = ctypes.CDLL(None, use_errno=True)


class Order:
    """What the agent wants: one JSON object with exactly these names."""

    def __init__(self, text: str) -> None:
        given = json.loads(text)
        self.argv: list[str] = given["argv"]
        self.cwd: str = given["cwd"]
        self.environment: dict[str, str] = given["environment"]
        self.network: str = given["network"]
        self.home: str = given["home"]  # made here, removed here
        self.files: dict[str, str] = given["files"]  # text files in the home
        self.remove: list[str] = given["remove"]  # folders to remove at the end, whatever the end is
        self.orphaned: list[str] = given["orphaned"]  # removed too when the agent has died
        self.uid: int | None = given["uid"]  # None: stay who we are
        self.gid: int | None = given["gid"]
        self.alias: int | None = given["alias"]  # the uid that the child believes to have, where ours has no name
        self.user: str = given["user"]
        self.may_gain: bool = given["may_gain"]  # a rootless engine maps its users with setuid programs
        self.leash: str | None = given["leash"]
        self.stop_signal: int = given["stop_signal"]
        self.grace_s: float = given["grace_s"]  # after our own SIGTERM
        self.farewell_s: float = given["farewell_s"]  # after stop_signal when agent, time or leash ends
        self.time_s: float = given["time_s"]
        self.memory_bytes: int = given["memory_bytes"]
        self.open_files: int = given["open_files"]
        self.processes: int | None = given["processes"]
        self.file_bytes: int = given["file_bytes"]
        self.spare_bytes: int = given["spare_bytes"]  # free space on the disk of the home below which the child ends

    @property
    def effective_uid(self) -> int:
        return os.geteuid() if self.uid is None else self.uid


def main(control: int, status: int) -> int:
    """Carry out the order on `control`; returns our own exit code (0: everything was reported)."""
    for descriptor in (control, status):
        os.set_inheritable(descriptor, False)  # a child that held them could forge its own result
    os.setsid()
    os.umask(0o077)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeup = _wake_on_signals()
    lines = _Lines(control)
    first = lines.wait_for_first()
    if first is None:
        return 1  # the agent died before it said what to do
    order = Order(first)
    _make_home(order)
    try:
        pid, isolation = _start(order)
    except OSError as fault:
        _remove(order)
        _say(status, {"failed": fault.strerror or str(fault)})
        return 0
    _let_go_of_output()
    _say(status, {"started": {"pid": pid, "isolation": isolation}})
    code, cause = _watch(pid, order, lines, wakeup)
    if cause == "agent":
        order.remove += order.orphaned
    _remove(order)
    _say(status, {"ended": {"exit_code": code, "cause": cause}})
    return 0


# --- watching -------------------------------------------------------------------------------------------------------


def _watch(pid: int, order: Order, lines: "_Lines", wakeup: int) -> tuple[int, str]:
    """Wait until the child ends or must end, then end all descendants; (exit code, cause)."""
    child = _Child(pid)
    poller = select.poll()
    for descriptor in (lines.descriptor, wakeup):
        poller.register(descriptor, select.POLLIN)
    expires = time.monotonic() + order.time_s
    leash = _Leash(order.leash)
    ends, cause, seen = NEVER, "exit", set[str]()
    while child.reap() is None and time.monotonic() < ends:
        for reason, number, grace_s in _reasons_to_stop(expires, leash, lines, order):
            if reason in seen and reason != "stopped":
                continue  # said already; only a later `stop` may still change signal and grace
            seen.add(reason)
            cause = reason if cause == "exit" else cause
            ends = min(ends, time.monotonic() + grace_s)
            if grace_s > 0:
                child.send(number)
        poller.poll(max(1, min(TICK_S, expires - time.monotonic(), ends - time.monotonic()) * 1000))
        _drain(wakeup)
        if not lines.closed and lines.read():
            poller.unregister(lines.descriptor)  # an end-of-file would wake us for ever
    _end_descendants(child)
    return (-signal.SIGKILL if child.code is None else child.code), cause


def _reasons_to_stop(expires: float, leash: "_Leash", lines: "_Lines", order: Order) -> list[tuple[str, int, float]]:
    """(cause, signal, seconds of grace) for each reason why the child has to end now."""
    reasons = []
    while (command := lines.take()) is not None:
        _verb, number, grace_s = command.split()
        reasons.append(("stopped", int(number), float(grace_s)))
    if _Signals.terminated:
        _Signals.terminated = False
        reasons.append(("stopped", order.stop_signal, order.grace_s))
    ended = (
        ("agent", lines.closed),
        ("time", time.monotonic() >= expires),
        ("leash", leash.has_expired()),
        ("disk", _free_bytes(order.home) < order.spare_bytes),
    )
    return reasons + [(cause, order.stop_signal, order.farewell_s) for cause, holds in ended if holds]


def _free_bytes(folder: str) -> float:
    """What is left of a disk for ordinary users. A bound per file does not bound their number."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return NEVER  # the child may have removed it; the disk is then no fuller for it
    return found.f_bavail * found.f_frsize


class _Leash:
    """The deadline in a file, as CLOCK_BOOTTIME seconds. A read that fails moves nothing: the last deadline stands."""

    def __init__(self, path: str | None) -> None:
        self.path, self.deadline = path, 0.0

    def has_expired(self) -> bool:
        if self.path is None:
            return False
        try:
            with open(self.path, encoding="ascii") as file:
                self.deadline = float(file.read(64))
        except (OSError, ValueError):
            pass
        return time.clock_gettime(time.CLOCK_BOOTTIME) > self.deadline


class _Lines:
    """Lines from the control pipe, read without blocking."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.closed, self.buffer = descriptor, False, b""
        self.lines: list[bytes] = []
        os.set_blocking(descriptor, False)

    def read(self) -> bool:
        """Take in what is there; True at end-of-file."""
        try:
            while not self.closed:
                chunk = os.read(self.descriptor, 65536)
                self.closed = not chunk
                self.buffer += chunk
        except BlockingIOError:
            pass
        *whole, self.buffer = self.buffer.split(b"\n")
        self.lines += whole
        return self.closed

    def take(self) -> str | None:
        return self.lines.pop(0).decode() if self.lines else None

    def wait_for_first(self) -> str | None:
        while not self.lines and not self.closed:
            select.select([self.descriptor], [], [])
            self.read()
        return self.take()


class _Signals:
    terminated = False


def _wake_on_signals() -> int:
    """Make SIGCHLD and SIGTERM readable on the returned descriptor."""

    def on_term(_number: int, _frame: object) -> None:
        _Signals.terminated = True

    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_term)
    return read_end


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 512):
            pass
    except BlockingIOError:
        pass


# --- ending ---------------------------------------------------------------------------------------------------------


class _Child:
    """The main child among all that we reap."""

    def __init__(self, pid: int) -> None:
        self.pid, self.childless = pid, False
        self.code: int | None = None

    def reap(self) -> int | None:
        """Collect every zombie that is ours; the main child's exit code, None while it runs."""
        try:
            while True:
                pid, state = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return self.code
                if pid == self.pid:
                    self.code = os.waitstatus_to_exitcode(state)
        except ChildProcessError:
            self.childless = True
            return self.code

    def send(self, number: int) -> None:
        if self.code is None:  # not yet reaped, so the number cannot belong to another process
            os.kill(self.pid, number)


def _end_descendants(child: _Child) -> None:
    """SIGKILL every descendant until none is left.

    All are stopped first: a stopped process does not fork and keeps its place in RLIMIT_NPROC, so even a fork bomb
    runs out; killing at once would free a place for each that we take.
    """
    child.reap()
    if child.childless:
        return
    stopped, rounds = set[int](), 0
    while rounds < 100 and (fresh := _descendants() - stopped):
        rounds += 1
        for pid in fresh:
            _signal(pid, signal.SIGSTOP)
        stopped |= fresh
    while not child.childless:
        for pid in _descendants():
            _signal(pid, signal.SIGKILL)
        child.reap()
        if not child.childless:
            time.sleep(0.002)
            child.reap()


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _descendants() -> set[int]:
    """Process ids below us, from /proc; zombies included."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # "pid (name, which may hold anything) state ppid …"
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(name))
    found, frontier = set[int](), [os.getpid()]
    while frontier:
        below = children.get(frontier.pop(), [])
        found.update(below)
        frontier.extend(below)
    return found


# --- starting -------------------------------------------------------------------------------------------------------


def _start(order: Order) -> tuple[int, str]:
    """Fork, confine and exec the child; (pid, what is in force). Raises OSError with the reason if it cannot be run."""
    processes = None if order.processes is None else _threads_of(order.effective_uid) + order.processes
    report_read, report_write = os.pipe2(os.O_CLOEXEC)
    guardian = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            network = _confine(order, processes, guardian)
            os.write(report_write, f"network {network}\n".encode())
            _exec(order)
        except (OSError, ValueError) as fault:
            os.write(report_write, f"{fault}"[:900].encode(errors="replace"))
        finally:
            os._exit(127)
    os.close(report_write)
    report = b""
    while chunk := os.read(report_read, 4096):
        report += chunk
    os.close(report_read)
    network, _, problem = report.decode(errors="replace").partition("\n")
    if problem or not network.startswith("network "):
        os.waitpid(pid, 0)
        raise OSError(errno.ECHILD, problem or network or "the child died before it could start")
    return pid, _describe(order, network.removeprefix("network "))


def _exec(order: Order) -> None:
    """Become the program. Not os.execvpe: it imports a module, and the child's user may not read our interpreter."""
    name = order.argv[0]
    folders = [""] if "/" in name else [f"{folder}/" for folder in order.environment.get("PATH", "").split(":")]
    problem: OSError = FileNotFoundError(errno.ENOENT, f"no program {name!r}")
    for folder in folders:
        try:
            os.execve(f"{folder}{name}", order.argv, order.environment)
        except FileNotFoundError:
            continue
        except OSError as fault:
            problem = OSError(fault.errno, f"cannot run {name!r}: {fault.strerror}")
    raise problem


def _confine(order: Order, processes: int | None, guardian: int) -> str:
    """Everything that holds for the child; runs in the child. Returns what became of the network."""
    os.setsid()
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    network = _isolate_network(order.alias) if order.network == "none" else "host"
    if order.alias is not None and network != "loopback only":
        _unshare_user(0, order.alias)
    _limit(order, processes)
    if order.uid is not None and order.gid is not None:
        os.setgroups([])
        os.setresgid(order.gid, order.gid, order.gid)
        os.setresuid(order.uid, order.uid, order.uid)
    if not order.may_gain:
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
    # After the change of user, which clears it: a guardian that is killed takes at least its child along.
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:
        os._exit(127)
    os.umask(0o022)
    os.chdir(order.cwd)
    return network


def _limit(order: Order, processes: int | None) -> None:
    wanted = {
        resource.RLIMIT_AS: order.memory_bytes,
        resource.RLIMIT_NOFILE: order.open_files,
        resource.RLIMIT_FSIZE: order.file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    if processes is not None:
        wanted[resource.RLIMIT_NPROC] = processes
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))


def _isolate_network(alias: int | None) -> str:
    """A network namespace with loopback only; says what came of it."""
    try:
        if os.geteuid() == 0:
            _unshare(CLONE_NEWNET)
        else:
            # In one call: where a user namespace is allowed but powerless (AppArmor), both are refused.
            _unshare_user(CLONE_NEWNET, alias)
    except OSError as fault:
        return f"host (isolation refused: {fault.strerror})"
    try:
        _raise_loopback()
    except OSError as fault:
        return f"none (loopback refused: {fault.strerror})"
    return "loopback only"


def _unshare_user(more: int, alias: int | None) -> None:
    """A user namespace of our own in which we appear as `alias` (as ourselves where it is None)."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWUSER | more)
    inside_uid, inside_gid = (uid, gid) if alias is None else (alias, alias)
    for name, text in (
        ("setgroups", "deny"),
        ("gid_map", f"{inside_gid} {gid} 1"),
        ("uid_map", f"{inside_uid} {uid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(probe, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def _threads_of(uid: int) -> int:
    """Threads that `uid` has already: RLIMIT_NPROC counts them all, ours and those of a desktop."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += os.stat(f"/proc/{name}/task").st_nlink - 2
            except OSError:
                continue
    return count


def _describe(order: Order, network: str) -> str:
    mib, processes = 1024 * 1024, "unbounded" if order.processes is None else order.processes
    privileges = "the privileges of the agent" if order.may_gain else "no new privileges"
    return (
        f"user {order.user} ({order.effective_uid}), network {network}, {privileges}, own session, "
        f"memory {order.memory_bytes // mib} MiB, {processes} processes, {order.open_files} open files, "
        f"file {order.file_bytes // mib} MiB, time {order.time_s:g} s"
    )


def _make_home(order: Order) -> None:
    """The child's temporary home, with the configuration files it is given."""
    home, temporary = order.home, os.path.join(order.home, "tmp")
    for folder in (home, temporary):
        os.mkdir(folder, 0o700)
    for relative, text in order.files.items():
        path = os.path.join(home, relative)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    if order.uid is not None and order.gid is not None:
        for folder, _folders, names in os.walk(home):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, order.uid, order.gid)


def _remove(order: Order) -> None:
    """Remove the home and what else the order names; nothing of the child uses it any more."""
    for path in [os.path.join(order.home, "tmp"), order.home, *order.remove]:
        try:
            os.rmdir(path)
        except OSError:
            if os.path.lexists(path):
                import shutil  # only here: it would cost each start 10 ms

                shutil.rmtree(path, ignore_errors=True)


def _let_go_of_output() -> None:
    """Point our stdout and stderr elsewhere: the agent's read ends when the last descendant is gone."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _say(status: int, message: dict[str, object]) -> None:
    try:
        os.write(status, json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        pass  # the agent is gone; we are only cleaning up


def _prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _unshare(flags: int) -> None:
    if LIBC.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
