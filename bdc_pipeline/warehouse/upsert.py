"""Writing rows in bulk: those that are new are inserted, those that differ updated, the others left untouched.

A batch is one `executemany` as long as nothing is wrong with it. Where SQLite cannot hold one of its rows, or one came before
in the run, the batch is rolled back and written row by row, so that each is counted, and refused, by itself.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bdc_pipeline.warehouse.seen import Seen
from bdc_pipeline.warehouse.table import Table

BIND_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    ValueError,
    TypeError,
    AttributeError,
)
"""What encoding and binding raise for one row that SQLite cannot hold; nothing checks a row that was built by hand."""

AGAIN = "a record with the same key came before it"

_NOTHING: dict[None, None] = {}

# The module looks in vain for how to adapt each None and each bool that it binds, 0.2 us a value and a tenth of a bulk load.
# Told so, it looks no further; what is stored is the same.
sqlite3.register_adapter(type(None), _NOTHING.get)
sqlite3.register_adapter(bool, int)


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was not taken, and why; `again`: its key had come before."""

    row: msgspec.Struct
    reason: str
    again: bool = False


@dataclass(slots=True)
class Upserted:
    """What an upsert did. `new` counts keys not seen before in this run, `repeated` the others."""

    inserted: int = 0
    updated: int = 0
    new: int = 0
    repeated: int = 0
    refused: list[Refused] | None = None


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes batches of one table's rows, inside a transaction.

    Args:
        connection: to the file.
        table: whose rows.
        seen: the keys that the run has come across.
        now: what the rows' bookkeeping is to tell.
        unique: of rows with the same key the first one counts, and the others are refused; without it, the last one.
    """

    connection: sqlite3.Connection
    table: Table
    seen: Seen
    now: str
    unique: bool = False

    def upsert(self, rows: Sequence[msgspec.Struct], hashes: Sequence[int] = ()) -> Upserted:
        """Writes rows; `hashes` are their fingerprints, for a table that keeps them. A row that SQLite cannot hold (an integer
        over 64 bits, a lone surrogate, a missing value) is refused by itself.
        """
        given: list[Any] = list(hashes) if hashes else [None] * len(rows)
        # what other tables' records bring along comes again and again
        if self.seen.implied and not self.table.gathered_with and (new := self._insert_new(rows, given)):
            return new
        rows, given, again = _one_of_each_key(self.table, rows, given, unique=self.unique)
        result = self._upsert_any(rows, given)
        if again:
            result.refused = [*(result.refused or ()), *(Refused(row, AGAIN, again=True) for row in again)]
        return result

    def _insert_new(self, rows: Sequence[msgspec.Struct], hashes: Sequence[Any]) -> Upserted | None:
        """Inserts rows that are all new to a table that was empty. None, and nothing written, where one is not."""
        self.connection.execute("SAVEPOINT batch")
        try:
            if self.table.has_integer_id and None in map(self.table.key_of, rows):
                raise _CountSingly  # SQLite would make up a rowid for it
            # bound one by one as they are inserted: a list of all the tuples costs memory, and time to clear it away
            inserted = self._insert(self._binding(rows, hashes))
            if inserted == len(rows):
                self.connection.execute("RELEASE batch")
                self.seen.imply(rows, self.now)
                return Upserted(inserted, 0, inserted)
        except BIND_ERRORS:
            pass
        self.connection.execute("ROLLBACK TO batch")
        self.connection.execute("RELEASE batch")
        # after the rollback, which would undo it
        self.seen.make_explicit()
        return None

    def _upsert_any(self, rows: Sequence[msgspec.Struct], hashes: Sequence[Any]) -> Upserted:
        self.connection.execute("SAVEPOINT batch")
        try:
            result = self._upsert_all(list(self._binding(rows, hashes)))
        except BIND_ERRORS:
            self.connection.execute("ROLLBACK TO batch")
            self.seen.take_back()
            result = self._upsert_each(rows, hashes)
        self.seen.keep()
        self.connection.execute("RELEASE batch")
        return result

    def _binding(self, rows: Sequence[msgspec.Struct], hashes: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
        bound = map(self.table.bind, rows)
        return map(operator.add, bound, zip(hashes, strict=True)) if self.table.fingerprinted else bound

    def _insert(self, bound: Iterable[tuple[Any, ...]]) -> int:
        return self.connection.executemany(self.table.insert_sql(self.now), bound).rowcount

    def _upsert_all(self, bound: list[tuple[Any, ...]]) -> Upserted:
        if not bound:
            return Upserted()
        new = self.seen.add(bound)
        inserted = self._insert(bound)
        # where all that are new to the run were new to the file, only those that came before can differ
        there = self.seen.came_before(bound) if inserted == new else bound
        updated = self._update(there) if inserted < len(bound) else 0
        result = Upserted(inserted, updated, new, len(bound) - new)
        if result.repeated and (updated or self.unique):
            # a row that came twice must not count twice; which of them did is known only one by one
            raise _CountSingly
        return result

    def _update(self, bound: Sequence[tuple[Any, ...]]) -> int:
        table = self.table
        updated = self.connection.executemany(table.update_sql(self.now), bound).rowcount
        if table.fingerprinted:
            # what changed in a record may be in none of the columns: it is still not to be read again
            key_in, single = table.key_in, len(table.key) == 1
            keys = [(values[-1], *((key_in(values),) if single else key_in(values))) for values in bound]
            self.connection.executemany(table.refingerprint_sql, keys)
        return updated

    def _upsert_each(self, rows: Sequence[msgspec.Struct], hashes: Sequence[Any]) -> Upserted:
        refused: list[Refused] = []
        total = Upserted(refused=refused)
        for row, value in zip(rows, hashes, strict=True):
            self.connection.execute("SAVEPOINT row")
            try:
                bound = list(self._binding([row], [value]))
                new = self.seen.add(bound)
                if self.unique and not new:
                    raise _CameBefore(AGAIN)
                total.inserted += self._insert(bound)
                updated = self._update(bound)
                total.updated += updated if new else 0
                total.new += new
                total.repeated += 1 - new
            except BIND_ERRORS as error:
                self.connection.execute("ROLLBACK TO row")
                self.seen.take_back()
                refused.append(Refused(row, str(error), again=isinstance(error, _CameBefore)))
            self.seen.keep()
            self.connection.execute("RELEASE row")
        return total


class _CameBefore(ValueError):  # noqa: N818  (a signal, not an error)
    """The key of a row that is to be the only one with it was seen already."""


class _CountSingly(ValueError):  # noqa: N818  (a signal, not an error)
    """A batch holds rows that came before in this run, and updates: its rows are counted one by one."""


def _one_of_each_key(
    table: Table, rows: Sequence[msgspec.Struct], hashes: list[Any], *, unique: bool
) -> tuple[Sequence[msgspec.Struct], list[Any], list[msgspec.Struct]]:
    """Rows and hashes with each key once: the last, or the first where keys are to be unique; and those left out then."""
    keys = list(map(table.key_of, rows))
    if len(set(keys)) == len(rows):
        return rows, hashes, []
    if not unique:
        last = {key: place for place, key in enumerate(keys)}
        return [rows[place] for place in last.values()], [hashes[place] for place in last.values()], []
    first: dict[Any, int] = {}
    again = [
        row for place, (key, row) in enumerate(zip(keys, rows, strict=True)) if first.setdefault(key, place) != place
    ]
    return [rows[place] for place in first.values()], [hashes[place] for place in first.values()], again
