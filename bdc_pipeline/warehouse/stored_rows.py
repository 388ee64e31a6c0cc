"""Rows as they are stored, read when they are needed: to be written again with something changed.

A row may be large and there may be many, so that none is read before it is known that it is needed. What belongs here is reading
rows back as their row type, without a `Store`; DataFrames for those who query come from `frames.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
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

    def of(self, table: Table, column: str, value: int | str, *, live: bool = False) -> list[Any]:
        """The rows of a table whose column holds a value, as its row type; those that have vanished too unless it is `live` ones."""
        names = ", ".join(quoted(declared.name) for declared in table.columns)
        read = _reader(table)
        sql = (
            f"SELECT {names} FROM {quoted(table.stored)} WHERE {quoted(column)} = ?{' AND vanished_at IS NULL' * live}"
        )
        return [read(values) for values in self.values(sql, value)]

    def values(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query gives: some columns of rows that are large as a whole."""
        with self._connection() as connection:
            return connection.execute(sql, values).fetchall()

    def one(self, table: Table, key: int | str) -> Any:
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


def _reader(table: Table) -> Callable[[Sequence[Any]], msgspec.Struct]:
    """From the values of a row's columns to the row."""
    kinds = {info.name: info.type for info in msgspec.structs.fields(table.row)}
    fields = [(column.name, kinds[column.name], column.is_json) for column in table.columns]

    def read(values: Sequence[Any]) -> msgspec.Struct:
        found = {}
        for (name, kind, is_json), value in zip(fields, values, strict=True):
            told = msgspec.json.decode(value) if is_json and isinstance(value, str) else value
            found[name] = told if isinstance(told, bytes) else msgspec.convert(told, kind, strict=False)
        return table.row(**found)

    return read
