"""How what is stale or incomplete is told: each reason once, days as ranges, addresses as paths."""

import datetime as dt

import pytest

from bdc_pipeline.operations.wording import by_reason, counted, shortened, told_age

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (9 * DAY + HOUR, "9 days"),
        (DAY, "1 day"),
        (HOUR * 23.9, "23 hours"),
        (HOUR, "1 hour"),
        (HOUR / 20, "3 minutes"),
        (dt.timedelta(seconds=5), "5 s"),
        (None, "at a time that is yet to come"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(age: dt.timedelta | None, text: str) -> None:
    assert told_age(age) == text


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["2026-05-30", "2026-05-31", "2026-06-01"], "3 days (2026-05-30 to 2026-06-01): HTTP 403"),
        (["2026-06-01", "2026-05-31"], "2 days (2026-05-31 to 2026-06-01): HTTP 403"),
        (["2026-05-10", "2026-05-12", "2026-05-13"], "3 days (2026-05-10, 2026-05-12 to 2026-05-13): HTTP 403"),
        ([f"2026-05-{day:02}" for day in range(1, 15, 2)], "7 days (2026-05-01, 2026-05-03, 2026-05-05, 2026-05-07, 2026-05-09, and 2 more): HTTP 403"),
        (["0101 København", "0147 Frederiksberg"], "2 partitions (0101 København, 0147 Frederiksberg): HTTP 403"),
        (["0147 Frederiksberg"], "0147 Frederiksberg (HTTP 403)"),
        ([""], "(HTTP 403)"),
    ],
)  # fmt: skip
def test_partitions_that_miss_the_same_say_it_once(names: list[str], told: str) -> None:
    assert by_reason((name, "HTTP 403") for name in names) == [told]


def test_each_reason_is_told_with_its_partitions_in_the_order_of_the_first() -> None:
    found = by_reason([("0-9", "HTTP 500"), ("10-19", "empty"), ("20-29", "HTTP 500")])
    assert found == ["2 partitions (0-9, 20-29): HTTP 500", "10-19 (empty)"]


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        (
            "GET http://127.0.0.1:8/gitlab/api/v4/projects/1/jobs?per_page=100&sort=asc failed: 403.",
            "GET /gitlab/api/v4/projects/1/jobs failed: 403",
        ),
        ("GET https://hearham.com failed", "GET / failed"),
        (
            "the server answered 503 (<!DOCTYPE html> <title>Away (503)</title><body>x</body></html>).",
            "the server answered 503",
        ),
        ('the server answered 403 ({"message":"403 Forbidden"}).', 'the server answered 403 ({"message":"403 Forbidden"})'),
        ("page 2: HTTP 502", "page 2: HTTP 502"),
    ],
)  # fmt: skip
def test_a_reason_names_the_path_of_an_address_and_holds_no_page(reason: str, short: str) -> None:
    assert shortened(reason) == short


def test_more_than_a_few_are_counted() -> None:
    found = [str(number) for number in range(8)]
    assert counted(found, 30, 36, single=False) == "30 of 36: 0, 1, 2, 3, 4, and 3 more"
    assert counted(found, 30, 36, single=False, between="; ") == "30 of 36: 0; 1; 2; 3; 4; and 3 more"
    assert counted(["8 days"], 1, 1, single=True) == "8 days"
    assert counted([], 0, 1, single=True) == ""
