"""What keeps the copy of GitLab's CI current by itself."""

import contextlib
import datetime as dt
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline.definitions import build_defs
from bdc_pipeline.fetching.answers import FetchError
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.assets import GitLabResource
from bdc_pipeline.sources.gitlab.automation import (
    AFTER_FAILURE,
    AT_LEAST_EVERY,
    STAGES,
    gitlab_activity,
    gitlab_later_stages,
    is_overdue,
    skipped,
    to_refresh,
)
from bdc_pipeline.sources.gitlab.windows import SETTLING, text_of
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager
from bdc_pipeline_tests.operations import ticks
from bdc_pipeline_tests.operations.runs import a_run
from bdc_pipeline_tests.sources.gitlab.syncing import Copy

NOON = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)

STATUS = dg.DagsterRunStatus


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def tick(copy: Copy, instance: dg.DagsterInstance) -> Callable[[], dg.RunRequest | str]:
    """A turn of the sensor: the run that it asks for, or why there is none."""

    def made() -> dg.RunRequest | str:
        resources = {
            "gitlab": GitLabResource(workers=2, attempts=1),
            "sqlite_io_manager": SQLiteIOManager((t.SCHEMA,), databases={"gitlab": str(copy.path)}),
        }
        with dg.build_sensor_context(instance=instance, resources=resources) as context:
            found = gitlab_activity(context)
        if isinstance(found, dg.SkipReason):
            return found.skip_message or ""
        assert isinstance(found, dg.RunRequest)
        return found

    return made


@pytest.fixture
def current(copy: Copy, began: dt.date) -> Copy:
    """A copy that was listed just now."""
    copy.sync_new()
    copy.sandbox.reset_stats()
    return copy


@pytest.fixture
def began() -> dt.date:
    """The day on which a test began."""
    return dt.datetime.now(dt.UTC).date()


def ranges(began: dt.date, first: dt.date | None = None) -> set[tuple[str, str]]:
    """The ranges from the first day, by default today, to today, whichever day today was: midnight may have passed meanwhile."""
    now = dt.datetime.now(dt.UTC)
    days = {began, now.date()}
    # just after midnight the day before is not over yet
    firsts = {first} if first else {*days, (now - SETTLING).date()}
    return {(str(one), str(last)) for one in firsts for last in days if one <= last}


def range_of(request: dg.RunRequest | str) -> tuple[str, str]:
    assert isinstance(request, dg.RunRequest), request
    assert request.job_name == "refresh_gitlab"
    return ticks.Tick([request]).range


Turn = Callable[[], dg.RunRequest | str]


def test_where_no_project_is_stored_it_says_what_comes_first(tick: Turn) -> None:
    assert tick() == "No project is stored: materialize gitlab/projects first."


def test_where_nothing_has_changed_it_asks_one_cheap_question_and_launches_nothing(current: Copy, tick: Turn) -> None:
    assert tick() == "None of 3 projects has had a pipeline change since it was last listed."
    assert current.sandbox.stats()["total"] == 1


def test_a_change_refreshes_the_days_from_the_last_listing_to_today_as_one_run(
    current: Copy, tick: Turn, began: dt.date
) -> None:
    current.api.change("run", project=104, count=1)
    assert range_of(tick()) in ranges(began)


def test_a_copy_that_nobody_has_looked_at_for_long_is_looked_at_though_nothing_has_changed(
    current: Copy, tick: Turn, began: dt.date
) -> None:
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    with contextlib.closing(sqlite3.connect(current.path)) as connection, connection:
        connection.execute("UPDATE project_days SET listed_at = ?", [text_of(long_ago)])
    assert range_of(tick()) in ranges(began, long_ago.date())
    assert current.sandbox.stats()["total"] == 0


def test_a_stored_project_that_is_in_no_run_asks_for_none(
    current: Copy, tick: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = text_of(dt.datetime.now(dt.UTC) - dt.timedelta(days=90))
    # by `sync --project`, once
    current.execute("UPDATE project_days SET listed_at = ? WHERE project_id = 107", long_ago)
    current.api.change("run", project=107, count=1)
    monkeypatch.setenv("GITLAB_PROJECTS", "101,104")
    assert tick() == "None of 2 projects has had a pipeline change since it was last listed."


@pytest.mark.parametrize(("back", "first"), [(2, 2), (29, 29), (200, 29)])
def test_days_of_which_something_is_missing_come_along_a_month_back_at_most(
    current: Copy, tick: Turn, back: int, first: int, began: dt.date
) -> None:
    missing = str(began - dt.timedelta(days=back))
    current.sync(partitions=(missing,))
    current.execute("UPDATE _partitions SET complete = 0 WHERE table_name = 'job_logs' AND partition = ?", missing)
    current.api.change("run", project=104, count=1)
    month_ago = [dt.datetime.now(dt.UTC).date() - dt.timedelta(days=first), began - dt.timedelta(days=first)]
    assert range_of(tick()) in {found for one in month_ago for found in ranges(began, one)}


def later_stages_after(run: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> object:
    """What the sensor makes of a run that has failed."""
    with dg.build_run_status_sensor_context(
        sensor_name="gitlab_later_stages",
        dagster_instance=instance,
        dagster_run=run.dagster_run,
        dagster_event=run.get_run_failure_event(),
    ) as context:
        return gitlab_later_stages(context)


def test_a_run_of_another_source_that_fails_launches_nothing(instance: dg.DagsterInstance) -> None:
    @dg.op
    def fetch_customers() -> None:
        raise dg.Failure("refused")

    @dg.graph
    def sonar_customers() -> None:
        fetch_customers()

    @dg.job
    def refresh_customers() -> None:
        sonar_customers()

    run = refresh_customers.execute_in_process(instance=instance, raise_on_error=False)
    assert not run.success
    assert isinstance(later_stages_after(run, instance), dg.SkipReason)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(("status", "is_backfill"), [(403, False), (404, False), (403, True)])
def test_what_dagster_skips_behind_a_stage_that_failed_for_one_project_is_launched(
    copy: Copy,
    instance: dg.DagsterInstance,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_backfill: bool,
    single: bool,
) -> None:
    monkeypatch.setenv("GITLAB_PROJECTS", "101,104,107")
    copy.sync(partitions=("2026-05-31",), logs=False, tests=False, artifacts=False)
    copy.sandbox.configure(denied=[f"104={status}"])
    definitions = build_defs(resources={"gitlab": GitLabResource(workers=4, attempts=1)})
    job = definitions.resolve_job_def("refresh_gitlab")
    backfill = definitions.resolve_implicit_global_asset_job_def()
    days = {"dagster/asset_partition_range_start": "2026-06-01", "dagster/asset_partition_range_end": "2026-06-01"}

    def sensed(run: dg.ExecuteInProcessResult) -> object:
        return later_stages_after(run, instance)

    given: dict[str, Any] = {"partition_key": "2026-06-01"} if single else {"tags": days}
    if is_backfill:
        given["asset_selection"] = [key for stage in STAGES for definition in stage for key in definition.keys]
    first = (backfill if is_backfill else job).execute_in_process(instance=instance, raise_on_error=False, **given)
    assert not first.success
    assert copy.query("SELECT * FROM jobs WHERE day = '2026-06-01'") == []
    request = sensed(first)
    assert isinstance(request, dg.RunRequest)
    assert request.tags == days
    second = job.execute_in_process(
        instance=instance, tags=request.tags, asset_selection=request.asset_selection, raise_on_error=False
    )
    third_request = sensed(second)
    assert isinstance(third_request, dg.RunRequest)
    third = job.execute_in_process(
        instance=instance, tags=days, asset_selection=third_request.asset_selection, raise_on_error=False
    )
    assert isinstance(sensed(third), dg.SkipReason)
    for table in ("jobs", "job_logs", "artifact_files"):
        assert {row[0] for row in copy.query(f"SELECT project_id FROM {table}")} == {101, 107}, table
    assert not instance.get_materialized_partitions(dg.AssetKey(["gitlab", "job_logs"]))


def test_a_run_that_asked_for_nothing_is_followed_by_nothing() -> None:
    assert skipped({"gitlab_pipelines.fetch_pipelines"})[0] == dg.AssetKey(["gitlab", "artifacts"])
    begun = {f"gitlab_{name}.fetch_{name}" for name in ("pipelines", "jobs", "logs", "tests", "archives")}
    assert skipped(begun) == []


@pytest.mark.parametrize("status", [STATUS.QUEUED, STATUS.STARTED])
def test_nothing_is_launched_while_a_run_is_in_flight(
    current: Copy, tick: Turn, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    current.api.change("run", project=104, count=1)
    a_run(instance, status, "refresh_gitlab")
    found = tick()
    assert isinstance(found, str)
    assert found.startswith("Nothing is launched twice: run ")
    assert current.sandbox.stats()["total"] == 0


def test_a_run_that_failed_just_now_is_not_launched_again_every_minute(
    current: Copy, tick: Turn, instance: dg.DagsterInstance, began: dt.date
) -> None:
    current.api.change("run", project=104, count=1)
    a_run(instance, STATUS.FAILURE, "refresh_gitlab")
    assert re.fullmatch(r"The last run failed \d minutes ago; it is tried again after 15\.", str(tick()))
    a_run(instance, STATUS.SUCCESS, "refresh_gitlab")
    assert range_of(tick()) in ranges(began)


def test_a_failed_read_raises_and_is_no_empty_answer(current: Copy, tick: Turn) -> None:
    current.api.change("run", project=104, count=1)
    current.sandbox.configure(faults=["reset"])
    with pytest.raises(FetchError):
        tick()


@pytest.mark.parametrize("fault", ["403", "500", "html"])
def test_where_graphql_is_no_help_the_lists_are_asked(current: Copy, tick: Turn, fault: str, began: dt.date) -> None:
    current.sandbox.configure(faults=[fault])
    assert range_of(tick()) in ranges(began)


@pytest.mark.parametrize(
    ("last", "days"),
    [
        (None, ("2026-03-09", "2026-03-10")),
        ("2026-03-10T11:59:00.000Z", ("2026-03-10", "2026-03-10")),
        ("2026-03-09T23:59:00.000Z", ("2026-03-09", "2026-03-10")),
        ("2026-02-01T00:00:00.000Z", ("2026-02-01", "2026-03-10")),
        # before there are partitions, and by a clock that is ahead
        ("2019-01-01T00:00:00.000Z", ("2020-01-01", "2026-03-10")),
        ("2026-03-11T00:00:00.000Z", ("2026-03-10", "2026-03-10")),
    ],
)
def test_which_days_are_refreshed(last: str | None, days: tuple[str, str]) -> None:
    assert to_refresh(last, NOON) == days
    assert to_refresh(last, NOON, NOON.date()) == days
    assert to_refresh(last, NOON, dt.date(2019, 1, 1)) == (min(days[0], "2026-02-09"), "2026-03-10")


@pytest.mark.parametrize(
    ("minutes", "overdue"),
    [([], True), ([None], True), ([1], False), ([39], False), ([41], True), ([41, 1], False), ([None, 1], False)],
)
def test_when_a_copy_is_overdue(minutes: list[float | None], overdue: bool) -> None:
    listed = {
        number: None if ago is None else text_of(NOON - dt.timedelta(minutes=ago)) for number, ago in enumerate(minutes)
    }
    assert is_overdue(listed, NOON) is overdue


def test_every_night_the_last_days_are_listed_in_full_as_one_run(instance: dg.DagsterInstance) -> None:
    found = ticks.tick("gitlab_days_nightly", instance)
    assert found.range == ("2026-03-03", "2026-03-09")
    assert ticks.op_config(found.run, "gitlab_pipelines", "plan_pipelines") == {"days": 0.5}


@pytest.mark.parametrize(("hour", "config"), [(2, {}), (3, {"force": True}), (4, {}), (15, {})])
def test_projects_are_asked_for_every_half_hour_and_at_night_named_ones_again(
    instance: dg.DagsterInstance, hour: int, config: dict[str, bool]
) -> None:
    found = ticks.tick("gitlab_projects_half_hourly", instance, NOON.replace(hour=hour))
    assert found.run.job_name == "refresh_gitlab_projects"
    assert ticks.op_config(found.run, "gitlab_projects", "plan_projects") == config
    ticks.assert_fits(found.run)


def test_the_sensor_is_off_until_switched_on_asks_once_a_minute_and_keeps_the_copy_within_its_hour() -> None:
    assert gitlab_activity.default_status is dg.DefaultSensorStatus.STOPPED
    assert (gitlab_activity.minimum_interval_seconds or 0) >= 60
    assert dt.timedelta(hours=1) > AT_LEAST_EVERY + AFTER_FAILURE
