"""The directory of a zip archive, read from its end: what is in it, without unpacking or even having it.

Format: PKWARE's APPNOTE 6.3.10, 4.3.12 to 4.3.16. Names are told as they are; nothing here writes a file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

TAIL = 65_557 + 20
"""Bytes at the end in which the end record must begin: 22, a comment of 65,535 at most, and the locator of the 64-bit form."""

MOST_FILES = 1_000_000
"""Entries that are believed: a directory that promises more is refused before memory is spent on it."""

_SIGNATURE = b"PK\x05\x05"
_END, _LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_ENTRY = struct.Struct("<4sBBHHHHHIIIHHHHHII")
_MAX16, _MAX32 = 0xFFFF, 0xFFFF_FFFF
_UTF8 = 0x800


class Damaged(Exception):  # noqa: N818  (says what the archive is)
    """The bytes are no archive, or its directory cannot be true: a sentence that says what is wrong."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Where an archive's directory is, as its end says."""

    offset: int
    size: int
    entries: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive, as the directory has it; sizes in bytes."""

    path: str
    size: int
    compressed_size: int
    crc32: int
    modified_at: str | None
    mode: int | None

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.path.endswith("/")


def find_directory(tail: bytes | bytearray, total: int) -> Directory | int:
    """Where the directory is, from the last bytes of an archive that is `total` bytes long.

    Returns the offset to read from instead where the record that tells it lies before these bytes.

    Raises:
        Damaged: there is no end record, or it contradicts the length.
    """
    at = _end_record(tail)
    disk, _, _, entries, size, offset, _ = struct.unpack_from("<HHHHIIH", tail, at + 4)
    end = total - len(tail) + at
    if disk not in (0, _MAX16):
        raise Damaged("the archive is one of several parts")
    if entries == _MAX16 or _MAX32 in (size, offset):
        found = _directory64(tail, at, total)
        if isinstance(found, int):
            return found
        if found is not None:
            entries, size, offset = found
    if offset + size > end:
        raise Damaged(f"its directory is said to end at byte {offset + size}, behind its own end record at {end}")
    if entries > MOST_FILES or entries * _ENTRY.size > size:
        raise Damaged(f"its directory of {size} bytes cannot hold the {entries} entries that it promises")
    return Directory(offset, size, entries)


def _end_record(tail: bytes | bytearray) -> int:
    """Where the end record begins: the last one whose comment ends with the archive, since a comment may hold such bytes too; where
    something was put behind the archive, the last one.
    """
    found, at = -1, tail.rfind(_END)
    while at >= 0:
        if len(tail) - at >= 22:
            found = max(found, at)
            (comment,) = struct.unpack_from("<H", tail, at + 20)
            if at + 22 + comment == len(tail):
                return at
        at = tail.rfind(_END, 0, at)
    if found < 0:
        raise Damaged("the archive has no directory at its end: it was cut short, or it is no zip")
    return found


def _directory64(tail: bytes | bytearray, at: int, total: int) -> tuple[int, int, int] | int | None:
    """Entries, size and offset as the 64-bit record tells them; None where there is no such record."""
    if at < 20 or tail[at - 20 : at - 16] != _LOCATOR:
        return None
    (position,) = struct.unpack_from("<Q", tail, at - 12)
    start = total - len(tail)
    if position < start:
        return int(position)
    inside = position - start
    if tail[inside : inside + 4] != _END64 or inside + 56 > len(tail):
        raise Damaged(f"there is no 64-bit end record at byte {position}, where its locator says")
    entries, size, offset = struct.unpack_from("<QQQ", tail, inside + 32)
    return entries, size, offset


def read_entries(directory: bytes | bytearray, found: Directory) -> list[Entry]:
    """The entries of a directory.

    Raises:
        Damaged: it ends too early, or an entry cannot be where it says or as large as it says.
    """
    entries: list[Entry] = []
    at = 0
    # up to its end, not as many as are promised: without the 64-bit form the count of 65,536 is 0
    while at < len(directory) and directory[at : at + 4] != _SIGNATURE:
        if directory[at : at + 4] != b"PK\x01\x02" or at + _ENTRY.size > len(directory):
            raise Damaged(f"its directory breaks off after {len(entries)} of {found.entries} entries")
        entry, at = _entry(directory, at, found.offset)
        entries.append(entry)
    if (len(entries) - found.entries) % (_MAX16 + 1) or len(entries) < found.entries:
        raise Damaged(f"its directory holds {len(entries)} entries and promises {found.entries}")
    return entries


def _entry(directory: bytes | bytearray, at: int, limit: int) -> tuple[Entry, int]:
    fields = _ENTRY.unpack_from(directory, at)
    (
        _,
        _,
        made_by,
        _,
        flags,
        method,
        time,
        date,
        crc,
        packed,
        size,
        n_name,
        n_extra,
        n_comment,
        _,
        _,
        external,
        start,
    ) = fields
    begin = at + _ENTRY.size
    name, extra = directory[begin : begin + n_name], directory[begin + n_name : begin + n_name + n_extra]
    if len(name) < n_name or len(extra) < n_extra:
        raise Damaged("its directory breaks off inside an entry")
    size, packed, start = _wide(extra, size, packed, start)
    path = _path(name, utf8=bool(flags & _UTF8))
    # a local header takes 30 bytes and the name again
    if start + 30 + n_name + packed > limit:
        raise Damaged(
            f"its directory says that {path!r} ends at byte {start + 30 + n_name + packed}, behind the files' end at {limit}"
        )
    if method == 0 and size != packed:
        raise Damaged(f"its directory says that {path!r} is stored as it is, {packed} bytes that are {size}")
    # deflate makes at most 1,032 bytes of one
    if method == 8 and size > 1_032 * packed + 64:
        raise Damaged(f"its directory says that {path!r} unpacks from {packed} bytes to {size}, which deflate cannot")
    mode = external >> 16 if made_by == 3 and external >> 16 else None
    return Entry(path, size, packed, crc, _moment(date, time), mode), begin + n_name + n_extra + n_comment


def _wide(extra: bytes | bytearray, size: int, packed: int, start: int) -> tuple[int, int, int]:
    """Sizes and offset that need 64 bits, from the extra field that holds them."""
    if _MAX32 not in (size, packed, start):
        return size, packed, start
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            values = [
                int.from_bytes(extra[n : n + 8], "little")
                for n in range(at + 4, min(at + 4 + length, len(extra)) - 7, 8)
            ]
            return tuple(values.pop(0) if value == _MAX32 and values else value for value in (size, packed, start))  # type: ignore[return-value]
        at += 4 + length
    return size, packed, start


def _path(name: bytes | bytearray, *, utf8: bool) -> str:
    """A name as a text. Many tools write UTF-8 without saying so; what is none is in the code page of old."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("utf-8", "replace") if utf8 else name.decode("cp437")


def _moment(date: int, time: int) -> str | None:
    year, month, day = 1980 + (date >> 9), date >> 5 & 15, date & 31
    if not (1 <= month <= 12 and day):
        return None
    return f"{year}-{month:02d}-{day:02d} {time >> 11:02d}:{time >> 5 & 63:02d}:{(time & 31) * 2:02d}"
