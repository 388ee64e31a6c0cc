"""Backfills by command: which partitions, and what is entered into the instance."""

import datetime as dt
import json
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._daemon.types import DaemonHeartbeat

from bdc_pipeline.cli import main
from bdc_pipeline.definitions import AUTOMATIONS, defs
from bdc_pipeline.operations.backfill import Asked, Group, chosen, hand_over, is_carried_out, missing_of
from bdc_pipeline.running import dagster_instance
from bdc_pipeline.settings import SettingsError

KEYS = dg.StaticPartitionsDefinition(["a", "b", "c", "d"])


@dg.asset(partitions_def=KEYS)
def one(context: dg.AssetExecutionContext) -> None:
    if context.partition_key == "b":
        raise dg.Failure("no answer", allow_retries=False)


@dg.asset(partitions_def=KEYS)
def other() -> None: ...


GROUP = Group("letters", [one, other], KEYS)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Asked(), ["a", "b", "c", "d"]),
        (Asked(partitions=("d", "b")), ["b", "d"]),
        (Asked(first="b"), ["b", "c", "d"]),
        (Asked(last="b"), ["a", "b"]),
        (Asked(first="b", last="c"), ["b", "c"]),
        (Asked(first="c", last="c"), ["c"]),
        (Asked(missing=True), ["b", "d"]),
        (Asked(first="c", missing=True), ["d"]),
        (Asked(partitions=("a",), missing=True), []),
    ],
)
def test_which_partitions_are_backfilled(asked: Asked, found: list[str]) -> None:
    assert chosen(GROUP, asked, ["a", "b", "c", "d"], frozenset("bd")) == found


@pytest.mark.parametrize(
    ("asked", "known", "told"),
    [
        (Asked(partitions=("x",)), "abcd", "'x' is no partition of letters. There are 4, a to d."),
        (Asked(first="x"), "abcd", "'x' is no partition"),
        (Asked(last="x"), "abcd", "'x' is no partition"),
        (Asked(first="c", last="b"), "abcd", "--from c lies behind --to b"),
        (Asked(), "", "letters has no partitions yet"),
    ],
)
def test_what_cannot_be_backfilled_is_told_in_a_sentence(asked: Asked, known: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        chosen(GROUP, asked, list(known), frozenset())


def test_missing_is_what_failed_or_was_never_materialized(instance: dg.DagsterInstance) -> None:
    assert missing_of(GROUP, list("abcd"), instance) == frozenset("abcd")
    for key in "abc":
        dg.materialize([one, other], partition_key=key, instance=instance, raise_on_error=False)
    assert missing_of(GROUP, list("abcd"), instance) == frozenset("bd")


def test_what_failed_after_it_had_been_materialized_is_missing_again(instance: dg.DagsterInstance) -> None:
    for key in "abcd":
        instance.report_runless_asset_event(dg.AssetMaterialization("one", partition=key))
        instance.report_runless_asset_event(dg.AssetMaterialization("other", partition=key))
    assert missing_of(GROUP, list("abcd"), instance) == frozenset()
    dg.materialize([one], partition_key="b", instance=instance, raise_on_error=False)
    assert missing_of(GROUP, list("abcd"), instance) == frozenset("b")


def entered(instance: dg.DagsterInstance) -> PartitionBackfill:
    [backfill] = instance.get_backfills()
    return backfill


def partitions_of(backfill: PartitionBackfill) -> dict[str, list[str]]:
    """What a backfill is about, as the daemon reads it."""
    graph = defs.resolve_asset_graph()
    subset = backfill.get_asset_backfill_data(graph).target_subset
    return {
        key.to_user_string(): sorted(partitions.get_partition_keys())
        for key, partitions in subset.partitions_subsets_by_asset_key.items()
    }


def test_a_backfill_is_entered_with_all_assets_of_its_group(instance: dg.DagsterInstance) -> None:
    [group] = AUTOMATIONS["properties"].GROUPS
    found = hand_over(instance, [group], Asked(partitions=("0101", "0147", "0155")))
    assert found is not None
    backfill = entered(instance)
    assert (backfill.backfill_id, backfill.status) == (found.backfill_id, BulkActionStatus.REQUESTED)
    partitions = partitions_of(backfill)
    assert len(partitions) == len(group.keys) > 3
    assert set(map(tuple, partitions.values())) == {("0101", "0147", "0155")}
    # 0151 and 0153 lie in between
    assert found.runs == 2


def test_ids_are_looked_for_among_customers_and_inventory_alike(instance: dg.DagsterInstance) -> None:
    groups = AUTOMATIONS["sonar"].GROUPS
    instance.add_dynamic_partitions("sonar_customer_blocks", ["0-999"])
    instance.add_dynamic_partitions("sonar_inventory_blocks", ["0-999", "1000-1999"])
    found = hand_over(instance, groups, Asked(partitions=("1000-1999",)))
    assert found is not None
    assert found.partitions == {"inventory": ["1000-1999"]}
    with pytest.raises(SettingsError, match="'5-6' is no partition of customers"):
        hand_over(instance, groups, Asked(partitions=("5-6",)))


def test_where_nothing_is_missing_nothing_is_entered(instance: dg.DagsterInstance) -> None:
    for key in KEYS.get_partition_keys():
        for name in ("one", "other"):
            instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=key))
    assert hand_over(instance, [GROUP], Asked(missing=True)) is None
    assert instance.get_backfills() == []


@pytest.mark.parametrize(("minutes", "alive"), [(None, False), (0.5, True), (6, False)])
def test_whether_a_daemon_is_there_to_carry_it_out(
    minutes: float | None, alive: bool, instance: dg.DagsterInstance
) -> None:
    now = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)
    if minutes is not None:
        instance.add_daemon_heartbeat(DaemonHeartbeat(now.timestamp() - 60 * minutes, "BACKFILL", "id"))
    assert is_carried_out(instance, now) is alive


# -- the command -----------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, unset: pytest.MonkeyPatch) -> Path:
    """The directory of an instance, and no variable but it."""
    unset.setenv("BDC_DATA_DIR", str(tmp_path))
    unset.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_command_enters_a_backfill_and_says_that_no_daemon_is_there(home: Path) -> None:
    done = CliRunner().invoke(main, ["backfill", "dmr", "--partition", "tgif", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["partitions"] == {"registries": ["tgif"]}
    assert f"No daemon is running on {home}" in done.stderr
    with dagster_instance() as instance:
        backfill = entered(instance)
    assert backfill.backfill_id == told["backfill"]
    tables = ("repeaters", "talkgroups", "locations", "sources")
    assert partitions_of(backfill) == {f"dmr/{name}": ["tgif"] for name in ("downloads", *tables)}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["backfill", "gitlab"], "Say which partitions"),
        (["backfill", "gitlab", "--all", "--from", "2026-01-01"], "leave --from and --to out"),
        (["backfill", "gitlab", "--partition", "2026-01-01", "--all"], "leave --from, --to and --all out"),
        (["backfill", "gitlab", "--partition", "yesterday"], "'yesterday' is no partition of pipelines"),
        (["backfill", "gitlab", "--all", "--only", "homes"], "There is no group 'homes'. There are pipelines, jobs"),
        (["backfill", "sonar", "--all"], "customers has no partitions yet"),
        (["backfill", "nobody", "--all"], "'nobody' is not one of"),
    ],
)
def test_wrong_usage_is_told_with_status_2(home: Path, arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert told in done.stderr


def test_without_an_instance_it_says_how_to_come_by_one(data: Path) -> None:
    done = CliRunner().invoke(main, ["backfill", "dmr", "--all"])
    assert done.exit_code == 2
    assert "Start 'bdc-pipeline ui', or set DAGSTER_HOME" in done.stderr
