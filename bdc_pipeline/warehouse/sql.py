"""How names and values stand in SQL here: quoted identifiers, bound conditions, moments as texts."""

from __future__ import annotations

import datetime as dt

Scalar = None | int | float | str | bytes
Where = tuple[str, tuple[Scalar, ...]]


def utc_text(moment: dt.datetime) -> str:
    """A moment as the text that is stored: UTC, seconds, `2026-01-31T23:59:59Z`. Such texts sort by time.

    Raises:
        ValueError: the moment has no time zone, so that its place in UTC is unknown.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone, so it cannot be stored as UTC")
    # strftime's %Y does not pad the years before 1000
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")[:19] + "Z"


def parse_utc(text: str) -> dt.datetime:
    """The moment that `utc_text` wrote."""
    return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)


def quoted(name: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'
