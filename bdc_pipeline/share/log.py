"""The log on the share: segments read in order with their chain checked, and published at its end, each exactly once.

A poll that finds nothing new costs one failed open. What a poll cannot see (that what it misses was packed away, that the
share was restored from a backup, that its log is another's) is looked for at the first poll and then every hour, and with a
publication that follows no fresh sight of the segment before it: one operation, between its data and its name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from bdc_pipeline.share import packs
from bdc_pipeline.share.answers import Ambiguous, Taken, Unseen
from bdc_pipeline.share.errors import Offline, ShareError
from bdc_pipeline.share.files import Before, Files
from bdc_pipeline.share.model import Position, Segment
from bdc_pipeline.share.sealing import Key
from bdc_pipeline.share.segment import Torn, decode, digest, encode

__all__ = ["Arrived", "Behind", "Forked", "Log", "Published", "Restored", "since_boot"]

MANY = 8
"""Segments read at once."""

CHECK_SECONDS = 3600.0
"""How long nothing but the next name is looked at. Housekeeping removes no segment younger than twice this."""

FRESH_SECONDS = 60.0
"""How long the segment before ours is taken to be still there once it was seen."""

SLACK_MS = 5_000
"""A segment written so long after it was seen is another: clocks are read no finer on some shares, and drift."""

SLOW_SECONDS = 600.0
"""A publication that took longer (the machine slept) makes sure that its number was not used and packed away meanwhile."""

ATTEMPTS = 2
"""How often a publication is tried whose outcome was unknown and which reading back does not find."""


class Forked(ShareError):  # noqa: N818  (the log's state)
    """The log on the share is not the one that this cache has followed, or not whole."""


class Restored(ShareError):  # noqa: N818
    """The log on the share ends before what this cache has applied: the share was restored from a backup.

    `position` is its last segment. What came after it becomes pending again in the caches that have it.
    """

    def __init__(self, message: str, position: Position) -> None:
        super().__init__(message)
        self.position = position


class Behind(ShareError):  # noqa: N818
    """What comes next was removed long ago: `snapshot` is the number of the newest one, to be loaded instead."""

    def __init__(self, message: str, snapshot: int = 0) -> None:
        super().__init__(message)
        self.snapshot = snapshot


@dataclass(frozen=True, slots=True)
class Arrived:
    """A segment that was read: what it says, its digest, its bytes."""

    segment: Segment
    digest: bytes
    data: bytes

    @property
    def position(self) -> Position:
        """Where a cache is that has applied it."""
        return Position(self.segment.sequence, self.digest)


@dataclass(frozen=True, slots=True)
class Published(Arrived):
    """A segment of ours that is in the log, as it is there; `offset_ms` is the share's clock minus ours, where known."""

    offset_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The last segment whose content was seen: its number, when (`since_boot`), its bytes, and when by the share's clock."""

    sequence: int = 0
    at: float = 0.0
    size: int = 0
    share_ms: int | None = None


def since_boot() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Log:
    """The log of one share, through `files`; `key` opens its segments where it has a secret."""

    def __init__(self, files: Files, key: Key | None = None, *, clock: Callable[[], float] = since_boot) -> None:
        self.files = files
        self.key = key
        self.offset_ms: int | None = None
        """The share's clock minus ours, as it was read last; None while it is not known."""
        self._clock = clock
        self._packed: dict[int, bytes] = {}
        self._behind = False
        self._unpacking = False
        self._polled: float | None = None
        self._checked: float | None = None
        self._seen = Seen()
        self._missing = (0, 0.0)

    def after(self, position: Position, many: int = MANY) -> list[Arrived]:
        """The segments that follow `position`, in order, at most `many`; none when there is nothing new.

        Raises `Behind`, `Forked`, `Restored`, `Torn`, `WrongSecret`, `TooNew`, `Offline`.
        """
        due = self._is_due()
        found = self._next(position.sequence + 1, many)
        if not found and (due or self._unpacking):
            found = self._look_further(position, many)
            self._checked = self._clock()
        self._behind = len(found) == many
        self._unpacking = position.sequence + 1 in self._packed
        arrived = self._chained(position, found)
        self._polled = self._clock()
        if arrived:
            self._saw(arrived[-1].segment.sequence, arrived[-1].data)
        else:
            self._missing = (position.sequence + 1, self._polled)
        return arrived

    def publish(self, segment: Segment) -> Published:
        """Put `segment` at the log's end. Raises `Taken` when another's is there (apply it, and try again after it).

        `Ambiguous`, an `Offline`, leaves open whether it arrived: the next try, with the same batch, finds out.
        """
        data = encode(segment, self.key)
        for attempt in range(ATTEMPTS):
            offset_ms = None
            try:
                offset_ms = self._give(segment, data)
            except (Taken, Ambiguous) as error:
                # A share that repeats a call of ours whose answer was lost says "taken" of what we did ourselves
                try:
                    there = self._read_back(segment.sequence)
                except Offline as gone:
                    raise Ambiguous(str(gone)) from error
                if there is None and (isinstance(error, Taken) or attempt + 1 == ATTEMPTS):
                    raise
                if there is None:
                    continue
                if there.segment.batch != segment.batch:
                    raise Taken(
                        f"Segment {segment.sequence} is {there.segment.client}'s: another client was first."
                    ) from error
                published = Published(there.segment, there.digest, there.data)
            else:
                published = Published(segment, digest(data), data, offset_ms)
            self._check_after(segment)
            self.offset_ms = self.offset_ms if offset_ms is None else offset_ms
            self._saw(segment.sequence, published.data)
            return published
        raise AssertionError  # pragma: no cover  (the last attempt returns or raises)

    def republish(self, sequence: int, data: bytes) -> None:
        """Put a segment back, byte for byte, that a share restored from a backup lacks. `Forked` if another took its place."""
        path = packs.segment_path(sequence)
        try:
            self.files.publish(path, data)
        except (Taken, Ambiguous) as error:
            there = self._bytes(sequence)
            if there is None:
                raise
            if there != data:
                raise Forked(
                    f"Segment {sequence} on the share is another than the one this machine has kept."
                ) from error

    def mend(self, sequence: int, data: bytes) -> None:
        """Replace a damaged segment by its true bytes, as an archive has them. `Forked` when it is not damaged but another."""
        decode(data, self.key, name=f"The kept segment {sequence}")
        there = self._bytes(sequence)
        try:
            if there is not None and there != data:
                decode(there, self.key)
                raise Forked(
                    f"Segment {sequence} on the share is whole, and another than the one this machine has kept."
                )
        except Torn:
            self.files.replace(packs.segment_path(sequence), data)

    def head(self) -> int:
        """The number of the last segment that the share has (three folders are listed; 0 for a new share)."""
        last = [number for name in self.files.list("log") if (number := packs.sequence_of(name)) is not None]
        last += [
            packs.pack_range(number)[-1]
            for name in self.files.list("pack")
            if (number := packs.sequence_of(name)) is not None
        ]
        return max((*last, *self.snapshots()), default=0)

    def snapshots(self) -> list[int]:
        """The numbers of the snapshots that the share has, oldest first."""
        return [number for name in self.files.list("snap") if (number := packs.sequence_of(name)) is not None]

    def position_at(self, sequence: int) -> Position | None:
        """Where a cache is that has applied this segment; None where the log does not have it any more, or not yet."""
        data = self._bytes(sequence) if sequence else None
        return Position() if not sequence else None if data is None else Position(sequence, digest(data))

    # Reading

    def _is_due(self) -> bool:
        now = self._clock()
        return any(then is None or now - then > CHECK_SECONDS for then in (self._polled, self._checked))

    def _next(self, sequence: int, many: int) -> list[bytes]:
        """The files from `sequence` on. Where little is expected, the first is looked for alone."""
        if sequence not in self._packed:
            self._packed = {}
        else:
            return [self._packed[number] for number in range(sequence, sequence + many) if number in self._packed]
        found: list[bytes] = []
        if not self._behind:
            try:
                found.append(self.files.read(packs.segment_path(sequence)))
            except FileNotFoundError:
                return []
        wanted = range(sequence + len(found), sequence + many)
        for data in self.files.read_many([packs.segment_path(number) for number in wanted]):
            if data is None:
                break
            found.append(data)
        return found

    def _look_further(self, position: Position, many: int) -> list[bytes]:
        """What a missing next segment means: nothing new, packed away, removed, or a share restored from a backup."""
        sequence = position.sequence
        if sequence and (tip := self._read(packs.segment_path(sequence))) is not None:
            self._check_tip(position, tip)
            self._saw(sequence, tip)
            return []
        if sequence + 1 in (packed := self._pack_of(sequence + 1)):
            self._packed = packed
            return self._next(sequence + 1, many)
        newest = max(self.snapshots(), default=0)
        if newest > sequence:
            raise Behind(
                f"This cache stands at segment {sequence}; the share keeps what follows as snapshot {newest}, which is loaded.",
                newest,
            )
        if sequence and newest < sequence:
            tip = self._pack_of(sequence).get(sequence)
            if tip is None:
                raise self._restored(sequence)
            self._check_tip(position, tip)
        return []

    def _check_tip(self, position: Position, tip: bytes) -> None:
        if digest(tip) != position.digest:
            raise self._forked(position.sequence, "it was written anew or damaged")

    def _chained(self, position: Position, found: list[bytes]) -> list[Arrived]:
        """The files decoded, each checked to follow the one before."""
        arrived: list[Arrived] = []
        for data in found:
            sequence, before = position.sequence + 1, position.digest
            try:
                one = self._decoded(sequence, data)
            except Torn:
                if arrived:
                    return arrived  # what is whole is applied first
                raise
            if one.segment.previous != before:
                if arrived:
                    return arrived
                raise self._forked(sequence, "it does not follow the segment that this cache has applied last")
            arrived.append(one)
            position = one.position
        return arrived

    def _decoded(self, sequence: int, data: bytes) -> Arrived:
        """The segment; a damaged file is read once more, and then looked for in its pack."""
        name = f"Segment {sequence} ({packs.segment_path(sequence)})"
        try:
            segment = decode(data, self.key, name=name)
        except Torn:
            again = self._read(packs.segment_path(sequence))
            if again is None or again == data:
                again = self._pack_of(sequence).get(sequence, data)
            data = again
            segment = decode(data, self.key, name=name)
        if segment.sequence != sequence:
            raise Torn(f"{name} holds segment {segment.sequence}: it was renamed.")
        return Arrived(segment, digest(data), data)

    def _read(self, path: str) -> bytes | None:
        try:
            return self.files.read(path)
        except FileNotFoundError:
            return None

    def _pack_of(self, sequence: int) -> dict[int, bytes]:
        path = packs.pack_path(sequence)
        data = self._read(path)
        return {} if data is None else packs.unpack(data, name=path)

    def _bytes(self, sequence: int) -> bytes | None:
        data = self._read(packs.segment_path(sequence))
        return self._pack_of(sequence).get(sequence) if data is None else data

    # Publishing

    def _give(self, segment: Segment, data: bytes) -> int | None:
        """Publish with no gap: the segment before was seen lately, or is looked at on the way, or read where that leaves doubt."""
        path, seen, began = packs.segment_path(segment.sequence), self._seen, self._clock()
        is_known = seen.sequence == segment.sequence - 1
        if segment.sequence == 1 or (is_known and began - seen.at < FRESH_SECONDS):
            return self.files.publish(path, data)
        if is_known and seen.share_ms is not None:
            before = Before(packs.segment_path(seen.sequence), seen.size, seen.share_ms + SLACK_MS)
            with contextlib.suppress(Unseen):
                offset_ms = self.files.publish(path, data, before)
                # Files are removed in their order: with the one before, ours was not used and packed away either
                self._missing = (segment.sequence, began)
                return offset_ms
        self._check_before(segment)
        return self.files.publish(path, data)

    def _saw(self, sequence: int, data: bytes) -> None:
        share_ms = None if self.offset_ms is None else round(time.time() * 1000) + self.offset_ms
        self._seen = Seen(sequence, self._clock(), len(data), share_ms)

    def _check_before(self, segment: Segment) -> None:
        """The segment before ours is there, and is the one that ours names."""
        before = segment.sequence - 1
        there = self._bytes(before)
        if there is None and before not in self.snapshots():
            raise self._restored(before)
        if there is not None and digest(there) != segment.previous:
            raise self._forked(before, "ours was made to follow another")
        if there is not None:
            self._saw(before, there)

    def _check_after(self, segment: Segment) -> None:
        """After a long sleep our number may have been used, packed and removed: then ours stands where nobody reads."""
        missed, when = self._missing
        if missed != segment.sequence or self._clock() - when < SLOW_SECONDS:
            return
        packed = self._pack_of(segment.sequence)
        if segment.sequence in packed or max(self.snapshots(), default=0) >= segment.sequence:
            self.files.remove([packs.segment_path(segment.sequence)])
            raise Taken(f"Segment {segment.sequence} was used and packed away while this machine slept.")

    def _read_back(self, sequence: int) -> Arrived | None:
        data = self._read(packs.segment_path(sequence))
        if data is None:
            # Some clients remember for a while that a name was not there; listing its folder makes them look again
            self.files.list("log")
            data = self._read(packs.segment_path(sequence))
        return None if data is None else self._decoded(sequence, data)

    def _forked(self, sequence: int, how: str) -> Forked:
        return Forked(
            f"Segment {sequence} on the share is not the one that this cache knows: {how}. Nothing was applied. "
            "'bdc-pipeline share rebuild' loads the share's content and puts the pending changes of this machine on top."
        )

    def _restored(self, sequence: int) -> Restored:
        head = self.head()
        tip = self._bytes(head) if head else None
        return Restored(
            f"This cache has applied segment {sequence}, but the share's log ends at {head}: it was restored from a backup. "
            "What came in between is published again by the clients that have it.",
            Position(head, digest(tip)) if tip is not None else Position(),
        )
