"""Whole syncs against a sandbox: what is in the file is what GitLab serves, and a second run costs next to nothing."""

from __future__ import annotations

import datetime as dt
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sources.gitlab import assets
from bdc_pipeline.sources.gitlab.projects import ProjectsPlan, ProjectsStream
from bdc_pipeline.warehouse.drain import drain
from bdc_pipeline_tests.sources.gitlab.syncing import Copy, copying, copying_few_days, errors_of

FINAL = {"success", "failed", "canceled", "skipped"}


# -- the whole -------------------------------------------------------------------------------------------------


def test_a_first_sync_is_complete_and_says_so(shared: Copy) -> None:
    report = shared.report
    assert report is not None
    assert report.complete, errors_of(report)
    for name, counts in report.tables.items():
        assert counts.expected in (None, counts.fetched + counts.rejected), name


def test_every_pipeline_is_there_with_what_its_own_page_says(shared: Copy) -> None:
    columns = (
        "id",
        "project_id",
        "iid",
        "ref",
        "sha",
        "status",
        "source",
        "duration",
        "updated_at",
        "yaml_errors",
        "tag",
    )
    assert shared.stored("pipelines", *columns) == shared.served("Pipeline", *columns)
    served = {row[0]: row[1] for row in shared.api.rows("Pipeline", ["id", "coverage"])}
    stored = dict(shared.query("SELECT id, coverage FROM pipelines"))
    assert stored == {number: None if text is None else float(text) for number, text in served.items()}


def test_child_pipelines_and_those_of_other_projects_know_what_started_them(shared: Copy) -> None:
    served = {tuple(row) for row in shared.api.rows("Bridge", ["downstream_id", "pipeline_id"]) if row[0] is not None}
    assert set(shared.query("SELECT id, parent_id FROM pipelines WHERE parent_id IS NOT NULL")) == served
    kinds = shared.query(
        "SELECT DISTINCT p.project_id = b.project_id FROM bridges b JOIN pipelines p ON p.id = b.downstream_pipeline_id"
    )
    assert sorted(kinds) == [(0,), (1,)]


def test_every_job_is_there_and_those_that_were_retried_are_marked(shared: Copy) -> None:
    columns = (
        *("id", "pipeline_id", "project_id", "name", "stage", "status", "retried", "allow_failure", "failure_reason"),
        *("coverage", "queued_duration", "duration", "started_at", "finished_at", "erased_at", "artifacts_expire_at"),
    )
    assert shared.stored("jobs", *columns) == shared.served("Job", *columns)
    assert shared.one("SELECT sum(retried) FROM jobs") > 0


def test_rows_of_a_pipeline_carry_its_day(shared: Copy) -> None:
    for table in (
        "jobs",
        "bridges",
        "artifacts",
        "job_logs",
        "test_cases",
        "archives",
        "artifact_files",
        "pipeline_jobs",
    ):
        wrong = shared.one(
            f"SELECT count(*) FROM {table} c JOIN pipelines p ON p.id = c.pipeline_id WHERE c.day <> p.day "
            "OR p.day <> substr(coalesce(p.updated_at, p.created_at), 1, 10)"
        )
        assert wrong == 0, table


def test_artifacts_are_those_of_the_job_rows(shared: Copy) -> None:
    served = {
        (job, one["file_type"], one["filename"], one["size"], one["file_format"])
        for job, listed in shared.api.rows("Job", ["id", "artifacts"])
        for one in listed
    }
    assert (
        set(shared.query("SELECT job_id, file_type, filename, size, file_format FROM artifacts WHERE listed")) == served
    )


def test_every_log_of_a_job_that_is_over_is_there_byte_by_byte(shared: Copy) -> None:
    statuses = dict(shared.query("SELECT id, status FROM jobs"))
    served = {
        (job, size, digest)
        for job, size, digest in shared.api.rows("Trace", ["job_id", "size", "sha256"])
        if statuses[job] in FINAL
    }
    assert set(shared.query("SELECT id, size, sha256 FROM job_logs WHERE state = 'complete'")) == served
    for raw, digest in shared.query("SELECT raw, sha256 FROM job_logs WHERE raw IS NOT NULL LIMIT 20"):
        assert sha256(zlib.decompress(raw)).hexdigest() == digest


def test_logs_can_be_searched_and_their_sections_are_timed(shared: Copy) -> None:
    found = shared.query("SELECT rowid FROM job_logs_fts WHERE job_logs_fts MATCH 'requests'")
    like = shared.query("SELECT id FROM job_logs WHERE text LIKE '%requests%'")
    assert found
    assert set(found) <= set(like)
    assert shared.query(
        "SELECT snippet(job_logs_fts, 0, '[', ']', '...', 5) FROM job_logs_fts WHERE job_logs_fts MATCH 'FAILED'"
    )
    assert (
        shared.one(
            "SELECT count(*) FROM job_logs WHERE text LIKE '%' || char(27) || '%' OR text LIKE '%section_start%'"
        )
        == 0
    )
    assert dict(shared.query("SELECT section, 1 FROM section_seconds")).keys() >= {"get_sources", "step_script"}
    assert (
        shared.one(
            "SELECT count(*) FROM job_logs l JOIN jobs j USING (id) WHERE j.status = 'failed' AND error_lines <> ''"
        )
        > 0
    )


def test_test_cases_are_those_of_the_reports(shared: Copy) -> None:
    alive = {
        row[0]
        for row in shared.query(
            "SELECT id FROM pipelines WHERE status NOT IN ('success', 'failed', 'canceled', 'skipped', 'manual')"
        )
    }
    keys = ("pipeline_id", "suite", "position", "status", "name", "classname", "execution_time")
    served = sorted(tuple(row) for row in shared.api.rows("TestCase", keys) if row[0] not in alive)
    stored = shared.query(
        "SELECT pipeline_id, suite_name, position, status, name, classname, execution_time FROM test_cases ORDER BY 1, 2, 3"
    )
    assert stored == served
    kinds = {
        row[0]
        for row in shared.query("SELECT substr(system_output, 1, 1) FROM test_cases WHERE system_output IS NOT NULL")
    }
    assert kinds >= {"[", "F"}


def test_reports_whose_files_expired_keep_their_counts(shared: Copy) -> None:
    found = dict(shared.query("SELECT state, count(*) FROM test_reports GROUP BY 1"))
    assert found["stored"] > 0
    assert found["expired"] > 0
    assert shared.one("SELECT count(*) FROM test_reports WHERE state = 'expired' AND NOT total_count > 0") == 0


def test_archives_are_listed_by_ranges_in_one_request_each(shared: Copy) -> None:
    states = dict(shared.query("SELECT state, count(*) FROM archives GROUP BY 1"))
    assert sum(states.values()) == shared.one("SELECT count(*) FROM artifacts WHERE file_type = 'archive' AND listed")
    assert set(states) <= {"listed", "gone"}
    assert shared.topics()["artifacts"] == sum(states.values())
    listed = states["listed"]
    assert shared.one("SELECT count(*) FROM artifact_files WHERE path = 'build/app.js'") == listed
    assert shared.one("SELECT count(*) FROM artifact_files WHERE path = 'reports/Übersicht.txt'") > 0


def test_every_view_answers(shared: Copy) -> None:
    for view in (
        *("flaky_tests", "slowest_jobs", "queue_time_by_tag", "failure_reasons_by_week", "retried_jobs"),
        *("broken_default_branch", "coverage_trend", "compute_minutes", "section_seconds"),
    ):
        assert shared.query(f"SELECT * FROM {view} LIMIT 1"), view
    for p50, p95, longest in shared.query("SELECT p50_seconds, p95_seconds, longest_seconds FROM slowest_jobs"):
        assert p50 <= p95 <= longest
    total = shared.one("SELECT sum(duration) / 60 FROM jobs WHERE finished_at IS NOT NULL")
    assert abs(shared.one("SELECT sum(minutes) FROM compute_minutes") - total) < 1
    for failed, passed in shared.query("SELECT failed, passed FROM flaky_tests"):
        assert failed > 0 < passed


def test_no_secret_and_no_mail_address_is_in_the_file(shared: Copy) -> None:
    content = shared.path.read_bytes()
    for unwanted in (b"RUNNERS-TOKEN", b"@example.com", shared.sandbox.token.encode()):
        assert unwanted not in content


# -- lists and connections -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "requests"),
    [({}, 1), ({"page_cap": 2}, 3), ({"count_limit": 3}, 3), ({"count_limit": 3, "page_cap": 2}, 5)],
    ids=["a page", "pages by number", "not counted, so by keyset", "pages by keyset"],
)
def test_all_projects_come_however_they_are_paged(tmp_path: Path, options: dict[str, int], requests: int) -> None:
    with copying(tmp_path, projects=5, pipelines_per_project=1, jobs_per_pipeline=1, regular=True, **options) as copy:
        client = assets.GitLabResource(workers=4).client(Stop())
        drained = drain(ProjectsStream(client, ProjectsPlan(), workers=4, stop=Stop()), copy.path, "run")
        assert drained.is_complete
        assert copy.stored("projects", "id") == copy.served("Project", "id")
        assert copy.topics() == {"projects": requests}
        assert drained.counts["projects"].expected == (None if "count_limit" in options else 5)


def test_the_pages_of_a_long_list_of_pipelines_come_side_by_side(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, projects=1, jobs_per_pipeline=1, page_cap=2) as copy:
        copy.api.change("run", project=101, count=20, jobs=1, at="2026-06-01T11:00:00Z")
        copy.sync_all(logs=False, tests=False, artifacts=False)
        copy.sandbox.configure(latency_ms=500)
        copy.sandbox.reset_stats()
        report = copy.sync_all(days=0, logs=False, tests=False, artifacts=False)
        assert report.complete, errors_of(report)
        # as many as there are workers, if all have set out by the time the first is answered
        assert 4 <= copy.sandbox.stats()["max_concurrent"] <= 8
        assert copy.topics()["pipelines"] == 12 + 1
        assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")


def test_the_next_stage_takes_over_the_connections_and_counts_for_itself(tmp_path: Path) -> None:
    with copying(tmp_path, projects=1, pipelines_per_project=1, jobs_per_pipeline=1):
        asked = assets.GitLabResource(workers=2)
        stop = Stop()
        first = asked.client(stop)
        first.page("projects")
        first.release()
        assert first.effort().requests == 1
        second = asked.client(stop)
        assert second.session is first.session
        assert second.effort().requests == 0
        stop.set("asked to")
        second.release()
        third = asked.client(Stop())
        assert third.session is not first.session, "threads of the stopped run may still use it"
        third.close()


# -- the second time -------------------------------------------------------------------------------------------


def test_an_unchanged_resync_costs_no_more_than_a_request_a_project(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, projects=5, jobs_per_pipeline=2) as copy:
        copy.sync_all()
        copy.sync_new()
        copy.sandbox.reset_stats()
        report = copy.sync_new()
        assert report.complete, errors_of(report)
        assert copy.topics() == {"projects": 1, "graphql": 1}
        copy.sandbox.reset_stats()
        report = copy.sync_new(limits={"graphql": False})
        assert report.complete, errors_of(report)
        assert copy.topics() == {"projects": 1, "pipelines": 5}
        assert sum(c.inserted + c.updated for name, c in report.tables.items() if name != "project_days") == 0


def test_days_that_are_over_and_complete_are_not_asked_for_again(copy: Copy) -> None:
    copy.sync_all()
    copy.sandbox.reset_stats()
    report = copy.sync_all()
    assert report.complete, errors_of(report)
    assert set(copy.topics()) <= {"projects", "jobs"}


def test_what_is_new_and_what_changed_is_fetched_and_nothing_else(copy: Copy) -> None:
    copy.sync_all()
    copy.sync_new()
    made = copy.api.change("run", project=101, jobs=5)
    copy.sandbox.reset_stats()
    report = copy.sync_new()
    assert report.complete, errors_of(report)
    assert copy.stored("pipelines", "id", "status") == copy.served_lately("Pipeline", "id", "status")
    assert copy.topics()["pipeline"] == len(made["pipelines"])
    assert copy.topics().get("trace", 0) <= len(made["jobs"])


def test_a_pipeline_that_was_not_over_is_followed_to_its_end(copy: Copy) -> None:
    started = copy.api.change("run", project=101, status="running")
    copy.sync_all()
    copy.sync_new()
    [pipeline] = started["pipelines"]
    assert copy.one("SELECT status FROM pipelines WHERE id = ?", pipeline) == "running"
    copy.api.change("finish", pipeline=pipeline)
    report = copy.sync_new()
    assert report.complete, errors_of(report)
    assert copy.one("SELECT status FROM pipelines WHERE id = ?", pipeline) == "success"
    assert copy.one("SELECT count(*) FROM jobs WHERE pipeline_id = ? AND status = 'running'", pipeline) == 0


def test_a_retried_job_moves_its_pipeline_and_all_that_belongs_to_it_to_another_day(copy: Copy) -> None:
    copy.sync_all()
    job, pipeline, day = copy.query(
        "SELECT j.id, j.pipeline_id, j.day FROM jobs j JOIN job_logs l USING (id) JOIN pipelines p ON p.id = j.pipeline_id "
        "WHERE j.status = 'success' AND NOT j.retried AND p.status = 'success' LIMIT 1"
    )[0]
    moment = dt.datetime.now(dt.UTC)
    copy.api.change("retry", job=job, status="success", at=moment.isoformat())
    copy.sandbox.reset_stats()
    report = copy.sync_new()
    assert report.complete, errors_of(report)
    today = str(moment.date())
    assert day != today
    for table in ("jobs", "job_logs", "pipeline_jobs"):
        assert copy.query(f"SELECT DISTINCT day FROM {table} WHERE pipeline_id = ?", pipeline) == [(today,)], table
    assert copy.one("SELECT retried FROM jobs WHERE id = ?", job) == 1
    assert copy.topics()["trace"] == 1  # the old logs moved without being fetched


# -- what is gone ----------------------------------------------------------------------------------------------


def test_a_pipeline_that_was_deleted_is_kept_and_marked_with_its_jobs(copy: Copy) -> None:
    copy.sync_all()
    pipeline = copy.one(
        "SELECT max(p.id) FROM pipelines p JOIN jobs j ON j.pipeline_id = p.id WHERE p.status = 'success'"
    )
    copy.api.change("delete", pipeline=pipeline)
    report = copy.sync_all(days=0)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT id FROM pipelines WHERE vanished_at IS NOT NULL") == [(pipeline,)]
    assert copy.one("SELECT count(*) FROM jobs WHERE pipeline_id = ? AND vanished_at IS NULL", pipeline) == 0
    assert copy.one("SELECT count(*) FROM jobs WHERE vanished_at IS NOT NULL AND pipeline_id <> ?", pipeline) == 0


def test_a_sync_without_a_range_finds_what_was_deleted_of_days_that_are_over(copy: Copy) -> None:
    copy.sync_all(logs=False, tests=False, artifacts=False)
    first = copy.one("SELECT min(id) FROM pipelines")
    copy.api.change("delete", pipeline=first)
    only = {"logs": False, "tests": False, "artifacts": False}
    report = copy.sync_new(**only)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT id FROM pipelines WHERE vanished_at IS NOT NULL") == [], "it was compared lately"
    copy.sandbox.reset_stats()
    report = copy.sync_new(days=0, sweep=1, **only)
    assert report.complete, errors_of(report)
    lists = copy.topics()["pipelines"]
    assert copy.query("SELECT id FROM pipelines WHERE vanished_at IS NOT NULL") == [(first,)]
    assert copy.one("SELECT count(*) FROM jobs WHERE pipeline_id = ? AND vanished_at IS NULL", first) == 0
    assert report.tables["pipelines"].vanished == 1
    # two lists of each of three projects' days of the range, and the one besides; the next run goes on with the next project
    assert lists == 2 * 3 + 1
    copy.api.change("delete", pipeline=copy.one("SELECT max(id) FROM pipelines WHERE project_id = 107"))
    # a day that was compared within this second is not due, so it is two runs or a few more
    for _ in range(12):
        assert copy.sync_new(days=0, sweep=1, **only).complete
        if copy.one("SELECT count(*) FROM pipelines WHERE vanished_at IS NOT NULL") == 2:
            break
    assert copy.one("SELECT count(*) FROM pipelines WHERE vanished_at IS NOT NULL") == 2


def test_a_pipeline_that_comes_to_a_day_that_was_over_opens_it_again(copy: Copy) -> None:
    only = {"logs": False, "tests": False, "artifacts": False}
    copy.sync_all(**only)
    copy.api.change("run", project=101, at="2026-06-01T12:00:00Z")
    report = copy.sync_new(days=0, **only)
    assert not report.complete
    assert "have come to the day after it was over (1); the next sync lists it again" in errors_of(report)
    assert copy.one("SELECT complete FROM _partitions WHERE table_name = 'pipelines' AND partition = '2026-06-01'") == 0
    report = copy.sync_all(**only)
    assert report.complete, errors_of(report)
    assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")
    assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")


def test_the_log_of_an_erased_job_is_kept_and_marked(copy: Copy) -> None:
    copy.sync_all()
    job, pipeline = copy.query(
        "SELECT l.id, l.pipeline_id FROM job_logs l JOIN jobs j USING (id) WHERE l.state = 'complete' AND NOT j.retried"
    )[0]
    text = copy.one("SELECT text FROM job_logs WHERE id = ?", job)
    copy.api.change("erase", job=job)
    copy.api.change("touch", pipeline=pipeline)
    report = copy.sync_new()
    assert report.complete, errors_of(report)
    assert copy.one("SELECT erased_at FROM jobs WHERE id = ?", job)
    assert copy.query("SELECT text, gone_at IS NOT NULL, state FROM job_logs WHERE id = ?", job) == [
        (text, 1, "complete")
    ]
    assert copy.one("SELECT count(*) FROM artifacts WHERE job_id = ? AND listed", job) == 0


def test_a_log_that_existed_and_now_is_404_is_kept_and_marked(copy: Copy) -> None:
    copy.sync_all()
    job = copy.one("SELECT max(id) FROM job_logs WHERE state = 'complete'")
    copy.sandbox.configure(faults=[f"404@job {job} trace"])
    report = copy.sync_all(force=True, tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    [(state, gone, size)] = copy.query("SELECT state, gone_at, length(text) FROM job_logs WHERE id = ?", job)
    assert (state, gone is not None, size > 0) == ("complete", True, True)
    assert copy.one("SELECT count(*) FROM job_logs WHERE gone_at IS NOT NULL") == 1


def test_a_renamed_and_a_moved_project_stay_one(copy: Copy, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("GITLAB_PROJECTS", "platform/api, 104")
    report = copy.sync_all(logs=False, tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT id FROM projects ORDER BY id") == [(101,), (104,)]
    copy.api.change("rename", project=101, path="renamed")
    copy.api.change("run", project=101)
    report = copy.sync_new(force=True, logs=False, tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT path FROM projects WHERE id = 101") == "platform/renamed"
    assert copy.one("SELECT count(*) FROM projects") == 2


# -- options ---------------------------------------------------------------------------------------------------


def test_a_limit_is_told_and_no_day_counts_as_complete(copy: Copy) -> None:
    report = copy.sync_all(limit=3, tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT count(*) FROM pipelines") >= 3
    assert copy.one("SELECT count(*) FROM _partitions WHERE table_name = 'pipelines' AND complete") == 0
    report = copy.sync_all(tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")


def test_parts_can_be_left_out_and_come_later(copy: Copy) -> None:
    report = copy.sync_all(logs=False, tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    assert set(copy.topics()) == {"projects", "pipelines", "pipeline", "bridges", "jobs"}
    report = copy.sync_all()
    assert report.complete, errors_of(report)
    assert copy.one("SELECT count(*) FROM job_logs") > 0 < copy.one("SELECT count(*) FROM artifact_files")


def test_archives_are_stored_under_ids_and_the_token_does_not_follow_the_redirect(copy: Copy, tmp_path: Path) -> None:
    copy.sandbox.configure(artifact_redirect=True)
    directory = tmp_path / "archives"
    report = copy.sync_all(logs=False, tests=False, limits={"artifact_directory": str(directory)})
    assert report.complete, errors_of(report)
    found = {str(path.relative_to(directory)): path.stat().st_size for path in directory.rglob("*.*")}
    assert found == dict(copy.query("SELECT stored_path, size FROM archives WHERE state = 'listed'"))
    assert found
    topics = copy.topics()
    assert topics["storage"] == len(found)
    assert "token_leak" not in topics


def test_caps_hold_and_lose_nothing(copy: Copy, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("GITLAB_PROJECTS_AT_ONCE", "1")
    monkeypatch.setenv("GITLAB_PIPELINES_AT_ONCE", "1")
    monkeypatch.setenv("GITLAB_JOBS_AT_ONCE", "2")
    copy.sandbox.configure(latency_ms=10)
    copy.sandbox.reset_stats()
    report = copy.sync_all(artifacts=False)
    assert report.complete, errors_of(report)
    assert copy.sandbox.stats()["max_concurrent"] <= 2
    assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")


def test_caps_hold_for_what_bridges_have_started_too(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("GITLAB_PROJECTS_AT_ONCE", "1")
    monkeypatch.setenv("GITLAB_PIPELINES_AT_ONCE", "1")
    with copying(tmp_path, projects=3, pipelines_per_project=10, jobs_per_pipeline=2, latency_ms=5) as copy:
        report = copy.sync_all(logs=False, tests=False, artifacts=False)
        assert report.complete, errors_of(report)
        assert copy.sandbox.stats()["max_concurrent"] == 1
        assert copy.one("SELECT count(*) FROM bridges WHERE downstream_pipeline_id IS NOT NULL") > 0
        assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")


def test_many_pipelines_jobs_come_by_the_projects_list(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, jobs_per_pipeline=4) as copy:
        copy.api.change("run", project=101, count=60, jobs=4, at="2026-06-01T11:00:00Z")
        job = copy.api.rows("Job", ["id"])[-1][0]
        copy.api.change("retry", job=job, status="success", at="2026-06-01T12:00:00Z")
        report = copy.sync_all(logs=False, tests=False, artifacts=False, limits={"workers": 2})
        assert report.complete, errors_of(report)
        labels = copy.sandbox.stats()["labels"]
        assert any(label.startswith("project 101 jobs cursor=") for label in labels)
        assert copy.stored("jobs", "id", "retried", "pipeline_id") == copy.served_lately(
            "Job", "id", "retried", "pipeline_id"
        )
        assert copy.topics()["jobs"] < 60
