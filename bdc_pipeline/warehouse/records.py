"""The records of a JSON document, each as its raw bytes: of a document in memory, or of a file of any size in chunks.

A document is an array of records, or an object whose members are the records. Nothing here decodes a record: a
malformed one (`NaN`, a wrong escape, a lone brace inside a string) costs itself alone, as long as its brackets and
quotes are paired.

The quick way lets msgspec find the records' ends (1.5 GB/s). Where that fails, a scanner over brackets and quotes does
it a hundred times slower, for the block at hand alone.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

Record = bytes | msgspec.Raw

BLOCK = 128 * 1024
"""Bytes that are read at a time."""

LONGEST = 64 * 1024 * 1024
"""Bytes of a record at most: what has no end within so many is no record."""

TRIES = 4
"""Ends of records that the quick way tries, by each sign: the last one may be of a record within a record."""

_BLANK = b" \t\r\n"
_MARK = b"\xef\xbb\xbf"
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_STRUCTURE = re.compile(rb'["\\\[\]{},]')
_ENDS_RECORD = re.compile(rb"\}[ \t\r\n]*,")
_ENDED_BEFORE = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\Z")
_BEGINNING = 100  # bytes in which a record's first name and colon are looked for


class BrokenDocument(Exception):  # noqa: N818  (what a document is, not what went wrong here)
    """The document is cut short, or none at all: says what was found where. The records before that point are good."""


def records_of(data: bytes) -> Iterator[list[Record]]:
    """The records of a whole document: in one list where it is well-formed.

    Raises:
        BrokenDocument: after the records that precede the break.
    """
    try:
        found = _RAWS.decode(data)
    except (msgspec.DecodeError, RecursionError):
        yield from read_records(io.BytesIO(data))
    else:
        yield list(found)


def read_records(file: BinaryIO, block: int = BLOCK) -> Iterator[list[Record]]:
    """The records of a file, in its order, block by block: the file's size does not matter, its longest record does.

    The members of an object come as objects of one member each.

    Raises:
        BrokenDocument: after the records that precede the break.
    """
    reader = _Reader(file, block)
    yield from reader.blocks()


class _Reader:
    def __init__(self, file: BinaryIO, block: int) -> None:
        self.file, self.block = file, block
        self.buffer = b""
        self.consumed = 0
        self.ended = False
        self.broken = ""
        self.beginning = b""  # of records, as the latest had it: its first name

    def blocks(self) -> Iterator[list[Record]]:
        of_object = self._open() == b"{"
        at_end = False
        while not at_end:
            self._fill()
            records = [] if of_object else self._quickly()
            if not records:
                records, at_end = self._scanned(b"}" if of_object else b"]")
            if of_object:
                records = [b"{" + record + b"}" for record in records]
            if records:
                yield records
            elif not at_end:
                self._grow()
        self._finish()

    def _open(self) -> bytes:
        """Takes the opening bracket."""
        self._fill()
        while self.buffer in _MARK or not self.buffer.removeprefix(_MARK).strip(_BLANK):
            if self.ended:
                break
            self._more()
        text = self.buffer.removeprefix(_MARK).lstrip(_BLANK)
        if not text:
            raise BrokenDocument("it is empty")
        if text[:1] not in b"[{":
            raise BrokenDocument(f"it is no JSON array or object: it begins with {_shown(text)}")
        self._drop(len(self.buffer) - len(text) + 1)
        return text[:1]

    def _fill(self) -> None:
        while not self.ended and len(self.buffer) < self.block:
            self._more()

    def _more(self) -> None:
        more = self.file.read(max(self.block, len(self.buffer)))
        self.ended = not more
        self.buffer += more

    def _grow(self) -> None:
        """Reads as much again: the buffer holds no whole record."""
        if self.ended:
            end, begun = self.consumed + len(self.buffer), self.buffer.lstrip(_BLANK)
            where = f"within a record that begins at byte {end - len(begun)}" if begun else "before the end of its list"
            raise BrokenDocument(f"it is cut short: it ends at byte {end}, {where}")
        if len(self.buffer) > LONGEST:
            raise BrokenDocument(f"the record at byte {self.consumed} is longer than {LONGEST // 2**20} MiB")
        self._more()

    def _drop(self, count: int) -> None:
        self.buffer = self.buffer[count:]
        self.consumed += count

    def _quickly(self) -> list[Record]:
        """The whole records of the buffer, where msgspec takes them for a list up to an end that there seems to be.

        What it takes is what it is: text with paired brackets and quotes ends outside of them.
        """
        for end in self._ends():
            with contextlib.suppress(msgspec.DecodeError, RecursionError):
                found = _RAWS.decode(b"[" + self.buffer[:end] + b"]")
                self._drop(self.buffer.index(b",", end) + 1)
                self._note_beginning(found[0])
                return list(found)
        return []

    def _ends(self) -> Iterator[int]:
        """Places behind records, as it seems, the likeliest first."""
        begin = len(self.buffer)
        for _ in range(TRIES if self.beginning else 0):
            begin = self.buffer.rfind(self.beginning, 0, begin)
            if begin < 0:
                break
            before = max(0, begin - _BEGINNING)
            if ended := _ENDED_BEFORE.search(self.buffer, before, begin):
                yield ended.start() + 1
        end = len(self.buffer)
        for _ in range(TRIES):
            end = self._last_end(end)
            if end < 0:
                return
            yield end
            end -= 1

    def _note_beginning(self, record: Record) -> None:
        """Records mostly begin with the same name, which tells them from what is within them."""
        begun = bytes(memoryview(record)[:_BEGINNING])
        self.beginning = begun[: begun.find(b":") + 1] if begun.startswith(b"{") else b""

    def _last_end(self, before: int) -> int:
        """Behind the last brace before a place that a comma follows; -1 where there is none."""
        while (before := self.buffer.rfind(b"}", 0, before)) >= 0:
            if _ENDS_RECORD.match(self.buffer, before):
                return before + 1
        return -1

    def _scanned(self, close: bytes) -> tuple[list[Record], bool]:
        """The whole records of the buffer by their brackets and quotes, and whether the document's end came."""
        records: list[Record] = []
        begin = 0
        for at, token in _outermost(self.buffer):
            text = self.buffer[begin:at].strip(_BLANK)
            begin = at + 1
            if token == b",":
                records.append(text)  # nothing between two commas is a record that is no record
                continue
            if text:
                records.append(text)
            if token != close:
                self.broken = f"at byte {self.consumed + at} comes {_shown(token)} instead of {_shown(close)}"
            self._drop(begin)
            return records, True
        self._drop(begin)
        if records:
            self._note_beginning(records[-1])
        return records, False

    def _finish(self) -> None:
        """The end was the right one, and nothing follows it but blanks."""
        if self.broken:
            raise BrokenDocument(self.broken)
        while not self.ended and not self.buffer.strip(_BLANK):
            self._drop(len(self.buffer))
            self._more()
        if rest := self.buffer.lstrip(_BLANK):
            at = self.consumed + len(self.buffer) - len(rest)
            raise BrokenDocument(f"after its end, at byte {at}, follows {_shown(rest)}")


def _outermost(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The commas outside of brackets and strings, and the bracket that closes what was opened before."""
    depth, in_string, skip = 0, False, -1
    for match in _STRUCTURE.finditer(data):
        at, token = match.start(), match.group()
        if at < skip:
            continue
        if in_string:
            if token == b"\\":
                skip = at + 2
            in_string = token != b'"'
        elif token == b'"':
            in_string = True
        elif token in b"[{":
            depth += 1
        elif token in b"]}":
            if depth == 0:
                yield at, token
                return
            depth -= 1
        elif token == b"," and depth == 0:
            yield at, token


def _shown(text: bytes) -> str:
    shown = text[:40].decode(errors="replace")
    return f"'{shown}{'...' if len(text) > 40 else ''}'"
