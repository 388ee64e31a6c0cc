"""Running assets from the command line: stages, ranges, the instance, the report."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline import running, settings
from bdc_pipeline.running import Interrupted, Stage, contiguous, dagster_instance, run_stages
from bdc_pipeline.warehouse.io_manager import KEY, SQLiteIOManager
from bdc_pipeline.warehouse.ledger import SyncReport
from bdc_pipeline.warehouse.stream import Effort, Event
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.processes import finished, killed_at_last
from bdc_pipeline_tests.warehouse.shop import ITEMS, NOTES, SHOP, Shop, Told, items, listed, missing, notes

SHELVES = dg.DynamicPartitionsDefinition(name="shop_shelves")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A file that is not there yet."""
    return Shop(tmp_path / "shop.db")


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


# -- ranges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "ranges"),
    [
        ("", []),
        ("a", [("a", "a")]),
        ("abcde", [("a", "e")]),
        ("ab de", [("a", "b"), ("d", "e")]),
        ("ace", [("a", "a"), ("c", "c"), ("e", "e")]),
        ("eba", [("a", "b"), ("e", "e")]),
        ("aab", [("a", "b")]),
        ("az", [("a", "a")]),
        ("xyz", []),
    ],
)
def test_wanted_partitions_become_ranges_of_neighbours(wanted: str, ranges: list[tuple[str, str]]) -> None:
    assert contiguous("abcde", list(wanted)) == ranges


@given(st.lists(st.integers(), unique=True), st.lists(st.integers()))
def test_ranges_hold_what_is_wanted_and_nothing_else_and_none_touches_another(
    numbers: list[int], chosen: list[int]
) -> None:
    order, wanted = list(map(str, numbers)), set(map(str, chosen)) | set(map(str, numbers[::3]))
    places = {key: place for place, key in enumerate(order)}
    ranges = [(places[first], places[last]) for first, last in contiguous(order, list(wanted))]
    covered = [order[place] for first, last in ranges for place in range(first, last + 1)]
    assert covered == [key for key in order if key in wanted]
    assert all(end + 1 < begin for (_, end), (begin, _) in itertools.pairwise(ranges))


# -- the instance ----------------------------------------------------------------------------------------------


def test_without_dagster_home_the_instance_is_in_memory() -> None:
    with dagster_instance() as instance:
        assert instance.is_ephemeral


def test_an_instance_in_memory_keeps_the_events_of_runs_and_none_of_partitions() -> None:
    days = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")

    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def daily() -> None: ...

    tags = {running.RANGE_START: "2026-01-01", running.RANGE_END: "2026-01-31"}
    with dagster_instance() as instance:
        result = dg.materialize([daily], instance=instance, tags=tags)
        kept = {record.dagster_event_type for record in instance.all_logs(result.run_id)}
    assert len(result.asset_materializations_for_node("daily")) == 31, "the run's own result tells of them"
    assert dg.DagsterEventType.RUN_SUCCESS in kept
    assert not kept & {
        dg.DagsterEventType.ASSET_MATERIALIZATION,
        dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    }


def test_dagster_home_is_made_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "deep" / "down"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dagster_instance() as instance:
        assert instance.root_directory == str(home)
        assert not instance.is_ephemeral


def test_an_instance_that_is_made_sends_no_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with dagster_instance() as instance:
        assert not instance.telemetry_enabled


def test_an_instance_that_is_there_keeps_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "telemetry:\n  enabled: true\n"
    (tmp_path / "dagster.yaml").write_text(text)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dagster_instance() as instance:
        assert instance.telemetry_enabled
    assert (tmp_path / "dagster.yaml").read_text() == text


def test_a_relative_dagster_home_is_refused_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "here")
    with (
        pytest.raises(settings.SettingsError, match=r"DAGSTER_HOME is 'here', which is not absolute"),
        dagster_instance(),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_dagster_home_that_cannot_be_made_is_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "file"))
    with pytest.raises(settings.SettingsError, match="cannot be used"), dagster_instance():
        pass


def test_a_dagster_home_with_a_broken_configuration_is_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: [1, 2\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(settings.SettingsError, match="cannot be used"), dagster_instance():
        pass


@pytest.mark.slow
def test_several_processes_that_open_a_new_dagster_home_at_once_leave_it_whole(tmp_path: Path) -> None:
    code = "from bdc_pipeline.running import dagster_instance\nwith dagster_instance() as i: print(i.get_runs_count())"
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path / "home")}
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                killed_at_last(
                    subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
                )
            )
            for _ in range(3)
        ]
        done = [finished(process) for process in processes]
    assert [(one.stdout, one.returncode) for one in done] == [("0\n", 0)] * 3


# -- stages ----------------------------------------------------------------------------------------------------

Asked = list[list[str]]


def by_shelf(make: Callable[[str], list[Event | BaseException]], asked: Asked | None = None) -> dg.AssetsDefinition:
    """Items by partitions, from the events that `make` gives for each."""

    @dg.asset(
        key=["shop", "items"],
        io_manager_key=KEY,
        partitions_def=SHELVES,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def shelves(context: dg.AssetExecutionContext) -> Any:
        keys = sorted(context.partition_keys, key=lambda key: int(key.partition("-")[0]))
        if asked is not None:
            asked.append(keys)
        return Told(*(event for key in keys for event in make(key)), effort=Effort(requests=len(keys)))

    return shelves


def whole(key: str) -> list[Event | BaseException]:
    low = int(key.partition("-")[0])
    return [items(low, low + 1), listed(2, key)]


def noted(*codes: str) -> dg.AssetsDefinition:
    @dg.asset(key=["shop", "notes"], io_manager_key=KEY)
    def noted() -> Any:
        return Told(notes(*codes), listed(len(codes), None, table=NOTES), tables=(NOTES,), effort=Effort(requests=1))

    return noted


def sync(shop: Shop, *stages: Stage, before: Effort | None = None, tables: Sequence[Table] = ()) -> SyncReport:
    def resources(run_id: str, stage: str) -> Mapping[str, Any]:
        return {KEY: SQLiteIOManager((SHOP,), databases={"shop": str(shop.path)}, run_id=run_id)}

    return run_stages(
        stages, SHOP, shop.path, resources, before=before or Effort(), started=time.monotonic(), tables=tables
    )


def test_stages_are_run_one_after_the_other_and_have_one_report(shop: Shop) -> None:
    report = sync(
        shop,
        Stage("notes", noted("a", "b")),
        Stage("items", by_shelf(whole), SHELVES, ["0-9", "10-19"]),
        before=Effort(requests=7, retries=2),
    )
    assert report.complete
    assert report.failures == []
    assert (report.source, report.requests, report.retries) == ("shop", 10, 2)
    assert report.tables["notes"].inserted == 2
    assert report.tables["items"].inserted == 4
    assert shop.ids() == [0, 1, 10, 11]
    assert shop.one("SELECT count(*) FROM _runs") == 1


def test_neighbouring_partitions_share_a_run_and_holes_divide_it(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    asked: Asked = []
    keys = ["0-9", "10-19", "20-29", "30-39"]
    sync(shop, Stage("items", by_shelf(whole), SHELVES, keys))
    sync(shop, Stage("items", by_shelf(whole, asked), SHELVES, ["0-9", "20-29", "30-39"]))
    assert asked == [["0-9"], ["20-29", "30-39"]]


def test_a_partition_that_was_found_late_shares_the_run_of_those_registered_beside_it(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    asked: Asked = []
    sync(shop, Stage("items", by_shelf(whole), SHELVES, ["0-9", "20-29"]))
    assert sync(shop, Stage("items", by_shelf(whole, asked), SHELVES, ["0-9", "10-19", "20-29"])).complete
    assert asked == [["0-9", "10-19", "20-29"]]


def test_with_dagster_home_runs_and_materialized_partitions_are_recorded_there(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))

    def make(key: str) -> list[Event | BaseException]:
        return whole(key) if key != "10-19" else [missing(key)]

    report = sync(shop, Stage("items", by_shelf(make), SHELVES, ["0-9", "10-19", "20-29"]))
    assert not report.complete
    with dagster_instance() as instance:
        assert instance.get_dynamic_partitions("shop_shelves") == ["0-9", "10-19", "20-29"]
        assert instance.get_materialized_partitions(dg.AssetKey(["shop", "items"])) == {"0-9", "20-29"}
        [run] = instance.get_runs()
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert run.tags[running.RANGE_START] == "0-9"
    assert run.tags[running.RANGE_END] == "20-29"


def test_without_dagster_home_nothing_is_left_but_the_file(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sync(shop, Stage("notes", noted("a"))).complete
    assert {path.name for path in tmp_path.iterdir()} <= {"shop.db", "shop.db-wal", "shop.db-shm"}


def test_what_is_missing_is_told_once(shop: Shop) -> None:
    report = sync(shop, Stage("items", by_shelf(lambda key: [missing(key)]), SHELVES, ["0-9"]))
    assert not report.complete
    assert [(failure.unit, failure.error) for failure in report.failures] == [("page 2", "HTTP 502")]


def test_a_stage_that_fails_does_not_stop_those_after_it(shop: Shop) -> None:
    def fail(key: str) -> list[Event | BaseException]:
        raise dg.Failure("The shop is closed on Mondays.", allow_retries=False)

    report = sync(shop, Stage("items", by_shelf(fail), SHELVES, ["0-9"]), Stage("notes", noted("a")))
    assert not report.complete
    assert [(failure.unit, failure.error) for failure in report.failures] == [
        ("items", "The shop is closed on Mondays.")
    ]
    assert report.tables["notes"].inserted == 1


def test_nobody_knows_how_much_was_to_come_of_a_fetch_that_did_not_come_to_its_end(shop: Shop) -> None:
    stage = Stage("items", by_shelf(whole), SHELVES, ["0-9"])
    assert sync(shop, Stage("notes", noted("a"))).complete
    with shop.connected() as connection:
        # the last transaction of a fetch writes there: what came before is committed
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON metadata BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    fails = sync(shop, stage, tables=(ITEMS, NOTES))
    assert "full" in fails.failures[0].error
    assert (fails.tables["items"].expected, fails.tables["notes"].expected) == (None, None)
    with shop.connected() as connection:
        connection.execute("DROP TRIGGER full")
    done = sync(shop, stage, tables=(ITEMS,))
    assert (done.tables["items"].fetched, done.tables["items"].expected) == (2, 2)


def test_the_tables_of_a_sync_are_noted_before_its_first_stage(shop: Shop) -> None:
    seen: list[list[str]] = []

    def look(key: str) -> list[Event | BaseException]:
        with shop.connected() as connection:
            sql = "SELECT table_name FROM _run_tables JOIN _runs USING (run_id) WHERE finished_at IS NULL ORDER BY 1"
            seen.append([name for (name,) in connection.execute(sql)])
        return whole(key)

    sync(shop, Stage("items", by_shelf(look), SHELVES, ["0-9"]), tables=(ITEMS, NOTES))
    assert seen == [["items", "notes"]]


def test_a_run_that_fails_before_its_first_step_is_a_failure(shop: Shop) -> None:
    @dg.io_manager
    def broken(_: object) -> dg.IOManager:
        raise OSError("no such device")

    def resources(*_: str) -> Mapping[str, Any]:
        return {KEY: broken}

    stage = Stage("items", by_shelf(whole), SHELVES, ["0-9"])
    report = run_stages([stage], SHOP, shop.path, resources, before=Effort(), started=time.monotonic(), tables=(ITEMS,))
    assert not report.complete
    assert [(failure.unit, failure.error) for failure in report.failures] == [("items", "OSError: no such device")]


def test_an_error_that_nobody_foresaw_is_told_by_what_is_behind_it(shop: Shop) -> None:
    def fail(key: str) -> list[Event | BaseException]:
        raise ZeroDivisionError("division of nothing")

    report = sync(shop, Stage("items", by_shelf(fail), SHELVES, ["0-9"]))
    assert [(failure.unit, failure.error) for failure in report.failures] == [
        ("items", "ZeroDivisionError: division of nothing")
    ]


def test_an_error_in_the_stream_is_told_and_what_had_arrived_is_counted(shop: Shop) -> None:
    def broken(key: str) -> list[Event | BaseException]:
        return [items(1, 2), RuntimeError("the wire was cut")]

    report = sync(shop, Stage("items", by_shelf(broken), SHELVES, ["0-9"]))
    assert [failure.error for failure in report.failures] == ["RuntimeError: the wire was cut"]
    assert not report.complete
    assert report.tables["items"].inserted == 2


def test_the_configuration_of_a_stage_reaches_its_ops(shop: Shop) -> None:
    class Wanted(dg.Config):
        code: str = "nothing"

    @dg.op(out=dg.Out(io_manager_key=KEY))
    def write(config: Wanted) -> Any:
        return Told(notes(config.code), listed(1, None, table=NOTES), tables=(NOTES,))

    @dg.graph_asset(key_prefix="shop", name="notes")
    def written() -> Any:
        return write()

    assert sync(shop, Stage("notes", written, config={"write": {"config": {"code": "told"}}})).complete
    assert shop.ask("SELECT code FROM notes") == [("told",)]


def test_no_stages_are_no_complete_sync(shop: Shop) -> None:
    report = sync(shop)
    assert not report.complete
    assert [failure.error for failure in report.failures] == ["nothing was asked for"]


def test_syncs_do_not_see_each_others_reports(shop: Shop) -> None:
    sync(shop, Stage("notes", noted("a")))
    report = sync(shop, Stage("notes", noted("a", "b")))
    assert (report.tables["notes"].inserted, report.tables["notes"].unchanged) == (1, 1)


# -- interrupts ------------------------------------------------------------------------------------------------


class Waiting(Told):
    """Two items, then Ctrl-C, then what a stop leaves."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number
        self.ended = threading.Event()

    def __iter__(self) -> Iterator[Event]:
        yield items(1, 2)
        signal.pthread_kill(threading.main_thread().ident or 0, self.number)
        assert self.ended.wait(60)
        yield missing()

    def stop(self, reason: str) -> None:
        self.ended.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupt_ends_the_sync_with_a_report_of_what_had_arrived(shop: Shop, number: signal.Signals) -> None:
    @dg.asset(key=["shop", "items"], io_manager_key=KEY, partitions_def=SHELVES)
    def waiting() -> Any:
        return Waiting(number)

    began = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        sync(shop, Stage("items", waiting, SHELVES, ["0-9"]), Stage("notes", noted("a")))
    # a fetch that is not told to stop ends after a minute, and is an error
    assert time.monotonic() - began < 30
    report = caught.value.report
    assert not report.complete
    assert report.tables["items"].inserted == 2
    assert shop.ids() == [1, 2]
    assert report.failures[0].unit == "sync"
    assert report.failures[0].error.startswith("interrupted: what had arrived is stored")
    assert shop.ask("SELECT * FROM notes") == [], "stages after it are not begun"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("place", ["in an op", "between the steps"])
def test_an_interrupt_outside_of_a_drain_ends_the_sync_too(shop: Shop, place: str) -> None:
    @dg.op
    def plan() -> int:
        if place == "in an op":
            os.kill(os.getpid(), signal.SIGINT)
        return 1

    @dg.op(out=dg.Out(io_manager_key=KEY))
    def fetch(planned: int) -> Any:
        return Told(notes("a"), listed(1, None, table=NOTES), tables=(NOTES,))

    @dg.graph_asset(key_prefix="shop", name="notes")
    def planned() -> Any:
        return fetch(plan())

    class Pressing(dg.InMemoryIOManager):
        def handle_output(self, context: dg.OutputContext, obj: object) -> None:
            super().handle_output(context, obj)
            os.kill(os.getpid(), signal.SIGINT)

    def resources(run_id: str, stage: str) -> Mapping[str, Any]:
        files = SQLiteIOManager((SHOP,), databases={"shop": str(shop.path)}, run_id=run_id)
        return {KEY: files, "io_manager": Pressing() if place != "in an op" else dg.InMemoryIOManager()}

    stages = [Stage("notes", planned), Stage("more", noted("b"))]
    with pytest.raises(Interrupted) as caught:
        run_stages(stages, SHOP, shop.path, resources, before=Effort(), started=time.monotonic())
    assert [failure.unit for failure in caught.value.report.failures] == ["sync"]
    assert shop.ask("SELECT * FROM notes") == []


def test_a_sync_after_an_interrupted_one_completes_it(shop: Shop) -> None:
    @dg.asset(key=["shop", "items"], io_manager_key=KEY, partitions_def=SHELVES)
    def waiting() -> Any:
        return Waiting(signal.SIGINT)

    with pytest.raises(Interrupted):
        sync(shop, Stage("items", waiting, SHELVES, ["0-9"]))
    report = sync(shop, Stage("items", by_shelf(lambda key: [items(1, 2, 3), listed(3)]), SHELVES, ["0-9"]))
    assert report.complete
    assert (report.tables["items"].inserted, report.tables["items"].unchanged) == (1, 2)
    assert ITEMS.name in report.tables
