"""Backups of the databases: taken while they are written, looked through before they count, rotated by age and number.

A backup is made under a temporary name with `VACUUM INTO`, which reads one state of the file and waits for no writer. It
gets its name once it has passed an integrity check, holds as many rows as the file, and is on the disk. Only then do older
ones go, and never the last.
"""

import contextlib
import datetime as dt
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bdc_pipeline.warehouse.migration import StoreError
from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.store import BUSY_SECONDS, explained

ATTEMPTS = 3
"""Counts are compared with those before and after; where rows come and go meanwhile, that may take another look."""

LEFTOVER_SECONDS = 86_400.0
"""A temporary file that is older was left by a backup that was killed."""

_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(?P<stem>.+)-(?P<stamp>\d{8}T\d{6}Z)\.db")


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup of a database: when it was taken (UTC)."""

    path: Path
    stem: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a database's backup."""

    backup: Backup
    bytes: int
    rows: int
    seconds: float
    removed: tuple[Path, ...] = ()


def backups_in(directory: Path, database: Path) -> list[Backup]:
    """The backups of a database, the latest first."""
    found = []
    for path in directory.glob(f"{database.stem}-*.db"):
        match = _NAME.fullmatch(path.name)
        if match is not None and match["stem"] == database.stem:
            at = dt.datetime.strptime(match["stamp"], _STAMP).replace(tzinfo=dt.UTC)
            found.append(Backup(path, match["stem"], at))
    return sorted(found, key=lambda backup: backup.at, reverse=True)


def superfluous(backups: Sequence[Backup], now: dt.datetime, keep: int, days: float) -> list[Backup]:
    """Those that may go: beyond the number to keep, or too old. Never the latest."""
    latest_first = sorted(backups, key=lambda backup: backup.at, reverse=True)
    oldest = now - dt.timedelta(days=days)
    return [one for place, one in enumerate(latest_first) if place > 0 and (place >= keep or one.at < oldest)]


def back_up(database: Path, directory: Path, now: dt.datetime, *, keep: int, days: float) -> Taken:
    """Takes a backup of a database and removes those that it makes superfluous.

    Args:
        database: the file, which may be written meanwhile.
        directory: where backups are kept; made where it is missing.
        now: when (UTC).
        keep: how many backups of a database are kept at most.
        days: after how many days one goes.

    Raises:
        StoreError: none could be taken, or what was taken is damaged. All others are left as they are.
    """
    began = time.monotonic()
    if not database.is_file():
        raise StoreError(f"{database} does not exist, so there is nothing to back up.")
    _make(directory)
    _remove_leftovers(directory, database)
    backup = Backup(directory / f"{database.stem}-{now:{_STAMP}}.db", database.stem, now)
    part = directory / f".{backup.path.name}.{uuid.uuid4().hex}.part"
    try:
        counts = _copy(database, part)
        _to_disk(part)
        part.replace(backup.path)
        _to_disk(directory)
    except OSError as error:
        raise StoreError(f"{directory} cannot be written ({error.strerror or error}).") from None
    finally:
        part.unlink(missing_ok=True)
    removed = [old.path for old in superfluous(backups_in(directory, database), now, keep, days)]
    for path in removed:
        path.unlink(missing_ok=True)
    size = backup.path.stat().st_size
    return Taken(backup, size, sum(counts.values()), round(time.monotonic() - began, 3), tuple(removed))


def back_up_all(
    databases: Iterable[Path], directory: Path, now: dt.datetime, *, keep: int, days: float
) -> Iterator[tuple[Path, Taken | StoreError]]:
    """Takes backups of all databases that there are; one that fails does not keep the others from theirs."""
    for database in databases:
        if database.is_file():
            try:
                yield database, back_up(database, directory, now, keep=keep, days=days)
            except StoreError as error:
                yield database, error


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{directory} cannot be made ({error.strerror or error}). Name another directory with BDC_BACKUP_DIR."
        ) from None


def _remove_leftovers(directory: Path, database: Path) -> None:
    for path in directory.glob(f".{database.stem}-*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()


def _copy(database: Path, part: Path) -> Mapping[str, int]:
    """Copies a database and returns the copy's number of rows by table, all of which fit."""
    problem = ""
    for _ in range(ATTEMPTS):
        part.unlink(missing_ok=True)
        with _explaining(database), contextlib.closing(_connect(database)) as connection:
            before = _counts(connection)
            connection.execute("VACUUM INTO ?", (str(part),))
            after = _counts(connection)
        with _explaining(part), contextlib.closing(_connect(part)) as copied:
            found = [str(row[0]) for row in copied.execute("PRAGMA integrity_check(5)")]
            if found != ["ok"]:
                raise StoreError(f"{database} is damaged: {'; '.join(found)}. Its backups are left as they are.")
            counts = _counts(copied)
        problem = differing(before, counts, after)
        if not problem:
            return counts
    raise StoreError(f"The backup of {database} does not hold what the file does, {ATTEMPTS} times: {problem}.")


def differing(before: Mapping[str, int], copied: Mapping[str, int], after: Mapping[str, int]) -> str:
    """How the rows of a copy differ from those of the file just before and just after; empty where they fit.

    While nothing is written the two are the same, and so must be the copy.
    """
    if missing := sorted((set(before) & set(after)) - set(copied)):
        return f"the table {missing[0]} is missing"
    for table, count in copied.items():
        around = [of[table] for of in (before, after) if table in of]
        if not around or not min(around) <= count <= max(around):
            return f"{table} has {count:,} rows, the file {' to '.join(f'{n:,}' for n in around) or 'none'}"
    return ""


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows by table; what extensions compute is counted by the tables that they keep it in."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    names = [str(row[0]) for row in connection.execute(sql)]
    return {
        name: int(connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0])  # noqa: S608
        for name in names
    }


def _connect(path: Path) -> sqlite3.Connection:
    """For reading."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise explained(error, path) from error


def _to_disk(path: Path) -> None:
    """Waits until a file, or the names in a directory, would outlive a power cut."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
