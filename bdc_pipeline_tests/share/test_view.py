"""The plain database on the share: it follows the log, and what older programs write there is claimed once and never lost."""

import contextlib
import os
import random
import signal
import sqlite3
import threading
from contextlib import closing

import msgspec
import pytest

from bdc_pipeline.share import outbox, view
from bdc_pipeline.share.errors import Offline, ShareError
from bdc_pipeline.share.log import Log
from bdc_pipeline.share.model import Change, Position, Segment, Stamp
from bdc_pipeline.share.start import begin
from bdc_pipeline.share.view import rebuild_view, refresh_view, update_view
from bdc_pipeline.share.worker import Worker

SCHEMA = """
CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, price REAL);
CREATE TABLE pair (a TEXT, b BLOB, c, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE plain (words TEXT);
INSERT INTO t VALUES (1, 'one', 1.5), (2, 'two', 2.5);
INSERT INTO pair VALUES ('x', x'00ff', 1);
INSERT INTO plain VALUES ('hello');
"""
COLUMNS = {"t": ("id", "name", "price"), "pair": ("a", "b", "c"), "plain": ("words",)}


class Shared:
    """A share, its log, and an older program that has the plain database open."""

    def __init__(self, app_db, files):
        self.app_db, self.files = app_db, files
        self.share = begin(app_db, files, client="c1")
        self.log = Log(files)
        self.position = Position()
        self.older = sqlite3.connect(app_db, timeout=1, isolation_level=None)

    def publish(self, *changes, statements=()):
        stamp = Stamp(self.position.sequence + 1, 0, "c1")
        rows = tuple(Change(table, key, 0, row, None, stamp) for table, key, row in changes)
        segment = Segment(
            sequence=self.position.sequence + 1,
            previous=self.position.digest,
            client="c1",
            batch=f"b{self.position.sequence}",
            user="u",
            stamp=stamp,
            schema="s",
            columns=COLUMNS,
            changes=rows,
            statements=statements,
        )
        self.position = self.log.publish(segment).position

    def update(self, stored=0, client="c1"):
        return update_view(self.files, self.app_db, self.share, client, stored)

    def rows(self, table="t"):
        return self.older.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


@pytest.fixture
def shared(tmp_path):
    app_db = tmp_path / "app.db"
    with closing(sqlite3.connect(app_db)) as db:
        db.executescript(SCHEMA)
    with Worker(tmp_path / "app.db.sync", "c1") as files:
        made = Shared(app_db, files)
        yield made
        made.older.close()


def drained_rows(result):
    return {(change.table, change.key): change.row for change in result.drained.changes} if result.drained else {}


def test_the_view_follows_the_log(shared):
    shared.publish(("t", (1,), (1, "uno", 1.0)), ("t", (2,), None), ("t", (3,), (3, "three", None)))
    shared.publish(("pair", ("x", b"\x00\xff"), ("x", b"\x00\xff", "changed")), ("plain", (1,), ("goodbye",)))
    result = shared.update()
    assert (result.position, result.segments, result.drained, result.trouble) == (shared.position, 2, None, "")
    assert shared.rows() == [(1, "uno", 1.0), (3, "three", None)]
    assert shared.rows("pair") == [("x", b"\x00\xff", "changed")]
    assert shared.rows("plain") == [("goodbye",)]
    assert shared.older.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert shared.update().segments == 0


def test_values_pass_from_row_to_row_in_one_segment(shared):
    shared.publish(("t", (1,), (1, "two", 1.5)), ("t", (2,), (2, "one", 2.5)))
    shared.update()
    assert shared.rows() == [(1, "two", 1.5), (2, "one", 2.5)]


def test_what_older_programs_write_is_claimed_with_what_was_there(shared):
    older = shared.older
    older.execute("UPDATE t SET name = 'zwei' WHERE id = 2")
    older.execute("INSERT INTO t VALUES (9, 'nine', 9)")
    older.execute("DELETE FROM pair")
    older.execute("UPDATE plain SET words = 'changed'")
    result = shared.update()
    assert drained_rows(result) == {
        ("t", (2,)): (2, "zwei", 2.5),
        ("t", (9,)): (9, "nine", 9.0),
        ("pair", ("x", b"\x00\xff")): None,
        ("plain", (1,)): ("changed",),
    }
    assert result.drained.columns == COLUMNS
    decisions = {(change.table, change.key): change.decision for change in result.drained.changes}
    assert decisions[("t", (9,))] == "inserted"
    assert decisions[("t", (2,))] is None


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["INSERT OR REPLACE INTO t VALUES (7, 'one', 0)"], {(1,): None, (7,): (7, "one", 0.0)}),
        (["UPDATE OR REPLACE t SET name = 'one' WHERE id = 2"], {(1,): None, (2,): (2, "one", 2.5)}),
        (["UPDATE OR REPLACE t SET id = 1 WHERE id = 2"], {(1,): (1, "two", 2.5), (2,): None}),
        (["UPDATE t SET id = 5 WHERE id = 2"], {(2,): None, (5,): (5, "two", 2.5)}),
        (["INSERT INTO t VALUES (1, 'x', 0) ON CONFLICT (id) DO UPDATE SET name = 'up'"], {(1,): (1, "up", 1.5)}),
        (["INSERT INTO t VALUES (8, 'eight', 8)", "DELETE FROM t WHERE id = 8"], {}),
        (["BEGIN", "DELETE FROM t", "ROLLBACK"], {}),
        (["DELETE FROM t"], {(1,): None, (2,): None}),
        (["UPDATE t SET price = price + 1"], {(1,): (1, "one", 2.5), (2,): (2, "two", 3.5)}),
    ],
)
def test_no_way_to_write_goes_unnoticed(shared, statements, expected):
    for statement in statements:
        shared.older.execute(statement)
    found = {key: row for (_, key), row in drained_rows(shared.update()).items()}
    assert {key: row for key, row in found.items() if row is not None or key in expected} == expected


def test_claims_come_again_until_the_cache_has_them(shared):
    """A client that died after the claim and before its cache had it finds the same claims again."""
    shared.older.execute("UPDATE t SET price = 0 WHERE id = 1")
    first = shared.update(stored=0)
    again = shared.update(stored=0)
    assert drained_rows(again) == drained_rows(first)
    assert again.drained.number == first.drained.number
    assert shared.update(stored=first.drained.number).drained is None
    shared.older.execute("UPDATE t SET price = 1 WHERE id = 1")
    later = shared.update(stored=first.drained.number)
    assert later.drained.number > first.drained.number
    assert drained_rows(later) == {("t", (1,)): (1, "one", 1.0)}


def test_a_claim_belongs_to_one_client_until_that_one_is_long_gone(shared):
    shared.older.execute("UPDATE t SET price = 0 WHERE id = 1")
    shared.update(client="c1")
    assert shared.update(client="c2").drained is None
    shared.older.execute("UPDATE _sync_claim SET claimed_at = claimed_at - ?", [outbox.ABANDONED_MS + 1])
    assert drained_rows(shared.update(client="c2")) == {("t", (1,)): (1, "one", 0.0)}


def test_a_claimed_row_keeps_its_image_when_the_log_writes_over_it(shared):
    shared.publish(("t", (2,), (2, "both", 0)))
    shared.older.execute("UPDATE t SET name = 'both' WHERE id = 1")
    result = shared.update()
    assert shared.rows() == [(2, "both", 0.0)]  # the log's row took the unique name
    (change,) = result.drained.changes
    assert (change.row, change.base) == ((1, "both", 1.5), 0)
    shared.older.execute("UPDATE t SET price = 7 WHERE id = 2")
    assert shared.update(stored=result.drained.number).drained.changes[0].base == 1


def test_a_view_that_another_holds_is_left_alone(shared):
    shared.publish(("t", (1,), (1, "uno", 0)))
    shared.older.execute("BEGIN IMMEDIATE")
    result = shared.update()
    assert (result.busy, result.position, result.drained) == (True, Position(), None)
    shared.older.execute("COMMIT")
    assert not shared.update().busy
    assert shared.rows()[0] == (1, "uno", 0.0)


def test_triggers_of_the_users_do_not_act_twice(shared):
    shared.older.execute("CREATE TABLE audit (what)")
    shared.older.execute("CREATE TRIGGER note AFTER INSERT ON t BEGIN INSERT INTO audit VALUES (NEW.name); END")
    shared.update()
    shared.publish(("t", (1,), (1, "uno", 0)))
    shared.update()
    assert shared.rows("audit") == []
    shared.older.execute("INSERT INTO t VALUES (50, 'fifty', 0)")
    assert shared.rows("audit") == [("fifty",)]


def test_a_full_text_index_beside_a_table_follows_the_log(shared):
    shared.older.execute("CREATE VIRTUAL TABLE found USING fts5 (name, content = 't', content_rowid = 'id')")
    told = "INSERT INTO found (rowid, name) VALUES (NEW.id, NEW.name)"
    gone = "INSERT INTO found (found, rowid, name) VALUES ('delete', OLD.id, OLD.name)"
    shared.older.execute("INSERT INTO found (found) VALUES ('rebuild')")
    shared.older.execute(f"CREATE TRIGGER found_i AFTER INSERT ON t BEGIN {told}; END")
    shared.older.execute(f"CREATE TRIGGER found_d AFTER DELETE ON t BEGIN {gone}; END")
    shared.older.execute(f"CREATE TRIGGER found_u AFTER UPDATE ON t BEGIN {gone}; {told}; END")
    shared.publish(("t", (1,), (1, "uno", 0)), ("t", (2,), None), ("t", (3,), (3, "three", 0)))
    shared.older.execute("INSERT INTO t VALUES (8, 'three', 0)")  # in the way of row 3: it goes
    assert shared.update().trouble == ""
    for word, ids in {"uno": [1], "one": [], "two": [], "three": [3]}.items():
        assert shared.older.execute("SELECT rowid FROM found (?)", [word]).fetchall() == [(i,) for i in ids]
    shared.older.execute("INSERT INTO found (found, rank) VALUES ('integrity-check', 1)")


def test_nothing_is_made_in_the_place_of_a_view_that_is_gone(shared):
    shared.publish(("t", (1,), (1, "uno", 0)))
    shared.app_db.unlink()
    result = shared.update()
    assert (result.gone, "share rebuild --view" in result.trouble) == (True, True)
    assert not shared.app_db.exists()
    shared.files.root.rename(shared.files.root.with_name("away"))
    with pytest.raises(Offline):
        shared.update()
    assert not shared.app_db.exists()
    shared.files.root.with_name("away").rename(shared.files.root)


def test_a_view_that_came_back_meanwhile_is_not_written_over(shared, tmp_path):
    rebuild_view(shared.files, shared.app_db, shared.share, content_db(tmp_path), shared.position, only_gone=True)
    assert shared.rows() == [(1, "one", 1.5), (2, "two", 2.5)]


def test_a_change_of_schema_reaches_the_view_and_its_triggers(shared):
    shared.publish(
        statements=("ALTER TABLE t ADD COLUMN note TEXT DEFAULT '-'", "CREATE TABLE n (k TEXT PRIMARY KEY, v)")
    )
    shared.update()
    assert shared.rows()[0] == (1, "one", 1.5, "-")
    shared.older.execute("INSERT INTO n VALUES ('a', 1)")
    shared.older.execute("UPDATE t SET note = 'new' WHERE id = 1")
    assert drained_rows(shared.update()) == {("n", ("a",)): ("a", 1), ("t", (1,)): (1, "one", 1.5, "new")}


def test_a_table_that_an_older_program_makes_is_told_with_its_rows(shared):
    sql = "CREATE TABLE made (k TEXT PRIMARY KEY)"
    shared.older.execute(sql)
    shared.older.execute("INSERT INTO made VALUES ('a')")
    result = shared.update()
    assert result.drained.statements == (sql,)
    assert drained_rows(result) == {("made", ("a",)): ("a",)}
    shared.publish(statements=(sql,))  # it comes back through the log
    assert shared.update(stored=result.drained.number).trouble == ""
    assert shared.rows("made") == [("a",)]
    shared.older.execute("INSERT INTO made VALUES ('b')")
    assert drained_rows(shared.update(stored=result.drained.number)) == {("made", ("b",)): ("b",)}


def test_a_statement_the_view_cannot_take_is_told_and_nothing_is_half_done(shared):
    shared.publish(("t", (1,), (1, "uno", 0)))
    shared.publish(statements=("CREATE TABLE t (other)",))
    with pytest.raises(ShareError, match="segment 2"):
        shared.update()
    assert shared.rows()[0] == (1, "one", 1.5)


def test_an_update_cut_off_at_any_point_changes_nothing(shared, monkeypatch):
    """The child's own function, stopped at each of its steps as a kill would."""
    shared.publish(("t", (1,), (1, "uno", 0)))
    shared.older.execute("UPDATE t SET price = 9 WHERE id = 2")
    arguments = [str(shared.app_db), str(shared.files.root), "c1", shared.share.id, None, 0]

    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    for name in ("note_new_tables", "install", "claim", "set_applying", "set_position", "claimed"):
        with monkeypatch.context() as patched:
            patched.setattr(view.outbox, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                view.update(arguments)
        assert shared.rows() == [(1, "one", 1.5), (2, "two", 9.0)]
    result = msgspec.msgpack.decode(view.update(arguments), type=view.ViewUpdate)
    assert drained_rows(result) == {("t", (2,)): (2, "two", 9.0)}
    assert shared.rows() == [(1, "uno", 0.0), (2, "two", 9.0)]


def test_killed_at_any_moment_the_view_is_whole_and_every_write_claimed_once(shared):
    """What the cache has been given is what it would have kept: the numbers in `stored` and the keys in `claimed`."""
    stored, claimed, cut_off = 0, [], 0
    lots = random.Random(7)
    for number in range(100, 114):
        shared.older.execute("INSERT INTO t VALUES (?, ?, 0)", [number, f"older {number}"])
        shared.publish(("plain", (1,), (f"{number}",)))
        shared.files.list("log")  # the child is there
        killer = threading.Timer(lots.uniform(0, 0.008), os.kill, [shared.files.pid, signal.SIGKILL])
        killer.start()
        try:
            result = shared.update(stored)
        except Offline:
            cut_off += 1
            result = None
        killer.join()
        with contextlib.suppress(Offline):  # the kill may come after the answer
            shared.files.list("log")
        for update in (result, shared.update(stored)):
            if update is not None and update.drained is not None and update.drained.number > stored:
                claimed += [change.key[0] for change in update.drained.changes]
                stored = update.drained.number
    assert claimed == list(range(100, 114))
    assert shared.rows("plain") == [("113",)]
    assert shared.older.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert cut_off > 0


def content_db(tmp_path):
    path = tmp_path / "content.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA + "INSERT INTO t VALUES (77, 'new', 0); CREATE VIEW v AS SELECT * FROM t")
        db.execute("CREATE TABLE _sync_versions (x)")
    return path


def test_a_view_of_another_log_is_rebuilt_beside_and_swapped_in(shared, tmp_path):
    shared.publish(("t", (77,), (77, "new", 0)))
    shared.older.execute("UPDATE _sync_view SET share = 'another', sequence = 12")
    assert "rebuild" in shared.update().trouble
    rebuild_view(shared.files, shared.app_db, shared.share, content_db(tmp_path), shared.position)
    with closing(sqlite3.connect(shared.app_db)) as db:
        assert db.execute("SELECT * FROM t").fetchall()[-1] == (77, "new", 0.0)
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = '_sync_versions'").fetchall()
        db.execute("DELETE FROM t WHERE id = 77")
        db.commit()
    assert drained_rows(shared.update()) == {("t", (77,)): None}
    assert shared.files.list("tmp") == []


def test_a_view_that_fell_behind_is_loaded_in_place_with_what_was_written_claimed(shared, tmp_path):
    shared.older.execute("UPDATE t SET price = 4 WHERE id = 1")
    content = content_db(tmp_path)
    result = refresh_view(shared.files, shared.app_db, shared.share, "c1", 0, content, Position(9, b"9" * 32))
    assert drained_rows(result) == {("t", (1,)): (1, "one", 4.0)}
    assert [row[0] for row in shared.rows()] == [1, 2, 77]
    assert shared.rows("v") == shared.rows()
    shared.older.execute("DELETE FROM t WHERE id = 77")
    assert shared.older.execute("SELECT count(*) FROM _sync_outbox").fetchone() == (1,)
