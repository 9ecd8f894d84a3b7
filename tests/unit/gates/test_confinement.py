"""What a gate asks of the sandbox: no network where none is needed, and installers that nothing hostile configures."""

from pathlib import Path
from typing import Any

import pytest

from agent.gates import environment, static
from agent.gates.trial import open_trial
from tests.unit.gates.test_trial import bench

LOCK = "a==1 --hash=sha256:00\n"


@pytest.mark.parametrize("check", [static.check_lint, static.check_types, static.check_security])
async def test_linters_run_without_a_network(tmp_path: Path, check: Any) -> None:
    """A plugin that the project's configuration names is code of a stranger: it has nobody to call."""
    subject, tools, sandbox = bench(tmp_path, (0, ""), (0, ""))

    await check(subject, tools)

    assert {command.network for command in sandbox.commands} == {"none"}


async def test_installers_take_wheels_with_hashes_and_no_configuration_of_the_project(tmp_path: Path) -> None:
    """A source package runs its own code when it is built; `[tool.uv]` of the project could ask for that and for more."""
    subject, tools, sandbox = bench(tmp_path, (0, ""), (0, ""))
    (subject.folder / "requirements.lock").write_text(LOCK)
    subject.work.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("ours")
    (subject.work / "requirements.lock").symlink_to(secret)

    async with open_trial("install", subject, tools) as trial:
        fault = await environment.create_environment(trial, trial.runtime.folder, "requirements.lock")

    assert fault is None
    _venv, sync = sandbox.commands
    assert {"--require-hashes", "--no-build"} <= set(sync.argv)
    assert sync.installer
    assert not sync.cwd.is_relative_to(trial.folder)
    assert sync.argv[-1] == str(subject.work / "requirements.lock")
    assert (subject.work / "requirements.lock").read_text() == LOCK
    assert secret.read_text() == "ours"
