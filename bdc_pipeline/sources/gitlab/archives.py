"""The fetch of archives' listings: the directory at an archive's end, by ranges, or from the whole where there are none.

With a directory to put them in, archives are stored there as they are, below names made of ids alone: nothing is unpacked, so
neither a name in an archive nor what it unpacks to can do harm.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from bdc_pipeline.fetching.answers import BadAnswer, Refused, TooLarge
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import SMALL, Bytes, GitLabClient, is_gone
from bdc_pipeline.sources.gitlab.fetch import rejected
from bdc_pipeline.sources.gitlab.plan_units import Unit, UnitsPlan
from bdc_pipeline.sources.gitlab.units import Forbidden, UnitsStream
from bdc_pipeline.sources.gitlab.zip_directory import TAIL, Damaged, Directory, Entry, find_directory, read_entries
from bdc_pipeline.warehouse.stored_rows import StoredRows
from bdc_pipeline.warehouse.stream import Plain, Rows, Same


class ArchivesStream(UnitsStream):
    """Lists archives.

    Args:
        client: where to ask.
        plan: the jobs.
        stored: the file, for listings of archives that are gone from GitLab.
        most_bytes: archives over this are not downloaded, be it for their bytes or since the server knows no ranges.
        directory: where to store archives; None for nowhere.
        now: the time (UTC).
        workers: requests at the same time.
        stop: ends it early.
        caps: further limits.
    """

    what = "archive of job"

    def __init__(
        self,
        client: GitLabClient,
        plan: UnitsPlan,
        *,
        stored: StoredRows,
        most_bytes: int,
        directory: Path | None,
        now: str,
        workers: int,
        stop: Stop,
        caps: Caps | None = None,
    ) -> None:
        super().__init__(client, t.OF_ARCHIVES, plan, workers=workers, stop=stop, caps=caps)
        self._stored, self._most, self._directory, self._now = stored, most_bytes, directory, now
        self._large = threading.Semaphore(2)

    def fetch(self, unit: Unit) -> Iterable[Plain]:
        """An archive's listing, or why there is none."""
        guard = self._large if (unit.size or 0) > SMALL else contextlib.nullcontext()
        with guard:
            try:
                return self._listing(unit)
            except Forbidden:
                return _unless_listed(unit, "forbidden")
            except TooLarge:
                return _unless_listed(unit, "too_large")
            except Refused as refused:
                if not is_gone(refused):
                    raise
                return self._kept(unit) if unit.stored else _unless_listed(unit, "gone")

    def _kept(self, unit: Unit) -> list[Plain]:
        """The stored listing, marked: GitLab has the archive no more."""
        row: r.Archive = self._stored.one(t.ARCHIVES, unit.id)
        return [Rows(t.ARCHIVES, [msgspec.structs.replace(row, gone_at=row.gone_at or self._now, day=unit.day)])]

    def _listing(self, unit: Unit) -> list[Plain]:
        stored_path = None
        try:
            if self._directory is not None and (unit.size or 0) <= self._most:
                whole = self._ask(unit, None, None)
                stored_path = self._keep(unit, whole.content)
                entries, total = _entries_of(whole.content), whole.total
            else:
                entries, total = self._by_ranges(unit)
        except Damaged as damage:
            raw = f'{{"job": {unit.id}, "size": {unit.size or "null"}}}'
            return [
                Rows(t.ARCHIVES, [_row(unit, "damaged", problem=str(damage))]),
                rejected(t.ARCHIVES, unit.day, (unit.id,), damage, raw),
            ]
        row = _row(unit, "listed", size=total, entries=entries, stored_path=stored_path)
        return [Rows(t.ARCHIVES, [row]), Rows(t.ARTIFACT_FILES, _files(unit, entries), [unit.id])]

    def _ask(self, unit: Unit, first: int | None, last: int | None) -> Bytes:
        found: Bytes = self.requested(unit, lambda: self.client.archive(unit.project_id, unit.id, first, last))
        return found

    def _by_ranges(self, unit: Unit) -> tuple[list[Entry], int]:
        """The entries, from the archive's end: one request for most, a second where the directory is longer than that."""
        end = self._ask(unit, None, TAIL)
        place = find_directory(end.content, end.total)
        if isinstance(place, int):
            end = self._from(unit, place, end)
            place = find_directory(end.content, end.total)
            if isinstance(place, int):
                raise Damaged("its 64-bit end record lies before where its locator says")
        if place.offset < end.start:
            end = self._from(unit, place.offset, end)
        return _read(end, place), end.total

    def _from(self, unit: Unit, first: int, end: Bytes) -> Bytes:
        """What lies between an offset and what is here already, put before it."""
        if not 0 <= first < end.start or end.total - first > self._most:
            raise Damaged(f"its directory is said to begin at byte {first} of {end.total}")
        more = self._ask(unit, first, end.start - 1)
        if (more.start, more.total) == (0, len(more.content)) and first > 0:
            return more  # ranges are not known any more: this is the whole
        if more.start != first or more.total != end.total or first + len(more.content) != end.start:
            raise BadAnswer("the archive changed while it was read, or another range came than was asked for.")
        return Bytes(more.content + end.content, first, end.total)

    def _keep(self, unit: Unit, content: bytes | bytearray) -> str:
        """Stores an archive, whole or not at all, and returns its path below the directory."""
        relative = f"{unit.project_id}/{unit.pipeline_id}/{unit.id}.zip"
        path = Path(self._directory or ".") / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        try:
            # never through a link that somebody has put there
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return relative


def _entries_of(content: bytes | bytearray) -> list[Entry]:
    place = find_directory(content, len(content))
    if isinstance(place, int):
        raise Damaged("its 64-bit end record lies outside the archive")
    return _read(Bytes(content, 0, len(content)), place)


def _read(end: Bytes, place: Directory) -> list[Entry]:
    begin = place.offset - end.start
    return read_entries(end.content[begin : begin + place.size], place)


def _unless_listed(unit: Unit, state: str) -> list[Plain]:
    """A row that says why there is no listing, unless one is stored from before: that one stays."""
    return [Same(t.ARCHIVES, 1)] if unit.stored else [Rows(t.ARCHIVES, [_row(unit, state)])]


def _row(
    unit: Unit,
    state: str,
    *,
    size: int | None = None,
    entries: list[Entry] | None = None,
    problem: str | None = None,
    stored_path: str | None = None,
) -> r.Archive:
    return r.Archive(
        id=unit.id,
        pipeline_id=unit.pipeline_id,
        project_id=unit.project_id,
        day=unit.day,
        state=state,
        problem=problem,
        gone_at=None,
        size=unit.size if size is None else size,
        files=None if entries is None else len(entries),
        unpacked_size=None if entries is None else sum(entry.size for entry in entries),
        stored_path=stored_path,
    )


def _files(unit: Unit, entries: list[Entry]) -> list[r.ArtifactFile]:
    return [
        r.ArtifactFile(
            job_id=unit.id,
            position=place,
            pipeline_id=unit.pipeline_id,
            project_id=unit.project_id,
            day=unit.day,
            path=entry.path,
            size=entry.size,
            compressed_size=entry.compressed_size,
            crc32=entry.crc32,
            modified_at=entry.modified_at,
            mode=entry.mode,
            is_directory=entry.is_directory,
        )
        for place, entry in enumerate(entries)
    ]
