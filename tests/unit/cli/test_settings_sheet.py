"""`check-config`: every setting with its value, and nothing secret, on every width."""

import io

import pytest
from pydantic import SecretStr
from rich.console import Console

from agent.cli.common import known_variables
from agent.cli.settings_sheet import settings_of, show_settings, without_secrets
from agent.settings import JournalSettings, KafkaSettings, Settings


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (SecretStr("hush"), "(secret)"),
        ("postgresql://me:hush@db:5432/x", "postgresql://me:(secret)@db:5432/x"),
        ("postgresql://me:hu@sh/hush@db/x", "postgresql://me:(secret)@db/x"),
        (
            "postgresql://me@db/x?password=hush&sslmode=require",
            "postgresql://me@db/x?password=(secret)&sslmode=require",
        ),
        ("postgresql://me@db/x", "postgresql://me@db/x"),
        ("sqlite:///var/lib/journal.sqlite", "sqlite:///var/lib/journal.sqlite"),
        (9464, 9464),
    ],
)
def test_what_is_secret_is_not_shown(value: object, shown: object) -> None:
    """A URL may carry a password, too; the rest of it is what somebody wants to check."""
    assert without_secrets(value) == shown


@pytest.mark.parametrize("columns", [80, 140])
def test_every_setting_is_listed_and_no_secret(columns: int) -> None:
    """The output is pasted into tickets."""
    settings = Settings(
        journal=JournalSettings(url="postgresql://me:hush@db/x"), kafka=KafkaSettings(sasl_password=SecretStr("hush"))
    )
    stream = io.StringIO()

    show_settings(settings_of(settings), Console(file=stream, width=columns))

    shown = stream.getvalue()
    assert all(name in shown for name in known_variables())
    assert "Limits on a document" in shown
    assert "hush" not in shown
    assert max(map(len, shown.splitlines())) <= columns


def test_every_setting_says_what_it_is() -> None:
    """Who reads a bare name and a number has to read the code next."""
    assert [name for name, (description, _) in known_variables().items() if not description.endswith(".")] == []
