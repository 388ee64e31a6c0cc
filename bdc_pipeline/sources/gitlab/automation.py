"""What keeps the copy of GitLab's CI current by itself. Off until switched on, since it asks a real service.

The sensor asks one cheap question a minute. Where a pipeline has changed, the days from the last listing to today are one
run; where none has, a run is asked for often enough that the copy is known to be current. Days of which something is missing come along.

Dagster skips what follows a step that failed: one project that refuses would keep the jobs and logs of all others away. What was
skipped so is launched by a sensor of its own.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from contextlib import closing

import dagster as dg

from bdc_pipeline import settings
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.operations.backfill import Group
from bdc_pipeline.operations.inflight import failed_lately
from bdc_pipeline.operations.refreshing import Launch, Refresh, Turn, schedule, sensor_status
from bdc_pipeline.running import RANGE_END, RANGE_START
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.assets import (
    ASSETS,
    DAYS,
    GitLabResource,
    gitlab_archives,
    gitlab_jobs,
    gitlab_logs,
    gitlab_pipelines,
    gitlab_tests,
)
from bdc_pipeline.sources.gitlab.client import GitLabClient, by_hundreds
from bdc_pipeline.sources.gitlab.days import FIRST_DAYS, covered, first_open
from bdc_pipeline.sources.gitlab.plan import chosen_projects, having_pipelines
from bdc_pipeline.sources.gitlab.windows import text_of
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager
from bdc_pipeline.warehouse.store import Store

AT_LEAST_EVERY = dt.timedelta(minutes=40)
"""A copy that nothing has changed in is stale after an hour all the same, if nobody looks."""

AFTER_FAILURE = dt.timedelta(minutes=15)
"""A run that failed is not launched again every minute."""

NIGHT_HOUR = 3
"""UTC: when what rarely changes is looked at."""

VERIFIED_DAYS = 7
"""Days back that are listed in full every night: pipelines that were deleted are seen by that alone."""

CHANGES = Refresh(
    "refresh_gitlab",
    [gitlab_pipelines, gitlab_jobs, gitlab_logs, gitlab_tests, gitlab_archives],
    "Pipelines of some days with their jobs, logs, tests and archives: what has changed since the last run.",
)
PROJECTS = Refresh(
    "refresh_gitlab_projects", [ASSETS[0]], "The projects that are named or that the token is a member of."
)


def to_refresh(last: str | None, now: dt.datetime, missing: dt.date | None = None) -> tuple[str, str]:
    """The days to refresh: from that of the last listing, or yesterday, to today. A first load is a backfill's business.

    Args:
        last: when the project that has waited longest was listed (UTC text).
        now: the time.
        missing: the first day of which something is missing; a month back at most.
    """
    today, yesterday, month_ago = (f"{now - dt.timedelta(days=days):%Y-%m-%d}" for days in (0, 1, FIRST_DAYS - 1))
    first = max(last[:10], DAYS.get_first_partition_key() or "") if last else yesterday
    if missing is not None:
        first = min(first, max(str(missing), month_ago))
    return min(first, today), today


def is_overdue(listed: Mapping[int, str | None], now: dt.datetime) -> bool:
    """Whether no project has been listed for so long that the copy is no longer known to be current."""
    last = max((at for at in listed.values() if at), default=None)
    return last is None or last < text_of(now - AT_LEAST_EVERY)


def has_changed(
    client: GitLabClient, listed: Mapping[int, str | None], having: Collection[int], now: dt.datetime
) -> bool:
    """Whether a project has had a pipeline change since it was listed; yes where GraphQL is no help: the lists then tell. `having`
    are the projects that have pipelines.

    Raises:
        FetchError: no answer came.
    """
    day_ago = text_of(now - dt.timedelta(days=1))
    for numbers in by_hundreds(sorted(listed)):
        changed = client.changed_since({number: listed[number] or day_ago for number in numbers}, having)
        if changed is None or changed:
            return True
    return False


def _listed(files: SQLiteIOManager, today: dt.date) -> tuple[dict[int, str | None], frozenset[int], dt.date | None]:
    """When each stored project that a run lists was last listed (UTC text), which projects have pipelines, and the first day of which
    something is missing."""
    sql = "SELECT max(listed_at) FROM project_days WHERE project_id = ?"
    wanted = settings.gitlab().projects
    with Store(files.path("gitlab"), t.SCHEMA) as store:
        file = covered(store.connection, wanted)
        # others that are stored, by `sync --project` once, are in no run and would ask for one for ever
        chosen, _ = chosen_projects(store.connection, wanted)
        listed = {number: store.connection.execute(sql, (number,)).fetchone()[0] for number in sorted(chosen)}
        having = having_pipelines(store.connection)
    return listed, having, first_open(file, today) if file.pipelines else None


@dg.sensor(
    name="gitlab_activity",
    job_name=CHANGES.job,
    minimum_interval_seconds=60,
    default_status=sensor_status(),
    description="Refreshes today's partition when a project has had a pipeline change: a GraphQL request for a hundred projects.",
)
def gitlab_activity(
    context: dg.SensorEvaluationContext,
    gitlab: GitLabResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
) -> dg.RunRequest | dg.SkipReason:
    """Looks for changes since the last listing. A failed read raises and launches nothing: it is no empty answer."""
    now = dt.datetime.now(dt.UTC)
    if busy := CHANGES.under_way(context.instance, now):
        return dg.SkipReason(f"Nothing is launched twice: {busy}.")
    if ago := failed_lately(context.instance, (CHANGES.job,), now, AFTER_FAILURE):
        waited, pause = ago.total_seconds() / 60, AFTER_FAILURE.total_seconds() / 60
        return dg.SkipReason(f"The last run failed {waited:.0f} minutes ago; it is tried again after {pause:.0f}.")
    listed, having, missing = _listed(sqlite_io_manager, now.date())
    if not listed:
        return dg.SkipReason("No project is stored: materialize gitlab/projects first.")
    if not is_overdue(listed, now):
        with closing(gitlab.client(Stop())) as client:
            if not has_changed(client, listed, having, now):
                return dg.SkipReason(
                    f"None of {len(listed)} projects has had a pipeline change since it was last listed."
                )
    last = min((at for at in listed.values() if at), default=None)
    request: dg.RunRequest = CHANGES.request(to_refresh(last, now, missing), run_key=f"{now:%Y-%m-%dT%H:%M}")
    return request


PARTITION = "dagster/partition"
"""Dagster's tag of a run over one partition."""

STAGES = ((gitlab_pipelines,), (gitlab_jobs,), (gitlab_logs, gitlab_tests, gitlab_archives))
"""What follows what in a run."""


def skipped(begun: Collection[str]) -> list[dg.AssetKey]:
    """The assets of the stages that a run has not come to.

    Args:
        begun: the names of the steps that were begun.
    """
    names = {step.partition(".")[0] for step in begun}
    return [
        key
        for stage in STAGES
        for definition in stage
        if definition.node_def.name not in names
        for key in sorted(definition.keys)
    ]


CHANGES_JOB = CHANGES.as_job()


@dg.run_status_sensor(
    name="gitlab_later_stages",
    run_status=dg.DagsterRunStatus.FAILURE,
    # any run: a backfill has Dagster's own job of all assets
    request_job=CHANGES_JOB,
    default_status=sensor_status(),
    description="Where a stage failed for some projects, launches the stages behind it for all others.",
)
def gitlab_later_stages(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
    """Launches what a run did not come to, over the same days; a run of other assets is none of its business."""
    run = context.dagster_run
    events = context.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
    begun = {event.dagster_event.step_key for event in events if event.dagster_event and event.dagster_event.step_key}
    left = [key for key in skipped(begun) if not run.asset_selection or key in run.asset_selection]
    fetches = {f"{definition.node_def.name}.fetch_" for stage in STAGES for definition in stage}
    # where not even a fetch was begun, it is not a project that is in the way
    if not left or not any(step.startswith(tuple(fetches)) for step in begun):
        return dg.SkipReason("The run came to its last stage, or to none.")
    single = run.tags.get(PARTITION)
    tags = {name: found for name in (RANGE_START, RANGE_END) if (found := run.tags.get(name, single))}
    return dg.RunRequest(run_key=run.run_id, asset_selection=left, tags=tags)


def refresh_projects(turn: Turn) -> list[Launch]:
    """One run. Projects that are named are known by their ids; once a night they are asked for, since they may be renamed."""
    config = {"ops": {"gitlab_projects": {"ops": {"plan_projects": {"config": {"force": True}}}}}}
    return [Launch(config=config if turn.at.hour == NIGHT_HOUR else {})]


def verify_days(turn: Turn) -> list[Launch]:
    """One run over the last days, which lists in full those that have not been for half a day."""
    first, last = (f"{turn.at - dt.timedelta(days=days):%Y-%m-%d}" for days in (VERIFIED_DAYS, 1))
    config = {"ops": {"gitlab_pipelines": {"ops": {"plan_pipelines": {"config": {"days": 0.5}}}}}}
    return [Launch((max(first, DAYS.get_first_partition_key() or ""), last), config)]


JOBS = [CHANGES_JOB, PROJECTS.as_job()]

SCHEDULES = [
    schedule(
        "gitlab_projects_half_hourly",
        PROJECTS,
        # twice within the hour after which they would count as stale
        "15,45 * * * *",
        refresh_projects,
        description="Every half hour: projects that are new or gone, a request for a hundred; at night named ones are asked for again.",
    ),
    schedule(
        "gitlab_days_nightly",
        CHANGES,
        # three times, since a run of the sensor's may be under way; what is verified is not again
        "25 3-5 * * *",
        verify_days,
        description=f"Every night: the last {VERIFIED_DAYS} days are listed in full and compared with what is stored.",
    ),
]

SENSORS = [gitlab_activity, gitlab_later_stages]

GROUPS = [
    Group("pipelines", [gitlab_pipelines], DAYS),
    Group("jobs", [gitlab_jobs], DAYS),
    Group("logs", [gitlab_logs], DAYS),
    Group("tests", [gitlab_tests], DAYS),
    Group("archives", [gitlab_archives], DAYS),
]
