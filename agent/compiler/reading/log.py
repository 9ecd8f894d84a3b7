"""What normalisation did to a document: changes, grouped by text, and diagnostics."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.compiler.diagnostics import diagnostic
from contracts.status import Diagnostic

_LISTED = 3  # the same change at more places is told once, with its number


@dataclass(slots=True)
class Log:
    """Changes (grouped by text) and diagnostics, in order of appearance."""

    changed: dict[str, list[str]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)  # texts of changes that have a diagnostic of their own
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def change(self, text: str, pointer: str) -> None:
        """Note that `text` was done at `pointer`."""
        self.changed.setdefault(text, []).append(pointer)

    def drop(self, what: str, why: str, pointer: str) -> None:
        """Note that something was left out."""
        self.diagnostics.append(diagnostic("dropped", pointer, what=what, why=why))
        text = f"left out {what} ({why})"
        self.dropped.add(text)
        self.change(text, pointer)

    def lines(self, *, told: bool = False) -> Iterator[tuple[str, str]]:
        """(line, first pointer) of every change; with `told`, only of those without a diagnostic of their own."""
        for text, pointers in self.changed.items():
            if told and text in self.dropped:
                continue
            if len(pointers) <= _LISTED:
                yield from ((f"{pointer or '/'}: {text}", pointer) for pointer in pointers)
            else:
                yield f"{text}: {len(pointers)} places, first {pointers[0]}", pointers[0]
