"""Tables and their columns: what a row type becomes, and what is refused."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Optional

import msgspec
import pytest

from bdc_pipeline.warehouse.columns import TableError
from bdc_pipeline.warehouse.partitioning import ByValue, IdBlocks
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.warehouse.shop import ITEMS, TAGS, Item


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Grade(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Size(enum.StrEnum):
    SMALL = "s"
    LARGE = "l"


class Mood(str, enum.Enum):  # noqa: UP042  (a row type may)
    GOOD = "good"


class Level(int, enum.Enum):
    TOP = 9


class Mixed(enum.Enum):
    WORD = "word"
    NUMBER = 1


class Empty(enum.Enum):
    pass


class Inner(msgspec.Struct):
    a: int = 0


NOON = dt.datetime(2026, 1, 31, 12, 30, 5, tzinfo=dt.UTC)


def declared(kind: Any, default: Any = msgspec.NODEFAULT, **more: Any) -> Table:
    """A table with an id and one field of a type."""
    field = ("value", kind) if default is msgspec.NODEFAULT else ("value", kind, default)
    return Table(msgspec.defstruct("Row", [("id", int), field], module=__name__), "things", **more)


@contextlib.contextmanager
def created(table: Table) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in table.ddl:
            connection.execute(statement)
        yield connection


def stored(table: Table, value: Any) -> Any:
    """What SQLite holds after a value was bound and inserted."""
    with created(table) as connection:
        connection.execute(table.insert_sql("2026-01-01T00:00:00.000Z"), table.bind(table.row(1, value)))
        return connection.execute("SELECT value FROM things").fetchone()[0]


SUPPORTED = [
    pytest.param(int, "INTEGER", -(2**63), -(2**63), id="int"),
    pytest.param(float, "REAL", 1.5, 1.5, id="float"),
    pytest.param(float, "REAL", math.inf, math.inf, id="infinity"),
    pytest.param(str, "TEXT", "Ærø\x00🛰", "Ærø\x00🛰", id="str"),
    pytest.param(bool, "INTEGER", True, 1, id="bool"),
    pytest.param(bytes, "BLOB", b"\x00\xff", b"\x00\xff", id="bytes"),
    pytest.param(dt.datetime, "TEXT", NOON, "2026-01-31T12:30:05Z", id="datetime"),
    pytest.param(dt.date, "TEXT", dt.date(2026, 1, 31), "2026-01-31", id="date"),
    pytest.param(Colour, "TEXT", Colour.RED, "red", id="enum of texts"),
    pytest.param(Grade, "INTEGER", Grade.HIGH, 2, id="IntEnum"),
    pytest.param(Size, "TEXT", Size.LARGE, "l", id="StrEnum"),
    pytest.param(Mood, "TEXT", Mood.GOOD, "good", id="str and Enum"),
    pytest.param(Level, "INTEGER", Level.TOP, 9, id="int and Enum"),
    pytest.param(Literal["a", "b"], "TEXT", "b", "b", id="literal texts"),
    pytest.param(Literal[1, 2], "INTEGER", 2, 2, id="literal numbers"),
    pytest.param(list[str], "TEXT", ["a", "ø"], '["a","ø"]', id="list"),
    pytest.param(list, "TEXT", [1, None], "[1,null]", id="bare list"),
    pytest.param(tuple[int, ...], "TEXT", (1, 2), "[1,2]", id="tuple"),
    pytest.param(dict[str, int], "TEXT", {"b": 1, "a": 2}, '{"a":2,"b":1}', id="dict"),
    pytest.param(dict, "TEXT", {}, "{}", id="bare dict"),
    pytest.param(set[int], "TEXT", {3, 1, 2}, "[1,2,3]", id="set"),
    pytest.param(frozenset[str], "TEXT", frozenset("cab"), '["a","b","c"]', id="frozenset"),
    pytest.param(list[Inner], "TEXT", [Inner(4)], '[{"a":4}]', id="list of structs"),
    pytest.param(Annotated[int, msgspec.Meta(ge=0)], "INTEGER", 7, 7, id="annotated"),
    pytest.param(Annotated[list[int], msgspec.Meta(max_length=3)], "TEXT", [7], "[7]", id="annotated list"),
]


@pytest.mark.parametrize(("kind", "sql", "value", "held"), SUPPORTED)
@pytest.mark.parametrize("nullable", [False, True], ids=["required", "nullable"])
def test_a_supported_field_becomes_a_strict_column_that_holds_its_values(
    kind: Any, sql: str, value: Any, held: Any, nullable: bool
) -> None:
    table = declared(Optional[kind] if nullable else kind)  # noqa: UP045  (kind is a value here)
    column = table.column("value")
    assert (column.type, column.nullable) == (sql, nullable)
    assert table.ddl[0].endswith("STRICT")
    assert stored(table, value) == held
    if nullable:
        assert stored(table, None) is None
    else:
        with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
            stored(table, None)


def test_a_column_refuses_what_its_type_cannot_hold_since_tables_are_strict() -> None:
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value in INTEGER column"):
        stored(declared(int), "many")


@pytest.mark.parametrize(
    "kind",
    [
        Any,
        object,
        complex,
        dt.time,
        dt.timedelta,
        Inner,
        type(None),
        int | str,
        int | str | None,
        Annotated[int | str, msgspec.Meta(description="either")],
        Mixed,
        Empty,
        Literal["a", 1],
        Literal["a", None],  # noqa: PYI061  (a row type may)
        msgspec.UnsetType | int,
    ],
    ids=str,
)
def test_an_unsupported_field_is_refused_by_name(kind: Any) -> None:
    with pytest.raises(TableError, match=r"^value: .+\.$"):
        declared(kind)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"key": ("nr",)}, "things: Row has no field nr."),
        ({"key": ("id", "nr")}, "things: Row has no field nr."),
        ({"indexes": (("value", "nr"),)}, "things: Row has no field nr."),
        ({"partitioning": IdBlocks("nr")}, "things: Row has no field nr."),
        ({"partitioning": ByValue("nr")}, "things: Row has no field nr."),
        ({"parent": "nr"}, "things: Row has no field nr."),
        ({"stored_as": "_things"}, "things: stored_as and view go together."),
        ({"view": "SELECT 1"}, "things: stored_as and view go together."),
        ({"key": ("value",)}, "things: the key column value may not be None."),
    ],
)
def test_a_declaration_that_does_not_fit_its_row_type_is_refused(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TableError) as caught:
        declared(str | None, **more)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("name", ["last_updated", "vanished_at"])
def test_a_field_may_not_take_the_name_of_a_bookkeeping_column(name: str) -> None:
    row = msgspec.defstruct("Row", [("id", int), (name, str)], module=__name__)
    with pytest.raises(TableError, match=f"^things: {name} is kept by the warehouse"):
        Table(row, "things")


def test_indexes_may_be_on_bookkeeping_columns() -> None:
    table = declared(int, indexes=(("last_updated",), ("value", "vanished_at")))
    with created(table) as connection:
        names = {name for _, name, *_ in connection.execute("PRAGMA index_list(things)")}
    assert names >= {"things_by_last_updated", "things_by_value_vanished_at"}


@pytest.mark.parametrize(
    ("kind", "default", "held"),
    [
        (int, 0, 0),
        (int, -5, -5),
        (float, 0.0, 0.0),
        (float, -1.5e-7, -1.5e-7),
        (float, 3, 3.0),
        (bool, True, 1),
        (bool, False, 0),
        (str, "", ""),
        (str, "it's; --", "it's; --"),
        (bytes, b"\x00'", b"\x00'"),
        (Colour, Colour.BLUE, "blue"),
        (Grade, Grade.HIGH, 2),
        (Level, Level.TOP, 9),
        (Size, Size.SMALL, "s"),
        (Mood, Mood.GOOD, "good"),
        (Literal["a", "b"], "a", "a"),
        (dt.date, dt.date(2026, 1, 1), "2026-01-01"),
        (dt.datetime, NOON, "2026-01-31T12:30:05Z"),
        (list[int], [], "[]"),
        (dict[str, int], {}, "{}"),
        (str | None, "x", "x"),
        (str | None, None, None),
    ],
)
def test_a_fields_default_is_the_columns_default(kind: Any, default: Any, held: Any) -> None:
    with created(declared(kind, default)) as connection:
        connection.execute("INSERT INTO things (id, last_updated) VALUES (1, '')")
        assert connection.execute("SELECT value FROM things").fetchone()[0] == held


@pytest.mark.parametrize("default", [math.inf, -math.inf, math.nan])
def test_a_default_that_sql_cannot_write_is_no_column_default(default: float) -> None:
    with created(declared(float, default)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO things (id, last_updated) VALUES (1, '')")


def test_an_integer_id_is_the_rowid_itself() -> None:
    with created(ITEMS) as connection:
        connection.execute("INSERT INTO items (id, last_updated) VALUES (77, '')")
        assert connection.execute("SELECT rowid FROM items").fetchone() == (77,)


def test_a_key_of_several_columns_is_the_primary_key() -> None:
    with created(TAGS) as connection:
        keys = [name for _, name, _, _, _, place in connection.execute("PRAGMA table_info(tags)") if place]
    assert keys == ["item_id", "word"]


def test_a_text_id_is_a_primary_key_too() -> None:
    table = Table(msgspec.defstruct("Row", [("id", str)], module=__name__), "things")
    with created(table) as connection:
        connection.execute("INSERT INTO things VALUES ('a', '', NULL, NULL)")
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute("INSERT INTO things VALUES ('a', '', NULL, NULL)")


def test_names_that_are_sql_words_are_quoted() -> None:
    row = msgspec.defstruct("Row", [("id", int), ("order", str), ("group", int)], module=__name__)
    table = Table(row, "select", indexes=(("order", "group"),))
    with created(table) as connection:
        connection.execute(table.insert_sql("now"), (1, "first", 2))
        connection.execute(table.update_sql("later"), (1, "second", 2))
        assert connection.execute('SELECT "order" FROM "select"').fetchone() == ("second",)


def test_documentation_comes_from_the_row_type() -> None:
    assert ITEMS.description == "A thing on a shelf."
    assert ITEMS.column("id").description == "The shop's number"
    assert ITEMS.column("name").description == ""


@pytest.mark.parametrize(
    "kind",
    [
        Annotated[str, msgspec.Meta(description="told")],
        Annotated[str | None, msgspec.Meta(description="told")],
        Annotated[str, msgspec.Meta(description="told")] | None,
        Annotated[Annotated[str, msgspec.Meta(min_length=1)], msgspec.Meta(description="told")],
    ],
)
def test_a_fields_description_is_found_wherever_it_is_annotated(kind: Any) -> None:
    assert declared(kind).column("value").description == "told"


def test_an_unknown_column_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nr"):
        ITEMS.column("nr")


def test_a_key_is_a_value_or_a_tuple() -> None:
    assert ITEMS.key_of(Item(7)) == 7
    assert TAGS.key_of(TAGS.row(7, "new")) == (7, "new")


def test_a_set_is_stored_alike_whatever_the_hash_seed() -> None:
    code = (
        "import msgspec; from bdc_pipeline.warehouse.table import Table; "
        "R = msgspec.defstruct('R', [('id', int), ('value', set[str])]); "
        "print(Table(R, 'things').bind(R(1, set('abcdefgh')))[1])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {'["a","b","c","d","e","f","g","h"]\n'}


# -- partitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partitions", "found"),
    [
        (None, 4),
        ([], 0),
        (["0-9"], 2),
        (["0-9", "10-19"], 3),
        (["50-59"], 0),
        ([f"{n}0-{n}9" for n in range(1, 3000)], 2),
    ],
    ids=["all", "none", "one", "two", "an empty one", "thousands"],
)
def test_a_condition_finds_the_rows_of_its_partitions(partitions: list[str] | None, found: int) -> None:
    where, values = ITEMS.where(partitions)
    with created(ITEMS) as connection:
        connection.executemany("INSERT INTO items (id, last_updated) VALUES (?, '')", [(1,), (9,), (10,), (20_010,)])
        sql = f"SELECT count(*) FROM items WHERE {where} AND vanished_at IS NULL"
        assert connection.execute(sql, values).fetchone()[0] == found


def test_a_table_without_partitions_is_always_whole() -> None:
    assert declared(int).where(["0-9"]) == ("1", ())
