"""How partitions that are stale or incomplete are told in a sentence: each reason once, and days as ranges."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence

FIRST = 5
"""So many partitions, or reasons, are named in a sentence."""

_ADDRESS = re.compile(r"https?://[^\s/?#]+([^\s?#]*)([?#]\S*)?")

_PAGE = re.compile(r"\s*\(<(?:!doctype|html)\b[^()]*(?:\([^()]*\)[^()]*)*\)", re.IGNORECASE)


def told_age(age: dt.timedelta | None) -> str:
    """An age in its largest unit, rounded down: `9 days`, `1 hour`."""
    if age is None:
        return "at a time that is yet to come"
    for unit, seconds in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if (number := int(age.total_seconds() // seconds)) > 0:
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return f"{int(age.total_seconds())} s"


def shortened(reason: str) -> str:
    """A reason with its addresses cut to their paths, since all of a source have one host, and without pages of HTML."""
    return _ADDRESS.sub(lambda found: found[1] or "/", _PAGE.sub("", reason)).rstrip(". ")


def counted(found: Sequence[str], number: int, total: int, *, single: bool, between: str = ", ") -> str:
    """`3 of 36: ...`, with the first of what was found; without numbers of a table that has no partitions."""
    if not found:
        return ""
    more = f"{between.rstrip()} and {len(found) - FIRST} more" if len(found) > FIRST else ""
    named = between.join(found[:FIRST]) + more
    return named if single else f"{number} of {total}: {named}"


def by_reason(partitions: Iterable[tuple[str, str]]) -> list[str]:
    """Partitions, by their names and what is wrong with them, as texts that say each reason once.

    One with a reason of its own is `0147 Frederiksberg (page 1: HTTP 500)`; several are
    `24 days (2026-05-10 to 2026-06-02): HTTP 403`.
    """
    groups: dict[str, list[str]] = {}
    for name, reason in partitions:
        groups.setdefault(shortened(reason), []).append(name)
    return [
        f"{names[0]} ({reason})".strip() if len(names) == 1 else f"{_together(names)}: {reason}"
        for reason, names in groups.items()
    ]


def _together(names: Sequence[str]) -> str:
    days = [_day(name) for name in names]
    dates = sorted(day for day in days if day)
    told = _ranges(dates) if len(dates) == len(names) else list(names)
    unit = "days" if len(dates) == len(names) else "partitions"
    more = f", and {len(told) - FIRST} more" if len(told) > FIRST else ""
    return f"{len(names):,} {unit} ({', '.join(told[:FIRST])}{more})"


def _day(name: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(name)
    except ValueError:
        return None


def _ranges(days: Iterable[dt.date]) -> list[str]:
    """Days in their order as ranges of neighbours."""
    found: list[tuple[dt.date, dt.date]] = []
    for day in days:
        if found and day - found[-1][1] <= dt.timedelta(days=1):
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return [f"{first}" if first == last else f"{first} to {last}" for first, last in found]
