"""The share's file system: the only code that touches it, each call one small named operation that is counted.

Everything that other clients read is immutable: it is written under a name of its own in `tmp/`, synced, closed, and then
given its real name by `link()`, which never lets two machines win one name (0 of 120 on CIFS and NFS). `rename` without
replacement does (51 of 80 on CIFS), so it is used nowhere.

Folders are held open, so that a look at one name costs one operation and not one for each folder above it. What is told of errors: `Offline` when the share is gone or hung, `Refused` when it answers that it will not, `Taken` when another was
first, `Ambiguous` when a name may or may not have been given.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import msgspec

from bdc_pipeline.share.answers import GONE, Refused, Unseen, told, told_of_link
from bdc_pipeline.share.attributes import attributes
from bdc_pipeline.share.errors import Offline, ShareError

__all__ = ["Before", "Counts", "FileStat", "Files", "ShareFiles"]

T = TypeVar("T")

FOLDERS = ("log", "tmp", "snap", "pack", "clients")
"""What is below `app.db.sync/`."""

THREADS = 8
"""Files read at once: 32 segments took 2.7 s one by one and 0.46 s by 8 threads at 20 ms a round trip."""

CHUNK = 1 << 20
"""Bytes moved between two signs of life."""

LARGEST = 512 << 20
"""Bytes that `read` takes; larger files are fetched to the disk."""

O_PATH = getattr(os, "O_PATH", 0)
"""Opens a place without opening what is there (Linux), of which the share is told nothing."""

HELD_SECONDS = 300.0
"""How long a folder is held open: after that, one that was replaced on the server is noticed."""


class Counts(msgspec.Struct):
    """What was asked of the share.

    `operations` are calls that may travel to the server, `rounds` those that were waited for one after the other (calls
    made side by side count once), bytes those of files.
    """

    operations: int = 0
    rounds: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, more: Counts) -> None:
        """Count `more` as well, after what is counted already."""
        self.operations += more.operations
        self.rounds += more.rounds
        self.bytes_in += more.bytes_in
        self.bytes_out += more.bytes_out

    def taken(self) -> Counts:
        """What is counted so far; it counts from nothing again."""
        counts = Counts(self.operations, self.rounds, self.bytes_in, self.bytes_out)
        self.operations = self.rounds = self.bytes_in = self.bytes_out = 0
        return counts


class FileStat(msgspec.Struct, frozen=True):
    """A file's size in bytes and its time of last change, in ms since 1970 by the share's clock."""

    size: int
    mtime_ms: int


class Before(msgspec.Struct, frozen=True):
    """A file that has to be there when another is published: its size in bytes, and when it was written at the latest,
    in ms since 1970 by the share's clock."""

    path: str
    size: int
    latest_ms: int


class Files(Protocol):
    """What the log and its companions ask of a share; paths are relative to its folder, like `log/0000000001.seg`.

    All methods raise `Offline` and `Refused`.
    """

    counts: Counts

    def make_folders(self) -> None:
        """Make the share's folder and those below it, as far as they are missing."""

    def refresh(self) -> None:
        """Look at the share's folders anew with the next operation: they may have been moved or replaced."""

    def read(self, path: str) -> bytes:
        """A file's content; FileNotFoundError when it is not there."""

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """The contents of several files, read side by side; None for those that are not there."""

    def publish(self, path: str, data: bytes, before: Before | None = None) -> int | None:
        """Give `data` the name `path` unless it is taken; returns the share's clock minus ours in ms.

        Raises `Taken` and `Ambiguous`; `Unseen` where `before`, a file of the same folder, is not there as described.
        """

    def publish_file(self, path: str, source: Path) -> int | None:
        """Like `publish`, from a local file of any size."""

    def replace(self, path: str, data: bytes) -> None:
        """Give `data` the name `path`, whatever was there."""

    def fetch(self, path: str, to: Path) -> int:
        """Copy a file of any size to a local one; returns its bytes. FileNotFoundError when it is not there."""

    def list(self, folder: str) -> list[str]:
        """The names in a folder, sorted."""

    def survey(self, folder: str) -> dict[str, FileStat]:
        """The files in a folder by their names, with sizes and times."""

    def stat(self, path: str) -> FileStat:
        """A file's size and time; FileNotFoundError when it is not there."""

    def remove(self, paths: Sequence[str]) -> int:
        """Remove files; returns how many were there."""


class ShareFiles:
    """A share's files, touched from this process: every call may hang as long as the share does."""

    def __init__(self, root: Path, client: str, *, alive: Callable[[], None] = lambda: None) -> None:
        """`root` is the folder `app.db.sync`, `client` this client's id; `alive` is called after every operation."""
        self.root = Path(root)
        self.client = client
        self.counts = Counts()
        self._alive = alive
        self._held: dict[str, tuple[int, float]] = {}
        self._stale = False
        self._pinned = ""
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folders and threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._let_go()

    def make_folders(self) -> None:
        """Make the share's folder and those below it, as far as they are missing."""
        folder = self.root.parent
        try:
            if not self._call(folder.is_dir):
                raise Offline(f"{folder} is not there. Is the share mounted?")
            for folder in (self.root, *(self.root / name for name in FOLDERS)):
                self._call(folder.mkdir, exist_ok=True)
        except OSError as error:
            raise told(error, folder) from error

    def refresh(self) -> None:
        """Look at the share's folders anew with the next operation: they may have been moved or replaced."""
        self._stale = True

    def read(self, path: str) -> bytes:
        """A file's content; FileNotFoundError when it is not there."""
        counts = Counts()
        try:
            return self._read(path, self._place(path), counts)
        finally:
            self._count(counts, counts.operations)

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """The contents of several files, read side by side; None for those that are not there."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, "share-read")
        tallies = [Counts() for _ in paths]
        # Before the threads start: only the caller's own thread opens and closes folders
        places = [self._place(path) for path in paths]
        try:
            return list(self._pool.map(self._read_if_there, paths, places, tallies))
        finally:
            for counts in tallies:
                self._count(counts, 0)
            self._count(Counts(), max((counts.operations for counts in tallies), default=0))

    def publish(self, path: str, data: bytes, before: Before | None = None) -> int | None:
        """Give `data` the name `path` unless it is taken; returns the share's clock minus ours in ms."""
        return self._publish(path, lambda descriptor: self._write(descriptor, data), before)

    def publish_file(self, path: str, source: Path) -> int | None:
        """Like `publish`, from a local file of any size."""
        return self._publish(path, lambda descriptor: self._write_file(descriptor, source))

    def replace(self, path: str, data: bytes) -> None:
        """Give `data` the name `path`, whatever was there; readers see the old content or the new."""
        temporary, _ = self._written(path, lambda descriptor: self._write(descriptor, data))
        folder, name = self._place(path)
        source, tail = self._place(temporary)
        try:
            self._call(os.replace, tail, name, src_dir_fd=source, dst_dir_fd=folder)
        except OSError as error:
            self._remove_quietly(temporary)
            raise self._failed(error, path) from error

    def fetch(self, path: str, to: Path) -> int:
        """Copy a file of any size to a local one, which is whole or not there; returns its bytes."""
        folder, name = self._place(path)
        partial = to.with_name(f"{to.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            descriptor = self._call(os.open, name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
            try:
                size = self._copied(descriptor, partial)
            finally:
                self._call(os.close, descriptor)
            partial.replace(to)
        except OSError as error:
            raise self._failed(error, path) from error
        finally:
            partial.unlink(missing_ok=True)
        self.counts.bytes_in += size
        return size

    def list(self, folder: str) -> list[str]:
        """The names in a folder, sorted."""
        try:
            return sorted(self._call(os.listdir, self._folder(folder)))
        except OSError as error:
            raise self._failed(error, folder) from error

    def survey(self, folder: str) -> dict[str, FileStat]:
        """The files in a folder by their names, with sizes and times; those removed meanwhile are left out."""
        found = {}
        for name in self.list(folder):
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.stat(f"{folder}/{name}")
        return found

    def stat(self, path: str) -> FileStat:
        """A file's size and time; FileNotFoundError when it is not there."""
        folder, name = self._place(path)
        try:
            found = self._call(os.stat, name, dir_fd=folder)
        except OSError as error:
            raise self._failed(error, path) from error
        return FileStat(found.st_size, found.st_mtime_ns // 1_000_000)

    def remove(self, paths: Sequence[str]) -> int:
        """Remove files; returns how many were there."""
        removed = 0
        for path in paths:
            folder, name = self._place(path)
            try:
                self._call(os.unlink, name, dir_fd=folder)
                removed += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._failed(error, path) from error
        return removed

    # One file

    def _read_if_there(self, path: str, place: tuple[int, str], counts: Counts) -> bytes | None:
        try:
            return self._read(path, place, counts)
        except FileNotFoundError:
            return None

    def _read(self, path: str, place: tuple[int, str], counts: Counts) -> bytes:
        folder, name = place
        try:
            descriptor = self._call(os.open, name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder, counts=counts)
            try:
                return self._content(descriptor, counts, path)
            finally:
                self._call(os.close, descriptor, counts=counts)
        except OSError as error:
            raise self._failed(error, path) from error

    def _content(self, descriptor: int, counts: Counts, path: str) -> bytes:
        """All that a file holds. A read that brings less than was asked for has met the end."""
        parts: list[bytes] = []
        while not parts or len(parts[-1]) == CHUNK:
            if counts.bytes_in > LARGEST:
                raise Refused(f"{self.root / path} is larger than {LARGEST >> 20} MB: it is not what its name says.")
            parts.append(self._call(os.read, descriptor, CHUNK, counts=counts))
            counts.bytes_in += len(parts[-1])
        return b"".join(parts)

    def _copied(self, descriptor: int, to: Path) -> int:
        size = 0
        with to.open("wb") as target:
            while part := self._call(os.read, descriptor, CHUNK):
                target.write(part)
                size += len(part)
        return size

    def _publish(self, path: str, write: Callable[[int], None], before: Before | None = None) -> int | None:
        with contextlib.ExitStack() as pins:
            temporary, offset_ms = self._written(path, write, pins)
            try:
                self._link(temporary, path, before)
            except OSError as error:
                self._stale = self._stale or error.errno in {*GONE, errno.ENOENT}
                raise told_of_link(error, self.root / path) from error
            finally:
                self._remove_quietly(temporary)
        return offset_ms

    def _link(self, temporary: str, path: str, before: Before | None) -> None:
        """The new name by its whole path: in a folder that was moved away it would be read by nobody."""
        source, tail = self._place(temporary)
        tail = self._pinned or tail
        if before is None:
            self._call(os.link, tail, self.root / path, src_dir_fd=source)
            return
        # One way to the folder for both, the look and the link; to hold it like this asks nothing of the share
        where = self.root / path
        folder = self._call(os.open, where.parent, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._check_before(folder, before)
            self._call(os.link, tail, where.name, src_dir_fd=source, dst_dir_fd=folder)
        finally:
            os.close(folder)

    def _check_before(self, folder: int, before: Before) -> None:
        try:
            found = self._call(attributes, before.path.rpartition("/")[2], folder)
        except FileNotFoundError as error:
            raise Unseen(f"{self.root / before.path} is not there.") from error
        if found.size != before.size or found.mtime_ns // 1_000_000 > before.latest_ms:
            raise Unseen(f"{self.root / before.path} may have been written anew.")

    def _pin(self, descriptor: int, pins: contextlib.ExitStack) -> None:
        """Keep hold of an open file beyond its closing, so that to link it the share need not be asked for it by name."""
        if O_PATH:
            with contextlib.suppress(OSError):  # without /proc it is found by its name
                pin = os.open(f"/proc/self/fd/{descriptor}", O_PATH | os.O_CLOEXEC)
                self._pinned = f"/proc/self/fd/{pin}"
                pins.callback(self._unpin, pin)

    def _unpin(self, pin: int) -> None:
        self._pinned = ""
        os.close(pin)

    def _written(
        self, path: str, write: Callable[[int], None], pins: contextlib.ExitStack | None = None
    ) -> tuple[str, int]:
        """A new file in `tmp/`, synced; its name and the share's clock minus ours in ms.

        The times of a new file come with the server's answer to its creation, so asking for them then does not travel;
        after a write, some clients put their own clock in.
        """
        temporary = f"tmp/{self.client}-{uuid.uuid4().hex}"
        folder, name = self._place(temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            before = time.time()
            descriptor = self._call(os.open, name, flags, 0o666, dir_fd=folder)
            after = time.time()
            try:
                offset_ms = round(attributes("", descriptor).mtime_ns / 1e6 - (before + after) * 500)
                write(descriptor)
                self._call(os.fsync, descriptor)
                if pins is not None:
                    self._pin(descriptor, pins)
            finally:
                # A server that has no room may say so only here
                self._call(os.close, descriptor)
        except FileNotFoundError as error:
            self._stale = True
            raise Offline(
                f"{self.root / 'tmp'} was removed. Is the share mounted, and was its folder moved?"
            ) from error
        except OSError as error:
            self._remove_quietly(temporary)
            raise self._failed(error, path) from error
        return temporary, offset_ms

    def _write(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = self._call(os.write, descriptor, view[:CHUNK])
            self.counts.bytes_out += written
            view = view[written:]

    def _write_file(self, descriptor: int, source: Path) -> None:
        with source.open("rb") as file:
            while part := file.read(CHUNK):
                self._write(descriptor, part)

    def _remove_quietly(self, temporary: str) -> None:
        """What stays behind in `tmp/` is swept by the housekeeping an hour later."""
        with contextlib.suppress(OSError, ShareError):
            folder, name = self._place(temporary)
            self._call(os.unlink, name, dir_fd=folder)

    # Folders held open

    def _place(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        return self._folder(folder), name

    def _folder(self, folder: str) -> int:
        """The folder's descriptor. Only the caller's own thread comes here."""
        now = time.monotonic()
        if self._stale:
            self._let_go()
        held = self._held.get(folder)
        # in a `tmp` that was moved, nothing can be linked from: that is noticed at once
        if held is not None and (folder == "tmp" or now - held[1] < HELD_SECONDS):
            return held[0]
        where = self.root / folder
        try:
            descriptor = self._call(os.open, where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Offline(f"{where} is not there. Is the share mounted, and was its folder moved?") from error
        except OSError as error:
            raise told(error, where) from error
        if held is not None:
            os.close(held[0])
        self._held[folder] = (descriptor, now)
        return descriptor

    def _let_go(self) -> None:
        self._stale = False
        for descriptor, _ in self._held.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._held.clear()

    def _failed(self, error: OSError, path: str) -> Exception:
        """The error told; folders are opened anew on next use where the share may have gone away under us."""
        self._stale = self._stale or error.errno in GONE
        return told(error, self.root / path)

    # Counting

    def _call(self, operation: Callable[..., T], *arguments: Any, counts: Counts | None = None, **options: Any) -> T:
        """One operation on the share: all of them pass here. Those of a thread are counted by `counts`."""
        counts = counts or self.counts
        counts.operations += 1
        counts.rounds += 1
        result = operation(*arguments, **options)
        self._alive()
        return result

    def _count(self, counts: Counts, rounds: int) -> None:
        self.counts.add(Counts(counts.operations, rounds, counts.bytes_in, counts.bytes_out))
