"""The ways in which sync tools lose data on the local side, each tried on caches that stand for machines of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline_tests.share.fleet import Machine, Team, alike, gathered, settle

SCHEMA = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE, n INTEGER DEFAULT 0, updated_at TEXT)",
    "CREATE TABLE part (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item (id), note TEXT)",
    "CREATE TABLE line (item INTEGER REFERENCES item (id), pos INTEGER, note TEXT, PRIMARY KEY (item, pos))",
    "INSERT INTO item (id, name, code) VALUES (1, 'one', 'a'), (2, 'two', 'b')",
)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """Machines A, B, ... on one log, that began with the same file."""
    with gathered(tmp_path, *SCHEMA) as begin:
        yield begin


def names(machine: Machine) -> list[Any]:
    return [row[0] for row in machine.run("SELECT name FROM item ORDER BY name")]


def test_two_offline_inserts_with_one_number_are_two_rows_and_their_children_follow(team: Team) -> None:
    a, b = team()
    for machine in (a, b):
        machine.script(
            f"INSERT INTO item (name) VALUES ('of {machine.name}')",
            f"INSERT INTO part (item, note) VALUES (3, 'of {machine.name}')",
            f"INSERT INTO line VALUES (3, 1, 'of {machine.name}')",
        )
    alike([a, b])
    rows = a.run(
        "SELECT item.name, part.note, line.note FROM item JOIN part ON part.item = item.id JOIN line ON line.item = item.id"
    )
    assert sorted(rows) == [("of A", "of A", "of A"), ("of B", "of B", "of B")]
    assert [row.outcome for row in b.cache.audit()] == ["renumbered"] * 2


def test_many_inserts_with_the_same_numbers_all_stay(team: Team) -> None:
    machines = team(3)
    for machine in machines:
        for i in range(5):
            machine.run("INSERT INTO item (name) VALUES (?)", f"{machine.name}{i}")
    alike(machines)
    assert names(machines[0]) == sorted(["one", "two", *(f"{m.name}{i}" for m in machines for i in range(5))])


def test_the_same_row_inserted_twice_is_one_row(team: Team) -> None:
    a, b = team()
    for machine in (a, b):
        machine.run("INSERT INTO item (id, name) VALUES (7, 'seven')")
    alike([a, b])
    assert names(a) == ["one", "seven", "two"]
    assert len(a.log.files) == 1


def test_a_number_that_is_the_things_own_makes_one_row(team: Team) -> None:
    a, b = team(rules={"item": {"inserts": "same"}})
    a.run("INSERT INTO item (id, name) VALUES (4711, 'early')")
    a.log.now += 10
    b.run("INSERT INTO item (id, name) VALUES (4711, 'late')")
    alike([b, a])
    assert names(a) == ["late", "one", "two"]
    assert a.cache.audit()[0].mine == {"id": 4711, "name": "early", "code": None, "n": 0, "updated_at": None}


def test_rows_replaced_on_two_machines_are_not_taken_for_two_new_ones(team: Team) -> None:
    a, b = team()
    for machine in (a, b):
        machine.run("INSERT OR REPLACE INTO item (id, name) VALUES (1, ?)", f"of {machine.name}")
        machine.log.now += 10
    alike([a, b])
    assert names(a) == ["of B", "two"]
    assert b.cache.audit()[0].theirs["name"] == "of A"  # type: ignore[index]


def test_an_older_edit_that_is_pushed_last_does_not_win(team: Team) -> None:
    a, b = team()
    a.run("UPDATE item SET name = 'old' WHERE id = 1")
    a.log.now += 3_600_000
    b.run("UPDATE item SET name = 'new' WHERE id = 1")
    b.sync()
    alike([a, b])
    assert names(a) == ["new", "two"]
    (row,) = a.cache.audit()
    assert (row.outcome, row.mine["name"], row.theirs["name"], row.base["name"]) == ("theirs", "old", "new", "one")  # type: ignore[index]


@pytest.mark.parametrize("column", ["captured", "stated"])
def test_a_wrong_clock_does_not_win(team: Team, column: str) -> None:
    """B's clock is an hour fast; its edit is older than A's."""
    a, b = team(skews=(0, 3_600_000))

    def edit(machine: Machine, name: str) -> None:
        stated = machine.clock() if column == "stated" else None
        machine.run("UPDATE item SET name = ?, updated_at = ? WHERE id = 1", name, stated)

    edit(b, "older")
    a.log.now += 1000
    edit(a, "newer")
    a.sync()
    b.sync()
    alike([a, b])
    assert names(a) == ["newer", "two"]
    assert b.cache.state().skew


def test_an_offline_edit_is_there_after_a_restart(team: Team) -> None:
    a, b = team()
    a.run("UPDATE item SET name = 'offline' WHERE id = 1")
    a.kill()
    assert a.cache.pending() == 1
    a.kill()
    alike([a, b])
    assert names(b) == ["offline", "two"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE item SET name = name || '!'", ["one!", "two!"]),
        ("DELETE FROM item", []),
        ("INSERT INTO item (name) SELECT name || '2' FROM item", ["one", "one2", "two", "two2"]),
        ("INSERT OR REPLACE INTO item (id, name) SELECT id, 'r' || id FROM item", ["r1", "r2"]),
        ("INSERT OR REPLACE INTO item (id, name, code) VALUES (9, 'takes a', 'a')", ["takes a", "two"]),
        ("UPDATE OR REPLACE item SET code = 'a' WHERE id = 2", ["two"]),
        ("UPDATE OR REPLACE item SET id = 1 WHERE id = 2", ["two"]),
        ("REPLACE INTO item (id, name) VALUES (1, 'again')", ["again", "two"]),
        (
            "INSERT INTO item (name, code) VALUES ('up', 'a') ON CONFLICT (code) DO UPDATE SET name = excluded.name",
            ["two", "up"],
        ),
        ("UPDATE item SET id = id + 10", ["one", "two"]),
        ("UPDATE item SET rowid = 50 WHERE id = 1", ["one", "two"]),
        ("WITH x AS (SELECT 1 AS id) UPDATE item SET name = 'from' FROM x WHERE x.id = item.id", ["from", "two"]),
    ],
)
def test_bulk_sql_of_any_program_is_captured(team: Team, statement: str, expected: list[str]) -> None:
    a, b = team()
    a.run(statement)
    alike([a, b])
    assert names(b) == expected


def test_rows_that_a_cascade_deletes_are_deleted_everywhere(team: Team) -> None:
    a, b = team()
    a.script(
        "CREATE TABLE leaf (id INTEGER PRIMARY KEY, item REFERENCES item (id) ON DELETE CASCADE)",
        "INSERT INTO leaf VALUES (1, 1)",
    )
    alike([a, b])
    db = a.connect()
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("DELETE FROM item WHERE id = 1")
    db.close()
    alike([a, b])
    assert b.run("SELECT * FROM leaf") == []


def test_a_write_that_was_rolled_back_is_not_published(team: Team) -> None:
    a, _ = team()
    db = a.connect()
    db.execute("BEGIN")
    db.execute("INSERT INTO item (name) VALUES ('never')")
    db.execute("SAVEPOINT one")
    db.execute("DELETE FROM item")
    db.execute("ROLLBACK TO one")
    db.execute("ROLLBACK")
    db.close()
    assert a.cache.pending() == 0
    assert a.sync() == []
    assert a.log.files == []


def test_an_edit_taken_back_is_not_published(team: Team) -> None:
    a, _ = team()
    a.run("UPDATE item SET name = 'x' WHERE id = 1")
    a.run("UPDATE item SET name = 'one' WHERE id = 1")
    a.script("INSERT INTO item (id, name) VALUES (9, 'x')", "DELETE FROM item WHERE id = 9")
    a.run("INSERT OR IGNORE INTO item (id, name) VALUES (1, 'ignored')")
    assert a.cache.pending() == 0
    a.sync()
    assert a.log.files == []


@pytest.mark.parametrize("crash", ["prepared", "published", "confirmed"])
def test_edit_sync_edit_kill_keeps_the_second_edit(team: Team, crash: str) -> None:
    a, b = team()
    a.run("UPDATE item SET name = 'first' WHERE id = 1")
    segment = a.cache.prepare(100, "u", a.log.now, a.rules)
    assert segment is not None
    a.run("UPDATE item SET name = 'second' WHERE id = 1")
    if crash != "prepared":
        digest = a.log.publish(segment)
        assert digest is not None
        if crash == "confirmed":
            a.cache.confirm(segment, digest, a.rules, a.log.now)
    a.kill()
    assert a.cache.pending() == 1
    alike([a, b])
    assert names(b) == ["second", "two"]
    assert a.cache.audit() == b.cache.audit() == []


def test_an_edit_taken_back_while_it_was_on_its_way_is_taken_back_everywhere(team: Team) -> None:
    a, b = team()
    a.run("UPDATE item SET name = 'wrong' WHERE id = 1")
    segment = a.cache.prepare(100, "u", a.log.now, a.rules)
    assert segment is not None
    a.run("UPDATE item SET name = 'one' WHERE id = 1")
    a.log.publish(segment)
    alike([a, b])
    assert names(b) == ["one", "two"]


def test_an_edit_taken_back_is_taken_back_though_its_publisher_never_heard_that_it_arrived(team: Team) -> None:
    a, b = team()
    a.run("UPDATE item SET name = 'wrong' WHERE id = 1")
    a.sync(crash="published")
    a.run("UPDATE item SET name = 'one' WHERE id = 1")
    assert a.cache.prepare(100, "u", a.log.now) is None
    alike([a, b])
    assert names(b) == ["one", "two"]


def test_a_row_whose_key_is_not_utf_8_waits_alone(team: Team) -> None:
    a, b = team()
    a.run("CREATE TABLE named (name TEXT PRIMARY KEY NOT NULL)")
    a.run("INSERT INTO named VALUES (CAST(x'e5' AS TEXT)), ('fine')")
    a.run("CREATE TABLE keyed (name BLOB PRIMARY KEY NOT NULL)")
    a.run("INSERT INTO keyed VALUES (x'e5')")
    a.sync(limit=1)
    b.sync()
    assert b.run("SELECT name FROM named UNION ALL SELECT name FROM keyed") == [("fine",), (b"\xe5",)]
    assert a.cache.pending() == 1
    assert "is text that is not UTF-8" in (a.cache.state().problem or "")
    a.run("UPDATE named SET name = 'mended' WHERE name <> 'fine'")
    alike([a, b])
    assert b.run("SELECT name FROM named") == [("fine",), ("mended",)]
    assert a.cache.state().problem is None


def test_a_batch_is_in_the_log_once_whatever_crashes(team: Team) -> None:
    a, b = team()
    a.run("INSERT INTO item (name) VALUES ('once')")
    for _ in range(3):
        a.sync(crash="prepared")
    batch = a.cache.inflight
    a.sync(crash="published")
    assert a.cache.inflight == batch
    alike([a, b])
    assert len(a.log.files) == 1
    assert a.cache.inflight is None
    assert names(b).count("once") == 1


def test_a_batch_rebuilt_with_other_rows_after_it_was_published_loses_none(team: Team) -> None:
    """The link came late: what was built again under the same id never went out, and what is in the log is older."""
    a, b = team()
    a.run("UPDATE item SET name = 'first' WHERE id = 1")
    first = a.cache.prepare(100, "u", a.log.now, a.rules)
    a.kill()
    a.run("UPDATE item SET name = 'second' WHERE id = 1")
    a.run("INSERT INTO item (name) VALUES ('new')")
    again = a.cache.prepare(100, "u", a.log.now, a.rules)
    assert first is not None
    assert again is not None
    assert first.batch == again.batch
    a.log.publish(first)
    assert a.log.publish(again) is None
    alike([a, b])
    assert names(b) == ["new", "second", "two"]


def test_an_update_is_kept_against_an_earlier_delete(team: Team) -> None:
    a, b = team()
    a.run("DELETE FROM item WHERE id = 1")
    a.log.now += 1000
    b.run("UPDATE item SET name = 'still wanted' WHERE id = 1")
    a.sync()
    alike([a, b])
    assert names(a) == ["still wanted", "two"]
    assert b.cache.audit()[0].rule == "delete: keep"


def test_a_delete_after_an_update_leaves_the_update_by_default_and_deletes_by_rule(team: Team) -> None:
    a, b = team(rules={"item": {"delete": "newest"}})
    a.run("UPDATE item SET name = 'edited' WHERE id = 1")
    a.log.now += 1000
    b.run("DELETE FROM item WHERE id = 1")
    a.sync()
    alike([a, b])
    assert names(a) == ["two"]
    assert b.cache.audit()[0].theirs["name"] == "edited"  # type: ignore[index]


def test_a_clash_of_unique_values_parks_the_row_and_blocks_nothing(team: Team) -> None:
    a, b = team()
    a.run("INSERT INTO item (id, name, code) VALUES (10, 'of A', 'x')")
    b.run("INSERT INTO item (id, name, code) VALUES (20, 'of B', 'x')")
    b.run("UPDATE item SET name = 'other' WHERE id = 2")
    alike([a, b])
    assert names(b) == ["of A", "one", "other"]
    (conflict,) = b.cache.conflicts()
    assert conflict.mine["name"] == "of B"  # type: ignore[index]
    assert "code" in conflict.reason
    assert a.log.files
    assert b.cache.pending() == 0


def test_an_update_that_clashes_goes_back_to_what_the_log_has(team: Team) -> None:
    a, b = team()
    a.run("INSERT INTO item (id, name, code) VALUES (10, 'of A', 'x')")
    b.run("UPDATE item SET code = 'x' WHERE id = 1")
    alike([a, b])
    assert b.run("SELECT code FROM item WHERE id = 1") == [("a",)]
    (conflict,) = b.cache.conflicts()
    assert (conflict.base["code"], conflict.mine["code"], conflict.theirs["code"]) == ("a", "x", "a")  # type: ignore[index]


def test_unique_values_exchanged_between_rows_arrive(team: Team) -> None:
    a, b = team(rules={"default": "fields"})
    a.script(
        "UPDATE item SET code = 'tmp' WHERE id = 1",
        "UPDATE item SET code = 'a' WHERE id = 2",
        "UPDATE item SET code = 'b' WHERE id = 1",
    )
    b.run("UPDATE item SET name = 'edited' WHERE id = 2")
    alike([a, b])
    assert b.cache.conflicts() == []
    assert a.run("SELECT id, code FROM item ORDER BY id") == [(1, "b"), (2, "a")]


def test_a_child_of_a_row_that_was_deleted_elsewhere_waits_for_a_person(team: Team) -> None:
    a, b = team()
    a.run("DELETE FROM item WHERE id = 1")
    b.run("INSERT INTO part (item, note) VALUES (1, 'orphan')")
    b.run("INSERT INTO part (item, note) VALUES (2, 'fine')")
    alike([a, b])
    assert a.run("SELECT note FROM part") == [("fine",)]
    (conflict,) = b.cache.conflicts()
    assert conflict.mine["note"] == "orphan"  # type: ignore[index]
    assert "item 1, which it belongs to, is not there" in conflict.reason


def test_the_children_of_a_row_that_is_parked_wait_with_it(team: Team) -> None:
    a, b = team()
    a.run("INSERT INTO item (id, name, code) VALUES (3, 'of A', 'x')")
    b.script(
        "INSERT INTO item (id, name, code) VALUES (3, 'of B', 'x')",
        "INSERT INTO part (item, note) VALUES (3, 'child')",
        "INSERT INTO line VALUES (3, 1, 'child')",
    )
    alike([a, b])
    assert a.run("SELECT * FROM part UNION ALL SELECT * FROM line") == []
    assert sorted(conflict.table for conflict in b.cache.conflicts()) == ["item", "line", "part"]


def test_a_row_deleted_here_to_which_new_rows_refer_comes_back(team: Team) -> None:
    a, b = team()
    a.run("INSERT INTO part (item, note) VALUES (1, 'child')")
    b.run("DELETE FROM item WHERE id = 1")
    alike([a, b])
    assert names(a) == ["one", "two"]
    (conflict,) = b.cache.conflicts()
    assert conflict.mine is None
    assert conflict.theirs["name"] == "one"  # type: ignore[index]


def test_a_parked_row_can_be_taken_back_changed_or_given_up(team: Team) -> None:
    a, b = team(rules={"item": "manual"})
    for n, machine in enumerate((a, b)):
        machine.run("UPDATE item SET name = ? WHERE id = 1", f"of {machine.name}")
        machine.run("UPDATE item SET name = ? WHERE id = 2", f"of {machine.name}")
        machine.log.now += n
    alike([a, b])
    first, second = b.cache.conflicts()
    assert first.base["name"] == "one"  # type: ignore[index]
    b.cache.resolve(first.id, "mine")
    b.cache.resolve(second.id, {"name": "of both"})
    assert b.cache.conflicts() == []
    assert [c.resolution for c in b.cache.conflicts(resolved=True)] == ["mine", '{"name": "of both"}']
    alike([a, b])
    assert names(a) == ["of B", "of both"]


def test_resolving_says_what_is_wrong(team: Team) -> None:
    a, b = team(rules={"item": "manual"})
    for machine in (a, b):
        machine.run("UPDATE item SET name = ? WHERE id = 1", machine.name)
    settle([a, b])
    (conflict,) = b.cache.conflicts()
    with pytest.raises(Exception, match="choose mine or theirs"):
        b.cache.resolve(conflict.id, "yours")
    with pytest.raises(Exception, match="no column 'colour'"):
        b.cache.resolve(conflict.id, {"colour": "red"})
    with pytest.raises(Exception, match="UNIQUE constraint failed"):
        b.cache.resolve(conflict.id, {"code": "b"})
    b.cache.resolve(conflict.id, None)
    with pytest.raises(Exception, match="no open conflict"):
        b.cache.resolve(conflict.id, "mine")
    alike([a, b])
    assert names(a) == ["two"]


def test_sums_add_up_whoever_counts(team: Team) -> None:
    machines = team(3, rules={"item": {"columns": {"n": "sum"}}})
    for turn in range(3):
        for i, machine in enumerate(machines):
            machine.run("UPDATE item SET n = n + ? WHERE id = 1", 10**i * (turn + 1))
        machines[turn].sync()
    alike(machines)
    assert machines[0].run("SELECT n FROM item WHERE id = 1") == [(666,)]


def test_columns_edited_on_two_machines_are_both_kept_by_the_field_rule(team: Team) -> None:
    a, b = team(rules={"default": "fields"})
    a.run("UPDATE item SET name = 'named' WHERE id = 1")
    b.run("UPDATE item SET n = 5 WHERE id = 1")
    alike([a, b])
    assert a.run("SELECT name, n FROM item WHERE id = 1") == [("named", 5)]


def test_a_function_decides_and_one_that_fails_loses_nothing(team: Team) -> None:
    def longest(base: Any, mine: Any, theirs: Any) -> Any:
        if "bad" in mine["name"]:
            raise ValueError("no")
        return max(mine, theirs, key=lambda row: len(row["name"]))

    a, b = team(rules={"item": longest})
    for machine, name in ((a, "long name"), (b, "short")):
        machine.run("UPDATE item SET name = ? WHERE id = 1", name)
        machine.run("UPDATE item SET name = ? WHERE id = 2", f"bad {name}")
    alike([a, b])
    assert names(a) == ["bad long name", "long name"]
    (conflict,) = b.cache.conflicts()
    assert "ValueError: no" in conflict.reason
    assert conflict.mine["name"] == "bad short"  # type: ignore[index]


def test_a_merged_row_that_breaks_a_check_waits_for_a_person(team: Team) -> None:
    a, b = team(rules={"default": "fields"})
    a.script(
        "CREATE TABLE span (id INTEGER PRIMARY KEY, low, high, CHECK (low <= high))",
        "INSERT INTO span VALUES (1, 5, 10)",
    )
    alike([a, b])
    a.run("UPDATE span SET low = 9")
    b.run("UPDATE span SET high = 6")
    alike([a, b])
    assert a.run("SELECT low, high FROM span") == [(9, 10)]
    assert "CHECK" in b.cache.conflicts()[0].reason
