"""Keeping the raw downloads fresh: what is older than asked for is asked for again, under the registries' own rules.

A download replaces the last one only if it is whole and plausible: the array or object that the registry publishes, to
its end, with records of the kind that it holds, not empty, not suddenly much smaller. Whatever else comes, the last good one
stands, and the report says so.

**Pauses between requests** count from the last request that a registry answered, whatever the answer was worth: a 503, a body
cut short or broken off, a page of HTML, an empty list. Nothing counts where no answer began to come: a host that cannot be
reached, a connection closed or timed out before. The attempts of one asking (three at most, seconds apart) are one request;
what a process that was killed had asked is not known.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import msgspec

from bdc_pipeline.fetching.answers import Answer, BadAnswer, FetchError, Throttled
from bdc_pipeline.fetching.pacing import Pacer
from bdc_pipeline.fetching.pool import Done, Failed, NotTried, Pool, Stop, Task
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.dmr.cache import Cache, Cached, CacheError, Incoming, Record, Refusal
from bdc_pipeline.sources.dmr.reading import READERS
from bdc_pipeline.sources.dmr.registries import Feed
from bdc_pipeline.sources.effort import effort_of
from bdc_pipeline.warehouse.documents import UNREADABLE
from bdc_pipeline.warehouse.records import BrokenDocument, read_records
from bdc_pipeline.warehouse.records import Record as JsonRecord
from bdc_pipeline.warehouse.sql import parse_utc, utc_text
from bdc_pipeline.warehouse.stream import Effort

LONGEST_PAUSE = dt.timedelta(days=1)
"""What a registry that asks for a longer pause gets."""

Action = Literal["fresh", "too soon", "not modified", "downloaded", "failed"]

SMALLEST_SHARE = 0.5
"""A download with fewer records than this share of the last good one's is taken for a mistake of the registry's."""

LARGEST = 512 * 1024 * 1024
"""Bytes of a document at most."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of one document.

    `fresh`: young enough, nothing was asked; `too soon`: older than asked for, but the registry wants longer pauses;
    `not modified`: the registry says it is still the same, or sent the same bytes; `downloaded`: it is another one;
    `failed`: none came that can be used. `cached` is what there is now, None for nothing.
    """

    feed: Feed
    action: Action
    cached: Cached | None
    problem: str = ""

    def sentence(self, now: dt.datetime) -> str:
        """What became of it, in words."""
        age = self.cached.age(now) if self.cached else None
        is_old = "of unknown age" if age is None else f"{shown_age(age)} old"
        records = f"{self.cached.record.records:,} records, " if self.cached and self.cached.record else ""
        match self.action:
            case "fresh":
                return f"fresh: {records}{is_old}"
            case "too soon":
                floor = shown_age(self.feed.floor)
                return f"kept: {records}{is_old}; {self.feed.registry} is asked every {floor} at most"
            case "not modified":
                return f"not modified: {records}checked now"
            case "downloaded":
                return f"downloaded: {records}now"
        stands = f"the copy of before stands, {records}{is_old}" if self.cached else "there is no copy of before"
        return f"failed: {self.problem} ({stands})"


@dataclass(frozen=True, slots=True)
class WarmOptions:
    """What is to be done.

    Args:
        max_age: what is older is asked for; None for each document's own.
        force: ask for all, whatever their age.
        allow_smaller: the explicit yes to a download of any size.
        workers: requests at the same time.
    """

    max_age: dt.timedelta | None = None
    force: bool = False
    allow_smaller: bool = False
    workers: int = 4


def is_due(feed: Feed, cached: Cached | None, options: WarmOptions, now: dt.datetime) -> Action | None:
    """Why a document is not to be asked for, by the copy that there is; None where it is."""
    if cached is None:
        return None
    age = cached.age(now)
    if age is None:
        return None
    wanted = options.max_age if options.max_age is not None else feed.max_age
    if not options.force and age <= wanted:
        return "fresh"
    return "too soon" if age < feed.floor else None


def pause_after(feed: Feed, refusal: Refusal | None, now: dt.datetime) -> str:
    """Why a document is not to be asked for, by the last answer that could not be used; empty where it is."""
    if refusal is None:
        return ""
    ago = now - parse_utc(refusal.answered_at)
    wanted = dt.timedelta(seconds=min(refusal.retry_after or 0.0, LONGEST_PAUSE.total_seconds()))
    left = max(feed.floor, wanted) - ago
    # a time that lies ahead was written under a clock that was wrong
    if left <= dt.timedelta(0) or ago < dt.timedelta(0):
        return ""
    return f"asked {shown_age(ago)} ago and refused: {refusal.problem.rstrip('.')}; asks again after {shown_age(left)}"


class Warmer:
    """Asks the registries for their documents.

    Args:
        cache: where they are kept.
        urls: the registries' addresses.
        options: what is to be done.
        stop: ends it early.
        pacers: one a registry, shared by all who ask it.
        clock: the time now (UTC).
        read_timeout: seconds without a byte after which a request is given up.
        attempts: times a request is sent before it counts as failed.
    """

    def __init__(
        self,
        cache: Cache,
        urls: Mapping[str, str],
        options: WarmOptions,
        stop: Stop,
        *,
        pacers: Mapping[str, Pacer] | None = None,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        read_timeout: float = 60.0,
        attempts: int = 3,
        backoff: float = 0.5,
    ) -> None:
        self.cache, self.options, self.stop, self.clock = cache, options, stop, clock
        self._urls = dict(urls)
        self._underway: set[Incoming] = set()
        self._sessions = {
            registry: ApiSession(
                url,
                headers={"Accept": "application/json"},
                workers=options.workers,
                pacer=(pacers or {}).get(registry),
                read_timeout=read_timeout,
                attempts=attempts,
                backoff=backoff,
                stop=stop,
                max_bytes=LARGEST,
            )
            for registry, url in urls.items()
        }

    def close(self) -> None:
        """Closes the connections."""
        for session in self._sessions.values():
            session.close()
        # of threads that were given up while a registry kept them waiting
        for incoming in list(self._underway):
            incoming.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def effort(self) -> Effort:
        """What asking has cost."""
        return sum(map(effort_of, self._sessions.values()), Effort())

    def warm(self, feeds: Sequence[Feed]) -> Iterator[Warmed]:
        """Brings documents up to date, several at a time; one `Warmed` for each as it is done.

        Raises:
            CacheError: the directory cannot be used. Said before anything is asked.
        """
        self.cache.make()
        tasks = [Task(feed.name, lambda _, feed=feed: self._one(feed)) for feed in feeds]  # type: ignore[misc]
        by_name = {feed.name: feed for feed in feeds}
        for outcome in Pool(self.options.workers, stop=self.stop, name="dmr").run(tasks):
            feed = by_name[outcome.task.name]
            match outcome:
                case Done():
                    yield outcome.value
                case Failed(error=FetchError() | CacheError()):
                    yield Warmed(feed, "failed", self.cache.look_up(feed), str(outcome.error))
                case Failed():
                    raise outcome.error
                case NotTried():
                    yield Warmed(feed, "failed", self.cache.look_up(feed), outcome.reason)

    def _one(self, feed: Feed) -> Warmed:
        url = f"{self._urls[feed.registry]}/{feed.path}"
        cached = self.cache.look_up(feed)
        # what another server sent is neither fresh nor told apart by that server's validators
        ours = cached if cached and cached.record and cached.record.url == url else None
        if (reason := is_due(feed, ours, self.options, self.clock())) is not None:
            return Warmed(feed, reason, cached)
        refusal = self.cache.refusal_of(feed)
        if refusal is not None and refusal.url == url and (pause := pause_after(feed, refusal, self.clock())):
            return Warmed(feed, "failed", cached, pause)
        with self.cache.incoming(feed, self.clock) as incoming:
            self._underway.add(incoming)
            try:
                return self._asked(feed, url, cached, ours.record if ours else None, incoming)
            except BaseException as error:
                self._note_refusal(feed, url, incoming, error)
                raise
            finally:
                self._underway.discard(incoming)

    def _asked(self, feed: Feed, url: str, cached: Cached | None, before: Record | None, incoming: Incoming) -> Warmed:
        """Asks, and keeps what comes if it can be used.

        Raises:
            FetchError, CacheError: it cannot.
        """
        session = self._sessions[feed.registry]
        got = session.fetch(
            "GET",
            feed.path,
            parse=lambda answer: _accepted(feed, answer, incoming, before),
            headers=_conditions(before),
            into=incoming,
        )
        now = utc_text(self.clock())
        if before is not None and (got is None or got.hash == before.hash):
            still = msgspec.structs.replace(
                before,
                checked_at=now,
                etag=(got.etag if got else None) or before.etag,
                last_modified=(got.last_modified if got else None) or before.last_modified,
            )
            self.cache.note(feed, still)
            return Warmed(feed, "not modified", Cached(self.cache.path(feed), still))
        if got is None:
            raise BadAnswer(f"{feed.name}: the registry answered 304, though nothing was said to be here.")
        if problem := self._too_small(got, cached):
            raise BadAnswer(problem)
        record = got.record(url, now)
        self.cache.keep(feed, incoming, record)
        return Warmed(feed, "downloaded", Cached(self.cache.path(feed), record))

    def _note_refusal(self, feed: Feed, url: str, incoming: Incoming, error: BaseException) -> None:
        if incoming.answered_at is None:
            return
        refusal = Refusal(
            url=url,
            answered_at=utc_text(incoming.answered_at),
            problem=str(error) or type(error).__name__,
            retry_after=error.retry_after if isinstance(error, Throttled) else None,
        )
        # of two errors the first one is told
        with contextlib.suppress(CacheError):
            self.cache.note_refusal(feed, refusal)

    def _too_small(self, got: _Download, cached: Cached | None) -> str:
        if self.options.allow_smaller:
            return ""
        if got.records == 0:
            return "the registry sent an empty list"
        before = cached.count() if cached is not None else 0
        if got.records < SMALLEST_SHARE * before:
            return (
                f"the registry sent {got.records:,} records, where there were {before:,}. If the others are really "
                "gone, run again with --allow-vanish"
            )
        return ""


@dataclass(frozen=True, slots=True)
class _Download:
    """A whole document that has just come."""

    size: int
    records: int
    hash: str
    sha256: str
    etag: str | None
    last_modified: str | None

    def record(self, url: str, now: str) -> Record:
        return Record(
            url=url,
            fetched_at=now,
            checked_at=now,
            bytes=self.size,
            records=self.records,
            hash=self.hash,
            sha256=self.sha256,
            etag=self.etag,
            last_modified=self.last_modified,
        )


def _conditions(before: Record | None) -> dict[str, str]:
    """The headers that ask for the document only if it has changed."""
    found = {}
    if before is not None and before.etag:
        found["If-None-Match"] = before.etag
    if before is not None and before.last_modified:
        found["If-Modified-Since"] = before.last_modified
    return found


def _accepted(feed: Feed, answer: Answer, incoming: Incoming, before: Record | None) -> _Download | None:
    """A whole document, or None for one that has not changed.

    Raises:
        BadAnswer: it is no document, or not a whole one, or of something else.
    """
    if answer.status == 304:
        return None
    digest = incoming.hash
    records = before.records if before is not None and digest == before.hash else _count(feed, incoming)
    headers = answer.headers
    return _Download(incoming.size, records, digest, incoming.sha256, headers.get("ETag"), headers.get("Last-Modified"))


def _count(feed: Feed, incoming: Incoming) -> int:
    """How many records a document has; the first that can be read shows that it is the right one.

    A message such as `{"message": "slow down"}` is well-formed JSON too.
    """
    count, is_right = 0, False
    try:
        for records in read_records(incoming.reader()):
            count += len(records)
            is_right = is_right or any(_is_readable(feed, record) for record in records)
    except BrokenDocument as broken:
        raise BadAnswer(f"what came is no whole document: {broken}.") from None
    begun = incoming.opening()
    has_shape = begun.removeprefix(_MARK).lstrip()[:1] == feed.opening
    if not has_shape or (count and not is_right):
        shown = " ".join(begun.decode(errors="replace").split())[:60]
        raise BadAnswer(f"what came is no list of {feed.holds}: '{shown}'.")
    return count


def _is_readable(feed: Feed, record: JsonRecord) -> bool:
    try:
        READERS[feed.name](record)
    except UNREADABLE:
        return False
    return True


_MARK = b"\xef\xbb\xbf"
_UNITS = (("days", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def shown_age(age: dt.timedelta) -> str:
    """An age as people say it: `3 days`, `2 h`, `15 min`."""
    seconds = age.total_seconds()
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return "0 s"
