"""Time as a cache and a share agree on it: a hybrid logical clock, correction by the share's clock, and when an edit was made.

Pure functions. Milliseconds since 1970 everywhere; `offset` is the share's clock minus this machine's.
"""

from datetime import UTC, datetime

from bdc_pipeline.share.model import Stamp, Value

LARGE_SKEW_MS = 60_000
"""A clock that is off by more than this is told about: people compare what they see with their watch."""

_SECONDS_BELOW = 10**11  # as seconds the year 5138, as milliseconds 1973: numbers of rows written today are told apart


def tick(last: Stamp, now: int, client: str) -> Stamp:
    """The next stamp of this client: later than everything it has seen, and as near to the clock as that allows."""
    if now > last.millis:
        return Stamp(now, 0, client)
    return Stamp(last.millis, last.counter + 1, client)


def observe(last: Stamp, seen: Stamp, now: int) -> Stamp:
    """What a client remembers after it has seen another's stamp; one from the future is taken no further than now."""
    if seen.millis > now:
        seen = Stamp(now, seen.counter, seen.client)
    return max(last, Stamp(seen.millis, seen.counter, last.client), key=lambda stamp: (stamp.millis, stamp.counter))


def corrected(local: int, offset: int, now: int) -> int:
    """A time read on this machine's clock, on the share's clock and not later than the share's now."""
    return min(local + offset, now)


def skew(offset: int) -> str | None:
    """A sentence on a clock that is far from the share's, or None."""
    if abs(offset) <= LARGE_SKEW_MS:
        return None
    where = "behind" if offset > 0 else "ahead of"
    return (
        f"this machine's clock is {abs(offset) / 1000:,.0f} s {where} the share's; edits are compared by the share's clock, "
        "but set the clock right"
    )


def edited_at(*, stated: Value, stated_before: Value, captured: int, offset: int, now: int) -> int:
    """When a row was edited, on the share's clock.

    The row's own column says so (`stated`), where the edit has set it; a value left as it was says nothing of this edit, and
    then the time of capture does.
    """
    own = None if stated == stated_before else parse_time(stated)
    return corrected(captured if own is None else own, offset, now)


def parse_time(value: Value) -> int | None:
    """A time as programs write it into a column: ISO 8601 (UTC where it says nothing else), seconds or milliseconds since 1970."""
    if isinstance(value, bool) or value is None or isinstance(value, bytes):
        return None
    if isinstance(value, int | float):
        return _from_number(value)
    text = value.strip()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None if not _is_number(text) else _from_number(float(text))
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return int(at.timestamp() * 1000)


def _from_number(number: float) -> int | None:
    if not 0 < number < 10**14:
        return None
    return int(number * 1000) if number < _SECONDS_BELOW else int(number)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit() and not (len(text) == 8 and text.isdigit())
