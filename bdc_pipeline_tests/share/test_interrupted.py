"""Whatever a cache is doing when it is stopped, it has either done it or not begun: the file is as before, and doing it again works."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline_tests.share.fleet import Machine, Team, alike, gathered, settle

SCHEMA = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE)",
    "CREATE TABLE part (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item (id), note TEXT)",
    "CREATE TABLE log (v)",
    "CREATE TRIGGER noted AFTER INSERT ON item BEGIN INSERT INTO log VALUES (NEW.name); END",
    "INSERT INTO item VALUES (1, 'one', 'a'), (2, 'two', 'b'), (3, 'three', 'c')",
)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with gathered(tmp_path, *SCHEMA) as begin:
        yield begin


def everything(machine: Machine) -> list[str]:
    db = sqlite3.connect(machine.path)
    try:
        return list(db.iterdump())
    finally:
        db.close()


def stopped(machine: Machine, act: Callable[[], Any], after: int) -> bool:
    """Whether an action was stopped after so many instructions of SQLite's."""
    machine.cache._store.db.set_progress_handler(lambda: 1, after)
    try:
        act()
    except sqlite3.OperationalError:
        return True
    finally:
        machine.cache._store.db.set_progress_handler(None, 0)
    return False


def sweep(machine: Machine, act: Callable[[], Any]) -> None:
    """Stop an action at one point after another until it comes to its end."""
    before, after, points = everything(machine), 40, 0
    while stopped(machine, act, after):
        points += 1
        assert everything(machine) == before
        if points % 7 == 0:
            machine.kill()
        after = int(after * 1.15) + 1
    assert points > 5


def edit(a: Machine, b: Machine) -> None:
    """Edits that meet in every way: both changed, two new rows with one number, unique values, a parent deleted."""
    a.script(
        "UPDATE item SET name = 'by A' WHERE id = 1",
        "INSERT INTO item VALUES (4, 'new of A', 'x')",
        "INSERT INTO part VALUES (1, 4, 'of A')",
        "DELETE FROM item WHERE id = 3",
    )
    b.script(
        "UPDATE item SET name = 'by B' WHERE id = 1",
        "INSERT INTO item VALUES (4, 'new of B', 'y')",
        "INSERT INTO part VALUES (1, 4, 'of B')",
        "INSERT INTO item VALUES (9, 'clash', 'x')",
        "INSERT INTO part VALUES (2, 3, 'orphan')",
    )


def test_applying(team: Team) -> None:
    a, b = team()
    edit(a, b)
    settle([a])
    found = a.log.read(1)
    assert found is not None
    sweep(b, lambda: b.cache.apply(*found, b.rules, b.log.now))
    alike([a, b])
    assert len(b.cache.conflicts()) == 2


def test_preparing_and_confirming(team: Team) -> None:
    a, b = team()
    edit(a, b)
    sweep(b, lambda: b.cache.prepare(100, "u", b.log.now))
    segment = b.cache.prepare(100, "u", b.log.now)
    assert segment is not None
    digest = b.log.publish(segment)
    assert digest is not None
    sweep(b, lambda: b.cache.confirm(segment, digest, b.rules, b.log.now))
    alike([a, b])


def test_following_a_change_of_the_schema(team: Team) -> None:
    a, b = team()
    b.run("UPDATE item SET name = 'two' WHERE id = 1")
    a.script("CREATE UNIQUE INDEX names ON item (name)", "ALTER TABLE item ADD COLUMN colour TEXT DEFAULT 'red'")
    settle([a])
    found = a.log.read(1)
    assert found is not None
    sweep(b, lambda: b.cache.apply(*found, b.rules, b.log.now))
    alike([a, b])
    assert len(b.cache.conflicts()) == 1


def test_loading_a_snapshot(team: Team, tmp_path: Path) -> None:
    a, b = team()
    edit(a, b)
    settle([a])
    position = a.cache.snapshot(tmp_path / "s.db")
    assert position is not None
    sweep(b, lambda: b.cache.load_snapshot(tmp_path / "s.db", position, b.rules, b.log.now))
    alike([a, b])
    assert len(b.cache.conflicts()) == 2


def test_a_program_that_writes_meanwhile_waits_and_is_captured(team: Team) -> None:
    """A program's transaction that was open before is not disturbed; the cache waits for it."""
    a, b = team()
    a.run("UPDATE item SET name = 'by A' WHERE id = 1")
    settle([a])
    db = b.connect()
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE item SET name = 'meanwhile' WHERE id = 2")
    b.cache._store.db.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        b.pull()
    db.execute("COMMIT")
    db.close()
    alike([a, b])
    assert b.run("SELECT name FROM item ORDER BY id") == [("by A",), ("meanwhile",), ("three",)]
