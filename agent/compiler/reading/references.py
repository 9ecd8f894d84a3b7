"""Local references of a document: where they end, how they are written, and that none of them runs in circles."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from agent.compiler.diagnostics import child, diagnostic, reject, shown, tokens
from agent.errors import SpecRejected
from contracts.status import Diagnostic

Json = Any
CHAIN = 100  # schemas that lead to one another without a property in between
_FAULTS = 20  # that are told of one document


@dataclass(frozen=True, slots=True)
class Reference:
    """One `$ref`: where it stands, the pointer that it names, and the kind of object that has to be there."""

    place: str
    target: str
    kind: str


def check_references(
    document: dict[str, Json],
    references: Iterable[Reference],
    kinds: Mapping[str, str],
    in_place: Iterable[tuple[str, str]],
) -> None:
    """Every reference must end at an object of its kind (`kinds`: pointer → kind of what was walked there).

    Its kind, because what was read as something else, or not at all (an example, an extension), obeys other rules.
    Raises SpecRejected with a diagnostic for each that does not.
    """
    faults: list[Diagnostic] = []
    for one in references:
        if kinds.get(one.target) != one.kind or not isinstance(resolve(document, one.target), dict | bool):
            faults.append(diagnostic("reference.dangling", one.place, reference=shown("#" + one.target)))
            if len(faults) == _FAULTS:
                break
    if faults:
        raise SpecRejected(faults)
    edges: dict[str, list[str]] = {}
    for pointer, target in in_place:
        edges.setdefault(pointer, []).append(target)
    _check_loops(document, edges)


def _check_loops(document: dict[str, Json], edges: dict[str, list[str]]) -> None:
    """Schemas that apply to one value must neither come back to themselves nor form endless chains.

    Depth first, iterative; a chain's length is counted from its end, so that it does not matter where we enter it.
    Raises SpecRejected.
    """
    below: dict[str, int] = {}  # schema → length of the longest chain from it
    for start in edges:
        path = [] if start in below else [(start, iter(edges[start]))]
        active = {start}
        while path:
            node, rest = path[-1]
            following = next(rest, None)
            if following is None:
                path.pop()
                active.discard(node)
                below[node] = 1 + max(below.get(one, 0) for one in edges[node])
                if below[node] > CHAIN:
                    raise reject("reference.chain", node, allowed=CHAIN)
            elif following in active:
                node = resolve(document, following)
                place = child(following, "$ref") if isinstance(node, dict) and "$ref" in node else following
                raise reject("reference.loop", place, reference=shown("#" + following))
            elif following not in below and following in edges:
                active.add(following)
                path.append((following, iter(edges[following])))


def resolve(tree: Json, pointer: str) -> Json:
    """The value at a JSON pointer; None if there is none (or if it is null)."""
    node = tree
    for token in tokens(pointer):
        if isinstance(node, dict):
            node = node.get(token)
        elif isinstance(node, list) and token.isdecimal() and int(token) < len(node):
            node = node[int(token)]
        else:
            return None
    return node


def size(tree: Json) -> int:
    """How many values a tree holds, itself included."""
    count, stack = 0, [tree]
    while stack:
        node = stack.pop()
        count += 1
        stack.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
    return count


def decode_pointer(reference: str) -> str:
    """`#/a%20b` → the JSON pointer `/a b`."""
    return unquote(reference[1:])


def encode_pointer(pointer: str) -> str:
    """The JSON pointer `/a b` → `#/a%20b`."""
    return "#" + re.sub(r"[^\w/.~!$&'()*+,;=:@?-]", lambda found: _percent(found.group()), pointer, flags=re.ASCII)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
