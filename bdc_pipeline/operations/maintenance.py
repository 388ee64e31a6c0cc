"""The jobs that look after files of our own, which are on from the start: a backup every day, pruning every week."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from bdc_pipeline import settings
from bdc_pipeline.operations.backup import back_up_all
from bdc_pipeline.operations.pruning import prune_ledger, prune_runs
from bdc_pipeline.warehouse.migration import StoreError
from bdc_pipeline.warehouse.schema import Schema


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Jobs and schedules."""

    jobs: Sequence[dg.JobDefinition]
    schedules: Sequence[dg.ScheduleDefinition]


@dg.op(description="Takes a backup of each database and removes those that are too old or too many")
def back_up_databases(context: dg.OpExecutionContext) -> None:
    """A database that cannot be backed up fails the run; the others have theirs."""
    now = dt.datetime.now(dt.UTC)
    try:
        directory, keep, days = settings.backup_dir(), settings.backup_keep(), settings.backup_days()
    except settings.SettingsError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    databases = [settings.database_path(source) for source in settings.DATABASE_FILES]
    told: dict[str, Any] = {"directory": dg.MetadataValue.path(directory)}
    problems = []
    for database, taken in back_up_all(databases, directory, now, keep=keep, days=days):
        if isinstance(taken, StoreError):
            problems.append(str(taken))
            continue
        context.log.info(f"{database.name}: {taken.rows:,} rows, {taken.bytes:,} bytes in {taken.seconds} s")  # noqa: G004
        told |= {f"{database.stem}_rows": taken.rows, f"{database.stem}_bytes": taken.bytes}
        told |= {f"{database.stem}_removed": len(taken.removed)}
    if problems:
        raise dg.Failure("; ".join(problems), metadata=told, allow_retries=False)
    context.add_output_metadata(told)


def _pruning(schemas: Sequence[Schema], checks: Sequence[dg.AssetCheckKey]) -> dg.OpDefinition:
    @dg.op(name="prune_history", description="Deletes old runs with their logs, and the ledgers' old entries")
    def prune_history(context: dg.OpExecutionContext) -> None:
        """What the latest materialization of a partition stands on stays."""
        try:
            before = dt.datetime.now(dt.UTC) - dt.timedelta(days=settings.keep_runs_days())
            entries = {
                f"{schema.source}_entries_deleted": prune_ledger(path, schema, before)
                for schema in schemas
                if (path := settings.database_path(schema.source)).is_file()
            }
        except (settings.SettingsError, StoreError) as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        runs = prune_runs(context.instance, checks, before)
        context.log.info(f"deleted {len(runs)} runs that ended before {before:%Y-%m-%d}")  # noqa: G004
        context.add_output_metadata({"runs_deleted": len(runs), **entries})

    return prune_history


def maintenance(schemas: Sequence[Schema], checks: Sequence[dg.AssetCheckKey] = ()) -> Maintenance:
    """The jobs and schedules for some sources' files, and for an instance in which some checks are evaluated."""
    prune_history = _pruning(schemas, checks)

    @dg.job(name="back_up", description="A backup of each database, verified, with the old ones rotated.")
    def back_up() -> None:
        back_up_databases()

    @dg.job(name="prune", description="Deletes runs and logs that nothing stands on any more.")
    def prune() -> None:
        prune_history()

    schedules = [
        dg.ScheduleDefinition(
            name="back_up_daily",
            job=back_up,
            cron_schedule="20 0 * * *",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Every night: a backup of each database in BDC_BACKUP_DIR. Touches local files alone.",
        ),
        dg.ScheduleDefinition(
            name="prune_weekly",
            job=prune,
            cron_schedule="50 0 * * 0",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Every Sunday: runs and logs older than BDC_KEEP_RUNS_DAYS go. Touches local files alone.",
        ),
    ]
    return Maintenance([back_up, prune], schedules)
