"""Edits that come from elsewhere than a program on this machine: a person's decision, and rows that older programs wrote."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from bdc_pipeline.share import audit, dirty
from bdc_pipeline.share.apply import Circumstances, Incoming, Merge, Tally
from bdc_pipeline.share.audit import OpenConflict, key_text
from bdc_pipeline.share.capture import ABSENT, PRESENT, UNKNOWN, Captured
from bdc_pipeline.share.dirty import Local
from bdc_pipeline.share.errors import CacheError
from bdc_pipeline.share.model import Change, Stamp
from bdc_pipeline.share.outgoing import realign, when
from bdc_pipeline.share.rows import upsert_sql
from bdc_pipeline.share.rules import Image, Rules
from bdc_pipeline.share.schema import after, run
from bdc_pipeline.share.store import Store, silenced
from bdc_pipeline.share.tables import bare, quoted

if TYPE_CHECKING:
    from bdc_pipeline.share.local import Drained


def resolve(store: Store, number: int, choice: str | Image | None) -> None:
    """Decide a conflict; what is chosen is an edit like any other, and is published with the next sync.

    Raises CacheError where there is no such conflict, or the row cannot be stored.
    """
    with store.transaction() as captured:
        found = audit.read_conflicts(store.db, "id = ? AND resolved_at IS NULL", [number])
        if not found:
            raise CacheError(f"there is no open conflict {number}; it may have been resolved already")
        conflict = found[0]
        if choice != "theirs":
            one = captured.get(conflict.table)
            if one is None:
                raise CacheError(
                    f"conflict {number} is of table {conflict.table}, which is gone; take theirs to close it"
                )
            _store(store, captured, one, conflict, conflict.mine if choice == "mine" else _image(number, choice))
        word = choice if isinstance(choice, str) else audit.image_text(choice) or "deleted"
        audit.close_conflict(store.db, number, word, store.machine())


def _image(number: int, choice: str | Image | None) -> Image | None:
    if isinstance(choice, str):
        raise CacheError(f"conflict {number} cannot be resolved by {choice!r}; choose mine or theirs, or give the row")
    return choice


def _store(
    store: Store, captured: dict[str, Captured], one: Captured, conflict: OpenConflict, image: Image | None
) -> None:
    """Write the row that a person chose, past the user's triggers: it is what shall be there in the end."""
    table = one.table
    with silenced(store.db, captured):
        if image is None:
            store.db.execute(f"DELETE FROM {quoted(table.name)} WHERE {dirty.key_match(table)}", conflict.key)
            return
        now = dirty.current(store.db, table, conflict.key) or bare(store.db, table)
        named = dict(zip(table.columns, now, strict=True)) | image
        if odd := sorted(set(named) - set(table.columns)):
            raise CacheError(f"table {table.name} has no column {odd[0]!r}; the row cannot be stored")
        row = tuple(named[column] for column in table.columns)
        key = conflict.key if table.keyless else tuple(named[name] for name in table.key)
        try:
            store.db.execute(upsert_sql(table), table.values(key, row))
        except sqlite3.IntegrityError as error:
            raise CacheError(
                f"the row cannot be stored: {error}. Change it so that it fits what is there now, or take theirs."
            ) from error


# -- rows that older programs wrote ----------------------------------------------------------------------------


def enter(store: Store, drained: Drained, rules: Rules, now: int) -> tuple[Tally, int]:
    """Take rows written into the share's plain database as edits made here; what happened to them, and how many were new.

    Such a row was written upon the content at `base`. Where the log or this machine has changed the row since, the rule of its
    table decides, with no base to go by.
    """
    with store.transaction(now) as known:
        if drained.number <= int(store.get("cache.outbox") or 0):
            return Tally(), 0
        store.put("cache.outbox", drained.number)
        captured, columns = _completed(store, known, drained), drained.columns
        where = Circumstances(store.position.sequence, "outbox", rules, now, store.offset, store.client)
        merge = Merge(store.db, captured, where)
        entered = 0
        pending: list[Local] = []
        for change in drained.changes:
            one = captured.get(change.table)
            if one is None or not _fits(one, columns[change.table]):
                raise CacheError(
                    f"An older program wrote rows of table {change.table} with columns that are not known here; sync first."
                )
            here = dirty.find(store.db, one, change.key)
            pending += [here] if here else []
            _enter(store, merge, here, one, change, columns[change.table])
            entered += 1
        with silenced(store.db, captured):
            merge.on_top()
        for here in pending:
            _keep_base(store, here)
        for change in drained.changes:
            _send_again(store, captured[change.table], change, columns[change.table])
        for one in captured.values():
            store.db.execute(f"DELETE FROM {one.journal}")
        return merge.tally, entered


def _send_again(store: Store, one: Captured, change: Change, columns: tuple[str, ...]) -> None:
    """A row that was not taken is published as the log has it, since the plain database has the other until it comes again."""
    now = dirty.current(store.db, one.table, change.key)
    row = None if change.row is None else realign(one, columns, change.row, now or bare(store.db, one.table))
    if row == now or dirty.find(store.db, one, change.key) is not None:
        return
    version = store.db.execute(
        "SELECT updated_at, millis, counter, client FROM _sync_version WHERE tbl = ? AND key = ?",
        [one.table.name, key_text(change.key)],
    ).fetchone() or (0, 0, 0, "")
    stamp = Stamp(version[1] or 0, version[2] or 0, version[3] or "")
    dirty.note(store.db, Local(one, change.key, UNKNOWN, None, now, (version[0] or 0) - store.offset, stamp))


def _completed(store: Store, captured: dict[str, Captured], drained: Drained) -> dict[str, Captured]:
    """Make the tables and columns here that an older program has made there."""
    lacking = {name for name, columns in drained.columns.items() if not _fits(captured.get(name), columns)}
    if not lacking:
        return captured
    run(store.db, [sql for sql in drained.statements if after((), [sql])[0].name in lacking])
    return store.follow(published=False)


def _fits(one: Captured | None, columns: tuple[str, ...]) -> bool:
    return one is not None and set(columns) <= set(one.table.columns)


def _keep_base(store: Store, here: Local) -> None:
    """A row that was pending before, and still is, has the base that the log has, not the one that it was merged upon."""
    if found := dirty.find(store.db, here.captured, here.key):
        found.state, found.base = here.state, here.base
        dirty.note(store.db, found)


def _enter(
    store: Store, merge: Merge, here: Local | None, one: Captured, change: Change, columns: tuple[str, ...]
) -> None:
    """Lift a row written elsewhere onto the merge, against what is here."""
    now = here.mine if here else dirty.current(store.db, one.table, change.key)
    row = None if change.row is None else realign(one, columns, change.row, now or bare(store.db, one.table))
    if row == now:
        return
    version = store.db.execute(
        "SELECT sequence, updated_at, millis, counter, client FROM _sync_version WHERE tbl = ? AND key = ?",
        [one.table.name, key_text(change.key)],
    ).fetchone() or (0, 0, 0, 0, "")
    at = (change.updated_at or store.machine()) - store.offset
    moved = version[0] > change.base or here is not None
    inserted = change.decision == "inserted"
    state = (ABSENT if inserted else UNKNOWN) if moved else ABSENT if now is None else PRESENT
    merge.lifted.append(Local(one, change.key, state, now if state == PRESENT else None, row, at, change.stamp))
    if not moved:
        return
    if here is not None:
        edited, stamp = when(here, merge.where.rules, store.offset, merge.where.now), here.stamp
    else:
        edited, stamp = version[1] or 0, Stamp(version[2] or 0, version[3] or 0, version[4] or "")
    theirs = Incoming(one, change.key, now, edited, stamp)
    merge.theirs[theirs.place] = theirs
