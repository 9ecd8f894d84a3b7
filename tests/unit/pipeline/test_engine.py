"""The engine: order, checkpoints, resumption, and the ends that a task can have."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from structlog.testing import capture_logs

import contracts
from agent import __version__
from agent.journal.port import Ending, NewAnswer
from agent.pipeline.phase import Step
from agent.pipeline.verify import Floor
from agent.settings import GateSettings
from contracts.status import Diagnostic, TaskStatus
from tests.unit.pipeline.support import Bench

SCHEMAS = Path(contracts.__file__).parent / "schemas"
FAULT = Diagnostic(pointer="/paths", code="openapi.no_paths", severity="error", message="no paths", remedy="add one")


async def test_a_request_becomes_a_delivery_and_then_a_completed_status(bench: Bench) -> None:
    """The delivery is published before the terminal status."""
    await bench.accept(service="orders")

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.COMPLETED
    types = [row.type for row in await bench.events()]
    assert types.count("task.delivered") == 1
    assert types.index("task.delivered") < len(types) - 1
    last = (await bench.statuses())[-1]
    assert last["status"] == "completed"
    assert last["state"] == "completed"
    assert last["pending"] == ["Operation shipOrder"]
    assert [e["gate"] for e in last["evidence"]] == ["install", "lint", "tests", "load", "security"]


async def test_sequences_are_gapless_and_statuses_fit_the_contract(bench: Bench) -> None:
    """Watchers count on both."""
    await bench.accept()
    await bench.attempt()

    rows = await bench.events("task.status")

    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        TaskStatus.model_validate(row.data)
        assert {"agent", "status", "phase", "completed", "pending"} <= row.data.keys()


@pytest.mark.parametrize("failing", [set(), {"lint"}], ids=["delivered", "failed"])
async def test_everything_that_is_published_fits_the_closed_schemas(bench: Bench, failing: set[str]) -> None:
    """Strangers validate against the committed files."""
    bench.suite.failing = failing
    await bench.accept()
    await bench.attempt()

    rows = await bench.events()
    assert {row.type for row in rows} >= {"task.status"}
    for row in rows:
        schema = json.loads((SCHEMAS / f"{row.type}.json").read_text())
        faults = jsonschema.Draft202012Validator(schema).iter_errors(dict(row.data))
        assert [fault.message for fault in faults] == [], row.type


async def test_completed_and_pending_are_one_constant_catalogue(bench: Bench) -> None:
    """An item never vanishes; only holes join, when the document has been read, and they stay."""
    await bench.accept()
    await bench.attempt()

    statuses = [s for s in await bench.statuses() if s.get("step") or s["status"] == "completed"]

    whole = {*statuses[-1]["completed"], *statuses[-1]["pending"]}
    holes = {"Operation shipOrder"}
    done = 0
    for status in statuses:
        assert {*status["completed"], *status["pending"]} in (whole, whole - holes)
        assert not {*status["completed"]} & {*status["pending"]}
        assert len(status["completed"]) >= done
        done = len(status["completed"])
    assert whole - holes == {*statuses[-1]["completed"]}


async def test_stages_run_in_order_and_exclusive_gates_alone(bench: Bench) -> None:
    """Load must not be measured while anything else runs."""
    await bench.accept()
    await bench.attempt()

    names = [(s["step"]["name"], s["step"]["state"]) for s in await bench.statuses() if s.get("step")]

    assert names.index(("gate.install", "finished")) < names.index(("gate.lint", "started"))
    assert names.index(("gate.tests", "started")) < names.index(("gate.lint", "finished"))
    assert names.index(("gate.security", "finished")) < names.index(("gate.load", "started"))


async def test_an_exclusive_gate_is_alone_over_all_attempts() -> None:
    """Two tasks at a time must not disturb each other's measurement, nor wait for each other forever."""
    floor = Floor()
    inside: set[str] = set()
    seen: list[set[str]] = []

    async def stand(name: str, *, alone: bool) -> None:
        async with floor.place(alone=alone):
            inside.add(name)
            seen.append(set(inside))
            await asyncio.sleep(0)  # a turn for whoever may come in
            inside.remove(name)

    names = ["load-1", "lint-1", "load-2", "lint-2", "types-1", "types-2"]
    await asyncio.wait_for(asyncio.gather(*(stand(name, alone=name.startswith("load")) for name in names)), 5)

    assert max(map(len, seen)) == 2
    assert all(len(together) == 1 for together in seen if any(name.startswith("load") for name in together))


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
async def test_a_crash_at_any_write_repeats_only_what_has_no_checkpoint(
    bench: Bench, tmp_path: object, after: bool
) -> None:
    """At most the steps in flight are repeated, the delivery happens once."""
    await bench.accept("0")
    await bench.attempt()
    writes = bench.writes

    for place in range(1, writes + 1):
        here = Bench(bench.base / f"{after}-{place}")
        await here.accept()
        assert await here.attempt(die_at=place, after=after) is None
        known = await here.journal.checkpoints((await here.events("task.status"))[0].task_id or "")
        here.suite.calls.clear()
        here.compiler.calls.clear()

        outcome = await here.attempt()

        assert outcome is not None
        assert outcome.ending is Ending.COMPLETED, place
        repeated = {f"gate.{name}" for name in here.suite.calls} - {"gate.install"}
        assert not repeated & known.keys(), place
        assert ("make" in here.compiler.calls) == ("compile" not in known), place
        assert len(await here.events("task.delivered")) == 1, place
        assert [s["status"] for s in await here.statuses()].count("completed") == 1, place
        assert (here.service() / ".git").is_dir()


async def test_the_environment_is_installed_again_for_gates_of_a_new_attempt(bench: Bench) -> None:
    """A new attempt has a new folder; the evidence stays the one that was measured first."""
    task = await bench.accept()
    assert await bench.attempt(die_after="gate.lint") is None
    first = (await bench.journal.checkpoints(task))["gate.install"].output
    bench.suite.calls.clear()

    await bench.attempt()

    assert bench.suite.calls == ["install", "tests", "security", "load"]
    assert (await bench.statuses())[-1]["evidence"][0]["value"] == first["evidence"]["value"]


async def test_nothing_is_installed_when_no_gate_is_left(bench: Bench) -> None:
    """Resuming in deliver must not cost an environment."""
    await bench.accept()
    await bench.attempt(die_after="repository")
    bench.suite.calls.clear()

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.COMPLETED
    assert bench.suite.calls == []


async def test_a_step_of_another_version_is_run_again_with_what_depends_on_it(bench: Bench) -> None:
    """A new version of the code never builds on what it does not understand."""
    await bench.accept()
    await bench.attempt(die_after="repository")
    bench.suite.calls.clear()
    bench.compiler.calls.clear()
    engine = bench.engine
    engine.steps = [replace(s, version=s.version + 1) if s.name == "gate.tests" else s for s in engine.steps]

    outcome = await bench.attempt(engine=engine)

    assert outcome is not None
    assert outcome.ending is Ending.COMPLETED
    assert bench.suite.calls == ["install", "tests"]
    assert "make" not in bench.compiler.calls


async def test_what_a_new_version_does_with_old_checkpoints_is_told(bench: Bench) -> None:
    """Taken or made anew, each with the release that made it: nobody has to guess after an upgrade."""
    await bench.accept()
    await bench.attempt(die_after="repository")
    engine = bench.engine
    engine.steps = [replace(s, version=s.version + 1) if s.name == "gate.tests" else s for s in engine.steps]

    with capture_logs() as told:
        await bench.attempt(engine=engine)

    about_steps = {line["step"]: line for line in told if line["event"] in ("step.resumed", "step.repeated")}
    assert len(about_steps) == len(engine.steps) - 1, "every step but the one that was never done"
    assert {step for step, line in about_steps.items() if line["event"] == "step.repeated"} >= {"gate.tests"}
    assert about_steps["compile"]["event"] == "step.resumed"
    assert about_steps["gate.tests"]["reason"] == "input"
    assert {line["made_by"] for line in about_steps.values()} == {__version__}


async def test_another_threshold_measures_again(bench: Bench) -> None:
    """Evidence against another threshold is no evidence."""
    await bench.accept()
    await bench.attempt(die_after="repository")
    bench.suite.calls.clear()
    bench.settings = bench.settings.model_copy(update={"gates": GateSettings(coverage_min_percent=90)})

    await bench.attempt()

    assert sorted(bench.suite.calls) == ["install", "lint", "load", "security", "tests"]


async def test_a_step_whose_artefact_is_gone_is_run_again(bench: Bench) -> None:
    """A store that was emptied costs work, not the task; what was measured on the same digest stays."""
    task = await bench.accept()
    await bench.attempt(die_after="gate.install")
    output = (await bench.journal.checkpoints(task))["compile"].output
    del bench.artifacts._stored[output["files"]]
    bench.compiler.calls.clear()
    bench.suite.calls.clear()

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.COMPLETED
    assert bench.compiler.calls == ["make"]
    assert sorted(bench.suite.calls) == ["install", "lint", "load", "security", "tests"]


async def test_a_lost_end_is_made_up_for_without_a_second_delivery(bench: Bench) -> None:
    """Died between the last checkpoint and the end of the attempt, resumed by whatever code."""
    await bench.accept()
    await bench.attempt(die_after="deliver")
    engine = bench.engine
    engine.steps = [replace(step, version=step.version + 1) for step in engine.steps]

    outcome = await bench.attempt(engine=engine)

    assert outcome is not None
    assert outcome.ending is Ending.COMPLETED
    assert len(await bench.events("task.delivered")) == 1
    assert (await bench.statuses())[-1]["pending"] == ["Operation shipOrder"]


async def test_a_failing_gate_ends_the_task_with_all_evidence(bench: Bench) -> None:
    """The gates beside it end, later ones say why they were not performed, nothing is delivered."""
    bench.suite.failing = {"lint"}
    await bench.accept()

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.FAILED
    assert bench.suite.calls == ["install", "lint", "tests"]
    last = (await bench.statuses())[-1]
    assert last["status"] == "failed"
    assert last["error"]["kind"] == "gate"
    assert last["error"]["code"] == "gate.lint"
    assert "Read the log." in last["message"]
    verdicts = {e["gate"]: e["verdict"] for e in last["evidence"]}
    assert verdicts == {"install": "pass", "lint": "fail", "tests": "pass", "load": "skipped", "security": "skipped"}
    skipped = [e for e in last["evidence"] if e["verdict"] == "skipped"]
    assert all("lint" in e["summary"] and "value" not in e for e in skipped)
    assert "Static checks" in last["pending"]
    assert not await bench.events("task.delivered")
    assert not bench.service().exists()


async def test_gates_that_failed_together_are_all_named(bench: Bench) -> None:
    """One round of mending, not one per gate."""
    bench.suite.failing = {"lint", "tests"}
    await bench.accept()

    await bench.attempt()

    last = (await bench.statuses())[-1]
    assert last["message"].startswith("Lint failed: lint fail. Read the log.")
    assert "gate.tests" in last["message"]


async def test_a_failed_gate_stays_failed_after_a_crash(bench: Bench) -> None:
    """The verdict is in the checkpoint: a crash between it and the end is no second chance."""
    bench.suite.failing = {"install"}
    await bench.accept()
    await bench.attempt(die_after="gate.install")
    bench.suite.calls.clear()

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.FAILED
    assert bench.suite.calls == []


async def test_a_skipped_gate_is_not_completed(bench: Bench) -> None:
    """`completed` never claims what nobody did."""
    bench.suite.skipping = {"load"}
    await bench.accept()

    await bench.attempt()

    last = (await bench.statuses())[-1]
    assert last["status"] == "completed"
    assert "Load test" in last["pending"]
    states = {s["step"]["name"]: s["step"]["state"] for s in await bench.statuses() if s.get("step")}
    assert states["gate.load"] == "skipped"


async def test_a_refused_document_is_rejected_with_its_diagnostics(bench: Bench) -> None:
    """Before any work: nothing is compiled, and the sender learns where and what to do."""
    bench.compiler.faults = (FAULT,)
    bench.answer = None
    await bench.accept()

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.REJECTED
    assert bench.compiler.calls == ["understand"]
    last = (await bench.statuses())[-1]
    assert last["status"] == "rejected"
    assert last["diagnostics"] == [FAULT.model_dump(mode="json")]
    assert "add one" in last["message"]


async def test_a_document_of_many_faults_is_rejected_in_one_record(bench: Bench) -> None:
    """A status that no broker takes would never come: the first faults are told, the document is there to be read."""
    bench.compiler.faults = (FAULT,) * 20_000
    bench.answer = None
    await bench.accept()

    await bench.attempt()

    last = (await bench.statuses())[-1]
    assert last["status"] == "rejected"
    assert len(last["diagnostics"]) == 100


async def test_the_document_can_come_by_claim_check(bench: Bench) -> None:
    """Large documents are named by their digest, in the artefact store and nowhere else."""
    name = await bench.artifacts.put(b"openapi: 3.1.0")
    await bench.accept(attributes={"dataref": name}, specification={})

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.COMPLETED


@pytest.mark.parametrize(
    ("dataref", "code"),
    [
        ("file:///etc/passwd", "specification.dataref_refused"),
        ("https://example.org/openapi.yaml", "specification.dataref_refused"),
        ("s3://bucket/openapi.yaml", "specification.dataref_refused"),
        ("sha256:../../../../etc/passwd", "specification.dataref_refused"),
        ("/etc/passwd", "specification.dataref_refused"),
        ("", "specification.dataref_refused"),
        ("sha256:" + "0" * 64, "specification.dataref_missing"),
    ],
)
async def test_a_claim_that_cannot_be_had_is_refused(bench: Bench, dataref: str, code: str) -> None:
    """`dataref` is never a way out."""
    await bench.accept(attributes={"dataref": dataref}, specification={})

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.REJECTED
    assert (await bench.statuses())[-1]["diagnostics"][0]["code"] == code


@pytest.mark.parametrize(
    ("content", "specification", "code"),
    [
        (b"x" * 6_000_000, {}, "specification.too_large"),
        (b"x", {"sha256": "0" * 64}, "specification.digest_differs"),
    ],
)
async def test_the_document_is_the_one_that_was_meant(
    bench: Bench, content: bytes, specification: dict[str, str], code: str
) -> None:
    """Size and digest are checked before anybody parses."""
    await bench.accept(attributes={"dataref": await bench.artifacts.put(content)}, specification=specification)

    await bench.attempt()

    assert (await bench.statuses())[-1]["diagnostics"][0]["code"] == code
    assert bench.compiler.calls == []


async def test_the_query_is_the_origins_and_nobody_waits_forever(bench: Bench) -> None:
    """The three fields to the letter; without an answer the assumptions stand in the delivery."""
    bench.answer = None
    await bench.accept()

    await bench.attempt()

    (query,) = await bench.events("context.query")
    assert query.data["requesting_agent"] == "backend-developer"
    assert query.data["request_type"] == "get_backend_context"
    assert query.data["payload"] == {
        "query": "Require backend system overview: service architecture, data stores, API gateway config, "
        "auth providers, message brokers, and deployment patterns."
    }
    assert query.key == query.data["query_id"]
    (delivered,) = await bench.events("task.delivered")
    assert len(delivered.data["assumptions"]) == 6
    assert all("no answer from the context manager within 5 s" in line for line in delivered.data["assumptions"])


async def test_an_answer_replaces_assumptions(bench: Bench) -> None:
    """What is known need not be assumed; it stands in the analysis."""
    fact = {"facet": "data_stores", "key": "main", "value": "PostgreSQL 17"}
    bench.answer = {"status": "partial", "facts": [fact]}
    await bench.accept()

    await bench.attempt()

    (delivered,) = await bench.events("task.delivered")
    assert len(delivered.data["assumptions"]) == 5
    analysis = (bench.service() / ".backwright" / "analysis.md").read_text()
    assert "`main` = `PostgreSQL 17`" in analysis


async def test_a_resumed_question_takes_the_earlier_answer(bench: Bench) -> None:
    """The id of a query derives from the task, so that an answer that came in between is not lost."""
    task = await bench.accept()
    bench.answer = None
    await bench.attempt(die_after="context.query")
    (query,) = await bench.events("context.query")
    fact = {"facet": "data_stores", "key": "main", "value": "PostgreSQL"}
    late = json.dumps({"query_id": query.key, "status": "partial", "facts": [fact]})
    await bench.journal.accept([NewAnswer(query.key, late.encode())])

    await bench.attempt()

    assert len(await bench.events("context.query")) == 1
    assert (await bench.journal.checkpoints(task))["context"].output["status"] == "partial"


async def test_what_lies_there_is_what_was_verified(bench: Bench) -> None:
    """The digest of the delivery, of the gates' subject and of the folder are one."""
    await bench.accept()
    await bench.attempt()

    (delivered,) = await bench.events("task.delivered")
    service = bench.service()
    assert {subject.digest for subject in bench.suite.subjects} == {delivered.data["service"]["digest"]}
    assert (service / "app/main.py").read_bytes() == b"print('orders')\n"
    assert (service / "run.sh").stat().st_mode & 0o111
    names = {path.name for path in (service / ".backwright").iterdir()}
    assert names == {
        "manifest.json", "analysis.md", "analysis.json", "plan.json", "evidence.json", "readiness.json", "report.json",
        "README.md",
    }  # fmt: skip
    evidence = json.loads((service / ".backwright" / "evidence.json").read_bytes())
    assert [e["gate"] for e in evidence] == [e["gate"] for e in delivered.data["evidence"]]
    assert delivered.data["start_command"] == "backwright serve services/orders --port 8080"
    assert delivered.data["pending"] == ["Operation shipOrder: an action that no rule can derive"]


async def test_a_second_build_of_a_service_moves_it_on_and_leaves_other_files_alone(bench: Bench) -> None:
    """A `.env` beside the code is no edit; the commit is a child of the first one."""
    await bench.accept("1")
    await bench.attempt()
    await asyncio.to_thread((bench.service() / ".env").write_text, "SECRET=1")
    bench.compiler.files = {"app/main.py": b"print('more orders')\n"}
    await bench.accept("2", priority=1)

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.COMPLETED
    assert (bench.service() / "app/main.py").read_bytes() == b"print('more orders')\n"
    assert not (bench.service() / "README.md").exists()
    assert (bench.service() / ".env").exists()
    commits = [row.data["service"]["commit"] for row in await bench.events("task.delivered")]
    assert len(set(commits)) == 2


async def test_edits_are_merged_and_the_delivery_says_what_the_evidence_is_about(bench: Bench) -> None:
    """The numbers were measured on branch generated."""
    await bench.accept("1")
    await bench.attempt()
    await edit(bench.service() / "README.md", "# Orders, by me\n")
    bench.compiler.files = {**bench.compiler.files, "app/main.py": b"print('more orders')\n"}
    await bench.accept("2", priority=1)

    await bench.attempt()

    delivered = (await bench.events("task.delivered"))[-1]
    assert "edits besides the generated code" in delivered.data["pending"][-1]
    assert (bench.service() / "README.md").read_text() == "# Orders, by me\n"


@pytest.mark.parametrize("committed", [True, False], ids=["conflict", "not committed"])
async def test_edits_in_the_way_fail_the_task_and_are_kept(bench: Bench, committed: bool) -> None:
    """Never overwritten; the status says which file and what to do, and holds the evidence."""
    await bench.accept("1")
    await bench.attempt()
    await edit(bench.service() / "README.md", "# Mine\n", commit=committed)
    bench.compiler.files = {**bench.compiler.files, "README.md": b"# Theirs\n"}
    await bench.accept("2", priority=1)

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.FAILED
    last = (await bench.statuses())[-1]
    assert last["error"]["code"] == "delivery.conflict"
    assert "README.md" in last["message"]
    assert len(last["evidence"]) == 5
    assert (bench.service() / "README.md").read_text() == "# Mine\n"
    assert len(await bench.events("task.delivered")) == 1


async def test_edits_in_the_way_stay_in_the_way_after_a_crash(bench: Bench) -> None:
    """The last step said that it delivered nothing; an attempt that lost its end must not make a delivery of that."""
    await bench.accept("1")
    await bench.attempt()
    bench.compiler.files = {**bench.compiler.files, "README.md": b"# Theirs\n"}
    await bench.accept("2", priority=1)
    assert await bench.attempt(die_after="repository") is None
    await edit(bench.service() / "README.md", "# Mine\n", commit=False)
    assert await bench.attempt(die_after="deliver") is None

    outcome = await bench.attempt()

    assert outcome is not None
    assert outcome.ending is Ending.FAILED
    assert (await bench.statuses())[-1]["error"]["code"] == "delivery.conflict"
    assert len(await bench.events("task.delivered")) == 1


async def edit(path: Path, text: str, *, commit: bool = True) -> None:
    """What a person does to a delivered service."""
    await asyncio.to_thread(path.write_text, text)
    if commit:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "safe.directory=*")
        process = await asyncio.create_subprocess_exec("git", *identity, "commit", "-qam", "mine", cwd=path.parent)
        assert await process.wait() == 0


def test_every_step_has_one_name_and_an_item(bench: Bench) -> None:
    """Names are keys of checkpoints; a step without an item would be work that nobody sees."""
    steps: list[Step] = list(bench.engine.steps)

    assert len({step.name for step in steps}) == len(steps)
    items = [item for step in steps for item in step.items]
    assert len(set(items)) == len(items)
    assert all(step.items for step in steps)
