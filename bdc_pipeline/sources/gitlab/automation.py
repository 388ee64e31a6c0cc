"""What keeps the copy of GitLab's CI current by itself. Off until switched on, since it asks a real service."""

import datetime as dt
from contextlib import closing

import dagster as dg

from bdc_pipeline.fetching.pool import Stop
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
from bdc_pipeline.sources.gitlab.windows import text_of
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager
from bdc_pipeline.warehouse.store import Store

_REFRESH = dg.define_asset_job(
    "refresh_gitlab",
    selection=dg.AssetSelection.assets(gitlab_pipelines, gitlab_jobs, gitlab_logs, gitlab_tests, gitlab_archives),
    description="Pipelines of some days with their jobs, logs, tests and archives: what has changed since the last run.",
)
_PROJECTS = dg.define_asset_job(
    "refresh_gitlab_projects",
    selection=dg.AssetSelection.assets(ASSETS[0]),
    description="The projects that are named or that the token is a member of.",
)


def to_refresh(last: str | None, now: dt.datetime) -> tuple[str, str]:
    """The days to refresh: from that of the last listing, or yesterday, to today. A first load is a backfill's business."""
    today, yesterday = (f"{now - dt.timedelta(days=days):%Y-%m-%d}" for days in (0, 1))
    return (min(max(last[:10], DAYS.get_first_partition_key() or ""), today) if last else yesterday), today


@dg.sensor(
    name="gitlab_activity",
    job=_REFRESH,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Refreshes today's partition when a project has had a pipeline change: a GraphQL request for a hundred projects.",
)
def gitlab_activity(
    gitlab: GitLabResource, sqlite_io_manager: dg.ResourceParam[SQLiteIOManager]
) -> dg.RunRequest | dg.SkipReason:
    """Looks for changes since the last listing. Where GraphQL is no help, it runs: the lists then tell."""
    with Store(sqlite_io_manager.path("gitlab"), t.SCHEMA) as store:
        sql = (
            "SELECT p.id, (SELECT max(listed_at) FROM project_days d WHERE d.project_id = p.id) "
            "FROM projects p WHERE p.vanished_at IS NULL ORDER BY p.id"
        )
        listed = {int(number): at for number, at in store.connection.execute(sql)}
    if not listed:
        return dg.SkipReason("No project is stored: materialize gitlab/projects first.")
    now = dt.datetime.now(dt.UTC)
    first, last = to_refresh(min((at for at in listed.values() if at), default=None), now)
    day_ago = text_of(now - dt.timedelta(days=1))
    with closing(gitlab.client(Stop())) as client:
        numbers = sorted(listed)
        for at in range(0, len(numbers), 100):
            changed = client.changed_since({number: listed[number] or day_ago for number in numbers[at : at + 100]})
            if changed is None or changed:
                return dg.RunRequest(run_key=f"{now:%Y-%m-%dT%H:%M}", tags={RANGE_START: first, RANGE_END: last})
    return dg.SkipReason(f"None of {len(listed)} projects has had a pipeline change since it was last listed.")


@dg.schedule(
    job=_PROJECTS,
    cron_schedule="15 3 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    name="gitlab_projects_daily",
    description="Every night: projects that are new, renamed or gone.",
)
def gitlab_projects_daily() -> dg.RunRequest:
    """One run."""
    return dg.RunRequest()


JOBS = [_REFRESH, _PROJECTS]
SCHEDULES = [gitlab_projects_daily]
SENSORS = [gitlab_activity]
