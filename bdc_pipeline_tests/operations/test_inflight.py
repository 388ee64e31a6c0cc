"""What is under way in an instance."""

import datetime as dt

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from bdc_pipeline.operations.backfill import Asked, Group, hand_over
from bdc_pipeline.operations.inflight import GIVEN_UP, failed_lately, in_flight
from bdc_pipeline_tests.operations.runs import a_run

NOW = dt.datetime.now(dt.UTC)

HOMES, OTHER = dg.AssetKey(["properties", "homes"]), dg.AssetKey(["dmr", "repeaters"])

STATUS = dg.DagsterRunStatus


@pytest.mark.parametrize(
    ("status", "is_under_way"),
    [
        (STATUS.QUEUED, True),
        (STATUS.STARTING, True),
        (STATUS.STARTED, True),
        (STATUS.CANCELING, True),
        (STATUS.SUCCESS, False),
        (STATUS.FAILURE, False),
        (STATUS.CANCELED, False),
        # made and never launched, by a daemon that went down: nobody will
        (STATUS.NOT_STARTED, False),
    ],
)
def test_a_run_of_the_job_is_under_way_until_it_is_over(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, is_under_way: bool
) -> None:
    a_run(instance, status, "refresh")
    assert (in_flight(instance, ("refresh",), {HOMES}, NOW) is not None) is is_under_way


@pytest.mark.parametrize(
    ("job", "keys", "is_under_way"),
    [
        ("other", set(), False),
        ("__ASSET_JOB", {HOMES}, True),
        ("__ASSET_JOB", {OTHER}, False),
        ("__ASSET_JOB", {HOMES, OTHER}, True),
    ],
)
def test_a_run_that_a_person_launched_over_the_same_assets_counts(
    instance: dg.DagsterInstance, job: str, keys: set[dg.AssetKey], is_under_way: bool
) -> None:
    a_run(instance, STATUS.STARTED, job, keys)
    assert (in_flight(instance, ("refresh",), {HOMES}, NOW) is not None) is is_under_way


def test_a_run_that_nobody_will_ever_end_stands_in_the_way_for_a_day(instance: dg.DagsterInstance) -> None:
    a_run(instance, STATUS.STARTED, "refresh")
    assert in_flight(instance, ("refresh",), (), NOW + GIVEN_UP / 2) is not None
    assert in_flight(instance, ("refresh",), (), NOW + 2 * GIVEN_UP) is None


def test_a_backfill_over_the_same_assets_is_under_way_between_its_runs_too(instance: dg.DagsterInstance) -> None:
    days = dg.StaticPartitionsDefinition(["a", "b"])

    @dg.asset(key=HOMES, partitions_def=days)
    def homes() -> None: ...

    backfill = hand_over(instance, [Group("homes", [homes], days)], Asked())
    assert backfill is not None
    assert in_flight(instance, (), {HOMES}, NOW) == f"backfill {backfill.backfill_id} is under way"
    assert in_flight(instance, (), {OTHER}, NOW) is None
    known = instance.get_backfill(backfill.backfill_id)
    assert known is not None
    instance.update_backfill(known.with_status(BulkActionStatus.COMPLETED_SUCCESS))
    assert in_flight(instance, (), {HOMES}, NOW) is None


@pytest.mark.parametrize(
    ("statuses", "minutes", "is_too_soon"),
    [
        ([], 0, False),
        ([STATUS.SUCCESS], 1, False),
        ([STATUS.FAILURE], 1, True),
        ([STATUS.FAILURE], 20, False),
        ([STATUS.FAILURE, STATUS.SUCCESS], 1, False),
        ([STATUS.SUCCESS, STATUS.FAILURE], 1, True),
        ([STATUS.FAILURE, STATUS.CANCELED], 1, True),
    ],
)
def test_after_a_failure_there_is_a_pause(
    instance: dg.DagsterInstance, statuses: list[dg.DagsterRunStatus], minutes: int, is_too_soon: bool
) -> None:
    for status in statuses:
        a_run(instance, status, "refresh")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
    ago = failed_lately(instance, ["refresh"], later, dt.timedelta(minutes=15))
    assert (ago is not None) is is_too_soon
    assert failed_lately(instance, ["other"], later, dt.timedelta(minutes=15)) is None
