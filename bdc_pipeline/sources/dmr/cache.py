"""The raw downloads: one file a document, as it was served, and beside it a record of where it came from.

A file and its record are both written aside and forced to the disk before either is renamed: what stands under its name
is always a whole download, and a full disk changes neither of the two. Age is taken from the record: a file's own times change when it is copied. A file that
is not the one its record describes (a crash between the two, a copy, damage) has no known age.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bdc_pipeline import settings
from bdc_pipeline.sources.dmr.registries import Feed
from bdc_pipeline.warehouse.documents import hash_of
from bdc_pipeline.warehouse.records import BrokenDocument, read_records
from bdc_pipeline.warehouse.table import parse_utc

ABANDONED_SECONDS = 3600.0
"""A file that was being written is left over from a killed process once it is so old."""


class CacheError(settings.SettingsError):
    """The cache cannot be written: says which file, why, and what to do."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Where a raw file came from.

    `url` is what was asked for, also where that was redirected. Times are UTC texts: `fetched_at` when these bytes were sent, `checked_at` when the registry last sent them or said that
    they are still the same. `sha256` is for people and other programs; `hash` is the one that is compared.
    """

    url: str
    fetched_at: str
    checked_at: str
    bytes: int
    records: int
    hash: str
    sha256: str
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Cached:
    """A raw file that is there; `record` is None where none describes it."""

    path: Path
    record: Record | None

    def count(self) -> int:
        """How many records it holds; where no record tells, those that can be found in it."""
        if self.record is not None:
            return self.record.records
        found = 0
        with contextlib.suppress(BrokenDocument, OSError), self.path.open("rb") as file:
            for records in read_records(file):
                found += len(records)
        return found

    def age(self, now: dt.datetime) -> dt.timedelta | None:
        """How long ago the registry last vouched for it; None where that is not known, or lies ahead."""
        if self.record is None:
            return None
        age = now - parse_utc(self.record.checked_at)
        return age if age >= dt.timedelta(0) else None


class Cache:
    """A directory of raw downloads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, feed: Feed) -> Path:
        """Where a document's file is, or will be."""
        return self.directory / f"{feed.name}.json"

    def record_path(self, feed: Feed) -> Path:
        """Where its record is."""
        return self.directory / f"{feed.name}.origin.json"

    def look_up(self, feed: Feed) -> Cached | None:
        """What there is of a document; None where there is no file, or none that can be read."""
        path = self.path(feed)
        try:
            if not path.is_file():
                return None
            record = self._record(feed)
            if record is not None and (path.stat().st_size != record.bytes or hash_of(path) != record.hash):
                record = None
        except OSError:
            return None
        return Cached(path, record)

    def _record(self, feed: Feed) -> Record | None:
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, ValueError):
            record = msgspec.json.decode(self.record_path(feed).read_bytes(), type=Record)
            parse_utc(record.fetched_at)
            parse_utc(record.checked_at)
            return record
        return None

    def keep(self, feed: Feed, data: bytes, record: Record) -> None:
        """Puts a download in place of the one before.

        Raises:
            CacheError: it cannot be written; the one before stands.
        """
        self.make()
        self._replace({self.path(feed): data, self.record_path(feed): _encoded(record)})

    def note(self, feed: Feed, record: Record) -> None:
        """Puts a record in place of the one before.

        Raises:
            CacheError: it cannot be written.
        """
        self._replace({self.record_path(feed): _encoded(record)})

    def make(self) -> None:
        """Makes the directory, and removes what killed processes have left in it.

        Raises:
            CacheError: it cannot be made or written.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(self.directory, error) from None
        for path in self.directory.glob(".*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()

    def _replace(self, files: Mapping[Path, bytes]) -> None:
        aside = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial") for path in files}
        for path, data in files.items():
            try:
                with aside[path].open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                self._discard(aside.values())
                raise self._error(path, error) from None
        for path, written in aside.items():
            try:
                written.replace(path)
            except OSError as error:
                self._discard(aside.values())
                raise self._error(path, error) from None
        _sync_directory(self.directory)

    @staticmethod
    def _discard(paths: Iterable[Path]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()

    @staticmethod
    def _error(path: Path, error: OSError) -> CacheError:
        return CacheError(
            f"{path} cannot be written ({error.strerror or error}); what was there stands. Free space, or name a directory that "
            "you can write to with BDC_CACHE_DIR."
        )


def _encoded(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2)


def _sync_directory(path: Path) -> None:
    """Forces a rename to the disk, where directories can be."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
