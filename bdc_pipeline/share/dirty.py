"""The dirty rows of a cache: folding the journals into them, reading, lifting one off its table, and noting one.

A dirty row says what was there before this machine changed it (`state`: 0 no row, 1 the image kept here, 2 not known), when it was
changed last (ms, this machine's clock), and the logical clock of the change. What is there now is in the table itself.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from bdc_pipeline.share.capture import PRESENT, Captured
from bdc_pipeline.share.model import Key, Row, Stamp, Value
from bdc_pipeline.share.tables import Table, listed, quoted


class Local(msgspec.Struct):
    """One row changed here: `base` is the row before (None also where that is not known), `mine` the row now."""

    captured: Captured
    key: Key
    state: int
    base: Row | None
    mine: Row | None
    at: int
    stamp: Stamp
    decision: str | None = None

    @property
    def place(self) -> tuple[str, Key]:
        """Table and key."""
        return self.captured.table.name, self.key


def fold(db: sqlite3.Connection, captured: Iterable[Captured], stamp: Stamp) -> int:
    """Move what the journals hold to the dirty rows; the number of journal entries. In a transaction.

    A key's first entry tells what was there before (see `capture`), its last when it was changed. A row that is as it was falls away: an edit
    taken back, a note of a row that an INSERT might have replaced.
    """
    folded = 0
    for one in captured:
        entries = db.execute(f"SELECT count(*) FROM {one.journal}").fetchone()[0]
        if entries:
            _fold(db, one, stamp)
            folded += entries
    return folded


def _fold(db: sqlite3.Connection, one: Captured, stamp: Stamp) -> None:
    keys, bases = ", ".join(one.keys), "".join(f", {name}" for name in one.bases)
    match = " AND ".join(f"{one.dirty}.{k} = last.{k}" for k in one.keys)
    db.execute(
        f"INSERT INTO {one.dirty} ({keys}, state, at, millis, counter{bases}) SELECT {keys}, was, 0, 0, 0{bases} "
        f"FROM ({one.firsts}) WHERE true ON CONFLICT DO NOTHING"
    )
    db.execute(
        f"UPDATE {one.dirty} SET at = last.ms, millis = ?, counter = ?, decision = NULL FROM (SELECT {keys}, "
        f"CAST((at - 2440587.5) * 86400000 + 0.5 AS INTEGER) AS ms, max(seq) FROM {one.journal} GROUP BY {keys}) AS last "
        f"WHERE {match}",
        [stamp.millis, stamp.counter],
    )
    drop_unchanged(db, one, journaled=True)
    db.execute(f"DELETE FROM {one.journal}")


def drop_unchanged(db: sqlite3.Connection, one: Captured, *, journaled: bool = False) -> None:
    """Forget dirty rows that are as they were before (of those in the journal, or of all)."""
    table = one.table
    alike = [f"d.{k} = t.{quoted(name)}" for k, name in zip(one.keys, table.key, strict=True)]
    alike += [f"d.{k} IS t.{quoted(name)}" for k, name in zip(one.keys, table.key, strict=True) if table.folded]
    same = [f"d.{b} IS t.{quoted(name)}" for b, name in zip(one.bases, table.rest, strict=True)]
    same += [
        f"typeof(d.{b}) = typeof(t.{quoted(name)})"
        for b, name in zip(one.bases, table.rest, strict=True)
        if name in table.untyped
    ]
    keys = ", ".join(one.keys)
    there = f"FROM {quoted(table.name)} AS t WHERE {' AND '.join(alike)}"
    source = f"(SELECT DISTINCT {keys} FROM {one.journal}) AS j JOIN {one.dirty} AS d USING ({keys})"
    unchanged = (
        f"SELECT {', '.join(f'd.{k}' for k in one.keys)} FROM {source if journaled else f'{one.dirty} AS d'} "
        f"WHERE (d.state = 0 AND NOT EXISTS (SELECT 1 {there})) "
        f"OR (d.state = 1 AND EXISTS (SELECT 1 {' AND '.join([there, *same])}))"
    )
    db.execute(f"DELETE FROM {one.dirty} WHERE ({keys}) IN ({unchanged})")


def count(db: sqlite3.Connection, one: Captured) -> int:
    """How many rows of a table are dirty, those included that are only in the journal so far; reads only."""
    keys = ", ".join(one.keys)
    if not db.execute(f"SELECT 1 FROM {one.journal} LIMIT 1").fetchone():
        return int(db.execute(f"SELECT count(*) FROM {one.dirty}").fetchone()[0])
    table = one.table
    alike = " AND ".join(f"j.{k} = t.{quoted(name)}" for k, name in zip(one.keys, table.key, strict=True))
    same = "".join(f" AND j.{b} IS t.{quoted(name)}" for b, name in zip(one.bases, table.rest, strict=True))
    there = f"SELECT 1 FROM {quoted(table.name)} AS t WHERE {alike}"
    changed = f"SELECT {keys} FROM ({one.firsts}) AS j WHERE (was = 0 AND EXISTS ({there})) OR (was <> 0 AND NOT EXISTS ({there}{same}))"
    return int(db.execute(f"SELECT count(*) FROM (SELECT {keys} FROM {one.dirty} UNION {changed})").fetchone()[0])


def oldest(db: sqlite3.Connection, one: Captured) -> int | None:
    """When the row of a table was changed that waits longest (ms, this machine's clock), or None."""
    found = db.execute(
        f"SELECT min(at) FROM (SELECT min(at) AS at FROM {one.dirty} "
        f"UNION ALL SELECT CAST((min(at) - 2440587.5) * 86400000 AS INTEGER) FROM {one.journal})"
    ).fetchone()[0]
    return None if found is None else int(found)


def key_match(table: Table) -> str:
    """A WHERE clause for one key, its values bound by number; exact also where the key compares by another collation."""
    parts = [f"{quoted(name)} = ?{i}" for i, name in enumerate(table.key, 1)]
    if table.folded:
        parts += [f"{quoted(name)} COLLATE BINARY = ?{i}" for i, name in enumerate(table.key, 1)]
    return " AND ".join(parts)


@lru_cache(maxsize=1000)
def _current_sql(table: Table) -> str:
    return f"SELECT {listed(table.columns)} FROM {quoted(table.name)} WHERE {key_match(table)}"


@lru_cache(maxsize=1000)
def _find_sql(one: Captured) -> str:
    where = " AND ".join(f"{k} = ?{i}" for i, k in enumerate(one.keys, 1))
    return f"SELECT {', '.join((*_NOTE, *one.bases))} FROM {one.dirty} WHERE {where}"


def current(db: sqlite3.Connection, table: Table, key: Key) -> Row | None:
    """The row of a key as it is in its table, or None."""
    row: Row | None = db.execute(_current_sql(table), key).fetchone()
    return row


def read(db: sqlite3.Connection, one: Captured, limit: int = -1) -> Iterator[Local]:
    """The dirty rows of a table by key, with what is there now."""
    table = one.table
    match = [f"t.{quoted(name)} = d.{k}" for k, name in zip(one.keys, table.key, strict=True)]
    match += [f"d.{k} IS t.{quoted(name)}" for k, name in zip(one.keys, table.key, strict=True) if table.folded]
    rows = db.execute(
        f"SELECT {', '.join(f'd.{name}' for name in (*one.keys, *_NOTE, *one.bases))}, t.{quoted(table.key[0])} IS NOT NULL, "
        f"{listed(table.columns, 't.')} FROM {one.dirty} AS d LEFT JOIN {quoted(table.name)} AS t ON {' AND '.join(match)} "
        f"ORDER BY {', '.join(f'd.{k}' for k in one.keys)} LIMIT ?",
        [limit],
    )
    keys, bases = len(one.keys), len(one.keys) + len(_NOTE) + len(one.bases)
    for row in rows:
        mine = row[bases + 1 :] if row[bases] else None
        yield _local(one, row[:keys], row[keys:bases], mine)


_NOTE = ("state", "at", "millis", "counter", "decision")


def find(db: sqlite3.Connection, one: Captured, key: Key) -> Local | None:
    """The dirty row of a key, or None where the row is as the log has it."""
    row = db.execute(_find_sql(one), key).fetchone()
    return _local(one, key, row, current(db, one.table, key)) if row else None


def _local(one: Captured, key: Key, note: tuple[Value, ...], mine: Row | None) -> Local:
    state, at, millis, counter, decision = note[:5]
    base = one.table.compose(key, note[5:]) if state == PRESENT else None
    return Local(one, key, state, base, mine, at, Stamp(millis, counter), decision)  # type: ignore[arg-type]


def forget(db: sqlite3.Connection, one: Captured, keys: Iterable[Key]) -> None:
    """These rows are as the log has them."""
    db.executemany(f"DELETE FROM {one.dirty} WHERE {' AND '.join(f'{k} = ?' for k in one.keys)}", keys)


def note(db: sqlite3.Connection, local: Local) -> None:
    """This row is changed here, against the base that the log has now."""
    one = local.captured
    base = one.table.split(local.base) if local.base is not None else (None,) * len(one.bases)
    names = (*one.keys, *_NOTE, *one.bases)
    db.execute(
        f"INSERT OR REPLACE INTO {one.dirty} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        [*local.key, local.state, local.at, local.stamp.millis, local.stamp.counter, local.decision, *base],
    )
