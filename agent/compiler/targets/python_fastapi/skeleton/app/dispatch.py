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


@dataclass(frozen=True, slots=True)
class Template:
    """A segment with parameters, `{id}.json`: the texts before, between and behind them."""

    texts: tuple[str, ...]

    @classmethod
    def of(cls, segment: str) -> "Template":
        return cls(tuple(_PARAMETER.sub("\0", segment).split("\0")))

    def values(self, segment: str) -> tuple[str, ...] | None:
        """Texts of the parameters, each as long as can be from the left; None if the segment does not fit.

        Not a regular expression: with several parameters a hostile segment could make one try for minutes.
        """
        first, *between, last = self.texts
        begin, end = len(first), len(segment) - len(last)
        if not (segment.startswith(first) and segment.endswith(last)):
            return None
        found: list[str] = []
        for text in reversed(between):
            at = segment.rfind(text, begin + 1, end - 1)
            if at < 0:
                return None
            found.append(segment[at + len(text) : end])
            end = at
        if end <= begin:
            return None
        return segment[begin:end], *reversed(found)


@dataclass(slots=True)
class Node:
    """The rest of some paths: what ends here, and what goes on below."""

    operations: dict[str, tuple[ASGIApp, tuple[str, ...]]] = field(default_factory=dict)  # with names of parameters
    concrete: dict[str, "Node"] = field(default_factory=dict)
    templated: dict[Template, "Node"] = field(default_factory=dict)

    def below(self, segment: str) -> "Node":
        """The node behind a segment of the document's; made if it is not there."""
        if not _PARAMETER.search(segment):
            return self.concrete.setdefault(segment, Node())
        node = self.templated.setdefault(Template.of(segment), Node())
        # `{id}.json` before `{id}`: who says more comes first.
        self.templated = dict(sorted(self.templated.items(), key=lambda item: -sum(map(len, item[0].texts))))
        return node

    def find(self, segments: Sequence[str], values: tuple[str, ...]) -> Iterator[tuple["Node", tuple[str, ...]]]:
        """Nodes with operations that a path may mean, the most concrete first, and the values of its parameters."""
        if not segments:
            if self.operations:
                yield self, values
            return
        first, *rest = segments
        if (node := self.concrete.get(first)) is not None:
            yield from node.find(rest, values)
        for template, node in self.templated.items():
            if (found := template.values(first)) is not None:
                yield from node.find(rest, (*values, *found))


class Dispatch:
    """An ASGI application of operations by path and method."""

    def __init__(self) -> None:
        self._root = Node()

    def add(self, method: str, path: str, operation: ASGIApp) -> None:
        """Answer `method` at `path`, a template as in the document. The values lie in `scope["path_texts"]`."""
        node = self._root
        for segment in path.split("/"):
            node = node.below(segment)
        node.operations[method] = operation, tuple(_PARAMETER.findall(path))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._operation(scope)
        await operation(scope, receive, send)

    def _operation(self, scope: Scope) -> ASGIApp:
        try:
            segments = segments_of(scope)
        except UnicodeError:
            return refusal(scope, Problem(Kind.INVALID, "The path is not valid UTF-8."))
        node, values = next(self._root.find(segments, ()), (None, ()))
        if node is None:
            return refusal(scope, Problem(Kind.NOT_FOUND, "There is nothing at this path."))
        if (found := node.operations.get(scope["method"])) is not None:
            operation, names = found
            scope["path_texts"] = dict(zip(names, values, strict=True))
            return operation
        allowed = ", ".join(method for method in METHODS if method in node.operations or method == "OPTIONS")
        if scope["method"] == "OPTIONS":
            return Response(None, 204, {"Allow": allowed})
        problem = Problem(Kind.METHOD_NOT_ALLOWED, f"Methods of this path: {allowed}.", headers={"Allow": allowed})
        return refusal(scope, problem)


def segments_of(scope: Mapping[str, Any]) -> list[str]:
    """The decoded segments of a path. Raises UnicodeError: they are no UTF-8."""
    path = encoded_path(scope)
    if "%" not in path and path.isascii():
        return path.split("/")
    path.encode("ascii")  # or raises
    return [unquote(segment, errors="strict") for segment in path.split("/")]


def refusal(scope: Mapping[str, Any], problem: Problem) -> Response:
    """A problem outside any operation."""
    rendered = render(problem, shapes={}, instance=scope["path"], request_id=str(scope.get("request_id", "")))
    return answer(rendered.status, rendered.body, media_type=rendered.media_type, headers=rendered.headers)
