"""What the demo believes of the bus."""

from pathlib import Path

import pytest
import typer

from agent.cli.demo import _service_folder


@pytest.mark.parametrize("path", ["/etc", "../other", "services/../../x", "", "services/\x1b[2J"])
def test_a_delivery_cannot_send_the_demo_elsewhere(path: str, tmp_path: Path) -> None:
    """Its broker listens on loopback: any user of the machine can publish there, and what is named is run."""
    with pytest.raises(typer.Exit):
        _service_folder(tmp_path, path)

    assert _service_folder(tmp_path, "services/x") == tmp_path / "services/x"
