"""Housekeeping that keeps a share small: snapshots, packs, and what may be removed. Any client may do it, and two at once do no harm.

What is kept: the two newest snapshots and all segments after the older one, in packs as they get older; whatever a client that was
seen lately has not applied; and everything younger than two hours, since whoever reads a file or was about to use its name has
done so or given up by then. What is left in `tmp/` goes after one hour, always before segments do: a publisher that slept since
finds its file gone and not a segment's number free.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bdc_pipeline.share import packs
from bdc_pipeline.share.answers import Taken
from bdc_pipeline.share.files import Files, FileStat
from bdc_pipeline.share.log import Log
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.segment import Torn, decode
from bdc_pipeline.share.snapshots import read_snapshot, write_snapshot
from bdc_pipeline.share.start import FORMAT_NAME, parse

__all__ = ["Acknowledged", "Growth", "Plan", "Stock", "Tended", "plan"]

SNAPSHOT_SEGMENTS = 256
SNAPSHOT_BYTES = 8 << 20
STAGGER = 64
"""Clients come to make the next snapshot up to so many segments apart, so that mostly one of them does."""

PACK_LAG = packs.PACKED
"""Segments behind the last one that are not packed: those that most clients are about to read."""

HOUR_MS = 3_600_000
TMP_MS = HOUR_MS
KEPT_MS = 2 * HOUR_MS
SEEN_MS = 14 * 24 * HOUR_MS
"""A client not seen for so long holds nothing; it loads a snapshot when it comes back."""

ACKNOWLEDGE_SECONDS = 600.0
READ_ATTEMPTS = 3


class Acknowledged(msgspec.Struct, frozen=True):
    """How far a client has applied the log, as `clients/ID.json` says."""

    client: str
    name: str = ""
    sequence: int = 0
    version: int = 1


@dataclass(frozen=True, slots=True)
class Stock:
    """What is on the share: files by folder and name. `now_ms` is the share's own clock."""

    now_ms: int
    folders: Mapping[str, Mapping[str, FileStat]]
    acknowledged: Mapping[str, int]

    def numbered(self, folder: str) -> dict[int, FileStat]:
        """A folder's files by the number of their (first) segment."""
        return {
            number: found
            for name, found in self.folders.get(folder, {}).items()
            if (number := packs.sequence_of(name)) is not None
        }

    def age_ms(self, found: FileStat) -> int:
        """How long ago a file was written, by the share's clock."""
        return self.now_ms - found.mtime_ms


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: make a snapshot, pack from these numbers on, and remove these files in this order."""

    snapshot: bool
    packs: tuple[int, ...]
    remove: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tended:
    """What was done."""

    snapshot: int | None = None
    packed: int = 0
    removed: int = 0


def plan(stock: Stock, position: int, *, first_snapshot: str, stagger: int = 0) -> Plan:
    """What housekeeping a client at `position` finds to do. `first_snapshot` is the one that `FORMAT` names."""
    snapshots = sorted(stock.numbered("snap"))
    segments = stock.numbered("log")
    newest = snapshots[-1] if snapshots else 0
    since = sum(found.size for number, found in segments.items() if newest < number <= position)
    wanted = position - newest >= SNAPSHOT_SEGMENTS + stagger or (position > newest and since >= SNAPSHOT_BYTES)
    kept_from = snapshots[-2] if len(snapshots) > 1 else 0
    return Plan(wanted, _packs(stock, position), _removable(stock, kept_from, first_snapshot))


def _packs(stock: Stock, position: int) -> tuple[int, ...]:
    """First numbers of the packs that can be made: all of their segments are there, and not the latest."""
    segments, packed = stock.numbered("log"), stock.numbered("pack")
    firsts = sorted({packs.pack_range(number)[0] for number in segments})
    return tuple(
        first
        for first in firsts
        if first not in packed
        and packs.pack_range(first)[-1] <= position - PACK_LAG
        and all(number in segments for number in packs.pack_range(first))
    )


def _removable(stock: Stock, kept_from: int, first_snapshot: str) -> tuple[str, ...]:
    """What nobody needs any more. Packs count as there only since they were listed: one made just now replaces nothing yet."""
    live = [
        stock.acknowledged.get(name, 0)
        for name, found in stock.folders.get("clients", {}).items()
        if stock.age_ms(found) < SEEN_MS
    ]
    horizon = min([kept_from, *live])
    packed = {number for first in stock.numbered("pack") for number in packs.pack_range(first)}
    old = _older(stock, "tmp", TMP_MS)
    log = [
        name
        for name in _older(stock, "log", KEPT_MS)
        if (number := packs.sequence_of(name)) is not None and (number <= horizon or number in packed)
    ]
    pack = [
        name
        for name in _older(stock, "pack", KEPT_MS)
        if (number := packs.sequence_of(name)) is not None and packs.pack_range(number)[-1] <= horizon
    ]
    snap = [name for name in _older(stock, "snap", KEPT_MS) if _is_superseded(name, kept_from, first_snapshot)]
    clients = _older(stock, "clients", 4 * SEEN_MS)
    folders = {"tmp": old, "log": log, "pack": pack, "snap": snap, "clients": clients}
    return tuple(f"{folder}/{name}" for folder, names in folders.items() for name in names)


def _older(stock: Stock, folder: str, age_ms: int) -> list[str]:
    return sorted(name for name, found in stock.folders.get(folder, {}).items() if stock.age_ms(found) > age_ms)


def _is_superseded(name: str, kept_from: int, first_snapshot: str) -> bool:
    """Whether a snapshot is older than the two that are kept, or the first one of a start that was not the first."""
    number = packs.sequence_of(name)
    if number is None:
        return kept_from > 0 or f"snap/{name}" != first_snapshot
    return number < kept_from


class Growth:
    """The housekeeping of one client."""

    def __init__(self, files: Files, log: Log, client: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._log = log
        self._client = client
        self._clock = clock
        self._told: tuple[int, float] | None = None

    def acknowledge(self, position: Position, name: str = "", *, force: bool = False) -> bool:
        """Tell how far this client is, at most every ten minutes; housekeeping waits for those that were seen lately."""
        now = self._clock()
        if not force and self._told is not None and now - self._told[1] < ACKNOWLEDGE_SECONDS:
            return False
        said = Acknowledged(self._client, name, position.sequence)
        self._files.replace(f"clients/{self._client}.json", msgspec.json.encode(said))
        self._told = (position.sequence, now)
        return True

    def clients(self) -> list[Acknowledged]:
        """How far the clients are that share this database."""
        names = [f"clients/{name}" for name in self._files.list("clients")]
        return list(_said(self._files.read_many(names)))

    def is_due(self, position: Position) -> bool:
        """Whether it is worth looking: a pack's worth of segments has come since the last time."""
        return self._told is None or position.sequence - self._told[0] >= packs.PACKED

    def tend(self, position: Position, make_snapshot: Callable[[Path], Position | None], name: str = "") -> Tended:
        """Acknowledge, then do what there is to do. `make_snapshot` writes the content to a local file and says where it stands."""
        self.acknowledge(position, name, force=True)
        stock = self._stock()
        todo = plan(
            stock,
            position.sequence,
            first_snapshot=self._first_snapshot(),
            stagger=zlib.crc32(self._client.encode()) % STAGGER,
        )
        packed = sum(self._pack(first) for first in todo.packs)
        removed = self._files.remove(list(todo.remove)) if todo.remove else 0
        return Tended(self._snapshot(make_snapshot) if todo.snapshot else None, packed, removed)

    def newest_snapshot(self, to: Path) -> Position:
        """Fetch the newest snapshot that is whole, write its database to the local file `to`, and say where it stands."""
        failure: Exception | None = None
        for _ in range(READ_ATTEMPTS):
            numbers = self._log.snapshots()
            paths = [packs.snapshot_path(number) for number in sorted(numbers, reverse=True)] or [
                self._first_snapshot()
            ]
            for path in paths:
                try:
                    return self._fetched(path, to)
                except (FileNotFoundError, Torn) as error:
                    # Removed while it was read, which leaves a newer one; or damaged, which the one before is not
                    failure = failure or error
        raise Torn(
            f"No snapshot on the share can be read: {failure}. Restore its 'snap' folder from a backup."
        ) from failure

    def _fetched(self, path: str, to: Path) -> Position:
        sealed = to.with_name(to.name + ".snap")
        try:
            self._files.fetch(path, sealed)
            return read_snapshot(sealed, to, self._log.key)
        finally:
            sealed.unlink(missing_ok=True)

    def _first_snapshot(self) -> str:
        return parse(self._files.read(FORMAT_NAME)).snapshot

    def _stock(self) -> Stock:
        """What is on the share. Its clock is the latest time on it: an acknowledgement was written just before."""
        folders = {folder: self._files.survey(folder) for folder in ("clients", "tmp", "log", "pack", "snap")}
        names = list(folders["clients"])
        contents = self._files.read_many([f"clients/{name}" for name in names])
        known = {name: said.sequence for name, data in zip(names, contents, strict=True) for said in _said([data])}
        latest = max((found.mtime_ms for files in folders.values() for found in files.values()), default=0)
        return Stock(latest, folders, known)

    def _pack(self, first: int) -> int:
        """Publish a pack; the segments are removed by a later round, once it is seen to be there."""
        contents = self._files.read_many([packs.segment_path(number) for number in packs.pack_range(first)])
        segments = [data for data in contents if data is not None]
        if len(segments) < len(contents):
            return 0
        for number, data in enumerate(segments, first):
            decode(data, self._log.key, name=packs.segment_path(number))  # a damaged one is told, not packed away
        with contextlib.suppress(Taken):
            self._files.publish(packs.pack_path(first), packs.pack(first, segments))
            return 1
        return 0

    def _snapshot(self, make: Callable[[Path], Position | None]) -> int | None:
        """Publish a snapshot of what this client has; nothing when another was first, or the content cannot be given now."""
        with tempfile.TemporaryDirectory(prefix="bdc-snapshot-") as folder:
            content, sealed = Path(folder) / "content.db", Path(folder) / "content.snap"
            at = make(content)
            if at is None or at.sequence in self._log.snapshots():
                return None
            write_snapshot(content, sealed, at, self._log.key)
            with contextlib.suppress(Taken):
                self._files.publish_file(packs.snapshot_path(at.sequence), sealed)
                return at.sequence
        return None


def _said(contents: Iterable[bytes | None]) -> Iterable[Acknowledged]:
    for data in contents:
        with contextlib.suppress(msgspec.DecodeError):
            if data is not None:
                yield msgspec.json.decode(data, type=Acknowledged)
