"""The raw downloads: one file a document, as it was served, and beside it a record of where it came from.

A download is written aside as it comes, whatever its size, and it and its record are forced to the disk before either is
renamed: what stands under its name is always a whole download, and a full disk changes neither of the two. Age is taken from
the record: a file's own times change when it is copied. A file that is not the one its record describes (a crash between the
two, a copy, damage) has no known age.

An answer that could not be used leaves a small file of its own, since there may be no download that it could stand beside:
registries want pauses between requests, whatever came of them. The next good answer takes it away.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
from xxhash import xxh3_128

from bdc_pipeline import settings
from bdc_pipeline.sources.dmr.registries import Feed
from bdc_pipeline.warehouse.documents import hash_of
from bdc_pipeline.warehouse.records import BrokenDocument, read_records
from bdc_pipeline.warehouse.sql import parse_utc

ABANDONED_SECONDS = 3600.0
"""A file that was being written is left over from a killed process once it is so old."""


Struct = TypeVar("Struct", bound=msgspec.Struct)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


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


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The last answer of a registry, where it could not be used: when it came (UTC), and what was wrong with it.

    `retry_after` is in how many seconds the registry wants to be asked again, where it said so.
    """

    url: str
    answered_at: str
    problem: str
    retry_after: float | None = None


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


class Incoming:
    """A download on its way: written aside as it comes, and hashed.

    `answered_at` is when the registry last began to answer; None while it has not.
    """

    def __init__(self, target: Path, clock: Callable[[], dt.datetime]) -> None:
        self.path = _aside(target)
        self.answered_at: dt.datetime | None = None
        self._target, self._clock = target, clock
        try:
            self.file = self.path.open("w+b")
        except OSError as error:
            raise _error(target, error) from None
        self._start_anew()

    def _start_anew(self) -> None:
        self.size = 0
        self._hash, self._sha256 = xxh3_128(), hashlib.sha256()

    def begin(self) -> None:
        """The registry answers: what came of an earlier attempt is forgotten.

        Raises:
            CacheError: it cannot be written.
        """
        self.answered_at = self._clock()
        self._start_anew()
        try:
            self.file.seek(0)
            self.file.truncate()
        except OSError as error:
            raise _error(self._target, error) from None

    def write(self, data: bytes) -> None:
        """Takes the next piece.

        Raises:
            CacheError: it cannot be written.
        """
        try:
            self.file.write(data)
        except OSError as error:
            raise _error(self._target, error) from None
        self.size += len(data)
        self._hash.update(data)
        self._sha256.update(data)

    @property
    def hash(self) -> str:
        """The hash of what has come, as records compare it."""
        return self._hash.hexdigest()

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has come."""
        return self._sha256.hexdigest()

    def discard(self) -> None:
        """Takes the file away."""
        _discard([self.path])

    def opening(self) -> bytes:
        """The first bytes that have come."""
        return self.reader().read(4096)

    def reader(self) -> BinaryIO:
        """The file, to be read from its beginning.

        Raises:
            CacheError: what has come cannot be written.
        """
        try:
            self.file.flush()
        except OSError as error:
            raise _error(self._target, error) from None
        self.file.seek(0)
        return self.file


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

    def refusal_path(self, feed: Feed) -> Path:
        """Where the last answer that could not be used is noted."""
        return self.directory / f"{feed.name}.refused.json"

    def look_up(self, feed: Feed) -> Cached | None:
        """What there is of a document; None where there is no file, or none that can be read."""
        path = self.path(feed)
        try:
            if not path.is_file():
                return None
            record = self.record_of(feed)
            if record is not None and (path.stat().st_size != record.bytes or hash_of(path) != record.hash):
                record = None
        except OSError:
            return None
        return Cached(path, record)

    def record_of(self, feed: Feed) -> Record | None:
        """The record as it stands, whether it fits the file or not; None where there is none that can be read."""
        record = _read(self.record_path(feed), Record)
        return record if record and _is_moment(record.fetched_at) and _is_moment(record.checked_at) else None

    def refusal_of(self, feed: Feed) -> Refusal | None:
        """The last answer, where it could not be used and no good one has come since."""
        refusal = _read(self.refusal_path(feed), Refusal)
        return refusal if refusal and _is_moment(refusal.answered_at) else None

    @contextlib.contextmanager
    def incoming(self, feed: Feed, clock: Callable[[], dt.datetime] = _now) -> Iterator[Incoming]:
        """A place for a download, which is gone again unless it is kept.

        Raises:
            CacheError: it cannot be made.
        """
        self.make()
        incoming = Incoming(self.path(feed), clock)
        try:
            yield incoming
        finally:
            # what is left in the buffer of a full disk fails again
            with contextlib.suppress(OSError):
                incoming.file.close()
            incoming.discard()

    def keep(self, feed: Feed, incoming: Incoming, record: Record) -> None:
        """Puts a download in place of the one before.

        Raises:
            CacheError: it cannot be written; the one before stands.
        """
        target = self.path(feed)
        try:
            incoming.file.flush()
            os.fsync(incoming.file.fileno())
        except OSError as error:
            raise _error(target, error) from None
        self._replace({target: incoming.path, **self._written({self.record_path(feed): record})})
        self._forget_refusal(feed)

    def note(self, feed: Feed, record: Record) -> None:
        """Puts a record in place of the one before.

        Raises:
            CacheError: it cannot be written.
        """
        self._replace(self._written({self.record_path(feed): record}))
        self._forget_refusal(feed)

    def note_refusal(self, feed: Feed, refusal: Refusal) -> None:
        """Notes an answer that could not be used.

        Raises:
            CacheError: it cannot be written.
        """
        self._replace(self._written({self.refusal_path(feed): refusal}))

    def _forget_refusal(self, feed: Feed) -> None:
        # an older one than the record tells nothing, should it stay
        _discard([self.refusal_path(feed)])

    def make(self) -> None:
        """Makes the directory, and removes what killed processes have left in it.

        Raises:
            CacheError: it cannot be made or written.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _error(self.directory, error) from None
        for path in self.directory.glob(".*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()

    @staticmethod
    def _written(files: Mapping[Path, msgspec.Struct]) -> dict[Path, Path]:
        """Small files, written aside and forced to the disk: where each belongs, and where it is."""
        aside = {path: _aside(path) for path in files}
        for path, value in files.items():
            try:
                with aside[path].open("wb") as file:
                    file.write(msgspec.json.format(msgspec.json.encode(value), indent=2))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                _discard(aside.values())
                raise _error(path, error) from None
        return aside

    def _replace(self, aside: Mapping[Path, Path]) -> None:
        for path, written in aside.items():
            try:
                written.replace(path)
            except OSError as error:
                _discard(aside.values())
                raise _error(path, error) from None
        _sync_directory(self.directory)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def _discard(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _error(path: Path, error: OSError) -> CacheError:
    return CacheError(
        f"{path} cannot be written ({error.strerror or error}); what was there stands. Free space, or name a directory that "
        "you can write to with BDC_CACHE_DIR."
    )


def _read(path: Path, kind: type[Struct]) -> Struct | None:
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return msgspec.json.decode(path.read_bytes(), type=kind)
    return None


def _is_moment(text: str) -> bool:
    with contextlib.suppress(ValueError):
        parse_utc(text)
        return True
    return False


def _sync_directory(path: Path) -> None:
    """Forces a rename to the disk, where directories can be."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
