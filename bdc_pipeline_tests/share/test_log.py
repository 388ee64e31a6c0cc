"""The log: read in order with its chain checked, published exactly once, and everything told that is not as it must be."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bdc_pipeline.share import packs
from bdc_pipeline.share.answers import Ambiguous, Taken
from bdc_pipeline.share.errors import Offline
from bdc_pipeline.share.files import ShareFiles
from bdc_pipeline.share.log import CHECK_SECONDS, FRESH_SECONDS, SLOW_SECONDS, Behind, Forked, Log, Restored
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.segment import Torn, digest, encode
from bdc_pipeline_tests.processes import finished, killed_at_last
from bdc_pipeline_tests.share.chains import publish_many, segment_after

START = Position()


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Interrupted(ShareFiles):
    """A share whose next publication is cut off: before it is done, or after; and that may then answer for a while or not."""

    cut = None
    then = None

    def publish(self, path, data, before=None):
        cut, self.cut = self.cut, None
        if cut == "before":
            raise Ambiguous("cut off")
        offset = super().publish(path, data, before)
        if cut == "after":
            self.away = self.then
            raise Ambiguous("cut off")
        if cut == "repeated":
            raise Taken("the share did it twice")
        return offset

    away = None

    def read(self, path):
        if self.away:
            raise Offline(self.away)
        return super().read(path)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def files(tmp_path):
    with Interrupted(tmp_path / "app.db.sync", "c1") as opened:
        opened.make_folders()
        yield opened


@pytest.fixture
def log(files, clock):
    return Log(files, clock=clock)


def read_all(log, position=START, many=8):
    arrived = []
    while found := log.after(position, many):
        assert len(found) <= many
        arrived += found
        position = found[-1].position
    return arrived


def path_of(files, sequence):
    return files.root / packs.segment_path(sequence)


def test_what_is_published_arrives_in_order(log, files):
    published = publish_many(log, 20)
    arrived = read_all(Log(files))
    assert [(one.segment, one.digest) for one in arrived] == [(one.segment, one.digest) for one in published]
    assert log.head() == 20


def test_an_idle_poll_is_one_operation(log, files):
    position = publish_many(log, 3)[-1].position
    log.after(position)
    for _ in range(3):
        files.counts.taken()
        assert log.after(position) == []
        assert files.counts.taken().operations == 1


@pytest.mark.parametrize("rows", [1, 500, 5000])
def test_a_push_is_six_operations_whatever_the_number_of_rows(log, files, rows):
    position = publish_many(log, 2)[-1].position
    files.counts.taken()
    log.publish(segment_after(position, rows=rows))
    assert files.counts.taken().operations == 6


def test_pulling_is_one_operation_and_three_rounds_for_eight_segments(log, files):
    position = publish_many(log, 65)[0].position
    reader = Log(files)
    reader.after(position, 1)
    files.counts.taken()
    assert len(read_all(reader, position)) == 64
    counts = files.counts.taken()
    assert counts.rounds <= 1 + 8 * 5
    # The last eight looks find nothing, and the first poll that finds nothing looks at the last segment as well
    assert counts.operations <= 64 * 3 + 8 + 3


def test_a_taken_number_is_applied_and_followed(log, files):
    theirs = Log(files).publish(segment_after(START, client="c2"))
    mine = segment_after(START, client="c1")
    with pytest.raises(Taken, match="c2"):
        log.publish(mine)
    (arrived,) = log.after(START)
    assert arrived.segment == theirs.segment
    assert log.publish(segment_after(arrived.position, client="c1")).segment.sequence == 2


@pytest.mark.parametrize("cut", ["before", "after", "repeated"])
def test_a_publication_whose_answer_was_lost_is_there_once(log, files, cut):
    files.cut = cut
    published = log.publish(segment_after(START, batch="mine"))
    assert published.segment.batch == "mine"
    assert [one.segment.batch for one in read_all(Log(files))] == ["mine"]
    assert log.publish(segment_after(published.position)).segment.sequence == 2


def test_a_share_that_stays_away_leaves_it_open_and_the_next_try_finds_out(log, files):
    files.cut, files.then = "after", "away"
    segment = segment_after(START, batch="mine")
    with pytest.raises(Offline):
        log.publish(segment)
    files.away = None
    assert log.publish(segment).segment.batch == "mine"
    assert len(read_all(Log(files))) == 1


def test_no_gap_is_made_where_the_share_lost_its_last_segments(log, files, clock):
    """Restored from a backup while a client runs: its next segment must not land behind a hole."""
    published = publish_many(log, 5)
    for sequence in (3, 4, 5):
        path_of(files, sequence).unlink()
    clock.now += FRESH_SECONDS + 1
    with pytest.raises(Restored) as told:
        log.publish(segment_after(published[-1].position))
    assert told.value.position == published[1].position
    assert not path_of(files, 6).exists()


@pytest.mark.parametrize("pause", [FRESH_SECONDS + 1, SLOW_SECONDS + 1])
def test_after_a_pause_a_push_looks_at_the_segment_before_on_its_way(log, files, clock, pause):
    position = publish_many(log, 3)[-1].position
    assert log.after(position) == []
    clock.now += pause
    files.counts.taken()
    position = log.publish(segment_after(position)).position
    assert files.counts.taken().operations == 8  # the six, the way to the folder and the look
    log.publish(segment_after(position))
    assert files.counts.taken().operations == 6


@pytest.mark.parametrize("size", ["same", "other"])
def test_what_others_began_on_a_restored_share_is_not_followed(log, files, clock, size):
    """They have published another segment under the number of ours that was lost: ours would stand on nothing."""
    published = publish_many(log, 3)
    theirs = encode(segment_after(published[1].position, client="c2", batch="c2-3" if size == "same" else "c2-longer"))
    assert (len(theirs) == len(published[2].data)) is (size == "same")
    path_of(files, 3).unlink()
    path_of(files, 3).write_bytes(theirs)
    later = path_of(files, 3).stat().st_mtime + 10
    os.utime(path_of(files, 3), (later, later))
    clock.now += FRESH_SECONDS + 1
    with pytest.raises(Forked):
        log.publish(segment_after(published[2].position))
    assert files.list("log") == [f"{number:010d}.seg" for number in (1, 2, 3)]
    assert files.list("tmp") == []


def test_a_segment_whose_time_a_backup_has_changed_is_read_and_followed(log, files, clock):
    published = publish_many(log, 3)
    later = path_of(files, 3).stat().st_mtime + 3600
    os.utime(path_of(files, 3), (later, later))
    clock.now += FRESH_SECONDS + 1
    assert log.publish(segment_after(published[2].position)).segment.sequence == 4


def test_a_restored_share_is_noticed_at_the_first_poll_and_every_hour(log, files, clock):
    published = publish_many(log, 5)
    log.after(published[-1].position)
    path_of(files, 5).unlink()
    assert log.after(published[-1].position) == []  # one operation sees no more
    clock.now += CHECK_SECONDS + 1
    with pytest.raises(Restored) as told:
        log.after(published[-1].position)
    assert told.value.position == published[3].position
    with pytest.raises(Restored):
        Log(files).after(published[-1].position)
    shutil.rmtree(files.root / "log")
    (files.root / "log").mkdir()
    files.refresh()
    with pytest.raises(Restored) as told:
        Log(files).after(published[-1].position)
    assert told.value.position == START


def test_lost_segments_are_put_back_byte_for_byte(log, files):
    published = publish_many(log, 3)
    path_of(files, 3).unlink()
    log.republish(3, published[2].data)
    log.republish(3, published[2].data)
    assert len(read_all(Log(files))) == 3
    with pytest.raises(Forked):
        log.republish(2, published[2].data)


def test_another_log_is_told_and_nothing_of_it_applied(log, files):
    position = publish_many(log, 3)[-1].position
    stranger = Position(3, digest(b"another history"))
    with pytest.raises(Forked, match="rebuild"):
        Log(files).after(stranger)  # at the first poll, though nothing is new
    log.publish(segment_after(position))
    with pytest.raises(Forked, match="rebuild"):
        Log(files).after(stranger)


def test_a_break_in_the_chain_stops_before_it(log, files):
    publish_many(log, 3)
    path_of(files, 2).unlink()
    path_of(files, 2).write_bytes(encode(segment_after(Position(1, digest(b"other")), client="c2")))
    reader = Log(files)
    (first,) = reader.after(START)
    assert first.segment.sequence == 1
    with pytest.raises(Forked):
        reader.after(first.position)


def test_a_torn_segment_stops_before_it_and_is_mended_from_an_archive(log, files):
    published = publish_many(log, 3)
    path_of(files, 2).write_bytes(published[1].data[:-7])
    reader = Log(files)
    (first,) = reader.after(START)
    with pytest.raises(Torn, match=r"0000000002\.seg"):
        reader.after(first.position)
    log.mend(2, published[1].data)
    assert len(read_all(reader, first.position)) == 2
    with pytest.raises(Forked):
        log.mend(3, encode(segment_after(Position(2, b""), client="c2")))


def test_a_renamed_segment_is_not_taken_for_another(log, files):
    publish_many(log, 1)
    path_of(files, 1).rename(path_of(files, 2))
    path_of(files, 1).write_bytes(path_of(files, 2).read_bytes())
    reader = Log(files)
    (first,) = reader.after(START)
    with pytest.raises(Torn, match="renamed"):
        reader.after(first.position)


def packed_away(log, files, published):
    """The first 32 segments, as housekeeping leaves them."""
    files.publish(packs.pack_path(1), packs.pack(1, [one.data for one in published[:32]]))
    files.remove([packs.segment_path(sequence) for sequence in range(1, 33)])


def test_packed_segments_are_read_as_if_they_were_not(log, files):
    published = publish_many(log, 40)
    packed_away(log, files, published)
    arrived = read_all(Log(files))
    assert [one.digest for one in arrived] == [one.digest for one in published]
    files.counts.taken()
    read_all(Log(files))
    assert files.counts.taken().operations < 50
    assert Log(files).head() == 40


def test_a_client_that_slept_while_all_was_packed_goes_on(log, files, clock):
    published = publish_many(log, 33)
    reader = Log(files, clock=clock)
    reader.after(published[4].position)
    reader.after(published[32].position)
    packed_away(log, files, published)
    clock.now += CHECK_SECONDS + 1
    assert len(read_all(reader, published[4].position)) == 28


def test_a_client_behind_the_horizon_is_sent_to_the_snapshot(log, files):
    publish_many(log, 40)
    files.publish(packs.snapshot_path(39), b"")
    files.remove([packs.segment_path(sequence) for sequence in range(1, 33)])
    with pytest.raises(Behind) as told:
        Log(files).after(START)
    assert told.value.snapshot == 39


def test_a_number_that_was_used_and_packed_while_the_machine_slept_is_given_back(log, files, clock):
    """A laptop closes between its look at the log and its publication, and wakes days later."""
    published = publish_many(log, 31)
    sleeper = Log(files, clock=clock)
    segment = segment_after(published[-1].position, client="c2")
    assert sleeper.after(published[-1].position) == []
    real = publish_many(log, 3, published[-1].position)
    packed_away(log, files, [*published, *real])
    clock.now += SLOW_SECONDS + 1
    with pytest.raises(Taken, match="slept"):
        sleeper.publish(segment)
    assert not path_of(files, 32).exists()
    assert [one.digest for one in read_all(Log(files))] == [one.digest for one in (*published, *real)]


RACER = """
import sys
from pathlib import Path
from bdc_pipeline.share.answers import Taken
from bdc_pipeline.share.log import Log
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.worker import Worker
from bdc_pipeline_tests.share.chains import segment_after
root, client, wanted = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
position, done, lost = Position(), 0, 0
with Worker(root, client) as files:
    log = Log(files)
    while done < wanted:
        while arrived := log.after(position):
            position = arrived[-1].position
        try:
            position = log.publish(segment_after(position, client=client, batch=f"{client}-{done}")).position
            done += 1
        except Taken:
            lost += 1
print(lost)
"""


def test_publishers_in_several_processes_make_one_chain_and_lose_nothing(files):
    clients, each = ["a", "b", "c"], 25
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                killed_at_last(
                    subprocess.Popen(
                        [sys.executable, "-c", RACER, str(files.root), client, str(each)],
                        stdout=subprocess.PIPE,
                        text=True,
                        cwd=Path(__file__).parents[2],
                    )
                )
            )
            for client in clients
        ]
        assert [finished(process).returncode for process in processes] == [0, 0, 0]
    arrived = read_all(Log(files))
    assert sorted(one.segment.batch for one in arrived) == sorted(f"{c}-{n}" for c in clients for n in range(each))
    for client in clients:
        mine = [one.segment.batch for one in arrived if one.segment.client == client]
        assert mine == [f"{client}-{number}" for number in range(each)]
    assert files.list("tmp") == []
