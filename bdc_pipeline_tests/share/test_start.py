"""How a share begins: taken over from a plain database, by one or by several at once, opened by those with the right secret."""

import json
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bdc_pipeline.share import start
from bdc_pipeline.share.answers import Refused
from bdc_pipeline.share.errors import Offline
from bdc_pipeline.share.files import ShareFiles
from bdc_pipeline.share.growth import Growth
from bdc_pipeline.share.log import Log
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.segment import TooNew, Torn, WrongSecret
from bdc_pipeline.share.start import Another, begin
from bdc_pipeline.share.worker import Worker
from bdc_pipeline_tests.processes import finished, killed_at_last, line_of


@pytest.fixture
def app_db(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
        db.executemany("INSERT INTO t VALUES (?, ?)", [(number, "x") for number in range(100)])
        db.commit()
    return path


@pytest.fixture
def files(tmp_path):
    with ShareFiles(tmp_path / "app.db.sync", "c1") as opened:
        yield opened


def content(files, share, to):
    position = Growth(files, Log(files, share.key), "c1").newest_snapshot(to)
    with closing(sqlite3.connect(to)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master ORDER BY name")]
        rows = db.execute("SELECT count(*) FROM t").fetchone()[0] if "t" in names else None
    return position, names, rows


@pytest.mark.parametrize("secret", [None, "correct horse"])
@pytest.mark.parametrize("kind", [ShareFiles, Worker])
def test_a_plain_database_becomes_the_first_snapshot(app_db, tmp_path, secret, kind):
    with kind(tmp_path / "app.db.sync", "c1") as files:
        share = begin(app_db, files, client="c1", secret=secret)
        assert content(files, share, tmp_path / "copy.db") == (Position(), ["t"], 100)
        assert begin(app_db, files, client="c2", secret=secret, expected=share.id) == share
    with closing(sqlite3.connect(app_db)) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (100,)  # older programs go on


@pytest.mark.parametrize("name", ["C#", "a?b", "50%41"])
def test_where_locks_do_not_hold_a_database_is_found_whatever_its_folder_is_called(tmp_path, app_db, name):
    (tmp_path / name).mkdir()
    odd = app_db.rename(tmp_path / name / "app.db")
    start._take_in_read(str(odd), str(tmp_path / "copy.db"), lambda: None)
    with closing(sqlite3.connect(tmp_path / "copy.db")) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (100,)


def test_without_a_database_an_empty_one_is_shared(tmp_path, files):
    share = begin(tmp_path / "app.db", files, client="c1")
    assert content(files, share, tmp_path / "copy.db") == (Position(), [], None)


def test_what_older_programs_write_after_the_start_is_noted(app_db, files):
    begin(app_db, files, client="c1")
    with closing(sqlite3.connect(app_db)) as db:
        db.execute("UPDATE t SET name = 'y' WHERE id = 7")
        db.commit()
        assert db.execute("SELECT tbl, k0 FROM _sync_outbox").fetchall() == [("t", 7)]


def test_wal_which_does_not_work_on_a_share_is_left(app_db, files):
    with closing(sqlite3.connect(app_db)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    begin(app_db, files, client="c1")
    with closing(sqlite3.connect(app_db)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


STARTER = """
import sys
from pathlib import Path
from bdc_pipeline.share.start import begin
from bdc_pipeline.share.worker import Worker
app_db = Path(sys.argv[1])
with Worker(app_db.with_name("app.db.sync"), sys.argv[2]) as files:
    files.make_folders()
    sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
    print(begin(app_db, files, client=sys.argv[2]).id)
"""


def test_first_starts_at_once_agree(app_db, files):
    root = Path(__file__).parents[2]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        starters = [
            stack.enter_context(
                killed_at_last(
                    subprocess.Popen([sys.executable, "-c", STARTER, str(app_db), client], **pipes, cwd=root)
                )
            )
            for client in ("a", "b", "c")
        ]
        assert [line_of(starter, starter.stdout) for starter in starters] == ["ready\n"] * 3
        for starter in starters:
            starter.stdin.write("\n")
            starter.stdin.flush()
        found = {finished(starter).stdout.strip() for starter in starters}
    assert found == {begin(app_db, files, client="d").id}
    assert len(files.list("snap")) == 1


def test_a_start_that_died_before_format_is_begun_again(app_db, files, tmp_path, monkeypatch):
    def dies(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(start.msgspec.json, "format", dies)
        with pytest.raises(KeyboardInterrupt):
            begin(app_db, files, client="c1")
    with closing(sqlite3.connect(app_db)) as db:
        db.execute("INSERT INTO t VALUES (1000, 'between')")
        db.commit()
    share = begin(app_db, files, client="c1")
    assert content(files, share, tmp_path / "copy.db") == (Position(), ["t"], 101)


def test_an_empty_mount_point_is_offline_for_who_knows_the_share(app_db, files, tmp_path):
    share = begin(app_db, files, client="c1")
    files.root.rename(tmp_path / "away")
    app_db.unlink()
    files.refresh()
    with pytest.raises(Offline, match="mounted"):
        begin(app_db, files, client="c1", expected=share.id)
    assert [path.name for path in tmp_path.iterdir()] == ["away"]


def test_another_share_in_its_place_is_told(app_db, files, tmp_path):
    share = begin(app_db, files, client="c1")
    files.root.rename(tmp_path / "away")
    files.refresh()
    other = begin(app_db, files, client="c2")
    with pytest.raises(Another, match=other.id[:8]):
        begin(app_db, files, client="c1", expected=share.id)


def test_secrets_that_do_not_fit_are_told(app_db, files):
    begin(app_db, files, client="c1", secret="right")
    with pytest.raises(WrongSecret, match="another secret"):
        begin(app_db, files, client="c2", secret="wrong")
    with pytest.raises(WrongSecret, match="encrypted"):
        begin(app_db, files, client="c2")
    assert b"right" not in files.read("FORMAT")


def test_a_secret_for_an_open_share_is_told(app_db, files):
    begin(app_db, files, client="c1")
    with pytest.raises(WrongSecret, match="without encryption"):
        begin(app_db, files, client="c2", secret="x")


def test_formats_of_later_versions_and_damaged_ones_are_told(app_db, files):
    begin(app_db, files, client="c1")
    told = json.loads(files.read("FORMAT"))
    files.replace("FORMAT", json.dumps(told | {"format": 2}).encode())
    with pytest.raises(TooNew, match="Update"):
        begin(app_db, files, client="c1")
    for damaged in (b"", b"{", b"[]", b"{}"):
        files.replace("FORMAT", damaged)
        with pytest.raises(Torn, match="FORMAT"):
            begin(app_db, files, client="c1")


def test_a_share_without_atomic_publish_is_refused_before_anything_is_made(app_db, files, monkeypatch):
    def no_links(*arguments, **options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(start.os, "link", no_links)
    with pytest.raises(Refused, match="hard links"):
        begin(app_db, files, client="c1")
    with closing(sqlite3.connect(app_db)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]


def test_where_locks_do_not_hold_the_database_is_only_read(app_db, files, tmp_path, monkeypatch):
    monkeypatch.setattr(start, "locks_trouble", lambda mount: "locks do not hold")
    before = app_db.read_bytes()
    share = begin(app_db, files, client="c1")
    assert app_db.read_bytes() == before
    assert content(files, share, tmp_path / "copy.db") == (Position(), ["t"], 100)


def test_a_database_that_is_none_is_told(tmp_path, files):
    (tmp_path / "app.db").write_bytes(b"certainly not a database" * 100)
    with pytest.raises(Refused, match="not a database"):
        begin(tmp_path / "app.db", files, client="c1")
    assert "FORMAT" not in files.list("")
