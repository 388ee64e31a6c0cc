"""One SQLite file: opening it, bringing its schema up to date, short transactions, bulk upserts, vanishing.

Every write is inside `Store.transaction()`, which begins IMMEDIATE: a transaction that begins by reading and then
writes fails at once with "database is locked" when another process writes, whatever the busy timeout.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from bdc_pipeline.warehouse.table import BOOKKEEPING, Column, Schema, Table, quoted

BUSY_SECONDS = 120.0
"""How long a transaction waits for another process's; a commit of ours takes milliseconds."""

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

SMALLEST = 512
"""Bytes of the smallest SQLite file. SQLite takes some smaller ones, such as a text of one letter, for empty."""


class StoreError(Exception):
    """The file cannot be used: a sentence that names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that SQLite would not take, and why."""

    row: msgspec.Struct
    reason: str


@dataclass(slots=True)
class Upserted:
    """What an upsert did. `new` counts keys not seen before in this run, `repeated` the others."""

    inserted: int = 0
    updated: int = 0
    new: int = 0
    repeated: int = 0
    refused: list[Refused] | None = None


def now_text() -> str:
    """Now, as bookkeeping columns hold it: UTC with milliseconds."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def explained(error: sqlite3.Error, path: Path) -> StoreError:
    """SQLite's error as a sentence that says what to do."""
    text = str(error)
    if "not a database" in text or "malformed" in text or "file is encrypted" in text:
        return StoreError(
            f"{path} is no SQLite database ({text}). Nothing was changed; move the file away or name another with --database."
        )
    if "full" in text:
        return StoreError(
            f"The disk that holds {path} is full. What was committed before is kept; free space and run again."
        )
    if "disk I/O error" in text:
        return StoreError(
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

    Raises:
        StoreError: the file cannot be opened, is no database, or holds tables that differ from the declared ones
            by more than added columns.
    """

    def __init__(self, path: Path, schema: Schema, *, read_only: bool = False) -> None:
        self.path = path
        self.schema = schema
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
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                # a full disk may have rolled back already
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    # -- schema ------------------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        """Creates what is missing, adds columns that are new, refuses anything else."""
        from bdc_pipeline.warehouse import ledger  # noqa: PLC0415  (the ledger's functions take a Store)

        # before the first write of any kind: a file that is refused stays as it was, its journal mode too
        pending = self._pending(ledger.DDL)
        self._use_wal()
        # WAL with NORMAL: a killed process loses nothing that it committed; a power cut may lose the last commits, never the file
        self.connection.execute("PRAGMA synchronous = NORMAL")
        if not pending:
            return
        with self.transaction() as connection:
            # asked again under the lock: another process may have done it meanwhile
            for statement in self._pending(ledger.DDL):
                connection.execute(statement)

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

    def _pending(self, extra: Sequence[str]) -> list[str]:
        """The statements that bring the file to the declared schema, in order.

        Raises:
            StoreError: the file differs by more than statements can mend without losing anything.
        """
        found = {
            str(name).lower(): (str(kind), sql)
            for name, kind, sql in self.connection.execute("SELECT name, type, sql FROM main.sqlite_master")
        }
        for name, columns in _columns_of(tuple(extra)).items():
            if name in found and columns != _columns(self.connection, name):
                raise StoreError(self._foreign(name, "a table or view with other columns,"))
        statements = [sql for sql in extra if _created_name(sql) not in found]
        for table in self.schema.tables:
            kind = found.get(table.stored.lower(), ("", None))[0]
            if kind == "view":
                raise StoreError(self._foreign(table.stored, "a view"))
            if kind == "table":
                statements += self._added_columns(table)
            statements += [sql for sql in table.ddl if _created_name(sql) not in found]
        stale = []
        for name, select in self.schema.all_views.items():
            kind, sql = found.get(name.lower(), ("", None))
            if kind == "table":
                raise StoreError(self._foreign(name, "a table"))
            if sql != f"CREATE VIEW {quoted(name)} AS {select}":
                stale.append((name, select, bool(sql)))
        if statements or stale:
            # a view names columns of others, so all are made anew when one changes
            views = self.schema.all_views
            statements += [f"DROP VIEW IF EXISTS {quoted(name)}" for name in views]
            statements += [f"CREATE VIEW {quoted(name)} AS {select}" for name, select in views.items()]
        return statements

    def _foreign(self, name: str, kind: str) -> str:
        return (
            f"{self.path} already holds {kind} '{name}' that this program did not make. Nothing was changed; name another "
            "file with --database, or move this one away."
        )

    def _added_columns(self, table: Table) -> list[str]:
        present = {
            str(name): (str(kind), bool(required), int(place))
            for _, name, kind, required, _, place in self.connection.execute(
                f"PRAGMA table_info({quoted(table.stored)})"
            )
        }
        declared = {column.name: column for column in table.columns}
        kept = {name for name, _, _ in BOOKKEEPING}
        for name, (kind, required, _) in present.items():
            if name in kept:
                continue
            column = declared.get(name)
            if column is None:
                raise StoreError(self._drifted(table, f"has a column '{name}' that this version does not know"))
            if (column.type, not column.nullable) != (kind, required):
                was = f"{kind}{' NOT NULL' if required else ''}"
                now = f"{column.type}{'' if column.nullable else ' NOT NULL'}"
                raise StoreError(self._drifted(table, f"holds '{name}' as {was}, where this version declares {now}"))
        if missing := kept - present.keys():
            raise StoreError(self._foreign(table.stored, f"a table without '{min(missing)}',"))
        # a column that is added cannot join the key that the table has
        if {name for name, (_, _, place) in present.items() if place} != set(table.key):
            raise StoreError(self._drifted(table, f"has another key than ({', '.join(table.key)})"))
        return [self._add_column(table, column) for name, column in declared.items() if name not in present]

    def _add_column(self, table: Table, column: Column) -> str:
        if not column.nullable and column.default is None:
            raise StoreError(
                self._drifted(table, f"lacks the column '{column.name}', which has no default for the rows there are")
            )
        return f"ALTER TABLE {quoted(table.stored)} ADD COLUMN {column.ddl}"

    def _drifted(self, table: Table, how: str) -> str:
        return (
            f"{self.path}: the table '{table.stored}' {how}. Only added columns are taken over by themselves, so nothing was "
            "changed. Run the version that wrote the file, or move the file away and sync anew."
        )

    # -- rows --------------------------------------------------------------------------------------------------

    def upsert(self, table: Table, rows: Sequence[msgspec.Struct], now: str) -> Upserted:
        """Inserts rows that are new, updates those that differ, leaves the others untouched. Inside a transaction.

        A row that SQLite cannot hold (an integer over 64 bits, a lone surrogate, a missing value) is refused by
        itself. Of rows with the same key the last one counts.
        """
        rows = _last_of_each_key(table, rows)
        connection = self.connection
        connection.execute("SAVEPOINT batch")
        try:
            result = self._upsert_all(table, [table.bind(row) for row in rows], now)
        except BIND_ERRORS:
            connection.execute("ROLLBACK TO batch")
            result = self._upsert_each(table, rows, now)
        connection.execute("RELEASE batch")
        return result

    def _upsert_all(self, table: Table, bound: list[tuple[Any, ...]], now: str) -> Upserted:
        new = self._see(table, bound)
        inserted = self.connection.executemany(table.insert_sql(now), bound).rowcount if bound else 0
        updated = 0
        if inserted < len(bound):
            updated = self.connection.executemany(table.update_sql(now), bound).rowcount
        result = Upserted(inserted, updated, new, len(bound) - new)
        if result.repeated and updated:
            # a row that came twice must not count twice; which of them did is known only one by one
            raise _CountSingly
        return result

    def _upsert_each(self, table: Table, rows: Sequence[msgspec.Struct], now: str) -> Upserted:
        refused: list[Refused] = []
        total = Upserted(refused=refused)
        for row in rows:
            self.connection.execute("SAVEPOINT row")
            try:
                values = [table.bind(row)]
                new = self._see(table, values)
                total.inserted += self.connection.executemany(table.insert_sql(now), values).rowcount
                updated = self.connection.executemany(table.update_sql(now), values).rowcount
                total.updated += updated if new else 0
                total.new += new
                total.repeated += 1 - new
            except BIND_ERRORS as error:
                self.connection.execute("ROLLBACK TO row")
                refused.append(Refused(row, str(error)))
            self.connection.execute("RELEASE row")
        return total

    # -- what a run has seen -----------------------------------------------------------------------------------

    def track(self, tables: Sequence[Table]) -> None:
        """Begins to note which keys of these tables are seen. Before the first transaction: a rollback would undo it."""
        for table in tables:
            keys = ", ".join(f"{quoted(key)} {table.column(key).type}" for key in table.key)
            primary = ", ".join(map(quoted, table.key))
            for name in (seen_keys(table), _spared(table)):
                self.connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {name} ({keys}, PRIMARY KEY ({primary})) WITHOUT ROWID"
                )

    def _see(self, table: Table, bound: list[tuple[Any, ...]]) -> int:
        """Notes the keys as seen in this run and returns how many were new."""
        by_name = {column.name: place for place, column in enumerate(table.columns)}
        pick = [by_name[key] for key in table.key]
        marks = ", ".join("?" for _ in pick)
        keys = [tuple(values[place] for place in pick) for values in bound]
        # not OR IGNORE, which would pass over a key that is None
        sql = f"INSERT INTO {seen_keys(table)} VALUES ({marks}) ON CONFLICT DO NOTHING"
        return self.connection.executemany(sql, keys).rowcount if keys else 0

    def spare(self, table: Table, keys: Sequence[tuple[int | str, ...]]) -> None:
        """Keeps stored rows from vanishing though no row came of their keys; they do not count as seen."""
        marks = ", ".join("?" for _ in table.key)
        sql = f"INSERT INTO {_spared(table)} VALUES ({marks}) ON CONFLICT DO NOTHING"
        for key in keys:
            # a key that SQLite cannot hold is no stored row's
            with contextlib.suppress(*BIND_ERRORS):
                self.connection.execute(sql, key)

    def forget(self, table: Table, keys: Sequence[int | str]) -> None:
        """Takes keys back that were seen; for tables whose key is one column."""
        if keys:
            sql = f"DELETE FROM {seen_keys(table)} WHERE {quoted(table.key[0])} = ?"
            self.connection.executemany(sql, [(key,) for key in keys])

    def held(self, table: Table, partitions: Sequence[str] | None) -> int:
        """How many rows of some partitions this run has seen and stored."""
        where, values = table.where(partitions)
        join = " AND ".join(f"s.{quoted(key)} = t.{quoted(key)}" for key in table.key)
        sql = (
            f"SELECT count(*) FROM {quoted(table.stored)} t WHERE {where} "
            f"AND EXISTS (SELECT 1 FROM {seen_keys(table)} s WHERE {join})"
        )
        return int(self.connection.execute(sql, values).fetchone()[0])

    def live(self, table: Table, partitions: Sequence[str] | None = None) -> int:
        """How many rows of some partitions (None: of all) have not vanished."""
        where, values = table.where(partitions)
        sql = f"SELECT count(*) FROM {quoted(table.stored)} WHERE {where} AND vanished_at IS NULL"
        return int(self.connection.execute(sql, values).fetchone()[0])

    def unseen(self, table: Table, where: tuple[str, Sequence[Any]], before: str) -> int:
        """How many live rows under a condition this run has not seen. Rows written after `before` do not count:
        another run, which listed later than this one, brought them."""
        sql = f"SELECT count(*) FROM {quoted(table.stored)} AS t WHERE {self._unseen(table, where[0])}"
        return int(self.connection.execute(sql, (*where[1], before)).fetchone()[0])

    def vanish(self, table: Table, where: tuple[str, Sequence[Any]], before: str, now: str) -> int:
        """Marks those rows as vanished and returns how many. Inside a transaction."""
        sql = f"UPDATE {quoted(table.stored)} AS t SET vanished_at = ? WHERE {self._unseen(table, where[0])}"
        return self.connection.execute(sql, (now, *where[1], before)).rowcount

    def vanish_keys(self, table: Table, keys: Sequence[int | str], now: str) -> int:
        """Marks rows by key as vanished and returns how many; for tables whose key is one column. Inside a transaction."""
        sql = f"UPDATE {quoted(table.stored)} SET vanished_at = ? WHERE {quoted(table.key[0])} = ? AND vanished_at IS NULL"
        return self.connection.executemany(sql, [(now, key) for key in keys]).rowcount

    def erase(self, table: Table, column: str, values: Sequence[int | str]) -> int:
        """Deletes rows and returns how many: for what must not be kept at all. Inside a transaction."""
        sql = f"DELETE FROM {quoted(table.stored)} WHERE {quoted(column)} = ?"
        return self.connection.executemany(sql, [(value,) for value in values]).rowcount if values else 0

    def _unseen(self, table: Table, where: str) -> str:
        join = " AND ".join(f"s.{quoted(key)} = t.{quoted(key)}" for key in table.key)
        return (
            f"{where} AND t.vanished_at IS NULL "
            # a time that is yet to come was written under a clock that was wrong, not by another run just now
            "AND (t.last_updated <= ? OR t.last_updated > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 hour')) "
            f"AND NOT EXISTS (SELECT 1 FROM {seen_keys(table)} s WHERE {join}) "
            f"AND NOT EXISTS (SELECT 1 FROM {_spared(table)} s WHERE {join})"
        )


class _CountSingly(ValueError):  # noqa: N818  (a signal, not an error)
    """A batch holds rows that came before in this run, and updates: its rows are counted one by one."""


def seen_keys(table: Table) -> str:
    """The temporary table that holds the keys seen; it goes to disk when it grows."""
    return f"temp.{quoted('seen_' + table.stored)}"


def _spared(table: Table) -> str:
    """The temporary table that holds the keys whose rows stay although none came."""
    return f"temp.{quoted('spared_' + table.stored)}"


def _last_of_each_key(table: Table, rows: Sequence[msgspec.Struct]) -> Sequence[msgspec.Struct]:
    by_key = dict(zip(map(table.key_of, rows), rows, strict=True))
    return rows if len(by_key) == len(rows) else list(by_key.values())


def _created_name(sql: str) -> str:
    """The name of what a CREATE ... IF NOT EXISTS statement creates."""
    return sql.partition(" IF NOT EXISTS ")[2].split(maxsplit=1)[0].strip('"').lower()


def _columns(connection: sqlite3.Connection, name: str) -> set[tuple[str, bool]]:
    """The columns of a table or view, and which belong to its key."""
    found = connection.execute(f"PRAGMA table_info({quoted(name)})")
    return {(str(column), bool(place)) for _, column, _, _, _, place in found}


@functools.cache
def _columns_of(ddl: tuple[str, ...]) -> dict[str, set[tuple[str, bool]]]:
    """What `_columns` finds in the tables that statements create."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in ddl:
            connection.execute(statement)
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {str(name).lower(): _columns(connection, str(name)) for (name,) in names}


def _uri_path(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
