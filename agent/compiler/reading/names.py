"""Names that a document gives, before the walk changes any: of components, of operations, of composed schemas."""

import re
from typing import Any

from agent.compiler.diagnostics import child, shown
from agent.compiler.reading import grammar
from agent.compiler.reading.log import Log
from agent.compiler.reading.references import decode_pointer

Json = Any
_COMPONENT_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")


def component_names(tree: dict[str, Json], log: Log) -> dict[tuple[str, str], str]:
    """(section, given name) → a name that OpenAPI allows, for those that it does not allow."""
    components = tree.get("components")
    renamed: dict[tuple[str, str], str] = {}
    for section, members in components.items() if isinstance(components, dict) else ():
        if section not in grammar.OBJECTS["components"] or not isinstance(members, dict):
            continue
        taken = {name for name in members if _COMPONENT_NAME.match(name)}
        last: dict[str, int] = {}
        for name in members:
            if name not in taken and (section, name) not in renamed and not _COMPONENT_NAME.match(name):
                renamed[section, name] = _fresh(name, taken, last)
                log.change(f"component renamed to {shown(renamed[section, name])}", child("/components", section, name))
    return renamed


def _fresh(name: str, taken: set[str], last: dict[str, int]) -> str:
    """A name that nobody has; `last`: base → its number given last, so that thousands alike do not count from 1 each."""
    base = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_")[:100] or "component"
    new, number = base, last.get(base, 1)
    while new in taken:
        number += 1
        new = f"{base}_{number}"
    taken.add(new)
    last[base] = number
    return new


def given_ids(tree: dict[str, Json]) -> set[str]:
    """All operationIds of the document."""
    paths = tree["paths"]
    items = [item for item in paths.values() if isinstance(item, dict)]
    operations = [item[method] for item in items for method in grammar.METHODS if isinstance(item.get(method), dict)]
    return {one["operationId"] for one in operations if isinstance(one.get("operationId"), str)}


def composed(tree: Json) -> set[str]:
    """Pointers of schemas that are part of a composition: others may give the properties that they require."""
    found: set[str] = set()
    stack: list[tuple[str, Json]] = [("", tree)]
    while stack:
        pointer, node = stack.pop()
        if isinstance(node, list):
            stack.extend((f"{pointer}/{index}", one) for index, one in enumerate(node))
        elif isinstance(node, dict):
            for key, one in node.items():
                place = child(pointer, key)
                stack.append((place, one))
                if key in ("allOf", "anyOf", "oneOf") and isinstance(one, list):
                    for index, part in enumerate(one):
                        found.add(f"{place}/{index}")
                        if isinstance(part, dict) and isinstance(part.get("$ref"), str):
                            found.add(decode_pointer(part["$ref"]))
                elif key in ("not", "if", "then", "else"):
                    found.add(place)
    return found
