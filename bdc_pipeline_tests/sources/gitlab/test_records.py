"""GitLab's objects as rows: the shapes of the documented examples, and the types that real answers have."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdc_pipeline.sources.gitlab import records, report_rows, values
from bdc_pipeline.sources.gitlab.values import Malformed

JOB: dict[str, Any] = {
    "id": 7,
    "name": "unit",
    "stage": "test",
    "status": "failed",
    "ref": "main",
    "tag": False,
    "coverage": None,
    "allow_failure": False,
    "created_at": "2026-05-01T15:51:10.000Z",
    "started_at": "2026-05-01T17:54:27.722+02:00",
    "finished_at": "2026-05-01T15:54:30Z",
    "erased_at": None,
    "duration": 2,
    "queued_duration": 0.01,
    "user": {"id": 1, "username": "ada", "public_email": "ada@example.com"},
    "commit": {"id": "0ff3ae19", "title": "Fix", "author_email": "ada@example.com"},
    "pipeline": {"id": 6, "project_id": 1, "status": "pending"},
    "failure_reason": "script_failure",
    "artifacts_file": {"filename": "a.zip", "size": 1000},
    "artifacts": [
        {"file_type": "archive", "size": 1000, "filename": "a.zip", "file_format": "zip"},
        {"file_type": "trace", "size": 1500, "filename": "job.log", "file_format": None},
    ],
    "artifacts_expire_at": "2026-06-01T00:00:00.000Z",
    "runner": {"id": 32, "description": "", "ip_address": "10.0.0.1", "runner_type": "project_type", "name": None},
    "runner_manager": {"id": 1, "version": "16.11.1", "ip_address": "10.0.0.1"},
    "tag_list": ["docker", "macos-10.15"],
    "web_url": "https://example.com/foo/bar/-/jobs/7",
    "project": {"ci_job_token_scope_enabled": False},
    "archived": False,
    "source": "push",
}
PIPELINE: dict[str, Any] = {
    "id": 46,
    "iid": 11,
    "project_id": 1,
    "status": "success",
    "ref": "main",
    "sha": "a91957a8",
    "before_sha": "a91957a7",
    "tag": False,
    "yaml_errors": None,
    "user": {"username": "root", "id": 1, "state": "active", "locked": False},
    "created_at": "2026-05-01T11:28:34.085Z",
    "updated_at": "2026-05-02T00:32:35.169+02:00",
    "started_at": None,
    "finished_at": "2026-05-01T11:32:35.145Z",
    "committed_at": None,
    "duration": 123,
    "queued_duration": 1,
    "coverage": "30.0",
    "archived": False,
    "web_url": "https://example.com/foo/bar/pipelines/46",
    "detailed_status": {"icon": "status_success"},
}


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def test_a_job_as_documented() -> None:
    row = records.job(JOB, 1, "2026-05-01")
    assert (row.id, row.pipeline_id, row.duration, row.queued_duration) == (7, 6, 2.0, 0.01)
    assert (row.runner_id, row.runner_version, row.tags, row.commit_title) == (
        32,
        "16.11.1",
        ["docker", "macos-10.15"],
        "Fix",
    )
    assert (row.started_at, row.finished_at) == ("2026-05-01T15:54:27.722Z", "2026-05-01T15:54:30.000Z")
    assert "10.0.0.1" not in repr(row)
    assert "@" not in repr(row)
    assert [(a.file_type, a.size, a.file_format) for a in records.artifacts(JOB, row)] == [
        ("archive", 1000, "zip"),
        ("trace", 1500, None),
    ]


def test_a_pipeline_as_documented() -> None:
    row = records.pipeline(PIPELINE, 1, detailed=True)
    assert (row.id, row.coverage, row.duration, row.user_username) == (46, 30.0, 123.0, "root")
    assert (row.updated_at, row.day) == (
        "2026-05-01T22:32:35.169Z",
        "2026-05-01",
    )  # a day by UTC, not by its own offset


def test_what_a_list_or_an_old_server_leaves_out_is_null() -> None:
    assert records.pipeline({"id": 1}, 9, detailed=False).day == "1970-01-01"
    assert (
        records.pipeline({"id": 1, "updated_at": None, "created_at": PIPELINE["created_at"]}, 9, detailed=False).day
        == "2026-05-01"
    )
    row = records.job({"id": 1, "pipeline": {"id": 2}, "artifacts": None}, 9, "2026-05-01")
    assert (row.failure_reason, row.runner_id, row.tags, row.artifacts_size) == (None, None, [], None)
    assert records.artifacts({}, row) == []
    bridge = records.bridge({"id": 3, "downstream_pipeline": None}, records.pipeline(PIPELINE, 1, detailed=True))
    assert (bridge.downstream_pipeline_id, bridge.downstream_project_id) == (None, None)


@pytest.mark.parametrize(
    ("told", "row"),
    [(None, None), (98.5, 98.5), ("68.49", 68.49), (0, 0.0), ("", None)],
)
def test_coverage_is_a_number_however_it_comes(told: object, row: float | None) -> None:
    assert records.job({**JOB, "coverage": told}, 1, "2026-05-01").coverage == row
    assert records.pipeline({**PIPELINE, "coverage": told}, 1, detailed=True).coverage == row


def test_sizes_are_exact_up_to_64_bits() -> None:
    job = {**JOB, "artifacts": [{"file_type": "archive", "size": 2**63 - 1}], "artifacts_file": {"size": 2**63 - 1}}
    row = records.job(job, 1, "2026-05-01")
    [artifact] = records.artifacts(job, row)
    assert row.artifacts_size == artifact.size == 2**63 - 1
    assert (artifact.filename, artifact.file_format) == ("", None)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("id", "7", "`id` holds"),
        ("id", True, "`id` holds"),
        ("status", {"a": 1}, '`status` holds {"a":1} where a text'),
        ("duration", "soon", "`duration` holds"),
        ("duration", [1], "`duration` holds"),
        ("created_at", "yesterday", "`created_at` holds"),
        ("created_at", 12, "`created_at` holds"),
        ("artifacts", {}, "`artifacts` holds"),
        ("runner", [], "`runner` holds"),
        ("allow_failure", "no", "`allow_failure` holds"),
        ("pipeline", None, "`pipeline` does not tell"),
    ],
)
def test_a_structure_where_a_scalar_belongs_is_a_reject_with_a_sentence(key: str, value: object, said: str) -> None:
    record = {**JOB, key: value}
    with pytest.raises(Malformed) as malformed:
        records.artifacts(record, records.job(record, 1, "2026-05-01"))
    assert said in str(malformed.value)


def test_a_rejected_record_is_kept_without_secrets_and_addresses() -> None:
    kept = values.raw_of({**JOB, "runners_token": "SECRET"})
    assert "SECRET" not in kept
    assert "example.com/foo" in kept
    assert "@" not in kept


def test_of_runs_with_one_name_and_stage_the_latest_counts() -> None:
    jobs = [
        records.job({**JOB, "id": n, "name": name}, 1, "2026-05-01")
        for n, name in ((9, "a"), (3, "a"), (5, "b"), (4, "a"))
    ]
    assert [(row.id, row.retried) for row in records.with_retries(jobs)] == [
        (3, True),
        (4, True),
        (5, False),
        (9, False),
    ]
    other = records.job({**JOB, "id": 11, "name": "a", "stage": "deploy"}, 1, "2026-05-01")
    assert not records.with_retries([jobs[0], other])[0].retried


@pytest.mark.parametrize(
    ("told", "row"),
    [
        (None, None),
        ("text", "text"),
        ({"message": "m"}, '{"message":"m"}'),
        (["a", {"b": 1}], '["a",{"b":1}]'),
    ],
)
def test_system_output_comes_in_four_types(told: object, row: str | None) -> None:
    report = report_rows.test_report((1, 2, "2026-05-01", "x"), {"total_time": 5, "total_count": 1}, "stored")
    suite = report_rows.test_suite(report, 0, {"name": "Secure", "total_time": 5})
    case = report_rows.test_case(
        suite, 0, {"status": "failed", "execution_time": 5, "system_output": told, "recent_failures": None}
    )
    assert (case.system_output, case.execution_time, report.total_time) == (row, 5.0, 5.0)
    assert (
        report_rows.test_case(suite, 0, {"recent_failures": {"count": 3, "base_branch": "main"}}).recent_failures == 3
    )


def test_a_summary_has_other_keys_than_a_report() -> None:
    totals = {"time": 1904, "count": 3363, "success": 3351, "failed": 0, "skipped": 12, "error": 0, "suite_error": None}
    row = report_rows.test_report((1, 2, "2026-05-01", "x"), totals, "expired")
    assert (row.total_time, row.total_count, row.success_count, row.skipped_count) == (1904.0, 3363, 3351, 12)
    assert report_rows.test_suite(row, 0, {"name": "test", "build_ids": [66004, 66005]}).job_ids == [66004, 66005]


def test_every_status_is_kept_and_an_unknown_one_is_alive() -> None:
    assert records.pipeline({"id": 1, "status": "levitating"}, 1, detailed=False).status == "levitating"
    assert records.is_alive("levitating")
    assert not records.is_alive("manual")
    assert not records.is_alive("failed")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(JOB)), _JSON))
def test_whatever_comes_is_a_row_or_malformed(changes: dict[str, Any]) -> None:
    record = {**JOB, **changes}
    with contextlib.suppress(Malformed):
        row = records.job(record, 1, "2026-05-01")
        assert all(artifact.job_id == row.id for artifact in records.artifacts(record, row))
