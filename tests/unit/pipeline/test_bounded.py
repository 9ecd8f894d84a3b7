"""The compiler in a process of its own: the same answers, and an end to what costs too much."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agent.compiler.compile import compile_document
from agent.compiler.understand import understand
from agent.errors import SpecRejected
from agent.formatting import ruff_format
from agent.pipeline.bounded import compile_bounded, understand_bounded
from agent.settings import CompilerSettings
from agent.testing.waiting import until
from contracts.tasks import Target
from tests.golden.variants import HOSTILE_NAMES, NO_AUTH

Json = Any
PYTHON = Target.PYTHON_FASTAPI


def dense(things: int) -> bytes:
    """Things that all name each other: the document grows with their square, its cost by more."""
    names = [f"R{number}" for number in range(things)]
    one = {name: {"$ref": f"#/components/schemas/{name}"} for name in names}
    schemas = {
        name: {
            "type": "object",
            "required": ["id"],
            "properties": {"id": {"type": "integer", "readOnly": True}, **{f"p{other}": one[other] for other in names}},
        }
        for name in names
    }
    paths = {
        f"/{name}": {
            "post": {
                "requestBody": {"content": {"application/json": {"schema": one[name]}}},
                "responses": {"201": {"description": "", "content": {"application/json": {"schema": one[name]}}}},
            }
        }
        for name in names
    }
    document = {"openapi": "3.1.0", "info": {"title": "Dense", "version": "1"}, "paths": paths}
    return json.dumps({**document, "components": {"schemas": schemas}}).encode()


@pytest.mark.parametrize("document", [NO_AUTH, HOSTILE_NAMES], ids=["no-auth", "hostile-names"])
async def test_a_child_answers_what_this_process_would(document: Json) -> None:
    """What goes through a pipe is the meaning itself, not an excerpt."""
    given, settings = json.dumps(document).encode(), CompilerSettings()

    assert await understand_bounded(given, settings) == understand(given, settings)
    made = await compile_bounded(given, service="here", target=PYTHON, settings=settings)
    own = compile_document(given, service="here", target=PYTHON, settings=settings, format=ruff_format)
    assert (made.digest, made.manifest, made.report) == (own.digest, own.manifest, own.report)
    assert dict(made.files) == dict(own.files)


async def test_a_refusal_comes_back_with_its_diagnostics() -> None:
    """A person must see what is wrong, not that a process ended."""
    with pytest.raises(SpecRejected) as caught:
        await understand_bounded(b"swagger: '2.0'", CompilerSettings())
    assert [one.code for one in caught.value.diagnostics] == ["document.swagger2"]


@pytest.mark.parametrize(
    "job",
    [understand_bounded, lambda *given: compile_bounded(given[0], service=None, target=PYTHON, settings=given[1])],
)
async def test_a_document_that_costs_too_much_time_is_refused(job: Any) -> None:
    """0.4 MB within every limit took 26 s of the agent's own processor time, in a thread that no deadline ended."""
    with pytest.raises(SpecRejected) as caught:
        await job(dense(100), CompilerSettings(cpu_s=1))

    (fault,) = caught.value.diagnostics
    assert (fault.code, fault.severity) == ("document.too_expensive", "error")
    assert "1 s of processor time" in fault.message
    assert "BACKWRIGHT_COMPILER__CPU_S" in fault.remedy


async def test_a_document_that_costs_too_much_memory_is_refused() -> None:
    """The agent's other tasks live in the same machine."""
    wide = {**NO_AUTH, "x-wide": [{str(number): number} for number in range(120_000)]}
    with pytest.raises(SpecRejected) as caught:
        await understand_bounded(json.dumps(wide).encode(), CompilerSettings(memory_bytes=96 * 1024**2))

    (fault,) = caught.value.diagnostics
    assert fault.code == "document.too_expensive"
    assert "BACKWRIGHT_COMPILER__MEMORY_BYTES" in fault.remedy


async def test_the_event_loop_goes_on_meanwhile() -> None:
    """A lease is renewed in the loop: whatever a document costs, the loop is never late by more than a moment."""
    working = asyncio.create_task(understand_bounded(dense(60), CompilerSettings()))
    latest = 0.0
    while not working.done():
        before = time.monotonic()
        await asyncio.sleep(0)
        latest = max(latest, time.monotonic() - before)
        await asyncio.wait([working], timeout=0.02)

    found, _ = await working
    assert len(found.operations) == 60
    assert latest < 1.0


async def test_the_child_of_a_cancelled_attempt_is_gone_when_the_cancellation_is() -> None:
    """It would compute for a minute, for nobody."""

    def children() -> set[str]:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    others = children()
    working = asyncio.create_task(understand_bounded(dense(100), CompilerSettings()))
    await until(lambda: children() - others, "a child")

    working.cancel()
    await asyncio.gather(working, return_exceptions=True)

    assert working.cancelled()
    assert children() == others
