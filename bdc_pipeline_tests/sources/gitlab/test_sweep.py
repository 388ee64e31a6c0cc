"""Which days that are over are compared once more, and for how many requests: pure decisions with their cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sources.gitlab.sweep import CheckedDay, swept

NAMES = {1: "a/one", 2: "a/two"}


def day(key: str, checked: str = "2026-05-20", *, project: int = 1, own: int = 10, children: int = 0) -> CheckedDay:
    return CheckedDay(project, key, f"{checked}T00:00:00.000Z", own, children)


def test_nothing_is_due_and_nothing_is_listed() -> None:
    assert swept([], NAMES, 10) == ()
    assert swept([day("2026-05-01")], NAMES, 0) == ()


def test_a_list_is_of_whole_days_and_tells_which() -> None:
    [window] = swept([day("2026-05-01", own=3, children=2)], NAMES, 10)
    assert (window.project_id, window.name, window.days) == (1, "a/one", ("2026-05-01",))
    assert (window.after, window.before) == ("2026-05-01T00:00:00.000Z", "2026-05-02T00:00:00.000Z")
    assert (window.full, window.own, window.children, window.probed) == ({"2026-05-01"}, True, True, False)


@pytest.mark.parametrize(
    ("due", "most", "listed"),
    [
        # as many days as fit on a page are one request
        ([day("2026-05-01", own=60), day("2026-05-02", own=40), day("2026-05-05", own=1)], 1, [("01", "02")]),
        ([day("2026-05-01", own=60), day("2026-05-02", own=40), day("2026-05-05", own=1)], 2, [("01", "02"), ("05",)]),
        # those that have waited longest come first, of whatever project
        ([day("2026-05-01"), day("2026-05-09", "2026-05-10", project=2)], 1, [("09",)]),
        # child pipelines are a list of their own
        ([day("2026-05-01", children=1), day("2026-05-02", "2026-05-21", project=2)], 2, [("01",)]),
        # a day of more pages than the limit is compared all the same, alone
        ([day("2026-05-01", own=2000), day("2026-05-02", "2026-05-21", project=2)], 5, [("01",)]),
    ],
)
def test_the_limit_and_the_order(due: list[CheckedDay], most: int, listed: list[tuple[str, ...]]) -> None:
    assert [tuple(key[-2:] for key in window.days) for window in swept(due, NAMES, most)] == listed


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2]), st.integers(1, 28), st.integers(1, 250), st.integers(0, 30)), max_size=25
    ),
    st.integers(1, 12),
)
def test_no_day_is_compared_twice_and_in_the_end_all_are(days: list[tuple[int, int, int, int]], most: int) -> None:
    due = {(p, n): day(f"2026-05-{n:02d}", f"2026-06-{n:02d}", project=p, own=o, children=c) for p, n, o, c in days}
    while due:
        windows = swept(due.values(), NAMES, most)
        covered = [(window.project_id, int(key[-2:])) for window in windows for key in window.days]
        assert covered
        assert len(covered) == len(set(covered))
        for one in covered:
            del due[one]
