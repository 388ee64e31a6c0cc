"""The plain database on the share, brought up to date: a view of the log that older programs read and write as before.

Whoever gets its write lock within a second does it, in one transaction that also claims what older programs wrote. Where SQLite's
locks do not reach other machines it is never written in place, but made anew beside and swapped in on request.

It takes seconds on a slow share (each page is a round trip or two), so it is no part of a push, and runs in a child process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bdc_pipeline.share import capture, outbox
from bdc_pipeline.share.errors import Offline, ShareError
from bdc_pipeline.share.files import ShareFiles
from bdc_pipeline.share.log import Behind, Forked, Log, Restored
from bdc_pipeline.share.model import Change, Position, Segment
from bdc_pipeline.share.outbox import Drained
from bdc_pipeline.share.sealing import Key
from bdc_pipeline.share.start import Share
from bdc_pipeline.share.tables import Table, listed, quoted, read_tables, text_or_bytes, trigger_targets
from bdc_pipeline.share.worker import Worker

__all__ = ["ViewUpdate", "rebuild_view", "refresh_view", "update", "update_view"]

LOCK_SECONDS = 1.0
"""How long to wait for the view's write lock: whoever holds it longer is left alone until the next time."""

DEADLINE = 600.0
"""Seconds without a sign of life: the commit of many pages is one call, of one or two round trips a page."""

MANY = 64
"""Segments read at once, and applied at most 256 of them in one transaction."""

MOST = 256

REMEDY = "'bdc-pipeline share rebuild --view' writes it anew."


class ViewUpdate(msgspec.Struct, frozen=True, array_like=True):
    """What became of an update. `trouble` says why the view is not up to date, where it is not; `busy` that another writes.

    `gone` is a view that is not there, or an empty file: nothing was made in its place.
    """

    position: Position
    drained: Drained | None = None
    busy: bool = False
    trouble: str = ""
    segments: int = 0
    gone: bool = False


def update_view(files: Worker, app_db: Path, share: Share, client: str, stored: int) -> ViewUpdate:
    """Bring the view up to date, if its lock is free. `stored` is the number of the last claim that the cache has.

    What comes as `drained` is to be entered into the cache as edits, together with its number. A worker of its own keeps a long
    commit from holding up the log. Raises `Offline`.
    """
    packed = files.call(
        "view:update",
        [str(app_db), str(files.root), client, share.id, share.key.raw if share.key else None, stored],
        deadline=DEADLINE,
    )
    return msgspec.msgpack.decode(packed, type=ViewUpdate)


def refresh_view(
    files: Worker, app_db: Path, share: Share, client: str, stored: int, content: Path, at: Position
) -> ViewUpdate:
    """Load the whole content (a local database, the log's at `at`) into the view in place: for one that fell behind the log."""
    packed = files.call(
        "view:reload",
        [str(app_db), str(files.root), client, share.id, stored, str(content), at.sequence, at.digest],
        deadline=DEADLINE,
    )
    return msgspec.msgpack.decode(packed, type=ViewUpdate)


def rebuild_view(
    files: Worker, app_db: Path, share: Share, content: Path, at: Position, *, only_gone: bool = False
) -> None:
    """Make the view anew from the content (a local database, the log's at `at`) and swap it in; `only_gone`, where none is there.

    For shares whose locks reach no other machine. Programs that have the old file open go on with the old file: they should be closed.
    """
    with tempfile.TemporaryDirectory(prefix="bdc-view-") as folder:
        fresh = Path(folder) / "view.db"
        shutil.copyfile(content, fresh)
        with _opened(fresh) as db:
            capture.remove(db)
            outbox.install(db, share.id)
            outbox.set_position(db, share.id, at)
            db.execute("COMMIT") if db.in_transaction else None
            db.execute("VACUUM")
        files.call("view:swap", [str(app_db), str(files.root), str(fresh), only_gone], deadline=DEADLINE)


# In the child


def update(arguments: Sequence[Any], *, alive: Callable[[], None] = lambda: None) -> bytes:
    """Bring the view up to date; a `ViewUpdate`, packed."""
    app_db, root, client, share, raw_key, stored = arguments
    key = Key(raw_key) if raw_key else None
    if _is_gone(Path(app_db), Path(root)):
        return msgspec.msgpack.encode(
            ViewUpdate(Position(), trouble=f"The database on the share is gone. {REMEDY}", gone=True)
        )
    with ShareFiles(Path(root), client, alive=alive) as files, _opened(Path(app_db), alive) as db:
        result = _locked(db, share, lambda: _updated(db, Log(files, key), share, client, stored))
        if result.segments:
            files.replace("clients/view.json", acknowledgement(result.position))
    return msgspec.msgpack.encode(result)


def reload(arguments: Sequence[Any], *, alive: Callable[[], None] = lambda: None) -> bytes:
    """Load the whole content into the view in place; a `ViewUpdate`, packed."""
    app_db, root, client, share, stored, content, sequence, digest = arguments
    position = Position(sequence, digest)
    with ShareFiles(Path(root), client, alive=alive) as files, _opened(Path(app_db), alive) as db:
        db.execute("ATTACH ? AS fresh", [content])
        result = _locked(db, share, lambda: _reloaded(db, share, client, stored, position))
        if not result.busy:
            files.replace("clients/view.json", acknowledgement(position))
    return msgspec.msgpack.encode(result)


def _is_gone(app_db: Path, root: Path) -> bool:
    """Whether the database is missing from a share that is there; Offline where the share itself is not."""
    try:
        return not app_db.stat().st_size
    except FileNotFoundError:
        if root.is_dir():
            return True
        raise Offline(f"{root} is not there. Is the share mounted?") from None
    except OSError as error:
        raise Offline(f"{app_db} cannot be reached ({error}); it follows when the share is back.") from error


def swap(arguments: Sequence[Any], *, alive: Callable[[], None] = lambda: None) -> None:
    """Put a local database in the place of the one on the share; `only_gone`, where none has come there meanwhile."""
    app_db, root, fresh = (Path(argument) for argument in arguments[:3])
    only_gone = arguments[3]
    beside = root / "tmp" / f"view-{uuid.uuid4().hex}"
    try:
        with fresh.open("rb") as source, beside.open("xb") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)
                alive()
            target.flush()
            os.fsync(target.fileno())
        if only_gone and not _is_gone(app_db, root):
            return
        # A journal that was left behind would be played into the new file
        for suffix in ("-journal", "-wal", "-shm"):
            app_db.with_name(app_db.name + suffix).unlink(missing_ok=True)
        beside.replace(app_db)
    finally:
        beside.unlink(missing_ok=True)


def acknowledgement(position: Position) -> bytes:
    """How far the view has come, as housekeeping reads it of every client."""
    return msgspec.json.encode({"client": "view", "name": "the database file", "sequence": position.sequence})


def _locked(db: sqlite3.Connection, share: str, work: Callable[[], ViewUpdate]) -> ViewUpdate:
    """Do `work` in a transaction, unless another holds the view's lock."""
    known = Position()
    try:
        known = outbox.position_of(db, share) or known
        db.execute("BEGIN IMMEDIATE")
        try:
            result = work()
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
    except sqlite3.DatabaseError as error:
        if _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return ViewUpdate(known, busy=True)
        if _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return ViewUpdate(known, trouble=f"The database on the share is damaged ({error}). {REMEDY}")
        raise
    return result


def _updated(db: sqlite3.Connection, log: Log, share: str, client: str, stored: int) -> ViewUpdate:
    position = outbox.position_of(db, share)
    if position is None and (_is_view(db) or _users(db, "main", "table")):
        return ViewUpdate(Position(), trouble=f"The database on the share is not this log's. {REMEDY}")
    if position is not None:
        outbox.note_new_tables(db)
    tables = outbox.install(db, share)
    outbox.forget_claimed(db, client, stored)
    outbox.claim(db, client, tables, stored)
    outbox.set_applying(db, on=True)
    position, applied, trouble = _followed(db, log, position or Position(), tables)
    outbox.install(db, share)
    outbox.set_position(db, share, position)
    outbox.set_applying(db, on=False)
    return ViewUpdate(position, outbox.claimed(db, client, stored), trouble=trouble, segments=applied)


def _followed(
    db: sqlite3.Connection, log: Log, position: Position, tables: dict[str, Table]
) -> tuple[Position, int, str]:
    """Apply what follows; the new position, how many segments, and what is in the way of the rest."""
    applied = 0
    with _without_triggers(db, tables):
        while applied < MOST:
            try:
                arrived = log.after(position, MANY)
            except Behind:
                return position, applied, f"The database on the share fell behind what the log keeps. {REMEDY}"
            except (Forked, Restored):
                return position, applied, f"The database on the share has what its log has not. {REMEDY}"
            if not arrived:
                break
            for one in arrived:
                if one.segment.statements:
                    tables = _redefine(db, one.segment)
                else:
                    _write(db, one.segment, tables)
                position, applied = one.position, applied + 1
    return position, applied, ""


def _write(db: sqlite3.Connection, segment: Segment, tables: dict[str, Table]) -> None:
    """The segment's rows: all are taken out first, so that values can pass from one row to another.

    A row in the way is one that an older program wrote and that was claimed: it goes, and meets the log in the claimer's cache.
    """
    changes: dict[str, list[Change]] = defaultdict(list)
    for change in segment.changes:
        changes[change.table].append(change)
    missing = changes.keys() - tables.keys()
    if missing:
        raise ShareError(
            f"The database on the share has no table {min(missing)!r}, which segment {segment.sequence} writes. {REMEDY}"
        )
    for name, rows in changes.items():
        where = " AND ".join(f"{quoted(column)} IS ?" for column in tables[name].key)
        db.executemany(f"DELETE FROM {quoted(name)} WHERE {where}", [change.key for change in rows])
    for name, rows in changes.items():
        table, columns = tables[name], segment.columns[name]
        stored = (*table.key, *columns) if table.keyless else columns
        images = [
            (*change.key, *change.row) if table.keyless else change.row for change in rows if change.row is not None
        ]
        marks = ", ".join("?" * len(stored))
        db.executemany(f"INSERT OR REPLACE INTO {quoted(name)} ({listed(list(stored))}) VALUES ({marks})", images)


def _redefine(db: sqlite3.Connection, segment: Segment) -> dict[str, Table]:
    """The segment's statements, and the tables after them."""
    made = dict(db.execute("SELECT sql, name FROM _sync_made").fetchall())
    for statement in segment.statements:
        if statement in made:
            # An older program made this table here; it has gone through the log and come back
            db.execute("DELETE FROM _sync_made WHERE name = ?", [made[statement]])
            continue
        try:
            db.execute(statement)
        except sqlite3.Error as error:
            if str(error).startswith("duplicate column name"):
                continue  # an older program added it here; it has gone through the log and come back
            raise ShareError(
                f"The database on the share cannot take the change of schema in segment {segment.sequence} ({error}). {REMEDY}"
            ) from error
    return read_tables(db)


def _reloaded(db: sqlite3.Connection, share: str, client: str, stored: int, position: Position) -> ViewUpdate:
    """All tables of the user dropped, and made again as they are in `fresh`."""
    tables = outbox.install(db, share)
    outbox.forget_claimed(db, client, stored)
    outbox.claim(db, client, tables, stored)
    outbox.set_applying(db, on=True)
    for kind in ("trigger", "view", "table"):
        for name in _users(db, "main", kind):
            db.execute(f"DROP {kind} IF EXISTS {quoted(name)}")
    for kind in ("table", "index", "view", "trigger"):
        for name, sql in _users(db, "fresh", kind).items():
            if kind == "table" and sql.upper().startswith("CREATE VIRTUAL"):
                raise ShareError(
                    f"The database on the share has the virtual table {name!r}, which is not loaded in place. {REMEDY}"
                )
            db.execute(sql)
            if kind == "table":
                _copy_table(db, name)
    outbox.install(db, share)
    outbox.set_position(db, share, position)
    outbox.set_applying(db, on=False)
    return ViewUpdate(position, outbox.claimed(db, client, stored))


def _copy_table(db: sqlite3.Connection, name: str) -> None:
    table = read_tables(db)[name]
    db.execute(
        f"INSERT INTO main.{quoted(name)} ({listed(table.stored)}) SELECT {listed(table.stored)} FROM fresh.{quoted(name)}"
    )


def _users(db: sqlite3.Connection, schema: str, kind: str) -> dict[str, str]:
    """What users have made of a kind: names and definitions, in the order in which they were made."""
    rows = db.execute(
        f"SELECT name, sql FROM {schema}.sqlite_master WHERE type = ? AND sql IS NOT NULL AND name NOT GLOB 'sqlite_*' "
        "AND name NOT GLOB '_sync_*' AND name NOT IN ('sync_tracking', 'sync_metadata') ORDER BY rowid",
        [kind],
    )
    return dict(rows.fetchall())


@contextlib.contextmanager
def _without_triggers(db: sqlite3.Connection, tables: Collection[str]) -> Iterator[None]:
    """The users' own triggers out of the way, within the transaction: what they did is in the log already.

    Those that write only to virtual tables (a full-text index) do fire, since nothing else brings that index up to date.
    """
    names = {name.lower() for name in tables}
    triggers = {
        name: sql
        for name, sql in _users(db, "main", "trigger").items()
        if not (targets := trigger_targets(sql)) or targets & names
    }
    for name in triggers:
        db.execute(f"DROP TRIGGER {quoted(name)}")
    yield
    present = _users(db, "main", "trigger")
    for name, sql in triggers.items():
        if name not in present:
            # Its table may have gone meanwhile
            with contextlib.suppress(sqlite3.OperationalError):
                db.execute(sql)


def _is_view(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT 1 FROM sqlite_master WHERE name = '_sync_view'").fetchone())


@contextlib.contextmanager
def _opened(path: Path, alive: Callable[[], None] = lambda: None) -> Iterator[sqlite3.Connection]:
    """The database, open; what SQLite makes of a share that went away is told as `Offline`."""
    if not path.parent.is_dir():
        raise Offline(f"{path.parent} is not there. Is the share mounted?")
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        db.set_progress_handler(alive, 100_000)
        db.text_factory = text_or_bytes
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("PRAGMA recursive_triggers = ON")  # a row that is replaced leaves a full-text index as well
        yield db
    except sqlite3.OperationalError as error:
        gone = _code(error) in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
        # where the share goes away while SQLite opens the file, it takes the file for a read-only one
        if not gone and not (_code(error) == sqlite3.SQLITE_READONLY and not _is_read_only(path)):
            raise
        raise Offline(f"{path} cannot be reached ({error}); it follows when the share is back.") from error
    finally:
        if db is not None:
            db.close()


def _is_read_only(path: Path) -> bool:
    """Whether a file that is there cannot be written."""
    try:
        path.stat()
    except OSError:
        return False
    return not os.access(path, os.W_OK)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; the extended ones have more in their upper bytes."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
