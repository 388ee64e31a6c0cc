"""The sensor that tells the checks when files come out otherwise than before."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline.definitions import defs
from bdc_pipeline.operations.checks import Limits
from bdc_pipeline.operations.watching import to_tell, watch_copies
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager
from bdc_pipeline_tests.operations import watched as w
from bdc_pipeline_tests.warehouse.shop import SHOP, Shop, items, listed, missing


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop.db")


class Looking:
    """The sensor over a shop, tick by tick, with an instance that takes what it tells."""

    def __init__(self, shop: Shop, instance: dg.DagsterInstance) -> None:
        self.files = SQLiteIOManager((SHOP,), databases={"shop": str(shop.path)})
        self.sensor = watch_copies([w.watched()], Limits(w.windows(), {}))
        self.instance, self.cursor = instance, ""

    def tick(self) -> dict[str, dg.AssetCheckEvaluation]:
        """What one look tells, by table and check; as the daemon does, it goes to the instance."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor or None)
        found: Any = self.sensor(context, sqlite_io_manager=self.files)
        if isinstance(found, dg.SkipReason):
            self.skipped = str(found.skip_message)
            return {}
        self.cursor = found.cursor
        for event in found.asset_events:
            self.instance.report_runless_asset_event(event)
        return {f"{event.asset_key.path[-1]} {event.check_name}": event for event in found.asset_events}

    def stands(self, table: str, check: str) -> str:
        """How a check stands in the UI."""
        key = dg.AssetCheckKey(dg.AssetKey(["shop", table]), check)
        [summary] = self.instance.event_log_storage.get_asset_check_summary_records([key]).values()
        assert summary.last_check_execution_record
        return str(summary.last_check_execution_record.status.value)


@pytest.fixture
def looking(shop: Shop, instance: dg.DagsterInstance) -> Looking:
    return Looking(shop, instance)


@pytest.mark.parametrize(
    ("found", "told", "names"),
    [
        ({"a": "passed"}, {}, []),
        ({"a": "failed 1"}, {}, ["a"]),
        ({"a": "failed 1"}, {"a": "failed 1"}, []),
        ({"a": "failed 1 2"}, {"a": "failed 1"}, ["a"]),
        ({"a": "passed"}, {"a": "failed 1"}, ["a"]),
    ],
)
def test_what_came_out_otherwise_is_told_once(found: dict[str, str], told: dict[str, str], names: list[str]) -> None:
    assert to_tell(found, told) == names


def test_nothing_is_told_of_what_is_well_or_was_never_fetched(shop: Shop, looking: Looking) -> None:
    assert looking.tick() == {}
    shop.sync(items(1), listed(1))
    assert looking.tick() == {}
    assert looking.skipped == "All is as it was told last."


def test_a_partition_that_grows_stale_while_nothing_runs_is_told_once_and_so_is_its_end(
    shop: Shop, looking: Looking
) -> None:
    shop.sync(items(1, 11), listed(1), listed(1, "10-19"))
    w.age(shop, 8, "0-9")
    told = looking.tick()
    assert list(told) == ["items current"]
    assert told["items current"].description == "stale: 1 of 2: 0-9 Shelf 8 days"
    assert looking.stands("items", "current") == "FAILED"
    w.age(shop, 9, "0-9")
    assert looking.tick() == {}
    w.age(shop, 9, "0-9", "10-19")
    assert list(looking.tick()) == ["items current"]
    shop.sync(items(1, 11), listed(1), listed(1, "10-19"))
    assert looking.tick()["items current"].passed
    assert looking.stands("items", "current") == "SUCCEEDED"


def test_a_run_that_failed_before_its_checks_is_told(shop: Shop, looking: Looking) -> None:
    shop.sync(items(1), listed(1), missing("10-19"))
    told = looking.tick()["items complete"]
    assert told.description == "incomplete: 1 of 2: 10-19 Shelf (page 2: HTTP 502)"
    assert told.severity is dg.AssetCheckSeverity.ERROR


def test_a_file_that_cannot_be_read_is_not_taken_for_a_good_one(shop: Shop, looking: Looking) -> None:
    shop.sync(missing())
    looking.tick()
    before = looking.cursor
    shop.path.write_bytes(b"broken" * 200)
    for name in ("-wal", "-shm"):
        shop.path.with_name(shop.path.name + name).unlink(missing_ok=True)
    assert looking.tick() == {}
    assert "is no SQLite database" in looking.skipped
    assert looking.cursor == before
    assert json.loads(before)["shop/items complete"].startswith("failed")


def test_it_is_on_from_the_start_and_starts_no_run() -> None:
    [sensor] = [sensor for sensor in defs.sensors or () if sensor.name == "watch_copies"]
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.targets == []
