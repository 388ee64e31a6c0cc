"""Ways in which something might be lost without a word, each on a real server."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.fetching.answers import Refused
from bdc_pipeline.sources.gitlab import fetch, log_text, plan_units, values
from bdc_pipeline.sources.gitlab.client import GitLabClient, Page, is_gone
from bdc_pipeline_tests.sources.gitlab.syncing import Copy, copying, copying_few_days, errors_of

AT = "2026-06-01T11:00:00Z"
ONLY_PIPELINES = {"logs": False, "tests": False, "artifacts": False}
ONLY_LOGS = {"tests": False, "artifacts": False}
ONLY_ARCHIVES = {"logs": False, "tests": False}


def test_pipelines_that_were_not_tried_come_with_the_next_sync(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ERROR_BUDGET", 0)
    for project in (101, 104, 107):
        copy.api.change("run", project=project, count=12, jobs=1, at=AT)
    broken = max(row[0] for row in copy.api.rows("Pipeline", ["id", "project_id"]) if row[1] == 101)
    copy.sandbox.configure(faults=[f"500@pipeline {broken}$"], latency_ms=5)
    report = copy.sync_all(limits={"attempts": 1}, **ONLY_PIPELINES)
    assert not report.complete
    assert "Not tried" in errors_of(report)
    copy.sandbox.configure(faults=[], latency_ms=0)
    report = copy.sync_all(**ONLY_PIPELINES)
    assert report.complete, errors_of(report)
    assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")


def test_a_stored_pipeline_whose_page_is_malformed_is_a_reject_and_not_gone(copy: Copy) -> None:
    copy.sync_all(**ONLY_PIPELINES)
    pipeline = copy.one("SELECT max(id) FROM pipelines WHERE status = 'success'")
    copy.api.change("touch", pipeline=pipeline)
    copy.api.change("update", entity="Pipeline", id=pipeline, columns={"duration": {"seconds": 3}})
    report = copy.sync_all(days=0, **ONLY_PIPELINES)
    assert not report.complete
    assert report.tables["pipelines"].rejected == 1
    assert copy.query("SELECT id FROM pipelines WHERE vanished_at IS NOT NULL") == []
    assert copy.one("SELECT detailed FROM pipelines WHERE id = ?", pipeline) == 1


def partial_log(copy: Copy) -> int:
    job = max(row[0] for row in copy.api.rows("Trace", ["job_id"]))
    trace = {"file_type": "trace", "size": 10**6, "filename": "job.log", "file_format": None}
    copy.api.change("update", entity="Job", id=job, columns={"artifacts": [trace]})
    copy.sync_all(**ONLY_LOGS)
    assert copy.query("SELECT state, size > 0 FROM job_logs WHERE id = ?", job) == [("partial", 1)]
    return job


@pytest.mark.parametrize("fault", ["shrunken", "404", "403"])
def test_a_stored_log_is_never_replaced_by_none(copy: Copy, fault: str) -> None:
    job = partial_log(copy)
    text = copy.one("SELECT text FROM job_logs WHERE id = ?", job)
    copy.sandbox.configure(faults=[f"{fault}@job {job} trace"])
    copy.sync_all(**ONLY_LOGS)
    assert copy.one("SELECT text FROM job_logs WHERE id = ?", job) == text
    copy.sync_all(force=True, **ONLY_LOGS)
    assert copy.one("SELECT text FROM job_logs WHERE id = ?", job) == text


def test_a_log_that_is_on_its_way_to_the_archive_when_it_is_asked_for_comes_later(copy: Copy) -> None:
    now = dt.datetime.now(dt.UTC)
    [pipeline] = copy.api.change("run", project=101, jobs=1, at=now.isoformat())["pipelines"]
    [job] = [row[0] for row in copy.api.rows("Job", ["id", "pipeline_id"]) if row[1] == pipeline]
    ended = now.isoformat(timespec="milliseconds")
    copy.api.change("update", entity="Job", id=job, columns={"finished_at": ended})
    copy.sandbox.configure(faults=[f"404@job {job} trace"])
    report = copy.sync_new(**ONLY_LOGS)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT state FROM job_logs WHERE id = ?", job) == "partial"
    copy.sandbox.configure(faults=[])
    copy.execute("UPDATE jobs SET finished_at = ? WHERE id = ?", f"{now - dt.timedelta(hours=1):%FT%T}.000Z", job)
    report = copy.sync_new(**ONLY_LOGS)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT state FROM job_logs WHERE id = ?", job) == "complete"


def test_a_smaller_limit_takes_no_stored_log_away(copy: Copy) -> None:
    copy.sync_all(**ONLY_LOGS)
    before = copy.query("SELECT id, sha256 FROM job_logs")
    report = copy.sync_all(force=True, limits={"max_log_mb": 0.0001}, **ONLY_LOGS)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT id, sha256 FROM job_logs") == before


def test_several_pipelines_in_a_project_that_is_not_asked_for_may_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copying(tmp_path, projects=2, pipelines_per_project=10, jobs_per_pipeline=3) as copy:
        monkeypatch.setenv("GITLAB_PROJECTS", "101")
        made = copy.api.change("run", project=104, count=3, at=AT)["pipelines"]
        bridges = [row[0] for row in copy.api.rows("Bridge", ["id", "project_id"]) if row[1] == 101]
        for bridge, pipeline in zip(bridges, made, strict=False):
            told = {"id": pipeline, "project_id": 104, "status": "success", "updated_at": AT, "created_at": AT}
            copy.api.change("update", entity="Bridge", id=bridge, columns={"downstream_pipeline": told})
        copy.sandbox.configure(denied=["104=403"])
        for _ in range(2):
            report = copy.sync_all()
            assert report.complete, errors_of(report)
        assert copy.one("SELECT count(*) FROM pipelines WHERE project_id = 104") > 1


def test_what_is_stored_of_a_pipeline_in_a_project_that_refuses_now_is_kept(tmp_path: Path) -> None:
    with copying(tmp_path, projects=4, pipelines_per_project=12, jobs_per_pipeline=3) as copy:
        assert copy.sync_all(**ONLY_PIPELINES).complete
        parent, parents, child, childs = copy.query(
            "SELECT b.pipeline_id, b.project_id, p.id, p.project_id FROM bridges b "
            "JOIN pipelines p ON p.id = downstream_pipeline_id WHERE p.duration IS NOT NULL "
            "AND p.project_id <> b.project_id ORDER BY b.id"
        )[0]
        before = copy.query("SELECT detailed, duration, user_username FROM pipelines WHERE id = ?", child)
        # the day of the child is not asked for any more, the parent has changed
        copy.api.change("touch", pipeline=parent)
        copy.sandbox.configure(denied=[f"{childs}=403"])
        report = copy.sync_new(projects=[str(parents)], **ONLY_PIPELINES)
        assert report.complete, errors_of(report)
        assert copy.query("SELECT detailed, duration, user_username FROM pipelines WHERE id = ?", child) == before


def test_a_project_whose_pipelines_are_hidden_is_not_one_in_which_nothing_changed(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, projects=2) as copy:
        copy.api.change("run", project=104)
        assert copy.sync_new(**ONLY_PIPELINES).complete
        copy.sandbox.configure(denied=["104=403"])
        before = copy.one("SELECT max(listed_at) FROM project_days WHERE project_id = 104")
        report = copy.sync_new(**ONLY_PIPELINES)
        assert report.failures[0].unit.startswith("project "), errors_of(report)
        assert copy.one("SELECT max(listed_at) FROM project_days WHERE project_id = 104") == before


def test_jobs_of_a_pipeline_that_a_started_one_has_started_come_along(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, projects=3) as copy:
        made = [
            copy.api.change("run", project=project, jobs=1, at=f"2026-05-{day}T11:00:00Z")["pipelines"][0]
            for project, day in ((104, 30), (107, 31))
        ]
        [first] = copy.api.change("run", project=101, jobs=2, at=AT)["pipelines"]
        copy.first = dt.date(2026, 5, 30)
        assert copy.sync_all(**ONLY_PIPELINES).complete
        chain = [first, *made]
        for parent, child in itertools.pairwise(chain):
            copy.execute(
                "INSERT INTO bridges (id, pipeline_id, project_id, day, downstream_pipeline_id, last_updated) "
                "SELECT id + 1000000000, id, project_id, day, ?, '' FROM pipelines WHERE id = ?",
                child,
                parent,
            )
        with contextlib.closing(sqlite3.connect(copy.path)) as connection:
            plan = plan_units.plan_jobs(connection, ["2026-06-01"], force=True, workers=8, now=dt.datetime.now(dt.UTC))
        assert set(chain) <= {unit.id for unit in plan.units}


def test_tests_of_a_pipeline_that_was_deleted_since_are_no_failure(copy: Copy) -> None:
    copy.sync_all(**ONLY_PIPELINES)
    pipeline = copy.one("SELECT max(pipeline_id) FROM artifacts WHERE file_type = 'junit'")
    copy.api.change("delete", pipeline=pipeline)
    report = copy.sync_all()
    assert report.complete, errors_of(report)


@pytest.mark.parametrize("how", ["times in no order", "an empty page", "a job without its pipeline"])
def test_a_list_by_keyset_that_ends_too_early_loses_no_job(tmp_path: Path, how: str) -> None:
    with copying_few_days(tmp_path, projects=1, jobs_per_pipeline=4, page_cap=18) as copy:
        copy.api.change("run", project=101, count=60, jobs=4, at=AT)
        jobs = [row[0] for row in copy.api.rows("Job", ["id"])]
        if how == "an empty page":
            copy.sandbox.configure(faults=["shrunken~after=1@jobs cursor="])
        if how == "a job without its pipeline":
            copy.api.change("update", entity="Job", id=jobs[-50], columns={"pipeline": None})
        report = copy.sync_all(limits={"workers": 2}, **ONLY_PIPELINES)
        assert report.complete, errors_of(report)
        assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")


def test_a_pipeline_deleted_while_pages_are_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copying_few_days(tmp_path, projects=1, jobs_per_pipeline=1, page_cap=4) as copy:
        made = copy.api.change("run", project=101, count=10, jobs=1, at=AT)["pipelines"]
        # pages are read by many threads: an iterator gives each of its values to one of them
        read, once = GitLabClient.page, iter([True])

        def deleting(client: GitLabClient, path: str, params: Any = None) -> Page:
            page = read(client, path, params)
            # the list of child pipelines, which may come first, has none
            if path.endswith("/pipelines") and page.rows and next(once, False):
                copy.api.change("delete", pipeline=page.rows[0]["id"])
            return page

        monkeypatch.setattr(GitLabClient, "page", deleting)
        report = copy.sync_all(**ONLY_PIPELINES)
        assert report.complete, errors_of(report)
        assert {(number,) for number in made} <= {*copy.stored("pipelines", "id")}
        # another page of which GitLab says that it is empty, and that there is none
        copy.sandbox.configure(faults=["shrunken~times=1@project 101 pipelines page=2$"])
        copy.api.change("run", project=101, count=10, jobs=1, at=AT)
        report = copy.sync_all(days=0, **ONLY_PIPELINES)
        assert report.complete, errors_of(report)
        assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")


def test_an_archive_that_is_there_stays_listed(copy: Copy) -> None:
    copy.sync_all(**ONLY_ARCHIVES)
    before = copy.query("SELECT id, state, files FROM archives")
    job = copy.one("SELECT max(id) FROM archives WHERE state = 'listed'")
    for fault in ("404", "403"):
        copy.sandbox.configure(faults=[f"{fault}@job {job} artifacts"])
        report = copy.sync_all(force=True, **ONLY_ARCHIVES)
        assert report.complete, errors_of(report)
        assert copy.query("SELECT id, state, files FROM archives") == before
    copy.sandbox.configure(faults=[], ranges=False)
    report = copy.sync_all(force=True, limits={"max_artifact_mb": 0.0001, "max_log_mb": 0.0001}, **ONLY_ARCHIVES)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT id, state, files FROM archives") == before


def test_archives_too_large_to_be_stored_are_listed_once(copy: Copy, tmp_path: Path) -> None:
    limits = {"artifact_directory": str(tmp_path / "a"), "max_artifact_mb": 0.0001}
    report = copy.sync_all(limits=limits, **ONLY_ARCHIVES)
    assert report.complete, errors_of(report)
    copy.sandbox.reset_stats()
    copy.sync_all(limits=limits, **ONLY_ARCHIVES)
    assert copy.topics().get("artifacts", 0) == 0


@pytest.mark.parametrize("topic", ["trace", "artifacts"])
def test_a_page_in_place_of_bytes_is_no_log_and_no_archive(copy: Copy, topic: str) -> None:
    copy.sandbox.configure(faults=[f"html~times=3@{topic}"])
    report = copy.sync_all(tests=False, limits={"attempts": 8})
    assert report.complete, errors_of(report)
    assert copy.one("SELECT count(*) FROM job_logs WHERE text LIKE '%<html%'") == 0
    assert copy.one("SELECT count(*) FROM archives WHERE state <> 'listed'") == 0


def test_a_log_that_cannot_be_read_is_one_failure(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    read, once = log_text.parsed, iter([True])

    def breaking(raw: bytes | bytearray) -> log_text.Parsed:
        if next(once, False):
            raise MemoryError("no room")
        return read(raw)

    monkeypatch.setattr(log_text, "parsed", breaking)
    report = copy.sync_all(**ONLY_LOGS)
    assert not report.complete
    assert "no room" in errors_of(report)
    assert "log of job" in errors_of(report)
    there = copy.one("SELECT count(*) FROM jobs WHERE started_at IS NOT NULL")
    assert copy.one("SELECT count(*) FROM job_logs WHERE state = 'complete'") == there - 1
    report = copy.sync_all(**ONLY_LOGS)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT count(*) FROM job_logs WHERE state = 'complete'") == there


def test_an_empty_log_of_a_job_that_ended_just_now_is_asked_for_again(copy: Copy) -> None:
    copy.sync_all(**ONLY_LOGS)
    made = copy.api.change("run", project=101, jobs=1)
    [job] = made["jobs"]
    just_now = dt.datetime.now(dt.UTC).isoformat()
    copy.api.change("update", entity="Job", id=job, columns={"artifacts": [], "finished_at": just_now})
    copy.sandbox.configure(faults=[f"shrunken@job {job} trace"])
    copy.sync_new(**ONLY_LOGS)
    copy.sandbox.configure(faults=[])
    copy.sandbox.reset_stats()
    copy.sync_new(**ONLY_LOGS)
    assert "trace" not in copy.topics()  # not at every turn: minutes after its end
    copy.execute("UPDATE jobs SET finished_at = '2026-06-01T00:00:00.000Z' WHERE id = ?", job)
    report = copy.sync_new(**ONLY_LOGS)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT size FROM job_logs WHERE id = ?", job) > 0


def test_a_project_named_twice_is_one(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_PROJECTS", "101,platform/api")
    for _ in range(2):
        report = copy.sync_all(**ONLY_PIPELINES)
        assert report.complete, errors_of(report)


def test_a_child_pipeline_that_runs_again_by_itself_is_seen(tmp_path: Path) -> None:
    with copying(tmp_path, projects=2, pipelines_per_project=20, jobs_per_pipeline=3) as copy:
        copy.sync_all(**ONLY_PIPELINES)
        copy.sync_new(**ONLY_PIPELINES)
        child = copy.one("SELECT max(id) FROM pipelines WHERE source = 'parent_pipeline' AND status = 'success'")
        moment = dt.datetime.now(dt.UTC)
        copy.api.change("touch", pipeline=child, at=moment.isoformat())
        for graphql in (True, False):
            copy.sync_new(limits={"graphql": graphql}, **ONLY_PIPELINES)
            assert copy.one("SELECT day FROM pipelines WHERE id = ?", child) == str(moment.date())


@pytest.fixture
def led_abroad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Copy, int]]:
    """A project that is asked for, and a pipeline at work in one that is not, started by a bridge."""
    with copying(tmp_path, projects=2, pipelines_per_project=10, jobs_per_pipeline=3) as copy:
        monkeypatch.setenv("GITLAB_PROJECTS", "101")
        [pipeline] = copy.api.change("run", project=104, status="running", at=AT)["pipelines"]
        bridge = max(row[0] for row in copy.api.rows("Bridge", ["id", "project_id"]) if row[1] == 101)
        told = {"id": pipeline, "project_id": 104, "status": "running", "updated_at": AT, "created_at": AT}
        copy.api.change("update", entity="Bridge", id=bridge, columns={"downstream_pipeline": told})
        yield copy, pipeline


def test_a_pipeline_in_a_project_that_is_not_asked_for_is_followed_to_its_end(led_abroad: tuple[Copy, int]) -> None:
    copy, pipeline = led_abroad
    copy.sync_all(**ONLY_PIPELINES)
    assert copy.query("SELECT status, detailed FROM pipelines WHERE id = ?", pipeline) == [("running", 1)]
    copy.api.change("finish", pipeline=pipeline, at=AT)
    report = copy.sync_all(days=0, **ONLY_PIPELINES)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT status FROM pipelines WHERE id = ?", pipeline) == "success"


def test_one_that_failed_to_come_from_there_comes_with_the_next_sync(led_abroad: tuple[Copy, int]) -> None:
    copy, pipeline = led_abroad
    copy.sandbox.configure(faults=[f"500@pipeline {pipeline}$"])
    report = copy.sync_all(**ONLY_PIPELINES)
    assert not report.complete
    copy.sandbox.configure(faults=[])
    report = copy.sync_all(**ONLY_PIPELINES)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT detailed FROM pipelines WHERE id = ?", pipeline) == 1
    assert copy.one("SELECT count(*) FROM pipelines WHERE NOT detailed") == 0


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ('{"message":"404 Not Found"}', True),
        ("<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", True),
        ('{"message":"404 Project Not Found"}', False),
        ("default backend - 404", False),
        ("<html><head><title>404 Not Found</title></head></html>", False),
        ("", False),
    ],
)
def test_only_gitlab_itself_says_that_something_is_gone(said: str, gone: bool) -> None:
    assert is_gone(Refused("the server answered 404.", status=404, said=said)) is gone
    assert not is_gone(Refused("the server answered 410.", status=410, said=said))


@pytest.mark.parametrize(
    "value", ["0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-02:00", "2026-13-01T00:00:00.000Z"]
)
def test_a_time_out_of_range_makes_its_record_a_reject(value: str) -> None:
    with pytest.raises(values.Malformed):
        values.moment({"at": value}, "at")
    with pytest.raises(values.Malformed):
        values.whole({"n": "--5"}, "n")


@pytest.mark.parametrize(
    "raw",
    [b"a" * 400_000 + b"\rb" * 200_000, b"section_start:1:a[" * 20_000, b"\x1b[" * 500_000 + b"1" * 500_000],
    ids=["returns", "sections", "escapes"],
)
def test_no_log_takes_the_reader_long(raw: bytes) -> None:
    began = time.process_time()
    assert log_text.parsed(raw).size == len(raw)
    assert time.process_time() - began < 2


def test_a_report_of_which_a_case_was_rejected_is_asked_for_again(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    read, once, odd = GitLabClient.one, iter([True]), []

    def one(client: GitLabClient, path: str) -> dict[str, Any]:
        found = read(client, path)
        if path.endswith("/test_report") and found.get("test_suites") and next(once, False):
            found["test_suites"][0]["test_cases"][0] = "no object"
            odd.append(path)
        return found

    monkeypatch.setattr(GitLabClient, "one", one)
    report = copy.sync_all(logs=False, artifacts=False)
    assert not report.complete
    assert report.tables["test_cases"].rejected == 1
    report = copy.sync_all(logs=False, artifacts=False)
    assert report.complete, errors_of(report)
    assert (
        copy.one(
            "SELECT count(*) FROM test_cases WHERE pipeline_id = ? AND suite = 0 AND position = 0",
            int(odd[0].split("/")[3]),
        )
        == 1
    )


def test_a_log_that_was_too_large_comes_once_it_may(copy: Copy) -> None:
    copy.sync_all(limits={"max_log_mb": 0.0001}, **ONLY_LOGS)
    assert copy.one("SELECT count(*) FROM job_logs WHERE state = 'too_large' AND size > 0") > 0
    report = copy.sync_all(**ONLY_LOGS)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT count(*) FROM job_logs WHERE state = 'too_large' AND size > 0") == 0


def test_a_later_page_that_comes_empty_hides_no_job(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, projects=1, jobs_per_pipeline=10, page_cap=4) as copy:
        copy.sandbox.configure(faults=["shrunken~times=1@pipeline .* jobs page=2"])
        report = copy.sync_all(**ONLY_PIPELINES)
        assert report.complete, errors_of(report)
        assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")
