"""Changes of the schema: what adds travels by itself, what could lose rows waits for a migration, and nobody's rows are lost."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdc_pipeline.share.schema import Item, SchemaBlocked, after, between, definitions, read_schema, schema_hash
from bdc_pipeline_tests.share.fleet import Team, alike, gathered, settle

SCHEMA = ("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)", "INSERT INTO item VALUES (1, 'one'), (2, 'two')")


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with gathered(tmp_path, *SCHEMA) as begin:
        yield begin


def schema(*statements: str) -> tuple[Item, ...]:
    db = sqlite3.connect(":memory:")
    for statement in statements:
        db.execute(statement)
    found = read_schema(db)
    db.close()
    return found


def test_the_hash_leaves_blanks_comments_and_the_order_of_columns_out() -> None:
    one = schema("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT DEFAULT 'x, y', -- why\n c)")
    other = schema("CREATE TABLE t(a INTEGER PRIMARY KEY,c,b   TEXT DEFAULT 'x, y')")
    assert schema_hash(one) == schema_hash(other)
    assert schema_hash(one) != schema_hash(schema("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT DEFAULT 'x,  y', c)"))


def test_definitions_are_told_apart_whatever_is_in_them() -> None:
    sql = """CREATE TABLE "a (b" (x INT CHECK (x IN (1, 2)), "y, z" TEXT DEFAULT ')', [w (] DECIMAL(3, 2) /* , */, UNIQUE (x, w))"""
    assert definitions(sql) == [
        "x INT CHECK (x IN (1, 2))",
        "\"y, z\" TEXT DEFAULT ')'",
        "[w (] DECIMAL(3, 2)",
        "UNIQUE (x, w)",
    ]


def test_between_two_schemas_lie_statements_that_lead_from_one_to_the_other() -> None:
    old = schema("CREATE TABLE t (a)", "CREATE INDEX i ON t (a)", "CREATE VIEW v AS SELECT a FROM t")
    new = schema("CREATE TABLE t (a, b INT DEFAULT 5)", "CREATE TABLE u (c)", "CREATE VIEW v AS SELECT a, b FROM t")
    statements = between(old, new, {})
    assert schema_hash(after(old, statements)) == schema_hash(new)
    assert between(new, new, {}) == ()


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ((), "table t was dropped or renamed here"),
        (("CREATE TABLE t (a, x)",), "columns of table t were changed, renamed or dropped"),
        (("CREATE TABLE t (a, b, c UNIQUE)",), "table t was rebuilt here with 'c UNIQUE'"),
        (("CREATE TABLE t (a, b, CHECK (a > 0))",), "rebuilt here with 'CHECK"),
    ],
)
def test_what_could_lose_rows_is_a_sentence_that_names_the_migration(new: tuple[str, ...], sentence: str) -> None:
    old = schema("CREATE TABLE t (a, b)")
    name = f"{schema_hash(old)}->{schema_hash(schema(*new))}"
    with pytest.raises(SchemaBlocked, match=sentence) as raised:
        between(old, schema(*new), {})
    assert name in str(raised.value)
    assert between(old, schema(*new), {name: ["registered"]}) == ("registered",)


def test_a_new_column_arrives_with_its_default_and_makes_no_row_pending(team: Team) -> None:
    a, b = team()
    a.run("ALTER TABLE item ADD COLUMN colour TEXT DEFAULT 'red'")
    assert a.cache.pending() == 1
    settle([a])
    assert len(a.log.files) == 1
    alike([a, b])
    assert b.run("SELECT colour FROM item") == [("red",), ("red",)]


def test_what_is_written_to_a_new_column_at_once_arrives(team: Team) -> None:
    """Before any sync has seen the column, by a program that holds its connection open."""
    a, b = team()
    db = a.connect()
    db.execute("UPDATE item SET name = 'x' WHERE id = 2")
    db.execute("ALTER TABLE item ADD COLUMN colour TEXT DEFAULT 'red'")
    db.execute("UPDATE item SET colour = 'blue' WHERE id = 1")
    db.execute("UPDATE item SET colour = 'green' WHERE id = 2")
    db.execute("CREATE TABLE made (k TEXT PRIMARY KEY, v)")
    db.execute("INSERT INTO made VALUES ('at once', 1)")
    db.close()
    alike([a, b])
    assert b.run("SELECT name, colour FROM item ORDER BY id") == [("one", "blue"), ("x", "green")]
    assert b.run("SELECT * FROM made") == [("at once", 1)]


def test_columns_added_on_two_machines_are_both_there_in_the_end(team: Team) -> None:
    a, b = team(rules={"default": "fields"})
    a.run("ALTER TABLE item ADD COLUMN a TEXT DEFAULT 'da'")
    b.run("ALTER TABLE item ADD COLUMN b TEXT DEFAULT 'db'")
    a.run("UPDATE item SET a = 'va' WHERE id = 1")
    b.run("UPDATE item SET b = 'vb' WHERE id = 1")
    settle([a, b])
    rows = [machine.run("SELECT id, name, a, b FROM item ORDER BY id") for machine in (a, b)]
    assert rows[0] == rows[1] == [(1, "one", "va", "vb"), (2, "two", "da", "db")]
    assert a.cache.state().schema == b.cache.state().schema


def test_tables_indexes_and_views_made_on_two_machines_alike_are_one(team: Team) -> None:
    a, b = team()
    for machine in (a, b):
        machine.script(
            "CREATE TABLE made (id INTEGER PRIMARY KEY, v)",
            "CREATE INDEX i ON made (v)",
            f"CREATE VIEW seen AS SELECT v, '{machine.name}' AS maker FROM made",
            f"INSERT INTO made (v) VALUES ('{machine.name}')",
        )
    alike([a, b])
    assert b.run("SELECT v, maker FROM seen ORDER BY v") == [("A", "A"), ("B", "A")]


def test_a_unique_index_made_elsewhere_parks_rows_here_that_break_it(team: Team) -> None:
    a, b = team()
    b.run("UPDATE item SET name = 'two' WHERE id = 1")
    b.run("INSERT INTO item VALUES (9, 'fine')")
    a.run("CREATE UNIQUE INDEX names ON item (name)")
    alike([a, b])
    assert b.run("SELECT name FROM item ORDER BY id") == [("one",), ("two",), ("fine",)]
    assert b.cache.conflicts()[0].mine == {"id": 1, "name": "two"}


def test_dropped_indexes_views_and_triggers_are_dropped_everywhere(team: Team) -> None:
    a, b = team()
    a.script(
        "CREATE INDEX i ON item (name)",
        "CREATE VIEW v AS SELECT * FROM item",
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN UPDATE item SET name = 'set' WHERE id = NEW.id; END",
    )
    alike([a, b])
    b.script("DROP INDEX i", "DROP VIEW v", "DROP TRIGGER t")
    alike([a, b])
    assert a.run("SELECT name FROM sqlite_master WHERE name IN ('i', 'v', 't')") == []


def test_a_change_that_could_lose_rows_waits_and_writes_go_on_being_queued(team: Team) -> None:
    a, b = team()
    a.run("ALTER TABLE item RENAME COLUMN name TO title")
    a.run("UPDATE item SET title = 'waits' WHERE id = 1")
    b.run("INSERT INTO item VALUES (5, 'of B')")
    b.sync()
    with pytest.raises(SchemaBlocked, match="Register a migration"):
        a.sync()
    assert a.cache.pending() == 2
    assert "Register a migration" in (a.cache.state().problem or "")
    a.run("UPDATE item SET title = 'waits too' WHERE id = 2")
    assert a.cache.pending() == 3


def test_a_registered_migration_goes_through_with_what_is_pending_on_both_sides(team: Team) -> None:
    old, new = (schema(f"CREATE TABLE item (id INTEGER PRIMARY KEY, {c} TEXT)") for c in ("name", "title"))
    name = f"{schema_hash(old)}->{schema_hash(new)}"
    a, b = team(migrations={name: ["ALTER TABLE item RENAME COLUMN name TO title"]})
    a.run("UPDATE item SET name = 'before' WHERE id = 1")
    a.run("ALTER TABLE item RENAME COLUMN name TO title")
    b.run("DELETE FROM item WHERE id = 2")
    b.run("INSERT INTO item VALUES (7, 'of B')")
    alike([a, b])
    assert a.run("SELECT id, title FROM item ORDER BY id") == [(1, "before"), (7, "of B")]


def test_a_machine_without_the_migration_stops_taking_and_goes_on_queueing(team: Team) -> None:
    old, new = (schema(f"CREATE TABLE item (id INTEGER PRIMARY KEY, {c} TEXT)") for c in ("name", "title"))
    name = f"{schema_hash(old)}->{schema_hash(new)}"
    a, b = team()
    a.migrations = {name: ["ALTER TABLE item RENAME COLUMN name TO title"]}
    a.kill()
    a.run("ALTER TABLE item RENAME COLUMN name TO title")
    settle([a])
    b.run("INSERT INTO item VALUES (7, 'of B')")
    with pytest.raises(SchemaBlocked, match=name):
        b.sync()
    b.run("INSERT INTO item VALUES (8, 'of B too')")
    assert b.cache.position.sequence == 0
    assert name in (b.cache.state().problem or "")
    b.migrations = a.migrations
    b.kill()
    alike([a, b])
    assert b.cache.state().problem is None
    assert [row[0] for row in a.run("SELECT title FROM item ORDER BY id")] == ["one", "two", "of B", "of B too"]


def test_a_stranger_cannot_drop_a_table_through_the_log(team: Team) -> None:
    a, b = team()
    a.run("CREATE VIEW v AS SELECT 1")
    segment = a.cache.prepare(10, "u", a.log.now)
    assert segment is not None
    bad = type(segment)(
        **{f: getattr(segment, f) for f in segment.__struct_fields__} | {"statements": ("DROP TABLE item",)}
    )
    with pytest.raises(SchemaBlocked, match="DROP TABLE item"):
        b.cache.apply(bad, b"x", b.rules, b.log.now)
    assert b.run("SELECT count(*) FROM item") == [(2,)]
