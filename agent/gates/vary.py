"""Many valid bodies from one: what must be unique differs, all else stays."""

import copy
import uuid
from collections.abc import Mapping
from typing import Any

from agent.gates.seed import entity_in

NAMESPACE = uuid.UUID("6c1f0c52-5a0e-4f0e-9a55-3f6f6f3d1f10")


def varied_bodies(body: Any, resource: Mapping[str, Any], count: int) -> list[Any]:
    """`count` bodies whose unique properties differ. A body that is no object is repeated as it is."""
    columns = set(resource["unique_columns"]) - ({resource["key_column"]} if resource["key_generated"] else set())
    unique = {name for name, column in resource["fields"].items() if column in columns}
    bodies = []
    for number in range(count):
        fresh = copy.deepcopy(body)
        entity = entity_in(fresh, resource)
        for name in unique.intersection(entity or ()):
            assert entity is not None, "an empty intersection otherwise"
            entity[name] = varied(entity[name], number)
        bodies.append(fresh)
    return bodies


def varied(value: Any, number: int) -> Any:
    """Another value of the same kind: a number further on, another UUID, a text of the same length where it is long."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value + number + 1
    if not isinstance(value, str):
        return value
    try:
        return str(uuid.uuid5(NAMESPACE, f"{uuid.UUID(value)}{number}"))
    except ValueError:
        return _text(value, f"{number:05d}")


def _text(value: str, digits: str) -> str:
    if "@" in value:
        return f"{digits}{value}"
    # Same length: a sample may already be as long as the document allows, and digits fit most patterns.
    return value[: -len(digits)] + digits if len(value) > 2 * len(digits) else value + digits
