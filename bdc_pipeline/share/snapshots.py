"""A whole database as one file on the share: compressed, sealed where there is a key, and whole or refused.

```
8 magic | 2 format | 2 flags | 8 sequence | 32 digest of that segment | body | 32 sha256 of all before
```

The body is the SQLite file as one zstd stream, in sealed chunks of 1 MB where the share has a secret. Files of any size go
through with a few MB of memory.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO

import zstandard

from bdc_pipeline.share.model import Position
from bdc_pipeline.share.sealing import Key
from bdc_pipeline.share.segment import TooNew, Torn, WrongSecret

__all__ = ["read_snapshot", "write_snapshot"]

MAGIC = b"BDCSNAP\n"
FORMAT = 1
ENCRYPTED = 1
HEADER = struct.Struct(">8sHHQ32s")
SUM_BYTES = 32
CHUNK = 1 << 20
LEVEL = 3


def write_snapshot(database: Path, to: Path, position: Position, key: Key | None = None) -> bytes:
    """Write the content of `database`, as it is at `position`, to the local file `to`; returns the file's sha256."""
    digest = position.digest or bytes(32)
    header = HEADER.pack(MAGIC, FORMAT, ENCRYPTED if key else 0, position.sequence, digest)
    total = hashlib.sha256(header)
    with database.open("rb") as source, to.open("wb") as target:
        target.write(header)
        chunks = _even(zstandard.ZstdCompressor(level=LEVEL).read_to_iter(source, read_size=CHUNK, write_size=CHUNK))
        for chunk in key.sealed_chunks(chunks, header) if key else chunks:
            total.update(chunk)
            target.write(chunk)
        target.write(total.digest())
    total.update(total.digest())
    return total.digest()


def read_snapshot(file: Path, to: Path, key: Key | None = None) -> Position:
    """Write the database in a snapshot's local copy to `to`; returns where in the log it stands.

    Raises `Torn`, `WrongSecret`, `TooNew`; then nothing is left at `to`.
    """
    end = _checked(file)
    partial = to.with_name(to.name + ".part")
    try:
        with file.open("rb") as raw:
            header = raw.read(HEADER.size)
            _, version, flags, sequence, digest = HEADER.unpack(header)
            if version > FORMAT or flags & ~ENCRYPTED:
                raise TooNew(f"Snapshot {sequence} has format {version}. Update bdc-pipeline on this machine.")
            if bool(flags & ENCRYPTED) != (key is not None):
                raise WrongSecret(
                    f"Snapshot {sequence} is {'' if flags else 'not '}encrypted, unlike what is set here."
                )
            _unpack(_Bounded(raw, end - HEADER.size), partial, header, key)
        partial.replace(to)
    except (EOFError, zstandard.ZstdError) as error:
        raise Torn(
            f"Snapshot {sequence} has the right hash but cannot be read: {str(error) or 'it ends early'}."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return Position(sequence, digest if sequence else b"")


def _checked(file: Path) -> int:
    """The place of the sum at the end, after it was found right."""
    end = file.stat().st_size - SUM_BYTES
    total = hashlib.sha256()
    with file.open("rb") as raw:
        if end < HEADER.size or raw.read(len(MAGIC)) != MAGIC:
            raise Torn(f"{file.name} is not a snapshot, or is cut short: {end + SUM_BYTES:,} bytes.")
        raw.seek(0)
        left = end
        while left and (chunk := raw.read(min(CHUNK, left))):
            total.update(chunk)
            left -= len(chunk)
        if raw.read() != total.digest():
            raise Torn(f"{file.name} is cut short or damaged: its bytes do not have the hash that they name.")
    return end


def _unpack(body: _Bounded, to: Path, header: bytes, key: Key | None) -> None:
    with to.open("wb") as target:
        decompressor = zstandard.ZstdDecompressor()
        if key is None:
            decompressor.copy_stream(body, target)  # type: ignore[arg-type]  # it only reads
        else:
            writer = decompressor.stream_writer(target, closefd=False)
            for chunk in key.opened_chunks(body, header):
                writer.write(chunk)
        target.flush()
        os.fsync(target.fileno())


def _even(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Compressed output in pieces of at most 1 MB."""
    for chunk in chunks:
        for start in range(0, len(chunk), CHUNK):
            yield chunk[start : start + CHUNK]


class _Bounded(RawIOBase):
    """The next so many bytes of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)
