"""The tables that every file holds beside its rows."""

import re
import sqlite3
from contextlib import closing

from bdc_pipeline.warehouse import ledger_schema
from bdc_pipeline.warehouse.ledger_schema import DDL
from bdc_pipeline_tests.warehouse.shop import Shop


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_the_tables_can_be_made_where_they_are_already() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in (*DDL, *DDL):
            connection.execute(statement)
        assert len(tables(connection)) == 6


def test_the_tables_that_the_module_explains_are_those_of_every_file(shop: Shop) -> None:
    explained = {
        name
        for line in str(ledger_schema.__doc__).splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    shop.sync()
    with shop.connected() as connection:
        assert explained == tables(connection) - {"items", "tags", "notes"}
