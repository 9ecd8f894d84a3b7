"""From JSON to what a column takes. The way back needs no code: the encoder writes dates, UUIDs and decimals."""

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from app.contract.formats import RANGES, parse_date_time
from app.model import Type

Json = Any

_RANGE = {Type.INTEGER: RANGES["int32"], Type.BIGINT: RANGES["int64"]}
_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(value: Json) -> bytes:
    """JSON, compact. Datetimes in UTC end in Z, decimals are numbers."""
    return _encoder.encode(value)


class Unstorable(ValueError):
    """A legal JSON value that the column cannot hold: no row can have it."""


def to_column(kind: Type, value: Json) -> Any:
    """The value that the driver takes for a column of this type. Raises Unstorable."""
    if value is None:
        return None
    try:
        return _convert(kind, value)
    except (ValueError, TypeError, OverflowError, ArithmeticError) as exc:
        raise Unstorable(f"not a value for a column of type {kind.value}") from exc


def _convert(kind: Type, value: Json) -> Any:
    match kind:
        case Type.STRING:
            return value if isinstance(value, str) else encode(value).decode()
        case Type.UUID:
            return str(uuid.UUID(value))
        case Type.BOOLEAN:
            return bool(value)
        case Type.INTEGER | Type.BIGINT:
            number, (low, high) = int(value), _RANGE[kind]
            # As a text in a path: parameters of numeric keys are often declared as strings.
            if value not in (number, str(number)) or not low <= number <= high:
                raise ValueError(number)
            return number
        case Type.NUMERIC:
            return Decimal(str(value))
        case Type.FLOAT:
            return float(value)
        case Type.DATE:
            return date.fromisoformat(value)
        case Type.DATETIME:
            return value if isinstance(value, datetime) else parse_date_time(value)
        case _:
            return value
