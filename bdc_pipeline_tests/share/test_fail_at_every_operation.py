"""The share fails at its k-th operation, before it is done or after, for every k there is: nothing is lost, nothing is there twice."""

import contextlib
import errno
import os
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest

from bdc_pipeline.share import growth as housekeeping
from bdc_pipeline.share import packs
from bdc_pipeline.share.answers import Ambiguous
from bdc_pipeline.share.errors import Offline
from bdc_pipeline.share.files import ShareFiles
from bdc_pipeline.share.growth import Growth
from bdc_pipeline.share.log import FRESH_SECONDS, Log
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.start import begin
from bdc_pipeline_tests.share.chains import publish_many, segment_after

START = Position()


class Failing(ShareFiles):
    """A share that goes away at its k-th operation, and stays away until it is told to come back."""

    left: int | None = None
    done_first = False
    away = False
    lock = threading.Lock()

    def _call(self, operation, *arguments, **options):
        with self.lock:
            if self.left is not None:
                self.left -= 1
                self.away = self.away or self.left < 0
            last = self.left == -1
        if self.away:
            if last and self.done_first:
                options.pop("counts", None)
                operation(*arguments, **options)
            if operation is os.close and not (last and self.done_first):
                os.close(*arguments)
            raise OSError(errno.EHOSTDOWN, "Host is down")
        return super()._call(operation, *arguments, **options)

    def fail_at(self, operation, *, done_first):
        self.left, self.done_first, self.away = operation, done_first, False

    def come_back(self):
        """Whether it had failed."""
        failed, self.left, self.away = self.away, None, False
        return failed


def sweep(tmp_path, done_first, prepare, act, check, step=1):
    """`act` failing at operation 0, 1, 2, ... until it does not fail; after each, `check` with a share that is back."""
    for k in range(0, 1000, step):
        (tmp_path / str(k)).mkdir()
        with Failing(tmp_path / str(k) / "app.db.sync", "c1") as files:
            prepared = prepare(files)
            files.fail_at(k, done_first=done_first)
            with contextlib.suppress(Offline):  # any other error is one
                act(files, prepared)
            failed = files.come_back()
            check(files, prepared)
        if not failed:
            return k
    raise AssertionError("it never came through")


both = pytest.mark.parametrize("done_first", [False, True])


def read_all(files):
    log, position, arrived = Log(files), START, []
    while found := log.after(position):
        arrived += found
        position = found[-1].position
    return arrived


@both
@pytest.mark.parametrize("pause", [0, FRESH_SECONDS + 1])
def test_publishing(tmp_path, done_first, pause):
    def prepare(files):
        files.make_folders()
        now = [0.0]
        log = Log(files, clock=lambda: now[0])
        position = publish_many(log, 1)[0].position
        now[0] += pause  # then the segment before is looked at as well
        return log, position

    def act(files, prepared):
        log, position = prepared
        log.publish(segment_after(position, batch="mine"))

    def check(files, prepared):
        log, position = prepared
        assert log.publish(segment_after(position, batch="mine")).segment.batch == "mine"
        assert [one.segment.batch for one in read_all(files)] == ["c1-1", "mine"]

    assert sweep(tmp_path, done_first, prepare, act, check) >= (8 if pause else 6)


@both
def test_reading(tmp_path, done_first):
    def prepare(files):
        files.make_folders()
        publish_many(Log(files), 10)
        return Log(files)

    def act(files, log):
        position = START
        while found := log.after(position):
            position = found[-1].position

    def check(files, log):
        position, arrived = START, []
        while found := log.after(position):
            arrived += found
            position = found[-1].position
        assert len(arrived) == 10

    assert sweep(tmp_path, done_first, prepare, act, check) >= 30


@both
def test_starting(tmp_path, done_first):
    def prepare(files):
        app_db = files.root.parent / "app.db"
        with closing(sqlite3.connect(app_db)) as db:
            db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
            db.execute("INSERT INTO t VALUES (7)")
            db.commit()
        return app_db

    def check(files, app_db):
        first = begin(app_db, files, client="c1")
        assert begin(app_db, files, client="c2", expected=first.id) == first
        to = app_db.with_name("copy.db")
        assert Growth(files, Log(files), "c1").newest_snapshot(to) == START
        with closing(sqlite3.connect(to)) as db:
            assert db.execute("SELECT * FROM t").fetchall() == [(7,)]

    assert sweep(tmp_path, done_first, prepare, lambda files, app_db: begin(app_db, files, client="c1"), check) > 20


@pytest.mark.slow
@both
def test_housekeeping(tmp_path, done_first, monkeypatch):
    """Every fifth operation: there are some two hundred, and none of them is the only one of its kind."""
    monkeypatch.setattr(housekeeping, "SNAPSHOT_SEGMENTS", 8)
    monkeypatch.setattr(housekeeping, "STAGGER", 1)
    monkeypatch.setattr(housekeeping, "PACK_LAG", 4)
    monkeypatch.setattr(packs, "PACKED", 4)
    template = tmp_path / "template"
    template.mkdir()
    with ShareFiles(template / "app.db.sync", "c1") as files:
        begin(template / "app.db", files, client="c1")
        published = publish_many(Log(files), 20)
    at = published[-1].position

    def make(to):
        with closing(sqlite3.connect(to)) as db:
            db.execute("CREATE TABLE made (at)")
        return at

    def prepare(files):
        shutil.copytree(template, files.root.parent, dirs_exist_ok=True)
        for path in (files.root / "log").iterdir():
            found = path.stat()
            os.utime(path, (found.st_atime, found.st_mtime - 3 * 3600))

    def act(files, _):
        for _ in range(2):
            Growth(files, Log(files), "c1").tend(at, make)

    def check(files, _):
        slow = Position(published[9].segment.sequence, published[9].digest)
        arrived, log = [], Log(files)
        while found := log.after(slow):
            arrived += found
            slow = found[-1].position
        assert [one.digest for one in arrived] == [one.digest for one in published[10:]]
        assert Growth(files, log, "c1").newest_snapshot(files.root.parent / "copy.db") in {START, at}
        for _ in range(3):
            Growth(files, Log(files), "c1").tend(at, make)
        assert Log(files).snapshots() == [20]
        assert files.list("pack") == [f"{first:010d}-{first + 3:010d}.seg" for first in (1, 5, 9, 13)]
        assert files.list("log") == [f"{number:010d}.seg" for number in range(17, 21)]

    assert sweep(tmp_path, done_first, prepare, act, check, step=5) > 100


def test_a_failing_share_is_never_anything_but_told(tmp_path):
    with Failing(tmp_path / "app.db.sync", "c1") as files:
        files.make_folders()
        files.fail_at(0, done_first=False)
        calls = [
            lambda: files.read("log/1"),
            lambda: files.read_many(["log/1"]),
            lambda: files.replace("clients/a", b""),
            lambda: files.list("log"),
            lambda: files.survey("log"),
            lambda: files.stat("log/1"),
            lambda: files.remove(["log/1"]),
            lambda: files.fetch("log/1", tmp_path / "x"),
            files.make_folders,
            lambda: files.publish("log/1", b""),
        ]
        for call in calls:
            with pytest.raises(Offline) as told:
                call()
            assert not isinstance(told.value, Ambiguous)
