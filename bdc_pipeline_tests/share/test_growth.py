"""Housekeeping: what is kept for whom, that two at once do no harm, and that a slow reader always finds a way on."""

import os
import sqlite3
from contextlib import closing

import pytest

from bdc_pipeline.share import packs
from bdc_pipeline.share.errors import ShareError
from bdc_pipeline.share.files import FileStat, ShareFiles
from bdc_pipeline.share.growth import HOUR_MS, SEEN_MS, Growth, Stock, plan
from bdc_pipeline.share.log import Behind, Log
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.start import begin
from bdc_pipeline_tests.share.chains import publish_many

NOW = 1_800_000_000_000
FIRST = "snap/0000000000-abc.snap"


def aged(hours, size=1000):
    return FileStat(size, NOW - round(hours * HOUR_MS))


def stock(*, log=(), pack=(), snap=(), tmp=(), clients=(), hours=10.0, acknowledged=None, size=1000):
    named = {
        "log": {packs.segment_path(n).split("/")[1]: aged(hours, size) for n in log},
        "pack": {packs.pack_path(n).split("/")[1]: aged(hours) for n in pack},
        "snap": {FIRST.split("/")[1]: aged(1000)} | {packs.snapshot_path(n).split("/")[1]: aged(hours) for n in snap},
        "tmp": {f"t{n}": aged(age) for n, age in enumerate(tmp)},
        "clients": {f"c{n}.json": aged(age) for n, age in enumerate(clients)},
    }
    known = {f"c{n}.json": sequence for n, sequence in enumerate(acknowledged or ())}
    return Stock(NOW, named, known)


def planned(found, position, stagger=0):
    return plan(found, position, first_snapshot=FIRST, stagger=stagger)


@pytest.mark.parametrize(
    ("position", "newest", "size", "stagger", "wanted"),
    [
        (255, [], 1000, 0, False),
        (256, [], 1000, 0, True),
        (256, [], 1000, 10, False),
        (300, [256], 1000, 0, False),
        (512, [256], 1000, 0, True),
        (9, [], 1 << 20, 0, True),  # 8 MB
        (9, [5], 1 << 20, 0, False),
        (0, [], 1000, 0, False),
    ],
)
def test_a_snapshot_is_due_by_segments_or_bytes(position, newest, size, stagger, wanted):
    found = stock(log=range(1, position + 1), snap=newest, size=size)
    assert planned(found, position, stagger).snapshot is wanted


def test_whole_ranges_are_packed_but_not_the_latest():
    assert planned(stock(log=range(1, 101)), 100).packs == (1, 33)
    assert planned(stock(log=range(1, 101), pack=[1]), 100).packs == (33,)
    assert planned(stock(log=[n for n in range(1, 101) if n != 40]), 100).packs == (1,)


def test_packed_segments_are_removed_once_they_are_two_hours_old():
    found = stock(log=range(1, 70), pack=[1], acknowledged=[69], clients=[0])
    assert planned(found, 69).remove == tuple(packs.segment_path(n) for n in range(1, 33))
    young = stock(log=range(1, 70), pack=[1], hours=1.9, acknowledged=[69], clients=[0])
    assert planned(young, 69).remove == ()


def test_one_generation_more_than_needed_is_kept():
    one = stock(log=range(300, 600), pack=[1, 33, 65], snap=[512], acknowledged=[600], clients=[0])
    assert not any(path.startswith(("pack", "snap")) for path in planned(one, 600).remove)
    two = stock(log=range(300, 600), pack=[1, 225, 257], snap=[256, 512], acknowledged=[600], clients=[0])
    assert planned(two, 600).remove == (packs.pack_path(1), packs.pack_path(225), FIRST)
    three = stock(snap=[256, 512, 768], acknowledged=[800], clients=[0])
    assert planned(three, 800).remove == (FIRST, packs.snapshot_path(256))


def test_a_client_seen_lately_is_waited_for_and_one_long_gone_is_not():
    found = stock(pack=[1, 33], snap=[256, 512], acknowledged=[600, 40], clients=[0, 24])
    assert packs.pack_path(1) in planned(found, 600).remove
    assert packs.pack_path(33) not in planned(found, 600).remove
    gone = stock(pack=[1, 33], snap=[256, 512], acknowledged=[600, 40], clients=[0, SEEN_MS / HOUR_MS + 1])
    assert packs.pack_path(33) in planned(gone, 600).remove


def test_a_client_that_cannot_be_read_holds_everything():
    found = stock(pack=[1], snap=[256, 512], acknowledged=[600], clients=[0, 1])
    assert planned(found, 600).remove == (FIRST,)


def test_leftovers_in_tmp_go_first_and_only_when_old():
    found = stock(tmp=[0.5, 2], log=range(1, 40), pack=[1], acknowledged=[39], clients=[0])
    assert planned(found, 39).remove[0] == "tmp/t1"
    assert "tmp/t0" not in planned(found, 39).remove


def test_a_first_snapshot_of_a_start_that_was_second_goes():
    found = stock()
    found.folders["snap"]["0000000000-zzz.snap"] = aged(3)
    assert planned(found, 0).remove == ("snap/0000000000-zzz.snap",)


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A share whose snapshots are due every 64 segments."""
    monkeypatch.setattr("bdc_pipeline.share.growth.SNAPSHOT_SEGMENTS", 64)
    monkeypatch.setattr("bdc_pipeline.share.growth.STAGGER", 1)
    app_db = tmp_path / "app.db"
    with closing(sqlite3.connect(app_db)) as db, db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    with ShareFiles(tmp_path / "app.db.sync", "c1") as files:
        begin(app_db, files, client="c1")
        yield files


def make_older(files, hours=3):
    """All that is there becomes hours older, as if it had been written then."""
    for path in files.root.rglob("*.*"):
        found = path.stat()
        os.utime(path, (found.st_atime, found.st_mtime - hours * 3600))


def snapshot_at(position):
    def make(to):
        with closing(sqlite3.connect(to)) as db, db:
            db.execute("CREATE TABLE made (at)")
            db.execute("INSERT INTO made VALUES (?)", [position.sequence])
        return position

    return make


def test_the_life_of_a_share(shared, tmp_path):
    """Written, packed, snapshot after snapshot, what is old removed; a new client and a slow one both get everything."""
    log = Log(shared)
    growth = Growth(shared, log, "c1")
    position, published = Position(), []
    for _ in range(3):
        published += publish_many(log, 70, position)
        position = published[-1].position
        make_older(shared)
        growth.tend(position, snapshot_at(position))
        make_older(shared)
        growth.tend(position, snapshot_at(position))
    assert Log(shared).snapshots() == [140, 210]
    assert len(shared.list("log")) < 100
    assert shared.list("tmp") == []
    to = tmp_path / "new.db"
    assert growth.newest_snapshot(to) == position
    with closing(sqlite3.connect(to)) as db:
        assert db.execute("SELECT at FROM made").fetchone() == (210,)
    slow, arrived = Log(shared), []
    at = published[139].position
    while found := slow.after(at):
        arrived += found
        at = found[-1].position
    assert [one.digest for one in arrived] == [one.digest for one in published[140:]]
    with pytest.raises(Behind) as told:
        Log(shared).after(published[40].position)
    assert told.value.snapshot == 210


def test_two_that_keep_house_at_once_do_no_harm(shared):
    log = Log(shared)
    position = publish_many(log, 70)[-1].position
    make_older(shared)
    with ShareFiles(shared.root, "c2") as other:
        for _ in range(3):
            first = Growth(shared, log, "c1").tend(position, snapshot_at(position))
            second = Growth(other, Log(other), "c2").tend(position, snapshot_at(position))
            make_older(shared)
    assert (second.packed, second.snapshot, first.packed) == (0, None, 0)
    assert Log(shared).snapshots() == [70]
    assert {one.client: one.sequence for one in Growth(shared, log, "c1").clients()} == {"c1": 70, "c2": 70}


def test_a_snapshot_removed_while_it_is_read_leads_to_the_next(shared, tmp_path):
    log = Log(shared)
    growth = Growth(shared, log, "c1")
    position = publish_many(log, 70)[-1].position
    growth.tend(position, snapshot_at(position))
    damaged = shared.root / packs.snapshot_path(71)
    damaged.write_bytes(b"half a snap")
    assert growth.newest_snapshot(tmp_path / "a.db") == position
    damaged.unlink()
    (shared.root / packs.snapshot_path(70)).write_bytes(b"")
    with pytest.raises(ShareError, match="backup"):
        growth.newest_snapshot(tmp_path / "b.db")


def test_a_content_that_cannot_be_given_now_is_left_for_later(shared):
    log = Log(shared)
    position = publish_many(log, 70)[-1].position
    assert Growth(shared, log, "c1").tend(position, lambda to: None).snapshot is None


def test_acknowledging_costs_nothing_most_of_the_time(shared):
    growth = Growth(shared, Log(shared), "c1")
    assert growth.acknowledge(Position(1), "me")
    shared.counts.taken()
    assert not growth.acknowledge(Position(2), "me")
    assert shared.counts.taken().operations == 0
