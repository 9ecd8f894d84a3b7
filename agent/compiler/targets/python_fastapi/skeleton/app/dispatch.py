"""From method and path to an operation, by a tree of path segments; what has none is answered here.

A segment is decoded after the path is split, so that an encoded slash is part of a value. A concrete path wins over a
templated one for every method: DELETE /pets/mine must not reach /pets/{id}.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.contract import METHODS
from app.errors import Kind, Problem, render
from app.routing import answer, encoded_path

_PARAMETER = re.compile(r"\{([^{}]+)\}")


@dataclass(slots=True)
class Node:
    """The rest of some paths: what ends here, and what goes on below."""

    operations: dict[str, ASGIApp] = field(default_factory=dict)
    concrete: dict[str, "Node"] = field(default_factory=dict)
    templated: list[tuple[re.Pattern[str], tuple[str, ...], "Node"]] = field(default_factory=list)

    def below(self, segment: str) -> "Node":
        """The node behind a segment of the document's; made if it is not there."""
        names = tuple(_PARAMETER.findall(segment))
        if not names:
            return self.concrete.setdefault(segment, Node())
        texts = [re.escape(text) for text in _PARAMETER.sub("\0", segment).split("\0")]
        pattern = re.compile("(.+)".join(texts), re.DOTALL)
        for known, known_names, node in self.templated:
            if (known, known_names) == (pattern, names):
                return node
        made = Node()
        self.templated.append((pattern, names, made))
        self.templated.sort(key=lambda item: -len(item[0].pattern))  # `{id}.json` before `{id}`
        return made

    def find(self, segments: Sequence[str], values: Mapping[str, str]) -> Iterator[tuple["Node", Mapping[str, str]]]:
        """Nodes with operations that a path may mean, the most concrete first, and the values of its parameters."""
        if not segments:
            if self.operations:
                yield self, values
            return
        first, *rest = segments
        if (node := self.concrete.get(first)) is not None:
            yield from node.find(rest, values)
        for pattern, names, node in self.templated:
            if match := pattern.fullmatch(first):
                yield from node.find(rest, {**values, **dict(zip(names, match.groups(), strict=True))})


class Dispatch:
    """An ASGI application of operations by path and method."""

    def __init__(self) -> None:
        self._root = Node()

    def add(self, method: str, path: str, operation: ASGIApp) -> None:
        """Answer `method` at `path`, a template as in the document. The values lie in `scope["path_texts"]`."""
        node = self._root
        for segment in path.split("/"):
            node = node.below(segment)
        node.operations[method] = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._operation(scope)
        await operation(scope, receive, send)

    def _operation(self, scope: Scope) -> ASGIApp:
        try:
            segments = segments_of(scope)
        except UnicodeDecodeError:
            return refusal(scope, Problem(Kind.INVALID, "The path is not valid UTF-8."))
        node, values = next(self._root.find(segments, {}), (None, {}))
        if node is None:
            return refusal(scope, Problem(Kind.NOT_FOUND, "There is nothing at this path."))
        if (operation := node.operations.get(scope["method"])) is not None:
            scope["path_texts"] = values
            return operation
        allowed = ", ".join(method for method in METHODS if method in node.operations or method == "OPTIONS")
        if scope["method"] == "OPTIONS":
            return Response(None, 204, {"Allow": allowed})
        problem = Problem(Kind.METHOD_NOT_ALLOWED, f"Methods of this path: {allowed}.", headers={"Allow": allowed})
        return refusal(scope, problem)


def segments_of(scope: Mapping[str, Any]) -> list[str]:
    """The decoded segments of a path. Raises UnicodeDecodeError."""
    path = encoded_path(scope)
    if "%" not in path and path.isascii():
        return path.split("/")
    path.encode("ascii")
    return [unquote(segment, errors="strict") for segment in path.split("/")]


def refusal(scope: Mapping[str, Any], problem: Problem) -> Response:
    """A problem outside any operation."""
    rendered = render(problem, shapes={}, instance=scope["path"], request_id=str(scope.get("request_id", "")))
    return answer(rendered.status, rendered.body, media_type=rendered.media_type, headers=rendered.headers)
