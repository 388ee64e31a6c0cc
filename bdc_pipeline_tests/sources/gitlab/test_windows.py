"""What is listed of a project, and what is asked for otherwise: pure decisions with their cases."""

from __future__ import annotations

import datetime as dt

import pytest

from bdc_pipeline.sources.gitlab.client import _changed
from bdc_pipeline.sources.gitlab.windows import Asked, Held, Window, by_keyset, widened, window_of

NOW = dt.datetime(2026, 5, 10, 12, tzinfo=dt.UTC)
DAYS = ["2026-05-08", "2026-05-09", "2026-05-10"]
NOON = "2026-05-10T12:00:00.000Z"


def held(day: str, status: str = "success", *, child: bool = False, at: str = "10:00:00.000") -> Held:
    return Held(1, day, f"{day}T{at}Z", status, detailed=True, child=child)


def window(listed: dict[str, str], stored: dict[int, Held] | None = None, **asked: object) -> Window | None:
    return window_of(1, "a/b", listed, stored or {}, Asked(**{"days": DAYS, "now": NOW, **asked}))  # type: ignore[arg-type]


def test_what_was_never_listed_is_listed_in_full() -> None:
    found = window({})
    assert found is not None
    assert (found.days, found.after, found.before) == (tuple(DAYS), "2026-05-08T00:00:00.000Z", None)
    assert found.full == frozenset(DAYS)
    assert found.own
    assert found.children
    assert not found.probed


def test_an_open_day_goes_on_from_its_last_listing_less_the_overlap() -> None:
    found = window({"2026-05-08": NOON, "2026-05-09": NOON, "2026-05-10": "2026-05-10T11:00:00.000Z"})
    assert found is not None
    assert (found.days, found.after) == (("2026-05-10",), "2026-05-10T10:50:00.000Z")
    assert not found.full
    assert found.probed
    assert not found.own


def test_a_day_listed_too_soon_after_its_end_is_open() -> None:
    found = window(
        {"2026-05-08": NOON, "2026-05-09": "2026-05-10T00:05:00.000Z", "2026-05-10": "2026-05-10T00:05:00.000Z"}
    )
    assert found is not None
    assert found.days == ("2026-05-09", "2026-05-10")
    assert found.after == "2026-05-09T23:55:00.000Z"


@pytest.mark.parametrize("first", ["2026-05-09", "2026-05-10"])
def test_just_after_midnight_a_day_that_was_listed_is_not_compared_again(first: str) -> None:
    now = dt.datetime(2026, 5, 10, 0, 7, tzinfo=dt.UTC)
    days = [day for day in DAYS if day >= first]
    listed = dict.fromkeys(DAYS, "2026-05-10T00:05:00.000Z")
    found = window(listed, days=days, now=now)
    assert found is not None
    assert (found.full, found.probed, found.own, found.children) == (frozenset(), True, False, False)
    # the new day was not listed yet
    found = window({day: at for day, at in listed.items() if day < "2026-05-10"}, days=days, now=now)
    assert found is not None
    assert (found.full, found.probed) == ({"2026-05-10"}, False)


def test_closed_days_are_not_listed_unless_they_are_to_be_in_full() -> None:
    closed = {"2026-05-08": NOON, "2026-05-09": NOON}
    assert window(closed, days=DAYS[:2]) is None
    found = window(closed, days=DAYS[:2], in_full={"2026-05-08"})
    assert found is not None
    assert (found.after, found.before) == ("2026-05-08T00:00:00.000Z", "2026-05-10T00:00:00.000Z")
    assert found.full == set(DAYS[:2])


def test_what_is_not_over_comes_with_a_wider_list_or_by_its_id() -> None:
    listed = dict.fromkeys(DAYS, NOON)
    found = window(listed, {7: held("2026-05-02", "running")})
    assert found is not None
    assert (found.after, found.one_by_one, found.own) == ("2026-05-02T10:00:00.000Z", (), True)
    assert not found.full
    many = {n: held("2026-05-05") for n in range(100, 500)}
    found = window(listed, {7: held("2026-05-02", "running"), **many})
    assert found is not None
    assert (found.one_by_one, found.own) == ((7,), False)


@pytest.mark.parametrize(
    ("status", "day", "asked"),
    [
        ("manual", "2026-05-01", True),
        ("manual", "2026-03-01", False),
        ("created", "2026-03-01", True),
        ("odd", "2026-03-01", True),
    ],
)
def test_what_waits_for_somebody_is_forgotten_after_a_month(status: str, day: str, asked: bool) -> None:
    found = window(dict.fromkeys(DAYS, NOON), {7: held(day, status)})
    assert found is not None
    assert found.own is asked


def test_a_child_that_is_not_over_is_in_the_other_list() -> None:
    found = window(dict.fromkeys(DAYS, NOON), {7: held("2026-05-10", "running", child=True)})
    assert found is not None
    assert (found.own, found.children) == (False, True)


def test_widening_takes_the_cheapest() -> None:
    assert widened(NOON, {}, {}) == (NOON, frozenset())
    waiting = {1: held("2026-05-01", "running"), 2: held("2026-05-09", "running")}
    stored = {**waiting, **{n: held("2026-05-05") for n in range(10, 260)}}
    assert widened(NOON, stored, waiting) == ("2026-05-09T10:00:00.000Z", frozenset({1}))
    assert widened(
        NOON,
        {1: Held(1, "1970-01-01", None, "running", detailed=True)},
        {1: Held(1, "1970-01-01", None, "running", detailed=True)},
    )[1] == {1}


@pytest.mark.parametrize(
    ("pipelines", "jobs", "workers", "by_list"),
    [
        ({1: 45}, 20, 20, set()),  # ten pages in a row take longer than three rounds
        (dict.fromkeys(range(50), 45), 20, 20, set(range(50))),
        ({1: 45}, 20, 1, {1}),
        ({1: 63, 2: 3, 3: 3}, 10, 2, {1, 2, 3}),
        ({1: 3}, 100, 1, set()),
        ({}, 10, 20, set()),
    ],
)
def test_the_list_by_keyset_where_it_saves_requests_and_keeps_slots_busy(
    pipelines: dict[int, int], jobs: float, workers: int, by_list: set[int]
) -> None:
    assert by_keyset(pipelines, jobs, workers) == by_list


def test_graphql_is_believed_only_where_it_says_that_nothing_changed() -> None:
    def node(number: int, **lists: object) -> dict[str, object]:
        return {"id": f"gid://gitlab/Project/{number}", **lists}

    none, some = {"nodes": []}, {"nodes": [{"id": "gid://gitlab/Ci::Pipeline/1"}]}
    nodes = [
        node(1, own=none, children=none, ever=some),
        node(2, own=none, children=some, ever=some),
        node(3, own=None, children=none, ever=some),
        # what a token sees that may not read the project's CI any more, and what it sees of a project that never ran any
        node(5, own=none, children=none, ever=none),
        node(6, own=none, children=none, ever=none),
    ]
    having = {1, 2, 3, 4, 5}
    assert _changed({"data": {"projects": {"nodes": nodes}}}, [1, 2, 3, 4, 5, 6], having) == {2, 3, 4, 5}
    assert _changed({"data": {"projects": None}}, [1], having) is None
    assert _changed({"errors": [{"message": "Query has complexity of 300"}]}, [1], having) is None
    assert _changed({"data": {"projects": {"nodes": []}}, "errors": []}, [1], having) == {1}
