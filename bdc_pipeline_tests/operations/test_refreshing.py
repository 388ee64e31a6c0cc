"""What all schedules of the sources have in common."""

import datetime as dt
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline.definitions import AUTOMATIONS, defs
from bdc_pipeline.operations.backfill import Asked, Group, hand_over
from bdc_pipeline.operations.refreshing import schedule_status, sensor_status, whole_range
from bdc_pipeline.running import RANGE_START
from bdc_pipeline_tests.operations.runs import a_run
from bdc_pipeline_tests.operations.ticks import NIGHT, assert_fits, schedule_of, tick

SCHEDULES = [one for source in AUTOMATIONS.values() for one in source.SCHEDULES]

NAMES = [one.name for one in SCHEDULES]

FULL = dg.DagsterRunStatus.STARTED

each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def filled(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """An instance that knows some of Sonar's blocks."""
    instance.add_dynamic_partitions("sonar_customer_blocks", ["0-999", "1000-1999", "5000-5999"])
    instance.add_dynamic_partitions("sonar_inventory_blocks", ["0-999", "3000-3999"])
    return instance


def test_every_source_has_a_schedule() -> None:
    assert all(source.SCHEDULES and source.JOBS and source.GROUPS for source in AUTOMATIONS.values())
    assert len(set(NAMES)) == len(NAMES)


@each
def test_a_turn_asks_for_one_run_over_all_its_partitions_that_the_job_takes(
    name: str, filled: dg.DagsterInstance
) -> None:
    found = tick(name, filled)
    assert found.run.job_name == schedule_of(name).job_name
    assert_fits(found.run)
    job = defs.get_repository_def().get_job(found.run.job_name or "")
    assert (RANGE_START in found.run.tags) is bool(job.partitions_def)


@each
def test_nothing_is_launched_while_a_run_of_the_job_is_in_flight(name: str, filled: dg.DagsterInstance) -> None:
    job = schedule_of(name).job_name
    run = a_run(filled, FULL, job)
    assert tick(name, filled).skipped == f"Nothing is launched twice: run {run.run_id[:8]} is started."
    filled.report_run_canceled(run)
    assert tick(name, filled).run.job_name == job


@each
def test_nothing_is_launched_while_a_person_has_the_same_assets_run(name: str, filled: dg.DagsterInstance) -> None:
    job = defs.get_repository_def().get_job(schedule_of(name).job_name)
    asset = min(job.asset_layer.executable_asset_keys)
    a_run(filled, dg.DagsterRunStatus.QUEUED, "__ASSET_JOB", [asset])
    assert "is queued" in tick(name, filled).skipped


@each
def test_a_run_of_another_source_is_in_nobodys_way(name: str, filled: dg.DagsterInstance) -> None:
    a_run(filled, FULL, "back_up", [dg.AssetKey(["other", "table"])])
    assert tick(name, filled).runs


@each
def test_a_turn_that_is_made_twice_asks_for_the_same_run(name: str, filled: dg.DagsterInstance) -> None:
    keys = [tick(name, filled, at).run.run_key for at in (NIGHT, NIGHT, NIGHT + dt.timedelta(days=1))]
    assert keys[0]
    assert keys[0] == keys[1] != keys[2]


@each
def test_what_asks_a_service_is_off_until_switched_on_and_says_what_it_does(name: str) -> None:
    schedule = schedule_of(name)
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert len(schedule.description or "") > 20


def test_a_backfill_over_the_same_assets_keeps_a_schedule_from_launching(filled: dg.DagsterInstance) -> None:
    [group] = AUTOMATIONS["properties"].GROUPS
    assert isinstance(group, Group)
    assert hand_over(filled, [group], Asked(first="0101", last="0151")) is not None
    assert "is under way" in tick("properties_nightly", filled).skipped


@pytest.mark.parametrize(
    ("value", "is_on"), [("", False), ("off", False), ("on", True), ("ON", True), ("yes please", False)]
)
def test_a_setting_switches_on_what_asks_services(value: str, is_on: bool, unset: pytest.MonkeyPatch) -> None:
    unset.setenv("BDC_AUTOMATION", value)
    assert (schedule_status() is dg.DefaultScheduleStatus.RUNNING) is is_on
    assert (sensor_status() is dg.DefaultSensorStatus.RUNNING) is is_on


@pytest.mark.parametrize(("keys", "found"), [([], None), (["b"], ("b", "b")), (["b", "a", "c"], ("b", "c"))])
def test_the_whole_range_is_the_first_and_the_last_in_the_order_of_registration(
    keys: list[str], found: Any, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions("some", keys)
    assert whole_range(dg.DynamicPartitionsDefinition(name="some"), instance) == found
