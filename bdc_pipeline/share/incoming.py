"""Taking one segment of the log into a cache, in one transaction: rows, or a change of the schema, somebody's or one's own."""

import sqlite3
from contextlib import closing

from bdc_pipeline.share import clock, dirty
from bdc_pipeline.share.apply import Circumstances, Incoming, Merge, Place, Tally
from bdc_pipeline.share.audit import key_text
from bdc_pipeline.share.capture import Captured, suspend
from bdc_pipeline.share.dirty import Local
from bdc_pipeline.share.model import Change, Position, Row, Segment
from bdc_pipeline.share.outgoing import realign, settle
from bdc_pipeline.share.reload import Become, lift_all, put_back, take_back
from bdc_pipeline.share.rows import insert_sql
from bdc_pipeline.share.rules import Rules
from bdc_pipeline.share.schema import SchemaBlocked, after, permitted, run
from bdc_pipeline.share.store import Store, silenced
from bdc_pipeline.share.tables import bare, read_tables


def take(store: Store, segment: Segment, digest: bytes, rules: Rules, now: int, *, own: bool) -> Tally:
    """Apply a segment that is the next one."""
    try:
        with store.transaction(now) as captured:
            tally = _taken(store, captured, segment, rules, now, own=own)
            store.put_stamp(clock.observe(store.stamp, segment.stamp, now))
            store.put_position(Position(segment.sequence, digest))
            store.put("cache.blocked", None)
            if own:
                store.put("cache.inflight", None)
            if tally.rebuild:
                store.put(
                    "cache.rebuild", f"segment {segment.sequence} left a row open; load a snapshot to make sure of it"
                )
            return tally
    except SchemaBlocked as error:
        store.put("cache.blocked", str(error))
        raise


def _taken(
    store: Store, captured: dict[str, Captured], segment: Segment, rules: Rules, now: int, *, own: bool
) -> Tally:
    where = Circumstances(segment.sequence, segment.client, rules, now, store.offset, store.client)
    if segment.statements:
        return _follow(store, captured, segment, where, own=own)
    if own:
        settle(store, captured, segment)
        tally = Tally()
    else:
        rows = _rows(store, captured, segment)
        with silenced(store.db, captured):
            tally = Merge(store.db, captured, where).run(rows)
        # What the log wrote here is no edit of ours
        for one in captured.values():
            store.db.execute(f"DELETE FROM {one.journal}")
    _keep_versions(store, segment)
    return tally


def _rows(store: Store, captured: dict[str, Captured], segment: Segment) -> list[Incoming]:
    """The rows of a segment in the columns of the tables here.

    Raises SchemaBlocked where they have no place here, or where the schema was changed here in a way that could lose rows.
    """
    pending = store.statements()
    foreign = [name for name, columns in segment.columns.items() if not _fits(captured.get(name), columns)]
    moved = _migrated(store, segment, pending) if foreign and pending else {}
    return [_incoming(store, captured, segment, change, moved) for change in segment.changes]


def _fits(one: Captured | None, columns: tuple[str, ...]) -> bool:
    return one is not None and set(columns) <= set(one.table.columns)


def _incoming(
    store: Store, captured: dict[str, Captured], segment: Segment, change: Change, moved: dict[Place, Row | None]
) -> Incoming:
    one, columns, row = captured.get(change.table), segment.columns[change.table], change.row
    if one is None or len(change.key) != len(one.table.key):
        raise _homeless(segment, change)
    if row is not None and columns != one.table.columns:
        if _fits(one, columns):
            local = dirty.find(store.db, one, change.key)
            here = local.base if local else dirty.current(store.db, one.table, change.key)
            row = realign(one, columns, row, here or bare(store.db, one.table))
        elif (row := moved.get((change.table, change.key))) is None:
            raise _homeless(segment, change)
    return Incoming(one, change.key, row, change.updated_at or 0, change.stamp)


def _homeless(segment: Segment, change: Change) -> SchemaBlocked:
    return SchemaBlocked(
        f"segment {segment.sequence} has rows of table {change.table} that this cache's schema has no place for. Update "
        "this program or load a snapshot; until then nothing is taken from the share, and what is written here waits."
    )


def _migrated(store: Store, segment: Segment, statements: tuple[str, ...]) -> dict[Place, Row | None]:
    """Rows of the log's schema as the migration that is pending here will make them: it is run on them, in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        for item in store.known_schema():
            if item.kind != "trigger":
                scratch.execute(item.sql)
        before = read_tables(scratch)
        places = [(change.table, change.key, change.row) for change in segment.changes if change.table in before]
        for name, key, row in places:
            if row is not None:
                scratch.execute(insert_sql(before[name], "OR REPLACE"), before[name].values(key, row))
        for statement in statements:
            scratch.execute(statement)
        after_ = read_tables(scratch)
        return {(name, key): dirty.current(scratch, after_[name], key) for name, key, _ in places if name in after_}


def _keep_versions(store: Store, segment: Segment) -> None:
    store.db.executemany(
        "INSERT OR REPLACE INTO _sync_version (tbl, key, sequence, updated_at, millis, counter, client, gone) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                change.table,
                key_text(change.key),
                segment.sequence,
                change.updated_at,
                change.stamp.millis,
                change.stamp.counter,
                change.stamp.client,
                change.row is None,
            )
            for change in segment.changes
        ),
    )


# -- the schema ------------------------------------------------------------------------------------------------


def _follow(store: Store, captured: dict[str, Captured], segment: Segment, where: Circumstances, *, own: bool) -> Tally:
    """A change of the schema. What only adds is run as it is; before all else, rows changed here step aside."""
    tally = Tally()
    name = f"{segment.schema}->{segment.new_schema}"
    if not own:
        permitted(segment.statements, name, store.migrations)
        if name in store.migrations or not _simply(store, segment):
            tally = _rebased(store, captured, segment, where)
        store.follow(published=True)
    try:
        store.put_schema(after(store.known_schema(), segment.statements), segment.sequence)
    except sqlite3.Error as error:
        raise SchemaBlocked(f"the statements of segment {segment.sequence} cannot be followed here: {error}") from error
    return tally


def _simply(store: Store, segment: Segment) -> bool:
    """Run statements where nothing here is in their way; False where something is, and then nothing is run."""
    store.db.execute("SAVEPOINT statements")
    try:
        run(store.db, segment.statements)
    except sqlite3.Error as error:
        if not _is_refusal(error):
            raise
        store.db.execute("ROLLBACK TO statements")
        return False
    finally:
        if store.db.in_transaction:
            store.db.execute("RELEASE statements")
    return True


def _is_refusal(error: sqlite3.Error) -> bool:
    """Whether SQLite refuses the statement, and not the machine: a full disk or an interrupt says nothing of a statement."""
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT}


def _rebased(store: Store, captured: dict[str, Captured], segment: Segment, where: Circumstances) -> Tally:
    """Run statements on what the log has, and put what was changed here back on top of what they make of it.

    They are run on the rows changed here too, and undone, to see what those become.
    """
    lifted = lift_all(store.db, captured)
    for one in captured.values():
        suspend(store.db, one)
    mine = _as_they_become(store, segment, lifted)
    with silenced(store.db, captured):
        take_back(store.db, lifted)
    for one in captured.values():
        store.db.execute(f"DELETE FROM {one.journal}")
    try:
        run(store.db, segment.statements)
    except sqlite3.Error as error:
        if not _is_refusal(error):
            raise
        raise SchemaBlocked(f"the statements of segment {segment.sequence} cannot be run here: {error}") from error
    captured = store.follow(published=True)
    with silenced(store.db, captured):
        merge = put_back(store, captured, lifted, where, mine)
    for one in captured.values():
        store.db.execute(f"DELETE FROM {one.journal}")
    return merge.tally


def _as_they_become(store: Store, segment: Segment, lifted: list[Local]) -> Become:
    """What statements make of the rows changed here; empty where they cannot be run on them."""
    if not lifted:
        return {}
    store.db.execute("SAVEPOINT trial")
    try:
        run(store.db, segment.statements)
        tables = read_tables(store.db)
        return {
            local.place: dirty.current(store.db, tables[local.captured.table.name], local.key)
            for local in lifted
            if local.mine is not None and local.captured.table.name in tables
        }
    except sqlite3.Error as error:
        if not _is_refusal(error):
            raise
        return {}
    finally:
        if store.db.in_transaction:
            store.db.execute("ROLLBACK TO trial")
            store.db.execute("RELEASE trial")
