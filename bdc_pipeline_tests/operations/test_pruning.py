"""Deleting old runs, with an instance whose runs are on the disk."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from bdc_pipeline.operations import pruning
from bdc_pipeline.operations.maintenance import maintenance
from bdc_pipeline.operations.pruning import Ended, needed_runs, prunable, prune_ledger, prune_runs
from bdc_pipeline.running import RANGE_END, RANGE_START
from bdc_pipeline.sources.properties.tables import PROPERTIES, SCHEMA
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline_tests.operations.runs import a_run

NOW = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)

LATER = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
"""Before which all of a test's runs have ended."""

KEYS = dg.StaticPartitionsDefinition(["a", "b", "c"])

TABLE = dg.AssetKey("table")


@dg.asset(key=TABLE, partitions_def=KEYS, backfill_policy=dg.BackfillPolicy.single_run())
def table(context: dg.AssetExecutionContext) -> None:
    print("printed by the run")


@dg.asset_check(asset=TABLE, name="sound")
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path), {"telemetry": {"enabled": False}}) as made:
        yield made


def materialize(instance: dg.DagsterInstance, first: str, last: str) -> str:
    done = dg.materialize([table], instance=instance, tags={RANGE_START: first, RANGE_END: last})
    assert done.success
    return str(done.run_id)


def prune(instance: dg.DagsterInstance, before: dt.datetime = LATER) -> list[str]:
    return sorted(prune_runs(instance, [dg.AssetCheckKey(TABLE, "sound")], before))


def remembered(instance: dg.DagsterInstance) -> set[str]:
    return {record.dagster_run.run_id for record in instance.get_run_records()}


def test_the_latest_run_of_each_partition_stays_and_the_others_go(on_disk: dg.DagsterInstance) -> None:
    first = materialize(on_disk, "a", "c")
    second = materialize(on_disk, "a", "a")
    third = materialize(on_disk, "a", "b")
    # c stands on the first
    assert prune(on_disk) == [second]
    fourth = materialize(on_disk, "c", "c")
    assert prune(on_disk) == [first]
    assert remembered(on_disk) == {third, fourth}
    assert on_disk.get_materialized_partitions(TABLE) == {"a", "b", "c"}
    latest = on_disk.get_latest_materialization_event(TABLE)
    assert latest is not None
    assert latest.run_id == fourth


def test_a_run_goes_with_its_events_and_all_its_files(on_disk: dg.DagsterInstance, tmp_path: Path) -> None:
    first = materialize(on_disk, "a", "c")
    second = materialize(on_disk, "a", "c")
    assert [path for path in tmp_path.rglob("*") if first in path.name]
    assert prune(on_disk) == [first]
    assert [path for path in tmp_path.rglob("*") if first in path.name] == []
    assert on_disk.get_run_by_id(first) is None
    found = on_disk.fetch_materializations(TABLE, limit=10).records
    assert [record.run_id for record in found] == [second] * 3


def test_young_runs_stay(on_disk: dg.DagsterInstance) -> None:
    materialize(on_disk, "a", "c")
    materialize(on_disk, "a", "c")
    assert prune(on_disk, LATER - dt.timedelta(hours=2)) == []
    assert len(remembered(on_disk)) == 2


def test_runs_that_are_not_over_stay(instance: dg.DagsterInstance) -> None:
    for status in dg.DagsterRunStatus:
        if status is not dg.DagsterRunStatus.MANAGED:
            for _ in range(2):
                a_run(instance, status)
    deleted = prune(instance)
    left = [record.dagster_run.status for record in instance.get_run_records()]
    over = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    # of those that are over, the latest of each kind stays
    assert len(deleted) == 3
    assert {status: left.count(status) for status in left} == {
        status: 1 if status in over else 2
        for status in dg.DagsterRunStatus
        if status is not dg.DagsterRunStatus.MANAGED
    }


def test_the_run_of_a_checks_latest_evaluation_stays(instance: dg.DagsterInstance) -> None:
    defs = dg.Definitions(assets=[table], asset_checks=[sound])
    job = defs.resolve_implicit_global_asset_job_def()
    checked = job.execute_in_process(instance=instance, partition_key="a").run_id
    materialize(instance, "a", "c")
    found = needed_runs(instance, [dg.AssetCheckKey(TABLE, "sound")])
    assert checked in found
    assert checked not in needed_runs(instance, [])


def test_many_partitions_are_asked_for_in_pages(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PAGE", 2)
    runs = [materialize(instance, key, key) for key in ("a", "b", "c", "a")]
    assert needed_runs(instance, []) == set(runs[1:])
    assert prune(instance) == [runs[0]]


def days_ago(days: float) -> dt.datetime:
    return NOW - dt.timedelta(days=days)


@pytest.mark.parametrize(
    ("runs", "needed", "gone"),
    [
        ([], [], []),
        ([("a", "job", "SUCCESS", 90)], [], []),
        ([("a", "job", "SUCCESS", 90), ("b", "job", "SUCCESS", 1)], [], ["a"]),
        ([("a", "job", "SUCCESS", 90), ("b", "job", "SUCCESS", 1)], ["a"], []),
        ([("a", "job", "SUCCESS", 90), ("b", "other", "SUCCESS", 1)], [], []),
        # why a job failed last is worth knowing, also when it was long ago
        ([("a", "job", "FAILURE", 90), ("b", "job", "SUCCESS", 1)], [], []),
        ([("a", "job", "FAILURE", 90), ("b", "job", "FAILURE", 80)], [], ["a"]),
        ([("a", "job", "SUCCESS", 59), ("b", "job", "SUCCESS", 1)], [], []),
        ([("b", "job", "SUCCESS", 70), ("c", "job", "SUCCESS", 80), ("a", "job", "SUCCESS", 90)], [], ["a", "c"]),
    ],
)
def test_what_may_be_deleted(runs: list[tuple[str, str, str, int]], needed: list[str], gone: list[str]) -> None:
    ended = [Ended(run_id, job, status, days_ago(days)) for run_id, job, status, days in runs]
    assert sorted(prunable(ended, needed, days_ago(60))) == gone


# -- ledgers ---------------------------------------------------------------------------------------------------


def noted(path: Path, run_id: str, at: dt.datetime, partition: str = "") -> None:
    """A run of a sync, with a count and a failure."""
    text = at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    with Store(path, SCHEMA) as store, store.transaction():
        ledger.begin_run(store, run_id, "properties", text)
        ledger.add_counts(store, run_id, PROPERTIES, ledger.TableCounts(fetched=1))
        ledger.add_failure(store, run_id, PROPERTIES, [partition], "page 1", "no answer", text)
        ledger.end_run(store, run_id, ledger.Effort(), 1.0, text)
        if partition:
            ledger.record_partition(store, PROPERTIES, partition, run_id, text, {"complete": 1})


def left(path: Path) -> list[list[str]]:
    with Store(path, SCHEMA, read_only=True) as store:
        return [
            sorted(row[0] for row in store.connection.execute(f"SELECT DISTINCT run_id FROM {table}"))
            for table in ("_runs", "_run_tables", "_run_failures")
        ]


def test_old_entries_of_the_ledger_go_except_those_that_partitions_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "LEDGER_KEEPS", 1)
    path = tmp_path / "properties.db"
    noted(path, "old", days_ago(90))
    noted(path, "old, named", days_ago(90), "0101")
    noted(path, "young", days_ago(1))
    noted(path, "younger", days_ago(0.5))
    assert prune_ledger(path, SCHEMA, days_ago(60)) == 1
    assert left(path) == [["old, named", "young", "younger"]] * 3


def test_so_many_entries_stay_whatever_their_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "LEDGER_KEEPS", 2)
    path = tmp_path / "properties.db"
    for days in (90, 80, 70):
        noted(path, str(days), days_ago(days))
    assert prune_ledger(path, SCHEMA, days_ago(60)) == 1
    assert left(path) == [["70", "80"]] * 3


# -- the jobs --------------------------------------------------------------------------------------------------


@pytest.fixture
def local() -> dg.RepositoryDefinition:
    """The jobs that look after local files, beside an asset."""
    made = maintenance([SCHEMA])
    return dg.Definitions(assets=[table], jobs=made.jobs, schedules=made.schedules).get_repository_def()


def test_the_job_prunes_the_instance_that_it_runs_in_and_the_files(
    local: dg.RepositoryDefinition, on_disk: dg.DagsterInstance, data: Path, unset: pytest.MonkeyPatch
) -> None:
    first = materialize(on_disk, "a", "c")
    second = materialize(on_disk, "a", "c")
    noted(data / "properties.db", "old", days_ago(400))
    unset.setenv("BDC_KEEP_RUNS_DAYS", "0.0000001")
    done = local.get_job("prune").execute_in_process(instance=on_disk)
    assert done.success
    assert remembered(on_disk) == {second, done.run_id}
    assert first not in remembered(on_disk)


@pytest.mark.parametrize(
    ("job", "variable", "told"),
    [
        ("prune", "BDC_KEEP_RUNS_DAYS", "BDC_KEEP_RUNS_DAYS is 'x'"),
        ("back_up", "BDC_BACKUP_KEEP", "BDC_BACKUP_KEEP is 'x'"),
    ],
)
def test_a_setting_that_cannot_be_used_fails_the_job_with_a_sentence(
    local: dg.RepositoryDefinition, data: Path, unset: pytest.MonkeyPatch, job: str, variable: str, told: str
) -> None:
    unset.setenv(variable, "x")
    with pytest.raises(dg.Failure, match=told):
        local.get_job(job).execute_in_process()


def test_the_job_backs_up_what_there_is_and_fails_for_what_is_damaged(
    local: dg.RepositoryDefinition, data: Path
) -> None:
    noted(data / "properties.db", "run", NOW)
    done = local.get_job("back_up").execute_in_process()
    [event] = done.get_step_success_events()
    assert len(list((data / "backups").glob("properties-*.db"))) == 1
    (data / "dmr.db").write_bytes(b"no database " * 100)
    with pytest.raises(dg.Failure, match=r"dmr\.db is no SQLite database"):
        local.get_job("back_up").execute_in_process()
    assert event.step_key == "back_up_databases"


@pytest.mark.parametrize(("name", "cron"), [("back_up_daily", "20 0 * * *"), ("prune_weekly", "50 0 * * 0")])
def test_what_touches_local_files_alone_is_on_from_the_start(
    local: dg.RepositoryDefinition, name: str, cron: str
) -> None:
    schedule = local.get_schedule_def(name)
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == cron
