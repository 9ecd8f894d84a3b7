"""Local references of a document: where they end, how they are written, and that none of them runs in circles."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from agent.compiler.diagnostics import diagnostic, reject, shown, tokens
from agent.errors import SpecRejected
from contracts.status import Diagnostic

Json = Any
_CHAIN = 100  # schemas that lead to one another without a property in between


def check_references(
    document: dict[str, Json], references: Iterable[tuple[str, str]], in_place: Iterable[tuple[str, str]]
) -> None:
    """Every reference must end at an object. Raises SpecRejected with a diagnostic for each that does not."""
    faults: list[Diagnostic] = []
    for place, target in references:
        end, seen = target, {place.removesuffix("/$ref")}
        node = resolve(document, end)
        while isinstance(node, dict) and set(node) == {"$ref"} and end not in seen:
            seen.add(end)
            end = decode_pointer(node["$ref"])
            node = resolve(document, end)
        if end in seen:
            faults.append(diagnostic("reference.loop", place, reference=shown("#" + target)))
        elif not isinstance(node, dict | bool):
            faults.append(diagnostic("reference.dangling", place, reference=shown("#" + target)))
    if faults:
        raise SpecRejected(faults[:20])
    edges: dict[str, list[str]] = {}
    for pointer, target in in_place:
        edges.setdefault(pointer, []).append(target)
    _check_loops(edges)


def _check_loops(edges: dict[str, list[str]]) -> None:
    """Schemas that apply to one value must neither come back to themselves nor form endless chains.

    Depth first, iterative. Raises SpecRejected.
    """
    done: set[str] = set()
    for start in edges:
        path = [] if start in done else [(start, iter(edges[start]))]
        active = {start}
        while path:
            node, rest = path[-1]
            following = next(rest, None)
            if following is None:
                path.pop()
                active.discard(node)
                done.add(node)
            elif following in active:
                raise reject("reference.loop", following, reference=shown("#" + following))
            elif len(path) > _CHAIN:
                raise reject("reference.chain", following, allowed=_CHAIN)
            elif following not in done and following in edges:
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


def decode_pointer(reference: str) -> str:
    """`#/a%20b` → the JSON pointer `/a b`."""
    return unquote(reference[1:])


def encode_pointer(pointer: str) -> str:
    """The JSON pointer `/a b` → `#/a%20b`."""
    return "#" + re.sub(r"[^\w/.~!$&'()*+,;=:@?-]", lambda found: _percent(found.group()), pointer, flags=re.ASCII)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
