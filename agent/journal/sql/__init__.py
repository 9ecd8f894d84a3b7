"""Named SQL statements, one folder per store: `statements.sql` and numbered migrations."""

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def statements(store: str) -> Mapping[str, str]:
    """The statements of `<store>/statements.sql` by the name in the line `-- name: …` above each."""
    parts = _NAME.split(files(__name__).joinpath(store, "statements.sql").read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], (text.strip().removesuffix(";") for text in parts[2::2]), strict=True))


def migrations(store: str) -> tuple[tuple[int, str], ...]:
    """(number, script) of each `NNN_name.sql`, in order."""
    found = [entry for entry in files(__name__).joinpath(store).iterdir() if re.match(r"\d{3}_", entry.name)]
    return tuple(
        (int(entry.name[:3]), entry.read_text(encoding="utf-8")) for entry in sorted(found, key=lambda e: e.name)
    )
