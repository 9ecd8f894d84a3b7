"""Calls of operations and factories as Python, and the parts of a request that they are made of."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.names import KEYWORDS
from agent.compiler.targets.python_fastapi.suite.model import Code

Json = Any
_METHODS = frozenset({"GET", "PUT", "POST", "PATCH", "DELETE"})
_PARAMETER = re.compile(r"\{([^{}]+)\}")
_ARGUMENT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def call(
    operation: ir.Operation,
    keys: Mapping[str, Json],
    body: Json = None,
    *,
    query: Mapping[str, Json] | None = None,
    expect: int | None = None,
) -> Code:
    """A call that must be answered with `expect`, else with the operation's success. What `keys` lacks is a sample."""
    given = _given(operation, keys, body)
    given += [f"query={query!r}"] if query is not None else []
    given += [f"expect={expect or operation.success}"]
    if operation.method in _METHODS:
        return Code(f"await api.{operation.method.lower()}({', '.join(given)})")
    return Code(f"await api.call({operation.method!r}, {', '.join(given)})")


def send(operation: ir.Operation, keys: Mapping[str, Json], body: Json = None) -> Code:
    """The same without a look at the answer, not awaited."""
    return Code(f"api.send({', '.join([repr(operation.method), *_given(operation, keys, body)])})")


def _given(operation: ir.Operation, keys: Mapping[str, Json], body: Json) -> list[str]:
    """Path, its keys as far as a test says them, and the body."""
    names = parameters_of(operation.path)
    while names and names[-1] not in keys:
        names.pop()
    given = [repr(operation.path), *(repr(keys.get(name, sample_of(operation, name))) for name in names)]
    return [*given, *([f"body={body!r}"] if body is not None else [])]


def parameters_of(path: str) -> list[str]:
    """Names of the parameters of a path template, in order."""
    return _PARAMETER.findall(path)


def sample_of(operation: ir.Operation, name: str) -> Json:
    """A valid value for a parameter."""
    return next((one.sample for one in operation.parameters if one.name == name), None)


def entity_of(operation: ir.Operation) -> dict[str, Json] | None:
    """The entity inside the sample of an operation's body."""
    entity = operation.sample
    for name in operation.body.unwrap if operation.body else ():
        entity = entity.get(name) if isinstance(entity, dict) else None
    return entity if isinstance(entity, dict) else None


def nested(entity: Json, unwrap: Sequence[str]) -> Json:
    """A body around an entity."""
    for name in reversed(unwrap):
        entity = {name: entity}
    return entity


def inside(expression: Code, path: Sequence[str]) -> Code:
    """What lies at a place inside the value of an awaited expression."""
    return Code(f"({expression}){place_in(path)}") if path else expression


def place_in(path: Sequence[str]) -> str:
    """Subscripts that lead to a place inside a value."""
    return "".join(f"[{part!r}]" for part in path)


def merged(variable: str, more: Mapping[str, Json]) -> Code:
    """A dictionary of what a variable holds and more."""
    return Code(f"{{**{variable}, {repr(dict(more))[1:]}" if more else variable)


def arguments(changes: Mapping[str, Json]) -> list[str]:
    """Keyword arguments; names that Python does not take as such come in a dictionary."""
    plain = {n: value for n, value in changes.items() if _ARGUMENT.fullmatch(n) and n not in KEYWORDS}
    others = {name: value for name, value in changes.items() if name not in plain}
    return [*(f"{name}={value!r}" for name, value in plain.items()), *([f"**{others!r}"] if others else [])]
