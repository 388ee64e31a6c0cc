"""Sonar's assets as Dagster runs them: ranges in one run, what runs tell, what failures leave."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bdc_pipeline.definitions import build_defs
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.running import RANGE_END, RANGE_START, dagster_instance
from bdc_pipeline.sources.sonar import assets
from bdc_pipeline.sources.sonar import entities as e
from bdc_pipeline.sources.sonar import tables as t
from bdc_pipeline.sources.sonar.assets import SonarResource, SonarSyncConfig, find_blocks
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.sources.sonar.syncing import TOKEN, Copy, copying

SONAR = SonarResource(workers=4, attempts=2)

GROUPS = {"sonar_lookups": t.LOOKUPS, "sonar_customers": t.OF_CUSTOMERS, "sonar_inventory": t.OF_INVENTORY}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[Copy]:
    """A sandbox whose customers are spread over several blocks of ids."""
    with copying(tmp_path, customers=600, ids="sparse") as made:
        yield made


def register(instance: dg.DagsterInstance) -> list[str]:
    """Registers the blocks of customers and items; returns those of customers."""
    found = []
    for definition, entity in ((assets.CUSTOMER_BLOCKS, e.ACCOUNTS), (assets.INVENTORY_BLOCKS, e.INVENTORY_ITEMS)):
        blocks, _ = find_blocks(SONAR, Stop(), (entity,))
        instance.add_dynamic_partitions(str(definition.name), blocks)
        found.append(blocks)
    return found[0]


def materialize(
    instance: dg.DagsterInstance, asset: dg.AssetsDefinition, *ends: str, **options: Any
) -> dg.ExecuteInProcessResult:
    """Runs an asset with the project's own resources, over a range of partitions where its ends are given."""
    tags = {RANGE_START: ends[0], RANGE_END: ends[-1]} if ends else {}
    resources = {**(build_defs().resources or {}), "sonar": SONAR}
    return dg.materialize([asset], instance=instance, resources=resources, tags=tags, raise_on_error=False, **options)


def key_of(table: Table) -> dg.AssetKey:
    return dg.AssetKey(["sonar", table.name])


def materialized(instance: dg.DagsterInstance, tables: tuple[Table, ...]) -> list[set[str]]:
    return [instance.get_materialized_partitions(key_of(table)) for table in tables]


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    [event] = result.filter_events(lambda event: event.is_step_failure)
    assert event.step_failure_data.user_failure_data is not None, event.step_failure_data.error
    return str(event.step_failure_data.user_failure_data.description)


def metadata_of(instance: dg.DagsterInstance, table: Table) -> dict[str, Any]:
    [record] = instance.fetch_materializations(key_of(table), limit=1).records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


@pytest.mark.parametrize("definition", assets.ASSETS, ids=lambda definition: definition.node_def.name)
def test_each_group_of_tables_is_one_graph_of_a_plan_and_a_fetch(definition: dg.AssetsDefinition) -> None:
    name = definition.node_def.name
    assert definition.keys == {key_of(table) for table in GROUPS[name]}
    assert {spec.group_name for spec in definition.specs} == {name}
    assert isinstance(definition.node_def, dg.GraphDefinition)
    assert {op.partition("_")[0] for op in definition.node_def.node_dict} == {"plan", "fetch"}


def test_every_table_belongs_to_exactly_one_group() -> None:
    names = [table.name for tables in GROUPS.values() for table in tables]
    assert sorted(names) == sorted(table.name for table in t.SCHEMA.tables)


def test_the_small_lists_are_copied_whole_and_tell_their_rows(copy: Copy, instance: dg.DagsterInstance) -> None:
    assert materialize(instance, assets.sonar_lookups).success
    truth = copy.truth()
    for table in t.LOOKUPS:
        told = metadata_of(instance, table)
        assert told["dagster/row_count"] == told["inserted"] == len(truth[table.stored])
        assert told["database"] == str(copy.path)


def test_a_range_of_blocks_is_copied_in_one_run_and_all_its_partitions_are_materialized(
    sparse: Copy, instance: dg.DagsterInstance
) -> None:
    blocks = register(instance)
    assert len(blocks) > 2
    result = materialize(instance, assets.sonar_customers, blocks[0], blocks[-1])
    assert result.success
    assert materialized(instance, t.OF_CUSTOMERS) == [set(blocks)] * len(t.OF_CUSTOMERS)
    assert materialized(instance, t.OF_INVENTORY) == [set()] * len(t.OF_INVENTORY)
    truth = sparse.truth()
    assert sparse.one("SELECT count(*) FROM live_customers") == len(truth["accounts"])
    rows = {
        record.partition_key: record.asset_materialization.metadata["dagster/partition_row_count"].value
        for record in instance.fetch_materializations(key_of(t.CUSTOMERS), limit=1000).records
        if record.asset_materialization is not None
    }
    assert rows == {
        block: sum(int(block.partition("-")[0]) == row[0] // 1000 * 1000 for row in truth["accounts"])
        for block in blocks
    }


def test_a_run_over_some_blocks_leaves_the_others_alone(sparse: Copy, instance: dg.DagsterInstance) -> None:
    blocks = register(instance)
    assert materialize(instance, assets.sonar_customers, blocks[1], blocks[2]).success
    assert materialized(instance, t.OF_CUSTOMERS) == [set(blocks[1:3])] * len(t.OF_CUSTOMERS)
    ids = [number for (number,) in sparse.query("SELECT id FROM live_customers")]
    assert {f"{number // 1000 * 1000}-{number // 1000 * 1000 + 999}" for number in ids} == set(blocks[1:3])


def test_a_plan_tells_what_is_to_be_fetched_and_a_second_one_finds_less(
    copy: Copy, instance: dg.DagsterInstance
) -> None:
    [block] = register(instance)

    def planned() -> dict[str, Any]:
        result = materialize(instance, assets.sonar_customers, block)
        assert result.success
        [event] = [
            event
            for event in result.filter_events(lambda event: event.is_successful_output)
            if "plan_customers" in str(event.step_key)
        ]
        metadata = event.step_output_data.metadata
        return {name: value.value for name, value in metadata.items()}

    first = planned()
    truth = copy.truth()
    assert first["blocks_in_full"] == 3
    assert first["records_expected"] == sum(len(truth[name]) for name in ("accounts", "addresses", "account_services"))
    second = planned()
    assert second["blocks_in_full"] == 0
    assert second["records_expected"] == 0


def test_a_page_that_fails_leaves_its_block_unmaterialized_in_its_table_and_no_other(
    sparse: Copy, instance: dg.DagsterInstance
) -> None:
    blocks = register(instance)
    low = blocks[1].partition("-")[0]
    sparse.sandbox.configure(faults=[rf"500@^account_services page=\d+ records=100 .*account_id>={low},"])

    text = failure_of(materialize(instance, assets.sonar_customers, blocks[0], blocks[-1]))

    assert text.startswith(f"1 of {len(blocks)} partitions not complete: account_services {blocks[1]} ")
    assert "the server answered 500" in text
    whole, cut = set(blocks), set(blocks) - {blocks[1]}
    assert materialized(instance, t.OF_CUSTOMERS) == [whole, whole, cut, whole]

    sparse.sandbox.configure(faults=[])
    assert materialize(instance, assets.sonar_customers, blocks[0], blocks[-1]).success
    assert materialized(instance, t.OF_CUSTOMERS) == [whole] * 4


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("SONAR_URL", "", "SONAR_URL is not set. Set it to your instance"),
        ("SONAR_TOKEN", "", "SONAR_TOKEN is not set. Create a personal access token"),
        ("SONAR_URL", "sonar", "SONAR_URL is 'sonar', which is no web address"),
    ],
)
def test_a_run_without_its_variables_fails_with_a_sentence(
    copy: Copy,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    text: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert failure_of(materialize(instance, assets.sonar_lookups)).startswith(text)
    assert copy.sandbox.stats()["total"] == 0


def test_a_file_that_is_no_database_fails_the_run_before_anything_is_asked(
    copy: Copy, instance: dg.DagsterInstance
) -> None:
    copy.path.write_text("a letter to my aunt\n" * 100)
    assert "is no SQLite database" in failure_of(materialize(instance, assets.sonar_lookups))
    assert copy.sandbox.stats()["total"] == 0


def test_a_refused_token_fails_the_run_with_a_sentence_and_without_the_token(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    with copying(tmp_path, token="SYNTHETIC-OTHER-TOKEN") as copy:
        text = failure_of(materialize(instance, assets.sonar_lookups))
        assert "the server answered 401" in text
        assert "Check that the token is right" in text
        assert TOKEN not in text
        assert copy.sandbox.stats()["total"] >= 1


def test_the_configuration_of_a_run_reaches_the_plan(copy: Copy, instance: dg.DagsterInstance) -> None:
    [block] = register(instance)
    assert materialize(instance, assets.sonar_customers, block).success
    config = {"ops": {"sonar_customers": {"ops": {"plan_customers": {"config": {"force": True}}}}}}
    copy.sandbox.reset_stats()
    assert materialize(instance, assets.sonar_customers, block, run_config=config).success
    assert metadata_of(instance, t.CUSTOMERS)["run_unchanged"] == len(copy.truth()["accounts"])


def test_a_configuration_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        SonarSyncConfig(limit=0)
    with pytest.raises(ValueError, match="days"):
        SonarSyncConfig(days=-1)
    with pytest.raises(ValueError, match="page_size"):
        SonarResource(page_size=0)


def test_the_number_of_threads_comes_from_the_resource_or_else_from_the_variable(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONAR_WORKERS", "3")
    assert SonarResource().threads == 3
    assert SonarResource(workers=7).threads == 7


def test_downstream_code_reads_the_customers_as_a_dataframe(copy: Copy, instance: dg.DagsterInstance) -> None:
    [block] = register(instance)
    assert materialize(instance, assets.sonar_customers, block).success
    assert materialize(instance, assets.sonar_lookups).success
    seen: list[Any] = []
    wanted = dg.AssetIn(key=key_of(t.CUSTOMERS), metadata={"columns": ["id", "status"]})

    @dg.asset(ins={"customers": wanted})
    def report(customers: Any) -> None:
        seen.append(customers)

    result = dg.materialize(
        [assets.sonar_customers, report],
        selection=[report],
        instance=instance,
        resources={**(build_defs().resources or {}), "sonar": SONAR},
    )
    assert result.success
    assert seen[0].columns.tolist() == ["id", "status"]
    assert seen[0]["id"].tolist() == [row[0] for row in copy.truth()["accounts"]]
    assert seen[0]["status"].notna().all()


def test_the_token_is_in_no_file_of_dagster_or_the_copy(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    home = copy.path.parent / "home"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    assert copy.sync().complete
    copy.sandbox.configure(faults=["500@account_services", "403@inventory_items"])
    assert not copy.sync(force=True, attempts=1).complete
    with dagster_instance() as instance:
        runs = instance.get_runs()
        assert len(runs) >= 5
        texts = [str(entry.to_json()) for run in runs for entry in instance.all_logs(run.run_id)]
        assert instance.get_materialized_partitions(key_of(t.CUSTOMERS))
    assert texts
    assert not [text for text in texts if TOKEN in text]
    files = [path for path in copy.path.parent.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" and path.is_relative_to(home) for path in files)
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_a_run_in_dagster_is_the_run_in_the_ledger(copy: Copy, instance: dg.DagsterInstance) -> None:
    result = materialize(instance, assets.sonar_lookups)
    assert copy.query("SELECT run_id, source, complete FROM _runs") == [(result.run_id, "sonar", 1)]
    assert copy.one("PRAGMA integrity_check") == "ok"
