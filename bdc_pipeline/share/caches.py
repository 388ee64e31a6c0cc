"""Making a cache's file from the share, and making it anew: whole or not at all, and never under a program that has it open."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bdc_pipeline.share.errors import CacheError, NoCache
from bdc_pipeline.share.local import Cache
from bdc_pipeline.share.locks import FileLock
from bdc_pipeline.share.reach import Opened, Reach
from bdc_pipeline.share.rules import Rules
from bdc_pipeline.share.status import note

if TYPE_CHECKING:
    from bdc_pipeline.share.config import Config
    from bdc_pipeline.share.model import Position
    from bdc_pipeline.share.schema import Migrations

HALF_MADE = ("first-", "anew-", "snapshot-", "view-", "verify-")
HALF_MADE_SECONDS = 6 * 3600.0
"""After so long, nobody is at work any more in a temporary directory."""

BUSY_SECONDS = 60.0
"""How long a sync waits for one of another process; each operation on the share has a deadline below that."""


def make_cache(config: Config, path: Path) -> None:
    """Makes the cache of a share from its newest snapshot, where there is none; a crash on the way leaves none.

    Raises:
        Offline: the share cannot be reached, and there is no cache yet.
        NoCache: the cache's directory cannot be used.
        ShareError: the share cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise NoCache(f"{path.parent} cannot be made ({error.strerror or error}).") from None
    with FileLock(path.parent / "sync.lock").held(BUSY_SECONDS):
        if not path.exists():
            _make(config, path, uuid.uuid4().hex)


def put_damaged_aside(path: Path) -> Path | None:
    """Moves a cache that SQLite cannot read beside its place, where it is kept; returns where to, or None for a whole one."""
    with FileLock(path.parent / "sync.lock").held(BUSY_SECONDS):
        try:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                if connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok":
                    return None
        except sqlite3.OperationalError:  # locked, or the disk refuses: that says nothing of the file
            return None
        except sqlite3.DatabaseError:
            pass
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + end).replace(aside.with_name(aside.name + end))
        return aside


def sweep(folder: Path) -> None:
    """Removes what a killed process has left half-made in a cache's directory."""
    for left in folder.glob("*-*/"):
        with contextlib.suppress(OSError):
            if left.name.startswith(HALF_MADE) and time.time() - left.stat().st_mtime > HALF_MADE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _make(config: Config, path: Path, client: str) -> None:
    with (
        contextlib.closing(Reach(config, client)) as reach,
        tempfile.TemporaryDirectory(dir=path.parent, prefix="first-") as beside,
    ):
        snapshot, fresh = Path(beside) / "snapshot.db", Path(beside) / path.name
        position = reach.first_content(snapshot)
        opened = reach.open()
        Cache.create(fresh, client, snapshot=snapshot, position=position, share=opened.share.id).close()
        fresh.replace(path)
        note(path.parent, probe=opened.probe.sentence, offset=opened.probe.offset_ms)


def replay(migrations: Migrations, opened: Opened, to: Path, last: int | None = None) -> tuple[Position, Position]:
    """Makes a cache of the share's newest snapshot and its log, with nothing of this machine in it.

    Args:
        migrations: as configured.
        opened: the share.
        to: the file to make.
        last: the number of the segment to end with; None for all that there are.

    Returns:
        Where it began and where it ends.

    Raises:
        Offline, ShareError: the share cannot be reached, or what it holds is not whole.
    """
    snapshot = to.with_name("snapshot.db")
    start = opened.growth.newest_snapshot(snapshot)
    with Cache.create(to, "replay", snapshot=snapshot, position=start, migrations=migrations) as copy:
        snapshot.unlink()
        while last is None or copy.position.sequence < last:
            arrived = opened.log.after(copy.position)
            if not arrived:
                break
            for one in arrived[: None if last is None else last - copy.position.sequence]:
                copy.apply(one.segment, one.digest, Rules(), one.segment.stamp.millis)
        return start, copy.position


def replace_cache(config: Config, path: Path, client: str, *, force: bool) -> None:
    """Makes a cache anew in the place of one. Its audit, its history and the conflicts that are to be decided are kept.

    Args:
        config: its share.
        path: the cache, which nobody has open.
        client: its name among the share's clients.
        force: even where something in it has not reached the share; that is thrown away.

    Raises:
        CacheError: another program has it open, or writes are pending and it is not forced.
        Offline, ShareError: as `make_cache`; the cache is then there as it was.
    """
    with FileLock(path.parent / "sync.lock").held(BUSY_SECONDS):
        with _alone(path) as connection:
            if not force and connection.execute("SELECT 1 FROM sync_tracking WHERE NOT synced LIMIT 1").fetchone():
                raise CacheError(f"Something was written to {path} just now. Sync first, or force it.")
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = DELETE")  # one file holds everything
            aside = path.with_name(f"{path.name}.cleared")
            path.replace(aside)
        try:
            _make(config, path, client)
            _carry_over(aside, path)
        except BaseException:
            aside.replace(path)
            raise
        aside.unlink()


KEPT = ("_sync_audit", "_sync_conflict", "_sync_history")


def _carry_over(old: Path, new: Path) -> None:
    """What a person may still want to look at, and what was set for this cache."""
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS old", (str(old),))
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            for table in KEPT:
                connection.execute(f"INSERT INTO main.{table} SELECT * FROM old.{table}")
            connection.execute(
                "INSERT OR IGNORE INTO main._sync_meta SELECT * FROM old._sync_meta WHERE name = 'interval'"
            )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection]:
    """The cache to oneself: what another program wrote to a removed file would be lost without a word.

    Raises:
        CacheError: another program has it open.
    """
    with contextlib.closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise CacheError(
                f"Another program has {path} open. End it first; to load the content anew under it, rebuild the cache instead."
            ) from None
        yield connection
