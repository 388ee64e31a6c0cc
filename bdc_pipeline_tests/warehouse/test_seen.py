"""The keys that a run has come across: the same answers in memory, in a table, and on the way from one to the other."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdc_pipeline.warehouse import seen as seen_module
from bdc_pipeline.warehouse.seen import Seen, seen_keys
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.warehouse.shop import ITEMS, LATER, NOTES, SHOP, TAGS, Item

NOW = "2026-01-01T00:00:00.000Z"
ROOMS = [0, 1, 5, 1000]


@contextlib.contextmanager
def database() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def bound(table: Table, key: Any) -> tuple[Any, ...]:
    """A row as it is bound, of its key alone."""
    of_row = dict(zip(table.key, key if isinstance(key, tuple) else (key,), strict=True))
    return tuple(of_row.get(column.name) for column in table.columns)


def in_table(connection: sqlite3.Connection, table: Table) -> set[Any]:
    rows = connection.execute(f"SELECT * FROM {seen_keys(table)}").fetchall()
    return set(rows) if len(table.key) > 1 else {key for (key,) in rows}


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(
    ("table", "keys"),
    [(ITEMS, st.integers(0, 29)), (NOTES, st.text("aé\x00", max_size=2)), (TAGS, st.tuples(st.integers(0, 19), st.sampled_from("ab")))],
    ids=["integers", "texts", "pairs"],
)  # fmt: skip
@settings(max_examples=25)
@given(data=st.data())
def test_it_is_a_set_of_keys_wherever_they_are_kept(room: int, table: Table, keys: Any, data: st.DataObject) -> None:
    steps = ["add", "add", "take back", "spill", *(["forget"] if len(table.key) == 1 else [])]
    with database() as connection:
        seen, model = Seen(connection, table, room), set[Any]()
        for step in data.draw(st.lists(st.sampled_from(steps), max_size=10)):
            batch = data.draw(st.lists(keys, unique=True, max_size=8))
            if step == "add":
                assert seen.add([bound(table, key) for key in batch]) == len(set(batch) - model)
                seen.keep()
                model |= set(batch)
            elif step == "take back":
                connection.execute("SAVEPOINT batch")
                seen.add([bound(table, key) for key in batch])
                connection.execute("ROLLBACK TO batch")
                seen.take_back()
                seen.keep()
                connection.execute("RELEASE batch")
            elif step == "forget":
                seen.forget(batch)
                model -= set(batch)
            else:
                seen.spill()
                assert in_table(connection, table) == model
            counted = {None: len(model)}
            if table.partitioning:
                column = table.key.index(table.partitioning.column)
                parts = [key[column] if isinstance(key, tuple) else key for key in model]
                counted |= Counter(map(table.partitioning.key_of, parts))
            for partition, number in counted.items():
                assert seen.count(partition) in {None, number}
        seen.spill()
        assert in_table(connection, table) == model


@pytest.mark.parametrize("room", ROOMS)
def test_while_each_key_comes_once_they_are_counted_by_partition(room: int) -> None:
    with database() as connection:
        seen = Seen(connection, ITEMS, room)
        assert seen.count(None) == seen.count("0-9") == 0
        for batch in ([1, 2, 11], [3, 12], []):
            seen.add([bound(ITEMS, key) for key in batch])
            seen.keep()
        assert [seen.count(key) for key in (None, "0-9", "10-19", "20-29")] == [5, 3, 2, 0]
        seen.add([bound(ITEMS, 1), bound(ITEMS, 4)])
        assert seen.count(None) is seen.count("0-9") is None


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("table", [ITEMS, NOTES], ids=["integers", "texts"])
def test_a_key_that_is_none_is_refused_and_leaves_the_others_to_be_added_anew(room: int, table: Table) -> None:
    one: Any = 1 if table is ITEMS else "a"
    with database() as connection:
        seen = Seen(connection, table, room)
        connection.execute("SAVEPOINT batch")
        with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
            seen.add([bound(table, one), bound(table, None)])
        connection.execute("ROLLBACK TO batch")
        seen.take_back()
        assert seen.add([bound(table, one)]) == 1
        seen.keep()
        seen.spill()
        assert in_table(connection, table) == {one}


@pytest.mark.parametrize("room", ROOMS)
def test_another_run_in_the_same_connection_begins_with_none(room: int) -> None:
    with database() as connection:
        first = Seen(connection, ITEMS, room)
        first.add([bound(ITEMS, 1)])
        first.keep()
        first.spill()
        assert Seen(connection, ITEMS, room).add([bound(ITEMS, 1)]) == 1


# -- upserts over them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 3, 5])
def test_a_refused_row_beside_the_key_that_fills_the_memory_makes_no_row_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(seen_module, "IN_MEMORY", room)
    with Store(tmp_path / "shop.db", SHOP) as store:
        store.track(SHOP.tables)
        for rows in ([Item(1), Item(2)], [Item(3), Item(4, stock=2**64)], [Item(5), Item(6, stock=2**64), Item(7)]):
            with store.transaction():
                done = store.upsert(ITEMS, rows, NOW)
            assert len(done.refused or ()) == sum(row.stock > 0 for row in rows)
        assert store.held(ITEMS, None) == 5
        assert store.held(ITEMS, "0-9") == 5
        store.seen[ITEMS].spill()
        assert in_table(store.connection, ITEMS) == {1, 2, 3, 5, 7}


@pytest.mark.parametrize("room", [0, 1, 4])
@settings(max_examples=25)
@given(batches=st.lists(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 2**64])), max_size=6), max_size=6))
def test_keys_of_refused_rows_are_not_seen_and_all_others_are(
    room: int, batches: Sequence[Sequence[tuple[int, int]]]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(seen_module, "IN_MEMORY", room)
        with Store(Path(":memory:"), SHOP) as store:
            store.track(SHOP.tables)
            model = set[int]()
            for batch in batches:
                last = dict(batch)
                with store.transaction():
                    done = store.upsert(ITEMS, [Item(key, stock=stock) for key, stock in batch], LATER)
                good = {key for key, stock in last.items() if stock < 2**64}
                assert (done.new, done.repeated) == (len(good - model), len(good & model))
                model |= good
                assert store.held(ITEMS, None) == len(model)
            store.seen[ITEMS].spill()
            assert in_table(store.connection, ITEMS) == model
