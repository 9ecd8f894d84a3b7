"""The tree of errors; three kinds decide everything.

    BackwrightError
    ├── TransientError(retry_after_s)   the world may be better later   → retry
    │   ├── JournalUnavailable
    │   └── BusUnavailable
    ├── PermanentError                  the request cannot succeed      → reject or fail, never retry
    │   └── SpecRejected(diagnostics)
    ├── FatalError                      this process must not go on     → stop, exit code 3
    │   └── EnvironmentUnfit
    └── Fenced                          another attempt owns the task   → stop writing, say nothing

Expected trouble is data, not an exception: diagnostics, findings, verdicts.
Adapters translate foreign exceptions at their edge; only the worker catches `Exception`, once, at the attempt's boundary.
"""

from collections.abc import Sequence
from typing import Any


class BackwrightError(Exception):
    """Root of every error that this package raises on purpose."""


class TransientError(BackwrightError):
    """What we tried failed for a reason that may pass."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class JournalUnavailable(TransientError):
    """The journal did not answer; nothing is known to be stored. Safe to retry."""


class BusUnavailable(TransientError):
    """The broker did not answer or did not acknowledge. Safe to retry: events keep their ids."""


class PermanentError(BackwrightError):
    """Trying again cannot help."""


class SpecRejected(PermanentError):
    """A specification has faults. `diagnostics` holds them as values (contracts.status.Diagnostic)."""

    def __init__(self, diagnostics: Sequence[Any]) -> None:
        super().__init__(f"specification refused: {len(diagnostics)} fault(s)")
        self.diagnostics = tuple(diagnostics)


class FatalError(BackwrightError):
    """The process must stop; `remedy` says what a person can do about it."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class EnvironmentUnfit(FatalError):
    """A port is taken, a broker or database is out of reach, the disk is full, a platform is not supported."""


class Fenced(BackwrightError):
    """A write carried an old fence: the task belongs to a later claim, and nothing was written."""
