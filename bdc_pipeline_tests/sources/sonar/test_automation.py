"""What keeps Sonar's copy current by itself."""

import datetime as dt
from collections.abc import Iterator

import dagster as dg
import pytest

from bdc_pipeline import settings
from bdc_pipeline.definitions import build_defs
from bdc_pipeline.fetching.answers import FetchError
from bdc_pipeline.sources.sonar.assets import CUSTOMER_BLOCKS, INVENTORY_BLOCKS, SonarResource
from bdc_pipeline.sources.sonar.automation import SENSORS, new_keys, sonar_new_blocks
from bdc_pipeline_tests.operations import ticks
from bdc_pipeline_tests.sources.sonar.syncing import Copy


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def tick(instance: dg.DagsterInstance, sonar: SonarResource | None = None) -> dg.SensorResult | dg.SkipReason:
    """What the sensor says; what it asks for is done, as the daemon does it."""
    with dg.build_sensor_context(instance=instance) as context:
        found = sonar_new_blocks(context, sonar=sonar or SonarResource(workers=2))
    if isinstance(found, dg.SensorResult):
        for request in found.dynamic_partitions_requests or ():
            instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
    return found


def registered(instance: dg.DagsterInstance) -> dict[str, list[str]]:
    return {
        str(definition.name): sorted(
            instance.get_dynamic_partitions(str(definition.name)), key=lambda key: int(key.partition("-")[0])
        )
        for definition in (CUSTOMER_BLOCKS, INVENTORY_BLOCKS)
    }


@pytest.mark.parametrize(
    ("found", "known", "new"),
    [
        ([], set(), []),
        ([], {"0-999"}, []),
        (["0-999", "1000-1999"], set(), ["0-999", "1000-1999"]),
        (["0-999", "1000-1999"], {"0-999"}, ["1000-1999"]),
        (["0-999"], {"0-999"}, []),
        (["3000-3999", "1000-1999"], {"2000-2999"}, ["3000-3999", "1000-1999"]),
    ],
)
def test_new_blocks_are_those_that_are_not_registered_in_their_order(
    found: list[str], known: set[str], new: list[str]
) -> None:
    assert new_keys(found, known) == new


def test_the_sensor_registers_the_blocks_of_a_source_seen_for_the_first_time(
    copy: Copy, instance: dg.DagsterInstance
) -> None:
    assert isinstance(tick(instance), dg.SensorResult)
    truth = copy.truth()
    assert registered(instance) == {
        "sonar_customer_blocks": blocks_of(truth["accounts"]),
        "sonar_inventory_blocks": blocks_of(truth["items"]),
    }


def blocks_of(rows: list[tuple[int, ...]]) -> list[str]:
    """The blocks that hold these rows, by their ids."""
    return [f"{low}-{low + 999}" for low in sorted({row[0] // 1000 * 1000 for row in rows})]


def test_the_sensor_skips_where_nothing_is_new(copy: Copy, instance: dg.DagsterInstance) -> None:
    tick(instance)
    before = registered(instance)
    skipped = tick(instance)
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "No new blocks of ids."
    assert registered(instance) == before


def test_the_sensor_asks_for_the_blocks_of_new_customers_alone(copy: Copy, instance: dg.DagsterInstance) -> None:
    tick(instance)
    before = registered(instance)
    copy.sandbox.insert(1000, "Account")
    expected = blocks_of(copy.truth()["accounts"])
    assert len(expected) == len(before["sonar_customer_blocks"]) + 1

    found = tick(instance)

    assert isinstance(found, dg.SensorResult)
    [request] = found.dynamic_partitions_requests or ()
    assert request.partitions_def_name == "sonar_customer_blocks"
    assert registered(instance)["sonar_customer_blocks"] == expected


@pytest.mark.parametrize("fault", ["500", "403", "html"])
def test_a_failed_read_raises_and_registers_nothing(copy: Copy, instance: dg.DagsterInstance, fault: str) -> None:
    copy.sandbox.configure(faults=[fault])
    with pytest.raises(FetchError):
        tick(instance, SonarResource(workers=2, attempts=1))
    assert registered(instance) == {"sonar_customer_blocks": [], "sonar_inventory_blocks": []}


def test_a_read_that_fails_for_one_of_the_two_registers_neither(copy: Copy, instance: dg.DagsterInstance) -> None:
    copy.sandbox.configure(faults=["500@inventory_items"])
    with pytest.raises(FetchError):
        tick(instance, SonarResource(workers=2, attempts=1))
    assert registered(instance) == {"sonar_customer_blocks": [], "sonar_inventory_blocks": []}


def test_without_its_variables_the_sensor_says_which_is_missing(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SONAR_URL", raising=False)
    with pytest.raises(settings.SettingsError, match="SONAR_URL is not set"):
        tick(instance)


def test_what_the_sensor_registers_can_be_synced(copy: Copy, instance: dg.DagsterInstance) -> None:
    tick(instance)
    keys = registered(instance)["sonar_customer_blocks"]
    assert copy.sync(partitions=tuple(keys), inventory=False).complete


# -- schedules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "blocks", "plan", "days"),
    [
        ("sonar_customers_hourly", "sonar_customer_blocks", ("sonar_customers", "plan_customers"), None),
        ("sonar_inventory_hourly", "sonar_inventory_blocks", ("sonar_inventory", "plan_inventory"), None),
        ("sonar_customers_nightly", "sonar_customer_blocks", ("sonar_customers", "plan_customers"), 0.5),
        ("sonar_inventory_nightly", "sonar_inventory_blocks", ("sonar_inventory", "plan_inventory"), 0.5),
    ],
)
def test_a_schedule_asks_for_all_registered_blocks_as_one_run(
    instance: dg.DagsterInstance, name: str, blocks: str, plan: tuple[str, str], days: float | None
) -> None:
    assert ticks.tick(name, instance).skipped.startswith("No block of ids is registered. Switch the sensor")
    instance.add_dynamic_partitions(blocks, ["0-999", "1000-1999", "7000-7999"])
    found = ticks.tick(name, instance)
    assert found.range == ("0-999", "7000-7999")
    assert ticks.op_config(found.run, *plan).get("days") == days


def test_the_small_lists_are_asked_for_every_night(instance: dg.DagsterInstance) -> None:
    assert ticks.tick("sonar_lookups_nightly", instance).run.job_name == "refresh_sonar_lookups"


def test_the_hourly_run_brings_changes_and_the_nightly_one_what_only_a_full_listing_sees(
    copy: Copy, instance: dg.DagsterInstance
) -> None:
    tick(instance)
    assert copy.sync().complete
    first, second = (row[0] for row in copy.truth()["items"][:2])
    copy.sandbox.update("InventoryItem", first, status="CHANGED")
    # somebody mended it in Sonar's database by hand, and left the date as it was
    copy.sandbox.update("InventoryItem", second, at="2020-01-01T00:00:00Z", status="MENDED")
    of_both = f"SELECT group_concat(status) FROM inventory_items WHERE id IN ({first}, {second}) AND status GLOB '*ED'"
    assert ran("sonar_inventory_hourly", instance).success
    assert copy.one(of_both) == "CHANGED"
    # the sync's full listing was a day ago
    day_ago = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    copy.execute("UPDATE _partitions SET verified_at = ?", day_ago)
    assert ran("sonar_inventory_nightly", instance).success
    assert copy.one(of_both) == "CHANGED,MENDED"


def ran(name: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """What came of the run that a schedule asks for."""
    request = ticks.tick(name, instance).run
    job = build_defs(resources={"sonar": SonarResource(workers=2)}).resolve_job_def(str(request.job_name))
    return job.execute_in_process(
        run_config=dict(request.run_config or {}), tags=dict(request.tags), instance=instance, raise_on_error=False
    )


def test_the_sensor_is_off_until_somebody_switches_it_on_and_asks_once_an_hour_at_most() -> None:
    assert [sonar_new_blocks] == SENSORS
    assert sonar_new_blocks.default_status is dg.DefaultSensorStatus.STOPPED
    assert (sonar_new_blocks.minimum_interval_seconds or 0) >= 3600
