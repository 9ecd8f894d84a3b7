"""Tests of what is refused: bodies that the document does not allow, paths that lead nowhere, callers that nobody knows."""

import re
from collections.abc import Iterator
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.names import snake
from agent.compiler.targets.python_fastapi.suite.calls import call, entity_of, nested, place_in, sample_of
from agent.compiler.targets.python_fastapi.suite.model import Code, Test
from agent.compiler.targets.python_fastapi.suite.subject import Subject

Json = Any
_SIMPLE = re.compile(r"[\w.-]+", re.ASCII)  # names that a JSON pointer holds as they are
_NO_JSON = r"""(b"{", b"\xff", b'{"\\u0000": "\\u0000"}')"""


def refusal_tests(subject: Subject) -> Iterator[Test]:
    """All of them."""
    for operation in subject.operations:
        yield from invalid(subject, operation)
    yield from unreadable(subject)
    yield from unknown(subject)
    yield from closed(subject)


def invalid(subject: Subject, operation: ir.Operation) -> Iterator[Test]:
    """One wrong property among right ones, and one that is missing."""
    body, entity = operation.body, entity_of(operation)
    if body is None or body.many or entity is None:
        return
    view = subject.values.properties(body.schema_pointer, body.unwrap)
    if view.variants:
        return
    sample = f"api.sample({operation.method!r}, {operation.path!r}){place_in(body.unwrap)}"
    refused = call(operation, {}, nested(Code("body"), body.unwrap), expect=operation.invalid_status)
    values = {name: subject.values.refused(view.properties[name]) for name in entity if name in view.properties}
    cases = [(name, *value) for name, value in values.items() if value and _SIMPLE.fullmatch(name)]
    if cases:
        place = "".join(f"/{part}" for part in body.unwrap)
        pointer = f'assert problem["errors"][0]["pointer"] == f"{place}/{{name}}"'
        yield subject.test(
            f"{snake(operation.id)}_refuses_an_invalid_property",
            "One that the document does not allow, among others that it does.",
            [f"body = {{**{sample}, name: value}}"],
            [refused] if _hides_pointers(subject, operation, body) else [f"problem = {refused}", pointer],
            of=operation,
            cases=(("name", "value"), cases),
        )
    required = [name for name in entity if name in view.required]
    if required:
        yield subject.test(
            f"{snake(operation.id)}_refuses_a_body_without_a_required_property",
            "Each in its turn.",
            [f"body = {sample}", "del body[missing]"],
            [refused],
            of=operation,
            cases=(("missing",), required),
        )


def _hides_pointers(subject: Subject, operation: ir.Operation, body: ir.Body) -> bool:
    """Whether the document's own shape of a refusal leaves no room for pointers, names need escapes in them, or what is
    wrong is the whole: none of several alternatives fits."""
    status = str(operation.invalid_status)
    return (
        not all(_SIMPLE.fullmatch(part) for part in body.unwrap)
        or any(error.status in (status, f"{status[0]}XX", "default") for error in operation.errors)
        or subject.values.has_alternatives(body.schema_pointer, body.unwrap)
    )


def unreadable(subject: Subject) -> Iterator[Test]:
    """Bodies that are no JSON at all."""
    cases = [
        (one.method, one.path, one.invalid_status)
        for one in subject.operations
        if one.sample is not None and one.body is not None
    ]
    if cases:
        yield subject.test(
            "body_that_is_no_json_is_refused",
            "Cut short, not UTF-8, and U+0000, which no database text can hold.",
            [],
            [f"for content in {_NO_JSON}:", "    await api.call(method, path, content=content, expect=status)"],
            cases=(("method", "path", "status"), cases),
        )


def unknown(subject: Subject) -> Iterator[Test]:
    """Paths that lead to no row: there is none when a test begins."""
    cases = [(one.method, one.path) for one in subject.operations if _needs_a_row(one)]
    if cases:
        yield subject.test(
            f"unknown_{subject.noun}_is_not_found",
            "There is no row at all, so no path leads to one.",
            [],
            ["await api.call(method, path, body=api.sample(method, path), expect=404)"],
            cases=(("method", "path"), cases),
        )


def _needs_a_row(operation: ir.Operation) -> bool:
    """Whether the path of an operation names rows, and a request can be made of samples."""
    plan = operation.plan
    keys = [*plan.ancestors, *([plan.key] if plan.key else [])] if plan else []
    named = [key.parameter for key in keys if key.parameter]
    known = all(sample_of(operation, name) is not None for name in named)
    return bool(named) and known and (operation.body is None or operation.sample is not None)


def closed(subject: Subject) -> Iterator[Test]:
    """Deny by default."""
    cases = [(one.method, one.path) for one in subject.operations if one.security and {} not in one.security]
    if cases:
        yield subject.test(
            f"{subject.noun}_is_closed_to_strangers",
            "Without credentials nothing happens, not even a look at the body.",
            [],
            [
                "for headers in STRANGERS:",
                '    answered = await api.send(method, path, content=b"{", headers=headers, anonymous=True)',
                "    assert answered.status_code == 401, answered.text",
                '    assert answered.headers["www-authenticate"]',
            ],
            cases=(("method", "path"), cases),
        )
