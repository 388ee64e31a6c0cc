"""`bdc-pipeline status`: the picture on a terminal, as JSON, as an exit status; and what runs next."""

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster._core.remote_origin import (  # have no public names, nor have those below
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from bdc_pipeline.commands.status import status
from bdc_pipeline.definitions import defs
from bdc_pipeline.operations.status import Upcoming, status_of, told
from bdc_pipeline.operations.upcoming import next_runs, next_time
from bdc_pipeline.running import dagster_instance
from bdc_pipeline.sources.properties import tables as t
from bdc_pipeline.warehouse.drain import drain
from bdc_pipeline.warehouse.stream import Checked, Missing
from bdc_pipeline_tests.operations import watched as w
from bdc_pipeline_tests.warehouse.shop import Shop, Told, items, listed, missing, rejected

NOW = dt.datetime(2026, 6, 15, 12, tzinfo=dt.UTC)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop.db")


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(status, list(arguments))


def picture(shop: Shop, **given: Any) -> Any:
    now = dt.datetime.now(dt.UTC)
    return status_of([w.watched()], lambda _: shop.path, w.windows(), now, **given)


def homes(data: Path, *codes: str, missed: str = "") -> None:
    """A sync of municipalities that have no homes; one of them is missed."""
    events: list[Any] = [
        Missing(table, (code,), "page 1", "HTTP 500") if code == missed else Checked(table, (code,), 0, full=True)
        for table in (t.PROPERTIES, *t.CHILDREN)
        for code in codes
    ]
    drain(
        Told(*events, tables=t.TABLES, schema=t.SCHEMA), data / "properties.db", f"run of {codes}", partitions=[*codes]
    )


# -- the picture -----------------------------------------------------------------------------------------------


def test_a_table_has_a_line_with_what_it_holds_and_when_it_ran(shop: Shop) -> None:
    shop.sync(items(1, 11), listed(1), listed(1, "10-19"))
    text = told(picture(shop), dt.datetime.now(dt.UTC) + dt.timedelta(hours=3))
    header, line, *_ = text.splitlines()
    assert header.split() == ["asset", "state", "rows", "partitions", "rejects", "last", "run", "next", "run"]
    assert line.split() == ["shop/items", "fresh", "2", "2/2", "0", "3", "hours", "ago", "-"]
    assert text.splitlines()[-1] == "1 fresh, 2 never fetched"


def test_what_is_wrong_is_said_below_once_for_the_tables_that_one_fetch_fills(shop: Shop) -> None:
    shop.sync(
        items(1),
        listed(1),
        missing("10-19"),
        listed(0, table=w.TAGS),
        missing("10-19", table=w.TAGS),
        tables=(w.ITEMS, w.TAGS),
    )
    w.age(shop, 9, "0-9", table="tags")
    w.age(shop, 9, "0-9", table="items")
    lines = told(picture(shop), dt.datetime.now(dt.UTC)).splitlines()
    assert (
        "shop/items, tags incomplete: 1 of 2: 10-19 Shelf (page 2: HTTP 502); stale: 1 of 2: 0-9 Shelf 9 days" in lines
    )


def test_runs_that_failed_or_were_cut_off_and_rejects_are_told(shop: Shop) -> None:
    shop.sync(items(1), rejected(2), listed(2))
    assert [line.split()[-4:] for line in told(picture(shop), dt.datetime.now(dt.UTC)).splitlines()[1:2]] == [
        ["s", "ago,", "failed", "-"]
    ]
    with shop.connected() as connection:
        connection.execute("UPDATE _runs SET finished_at = NULL")
    found = picture(shop)
    assert "ago, not ended" in told(found, dt.datetime.now(dt.UTC))
    assert found.sources[0].tables[0].open_rejects == 1


@pytest.mark.parametrize(
    ("named", "synced", "days", "fresh"),
    [
        (None, True, 0, True),
        ("shop", True, 0, True),
        (None, True, 8, False),
        (None, False, 0, True),  # nobody uses it
        ("shop", False, 0, False),  # but it was asked for
    ],
)
def test_it_is_fresh_when_nothing_is_stale_and_what_was_asked_for_is_there(
    shop: Shop, named: str | None, synced: bool, days: float, fresh: bool
) -> None:
    if synced:
        shop.sync(items(1), listed(1))
        w.age(shop, days, "0-9")
    assert picture(shop, named=named).fresh == fresh


def test_what_runs_next_is_a_time_or_a_sensor(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    coming = {"shop/items": Upcoming("nightly", NOW), "shop/tags": Upcoming("eye")}
    text = told(picture(shop, upcoming=coming), dt.datetime.now(dt.UTC))
    assert "2026-06-15 12:00 UTC" in text
    assert "when eye finds a reason" in text


# -- the command -----------------------------------------------------------------------------------------------


def test_a_source_that_is_fresh_ends_with_0_and_one_that_is_not_with_1(data: Path) -> None:
    homes(data, "0101", "0147")
    assert ask("properties").exit_code == 0
    homes(data, "0101", "0147", missed="0147")
    found = ask("properties")
    assert found.exit_code == 1
    assert "incomplete: 1 of 36: 0147 Frederiksberg (page 1: HTTP 500)" in found.output
    assert ask("dmr").exit_code == 1
    assert "dmr was never fetched: bdc-pipeline sync dmr" in ask("dmr").output


def test_json_has_the_whole_picture(data: Path, unset: pytest.MonkeyPatch) -> None:
    homes(data, "0101", "0147", missed="0147")
    unset.setenv("BDC_FRESHNESS", "properties=2h, gitlb=1h")
    found = ask("--json")
    assert found.exit_code == 1
    picture = json.loads(found.stdout)
    assert picture["fresh"] is False
    assert "BDC_FRESHNESS names 'gitlb'" in picture["problems"][0]
    sources = {source["source"]: source for source in picture["sources"]}
    assert list(sources) == ["sonar", "gitlab", "properties", "dmr"]
    assert sources["dmr"]["state"] == "never"
    assert sources["properties"]["database"] == str(data / "properties.db")
    [table] = [table for table in sources["properties"]["tables"] if table["asset"] == "properties/properties"]
    assert table["partitions"] == {"total": 36, "complete": 1, "stale": 0, "incomplete": 1}
    assert table["window_seconds"] == 7200
    assert table["lacking"][0]["name"] == "0147 Frederiksberg"
    assert table["last_run"]["complete"] is False
    assert table["next_run"] is None


def test_a_window_that_a_setting_shortens_makes_a_copy_stale(data: Path, unset: pytest.MonkeyPatch) -> None:
    homes(data, "0101")
    shop = Shop(data / "properties.db")
    w.age(shop, 0.5, "0101", table="properties")
    assert ask("properties").exit_code == 0
    unset.setenv("BDC_FRESHNESS", "properties/properties=60s")
    found = ask("properties")
    assert found.exit_code == 1
    assert "stale: 1 of 36: 0101 København 12 hours" in found.output


def test_a_file_that_cannot_be_read_is_a_sentence_and_no_good_news(data: Path) -> None:
    (data / "dmr.db").write_bytes(b"broken" * 200)
    found = ask()
    assert found.exit_code == 1
    assert "dmr.db is no SQLite database" in found.output


def test_a_file_can_be_named_for_one_source(data: Path) -> None:
    homes(data, "0101")
    (data / "properties.db").rename(data / "other.db")
    assert ask("properties", "-db", str(data / "other.db")).exit_code == 0
    found = ask("-db", str(data / "other.db"))
    assert found.exit_code == 2
    assert "name it" in found.output


def test_the_ledger_alone_is_asked_where_dagster_was_never_used(data: Path) -> None:
    code = (
        "import sys; from bdc_pipeline.cli import main\n"
        "try: main(['status'])\n"
        "except SystemExit as ended: print(ended.code)\n"
        "print(sorted({'dagster', 'pandas', 'requests', 'bdc_pipeline.sandbox'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0", "[]"]
    assert list(data.iterdir()) == []


# -- what runs next --------------------------------------------------------------------------------------------


@pytest.fixture
def home(data: Path) -> Iterator[dg.DagsterInstance]:
    """The instance that the UI of this data directory uses."""
    with dagster_instance(data / ".dagster") as made:
        yield made


def toy(*, running: bool) -> dg.Definitions:
    """An asset with two schedules, and another with a sensor."""

    @dg.asset(key=["shop", "items"])
    def items() -> None: ...

    @dg.asset(key=["shop", "tags"])
    def tags() -> None: ...

    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    job = dg.define_asset_job("fill", selection=[items])
    look = dg.define_asset_job("look", selection=[tags])

    @dg.sensor(
        name="eye",
        job=look,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
    )
    def eye() -> dg.SkipReason:
        return dg.SkipReason("nothing to see")

    schedules = [
        dg.ScheduleDefinition(name="weekly", job=job, cron_schedule="0 0 * * 0", default_status=status),
        dg.ScheduleDefinition(
            name="nightly",
            job=job,
            cron_schedule="30 4 * * *",
            execution_timezone="Europe/Copenhagen",
            default_status=status,
        ),
    ]
    return dg.Definitions(assets=[items, tags], jobs=[job, look], schedules=schedules, sensors=[eye])


def test_the_earliest_schedule_that_is_on_counts_before_a_sensor(home: dg.DagsterInstance) -> None:
    assert next_runs(toy(running=False), home, NOW) == {}
    assert next_runs(toy(running=True), home, NOW) == {
        "shop/items": Upcoming("nightly", dt.datetime(2026, 6, 16, 2, 30, tzinfo=dt.UTC)),
        "shop/tags": Upcoming("eye"),
    }
    # what was switched in the UI counts before the default
    definitions = toy(running=True)
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="bdc_pipeline.definitions"))
    repository = RemoteRepositoryOrigin(location, definitions.get_repository_def().name)
    off = InstigatorState(
        RemoteInstigatorOrigin(repository, "nightly"),
        InstigatorType.SCHEDULE,
        InstigatorStatus.STOPPED,
        ScheduleInstigatorData("30 4 * * *"),
    )
    home.add_instigator_state(off)
    assert next_runs(definitions, home, NOW)["shop/items"].by == "weekly"


@pytest.mark.parametrize(
    ("cron", "zone", "expected"),
    [
        ("0 * * * *", None, dt.datetime(2026, 6, 15, 13, tzinfo=dt.UTC)),
        ("0 12 * * *", "UTC", dt.datetime(2026, 6, 16, 12, tzinfo=dt.UTC)),  # due now: the next one
        (["0 3 * * *", "*/20 * * * *"], None, dt.datetime(2026, 6, 15, 12, 20, tzinfo=dt.UTC)),
    ],
)
def test_a_schedule_is_due_next_after_now(cron: Any, zone: str | None, expected: dt.datetime) -> None:
    assert next_time(cron, zone, NOW) == expected


def test_the_uis_own_instance_is_asked_and_nothing_runs_until_it_is_switched_on(
    data: Path, home: dg.DagsterInstance
) -> None:
    homes(data, "0101")
    found = json.loads(ask("properties", "--json").stdout)
    assert {table["next_run"] for table in found["sources"][0]["tables"]} == {None}
    assert next_runs(defs, home, NOW) == {}
