"""What was fetched when, what is complete, what was rejected and why, and what each run did.

Kept in the same file as the rows and written in the same transactions, so that the two cannot disagree. The
functions take an open `Store`; those that write are called inside its transaction. The tables are declared in
`ledger_schema.py`.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from bdc_pipeline.warehouse.seen import seen_keys
from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stream import Effort, Reject
from bdc_pipeline.warehouse.table import Table


class TableCounts(msgspec.Struct, kw_only=True):
    """What a run did to one table. `fetched` is what came and was stored: inserted + updated + unchanged."""

    expected: int | None = 0
    fetched: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    vanished: int = 0
    rejected: int = 0


class Failure(msgspec.Struct):
    """Something that a run could not fetch or keep."""

    unit: str
    error: str


class SyncReport(msgspec.Struct, kw_only=True):
    """What a run did: the object that `--json` prints."""

    source: str
    complete: bool
    seconds: float
    requests: int
    retries: int
    tables: dict[str, TableCounts]
    failures: list[Failure]


CLOCKS = dt.timedelta(hours=1)
"""How far the clocks of two machines that share a file may be apart."""


class PartitionState(msgspec.Struct, frozen=True):
    """What the ledger knows of one partition of a table; times are UTC texts, `token` identifies the document that it was
    made from, where it was one."""

    complete: bool
    watermark: str | None
    verified_at: str | None
    synced_at: str | None
    expected: int | None
    stored: int | None
    rejected: int
    problem: str | None
    token: str | None = None

    def is_due(self, now: dt.datetime, days: float) -> bool:
        """Whether it was never verified, or longer ago than so many days; or in the future, by a clock that was wrong then."""
        if self.verified_at is None:
            return True
        since = now - dt.datetime.fromisoformat(self.verified_at)
        return since > dt.timedelta(days=days) or since < -CLOCKS


def partition_states(connection: sqlite3.Connection, table: Table) -> dict[str, PartitionState]:
    """All partitions of a table that a run has touched, by key."""
    sql = (
        "SELECT partition, complete, watermark, verified_at, synced_at, expected, stored, rejected, problem, token "
        "FROM _partitions WHERE table_name = ?"
    )
    return {
        str(key): PartitionState(bool(complete), *rest)
        for key, complete, *rest in connection.execute(sql, (table.name,))
    }


def record_partition(
    store: Store, table: Table, partition: str | None, run_id: str, now: str, values: Mapping[str, Any]
) -> None:
    """Sets some of a partition's columns.

    A `watermark` only moves forward: a slower run may end after a later one. `watermark_anew`, from a full listing, sets
    it outright: that the clock was once wrong must not hide changes for ever.
    """
    store.connection.execute(
        _recording(tuple(values)),
        (table.name, partition or "", run_id, now, *(() if "complete" in values else (0,)), *values.values()),
    )


@functools.cache
def _recording(names: tuple[str, ...]) -> str:
    """The statement that sets these columns of a partition."""
    columns = [name.removesuffix("_anew") for name in names]
    inserted = columns if "complete" in columns else ["complete", *columns]
    sets = ["run_id = excluded.run_id", "synced_at = excluded.synced_at"] + [
        "watermark = max(coalesce(watermark, ''), excluded.watermark)"
        if name == "watermark"
        else f"{column} = excluded.{column}"
        for name, column in zip(names, columns, strict=True)
    ]
    return (
        f"INSERT INTO _partitions (table_name, partition, run_id, synced_at, {', '.join(inserted)}) "
        f"VALUES (?, ?, ?, ?, {', '.join('?' for _ in inserted)}) ON CONFLICT DO UPDATE SET {', '.join(sets)}"
    )


def reject_digest(reject: Reject) -> str:
    """What tells one rejected record from another where its key could not be read."""
    return hashlib.blake2b(reject.raw.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def record_reject(store: Store, reject: Reject, run_id: str, now: str) -> None:
    """Keeps a rejected record; one that was there already is noted as seen again."""
    digest, key = reject_digest(reject), _storable("/".join(map(str, reject.key)))
    if key:
        # one record is one open reject, whatever became of it since
        store.connection.execute(
            "UPDATE _rejects SET resolved_at = ? WHERE table_name = ? AND record_key = ? AND raw_hash <> ? "
            "AND resolved_at IS NULL",
            (now, reject.table.name, key, digest),
        )
    store.connection.execute(
        "INSERT INTO _rejects (table_name, partition, record_key, raw_hash, reason, raw, first_seen, last_seen, run_id) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "last_seen = excluded.last_seen, resolved_at = NULL, run_id = excluded.run_id, reason = excluded.reason",
        (
            reject.table.name,
            reject.partition or "",
            key,
            digest,
            _storable(reject.reason),
            _storable(reject.raw),
            now,
            now,
            run_id,
        ),
    )


def resolve_rejects(store: Store, table: Table, partitions: Iterable[str | None], run_id: str, now: str) -> None:
    """Closes the rejects of partitions that were listed in full and did not bring them again."""
    keys = json.dumps([key or "" for key in partitions])
    store.connection.execute(
        "UPDATE _rejects SET resolved_at = ? WHERE table_name = ? AND resolved_at IS NULL AND run_id IS NOT ? "
        "AND partition IN (SELECT value FROM json_each(?))",
        (now, table.name, run_id, keys),
    )


def resolve_mended(store: Store, table: Table, run_id: str, now: str) -> None:
    """Closes the rejects of earlier runs whose records this run has stored."""
    earlier = "SELECT 1 FROM _rejects WHERE table_name = ? AND resolved_at IS NULL AND run_id IS NOT ? LIMIT 1"
    if not store.connection.execute(earlier, (table.name, run_id)).fetchone():
        return
    store.seen[table].spill()
    store.connection.execute(
        "UPDATE _rejects AS r SET resolved_at = ? WHERE table_name = ? AND resolved_at IS NULL AND run_id IS NOT ? "
        f"AND EXISTS (SELECT 1 FROM {seen_keys(table)} s WHERE {_is_of(table, 's')})",
        (now, table.name, run_id),
    )


def stale_rows(connection: sqlite3.Connection, table: Table, partition: str | None) -> int:
    """How many stored rows of a partition are copies of records that are now rejected."""
    sql = (
        "SELECT count(DISTINCT record_key) FROM _rejects r WHERE table_name = ? AND partition = ? AND resolved_at IS NULL "
        f"AND EXISTS (SELECT 1 FROM {quoted(table.stored)} t WHERE {_is_of(table, 't')} AND t.vanished_at IS NULL)"
    )
    return int(connection.execute(sql, (table.name, partition or "")).fetchone()[0])


def _is_of(table: Table, alias: str) -> str:
    """The condition that a row has the key of the reject `r`."""
    return " || '/' || ".join(f"{alias}.{quoted(key)}" for key in table.key) + " = r.record_key"


def _storable(text: str) -> str:
    """A text without what SQLite cannot hold: lone surrogates."""
    return text.encode(errors="backslashreplace").decode()


def open_rejects(connection: sqlite3.Connection, table: Table, partitions: Iterable[str | None]) -> Counter[str]:
    """How many rejected records of each partition are not resolved; by key, '' for a table without partitions."""
    sql = (
        "SELECT partition, count(*) FROM _rejects WHERE table_name = ? AND resolved_at IS NULL "
        "AND partition IN (SELECT value FROM json_each(?)) GROUP BY partition"
    )
    keys = json.dumps([key or "" for key in partitions])
    return Counter(dict(connection.execute(sql, (table.name, keys)).fetchall()))


def begin_run(store: Store, run_id: str, source: str, now: str) -> None:
    """Notes a run, or goes on with one that another drain of the same run has noted."""
    store.connection.execute(
        "INSERT INTO _runs (run_id, source, started_at) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET complete = 0, finished_at = NULL",
        (run_id, source, now),
    )


def add_counts(store: Store, run_id: str, table: Table, counts: TableCounts) -> None:
    """Adds what a transaction did to a table to the run's counts."""
    store.connection.execute(
        "INSERT INTO _run_tables VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "expected = expected + excluded.expected, fetched = fetched + excluded.fetched, "
        "inserted = inserted + excluded.inserted, updated = updated + excluded.updated, "
        "unchanged = unchanged + excluded.unchanged, vanished = vanished + excluded.vanished, "
        "rejected = rejected + excluded.rejected",
        (run_id, table.name, *msgspec.structs.astuple(counts)),
    )


def add_failure(
    store: Store, run_id: str, table: Table, partitions: Iterable[str | None], unit: str, error: str, now: str
) -> None:
    """Notes a failure."""
    named = list(partitions)
    only = named[0] if len(named) == 1 else None
    store.connection.execute(
        "INSERT INTO _run_failures VALUES (?, ?, ?, ?, ?, ?)", (run_id, table.name, only, unit, error, now)
    )


def end_run(store: Store, run_id: str, effort: Effort, seconds: float, now: str) -> None:
    """Adds what a drain cost and notes whether the run, with the drains before this one, has missed anything."""
    store.connection.execute(
        "UPDATE _runs SET finished_at = ?, requests = requests + ?, retries = retries + ?, bytes = bytes + ?, "
        "seconds = seconds + ?, complete = NOT EXISTS (SELECT 1 FROM _run_failures f WHERE f.run_id = _runs.run_id) "
        "WHERE run_id = ?",
        (now, effort.requests, effort.retries, effort.bytes, seconds, run_id),
    )


def rejected_in_run(connection: sqlite3.Connection, run_id: str) -> int:
    """How many records a run has rejected so far, in all its drains."""
    sql = "SELECT coalesce(sum(rejected), 0) FROM _run_tables WHERE run_id = ?"
    return int(connection.execute(sql, (run_id,)).fetchone()[0])


def conclude_run(store: Store, run_id: str, source: str, failures: Iterable[Failure], effort: Effort, now: str) -> None:
    """Ends a run of several drains: adds what failed and was spent outside them, and notes whether all of it is complete."""
    begin_run(store, run_id, source, now)
    store.connection.executemany(
        "INSERT INTO _run_failures VALUES (?, '', NULL, ?, ?, ?)",
        [(run_id, failure.unit, failure.error, now) for failure in failures],
    )
    end_run(store, run_id, effort, 0.0, now)


def forget_expected(store: Store, run_id: str, tables: Iterable[Table]) -> None:
    """What was expected of these tables is not known: nobody came so far as to be told, or to be told all of it."""
    store.connection.executemany(
        "UPDATE _run_tables SET expected = NULL WHERE run_id = ? AND table_name = ?",
        [(run_id, table.name) for table in tables],
    )


def set_metadata(store: Store, values: Mapping[str, str], now: str) -> None:
    """Writes facts for other tools into `metadata`."""
    store.connection.executemany(
        "INSERT INTO metadata VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        [(key, value, now) for key, value in values.items()],
    )


def counts_of(connection: sqlite3.Connection, run_id: str) -> dict[str, TableCounts]:
    """What a run did, by table."""
    sql = (
        "SELECT table_name, expected, fetched, inserted, updated, unchanged, vanished, rejected FROM _run_tables "
        "WHERE run_id = ? ORDER BY rowid"
    )
    names = TableCounts.__struct_fields__
    return {
        str(table): TableCounts(**dict(zip(names, values, strict=True)))
        for table, *values in connection.execute(sql, (run_id,))
    }


def failures_of(connection: sqlite3.Connection, run_id: str) -> list[Failure]:
    """What a run could not fetch or keep, in the order in which it was found."""
    sql = "SELECT unit, error FROM _run_failures WHERE run_id = ? ORDER BY rowid"
    return [Failure(str(unit), str(error)) for unit, error in connection.execute(sql, (run_id,))]


def report_of(connection: sqlite3.Connection, run_id: str) -> SyncReport | None:
    """A run's report; None where the file knows no such run."""
    sql = "SELECT source, complete, seconds, requests, retries FROM _runs WHERE run_id = ?"
    found = connection.execute(sql, (run_id,)).fetchone()
    if found is None:
        return None
    source, complete, seconds, requests, retries = found
    return SyncReport(
        source=source,
        complete=bool(complete),
        seconds=seconds,
        requests=requests,
        retries=retries,
        tables=counts_of(connection, run_id),
        failures=failures_of(connection, run_id),
    )
