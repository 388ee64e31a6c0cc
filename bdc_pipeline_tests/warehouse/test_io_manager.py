"""Streams and DataFrames on their way through Dagster into a file, and back out."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import msgspec
import numpy as np
import pandas as pd
import pytest

from bdc_pipeline.warehouse import io_manager
from bdc_pipeline.warehouse.drain import DrainOptions, Progress
from bdc_pipeline.warehouse.io_manager import KEY, Sibling, SQLiteIOManager, column_schema, sqlite_io_manager
from bdc_pipeline.warehouse.stream import Effort, Event
from bdc_pipeline_tests.warehouse.guests import GUESTS
from bdc_pipeline_tests.warehouse.interrupts import interrupt_when
from bdc_pipeline_tests.warehouse.shop import (
    ITEMS,
    NOTES,
    SHOP,
    TAGS,
    Shop,
    Told,
    items,
    listed,
    missing,
    notes,
    rejected,
    tags,
)

BLOCKS = dg.StaticPartitionsDefinition(["0-9", "10-19", "20-29"])

RANGE = {"dagster/asset_partition_range_start": "0-9", "dagster/asset_partition_range_end": "20-29"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def files(shop: Shop, **options: Any) -> SQLiteIOManager:
    """The I/O manager, with the shop's file for both sources."""
    return SQLiteIOManager(
        (SHOP, GUESTS), DrainOptions(**options), databases={"shop": str(shop.path), "guests": str(shop.path)}
    )


def asset_of(make: Callable[[], Any], *key: str, **options: Any) -> dg.AssetsDefinition:
    """An asset that returns what `make` does."""

    @dg.asset(key=list(key), io_manager_key=KEY, **options)
    def made() -> Any:
        return make()

    return made


def shelf(make: Callable[[], Told], partitions: dg.PartitionsDefinition | None = BLOCKS) -> dg.AssetsDefinition:
    """Items and their tags from one stream, by partitions, all of a range in one run."""

    @dg.multi_asset(
        outs={name: dg.AssetOut(key=["shop", name], io_manager_key=KEY) for name in ("items", "tags")},
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        name="shelf",
    )
    def shelf() -> Iterator[dg.Output[Any]]:
        stream = make()
        yield dg.Output(stream, "items")
        yield dg.Output(Sibling(stream, TAGS), "tags")

    return shelf


def run(
    asset: dg.AssetsDefinition | Sequence[dg.AssetsDefinition],
    manager: SQLiteIOManager,
    instance: dg.DagsterInstance,
    **options: Any,
) -> dg.ExecuteInProcessResult:
    listed = asset if isinstance(asset, list) else [asset]
    return dg.materialize(listed, instance=instance, resources={KEY: manager}, raise_on_error=False, **options)


def materialized(instance: dg.DagsterInstance, *key: str) -> set[str]:
    return instance.get_materialized_partitions(dg.AssetKey(list(key)))


def metadata_by_partition(
    instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult, *key: str
) -> dict[str | None, dict[str, Any]]:
    """What each materialization of an asset in a run tells."""
    records = instance.fetch_materializations(dg.AssetKey(list(key)), limit=1000).records
    told = [record.asset_materialization for record in records if record.run_id == result.run_id]
    return {
        found.partition: {name: value.value for name, value in found.metadata.items()}
        for found in told
        if found is not None
    }


def failure_of(result: dg.ExecuteInProcessResult) -> dg.Failure:
    """What the one failed step told."""
    assert not result.success
    [event] = result.filter_events(lambda event: event.is_step_failure)
    told = event.step_failure_data.user_failure_data
    assert told is not None, event.step_failure_data.error
    return dg.Failure(told.description, metadata=told.metadata)


def shelf_of(*partitions: str) -> Callable[[], Told]:
    """Two items a partition, one tag each."""

    def make() -> Told:
        events: list[Event] = []
        for partition in partitions:
            low = int(partition.partition("-")[0])
            events += [
                items(low, low + 1),
                tags((low, low + 1), (low, "red"), (low + 1, "blue")),
                listed(2, partition),
                listed(2, partition, table=TAGS),
            ]
        return Told(*events, tables=(ITEMS, TAGS), effort=Effort(requests=4, retries=1, bytes=900))

    return make


# -- streams in ------------------------------------------------------------------------------------------------


def test_a_stream_fills_its_table_and_the_materialization_tells_the_counts(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    def make() -> Told:
        effort = Effort(requests=3, retries=1, bytes=500)
        return Told(notes("a", "b"), listed(2, None, table=NOTES), tables=(NOTES,), effort=effort)

    result = run(asset_of(make, "shop", "notes"), files(shop), instance)

    assert result.success
    assert shop.ask("SELECT code FROM live_notes ORDER BY 1") == [("a",), ("b",)]
    told = metadata_by_partition(instance, result, "shop", "notes")[None]
    counts = {"expected": 2, "fetched": 2, "inserted": 2, "updated": 0, "unchanged": 0, "vanished": 0, "rejected": 0}
    cost = {"requests": 3, "retries": 1, "bytes": 500, "dagster/row_count": 2}
    assert {name: told[name] for name in counts | cost} == counts | cost
    assert told["database"] == str(shop.path)
    assert told["dagster/relation_identifier"] == "shop.db.notes"
    assert told["seconds"] >= 0
    assert told["records_per_second"] > 0


def test_a_run_leads_from_the_ledger_to_dagster(shop: Shop, instance: dg.DagsterInstance) -> None:
    result = run(shelf(shelf_of("0-9")), files(shop), instance, partition_key="0-9")
    assert shop.ask("SELECT run_id, source FROM _runs") == [(result.run_id, "shop")]


def test_one_stream_fills_sibling_tables_and_each_tells_its_own_counts_by_partition(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    result = run(shelf(shelf_of("0-9", "10-19", "20-29")), files(shop), instance, tags=RANGE)

    assert result.success
    assert shop.ids() == [0, 1, 10, 11, 20, 21]
    assert shop.one("SELECT count(*) FROM live_tags") == 6
    for name in ("items", "tags"):
        assert materialized(instance, "shop", name) == {"0-9", "10-19", "20-29"}
        told = metadata_by_partition(instance, result, "shop", name)
        assert set(told) == {"0-9", "10-19", "20-29"}
        assert {of["dagster/partition_row_count"] for of in told.values()} == {2}
        assert {of["run_inserted"] for of in told.values()} == {6}
        assert {of["dagster/relation_identifier"] for of in told.values()} == {f"shop.db.{name}"}


def test_a_single_partition_is_materialized_alone(shop: Shop, instance: dg.DagsterInstance) -> None:
    result = run(shelf(shelf_of("10-19")), files(shop), instance, partition_key="10-19")
    assert result.success
    assert materialized(instance, "shop", "items") == {"10-19"}
    assert shop.ids() == [10, 11]


def test_a_second_run_changes_nothing_and_says_so(shop: Shop, instance: dg.DagsterInstance) -> None:
    definition = shelf(shelf_of("0-9", "10-19", "20-29"))
    run(definition, files(shop), instance, tags=RANGE)
    before = shop.ask("SELECT * FROM items ORDER BY id"), shop.ask("SELECT * FROM tags ORDER BY 1, 2")

    result = run(definition, files(shop), instance, tags=RANGE)

    assert result.success
    assert (shop.ask("SELECT * FROM items ORDER BY id"), shop.ask("SELECT * FROM tags ORDER BY 1, 2")) == before
    for told in metadata_by_partition(instance, result, "shop", "items").values():
        assert (told["run_inserted"], told["run_updated"], told["run_unchanged"]) == (0, 0, 6)


def test_of_a_range_with_a_failed_partition_exactly_the_complete_ones_are_materialized(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    def make() -> Told:
        whole = list(shelf_of("0-9", "20-29")().events)
        partial = [items(10), missing("10-19", expected=2), missing("10-19", table=TAGS)]
        return Told(*partial, *whole, tables=(ITEMS, TAGS))

    result = run(shelf(make), files(shop), instance, tags=RANGE)

    failure = failure_of(result)
    assert failure.description == "1 of 3 partitions not complete: page 2: HTTP 502"
    for name in ("items", "tags"):
        assert materialized(instance, "shop", name) == {"0-9", "20-29"}
        told = metadata_by_partition(instance, result, "shop", name)
        assert {key: of["dagster/partition_row_count"] for key, of in told.items()} == {"0-9": 2, "20-29": 2}
    assert shop.ids() == [0, 1, 10, 20, 21], "what came of the failed partition is kept"
    assert shop.partition("10-19")["complete"] == 0


def test_a_partition_that_one_table_misses_is_still_materialized_for_its_sibling(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    def make() -> Told:
        return Told(items(1), listed(1), missing(table=TAGS), tables=(ITEMS, TAGS))

    result = run(shelf(make), files(shop), instance, partition_key="0-9")

    assert "1 of 1 partitions not complete" in str(failure_of(result).description)
    assert materialized(instance, "shop", "items") == {"0-9"}
    assert materialized(instance, "shop", "tags") == set()


def test_a_run_that_fails_does_not_run_its_op_again(shop: Shop, instance: dg.DagsterInstance) -> None:
    made: list[Told] = []

    def make() -> Told:
        made.append(Told(missing(), tables=(ITEMS,)))
        return made[-1]

    asset = asset_of(make, "shop", "items", partitions_def=BLOCKS, retry_policy=dg.RetryPolicy(max_retries=3))
    assert not run(asset, files(shop), instance, partition_key="0-9").success
    assert len(made) == 1


def test_the_run_after_a_failed_one_completes_the_rest(shop: Shop, instance: dg.DagsterInstance) -> None:
    run(shelf(lambda: Told(items(1), missing(), missing(table=TAGS))), files(shop), instance, partition_key="0-9")
    assert materialized(instance, "shop", "items") == set()

    assert run(shelf(shelf_of("0-9")), files(shop), instance, partition_key="0-9").success
    assert materialized(instance, "shop", "items") == {"0-9"}
    assert shop.partition()["complete"] == 1


def test_a_partition_that_the_stream_does_not_speak_of_is_not_complete(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    result = run(shelf(shelf_of("0-9", "20-29")), files(shop), instance, tags=RANGE)
    assert "items 10-19: nothing was fetched for it" in str(failure_of(result).description)
    assert materialized(instance, "shop", "items") == {"0-9", "20-29"}


def test_a_table_without_partitions_that_is_not_complete_is_not_materialized(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    def make() -> Told:
        return Told(notes("a"), missing(None, table=NOTES), tables=(NOTES,))

    result = run(asset_of(make, "shop", "notes"), files(shop), instance)

    assert failure_of(result).description == "shop not complete: page 2: HTTP 502"
    assert instance.get_latest_materialization_event(dg.AssetKey(["shop", "notes"])) is None
    assert shop.ask("SELECT code FROM notes") == [("a",)]


def test_what_an_option_cut_short_is_stored_but_not_materialized(shop: Shop, instance: dg.DagsterInstance) -> None:
    def make() -> Told:
        return Told(items(1), listed(1, limited=True))

    result = run(asset_of(make, "shop", "items", partitions_def=BLOCKS), files(shop), instance, partition_key="0-9")

    assert failure_of(result).description == "1 of 1 partitions not complete: cut short by 'limit', as asked"
    assert materialized(instance, "shop", "items") == set()
    assert shop.ids() == [1]


def test_of_many_problems_the_first_five_are_named_and_the_others_counted(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    keys = [f"{low}-{low + 9}" for low in range(0, 80, 10)]

    def make() -> Told:
        return Told(*(listed(number + 1, key) for number, key in enumerate(keys)))

    asset = asset_of(
        make,
        "shop",
        "items",
        partitions_def=dg.StaticPartitionsDefinition(keys),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    ends = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    text = str(failure_of(run(asset, files(shop), instance, tags=ends)).description)
    assert text.startswith("8 of 8 partitions not complete: ")
    assert text.endswith("; and 3 more")
    assert text.count("is not accounted for") == 5


def test_rejected_records_are_shown_as_a_table_and_fail_the_run_over_the_limit(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    def make() -> Told:
        events = [rejected(number, raw=f'{{"id": {number}, "junk": "{"x" * 300}"}}') for number in range(2, 9)]
        more = [rejected(9, raw="\udcff"), *(rejected(partition="0-9", raw=f"{n}") for n in range(5))]
        return Told(items(1), *events, *more, listed(14))

    asset = asset_of(make, "shop", "items", partitions_def=BLOCKS)
    failed = failure_of(run(asset, files(shop), instance, partition_key="0-9"))
    assert "13 rejected (13 in all, 0 allowed by --max-rejects): see the table _rejects" in str(failed.description)
    records = failed.metadata["first_rejects"].records
    assert len(records) == io_manager.FIRST_REJECTS
    assert records[0].data["key"] == "2"
    assert records[0].data["reason"] == "no name"
    assert all("raw" not in record.data for record in records)

    result = run(asset, files(shop, max_rejects=13), instance, partition_key="0-9")
    assert result.success
    told = metadata_by_partition(instance, result, "shop", "items")["0-9"]
    assert told["run_rejected"] == 13
    assert len(told["first_rejects"].records) == io_manager.FIRST_REJECTS


def test_an_error_of_the_stream_fails_the_run_and_keeps_what_had_arrived(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    result = run(
        asset_of(lambda: Told(items(1, 2), RuntimeError("the wire was cut")), "shop", "items", partitions_def=BLOCKS),
        files(shop),
        instance,
        partition_key="0-9",
    )
    assert not result.success
    [event] = result.filter_events(lambda event: event.is_step_failure)
    assert "the wire was cut" in event.step_failure_data.error.to_string()
    assert shop.ids() == [1, 2]
    assert materialized(instance, "shop", "items") == set()


def test_a_file_that_is_no_database_fails_the_run_with_a_sentence_and_stays_as_it_was(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    text = "a letter to my aunt\n" * 100
    shop.path.write_text(text)
    result = run(shelf(shelf_of("0-9")), files(shop), instance, partition_key="0-9")
    assert "shop.db is no SQLite database" in str(failure_of(result).description)
    assert "move the file away" in str(failure_of(result).description)
    assert shop.path.read_text() == text


@pytest.mark.parametrize(
    ("returned", "name"), [([1, 2], "list"), (None, "NoneType"), ("rows", "str"), ({"id": 1}, "dict")]
)
def test_what_is_neither_stream_nor_dataframe_is_refused_with_a_sentence(
    shop: Shop, instance: dg.DagsterInstance, returned: object, name: str
) -> None:
    # Dagster hands no output over for an asset that is annotated to return nothing; this one is not
    result = run(asset_of(lambda: returned, "shop", "notes"), files(shop), instance)
    text = str(failure_of(result).description)
    assert text == (
        f"shop/notes returned a {name}. Return a stream of rows (see bdc_pipeline.warehouse.stream) or a DataFrame."
    )
    assert not shop.path.exists()


@pytest.mark.parametrize("key", [("shop", "shoes"), ("garage", "cars"), ("lonely",)])
def test_an_asset_that_is_no_declared_table_is_refused_with_a_sentence(
    shop: Shop, instance: dg.DagsterInstance, key: tuple[str, ...]
) -> None:
    result = run(asset_of(Told, *key), files(shop), instance)
    text = str(failure_of(result).description)
    assert text.startswith(f"{'/'.join(key)} is no declared table. Declared are shop/items, shop/tags, shop/notes")


def test_a_sibling_whose_stream_was_not_drained_does_not_pass_for_filled(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    @dg.multi_asset(outs={"notes": dg.AssetOut(key=["shop", "notes"], io_manager_key=KEY)})
    def forgetful() -> Iterator[dg.Output[Any]]:
        yield dg.Output(Sibling(Told(tables=(NOTES,)), NOTES), "notes")

    result = run(forgetful, files(shop), instance)
    assert "came before the stream that fills it was drained" in str(failure_of(result).description)
    assert instance.get_latest_materialization_event(dg.AssetKey(["shop", "notes"])) is None


def test_progress_goes_to_whoever_asked_for_it(shop: Shop, instance: dg.DagsterInstance) -> None:
    seen: list[Progress] = []
    manager = SQLiteIOManager((SHOP,), databases={"shop": str(shop.path)}, on_progress=seen.append)
    assert run(shelf(shelf_of("0-9")), manager, instance, partition_key="0-9").success
    assert seen[-1].rows == 4


def test_without_a_listener_progress_goes_to_the_log_of_the_run(
    shop: Shop, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_manager, "PROGRESS_SECONDS", 0.0)
    result = run(shelf(shelf_of("0-9")), files(shop), instance, partition_key="0-9")
    lines = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any(line.startswith("4 records, 4 requests, ") for line in lines)


def test_the_options_of_the_resource_reach_the_drain(shop: Shop, instance: dg.DagsterInstance) -> None:
    config = {"databases": {"shop": str(shop.path)}, "max_rejects": 1, "run_id": "nightly"}
    asset = asset_of(lambda: Told(items(1), rejected(2), listed(2)), "shop", "items", partitions_def=BLOCKS)
    result = dg.materialize(
        [asset],
        instance=instance,
        resources={KEY: sqlite_io_manager((SHOP,)).configured(config)},
        partition_key="0-9",
    )
    assert result.success
    assert shop.ask("SELECT run_id FROM _runs") == [("nightly",)]


def test_files_are_in_the_data_directory_where_nothing_else_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BDC_DATA_DIR", str(tmp_path))
    assert SQLiteIOManager(()).path("sonar") == tmp_path / "bdc_cache.db"
    assert SQLiteIOManager((), databases={"sonar": str(tmp_path / "o.db")}).path("sonar") == tmp_path / "o.db"


# -- DataFrames in ---------------------------------------------------------------------------------------------


def write(
    shop: Shop, frame: pd.DataFrame, *key: str, partition: str | None = None, **options: Any
) -> Mapping[str, Any]:
    """Hands a DataFrame to the I/O manager as Dagster does; returns the output's metadata."""
    with dg.DagsterInstance.ephemeral() as instance:
        partitions = dg.DynamicPartitionsDefinition(name="any")
        if partition is not None:
            instance.add_dynamic_partitions("any", [partition])
        asset = asset_of(lambda: frame, *key, partitions_def=partitions if partition is not None else None)
        result = run(asset, files(shop, **options), instance, partition_key=partition)
        if not result.success:
            raise failure_of(result)
        return metadata_by_partition(instance, result, *key)[partition]


def visits(shop: Shop, columns: str = "*") -> list[tuple[Any, ...]]:
    return shop.ask(f"SELECT {columns} FROM live_visits ORDER BY id")


def test_numpy_values_of_a_dataframe_become_sql_values(shop: Shop) -> None:
    frame = pd.DataFrame(
        {
            "id": np.array([1, 2], dtype=np.int32),
            "town": ["Aarhus", "Odense"],
            "paid": np.array([True, False]),
            "score": np.array([1.5, 2.5], dtype=np.float32),
            "guests": np.array([3, 4], dtype=np.uint8),
        }
    )
    told = write(shop, frame, "guests", "visits")
    assert told["inserted"] == 2
    assert told["dagster/row_count"] == 2
    assert visits(shop, "id, town, paid, score, guests") == [(1, "Aarhus", 1, 1.5, 3), (2, "Odense", 0, 2.5, 4)]
    kinds = "typeof(id), typeof(town), typeof(paid), typeof(score), typeof(guests)"
    assert visits(shop, kinds)[0] == ("integer", "text", "integer", "real", "integer")


def test_a_column_that_the_table_lacks_is_refused_before_anything_is_written(shop: Shop) -> None:
    frame = pd.DataFrame({"id": [1], "town": ["Ribe"], "colour": ["red"], 7: [0]})
    with pytest.raises(dg.Failure, match="The DataFrame for visits has columns that the table does not: colour, 7"):
        write(shop, frame, "guests", "visits")
    assert visits(shop) == []


def test_the_rows_of_a_dataframe_belong_to_the_partition_of_the_run(shop: Shop) -> None:
    write(shop, pd.DataFrame({"id": [1, 2], "town": "Ribe"}), "guests", "by_town", partition="Ribe")
    told = write(shop, pd.DataFrame({"id": [3], "town": "Vejle"}), "guests", "by_town", partition="Vejle")
    assert told["dagster/partition_row_count"] == 1
    assert shop.ask("SELECT id, town FROM live_by_town ORDER BY id") == [(1, "Ribe"), (2, "Ribe"), (3, "Vejle")]


# -- DataFrames out --------------------------------------------------------------------------------------------


def read(
    shop: Shop,
    *key: str,
    partitions: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """What a downstream asset gets."""
    context = dg.build_input_context(
        asset_key=dg.AssetKey(list(key)),
        definition_metadata=dict(metadata or {}),
        **(
            {}
            if partitions is None
            else {
                "asset_partitions_def": dg.StaticPartitionsDefinition(list(partitions)),
                "asset_partition_key_range": dg.PartitionKeyRange(partitions[0], partitions[-1]),
            }
        ),
    )
    return files(shop).load_input(context)


def test_a_downstream_asset_reads_the_partition_of_its_run(shop: Shop, instance: dg.DagsterInstance) -> None:
    seen: list[pd.DataFrame] = []

    @dg.asset(ins={"items": dg.AssetIn(key=["shop", "items"])}, partitions_def=BLOCKS)
    def report(items: pd.DataFrame) -> None:
        seen.append(items)

    definition = shelf(shelf_of("0-9", "10-19", "20-29"))
    run(definition, files(shop), instance, tags=RANGE)
    result = run([definition, report], files(shop), instance, partition_key="10-19", selection=[report])

    assert result.success
    assert seen[0]["id"].tolist() == [10, 11]
    assert list(seen[0].columns) == ["id", "name", "price", "stock", "last_updated", "vanished_at", "first_seen"]


def test_an_asset_without_partitions_reads_all_of_them_and_only_the_columns_it_names(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    seen: list[pd.DataFrame] = []
    wanted = dg.AssetIn(key=["shop", "items"], metadata={"columns": ["name", "id"]})

    @dg.asset(ins={"items": wanted})
    def report(items: pd.DataFrame) -> None:
        seen.append(items)

    definition = shelf(shelf_of("0-9", "10-19", "20-29"))
    run(definition, files(shop), instance, tags=RANGE)
    assert run([definition, report], files(shop), instance, selection=[report]).success
    assert seen[0].columns.tolist() == ["name", "id"]
    assert seen[0]["id"].tolist() == [0, 1, 10, 11, 20, 21]


def test_an_input_is_limited_to_the_partitions_asked_for(shop: Shop) -> None:
    shop.sync(items(1, 11, 21), listed(1, "0-9"), listed(1, "10-19"), listed(1, "20-29"))
    assert read(shop, "shop", "items", partitions=["0-9", "10-19"])["id"].tolist() == [1, 11]
    assert read(shop, "shop", "items")["id"].tolist() == [1, 11, 21]


def test_vanished_rows_come_only_where_they_are_asked_for(shop: Shop) -> None:
    shop.sync(items(1, 2), listed(2))
    shop.sync(items(1), listed(1))
    assert read(shop, "shop", "items")["id"].tolist() == [1]
    assert read(shop, "shop", "items", metadata={"include_vanished": True})["id"].tolist() == [1, 2]


def test_an_unknown_column_is_refused_with_a_sentence_that_names_the_known_ones(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    with pytest.raises(dg.Failure) as caught:
        read(shop, "shop", "items", metadata={"columns": ["id", "colour"]})
    assert caught.value.description == (
        "items has no column colour; it has id, name, price, stock, last_updated, vanished_at, first_seen."
    )


def test_a_file_that_is_not_there_is_told_with_what_makes_it(shop: Shop) -> None:
    with pytest.raises(dg.Failure, match=r"shop\.db does not exist\. Run 'bdc-pipeline sync shop' to make it\."):
        read(shop, "shop", "items")
    assert not shop.path.exists()


# -- stopping --------------------------------------------------------------------------------------------------


class Endless(Told):
    """Items that come one by one until somebody says stop; then what is left is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Event()
        self.ended = threading.Event()

    def __iter__(self) -> Iterator[Event]:
        yield items(1)
        yield items(2)
        self.arrived.set()
        assert self.ended.wait(60)
        yield items(3)
        yield missing()

    def stop(self, reason: str) -> None:
        super().stop(reason)
        self.ended.set()


def test_an_interrupt_commits_what_had_arrived_and_is_raised_within_seconds(shop: Shop) -> None:
    stream = Endless()
    presser = interrupt_when(stream.arrived)
    context = dg.build_output_context(asset_key=dg.AssetKey(["shop", "items"]), run_id="first")
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        files(shop).handle_output(context, stream)
    # a fetch that is not told to stop ends after a minute, and is an error
    assert time.monotonic() - began < 30
    presser.join()
    assert stream.stopped == ["interrupted"]
    assert shop.ids() == [1, 2, 3]
    assert shop.is_sound()

    with dg.DagsterInstance.ephemeral() as instance:
        again = asset_of(lambda: Told(items(1, 2, 3, 4), listed(4)), "shop", "items", partitions_def=BLOCKS)
        assert run(again, files(shop), instance, partition_key="0-9").success
    assert shop.ids() == [1, 2, 3, 4]


def test_an_interrupted_run_of_dagster_ends_and_keeps_what_had_arrived(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    stream = Endless()
    presser = interrupt_when(stream.arrived)
    asset = asset_of(lambda: stream, "shop", "items", partitions_def=BLOCKS)
    result = run(asset, files(shop), instance, partition_key="0-9")
    presser.join()
    [event] = result.filter_events(lambda event: event.is_step_failure)
    assert event.step_failure_data.error_source.name == "INTERRUPT"
    assert shop.ids() == [1, 2, 3]
    assert materialized(instance, "shop", "items") == set()
    [record] = instance.get_runs()
    assert record.status is dg.DagsterRunStatus.FAILURE


# -- the column schema -----------------------------------------------------------------------------------------


def test_a_column_schema_tells_types_meanings_and_what_may_be_null() -> None:
    class Described(msgspec.Struct):
        name: str
        type: Annotated[str, "SQL"]
        nullable: bool
        description: str

    found = column_schema([Described("id", "INTEGER", False, "The number"), Described("sum", "", True, "")])
    assert [(c.name, c.type, c.description, c.constraints.nullable) for c in found.columns] == [
        ("id", "INTEGER", "The number", False),
        ("sum", "ANY", None, True),
    ]
