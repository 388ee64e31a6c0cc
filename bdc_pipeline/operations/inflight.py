"""What is under way in an instance: so that no schedule and no sensor launches what runs already, or runs headlong into a
failure again and again."""

import datetime as dt
from collections.abc import Collection, Iterable

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus  # has no public name

UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)

GIVEN_UP = dt.timedelta(hours=24)
"""A run that was killed together with its daemon stays 'started' for ever; after so long it stands in nobody's way."""


def concerns(run: dg.DagsterRun, jobs: Collection[str], keys: Collection[dg.AssetKey]) -> bool:
    """Whether a run is one of some jobs, or one that a person launched over some of the assets."""
    return run.job_name in jobs or not (run.asset_selection or frozenset()).isdisjoint(keys)


def in_flight(
    instance: dg.DagsterInstance, jobs: Collection[str], keys: Collection[dg.AssetKey], now: dt.datetime
) -> str | None:
    """What is under way over these jobs or assets, in words; None for nothing.

    Runs count however they were started, by a schedule, in the UI or by `bdc-pipeline sync`; so do backfills.
    """
    records = instance.get_run_records(dg.RunsFilter(statuses=list(UNFINISHED), created_after=now - GIVEN_UP))
    for record in records:
        if concerns(record.dagster_run, jobs, keys):
            return f"run {record.dagster_run.run_id[:8]} is {record.dagster_run.status.value.lower()}"
    since = (now - GIVEN_UP).timestamp()
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
        if backfill.backfill_timestamp >= since and not set(backfill.asset_selection or ()).isdisjoint(keys):
            return f"backfill {backfill.backfill_id} is under way"
    return None


def failed_lately(
    instance: dg.DagsterInstance, jobs: Iterable[str], now: dt.datetime, pause: dt.timedelta
) -> dt.timedelta | None:
    """How long ago the last finished run of some jobs failed, where that is less than a pause; None otherwise."""
    last: dg.RunRecord | None = None
    for job in jobs:
        found = instance.get_run_records(
            dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]), limit=1
        )
        if found and (last is None or found[0].update_timestamp > last.update_timestamp):
            last = found[0]
    if last is None or last.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return None
    ago = now - last.update_timestamp.replace(tzinfo=last.update_timestamp.tzinfo or dt.UTC)
    return ago if ago < pause else None
