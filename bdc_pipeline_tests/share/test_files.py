"""The share's file system: what each call costs, that a name is given once, and what is told when the share does not answer."""

import errno
import os
import shutil
import threading

import pytest

from bdc_pipeline.share.answers import Ambiguous, Refused, Taken, told, told_of_link
from bdc_pipeline.share.errors import Offline
from bdc_pipeline.share.files import CHUNK, ShareFiles


@pytest.fixture
def files(tmp_path):
    with ShareFiles(tmp_path / "app.db.sync", "c1") as opened:
        opened.make_folders()
        yield opened


def counted(files, work):
    files.counts.taken()
    work()
    return files.counts.taken()


def test_a_look_for_what_is_not_there_is_one_operation(files):
    with pytest.raises(FileNotFoundError):
        files.read("log/1")

    def poll():
        with pytest.raises(FileNotFoundError):
            files.read("log/1")

    assert (counted(files, poll).operations, files.counts.rounds) == (1, 0)


@pytest.mark.parametrize("size", [1, 100_000])
def test_publishing_is_six_operations_whatever_the_size(files, size):
    files.publish("log/0", b"opens the folders")
    counts = counted(files, lambda: files.publish("log/1", os.urandom(size)))
    assert (counts.operations, counts.bytes_out) == (6, size)


def test_eight_files_are_read_in_three_rounds(files):
    for number in range(8):
        files.publish(f"log/{number}", bytes([number]))
    files.read("log/0")
    counts = counted(files, lambda: files.read_many([f"log/{number}" for number in range(8)]))
    assert (counts.operations, counts.rounds, counts.bytes_in) == (24, 3, 8)


def test_what_is_published_is_read_back_and_leaves_nothing_in_tmp(files):
    data = os.urandom(2 * CHUNK + 1)
    offset_ms = files.publish("log/1", data)
    assert files.read("log/1") == data
    assert files.read_many(["log/1", "log/2"]) == [data, None]
    assert files.list("tmp") == []
    assert abs(offset_ms) < 5_000  # the clock of this very machine


def test_a_taken_name_keeps_its_first_content(files):
    files.publish("log/1", b"first")
    with pytest.raises(Taken):
        files.publish("log/1", b"second")
    assert files.read("log/1") == b"first"
    assert files.list("tmp") == []


def test_of_many_threads_that_publish_one_name_one_wins(tmp_path, files):
    outcomes = []

    def publish(number):
        with ShareFiles(files.root, f"c{number}") as mine:
            try:
                mine.publish("log/1", str(number).encode())
                outcomes.append(str(number).encode())
            except Taken:
                outcomes.append(None)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert [won for won in outcomes if won] == [files.read("log/1")]


def test_files_of_any_size_go_through_in_pieces(files, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(3 * CHUNK + 7))
    files.publish_file("snap/1", source)
    assert files.fetch("snap/1", back) == source.stat().st_size
    assert back.read_bytes() == source.read_bytes()
    with pytest.raises(FileNotFoundError):
        files.fetch("snap/2", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_replacing_surveying_and_removing(files):
    files.replace("clients/c1.json", b"one")
    files.replace("clients/c1.json", b"three")
    assert {name: found.size for name, found in files.survey("clients").items()} == {"c1.json": 5}
    assert files.remove(["clients/c1.json", "clients/none.json"]) == 1
    assert files.survey("clients") == {}


def test_a_share_that_is_not_mounted_is_offline_and_not_empty(tmp_path):
    with ShareFiles(tmp_path / "away" / "app.db.sync", "c1") as files:
        with pytest.raises(Offline, match="mounted"):
            files.make_folders()
        with pytest.raises(Offline, match="mounted"):
            files.read("log/1")


def test_a_folder_moved_away_takes_no_publication_with_it(files, tmp_path):
    files.publish("log/1", b"one")
    files.root.rename(tmp_path / "moved")
    with pytest.raises(Offline):  # an Ambiguous: the caller reads back
        files.publish("log/2", b"two")
    assert not (tmp_path / "moved" / "log" / "2").exists()
    with pytest.raises(Offline, match="mounted"):
        files.read("log/2")


def test_a_share_put_back_from_a_backup_is_seen_after_a_refresh(files, tmp_path):
    files.publish("log/1", b"one")
    shutil.copytree(files.root, tmp_path / "backup")
    files.publish("log/2", b"two")
    shutil.rmtree(files.root)
    (tmp_path / "backup").rename(files.root)
    files.refresh()
    assert files.list("log") == ["1"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EIO, Offline),
        (errno.EHOSTDOWN, Offline),
        (errno.ESTALE, Offline),
        (errno.ETIMEDOUT, Offline),
        (errno.ENOSPC, Refused),
        (errno.EACCES, Refused),
        (errno.EROFS, Refused),
        (errno.ENOENT, FileNotFoundError),
    ],
)
def test_errors_are_told_apart_with_a_sentence(code, kind):
    error = told(OSError(code, os.strerror(code)), "//server/team/x")
    assert type(error) is kind
    assert "//server/team/x" in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EEXIST, Taken),
        (errno.EPERM, Refused),  # no hard links
        (errno.EOPNOTSUPP, Refused),
        (errno.EACCES, Refused),
        (errno.EIO, Ambiguous),
        (errno.ETIMEDOUT, Ambiguous),
        (errno.ENOENT, Ambiguous),
    ],
)
def test_only_a_clear_no_means_that_a_name_was_not_given(code, kind):
    assert type(told_of_link(OSError(code, os.strerror(code)), "x")) is kind
