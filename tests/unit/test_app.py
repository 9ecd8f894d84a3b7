"""How the parts are chosen."""

from pathlib import Path

import pytest

from agent.app import artifacts
from agent.artifacts.folder import FolderArtifacts
from agent.artifacts.port import Artifacts
from agent.artifacts.postgres import PostgresArtifacts
from agent.settings import Settings

POSTGRES = "postgresql://agent@db/journal"


@pytest.mark.parametrize(
    ("journal", "store", "kind"),
    [
        (None, None, FolderArtifacts),
        (POSTGRES, None, PostgresArtifacts),
        (POSTGRES, "file:///shared/volume", FolderArtifacts),
        (None, POSTGRES, PostgresArtifacts),
    ],
)
def test_agents_that_share_a_journal_share_their_artefacts(
    tmp_path: Path, journal: str | None, store: str | None, kind: type[Artifacts]
) -> None:
    """A checkpoint that names bytes on the disk of one pod would be worth nothing on another, unless somebody says so."""
    settings = Settings.model_validate(
        {"workspace": tmp_path, "journal": {"url": journal}, "artifacts": {"url": store}}
    )

    assert isinstance(artifacts(settings), kind)
