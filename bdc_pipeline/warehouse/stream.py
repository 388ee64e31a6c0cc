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

from bdc_pipeline.warehouse.table import Schema, Table

if TYPE_CHECKING:
    from bdc_pipeline.warehouse.drain import Drained


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table.

    `parents` goes with tables of pairs (`Table.parent`): the parents whose pairs are all among these rows, so that
    stored pairs of theirs that are not have vanished.
    """

    table: Table
    rows: Sequence[msgspec.Struct]
    parents: Sequence[int | str] = ()


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


@dataclass(frozen=True, slots=True)
class Erase:
    """Rows that must not be kept at all: those whose column holds one of the values. They are deleted, not marked."""

    table: Table
    column: str
    values: tuple[int | str, ...]


Event = Rows | Reject | Checked | Missing | Compare | Erase


@dataclass(frozen=True, slots=True)
class Effort:
    """What fetching has cost so far."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.requests + other.requests,
            self.retries + other.retries,
            self.bytes + other.bytes,
            self.seconds + other.seconds,
        )


class Stream(Protocol):
    """What an op returns and the I/O manager drains, which sets `drained` to what came of it."""

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
