"""What goes wrong between GitLab and the file, each on a real server: what is kept, what is said, and what heals."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdc_pipeline.warehouse.drain import DrainOptions
from bdc_pipeline_tests.sandbox.limits import limited
from bdc_pipeline_tests.sources.gitlab.syncing import Copy, copying, copying_few_days, errors_of

#: One day, since each costs Dagster's bookkeeping; the changes below are made on it
DAYS = {"first": dt.date(2026, 6, 1), "last": dt.date(2026, 6, 1)}
AT = "2026-06-01T10:00:00Z"
#: What stages say whose days are open because of an earlier one
LATER = [f"{table} of 1 day" for table in ("jobs", "test_reports", "job_logs", "archives")]


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    with copying_few_days(tmp_path) as made:
        yield made


def sync(copy: Copy, **options: object):  # type: ignore[no-untyped-def]
    return copy.sync(**{**DAYS, **options})  # type: ignore[arg-type]


def assert_whole(copy: Copy) -> None:
    """Pipelines of the day with all their jobs, logs and archives."""
    served = [row[0] for row in copy.api.rows("Pipeline", ["id", "updated_at"]) if row[1] and row[1] >= "2026-05-30"]
    assert [row[0] for row in copy.query("SELECT id FROM live_pipelines ORDER BY id")] == served
    jobs = [row[0] for row in copy.api.rows("Job", ["id", "pipeline_id"]) if row[1] in served]
    assert [row[0] for row in copy.query("SELECT id FROM live_jobs ORDER BY id")] == jobs
    traces = {tuple(row[:2]) for row in copy.api.rows("Trace", ["job_id", "sha256"]) if row[0] in jobs}
    assert set(copy.query("SELECT id, sha256 FROM job_logs WHERE state = 'complete'")) == traces
    assert copy.one("SELECT count(*) FROM archives WHERE state <> 'listed'") == 0
    assert copy.one("PRAGMA integrity_check") == "ok"


# -- what passes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        "503:0.04",
        "500~times=2",
        "429~times=2,seconds=1@trace",
        "429~times=1@project 101 pipelines",
        "cut~times=2@trace",
        "cut~times=2@artifacts",
        "html~times=1@project 104 pipelines",
        "html~times=2@jobs",
        "partial~times=1@pipelines page=1",
        "empty~times=1@pipeline ",
        "reset~times=2",
        "timeout~times=1,seconds=0.1",
    ],
)
def test_a_fault_that_passes_leaves_no_trace(copy: Copy, fault: str) -> None:
    copy.sandbox.configure(faults=[fault])
    report = sync(copy, limits={"attempts": 8})
    assert report.complete, errors_of(report)
    assert copy.sandbox.stats()["faults"] or fault.startswith("503")
    copy.sandbox.configure(faults=[])
    assert_whole(copy)


@pytest.mark.parametrize("workers", [1, 8])
def test_a_limit_that_headers_announce_is_kept(copy: Copy, workers: int) -> None:
    copy.sandbox.configure(api_limit=30, limit_seconds=1.0)
    report = sync(copy, limits={"attempts": 10, "workers": workers})
    assert report.complete, errors_of(report)
    if workers == 1:  # with more, one may be under way when the answer to another tells that it was the last for now
        assert copy.sandbox.stats()["rate_limited"] == 0
    copy.sandbox.configure(api_limit=None)
    assert_whole(copy)


def test_a_limit_that_headers_do_not_announce_is_survived(copy: Copy) -> None:
    copy.sandbox.configure(limit_seconds=1.0)
    with limited(copy.sandbox, at_first={"hidden_limits": ["trace=0"]}, then={"hidden_limits": ["trace=15"]}):
        report = sync(copy, limits={"attempts": 12})
    assert report.complete, errors_of(report)
    assert copy.sandbox.stats()["rate_limited"] > 0
    copy.sandbox.configure(hidden_limits=[])
    assert_whole(copy)


# -- one project -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404])
def test_a_project_that_is_refused_costs_the_others_nothing_and_heals(
    copy: Copy, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITLAB_PROJECTS", "101,104,107")
    sync(copy, logs=False, tests=False, artifacts=False)
    copy.api.change("run", project=101, at="2026-06-01T11:00:00Z")
    copy.api.change("run", project=104, at="2026-06-01T11:00:00Z")
    copy.sandbox.configure(denied=[f"104={status}"])
    report = sync(copy, days=0)
    assert not report.complete
    assert {failure.unit for failure in report.failures} <= {"project platform/tools/api", "project 104", *LATER}
    assert copy.one("SELECT count(*) FROM pipelines WHERE project_id = 101 AND day = '2026-06-01'") == 4
    assert copy.one("SELECT count(*) FROM pipelines WHERE project_id = 104 AND day = '2026-06-01'") == 3
    assert copy.one("SELECT count(*) FROM pipelines WHERE vanished_at IS NOT NULL") == 0
    copy.sandbox.configure(denied=[])
    report = sync(copy)
    assert report.complete, errors_of(report)
    assert_whole(copy)


def test_a_project_that_is_hidden_from_the_list_is_kept_and_marked(copy: Copy) -> None:
    sync(copy, logs=False, tests=False, artifacts=False)
    copy.sandbox.configure(denied=["104=404"])
    report = sync(copy)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT id FROM projects WHERE vanished_at IS NOT NULL") == [(104,)]
    assert copy.one("SELECT count(*) FROM live_pipelines WHERE project_id = 104") > 0
    copy.sandbox.configure(denied=[])
    report = sync(copy)
    assert report.complete, errors_of(report)
    assert_whole(copy)


def test_a_refused_token_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with copying(tmp_path, projects=2, pipelines_per_project=2, jobs_per_pipeline=2, token="SYNTHETIC-RIGHT") as copy:
        monkeypatch.setenv("GITLAB_TOKEN", "SYNTHETIC-WRONG")
        report = sync(copy)
        assert not report.complete
        assert report.requests < 20
        assert "Check that the token is right" in errors_of(report)
        assert "SYNTHETIC-WRONG" not in errors_of(report)


def test_an_address_without_its_path_is_told(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_URL", copy.sandbox.url)
    report = sync(copy)
    assert not report.complete
    assert "Is GITLAB_URL the address of a GitLab, with its path if it has one?" in report.failures[0].error


def test_a_token_that_is_refused_while_caps_hold_others_back_ends_it_too(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITLAB_PROJECTS_AT_ONCE", "1")
    copy.sandbox.configure(faults=["401@trace"])
    report = sync(copy)
    assert not report.complete
    assert copy.topics()["trace"] < 10
    assert "Check that the token is right" in errors_of(report)


def test_an_empty_answer_vanishes_nothing(copy: Copy) -> None:
    sync(copy)
    copy.sandbox.configure(faults=["shrunken@pipelines page=1"])
    report = sync(copy, days=0)
    assert copy.one("SELECT count(*) FROM pipelines WHERE vanished_at IS NOT NULL") == 0
    copy.sandbox.configure(faults=[])
    report = sync(copy)
    assert report.complete, errors_of(report)
    assert_whole(copy)


def test_a_pipeline_whose_page_fails_is_kept_from_the_list_and_fetched_again(copy: Copy) -> None:
    pipeline = max(row[0] for row in copy.api.rows("Pipeline", ["id"]))
    copy.sandbox.configure(faults=[f"500@pipeline {pipeline}$"])
    report = sync(copy)
    assert not report.complete
    assert f"pipeline {pipeline}" in errors_of(report)
    assert copy.one("SELECT detailed FROM pipelines WHERE id = ?", pipeline) == 0
    copy.sandbox.configure(faults=[])
    report = sync(copy)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT detailed FROM pipelines WHERE id = ?", pipeline) == 1
    assert_whole(copy)


@pytest.mark.parametrize("action", ["insert", "delete", "touch"])
def test_pipelines_that_come_go_or_change_while_pages_are_read(tmp_path: Path, action: str) -> None:
    with copying(tmp_path, projects=1, pipelines_per_project=1, jobs_per_pipeline=2, regular=True, page_cap=3) as copy:
        copy.api.change("run", project=101, count=10, jobs=1, at=AT)
        copy.sandbox.configure(paging_changes=[{"entity": "Pipeline", "action": action, "every": 1, "times": 2}])
        served = copy.api.rows("Pipeline", ["id", "updated_at"])
        sync(copy, logs=False, tests=False, artifacts=False)
        copy.sandbox.configure(paging_changes=[])
        changed = {tuple(row) for row in served} ^ {
            tuple(row) for row in copy.api.rows("Pipeline", ["id", "updated_at"])
        }
        # two that came or went, or one as it was and as it is since it was touched, twice
        assert len(changed) == 2
        report = sync(copy, logs=False, tests=False, artifacts=False, days=0)
        assert report.complete, errors_of(report)
        before = {
            row[0]
            for row in copy.api.rows("Pipeline", ["id", "updated_at"])
            if row[1] < "2026-06-03" and row[1] > "2026-05-30"
        }
        assert {row[0] for row in copy.query("SELECT id FROM live_pipelines WHERE day < '2026-06-03'")} == before


# -- records ---------------------------------------------------------------------------------------------------


def test_one_malformed_record_is_one_reject(copy: Copy) -> None:
    job = max(row[0] for row in copy.api.rows("Job", ["id"]))
    copy.api.change("update", entity="Job", id=job, columns={"duration": {"seconds": 3}})
    report = sync(copy, logs=False, tests=False, artifacts=False)
    assert not report.complete
    assert report.tables["jobs"].rejected == 1
    [(key, reason)] = copy.query("SELECT record_key, reason FROM _rejects WHERE resolved_at IS NULL")
    assert key == str(job)
    assert "`duration` holds" in reason
    assert (
        copy.one("SELECT count(*) FROM jobs")
        == len([row for row in copy.api.rows("Job", ["id", "created_at"]) if row[1] > "2026-05-30"]) - 1
    )
    copy.api.change("update", entity="Job", id=job, columns={"duration": 3})
    report = sync(copy)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT duration FROM jobs WHERE id = ?", job) == 3


def test_odd_types_are_taken_as_they_come(copy: Copy) -> None:
    [job] = [row[0] for row in copy.api.rows("Job", ["id"])][-1:]
    pipeline = copy.api.rows("Pipeline", ["id"])[-1][0]
    artifact = {"file_type": "archive", "size": 2**63 - 1, "filename": "a.zip", "file_format": None}
    copy.api.change(
        "update", entity="Job", id=job, columns={"artifacts": [artifact], "runner": None, "coverage": "68.5"}
    )
    copy.api.change("update", entity="Pipeline", id=pipeline, columns={"coverage": "30.0", "new_key": [1]})
    report = sync(copy, logs=False, tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT size, file_format FROM artifacts WHERE job_id = ?", job) == [(2**63 - 1, None)]
    assert copy.query("SELECT coverage, runner_id FROM jobs WHERE id = ?", job) == [(68.5, None)]
    assert copy.one("SELECT coverage FROM pipelines WHERE id = ?", pipeline) == 30.0


def test_a_downstream_pipeline_without_its_project_is_found_by_its_address(tmp_path: Path) -> None:
    with copying(tmp_path, projects=3, pipelines_per_project=20, jobs_per_pipeline=3) as copy:
        other = "SELECT b.id, b.downstream_pipeline_id FROM bridges b WHERE b.downstream_project_id <> b.project_id"
        options = {
            "first": dt.date(2026, 4, 15),
            "last": dt.date(2026, 6, 2),
            "logs": False,
            "tests": False,
            "artifacts": False,
        }
        bridges = [row for row in copy.api.rows("Bridge", ["id", "downstream_id", "project_id"]) if row[1] is not None]
        projects = dict(copy.api.rows("Pipeline", ["id", "project_id"]))
        paths = dict(copy.api.rows("Project", ["id", "path_with_namespace"]))
        expected = []
        for bridge, downstream, project in bridges:
            if projects[downstream] != project:
                address = f"{copy.api.url}/{paths[projects[downstream]]}/-/pipelines/{downstream}"
                told = {"id": downstream, "ref": "main", "sha": "c0ffee", "status": "success", "web_url": address}
                copy.api.change("update", entity="Bridge", id=bridge, columns={"downstream_pipeline": told})
                expected.append((bridge, downstream))
        assert expected
        report = copy.sync(**options)
        assert report.complete, errors_of(report)
        assert sorted(copy.query(other)) == sorted(expected)
        assert copy.stored("pipelines", "id", "project_id") == copy.served("Pipeline", "id", "project_id")


# -- logs ------------------------------------------------------------------------------------------------------


def some_job(copy: Copy, **_: object) -> int:
    return int(max(row[0] for row in copy.api.rows("Trace", ["job_id"])))


def test_a_log_of_50_mb_is_kept_whole_and_indexed_in_part(copy: Copy) -> None:
    job = some_job(copy)
    size = copy.api.change("log", job=job, size=50_000_000)
    report = sync(copy, tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    [(stored, cut, length, raw)] = copy.query(
        "SELECT size, text_cut, length(text), raw FROM job_logs WHERE id = ?", job
    )
    assert (stored, cut) == (size, 1)
    assert length < 1_100_000
    assert len(zlib.decompress(raw)) == size


def test_a_log_over_the_limit_is_marked_and_not_cut(copy: Copy) -> None:
    job = some_job(copy)
    size = copy.api.change("log", job=job, size=3_000_000)
    report = sync(copy, tests=False, artifacts=False, limits={"max_log_mb": 1.0})
    assert report.complete, errors_of(report)
    assert copy.query("SELECT state, size, raw FROM job_logs WHERE id = ?", job) == [("too_large", size, None)]
    assert not copy.topics()["trace"] > copy.one("SELECT count(*) FROM job_logs") - 1


def test_invalid_utf_8_and_escapes_stay_in_the_bytes_alone(copy: Copy) -> None:
    raw = b"\x1b[0;33mwarn\x1b[0m caf\xe9 \xff\n\x1b]0;title\x07 10%\r100%\nerror: no\n"
    job = some_job(copy)
    copy.api.change("log", job=job, base64=base64.b64encode(raw).decode())
    report = sync(copy, tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    [(text, invalid, stored, errors)] = copy.query(
        "SELECT text, invalid_bytes, raw, error_lines FROM job_logs WHERE id = ?", job
    )
    assert text == "warn caf\ufffd \ufffd\n100%\nerror: no\n"
    assert (invalid, errors) == (2, "error: no")
    assert zlib.decompress(stored) == raw


def test_a_log_that_may_not_be_read_is_marked_and_costs_no_other(copy: Copy) -> None:
    job = some_job(copy)
    copy.sandbox.configure(faults=[f"403@job {job} trace"])
    report = sync(copy, tests=False, artifacts=False)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT id FROM job_logs WHERE state = 'forbidden'") == [(job,)]


# -- archives --------------------------------------------------------------------------------------------------


def archive_job(copy: Copy, kind: str) -> int:
    jobs = [
        row[0]
        for row in copy.api.rows("Job", ["id", "artifacts_file", "created_at"])
        if row[1] and row[2] > "2026-05-30"
    ]
    copy.api.change("archive", job=jobs[-1], kind=kind)
    return int(jobs[-1])


def test_names_that_lead_out_are_stored_as_they_are_and_written_nowhere(copy: Copy, tmp_path: Path) -> None:
    job = archive_job(copy, "traversal")
    directory = tmp_path / "there" / "archives"
    report = sync(copy, logs=False, tests=False, limits={"artifact_directory": str(directory)})
    assert report.complete, errors_of(report)
    names = {row[0] for row in copy.query("SELECT path FROM artifact_files WHERE job_id = ?", job)}
    assert {"../escaped.txt", "/absolute.txt", "..\\windows.txt"} <= names
    files = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and "gitlab.db" not in path.name and path.suffix != ".log"
    ]
    assert {path.suffix for path in files} == {".zip"}
    assert all(directory in path.parents for path in files)


@pytest.mark.parametrize(("kind", "said"), [("lying", "its directory says"), ("truncated", "no directory at its end")])
def test_an_archive_that_cannot_be_true_is_one_failure_with_a_sentence(copy: Copy, kind: str, said: str) -> None:
    job = archive_job(copy, kind)
    report = sync(copy, logs=False, tests=False)
    assert not report.complete
    assert report.tables["archives"].rejected == 1
    assert len(report.failures) == 1, errors_of(report)
    [(problem,)] = copy.query("SELECT problem FROM archives WHERE id = ? AND state = 'damaged'", job)
    assert said in problem
    copy.sandbox.reset_stats()
    report = sync(copy, logs=False, tests=False)
    assert not report.complete  # it is still open
    assert "artifacts" not in copy.topics()
    assert sync(copy, logs=False, tests=False, drain=DrainOptions(max_rejects=1)).complete


@pytest.mark.parametrize("ranges", [True, False])
def test_an_archive_of_100_000_files_is_listed(copy: Copy, ranges: bool) -> None:
    copy.sandbox.configure(ranges=ranges)
    job = archive_job(copy, "many")
    report = sync(copy, logs=False, tests=False)
    assert report.complete, errors_of(report)
    assert copy.one("SELECT count(*) FROM artifact_files WHERE job_id = ?", job) == 100_000
    assert copy.one("SELECT files FROM archives WHERE id = ?", job) == 100_000


def test_a_bomb_is_listed_without_going_off(copy: Copy) -> None:
    job = archive_job(copy, "bomb")
    report = sync(copy, logs=False, tests=False)
    assert report.complete, errors_of(report)
    assert copy.query("SELECT path, size FROM artifact_files WHERE job_id = ?", job) == [("zeros.bin", 100_000_000)]


def test_without_ranges_what_is_too_large_is_marked(copy: Copy) -> None:
    copy.sandbox.configure(ranges=False)
    report = sync(copy, logs=False, tests=False, limits={"max_artifact_mb": 0.001, "max_log_mb": 0.001})
    assert report.complete, errors_of(report)
    assert {row[0] for row in copy.query("SELECT state FROM archives")} == {"too_large"}


# -- stopping --------------------------------------------------------------------------------------------------


def test_what_a_failing_server_leaves_is_a_file_that_goes_on(copy: Copy) -> None:
    copy.sandbox.configure(faults=["503~after=40"])
    report = sync(copy, limits={"attempts": 1})
    assert not report.complete
    with contextlib.closing(sqlite3.connect(copy.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.sandbox.configure(faults=[])
    report = sync(copy)
    assert report.complete, errors_of(report)
    assert_whole(copy)
