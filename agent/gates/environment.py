"""install: the locked packages go into an empty environment, hashes checked, and the runtime's alone carry the code."""

import asyncio
import os
import re
from pathlib import Path

from agent.gates.trial import Trial, last_line, measured, read_report
from contracts.delivery import Evidence

RUNTIME_LOCK, DEV_LOCK = "requirements.lock", "requirements-dev.lock"
PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")
# Every module, so that an import of a development package anywhere in the code is found.
IMPORT_ALL = """
import importlib, pkgutil, app
names = sorted(m.name for m in pkgutil.walk_packages(app.__path__, "app.") if not m.name.endswith("__main__"))
for name in names:
    importlib.import_module(name)
print(len(names) + 1, "modules")
"""


def pins(lock: str) -> set[tuple[str, str]]:
    """(name, version) of every pinned line of a lock file's text; names normalised as PyPI does."""
    found = (PINNED.match(line) for line in lock.splitlines())
    return {(re.sub(r"[-_.]+", "-", match[1]).lower(), match[2]) for match in found if match}


@measured("install")
async def check(trial: Trial) -> Evidence:
    """Install both lock files into empty environments."""
    locks = {name: read_report(trial.project / name) for name in (RUNTIME_LOCK, DEV_LOCK)}
    if missing := [name for name, text in locks.items() if not text]:
        return await trial.evidence(False, f"no {missing[0]} in the project")
    runtime, dev = (pins(text or "") for text in locks.values())
    if foreign := sorted(runtime - dev):
        return await trial.evidence(False, f"{RUNTIME_LOCK} pins {'=='.join(foreign[0])}, {DEV_LOCK} does not")
    version = await _uv_version(trial)
    trial.tools.progress(f"install: {len(dev)} locked packages")
    if fault := await create_environment(trial, trial.environment.folder, DEV_LOCK):
        return await trial.evidence(False, fault, tool="uv", tool_version=version)
    if fault := await _runtime_alone(trial):
        return await trial.evidence(False, fault, tool="uv", tool_version=version)
    return await trial.evidence(
        True,
        f"{len(dev)} packages from {DEV_LOCK}, hashes checked; the {len(runtime)} of {RUNTIME_LOCK} carry the code",
        value=len(dev),
        unit="packages",
        tool="uv",
        tool_version=version,
        details={"packages": len(dev), "runtime_packages": len(runtime)},
    )


async def create_environment(trial: Trial, folder: Path, lock: str) -> str | None:
    """A new environment at `folder` with exactly the packages of `lock`; None, or what went wrong."""
    uv = str(trial.tools.sandbox.tool("uv"))
    text = read_report(trial.project / lock)
    if text is None:
        return f"no {lock} in the project"
    given = trial.installed / lock
    await asyncio.to_thread(_write_new, given, text)
    variables = {"UV_SYSTEM_CERTS": "true", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    made = await trial.install(
        uv, "venv", "--clear", "--python", trial.tools.sandbox.interpreter(), folder, environment=variables, aside=True
    )
    if made.exit_code:
        return f"no environment could be made: {last_line(made.output)}"
    # Wheels only: to build a package is to run its code, with the installer's rights, before anything has judged it.
    synced = await trial.install(
        uv, "pip", "sync", "--require-hashes", "--no-build", "--python", folder / "bin" / "python", given,
        environment=variables,
    )  # fmt: skip
    return f"{lock} could not be installed: {last_line(synced.output)}" if synced.exit_code else None


def _write_new(path: Path, text: str) -> None:
    """Never through a link: where installers have no user of their own, a child may have put one there."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)  # whatever our umask is
        file.write(text)


async def _runtime_alone(trial: Trial) -> str | None:
    if fault := await create_environment(trial, trial.runtime.folder, RUNTIME_LOCK):
        return fault
    imported = await trial.run(trial.runtime.python, "-c", IMPORT_ALL, network="none")
    if imported.exit_code:
        return f"the code does not import with {RUNTIME_LOCK} alone: {last_line(imported.output)}"
    return None


async def _uv_version(trial: Trial) -> str | None:
    shown = await trial.run(trial.tools.sandbox.tool("uv"), "--version", aside=True)
    words = shown.output.split()
    return words[1] if len(words) > 1 else None
