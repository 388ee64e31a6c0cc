"""Stored rows, read back as their row type."""

import datetime as dt
import enum
import sqlite3
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.stored_rows import StoredRows
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.warehouse.shop import ITEMS, LATER, NOTES, NOW, Item, Note, Shop, items, listed, notes, put


class Size(enum.Enum):
    """How large a thing is."""

    SMALL = "S"
    LARGE = "L"


class Thing(msgspec.Struct, frozen=True):
    """A row with a field of each kind."""

    id: int
    name: str
    price: float | None = None
    sold: bool | None = None
    size: Size = Size.SMALL
    state: Literal["new", "old"] = "new"
    words: list[str] = []
    parts: dict[str, int] | None = None
    image: bytes | None = None
    day: dt.date | None = None
    at: dt.datetime | None = None


THINGS = Table(Thing, "things", indexes=(("name",),))
SCHEMA = Schema("things", (THINGS,))


@pytest.mark.parametrize(
    "thing",
    [
        Thing(1, "bare"),
        Thing(2, "null", 3.0, sold=True, size=Size.LARGE, state="old"),
        Thing(3, "7", 0.5, sold=False, words=["a", "ø"], parts={"b": 1}),
        Thing(
            4, "[1]", image=b"\x00\xff[1]", day=dt.date(2026, 1, 31), at=dt.datetime(2026, 1, 31, 23, 59, tzinfo=dt.UTC)
        ),
    ],
    ids=lambda thing: thing.name,
)
def test_a_row_comes_back_as_it_was_written(tmp_path: Path, thing: Thing) -> None:
    path = tmp_path / "things.db"
    put(path, SCHEMA, msgspec.structs.astuple(thing))
    found = StoredRows(path).one(THINGS, thing.id)
    assert found == thing
    assert [type(value) for value in msgspec.structs.astuple(found)] == [
        type(value) for value in msgspec.structs.astuple(thing)
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.none() | st.binary())
def test_texts_and_bytes_come_back_whatever_they_look_like(
    tmp_path_factory: pytest.TempPathFactory, text: str, image: bytes | None
) -> None:
    path = tmp_path_factory.mktemp("rows") / "things.db"
    put(path, SCHEMA, msgspec.structs.astuple(Thing(1, text, words=[text], image=image)))
    assert StoredRows(path).one(THINGS, 1) == Thing(1, text, words=[text], image=image)


def test_the_rows_of_a_value_are_found_by_any_column_and_vanished_ones_too(shop: Shop) -> None:
    shop.sync(items(1, 2, name="same"), items(3), listed(3))
    shop.sync(items(2, name="same"), items(3), listed(2))
    assert shop.gone() == [1]
    assert StoredRows(shop.path).of(ITEMS, "name", "same") == [Item(1, "same"), Item(2, "same")]
    assert StoredRows(shop.path).of(ITEMS, "name", "other") == []


def test_a_key_may_be_a_text(shop: Shop) -> None:
    shop.sync(notes("a", text="hello"), listed(1, None, table=NOTES), tables=(NOTES,))
    assert StoredRows(shop.path).one(NOTES, "a") == Note("a", "hello")


def test_a_key_that_is_not_stored_is_told(shop: Shop) -> None:
    shop.sync(items(1), listed(1))
    with pytest.raises(LookupError, match="items holds no 7 any more"):
        StoredRows(shop.path).one(ITEMS, 7)


def test_a_query_gives_just_the_columns_it_names(shop: Shop) -> None:
    shop.sync(items(1, 2), listed(2))
    found = StoredRows(shop.path).values("SELECT name FROM items WHERE id > ? ORDER BY id", 1)
    assert found == [("item 2",)]


def test_nothing_can_be_written_and_no_file_is_made(shop: Shop) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        StoredRows(shop.path).one(ITEMS, 1)
    assert not shop.path.exists()
    shop.sync(items(1), listed(1))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        StoredRows(shop.path).values("DELETE FROM items")


def test_what_is_written_meanwhile_is_read(tmp_path: Path) -> None:
    path = tmp_path / "things.db"
    rows = StoredRows(path)

    def written(name: str, now: str) -> Any:
        put(path, SCHEMA, msgspec.structs.astuple(Thing(1, name)), now=now)
        return rows.one(THINGS, 1).name

    assert [written("before", NOW), written("after", LATER)] == ["before", "after"]
