"""Opening a file, refusing what is none, and upserts that count exactly."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bdc_pipeline.warehouse import seen as seen_module
from bdc_pipeline.warehouse.partitioning import ByValue
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.store import Store, StoreError, now_text
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.processes import finished, killed_at_last, line_of
from bdc_pipeline_tests.warehouse.shop import (
    ITEMS,
    LATER,
    NOTES,
    NOW,
    SHOP,
    TAGS,
    Item,
    Note,
    Tag,
    asked,
    connected,
    made,
    put,
)

# -- opening -------------------------------------------------------------------------------------------------------


def test_a_new_file_is_made_with_its_directories_tables_and_views(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "shop.db"
    with Store(path, SHOP):
        pass
    names = {name for (name,) in asked(path, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    assert {"items", "tags", "notes", "live_items", "live_tags", "live_notes"} <= names
    assert {"metadata", "_partitions", "_runs", "_run_tables", "_run_failures", "_rejects"} <= names
    strict = asked(
        path, "SELECT name FROM pragma_table_list WHERE strict = 0 AND type = 'table' AND name NOT LIKE 'sqlite%'"
    )
    assert strict == []


def test_readers_do_not_wait_for_the_writer_since_the_file_is_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, SHOP, (1,))
    with Store(path, SHOP) as store, connected(path) as reader:
        with store.transaction() as connection:
            connection.execute("DELETE FROM items")
            assert reader.execute("SELECT count(*) FROM items").fetchone() == (1,)
        assert reader.execute("SELECT count(*) FROM items").fetchone() == (0,)
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    path.touch()
    put(path, SHOP, (1,))
    assert asked(path, "SELECT id FROM items") == [(1,)]


def test_opening_a_file_that_is_up_to_date_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, SHOP, (1,))
    before = path.read_bytes()
    with Store(path, SHOP):
        pass
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["shop.db"]
    with Store(path, SHOP, read_only=True) as store:
        assert store.live(ITEMS) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["plain.db", "with space?and#hash%20.db", "æøå.db"])
def test_a_file_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, SHOP, (1,))
    with Store(tmp_path / name, SHOP, read_only=True) as store:
        assert store.live(ITEMS) == 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            store.connection.execute("DELETE FROM items")


def test_reading_a_file_that_is_not_there_says_how_to_make_it_and_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "a" / "shop.db"
    with pytest.raises(StoreError, match=r"shop\.db does not exist\. Run 'bdc-pipeline sync shop' to make it\."):
        Store(path, SHOP, read_only=True)
    assert not path.parent.exists()


@pytest.mark.parametrize("below", ["", "deeper/"])
def test_a_directory_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.* cannot be made .*BDC_DATA_DIR or --database"):
        Store(tmp_path / "file" / below / "shop.db", SHOP)


def test_a_directory_in_the_files_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened for writing"):
        Store(tmp_path, SHOP)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(StoreError, match="Check the rights of the file and of its directory"):
            Store(tmp_path / "shop.db", SHOP)
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def not_databases(tmp_path: Path) -> dict[str, bytes]:
    whole = made(tmp_path / "whole.db", "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)").read_bytes()
    return {
        "text": b"id,name\n1,chair\n" * 100,
        "short text": b"x",
        "truncated header": whole[:60],
        "damaged header": b"SQLite format 4\x00" + whole[16:],
        "first page overwritten": whole[:100] + b"\xff" * 300 + whole[400:],
    }


@pytest.mark.parametrize("kind", ["text", "short text", "truncated header", "damaged header", "first page overwritten"])
@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "to read"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, kind: str, read_only: bool) -> None:
    path = tmp_path / "shop.db"
    content = not_databases(tmp_path)[kind]
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"shop\.db is no SQLite database \(.+\)\. Nothing was changed; move the file"):
        Store(path, SHOP, read_only=read_only)
    assert path.read_bytes() == content


def test_an_error_inside_a_transaction_rolls_it_back_and_the_next_one_works(tmp_path: Path) -> None:
    with Store(tmp_path / "shop.db", SHOP) as store:
        for error, expected in ((KeyboardInterrupt, KeyboardInterrupt), (sqlite3.OperationalError, StoreError)):
            with pytest.raises(expected), store.transaction() as connection:  # noqa: PT012
                connection.execute("INSERT INTO items (id, last_updated) VALUES (1, '')")
                raise error
        with store.transaction() as connection:
            assert connection.execute("SELECT count(*) FROM items").fetchone() == (0,)


def test_a_lock_that_another_program_keeps_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with Store(path, SHOP) as store, connected(path) as other:
        store.connection.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"was locked by another program .* run again"), store.transaction():
            pytest.fail("began although locked")


def test_times_of_bookkeeping_sort_and_have_milliseconds() -> None:
    one, other = now_text(), now_text()
    assert one <= other
    assert dt.datetime.fromisoformat(one).tzinfo is dt.UTC
    assert len(one) == len(NOW)


OPENER = """
import sys
from pathlib import Path
from bdc_pipeline.warehouse.store import Store, StoreError
from bdc_pipeline_tests.warehouse.shop import SHOP
print("ready", flush=True)
for line in sys.stdin:
    try:
        Store(Path(line.strip()), SHOP).close()
        print("ok", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def test_processes_that_make_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        openers = [
            stack.enter_context(
                killed_at_last(
                    subprocess.Popen(
                        [sys.executable, "-c", OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                    )
                )
            )
            for _ in range(3)
        ]
        assert [line_of(opener, opener.stdout) for opener in openers] == ["ready\n"] * 3
        for number in range(150):
            path = tmp_path / f"{number}.db"
            for opener in openers:
                assert opener.stdin
                opener.stdin.write(f"{path}\n")
                opener.stdin.flush()
            assert [line_of(opener, opener.stdout) for opener in openers] == ["ok\n"] * 3
            assert asked(path, "PRAGMA integrity_check") == [("ok",)]
        assert [finished(opener).returncode for opener in openers] == [0, 0, 0]


# -- upserts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "shop.db", SHOP) as opened:
        opened.track(SHOP.tables)
        yield opened


def upserted(store: Store, *rows: Item, now: str = NOW) -> tuple[int, int, int, int]:
    """Inserted, updated, new and repeated of rows put in a transaction of their own; none is refused."""
    with store.transaction():
        done = store.upsert(ITEMS, rows, now)
    assert not done.refused
    return done.inserted, done.updated, done.new, done.repeated


def rows_of(store: Store, sql: str = "SELECT id, name, last_updated FROM items ORDER BY id") -> list[tuple[Any, ...]]:
    return store.connection.execute(sql).fetchall()


def begin_anew(store: Store) -> None:
    """As another run would."""
    store.track(SHOP.tables)


def test_a_batch_of_new_changed_and_same_rows_is_counted_exactly(store: Store) -> None:
    assert upserted(store, Item(1, "chair"), Item(2, "table"), Item(3)) == (3, 0, 3, 0)
    begin_anew(store)
    assert upserted(store, Item(1, "chair"), Item(2, "desk"), Item(3), Item(4), now=LATER) == (1, 1, 4, 0)
    assert rows_of(store) == [(1, "chair", NOW), (2, "desk", LATER), (3, None, NOW), (4, None, LATER)]


def test_no_rows_are_no_work(store: Store) -> None:
    assert upserted(store) == (0, 0, 0, 0)


def test_of_rows_with_the_same_key_the_last_one_counts(store: Store) -> None:
    assert upserted(store, Item(1, "a"), Item(2, "b"), Item(1, "c")) == (2, 0, 2, 0)
    assert rows_of(store) == [(1, "c", NOW), (2, "b", NOW)]


def test_a_row_repeated_in_a_later_batch_counts_once_and_its_last_value_stays(store: Store) -> None:
    assert upserted(store, Item(1, "a"), Item(2, "b")) == (2, 0, 2, 0)
    assert upserted(store, Item(2, "c"), Item(3, "d")) == (1, 0, 1, 1)
    assert upserted(store, Item(3, "d"), Item(1, "a")) == (0, 0, 0, 2)
    assert rows_of(store, "SELECT id, name FROM items") == [(1, "a"), (2, "c"), (3, "d")]


def test_a_repeated_row_beside_a_changed_one_is_not_counted_as_changed(store: Store) -> None:
    upserted(store, Item(1, "a"), Item(2, "b"))
    begin_anew(store)
    assert upserted(store, Item(1, "a")) == (0, 0, 1, 0)
    assert upserted(store, Item(1, "x"), Item(2, "y")) == (0, 1, 1, 1)
    assert rows_of(store, "SELECT id, name FROM items") == [(1, "x"), (2, "y")]


def test_a_vanished_row_that_returns_is_counted_as_updated_even_if_it_is_the_same(store: Store) -> None:
    upserted(store, Item(1, "a"), Item(2, "b"))
    begin_anew(store)
    with store.transaction():
        assert store.vanish(ITEMS, ITEMS.where(None), LATER) == 2
    assert upserted(store, Item(1, "a"), now=LATER) == (0, 1, 1, 0)
    assert rows_of(store, "SELECT id, last_updated, vanished_at FROM items") == [(1, LATER, None), (2, NOW, LATER)]


def test_rows_keep_their_rowids_when_they_change_and_when_they_come_again(store: Store) -> None:
    for text in ("old", "old", "new"):
        begin_anew(store)
        with store.transaction():
            store.upsert(NOTES, [Note(code, text) for code in "cab"], NOW)
        assert rows_of(store, "SELECT rowid, code, text FROM notes ORDER BY rowid") == [
            (1, "c", text),
            (2, "a", text),
            (3, "b", text),
        ]


def test_a_key_of_several_columns_tells_rows_apart(store: Store) -> None:
    pairs = [Tag(1, "new"), Tag(1, "old"), Tag(2, "new"), Tag(1, "new", 5)]
    with store.transaction():
        done = store.upsert(TAGS, pairs, NOW)
    assert (done.inserted, done.new) == (3, 3)
    assert rows_of(store, "SELECT item_id, word, weight FROM tags") == [
        (1, "new", 5),
        (1, "old", None),
        (2, "new", None),
    ]


class Kind(enum.Enum):
    GOOD = "good"


class Wide(msgspec.Struct, frozen=True):
    id: int
    number: int = 0
    text: str | None = None
    at: dt.datetime | None = None
    kind: Kind | None = None
    extra: list[Any] | None = None


WIDE = Table(Wide, "wide")
REFUSED = [
    pytest.param(Wide(5, number=2**63), "too large", id="an integer over 64 bits"),
    pytest.param(Wide(5, number=-(2**63) - 1), "too large", id="an integer under 64 bits"),
    pytest.param(Wide(5, text="\ud800"), "surrogates not allowed", id="a lone surrogate"),
    pytest.param(Wide(5, extra=["\ud800"]), "surrogates not allowed", id="a lone surrogate in JSON"),
    pytest.param(Wide(5, at=dt.datetime(2026, 1, 1)), "has no time zone", id="a naive datetime"),  # noqa: DTZ001
    pytest.param(
        Wide(5, at=dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))), "out of range", id="before year 1"
    ),
    pytest.param(Wide(5, number=None), "NOT NULL", id="None for NOT NULL"),  # type: ignore[arg-type]
    pytest.param(Wide(5, number="many"), "cannot store TEXT", id="a text for an integer"),  # type: ignore[arg-type]
    pytest.param(Wide(5, text=["x"]), "not supported", id="a list for a text"),  # type: ignore[arg-type]
    pytest.param(Wide(5, at="2026-01-01"), "tzinfo", id="a text for a datetime"),  # type: ignore[arg-type]
    pytest.param(Wide(5, kind="good"), "value", id="a text for an enum"),  # type: ignore[arg-type]
    pytest.param(Wide(5, extra=[object()]), "unsupported", id="no JSON"),
    pytest.param(Wide(None), "NOT NULL", id="no key"),  # type: ignore[arg-type]
    pytest.param(Wide(2**64), "too large", id="a key over 64 bits"),
]


@pytest.mark.parametrize(("bad", "reason"), REFUSED)
def test_a_row_that_sqlite_cannot_hold_is_refused_alone(tmp_path: Path, bad: Wide, reason: str) -> None:
    with Store(tmp_path / "wide.db", Schema("shop", (WIDE,))) as store:
        store.track([WIDE])
        with store.transaction():
            store.upsert(WIDE, [Wide(1), Wide(2)], NOW)
        store.track([WIDE])
        rows = [Wide(1), Wide(2, number=7), bad, Wide(3), Wide(4)]
        with store.transaction():
            done = store.upsert(WIDE, rows, LATER)
        assert (done.inserted, done.updated, done.new, done.repeated) == (2, 1, 4, 0)
        assert done.refused
        assert [each.row for each in done.refused] == [bad]
        assert reason in done.refused[0].reason
        assert rows_of(store, "SELECT id, number FROM wide") == [(1, 0), (2, 7), (3, 0), (4, 0)]
        assert store.held(WIDE, None) == 4


def test_a_disk_error_is_not_taken_for_a_bad_row(store: Store) -> None:
    store.connection.execute("PRAGMA max_page_count = 30")
    with pytest.raises(StoreError, match="is full"), store.transaction():
        store.upsert(ITEMS, [Item(number, "x" * 5000) for number in range(100)], NOW)
    assert rows_of(store) == []


floats = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 0.1 + 0.2, 1e308, 5e-324])
words = st.text(max_size=4) | st.sampled_from(["é", "e\u0301", "\x00", "1", "1.0", " ", "🛰"])
generated = st.builds(
    Item, st.integers(0, 7), st.none() | words, st.none() | floats, st.sampled_from([0, 1, -(2**63), 2**63 - 1])
)
batches = st.lists(st.tuples(st.booleans(), st.lists(generated, max_size=8)), min_size=1, max_size=8)


@pytest.mark.parametrize("in_memory", [0, 1, 5, seen_module.IN_MEMORY])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(batches=batches)
def test_whatever_comes_in_whatever_batches_the_table_and_the_counts_are_those_of_a_dict(
    monkeypatch: pytest.MonkeyPatch, in_memory: int, batches: list[tuple[bool, list[Item]]]
) -> None:
    """The model knows nothing of SQL; a trigger notes every row that is really written."""
    monkeypatch.setattr(seen_module, "IN_MEMORY", in_memory)
    model: dict[int, tuple[Item, str]] = {}
    seen: set[int] = set()
    with Store(Path(":memory:"), SHOP) as store:
        store.track(SHOP.tables)
        store.connection.execute("CREATE TEMP TABLE written (id INTEGER)")
        store.connection.execute(
            "CREATE TEMP TRIGGER on_update AFTER UPDATE ON main.items BEGIN INSERT INTO written VALUES (new.id); END"
        )
        for number, (another_run, rows) in enumerate(batches):
            if another_run:
                begin_anew(store)
                seen.clear()
            store.connection.execute("DELETE FROM written")
            now = f"2026-01-01T00:00:{number:02}.000Z"
            last = {row.id: row for row in rows}
            inserted = {key for key in last if key not in model}
            different = {key for key, row in last.items() if key in model and model[key][0] != row}
            new = last.keys() - seen
            counts = (len(inserted), len(different & new), len(new), len(last) - len(new))
            model |= {key: (last[key], now) for key in inserted | different}
            seen |= last.keys()

            assert upserted(store, *rows, now=now) == counts
            assert {key for (key,) in rows_of(store, "SELECT id FROM written")} == different
            assert store.held(ITEMS, None) == len(seen)
            held = rows_of(store, "SELECT id, name, price, stock, last_updated FROM items")
            assert {key: (Item(key, *values), when) for key, *values, when in held} == model


# -- what a run has seen -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [0, 4])
def test_the_live_rows_of_many_partitions_are_counted_at_once_as_they_are_one_by_one(
    tmp_path: Path, digits: int
) -> None:
    Row = msgspec.defstruct("Row", [("id", int), ("town", int if digits else str)])  # noqa: N806
    table = Table(Row, "places", partitioning=ByValue("town", digits=digits))
    towns = [101, 147, 155] if digits else ["0101", "it's", "155"]
    with Store(tmp_path / "places.db", Schema("places", (table,))) as store:
        store.track([table])
        with store.transaction() as connection:
            store.upsert(table, [Row(number, towns[number % 2]) for number in range(7)], NOW)
            connection.execute("UPDATE places SET vanished_at = ? WHERE id < 3", (NOW,))
        keys = ["0101", "0147" if digits else "it's", "0155" if digits else "155"]
        with store.transaction() as connection:
            counted: list[str] = []
            store.count_live(table, keys)
            connection.set_trace_callback(counted.append)
            at_once = [store.live(table, [key]) for key in keys]
            assert counted == []
            connection.set_trace_callback(None)
        assert at_once == [store.live(table, [key]) for key in keys] == [2, 2, 0]


def test_rows_are_unseen_unless_they_came_or_were_spared_or_are_newer(store: Store) -> None:
    upserted(store, *(Item(number) for number in range(6)))
    begin_anew(store)
    upserted(store, Item(0), Item(1, "changed"), now=LATER)
    now = now_text()  # by another run, just now; what is yet to come was written under a wrong clock
    with store.transaction() as connection:
        store.spare(ITEMS, [(2,)])
        connection.execute("UPDATE items SET last_updated = ? WHERE id = 3", (now,))
        connection.execute("UPDATE items SET last_updated = '2999-01-01T00:00:00.000Z' WHERE id = 4")
        everywhere = ITEMS.where(None)
        unseen = store.unseen(ITEMS, everywhere, NOW)
        assert unseen is not None
        assert store.count(ITEMS, unseen) == 2
        assert store.vanish(ITEMS, unseen, LATER) == 2
        assert store.count(ITEMS, unseen) == 0
    assert store.live(ITEMS) == 4
    assert store.live(ITEMS, ["10-19"]) == 0
    assert rows_of(store, "SELECT id FROM items WHERE vanished_at IS NOT NULL") == [(4,), (5,)]


def test_keys_that_sqlite_cannot_hold_are_spared_without_harm(store: Store) -> None:
    upserted(store, Item(1))
    with store.transaction():
        store.spare(ITEMS, [(2**64,), ("\ud800",), (1,), ()])
        store.spare(TAGS, [(1, "\ud800"), (1,), (1, "new")])
    assert rows_of(store, "SELECT * FROM temp.spared_tags") == [(1, "new")]
