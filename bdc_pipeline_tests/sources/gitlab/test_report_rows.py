"""Test reports: what cases came to in runs that a retry has replaced is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.sources.gitlab import report_rows
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline_tests.sources.gitlab.syncing import Copy, copying_few_days, errors_of

REPORT = report_rows.test_report((5, 7, "2026-05-31", "now success"), {}, "stored")
SUITE = report_rows.test_suite(REPORT, 0, {"name": "unit"})


def cases_of(*outcomes: tuple[str | None, str]) -> list[r.TestCase]:
    return [
        report_rows.test_case(SUITE, place, {"name": name, "status": status})
        for place, (name, status) in enumerate(outcomes)
    ]


@pytest.mark.parametrize(
    ("stored", "now", "gone"),
    [
        ([], [("a", "success")], []),
        ([("a", "success")], [("a", "success")], []),
        ([("a", "failed"), ("b", "success")], [("a", "success"), ("b", "success")], [("a", "failed", 1)]),
        ([("a", "success")], [("a", "error")], [("a", "success", 1)]),
        # the first run ended early, so that places have moved
        ([("b", "failed")], [("a", "success"), ("b", "success")], [("b", "failed", 1)]),
        # a skipped case tells nothing of itself
        ([("a", "skipped"), ("b", "failed")], [("a", "failed"), ("b", "skipped")], [("b", "failed", 1)]),
        # of several cases of one name it is not known which is which
        ([("a", "success"), ("a", "failed")], [("a", "failed"), ("a", "success")], []),
        ([("a", "failed"), ("a", "failed")], [("a", "success"), ("a", "success")], [("a", "failed", 2)]),
        # the job's report did not come again, or the case was renamed
        ([("a", "failed")], [("c", "success")], [("a", "failed", 1)]),
        ([(None, "failed")], [(None, "success")], [("", "failed", 1)]),
    ],
)
def test_outcomes_that_are_in_the_report_no_more_are_earlier_ones(
    stored: list[tuple[str | None, str]], now: list[tuple[str | None, str]], gone: list[tuple[str, str, int]]
) -> None:
    before = [("unit", None, name, status, "then failed") for name, status in stored]
    found = report_rows.earlier_outcomes(REPORT, before, cases_of(*now))
    assert [(one.name, one.status, one.cases) for one in found] == gone
    for one in found:
        assert (one.pipeline_id, one.project_id, one.day, one.as_of) == (5, 7, "2026-05-31", "then failed")


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    with copying_few_days(tmp_path, projects=1, regular=False) as copy:
        yield copy


def outcomes(copy: Copy) -> dict[int, set[Any]]:
    """By pipeline what GitLab's reports say: suite, class, name, status."""
    found: dict[int, set[Any]] = {}
    for pipeline, *outcome in copy.api.rows("TestCase", ("pipeline_id", "suite", "classname", "name", "status")):
        found.setdefault(pipeline, set()).add(tuple(outcome))
    return found


def test_what_failed_before_a_retry_is_kept_and_makes_the_test_flaky(copy: Copy) -> None:
    made = copy.api.change("run", project=101, status="failed", sha="c0ffee", at="2026-06-01T11:00:00Z")
    [pipeline] = made["pipelines"]
    report = copy.sync_all(logs=False, artifacts=False)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT * FROM earlier_outcomes") == []
    before = outcomes(copy)[pipeline]

    failed = copy.query("SELECT id FROM jobs WHERE pipeline_id = ? AND status = 'failed' AND NOT retried", pipeline)
    for (job,) in failed:
        copy.api.change("retry", job=job, status="success")
    report = copy.sync_new(logs=False, artifacts=False)
    assert report.complete, errors_of(report)
    after = outcomes(copy)[pipeline]

    gone = {one for one in before - after if one[3] != "skipped"}
    assert any(one[3] in ("failed", "error") for one in gone)
    columns = "suite_name, classname, name, status"
    assert set(copy.query(f"SELECT {columns} FROM live_earlier_outcomes WHERE pipeline_id = ?", pipeline)) == gone
    healed = {one[:3] for one in gone if one[3] in ("failed", "error") and (*one[:3], "success") in after}
    assert healed
    flaky = "SELECT suite_name, classname, name FROM flaky_tests WHERE sha = 'c0ffee' AND retried"
    assert set(copy.query(flaky)) >= healed

    # nothing new, also where everything is fetched again
    copy.sync_new(logs=False, artifacts=False, force=True)
    assert copy.one("SELECT count(*) FROM earlier_outcomes WHERE pipeline_id = ?", pipeline) == len(gone)
