"""One sync: take what others have published, publish what has changed here, account for it.

Each step can be the last before a crash. What is to be published has been noted in the cache before the share sees it, and
is known again by its batch id when the log is read: it is published once, however often this is tried.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bdc_pipeline.share.answers import Taken
from bdc_pipeline.share.caches import replay
from bdc_pipeline.share.errors import Offline, ShareError
from bdc_pipeline.share.local import Cache
from bdc_pipeline.share.log import MANY, Behind, Forked, Restored
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.status import Light, Sync, count

if TYPE_CHECKING:
    from bdc_pipeline.share.config import Config
    from bdc_pipeline.share.local import Applied
    from bdc_pipeline.share.reach import Opened, Reach

BATCH_ROWS = 20_000
"""Rows in one segment at most: some megabytes."""

ATTEMPTS = 20
"""How often a sync lets others go first before it leaves the rest to the next one."""

JITTER_SECONDS = 0.05
"""The first pause after somebody else was first; it doubles up to a second, and is drawn by lot."""

TURN_SECONDS = (1.0, 3.0)
"""How long a client waits before it writes to a share that has come back: all others come back at the same moment."""

Note = Callable[..., object]
"""Tells those who look what is being done: fields of `Noted`."""


def pause(attempt: int, lot: float) -> float:
    """Seconds to wait before attempt number `attempt` (from 1), with `lot` drawn from 0 to 1."""
    longest: float = min(1.0, JITTER_SECONDS * 2 ** (attempt - 1))
    return longest * lot


def last_common(trail: Mapping[int, bytes], position_at: Callable[[int], Position | None]) -> Position | None:
    """The last segment that a cache and a log both have; None where that cannot be told.

    Each segment names the one before, so two logs that differ in one differ in all that follow: it is found by halving.

    Args:
        trail: hashes of the segments that the cache is made of, by number.
        position_at: gives a segment's place in the log, or None where the log does not have it.
    """
    numbers = sorted(trail)
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        there = position_at(numbers[middle])
        if there is not None and there.digest == trail[numbers[middle]]:
            low = middle + 1
        else:
            high = middle
    return Position(numbers[low - 1], trail[numbers[low - 1]]) if low else None


@dataclass
class Tally:
    """What a sync has moved so far."""

    rows_out: int = 0
    rows_in: int = 0
    segments_out: int = 0
    segments_in: int = 0
    conflicts: int = 0
    began: float = field(default_factory=time.time)
    ticks: float = field(default_factory=time.monotonic)

    def applied(self, applied: Applied) -> None:
        """Counts a segment that was applied."""
        self.conflicts += applied.conflicts + applied.parked
        if applied.own:
            self.segments_out += 1
            self.rows_out += applied.rows
        elif not applied.skipped:
            self.segments_in += 1
            self.rows_in += applied.rows

    def concluded(self, light: Light, sentence: str, reach: Opened | None) -> Sync:
        """The sync as the history keeps it."""
        counts = reach.files.counts.taken() if reach is not None else None
        return Sync(
            at=int(self.began * 1000),
            milliseconds=round((time.monotonic() - self.ticks) * 1000),
            light=light,
            sentence=sentence,
            rows_out=self.rows_out,
            rows_in=self.rows_in,
            segments_out=self.segments_out,
            segments_in=self.segments_in,
            conflicts=self.conflicts,
            bytes_out=counts.bytes_out if counts else 0,
            bytes_in=counts.bytes_in if counts else 0,
            operations=counts.operations if counts else 0,
        )


class Cycle:
    """Syncs one cache with its share.

    Args:
        cache: the cache; used by one thread at a time.
        reach: its share.
        config: who wins a conflict, whose changes these are, which migrations there are.
        note: tells those who look.
        wait: waits some seconds, or until it should stop, which it returns.
    """

    def __init__(
        self, cache: Cache, reach: Reach, config: Config, *, note: Note, wait: Callable[[float], bool]
    ) -> None:
        self._cache = cache
        self._reach = reach
        self._rules = config.rules
        self._config = config
        self._note = note
        self._wait = wait

    def run(self, *, comes_back: bool = False) -> Sync:
        """One sync. What goes wrong is in what it returns; nothing that was written is lost by it.

        Args:
            comes_back: the share was away until now, so that others come back at the same moment.
        """
        tally, opened = Tally(), None
        self._note(phase="looking for changes")
        try:
            opened = self._reach.open()
            if self._cache.get("cache.rebuild"):
                self.load_anew(opened)
            if not self._may_publish_first():
                self.pull(opened, tally)
            if comes_back and self._cache.pending():
                self._note(phase="waiting for its turn", light=Light.PENDING, sentence="")
                self._wait(random.uniform(*TURN_SECONDS))  # noqa: S311  (no secret)
            light, sentence = self._published(opened, tally)
        except Offline as error:
            light, sentence = Light.OFFLINE, str(error)
            self._reach.let_go()
        except (ShareError, sqlite3.Error, OSError) as error:
            light, sentence = Light.FAILED, _told(error)
            self._reach.let_go()
        return tally.concluded(light, sentence, opened)

    def _may_publish_first(self) -> bool:
        """Whether looking can be left out: nobody else was writing when we looked last, and publishing tells if they do now.

        A look costs a round trip, and so does finding the number taken, but only where others write.
        """
        return self._reach.is_quiet and self._cache.inflight is None and self._cache.pending() > 0

    # -- from the share ----------------------------------------------------------------------------------------

    def pull(self, opened: Opened, tally: Tally) -> None:
        """Applies what others have published, and finds what of ours has arrived in spite of a crash.

        Raises:
            Offline: the share cannot be reached; what was applied stays.
            ShareError: the log cannot be applied: damaged, forked, or of a schema that this client does not have.
        """
        rewound = False
        while True:
            try:
                arrived = opened.log.after(self._cache.position)
            except Behind:
                self._load_snapshot(opened)
                continue
            except Forked:
                common = None if rewound else last_common(self._cache.trail(), opened.log.position_at)
                if common is None:
                    raise
                # others went on from a backup: what only the lost segments have becomes pending again
                self._cache.rewind(common)
                rewound = True
                continue
            except Restored as error:
                # what a share that was restored from a backup has no more becomes pending again
                self._cache.rewind(error.position)
                continue
            self._reach.is_quiet = not arrived
            if not arrived:
                return
            self._note(phase="taking changes", head=arrived[-1].segment.sequence)
            for one in arrived:
                tally.applied(self._cache.apply(one.segment, one.digest, self._rules, self._now()))
            if len(arrived) < MANY:  # that was the end: no need to look for one more
                return

    def _load_snapshot(self, opened: Opened) -> None:
        """Replaces the content by the newest snapshot, which is ahead of it; what is pending stays pending."""
        self._note(phase="loading a snapshot")
        with tempfile.TemporaryDirectory(dir=self._cache.path.parent, prefix="snapshot-") as folder:
            file = Path(folder) / "snapshot.db"
            position = opened.growth.newest_snapshot(file)
            self._cache.load_snapshot(file, position, self._rules, self._now())

    def load_anew(self, opened: Opened) -> None:
        """Replaces the content by what snapshot and log together say; what is pending stays pending.

        Up to the log's end, so that the cache never goes back to a schema that it has left.

        Raises:
            Offline, ShareError: the share cannot be reached, or what it holds is not whole.
        """
        self._note(phase="loading everything anew")
        with tempfile.TemporaryDirectory(dir=self._cache.path.parent, prefix="anew-") as folder:
            replica, content = Path(folder) / "replica.db", Path(folder) / "content.db"
            _, position = replay(self._config.migrations, opened, replica)
            with Cache(replica) as copy:
                copy.snapshot(content)
            self._cache.load_snapshot(content, position, self._rules, self._now())

    # -- to the share ------------------------------------------------------------------------------------------

    def _published(self, opened: Opened, tally: Tally) -> tuple[Light, str]:
        """Publishes what is pending, batch by batch; the light that comes of it and why."""
        attempt = 0
        while True:
            segment = self._cache.prepare(BATCH_ROWS, self._config.user, self._now(), self._rules)
            if segment is None:
                return Light.SUCCESS, ""
            self._note(phase="publishing")
            if not segment.sequence > 1:  # a first segment follows on nothing by which another share would be noticed
                self._reach.refresh()
                opened = self._reach.open()
            try:
                published = opened.log.publish(segment)
            except Taken:
                attempt += 1
                if attempt >= ATTEMPTS:
                    return Light.PENDING, f"Others were first {count(attempt, 'time')}; the next sync goes on."
                if self._wait(pause(attempt, random.random())):  # noqa: S311  (no secret)
                    return Light.PENDING, "Stopped before everything was published; the next sync goes on."
                self.pull(opened, tally)
                continue
            attempt = 0
            if published.offset_ms is not None:
                self._cache.put("offset", str(published.offset_ms))
            tally.applied(self._cache.confirm(published.segment, published.digest, self._rules, self._now()))
            self._note(head=published.segment.sequence)

    def _now(self) -> int:
        """Now on the share's clock, as far as it is known, in milliseconds since 1970."""
        return int(time.time() * 1000) + int(self._cache.get("offset") or 0)


def _told(error: Exception) -> str:
    if isinstance(error, ShareError):
        return str(error)
    if isinstance(error, sqlite3.Error):
        return f"The cache cannot be used just now ({error}). It is tried again with the next sync."
    return f"The cache's directory cannot be used: {error}. See to its permissions and its free space."
