"""DataFrames on their way into a file, and back out."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bdc_pipeline.warehouse.drain import Drained, DrainOptions, drain
from bdc_pipeline.warehouse.frames import ColumnError, DataFrameStream, load
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stream import Rows
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.warehouse.guests import BY_TOWN, GUESTS, VISITS, Visit
from bdc_pipeline_tests.warehouse.shop import ITEMS, SHOP, Item, Shop, items, listed

# -- in --------------------------------------------------------------------------------------------------------


def write(
    shop: Shop, frame: pd.DataFrame, table: Table = VISITS, partition: str | None = None, **options: Any
) -> Drained:
    """Drains a DataFrame into the file as a run of its own."""
    shop.runs += 1
    keys = None if partition is None else [partition]
    stream = DataFrameStream(GUESTS, table, frame, tuple(keys or ()))
    return drain(stream, shop.path, f"run {shop.runs}", DrainOptions(**options), partitions=keys)


def problem_of(drained: Drained) -> str:
    """Why the one partition is not complete."""
    [problem] = [text for of_table in drained.incomplete.values() for text in of_table.values()]
    return problem


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
    assert write(shop, frame).counts["visits"].inserted == 2
    assert visits(shop, "id, town, paid, score, guests") == [(1, "Aarhus", 1, 1.5, 3), (2, "Odense", 0, 2.5, 4)]
    kinds = "typeof(id), typeof(town), typeof(paid), typeof(score), typeof(guests)"
    assert visits(shop, kinds)[0] == ("integer", "text", "integer", "real", "integer")


def test_numpy_values_in_a_column_of_objects_become_sql_values_too(shop: Shop) -> None:
    frame = pd.DataFrame(
        {
            "id": pd.Series([np.int64(1), 2], dtype=object),
            "town": pd.Series([np.str_("Aarhus"), "Odense"], dtype=object),
            "paid": pd.Series([np.bool_(True), None], dtype=object),
            "score": pd.Series([np.float32(0.5), np.float64("nan")], dtype=object),
            "at": pd.Series([np.datetime64("NaT", "ns"), None], dtype=object),
        }
    )
    write(shop, frame)
    assert visits(shop, "id, town, paid, score, at") == [(1, "Aarhus", 1, 0.5, None), (2, "Odense", None, None, None)]


@pytest.mark.parametrize(
    "gap", [None, float("nan"), np.nan, pd.NA, pd.NaT, np.float32("nan")], ids=["None", "nan", "np", "NA", "NaT", "f32"]
)
def test_whatever_pandas_takes_for_missing_is_null(shop: Shop, gap: Any) -> None:
    frame = pd.DataFrame({"id": [1], "town": ["Ribe"]})
    for name in ("at", "paid", "score", "guests"):
        frame[name] = pd.Series([gap], dtype=object)
    write(shop, frame)
    assert visits(shop, "at, paid, score, guests") == [(None, None, None, None)]


def test_gaps_in_typed_columns_are_null_and_do_not_change_their_neighbours(shop: Shop) -> None:
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "town": ["Ribe", "Ribe"],
            "guests": [7, None],  # pandas makes floats of these
            "paid": pd.array([True, None], dtype="boolean"),
            "score": pd.array([None, 1], dtype="Float64"),
            "at": pd.to_datetime(["2026-01-31T23:30:00-02:00", None], utc=True),
        }
    )
    write(shop, frame)
    assert visits(shop, "guests, paid, score, at") == [
        (7, 1, None, "2026-02-01T01:30:00Z"),
        (None, None, 1.0, None),
    ]


def test_a_timestamp_is_stored_in_utc_and_its_nanoseconds_do_not_matter(shop: Shop) -> None:
    moments = [
        pd.Timestamp("2026-06-30 23:30:00.123456789", tz="America/Chicago"),
        dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    ]
    frame = pd.DataFrame({"id": [1, 2], "town": ["Ribe", "Ribe"], "at": pd.Series(moments, dtype=object)})
    write(shop, frame)
    assert visits(shop, "at") == [("2026-07-01T04:30:00Z",), ("2026-01-01T10:00:00Z",)]


def test_a_timestamp_without_a_zone_is_a_rejected_record(shop: Shop) -> None:
    frame = pd.DataFrame(
        {"id": [1, 2], "town": ["Ribe", "Ribe"], "at": [pd.Timestamp("2026-01-01"), pd.NaT]},
    )
    assert "1 rejected" in problem_of(write(shop, frame))
    assert visits(shop, "id") == [(2,)]
    assert "has no time zone" in shop.one("SELECT reason FROM _rejects")


def test_a_column_that_the_table_lacks_is_refused_before_anything_is_written(shop: Shop) -> None:
    frame = pd.DataFrame({"id": [1], "town": ["Ribe"], "colour": ["red"], 7: [0]})
    with pytest.raises(ColumnError, match="The DataFrame for visits has columns that the table does not: colour, 7"):
        write(shop, frame)
    assert visits(shop) == []


def test_a_column_that_comes_twice_is_refused_with_a_sentence(shop: Shop) -> None:
    frame = pd.DataFrame([[1, "Ribe", "Vejle"]], columns=["id", "town", "town"])
    with pytest.raises(ColumnError, match="visits has columns more than once: town"):
        write(shop, frame)


def test_a_missing_column_takes_its_default(shop: Shop) -> None:
    write(shop, pd.DataFrame({"id": [1], "town": ["Ribe"]}))
    assert visits(shop, "id, town, at, paid, score, guests") == [(1, "Ribe", None, None, None, None)]


def test_a_missing_column_without_a_default_rejects_the_records_and_names_it(shop: Shop) -> None:
    assert "2 rejected" in problem_of(write(shop, pd.DataFrame({"id": [1, 2]})))
    assert visits(shop) == []
    assert shop.ask("SELECT DISTINCT reason FROM _rejects") == [("Object missing required field `town`",)]


def test_a_value_of_the_wrong_type_costs_its_record_alone(shop: Shop) -> None:
    frame = pd.DataFrame({"id": [1, 2, 3], "town": ["Ribe", "Vejle", "Skive"], "guests": ["4", "many", "6"]})
    told = write(shop, frame, max_rejects=1).counts["visits"]
    assert (told.expected, told.fetched, told.rejected) == (3, 2, 1)
    assert visits(shop, "id, guests") == [(1, 4), (3, 6)]
    [(reason, raw)] = shop.ask("SELECT reason, raw FROM _rejects")
    assert "guests" in reason
    assert "many" in raw


def test_of_rows_with_the_same_key_the_last_counts(shop: Shop) -> None:
    frame = pd.DataFrame({"id": [1, 2, 1], "town": ["Ribe", "Vejle", "Skive"]})
    drained = write(shop, frame)
    told = drained.counts["visits"]
    assert visits(shop, "id, town") == [(1, "Skive"), (2, "Vejle")]
    assert (told.expected, told.inserted, drained.partition_counts["visits"][None]) == (2, 2, 2)


def test_rows_that_a_later_dataframe_lacks_have_vanished(shop: Shop) -> None:
    write(shop, pd.DataFrame({"id": range(5), "town": "Ribe"}))
    told = write(shop, pd.DataFrame({"id": range(4), "town": "Ribe"})).counts["visits"]
    assert (told.vanished, told.unchanged) == (1, 4)
    assert visits(shop, "id") == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"id": [], "town": []})], ids=["bare", "no rows"])
def test_an_empty_dataframe_empties_no_table(shop: Shop, frame: pd.DataFrame) -> None:
    write(shop, pd.DataFrame({"id": [1], "town": ["Ribe"]}))
    assert "nothing was marked as vanished" in problem_of(write(shop, frame))
    assert visits(shop, "id") == [(1,)]


def test_the_rows_of_a_dataframe_belong_to_the_partition_of_the_run(shop: Shop) -> None:
    write(shop, pd.DataFrame({"id": [1, 2], "town": "Ribe"}), BY_TOWN, "Ribe")
    drained = write(shop, pd.DataFrame({"id": [3], "town": "Vejle"}), BY_TOWN, "Vejle")
    assert drained.partition_counts["by_town"] == {"Vejle": 1}
    assert shop.ask("SELECT id, town FROM live_by_town ORDER BY id") == [(1, "Ribe"), (2, "Ribe"), (3, "Vejle")]


def test_a_row_of_another_partition_is_rejected_and_says_where_it_belongs(shop: Shop) -> None:
    frame = pd.DataFrame({"id": [1, 2], "town": ["Ribe", "Vejle"]})
    assert "1 rejected" in problem_of(write(shop, frame, BY_TOWN, "Ribe"))
    assert shop.ask("SELECT id FROM live_by_town") == [(1,)]
    assert shop.one("SELECT reason FROM _rejects") == "it belongs to the partition Vejle, which this run is not for"


def test_a_dataframe_written_twice_changes_nothing(shop: Shop) -> None:
    frame = pd.DataFrame({"id": [1, 2], "town": ["Ribe", "Vejle"], "score": [0.1, np.nan]})
    write(shop, frame)
    before = visits(shop)
    told = write(shop, frame).counts["visits"]
    assert (told.inserted, told.updated, told.unchanged) == (0, 0, 2)
    assert visits(shop) == before


# -- out -------------------------------------------------------------------------------------------------------


def read(
    shop: Shop,
    table: Table,
    partitions: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    **options: bool,
) -> pd.DataFrame:
    """The rows of a table in the file."""
    with Store(shop.path, SHOP if table is ITEMS else GUESTS, read_only=True) as store:
        return load(store, table, partitions, columns, **options)


def test_an_input_is_limited_to_the_partitions_asked_for(shop: Shop) -> None:
    shop.sync(items(1, 11, 21), listed(1, "0-9"), listed(1, "10-19"), listed(1, "20-29"))
    assert read(shop, ITEMS, ["0-9", "10-19"])["id"].tolist() == [1, 11]
    assert read(shop, ITEMS)["id"].tolist() == [1, 11, 21]


def test_vanished_rows_come_only_where_they_are_asked_for(shop: Shop) -> None:
    shop.sync(items(1, 2), listed(2))
    shop.sync(items(1), listed(1))
    assert read(shop, ITEMS)["id"].tolist() == [1]
    assert read(shop, ITEMS, include_vanished=True)["id"].tolist() == [1, 2]


def test_an_unknown_column_is_refused_with_a_sentence_that_names_the_known_ones(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    with pytest.raises(KeyError) as caught:
        read(shop, ITEMS, columns=["id", "colour"])
    assert caught.value.args[0] == (
        "items has no column colour; it has id, name, price, stock, last_updated, vanished_at, first_seen."
    )


def test_an_empty_table_gives_an_empty_dataframe_with_its_columns(shop: Shop) -> None:
    shop.sync(listed(0))
    frame = read(shop, ITEMS, columns=["id", "name"])
    assert frame.empty
    assert frame.columns.tolist() == ["id", "name"]


def many(shop: Shop) -> list[str]:
    """1,500 partitions of one item each, in a file; the keys in no order of their ids."""
    numbers = range(0, 15_000, 10)
    rows = Rows(ITEMS, [Item(number + 3, f"item {number}", price=None) for number in numbers])
    keys = [f"{low}-{low + 9}" for low in numbers]
    shop.sync(rows, listed(1500, *keys), commit_interval=100_000)
    return keys[::2] + keys[1::2]


def test_more_partitions_than_sqlite_takes_conditions_can_be_read_at_once(shop: Shop) -> None:
    keys = many(shop)
    frame = read(shop, ITEMS, keys)
    assert frame["id"].tolist() == list(range(3, 15_000, 10)), "sorted by key, whatever the order of the partitions"
    assert frame["stock"].dtype == np.int64


def test_many_partitions_of_which_few_hold_rows_keep_the_types_of_the_columns(shop: Shop) -> None:
    shop.sync(items(5), listed(1))
    keys = [f"{low}-{low + 9}" for low in range(0, 5000, 10)]
    frame = read(shop, ITEMS, keys, ["stock", "name"])
    assert frame.columns.tolist() == ["stock", "name"]
    assert frame["stock"].dtype == np.int64
    assert frame["name"].tolist() == ["item 5"]


def test_no_partitions_are_no_rows(shop: Shop) -> None:
    shop.sync(items(5), listed(1))
    assert read(shop, ITEMS, []).empty


def test_rows_of_a_table_that_is_partitioned_by_another_column_than_its_key_are_sorted_by_key(shop: Shop) -> None:
    towns = [f"town {number:04}" for number in range(450)]
    schema = Schema("guests", (BY_TOWN,))
    rows = [Visit(1000 - number, town) for number, town in enumerate(towns)]
    with Store(shop.path, schema) as store:
        store.track((BY_TOWN,))
        with store.transaction():
            store.upsert(BY_TOWN, rows, "2026-01-01T00:00:00.000Z")
    assert read(shop, BY_TOWN, towns, ["town"])["town"].tolist() == towns[::-1]


def test_what_is_written_comes_back_the_same(shop: Shop) -> None:
    frame = pd.DataFrame({"id": [1, 2], "town": ["Århus", "Øster Ulslev"], "score": [1.5, np.nan], "guests": [3, 4]})
    write(shop, frame)
    found = read(shop, VISITS, columns=list(frame.columns))
    pd.testing.assert_frame_equal(found, frame, check_dtype=False)
