"""What goes wrong between the registries and the file, in processes of their own: kill -9, full disks, two at once.

The last good data can be asked for throughout; the next run that can completes it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox, running
from bdc_pipeline.sandbox.dmr import registries
from bdc_pipeline.sources.dmr.registries import FEEDS
from bdc_pipeline_tests.processes import dying, finished, meeting, met, run, start
from bdc_pipeline_tests.sources.dmr.syncing import Copy, Shelf, copying, served, variables
from bdc_pipeline_tests.waiting import SECONDS, until

pytestmark = pytest.mark.slow

SIZE = 12_000

DATA = registries(SIZE)
"""As the sandbox serves it."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running(served(devices=SIZE)) as made:
        yield made


@pytest.fixture
def copy(sandbox: Sandbox, tmp_path: Path) -> Iterator[Copy]:
    sandbox.configure(latency_ms=0, faults=[])
    sandbox.reset_stats()
    yield Copy(sandbox, tmp_path)
    sandbox.configure(latency_ms=0, faults=[])


def where(copy: Copy) -> dict[str, Any]:
    return {"directory": copy.directory, "variables": variables(copy.sandbox.url, copy.directory)}


def age(shelf: Shelf) -> None:
    """Makes the downloads, and the answers that could not be used, older than any age."""
    for feed in FEEDS:
        path = shelf.cache.record_path(feed)
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {"checked_at": "2025-01-01T00:00:00Z"}))
        refusal = shelf.cache.refusal_path(feed)
        if refusal.exists():
            refusal.write_text(json.dumps(json.loads(refusal.read_bytes()) | {"answered_at": "2025-01-01T00:00:00Z"}))


def check_files(copy: Copy) -> int:
    """Whatever stands under its name is a whole document; how many do."""
    found = [copy.cache.path(feed) for feed in FEEDS if copy.cache.path(feed).exists()]
    for path in found:
        json.loads(path.read_bytes())
    return len(found)


EXPECTED = len(DATA.devices) + len(DATA.hearham)


def partials(copy: Copy) -> int:
    try:
        return len(copy.leftovers())
    except FileNotFoundError:
        return 0


MOMENTS: dict[str, Callable[[Copy], bool]] = {
    "the first request": lambda copy: copy.asked() >= 1,
    "a file that is being written": lambda copy: partials(copy) > 0,
    "the first file": lambda copy: copy.cache.path(FEEDS[0]).exists() or copy.cache.path(FEEDS[2]).exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_warming_that_is_killed_leaves_whole_files(copy: Copy, moment: str) -> None:
    with start("warm", "dmr", **where(copy)) as process:
        until(lambda: MOMENTS[moment](copy) or process.poll() is not None)
        process.kill()
        process.communicate()
    check_files(copy)
    for name in copy.leftovers() if copy.cache.directory.exists() else ():
        os.utime(copy.cache.directory / name, (0, 0))
    done = run("warm", "dmr", **where(copy))
    assert done.returncode == 0, done.stderr
    assert check_files(copy) == 4
    assert copy.leftovers() == []
    assert all((found := copy.cache.look_up(feed)) and found.record for feed in FEEDS)


@pytest.mark.parametrize(("kind", "rows"), [("parallel", 1), ("parallel", 9000), ("streaming", 1), ("streaming", 9000)])
def test_a_load_that_is_killed_leaves_a_good_file_and_the_next_completes_it(copy: Copy, kind: str, rows: int) -> None:
    copy.put_all(DATA)
    options = ["--no-download", "--mode", kind, "--chunk", "500", "-c", "500"]
    last_words = dying(copy.path, "SELECT count(*) FROM repeaters WHERE vanished_at IS NULL", rows)
    killed = run("sync", "dmr", *options, before=last_words, **where(copy))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    copy.check_integrity()
    assert rows <= copy.live("repeaters") < EXPECTED
    assert copy.query(
        "SELECT complete FROM _partitions WHERE table_name = 'repeaters' AND partition = 'brandmeister'"
    ) in ([], [(0,)], [(1,)])
    done = run("sync", "dmr", "--no-download", "--mode", kind, "--json", **where(copy))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["complete"] is True
    assert copy.live("repeaters") == EXPECTED
    in_tree = "SELECT count(*) FROM locations JOIN locations_rtree USING (id)"
    assert copy.one("SELECT count(*) FROM locations WHERE lat IS NOT NULL") == copy.one(in_tree)
    assert copy.query("SELECT 1 FROM sqlite_master WHERE name = 'repeaters_by_location_id'")
    copy.check_integrity()


def test_a_load_of_changes_that_is_killed_vanishes_nothing(copy: Copy) -> None:
    copy.put_all(DATA)
    copy.load()
    before = copy.live("repeaters")
    document = copy.document("brandmeister_devices")
    for number, one in enumerate(document):
        one["city"] = f"moved {number}"
    copy.put("brandmeister_devices", document)
    moved = "SELECT count(*) FROM repeaters WHERE city_raw LIKE 'moved %'"
    options = ["--no-download", "--mode", "streaming", "-c", "500"]
    killed = run("sync", "dmr", *options, before=dying(copy.path, moved, 1), **where(copy))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 0 < copy.one(moved) < len(document)
    copy.check_integrity()
    assert copy.live("repeaters") == before
    assert run("sync", "dmr", "--no-download", **where(copy)).returncode == 0
    assert copy.one(moved) == len(document)
    assert copy.live("repeaters") == before


def full(size: int) -> str:
    return f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


def test_a_disk_that_is_full_while_warming_leaves_the_last_good_files(copy: Copy) -> None:
    assert run("warm", "dmr", **where(copy)).returncode == 0
    age(copy)
    before = [copy.bytes_of(feed.name) for feed in FEEDS]
    for source in ("brandmeister", "hearham"):
        copy.sandbox.source(source).change("change", share=0.1)
    done = run("warm", "dmr", before=full(500_000), **where(copy))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be written (File too large); what was there stands" in done.stderr
    assert copy.leftovers() == []
    for feed, (data, record) in zip(FEEDS, before, strict=True):
        if len(data) > 500_000:
            assert copy.bytes_of(feed.name) == (data, record)
    age(copy)
    assert run("warm", "dmr", **where(copy)).returncode == 0


@pytest.mark.parametrize(("kind", "has_data"), [("parallel", True), ("streaming", True), ("parallel", False)])
def test_a_disk_that_is_full_while_loading_is_told_and_leaves_a_good_file(
    copy: Copy, kind: str, has_data: bool
) -> None:
    copy.put_all(DATA)
    before = None
    if has_data:
        copy.load()
        before = copy.rowids()
        document = copy.document("hearham_repeaters")
        copy.put("hearham_repeaters", [one | {"description": "x" * 2000} for one in document])
    size = copy.path.stat().st_size + 300_000 if has_data else 900_000
    done = run("sync", "dmr", "--no-download", "--mode", kind, "--json", before=full(size), **where(copy))
    assert done.returncode in {1, 2}, done.stdout
    assert "Traceback" not in done.stderr
    told = done.stdout + done.stderr
    assert str(copy.path) in told
    assert "full" in told
    assert "run again" in told
    copy.check_integrity()
    if before is not None:
        assert len(copy.rowids()["repeaters"]) == len(before["repeaters"])
        assert copy.live("repeaters") == len(before["repeaters"])
    again = run("sync", "dmr", "--no-download", "--mode", kind, **where(copy))
    assert again.returncode == 0, again.stderr
    assert copy.live("repeaters") == EXPECTED


def test_two_syncs_at_once_are_both_complete(copy: Copy) -> None:
    copy.put_all(DATA)
    arguments = ["sync", "dmr", "--no-download", "--json", "-c", "500"]
    together = {**where(copy), "before": meeting(copy.directory)}
    with start(*arguments, **together) as first, start(*arguments, **together) as second:
        for process in (first, second):
            done = finished(process)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["complete"] is True
    assert met(copy.directory) == 2
    assert copy.live("repeaters") == EXPECTED
    copy.check_integrity()


def test_two_warmings_at_once_leave_whole_files(copy: Copy) -> None:
    # each has a download at hand that it is about to put into its place
    together = {**where(copy), "before": meeting(copy.directory, at="bdc_pipeline.sources.dmr.cache:Cache.keep")}
    with start("warm", "dmr", **together) as first, start("warm", "dmr", **together) as second:
        for process in (first, second):
            done = finished(process)
            assert done.returncode == 0, done.stderr
    assert met(copy.directory) == 2
    assert check_files(copy) == 4
    assert copy.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["warm", "sync"])
def test_an_interrupt_while_a_registry_stalls_ends_soon_and_keeps_the_rest(
    copy: Copy, command: str, number: signal.Signals
) -> None:
    copy.sandbox.configure(faults=["stall~seconds=3600@brandmeister device"])
    with start(command, "dmr", **where(copy)) as process:
        until(lambda: all(copy.cache.record_path(feed).exists() for feed in FEEDS[1:]) or process.poll() is not None)
        process.send_signal(number)
        # its attempts would take a minute and a half
        out, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, out + errors
    assert "interrupted while downloading; what had come whole is kept" in out + errors
    assert "Traceback" not in errors
    assert check_files(copy) == 3
    assert copy.leftovers() == []


@pytest.mark.parametrize("fault", ["503", "html", "empty", "cut", "shrunken", "partial", "reset"])
def test_registries_in_trouble_leave_the_last_good_data(tmp_path: Path, fault: str) -> None:
    with copying(tmp_path) as copy:
        assert copy.sync().complete
        before = copy.rowids()
        age(copy)
        copy.sandbox.source("brandmeister").change("change", share=0.01)
        copy.sandbox.source("hearham").change("change", share=0.01)
        copy.sandbox.configure(faults=[f"{fault}@device|repeaters"])
        report = copy.sync()
        assert not report.complete
        failures = {one.unit: one.error for one in report.failures}
        assert set(failures) == {"brandmeister_devices", "hearham_repeaters"}
        assert all("the copy of before stands" in error for error in failures.values())
        assert copy.rowids() == before
        copy.sandbox.configure(faults=[])
        age(copy)
        assert copy.sync().complete
        assert copy.rowids() != before
