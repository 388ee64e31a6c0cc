"""Which keys of a table a run has come across: in memory while they are few, in a temporary table beyond that; and of a
table that was empty, nowhere but in the rows themselves.

A key's first coming counts as fetched, later ones do not; stored rows whose keys never came have vanished. Bookkeeping
of a hundred thousand keys in a set costs 2 % of a first load, in a temporary table 15 %; the table holds any number in
a few megabytes.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.table import Table

IN_MEMORY = 60_000
"""So many keys are kept in memory: some 6 MB."""

Row = TypeVar("Row")

Key = Any  # a value, or a tuple where the key has several columns


class Seen:
    """The keys of one table that a run has come across.

    Args:
        connection: where its temporary table is made; before the first transaction, since a rollback would undo it.
        table: whose keys.
        in_memory: how many keys are kept in memory; `IN_MEMORY` by default.
        empty: the table holds nothing yet, so that every row of this run's is new until one is not.
    """

    def __init__(
        self, connection: sqlite3.Connection, table: Table, in_memory: int | None = None, *, empty: bool = False
    ) -> None:
        self._connection, self._table = connection, table
        self._moments: set[str] | None = set() if empty else None
        self._room = IN_MEMORY if in_memory is None else in_memory
        self._single = len(table.key) == 1
        self._keys: set[Key] | None = set()
        self._latest: set[Key] = set()
        self._unspilled: list[Key] = []
        self._counts: Counter[str | None] | None = Counter()
        columns = [f"{quoted(key)} {table.column(key).type}" for key in table.key]
        primary = ", ".join(map(quoted, table.key))
        for name in (seen_keys(table), spared_keys(table)):
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns)}, PRIMARY KEY ({primary})) WITHOUT ROWID"
            )
            connection.execute(f"DELETE FROM {name}")

    @property
    def implied(self) -> bool:
        """Whether the keys seen are those of the rows that this run has inserted, each of them once."""
        return self._moments is not None

    def imply(self, rows: Sequence[msgspec.Struct], now: str) -> None:
        """Notes rows that were all inserted, at that moment."""
        if self._moments is not None:
            self._moments.add(now)
        self._count(len(rows), rows, self._table.stored_of)

    def make_explicit(self) -> None:
        """Notes the keys of the rows that this run has inserted: a row comes that is not new."""
        if self._moments is None:
            return
        moments, self._moments = json.dumps(sorted(self._moments)), None
        keys = ", ".join(map(quoted, self._table.key))
        self._connection.execute(
            f"INSERT INTO {seen_keys(self._table)} SELECT {keys} FROM {quoted(self._table.stored)} "
            "WHERE first_seen IN (SELECT value FROM json_each(?)) ON CONFLICT DO NOTHING",
            (moments,),
        )
        self._keys = None

    def add(self, bound: Sequence[tuple[Any, ...]]) -> int:
        """Notes the keys of bound rows, all different, and returns how many are new.

        Raises:
            sqlite3.IntegrityError: a key is None.
        """
        keys = list(map(self._table.key_in, bound))
        if self._keys is None:
            self._latest = set()
            new = self._insert(keys)
        else:
            self._latest = set(keys) - self._keys
            if None in self._latest:  # SQLite would make up a rowid for it
                raise sqlite3.IntegrityError(f"NOT NULL constraint failed: {self._table.stored}.{self._table.key[0]}")
            self._keys |= self._latest
            new = len(self._latest)
            self._unspilled += self._latest
        if new == len(bound):
            self._count(new, bound, self._table.column_in)
        else:
            self._counts = None
        return new

    def came_before(self, bound: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """Of the rows of the last `add`, those whose keys were seen before it; all of them where that is not known."""
        if self._keys is None:
            return bound
        key_in, latest = self._table.key_in, self._latest
        return [values for values in bound if key_in(values) not in latest]

    def keep(self) -> None:
        """The rows of the last `add` are written, and will not be rolled back by themselves."""
        self._latest = set()
        # not before: a rollback would take from the table what came long ago, too
        if self._keys is not None and len(self._keys) > self._room:
            self.spill()
            self._keys = None

    def take_back(self) -> None:
        """Undoes the last `add` if it was not kept: its rows were rolled back, and with them what was in a table."""
        if self._keys is not None and self._latest:
            self._keys -= self._latest
            self._unspilled = [key for key in self._unspilled if key not in self._latest]
        self._latest = set()
        self._counts = None

    def forget(self, keys: Iterable[Key]) -> None:
        """Takes keys back that were seen; for tables whose key is one column."""
        gone = list(keys)
        if not gone:
            return
        self.spill()
        if self._keys is not None:
            self._keys.difference_update(gone)
        sql = f"DELETE FROM {seen_keys(self._table)} WHERE {quoted(self._table.key[0])} = ?"
        self._connection.executemany(sql, [(key,) for key in gone])
        self._counts = None

    def spill(self) -> None:
        """Brings the temporary table up to date, for statements that join it."""
        self.make_explicit()
        if self._unspilled:
            self._insert(self._unspilled)
            self._unspilled = []

    def recount(self) -> None:
        """Rows of keys that were seen are not there any more: how many are is not known but by counting."""
        self._counts = None

    def count(self, partition: str | None) -> int | None:
        """How many keys of a partition (None: of the table) were seen; None where that is not known but by counting."""
        if self._counts is None:
            return None
        return self._counts.total() if partition is None else self._counts[partition]

    def _insert(self, keys: Sequence[Key]) -> int:
        marks = ", ".join("?" for _ in self._table.key)
        # not OR IGNORE, which would pass over a key that is None
        sql = f"INSERT INTO {seen_keys(self._table)} VALUES ({marks}) ON CONFLICT DO NOTHING"
        rows = [(key,) for key in keys] if self._single else keys
        return self._connection.executemany(sql, rows).rowcount if rows else 0

    def _count(self, count: int, rows: Iterable[Row], column: Callable[[str], Callable[[Row], Any]]) -> None:
        """Counts rows by partition, while every key came once: which of a batch came before would be known only one by one."""
        if self._counts is None:
            return
        partitioning = self._table.partitioning
        if partitioning is None:
            self._counts[None] += count
            return
        for value, times in Counter(map(column(partitioning.column), rows)).items():
            self._counts[partitioning.key_of(value)] += times


def seen_keys(table: Table) -> str:
    """The temporary table that holds the keys seen; it goes to disk when it grows."""
    return f"temp.{quoted('seen_' + table.stored)}"


def spared_keys(table: Table) -> str:
    """The temporary table that holds the keys whose rows stay although none came."""
    return f"temp.{quoted('spared_' + table.stored)}"
