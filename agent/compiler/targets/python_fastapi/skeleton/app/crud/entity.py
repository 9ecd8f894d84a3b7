"""From the entity in a body to the values of columns."""

import asyncio
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app import store
from app.auth import hash_password
from app.database import Row
from app.errors import Fault, Kind, Problem
from app.model import ABSENT, Collection, Field, Generated, Reference, Resource, Shape, Shown, Type
from app.values import Unstorable, to_column

Json = Any


@dataclass(frozen=True, slots=True)
class Draft:
    """An entity from a body, sorted by where its parts go."""

    values: dict[str, Any]  # column → value
    references: list[tuple[Reference, Shown, Json]]
    collections: list[tuple[Collection, Shown, list[Json]]]
    fixed: dict[str, Any]  # columns that the path decides, whatever the body says


def draft_of(shape: Shape, entity: Json) -> Draft:
    """What an entity says about the columns. Raises Problem: a value that no column can hold."""
    draft = Draft({}, [], [], {})
    if not isinstance(entity, dict):
        return draft
    for shown, source in store.sources(shape):
        if shown.name not in entity:
            continue
        value = entity[shown.name]
        if isinstance(source, Field):
            if (source.generated is None or source.chosen) and not (value is None and not source.column.nullable):
                draft.values[source.column.name] = column_value(source, shown, value)
        elif isinstance(source, Reference):
            draft.references.append((source, shown, value))
        else:
            draft.collections.append((source, shown, value if isinstance(value, list) else []))
    return draft


def column_value(field: Field, shown: Shown, value: Json) -> Any:
    """The value for a column. Raises Problem where the column cannot hold it."""
    try:
        return to_column(field.type, value)
    except Unstorable as exc:
        raise Problem(Kind.INVALID, "The body is not valid.", faults=[Fault(f"/{shown.name}", str(exc))]) from exc


def unwrap(body: Json, path: Sequence[str]) -> Json:
    """The entity inside a body."""
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def complete(resource: Resource, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a new row: what the server makes, then defaults."""
    for field in resource.fields:
        name = field.column.name
        if name in values:
            continue
        match field.generated:
            case Generated.UUID:
                values[name] = str(uuid.uuid4())
            case Generated.TOKEN:
                values[name] = secrets.token_hex(16)
            case Generated.CREATED_AT | Generated.UPDATED_AT:
                values[name] = now_for(field)
            case Generated.VERSION:
                values[name] = 1
            case Generated.IDENTITY:
                pass  # the database makes it
            case None:
                if field.default is not ABSENT:
                    values[name] = to_column(field.type, field.default)
    return values


def now_for(field: Field) -> Any:
    """The time, as the column keeps it: a timestamp, a day, or milliseconds since 1970."""
    now = datetime.now(UTC)
    match field.type:
        case Type.DATETIME:
            return now
        case Type.DATE:
            return now.date()
        case Type.STRING:
            return now.isoformat().replace("+00:00", "Z")
        case _:
            return to_column(field.type, round(now.timestamp() * 1000))


def stamp(resource: Resource, row: Row, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a changed row: its time and version, if it keeps them."""
    for field in resource.fields:
        name = field.column.name
        if field.generated is Generated.UPDATED_AT:
            values[name] = now_for(field)
        elif field.generated is Generated.VERSION:
            values[name] = (row[name] or 0) + 1
    return values


async def seal(resource: Resource, values: dict[str, Any]) -> None:
    """Secrets are stored as salted hashes. Hashing is slow on purpose, so it happens beside the event loop."""
    for field in resource.fields:
        value = values.get(field.column.name)
        if field.secret and value is not None:
            values[field.column.name] = await asyncio.to_thread(hash_password, str(value))
