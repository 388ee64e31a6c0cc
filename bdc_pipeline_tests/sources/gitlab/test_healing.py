"""What a run left undone, or an odd answer spoilt, is made good by the next sync, and never held against other projects."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

from bdc_pipeline.fetching.answers import Answer, Refused
from bdc_pipeline.sources.gitlab import fetch
from bdc_pipeline.sources.gitlab.client import GitLabClient, Page
from bdc_pipeline_tests.sources.gitlab.syncing import Copy, copying, copying_few_days, errors_of

AT = "2026-06-01T11:00:00Z"
ONLY_PIPELINES = {"logs": False, "tests": False, "artifacts": False}
ONLY_LOGS = {"tests": False, "artifacts": False}
ONLY_TESTS = {"logs": False, "artifacts": False}


def spoilt(
    patch: pytest.MonkeyPatch, method: str, of: str, change: Callable[[Any], Any], times: int = 1
) -> Iterator[int]:
    """Spoils what a client's method answers for a path, so many times; the iterator tells how often it still will."""
    asked, left = getattr(GitLabClient, method), iter(range(times))

    def answer(client: GitLabClient, path: str, *given: Any) -> Any:
        found = asked(client, path, *given)
        # lists are asked for side by side, and the one that comes first may be empty
        is_empty = isinstance(found, Page) and not found.rows
        return change(found) if of in path and not is_empty and next(left, None) is not None else found

    patch.setattr(GitLabClient, method, answer)
    return left


def complete(copy: Copy, **options: Any) -> None:
    report = copy.sync_all(**options)
    assert report.complete, errors_of(report)


def complete_new(copy: Copy, **options: Any) -> None:
    report = copy.sync_new(**options)
    assert report.complete, errors_of(report)


# -- pipelines and bridges -------------------------------------------------------------------------------------


def test_a_parent_that_has_triggers_and_no_jobs_is_complete_when_it_is_over(copy: Copy) -> None:
    [parent] = copy.api.change("run", project=101, status="running", jobs=0)["pipelines"]
    complete_new(copy, **ONLY_PIPELINES)
    assert copy.one("SELECT jobs FROM pipeline_jobs WHERE pipeline_id = ?", parent) == 0
    copy.api.change("finish", pipeline=parent)
    complete_new(copy, **ONLY_PIPELINES)
    assert copy.one("SELECT status FROM pipelines WHERE id = ?", parent) == "success"


@pytest.mark.parametrize("graphql", [False, True])
def test_a_child_that_no_list_brings_is_followed_to_its_end(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, *, graphql: bool
) -> None:
    made = copy.api.change("run", project=101, status="running", pipeline_source="parent_pipeline")
    [child] = made["pipelines"]
    complete_new(copy, **ONLY_PIPELINES)
    assert copy.one("SELECT status FROM pipelines WHERE id = ?", child) == "running"
    page = GitLabClient.page

    def older(client: GitLabClient, path: str, params: Any = None) -> Page:
        """GitLab before 17.0, to which no pipeline's source is `parent_pipeline`."""
        if (params or {}).get("source") == "parent_pipeline":
            return Page([], None, 0, 0, dt.datetime.now(dt.UTC))
        return page(client, path, params)

    monkeypatch.setattr(GitLabClient, "page", older)
    copy.api.change("finish", pipeline=child, status="failed")
    complete_new(copy, limits={"graphql": graphql}, **ONLY_PIPELINES)
    assert copy.one("SELECT status FROM pipelines WHERE id = ?", child) == "failed"
    assert (
        copy.stored("jobs", "id", "status") == copy.served_lately("Job", "id", "status")
        or copy.one("SELECT count(*) FROM jobs WHERE pipeline_id = ? AND status = 'running'", child) == 0
    )
    copy.sandbox.reset_stats()
    complete_new(copy, limits={"graphql": graphql}, **ONLY_PIPELINES)
    assert "pipeline" not in copy.topics()


def test_bridges_that_were_run_again_are_rows_like_jobs(tmp_path: Path) -> None:
    with copying(tmp_path, projects=2, pipelines_per_project=8, jobs_per_pipeline=3) as copy:
        complete(copy, **ONLY_PIPELINES)
        [first, *_] = copy.query("SELECT id, pipeline_id FROM bridges WHERE NOT retried ORDER BY id DESC")
        again = copy.api.change("retry", job=first[0], status="failed")
        complete_new(copy, **ONLY_PIPELINES)
        found = copy.query(
            "SELECT id, retried FROM live_bridges WHERE pipeline_id = ? AND id IN (?, ?) ORDER BY id",
            *(first[1], first[0], again),
        )
        assert found == [(first[0], 1), (again, 0)]


def test_bridges_that_a_server_leaves_out_when_they_were_run_again_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copying(tmp_path, projects=2, pipelines_per_project=8, jobs_per_pipeline=3) as copy:
        complete(copy, **ONLY_PIPELINES)
        [first, *_] = copy.query("SELECT id, pipeline_id FROM bridges WHERE NOT retried ORDER BY id DESC")
        every = GitLabClient.every
        monkeypatch.setattr(
            GitLabClient, "every", lambda client, path, params: every(client, path, {} if "bridges" in path else params)
        )
        again = copy.api.change("retry", job=first[0], status="failed")
        complete_new(copy, **ONLY_PIPELINES)
        found = copy.query("SELECT id, retried FROM live_bridges WHERE id IN (?, ?) ORDER BY id", first[0], again)
        assert found == [(first[0], 1), (again, 0)]


@pytest.mark.parametrize(
    ("method", "of"),
    [("one", "/pipelines/"), ("every", "/bridges"), ("page", "/pipelines")],
    ids=["page", "bridge", "list"],
)
def test_what_was_rejected_is_asked_for_again_and_its_reject_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, of: str
) -> None:
    def worse(found: Any) -> Any:
        if method == "one":
            return {**found, "created_at": ["no time"]}
        if method == "page":
            return Page([{**found.rows[0], "sha": {}}, *found.rows[1:]], found.next, found.total, found.pages, found.at)
        return ([{**found[0][0], "name": {}}, *found[0][1:]], found[1]) if found[0] else found

    with copying(tmp_path, projects=1, pipelines_per_project=8, jobs_per_pipeline=2) as copy:
        spoilt(monkeypatch, method, of, worse, times=1 if method != "every" else 30)
        report = copy.sync_all(**ONLY_PIPELINES)
        assert not report.complete
        assert sum(counts.rejected for counts in report.tables.values()) > 0
        monkeypatch.undo()
        for name, value in (("GITLAB_URL", copy.api.url), ("GITLAB_TOKEN", copy.sandbox.token)):
            monkeypatch.setenv(name, value)
        complete(copy, **ONLY_PIPELINES)
        assert copy.one("SELECT count(*) FROM _rejects WHERE resolved_at IS NULL") == 0
        assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")
        assert copy.one("SELECT count(*) FROM pipelines WHERE NOT detailed") == 0
        copy.sandbox.reset_stats()
        complete(copy, **ONLY_PIPELINES)
        assert "pipeline" not in copy.topics()


def test_a_child_that_a_list_spoils_and_a_bridge_brings_closes_its_reject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, once = GitLabClient.page, iter([True])

    def answer(client: GitLabClient, path: str, params: Any = None) -> Page:
        found = page(client, path, params)
        if (params or {}).get("source") == "parent_pipeline" and found.rows and next(once, False):
            [first, *more] = found.rows
            return Page([{**first, "sha": {}}, *more], found.next, found.total, found.pages, found.at)
        return found

    with copying(tmp_path, projects=1, pipelines_per_project=8, jobs_per_pipeline=2) as copy:
        monkeypatch.setattr(GitLabClient, "page", answer)
        assert copy.sync_all(**ONLY_PIPELINES).tables["pipelines"].rejected == 1
        complete(copy, **ONLY_PIPELINES)
        assert copy.one("SELECT count(*) FROM _rejects WHERE resolved_at IS NULL") == 0


def test_force_fetches_pages_and_bridges_again(tmp_path: Path) -> None:
    with copying(tmp_path, projects=1, pipelines_per_project=8, jobs_per_pipeline=2) as copy:
        complete(copy, **ONLY_PIPELINES)
        [bridge] = copy.query("SELECT id FROM bridges LIMIT 1")[0]
        copy.api.change("update", entity="Bridge", id=bridge, columns={"failure_reason": "unknown_failure"})
        complete(copy, **ONLY_PIPELINES)
        assert copy.query("SELECT 1 FROM bridges WHERE failure_reason = 'unknown_failure'") == []
        complete(copy, force=True, **ONLY_PIPELINES)
        assert copy.query("SELECT id FROM bridges WHERE failure_reason = 'unknown_failure'") == [(bridge,)]


# -- jobs ------------------------------------------------------------------------------------------------------


def test_a_job_that_becomes_malformed_keeps_its_row(copy: Copy) -> None:
    complete(copy, **ONLY_PIPELINES)
    job, pipeline = copy.query("SELECT id, pipeline_id FROM jobs ORDER BY id DESC LIMIT 1")[0]
    copy.api.change("update", entity="Job", id=job, columns={"status": {"a": 1}})
    copy.api.change("touch", pipeline=pipeline)
    report = copy.sync_new(**ONLY_PIPELINES)
    assert not report.complete
    assert (report.tables["jobs"].rejected, report.tables["jobs"].vanished) == (1, 0)
    assert copy.one("SELECT count(*) FROM live_jobs WHERE id = ?", job) == 1
    copy.api.change("update", entity="Job", id=job, remove=["status"])
    complete_new(copy, **ONLY_PIPELINES)


def test_artifacts_that_come_minutes_after_the_end_are_found_by_one_more_list(copy: Copy) -> None:
    [pipeline] = copy.api.change("run", project=101, jobs=2)["pipelines"]
    job = copy.api.rows("Job", ["id", "pipeline_id"])[-1][0]
    copy.api.change("update", entity="Job", id=job, columns={"artifacts": []})
    complete_new(copy, **ONLY_PIPELINES)
    assert copy.query("SELECT * FROM artifacts WHERE job_id = ?", job) == []
    trace = {"file_type": "trace", "size": 7, "filename": "job.log", "file_format": None}
    copy.api.change("update", entity="Job", id=job, columns={"artifacts": [trace]})
    copy.sandbox.reset_stats()
    complete_new(copy, **ONLY_PIPELINES)
    assert "jobs" not in copy.topics()  # not at every turn
    copy.execute("UPDATE _pipelines SET finished_at = '2026-06-01T00:00:00.000Z' WHERE id = ?", pipeline)
    complete_new(copy, **ONLY_PIPELINES)
    assert copy.query("SELECT file_type, size FROM artifacts WHERE job_id = ?", job) == [("trace", 7)]
    copy.sandbox.reset_stats()
    complete_new(copy, **ONLY_PIPELINES)
    assert "jobs" not in copy.topics()


def test_a_list_by_keyset_whose_link_was_taken_away_loses_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copying_few_days(tmp_path, projects=1, jobs_per_pipeline=3) as copy:
        # a page ends among a pipeline's jobs
        copy.api.change("run", project=101, count=80, jobs=3, at=AT)
        read = GitLabClient._read_page

        def without_link(client: GitLabClient, answer: Answer, address: str) -> Page:
            kept = {name: value for name, value in answer.headers.items() if name.lower() != "link"}
            return read(client, dataclasses.replace(answer, headers=CaseInsensitiveDict(kept)), address)

        monkeypatch.setattr(GitLabClient, "_read_page", without_link)
        complete(copy, limits={"workers": 2}, **ONLY_PIPELINES)
        labels = copy.sandbox.stats()["labels"]
        assert any(label.startswith("project 101 jobs") for label in labels), labels
        assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")


# -- logs, tests, archives -------------------------------------------------------------------------------------


def test_what_fails_each_time_does_not_keep_others_from_being_tried(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ERROR_BUDGET", 2)
    complete(copy, **ONLY_PIPELINES)
    newest = [row[0] for row in copy.query("SELECT id FROM jobs WHERE started_at IS NOT NULL ORDER BY id DESC LIMIT 6")]
    copy.sandbox.configure(faults=[f"500@job {job} trace" for job in newest])
    for _ in range(4):
        assert not copy.sync_all(limits={"attempts": 1, "workers": 1}, **ONLY_LOGS).complete
    missing = copy.query("SELECT id FROM jobs WHERE started_at IS NOT NULL AND id NOT IN (SELECT id FROM job_logs)")
    assert sorted(row[0] for row in missing) == sorted(newest)


def test_a_project_that_is_refused_uses_up_nobody_elses_tries(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    complete(copy, **ONLY_PIPELINES)
    monkeypatch.setattr(fetch, "ERROR_BUDGET", 1)
    copy.sandbox.configure(denied=["107=403"])
    assert not copy.sync_all(limits={"attempts": 1, "workers": 1}, **ONLY_LOGS).complete
    missing = copy.query(
        "SELECT DISTINCT project_id FROM jobs WHERE started_at IS NOT NULL AND id NOT IN (SELECT id FROM job_logs)"
    )
    assert missing == [(107,)]


@pytest.mark.parametrize(
    "said", ["<html>Access denied by the firewall</html>", "<?xml?><Error>AccessDenied</Error>", ""]
)
def test_a_refusal_in_other_words_than_gitlabs_is_a_failure_and_asked_for_again(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    log, left = GitLabClient.log, iter(range(1))

    def refused(client: GitLabClient, project: int, job: int, *, large: bool) -> Any:
        if next(left, None) is not None:
            raise Refused("the server answered 403.", status=403, said=said)
        return log(client, project, job, large=large)

    monkeypatch.setattr(GitLabClient, "log", refused)
    report = copy.sync_all(**ONLY_LOGS)
    assert len(report.failures) == 1
    assert "log of job" in report.failures[0].unit
    complete(copy, **ONLY_LOGS)
    assert copy.query("SELECT 1 FROM job_logs WHERE state = 'forbidden'") == []


def test_a_shorter_report_replaces_a_longer_one_however_much_shorter(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(copy, **ONLY_TESTS)
    cases = "SELECT pipeline_id, count(*) FROM live_test_cases GROUP BY 1 ORDER BY 2 DESC LIMIT 1"
    pipeline, count = copy.query(cases)[0]
    assert count > 5

    def shorter(found: dict[str, Any]) -> dict[str, Any]:
        [first, *_] = found["test_suites"]
        kept = {**first, "total_count": 1, "test_cases": first["test_cases"][:1]}
        return {**found, "total_count": 1, "test_suites": [kept]}

    spoilt(monkeypatch, "one", f"/pipelines/{pipeline}/test_report", shorter)
    copy.api.change("touch", pipeline=pipeline)
    complete_new(copy, **ONLY_TESTS)
    assert copy.one("SELECT count(*) FROM live_test_cases WHERE pipeline_id = ?", pipeline) == 1
    assert copy.one("SELECT total_count FROM test_reports WHERE pipeline_id = ?", pipeline) == 1


def test_suites_and_cases_stay_when_the_files_of_some_jobs_have_expired(copy: Copy) -> None:
    complete(copy, **ONLY_TESTS)
    of_suites = "SELECT pipeline_id FROM live_test_suites GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    [pipeline] = copy.query(of_suites)[0]
    suites = "SELECT name, total_count FROM live_test_suites WHERE pipeline_id = ? ORDER BY 1"
    cases = "SELECT suite_name, classname, name, status, system_output FROM live_test_cases WHERE pipeline_id = ?"
    before = copy.query(suites, pipeline), sorted(copy.query(cases, pipeline), key=repr)
    assert len(before[0]) > 1
    [job] = copy.query(
        "SELECT job_id FROM artifacts WHERE pipeline_id = ? AND file_type = 'junit' ORDER BY 1 LIMIT 1", pipeline
    )[0]
    copy.api.change("expire", job=job, at="2026-06-02T00:00:00Z")
    copy.api.change("touch", pipeline=pipeline)
    complete_new(copy, **ONLY_TESTS)
    assert (copy.query(suites, pipeline), sorted(copy.query(cases, pipeline), key=repr)) == before
    assert copy.one("SELECT state FROM test_reports WHERE pipeline_id = ?", pipeline) == "stored"
    # and once more: nothing piles up
    copy.api.change("touch", pipeline=pipeline)
    complete_new(copy, **ONLY_TESTS)
    assert (copy.query(suites, pipeline), sorted(copy.query(cases, pipeline), key=repr)) == before


def test_a_report_without_cases_whose_summary_counts_some_is_a_failure_while_its_files_are_there(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt(monkeypatch, "one", "/test_report", lambda found: {**found, "total_count": 0, "test_suites": []})
    report = copy.sync_all(**ONLY_TESTS)
    assert not report.complete
    assert "its summary counts" in errors_of(report)
    complete(copy, **ONLY_TESTS)
    assert copy.query("SELECT 1 FROM test_reports WHERE state = 'expired'") == []


def test_an_archive_that_was_damaged_and_is_whole_again_is_no_reject_any_more(copy: Copy) -> None:
    [job] = copy.api.rows("Job", ["id", "artifacts_file"])[-1][:1]
    content = copy.api.change("archive", job=job, kind="truncated")
    assert content > 0
    report = copy.sync_all(logs=False, tests=False)
    assert not report.complete
    copy.api.change("archive", job=job, kind="traversal")
    complete(copy, force=True, logs=False, tests=False)
    assert copy.one("SELECT state FROM archives WHERE id = ?", job) == "listed"


def test_archives_are_stored_again_where_they_are_not_in_the_directory(copy: Copy, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    def stored(directory: Path) -> set[str]:
        complete(copy, logs=False, tests=False, limits={"artifact_directory": str(directory)})
        return {str(path.relative_to(directory)) for path in directory.rglob("*.zip")}

    found = stored(first)
    assert found
    assert stored(second) == found
    shutil.rmtree(second)
    some = next(first.rglob("*.zip"))
    some.write_bytes(b"cut")
    assert stored(second) == stored(first) == found
    assert some.stat().st_size > 3
    copy.sandbox.reset_stats()
    assert stored(first) == found
    assert "artifacts" not in copy.topics()


def test_cases_of_a_job_that_was_erased_stay_and_nothing_counts_as_retried(copy: Copy) -> None:
    complete(copy, **ONLY_TESTS)
    [pipeline] = copy.query("SELECT pipeline_id FROM live_test_suites GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")[0]
    cases = "SELECT suite_name, classname, name, status FROM live_test_cases WHERE pipeline_id = ?"
    before = sorted(copy.query(cases, pipeline), key=repr)
    sql = "SELECT job_id FROM artifacts WHERE pipeline_id = ? AND file_type = 'junit' ORDER BY 1"
    erased, expired, *_ = (row[0] for row in copy.query(sql, pipeline))
    copy.api.change("erase", job=erased, at="2026-06-02T00:00:00Z")
    copy.api.change("touch", pipeline=pipeline)
    complete_new(copy, **ONLY_TESTS)
    assert sorted(copy.query(cases, pipeline), key=repr) == before
    copy.api.change("expire", job=expired, at="2026-06-02T00:00:00Z")
    copy.api.change("touch", pipeline=pipeline)
    complete_new(copy, **ONLY_TESTS)
    assert sorted(copy.query(cases, pipeline), key=repr) == before
    assert copy.query("SELECT * FROM earlier_outcomes") == []


def test_a_case_that_becomes_malformed_keeps_its_row_and_comes_with_a_sync_without_a_range(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(copy, **ONLY_TESTS)
    assert copy.sync(partitions=("2026-06-02",), **ONLY_TESTS).complete
    pipeline = copy.one("SELECT max(pipeline_id) FROM live_test_cases")
    before = copy.query("SELECT suite, position, name FROM live_test_cases WHERE pipeline_id = ?", pipeline)

    def worse(found: dict[str, Any]) -> dict[str, Any]:
        [first, *more] = found["test_suites"]
        cases = [{**first["test_cases"][0], "status": {"no": "text"}}, *first["test_cases"][1:]]
        return {**found, "test_suites": [{**first, "test_cases": cases}, *more]}

    spoilt(monkeypatch, "one", f"/pipelines/{pipeline}/test_report", worse)
    report = copy.sync_all(force=True, **ONLY_TESTS)
    assert (report.complete, report.tables["test_cases"].rejected, report.tables["test_cases"].vanished) == (
        False,
        1,
        0,
    )
    assert copy.query("SELECT suite, position, name FROM live_test_cases WHERE pipeline_id = ?", pipeline) == before
    assert copy.query("SELECT * FROM earlier_outcomes") == []
    report = copy.sync(first=None, **ONLY_TESTS)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT count(*) FROM _rejects WHERE resolved_at IS NULL") == 0


def test_rejected_bridges_come_with_a_sync_without_a_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with copying(tmp_path, projects=1, pipelines_per_project=8, jobs_per_pipeline=2) as copy:
        complete(copy, **ONLY_PIPELINES)
        [day] = copy.query("SELECT day FROM bridges LIMIT 1")[0]
        spoilt(
            monkeypatch,
            "every",
            "/bridges",
            lambda found: ([{**one, "name": {}} for one in found[0]], found[1]),
            times=1000,
        )
        assert not copy.sync(partitions=(day,), force=True, **ONLY_PIPELINES).complete
        monkeypatch.undo()
        monkeypatch.setenv("GITLAB_URL", copy.api.url)
        monkeypatch.setenv("GITLAB_TOKEN", copy.sandbox.token)
        report = copy.sync(first=None, **ONLY_PIPELINES)
        assert report.complete, errors_of(report)
        assert copy.one("SELECT count(*) FROM _rejects WHERE resolved_at IS NULL") == 0


def test_a_number_that_sqlite_cannot_hold_costs_one_record_until_it_is_mended(copy: Copy) -> None:
    pipeline = max(row[0] for row in copy.api.rows("Pipeline", ["id"]))
    copy.api.change("update", entity="Pipeline", id=pipeline, columns={"iid": 2**63})
    report = copy.sync_all(**ONLY_PIPELINES)
    assert not report.complete
    copy.api.change("update", entity="Pipeline", id=pipeline, columns={"iid": 7})
    complete(copy, **ONLY_PIPELINES)
    assert copy.one("SELECT iid FROM pipelines WHERE id = ?", pipeline) == 7


def test_one_that_waits_for_long_costs_no_pages_of_those_that_are_over(copy: Copy) -> None:
    long_ago = (dt.datetime.now(dt.UTC) - dt.timedelta(days=20)).isoformat()
    lately = (dt.datetime.now(dt.UTC) - dt.timedelta(days=10)).isoformat()
    copy.api.change("run", project=101, status="manual", at=long_ago)
    copy.api.change("run", project=101, count=5, at=lately)
    today = dt.datetime.now(dt.UTC).date()
    report = copy.sync(first=today - dt.timedelta(days=25), **ONLY_PIPELINES)
    assert report.complete, errors_of(report)
    copy.sandbox.reset_stats()
    complete_new(copy, **ONLY_PIPELINES)
    assert "pipeline" not in copy.topics()


def test_archives_that_are_gone_are_asked_for_once(copy: Copy, tmp_path: Path) -> None:
    complete(copy, logs=False, tests=False)
    [job] = copy.query("SELECT max(id) FROM archives WHERE state = 'listed'")[0]
    copy.sandbox.configure(faults=[f"404@job {job} artifacts"])
    limits = {"artifact_directory": str(tmp_path / "kept")}
    complete(copy, logs=False, tests=False, limits=limits)
    assert copy.query("SELECT id, state, gone_at IS NOT NULL FROM archives WHERE gone_at IS NOT NULL") == [
        (job, "listed", 1)
    ]
    copy.sandbox.reset_stats()
    complete(copy, logs=False, tests=False, limits=limits)
    assert "artifacts" not in copy.topics()


def test_a_record_of_a_list_whose_day_cannot_be_read_is_told_and_heals(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []

    def worse(found: Page) -> Page:
        [first, *more] = found.rows
        lost.append(first["id"])
        return Page([{"id": first["id"], "updated_at": []}, *more], found.next, found.total, found.pages, found.at)

    spoilt(monkeypatch, "page", "/pipelines", worse)
    report = copy.sync_all(**ONLY_PIPELINES)
    assert (report.complete, report.tables["pipelines"].rejected) == (False, 1)
    assert copy.query("SELECT 1 FROM pipelines WHERE id = ?", *lost) == []
    assert copy.sync(partitions=("2026-06-02",), **ONLY_PIPELINES).complete
    report = copy.sync(first=None, **ONLY_PIPELINES)
    assert report.complete, errors_of(report)
    assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")
    assert copy.one("SELECT count(*) FROM _rejects WHERE resolved_at IS NULL") == 0
