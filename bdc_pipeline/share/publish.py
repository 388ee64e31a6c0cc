"""Brings a database in line with another file: what is new, changed or gone there is written here, and nothing else.

So a file that is rewritten at full speed (a source's, by the warehouse) can be published on a share: only rows that differ
count as changes and travel.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from bdc_pipeline.share.errors import ShareError
from bdc_pipeline.share.tables import Table, listed, quoted, read_tables

FROM = "published"
"""The name under which the other file is attached."""


class Brought(msgspec.Struct, frozen=True):
    """What was written: rows by table, and statements that changed the schema."""

    written: dict[str, int] = {}
    deleted: dict[str, int] = {}
    statements: int = 0

    @property
    def rows(self) -> int:
        """All rows that were written or deleted."""
        return sum(self.written.values()) + sum(self.deleted.values())


def bring(connection: sqlite3.Connection, source: Path, *, leave_out: Collection[str] = ()) -> Brought:
    """Brings a database in line with a file, in one transaction.

    Tables, indexes and views of the file are made where they are missing; virtual tables and triggers are not: what a trigger
    does to rows has been done in the file already, and would be done again on every machine.

    Args:
        connection: to the database; outside of a transaction.
        source: the other file, which is only read.
        leave_out: tables that stay out.

    Raises:
        ShareError: the file is not there, is no database, or has a table of the same name and another key or other columns.
    """
    if not source.is_file():
        raise ShareError(f"{source} is not there, so there is nothing to publish. Sync the source first.")
    connection.execute(f"ATTACH ? AS {FROM}", (str(source),))
    try:
        with _foreign_keys_at_the_end(connection):
            return _brought(connection, source, leave_out)
    except sqlite3.DatabaseError as error:
        raise ShareError(f"{source} could not be published: {error}.") from error
    finally:
        connection.execute(f"DETACH {FROM}")


@contextlib.contextmanager
def _foreign_keys_at_the_end(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction at whose end the references must hold, whatever the order of its rows."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("PRAGMA defer_foreign_keys = ON")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _brought(connection: sqlite3.Connection, source: Path, leave_out: Collection[str]) -> Brought:
    with contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as other:
        theirs = {name: table for name, table in read_tables(other).items() if name not in leave_out}
    statements = _make_tables(connection, theirs)
    ours = read_tables(connection)
    for name, table in theirs.items():
        if ours[name].key != table.key:
            raise ShareError(
                f"The key of {name} is {listed(table.key)} in {source} and {listed(ours[name].key)} on the share."
            )
        if missing := set(table.columns) - set(ours[name].columns):
            raise ShareError(f"{name} has no column {', '.join(sorted(missing))} on the share, as {source} has it.")
    deleted = {name: _delete(connection, table) for name, table in reversed(theirs.items())}
    written = {name: _write(connection, table) for name, table in theirs.items()}
    statements += _make_others(connection, set(theirs))
    return Brought(_counted(written), _counted(deleted), statements)


def _counted(rows: dict[str, int]) -> dict[str, int]:
    return {name: number for name, number in rows.items() if number}


# -- the schema ------------------------------------------------------------------------------------------------


def _make_tables(connection: sqlite3.Connection, tables: dict[str, Table]) -> int:
    """Makes missing tables, and missing columns where SQLite can add them."""
    made = 0
    known = {name for (name,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")}
    for name, table in tables.items():
        if name not in known:
            [(sql,)] = connection.execute(
                f"SELECT sql FROM {FROM}.sqlite_master WHERE type = 'table' AND name = ?", (name,)
            )
            connection.execute(sql)
            made += 1
            continue
        present = {row[1] for row in connection.execute(f"PRAGMA main.table_xinfo({quoted(name)})")}
        for column, kind, needed, default in _columns(connection, table):
            if column not in present:
                rule = (" NOT NULL" if needed else "") + (f" DEFAULT {default}" if default is not None else "")
                connection.execute(f"ALTER TABLE main.{quoted(name)} ADD COLUMN {quoted(column)} {kind}{rule}")
                made += 1
    return made


def _columns(connection: sqlite3.Connection, table: Table) -> list[tuple[str, str, bool, str | None]]:
    rows = connection.execute(f"PRAGMA {FROM}.table_xinfo({quoted(table.name)})")
    return [(row[1], row[2], bool(row[3]), row[4]) for row in rows if row[1] in table.columns]


def _make_others(connection: sqlite3.Connection, tables: Collection[str]) -> int:
    """Makes indexes and views that are missing or other than in the file."""
    made = 0
    sql = "SELECT type, name, tbl_name, sql FROM {}.sqlite_master WHERE type IN ('index', 'view') AND sql IS NOT NULL"
    ours = {name: text for _, name, _, text in connection.execute(sql.format("main"))}
    for kind, name, table, text in connection.execute(sql.format(FROM)).fetchall():
        if (kind == "index" and table not in tables) or ours.get(name) == text:
            continue
        if name in ours:
            connection.execute(f"DROP {kind.upper()} main.{quoted(name)}")
        connection.execute(text)
        made += 1
    return made


# -- the rows --------------------------------------------------------------------------------------------------


def _same_key(table: Table) -> str:
    return " AND ".join(f"t.{quoted(column)} IS s.{quoted(column)}" for column in table.key)


def _delete(connection: sqlite3.Connection, table: Table) -> int:
    """Deletes rows whose key the file has no more."""
    name = quoted(table.name)
    there = f"SELECT 1 FROM {FROM}.{name} AS s WHERE {_same_key(table)}"
    return connection.execute(f"DELETE FROM main.{name} AS t WHERE NOT EXISTS ({there})").rowcount


def _write(connection: sqlite3.Connection, table: Table) -> int:
    """Writes rows that are new or other: the file's are looked up by their key, so that nothing is sorted."""
    name, columns = quoted(table.name), table.stored
    rest = [column for column in columns if column not in table.key]
    other = [f"t.{quoted(column)} IS NOT s.{quoted(column)}" for column in rest]
    # 1 and 1.0 compare as the same; a column without a type keeps them apart
    other += [f"typeof(t.{quoted(column)}) <> typeof(s.{quoted(column)})" for column in rest if column in table.untyped]
    differs = " OR ".join(other)
    same = f"SELECT 1 FROM main.{name} AS t WHERE {_same_key(table)}" + (f" AND NOT ({differs})" if rest else "")
    update = ", ".join(f"{quoted(column)} = excluded.{quoted(column)}" for column in rest)
    clash = f"ON CONFLICT ({listed(table.key)}) DO " + (f"UPDATE SET {update}" if rest else "NOTHING")
    found = f"SELECT {listed(columns, 's.')} FROM {FROM}.{name} AS s WHERE NOT EXISTS ({same})"
    if table.keyless:  # a row number is nothing that ON CONFLICT can name
        return connection.execute(f"INSERT OR REPLACE INTO main.{name} ({listed(columns)}) {found}").rowcount
    return connection.execute(f"INSERT INTO main.{name} ({listed(columns)}) {found} {clash}").rowcount
