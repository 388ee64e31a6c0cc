"""Rows as they are stored, read when they are needed: to be written again with something changed.

A log may be large and there may be many, so that none is read before GitLab has said that it has it no more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.table import Table


class StoredRows:
    """Reads rows of a file, for any thread: each call has a connection of its own, since few of them are made.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"

    def of(self, table: Table, column: str, value: int) -> list[Any]:
        """The rows of a table whose column holds a value."""
        with self._connection() as connection:
            return stored_rows(connection, table, f"{quoted(column)} = ?", (value,))

    def values(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query gives: some columns of rows that are large as a whole."""
        with self._connection() as connection:
            return connection.execute(sql, values).fetchall()

    def one(self, table: Table, key: int) -> Any:
        """The row of a key, for a table whose key is one column.

        Raises:
            LookupError: there is none.
        """
        rows = self.of(table, table.key[0], key)
        if not rows:
            raise LookupError(f"{table.name} holds no {key} any more")
        return rows[0]

    def _connection(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self._uri, uri=True, timeout=60))


def stored_rows(connection: sqlite3.Connection, table: Table, where: str, values: Sequence[Any]) -> list[Any]:
    """Rows of a table, as its row type."""
    names = ", ".join(quoted(column.name) for column in table.columns)
    sql = f"SELECT {names} FROM {quoted(table.stored)} WHERE {where}"  # noqa: S608  (declared names; values are bound)
    return [_row(table, values_of) for values_of in connection.execute(sql, tuple(values))]


def _row(table: Table, values: Sequence[Any]) -> msgspec.Struct:
    kinds = {info.name: info.type for info in msgspec.structs.fields(table.row)}
    found = {}
    for column, value in zip(table.columns, values, strict=True):
        told = value
        if column.encode is not None and isinstance(value, str):
            told = msgspec.json.decode(value)
        found[column.name] = (
            msgspec.convert(told, kinds[column.name], strict=False) if not isinstance(told, bytes) else told
        )
    return table.row(**found)
