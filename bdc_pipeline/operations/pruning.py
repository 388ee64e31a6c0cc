"""Deleting old runs with their events and logs, which Dagster never does, and the ledgers' old entries.

What a person still looks at stays: the run of each partition's latest materialization, of each asset check's latest
evaluation, of each job's latest success and failure, and whatever is not over.
"""

import contextlib
import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage  # has no public name

from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.store import Store

PAGE = 500

LEDGER_KEEPS = 100
"""Runs of a source that its ledger keeps, whatever their age: durations are compared with them."""

EVENTS = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over: when (UTC), of which job, and how."""

    run_id: str
    job: str
    status: str
    at: dt.datetime


def prunable(runs: Iterable[Ended], needed: Collection[str], before: dt.datetime) -> list[str]:
    """The runs that may be deleted: too old, not needed, and neither the latest success nor the latest failure of a job."""
    found, latest = [], set()
    for run in sorted(runs, key=lambda run: run.at, reverse=True):
        kind = (run.job, run.status)
        if kind in latest and run.at < before and run.run_id not in needed:
            found.append(run.run_id)
        latest.add(kind)
    return found


def prune_runs(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], before: dt.datetime) -> list[str]:
    """Deletes the runs of an instance that ended before a time and that nothing stands on; returns their ids."""
    needed = needed_runs(instance, checks)
    deleted = prunable(_ended(instance), needed, before)
    for run_id in deleted:
        _delete(instance, run_id)
    return deleted


def needed_runs(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> set[str]:
    """The runs of the latest materialization and observation of each partition and asset, and of each check's evaluation."""
    found = {run_id for key in instance.all_asset_keys() for run_id in _runs_of(instance, key)}
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks)) if checks else {}
    return found | {record.run_id for record in records.values()}


def _runs_of(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[str]:
    for event_type in EVENTS:
        latest = instance.event_log_storage.get_latest_storage_id_by_partition(key, event_type)
        numbers = sorted(latest.values())
        for at in range(0, len(numbers), PAGE):
            asked = dg.AssetRecordsFilter(asset_key=key, storage_ids=numbers[at : at + PAGE])
            for record in _fetch(instance, event_type, asked, PAGE):
                yield record.run_id
        for record in _fetch(instance, event_type, dg.AssetRecordsFilter(asset_key=key), 1):
            yield record.run_id


def _fetch(
    instance: dg.DagsterInstance, event_type: dg.DagsterEventType, asked: dg.AssetRecordsFilter, limit: int
) -> Sequence[dg.EventLogRecord]:
    if event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
        return instance.fetch_materializations(asked, limit=limit).records
    return instance.fetch_observations(asked, limit=limit).records


def _ended(instance: dg.DagsterInstance) -> Iterator[Ended]:
    """All runs that are over."""
    statuses = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    cursor = None
    while records := instance.get_run_records(dg.RunsFilter(statuses=statuses), limit=PAGE, cursor=cursor):
        for record in records:
            run = record.dagster_run
            at = (
                dt.datetime.fromtimestamp(record.end_time, dt.UTC)
                if record.end_time
                else record.create_timestamp.replace(tzinfo=record.create_timestamp.tzinfo or dt.UTC)
            )
            yield Ended(run.run_id, _work_of(run), run.status.value, at)
        cursor = records[-1].dagster_run.run_id


def _work_of(run: dg.DagsterRun) -> str:
    """What a run is about: its job, or the assets that a person chose."""
    return " ".join([run.job_name, *sorted(key.to_user_string() for key in run.asset_selection or ())])


def _delete(instance: dg.DagsterInstance, run_id: str) -> None:
    """Deletes a run, its events, what its processes printed and what its ops handed each other."""
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        # Dagster empties the run's own file and leaves it there
        path = Path(storage.path_for_shard(run_id))
        for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)


def prune_ledger(path: Path, schema: Schema, before: dt.datetime) -> int:
    """Deletes a ledger's entries of old runs, except those that partitions and open rejects name; returns how many.

    Raises:
        StoreError: the file cannot be used.
    """
    text = before.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    with Store(path, schema) as store, store.transaction() as connection:
        old = [
            row[0]
            for row in connection.execute(
                "SELECT run_id FROM _runs WHERE coalesce(finished_at, started_at) < ? "
                "AND run_id NOT IN (SELECT run_id FROM _runs ORDER BY started_at DESC LIMIT ?) "
                "AND run_id NOT IN (SELECT run_id FROM _partitions) "
                "AND run_id NOT IN (SELECT run_id FROM _rejects WHERE resolved_at IS NULL)",
                (text, LEDGER_KEEPS),
            )
        ]
        for table in ("_run_failures", "_run_tables", "_runs"):
            connection.executemany(f"DELETE FROM {table} WHERE run_id = ?", [(run_id,) for run_id in old])  # noqa: S608
    return len(old)
