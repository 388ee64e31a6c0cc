"""A whole cache at once: snapshots, machines behind the horizon, shares restored from a backup, rows that older programs wrote."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bdc_pipeline.share.errors import CacheError
from bdc_pipeline.share.local import Cache, Gap, Mismatch
from bdc_pipeline.share.model import Change, Position, Stamp
from bdc_pipeline_tests.share.fleet import START, Machine, Team, alike, content, gathered, settle

SCHEMA = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE)",
    "CREATE TABLE part (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item (id), note TEXT)",
    "CREATE TABLE tag (name TEXT NOT NULL PRIMARY KEY, note TEXT)",
    "INSERT INTO item VALUES (1, 'one', 'a'), (2, 'two', 'b')",
)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with gathered(tmp_path, *SCHEMA) as begin:
        yield begin


def load(machine: Machine, file: Path, position: Position) -> None:
    machine.cache.load_snapshot(file, position, machine.rules, machine.log.now)


def test_a_snapshot_has_what_the_log_has_and_nothing_that_is_pending(team: Team, tmp_path: Path) -> None:
    a, b = team()
    a.run("INSERT INTO tag VALUES ('published', 'x')")
    alike([a, b])
    expected = a.content()
    a.script(
        "INSERT INTO tag VALUES ('pending', 'y')",
        "UPDATE item SET code = 'tmp' WHERE id = 1",
        "UPDATE item SET code = 'a' WHERE id = 2",
        "UPDATE item SET code = 'b' WHERE id = 1",
        "DELETE FROM tag WHERE name = 'published'",
    )
    position = a.cache.snapshot(tmp_path / "s.db")
    assert position == a.cache.position
    db = sqlite3.connect(tmp_path / "s.db")
    assert content(db) == expected
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE name LIKE '%sync%'")]
    assert names == ["_sync_versions"]
    assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    db.close()
    assert a.cache.pending() == 4


@pytest.mark.parametrize(
    "pragma", ["page_size = 512", "page_size = 65536", "encoding = 'UTF-16le'", "auto_vacuum = FULL"]
)
def test_a_snapshot_of_a_file_of_any_make_is_made_and_loaded(pragma: str, tmp_path: Path) -> None:
    with gathered(tmp_path, f"PRAGMA {pragma}", *SCHEMA) as begin:
        a, b = begin()
        a.run("INSERT INTO tag VALUES ('mærke', 'x')")
        b.run("INSERT INTO tag VALUES ('of B', 'pending')")
        settle([a])
        position = a.cache.snapshot(tmp_path / "s.db")
        assert position == a.cache.position
        name = pragma.partition(" ")[0]
        with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as db:
            assert db.execute(f"PRAGMA {name}").fetchall() == a.run(f"PRAGMA {name}")
            assert content(db) == a.content()
        load(b, tmp_path / "s.db", position)
        alike([a, b])


def test_a_cache_begins_with_a_snapshot_and_goes_on_from_there(team: Team, tmp_path: Path) -> None:
    a, b = team()
    a.run("DELETE FROM item WHERE id = 1")
    settle([a])
    position = a.cache.snapshot(tmp_path / "s.db")
    c = Machine(a.log, tmp_path / "C.db", "C", snapshot=tmp_path / "s.db", position=position)
    assert c.cache.position == position
    c.run("INSERT INTO tag VALUES ('of C', '')")
    alike([a, b, c])
    assert c.run("SELECT gone FROM _sync_version WHERE tbl = 'item'") == [(1,)]
    c.cache.close()


def test_a_snapshot_keeps_the_numbers_of_rows_without_a_key(team: Team, tmp_path: Path) -> None:
    a, b = team()
    a.script("CREATE TABLE loose (v)", "INSERT INTO loose (rowid, v) VALUES (1, 'x'), (5, 'y')")
    a.run("DELETE FROM loose WHERE rowid = 1")
    settle([a])
    position = a.cache.snapshot(tmp_path / "s.db")
    assert position is not None
    load(b, tmp_path / "s.db", position)
    b.run("UPDATE loose SET v = 'of B'")
    alike([a, b])
    assert a.run("SELECT rowid, v FROM loose") == [(5, "of B")]


def test_a_machine_behind_the_horizon_keeps_what_it_has_written(team: Team, tmp_path: Path) -> None:
    a, b = team()
    a.script(
        "UPDATE item SET name = 'by A' WHERE id = 1",
        "INSERT INTO item VALUES (3, 'new of A', 'x')",
        "INSERT INTO part VALUES (1, 3, 'of A')",
        "DELETE FROM item WHERE id = 2",
    )
    settle([a])
    a.log.now += 1000
    b.script(
        "UPDATE item SET name = 'by B' WHERE id = 1",
        "INSERT INTO item VALUES (3, 'new of B', 'y')",
        "INSERT INTO part VALUES (1, 3, 'of B')",
        "INSERT INTO part VALUES (2, 2, 'orphan')",
        "INSERT INTO item VALUES (9, 'clash', 'x')",
        "INSERT INTO tag VALUES ('only B', '')",
    )
    position = a.cache.snapshot(tmp_path / "s.db")
    assert position is not None
    load(b, tmp_path / "s.db", position)
    b.kill()
    alike([a, b])
    rows = a.run("SELECT item.name, part.note FROM item LEFT JOIN part ON part.item = item.id ORDER BY 1")
    assert rows == [("by B", None), ("new of A", "of A"), ("new of B", "of B")]
    assert a.run("SELECT name FROM tag") == [("only B",)]
    assert sorted(c.mine.get("note") or c.mine["name"] for c in b.cache.conflicts() if c.mine) == ["clash", "orphan"]
    assert "by A" in b.accounted()


def test_a_snapshot_of_a_later_schema_brings_it_along(team: Team, tmp_path: Path) -> None:
    a, b = team()
    a.run("ALTER TABLE item ADD COLUMN colour TEXT DEFAULT 'red'")
    a.run("CREATE TABLE made (k TEXT PRIMARY KEY NOT NULL)")
    a.run("INSERT INTO made VALUES ('x')")
    settle([a])
    b.run("UPDATE item SET name = 'by B' WHERE id = 1")
    b.run("CREATE TABLE mine (k INTEGER PRIMARY KEY)")
    b.run("INSERT INTO mine VALUES (5)")
    position = a.cache.snapshot(tmp_path / "s.db")
    assert position is not None
    load(b, tmp_path / "s.db", position)
    alike([a, b])
    assert a.run("SELECT name, colour FROM item") == [("by B", "red"), ("two", "red")]
    assert a.run("SELECT * FROM mine") == [(5,)]


def test_a_snapshot_that_is_older_takes_the_schema_back_and_the_log_brings_it_again(team: Team, tmp_path: Path) -> None:
    a, b = team()
    position = b.cache.snapshot(tmp_path / "s.db")
    assert position == Position()
    a.run("CREATE TABLE made (k TEXT PRIMARY KEY NOT NULL)")
    a.run("INSERT INTO made VALUES ('x')")
    alike([a, b])
    b.run("INSERT INTO made VALUES ('pending')")
    load(b, tmp_path / "s.db", position)
    alike([a, b])
    assert a.run("SELECT k FROM made ORDER BY k") == [("x",)]
    assert [conflict.mine for conflict in b.cache.conflicts()] == [{"k": "pending"}]


def test_rows_of_a_table_that_is_gone_wait_for_a_person(team: Team, tmp_path: Path) -> None:
    _, b = team()
    b.run("INSERT INTO tag VALUES ('homeless', '')")
    start = tmp_path / "other.db"
    db = sqlite3.connect(start)
    db.executescript("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE); CREATE TABLE part (k)")
    db.close()
    load(b, start, Position(5, b"five"))
    (conflict,) = b.cache.conflicts()
    assert conflict.mine == {"name": "homeless", "note": ""}
    assert "gone" in conflict.reason
    assert set(b.content()) == {"item", "part"}


def test_a_batch_that_is_in_the_snapshot_is_not_there_twice(team: Team, tmp_path: Path) -> None:
    """It was published, its publisher never heard of it, and others have edited it since."""
    a, b = team()
    b.run("INSERT INTO item VALUES (3, 'once', NULL)")
    b.sync(crash="published")
    a.sync()
    a.run("UPDATE item SET name = 'once, edited' WHERE id = 3")
    settle([a])
    position = a.cache.snapshot(tmp_path / "s.db")
    assert position is not None
    load(b, tmp_path / "s.db", position)
    alike([a, b])
    assert len(a.run("SELECT * FROM item")) == 3


def test_a_share_restored_from_a_backup_gets_everything_again(team: Team) -> None:
    a, b, c = team(3)
    a.run("UPDATE item SET name = 'kept' WHERE id = 1")
    alike([a, b, c])
    backup = list(a.log.files)
    a.run("UPDATE item SET name = 'later' WHERE id = 2")
    b.run("INSERT INTO tag VALUES ('lost', 'x')")
    settle([a, b])
    b.run("DELETE FROM item WHERE id = 1")
    settle([a, b])
    c.run("INSERT INTO tag VALUES ('of C', 'y')")
    expected = a.content()["item"]
    a.log.files[:] = backup
    read = a.log.read(1)
    assert read is not None
    assert a.cache.rewind(Position(1, read[1])) == 3
    b.cache.rewind(Position(1, read[1]))
    assert a.cache.snapshot(a.path.with_name("s.db")) is None
    a.kill()
    alike([c, a, b])
    assert c.content()["item"] == expected
    assert c.run("SELECT name FROM tag ORDER BY name") == [("lost",), ("of C",)]


def test_a_segment_applied_twice_is_applied_once_and_a_gap_or_another_log_is_refused(team: Team) -> None:
    a, b = team()
    for name in ("x", "y", "z"):
        a.run("INSERT INTO tag VALUES (?, '')", name)
        a.sync()
    first, second, third = (found for n in (1, 2, 3) if (found := a.log.read(n)))
    with pytest.raises(Gap, match="segment 3 was read, and the next is 1"):
        b.cache.apply(*third, b.rules, START)
    assert not b.cache.apply(*first, b.rules, START).skipped
    assert b.cache.apply(*first, b.rules, START).skipped
    with pytest.raises(Mismatch, match="another than the one applied here"):
        b.cache.apply(first[0], b"other", b.rules, START)
    with pytest.raises(Mismatch, match="does not follow on segment 1"):
        b.cache.apply(msgspec.structs.replace(second[0], previous=b"other"), second[1], b.rules, START)
    alike([a, b])


class Drained(msgspec.Struct):
    changes: tuple[Change, ...]
    number: int

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        return {"item": ("id", "name", "code"), "tag": ("name", "note")}


def written(table: str, key: Any, row: Any, *, base: int = 0, decision: str | None = None, at: int = START) -> Change:
    return Change(table, (key,), base, row, at, Stamp(at, 0, "older"), decision)


def test_rows_of_older_programs_enter_once_and_are_published(team: Team) -> None:
    a, b = team()
    drained = Drained((written("tag", "old", ("old", "x"), decision="inserted"), written("item", 2, None)), 7)
    assert a.cache.enter(drained, a.rules, START).rows == 2
    a.run("DELETE FROM tag")
    a.kill()
    assert a.cache.enter(drained, a.rules, START).skipped
    assert a.cache.outbox == 7
    alike([a, b])
    assert b.content()["tag"] == []
    assert b.run("SELECT id FROM item") == [(1,)]


def test_rows_of_older_programs_meet_what_the_log_and_this_machine_have_written_since(team: Team) -> None:
    a, b = team()
    b.run("UPDATE item SET name = 'in the log' WHERE id = 1")
    b.run("INSERT INTO item VALUES (3, 'third', 'x')")
    b.log.now += 100
    alike([b, a])
    a.log.now += 100
    a.run("UPDATE item SET name = 'pending' WHERE id = 2")
    drained = Drained(
        (
            written("item", 1, (1, "older", "a"), at=START + 50),
            written("item", 2, (2, "newer", "b"), at=START + 900),
            written("item", 3, (3, "another third", None), decision="inserted"),
            written("item", 8, (8, "clash", "x"), decision="inserted"),
        ),
        4,
    )
    a.log.now += 1000
    done = a.cache.enter(drained, a.rules, a.log.now)
    assert (done.conflicts, done.renumbered, done.parked) == (2, 1, 1)
    alike([a, b])
    assert [row[0] for row in b.run("SELECT name FROM item ORDER BY id")] == [
        "older",
        "newer",
        "third",
        "another third",
    ]
    assert a.cache.conflicts()[0].mine == {"id": 8, "name": "clash", "code": "x"}


def test_opening_what_is_no_cache_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="there is no cache at"):
        Cache(tmp_path / "none.db")
    (tmp_path / "junk.db").write_bytes(b"no database, but long enough to be taken for one" * 100)
    with pytest.raises(CacheError, match="cannot be used as a cache"):
        Cache(tmp_path / "junk.db")
    (tmp_path / "plain.db").touch()
    with pytest.raises(CacheError, match="cannot be used as a cache"):
        Cache(tmp_path / "plain.db")
    with pytest.raises(CacheError, match="exists already"):
        Cache.create(tmp_path / "plain.db", "A")


def test_settings_and_history_are_kept_and_the_caches_own_names_are_its_own(team: Team) -> None:
    a, _ = team()
    a.cache.put("interval", 30)
    a.cache.record({"at": 1, "rows": 2})
    a.cache.record({"at": 2, "rows": 3})
    a.kill()
    assert a.cache.get("interval") == "30"
    assert a.cache.get("nothing") is None
    assert [row["at"] for row in a.cache.history()] == [2, 1]
    with pytest.raises(CacheError, match="does not begin with 'cache"):
        a.cache.put("cache.client", "B")
