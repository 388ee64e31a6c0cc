"""Taking one segment of the log into a cache, in one transaction: rows, or a change of the schema, somebody's or one's own."""

import sqlite3

from bdc_pipeline.share import clock, dirty
from bdc_pipeline.share.apply import Circumstances, Incoming, Merge, Tally
from bdc_pipeline.share.audit import key_text
from bdc_pipeline.share.capture import Captured, suspend
from bdc_pipeline.share.model import Change, Position, Segment
from bdc_pipeline.share.outgoing import realign, settle
from bdc_pipeline.share.reload import lift_all, put_back, take_back
from bdc_pipeline.share.rules import Rules
from bdc_pipeline.share.schema import SchemaBlocked, after, permitted, run
from bdc_pipeline.share.store import Store, silenced
from bdc_pipeline.share.tables import bare


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
        with silenced(store.db, captured):
            tally = Merge(store.db, captured, where).run(
                [_incoming(store, captured, segment, one) for one in segment.changes]
            )
        # What the log wrote here is no edit of ours
        for one in captured.values():
            store.db.execute(f"DELETE FROM {one.journal}")
    _keep_versions(store, segment)
    return tally


def _incoming(store: Store, captured: dict[str, Captured], segment: Segment, change: Change) -> Incoming:
    one = captured.get(change.table)
    columns = segment.columns.get(change.table, ())
    if one is None or not set(columns) <= set(one.table.columns) or len(change.key) != len(one.table.key):
        raise SchemaBlocked(
            f"segment {segment.sequence} has rows of table {change.table} that this cache's schema has no place for. Update "
            "this program or load a snapshot; until then nothing is taken from the share, and what is written here waits."
        )
    row = change.row
    if row is not None and columns != one.table.columns:
        local = dirty.find(store.db, one, change.key)
        here = local.base if local else dirty.current(store.db, one.table, change.key)
        row = realign(one, columns, row, here or bare(store.db, one.table))
    return Incoming(one, change.key, row, change.updated_at or 0, change.stamp)


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
    except sqlite3.Error:
        store.db.execute("ROLLBACK TO statements")
        return False
    finally:
        store.db.execute("RELEASE statements")
    return True


def _rebased(store: Store, captured: dict[str, Captured], segment: Segment, where: Circumstances) -> Tally:
    """Run statements on what the log has, and put what was changed here back on top of what they make of it."""
    lifted = lift_all(store.db, captured)
    with silenced(store.db, captured):
        take_back(store.db, lifted)
    for one in captured.values():
        store.db.execute(f"DELETE FROM {one.journal}")
        suspend(store.db, one)
    try:
        run(store.db, segment.statements)
    except sqlite3.Error as error:
        raise SchemaBlocked(f"the statements of segment {segment.sequence} cannot be run here: {error}") from error
    captured = store.follow(published=True)
    with silenced(store.db, captured):
        merge = put_back(store, captured, lifted, where)
    for one in captured.values():
        store.db.execute(f"DELETE FROM {one.journal}")
    return merge.tally
