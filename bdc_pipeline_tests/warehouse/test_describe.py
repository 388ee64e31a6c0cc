"""What tables and views look like from outside."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from bdc_pipeline.sources.sonar.tables import SCHEMA as SONAR
from bdc_pipeline.warehouse.describe import Described, public_columns
from bdc_pipeline.warehouse.schema import Schema, View
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.warehouse.shop import SHOP


class Person(msgspec.Struct):
    """Somebody."""

    id: Annotated[int, Meta(description="The person's number")]
    name: Annotated[str, Meta(description="The person's name")]
    town_id: Annotated[int | None, Meta(description="`towns.id`")] = None


class Town(msgspec.Struct):
    """A place."""

    id: Annotated[int, Meta(description="The town's number")]
    name: Annotated[str, Meta(description="The town's name")]
    people: Annotated[int | None, Meta(description="How many live there")] = None


PEOPLE = """
    SELECT p.id, p.name, t.name AS town, t.people, 2 * t.people AS shoes, p.last_updated, p.vanished_at, p.first_seen
    FROM persons p LEFT JOIN towns t ON t.id = p.town_id
"""
REGISTRY = Schema(
    "registry",
    (Table(Person, "people", stored_as="persons", view=PEOPLE), Table(Town, "towns")),
    (View("crowds", "SELECT id, people FROM towns WHERE people > 10", "Large towns"),),
    {"people": {"town": "Where the person lives", "people": "Neighbours"}},
)

BOOKKEEPING = ["last_updated", "vanished_at", "first_seen"]


def described(schema: Schema, name: str) -> dict[str, Described]:
    return {column.name: column for column in public_columns(schema)[name]}


@pytest.mark.parametrize("schema", [SHOP, REGISTRY, SONAR], ids=lambda schema: schema.source)
def test_the_columns_described_are_those_of_the_file(schema: Schema, tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    Store(path, schema).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name, columns in public_columns(schema).items():
            found = connection.execute(f'PRAGMA table_info("{name}")').fetchall()
            assert [(column.name, column.type) for column in columns] == [row[1:3] for row in found], name


def test_every_table_and_view_is_described_but_not_the_live_ones() -> None:
    assert list(public_columns(REGISTRY)) == ["people", "towns", "crowds"]
    assert list(public_columns(SHOP)) == ["items", "tags", "notes"]


def test_a_tables_columns_bear_their_own_descriptions_and_the_bookkeeping_ones_theirs() -> None:
    towns = described(REGISTRY, "towns")
    assert list(towns) == ["id", "name", "people", *BOOKKEEPING]
    assert towns["id"] == Described("id", "INTEGER", False, "The town's number")
    assert towns["name"] == Described("name", "TEXT", False, "The town's name")
    assert towns["people"] == Described("people", "INTEGER", True, "How many live there")
    assert towns["last_updated"].description == "When this copy of the row last changed here (UTC)"
    assert not towns["last_updated"].nullable
    assert towns["vanished_at"].nullable


def test_a_views_columns_are_described_by_its_row_type_and_its_notes() -> None:
    people = described(REGISTRY, "people")
    assert list(people) == ["id", "name", "town", "people", "shoes", *BOOKKEEPING]
    assert people["id"] == Described("id", "INTEGER", False, "The person's number")
    assert people["name"].description == "The person's name"
    assert people["town"] == Described("town", "TEXT", True, "Where the person lives")
    assert people["people"].description == "Neighbours", "a note goes before another table's column of that name"
    assert people["shoes"] == Described("shoes", "", True, "")


def test_what_a_file_refuses_to_be_null_is_not_nullable_and_the_other_way_round(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    Store(path, SONAR).close()
    views = {table.name for table in SONAR.tables if table.view} | {view.name for view in SONAR.views}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name, columns in public_columns(SONAR).items():
            if name in views:
                continue
            required = {str(row[1]): bool(row[3]) for row in connection.execute(f'PRAGMA table_info("{name}")')}
            assert {column.name: not column.nullable for column in columns} == required, name


def test_every_public_column_of_sonar_says_what_it_means() -> None:
    silent = [
        f"{name}.{column.name}"
        for name, columns in public_columns(SONAR).items()
        for column in columns
        if not column.description
    ]
    assert silent == []


def test_no_column_of_a_sonar_view_borrows_the_meaning_of_another_tables_column() -> None:
    # `status` of a customer is not that of an item, nor `type` of a service that of a model's field
    assert "LOST" not in described(SONAR, "customers")["status"].description
    assert "MAC_ADDRESS" not in described(SONAR, "services")["type"].description
    assert "manufacturer's name for it" not in described(SONAR, "inventory_items")["model_name"].description
