"""Dagster: the project's databases published to the share that BDC_SHARE names.

An asset for each database brings the share's database in line with the source's file: only rows that differ travel. A sensor
starts it when the file has changed or something still waits, jobs do by hand what the commands do, and asset checks tell
when writes wait too long, conflicts are open, or a cache falls behind. Without BDC_SHARE there is none of it.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus as Run
from pydantic import Field

from bdc_pipeline import settings
from bdc_pipeline.share.config import Config, load
from bdc_pipeline.share.errors import ShareError
from bdc_pipeline.share.publish import Brought, bring
from bdc_pipeline.share.service import Service
from bdc_pipeline.share.sessions import Sessions
from bdc_pipeline.share.status import Light, Status, Sync
from bdc_pipeline.warehouse.schema import Schema

GROUP = "share_databases"

PENDING_SECONDS = 900.0
"""How long a write may wait for the share before a check warns."""

LAG_SECONDS = 3600.0
"""How long a cache may be without a sync before a check warns."""

LAG_SEGMENTS = 64
"""How many segments a cache, or the plain database on the share, may be behind the log before a check warns."""

LEDGER = ("_partitions", "_rejects", "_run_failures", "_run_tables", "_runs")
"""Tables of the warehouse's own bookkeeping, which stay here: rejected records are in them as they came."""

FLUSH_SECONDS = 300.0

IN_FLIGHT = [Run.QUEUED, Run.NOT_STARTED, Run.STARTING, Run.STARTED, Run.CANCELING]


def config_of(source: str) -> Config:
    """How a source's database is shared: with a cache, and with rules that fit what is made by one machine.

    The source's own identifiers are its keys, so two rows of one number are one thing; and what the source says stands above
    what somebody has changed on the share.

    Raises:
        SettingsError: BDC_SHARE is not set, or something else cannot be used.
    """
    directory = settings.share_dir()
    if directory is None:
        raise settings.SettingsError("BDC_SHARE is not set. Set it to a directory on the share.")
    path = directory / settings.DATABASE_FILES[source]
    return load(path, enable_cache=True, rules={"default": {"rule": "mine", "inserts": "same"}})


@contextmanager
def opened(source: str) -> Iterator[Service]:
    """The cache of a source's database; what is wrong is a run's failure with that sentence and no retry."""
    try:
        with Service(config_of(source)) as service:
            yield service
    except (ShareError, settings.SettingsError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None


# -- publishing ------------------------------------------------------------------------------------------------


def publish(service: Service, source: Path) -> tuple[Brought, Sync]:
    """Brings the cache in line with a source's file and sends what differs.

    Raises:
        Offline: the share cannot be reached; what differs is in the cache and is sent later.
        ShareError: the file cannot be published.
    """
    sessions = Sessions(service.path, cached=True)
    try:
        brought = bring(sessions.connection(), source, leave_out=LEDGER)
    finally:
        sessions.close()
    return brought, service.flush(FLUSH_SECONDS)


def told(status: Status) -> dict[str, Any]:
    """What the UI shows of a shared database."""
    return {
        "status": str(status.light),
        "sentence": status.sentence,
        "pending_writes": status.pending,
        "open_conflicts": status.conflicts,
        "segment": status.position,
        "behind": status.lag,
        "share": dg.MetadataValue.path(status.share),
        "cache": dg.MetadataValue.path(status.cache or ""),
        "cache_bytes": status.cache_bytes or 0,
    }


def _asset(schema: Schema) -> dg.AssetsDefinition:
    source = schema.source

    @dg.asset(
        key=["share", source],
        deps=[dg.AssetKey([source, table.name]) for table in schema.tables],
        group_name=GROUP,
        kinds={"sqlite"},
        tags={"source": "share"},
        description=f"{settings.DATABASE_FILES[source]} on the share, in line with the file here.",
    )
    def shared(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with opened(source) as service:
            brought, done = publish(service, settings.database_path(source))
            status = service.status()
        context.log.info("%s rows differed; %s", f"{brought.rows:,}", status.sentence)
        changed = [
            dg.TableRecord(
                {"table": name, "written": brought.written.get(name, 0), "deleted": brought.deleted.get(name, 0)}
            )
            for name in sorted({*brought.written, *brought.deleted})
        ]
        counts = {
            "rows_changed": brought.rows,
            "rows_sent": done.rows_out,
            "rows_taken": done.rows_in,
            "bytes_sent": done.bytes_out,
            "milliseconds": done.milliseconds,
            "operations_on_the_share": done.operations,
        }
        tables = {"changed": dg.MetadataValue.table(changed)} if changed else {}
        return dg.MaterializeResult(metadata={**counts, **told(status), **tables})

    return shared


# -- checks ----------------------------------------------------------------------------------------------------


def judge(status: Status) -> dict[str, tuple[bool, str]]:
    """What the checks say of a status: whether it passes, and a sentence, by the check's name."""
    waits = status.pending_seconds or 0.0
    behind = max(status.lag, status.view_lag or 0)
    seen = status.lag_seconds
    return {
        "pending_age": (
            waits <= PENDING_SECONDS,
            f"{status.pending:,} writes wait, the oldest for {waits:.0f} s; {PENDING_SECONDS:.0f} s are allowed.",
        ),
        "conflicts": (
            status.conflicts == 0,
            f"{status.conflicts:,} conflicts are open. 'bdc-pipeline share conflicts' shows them.",
        ),
        "lag": (
            behind <= LAG_SEGMENTS and seen is not None and seen <= LAG_SECONDS,
            f"{behind:,} segments behind; " + ("never synced." if seen is None else f"in step {seen:.0f} s ago."),
        ),
    }


def _checks(source: str) -> dg.AssetChecksDefinition:
    key = dg.AssetKey(["share", source])
    names = {
        "pending_age": "No write waits too long for the share.",
        "conflicts": "No conflict waits for a decision.",
        "lag": "The cache and the plain database on the share are not far behind the log.",
    }

    @dg.multi_asset_check(
        name=f"share_{source}_checks",
        specs=[dg.AssetCheckSpec(name, asset=key, description=text) for name, text in names.items()],
    )
    def checks() -> Iterator[dg.AssetCheckResult]:
        with opened(source) as service:
            status = service.status()
        for name, (passed, sentence) in judge(status).items():
            yield dg.AssetCheckResult(
                passed=passed,
                check_name=name,
                asset_key=key,
                severity=dg.AssetCheckSeverity.WARN,
                description=sentence,
                metadata=told(status),
            )

    return checks


# -- jobs ------------------------------------------------------------------------------------------------------


class Databases(dg.Config):
    """Which shared databases; all where none is named."""

    sources: list[str] = Field(default_factory=list)

    def chosen(self) -> list[str]:
        """The databases, checked."""
        for source in self.sources:
            if source not in settings.DATABASE_FILES:
                raise dg.Failure(
                    f"'{source}' is no source. There are {', '.join(settings.DATABASE_FILES)}.", allow_retries=False
                )
        return self.sources or [source for source in settings.DATABASE_FILES if _is_shared(source)]


class Clearing(Databases):
    """What to clear, and whether even where writes have not reached the share."""

    force: bool = False


class Rebuilding(Databases):
    """What to load anew: the caches, or the plain databases on the share."""

    view: bool = False


def _is_shared(source: str) -> bool:
    return config_of(source).cache.exists()


@dg.op(description="Syncs shared databases now.")
def sync_share(context: dg.OpExecutionContext, config: Databases) -> None:
    """One after the other; fails where one could not be brought in step."""
    failed = []
    for source in config.chosen():
        with opened(source) as service:
            done = service.sync()
        context.log.info("%s: %s. %s", source, done.light, done.sentence)
        if done.light is not Light.SUCCESS:
            failed.append(f"{source}: {done.light}. {done.sentence}")
    if failed:
        raise dg.Failure(" ".join(failed), allow_retries=False)


@dg.op(description="Removes caches and fills them again; refused while writes are pending unless forced.")
def clear_share(context: dg.OpExecutionContext, config: Clearing) -> None:
    """One after the other."""
    for source in config.chosen():
        with opened(source) as service:
            service.clear(force=config.force)
        context.log.info("%s: the cache is filled anew.", source)


@dg.op(description="Loads caches anew from the share, or writes the plain databases on the share anew.")
def rebuild_share(context: dg.OpExecutionContext, config: Rebuilding) -> None:
    """One after the other; what is pending stays pending."""
    for source in config.chosen():
        with opened(source) as service:
            context.log.info("%s: %s", source, service.rebuild_view() if config.view else service.rebuild().sentence)


@dg.job(description="Syncs the shared databases now.")
def share_force_sync() -> None:
    """One op."""
    sync_share()


@dg.job(description="Fills the caches of the shared databases anew; refused while writes are pending unless forced.")
def share_clear_cache() -> None:
    """One op."""
    clear_share()


@dg.job(description="Loads the caches of the shared databases anew, or writes the databases on the share anew.")
def share_rebuild() -> None:
    """One op."""
    rebuild_share()


# -- the sensor ------------------------------------------------------------------------------------------------


def is_due(changed_ns: int | None, published_ns: int | None, status: Status | None) -> bool:
    """Whether a source's file is to be published: it has changed since then, or something still waits.

    Args:
        changed_ns: when the file was last changed; None where it is not there.
        published_ns: the same, of the file that was last asked to be published.
        status: of its cache; None where there is none yet.
    """
    if changed_ns is None:
        return False
    waits = status is not None and (status.pending > 0 or status.light is not Light.SUCCESS)
    return changed_ns != published_ns or waits


def _changed_ns(path: Path) -> int | None:
    times = [one.stat().st_mtime_ns for one in (path, path.with_name(path.name + "-wal")) if one.is_file()]
    return max(times, default=None) if path.is_file() else None


def _status_of(source: str) -> Status | None:
    if not _is_shared(source):
        return None
    with Service(config_of(source)) as service:
        return service.status()


def _sensor(sources: Sequence[str], interval: float) -> dg.SensorDefinition:
    job = dg.define_asset_job(
        "publish_to_share",
        selection=dg.AssetSelection.assets(*(["share", source] for source in sources)),
        description="Brings the databases on the share in line with the files here.",
    )

    @dg.sensor(
        name="share_publishing",
        job=job,
        minimum_interval_seconds=max(1, round(interval)),
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Publishes a database to the share when its file has changed, or when something still waits.",
    )
    def share_publishing(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        """Asks the files and the caches here, not the share."""
        if context.instance.get_runs(dg.RunsFilter(job_name="publish_to_share", statuses=IN_FLIGHT), limit=1):
            return dg.SkipReason("A run that publishes to the share is in flight.")
        asked = _cursor(context.cursor)
        changed = {source: _changed_ns(settings.database_path(source)) for source in sources}
        due = []
        for source in sources:
            try:
                status = _status_of(source)
            except (ShareError, settings.SettingsError) as error:
                context.log.warning("%s: %s", source, error)
                status = None
            if is_due(changed[source], asked.get(source), status):
                due.append(source)
        if not due:
            return dg.SkipReason("What is on the share is in line with the files here.")
        now = {**asked, **{source: changed[source] for source in due}}
        cursor = ",".join(f"{source}={number}" for source, number in now.items() if number is not None)
        keys = [dg.AssetKey(["share", source]) for source in due]
        request = dg.RunRequest(run_key=f"{cursor} {time.time_ns()}", asset_selection=keys)
        return dg.SensorResult(run_requests=[request], cursor=cursor)

    return share_publishing


def _cursor(text: str | None) -> dict[str, int]:
    pairs = (part.partition("=") for part in (text or "").split(",") if part)
    return {source: int(number) for source, _, number in pairs if number.isdecimal()}


# -- all of it -------------------------------------------------------------------------------------------------


def definitions(schemas: Sequence[Schema]) -> dg.Definitions:
    """What Dagster loads of it: nothing where BDC_SHARE is not set."""
    if settings.share_dir() is None:
        return dg.Definitions()
    sources = [schema.source for schema in schemas]
    return dg.Definitions(
        assets=[_asset(schema) for schema in schemas],
        asset_checks=[_checks(source) for source in sources],
        jobs=[share_force_sync, share_clear_cache, share_rebuild],
        sensors=[_sensor(sources, _interval())],
    )


def _interval() -> float:
    """Seconds between two looks; a value that cannot be used is told when something runs, not by failing to load."""
    try:
        return config_of(next(iter(settings.DATABASE_FILES))).sync_interval
    except settings.SettingsError:
        return 30.0
