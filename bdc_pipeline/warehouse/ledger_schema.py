"""The tables of the ledger, which every file holds beside its rows.

| table | one row for |
|---|---|
| `_partitions` | a table's partition (`''` for a table without): complete or not, and where the next listing starts |
| `_runs`, `_run_tables`, `_run_failures` | a run, what it did to each table, what failed |
| `_rejects` | a record that could not become a row |
| `metadata` | a fact that other tools read: key, value, updated_at |

What belongs here is how they are made, so that a `Store` can make them; what reads and writes them is in `ledger.py`, which
takes a `Store`.
"""

from __future__ import annotations

DDL: tuple[str, ...] = (
    """CREATE TABLE IF NOT EXISTS metadata (
  key TEXT PRIMARY KEY NOT NULL,
  value TEXT,
  updated_at TEXT NOT NULL
) STRICT""",
    """CREATE TABLE IF NOT EXISTS _partitions (
  table_name TEXT NOT NULL,
  partition TEXT NOT NULL,
  complete INTEGER NOT NULL,
  watermark TEXT,
  verified_at TEXT,
  synced_at TEXT,
  expected INTEGER,
  stored INTEGER,
  rejected INTEGER NOT NULL DEFAULT 0,
  problem TEXT,
  run_id TEXT NOT NULL,
  token TEXT,
  PRIMARY KEY (table_name, partition)
) STRICT""",
    """CREATE TABLE IF NOT EXISTS _runs (
  run_id TEXT PRIMARY KEY NOT NULL,
  source TEXT NOT NULL,
  started_at TEXT NOT NULL,
  finished_at TEXT,
  complete INTEGER NOT NULL DEFAULT 0,
  requests INTEGER NOT NULL DEFAULT 0,
  retries INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  seconds REAL NOT NULL DEFAULT 0
) STRICT""",
    """CREATE TABLE IF NOT EXISTS _run_tables (
  run_id TEXT NOT NULL,
  table_name TEXT NOT NULL,
  expected INTEGER,
  fetched INTEGER NOT NULL,
  inserted INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  unchanged INTEGER NOT NULL,
  vanished INTEGER NOT NULL,
  rejected INTEGER NOT NULL,
  PRIMARY KEY (run_id, table_name)
) STRICT""",
    """CREATE TABLE IF NOT EXISTS _run_failures (
  run_id TEXT NOT NULL,
  table_name TEXT NOT NULL,
  partition TEXT,
  unit TEXT NOT NULL,
  error TEXT NOT NULL,
  at TEXT NOT NULL
) STRICT""",
    "CREATE INDEX IF NOT EXISTS _run_failures_by_run ON _run_failures (run_id)",
    """CREATE TABLE IF NOT EXISTS _rejects (
  table_name TEXT NOT NULL,
  partition TEXT NOT NULL,
  record_key TEXT NOT NULL,
  raw_hash TEXT NOT NULL,
  reason TEXT NOT NULL,
  raw TEXT NOT NULL,
  first_seen TEXT NOT NULL,
  last_seen TEXT NOT NULL,
  resolved_at TEXT,
  run_id TEXT NOT NULL,
  PRIMARY KEY (table_name, record_key, raw_hash)
) STRICT""",
)
