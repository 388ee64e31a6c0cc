"""A whole cache at once: a snapshot of what the log has, loading one, and going back with a share restored from a backup."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bdc_pipeline.share import dirty
from bdc_pipeline.share.apply import Circumstances, Incoming, Merge, Place, Tally
from bdc_pipeline.share.audit import OpenConflict, key_text, park, read_key
from bdc_pipeline.share.capture import UNKNOWN, Captured, remove, resume, suspend
from bdc_pipeline.share.dirty import Local
from bdc_pipeline.share.errors import CacheError
from bdc_pipeline.share.model import Position, Row, Stamp, Value
from bdc_pipeline.share.related import Kin
from bdc_pipeline.share.rows import insert_sql
from bdc_pipeline.share.rules import Rules, TableRule
from bdc_pipeline.share.schema import Schema, read_schema, run, schema_hash
from bdc_pipeline.share.store import Store, silenced
from bdc_pipeline.share.tables import Table, bare, listed, quoted, shadow_tables

VERSIONS = "_sync_versions"
"""The one table of the cache's own in a snapshot: versions and tombstones, so that newest-wins goes on behind the horizon."""

_VERSION_COLUMNS = "tbl, key, sequence, updated_at, millis, counter, client, gone"


# -- a snapshot ------------------------------------------------------------------------------------------------


def write_snapshot(store: Store, to: Path) -> Position | None:
    """Copy the content at the position reached, without what is pending here, into a file.

    None where that content cannot be made: the schema has changes that are pending, or the share went back to a backup and what
    it had is not known yet. The next time it can.
    """
    for name in (to, *(to.with_name(to.name + end) for end in ("-wal", "-shm"))):
        name.unlink(missing_ok=True)
    # A copy takes the page size of what is copied, unless it is in WAL mode already, as a store's file is: then SQLite refuses
    with closing(sqlite3.connect(to)) as fresh:
        store.db.backup(fresh)
    copy = Store(to, migrations=store.migrations)
    try:
        with copy.transaction() as captured:
            position = copy.position
            locals_ = lift_all(copy.db, captured)
            if copy.statements() or any(local.state == UNKNOWN for local in locals_):
                return None
            with silenced(copy.db, captured):
                take_back(copy.db, locals_)
        _clean(copy.db)
    finally:
        copy.db.close()
    return position


def _clean(db: sqlite3.Connection) -> None:
    """Leave the content and the versions, in as few pages as they need; VACUUM must find the indexes that keep row numbers."""
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("BEGIN")
    rows = db.execute(f"SELECT {_VERSION_COLUMNS} FROM _sync_version").fetchall()
    remove(db, ("trigger", "view", "table"))
    db.execute(f"CREATE TABLE {VERSIONS} ({_VERSION_COLUMNS})")
    db.executemany(f"INSERT INTO {VERSIONS} VALUES ({', '.join('?' * 8)})", rows)
    db.execute("COMMIT")
    db.execute("VACUUM")
    remove(db, ("index",))


def copy_file(snapshot: Path, to: Path) -> list[tuple[Value, ...]]:
    """Make a file of a snapshot, with nothing of a cache's own in it; the versions that the snapshot had."""
    source, target = sqlite3.connect(f"{snapshot.absolute().as_uri()}?mode=ro", uri=True), sqlite3.connect(to)
    try:
        source.backup(target)
        versions: list[tuple[Value, ...]] = []
        if target.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [VERSIONS]).fetchone():
            versions = target.execute(f"SELECT {_VERSION_COLUMNS} FROM {VERSIONS}").fetchall()
        remove(target)
        target.commit()
    finally:
        source.close()
        target.close()
    return versions


# -- rows changed here, all of them ----------------------------------------------------------------------------


def lift_all(db: sqlite3.Connection, captured: dict[str, Captured]) -> list[Local]:
    """Every row changed here, no longer noted as such; its content stays until it is taken back."""
    found: list[Local] = []
    for one in captured.values():
        found += dirty.read(db, one)
        db.execute(f"DELETE FROM {one.dirty}")
    return found


def take_back(db: sqlite3.Connection, lifted: list[Local]) -> None:
    """Make the content what the log has: rows changed here as they were before."""
    for local in lifted:
        table = local.captured.table
        db.execute(f"DELETE FROM {quoted(table.name)} WHERE {dirty.key_match(table)}", local.key)
    for local in lifted:
        if local.base is not None:
            # A part of a larger edit, published before the rest, may stand where this row was; every reader of the log has it so
            sql = insert_sql(local.captured.table, "OR IGNORE")
            db.execute(sql, local.captured.table.values(local.key, local.base))


Become = dict[Place, Row | None]
"""What a migration makes of rows changed here."""


def put_back(
    store: Store, captured: dict[str, Captured], lifted: list[Local], where: Circumstances, become: Become | None = None
) -> Merge:
    """Put rows changed here on top of content that has become another, perhaps with other columns.

    Where a migration has been run on them (`become`), what it made of a row is put, and what it made of the row before is its base.
    """
    merge = Merge(store.db, captured, where)
    for local in lifted:
        one = captured.get(local.captured.table.name)
        if one is None or len(one.table.key) != len(local.captured.table.key):
            _park_homeless(store, local, where)
            merge.tally.parked += 1
            continue
        moved = _realigned(store.db, local, one)
        merge.lifted.append(moved)
        merge.theirs[moved.place] = theirs = _theirs(store.db, moved)
        if become is not None:
            moved.mine = become.get(moved.place, moved.mine)
            moved.base = theirs.row if moved.state != UNKNOWN else None
    merge.on_top()
    return merge


def _realigned(db: sqlite3.Connection, local: Local, one: Captured) -> Local:
    """A row changed here in the columns that its table has now."""
    if local.captured.table.columns == one.table.columns:
        return Local(one, local.key, local.state, local.base, local.mine, local.at, local.stamp, local.decision)
    old, blank = local.captured.table, dict(zip(one.table.columns, bare(db, one.table), strict=True))

    def moved(row: Row | None) -> Row | None:
        if row is None:
            return None
        named = dict(zip(old.columns, row, strict=True))
        return tuple(named.get(name, blank[name]) for name in one.table.columns)

    return Local(
        one, local.key, local.state, moved(local.base), moved(local.mine), local.at, local.stamp, local.decision
    )


def _theirs(db: sqlite3.Connection, local: Local) -> Incoming:
    table = local.captured.table
    row = db.execute(
        "SELECT updated_at, millis, counter, client FROM _sync_version WHERE tbl = ? AND key = ?",
        [table.name, key_text(local.key)],
    ).fetchone() or (0, 0, 0, "")
    stamp = Stamp(row[1] or 0, row[2] or 0, row[3] or "")
    return Incoming(local.captured, local.key, dirty.current(db, table, local.key), row[0] or 0, stamp)


def _park_homeless(store: Store, local: Local, where: Circumstances) -> None:
    """A row changed here whose table the log has no more."""
    table = local.captured.table
    base, mine = (
        None if row is None else dict(zip(table.columns, row, strict=True)) for row in (local.base, local.mine)
    )
    reason = f"table {table.name} is gone, or has another key"
    park(store.db, OpenConflict(0, where.now, where.sequence, table.name, local.key, reason, base, mine, None))


# -- loading a snapshot ----------------------------------------------------------------------------------------


def load(store: Store, file: Path, position: Position, rules: Rules, now: int) -> Tally:
    """Make a snapshot the content, and put what is pending here on top of it, in one transaction.

    Where a batch of ours is under way, it may be in the snapshot, changed since by others; then a number given twice is not
    taken for two rows, since it may be one.
    """
    with _attached(store.db, file), store.transaction(now) as before:
        if store.get("cache.inflight"):
            same = {name: _same_inserts(rules.for_table(name)) for name in before}
            rules = Rules(default=rules.default, tables={name.lower(): rule for name, rule in same.items()})
        held = Kin(store.db, before).held()
        lifted = lift_all(store.db, before)
        captured = _follow_schema(store, before, file, position)
        loaded = _copy_content(store.db, captured)
        # A table that was made here, and that the log does not know yet, has rows of here alone
        take_back(store.db, [one for one in lifted if one.captured.table.name in captured.keys() - loaded])
        _copy_versions(store.db)
        store.put_position(position)
        for name in ("inflight", "rebuild", "blocked"):
            store.put(f"cache.{name}", None)
        where = Circumstances(position.sequence, "", rules, now, store.offset, store.client)
        with silenced(store.db, captured):
            merge = put_back(store, captured, lifted, where)
            merge.park_lost(held)
        for one in captured.values():
            store.db.execute(f"DELETE FROM {one.journal}")
        return merge.tally


def _same_inserts(rule: TableRule) -> TableRule:
    return TableRule(rule.rule, rule.columns, rule.delete, "same", rule.updated_at, rule.function, rule.function_name)


@contextmanager
def _attached(db: sqlite3.Connection, file: Path) -> Iterator[None]:
    if not file.is_file():
        raise CacheError(f"there is no snapshot at {file}")
    db.execute("ATTACH ? AS snap", [file.as_posix()])
    try:
        yield
    finally:
        db.execute("DETACH snap")


def _follow_schema(store: Store, captured: dict[str, Captured], file: Path, position: Position) -> dict[str, Captured]:
    """Make the user's schema the snapshot's, and run again on top of it what is pending here."""
    wanted = _snapshot_schema(file)
    if schema_hash(wanted) == store.known_hash():
        store.put_schema(wanted, position.sequence)
        return captured
    pending = store.statements()
    keep = {(item.kind, item.name): item.sql for item in wanted}
    known = {(item.kind, item.name) for item in store.known_schema()}
    for one in captured.values():
        suspend(store.db, one)
    for item in reversed(read_schema(store.db)):
        if (item.kind, item.name) in known and (item.kind != "table" or keep.get((item.kind, item.name)) != item.sql):
            store.db.execute(f"DROP {item.kind.upper()} IF EXISTS {quoted(item.name)}")
    _make(store.db, wanted)
    run(store.db, pending)
    store.put_schema(wanted, position.sequence)
    return store.follow(published=True)


def _make(db: sqlite3.Connection, wanted: Schema) -> None:
    present = {(item.kind, item.name) for item in read_schema(db)}
    for item in wanted:
        if (item.kind, item.name) not in present:
            db.execute(item.sql)


def _snapshot_schema(file: Path) -> Schema:
    source = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return read_schema(source)
    finally:
        source.close()


def _copy_content(db: sqlite3.Connection, captured: dict[str, Captured]) -> set[str]:
    """Every row of the snapshot in place of every row here, triggers resting meanwhile; the tables that the snapshot has."""
    theirs = {row[0] for row in db.execute("SELECT name FROM snap.sqlite_master WHERE type = 'table'")}
    triggers = db.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name NOT GLOB '_sync_*'"
    ).fetchall()
    for name, _ in triggers:
        db.execute(f"DROP TRIGGER {quoted(name)}")
    for one in captured.values():
        if one.table.name in theirs:
            suspend(db, one)
            _copy_table(db, one.table)
            resume(db, one)
    # What a virtual table holds is in its shadow tables; copied as it is, it belongs to the rows copied
    for name in shadow_tables(db):
        if name in theirs:
            db.execute(f"DELETE FROM main.{quoted(name)}")
            db.execute(f"INSERT INTO main.{quoted(name)} SELECT * FROM snap.{quoted(name)}")
    for _, sql in triggers:
        db.execute(sql)
    return theirs


def _copy_table(db: sqlite3.Connection, table: Table) -> None:
    db.execute(f"DELETE FROM main.{quoted(table.name)}")
    have = {row[1] for row in db.execute(f"PRAGMA snap.table_xinfo({quoted(table.name)})") if row[6] == 0}
    columns = listed([name for name in table.stored if name in have or (table.keyless and name in table.key)])
    db.execute(
        f"INSERT INTO main.{quoted(table.name)} ({columns}) SELECT {columns} FROM snap.{quoted(table.name)} "
        f"ORDER BY {listed(table.key)}"
    )


def _copy_versions(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM _sync_version")
    if db.execute("SELECT 1 FROM snap.sqlite_master WHERE name = ?", [VERSIONS]).fetchone():
        db.execute(f"INSERT INTO _sync_version ({_VERSION_COLUMNS}) SELECT {_VERSION_COLUMNS} FROM snap.{VERSIONS}")


# -- a share restored from a backup ----------------------------------------------------------------------------


def rewind(store: Store, position: Position) -> int:
    """The share's log ends at `position` again: what later segments wrote, whoever wrote it, becomes pending; the number of rows.

    Every client does so, and what they publish alike falls together as equal; where they had got to different points, the row
    that was edited last wins by its rule. What was there before is not known, and merges do without it.
    """
    with store.transaction() as captured:
        rows = store.db.execute(
            "SELECT tbl, key, updated_at, millis, counter FROM _sync_version WHERE sequence > ?", [position.sequence]
        ).fetchall()
        for name, key, updated_at, millis, counter in rows:
            if one := captured.get(name):
                at, place = (updated_at or store.machine()) - store.offset, read_key(key)
                known = dirty.find(store.db, one, place)
                at = max(at, known.at) if known else at
                dirty.note(store.db, Local(one, place, UNKNOWN, None, None, at, Stamp(millis, counter)))
        store.db.execute("DELETE FROM _sync_version WHERE sequence > ?", [position.sequence])
        store.db.execute(
            "DELETE FROM _sync_schema WHERE sequence > ? AND sequence > (SELECT min(sequence) FROM _sync_schema)",
            [position.sequence],
        )
        store.put_position(position)
        store.put("cache.inflight", None)
    return len(rows)
