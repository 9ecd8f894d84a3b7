"""Temporary folders of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.sandbox import folders
from agent.sandbox.local import LocalSandbox
from agent.sandbox.port import Command, Leash
from tests.unit.sandbox.processes import ROOT

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a user for installers needs root; we are an ordinary user")


def test_base_of_a_dead_process_is_swept_and_a_living_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 leaves a folder; its lock is free, whatever its process id is today."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(folders, "YOUNG_S", -1)
    living = folders.Base(others_pass=False)
    dead = tmp_path / f"backwright-{os.geteuid()}-dead"
    (dead / "home").mkdir(parents=True)
    (dead / ".lock").touch()
    foreign = tmp_path / "backwright-something-else"
    foreign.mkdir()

    assert folders.sweep() == 1

    assert not dead.exists()
    assert living.path.exists()
    assert foreign.exists()
    living.remove()
    assert not living.path.exists()


def test_removing_follows_no_link(tmp_path: Path) -> None:
    """A child may have left links to anywhere."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (outside / "precious").touch()
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (tmp_path / "direct").symlink_to(outside)

    folders.remove_tree(inside)
    folders.remove_tree(tmp_path / "direct")

    assert (outside / "precious").exists()
    assert not inside.exists()


def test_children_cannot_read_the_secrets_of_an_agent_that_hides() -> None:
    """As an ordinary user a child has our user id, and /proc would show it our environment."""
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from agent.sandbox.local import LocalSandbox, hide_from_children\n"
        "from agent.sandbox.port import Command, Leash\n"
        "from agent.settings import SandboxSettings\n"
        "hide_from_children()\n"
        "async def main():\n"
        "    sandbox = LocalSandbox(SandboxSettings(), pathlib.Path('unused'))\n"
        "    command = Command(['cat', f'/proc/{os.getpid()}/environ'], cwd=pathlib.Path('/'))\n"
        "    print((await sandbox.run(command, leash=Leash())).output)\n"
        "asyncio.run(main())\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PLANTED": "secret"}, capture_output=True, text=True
    )

    assert "Permission denied" in done.stdout, done.stdout + done.stderr
    assert "secret" not in done.stdout


async def test_package_cache_is_shared_by_installers(sandbox: LocalSandbox) -> None:
    """Installers of all tasks fill one cache, as the installers' user."""
    if os.geteuid() == 0:
        sandbox = LocalSandbox(sandbox._settings, sandbox.base / "packages")  # a place that the user can come to
    command = Command(
        ["sh", "-c", 'echo x > "$UV_CACHE_DIR/probe"; echo "$UV_CACHE_DIR"'], cwd=Path("/"), installer=True
    )

    first = await sandbox.run(command, leash=Leash())

    assert (Path(first.output.strip()) / "probe").read_text() == "x\n"
    assert first.output.strip() == str(sandbox.package_cache)


@needs_root
async def test_code_under_test_changes_neither_packages_nor_what_was_installed(sandbox: LocalSandbox) -> None:
    """A hostile build must not reach the next task through the cache, nor the tools that judge it next."""
    cache = LocalSandbox(sandbox._settings, sandbox.base / "packages").package_cache
    sandbox = LocalSandbox(sandbox._settings, cache)
    async with sandbox.scratch("work-") as work:
        installed = sandbox.installed(work)
        made = await sandbox.run(
            Command(["sh", "-c", 'mkdir bin; echo good | tee bin/tool > "$UV_CACHE_DIR/wheel"'], cwd=installed, installer=True),
            leash=Leash(),
        )  # fmt: skip
        assert made.exit_code == 0, made.output
        attacks = (
            f"echo evil > {cache}/wheel", f"rm -f {cache}/wheel", f"echo evil > {cache}/other", f"mv {cache} {cache}2",
            f"echo evil > {installed}/bin/tool", f"rm -f {installed}/bin/tool", f"mv {installed} {work}/x",
            f"echo evil > {installed}/uv.toml", f"ln -s {work} {installed}/bin/link",
        )  # fmt: skip

        done = await sandbox.run(
            Command(["sh", "-c", f"{' ; '.join(attacks)} ; cat {installed}/bin/tool"], cwd=work), leash=Leash()
        )

        assert done.output.endswith("good\n")
        assert (cache / "wheel").read_text() == "good\n"
        assert sorted(path.name for path in cache.iterdir()) == ["wheel"]
        assert sorted(path.name for path in installed.rglob("*")) == ["bin", "tool", "uv.toml"]
    assert not installed.exists()


@needs_root
async def test_packages_that_others_could_write_are_not_taken_over(sandbox: LocalSandbox) -> None:
    """Hashes are checked when a package comes, not when it is taken from the cache again."""
    cache = sandbox.base / "packages"
    cache.mkdir()
    (cache / "wheel").write_text("evil")
    folders.give(cache, 65534, 65534)

    found = LocalSandbox(sandbox._settings, cache).package_cache

    assert found == cache
    assert list(cache.iterdir()) == []
    assert cache.stat().st_uid == sandbox.installer.uid
