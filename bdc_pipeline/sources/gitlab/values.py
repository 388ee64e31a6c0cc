"""Values of GitLab's objects: what is made of the types that answers really have.

A key that is missing is None. Among scalars the kind may differ (coverage comes as text and as a number); a structure in place of
a scalar makes the record a reject.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

import msgspec

_BITS_64 = 2**63
"""Above the largest whole number that SQLite holds."""


class Malformed(ValueError):  # noqa: N818  (says what the record is)
    """A record that cannot become a row: says which key, and what it holds."""


def text(record: Mapping[str, Any], key: str) -> str | None:
    """A text.

    Raises:
        Malformed: it is a structure.
    """
    value = record.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value)
    raise Malformed(f"`{key}` holds {shown(value)} where a text is expected")


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A number, which may come as text: a pipeline's coverage is "68.49".

    Raises:
        Malformed: it is no number.
    """
    value = record.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            found = float(value)
        except (ValueError, OverflowError):
            found = math.nan
        if math.isfinite(found):
            return found
    raise Malformed(f"`{key}` holds {shown(value)} where a number is expected")


def whole(record: Mapping[str, Any], key: str) -> int | None:
    """A whole number; exact up to 64 bits.

    Raises:
        Malformed: it is none.
    """
    value = record.get(key)
    if value is None:
        return None
    found = None
    if (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
        or (isinstance(value, str) and value.strip().removeprefix("-").isdecimal())
    ):
        found = int(value)
    if found is None or not -_BITS_64 <= found < _BITS_64:
        raise Malformed(f"`{key}` holds {shown(value)} where a whole number of 64 bits at most is expected")
    return found


def flag(record: Mapping[str, Any], key: str) -> bool | None:
    """A truth value.

    Raises:
        Malformed: it is none.
    """
    value = record.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise Malformed(f"`{key}` holds {shown(value)} where true or false is expected")


def moment(record: Mapping[str, Any], key: str) -> str | None:
    """A time in UTC with milliseconds: `2026-05-31T23:59:59.000Z`. Such texts sort by time.

    Raises:
        Malformed: it is no time in ISO 8601.
    """
    value = record.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Malformed(f"`{key}` holds {shown(value)} where a time is expected")
    if len(value) == 24 and value[23] == "Z" and value[10] == "T":
        _parsed(key, value)
        return value
    parsed = _parsed(key, value)
    return f"{parsed:%Y-%m-%dT%H:%M:%S}.{parsed.microsecond // 1000:03d}Z"


def _parsed(key: str, value: str) -> dt.datetime:
    try:
        parsed = dt.datetime.fromisoformat(value)
        return parsed.astimezone(dt.UTC) if parsed.tzinfo is not None else parsed.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        raise Malformed(f"`{key}` holds {shown(value)} where a time is expected") from None


def part(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object below a record; an empty one where it is null or missing.

    Raises:
        Malformed: it is no object.
    """
    value = record.get(key)
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise Malformed(f"`{key}` holds {shown(value)} where an object is expected")


def listed(record: Mapping[str, Any], key: str) -> list[Any]:
    """A list below a record; an empty one where it is null or missing.

    Raises:
        Malformed: it is no list.
    """
    value = record.get(key)
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise Malformed(f"`{key}` holds {shown(value)} where a list is expected")


def key_of(record: Any) -> int:
    """A record's id.

    Raises:
        Malformed: it is no object, or has none.
    """
    if not isinstance(record, dict):
        raise Malformed(f"the record is {shown(record)} where an object is expected")
    value = record.get("id")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _BITS_64:
        return value
    raise Malformed(f"`id` holds {shown(value)} where a whole number is expected")


def readable_key(record: Any) -> tuple[int, ...]:
    """A record's id where it has one, for a record that cannot become a row."""
    identifier = record.get("id") if isinstance(record, dict) else None
    return (identifier,) if isinstance(identifier, int) else ()


def raw_of(record: Any) -> str:
    """A record as JSON, without what must not be kept."""
    if isinstance(record, dict):
        record = {key: value for key, value in record.items() if key not in _SECRET}
    return msgspec.json.encode(record).decode()


_SECRET = frozenset({"runners_token", "ci_job_token", "user", "commit", "runner", "runner_manager", "owner"})
"""Keys of a rejected record that are not kept: a token, and objects that hold mail addresses and addresses of machines."""


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    told = msgspec.json.encode(value).decode()
    return told if len(told) <= 60 else f"{told[:60]}..."


def shifted(moment_text: str, by: dt.timedelta) -> str:
    """A time so much later, as `moment` writes it."""
    later = dt.datetime.fromisoformat(moment_text) + by
    return f"{later:%Y-%m-%dT%H:%M:%S}.{later.microsecond // 1000:03d}Z"


def seconds(number_of: float) -> dt.timedelta:
    """So many seconds."""
    return dt.timedelta(seconds=number_of)
