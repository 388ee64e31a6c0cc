"""Taking over what earlier versions left in a file, and refusing what other programs did."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.schema import Schema, View
from bdc_pipeline.warehouse.store import Store, StoreError
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline.warehouse.triggers import Trigger
from bdc_pipeline_tests.warehouse.shop import (
    ITEMS,
    LATER,
    NOTES,
    NOW,
    SHOP,
    Shop,
    asked,
    items,
    listed,
    made,
    put,
    thing,
)

# -- what earlier versions and other programs left -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "held"),
    [
        (("size", str | None), None),
        (("size", str | None, "m"), "m"),
        (("size", int, 0), 0),
        (("size", bool, False), 0),
        (("size", str, "it's"), "it's"),
        (("size", list[int], []), "[]"),
    ],
)
def test_an_added_column_is_taken_over_and_rows_are_kept(tmp_path: Path, field: tuple[Any, ...], held: Any) -> None:
    path = tmp_path / "shop.db"
    put(path, thing(("name", str)), (1, "chair"), (2, "table"))
    with Store(path, thing(("name", str), field)):
        pass
    assert asked(path, "SELECT id, name, size, last_updated FROM live_things WHERE id < 3") == [
        (1, "chair", held, NOW),
        (2, "table", held, NOW),
    ]


def test_a_column_added_in_the_middle_is_bound_to_the_right_place(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, thing(("name", str)), (1, "chair"))
    put(path, thing(("size", int | None), ("name", str)), (1, 5, "chair"), (2, 6, "table"))
    assert asked(path, "SELECT id, name, size FROM things") == [(1, "chair", 5), (2, "table", 6)]


def test_an_added_table_index_and_view_are_made_beside_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, thing(("name", str)), (1, "chair"))
    (things,) = thing(("name", str), indexes=(("name",),)).tables
    with Store(path, Schema("shop", (things, NOTES), (View("names", "SELECT name FROM things", "Names"),))):
        pass
    assert asked(path, "SELECT * FROM names") == [("chair",)]
    assert asked(path, "SELECT count(*) FROM live_notes") == [(0,)]
    assert asked(path, "SELECT name FROM pragma_index_list('things') ORDER BY 1") == [
        ("things_by_name",),
        ("things_vanished",),
    ]


def test_a_changed_view_is_made_anew_with_those_that_read_it(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"

    def schema(select: str) -> Schema:
        table = Table(thing(("name", str)).tables[0].row, "things", stored_as="_things", view=select)
        return Schema("shop", (table,), (View("names", "SELECT name FROM live_things", "Names"),))

    put(path, schema("SELECT * FROM _things"), (1, "chair"))
    with Store(path, schema("SELECT id, upper(name) AS name, vanished_at FROM _things")):
        pass
    assert asked(path, "SELECT * FROM names") == [("CHAIR",)]
    assert asked(path, "SELECT * FROM live_things") == [(1, "CHAIR", None)]


def test_a_view_shows_a_column_that_was_added_to_its_table(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, thing(("name", str)), (1, "chair"))
    put(path, thing(("name", str), ("size", int, 0)), (1, "chair", 5))
    assert asked(path, "SELECT size FROM live_things") == [(5,)]


NAMED = (("name", str),)
DRIFTS = [
    pytest.param(
        thing(("name", int)), "holds 'name' as TEXT NOT NULL, where this version declares INTEGER NOT NULL", id="type"
    ),
    pytest.param(
        thing(("name", str | None)),
        "holds 'name' as TEXT NOT NULL, where this version declares TEXT",
        id="now nullable",
    ),
    pytest.param(thing(), "has a column 'name' that this version does not know", id="column dropped"),
    pytest.param(thing(("label", str, "")), "has a column 'name' that this version does not know", id="renamed"),
    pytest.param(thing(*NAMED, key=("id", "name")), "has another key than (id, name)", id="longer key"),
    pytest.param(thing(*NAMED, key=("name",)), "has another key than (name)", id="other key"),
    pytest.param(
        thing(*NAMED, ("kind", str, ""), key=("id", "kind")),
        "has another key than (id, kind)",
        id="key with a new column",
    ),
    pytest.param(
        thing(*NAMED, ("size", int)),
        "lacks the column 'size', which has no default for the rows there are",
        id="no default",
    ),
]


@pytest.mark.parametrize(("schema", "how"), DRIFTS)
def test_any_other_drift_is_refused_with_a_sentence_and_the_file_stays_as_it_was(
    tmp_path: Path, schema: Schema, how: str
) -> None:
    path = tmp_path / "shop.db"
    put(path, thing(*NAMED), (1, "chair"))
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        Store(path, schema)
    assert str(caught.value) == (
        f"{path}: the table 'things' {how}. Only added columns are taken over by themselves, so nothing was changed. "
        "Run the version that wrote the file, or move the file away and sync anew."
    )
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["shop.db"]


def test_one_drifted_table_keeps_all_others_from_being_changed(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, thing(*NAMED), (1, "chair"))
    before = path.read_bytes()
    with pytest.raises(StoreError):
        Store(path, Schema("shop", (NOTES, *thing(("name", int)).tables)))
    assert path.read_bytes() == before


FOREIGN = [
    pytest.param(["CREATE TABLE things (a, b)"], "things", id="other columns"),
    pytest.param(
        ["CREATE TABLE things (id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL)"], "things", id="no bookkeeping"
    ),
    pytest.param(["CREATE TABLE THINGS (a, b)"], "things", id="in capitals"),
    pytest.param(["CREATE TABLE other (a)", "CREATE VIEW things AS SELECT a AS id FROM other"], "things", id="a view"),
    pytest.param(["CREATE TABLE live_things (a)"], "live_things", id="a table in the view's place"),
    pytest.param(["CREATE TABLE metadata (name TEXT, content TEXT)"], "metadata", id="the ledger's name"),
    pytest.param(
        ["CREATE TABLE other (a)", "CREATE VIEW _runs AS SELECT a FROM other"],
        "_runs",
        id="a view in the ledger's place",
    ),
]


@pytest.mark.parametrize(("statements", "name"), FOREIGN)
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_file_of_another_program_with_the_same_names_is_refused_and_left_alone(
    tmp_path: Path, statements: Sequence[str], name: str, mode: str
) -> None:
    path = made(tmp_path / "shop.db", f"PRAGMA journal_mode = {mode}", *statements)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"(?i)shop\.db.*'{name}'.* [Nn]othing was changed|so nothing was changed"):
        Store(path, thing(*NAMED))
    assert path.read_bytes() == before


def test_other_tables_of_another_program_stay(tmp_path: Path) -> None:
    path = made(tmp_path / "shop.db", "CREATE TABLE other (a)", "INSERT INTO other VALUES (5)")
    put(path, SHOP, (1,))
    assert asked(path, "SELECT a, (SELECT count(*) FROM items) FROM other") == [(5, 1)]


def test_facts_that_another_program_keeps_in_a_like_table_stay(tmp_path: Path) -> None:
    path = made(
        tmp_path / "shop.db",
        "CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT, updated_at TEXT)",
        "INSERT INTO metadata VALUES ('colour', 'red', '')",
    )
    put(path, SHOP, (1,))
    assert asked(path, "SELECT key, value FROM metadata") == [("colour", "red")]


# -- what the file did not keep before -----------------------------------------------------------------------------


def test_columns_and_indexes_that_are_kept_since_are_added_without_loss(tmp_path: Path) -> None:
    path = made(
        tmp_path / "shop.db",
        "CREATE TABLE things (id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL, last_updated TEXT NOT NULL, "
        "vanished_at TEXT) STRICT",
        f"INSERT INTO things VALUES (1, 'chair', '{NOW}', NULL), (2, 'table', '{NOW}', '{NOW}')",
    )
    schema = thing(*NAMED, fingerprinted=True)
    for _ in range(2):
        with Store(path, schema):
            pass
        assert asked(path, "SELECT * FROM things") == [
            (1, "chair", NOW, None, None, None),
            (2, "table", NOW, NOW, None, None),
        ]
    assert asked(path, "SELECT name FROM pragma_table_info('things') WHERE cid > 3 ORDER BY cid") == [
        ("first_seen",),
        ("raw_hash",),
    ]
    assert asked(path, "SELECT name FROM pragma_index_list('things')") == [("things_vanished",)]
    put(path, schema, (1, "stool"), (3, "bed"), now=LATER)
    assert asked(path, "SELECT id, name, first_seen FROM things") == [
        (1, "stool", None),
        (2, "table", None),
        (3, "bed", LATER),
    ]


def test_columns_that_the_ledger_has_got_since_are_added_without_loss(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop.db")
    shop.sync(items(1, 2), listed(2))
    before = shop.partition()
    shop.ask("ALTER TABLE _partitions DROP COLUMN token")
    with Store(shop.path, SHOP) as store:
        state = ledger.partition_states(store.connection, ITEMS)["0-9"]
    assert state.complete
    assert state.token is None
    assert shop.partition() == before
    assert shop.sync(items(1, 2), listed(2)).counts["items"].unchanged == 2


def test_a_file_from_before_the_index_of_vanished_rows_counts_the_same_with_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop.db")
    shop.sync(items(*range(10)), listed(10))
    shop.sync(items(*range(8)), listed(8))
    shop.ask("DROP INDEX items_vanished")
    done = shop.sync(items(*range(8)), listed(8))
    assert done.partition_counts["items"] == {"0-9": 8}
    assert shop.one("SELECT count(*) FROM sqlite_master WHERE name = 'items_vanished'") == 1


# -- triggers ------------------------------------------------------------------------------------------------------


def noting(what: str) -> Schema:
    """A schema with a trigger that notes changes."""
    (things,) = thing(*NAMED).tables
    sql = f"CREATE TRIGGER note AFTER UPDATE ON things\n  BEGIN INSERT INTO notes VALUES ({what}, 'x', '', NULL, NULL); END"
    return Schema("shop", (things, NOTES), triggers=(Trigger("note", sql),))


def test_a_changed_trigger_is_replaced_and_one_that_has_not_changed_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, noting("OLD.name"), (1, "chair"))
    put(path, noting("NEW.name || '!'"), (1, "stool"))
    assert asked(path, "SELECT code FROM notes") == [("stool!",)]
    before = path.read_bytes()
    with Store(path, noting("NEW.name || '!'")):
        pass
    assert path.read_bytes() == before


def test_a_trigger_is_made_in_a_file_from_before_it_was_declared(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, thing(*NAMED), (1, "chair"))
    put(path, noting("OLD.name"), (1, "stool"))
    assert asked(path, "SELECT code FROM notes") == [("chair",)]


def test_a_trigger_may_bear_the_name_of_a_table(tmp_path: Path) -> None:
    path = made(
        tmp_path / "shop.db",
        "CREATE TABLE other (a)",
        "CREATE TRIGGER things AFTER INSERT ON other BEGIN DELETE FROM other; END",
    )
    put(path, thing(*NAMED), (1, "chair"))
    with pytest.raises(StoreError, match="has a column 'name' that this version does not know"):
        Store(path, thing())


def test_a_trigger_of_the_same_name_on_another_program_s_table_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = made(
        tmp_path / "shop.db",
        "CREATE TABLE other (a)",
        "CREATE TRIGGER note AFTER INSERT ON other BEGIN DELETE FROM other; END",
    )
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"already holds a trigger 'note' that this program did not make"):
        Store(path, noting("OLD.name"))
    assert path.read_bytes() == before


# -- spatial indexes -----------------------------------------------------------------------------------------------

PLACED = (("lat", float | None, None), ("lon", float | None, None))


def found(path: Path, south: float, west: float, north: float, east: float) -> list[int]:
    sql = (
        f"SELECT id FROM things_rtree WHERE max_lat >= {south} AND min_lat <= {north} AND max_lon >= {west} "
        f"AND min_lon <= {east} ORDER BY id"
    )
    return [number for (number,) in asked(path, sql)]


def everywhere(path: Path) -> list[int]:
    return found(path, -90, -180, 90, 180)


def test_a_spatial_index_is_made_and_filled_for_the_rows_there_are(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, thing(*PLACED), (1, 55.5, 12.5), (2, None, 12.5), (3, 55.5, None), (4, -33.5, 151.25))
    for _ in range(2):
        with Store(path, thing(*PLACED, spatial=("lat", "lon"))):
            pass
        assert everywhere(path) == [1, 4]
    assert found(path, 55, 12, 56, 13) == [1]


def test_a_spatial_index_comes_with_columns_that_are_added(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    schema = thing(*PLACED, spatial=("lat", "lon"))
    put(path, thing(), (1,))
    put(path, schema, (1, 55.5, 12.5), (2, 1.0, 1.0))
    assert everywhere(path) == [1, 2]


def test_a_spatial_index_keeps_in_step_with_its_table(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    schema = thing(*PLACED, ("name", str, ""), spatial=("lat", "lon"))
    (things,) = schema.tables
    dice = random.Random(4)
    model: dict[int, tuple[float | None, float | None]] = {}

    def place() -> tuple[float | None, float | None]:
        return dice.choice([None, dice.randint(-90, 90) + 0.5]), dice.choice([None, dice.randint(-180, 180) + 0.25])

    with Store(path, schema) as store:
        for step in range(12):
            store.track([things])
            rows = {number: place() for number in dice.sample(range(60), 20)}
            fresh = rows.keys() - model.keys()
            changed = {number for number in rows.keys() & model.keys() if rows[number] != model[number]}
            with store.transaction():
                done = store.upsert(things, [things.row(number, *at) for number, at in rows.items()], NOW)
                assert (done.inserted, done.updated) == (len(fresh), len(changed))
                model |= rows
                gone = dice.sample(sorted(model), 3)
                assert store.erase(things, "id", gone) == 3
                model = {number: at for number, at in model.items() if number not in gone}
            if step == 6:
                store.connection.execute("VACUUM")
            held = dict(store.connection.execute("SELECT id, min_lat || ' ' || min_lon FROM things_rtree").fetchall())
            assert held == {number: f"{lat} {lon}" for number, (lat, lon) in model.items() if None not in {lat, lon}}
    assert asked(path, "SELECT rtreecheck('things_rtree')") == [("ok",)]


@pytest.mark.parametrize(
    ("statements", "kind"),
    [
        (["CREATE TABLE things_rtree (id, min_lat)"], "a table or view"),
        (["CREATE TABLE other (a)", "CREATE VIEW things_rtree AS SELECT a FROM other"], "a table or view"),
    ],
    ids=["table", "view"],
)
def test_another_program_s_table_in_the_place_of_a_spatial_index_is_refused_and_left_alone(
    tmp_path: Path, statements: Sequence[str], kind: str
) -> None:
    path = made(tmp_path / "shop.db", *statements)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"already holds {kind} 'things_rtree' that this program did not make"):
        Store(path, thing(*PLACED, spatial=("lat", "lon")))
    assert path.read_bytes() == before


def test_what_goes_missing_after_a_file_was_in_order_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    put(path, SHOP, (1,))
    for kind in ("view", "index", "trigger", "table"):
        made_by_us = asked(path, f"SELECT name FROM sqlite_master WHERE type = '{kind}' AND sql IS NOT NULL")
        for (name,) in made_by_us:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute(f'DROP {kind} IF EXISTS "{name}"')
            with Store(path, SHOP):
                pass
        again = asked(path, f"SELECT name FROM sqlite_master WHERE type = '{kind}' AND sql IS NOT NULL")
        assert sorted(again) == sorted(made_by_us)


def test_a_file_that_is_put_in_the_place_of_one_that_was_in_order_is_looked_at_anew(tmp_path: Path) -> None:
    path, other = tmp_path / "shop.db", tmp_path / "other.db"
    schema = thing(("name", str))
    put(path, schema, (1, "chair"))
    with Store(path, schema):
        pass
    put(other, thing(("name", int)), (1, 5))
    path.write_bytes(other.read_bytes())
    with pytest.raises(StoreError, match="holds 'name' as INTEGER"):
        Store(path, schema)
