"""`.backwright/manifest.json`: all that gates and commands know about a delivered service. Outside the digest."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from agent.compiler import ir
from agent.compiler.inference.errors import PROBLEM_MEDIA
from agent.compiler.targets.python_fastapi import project as parts
from agent.fileset import FileSet

Json = Any
NAME = "python-fastapi"


def make_manifest(api: ir.Api, woven_files: FileSet, seeded: Iterable[str], lowered: parts.Lowered) -> dict[str, Json]:
    """The manifest of a project; the caller adds the generator."""
    project = lowered.project
    owners = frozenset(seeded)
    return {
        "target": NAME,
        "service": project.service,
        "title": api.title,
        "version": api.version,
        "base_path": api.base_path,
        "digest": woven_files.digest,
        "paths": dict(project.paths),
        "files": {
            path: {
                "sha256": file.sha256,
                "mode": "755" if file.executable else "644",
                "owner": "seeded" if path in owners else "generated",
            }
            for path, file in woven_files.items()
        },
        "operations": [operation_of(api, operation) for operation in lowered.operations],
        "security_schemes": [
            {"name": s.name, "kind": s.kind.value, "in": s.place.value, "parameter": s.parameter, "scopes": list(s.scopes)}
            for s in api.security_schemes
        ],
        "resources": resources_of(api, project),
        "changes": list(api.changes),
        "notes": list(project.notes),
        "fuzz": {
            "config": "schemathesis.toml",
            "exceptions": [
                {"rule": "no-nul", "operation": "*", "reason": "PostgreSQL's text cannot hold U+0000; the service answers 400"},
                {
                    "rule": "nullable-format",
                    "operation": "*",
                    "reason": "the tool takes an empty text for a value of a nullable format; it is told the same in another form",
                },
                {
                    "rule": "whole-number",
                    "operation": "*",
                    "reason": "the tool takes 3.0 over from a body, where it is an integer, into a URL, where it is none; it sends 3",
                },
                *({"rule": e.rule, "operation": e.operation, "reason": e.reason} for e in project.exceptions),
            ],
        },
    }  # fmt: skip


def operation_of(api: ir.Api, operation: ir.Operation) -> dict[str, Json]:
    """One operation; its path with the base path."""
    plan = operation.plan
    return {
        "id": operation.id,
        "method": operation.method,
        "path": api.base_path + operation.path,
        "verdict": operation.verdict.value,
        "rule": operation.rule,
        "confidence": operation.confidence,
        "alternative": operation.alternative,
        "reason": operation.reason,
        "pointer": operation.pointer,
        "action": plan.action.value if plan else None,
        "resource": (plan.resource or None) if plan else None,
        "success": operation.success,
        "pending_media_type": pending_media_type(operation) if operation.verdict is ir.Verdict.HOOKED else None,
        "security": [{name: list(scopes) for name, scopes in way.items()} for way in operation.security],
        "parameters": [
            {"name": p.name, "in": p.place.value, "required": p.required, "sample": p.sample}
            for p in operation.parameters
        ],
        "path_keys": path_keys(plan) if plan else [],
        "sample": None
        if operation.sample is None
        else {
            "body": without_links(operation),
            "media_type": operation.sample_media_type or "application/json",
        },
    }


def pending_media_type(operation: ir.Operation) -> str:
    """What a 501 is answered as: the document may give every error a form of its own."""
    declared = {error.status: error.media_type for error in operation.errors}
    return next((declared[one] for one in ("501", "5XX", "default") if one in declared), PROBLEM_MEDIA)


def without_links(operation: ir.Operation) -> Json:
    """The sample, with empty lists for what must exist already: nobody knows which rows there are."""
    sample, body = operation.sample, operation.body
    if body is None or body.shape is None or not isinstance(sample, dict):
        return sample
    if body.unwrap:
        name, *rest = body.unwrap
        inner = replace(operation, sample=sample.get(name), body=replace(body, unwrap=tuple(rest)))
        return {**sample, name: without_links(inner)} if name in sample else sample
    names = {part.name for part in body.shape.fields if part.kind == "collection" and not part.match}
    return {name: [] if name in names and isinstance(value, list) else value for name, value in sample.items()}


def path_keys(plan: ir.Plan) -> list[dict[str, Json]]:
    """Parameters of the path that pick rows."""
    keys = [{**_key(key), "role": "ancestor"} for key in plan.ancestors]
    if plan.key is not None and plan.key.parameter:
        # For a link the owner of the collection is what must exist: an ancestor of the pair.
        keys.append({**_key(plan.key), "role": "ancestor" if plan.member is not None else "key"})
    if plan.member is not None and plan.member.parameter:
        keys.append({**_key(plan.member), "role": "ancestor" if plan.action is ir.Action.LINK else "key"})
    return keys


def _key(key: ir.PathKey) -> dict[str, Json]:
    return {"parameter": key.parameter, "resource": key.resource, "property": key.property}


def resources_of(api: ir.Api, project: parts.Project) -> list[dict[str, Json]]:
    """Resources with their columns."""
    tables = {table.name: table for table in project.tables}
    by_constant = {resource.constant: resource for resource in project.resources}
    return [
        _resource(given, resource, tables[resource.table], by_constant)
        for given, resource in zip(api.resources, project.resources, strict=True)
    ]


def _resource(
    given: ir.Resource, resource: parts.Resource, table: parts.Table, by_constant: Mapping[str, parts.Resource]
) -> dict[str, Json]:
    key = next(field for field in resource.fields if field.name == resource.key)
    unique = {constraint.columns[0] for constraint in table.uniques if len(constraint.columns) == 1}
    parents = {reference.name for reference in given.references if reference.parent}
    embedded = {reference.name for reference in given.references if reference.embedded}
    return {
        "name": resource.name,
        "table": resource.table,
        "key": resource.key,
        "key_column": key.column,
        "key_generated": key.generated is not None,
        "identity_column": resource.identity,
        "columns": [column.name for column in table.columns],
        "fields": {field.name: field.column for field in resource.fields},
        "unique_columns": sorted(unique | {key.column}),
        "references": [
            {
                "property": reference.name,
                "column": reference.column,
                "table": by_constant[reference.target].table,
                "parent": reference.name in parents,
                "embedded": reference.name in embedded,
            }
            for reference in resource.references
        ],
        "singleton": given.singleton,
        "sample": given.sample,
    }
