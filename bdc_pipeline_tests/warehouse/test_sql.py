"""Names and moments in SQL: quoting, and texts that sort by time."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.warehouse.sql import parse_utc, quoted, utc_text

offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
moments = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29), timezones=offsets)  # noqa: DTZ001


@given(moments, moments)
def test_texts_of_moments_sort_by_time_whatever_their_offset(one: dt.datetime, other: dt.datetime) -> None:
    one, other = sorted((one.replace(microsecond=0), other.replace(microsecond=0)))
    assert (utc_text(one) < utc_text(other)) == (one < other)
    assert (utc_text(one) == utc_text(other)) == (one == other)


@given(moments)
def test_a_moment_survives_its_text_to_the_second(moment: dt.datetime) -> None:
    text = utc_text(moment)
    assert len(text) == 20
    assert parse_utc(text) == moment.replace(microsecond=0)


def test_a_moment_without_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^2026-01-31T00:00:00 has no time zone"):
        utc_text(dt.datetime(2026, 1, 31))  # noqa: DTZ001


def test_a_quote_in_an_identifier_is_doubled() -> None:
    assert quoted('a"b') == '"a""b"'
