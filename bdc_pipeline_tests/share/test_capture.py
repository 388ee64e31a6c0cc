"""Every kind of table, key and column is captured and arrives; what cannot be is refused with a sentence."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdc_pipeline.share.errors import CacheError
from bdc_pipeline.share.local import Cache, strip_file
from bdc_pipeline_tests.share.fleet import Log, Machine, Team, alike, content, gathered, make, settle

SCHEMA = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE)",
    "INSERT INTO item VALUES (1, 'one', 'a'), (2, 'two', 'b')",
)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with gathered(tmp_path, *SCHEMA) as begin:
        yield begin


@pytest.mark.parametrize(
    ("table", "statements"),
    [
        pytest.param(
            "CREATE TABLE t (a TEXT, b INTEGER, c, PRIMARY KEY (b, a)) WITHOUT ROWID",
            ["INSERT INTO t VALUES ('x', 1, 2.5), ('y', 1, x'00')", "UPDATE t SET b = 2 WHERE a = 'x'"],
            id="composite key without rowid",
        ),
        pytest.param(
            "CREATE TABLE t (a, b)",
            [
                "INSERT INTO t VALUES (1, 'x'), (1, 'x'), (NULL, NULL)",
                "DELETE FROM t WHERE rowid = 2",
                "UPDATE t SET b = 'y'",
            ],
            id="no key at all",
        ),
        pytest.param(
            "CREATE TABLE t (rowid TEXT, _rowid_ INT, v)",
            ["INSERT INTO t VALUES ('r', 1, 2)", "UPDATE t SET v = 3"],
            id="columns named as the rowid",
        ),
        pytest.param(
            "CREATE TABLE t (k BLOB PRIMARY KEY NOT NULL, v)",
            ["INSERT INTO t VALUES (x'00ff', x''), (x'', 'empty')", "UPDATE t SET v = x'ff' WHERE k = x''"],
            id="blob key",
        ),
        pytest.param(
            "CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, v TEXT COLLATE NOCASE)",
            ["INSERT INTO t VALUES ('Abc', 'x')", "UPDATE t SET k = 'ABC'", "UPDATE t SET v = 'X'"],
            id="key and value without case",
        ),
        pytest.param(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, b INT AS (a * 2) STORED, c INT AS (a + 1), d)",
            ["INSERT INTO t (a, d) VALUES (1, 'x')", "UPDATE t SET a = 5"],
            id="generated columns",
        ),
        pytest.param(
            'CREATE TABLE "odd ""name" ("a key" INTEGER PRIMARY KEY, "select" TEXT, "NEW.x" REAL)',
            ["INSERT INTO \"odd \"\"name\" VALUES (1, 'it''s', 0.1)", 'UPDATE "odd ""name" SET "select" = NULL'],
            id="odd names",
        ),
        pytest.param(
            "CREATE TABLE t (id INTEGER PRIMARY KEY DESC, v)",
            ["INSERT INTO t VALUES (5, 'x')", "UPDATE t SET id = 6"],
            id="integer key that is no rowid",
        ),
        pytest.param(
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v ANY) STRICT",
            [
                "INSERT INTO t (v) VALUES (1), (1.5), ('1'), (x'01')",
                "DELETE FROM t WHERE id = 4",
                "UPDATE t SET v = 1.0 WHERE id = 1",
            ],
            id="strict table with values of any kind",
        ),
        pytest.param(
            "CREATE TABLE t (only TEXT NOT NULL PRIMARY KEY)",
            ["INSERT INTO t VALUES ('a'), ('b')", "UPDATE t SET only = 'c' WHERE only = 'a'"],
            id="nothing but a key",
        ),
        pytest.param(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT, gone INT DEFAULT 0)",
            [
                "CREATE UNIQUE INDEX one ON t (a, b) WHERE gone = 0",
                "CREATE UNIQUE INDEX two ON t (lower(b))",
                "INSERT INTO t (a, b) VALUES ('x', 'y'), ('x', 'z')",
                "INSERT OR REPLACE INTO t (a, b) VALUES ('x', 'Y')",
            ],
            id="unique in part and by expression",
        ),
    ],
)
def test_tables_of_every_kind_arrive_with_their_values_as_they_are(
    team: Team, table: str, statements: list[str]
) -> None:
    a, b = team()
    a.run(table)
    for statement in statements:
        a.run(statement)
        alike([a, b])
    name = next(name for name in a.content() if name != "item")
    quoted = '"' + name.replace('"', '""') + '"'
    columns = [row[0] for row in a.run("SELECT name FROM pragma_table_xinfo(?)", name)]
    kinds = ", ".join(f'typeof("{column}")' for column in columns)
    assert sorted(a.run(f"SELECT {kinds} FROM {quoted}")) == sorted(b.run(f"SELECT {kinds} FROM {quoted}"))
    assert a.content()[name]


def test_a_row_without_a_key_is_refused_with_a_sentence(team: Team) -> None:
    a, _ = team()
    a.run("CREATE TABLE t (k TEXT PRIMARY KEY, v)")
    settle([a])
    with pytest.raises(sqlite3.IntegrityError, match="a row of t without a primary key cannot be shared"):
        a.run("INSERT INTO t VALUES (NULL, 1)")
    a.run("INSERT INTO t VALUES ('k', 1)")
    with pytest.raises(sqlite3.IntegrityError, match="without a primary key"):
        a.run("UPDATE t SET k = NULL")


def test_a_table_whose_columns_hide_the_rowid_is_refused_with_a_sentence(tmp_path: Path) -> None:
    start = make(tmp_path / "app.db", "CREATE TABLE t (rowid, _rowid_, oid)")
    with pytest.raises(CacheError, match="give it a primary key to share it"):
        Cache.create(tmp_path / "a.db", "A", snapshot=start)
    assert not (tmp_path / "a.db").exists()


def test_vacuum_leaves_the_numbers_of_rows_without_a_key(team: Team) -> None:
    a, b = team()
    a.run("CREATE TABLE t (v)")
    a.run("INSERT INTO t (rowid, v) VALUES (5, 'five'), (9, 'nine')")
    alike([a, b])
    a.run("VACUUM")
    a.run("UPDATE t SET v = 'NINE' WHERE rowid = 9")
    alike([a, b])
    assert b.run("SELECT rowid, v FROM t") == [(5, "five"), (9, "NINE")]


def test_a_program_with_recursive_triggers_is_captured_alike(team: Team) -> None:
    a, b = team()
    db = a.connect()
    db.execute("PRAGMA recursive_triggers = ON")
    db.execute("INSERT OR REPLACE INTO item VALUES (2, 'new', 'a')")
    db.close()
    alike([a, b])
    assert b.run("SELECT * FROM item") == [(2, "new", "a")]


def test_what_triggers_of_the_users_do_is_done_once(team: Team) -> None:
    a, b = team()
    a.script(
        "CREATE TABLE stock (id INTEGER PRIMARY KEY, n INT)",
        "INSERT INTO stock VALUES (1, 10)",
        "CREATE TABLE sale (id INTEGER PRIMARY KEY, n INT)",
        "CREATE TRIGGER sold AFTER INSERT ON sale BEGIN UPDATE stock SET n = n - NEW.n; END",
        "CREATE TRIGGER checked BEFORE INSERT ON sale WHEN NEW.n > 5 BEGIN SELECT RAISE(ABORT, 'too many'); END",
    )
    alike([a, b])
    a.run("INSERT INTO sale (n) VALUES (3)")
    alike([a, b])
    assert b.run("SELECT n FROM stock") == [(7,)]
    b.run("INSERT INTO sale (n) VALUES (2)")
    alike([a, b])
    assert a.run("SELECT n FROM stock") == [(5,)]
    with pytest.raises(sqlite3.IntegrityError, match="too many"):
        b.run("INSERT INTO sale (n) VALUES (6)")


def test_a_full_text_index_kept_by_triggers_follows_on_every_machine(team: Team, tmp_path: Path) -> None:
    a, b = team()
    a.script(
        "CREATE VIRTUAL TABLE found USING fts5 (name, content='item', content_rowid='id')",
        "CREATE TRIGGER f1 AFTER INSERT ON item BEGIN INSERT INTO found (rowid, name) VALUES (NEW.id, NEW.name); END",
        "CREATE TRIGGER f2 AFTER DELETE ON item BEGIN INSERT INTO found (found, rowid, name) VALUES ('delete', OLD.id, OLD.name); END",
        "INSERT INTO found (found) VALUES ('rebuild')",
    )
    alike([a, b])
    a.run("INSERT INTO item (name) VALUES ('needle')")
    alike([a, b])
    assert b.run("SELECT name FROM found WHERE found MATCH 'needle'") == [("needle",)]
    assert b.cache.state().left_out == ["found"]
    a.run("DELETE FROM item WHERE name = 'needle'")
    a.run("INSERT INTO item (name) VALUES ('other')")
    settle([a])
    assert a.cache.snapshot(tmp_path / "s.db")
    b.run("INSERT INTO item (name) VALUES ('pending')")
    b.cache.load_snapshot(tmp_path / "s.db", a.cache.position, b.rules, b.log.now)
    assert b.run("SELECT count(*) FROM found WHERE found MATCH 'needle'") == [(0,)]
    assert b.run("SELECT count(*) FROM found WHERE found MATCH 'other OR pending'") == [(2,)]
    b.run("INSERT INTO found (found) VALUES ('integrity-check')")


def test_views_tell_what_is_pending_and_what_is_known(team: Team) -> None:
    a, _ = team()
    a.run("UPDATE item SET name = 'x' WHERE id = 1")
    assert a.run("SELECT table_name, row_key, synced FROM sync_tracking") == [("item", "[1]", 0)]
    settle([a])
    assert a.run("SELECT table_name, row_key, operation, synced, version FROM sync_tracking") == [
        ("item", "[1]", "write", 1, 1)
    ]
    assert ("cache.client", "A") in a.run("SELECT * FROM sync_metadata")


def test_a_table_of_the_users_may_have_the_name_of_a_view(tmp_path: Path) -> None:
    start = make(
        tmp_path / "app.db",
        "CREATE TABLE sync_tracking (id INTEGER PRIMARY KEY, v)",
        "INSERT INTO sync_tracking VALUES (1, 2)",
    )
    log = Log()
    a, b = (Machine(log, tmp_path / f"{name}.db", name, snapshot=start) for name in "AB")
    a.run("UPDATE sync_tracking SET v = 3")
    alike([a, b])
    assert b.run("SELECT * FROM sync_tracking") == [(1, 3)]
    a.cache.close()
    b.cache.close()


def test_pending_counts_each_row_once_before_and_after_a_sync_has_looked(team: Team) -> None:
    a, _ = team()
    a.run("UPDATE item SET name = name || '!'")
    a.run("UPDATE item SET name = name || '!'")
    a.run("INSERT INTO item (name) VALUES ('x')")
    assert a.cache.pending_by_table() == {"item": 3}
    a.cache.prepare(100, "u", a.log.now)
    assert a.cache.pending() == 3
    a.run("DELETE FROM item WHERE name = 'x'")
    a.run("UPDATE item SET code = 'z' WHERE id = 1")
    assert a.cache.pending() == 2 + 1  # the row that came and went is looked at with the next sync
    settle([a])
    assert a.cache.pending() == 0
    assert a.cache.state().pending_since is None


def test_what_is_stripped_is_a_plain_database_again(team: Team, tmp_path: Path) -> None:
    a, _ = team()
    a.script("CREATE TABLE loose (v)", "UPDATE item SET name = 'x'")
    settle([a])
    a.cache.close()
    strip_file(a.path)
    db = sqlite3.connect(a.path)
    assert db.execute("SELECT name FROM sqlite_master WHERE name LIKE '%sync%'").fetchall() == []
    assert set(content(db)) == {"item", "loose"}
    db.close()


def test_a_table_renamed_or_rebuilt_goes_on_being_captured(team: Team) -> None:
    """It is not published before a migration is registered; what is written waits and is counted."""
    a, _ = team()
    a.run("UPDATE item SET name = 'before' WHERE id = 1")
    a.run("ALTER TABLE item RENAME TO thing")
    a.run("UPDATE thing SET name = 'after' WHERE id = 2")
    assert a.cache.pending_by_table() == {"thing": 2}
    assert "Register a migration" in (a.cache.state().problem or "")
    a.run("ALTER TABLE thing RENAME TO item")
    a.script(
        "CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE)",
        "INSERT INTO new SELECT * FROM item",
        "DROP TABLE item",
        "ALTER TABLE new RENAME TO item",
    )
    a.run("INSERT INTO item (name) VALUES ('later')")
    assert a.cache.pending_by_table() == {"item": 3}
