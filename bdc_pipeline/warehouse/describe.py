"""What a schema's tables look like from outside: the columns of each public name, for the UI and the documentation."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from dataclasses import dataclass

from bdc_pipeline.warehouse.columns import BOOKKEEPING, RAW_HASH
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.sql import quoted


@dataclass(frozen=True, slots=True)
class Described:
    """A column of a table or view: its name, its SQL type (empty for a computed one) and what it means."""

    name: str
    type: str
    nullable: bool
    description: str


@functools.cache
def public_columns(schema: Schema) -> dict[str, tuple[Described, ...]]:
    """The columns of every public table and view of a schema, except the `live_` ones.

    SQLite itself is asked, on an empty database in memory, so that a view's columns are those that a query gets.
    """
    known = {column.name: column.description for table in schema.tables for column in table.columns}
    kept = (*BOOKKEEPING, RAW_HASH)
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for table in schema.tables:
            for statement in table.ddl:
                connection.execute(statement)
        for name, select in schema.all_views.items():
            connection.execute(f"CREATE VIEW {quoted(name)} AS {select}")
        found = {}
        for name in (*(table.name for table in schema.tables), *(view.name for view in schema.views)):
            own = {column.name: column for table in schema.tables if table.name == name for column in table.columns}
            texts = known | {n: c.description for n, c in own.items()} | {n: text for n, _, text in kept}
            texts |= schema.notes.get(name, {})
            found[name] = tuple(
                Described(
                    column,
                    kind or "",
                    # a view's columns are never declared as NOT NULL
                    not required and (column not in own or own[column].nullable),
                    texts.get(column, ""),
                )
                for _, column, kind, required, *_ in connection.execute(f"PRAGMA table_info({quoted(name)})")
            )
    return found
