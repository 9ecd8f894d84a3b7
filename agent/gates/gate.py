"""A gate: one check on a file set, with evidence."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.artifacts.port import Artifacts
from agent.clock import Clock
from agent.sandbox.port import Leash, Sandbox
from agent.services.port import Databases
from agent.settings import GateSettings
from contracts.delivery import Evidence


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked: a folder with exactly the files of `digest`, its environment, and the manifest's facts."""

    folder: Path  # the project, as delivered
    work: Path  # scratch: environment, homes, logs; next to, never inside the project
    digest: str
    facts: Mapping[str, Any]  # `.backwright/manifest.json`: operations, base path, hooked operations, …


@dataclass(frozen=True, slots=True)
class Tools:
    """What a gate works with."""

    sandbox: Sandbox
    databases: Databases
    artifacts: Artifacts
    clock: Clock
    leash: Leash
    settings: GateSettings
    progress: Callable[[str], None] = field(default=lambda _line: None)


@dataclass(frozen=True, slots=True)
class Gate:
    """`check` returns evidence (never raises for a failing subject). `needs` names gates that must have passed;
    gates of one `stage` may run at the same time, stages follow each other; an `exclusive` gate runs alone."""

    name: str
    title: str
    stage: int
    check: Callable[[Subject, Tools], Awaitable[Evidence]]
    needs: tuple[str, ...] = ()
    exclusive: bool = False
    remedy: str = ""  # what to read when it fails
