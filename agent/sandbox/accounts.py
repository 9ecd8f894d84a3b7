"""Who runs a child, and what that user can reach."""

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import EnvironmentUnfit
from agent.settings import SandboxSettings

VERSIONS = ("3.11", "3.12", "3.13")
INSTALLER = 65533  # a number that distributions give to nobody; only what installers made belongs to it
SYSTEM_FOLDERS = (Path("/usr/bin"), Path("/usr/local/bin"))


@dataclass(frozen=True, slots=True)
class Account:
    """The user of a child. `uid` None: ours, nothing is changed."""

    name: str
    uid: int | None = None
    gid: int | None = None

    @property
    def effective_uid(self) -> int:
        """The uid that a child has."""
        return os.geteuid() if self.uid is None else self.uid

    def reaches(self, path: Path, *, access: int = os.R_OK) -> bool:
        """Whether the user can open `path` (R_OK) or execute it (R_OK | X_OK); judged by modes, ACLs are not seen."""
        if self.uid is None:
            return os.access(path, access)
        try:
            real = path.resolve(strict=True)
            return self._allows(real, access) and all(self._allows(folder, os.X_OK) for folder in real.parents)
        except OSError:
            return False

    def _allows(self, path: Path, access: int) -> bool:
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        if stat.S_ISDIR(status.st_mode) and access & os.R_OK:
            access |= os.X_OK
        return (status.st_mode >> shift) & access == access


def choose(settings: SandboxSettings) -> Account:
    """The account for children: ours if we are an ordinary user, else `settings.user`.

    Root only if the settings allow it and no other user can do the work. Raises EnvironmentUnfit.
    """
    if os.geteuid() != 0:
        return ourselves()
    problem = f"there is no user {settings.user!r}"
    try:
        entry = pwd.getpwnam(settings.user)
    except KeyError:
        pass
    else:
        account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
        if entry.pw_uid != 0 and _can_become(account):
            if not settings.allow_root or find_interpreter(account):
                return account
            problem = f"user {settings.user!r} can execute no Python 3.11 to 3.13"
        else:
            problem = f"children cannot be run as {settings.user!r}"
    if settings.allow_root:
        return Account("root, allowed by the settings")
    raise EnvironmentUnfit(
        f"running as root, but {problem}",
        remedy="run as an ordinary user, or name one in BACKWRIGHT_SANDBOX__USER; "
        "BACKWRIGHT_SANDBOX__ALLOW_ROOT=true runs children as root (only in a throwaway container)",
    )


def ourselves() -> Account:
    """Whoever we are."""
    return Account(pwd_name(os.geteuid()))


def installer_beside(account: Account) -> Account:
    """Who runs installers: where `account` is not ours, a user that runs nothing else.

    What is installed, and the package cache, then belong to neither the code under test nor to us. `account` itself
    where we have no choice (an ordinary user, a container without that number).
    """
    if account.uid is None:
        return account
    installer = Account("installer", INSTALLER, INSTALLER)
    return installer if account.uid != INSTALLER and _can_become(installer) else account


def find_interpreter(account: Account) -> Path | None:
    """A Python that `account` can execute, our own if possible; None if there is none."""
    for candidate in _candidates():
        if account.reaches(candidate, access=os.R_OK | os.X_OK) and account.reaches(_library(candidate)):
            return candidate
    return None


def temporary_folder(account: Account) -> Path:
    """The system's temporary folder, or, where `account` cannot enter it (TMPDIR below a closed home), a usual one."""
    own = Path(tempfile.gettempdir())
    usual = (own, Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - a folder of random name and mode 0711 is made in it
    return next((folder for folder in usual if account.reaches(folder, access=os.X_OK)), own)


def stand_in(account: Account, settings: SandboxSettings) -> int | None:
    """The uid of a named user to appear as, in a user namespace, where the account's own uid has no name; else None."""
    try:
        pwd.getpwuid(account.effective_uid)
    except KeyError:
        try:
            return pwd.getpwnam(settings.user).pw_uid
        except KeyError:
            return None
    return None


def pwd_name(uid: int) -> str:
    """Name of a user, or its number where it has none (containers)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _candidates() -> Iterator[Path]:
    # Not sys.executable: that may be a link in a virtual environment, and uv wants the interpreter behind it.
    yield Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in sorted(VERSIONS, key=lambda version: version != own):
        for folder in SYSTEM_FOLDERS:
            yield folder / f"python{version}"


def _library(interpreter: Path) -> Path:
    """A file of the standard library that belongs to the interpreter: executable alone is not enough."""
    real = interpreter.resolve()
    return real.parent.parent / "lib" / real.name / "os.py"


def _can_become(account: Account) -> bool:
    """Root without CAP_SETUID, or in a user namespace that has no such user, cannot."""
    # By its whole path: our own PATH may lead through folders that the other user cannot enter.
    program = next((path for path in ("/bin/true", "/usr/bin/true") if os.access(path, os.X_OK)), "true")
    try:
        child = subprocess.run(
            [program], cwd="/", user=account.uid, group=account.gid, extra_groups=[], check=False, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return child.returncode == 0
