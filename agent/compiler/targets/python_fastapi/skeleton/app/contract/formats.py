"""Formats of texts: stricter than a validator where the difference would reach Python or PostgreSQL."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")


def is_date(text: str) -> bool:
    """`YYYY-MM-DD` that exists; year 1 to 9999."""
    try:
        return bool(_DATE.match(text) and date.fromisoformat(text))
    except ValueError:
        return False


def is_date_time(text: str) -> bool:
    """RFC 3339 in upper case that Python and timestamptz can hold in UTC; no leap second."""
    match = _DATE_TIME.match(text)
    if not match:
        return False
    try:
        datetime.fromisoformat(_six_digits(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def parse_date_time(text: str) -> datetime:
    """A date-time (or a date, midnight UTC) in UTC; fractions beyond six digits are cut."""
    moment = datetime.fromisoformat(_six_digits(text))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _six_digits(text: str) -> str:
    return re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text)


def is_uuid(text: str) -> bool:
    """The hyphenated form only: no braces, no urn."""
    return bool(_UUID.match(text))


FORMATS: dict[str, Callable[..., bool]] = {"date": is_date, "date-time": is_date_time, "uuid": is_uuid}
RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
