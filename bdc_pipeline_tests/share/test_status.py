"""The light and its sentence, the waits between syncs, and what the page shows: cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.share.background import next_wait
from bdc_pipeline.share.cycle import last_common, pause
from bdc_pipeline.share.model import Position
from bdc_pipeline.share.page import facts
from bdc_pipeline.share.status import (
    Light,
    Noted,
    Status,
    Sync,
    ago,
    light_of,
    note,
    read_noted,
    sentence_of,
    size,
)


@pytest.mark.parametrize(
    ("last", "pending", "expected"),
    [
        (None, 0, Light.PENDING),
        (None, 3, Light.PENDING),
        (Light.SUCCESS, 0, Light.SUCCESS),
        (Light.SUCCESS, 1, Light.PENDING),
        (Light.PENDING, 0, Light.SUCCESS),
        (Light.PENDING, 2, Light.PENDING),
        (Light.OFFLINE, 0, Light.OFFLINE),
        (Light.OFFLINE, 2, Light.OFFLINE),
        (Light.FAILED, 2, Light.FAILED),
    ],
)
def test_the_light_is_how_the_last_sync_ended_unless_something_was_written_since(
    last: Light | None, pending: int, expected: Light
) -> None:
    assert light_of(last, pending) is expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((Light.SUCCESS, 0, 0), "Everything written here is on the share."),
        ((Light.PENDING, 1, 0), "1 write waits for the next sync."),
        ((Light.PENDING, 2000, 1), "2,000 writes wait for the next sync. 1 conflict to decide."),
        ((Light.OFFLINE, 2, 0, "The share is gone."), "The share is gone. 2 writes wait for the next sync."),
        ((Light.FAILED, 0, 2, "It broke."), "It broke. 2 conflicts to decide."),
    ],
)
def test_the_sentence_tells_what_waits(arguments: Any, expected: str) -> None:
    assert sentence_of(*arguments) == expected


@pytest.mark.parametrize(
    ("light", "failures", "lot", "expected"),
    [
        (Light.SUCCESS, 0, 0.0, 30.0),
        (Light.SUCCESS, 0, 1.0, 33.0),
        (Light.SUCCESS, 0, -1.0, 27.0),
        (Light.PENDING, 0, 0.0, 1.0),
        (Light.OFFLINE, 1, 0.0, 1.0),
        (Light.OFFLINE, 3, 0.0, 4.0),
        (Light.FAILED, 30, 0.0, 30.0),
    ],
)
def test_a_share_that_is_away_is_tried_soon_and_then_less_often(
    light: Light, failures: int, lot: float, expected: float
) -> None:
    assert next_wait(light, 30.0, failures, lot) == pytest.approx(expected)


def test_who_was_not_first_waits_longer_each_time_up_to_a_second() -> None:
    assert [pause(attempt, 1.0) for attempt in (1, 2, 3, 10)] == [0.05, 0.1, 0.2, 1.0]
    assert pause(10, 0.0) == 0


@pytest.mark.parametrize("common", [None, *range(5, 13)])
def test_the_last_segment_that_cache_and_log_both_have_is_found(common: int | None) -> None:
    trail = {number: f"ours {number}".encode() for number in range(5, 13)}
    asked = []

    def position_at(sequence: int) -> Position | None:
        asked.append(sequence)
        if sequence > 10 and common is not None and common < 10:
            return None  # the other log is shorter
        ours = common is not None and sequence <= common
        return Position(sequence, trail[sequence] if ours else b"theirs")

    found = last_common(trail, position_at)
    assert found == (None if common is None else Position(common, trail[common]))
    assert len(asked) <= 4
    assert last_common({}, position_at) is None


def test_what_is_noted_is_read_by_others_and_losing_it_loses_nothing(tmp_path: Path) -> None:
    assert read_noted(tmp_path) == Noted()
    note(tmp_path, light=Light.SUCCESS, head=7)
    note(tmp_path, phase="publishing")
    assert read_noted(tmp_path) == Noted(light=Light.SUCCESS, head=7, phase="publishing")
    (tmp_path / "status.json").write_bytes(b"{half")
    assert read_noted(tmp_path) == Noted()
    assert note(tmp_path / "none", head=3).head == 3


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (3e12, "3,000.0 GB")],
)
def test_sizes_are_for_persons(number: float | None, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (0.5, "just now"),
        (40, "40 s ago"),
        (600, "10 min ago"),
        (9000, "2 h ago"),
        (1e6, "12 days ago"),
    ],
)
def test_ages_are_for_persons(seconds: float | None, text: str) -> None:
    assert ago(seconds) == text


def status(**more: Any) -> Status:
    base = {
        "light": Light.PENDING,
        "sentence": "",
        "mode": "cache",
        "share": "/mnt/app.db",
        "cache": "/c/app.db",
        "user": "x",
    }
    return Status(**{**base, **more})


def test_the_tiles_show_what_waits_and_how_old_the_copy_is() -> None:
    shown = facts.tiles(status(pending=1200, conflicts=2, synced=10_000, lag=3), 50_000)
    assert shown == {
        "pending writes": "1,200",
        "open conflicts": "2",
        "last sync": "40 s ago, 3 segments behind",
        "interval": "30 s",
    }


def test_the_places_tell_both_files_and_how_far_they_are() -> None:
    cache, share = facts.places(status(position=3, head=5, view_lag=2, cache_bytes=1500))
    assert (cache["where"], cache["size"], cache["note"]) == ("/c/app.db", "1.5 kB", "at segment 3 of 5")
    assert (share["where"], share["note"]) == ("/mnt/app.db", "2 segments behind the log")
    assert len(facts.places(status(cache=None, mode="direct"))) == 1


def test_the_plot_has_each_sync_in_time_with_its_duration_rows_and_bytes() -> None:
    syncs = [
        Sync(at=at, milliseconds=at // 10, light=Light.SUCCESS, rows_out=at // 100, bytes_in=at)
        for at in (3000, 1000, 2000)
    ]
    plot = facts.history_plot(syncs)
    by_name = {series["name"]: series["data"] for series in plot["series"]}
    assert [point["value"] for point in by_name["duration"]] == [[1000, 100], [2000, 200], [3000, 300]]
    assert by_name["rows out"] == [[1000, 10], [2000, 20], [3000, 30]]
    assert by_name["bytes in"] == [[1000, 1000], [2000, 2000], [3000, 3000]]
    assert len(plot["grid"]) == len(plot["xAxis"]) == len(plot["yAxis"]) == 3
    assert [row["duration"] for row in facts.history_rows(syncs, 2)] == ["300 ms", "200 ms"]


def test_a_conflict_is_shown_column_by_column_and_says_where_the_sides_differ() -> None:
    base, mine, theirs = {"id": 1, "a": 1}, {"id": 1, "a": 2, "new": b"\x00" * 20}, {"id": 1, "a": 3, "new": None}
    rows = facts.fields(base, mine, theirs)
    assert [(row["column"], row["base"], row["mine"], row["theirs"], row["differs"]) for row in rows] == [
        ("id", "1", "1", "1", False),
        ("a", "1", "2", "3", True),
        ("new", "-", "20 bytes: 00000000000000000000000000000000…", "NULL", True),
    ]
    assert {row["theirs"] for row in facts.fields(base, mine, None)} == {facts.MISSING}
