"""What has changed in a cache: triggers that note every change of every program, in the program's own transaction.

For each table `N` of the user there are a journal `_sync_jN`, to which triggers append, and a set of dirty rows `_sync_dN`, into
which each sync folds the journal (`dirty.py`). Appending costs a bulk upsert least, keeps the values as SQLite holds them, and
a rollback takes the notes with it. A journal entry holds a key, whether a row was there (`was`), that row's image, and the time.

`INSERT OR REPLACE` deletes rows without firing DELETE triggers. So before each insert the rows that it might replace are noted:
those with its key, and those that share a unique set. A note of a row that stayed as it was falls away when the journal is folded.

Triggers of the user's that write to the row that made them fire (`updated_at`) may come before ours. So an image is noted before
the row changes, and `born` tells a row that was edited between its INSERT and our note of it.
"""

import sqlite3
from functools import cached_property

import msgspec

from bdc_pipeline.share.tables import OURS, Table, listed, quoted, read_tables

_NOW = "julianday('now')"

ABSENT, PRESENT, UNKNOWN, MARKED, REMOVED = 0, 1, 2, 3, 4
"""What was there before: no row; a row; not known. In a journal alone: a row that an INSERT may have replaced; one that went."""

INTERNAL = """
CREATE TABLE IF NOT EXISTS _sync_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _sync_table (id INTEGER PRIMARY KEY, name TEXT UNIQUE, known BLOB);
CREATE TABLE IF NOT EXISTS _sync_schema (sequence INTEGER PRIMARY KEY, hash TEXT, objects BLOB);
CREATE TABLE IF NOT EXISTS _sync_version (
    tbl TEXT, key TEXT, sequence INTEGER, updated_at INTEGER, millis INTEGER, counter INTEGER, client TEXT, gone INTEGER,
    PRIMARY KEY (tbl, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _sync_audit (
    id INTEGER PRIMARY KEY, at INTEGER, sequence INTEGER, tbl TEXT, key TEXT, outcome TEXT, rule TEXT,
    base TEXT, mine TEXT, theirs TEXT, result TEXT, client TEXT, note TEXT);
CREATE TABLE IF NOT EXISTS _sync_conflict (
    id INTEGER PRIMARY KEY, at INTEGER, sequence INTEGER, tbl TEXT, key TEXT, reason TEXT,
    base TEXT, mine TEXT, theirs TEXT, edited_at INTEGER, resolved_at INTEGER, resolution TEXT);
CREATE TABLE IF NOT EXISTS _sync_trail (sequence INTEGER PRIMARY KEY, digest BLOB);
CREATE TABLE IF NOT EXISTS _sync_history (id INTEGER PRIMARY KEY, at INTEGER, entry TEXT);
"""


class Captured(msgspec.Struct, frozen=True, dict=True):
    """A table whose changes are captured, by the number that its journal and its triggers bear."""

    id: int
    table: Table

    @cached_property
    def journal(self) -> str:
        """The table to which triggers append."""
        return f"{OURS}j{self.id}"

    @cached_property
    def dirty(self) -> str:
        """The table of rows changed here and not yet published."""
        return f"{OURS}d{self.id}"

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The journal's names of the key's values."""
        return tuple(f"k{i}" for i in range(len(self.table.key)))

    @cached_property
    def bases(self) -> tuple[str, ...]:
        """The journal's names of the values of the other columns."""
        return tuple(f"b{i}" for i in range(len(self.table.rest)))

    @cached_property
    def firsts(self) -> str:
        """A SELECT of each key in the journal, and what was there before: `was` and the image."""
        keys, bases = ", ".join(self.keys), "".join(f", {name}" for name in self.bases)
        has = f"EXISTS (SELECT 1 FROM {self.journal} WHERE was = "
        gone = f"coalesce(min(CASE WHEN was IN ({MARKED}, {REMOVED}) THEN seq END), {2**62})"
        born = (
            f"SELECT {keys} FROM {self.journal} WHERE {has}{ABSENT}) AND {has}{PRESENT}) "
            f"GROUP BY {keys} HAVING min(CASE was WHEN {ABSENT} THEN seq END) < {gone}"
        )
        return (
            f"SELECT {keys}, CASE WHEN ({keys}) IN ({born}) THEN {ABSENT} ELSE min(was, {PRESENT}) END AS was{bases} "
            f"FROM (SELECT {keys}, was{bases}, min(seq) FROM {self.journal} GROUP BY {keys})"
        )


def install(db: sqlite3.Connection) -> None:
    """Make the cache's own tables; to be called in a transaction."""
    for statement in INTERNAL.split(";"):
        if statement.strip():
            db.execute(statement)


def renew(db: sqlite3.Connection, *, published: bool) -> dict[str, Captured]:
    """Bring journals and triggers up to the tables as they are now; in a transaction.

    Every row of a table that was not known is dirty, unless what is there is `published` already. A table that was rebuilt (its
    triggers are gone, or its columns are others) is published whole, since what changed meanwhile was not noted. A column that
    was added makes no row dirty: the others get it by the same statement, with the same default.
    """
    tables = read_tables(db)
    known = _known(db, tables)
    for name in known.keys() - tables.keys():
        _forget(db, known.pop(name))
    captured: dict[str, Captured] = {}
    for name, table in tables.items():
        if name not in known:
            found = _begin(db, table)
            if not published:
                _note_all(db, found, state=ABSENT)
        else:
            found = _follow(db, known[name], table, published=published)
        captured[name] = found
        _create_triggers(db, found)
        _keep_row_numbers(db, table)
    _create_views(db, list(captured.values()))
    return captured


def doubt(db: sqlite3.Connection, reason: str) -> None:
    """What is here may not be what the log says: the next sync loads it anew, and puts what is pending on top."""
    db.execute("INSERT OR REPLACE INTO _sync_meta (name, value) VALUES ('cache.rebuild', ?)", [reason])


def note_unknown(db: sqlite3.Connection, captured: Captured) -> None:
    """Every row of a table is changed here, from something that is not known: it may be in the log, or new."""
    db.execute(f"UPDATE {captured.dirty} SET state = {UNKNOWN}")
    _note_all(db, captured, state=UNKNOWN)


def suspend(db: sqlite3.Connection, captured: Captured) -> None:
    """Drop the triggers of a table until the next `renew` or `resume`, for bulk loads."""
    for name in _triggers(captured):
        db.execute(f"DROP TRIGGER IF EXISTS {quoted(name)}")


def resume(db: sqlite3.Connection, captured: Captured) -> None:
    """Make the triggers of a table anew."""
    _create_triggers(db, captured)


def remove(db: sqlite3.Connection, kinds: tuple[str, ...] = ("trigger", "view", "index", "table")) -> None:
    """Take everything of the cache's own out of a file: triggers, views, indexes, tables."""
    for kind in kinds:
        names = db.execute(
            "SELECT name FROM sqlite_master WHERE type = ? AND sql IS NOT NULL AND (name GLOB '_sync_*' OR "
            "type = 'view' AND name IN ('sync_tracking', 'sync_metadata'))",
            [kind],
        ).fetchall()
        for (name,) in names:
            db.execute(f"DROP {kind.upper()} {quoted(name)}")


def _known(db: sqlite3.Connection, tables: dict[str, Table]) -> dict[str, Captured]:
    """The tables captured so far by their present names: SQLite takes triggers along when a table is renamed."""
    known = {}
    for ident, name, packed in db.execute("SELECT id, name, known FROM _sync_table").fetchall():
        table = msgspec.convert(msgspec.msgpack.decode(packed), Table)
        if name not in tables:
            moved = db.execute(
                "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' AND name = ?", [f"{OURS}t{ident}_bd"]
            ).fetchone()
            if moved and moved[0] in tables:
                name = moved[0]  # noqa: PLW2901
                db.execute("UPDATE _sync_table SET name = ? WHERE id = ?", [name, ident])
        known[name] = Captured(ident, table)
    return known


def _begin(db: sqlite3.Connection, table: Table) -> Captured:
    ident = db.execute("INSERT INTO _sync_table (name) VALUES (?)", [table.name]).lastrowid
    captured = Captured(int(ident or 0), table)
    _create_tables(db, captured)
    _remember(db, captured)
    return captured


def _follow(db: sqlite3.Connection, known: Captured, table: Table, *, published: bool) -> Captured:
    """Bring the journal of a known table up to its columns."""
    captured = Captured(known.id, table)
    old = known.table
    same_shape = len(old.key) == len(table.key) and old.keyless == table.keyless
    rebuilt = not _has_triggers(db, known) and not published
    if same_shape and old.rest == table.rest[: len(old.rest)]:
        _add_bases(db, captured, known)
    elif not same_shape or len(old.rest) != len(table.rest):
        _forget_tables(db, known)
        _create_tables(db, captured)
        rebuilt = True
    _remember(db, captured)
    if rebuilt and not published:
        _note_all(db, captured, state=UNKNOWN)
        if set(old.columns) <= set(table.columns):
            doubt(db, f"table {table.name} was rebuilt here; rows that the log has and it has not are looked for")
    return captured


def _add_bases(db: sqlite3.Connection, captured: Captured, known: Captured) -> None:
    """Columns that the table has gained: what they were before every edit is their default."""
    defaults = dict(zip(captured.table.columns, captured.table.defaults, strict=True))
    for name, column in zip(captured.bases[len(known.bases) :], captured.table.rest[len(known.bases) :], strict=True):
        for place in (captured.journal, captured.dirty):
            db.execute(f"ALTER TABLE {place} ADD COLUMN {name}")
            condition = f"was <> {ABSENT}" if place == captured.journal else "state = 1"
            db.execute(f"UPDATE {place} SET {name} = ({defaults[column]}) WHERE {condition}")


def _create_tables(db: sqlite3.Connection, captured: Captured) -> None:
    keys, bases = ", ".join(captured.keys), "".join(f", {name}" for name in captured.bases)
    db.execute(f"CREATE TABLE {captured.journal} (seq INTEGER PRIMARY KEY, at, was, {keys}{bases})")
    db.execute(
        f"CREATE TABLE {captured.dirty} ({keys}, state, at, millis, counter, decision{bases}, PRIMARY KEY ({keys})) "
        "WITHOUT ROWID"
    )


def _remember(db: sqlite3.Connection, captured: Captured) -> None:
    packed = msgspec.msgpack.encode(captured.table)
    db.execute("UPDATE _sync_table SET known = ? WHERE id = ?", [packed, captured.id])


def _forget(db: sqlite3.Connection, captured: Captured) -> None:
    _forget_tables(db, captured)
    db.execute("DELETE FROM _sync_table WHERE id = ?", [captured.id])


def _forget_tables(db: sqlite3.Connection, captured: Captured) -> None:
    suspend(db, captured)
    db.execute(f"DROP TABLE IF EXISTS {captured.journal}")
    db.execute(f"DROP TABLE IF EXISTS {captured.dirty}")


def _note_all(db: sqlite3.Connection, captured: Captured, *, state: int) -> None:
    """Make every row of a table dirty: new (0), or changed from something that is not known (2)."""
    db.execute(
        f"INSERT INTO {captured.dirty} ({', '.join(captured.keys)}, state, at, millis, counter) "
        f"SELECT {listed(captured.table.key)}, {state}, CAST(({_NOW} - 2440587.5) * 86400000 AS INTEGER), 0, 0 "
        f"FROM {quoted(captured.table.name)} WHERE true ON CONFLICT DO NOTHING"
    )


def _triggers(captured: Captured) -> list[str]:
    return [f"{OURS}t{captured.id}_{event}" for event in ("bi", "ai", "bu", "bc", "ak", "bd")]


def _has_triggers(db: sqlite3.Connection, captured: Captured) -> bool:
    name = _triggers(captured)[-1]
    return bool(db.execute("SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = ?", [name]).fetchone())


def _create_triggers(db: sqlite3.Connection, captured: Captured) -> None:
    """Make the triggers that are not there as they should be; those that are cost the schema's readers nothing."""
    wanted = dict(zip(_triggers(captured), _bodies(captured), strict=True))
    present = dict(
        db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name GLOB ?", [f"{OURS}t{captured.id}_*"]
        ).fetchall()
    )
    for name, body in wanted.items():
        sql = f"CREATE TRIGGER {quoted(name)} {body}" if body else None
        if present.get(name) == sql:
            continue
        if name in present:
            db.execute(f"DROP TRIGGER {quoted(name)}")
        if sql:
            db.execute(sql)


def _bodies(captured: Captured) -> tuple[str | None, ...]:
    """What follows the name of each trigger of `_triggers`, None for one that the table does not need."""
    table = captured.table
    on = f"ON {quoted(table.name)}"
    moved = " OR ".join(f"NEW.{quoted(name)} COLLATE BINARY IS NOT OLD.{quoted(name)}" for name in table.key)
    into = f"INSERT INTO {captured.journal} (at, was, {', '.join(captured.keys)}"
    absent = f"{into}) VALUES ({_NOW}, {ABSENT}, {listed(table.key, 'NEW.')});"
    bases = "".join(f", {name}" for name in captured.bases)
    image = listed(table.key + table.rest, "OLD.")
    changes = f"{into}{bases}) VALUES ({_NOW}, CASE WHEN {moved} THEN {REMOVED} ELSE {PRESENT} END, {image});"
    goes = f"{into}{bases}) VALUES ({_NOW}, {REMOVED}, {image});"
    # What an INSERT has just marked before it became an UPDATE is noted already; a look at the last entry costs least
    same = " AND ".join(f"{k} IS OLD.{quoted(name)}" for k, name in zip(captured.keys, table.key, strict=True))
    marked = f"coalesce((SELECT was = {MARKED} AND {same} FROM {captured.journal} ORDER BY seq DESC LIMIT 1), 0)"
    unique_columns = {name for names in table.unique + table.partly_unique for name in names}
    watched = tuple(sorted(unique_columns | (set() if table.keyless else set(table.key))))
    no_key = _no_null_key(table)
    return (
        f"BEFORE INSERT {on} BEGIN {no_key}{_marks(captured)} END",
        f"AFTER INSERT {on} BEGIN {absent} END",
        f"BEFORE UPDATE OF {listed(watched)} {on} BEGIN {no_key}{_marks(captured, moved=True)} END"
        if watched
        else None,
        f"BEFORE UPDATE {on} WHEN NOT {marked} BEGIN {changes} END",
        f"AFTER UPDATE {on} WHEN {moved} BEGIN {absent} END",
        f"BEFORE DELETE {on} BEGIN {goes} END",
    )


def _marks(captured: Captured, *, moved: bool = False) -> str:
    """Notes of the rows that a row about to be written might replace; for an update, of a set that it changes."""
    table = captured.table
    own = " AND ".join(f"{quoted(name)} = OLD.{quoted(name)}" for name in table.key)
    parts = []
    for names in dict.fromkeys((table.key, *table.unique, *table.partly_unique)):
        if moved and table.keyless and names == table.key:
            continue
        where = " AND ".join(f"{quoted(name)} = NEW.{quoted(name)}" for name in names)
        if moved:
            changed = " OR ".join(f"NEW.{quoted(name)} IS NOT OLD.{quoted(name)}" for name in names)
            where += f" AND ({changed}) AND NOT ({own})"
        parts.append(
            f"INSERT INTO {captured.journal} (at, was, {', '.join(captured.keys + captured.bases)}) "
            f"SELECT {_NOW}, {MARKED}, {listed(table.key + table.rest)} FROM {quoted(table.name)} WHERE {where};"
        )
    return " ".join(parts)


def _no_null_key(table: Table) -> str:
    """SQLite lets a declared key be NULL, many times; such a row has no name by which others could know it."""
    if not table.nullable_key:
        return ""
    missing = " OR ".join(f"NEW.{quoted(name)} IS NULL" for name in table.nullable_key)
    sentence = f"a row of {table.name} without a primary key cannot be shared; give it a key".replace("'", "''")
    return f"SELECT RAISE(ABORT, '{sentence}') WHERE {missing}; "


def _keep_row_numbers(db: sqlite3.Connection, table: Table) -> None:
    """VACUUM renumbers the rows of a table that has neither a row number of its own nor an index; so it gets an index, always empty."""
    if table.keyless and not table.indexed and table.columns:
        name = quoted(f"{OURS}keep_{table.name}")
        db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(table.name)} ({quoted(table.columns[0])}) WHERE 0")


def _create_views(db: sqlite3.Connection, captured: list[Captured]) -> None:
    """The views `sync_tracking` (a row for each row that is pending or was written by a segment) and `sync_metadata`."""
    published = (
        "SELECT tbl AS table_name, key AS row_key, CASE gone WHEN 1 THEN 'delete' ELSE 'write' END AS operation, "
        "updated_at AS changed_at, 1 AS synced, sequence AS version FROM _sync_version"
    )
    parts = [published]
    for one in captured:
        keys = ", ".join(f"CASE typeof({k}) WHEN 'blob' THEN hex({k}) ELSE {k} END" for k in one.keys)
        name = "'" + one.table.name.replace("'", "''") + "'"
        folded = f"SELECT {', '.join(one.keys)}, at FROM {one.dirty}"
        fresh = f"SELECT {', '.join(one.keys)}, CAST((at - 2440587.5) * 86400000 AS INTEGER) AS at FROM {one.journal}"
        parts.append(
            f"SELECT {name}, json_array({keys}), 'pending', max(at), 0, NULL FROM ({folded} UNION ALL {fresh}) "
            f"GROUP BY {', '.join(one.keys)}"
        )
    views = {
        "sync_tracking": f"CREATE VIEW sync_tracking AS {' UNION ALL '.join(parts)}",
        "sync_metadata": "CREATE VIEW sync_metadata AS SELECT name AS key, value FROM _sync_meta",
    }
    present = {name: (kind, sql) for name, kind, sql in db.execute("SELECT name, type, sql FROM sqlite_master")}
    for view, sql in views.items():
        if present.get(view, ("view",))[0] != "view":
            continue  # a table of the user's has the name
        if present.get(view) != ("view", sql):
            db.execute(f"DROP VIEW IF EXISTS {view}")
            db.execute(sql)
