"""The views, on rows made by hand: what each says of a few jobs, pipelines and tests that can be counted on fingers."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.warehouse.store import Store

GONE = "2026-07-01T00:00:00Z"

Row = tuple[Any, ...]


class File:
    """A file of tables that are filled column by column."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers = itertools.count(1)
        self.add("projects", id=7, path="group/app", default_branch="main", topics="[]")

    def add(self, table: str, **columns: Any) -> int:
        """Adds a row; what is not named has a plain value."""
        given = {"id": next(self._numbers), "last_updated": GONE, **columns}
        names = ", ".join(given)
        marks = ", ".join("?" * len(given))
        self._store.connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(given.values()))
        return int(given["id"]) if "id" in given else 0

    def pipeline(self, **columns: Any) -> int:
        plain = {
            "project_id": 7,
            "day": "2026-05-31",
            "sha": "c0ffee",
            "detailed": 1,
            "ref": "main",
            "status": "success",
        }
        return self.add("_pipelines", **{**plain, "created_at": "2026-05-31T10:00:00.000Z", **columns})

    def job(self, **columns: Any) -> int:
        plain = {
            "pipeline_id": 1,
            "project_id": 7,
            "day": "2026-05-31",
            "name": "unit",
            "stage": "test",
            "status": "success",
            "started_at": "2026-05-31T09:00:00Z",
        }
        return self.add(
            "jobs", **{**plain, "retried": 0, "tags": "[]", "finished_at": "2026-05-31T10:00:00Z", **columns}
        )

    def cases(self, pipeline: int, *statuses: str, name: str | None = "adds", gone: str | None = None) -> None:
        """Cases of one name in one suite."""
        for status in statuses:
            of = {"pipeline_id": pipeline, "suite": 0, "position": next(self._numbers), "project_id": 7}
            names = "pipeline_id, suite, position, project_id, day, suite_name, classname, name, status, vanished_at, last_updated"
            values = (*of.values(), "2026-05-31", "unit", None, name, status, gone, GONE)
            self.execute(f"INSERT INTO test_cases ({names}) VALUES ({', '.join('?' * len(values))})", *values)

    def earlier(self, pipeline: int, status: str, name: str = "adds", cases: int = 1) -> None:
        """An outcome that a retry has replaced."""
        values = (pipeline, "unit", "", name, status, 7, "2026-05-31", cases, "then failed", GONE, None, None)
        self.execute(f"INSERT INTO earlier_outcomes VALUES ({', '.join('?' * len(values))})", *values)

    def execute(self, sql: str, *values: Any) -> list[Row]:
        return self._store.connection.execute(sql, values).fetchall()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    with Store(tmp_path / "gitlab.db", t.SCHEMA) as store:
        yield File(store)


# -- flaky tests -----------------------------------------------------------------------------------------------

FLAKY = "SELECT project, sha, suite_name, classname, name, passed, failed, retried, pipelines FROM flaky_tests"


def test_a_test_that_passed_and_failed_for_a_commit_in_two_pipelines_is_flaky(file: File) -> None:
    for status in ("failed", "success", "error", "skipped"):
        file.cases(file.pipeline(), status)
        file.cases(file.pipeline(sha="another"), "success", name="other")
    assert file.execute(FLAKY) == [("group/app", "c0ffee", "unit", "", "adds", 1, 2, 0, 3)]


def test_a_test_that_a_retry_has_healed_is_flaky(file: File) -> None:
    pipeline = file.pipeline()
    file.cases(pipeline, "success")
    file.earlier(pipeline, "failed")
    file.cases(pipeline, "success", name="steady")
    assert file.execute(FLAKY) == [("group/app", "c0ffee", "unit", "", "adds", 1, 1, 1, 1)]


def test_a_test_without_a_name_that_a_retry_has_healed_is_flaky(file: File) -> None:
    pipeline = file.pipeline()
    file.cases(pipeline, "success", name=None)
    file.earlier(pipeline, "failed", name="")
    assert [row[4:7] for row in file.execute(FLAKY)] == [("", 1, 1)]


def test_two_tests_of_one_name_one_of_which_always_fails_are_not_flaky(file: File) -> None:
    for _ in range(3):
        file.cases(file.pipeline(), "failed", "success")
    file.cases(file.pipeline(), "skipped")
    assert file.execute(FLAKY) == []
    file.cases(file.pipeline(), "success", "success")
    assert [row[5:7] for row in file.execute(FLAKY)] == [(5, 3)]


def test_two_children_of_different_bridges_are_different_runs_of_the_tests_of_a_name(file: File) -> None:
    for name, outcome in (("child: [arm]", "failed"), ("child: [x86]", "success")):
        for _ in range(2):
            parent, child = file.pipeline(), file.pipeline(source="parent_pipeline")
            file.add("bridges", pipeline_id=parent, project_id=7, day="", name=name, downstream_pipeline_id=child)
            file.cases(child, outcome)
    assert file.execute(FLAKY) == []
    file.cases(child, "failed", name="other")
    file.earlier(child, "success", name="other")
    assert file.execute("SELECT bridge, name FROM flaky_tests") == [("child: [x86]", "other")]


def test_a_test_that_fails_for_one_commit_and_passes_for_the_next_is_not_flaky(file: File) -> None:
    file.cases(file.pipeline(sha="broken"), "failed")
    file.cases(file.pipeline(sha="mended"), "success")
    assert file.execute(FLAKY) == []


def test_cases_count_when_their_pipeline_was_deleted_and_not_when_they_were_replaced(file: File) -> None:
    file.cases(file.pipeline(), "failed")
    deleted = file.pipeline(vanished_at=GONE)
    file.cases(deleted, "failed", gone="2026-06-01T00:00:00Z")
    file.cases(file.pipeline(), "success", gone="2026-06-01T00:00:00Z")
    assert file.execute(FLAKY) == []
    file.cases(deleted, "success", gone=GONE)
    assert [row[5:] for row in file.execute(FLAKY)] == [(1, 1, 0, 2)]


# -- jobs ------------------------------------------------------------------------------------------------------


def test_half_of_the_runs_take_no_longer_than_p50_and_nineteen_of_twenty_no_longer_than_p95(file: File) -> None:
    for seconds in range(1, 41):
        file.job(duration=float(seconds))
    file.job(duration=500.0, status="canceled")
    file.job(duration=None)
    file.job(name="lint", duration=3.0, status="failed")
    found = file.execute(
        "SELECT name, runs, p50_seconds, p95_seconds, longest_seconds, minutes FROM slowest_jobs ORDER BY name"
    )
    assert found == [("lint", 1, 3.0, 3.0, 3.0, 0.1), ("unit", 40, 20.0, 38.0, 40.0, 13.7)]


@given(durations=st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_percentiles_are_the_smallest_values_that_such_a_share_does_not_exceed(durations: list[int]) -> None:
    with Store(Path(":memory:"), t.SCHEMA) as store:
        file = File(store)
        for seconds in durations:
            file.job(duration=float(seconds))
        [found] = file.execute("SELECT p50_seconds, p95_seconds FROM slowest_jobs")
    for value, share in zip(found, (50, 95), strict=True):
        reached = [
            one for one in sorted(set(durations)) if 100 * sum(d <= one for d in durations) >= share * len(durations)
        ]
        assert value == reached[0]


def test_jobs_wait_by_each_tag_that_they_ask_for(file: File) -> None:
    file.job(tags='["linux", "large"]', queued_duration=4.0)
    file.job(tags='["linux"]', queued_duration=1.0)
    file.job(queued_duration=2.0)
    file.job(tags='["linux"]', queued_duration=None)
    file.job(tags='["linux"]', queued_duration=1_728_000.0, started_at=None, status="canceled")
    found = file.execute(
        "SELECT tag, jobs, p50_seconds, p95_seconds, average_seconds FROM queue_time_by_tag ORDER BY tag"
    )
    assert found == [("(none)", 1, 2.0, 2.0, 2.0), ("large", 1, 4.0, 4.0, 4.0), ("linux", 2, 1.0, 4.0, 2.5)]


def test_failures_are_counted_by_reason_and_week(file: File) -> None:
    for reason in ("script_failure", "script_failure", None):
        file.job(status="failed", failure_reason=reason, finished_at="2026-05-31T23:59:59.999Z")
    file.job(status="failed", failure_reason="script_failure", finished_at="2026-06-01T00:00:00.000Z", project_id=8)
    file.job()
    found = file.execute("SELECT week, failure_reason, jobs, projects FROM failure_reasons_by_week ORDER BY 1, 2")
    assert found == [
        ("2026-W22", "(not told)", 1, 1),
        ("2026-W22", "script_failure", 2, 1),
        ("2026-W23", "script_failure", 1, 1),
    ]


@given(st.dates(dt.date(2000, 1, 1), dt.date(2060, 1, 1)))
def test_weeks_are_those_of_iso_8601(day: dt.date) -> None:
    with Store(Path(":memory:"), t.SCHEMA) as store:
        file = File(store)
        file.job(status="failed", finished_at=f"{day}T23:59:59.999Z")
        year, week, _ = day.isocalendar()
        assert file.execute("SELECT week FROM failure_reasons_by_week") == [(f"{year}-W{week:02d}",)]


def test_a_failed_job_is_told_with_the_run_that_came_next(file: File) -> None:
    first = file.job(status="failed", retried=1, duration=5.0, failure_reason="script_failure")
    file.job(stage="deploy")  # another job of that name
    second = file.job(status="failed", retried=1, duration=6.0)
    third = file.job()
    found = file.execute(
        "SELECT failed_job_id, later_job_id, later_status, wasted_seconds FROM retried_jobs ORDER BY 1"
    )
    assert found == [(first, second, "failed", 5.0), (second, third, "success", 6.0)]


def test_minutes_are_added_up_by_month_with_those_that_were_for_nothing(file: File) -> None:
    file.job(duration=60.0)
    file.job(duration=120.0, status="failed", retried=1)
    file.job(duration=30.0, status="failed")
    file.job(duration=6.0, finished_at="2026-06-01T00:00:00Z")
    found = file.execute("SELECT project, month, jobs, minutes, retried_minutes, failed_minutes FROM compute_minutes")
    assert found == [("group/app", "2026-05", 3, 3.5, 2.0, 2.5), ("group/app", "2026-06", 1, 0.1, 0.0, 0.0)]


def test_sections_of_logs_are_added_up_by_job(file: File) -> None:
    for seconds in ("4", "8", "null"):
        job = file.job()
        sections = f'[{{"name": "step_script", "start": 0, "seconds": {seconds}}}]'
        file.add(
            "job_logs", id=job, pipeline_id=1, project_id=7, day="", state="complete", text_cut=0, sections=sections
        )
    found = file.execute(
        "SELECT project, job_name, section, runs, average_seconds, longest_seconds FROM section_seconds"
    )
    assert found == [("group/app", "unit", "step_script", 2, 6.0, 8)]


# -- pipelines -------------------------------------------------------------------------------------------------


def test_who_broke_the_default_branch_is_the_first_failure_after_a_success(file: File) -> None:
    file.pipeline(user_username="ann")
    file.pipeline(status="running", user_username="bob")
    file.pipeline(status="failed", ref="feature", user_username="cid")
    file.pipeline(status="failed", source="parent_pipeline", user_username="dan")
    file.pipeline(status="failed", tag=1, user_username="eve")  # a tag by the branch's name
    broken = file.pipeline(status="failed", user_username="fay")
    for name, columns in {
        "unit": {},
        "lint": {"allow_failure": 1},
        "flaky": {"retried": 1},
        "fine": {"status": "success"},
    }.items():
        file.job(**{"pipeline_id": broken, "name": name, "status": "failed", **columns})
    bridge = {"project_id": 7, "day": "", "status": "failed"}
    file.add("bridges", pipeline_id=broken, name="deploy", retried=0, **bridge)
    file.add("bridges", pipeline_id=broken, name="deploy early", retried=1, **bridge)
    file.pipeline(status="failed", user_username="gus")
    found = file.execute("SELECT pipeline_id, user_username, failed_jobs FROM broken_default_branch")
    assert [row[:2] for row in found] == [(broken, "fay")]
    assert sorted(found[0][2].split(", ")) == ["deploy", "unit"]


def test_coverage_is_compared_with_the_day_before_that_has_any(file: File) -> None:
    for day, coverage in (("01", 50.0), ("01", 60.0), ("02", None), ("04", 57.5)):
        file.pipeline(created_at=f"2026-05-{day}T10:00:00.000Z", coverage=coverage)
    file.pipeline(created_at="2026-05-04T10:00:00.000Z", coverage=1.0, tag=1)
    found = file.execute("SELECT project, ref, day, coverage, change FROM coverage_trend ORDER BY day")
    assert found == [
        ("group/app", "main", "2026-05-01", 55.0, None),
        ("group/app", "main", "2026-05-04", 57.5, 2.5),
    ]


def test_a_pipeline_that_a_bridge_has_started_has_a_parent(file: File) -> None:
    parent, child = file.pipeline(), file.pipeline(source="parent_pipeline")
    file.add("bridges", pipeline_id=parent, project_id=7, day="", downstream_pipeline_id=child)
    assert dict(file.execute("SELECT id, parent_id FROM pipelines")) == {parent: None, child: parent}
