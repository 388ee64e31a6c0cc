"""The raw downloads on disk: whole or not at all, each with a record that fits it or with none."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.sources.dmr import cache as cache_module
from bdc_pipeline.sources.dmr.cache import ABANDONED_SECONDS, Cache, CacheError, Record
from bdc_pipeline.sources.dmr.registries import TGIF_TALKGROUPS as FEED
from bdc_pipeline.warehouse.documents import hash_of
from bdc_pipeline_tests.sources.dmr.syncing import NOON

OLD, NEW = b'[{"id": "1"}]', b'[{"id": "1"}, {"id": "2"}]'


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def record_of(cache: Cache, data: bytes, **values: Any) -> Record:
    path = cache.directory.parent / "measured"
    path.write_bytes(data)
    fields = {"url": "https://example.com", "fetched_at": "2026-03-01T11:00:00Z", "checked_at": "2026-03-01T11:30:00Z"}
    return Record(**fields | {"bytes": len(data), "records": 1, "hash": hash_of(path), "sha256": "0"} | values)


def keep(cache: Cache, data: bytes, **values: Any) -> Record:
    record = record_of(cache, data, **values)
    with cache.incoming(FEED) as incoming:
        incoming.begin()
        incoming.write(data)
        cache.keep(FEED, incoming, record)
    return record


def files(cache: Cache) -> list[str]:
    return sorted(path.name for path in cache.directory.iterdir())


def test_what_is_kept_is_found_with_its_record(cache: Cache) -> None:
    assert cache.look_up(FEED) is None
    record = keep(cache, OLD, etag='"x"')
    found = cache.look_up(FEED)
    assert found is not None
    assert found.record == record
    assert found.path.read_bytes() == OLD
    assert files(cache) == ["tgif_talkgroups.json", "tgif_talkgroups.origin.json"]


def test_age_counts_from_when_the_registry_last_vouched_for_it(cache: Cache) -> None:
    keep(cache, OLD)
    found = cache.look_up(FEED)
    assert found is not None
    assert found.age(NOON) == dt.timedelta(minutes=30)
    assert found.age(NOON - dt.timedelta(minutes=30)) == dt.timedelta(0)
    assert found.age(NOON - dt.timedelta(minutes=31)) is None, "a time that is yet to come tells no age"


def test_the_times_of_the_file_tell_nothing(cache: Cache) -> None:
    keep(cache, OLD)
    os.utime(cache.path(FEED), (0, 0))
    found = cache.look_up(FEED)
    assert found is not None
    assert found.age(NOON) == dt.timedelta(minutes=30)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"null", b"[]", b'{"url": 5}', b"\xff\xfe", b'{"url": "https://example.com"}'],
)
def test_a_damaged_record_is_none(cache: Cache, damage: bytes) -> None:
    keep(cache, OLD)
    cache.record_path(FEED).write_bytes(damage)
    found = cache.look_up(FEED)
    assert found is not None
    assert (found.record, found.age(NOON), found.count()) == (None, None, 1)


@pytest.mark.parametrize("column", ["fetched_at", "checked_at"])
@pytest.mark.parametrize("text", ["", "yesterday", "2026-03-01", "2026-13-01T00:00:00Z"])
def test_a_record_with_a_time_that_is_none_is_none(cache: Cache, column: str, text: str) -> None:
    keep(cache, OLD, **{column: text})
    found = cache.look_up(FEED)
    assert found is not None
    assert found.record is None


@pytest.mark.parametrize("other", [OLD[:-1], OLD + b" ", OLD.replace(b"1", b"7"), b""])
def test_a_record_that_does_not_fit_its_file_is_none(cache: Cache, other: bytes) -> None:
    keep(cache, OLD)
    cache.path(FEED).write_bytes(other)
    found = cache.look_up(FEED)
    assert found is not None
    assert found.record is None


def test_a_record_without_a_file_is_nothing(cache: Cache) -> None:
    keep(cache, OLD)
    cache.path(FEED).unlink()
    assert cache.look_up(FEED) is None


def test_a_directory_in_place_of_the_file_is_nothing(cache: Cache) -> None:
    cache.path(FEED).mkdir(parents=True)
    assert cache.look_up(FEED) is None


@pytest.mark.parametrize(("data", "count"), [(NEW, 2), (NEW[:-5], 1), (b"", 0), (b"<html>", 0)])
def test_records_of_a_file_that_nothing_tells_of_are_counted(cache: Cache, data: bytes, count: int) -> None:
    keep(cache, data)
    cache.record_path(FEED).unlink()
    found = cache.look_up(FEED)
    assert found is not None
    assert found.count() == count


# -- what goes wrong -------------------------------------------------------------------------------------------


def test_a_file_in_place_of_the_directory_is_told(cache: Cache) -> None:
    cache.directory.write_text("not a directory")
    with pytest.raises(CacheError, match=r"cache cannot be written .*; what was there stands.*BDC_CACHE_DIR"):
        cache.make()
    with pytest.raises(CacheError):
        keep(cache, OLD)
    assert cache.look_up(FEED) is None


@pytest.mark.parametrize("failing", ["tgif_talkgroups.json", "tgif_talkgroups.origin.json"])
def test_a_disk_that_fills_with_either_file_changes_neither(
    cache: Cache, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, OLD)
    before = [(path.name, path.read_bytes()) for path in sorted(cache.directory.iterdir())]
    sync = os.fsync

    def full(descriptor: int) -> None:
        if failing in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(cache_module.os, "fsync", full)
    with pytest.raises(CacheError, match=rf"{failing} cannot be written \(No space left on device\); what was there"):
        keep(cache, NEW)
    assert [(path.name, path.read_bytes()) for path in sorted(cache.directory.iterdir())] == before


def test_a_target_that_cannot_be_replaced_leaves_no_leftovers(cache: Cache) -> None:
    (cache.path(FEED) / "held").mkdir(parents=True)
    with pytest.raises(CacheError):
        keep(cache, NEW)
    assert files(cache) == ["tgif_talkgroups.json"]


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(cache: Cache) -> None:
    keep(cache, OLD)
    old, young = (cache.directory / f".tgif_talkgroups.json.{name}.partial" for name in ("old", "young"))
    other = cache.directory / ".kept"
    for path in (old, young, other):
        path.write_bytes(b"[")
        os.utime(path, (0, 0))
    now = old.stat().st_ctime
    os.utime(young, (now, now - ABANDONED_SECONDS / 2))
    cache.make()
    assert not old.exists()
    assert young.exists()
    assert other.exists()
    assert cache.path(FEED).read_bytes() == OLD
