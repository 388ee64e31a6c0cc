"""A shared database as programs use it: users meet, work offline, restart; and direct access where there is no cache."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from bdc_pipeline import settings
from bdc_pipeline.settings import SettingsError
from bdc_pipeline.share import SharedDatabase
from bdc_pipeline.share.database import DirectAccess
from bdc_pipeline.share.errors import CacheError, Offline, ShareError
from bdc_pipeline.share.locks import FileLock
from bdc_pipeline.share.status import Light
from bdc_pipeline_tests.processes import killed_at_last, line_of
from bdc_pipeline_tests.share.users import Team, rows
from bdc_pipeline_tests.waiting import SECONDS, until

STOCK = "CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT, quantity INTEGER)"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


@pytest.fixture
def stocked(team: Team) -> Team:
    """A share with a database that older programs have made."""
    team.plain(STOCK)
    team.plain("INSERT INTO stock VALUES (1, 'bolts', 10), (2, 'nuts', 20)")
    return team


# -- users meet ------------------------------------------------------------------------------------------------


def test_edits_of_two_users_meet_and_older_programs_see_them(stocked: Team) -> None:
    with stocked.user("ann") as ann, stocked.user("bob") as bob:
        assert rows(ann) == rows(bob) == [(1, "bolts", 10), (2, "nuts", 20)]
        ann.execute("UPDATE stock SET quantity = 9 WHERE id = 1")
        bob.execute("UPDATE stock SET name = 'wing nuts' WHERE id = 2")
        bob.execute("INSERT INTO stock VALUES (3, 'pins', 5)")
        ann.flush()
        bob.flush()
        ann.sync()
        assert rows(ann) == rows(bob) == [(1, "bolts", 9), (2, "wing nuts", 20), (3, "pins", 5)]
        bob.sync()
    assert stocked.plain("SELECT * FROM stock ORDER BY id") == [(1, "bolts", 9), (2, "wing nuts", 20), (3, "pins", 5)]


def test_what_an_older_program_writes_reaches_the_users(stocked: Team) -> None:
    with stocked.user("ann") as ann, stocked.user("bob") as bob:
        stocked.plain("UPDATE stock SET quantity = 11 WHERE id = 1")
        stocked.plain("DELETE FROM stock WHERE id = 2")
        ann.sync()
        bob.sync()
        assert rows(ann) == rows(bob) == [(1, "bolts", 11)]


def test_a_share_begins_empty_and_its_tables_reach_the_others(team: Team) -> None:
    with team.user("ann") as ann, team.user("bob") as bob:
        ann.execute(STOCK)
        with ann.transaction():
            ann.executemany("INSERT INTO stock VALUES (?, ?, ?)", [(number, "x", number) for number in range(1, 501)])
        ann.flush()
        bob.sync()
        assert len(rows(bob)) == 500
        assert ann.status().light is bob.status().light is Light.SUCCESS


def test_a_program_that_knows_of_nothing_writes_to_the_local_file(stocked: Team) -> None:
    with stocked.user("ann") as ann, stocked.user("bob") as bob:
        with contextlib.closing(sqlite3.connect(ann.path)) as program, program:
            program.execute("UPDATE stock SET quantity = quantity + 5")
        assert ann.status().pending == 2
        ann.flush()
        bob.sync()
        assert rows(bob) == [(1, "bolts", 15), (2, "nuts", 25)]


def test_a_transaction_that_raises_leaves_nothing_to_send(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        with pytest.raises(sqlite3.OperationalError), ann.transaction() as connection:
            connection.executemany(
                "DELETE FROM stock WHERE id = CASE ? WHEN 1 THEN 1 ELSE abs(-9223372036854775808) END", [(1,), (2,)]
            )
        with pytest.raises(sqlite3.IntegrityError):
            ann.executemany("INSERT INTO stock VALUES (?, 'x', 0)", [(7,), (1,)])
        assert rows(ann) == [(1, "bolts", 10), (2, "nuts", 20)]
        assert ann.status().pending == 0


def test_threads_write_side_by_side(stocked: Team) -> None:
    with stocked.user("ann") as ann:

        def add(first: int) -> None:
            for number in range(first, first + 20):
                ann.execute("INSERT INTO stock VALUES (?, 'x', 0)", (number,))

        threads = [threading.Thread(target=add, args=(first,)) for first in (100, 200, 300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(rows(ann)) == 62
        assert ann.status().pending == 60


def test_sqlalchemy_uses_the_local_file(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        engine = ann.engine()
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("UPDATE stock SET quantity = 0 WHERE id = :id"), {"id": 1})
        engine.dispose()
        assert ann.status().pending == 1


def test_changes_are_encrypted_with_the_secret_and_another_secret_is_refused(stocked: Team) -> None:
    with stocked.user("ann", secret="SYNTHETIC correct") as ann:
        ann.execute("UPDATE stock SET name = 'SYNTHETIC-NAME' WHERE id = 1")
        ann.flush()
        with stocked.user("bob", secret="SYNTHETIC correct") as bob:
            bob.sync()
            assert rows(bob)[0][1] == "SYNTHETIC-NAME"
        with pytest.raises(ShareError) as caught:
            stocked.user("eve", secret="SYNTHETIC wrong")
        assert "SYNTHETIC" not in str(caught.value)
        with pytest.raises(ShareError, match="BDC_SHARE_SECRET"):
            stocked.user("eve")
    segments = list((stocked.place / "app.db.sync" / "log").iterdir())
    assert segments
    assert not any(b"SYNTHETIC-NAME" in path.read_bytes() for path in segments)


# -- conflicts -------------------------------------------------------------------------------------------------


def test_a_conflict_waits_for_a_decision_and_the_decision_reaches_everybody(stocked: Team) -> None:
    rules = {"stock": "manual"}
    with stocked.user("ann", rules=rules) as ann, stocked.user("bob", rules=rules) as bob:
        ann.execute("UPDATE stock SET quantity = 1 WHERE id = 1")
        bob.execute("UPDATE stock SET quantity = 2 WHERE id = 1")
        ann.flush()
        bob.flush()
        assert rows(bob)[0] == (1, "bolts", 1)
        [conflict] = bob.conflicts()
        assert conflict.mine is not None
        assert conflict.theirs is not None
        assert (conflict.mine["quantity"], conflict.theirs["quantity"]) == (2, 1)
        assert "1 conflict to decide" in bob.status().sentence
        bob.resolve(conflict.id, "mine")
        assert bob.conflicts() == []
        bob.flush()
        ann.sync()
        assert rows(ann)[0] == rows(bob)[0] == (1, "bolts", 2)
        with pytest.raises(CacheError):
            bob.resolve(99, "mine")


def test_a_rule_decides_by_itself(stocked: Team) -> None:
    rules = {"stock": {"rule": "fields", "columns": {"quantity": "sum"}}}
    with stocked.user("ann", rules=rules) as ann, stocked.user("bob", rules=rules) as bob:
        ann.execute("UPDATE stock SET quantity = quantity - 3 WHERE id = 1")
        bob.execute("UPDATE stock SET quantity = quantity - 4, name = 'big bolts' WHERE id = 1")
        ann.flush()
        bob.flush()
        ann.sync()
        assert rows(ann)[0] == rows(bob)[0] == (1, "big bolts", 3)


# -- away and back ---------------------------------------------------------------------------------------------


def test_edits_made_offline_survive_a_restart_and_are_sent_when_the_share_is_back(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        stocked.go_away()
        ann.execute("UPDATE stock SET quantity = 7 WHERE id = 1")
        with pytest.raises(Offline, match=r"1 write in .* has not reached the share"):
            ann.flush()
        assert (ann.status().light, ann.status().pending) == (Light.OFFLINE, 1)
    with stocked.user("ann") as again:
        assert rows(again)[0] == (1, "bolts", 7)
        again.execute("UPDATE stock SET quantity = 8 WHERE id = 2")
        assert (again.status().light, again.status().pending) == (Light.OFFLINE, 2)
        stocked.come_back()
        again.flush()
        assert again.status().light is Light.SUCCESS
    with stocked.user("bob") as bob:
        bob.sync()
        assert rows(bob) == [(1, "bolts", 7), (2, "nuts", 8)]


def test_without_the_share_a_first_start_says_so_and_leaves_nothing(team: Team) -> None:
    team.go_away()
    with pytest.raises(Offline):
        team.user("ann")
    team.come_back()
    with team.user("ann") as ann:
        assert ann.status().pending == 0


def test_closing_sends_what_is_pending(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        ann.execute("DELETE FROM stock WHERE id = 1")
    with stocked.user("bob") as bob:
        bob.sync()
        assert rows(bob) == [(2, "nuts", 20)]


def test_the_cache_of_one_share_takes_nothing_from_another_in_its_place(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        stocked.go_away()
        stocked.place.mkdir()
        with stocked.user("bob") as bob:
            bob.execute(STOCK.replace("stock", "other"))
            bob.flush()
        ann.execute("UPDATE stock SET quantity = 7 WHERE id = 1")
        with pytest.raises(ShareError):
            ann.flush()
        assert ann.status().light is Light.FAILED
        assert rows(ann)[0] == (1, "bolts", 7)


def test_what_a_share_lost_that_was_restored_from_a_backup_is_published_again_once(stocked: Team) -> None:
    backup = stocked.folder / "backup"
    with stocked.user("ann") as ann, stocked.user("bob") as bob:
        ann.execute("INSERT INTO stock VALUES (3, 'pins', 1)")
        ann.sync()
        shutil.copytree(stocked.place, backup)
        ann.execute("INSERT INTO stock VALUES (4, 'rivets', 1)")
        ann.execute("UPDATE stock SET quantity = 9 WHERE id = 1")
        ann.sync()
        bob.sync()
    shutil.rmtree(stocked.place)
    backup.rename(stocked.place)
    expected = [(1, "bolts", 9), (2, "nuts", 20), (3, "pins", 1), (4, "rivets", 1)]
    with stocked.user("bob") as bob, stocked.user("ann") as ann:
        for user in (bob, ann, bob, ann):
            done = user.sync()
            assert done is not None
            assert done.light is Light.SUCCESS, done.sentence
        assert rows(ann) == rows(bob) == expected
    assert stocked.plain("SELECT * FROM stock ORDER BY id") == expected


# -- the background --------------------------------------------------------------------------------------------


def test_the_background_brings_users_together_without_being_asked(stocked: Team) -> None:
    with (
        stocked.user("ann", background=True, sync_interval=0.1) as ann,
        stocked.user("bob", background=True, sync_interval=0.1) as bob,
    ):
        ann.execute("UPDATE stock SET quantity = 3 WHERE id = 1")
        until(lambda: rows(bob)[0] == (1, "bolts", 3), "the edit did not arrive")
        until(lambda: ann.status().light is Light.SUCCESS, "the light did not turn")
        bob.set_interval(0.5)
        assert bob.status().interval == 0.5
        with pytest.raises(SettingsError, match="the interval is '0'"):
            bob.set_interval(0)


HOLDING = """
import sys
from bdc_pipeline.share import SharedDatabase
with SharedDatabase(sys.argv[1], enable_cache=True, cache_directory=sys.argv[2], user="other", sync_interval=0.1) as database:
    print(database.path, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def other_process(team: Team, name: str) -> Iterator[subprocess.Popen[str]]:
    """Another program that embeds the database of the same user."""
    arguments = [sys.executable, "-c", HOLDING, str(team.share), str(team.folder / name)]
    started = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with killed_at_last(started) as process:
        assert line_of(process, process.stdout)
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(SECONDS)


def test_one_of_the_programs_that_embed_a_cache_syncs_it_and_another_takes_over(stocked: Team) -> None:
    with stocked.user("ann") as watching:
        lock = watching.path.with_name("background.lock")
        with other_process(stocked, "ann") as first:
            until(lambda: watching.status().pid == first.pid, "the first did not begin")
            with stocked.user("ann", background=True, sync_interval=0.1) as second:
                second.execute("UPDATE stock SET quantity = 4 WHERE id = 1")
                until(lambda: second.status().light is Light.SUCCESS, "the first did not sync for the second")
                assert watching.status().pid == first.pid
                assert not FileLock(lock).acquire()
                # and the second can flush without it
                second.execute("UPDATE stock SET quantity = 5 WHERE id = 1")
                second.flush()
                assert first.stdin is not None
                first.stdin.close()
                first.wait(SECONDS)
                until(lambda: watching.status().pid not in (None, first.pid), "nobody took over")
        free = FileLock(lock)
        assert free.acquire()
        free.release()


# -- without a cache -------------------------------------------------------------------------------------------


def test_a_cache_that_is_switched_off_means_direct_access_with_a_warning(stocked: Team) -> None:
    with pytest.warns(DirectAccess, match="The cache is switched off"):
        database = stocked.user("ann", enable_cache=False)
    with database:
        assert database.path == stocked.share
        database.execute("UPDATE stock SET quantity = 3 WHERE id = 1")
        assert database.sync() is None
        database.flush()
        assert (database.status().mode, database.status().light) == ("direct", Light.SUCCESS)
        assert (database.history(), database.conflicts()) == ([], [])
        with pytest.raises(CacheError, match="there is no cache"):
            database.clear()
    assert stocked.plain("SELECT quantity FROM stock WHERE id = 1") == [(3,)]
    assert not (stocked.folder / "ann").exists()


def test_a_path_on_no_network_share_is_opened_directly_unless_a_cache_is_asked_for(stocked: Team) -> None:
    with pytest.warns(DirectAccess, match="is on no network share"):
        database = stocked.user("ann", enable_cache=None)
    with database:
        assert rows(database)[0] == (1, "bolts", 10)


def test_without_a_place_for_a_cache_the_share_is_used_directly(stocked: Team) -> None:
    (stocked.folder / "file").write_text("no directory")
    with pytest.warns(DirectAccess, match="cannot be made"):
        database = stocked.user("ann", cache_directory=stocked.folder / "file")
    with database:
        database.execute("DELETE FROM stock WHERE id = 1")
    assert stocked.plain("SELECT id FROM stock") == [(2,)]


def test_writes_that_wait_in_a_cache_are_not_forgotten_when_it_is_switched_off(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        stocked.go_away()
        ann.execute("DELETE FROM stock WHERE id = 1")
    stocked.come_back()
    with pytest.warns(DirectAccess, match=r"1 write in .* has not reached the share"):
        stocked.user("ann", enable_cache=False).close()


# -- mending ---------------------------------------------------------------------------------------------------


def test_a_cache_with_pending_writes_is_cleared_only_by_force(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        ann.sync()
        ann.execute("DELETE FROM stock WHERE id = 1")
        with pytest.raises(CacheError, match=r"1 write in .* has not reached the share\. Sync first, or force it"):
            ann.clear()
        assert rows(ann) == [(2, "nuts", 20)]
        before = len(ann.history())
        ann.set_interval(1800)
        ann.clear(force=True)
        assert rows(ann) == [(1, "bolts", 10), (2, "nuts", 20)]
        assert ann.status().pending == 0
        # what a person may still want to look at is kept
        assert len(ann.history()) > before
        assert ann.interval == 1800
    with stocked.user("ann") as again:
        assert len(list(again.path.parent.glob("app.db*"))) <= 3
        assert again.path.with_name("app.db.cleared").exists() is False


def test_a_cache_that_another_program_has_open_is_not_removed_under_it(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        with contextlib.closing(sqlite3.connect(ann.path)) as program:
            program.execute("SELECT count(*) FROM stock").fetchall()
            with pytest.raises(CacheError, match=r"Another program has .* open"):
                ann.clear()
        ann.clear()
        assert rows(ann)[0] == (1, "bolts", 10)


def test_a_cache_is_not_cleared_while_it_could_not_be_filled_again(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        stocked.go_away()
        with pytest.raises(Offline):
            ann.clear()
        assert rows(ann)[0] == (1, "bolts", 10)
        stocked.come_back()
        ann.execute("DELETE FROM stock WHERE id = 2")
        ann.flush()


def test_a_new_cache_begins_with_what_is_in_the_log_not_with_an_old_snapshot(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        ann.execute("DELETE FROM stock WHERE id = 1")
        ann.flush()
        ann.clear()
        assert rows(ann) == [(2, "nuts", 20)]
        with stocked.user("bob") as bob:
            assert rows(bob) == [(2, "nuts", 20)]


def test_conflicts_to_decide_outlive_a_cache_that_is_made_anew(stocked: Team) -> None:
    rules = {"stock": "manual"}
    with stocked.user("ann", rules=rules) as ann, stocked.user("bob", rules=rules) as bob:
        for user, quantity in ((ann, 1), (bob, 2)):
            user.execute("UPDATE stock SET quantity = ? WHERE id = 1", (quantity,))
            user.flush()
        bob.clear()
        [conflict] = bob.conflicts()
        bob.resolve(conflict.id, "mine")
        bob.flush()
        ann.sync()
        assert rows(ann)[0] == (1, "bolts", 2)


def test_what_a_killed_process_left_half_made_is_removed_when_it_is_old(stocked: Team) -> None:
    with stocked.user("ann") as ann:
        old, fresh = ann.path.with_name("first-old"), ann.path.with_name("first-fresh")
        for folder in (old, fresh):
            folder.mkdir()
            (folder / "snapshot.db").touch()
        os.utime(old, (0, 0))
    with stocked.user("ann"):
        assert (old.exists(), fresh.exists()) == (False, True)


def test_the_history_tells_what_moved(stocked: Team) -> None:
    with stocked.user("ann") as ann, stocked.user("bob") as bob:
        ann.executemany("INSERT INTO stock VALUES (?, 'x', 0)", [(number,) for number in range(10, 40)])
        ann.flush()
        bob.sync()
        sent, taken = ann.history()[0], bob.history()[0]
        assert (sent.rows_out, sent.segments_out, sent.light) == (30, 1, Light.SUCCESS)
        assert (taken.rows_in, taken.segments_in) == (30, 1)
        assert 0 < sent.bytes_out < 30_000
        assert sent.operations > 0


def test_the_package_brings_nothing_along_until_it_is_used() -> None:
    code = (
        "import sys, bdc_pipeline.share; print(len(sys.modules)); from bdc_pipeline.share import SharedDatabase\n"
        "print(sorted({'dagster', 'nicegui', 'sqlalchemy', 'pandas', 'requests'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    assert int(output[0]) < 120
    assert output[1] == "[]"
    assert SharedDatabase.__module__ == "bdc_pipeline.share.database"
