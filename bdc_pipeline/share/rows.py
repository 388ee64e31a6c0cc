"""Writing single rows of captured tables: the statements, and which rows stand in the way of one."""

import sqlite3
from collections.abc import Iterable

from bdc_pipeline.share import dirty
from bdc_pipeline.share.model import Key, Row
from bdc_pipeline.share.tables import Table, listed, quoted


def same(one: Row | None, other: Row | None) -> bool:
    """Whether two rows have the same values of the same types: 1 and 1.0 are equal, and are two things in a column without a type."""
    return one == other and (one is None or other is None or list(map(type, one)) == list(map(type, other)))


def delete(db: sqlite3.Connection, table: Table, keys: Iterable[Key]) -> None:
    """Delete the rows of these keys."""
    db.executemany(f"DELETE FROM {quoted(table.name)} WHERE {dirty.key_match(table)}", keys)


def insert_sql(table: Table, conflict: str = "OR ABORT") -> str:
    """An INSERT of one row, for `Table.values`; what the table itself says of conflicts does not count."""
    return f"INSERT {conflict} INTO {quoted(table.name)} ({listed(table.stored)}) VALUES ({', '.join('?' * len(table.stored))})"


def upsert_sql(table: Table) -> str:
    """An INSERT that updates the row of its key where there is one, for `Table.values`."""
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in table.rest)
    return (
        f"{insert_sql(table)} ON CONFLICT ({listed(table.key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    )


def clashing(db: sqlite3.Connection, table: Table, key: Key, row: Row) -> list[Key]:
    """The keys of rows that stand in the way of a row: those with a unique set of its values, or a key that compares as equal."""
    named = dict(zip(table.columns, row, strict=True))
    found: dict[Key, None] = {}
    for names in dict.fromkeys((*((table.key,) if table.folded else ()), *table.unique, *table.partly_unique)):
        values = [named[name] for name in names]
        where = " AND ".join(f"{quoted(name)} = ?" for name in names)
        for other in db.execute(f"SELECT {listed(table.key)} FROM {quoted(table.name)} WHERE {where}", values):
            if other != key:
                found[other] = None
    return list(found)
