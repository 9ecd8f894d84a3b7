"""Named places at which a test may kill this process. The list is complete: a test fails if a point has no test.

A point is a place where a crash is interesting: between two effects that cannot be one transaction. It costs one
comparison when it is off, and it can be switched on through the environment only, before the process starts:
`BACKWRIGHT_CRASH_POINT=name[/detail][:hits][:signal]` — the process gets `signal` (KILL) when the point (with that
detail, for example the step) is hit for the `hits`-th time. The variable is not a setting: no configuration of ours can reach it.
"""

import os
import signal

# name → what a crash here leaves behind. tests/acceptance/faults holds one test per name.
POINTS = {
    "inbox.polled": "records were read, nothing is stored",
    "inbox.accepted": "stored, the offset is not committed",
    "inbox.committed": "stored and committed, nobody has started",
    "worker.claimed": "a lease without an attempt",
    "worker.step_done": "a step took effect, its checkpoint is not stored",
    "worker.checkpointed": "the checkpoint and its events are stored, nothing is published",
    "worker.work_done": "all steps are stored, the end is not",
    "worker.finished": "the end is stored, the attempt's folder still lies there",
    "worker.draining": "SIGTERM was seen, attempts still run",
    "outbox.taken": "rows were taken, nothing is published",
    "outbox.published": "acknowledged by the broker, not marked",
    "outbox.marked": "marked as sent",
}


class _Armed:
    """What the environment asked for."""

    def __init__(self, request: str) -> None:
        place, _, rest = request.partition(":")
        hits, _, how = rest.partition(":")
        name, _, self.detail = place.partition("/")
        if name not in POINTS:
            raise ValueError(f"unknown crash point {name!r}")
        self.name = name
        self.left = int(hits or 1)
        self.signal = signal.Signals[f"SIG{how or 'KILL'}"]

    def hit(self, name: str, detail: str) -> None:
        if name != self.name or (self.detail and detail != self.detail):
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signal)


_armed = _Armed(os.environ["BACKWRIGHT_CRASH_POINT"]) if "BACKWRIGHT_CRASH_POINT" in os.environ else None


def crash_point(name: str, detail: str = "") -> None:
    """Die here if a test asked for it."""
    if _armed is not None:
        _armed.hit(name, detail)
