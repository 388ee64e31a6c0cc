"""Backups of databases, also of such that are written meanwhile."""

import contextlib
import datetime as dt
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bdc_pipeline.cli import main
from bdc_pipeline.operations import backup
from bdc_pipeline.operations.backup import Backup, back_up, backups_in, differing, superfluous
from bdc_pipeline.warehouse.store import StoreError
from bdc_pipeline_tests.processes import killed_at_last, line_of
from bdc_pipeline_tests.waiting import until

NOW = dt.datetime(2026, 3, 10, 2, tzinfo=dt.UTC)

DAY = dt.timedelta(days=1)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file in WAL mode with two tables, the second of which always has twice the rows of the first."""
    path = tmp_path / "bdc_cache.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute("CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER)")
        write(connection, 100)
    return path


def write(connection: sqlite3.Connection, count: int) -> None:
    """Parents, each with two children, in a transaction of their own."""
    for _ in range(count):
        connection.execute("BEGIN IMMEDIATE")
        [number] = connection.execute("INSERT INTO parents (text) VALUES (?) RETURNING id", ("x" * 500,)).fetchone()
        connection.executemany("INSERT INTO children (parent) VALUES (?)", [(number,), (number,)])
        connection.execute("COMMIT")


def rows(path: Path) -> tuple[int, int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found: tuple[int, int] = connection.execute(
            "SELECT (SELECT count(*) FROM parents), (SELECT count(*) FROM children)"
        ).fetchone()
        return found


def taken(database: Path, directory: Path, at: dt.datetime = NOW, keep: int = 7, days: float = 30) -> backup.Taken:
    return back_up(database, directory, at, keep=keep, days=days)


def test_a_backup_holds_all_rows_and_nothing_else_is_left_behind(database: Path, tmp_path: Path) -> None:
    found = taken(database, tmp_path / "backups")
    assert found.backup.path == tmp_path / "backups" / "bdc_cache-20260310T020000Z.db"
    assert rows(found.backup.path) == (100, 200)
    assert (found.rows, found.bytes) == (300, found.backup.path.stat().st_size)
    assert list((tmp_path / "backups").iterdir()) == [found.backup.path]


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print("begun", flush=True)
while True:
    connection.execute("BEGIN IMMEDIATE")
    [number] = connection.execute("INSERT INTO parents (text) VALUES (?) RETURNING id", ("x" * 500,)).fetchone()
    connection.executemany("INSERT INTO children (parent) VALUES (?)", [(number,), (number,)])
    connection.execute("COMMIT")
"""


def parents_in(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM parents").fetchall()
        return int(count)


def test_a_backup_of_a_file_that_is_being_written_is_whole(database: Path, tmp_path: Path) -> None:
    found: list[Path] = []
    started = subprocess.Popen([sys.executable, "-c", WRITER, str(database)], stdout=subprocess.PIPE, text=True)
    with killed_at_last(started) as writer:
        assert line_of(writer, writer.stdout) == "begun\n"
        for number in range(5):
            # what comes while a backup is taken may be in it; what has come before the next one surely is in that
            before = parents_in(database)
            until(lambda before=before: parents_in(database) > before, "nothing is written any more")
            found.append(taken(database, tmp_path / "backups", NOW + number * DAY).backup.path)
    counts = [rows(path) for path in found]
    assert [children for _, children in counts] == [2 * parents for parents, _ in counts]
    assert [parents for parents, _ in counts] == sorted({parents for parents, _ in counts})
    assert counts[-1][0] > 100


def test_rows_that_are_written_and_not_committed_are_not_in_it(database: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO parents (text) VALUES ('half')")
        assert rows(taken(database, tmp_path / "backups").backup.path) == (100, 200)


@pytest.mark.parametrize(
    ("ages", "keep", "days", "gone"),
    [
        ([], 7, 30, []),
        ([0], 1, 1, []),
        ([400], 1, 1, []),
        ([0, 1, 2], 7, 30, []),
        ([0, 1, 2], 2, 30, [2]),
        ([0, 1, 2], 1, 30, [1, 2]),
        ([0, 29, 31], 7, 30, [31]),
        ([40, 50], 7, 30, [50]),
        ([0, 1, 2, 31], 3, 30, [31]),
        ([2, 0, 1], 2, 30, [2]),
    ],
)
def test_backups_go_by_number_and_age_and_never_the_last(
    ages: list[int], keep: int, days: int, gone: list[int]
) -> None:
    backups = [Backup(Path(str(age)), "bdc_cache", NOW - age * DAY) for age in ages]
    assert sorted(int(str(old.path)) for old in superfluous(backups, NOW, keep, days)) == sorted(gone)


def test_older_backups_go_when_a_new_one_is_there(database: Path, tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    first, second, third = (taken(database, directory, NOW + n * DAY, keep=2) for n in range(3))
    assert third.removed == (first.backup.path,)
    assert [one.path for one in backups_in(directory, database)] == [third.backup.path, second.backup.path]


def test_other_files_in_the_directory_stay(database: Path, tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    directory.mkdir()
    others = [directory / name for name in ("bdc_cache-notes.db", "bdc_cache-old-20200101T000000Z.db", "letter.txt")]
    for path in others:
        path.write_text("mine")
    taken(database, directory, keep=1, days=1)
    assert all(path.read_text() == "mine" for path in others)


def test_a_damaged_file_makes_no_backup_and_leaves_the_last_good_one(database: Path, tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    good = taken(database, directory, keep=1).backup.path
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(database.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    database.write_bytes(data)
    with pytest.raises(StoreError, match=r"bdc_cache\.db"):
        taken(database, directory, NOW + DAY, keep=1)
    assert list(directory.iterdir()) == [good]
    assert rows(good) == (100, 200)


def test_a_copy_that_fails_its_check_is_no_backup(database: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE broken (a TEXT)")
        connection.execute("INSERT INTO broken VALUES (NULL)")
        # VACUUM copies such a row as it is
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = 'CREATE TABLE broken (a TEXT NOT NULL)' WHERE name = 'broken'"
        )
    with pytest.raises(StoreError, match=r"is damaged: NULL value in broken\.a\. Its backups are left as they are"):
        taken(database, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_copy_that_lacks_rows_is_no_backup(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([{"a": 5}, {"a": 5}, {"a": 4}] * backup.ATTEMPTS)
    monkeypatch.setattr(backup, "_counts", lambda _: next(counts))
    with pytest.raises(StoreError, match="a has 4 rows, the file 5 to 5"):
        taken(database, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize(
    ("before", "copied", "after", "what"),
    [
        ({"a": 5}, {"a": 5}, {"a": 5}, ""),
        ({"a": 5}, {"a": 6}, {"a": 7}, ""),
        ({"a": 7}, {"a": 6}, {"a": 5}, ""),
        ({"a": 5}, {"a": 5, "b": 1}, {"a": 5, "b": 1}, ""),
        ({"a": 5}, {"a": 4}, {"a": 5}, "a has 4 rows, the file 5 to 5"),
        ({"a": 5}, {"a": 8}, {"a": 7}, "a has 8 rows, the file 5 to 7"),
        ({"a": 5, "b": 1}, {"a": 5}, {"a": 5, "b": 1}, "the table b is missing"),
        ({}, {"a": 1}, {}, "a has 1 rows, the file none"),
    ],
)
def test_a_copy_is_compared_with_the_file_before_and_after(
    before: dict[str, int], copied: dict[str, int], after: dict[str, int], what: str
) -> None:
    assert differing(before, copied, after) == what


def test_what_a_killed_backup_left_goes_after_a_day(database: Path, tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    directory.mkdir()
    old, young = (directory / f".bdc_cache-20260101T000000Z.db.{name}.part" for name in ("old", "young"))
    old.touch()
    young.touch()
    day_before = time.time() - 2 * backup.LEFTOVER_SECONDS
    os.utime(old, (day_before, day_before))
    taken(database, directory)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_directory_that_cannot_be_made_is_told_in_a_sentence(database: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be made .* BDC_BACKUP_DIR"):
        taken(database, tmp_path / "file" / "backups")


def test_a_file_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist, so there is nothing to back up"):
        taken(tmp_path / "none.db", tmp_path / "backups")


# -- the command -----------------------------------------------------------------------------------------------


def test_the_command_backs_up_what_there_is(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BDC_BACKUP_DIR", str(tmp_path / "kept"))
    done = CliRunner().invoke(main, ["backup", "--json"])
    assert done.exit_code == 0, done.output
    [told] = json.loads(done.stdout)["backups"]
    assert (told["database"], told["rows"]) == (str(database), 300)
    assert rows(Path(told["backup"])) == (100, 200)
    assert Path(told["backup"]).parent == tmp_path / "kept"


def test_the_command_goes_on_after_a_damaged_file_and_ends_with_status_1(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BDC_DATA_DIR", str(tmp_path))
    (tmp_path / "gitlab.db").write_text("no database " * 100)
    done = CliRunner().invoke(main, ["backup"])
    assert done.exit_code == 1
    assert f"Error: {tmp_path / 'gitlab.db'} is no SQLite database" in done.stderr
    assert [one.stem for one in backups_in(tmp_path / "backups", database)] == ["bdc_cache"]


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        (["backup"], {}, "There is no database in"),
        (["backup", "dmr"], {}, "dmr.db does not exist"),
        (["backup"], {"BDC_BACKUP_KEEP": "none"}, "BDC_BACKUP_KEEP is 'none'"),
        (["backup"], {"BDC_BACKUP_DAYS": "0"}, "BDC_BACKUP_DAYS is '0'"),
    ],
)
def test_what_cannot_be_done_is_told_with_status_2(
    arguments: list[str], settings: dict[str, str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BDC_DATA_DIR": str(tmp_path), **settings}.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert told in done.stderr
