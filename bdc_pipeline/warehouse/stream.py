"""What a fetch hands to the warehouse: a stream of events, in the order in which they are to be committed.

A stream is an object that iterates rather than a generator (Dagster takes a bare generator for an op's own events).
It yields rows as they arrive, records that could not become rows, and what has been checked or found missing.
The warehouse drains it and is the only writer: see `store.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from bdc_pipeline.warehouse.fingerprints import Fingerprints
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.table import Table

if TYPE_CHECKING:
    from bdc_pipeline.warehouse.drain import Drained


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table.

    `parents` goes with tables of pairs (`Table.parent`): the parents whose pairs are all among these rows, so that
    stored pairs of theirs that are not have vanished. `hashes` goes with tables that keep them (`Table.fingerprinted`):
    each row's fingerprint of the record that it was made from. `unique`: two records with one key are a mistake of the
    source's, so the second is rejected; without it a record may come again, and the last one counts. `size`: the bytes of
    the raw records that they were made from, where that is known, as a measure of the memory that they take.
    """

    table: Table
    rows: Sequence[msgspec.Struct]
    parents: Sequence[int | str] = ()
    hashes: Sequence[int] = ()
    unique: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class Same:
    """So many records came that are stored just as they came, as the partition's `Fingerprints` told (see `Known`)."""

    table: Table
    count: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that could not become a row, kept with its reason and its raw text (without secrets).

    `key` is the record's key where it could be read, () where not; `partition` is None where it is not known.
    """

    table: Table
    partition: str | None
    key: tuple[int | str, ...]
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Checked:
    """All that a listing was to bring has been yielded, and its count fits what the source told.

    Args:
        partitions: those that the listing covers; (None,) for a table without partitions.
        expected: how many records the source said there are; None where it tells no total.
        full: the listing held every row of these partitions, so that stored rows it did not hold have vanished.
        watermark: the source's clock when the listing began (`utc_text`); the next listing of changes starts there.
        totals: what the source counted by partition, as a check on a listing of changes alone.
        limited: an option cut the listing short, so that the partitions are not complete.
        again: how many of `expected` an earlier listing of this run brought too: a record counts once in the report.
        gone: keys of rows that came, and were gone from the source before the listing ended; not among `expected`.
        token: what identifies the document that the partition was listed from, where it is one: see `Unchanged`.
        adds_up: with the listings before it, every row of these partitions has come and those that are gone are among
            `gone`: they count as listed in full, though not by this listing alone.
    """

    table: Table
    partitions: tuple[str | None, ...]
    expected: int | None
    full: bool
    watermark: str | None = None
    totals: dict[str, int] = field(default_factory=dict)
    limited: bool = False
    gone: tuple[int | str, ...] = ()
    again: int = 0
    token: str | None = None
    adds_up: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that should have come did not: these partitions are incomplete.

    `full` tells whether they have to be listed in full again; where only changes are missing, the next listing of
    changes brings them, since the watermark stays.
    """

    table: Table
    partitions: tuple[str | None, ...]
    unit: str
    error: str
    expected: int | None = None
    full: bool = True


@dataclass(slots=True)
class Compare:
    """Asks the warehouse which partitions hold other numbers of rows than the source counts.

    It commits what came before and puts them into `differing` before it takes the next event, so that the fetch can list
    them in full.
    """

    table: Table
    totals: dict[str, int]
    differing: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Known:
    """Asks the warehouse for the fingerprints of the records that it holds of a partition, which it puts into
    `fingerprints` before it takes the next event. Records that they match need not be parsed: they are told as `Same`.

    Rows whose fingerprints were not matched, and whose keys did not come, have vanished when the listing is `Checked`.
    """

    table: Table
    partition: str | None
    fingerprints: Fingerprints = field(default_factory=Fingerprints)


@dataclass(slots=True)
class Unchanged:
    """Asks whether a partition stands as a document left it that was byte for byte the same: complete, and with as many
    rows as then. `token` identifies the document: its hash. The warehouse sets `holds`; where it does, everything of the
    partition counts as fetched and unchanged, in these tables, and nothing more is to be said of it.
    """

    tables: tuple[Table, ...]
    partition: str | None
    token: str
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Erase:
    """Rows that must not be kept at all: those whose column holds one of the values. They are deleted, not marked."""

    table: Table
    column: str
    values: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing comes just now: a good moment to write what has gathered."""


Plain = Rows | Same | Reject | Checked | Missing | Erase
"""What is written, and asks nothing."""


@dataclass(frozen=True, slots=True)
class Together:
    """Events that are committed in one transaction. For a table whose rows say that what belongs to them was fetched: were such
    a row stored, and the process killed before the rest was, nothing would ask for the rest again.
    """

    events: Sequence[Plain]


Event = Plain | Together | Compare | Known | Unchanged | Pause


@dataclass(frozen=True, slots=True)
class Effort:
    """What fetching has cost so far.

    Args:
        requests, retries, bytes: sent and received.
        seconds: that requests were under way, added up.
        ideal: seconds that they would have taken with all threads always busy, or at the highest rate allowed.
    """

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    seconds: float = 0.0
    ideal: float = 0.0

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.requests + other.requests,
            self.retries + other.retries,
            self.bytes + other.bytes,
            self.seconds + other.seconds,
            self.ideal + other.ideal,
        )

    def __sub__(self, other: Effort) -> Effort:
        return Effort(
            self.requests - other.requests,
            self.retries - other.retries,
            self.bytes - other.bytes,
            self.seconds - other.seconds,
            self.ideal - other.ideal,
        )

    def beforehand(self) -> Effort:
        """The same as part of what is measured later: it counts, but is no part of how that time was used."""
        return Effort(self.requests, self.retries, self.bytes, self.seconds)


class Stream(Protocol):
    """What an op returns and the I/O manager drains, which sets `drained` to what came of it.

    A stream may have a method `drain_options(options)` that tells how it is best drained; `expected`, how many records it will bring as far
    as is known; and `counted`, the tables whose records that number is of (all of its tables otherwise).
    """

    schema: Schema
    tables: tuple[Table, ...]
    drained: Drained | None

    def __iter__(self) -> Iterator[Event]:
        """Yields events; called once."""
        ...

    def stop(self, reason: str) -> None:
        """Asks the fetch to end: what has arrived is still yielded, the rest as `Missing`."""
        ...

    def effort(self) -> Effort:
        """What the fetch has cost so far."""
        ...
