"""How fast: how many requests a source may have in flight, when all of them must wait, and how closely they may follow.

What belongs here: what a server says about its load (`Retry-After`, `RateLimit-*`, 429, 503, no answer) and what follows
from it for every thread that talks to it. Whether a request is sent again is the session's business.

The decisions are functions from one `Pace` to the next, with the time given to them; `Pacer` shares one among threads.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bdc_pipeline.fetching.stopping import Stop

MAX_PAUSE = 900.0
"""The longest pause that a server's headers can ask for, in seconds (15 minutes): a header in error, such as a reset in
another century, must not hang a run. If the server is still unwilling after it, it says so again."""

UNTOLD_PAUSE, LONGEST_UNTOLD = 2.0, 60.0
"""The pause after a 429 that does not say when to come again, and the longest: doubled from one to the other while such answers go on,
since limits are mostly counted by the minute, and a request has but a few attempts."""

CONGESTED = frozenset({408, 429, 503, 504})
"""Status codes that say "too much" or "too slow". A 500 or 502 says "broken": fewer requests would not mend it."""

_log = logging.getLogger(__name__)

# Waiting for room, a thread looks for a stop this often, in seconds; room itself wakes it at once.
_LOOK_UP_EVERY = 0.1
_TOO_MANY = "it answers that it is asked too much"
# Reset values above this are points in time rather than seconds to wait; 1e9 was in 2001.
_EPOCH_FROM = 1e9


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a source may be asked. Times are seconds on any one clock that only goes forward."""

    ceiling: int
    """The most requests in flight that are ever allowed."""
    limit: float
    """How many are allowed now, from 1 to the ceiling; the part after the point is progress to the next."""
    interval: float = 0.0
    """The seconds between two requests; 0 for as they come."""
    next_turn: float = -math.inf
    """When the next request may be sent on account of the interval."""
    resume_at: float = -math.inf
    """When the pause that the server asked for ends."""
    cut_at: float = -math.inf
    """When the limit was last halved."""
    untold: float = 0.0
    """The seconds of the last pause that nobody asked for."""
    untold_until: float = -math.inf
    """When that one ended."""


def recovered(pace: Pace, *, sent_at: float) -> Pace:
    """Return the pace after a good answer: as many good answers as the limit raise it by one.

    Answers to requests that were sent before the last cut or during the pause say nothing about what holds since.
    """
    if pace.limit >= pace.ceiling or sent_at <= pace.cut_at or sent_at < pace.resume_at:
        return pace
    return replace(pace, limit=min(float(pace.ceiling), pace.limit + 1 / pace.limit))


def congested(pace: Pace, *, sent_at: float, now: float) -> Pace:
    """Return the pace after a sign of congestion: half, once for all requests that were in flight together.

    Ten requests that meet one overload all fail; ten cuts in a row would leave one thread where five are right.
    """
    if sent_at <= pace.cut_at:
        return pace
    return replace(pace, limit=max(1.0, pace.limit / 2), cut_at=now)


def paused(pace: Pace, *, seconds: float, now: float) -> Pace:
    """Return the pace with a pause of so many seconds (at most `MAX_PAUSE`) from now; a longer one under way stays."""
    resume_at = now + min(seconds, MAX_PAUSE)
    if seconds <= 0 or resume_at <= pace.resume_at:
        return pace
    return replace(pace, resume_at=resume_at)


def refused_untold(pace: Pace, *, sent_at: float, now: float) -> Pace:
    """Return the pace after a 429 that does not say when to come again: half, and a pause for all.

    It doubles while the last one is not over for long, whatever other requests brought meanwhile: a server has limits by kind.
    """
    if sent_at <= pace.cut_at or sent_at < pace.resume_at:
        return pace
    goes_on = now <= pace.untold_until + LONGEST_UNTOLD
    seconds = min(LONGEST_UNTOLD, 2 * pace.untold) if goes_on and pace.untold else UNTOLD_PAUSE
    pace = replace(congested(pace, sent_at=sent_at, now=now), untold=seconds, untold_until=now + seconds)
    return paused(pace, seconds=seconds, now=now)


def next_turn(pace: Pace, *, now: float) -> tuple[Pace, float]:
    """Take the next turn: return the pace without it, and when it is.

    Turns that were missed are not made up for, so there is no burst after a lull.
    """
    turn = max(now, pace.resume_at, pace.next_turn)
    if pace.interval <= 0:
        return pace, turn
    return replace(pace, next_turn=turn + pace.interval), turn


def pause_asked_for(status: int, headers: Mapping[str, str], *, in_flight: int, now: datetime) -> float | None:
    """Return the seconds that an answer's headers ask to wait, 0 for "again at once", None if they ask for nothing.

    - `Retry-After` (RFC 9110, 10.2.3; seconds or a date) counts on an answer of 400 and above.
    - `RateLimit-Remaining` below the number of requests in flight waits until `RateLimit-Reset`, both with or without
      `X-`. A reset is in seconds, or a Unix time if it is above 1e9 (GitLab, GitHub).

    Points in time are compared with the answer's own `Date`, since the two come from one clock; `now` stands in for it.
    """
    told = retry_after_asked_for(headers, now=now) if status >= 400 else None
    used_up = _seconds_to_reset(headers, in_flight, _server_now(headers, now))
    return max((seconds for seconds in (told, used_up) if seconds is not None), default=None)


def retry_after_asked_for(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Return the seconds that `Retry-After` asks to wait, None without one that can be understood."""
    value = _header(headers, "Retry-After")
    if value is None:
        return None
    seconds = _parsed_number(value)
    if seconds is not None:
        return max(0.0, seconds)
    date = parsed_date(value)
    return max(0.0, (date - _server_now(headers, now)).total_seconds()) if date is not None else None


def _server_now(headers: Mapping[str, str], now: datetime) -> datetime:
    return parsed_date(_header(headers, "Date")) or now


def _seconds_to_reset(headers: Mapping[str, str], in_flight: int, server_now: datetime) -> float | None:
    remaining = _parsed_number(_header(headers, "RateLimit-Remaining") or _header(headers, "X-RateLimit-Remaining"))
    if remaining is None or remaining >= max(1, in_flight):
        return None
    reset = _parsed_number(_header(headers, "RateLimit-Reset") or _header(headers, "X-RateLimit-Reset"))
    if reset is None:
        return None
    seconds = reset - server_now.timestamp() if reset > _EPOCH_FROM else reset
    return seconds if seconds > 0 else None


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return headers.get(name) or headers.get(name.lower())


def _parsed_number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def parsed_date(value: str | None) -> datetime | None:
    """Return the time that an HTTP date tells, None for none and for one that cannot be understood."""
    try:
        date = parsedate_to_datetime(value) if value is not None else None
    except (ValueError, OverflowError):
        return None
    # A zone of "-0000" parses as a naive time, with which nothing could be compared
    return date if date is not None and date.tzinfo is not None else None


class Pacer:
    """Shares one pace among all threads that talk to a source.

    concurrency: the most requests in flight.
    requests_per_second: spread requests evenly, so many a second over all threads; None for as fast as they come.
    clock: seconds that only go forward; `sent_at` is on this clock too.
    """

    def __init__(
        self,
        *,
        concurrency: int,
        requests_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"At least one request must be allowed in flight, not {concurrency}.")
        if requests_per_second is not None and requests_per_second <= 0:
            raise ValueError(f"Requests per second must be more than 0, not {requests_per_second:g}.")
        self.clock = clock
        self._room = threading.Condition(threading.Lock())
        self._in_flight = 0
        interval = 1 / requests_per_second if requests_per_second else 0.0
        self._pace = Pace(ceiling=concurrency, limit=float(concurrency), interval=interval)
        self._waited = 0.0
        self._pauses = 0

    def __repr__(self) -> str:
        return (
            f"Pacer(limit={self.limit}, in_flight={self._in_flight}, waited={self._waited:.1f}, pauses={self._pauses})"
        )

    @property
    def pace(self) -> Pace:
        """The pace as it is now."""
        return self._pace

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return int(self._pace.limit)

    @property
    def waited(self) -> float:
        """The seconds that threads have waited for their slots, added up over all threads."""
        return self._waited

    @property
    def pause_left(self) -> float:
        """The seconds that all threads still pause, 0 for none."""
        return max(0.0, self._pace.resume_at - self.clock())

    @property
    def pauses(self) -> int:
        """How many times the server made all threads pause."""
        return self._pauses

    @contextmanager
    def slot(self, stop: Stop) -> Iterator[None]:
        """Wait until a request may be sent, and hold its place while it is in flight.

        Raises `Stopped` as soon as `stop` is set while waiting, or if it was set before.
        """
        asked_at = self.clock()
        try:
            while not self._enter(stop, self._wait_for_room(stop)):
                pass
        finally:
            self._count_wait(self.clock() - asked_at)
        try:
            yield
        finally:
            self._leave()

    def observe(self, *, status: int | None, headers: Mapping[str, str], sent_at: float) -> None:
        """Learn from an answer, or, with status None, from a time-out or a connection that failed.

        `sent_at` is when its request was sent, on the pacer's clock.
        """
        now = self.clock()
        asked = None
        if status is not None and (status >= 400 or _speaks_of_limits(headers)):
            asked = pause_asked_for(status, headers, in_flight=self._in_flight, now=datetime.now(UTC))
        with self._room:
            if status == 429 and asked is None:
                self._take(refused_untold(self._pace, sent_at=sent_at, now=now), now, _TOO_MANY)
                return
            if status is None or status in CONGESTED:
                self._pace = congested(self._pace, sent_at=sent_at, now=now)
            elif status < 500:
                self._grow(sent_at)
            self._pause(asked, now, _TOO_MANY if status is not None and status >= 400 else "its limit is used up")

    def throttled(self, *, retry_after: float | None = None, sent_at: float | None = None) -> None:
        """Learn from a body that says "too many requests", and after how many seconds to come again if it does.

        `sent_at` is when its request was sent, on the pacer's clock; without it, it counts as sent just now.
        """
        now = self.clock()
        sent_at = now if sent_at is None else sent_at
        with self._room:
            if retry_after is None:
                self._take(refused_untold(self._pace, sent_at=sent_at, now=now), now, _TOO_MANY)
                return
            self._pace = congested(self._pace, sent_at=sent_at, now=now)
            self._pause(retry_after, now, _TOO_MANY)

    def _grow(self, sent_at: float) -> None:
        before = int(self._pace.limit)
        self._pace = recovered(self._pace, sent_at=sent_at)
        if int(self._pace.limit) > before:
            self._room.notify()

    def _pause(self, seconds: float | None, now: float, why: str) -> None:
        if seconds is not None:
            self._take(paused(self._pace, seconds=seconds, now=now), now, why)

    def _take(self, pace: Pace, now: float, why: str) -> None:
        """Take a pace over, and say so where a pause begins with it: a run that stands still for minutes is no run that hangs."""
        if pace.resume_at > self._pace.resume_at and self._pace.resume_at <= now:
            self._pauses += 1
            if pace.resume_at - now >= 1:
                _log.info("The server has to be left alone for %.0f s: %s.", pace.resume_at - now, why)
        self._pace = pace

    def _wait_for_room(self, stop: Stop) -> float:
        """Wait for a place among those in flight, take it and a turn, and return when the turn is."""
        with self._room:
            stop.raise_if_set()
            while self._in_flight >= int(self._pace.limit):
                self._room.wait(_LOOK_UP_EVERY)
                stop.raise_if_set()
            self._in_flight += 1
            self._pace, turn = next_turn(self._pace, now=self.clock())
            return turn

    def _enter(self, stop: Stop, turn: float) -> bool:
        """Wait for the turn. False, and the place given back, if it was called off by a new pause or a lower limit."""
        wait = turn - self.clock()
        if wait <= 0:
            return True
        try:
            stop.wait(wait)
            stop.raise_if_set()
        except BaseException:  # Ctrl-C lands here too, and must not take the place away for good
            self._leave()
            raise
        with self._room:
            if turn >= self._pace.resume_at and self._in_flight <= int(self._pace.limit):
                return True
        self._leave()
        return False

    def _leave(self) -> None:
        with self._room:
            self._in_flight -= 1
            self._room.notify()

    def _count_wait(self, seconds: float) -> None:
        # Less than this is the cost of looking at the clock, not a wait
        if seconds > 0.001:
            with self._room:
                self._waited += seconds


def _speaks_of_limits(headers: Mapping[str, str]) -> bool:
    return (_header(headers, "RateLimit-Remaining") or _header(headers, "X-RateLimit-Remaining")) is not None
