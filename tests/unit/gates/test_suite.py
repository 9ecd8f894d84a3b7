"""How gates are run: order, needs, exclusiveness, cancelling."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from agent.gates.gate import Gate, Subject, Tools
from agent.gates.suite import GATES, run_gate, run_suite, stages
from contracts.delivery import Evidence, GateVerdict

SUBJECT = Subject(folder=Path(), work=Path(), digest="sha256:0", facts={})
PASS, FAIL, SKIPPED = GateVerdict.PASS, GateVerdict.FAIL, GateVerdict.SKIPPED


class Bench:
    """Records what ran and how many at once."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.running = 0
        self.most = 0
        self.lines: list[str] = []

    @property
    def tools(self) -> Tools:
        """Tools of which only `progress` is used."""
        none = cast(Any, None)
        return Tools(none, none, none, none, none, none, self.lines.append)

    def gate(self, name: str, stage: int = 0, verdict: GateVerdict = PASS, **more: Any) -> Gate:
        """A gate that notes its run."""

        async def check(subject: Subject, tools: Tools) -> Evidence:
            self.running += 1
            self.most = max(self.most, self.running)
            self.order.append(name)
            await asyncio.sleep(0)  # a turn for the gates beside it
            self.running -= 1
            return Evidence(gate=name, verdict=verdict, summary="measured")

        return Gate(name, name, stage, check, **more)


def test_gates_are_the_agreed_ones_in_an_order_that_meets_every_need() -> None:
    """What a gate needs has ended before its stage begins."""
    stage_of = {gate.name: gate.stage for gate in GATES}

    assert {
        "install",
        "lint",
        "types",
        "tests",
        "migrations",
        "start",
        "document",
        "fuzz",
        "holes",
        "load",
        "security",
    } <= set(stage_of)
    assert all(stage_of[need] < gate.stage for gate in GATES for need in gate.needs)
    assert [gate.name for gate in GATES if gate.exclusive] == ["load"]
    assert all(gate.remedy for gate in GATES)


async def test_an_unmet_need_skips_with_the_reason() -> None:
    """No number and no child process where the ground is missing."""
    bench = Bench()
    gate = bench.gate("load", needs=("install",))

    for earlier, reason in (
        ({}, "needs install, which was not run"),
        ({"install": Evidence(gate="install", verdict=FAIL, summary="")}, "needs install, which failed"),
        ({"install": Evidence(gate="install", verdict=SKIPPED, summary="")}, "needs install, which was skipped"),
    ):
        found = await run_gate(gate, SUBJECT, bench.tools, earlier)
        assert (found.verdict, found.summary, found.value) == (SKIPPED, reason, None)
    assert bench.order == []


async def test_stages_follow_each_other_and_a_failure_skips_its_dependants() -> None:
    """Evidence comes for every gate, in the order asked for."""
    bench = Bench()
    gates = [
        bench.gate("load", 2, needs=("start",), exclusive=True), bench.gate("start", 1, FAIL), bench.gate("lint", 1), bench.gate("install"),
    ]  # fmt: skip
    seen: list[str] = []

    found = await run_suite(SUBJECT, bench.tools, gates=gates, on_evidence=lambda e: seen.append(e.gate))

    assert [e.gate for e in found] == ["load", "start", "lint", "install"]
    assert [e.verdict for e in found] == [SKIPPED, FAIL, PASS, PASS]
    assert bench.order[0] == "install"
    assert seen[-1] == "load"


async def test_an_exclusive_gate_runs_alone_and_others_share_the_cores() -> None:
    """A load that competes with mypy measures mypy."""
    bench = Bench()
    gates = [bench.gate(name) for name in "abcd"] + [bench.gate("alone", exclusive=True)]

    assert [[g.name for g in stage] for stage in stages(gates)] == [["a", "b", "c", "d"], ["alone"]]
    await run_suite(SUBJECT, bench.tools, gates=gates, at_once=2)
    assert bench.most == 2


async def test_trouble_with_the_machine_cancels_the_others_and_is_raised() -> None:
    """EnvironmentUnfit is nobody's evidence."""
    bench = Bench()
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hangs(subject: Subject, tools: Tools) -> Evidence:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    async def breaks(subject: Subject, tools: Tools) -> Evidence:
        await begun.wait()
        raise OSError("disk full")

    gates = [Gate("hangs", "", 0, hangs), Gate("breaks", "", 0, breaks)]
    with pytest.raises(OSError, match="disk full"):
        await run_suite(SUBJECT, bench.tools, gates=gates)
    assert cancelled.is_set()
