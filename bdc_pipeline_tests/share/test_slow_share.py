"""On a share that is slow, hangs, goes away and crashes: a FUSE mount, two mounts as two machines."""

import contextlib
import os
import sqlite3
import time

import msgspec
import pytest

from bdc_pipeline.share import packs, worker
from bdc_pipeline.share.answers import Ambiguous, Refused
from bdc_pipeline.share.errors import Offline
from bdc_pipeline.share.log import Log
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.mounts import is_network, locks_trouble, mount_of
from bdc_pipeline.share.probe import probe
from bdc_pipeline.share.segment import Torn, encode
from bdc_pipeline.share.start import begin
from bdc_pipeline.share.view import rebuild_view, update_view
from bdc_pipeline.share.worker import Worker
from bdc_pipeline_tests.share.chains import publish_many, segment_after
from bdc_pipeline_tests.share.fuse import FuseShare, why_not
from bdc_pipeline_tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

START = Position()
DELAY = 0.020
PUSH_OPERATIONS = 12
READ_OPERATIONS = 40

HEALTHY = 30.0
"""Seconds after which a share that answers is taken for one that hangs: more than any machine stops for."""


class Machine:
    """A mount and a client on it."""

    def __init__(self, share, client):
        self.share = share
        self.app_db = share.point / "app.db"
        self.files = Worker(share.point / "app.db.sync", client, deadline=HEALTHY)

    def log(self):
        return Log(self.files)


@pytest.fixture
def machines(tmp_path):
    """Two machines with one share, which has been begun."""
    (tmp_path / "server").mkdir()
    with contextlib.ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            share = FuseShare(tmp_path / "server", tmp_path / name)
            try:
                stack.enter_context(share)
            except RuntimeError as error:
                pytest.skip(str(error))
            made.append(Machine(share, name))
            stack.callback(made[-1].files.close)
        begin(made[0].app_db, made[0].files, client="one")
        yield made


def test_what_operations_cost_at_20_ms_each(machines):
    one, two = machines
    log, reader = one.log(), two.log()
    log.after(START)
    position = publish_many(log, 1)[-1].position
    reader.after(START)
    time.sleep(1.1)  # what the mount remembers of names has run out, as in the half minute between two syncs
    one.share.set(delay=DELAY)
    two.share.set(delay=DELAY)
    one.share.operations()
    assert log.after(position) == []
    assert one.share.operations() == {"getattr": 1}
    position = log.publish(segment_after(position, rows=500)).position
    assert sum(one.share.operations().values()) <= PUSH_OPERATIONS
    for share in (one.share, two.share):
        share.set(delay=0)
    publish_many(log, 15, position)
    two.share.set(delay=DELAY)
    reader = two.log()
    two.share.operations()
    two.share.at_once()
    assert len(reader.after(START)) == 8
    # they are read side by side, not in eight times the time of one
    assert two.share.at_once() > 1
    assert sum(two.share.operations().values()) <= READ_OPERATIONS
    arrived = reader.after(Position(8, reader.after(Position(7, log.after(START)[6].digest))[0].digest))
    assert [one.segment.sequence for one in arrived] == list(range(9, 17))


def test_both_machines_see_one_log(machines):
    one, two = machines
    first = one.log().publish(segment_after(START, client="one"))
    (seen,) = two.log().after(START)
    assert seen.digest == first.digest
    second = two.log().publish(segment_after(seen.position, client="two"))
    assert [arrived.digest for arrived in one.log().after(START)] == [first.digest, second.digest]


def test_such_a_mount_is_known_for_what_it_is(machines):
    one, _ = machines
    assert is_network(one.app_db)
    assert "fuse" in locks_trouble(mount_of(one.app_db))
    found = probe(one.app_db, one.files)
    assert (found.publishes, found.locks_safe, found.network) == (True, False, True)


@pytest.mark.parametrize("fault", ["gone", "error", "stale"])
def test_a_share_that_goes_away_is_offline_and_comes_back(machines, fault):
    one, _ = machines
    log = one.log()
    position = publish_many(log, 2)[-1].position
    with one.share.failing(fault):
        with pytest.raises(Offline):
            log.after(position)
        with pytest.raises(Offline):
            log.publish(segment_after(position))
    assert log.after(position) == []
    assert log.publish(segment_after(position)).segment.sequence == 3


def test_a_full_share_is_told_and_leaves_nothing(machines):
    one, _ = machines
    log = one.log()
    position = publish_many(log, 1)[-1].position
    with one.share.failing("full"), pytest.raises(Refused, match="full"):
        log.publish(segment_after(position))
    assert one.files.list("tmp") == []
    log.publish(segment_after(position))


def test_a_lost_answer_does_not_publish_twice(machines):
    one, two = machines
    with one.share.failing("link lost"):
        published = one.log().publish(segment_after(START, batch="mine"))
    assert published.segment.batch == "mine"
    assert [arrived.segment.batch for arrived in two.log().after(START)] == ["mine"]


def test_a_share_without_hard_links_is_refused(machines):
    one, _ = machines
    with one.share.failing("link refused"):
        found = probe(one.app_db, one.files)
        with pytest.raises(Refused, match="hard links"):
            one.log().publish(segment_after(START))
    assert not found.publishes
    assert "hard links" in found.sentence


def test_a_hung_share_hangs_nobody(machines):
    """The kernel does not let a process die that waits for the server: it is left behind, and few of them are."""
    one, two = machines
    log = one.log()
    position = publish_many(log, 1)[-1].position
    one.files.deadline = 0.3
    with one.share.failing("hang"):
        for _ in range(worker.MOST_LEFT_BEHIND):
            began = time.monotonic()
            with pytest.raises(Offline, match="hangs"):
                log.after(position)
            assert time.monotonic() - began < 20
        with pytest.raises(Offline, match="cannot be ended"):
            log.after(position)
        # it is said at once: nobody is sent to wait for the share any more
        assert one.files.pid is None
        # The other machine's mount is another's
        assert two.log().after(START)[0].digest == position.digest
    one.files.deadline = HEALTHY
    until(lambda: answers(log, position))
    assert log.publish(segment_after(position)).segment.sequence == 2


def answers(log, position):
    """Whether the share is reached again: those left behind have ended."""
    try:
        return log.after(position) == []
    except Offline:
        return False


def test_a_publication_that_hangs_is_open_and_found_afterwards(machines):
    one, _ = machines
    log = one.log()
    segment = segment_after(START, batch="mine")
    log.after(START)
    one.files.deadline = 0.3
    with one.share.failing("hang"), pytest.raises(Ambiguous):
        log.publish(segment)
    one.files.deadline = HEALTHY
    assert log.publish(segment).segment.batch == "mine"
    assert [arrived.segment.batch for arrived in one.log().after(START)] == ["mine"]


def test_a_server_that_crashes_takes_no_published_segment_with_it(machines):
    one, two = machines
    published = publish_many(one.log(), 3)
    one.share.crash()
    assert [arrived.digest for arrived in two.log().after(START)] == [made.digest for made in published]


def test_what_is_not_synced_is_torn_by_a_crash_and_told(machines):
    """Why the segment is synced before it gets its name: a program that leaves that out loses it."""
    one, two = machines
    published = one.log().publish(segment_after(START))
    path = one.share.point / "app.db.sync" / packs.segment_path(2)
    temporary = one.share.point / "app.db.sync" / "tmp" / "careless"
    temporary.write_bytes(encode(segment_after(published.position, rows=50)))
    os.link(temporary, path)
    one.share.crash()
    reader = two.log()
    with pytest.raises(Torn, match="Segment 2"):
        reader.after(published.position)


def test_the_view_survives_a_share_that_goes_away_at_any_operation(machines, tmp_path):
    """One machine, an older program on it: whatever is cut off, the file is whole, and every write is claimed once."""
    one, _ = machines
    share = begin(one.app_db, one.files, client="one")
    log, position, stored, claimed, cut_off = one.log(), START, 0, [], 0
    sqlite3.connect(tmp_path / "empty.db").close()
    rebuild_view(one.files, one.app_db, share, tmp_path / "empty.db", START)
    with contextlib.closing(sqlite3.connect(one.app_db, isolation_level=None)) as db:
        db.execute("CREATE TABLE own (id INTEGER PRIMARY KEY)")
    statements = ("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",)
    made = msgspec.structs.replace(segment_after(position), changes=(), statements=statements)
    position = log.publish(made).position
    # Some eighty operations; the first ones and then every third
    cuts = [*range(1, 10), *range(10, 100, 3)]
    for cut in cuts:
        with contextlib.closing(sqlite3.connect(one.app_db, isolation_level=None)) as db:
            db.execute("INSERT INTO own VALUES (?)", [cut])
        position = log.publish(segment_after(position, rows=3, name=f"cut {cut}")).position
        one.share.set(fault="gone", after=cut)
        try:
            result = update_view(one.files, one.app_db, share, "one", stored)
        except Offline:
            result = None
            cut_off += 1
        finally:
            one.share.set(fault=None)
        # What a client does next, whether it was told of the first or not
        for update in (result, update_view(one.files, one.app_db, share, "one", stored)):
            if update is not None and update.drained is not None and update.drained.number > stored:
                claimed += [change.key[0] for change in update.drained.changes]
                stored = update.drained.number
    with contextlib.closing(sqlite3.connect(one.app_db)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT name FROM t WHERE id = 2").fetchone() == (f"cut {cuts[-1]} {len(cuts) + 1}",)
        assert [number for (number,) in db.execute("SELECT id FROM own")] == cuts
    assert claimed == cuts
    assert cut_off > len(cuts) / 2
    assert (update.position, update.trouble) == (position, "")
