"""The child process that touches the share: quick, gone with its parent, given up when the share hangs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bdc_pipeline.share.answers import Ambiguous, Taken
from bdc_pipeline.share.errors import Offline, ShareError
from bdc_pipeline.share.worker import Worker
from bdc_pipeline_tests.processes import killed_at_last, line_of
from bdc_pipeline_tests.waiting import until

HEALTHY = 30.0
"""Seconds after which a child that works is taken for one that hangs: more than any machine stops for."""

SMALL = {"bdc_pipeline", "msgspec", "typing_extensions"}


@pytest.fixture
def worker(tmp_path):
    with Worker(tmp_path / "app.db.sync", "c1", deadline=HEALTHY) as started:
        started.make_folders()
        yield started


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_does_what_files_do(worker, tmp_path):
    assert worker.publish("log/1", b"\x00one") is not None
    assert worker.read("log/1") == b"\x00one"
    assert worker.read_many(["log/1", "log/2"]) == [b"\x00one", None]
    assert worker.stat("log/1").size == 4
    worker.replace("clients/a", b"a")
    (tmp_path / "source").write_bytes(b"big")
    worker.publish_file("snap/1", tmp_path / "source")
    assert worker.fetch("snap/1", tmp_path / "back") == 3
    assert (worker.list("snap"), worker.remove(["snap/1"]), worker.list("snap")) == (["1"], 1, [])
    assert worker.survey("clients")["a"].size == 1
    with pytest.raises(Taken):
        worker.publish("log/1", b"two")
    with pytest.raises(FileNotFoundError):
        worker.read("log/2")
    worker.refresh()
    assert worker.read("log/1") == b"\x00one"


def test_it_counts_what_its_child_asked_of_the_share(worker):
    worker.publish("log/1", b"one")
    worker.read("log/1")
    worker.counts.taken()
    worker.publish("log/2", b"two")
    assert worker.counts.taken().operations == 6
    with pytest.raises(FileNotFoundError):
        worker.read("log/3")
    assert worker.counts.taken().operations == 1


def test_a_child_that_stands_still_is_given_up_and_another_does_the_next(worker):
    first = worker.pid
    os.kill(first, signal.SIGSTOP)
    worker.deadline = 0.2
    with pytest.raises(Offline, match=r"did not come back within 0\.2 s"):
        worker.read("log/1")
    worker.deadline = HEALTHY
    with pytest.raises(FileNotFoundError):
        worker.read("log/1")
    assert worker.pid != first
    assert not is_running(first)


def test_publishing_through_a_child_that_dies_is_ambiguous(worker):
    worker.read_many([])
    os.kill(worker.pid, signal.SIGSTOP)
    worker.deadline = 0.2
    with pytest.raises(Ambiguous):
        worker.publish("log/1", b"one")


def test_a_killed_child_is_replaced(worker):
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(Offline, match="ended"):
        worker.read("log/1")
    assert worker.list("log") == []


def test_what_goes_wrong_in_a_command_is_told(worker):
    with pytest.raises(ShareError, match="no_such"):
        worker.call("view:no_such")
    assert worker.list("log") == []


def test_the_child_ends_when_its_parent_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from bdc_pipeline.share.worker import Worker\n"
        f"w = Worker(Path({str(tmp_path / 'app.db.sync')!r}), 'c1'); w.make_folders(); print(w.pid, flush=True); time.sleep(600)"
    )
    root = str(Path(__file__).parents[2])
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    with killed_at_last(started) as parent:
        child = int(line_of(parent, parent.stdout))
        assert is_running(child)
        parent.kill()
    until(lambda: not is_running(child))


def test_a_child_starts_fast_since_it_needs_little():
    """It starts within 0.08 s on an idle machine. What would cost more is another library, whatever the machine does."""
    code = (
        "import sys; before = {*sys.modules}; import bdc_pipeline.share.worker\n"
        "print(*{name.partition('.')[0] for name in {*sys.modules} - before})"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=Path(__file__).parents[2])
    loaded = set(told.stdout.decode().split())
    assert loaded - set(sys.stdlib_module_names) <= SMALL
