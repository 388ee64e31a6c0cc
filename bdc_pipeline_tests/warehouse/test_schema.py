"""Schemas: the views of a file and their order, and tables by name."""

from __future__ import annotations

import pytest

from bdc_pipeline.warehouse.schema import Schema, View
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline_tests.warehouse.shop import SHOP, TAGS, Item


def test_every_table_has_a_view_of_what_is_live() -> None:
    assert SHOP.all_views["live_items"] == 'SELECT * FROM "items" WHERE vanished_at IS NULL'
    assert list(SHOP.all_views) == ["live_items", "live_tags", "live_notes"]


def test_a_joined_view_is_made_before_the_live_view_that_reads_it() -> None:
    joined = Table(Item, "things", stored_as="_things", view="SELECT *\n  FROM _things")
    schema = Schema("shop", (joined,), (View("many", "SELECT * FROM things WHERE value > 9", "Those with many"),))
    assert list(schema.all_views.items()) == [
        ("things", "SELECT * FROM _things"),
        ("many", "SELECT * FROM things WHERE value > 9"),
        ("live_things", 'SELECT * FROM "things" WHERE vanished_at IS NULL'),
    ]


def test_an_unknown_table_is_named_with_those_there_are() -> None:
    assert SHOP.table("tags") is TAGS
    with pytest.raises(KeyError, match=r"shop has no table 'cats'; it has items, tags, notes\."):
        SHOP.table("cats")
