"""What travels between a cache and the share: keys, changes, segments, positions. No behaviour but what belongs to a value."""

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    Value = int | float | str | bytes | None
else:
    Value = (
        Any  # msgspec reads no union of str and bytes; MessagePack tells them apart, and segments are checked when read
    )
"""One of SQLite's five storage classes."""

Key = tuple[Value, ...]
"""Values of a row's primary key in key order; `(rowid,)` for a table that declares none."""

Row = tuple[Value, ...]
"""Values of a row in the order of its table's columns, generated columns left out."""


class Stamp(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A hybrid logical clock's time: milliseconds since 1970 on the share's clock, a counter within them, and who says so."""

    millis: int = 0
    counter: int = 0
    client: str = ""


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One row as its publisher wants it to be.

    `row` holds the values in the order of `Segment.columns[table]`, or is None for a deleted row. `base` is the version it was
    made upon. `updated_at` is in milliseconds since 1970 on the share's clock. `decision` tells the rule that made the row,
    where it came out of a conflict.
    """

    table: str
    key: Key
    base: int
    row: Row | None
    updated_at: int | None
    stamp: Stamp
    decision: str | None = None


class Segment(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One commit of the log: either rows (`changes`) or a change of the schema (`statements`), never both.

    `previous` is the sha256 of the file before (b"" for the first), `schema` the hash of the schema that its rows have,
    `new_schema` the hash after the statements (equal to `schema` where there are none).
    """

    format: int = 1
    sequence: int
    previous: bytes
    client: str
    batch: str
    user: str
    stamp: Stamp
    schema: str
    columns: dict[str, tuple[str, ...]] = {}
    changes: tuple[Change, ...] = ()
    statements: tuple[str, ...] = ()
    new_schema: str = ""


class Position(msgspec.Struct, frozen=True, order=True):
    """How far a cache has applied the log: the last segment's number and the sha256 of its file (0 and b"" at the start)."""

    sequence: int = 0
    digest: bytes = b""
