"""Logical clocks and times of edits, case by case."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.share.clock import corrected, edited_at, observe, parse_time, skew, tick
from bdc_pipeline.share.model import Stamp

MS = 1_700_000_000_000


@given(last=st.builds(Stamp, st.integers(0, MS), st.integers(0, 9)), now=st.integers(0, 2 * MS))
def test_a_tick_is_always_later(last: Stamp, now: int) -> None:
    assert tick(last, now, "A") > last


@given(last=st.builds(Stamp, st.integers(0, MS), st.integers(0, 9)), seen=st.builds(Stamp, st.integers(0, 9 * MS)))
def test_what_was_seen_is_in_the_past_and_the_future_is_not_believed(last: Stamp, seen: Stamp) -> None:
    after = observe(last, seen, MS)
    assert (after.millis, after.counter) >= (last.millis, last.counter)
    assert after.millis <= MS
    if seen.millis <= MS:
        assert tick(after, 0, "A") > Stamp(seen.millis, seen.counter, "")


@pytest.mark.parametrize(
    ("stated", "before", "expected"),
    [
        (None, None, MS + 5),
        (MS - 1000, None, MS - 995),
        (MS - 1000, MS - 1000, MS + 5),
        (MS + 90_000, None, MS + 10),
        ("not a time", None, MS + 5),
    ],
)
def test_an_edit_is_as_old_as_its_column_says_where_the_edit_set_it(stated: Any, before: Any, expected: int) -> None:
    assert edited_at(stated=stated, stated_before=before, captured=MS, offset=5, now=MS + 10) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2023-11-14T22:13:20Z", MS),
        ("2023-11-14 22:13:20", MS),
        ("2023-11-15T00:13:20+02:00", MS),
        ("2023-11-14 22:13:20.250", MS + 250),
        (MS, MS),
        (MS // 1000, MS),
        (MS / 1000 + 0.5, MS + 500),
        ("1700000000", MS),
        (None, None),
        (b"x", None),
        ("", None),
        (-5, None),
        (float("inf"), None),
    ],
)
def test_times_as_programs_write_them(value: Any, expected: int | None) -> None:
    assert parse_time(value) == expected


def test_a_time_is_corrected_and_never_later_than_now() -> None:
    assert corrected(MS, -500, MS) == MS - 500
    assert corrected(MS, 500, MS) == MS


def test_a_clock_that_is_far_off_is_told_about() -> None:
    assert skew(59_000) is None
    assert "3,600 s ahead of the share's" in (skew(-3_600_000) or "")
    assert "behind" in (skew(61_000) or "")
