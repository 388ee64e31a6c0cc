"""From dirty rows to a segment, and from the segment that has arrived in the log back to clean rows."""

import uuid
from collections.abc import Iterator

from bdc_pipeline.share import clock, dirty
from bdc_pipeline.share.audit import key_text
from bdc_pipeline.share.capture import ABSENT, PRESENT, Captured
from bdc_pipeline.share.dirty import Local
from bdc_pipeline.share.model import Change, Key, Row, Segment, Stamp
from bdc_pipeline.share.rows import same
from bdc_pipeline.share.rules import Rules
from bdc_pipeline.share.schema import after, schema_hash
from bdc_pipeline.share.store import Store
from bdc_pipeline.share.tables import bare


def build(store: Store, captured: dict[str, Captured], rules: Rules, limit: int, user: str, now: int) -> Segment | None:
    """The next segment of what is pending, at the end of the log as this cache knows it; in a transaction.

    Its batch id is kept before anybody sees it, and kept until it is found in the log. What is found there counts, not what was
    meant: `settle` compares the images published with the rows as they are. So a batch that is built again after a crash may
    hold other rows under the same id, and the id can be in the log once only, since every try is for the next number.
    """
    statements = store.statements()
    known = store.known_hash()
    store.put("cache.unreadable", None)
    changes = () if statements else tuple(_changes(store, captured, rules, limit, now))
    if not statements and not changes:
        return None  # a batch under way stays known: it may be in the log, and all of it taken back here since
    batch = store.get("cache.inflight") or uuid.uuid4().hex
    store.put("cache.inflight", batch)
    stamp = clock.tick(store.stamp, now, store.client)
    store.put_stamp(stamp)
    position = store.position
    return Segment(
        sequence=position.sequence + 1,
        previous=position.digest,
        client=store.client,
        batch=batch,
        user=user,
        stamp=stamp,
        schema=known,
        columns={name: captured[name].table.columns for name in dict.fromkeys(change.table for change in changes)},
        changes=changes,
        statements=statements,
        new_schema=schema_hash(after(store.known_schema(), statements)) if statements else known,
    )


def _changes(store: Store, captured: dict[str, Captured], rules: Rules, limit: int, now: int) -> Iterator[Change]:
    """What is pending, parents before children, at most `limit` rows."""
    left = limit
    client, offset = store.client, store.offset
    for one in captured.values():
        if left <= 0:
            return
        for local in _readable(store, one, left):
            left -= 1
            yield _change(store, local, when(local, rules, offset, now), client)


def _readable(store: Store, one: Captured, limit: int) -> Iterator[Local]:
    """The dirty rows of a table; those whose key is text that is not UTF-8 wait, and are told about, and hold up no others."""
    for local in dirty.read(store.db, one):
        if limit <= 0:
            return
        if any(isinstance(value, bytes) for value in local.key) and dirty.find(store.db, one, local.key) is None:
            told = (
                f"a row of {one.table.name} waits here, since its key {local.key!r} is text that is not UTF-8: mend it"
            )
            store.put("cache.unreadable", told)
            continue
        limit -= 1
        yield local


def _change(store: Store, local: Local, updated_at: int, client: str) -> Change:
    table = local.captured.table
    version = store.db.execute(
        "SELECT sequence FROM _sync_version WHERE tbl = ? AND key = ?", [table.name, key_text(local.key)]
    ).fetchone()
    return Change(
        table=table.name,
        key=local.key,
        base=version[0] if version else 0,
        row=local.mine,
        updated_at=updated_at,
        stamp=Stamp(local.stamp.millis, local.stamp.counter, client),
        decision=local.decision,
    )


def when(local: Local, rules: Rules, offset: int, now: int) -> int:
    """When a row was changed here, on the share's clock."""
    table = local.captured.table
    column = rules.for_table(table.name).updated_at
    place = table.columns.index(column) if column in table.columns else None
    return clock.edited_at(
        stated=local.mine[place] if place is not None and local.mine else None,
        stated_before=local.base[place] if place is not None and local.base else None,
        captured=local.at,
        offset=offset,
        now=now,
    )


def settle(store: Store, captured: dict[str, Captured], segment: Segment) -> int:
    """Our own segment is in the log: what is as it was published is clean; the number of its rows.

    A row that has been changed since is dirty against what was published, also where it has gone back to what it was before.
    """
    clean: dict[str, list[Key]] = {}
    for change in segment.changes:
        one = captured.get(change.table)
        if one is None:
            continue
        local = dirty.find(store.db, one, change.key)
        mine = local.mine if local else dirty.current(store.db, one.table, change.key)
        here = mine or bare(store.db, one.table)
        row = None if change.row is None else realign(one, segment.columns[change.table], change.row, here)
        if same(mine, row):
            clean.setdefault(change.table, []).append(change.key)
            continue
        at = local.at if local else store.machine()
        stamp = local.stamp if local else store.stamp
        dirty.note(store.db, Local(one, change.key, ABSENT if row is None else PRESENT, row, mine, at, stamp))
    for name, keys in clean.items():
        dirty.forget(store.db, captured[name], keys)
    return len(segment.changes)


def realign(one: Captured, columns: tuple[str, ...], row: Row, here: Row) -> Row:
    """A row of a segment in the order of the columns here; a column that only this cache has is as it is `here`."""
    if columns == one.table.columns:
        return row
    named = dict(zip(one.table.columns, here, strict=True)) | dict(zip(columns, row, strict=True))
    return tuple(named[name] for name in one.table.columns)
