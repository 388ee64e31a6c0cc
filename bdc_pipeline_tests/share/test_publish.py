"""Bringing a database in line with a file: what differs is written, and nothing else."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdc_pipeline.share.errors import ShareError
from bdc_pipeline.share.publish import bring

SCHEMA = """
CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE children (parent INTEGER NOT NULL REFERENCES parents, place TEXT NOT NULL, size REAL, PRIMARY KEY (parent, place));
CREATE TABLE marks (mark TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE notes (text);
CREATE TABLE _runs (id TEXT PRIMARY KEY);
CREATE INDEX children_by_size ON children (size);
CREATE VIEW sizes AS SELECT parent, sum(size) AS size FROM children GROUP BY parent;
CREATE VIRTUAL TABLE words USING fts5(text);
CREATE TRIGGER counted AFTER INSERT ON parents BEGIN INSERT INTO notes VALUES ('a parent'); END;
"""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


@pytest.fixture
def source(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with opened(tmp_path / "source.db") as connection:
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO parents VALUES (1, 'a'), (2, NULL)")
        connection.execute("INSERT INTO children VALUES (1, 'x', 1.5), (2, 'y', NULL)")
        connection.execute("INSERT INTO marks VALUES ('m')")
        connection.execute("INSERT INTO _runs VALUES ('r')")
        yield connection


@pytest.fixture
def target(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with opened(tmp_path / "target.db") as connection:
        yield connection


def rows(connection: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)


def test_an_empty_database_gets_tables_rows_indexes_and_views(
    source: sqlite3.Connection, target: sqlite3.Connection, tmp_path: Path
) -> None:
    brought = bring(target, tmp_path / "source.db", leave_out={"_runs"})
    assert brought.written == {"parents": 2, "children": 2, "marks": 1, "notes": 2}
    for table in ("parents", "children", "marks", "notes", "sizes"):
        assert rows(target, table) == rows(source, table)
    names = {name for (name,) in target.execute("SELECT name FROM sqlite_master")}
    assert {"children_by_size", "sizes"} <= names
    assert not names & {"_runs", "words", "words_data", "counted"}


@pytest.mark.parametrize("name", ["C#", "a?b", "50%41"])
def test_a_source_is_found_whatever_its_folder_is_called(
    source: sqlite3.Connection, target: sqlite3.Connection, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    with opened(tmp_path / name / "source.db") as copy:
        source.backup(copy)
    assert bring(target, tmp_path / name / "source.db").rows > 0
    assert rows(target, "parents") == [(1, "a"), (2, None)]


def test_what_is_the_same_is_not_written_and_what_differs_is(
    source: sqlite3.Connection, target: sqlite3.Connection, tmp_path: Path
) -> None:
    bring(target, tmp_path / "source.db")
    before = target.total_changes
    assert bring(target, tmp_path / "source.db").rows == 0
    assert target.total_changes == before
    source.execute("UPDATE parents SET name = 'b' WHERE id = 2")
    source.execute("DELETE FROM children WHERE place = 'x'")
    source.execute("INSERT INTO marks VALUES ('n')")
    source.execute("UPDATE notes SET text = 'other' WHERE rowid = 1")
    brought = bring(target, tmp_path / "source.db")
    assert (brought.written, brought.deleted) == ({"parents": 1, "marks": 1, "notes": 1}, {"children": 1})
    for table in ("parents", "children", "marks", "notes"):
        assert rows(target, table) == rows(source, table)


def test_a_new_column_and_a_changed_view_come_along(
    source: sqlite3.Connection, target: sqlite3.Connection, tmp_path: Path
) -> None:
    bring(target, tmp_path / "source.db")
    source.executescript(
        "ALTER TABLE parents ADD COLUMN age INTEGER NOT NULL DEFAULT 7; DROP VIEW sizes; CREATE VIEW sizes AS SELECT 1 AS one"
    )
    assert bring(target, tmp_path / "source.db").statements == 2
    assert rows(target, "parents") == [(1, "a", 7), (2, None, 7)]
    assert rows(target, "sizes") == [(1,)]


def test_a_parent_that_vanishes_with_its_children_breaks_no_reference(
    source: sqlite3.Connection, target: sqlite3.Connection, tmp_path: Path
) -> None:
    bring(target, tmp_path / "source.db")
    source.execute("DELETE FROM children WHERE parent = 2")
    source.execute("DELETE FROM parents WHERE id = 2")
    bring(target, tmp_path / "source.db")
    assert rows(target, "parents") == [(1, "a")]


def test_a_table_with_another_key_is_refused_and_nothing_is_written(
    source: sqlite3.Connection, target: sqlite3.Connection, tmp_path: Path
) -> None:
    target.execute("CREATE TABLE marks (id INTEGER PRIMARY KEY, mark TEXT)")
    with pytest.raises(ShareError, match=r'The key of marks is "mark" in .*source\.db and "id" on the share'):
        bring(target, tmp_path / "source.db")
    assert [name for (name,) in target.execute("SELECT name FROM sqlite_master")] == ["marks"]
    with pytest.raises(ShareError, match=r"none\.db is not there, so there is nothing to publish"):
        bring(target, tmp_path / "none.db")


values = st.one_of(
    st.none(), st.integers(-3, 3), st.floats(allow_nan=False, width=16), st.text(max_size=2), st.binary(max_size=2)
)
contents = st.dictionaries(st.integers(1, 6), values, max_size=6)


@settings(max_examples=60)
@given(before=contents, after=contents)
def test_any_content_becomes_any_other(
    before: dict[int, object], after: dict[int, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with opened(folder / "source.db") as source, opened(folder / "target.db") as target:
        source.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        target.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        source.executemany("INSERT INTO t VALUES (?, ?)", after.items())
        target.executemany("INSERT INTO t VALUES (?, ?)", before.items())
        brought = bring(target, folder / "source.db")
        sql = "SELECT id, v, typeof(v) FROM t ORDER BY id"
        assert target.execute(sql).fetchall() == source.execute(sql).fetchall()
        assert brought.deleted.get("t", 0) == len(before.keys() - after.keys())
