"""What programs and schemas of the users' own do to a shared database, and what must not get lost by it."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bdc_pipeline.commands import share as commands
from bdc_pipeline.share.errors import CacheError, Offline, ShareError
from bdc_pipeline.share.service import Service
from bdc_pipeline.share.status import Light
from bdc_pipeline_tests.share import users
from bdc_pipeline_tests.share.fleet import Team, alike, gathered, settle

TOUCHED = (
    "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT, updated_at TEXT)",
    "INSERT INTO note VALUES (1, 'first', 'now')",
    "CREATE TRIGGER touch AFTER UPDATE ON note BEGIN UPDATE note SET updated_at = 'now' WHERE id = NEW.id; END",
    "CREATE TRIGGER born AFTER INSERT ON note BEGIN UPDATE note SET updated_at = 'now' WHERE id = NEW.id; END",
)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with gathered(tmp_path, *TOUCHED) as begin:
        yield begin


def test_edits_are_not_lost_to_triggers_that_touch_the_same_row_in_the_same_second(team: Team) -> None:
    """What the trigger writes is what is there already, and it comes before the cache's own once it was made anew."""
    a, b = team()
    b.run("UPDATE note SET text = 'of B' WHERE id = 1")
    alike([a, b])
    a.run("UPDATE note SET text = 'of A' WHERE id = 1")
    a.run("INSERT INTO note VALUES (5, 'new', 'now')")
    assert a.cache.pending() == 2
    alike([a, b])
    assert b.run("SELECT text FROM note ORDER BY id") == [("of A",), ("new",)]


def test_what_came_and_went_under_such_triggers_leaves_nothing(team: Team) -> None:
    a, b = team()
    b.run("UPDATE note SET text = 'of B' WHERE id = 1")
    alike([a, b])
    a.run("INSERT INTO note VALUES (5, 'new', 'now')")
    a.run("DELETE FROM note WHERE id = 5")
    a.run("UPDATE note SET id = 6, text = 'moved' WHERE id = 1")
    a.run("INSERT OR REPLACE INTO note VALUES (6, 'replaced', 'now')")
    assert a.cache.pending() == 2
    alike([a, b])
    assert b.run("SELECT * FROM note") == [(6, "replaced", "now")]


def test_two_rows_under_one_number_stay_two_under_such_triggers(team: Team) -> None:
    machines = team()
    machines[1].run("UPDATE note SET text = 'of B' WHERE id = 1")
    alike(machines)
    for machine in machines:
        machine.run("INSERT INTO note (text) VALUES (?)", f"new of {machine.name}")
    alike(machines)
    assert machines[0].run("SELECT text FROM note WHERE id > 1 ORDER BY id") == [("new of A",), ("new of B",)]


def test_a_number_that_becomes_another_type_while_it_is_published_is_still_pending(team: Team) -> None:
    a, b = team()
    a.run("CREATE TABLE loose (id INTEGER PRIMARY KEY, value)")
    a.run("INSERT INTO loose VALUES (1, 1)")
    alike([a, b])
    a.run("UPDATE loose SET value = 2")
    segment = a.cache.prepare(100, "user", a.log.now, a.rules)
    a.run("UPDATE loose SET value = 2.0")
    assert segment is not None
    assert a.log.publish(segment)
    alike([a, b])
    assert b.run("SELECT typeof(value) FROM loose") == [("real",)]


def test_text_in_another_encoding_arrives_byte_for_byte_and_blocks_nothing(team: Team) -> None:
    a, b = team()
    a.run("UPDATE note SET text = CAST(x'e5626c65' AS TEXT) WHERE id = 1")
    a.run("INSERT INTO note (text) VALUES ('a' || char(0) || 'b')")
    settle([a, b])
    b.run("INSERT INTO note (text) VALUES ('more')")
    settle([a, b])
    assert b.run("SELECT hex(text) FROM note ORDER BY id") == a.run("SELECT hex(text) FROM note ORDER BY id")
    assert b.run("SELECT hex(text) FROM note WHERE id = 1") == [("E5626C65",)]


REBUILT = (
    "CREATE TABLE copy (id INTEGER PRIMARY KEY, text TEXT, updated_at TEXT)",
    "INSERT INTO copy SELECT * FROM note WHERE id <> 2",
    "DROP TABLE note",
    "ALTER TABLE copy RENAME TO note",
    "UPDATE note SET text = 'edited' WHERE id = 1",
)


@pytest.mark.parametrize("at_once", [True, False])
def test_rows_left_out_when_a_table_was_rebuilt_come_back(tmp_path: Path, at_once: bool) -> None:
    """Nobody can tell that they were meant to go, and machines must not differ for good."""
    team = users.Team(tmp_path)
    for statement in (TOUCHED[0], TOUCHED[1], "INSERT INTO note VALUES (2, 'second', 'now')"):
        team.plain(statement)
    with team.user("ann") as ann, team.user("bob") as bob:
        with ann.transaction() as connection:
            for statement in REBUILT[:2] if at_once else REBUILT[:3]:
                connection.execute(statement)
        if not at_once:
            ann.sync()
        with ann.transaction() as connection:
            for statement in REBUILT[2:] if at_once else REBUILT[3:]:
                connection.execute(statement)
        for user in (ann, bob, ann, bob, ann):
            user.sync()
        assert users.rows(ann, "SELECT id, text FROM note") == [(1, "edited"), (2, "second")]
        assert users.rows(bob, "SELECT id, text FROM note") == [(1, "edited"), (2, "second")]
        assert ann.status().light is Light.SUCCESS


NOTES = (TOUCHED[0], TOUCHED[1])


@pytest.fixture
def shared(tmp_path: Path) -> users.Team:
    team = users.Team(tmp_path)
    for statement in NOTES:
        team.plain(statement)
    return team


def test_what_older_programs_write_to_a_database_restored_from_a_copy_is_taken(shared: users.Team) -> None:
    copy = shared.folder / "copy.db"
    with shared.user("ann") as ann:
        ann.sync()
        shutil.copy(shared.share, copy)
        shared.plain("INSERT INTO note (text) VALUES ('one'), ('two')")
        ann.sync()
        shutil.copy(copy, shared.share)
        ann.sync()
        shared.plain("INSERT INTO note (text) VALUES ('three')")
        ann.sync()
        ann.sync()
        texts = users.rows(ann, "SELECT text FROM note ORDER BY id")
        assert texts == [("first",), ("one",), ("two",), ("three",)]
        assert shared.plain("SELECT text FROM note ORDER BY id") == texts


def test_tables_and_columns_that_older_programs_make_reach_the_users_with_their_rows(shared: users.Team) -> None:
    with shared.user("ann") as ann, shared.user("bob") as bob:
        ann.sync()
        shared.plain("CREATE TABLE made (id INTEGER PRIMARY KEY, v)")
        shared.plain("INSERT INTO made (v) VALUES ('m')")
        shared.plain("ALTER TABLE note ADD COLUMN colour TEXT DEFAULT 'red'")
        shared.plain("UPDATE note SET colour = 'blue'")
        done = [user.sync() for user in (ann, bob, ann)]
        assert [(one.light, one.sentence) for one in done if one] == [(Light.SUCCESS, "")] * 3
        for user in (ann, bob):
            assert users.rows(user, "SELECT * FROM made") == [(1, "m")]
            assert users.rows(user, "SELECT text, colour FROM note") == [("first", "blue")]
        bob.execute("UPDATE note SET colour = 'green'")
        done = [user.sync() for user in (bob, ann)]
        assert [(one.light, one.sentence) for one in done if one] == [(Light.SUCCESS, "")] * 2
        assert shared.plain("SELECT text, colour FROM note") == [("first", "green")]


def test_a_row_of_an_older_program_that_waits_for_a_person_is_in_the_plain_database_as_in_the_log(
    shared: users.Team,
) -> None:
    shared.plain("CREATE UNIQUE INDEX once ON note (text)")
    shared.plain("INSERT INTO note VALUES (2, 'second', '')")
    with shared.user("ann") as ann:
        ann.sync()
        shared.plain("UPDATE OR REPLACE note SET text = 'second' WHERE id = 1")
        ann.execute("UPDATE note SET updated_at = 'by ann' WHERE id = 2")
        for _ in range(3):
            ann.sync()
        assert [conflict.mine for conflict in ann.conflicts()] == [{"id": 1, "text": "second", "updated_at": "now"}]
        assert users.rows(ann, "SELECT * FROM note") == [(1, "first", "now"), (2, "second", "by ann")]
        assert shared.plain("SELECT * FROM note") == users.rows(ann, "SELECT * FROM note")


def test_text_of_older_programs_in_another_encoding_blocks_nothing(shared: users.Team) -> None:
    with shared.user("ann") as ann:
        ann.sync()
        shared.plain("INSERT INTO note (id, text) VALUES (2, CAST(x'e5' AS TEXT)), (3, 'more')")
        assert ann.sync().sentence == ""  # type: ignore[union-attr]
        assert users.rows(ann, "SELECT id, hex(text) FROM note WHERE id > 1") == [(2, "E5"), (3, "6D6F7265")]


def test_a_share_that_was_begun_anew_is_taken_by_a_rebuild_with_what_is_pending(shared: users.Team) -> None:
    with shared.user("ann") as ann:
        ann.execute("UPDATE note SET text = 'pending' WHERE id = 1")
        shutil.rmtree(shared.place / "app.db.sync")
        with pytest.raises(ShareError):
            ann.flush()
        with shared.user("bob") as bob:
            bob.execute("INSERT INTO note (id, text) VALUES (9, 'of bob')")
            bob.flush()
        with Service(ann.config) as service:
            assert service.sync().light is Light.FAILED
            assert service.rebuild().light is Light.SUCCESS
            assert service.sync().light is Light.SUCCESS
        assert users.rows(ann, "SELECT text FROM note ORDER BY id") == [("pending",), ("of bob",)]
    with shared.user("bob") as bob:
        bob.sync()
        assert users.rows(bob, "SELECT text FROM note ORDER BY id") == [("pending",), ("of bob",)]


def test_a_rebuild_makes_no_share_where_the_mount_point_is_empty(shared: users.Team) -> None:
    with shared.user("ann") as ann, Service(ann.config) as service:
        shared.go_away()
        shared.place.mkdir()
        with pytest.raises(Offline):
            service.rebuild()
        assert list(shared.place.iterdir()) == []
        assert users.rows(ann, "SELECT text FROM note") == [("first",)]


def test_a_damaged_cache_is_told_and_cleared_by_force(shared: users.Team) -> None:
    with shared.user("ann") as ann:
        cache = ann.path
    with cache.open("r+b") as file:
        file.write(bytes(4096))
    with pytest.raises(CacheError, match="clear --force"):
        shared.user("ann")
    given = [str(shared.share), "--cache-dir", str(shared.folder / "ann")]
    refused = CliRunner().invoke(commands.share, ["clear", *given])
    assert (refused.exit_code, "clear --force" in refused.output) == (1, True)
    done = CliRunner().invoke(commands.share, ["clear", "--force", *given])
    assert (done.exit_code, "it is kept as" in done.output) == (0, True), done.output
    with shared.user("ann") as ann:
        assert users.rows(ann, "SELECT text FROM note") == [("first",)]
    assert [file.name for file in cache.parent.glob("*.damaged-*")] != []


def test_a_plain_database_that_was_removed_is_made_anew(shared: users.Team) -> None:
    with shared.user("ann") as ann:
        ann.sync()
        shared.share.unlink()
        ann.execute("UPDATE note SET text = 'later' WHERE id = 1")
        done = ann.sync()
        assert done is not None
        assert (done.light, done.sentence, ann.status().light) == (Light.SUCCESS, "", Light.SUCCESS)
        shared.plain("INSERT INTO note (id, text) VALUES (2, 'of an older program')")
        ann.sync()
        texts = [("later",), ("of an older program",)]
        assert users.rows(ann, "SELECT text FROM note ORDER BY id") == texts
        assert shared.plain("SELECT text FROM note ORDER BY id") == texts


def test_a_plain_database_that_cannot_be_brought_up_to_date_is_a_failure_until_it_is_mended(shared: users.Team) -> None:
    with shared.user("ann") as ann, Service(ann.config) as service:
        service.sync()
        shared.share.write_bytes(b"no database at all" * 1000)
        ann.execute("UPDATE note SET text = 'later' WHERE id = 1")
        assert service.sync().light is Light.FAILED
        assert service.flush(10).light is Light.SUCCESS  # the log has it
        assert service.status().light is Light.FAILED
        assert service.sync(forced=False).light is Light.FAILED  # the view is not due
        status = ann.status()
        assert (status.light, status.pending, status.lag) == (Light.FAILED, 0, 0)
        assert "'bdc-pipeline share rebuild --view'" in status.sentence
        service.rebuild_view()
        assert (service.sync(forced=False).light, ann.status().light) == (Light.SUCCESS, Light.SUCCESS)
        assert shared.plain("SELECT text FROM note") == [("later",)]


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_acknowledged_once_the_cache_was_deleted(shared: users.Team, replaced: bool) -> None:
    with shared.user("ann") as ann:
        ann.execute("UPDATE note SET text = 'sent' WHERE id = 1")
        ann.flush()
        aside = ann.path.parent.with_name("aside")

        def cut_off() -> None:
            with ann.transaction() as connection:
                connection.execute("UPDATE note SET text = 'half' WHERE id = 1")
                ann.path.parent.rename(aside)
                if replaced:
                    ann.path.parent.mkdir()
                    shutil.copy(shared.share, ann.path)

        with pytest.raises(CacheError, match="open it again"):
            cut_off()
        with contextlib.closing(sqlite3.connect(aside / ann.path.name)) as kept:
            assert kept.execute("SELECT text FROM note").fetchall() == [("sent",)]
        for write in (ann.execute, lambda sql: ann.executemany(sql, [()])):
            with pytest.raises(CacheError, match="was deleted or replaced"):
                write("UPDATE note SET text = 'lost'")
