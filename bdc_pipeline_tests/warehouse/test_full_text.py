"""Full-text indexes: in step with their table whatever happens to a row."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import msgspec
import pytest

from bdc_pipeline.warehouse.columns import TableError
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.store import Store, StoreError
from bdc_pipeline.warehouse.table import Table

NOW = "2026-01-01T00:00:00.000Z"


class Note(msgspec.Struct, frozen=True):
    """A note."""

    id: int
    text: str | None
    more: int = 0


NOTES = Table(Note, "notes", full_text=("text",))
SCHEMA = Schema("desk", (NOTES,))


def found(path: Path, word: str) -> list[int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT rowid FROM notes_fts WHERE notes_fts MATCH ? ORDER BY 1", (word,))
        return [row[0] for row in rows]


def write(path: Path, *rows: Note) -> None:
    with Store(path, SCHEMA) as store:
        store.track([NOTES])
        with store.transaction():
            store.upsert(NOTES, rows, NOW)


def test_the_index_follows_inserts_updates_and_deletes(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    write(path, Note(1, "red apple"), Note(2, "green apple"), Note(3, None))
    assert found(path, "apple") == [1, 2]
    write(path, Note(1, "red pear"), Note(2, "green apple", 5))
    assert (found(path, "apple"), found(path, "pear"), found(path, "red")) == ([2], [1], [1])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM notes WHERE id = 2")
        connection.execute("INSERT INTO notes_fts (notes_fts) VALUES ('integrity-check')")
    assert found(path, "apple") == []


def test_rows_that_were_there_before_the_index_are_in_it(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    with Store(path, Schema("desk", (Table(Note, "notes"),))) as store:
        store.track([NOTES])
        with store.transaction():
            store.upsert(NOTES, [Note(1, "old word")], NOW)
    Store(path, SCHEMA).close()
    assert found(path, "word") == [1]


def test_a_foreign_table_of_the_indexs_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes_fts (a)")
    with pytest.raises(StoreError, match="notes_fts"):
        Store(path, SCHEMA)


def test_an_index_needs_an_integer_id() -> None:
    class Named(msgspec.Struct, frozen=True):
        """Without one."""

        name: str

    with pytest.raises(TableError, match="full_text needs an integer key"):
        Table(Named, "named", key=("name",), full_text=("name",))
