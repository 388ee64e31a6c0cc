"""Loading JSON documents: files whose records become the rows of a table, in one of three modes.

| mode | how |
|---|---|
| parallel | every document is read and parsed in a thread of its own, while one writer writes |
| sequential | one document after the other, each whole in memory |
| streaming | one after the other, by blocks: memory does not grow with the file |

What has not changed is skipped as early as it can be known. Of the CPU time of a first load of 52,938 records (16 MB),
the hash of the whole file takes 3 %, the hashes of its records 35 %, comparing its rows with those stored 70 %. Hashing
blocks of records would lie between the first two and find nothing that they do not.

A document is opened once: what is read is what was hashed, also where its file is replaced meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec
from xxhash import xxh3_128

from bdc_pipeline.warehouse.drain_options import DrainOptions
from bdc_pipeline.warehouse.fingerprints import Fingerprints
from bdc_pipeline.warehouse.records import BLOCK, BrokenDocument, Record, read_records, records_of
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.stream import Checked, Effort, Event, Known, Missing, Reject, Rows, Same, Unchanged
from bdc_pipeline.warehouse.table import Table

if TYPE_CHECKING:
    from bdc_pipeline.warehouse.drained import Drained

Kind = Literal["parallel", "sequential", "streaming"]

CHUNK = 2000
"""Records that are handed to the writer at a time."""

PORTION = 256 * 1024
"""Bytes of raw records that are handed to the writer at a time in streaming, whatever their number."""

WHOLE: dict[str, Any] = {"rows": 20_000, "bytes": None, "cache_kib": 16_000}
"""What is written in a transaction, and what SQLite keeps in memory, where documents are read whole."""

STREAMED: dict[str, Any] = {"rows": 3_000, "bytes": 768 * 1024, "cache_kib": 2_500}
"""The same for streaming, which is to stay below 20 MB: rows take up to ten times the memory of their raw records."""

AHEAD = 4
"""Chunks of a document that may wait for the writer."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError, OverflowError, RecursionError)
"""What reading one record raises where it is malformed."""

RAW_CHARACTERS = 20_000
"""So much of a rejected record is kept."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file of records.

    Args:
        path: the file.
        table: what its records become; one that keeps fingerprints.
        partition: the partition that it holds whole; None for a table without.
        read: makes a record's row; raises one of `UNREADABLE` for a malformed one.
        key_of: reads a malformed record's key, as far as it can be read: () where not.
        along: the rows of other tables that rows bring along, such as the places that they name.
        name: how it is called in messages; the file's name where it is not given.
    """

    path: Path
    table: Table
    partition: str | None
    read: Callable[[Record], msgspec.Struct]
    key_of: Callable[[Record], tuple[int | str, ...]] = lambda _: ()
    along: Callable[[Sequence[msgspec.Struct]], Iterable[Rows]] = lambda _: ()
    name: str = ""

    @property
    def unit(self) -> str:
        """How it is called in messages."""
        return self.name or self.path.name


@dataclass(frozen=True, slots=True)
class Mode:
    """How documents are loaded; `chunk` is the number of records that are handed on at a time."""

    kind: Kind = "parallel"
    chunk: int = CHUNK


def drain_options_for(mode: Mode, options: DrainOptions | None = None) -> DrainOptions:
    """How a load in a mode is drained: other options stay, and so does a commit interval that was set.

    Fewer and larger transactions, and more of the file in memory, make a first load up to a third faster.
    """
    options = options or DrainOptions()
    suited = STREAMED if mode.kind == "streaming" else WHOLE
    return dataclasses.replace(
        options,
        commit_interval=suited["rows"] if options.commit_interval is None else options.commit_interval,
        commit_bytes=suited["bytes"],
        commit_seconds=10.0,
        cache_kib=suited["cache_kib"],
        index_late=True,
    )


@dataclass(slots=True)
class _Chunk:
    """Parsed records: rows with their fingerprints, what was rejected, and how many are stored as they are."""

    count: int
    bytes: int = 0
    same: int = 0
    rows: list[msgspec.Struct] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


class DocumentStream:
    """Loads documents.

    Args:
        schema: of the file that they are loaded into.
        tables: those that they fill.
        documents: each of another partition.
        mode: how.
        force: read documents that have not changed, too.
        reread: whether one is to be read though it has not changed.
        limit: at most so many records of each, for a try.
        before: what fetching them has cost.

    `tokens` tells of each document that was opened, by its unit, the hash of the bytes that were read.
    """

    def __init__(
        self,
        schema: Schema,
        tables: Sequence[Table],
        documents: Sequence[Document],
        mode: Mode | None = None,
        *,
        force: bool = False,
        reread: Callable[[Document], bool] = lambda _: False,
        limit: int | None = None,
        before: Effort | None = None,
    ) -> None:
        self.schema = schema
        self.tables = tuple(tables)
        self.drained: Drained | None = None
        self.mode = mode or Mode()
        self._documents = list(documents)
        self._reread = (lambda _: True) if force or limit is not None else reread
        self._limit = limit
        self._effort = before or Effort()
        self._stopped = ""
        self.tokens: dict[str, str] = {}

    def stop(self, reason: str) -> None:
        """Parses no more: what has been parsed is still yielded."""
        self._stopped = reason

    def effort(self) -> Effort:
        """What fetching the documents has cost."""
        return self._effort

    def drain_options(self, options: DrainOptions) -> DrainOptions:
        """How it is best drained."""
        return drain_options_for(self.mode, options)

    def __iter__(self) -> Iterator[Event]:
        loads = []
        with contextlib.ExitStack() as opened:
            for document in self._documents:
                try:
                    file = opened.enter_context(document.path.open("rb"))
                    token = self.tokens[document.unit] = hash_of_file(file)
                except OSError as error:
                    yield _missing(document, f"it cannot be read ({error.strerror or error})")
                    continue
                question = Unchanged((document.table,), document.partition, token)
                if not self._reread(document):
                    yield question
                if not question.holds:
                    known = Known(document.table, document.partition)
                    yield known
                    loads.append(_Load(self, document, file, token, known.fingerprints))
            if self.mode.kind == "parallel" and len(loads) > 1:
                yield from _side_by_side(loads)
            else:
                for load in loads:
                    yield from load.events()

    @property
    def stopped(self) -> str:
        """Why it was stopped; empty while it was not."""
        return self._stopped

    def records(self, file: BinaryIO) -> Iterator[list[Record]]:
        """A document's records, in chunks.

        Raises:
            BrokenDocument: after those that precede the break.
            OSError: the file cannot be read.
        """
        size = self.mode.chunk
        file.seek(0)
        if self.mode.kind == "streaming":
            yield from self._limited(_rechunked(read_records(file), size, PORTION))
            return
        yield from self._limited(
            records[at : at + size] for records in records_of(file.read()) for at in range(0, len(records), size)
        )

    @property
    def is_limited(self) -> bool:
        """Whether an option cuts documents short."""
        return self._limit is not None

    def _limited(self, chunks: Iterable[list[Record]]) -> Iterator[list[Record]]:
        left = self._limit
        for chunk in chunks:
            if left is None:
                yield chunk
                continue
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return


@dataclass(slots=True)
class _Load:
    """One document on its way: parsed in any thread, its events made in the writer's."""

    stream: DocumentStream
    document: Document
    file: BinaryIO
    token: str
    known: Fingerprints
    problem: str = ""
    _rejected_before: Counter[tuple[int | str, ...]] = field(default_factory=Counter)

    def chunks(self) -> Iterator[_Chunk]:
        """Parses it; why it did not come to its end is in `problem`."""
        try:
            for records in self.stream.records(self.file):
                if self.stream.stopped:
                    self.problem = self.stream.stopped
                    return
                yield self._parsed(records)
        except BrokenDocument as broken:
            self.problem = str(broken)
        except OSError as error:
            self.problem = f"it cannot be read ({error.strerror or error})"

    def events(self) -> Iterator[Event]:
        """What it brings, and whether that is all of it."""
        count = 0
        for chunk in self.chunks():
            count += chunk.count
            yield from self.of_chunk(chunk)
        yield self.end(count)

    def of_chunk(self, chunk: _Chunk) -> Iterator[Event]:
        """What a chunk brings; places and the like before the rows that name them."""
        table = self.document.table
        if chunk.same:
            yield Same(table, chunk.same)
        if chunk.rows:
            yield from self.document.along(chunk.rows)
            yield Rows(table, chunk.rows, hashes=chunk.hashes, unique=True, size=chunk.bytes)
        yield from chunk.rejects

    def end(self, count: int) -> Event:
        """Whether so many records were all of it."""
        if self.problem:
            return _missing(self.document, f"{self.problem}. {count} of its records could be read")
        limited = self.stream.is_limited
        token = None if limited else self.token
        return Checked(self.document.table, (self.document.partition,), count, full=True, limited=limited, token=token)

    def _parsed(self, records: list[Record]) -> _Chunk:
        schema, read = self.stream.schema, self.document.read
        hashes = schema.fingerprints(records)
        fresh, same = self.known.sift(hashes)
        count = len(records)
        if len(fresh) < count:
            records = [records[place] for place in fresh]
            hashes = [hashes[place] for place in fresh]
        chunk = _Chunk(count, _size(records) if self.stream.mode.kind == "streaming" else 0, same)
        try:
            chunk.rows, chunk.hashes = list(map(read, records)), hashes
        except UNREADABLE:
            self._read_singly(records, hashes, chunk)
        return chunk

    def _read_singly(self, records: list[Record], hashes: list[int], chunk: _Chunk) -> None:
        for record, value in zip(records, hashes, strict=True):
            try:
                chunk.rows.append(self.document.read(record))
                chunk.hashes.append(value)
            except UNREADABLE as error:
                chunk.rejects.append(self._rejected(record, error))

    def _rejected(self, record: Record, error: Exception) -> Reject:
        document = self.document
        key: tuple[int | str, ...] = ()
        with contextlib.suppress(*UNREADABLE):
            key = document.key_of(record)
        raw = bytes(record).decode(errors="replace")[:RAW_CHARACTERS]
        identity = key or (raw,)
        self._rejected_before[identity] += 1
        if (number := self._rejected_before[identity]) > 1:
            # the same one again is another element of the document all the same
            key = (*(key or ("",)), f"again {number}")
        return Reject(document.table, document.partition, key, str(error) or type(error).__name__, raw)


def _side_by_side(loads: Sequence[_Load]) -> Iterator[Event]:
    """Parses each document in a thread of its own; the events come as chunks are ready, each document's in its order."""
    ready: queue.Queue[tuple[int, _Chunk | BaseException | None]] = queue.Queue(AHEAD * len(loads))
    abandoned = threading.Event()

    def hand_over(item: tuple[int, _Chunk | BaseException | None]) -> bool:
        while not abandoned.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def parse(number: int, load: _Load) -> None:
        try:
            for chunk in load.chunks():
                if not hand_over((number, chunk)):
                    return
            hand_over((number, None))
        except BaseException as error:  # noqa: BLE001  (raised again in the writer's thread)
            hand_over((number, error))

    threads = [
        threading.Thread(target=parse, args=pair, name=f"parse {pair[1].document.unit}", daemon=True)
        for pair in enumerate(loads)
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _in_turn(loads, ready)
    finally:
        abandoned.set()


def _in_turn(loads: Sequence[_Load], ready: queue.Queue[tuple[int, _Chunk | BaseException | None]]) -> Iterator[Event]:
    counts = [0] * len(loads)
    open_loads = len(loads)
    while open_loads:
        number, chunk = ready.get()
        load = loads[number]
        if isinstance(chunk, BaseException):
            raise chunk
        if chunk is None:
            open_loads -= 1
            yield load.end(counts[number])
            continue
        counts[number] += chunk.count
        yield from load.of_chunk(chunk)


def _missing(document: Document, error: str) -> Missing:
    return Missing(document.table, (document.partition,), document.unit, error)


def _rechunked(blocks: Iterable[list[Record]], size: int, portion: int) -> Iterator[list[Record]]:
    """Chunks of so many records, or fewer where they have more than `portion` bytes together."""
    waiting: list[Record] = []
    held = 0
    broken: BrokenDocument | None = None
    try:
        for block in blocks:
            waiting += block
            held += _size(block)
            while len(waiting) >= size or held >= portion:
                yield waiting[:size]
                waiting = waiting[size:]
                held = _size(waiting)
    except BrokenDocument as error:
        broken = error
    # what precedes the break is good
    if waiting:
        yield waiting
    if broken is not None:
        raise broken


def _size(records: Iterable[Record]) -> int:
    """The bytes of records."""
    return sum(memoryview(record).nbytes for record in records)


def hash_of(path: Path) -> str:
    """A hash of a file's bytes, which tells whether it is the same as before (XXH3, 8 GB/s; no proof against malice).

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hash_of_file(file)


def hash_of_file(file: BinaryIO) -> str:
    """The same of an open file, from its beginning."""
    digest = xxh3_128()
    file.seek(0)
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()
