"""The plain database on the share, as older programs write it: their changes are noted by triggers and claimed by one client.

`_sync_outbox` gets the key of every row that a program touches. A client that brings the view up to date claims what is in it, in
the same transaction: each row's image, under a number that never comes twice, goes into `_sync_claim`, so that nothing is lost
when that client dies before its cache has it. When its cache says up to which number it has them, they are deleted.

`INSERT OR REPLACE` deletes rows without firing DELETE triggers, so the rows that an insert might replace are noted before it.
"""

from __future__ import annotations

import sqlite3
import time

import msgspec

from bdc_pipeline.share.model import Change, Key, Position, Stamp, Value
from bdc_pipeline.share.tables import Table, listed, quoted, read_tables

__all__ = [
    "Drained",
    "claim",
    "claimed",
    "forget_claimed",
    "install",
    "note_new_tables",
    "position_of",
    "set_applying",
    "set_position",
]

ABANDONED_MS = 7 * 86_400_000
"""After so long, the claims of a client that has not come back are another's."""

NOW_MS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

TABLES = """
CREATE TABLE IF NOT EXISTS _sync_view (
    id INTEGER PRIMARY KEY CHECK (id = 1), share TEXT, sequence INTEGER, digest BLOB, applying INTEGER, number INTEGER);
CREATE TABLE IF NOT EXISTS _sync_outbox (id INTEGER PRIMARY KEY, tbl TEXT, at INTEGER, new INTEGER, k0);
CREATE TABLE IF NOT EXISTS _sync_claim (
    number INTEGER PRIMARY KEY, client TEXT, claimed_at INTEGER, tbl TEXT, at INTEGER, base INTEGER, content BLOB);
CREATE TABLE IF NOT EXISTS _sync_made (name TEXT PRIMARY KEY, sql TEXT)
"""


class Drained(msgspec.Struct, frozen=True, array_like=True):
    """What older programs wrote into the plain database. `number` is the last claim's; a cache that has them keeps it.

    A change's `base` is the view's position when it was written, its rows have the columns in `columns`, its
    `decision` is "inserted" where the row was not there before. `statements` make these tables as they are there, for a cache
    that does not have a table yet that an older program has made, or a column.
    """

    number: int
    columns: dict[str, tuple[str, ...]]
    changes: tuple[Change, ...]
    statements: tuple[str, ...] = ()


class _Content(msgspec.Struct, array_like=True):
    """What a claim holds."""

    key: tuple[Value, ...]
    row: tuple[Value, ...] | None
    columns: tuple[str, ...]
    inserted: bool


def install(db: sqlite3.Connection, share: str) -> dict[str, Table]:
    """Make the outbox and its triggers as the tables are now; in a transaction. Returns the tables."""
    for statement in TABLES.split(";"):
        db.execute(statement)
    db.execute("INSERT OR IGNORE INTO _sync_view VALUES (1, ?, 0, x'', 0, 0)", [share])
    tables = read_tables(db)
    _widen(db, max((len(table.key) for table in tables.values()), default=1))
    wanted = {name: sql for table in tables.values() for name, sql in _triggers(table)}
    present = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name GLOB '_sync_o_*'"))
    for name in present.keys() - wanted.keys():
        db.execute(f"DROP TRIGGER {quoted(name)}")
    for name, sql in wanted.items():
        if present.get(name) != sql:
            db.execute(f"DROP TRIGGER IF EXISTS {quoted(name)}")
            db.execute(sql)
    return tables


def note_new_tables(db: sqlite3.Connection) -> None:
    """Note all rows of tables that older programs have made: those without triggers. In a transaction, before `install`."""
    present = {
        name
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB '_sync_o_*'")
    }
    tables = read_tables(db)
    new = [table for table in tables.values() if f"_sync_o_ai_{table.name}" not in present]
    _widen(db, max((len(table.key) for table in new), default=1))
    for table in new:
        db.execute(f"{_note(table, listed(table.key), new=True)} FROM {quoted(table.name)}")
        db.execute("INSERT OR IGNORE INTO _sync_made SELECT name, sql FROM sqlite_master WHERE name = ?", [table.name])


def position_of(db: sqlite3.Connection, share: str) -> Position | None:
    """How far the view has come in this share's log; None where it follows another's, or none yet."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sync_view'").fetchone():
        return None
    known, sequence, digest = db.execute("SELECT share, sequence, digest FROM _sync_view").fetchone()
    if known != share and sequence:
        return None
    return Position(sequence, digest)


def set_position(db: sqlite3.Connection, share: str, position: Position) -> None:
    """Note how far the view has come."""
    db.execute("UPDATE _sync_view SET share = ?, sequence = ?, digest = ?", [share, position.sequence, position.digest])


def set_applying(db: sqlite3.Connection, *, on: bool) -> None:
    """Keep what is applied out of the outbox. Set and taken back within one transaction, so no other program sees it."""
    db.execute("UPDATE _sync_view SET applying = ?", [on])


def claim(db: sqlite3.Connection, client: str, tables: dict[str, Table], stored: int = 0) -> int:
    """Move what is in the outbox to this client's claims, with the rows as they are now; returns how many. In a transaction.

    In a database that was restored from a backup or made anew, numbers begin again; the client has those up to `stored` already.
    """
    now = int(time.time() * 1000)
    db.execute(
        "UPDATE _sync_claim SET client = ?, claimed_at = ? WHERE claimed_at < ?", [client, now, now - ABANDONED_MS]
    )
    number: int
    number, base = db.execute("SELECT number, sequence FROM _sync_view").fetchone()
    first = number = max(number, stored)
    for table in tables.values():
        for key, (at, inserted) in _noted(db, table).items():
            row = _image(db, table, key)
            if row is None and inserted:
                continue  # came and went
            number += 1
            content = msgspec.msgpack.encode(_Content(key, row, table.columns, inserted))
            db.execute(
                "INSERT INTO _sync_claim VALUES (?, ?, ?, ?, ?, ?, ?)",
                [number, client, now, table.name, at, base, content],
            )
    db.execute("DELETE FROM _sync_outbox")
    db.execute("UPDATE _sync_view SET number = ?", [number])
    return number - first


def claimed(db: sqlite3.Connection, client: str, stored: int) -> Drained | None:
    """This client's claims after number `stored`, which its cache has already; None when there are none."""
    rows = db.execute(
        "SELECT number, tbl, at, base, content FROM _sync_claim WHERE client = ? AND number > ? ORDER BY number",
        [client, stored],
    ).fetchall()
    if not rows:
        return None
    changes, columns = [], {}
    for _, table, at, base, packed in rows:
        content = msgspec.msgpack.decode(packed, type=_Content)
        columns[table] = content.columns
        decision = "inserted" if content.inserted else None
        changes.append(Change(table, content.key, base, content.row, at, Stamp(at, 0, "older program"), decision))
    made = db.execute("SELECT name, sql FROM _sync_made ORDER BY rowid").fetchall()
    present = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
    statements = dict(made) | {name: sql for name, sql in present if name in columns}
    return Drained(rows[-1][0], columns, tuple(changes), tuple(statements.values()))


def forget_claimed(db: sqlite3.Connection, client: str, stored: int) -> bool:
    """Delete this client's claims up to number `stored`: its cache has them. Whether there were any."""
    return db.execute("DELETE FROM _sync_claim WHERE client = ? AND number <= ?", [client, stored]).rowcount > 0


def _noted(db: sqlite3.Connection, table: Table) -> dict[Key, tuple[int, bool]]:
    """The keys that were touched: when last, and whether the row was not there before."""
    keys = ", ".join(f"k{place}" for place in range(len(table.key)))
    noted: dict[Key, tuple[int, bool]] = {}
    for at, new, *key in db.execute(
        f"SELECT at, new, {keys} FROM _sync_outbox WHERE tbl = ? ORDER BY id", [table.name]
    ):
        _, inserted = noted.get(tuple(key), (0, bool(new)))
        noted[tuple(key)] = at, inserted
    return noted


def _image(db: sqlite3.Connection, table: Table, key: Key) -> tuple[Value, ...] | None:
    where = " AND ".join(f"{quoted(name)} IS ?" for name in table.key)
    row: tuple[Value, ...] | None = db.execute(
        f"SELECT {listed(table.columns)} FROM {quoted(table.name)} WHERE {where}", key
    ).fetchone()
    return row


def _widen(db: sqlite3.Connection, keys: int) -> None:
    present = {row[1] for row in db.execute("PRAGMA table_info(_sync_outbox)")}
    for place in range(keys):
        if f"k{place}" not in present:
            db.execute(f"ALTER TABLE _sync_outbox ADD COLUMN k{place}")


def _triggers(table: Table) -> list[tuple[str, str]]:
    """Names and definitions of a table's triggers."""
    on = f"ON {quoted(table.name)} WHEN (SELECT applying FROM _sync_view) = 0"
    moved = " OR ".join(f"NEW.{quoted(name)} COLLATE BINARY IS NOT OLD.{quoted(name)}" for name in table.key)
    came, went = _note(table, listed(table.key, "NEW."), new=True), _note(table, listed(table.key, "OLD."))
    sets = (*table.unique, *table.partly_unique)
    inserted = "".join(_replaced(table, names) for names in (table.key, *sets))
    others = " AND NOT (" + " AND ".join(f"{quoted(name)} IS OLD.{quoted(name)}" for name in table.key) + ")"
    updated = "".join(_replaced(table, names, others) for names in (table.key, *sets))
    bodies = {
        "bi": f"BEFORE INSERT {on} BEGIN {inserted} END",
        "ai": f"AFTER INSERT {on} BEGIN {came}; END",
        "bu": f"BEFORE UPDATE {on} BEGIN {went}; {updated} END",
        "au": f"AFTER UPDATE {on} BEGIN {came} WHERE {moved}; END",
        "ad": f"AFTER DELETE {on} BEGIN {went}; END",
    }
    names = {event: f"_sync_o_{event}_{table.name}" for event in bodies}
    return [(names[event], f"CREATE TRIGGER {quoted(names[event])} {body}") for event, body in bodies.items()]


def _replaced(table: Table, names: tuple[str, ...], others: str = "") -> str:
    """Notes the rows whose place in a unique set the new row may take."""
    where = " AND ".join(f"{quoted(name)} = NEW.{quoted(name)}" for name in names) + others
    return f"{_note(table, listed(table.key))} FROM {quoted(table.name)} WHERE {where}; "


def _note(table: Table, values: str, *, new: bool = False) -> str:
    keys = ", ".join(f"k{place}" for place in range(len(table.key)))
    name = table.name.replace("'", "''")
    return f"INSERT INTO _sync_outbox (tbl, at, new, {keys}) SELECT '{name}', {NOW_MS}, {new:d}, {values}"
