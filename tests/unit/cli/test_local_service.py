"""Credentials that `serve` keeps are nobody else's."""

import os
import stat
from pathlib import Path

from agent.cli.local_service import KeptCredentials
from agent.gates.gate import Subject
from agent.gates.live import Credentials
from agent.settings import Settings

TEXT = '{"environment": {"SERVICE_KEY": "x"}}'


def test_kept_credentials_are_closed_to_others_and_written_through_no_link(tmp_path: Path) -> None:
    """Whatever our umask is; and a name in a manifest is no path."""
    subject = Subject(tmp_path, tmp_path, "sha256:" + "ab" * 32, {})
    kept = KeptCredentials(Settings(workspace=tmp_path / "workspace"), subject)
    file = tmp_path / "workspace/credentials" / f"{'ab' * 8}.json"
    target = tmp_path / "target"
    target.write_text("untouched")
    file.parent.mkdir(parents=True, mode=0o700)
    file.symlink_to(target)
    before = os.umask(0)

    try:
        kept.keep(Credentials.parse(TEXT))
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.lstat().st_mode) == 0o600
    assert target.read_text() == "untouched"
    assert kept.load() is not None
