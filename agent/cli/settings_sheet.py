"""How the settings read: section by section, with their values, and nothing of what is secret."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from pydantic import SecretStr
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from agent.cli.common import PREFIX, WIDE_COLUMNS, known_variables, plain
from agent.settings import Section, Settings

HIDDEN = "(secret)"
# The password of a URL: before the host, or among the parameters. Greedy: one that holds an @ is a password to its end.
_IN_URL = ((re.compile(r"(://[^:/@]*):.*@"), rf"\1:{HIDDEN}@"), (re.compile(r"(?i)(password=)[^&]*"), rf"\1{HIDDEN}"))


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable of the environment: what it is, what it is by default, what it is now."""

    name: str
    value: object
    default: object
    description: str

    @property
    def section(self) -> str:
        """The name of the field of Settings that holds it, empty for one that stands alone."""
        first, _, rest = self.name.removeprefix(PREFIX).lower().partition("__")
        return first if rest else ""

    @property
    def text(self) -> str:
        """The value on a terminal; bold where it is not the default."""
        shown = "-" if self.value is None else plain(self.value)
        return shown if self.value == self.default else f"[bold]{shown}[/]"


def settings_of(settings: Settings) -> list[Setting]:
    """All of them, in the order of the sections."""
    found = []
    for name, (description, default) in known_variables().items():
        value: object = settings
        for part in name.removeprefix(PREFIX).lower().split("__"):
            value = getattr(value, part)
        found.append(Setting(name, without_secrets(value), default, description))
    return found


def without_secrets(value: object) -> object:
    """A value that may be shown."""
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, str):
        for pattern, shown in _IN_URL:
            value = pattern.sub(shown, value)
    return value


def show_settings(found: Sequence[Setting], console: Console) -> None:
    """Print them: a table for each section, or line below line on a narrow terminal."""
    name, value = (max(len(str(part)) for part in column) for column in zip(*_cells(found), strict=True))
    for section, members in groupby(found, key=attrgetter("section")):
        console.print(Padding(f"[bold]{section.capitalize() or 'Everywhere'}[/]  {_about(section)}", (1, 0, 0, 0)))
        if console.width < WIDE_COLUMNS:
            for one in members:
                console.print(f"  {one.name}  {one.text}")
                if one.description:
                    console.print(Padding(f"[dim]{plain(one.description)}[/]", (0, 0, 0, 4)))
            continue
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=name + 2, no_wrap=True)
        table.add_column(min_width=min(value, 24), overflow="fold")
        table.add_column(style="dim", overflow="fold")
        for one in members:
            table.add_row(f"  {one.name}", one.text, plain(one.description))
        console.print(table)


def _cells(found: Sequence[Setting]) -> Iterator[tuple[str, object]]:
    yield from ((one.name, one.value) for one in found)


def _about(section: str) -> str:
    """What the settings say of a section."""
    kind = Settings.model_fields[section].annotation if section else None
    is_section = isinstance(kind, type) and issubclass(kind, Section)
    return plain(" ".join((kind.__doc__ or "").split())) if is_section else ""
