"""Checks a shared database from end to end: the share's log and snapshot, the cache, and that the two say the same."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bdc_pipeline.share.caches import replay
from bdc_pipeline.share.errors import Offline, ShareError
from bdc_pipeline.share.schema import Migrations, read_schema, schema_hash
from bdc_pipeline.share.status import count
from bdc_pipeline.share.tables import listed, quoted, read_tables

if TYPE_CHECKING:
    from bdc_pipeline.share.local import Cache
    from bdc_pipeline.share.model import Position
    from bdc_pipeline.share.reach import Opened
    from bdc_pipeline.share.service import Service

TOLD = 3
"""How many faults of a kind are told one by one."""


class Check(msgspec.Struct, frozen=True):
    """One check: its name, whether it passed, what was seen."""

    name: str
    good: bool
    sentence: str


def verify(service: Service) -> list[Check]:
    """Syncs, and then checks everything that can be checked.

    Raises:
        Offline: the share cannot be reached.
    """
    done = service.sync(view=False)
    checks = [Check("sync", done.light == "success", done.sentence or "In step.")]
    with tempfile.TemporaryDirectory(dir=service.folder, prefix="verify-") as folder:
        ours, replica = Path(folder) / "ours.db", Path(folder) / "replica.db"
        with service.held() as (cache, opened):
            checks.append(_cache_is_whole(cache))
            position = cache.snapshot(ours)
            if position is None:
                return [*checks, Check("content", good=False, sentence="A schema change waits; sync first.")]
            log = _log_is_whole(service.config.migrations, opened, replica, position)
        checks.append(log)
        if log.good:
            checks.append(compare(ours, replica))
    return checks


def _cache_is_whole(cache: Cache) -> Check:
    with contextlib.closing(sqlite3.connect(cache.path)) as connection:
        faults = [text for (text,) in connection.execute("PRAGMA integrity_check(10)") if text != "ok"]
        dangling = connection.execute("PRAGMA foreign_key_check").fetchall()
    told = [
        *faults,
        *(f"row {row} of {table} refers to no row of {parent}" for table, row, parent, _ in dangling[:TOLD]),
    ]
    return Check("cache", not told, "; ".join(told) or "SQLite finds it whole, and no reference leads nowhere.")


def _log_is_whole(migrations: Migrations, opened: Opened, replica: Path, to: Position) -> Check:
    try:
        start, reached = replay(migrations, opened, replica, to.sequence)
    except Offline:
        raise
    except ShareError as error:
        return Check("log", good=False, sentence=str(error))
    if reached != to:
        return Check(
            "log", good=False, sentence=f"The cache stands at segment {to.sequence}, the log gives {reached.sequence}."
        )
    read = count(max(0, to.sequence - start.sequence), "segment")
    return Check(
        "log", good=True, sentence=f"Snapshot {start.sequence} and {read} after it are whole and follow each other."
    )


def compare(one: Path, other: Path) -> Check:
    """Whether two databases have the same schema and rows, the cache's own tables aside."""
    with contextlib.closing(sqlite3.connect(one)) as db, contextlib.closing(sqlite3.connect(other)) as second:
        if schema_hash(read_schema(db)) != schema_hash(read_schema(second)):
            return Check("content", good=False, sentence="The cache's schema is not the log's.")
        tables = read_tables(db)
        db.execute("ATTACH ? AS other", (str(other),))
        faults = []
        for name, table in tables.items():
            number = sum(1 for _ in _differing(db, quoted(name), listed(table.stored)))
            if number:
                faults.append(f"{count(number, 'row')} of {name}")
    told = f"The cache differs from the log in {', '.join(faults)}. 'bdc-pipeline share rebuild' loads it anew."
    return Check("content", not faults, told if faults else f"{count(len(tables), 'table')} hold what the log says.")


def _differing(db: sqlite3.Connection, name: str, columns: str) -> Iterator[object]:
    for left, right in (("main", "other"), ("other", "main")):
        yield from db.execute(f"SELECT {columns} FROM {left}.{name} EXCEPT SELECT {columns} FROM {right}.{name}")
