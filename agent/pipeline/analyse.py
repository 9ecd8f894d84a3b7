"""Analyse: ask for the context, read the document, write the analysis and the plan."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog

from agent.compiler.ir import Api, Operation, Resource, SchemeKind, Verdict
from agent.context import client
from agent.context.client import Knowledge
from agent.journal.port import Event
from agent.pipeline.attempt import Attempt
from agent.pipeline.develop import document
from agent.pipeline.phase import Result, Step
from agent.pipeline.survey import survey
from agent.settings import Settings
from contracts.envelope import CONTEXT_QUERY
from contracts.status import Phase

log = structlog.get_logger()
MAX_DIAGNOSTICS = 100  # in one status; the delivery holds all of them


def steps(settings: Settings) -> tuple[Step, ...]:
    """Context and document at the same time: a document that is refused need not wait for an answer."""
    limits = settings.compiler.model_dump_json()
    return (
        Step("context", Phase.ANALYSE, 1, gather_context, items=("Context gathered",)),
        Step("document", Phase.ANALYSE, 1, read_document, items=("Specification read",), settings=limits),
        Step(
            "plan", Phase.ANALYSE, 2, write_plan, items=("Architecture plan",), needs=("context", "document"),
            settings=limits + settings.gates.model_dump_json(), stores=("documents",),
        ),
    )  # fmt: skip


async def gather_context(attempt: Attempt) -> Result:
    """Ask the context manager over the bus; go on with assumptions when it does not answer in time."""
    ledger, timeout_s = attempt.ledger, attempt.means.settings.context.timeout_s
    identity = client.query_id(attempt.claim.task_id)
    data = await ledger.answer(identity, timeout_s=0)  # a former attempt may have asked already
    if data is None:
        deadline = attempt.means.clock.now() + timedelta(seconds=timeout_s)
        query = client.build_query(attempt.claim.task_id, deadline=deadline)
        async with attempt.writing:
            await ledger.record(None, [Event(CONTEXT_QUERY.name, identity, query.model_dump(mode="json"))])
        data = await ledger.answer(identity, timeout_s=timeout_s)
    knowledge = client.unanswered(timeout_s) if data is None else client.parse_answer(data)
    log.info(
        "context.gathered", status=knowledge.status, facts=len(knowledge.facts), assumptions=len(knowledge.assumptions)
    )
    message = f"context {knowledge.status}: {len(knowledge.facts)} fact(s), {len(knowledge.assumptions)} assumption(s)"
    return Result(knowledge.to_json(), message=message)


async def read_document(attempt: Attempt) -> Result:
    """What the document asks for, in figures; raises SpecRejected with every fault."""
    api = await understood(attempt)
    counts = verdicts(api)
    output = {
        "title": api.title,
        "version": api.version,
        "base_path": api.base_path,
        "operations": counts,
        "resources": [resource.name for resource in api.resources],
        "holes": [o.id for o in api.operations if o.verdict is Verdict.HOOKED],
    }
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
    return Result(
        output, message=f"{len(api.operations)} operations: {told}", diagnostics=attempt.diagnostics[:MAX_DIAGNOSTICS]
    )


async def write_plan(attempt: Attempt) -> Result:
    """The analysis (markdown and JSON) and the plan; both go into the delivery."""
    api = await understood(attempt)
    knowledge = Knowledge.from_json(attempt.outputs["context"])
    analysis = survey(api, knowledge, attempt.diagnostics, attempt.means.settings.gates)
    documents = {
        "analysis.md": analysis.to_markdown().encode(errors="replace"),
        "analysis.json": document(analysis.to_json()),
        "plan.json": document(plan(api, knowledge)),
    }
    artifacts = attempt.means.artifacts
    stored = {name: await artifacts.put(content) for name, content in documents.items()}
    sections = (*analysis.priorities, *analysis.syntheses)
    found = sum(len(section.findings) for section in sections)
    output = {"documents": stored, "features": features(api), "assumptions": list(knowledge.assumptions)}
    return Result(output, message=f"analysis with {found} findings; {len(api.resources)} resource(s) planned")


async def understood(attempt: Attempt) -> Api:
    """The document's meaning, worked out once per attempt."""
    if attempt.api is not None:
        return attempt.api
    api, attempt.diagnostics = await attempt.means.compiler.understand(await attempt.given())
    attempt.api = api
    return api


def verdicts(api: Api) -> dict[str, int]:
    """How many operations got which verdict, all four named."""
    return {verdict.value: sum(o.verdict is verdict for o in api.operations) for verdict in Verdict}


def features(api: Api) -> list[str]:
    """What the service will have, for the delivery; only what the document makes it have."""
    kinds = {scheme.kind for scheme in api.security_schemes}
    plans = [o.plan for o in api.operations if o.plan]
    known = {
        "PostgreSQL persistence": bool(api.resources),
        "JWT bearer authentication": SchemeKind.BEARER in kinds,
        "API key authentication": SchemeKind.API_KEY in kinds,
        "HTTP basic authentication": SchemeKind.BASIC in kinds,
        "filtering": any(p.filters or p.search for p in plans),
        "sorting": any(p.sort for p in plans),
        "paging": any(p.paging for p in plans),
        "relations": any(r.references or r.collections for r in api.resources),
        "optimistic locking": any(p.version for p in plans),
    }
    return [name for name, is_so in known.items() if is_so]


def plan(api: Api, knowledge: Knowledge) -> dict[str, Any]:
    """`.backwright/plan.json`: resources, operations by verdict, features, assumptions."""
    return {
        "title": api.title,
        "base_path": api.base_path,
        "resources": [_resource(api, resource) for resource in api.resources],
        "operations": {
            verdict.value: [_operation(o) for o in api.operations if o.verdict is verdict] for verdict in Verdict
        },
        "security": [{"name": s.name, "kind": s.kind.value} for s in api.security_schemes],
        "features": features(api),
        "assumptions": list(knowledge.assumptions),
        "changes": list(api.changes),
    }


def _resource(api: Api, resource: Resource) -> Mapping[str, Any]:
    return {
        "name": resource.name,
        "key": resource.key,
        "properties": [p.name for p in resource.properties],
        "references": [{"name": r.name, "target": r.target, "parent": r.parent} for r in resource.references],
        "collections": [{"name": c.name, "target": c.target, "many_to_many": c.through} for c in resource.collections],
        "operations": [o.id for o in api.operations if o.plan and o.plan.resource == resource.name],
        "schema": resource.schema_pointer,
    }


def _operation(operation: Operation) -> Mapping[str, Any]:
    action = operation.plan.action.value if operation.plan else None
    return {
        "id": operation.id,
        "method": operation.method,
        "path": operation.path,
        "action": action,
        "rule": operation.rule,
        "confidence": operation.confidence,
        "alternative": operation.alternative,
        "reason": operation.reason,
        "pointer": operation.pointer,
    }
