"""One SQLite file: opening it, bringing its schema up to date, short transactions, what it holds, vanishing.

Every write is inside `Store.transaction()`, which begins IMMEDIATE: a transaction that begins by reading and then
writes fails at once with "database is locked" when another process writes, whatever the busy timeout.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import operator
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from bdc_pipeline.warehouse.columns import RAW_HASH
from bdc_pipeline.warehouse.fingerprints import Fingerprints
from bdc_pipeline.warehouse.ledger_schema import DDL
from bdc_pipeline.warehouse.migration import StoreError, pending_statements
from bdc_pipeline.warehouse.partitioning import ByValue
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.seen import Seen, seen_keys, spared_keys
from bdc_pipeline.warehouse.sql import Where, quoted
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline.warehouse.upsert import BIND_ERRORS, Upserted, Writer

__all__ = ["DiskFull", "Store", "StoreError", "explained", "now_text"]

BUSY_SECONDS = 120.0
"""How long a transaction waits for another process's; a commit of ours takes milliseconds."""

BULK_KIB = 2500
"""With a cache of so many KiB, more is meant to be written than is worth a checkpoint now and then."""

SMALLEST = 512
"""Bytes of the smallest SQLite file. SQLite takes some smaller ones, such as a text of one letter, for empty."""


def now_text() -> str:
    """Now, as bookkeeping columns hold it: UTC with milliseconds."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class DiskFull(StoreError):  # noqa: N818  (what it says, not whose mistake)
    """The disk takes no more: nothing is wrong with what was asked for."""


def explained(error: sqlite3.Error, path: Path) -> StoreError:
    """SQLite's error as a sentence that says what to do."""
    text = str(error)
    if "not a database" in text or "malformed" in text or "file is encrypted" in text:
        return StoreError(
            f"{path} is no SQLite database ({text}). Nothing was changed; move the file away or name another with --database."
        )
    if "full" in text:
        return DiskFull(
            f"The disk that holds {path} is full. What was committed before is kept; free space and run again."
        )
    if "disk I/O error" in text:
        return DiskFull(
            f"{path} cannot be written ({text}): the disk is full, over its quota, or failing. What was committed "
            "before is kept; mend it and run again."
        )
    if "readonly" in text or "unable to open" in text:
        return StoreError(
            f"{path} cannot be opened for writing ({text}). Check the rights of the file and of its directory."
        )
    if "locked" in text or "busy" in text:
        return StoreError(
            f"{path} was locked by another program for over {BUSY_SECONDS:.0f} s. Close that program and run again."
        )
    return StoreError(f"{path}: {text}.")


class Store:
    """A connection to one source's file. Belongs to the thread that opened it.

    Args:
        path: the file; it and its directory are made where they are missing.
        schema: the tables that it holds.
        read_only: open for reading; the file must exist.
        cache_kib: how much of the file SQLite keeps in memory.

    Raises:
        StoreError: the file cannot be opened, is no database, or holds tables that differ from the declared ones
            by more than added columns.
    """

    def __init__(self, path: Path, schema: Schema, *, read_only: bool = False, cache_kib: int = 2000) -> None:
        self.path = path
        self.schema = schema
        # how many rows live, as counted since the last write of a transaction
        self._live: dict[tuple[Table, tuple[str, ...] | None], int] = {}
        self._lacks_indexes = False
        if read_only:
            if not path.is_file():
                raise StoreError(f"{path} does not exist. Run 'bdc-pipeline sync {schema.source}' to make it.")
            self.connection = self._connect(f"file:{_uri_path(path)}?mode=ro", uri=True)
            with self._closing_on_error(), self._explaining():
                self.connection.execute("SELECT count(*) FROM main.sqlite_master").fetchone()
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path.parent} cannot be made ({error.strerror or error}). Name a directory that you can write to with "
                "BDC_DATA_DIR or --database."
            ) from None
        self.connection = self._connect(str(path), uri=False)
        with self._closing_on_error(), self._explaining():
            # for a new file: with 4096 a bulk load takes 10 % longer
            self.connection.execute("PRAGMA page_size = 8192")
            self.connection.execute(f"PRAGMA cache_size = {-cache_kib:d}")
            if cache_kib >= BULK_KIB:
                # a checkpoint every 32 MB instead of every 8
                self.connection.execute("PRAGMA wal_autocheckpoint = 4000")
            self._migrate()

    def _connect(self, target: str, *, uri: bool) -> sqlite3.Connection:
        # its size alone: opening and closing the file beside SQLite would drop this process's locks on it
        if self.path.is_file() and 0 < self.path.stat().st_size < SMALLEST:
            raise explained(sqlite3.DatabaseError("file is not a database"), self.path)
        try:
            return sqlite3.connect(target, timeout=BUSY_SECONDS, isolation_level=None, uri=uri)
        except sqlite3.Error as error:
            raise explained(error, self.path) from None

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.connection.close()
            raise

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explained(error, self.path) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One short write transaction: committed at the end, rolled back on any exception.

        Raises:
            StoreError: SQLite could not begin, write or commit.
        """
        with self._explaining():
            self.connection.execute("BEGIN IMMEDIATE")
            self._live.clear()
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                # a full disk may have rolled back already
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def checkpoint(self) -> None:
        """Moves what SQLite's log holds into the file, as far as no reader needs it.

        SQLite does that at the commit that has made the log long, and when the last connection closes. What fails here is in the log,
        and the next commit tells of a disk that is full.
        """
        with contextlib.suppress(sqlite3.Error):
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # -- schema ------------------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        """Creates what is missing, adds columns that are new, refuses anything else."""
        # before the first write of any kind: a file that is refused stays as it was, its journal mode too
        pending = pending_statements(self.connection, self.path, self.schema, DDL)
        self._use_wal()
        # WAL with NORMAL: a killed process loses nothing that it committed; a power cut may lose the last commits, never the file
        self.connection.execute("PRAGMA synchronous = NORMAL")
        if pending:
            self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
        with self.transaction() as connection:
            # asked under the lock: another process may have done it meanwhile
            for statement in pending_statements(connection, self.path, self.schema, DDL):
                connection.execute(statement)

    def drop_indexes(self) -> None:
        """Takes the indexes and R*Trees of tracked tables away that are empty: made of all rows at the end they cost half of what
        they do row by row, and an R*Tree a third. `complete_schema` makes them anew, and so does whoever opens the file next,
        should this process not come to it.
        """
        statements = [sql for table in self._begun_empty for sql in table.late_ddl]
        if not statements:
            return
        self._lacks_indexes = True
        with self.transaction() as connection:
            for sql in statements:
                connection.execute(sql)

    def complete_schema(self) -> None:
        """Makes what `drop_indexes` has taken away.

        Raises:
            StoreError: they cannot be written.
        """
        if self._lacks_indexes:
            self._bring_up_to_date()
            self._lacks_indexes = False

    def _use_wal(self) -> None:
        """Turns WAL on. SQLite does not wait here when another process makes the same file at the same time."""
        until = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)
            else:
                return

    # -- rows --------------------------------------------------------------------------------------------------

    def upsert(
        self,
        table: Table,
        rows: Sequence[msgspec.Struct],
        now: str,
        hashes: Sequence[int] = (),
        *,
        unique: bool = False,
    ) -> Upserted:
        """Writes rows of a table that is tracked: see `Writer.upsert`. Inside a transaction."""
        self._live.clear()
        return Writer(self.connection, table, self.seen[table], now, unique).upsert(rows, hashes)

    def fingerprints(self, table: Table, partition: str | None) -> Fingerprints:
        """The fingerprints of a partition's live rows."""
        where, values = table.where(None if partition is None else [partition])
        column = RAW_HASH[0]
        sql = f"SELECT {column} FROM {quoted(table.stored)} WHERE {where} AND vanished_at IS NULL AND {column} IS NOT NULL"
        return Fingerprints(map(operator.itemgetter(0), self.connection.execute(sql, values)))

    def fingerprint_of(self, table: Table, row: msgspec.Struct) -> int | None:
        """The fingerprint that is stored with the key of a row; None where there is none, or no such row."""
        found: int | None = self._stored_with(table, row, RAW_HASH[0])
        return found

    def partition_of(self, table: Table, row: msgspec.Struct) -> str | None:
        """The partition of the stored row with the key of a row; None where there is no such row, or no partitions."""
        if table.partitioning is None:
            return None
        value = self._stored_with(table, row, table.partitioning.column)
        return None if value is None else table.partitioning.key_of(value)

    def _stored_with(self, table: Table, row: msgspec.Struct, column: str) -> Any:
        same = " AND ".join(f"{quoted(key)} = ?" for key in table.key)
        sql = f"SELECT {quoted(column)} FROM {quoted(table.stored)} WHERE {same}"
        found = None
        # what SQLite cannot hold is not stored
        with contextlib.suppress(*BIND_ERRORS):
            key = table.key_in(table.bind(row))
            found = self.connection.execute(sql, (key,) if len(table.key) == 1 else key).fetchone()
        return found[0] if found else None

    def fingerprints_at(self, table: Table, keys: Sequence[int | str]) -> list[int]:
        """The fingerprints that are stored with keys; for tables whose key is one column."""
        sql = f"SELECT {RAW_HASH[0]} FROM {quoted(table.stored)} WHERE {quoted(table.key[0])} = ?"
        found = [row for key in keys for row in self.connection.execute(sql, (key,))]
        return [value for (value,) in found if value is not None]

    # -- what a run has seen -----------------------------------------------------------------------------------

    def track(self, tables: Sequence[Table]) -> None:
        """Begins to note which keys of these tables are seen. Before the first transaction: a rollback would undo it."""
        self._begun_empty = {
            table
            for table in tables
            if not self.connection.execute(f"SELECT EXISTS (SELECT 1 FROM {quoted(table.stored)})").fetchone()[0]
        }
        self.seen = {table: Seen(self.connection, table, empty=table in self._begun_empty) for table in tables}
        self.connection.execute("CREATE TABLE IF NOT EXISTS temp.unmatched (raw_hash INTEGER PRIMARY KEY)")

    def spare(self, table: Table, keys: Sequence[tuple[int | str, ...]]) -> None:
        """Keeps stored rows from vanishing though no row came of their keys; they do not count as seen."""
        marks = ", ".join("?" for _ in table.key)
        sql = f"INSERT INTO {spared_keys(table)} VALUES ({marks}) ON CONFLICT DO NOTHING"
        for key in keys:
            # a key that SQLite cannot hold is no stored row's
            with contextlib.suppress(*BIND_ERRORS):
                self.connection.execute(sql, key)

    def forget(self, table: Table, keys: Sequence[int | str]) -> None:
        """Takes keys back that were seen; for tables whose key is one column."""
        self.seen[table].forget(keys)

    def held(self, table: Table, partition: str | None) -> int:
        """How many rows of a partition (None: of all) this run has seen and stored."""
        counted = self.seen[table].count(partition)
        if counted is not None:
            return counted
        self.seen[table].spill()
        where, values = table.where(None if partition is None else [partition])
        join = " AND ".join(f"s.{quoted(key)} = t.{quoted(key)}" for key in table.key)
        sql = (
            f"SELECT count(*) FROM {quoted(table.stored)} t WHERE {where} "
            f"AND EXISTS (SELECT 1 FROM {seen_keys(table)} s WHERE {join})"
        )
        return int(self.connection.execute(sql, values).fetchone()[0])

    def live(self, table: Table, partitions: Sequence[str] | None = None) -> int:
        """How many rows of some partitions (None: of all) have not vanished."""
        asked = (table, None if partitions is None else tuple(partitions))
        if self.connection.in_transaction and asked in self._live:
            return self._live[asked]
        where, values = table.where(partitions)
        # two counts from indexes instead of one from the rows
        sql = f"SELECT count(*) FROM {quoted(table.stored)} WHERE {where}"
        (there,) = self.connection.execute(sql, values).fetchone()
        (gone,) = self.connection.execute(f"{sql} AND vanished_at IS NOT NULL", values).fetchone()
        self._live[asked] = int(there) - int(gone)
        return self._live[asked]

    def count_live(self, table: Table, partitions: Sequence[str]) -> None:
        """Counts the live rows of each of many partitions at once, for `live` to tell until the next write. Inside a transaction."""
        partitioning = table.partitioning
        if not isinstance(partitioning, ByValue) or len(partitions) < 2:
            return
        column, found = quoted(partitioning.column), dict.fromkeys(partitions, 0)
        values = json.dumps([partitioning.where(key)[1][0] for key in partitions])
        sql = (
            f"SELECT {column}, count(*) FROM {quoted(table.stored)} WHERE {column} IN (SELECT value FROM json_each(?))"
        )
        for more, sign in (("", 1), (" AND vanished_at IS NOT NULL", -1)):
            for value, number in self.connection.execute(f"{sql}{more} GROUP BY {column}", (values,)):
                found[partitioning.key_of(value)] += sign * number
        self._live.update({(table, (key,)): number for key, number in found.items()})

    def unseen(self, table: Table, where: Where, before: str, known: Fingerprints | None = None) -> Where | None:
        """The condition (on the table as `t`) for the live rows under another one that this run has not seen; None where
        there can be none. Rows written after `before` do not count: another run, which listed later than this one,
        brought them. Nor do rows whose fingerprints among `known` were matched.
        """
        old = "t.vanished_at IS NULL AND (t.last_updated <= ? OR t.last_updated > ?)"
        # a time that is yet to come was written under a clock that was wrong, not by another run just now
        ahead = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.999Z")
        conditions, values = f"{where[0]} AND {old}", (*where[1], before, ahead)
        if known is not None and len(known):
            self.connection.execute("DELETE FROM temp.unmatched")
            unmatched = ((value,) for value in known.unmatched())
            self.connection.executemany("INSERT INTO temp.unmatched VALUES (?)", unmatched)
            conditions += " AND (t.raw_hash IS NULL OR t.raw_hash IN (SELECT raw_hash FROM temp.unmatched))"
        if table in self._begun_empty:
            return None  # nothing there is older than the run
        self.seen[table].spill()
        join = " AND ".join(f"s.{quoted(key)} = t.{quoted(key)}" for key in table.key)
        for name in (seen_keys(table), spared_keys(table)):
            conditions += f" AND NOT EXISTS (SELECT 1 FROM {name} s WHERE {join})"
        return conditions, values

    def count(self, table: Table, where: Where) -> int:
        """How many rows (of the table as `t`) fulfil a condition."""
        sql = f"SELECT count(*) FROM {quoted(table.stored)} AS t WHERE {where[0]}"
        return int(self.connection.execute(sql, where[1]).fetchone()[0])

    def vanish(self, table: Table, where: Where, now: str) -> int:
        """Marks the rows (of the table as `t`) under a condition as vanished and returns how many. Inside a transaction."""
        self._live.clear()
        sql = f"UPDATE {quoted(table.stored)} AS t SET vanished_at = ? WHERE {where[0]}"
        return self.connection.execute(sql, (now, *where[1])).rowcount

    def vanish_keys(self, table: Table, keys: Sequence[int | str], now: str) -> int:
        """Marks rows by key as vanished and returns how many; for tables whose key is one column. Inside a transaction."""
        self._live.clear()
        sql = f"UPDATE {quoted(table.stored)} SET vanished_at = ? WHERE {quoted(table.key[0])} = ? AND vanished_at IS NULL"
        return self.connection.executemany(sql, [(now, key) for key in keys]).rowcount

    def erase(self, table: Table, column: str, values: Sequence[int | str]) -> int:
        """Deletes rows and returns how many: for what must not be kept at all. Inside a transaction."""
        self._live.clear()
        sql = f"DELETE FROM {quoted(table.stored)} WHERE {quoted(column)} = ?"
        if not values:
            return 0
        self.seen[table].recount()
        return self.connection.executemany(sql, [(value,) for value in values]).rowcount


def _uri_path(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
