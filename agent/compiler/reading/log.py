"""What normalisation did to a document: changes, grouped by text, and diagnostics. Bounded: a small document can ask for
half a million of them, and nobody reads beyond the first thousand."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.compiler.diagnostics import Told

_LISTED = 3  # the same change at more places is told once, with its number
_TOLD = 1_000  # texts of changes; the others are counted


@dataclass(slots=True)
class Places:
    """Where one change was made."""

    first: list[str] = field(default_factory=list)
    number: int = 0

    def add(self, pointer: str) -> None:
        """Note one more."""
        self.number += 1
        if len(self.first) < _LISTED:
            self.first.append(pointer)


@dataclass(slots=True)
class Log:
    """Changes (grouped by text) and diagnostics, in order of appearance."""

    changed: dict[str, Places] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)  # texts of changes that have a diagnostic of their own
    told: Told = field(default_factory=Told)
    untold: int = 0

    def change(self, text: str, pointer: str) -> None:
        """Note that `text` was done at `pointer`."""
        if text in self.changed or len(self.changed) < _TOLD:
            self.changed.setdefault(text, Places()).add(pointer)
        else:
            self.untold += 1

    def drop(self, what: str, why: str, pointer: str) -> None:
        """Note that something was left out."""
        self.told.tell("dropped", pointer, what=what, why=why)
        text = f"left out {what} ({why})"
        self.dropped.add(text)
        self.change(text, pointer)

    def lines(self, *, told: bool = False) -> Iterator[tuple[str, str]]:
        """(line, first pointer) of every change; with `told`, only of those without a diagnostic of their own."""
        for text, places in self.changed.items():
            if told and text in self.dropped:
                continue
            if places.number <= _LISTED:
                yield from ((f"{pointer or '/'}: {text}", pointer) for pointer in places.first)
            else:
                yield f"{text}: {places.number} places, first {places.first[0]}", places.first[0]
        if self.untold:
            yield f"{self.untold} further corrections are not listed", ""
