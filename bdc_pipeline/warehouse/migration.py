"""Bringing a file to the declared schema: what is missing is created, new columns are added, anything else is refused.

Nothing here writes: the statements are returned, and `store.py` runs them in one transaction.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bdc_pipeline.warehouse.columns import Column
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.table import Table


class StoreError(Exception):
    """The file cannot be used: a sentence that names it and says what to do."""


def pending_statements(connection: sqlite3.Connection, path: Path, schema: Schema, extra: Sequence[str]) -> list[str]:
    """The statements that bring a file to a schema, in order.

    Args:
        connection: to the file.
        path: its name, for messages.
        schema: what the file is to hold.
        extra: CREATE ... IF NOT EXISTS statements of tables that every file holds.

    Raises:
        StoreError: the file differs by more than statements can mend without losing anything.
    """
    rows = connection.execute("SELECT name, type, sql, tbl_name FROM main.sqlite_master").fetchall()
    of, in_order = _IN_ORDER.get(id(schema), (None, frozenset[_Row]()))
    if of is schema and in_order.issubset(rows):
        return []
    pending = _Migration(connection, path, schema, rows).statements(extra)
    if not pending:
        _IN_ORDER[id(schema)] = schema, frozenset(rows)
    return pending


_Row = tuple[str, str, str | None, str]

_IN_ORDER: dict[int, tuple[Schema, frozenset[_Row]]] = {}
"""What a file held when nothing was missing, by schema: one that holds the same needs no further look, which a sync of many stages takes
at each."""


@dataclass(frozen=True, slots=True)
class _Present:
    """A column as the file has it; `place` is its place in the key, 0 outside."""

    type: str
    required: bool
    place: int


class _Migration:
    def __init__(self, connection: sqlite3.Connection, path: Path, schema: Schema, rows: Sequence[_Row]) -> None:
        self.connection, self.path, self.schema = connection, path, schema
        # a trigger may bear the name of a table
        self.found = {str(name).lower(): (str(kind), sql) for name, kind, sql, _ in rows if kind != "trigger"}
        self.triggers = {str(name).lower(): (str(on).lower(), sql) for name, kind, sql, on in rows if kind == "trigger"}

    def statements(self, extra: Sequence[str]) -> list[str]:
        statements = [sql for name, columns in _columns_of(tuple(extra)).items() for sql in self._grown(name, columns)]
        statements += [sql for sql in extra if _created_name(sql) not in self.found]
        for table in self.schema.tables:
            statements += self._of_table(table)
        of_views = self._views()
        statements += self._triggers()
        if statements or of_views:
            # a view names columns of others, so all are made anew when one changes
            views = self.schema.all_views
            statements += [f"DROP VIEW IF EXISTS {quoted(name)}" for name in views]
            statements += [f"CREATE VIEW {quoted(name)} AS {select}" for name, select in views.items()]
        return statements

    def _grown(self, name: str, declared: Mapping[str, _Present]) -> list[str]:
        """The columns that a table of the program's own has got since the file was made."""
        if name not in self.found:
            return []
        present = _columns(self.connection, name)
        added = {column: as_declared for column, as_declared in declared.items() if column not in present}
        same = all(column in declared and declared[column].place == at.place for column, at in present.items())
        if not same or any(column.required or column.place for column in added.values()):
            raise StoreError(self._foreign(name, "a table or view with other columns,"))
        return [f"ALTER TABLE {quoted(name)} ADD COLUMN {quoted(column)} {at.type}" for column, at in added.items()]

    def _of_table(self, table: Table) -> list[str]:
        statements = []
        kind = self.found.get(table.stored.lower(), ("", None))[0]
        if kind == "view":
            raise StoreError(self._foreign(table.stored, "a view"))
        if kind == "table":
            statements += self._added_columns(table)
        statements += [sql for sql in table.ddl if _created_name(sql) not in self.found]
        return statements + self._rtree(table) + self._full_text(table)

    def _rtree(self, table: Table) -> list[str]:
        if table.spatial is None:
            return []
        kind, sql = self.found.get(table.rtree.lower(), ("", None))
        if kind and " using rtree" not in str(sql).lower():
            raise StoreError(self._foreign(table.rtree, "a table or view"))
        return [] if kind else table.spatial_ddl

    def _full_text(self, table: Table) -> list[str]:
        if not table.full_text:
            return []
        kind, sql = self.found.get(table.fts.lower(), ("", None))
        if kind and " using fts5" not in str(sql).lower():
            raise StoreError(self._foreign(table.fts, "a table or view"))
        return [] if kind else table.full_text_ddl

    def _views(self) -> bool:
        """Whether a view is missing or stale."""
        stale = False
        for name, select in self.schema.all_views.items():
            kind, sql = self.found.get(name.lower(), ("", None))
            if kind == "table":
                raise StoreError(self._foreign(name, "a table"))
            stale |= sql != f"CREATE VIEW {quoted(name)} AS {select}"
        return stale

    def _triggers(self) -> list[str]:
        statements = []
        own = {table.stored.lower() for table in self.schema.tables} | {name.lower() for name in self.schema.all_views}
        for name, sql in self.schema.all_triggers.items():
            on, there = self.triggers.get(name.lower(), ("", None))
            if on and on not in own:
                raise StoreError(self._foreign(name, "a trigger"))
            if there != sql:
                statements += [f"DROP TRIGGER IF EXISTS {quoted(name)}", sql]
        return statements

    def _foreign(self, name: str, kind: str) -> str:
        return (
            f"{self.path} already holds {kind} '{name}' that this program did not make. Nothing was changed; name another "
            "file with --database, or move this one away."
        )

    def _added_columns(self, table: Table) -> list[str]:
        present = _columns(self.connection, table.stored)
        declared = {column.name: column for column in table.columns}
        kept = {name: ddl for name, ddl, _ in table.bookkeeping}
        for name, at in present.items():
            if name in kept:
                continue
            column = declared.get(name)
            if column is None:
                raise StoreError(self._drifted(table, f"has a column '{name}' that this version does not know"))
            if (column.type, not column.nullable) != (at.type, at.required):
                was = f"{at.type}{' NOT NULL' if at.required else ''}"
                now = f"{column.type}{'' if column.nullable else ' NOT NULL'}"
                raise StoreError(self._drifted(table, f"holds '{name}' as {was}, where this version declares {now}"))
        missing = {name: ddl for name, ddl in kept.items() if name not in present}
        if lost := sorted(name for name in missing if name in {"last_updated", "vanished_at"}):
            raise StoreError(self._foreign(table.stored, f"a table without '{lost[0]}',"))
        # a column that is added cannot join the key that the table has
        if {name for name, at in present.items() if at.place} != set(table.key):
            raise StoreError(self._drifted(table, f"has another key than ({', '.join(table.key)})"))
        added = [self._add_column(table, column) for name, column in declared.items() if name not in present]
        kept_since = [
            f"ALTER TABLE {quoted(table.stored)} ADD COLUMN {quoted(name)} {ddl}" for name, ddl in missing.items()
        ]
        return added + kept_since

    def _add_column(self, table: Table, column: Column) -> str:
        if not column.nullable and column.default is None:
            raise StoreError(
                self._drifted(table, f"lacks the column '{column.name}', which has no default for the rows there are")
            )
        return f"ALTER TABLE {quoted(table.stored)} ADD COLUMN {column.ddl}"

    def _drifted(self, table: Table, how: str) -> str:
        return (
            f"{self.path}: the table '{table.stored}' {how}. Only added columns are taken over by themselves, so nothing was "
            "changed. Run the version that wrote the file, or move the file away and sync anew."
        )


def _created_name(sql: str) -> str:
    """The name of what a CREATE ... IF NOT EXISTS statement creates."""
    return sql.partition(" IF NOT EXISTS ")[2].split(maxsplit=1)[0].strip('"').lower()


def _columns(connection: sqlite3.Connection, name: str) -> dict[str, _Present]:
    """The columns of a table or view."""
    found = connection.execute(f"PRAGMA table_info({quoted(name)})")
    return {
        str(column): _Present(str(kind), bool(required), int(place)) for _, column, kind, required, _, place in found
    }


@functools.cache
def _columns_of(ddl: tuple[str, ...]) -> dict[str, dict[str, _Present]]:
    """What `_columns` finds in the tables that statements create."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in ddl:
            connection.execute(statement)
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {str(name).lower(): _columns(connection, str(name)) for (name,) in names}
