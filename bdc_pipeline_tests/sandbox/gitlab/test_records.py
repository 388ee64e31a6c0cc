from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline.sandbox.gitlab.generate import Generator
from bdc_pipeline.sandbox.gitlab.records import DAY, NOW
from bdc_pipeline_tests.sandbox.gitlab.asking import SIZES, get, gitlab_sandbox, rows, truth

JOB = (
    *("id", "name", "stage", "status", "created_at", "started_at", "finished_at", "erased_at", "duration", "coverage"),
    *("queued_duration", "user", "commit", "runner", "artifacts", "artifacts_file", "artifacts_expire_at", "tag_list"),
    *("allow_failure", "failure_reason", "retried", "pipeline_id", "project_id"),
)


Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def jobs(shared: Sandbox) -> Rows:
    return truth(shared, "Job", *JOB)


@pytest.fixture(scope="module")
def cases(shared: Sandbox) -> Rows:
    return truth(
        shared,
        "TestCase",
        *("status", "system_output", "recent_failures", "execution_time", "file", "name", "pipeline_id", "suite"),
    )


def test_a_commit_that_failed_runs_again_within_the_last_fortnight() -> None:
    # what the demo copies, in which `flaky_tests` is to find some
    made = Generator(projects=6, pipelines=12, jobs=10)
    again = 0
    for project in made.make_projects():
        found: dict[str, set[str]] = defaultdict(set)
        for pipeline in made.make_pipelines(project):
            if pipeline.parent is None and pipeline.updated > NOW - 14 * DAY:
                found[pipeline.sha].add(pipeline.status)
        again += sum({"failed", "success"} <= statuses for statuses in found.values())
    assert again >= 3


def test_the_same_seed_gives_the_same_data() -> None:
    columns = ("id", "status", "name", "started_at", "artifacts")
    small = {"projects": 2, "pipelines_per_project": 5, "jobs_per_pipeline": 4}
    with gitlab_sandbox(**small) as one, gitlab_sandbox(**small) as two, gitlab_sandbox(**small, seed=1) as other:
        # In whatever order it is asked for
        first = get(two, "projects/104/jobs").json
        assert truth(one, "Job", *columns) == truth(two, "Job", *columns) != truth(other, "Job", *columns)
        assert [job["started_at"] for job in get(one, "projects/104/jobs").json] == [job["started_at"] for job in first]


def test_the_scale_says_how_much_there_is() -> None:
    with gitlab_sandbox(projects=None, pipelines_per_project=None, jobs_per_pipeline=None) as sandbox:
        assert len(rows(sandbox, "projects")) == 6
        assert len(rows(sandbox, "projects/101/pipelines")) == 12
        assert (
            Counter(
                len(rows(sandbox, f"projects/101/pipelines/{one['id']}/jobs"))
                for one in rows(sandbox, "projects/101/pipelines")
            ).most_common()[0][0]
            == 10
        )


def test_any_number_of_jobs_have_names_of_their_own() -> None:
    with gitlab_sandbox(projects=1, pipelines_per_project=2, jobs_per_pipeline=150, regular=True) as sandbox:
        found = rows(sandbox, "projects/101/pipelines/50001/jobs")
        assert len({job["name"] for job in found}) == len(found) == 150


def test_regular_data_is_plain() -> None:
    with gitlab_sandbox(regular=True) as sandbox:
        pipelines = truth(sandbox, "Pipeline", "status", "parent_id")
        assert Counter(row["status"] for row in pipelines) == {"success": 12 * 27}
        found = truth(sandbox, "Job", *JOB)
        assert len(found) == 12 * 27 * SIZES["jobs_per_pipeline"]
        assert {row["status"] for row in found} == {"success"}
        assert not any(row["retried"] or row["erased_at"] for row in found)
        assert truth(sandbox, "Bridge", "id") == []


def test_pipelines_are_in_every_state(shared: Sandbox) -> None:
    columns = (
        "status",
        "yaml_errors",
        "duration",
        "queued_duration",
        "coverage",
        "updated_at",
        "started_at",
        "finished_at",
    )
    found = truth(shared, "Pipeline", *columns, "id", "project_id")
    assert {row["status"] for row in found} == {
        *("success", "failed", "canceled", "skipped"),
        *("running", "pending", "manual", "created"),
    }
    assert {type(row["coverage"]) for row in found} == {str, type(None)}
    assert {type(row["duration"]) for row in found} == {int, type(None)}
    for row in found:
        assert (row["finished_at"] is None) == (row["duration"] is None)
    (broken, *_) = [row for row in found if row["yaml_errors"]]
    assert broken["status"] == "failed"
    assert rows(shared, f"projects/{broken['project_id']}/pipelines/{broken['id']}/jobs") == []


def test_a_pipeline_in_a_list_has_fewer_keys(shared: Sandbox) -> None:
    listed = rows(shared, "projects/101/pipelines")[3]
    whole = get(shared, f"projects/101/pipelines/{listed['id']}").json
    assert {key: whole[key] for key in listed} == listed
    assert {"duration", "coverage", "user", "started_at", "yaml_errors", "before_sha", "detailed_status"} <= set(
        whole
    ) - set(listed)


def test_jobs_are_in_every_state(jobs: Rows) -> None:
    found = jobs
    statuses = Counter(row["status"] for row in found)
    assert set(statuses) >= {"success", "failed", "canceled", "skipped", "running", "pending", "created", "manual"}
    for row in found:
        if row["status"] in {"success", "failed"}:
            assert row["started_at"] <= row["finished_at"], row
        if row["status"] in {"skipped", "manual", "created", "pending"}:
            assert row["started_at"] is row["duration"] is row["runner"] is None
        if row["status"] == "running":
            assert row["started_at"]
            assert not row["finished_at"]
    reasons = {row["failure_reason"] for row in found if row["status"] == "failed"}
    assert {None, "script_failure", "runner_system_failure"} < reasons
    assert {row["failure_reason"] for row in found if row["status"] == "success"} == {None}
    assert any(row["allow_failure"] and row["status"] == "failed" for row in found)


def test_jobs_have_the_types_that_real_answers_have(jobs: Rows) -> None:
    found = jobs

    def types(name: str) -> set[type]:
        return {type(row[name]) for row in found}

    assert types("coverage") == {float, type(None)}
    assert types("duration") == {float, int, type(None)}
    assert types("queued_duration") == {float, type(None)}
    assert types("user") == types("commit") == types("runner") == {dict, type(None)}
    assert types("erased_at") == types("artifacts_expire_at") == {str, type(None)}
    assert {row["runner"]["name"] for row in found if row["runner"]} == {"gitlab-runner", None}


def test_keys_are_missing_as_in_real_answers(shared: Sandbox) -> None:
    listed = rows(shared, "projects/101/jobs", include_retried="true")
    for job in listed:
        assert "failure_reason" not in job or job["status"] == "failed"
        assert ("artifacts_file" in job) == any(one["file_type"] == "archive" for one in job["artifacts"])
    assert get(shared, f"projects/101/jobs/{listed[0]['id']}").json == listed[0]


def test_artifacts_are_listed_until_they_are_gone(jobs: Rows) -> None:
    found = jobs
    artifacts = [one for row in found for one in row["artifacts"]]
    assert {one["file_type"] for one in artifacts} == {"archive", "metadata", "trace", "junit"}
    assert {one["file_format"] for one in artifacts if one["file_type"] == "trace"} == {None, "raw"}
    assert all(row["artifacts"] == [] for row in found if row["erased_at"])
    expired = [row for row in found if row["artifacts_expire_at"] and row["artifacts_expire_at"] < "2026-05-31"]
    assert expired
    assert {one["file_type"] for row in expired for one in row["artifacts"]} == {"trace"}


def test_the_same_commit_passes_and_fails(shared: Sandbox, jobs: Rows, cases: Rows) -> None:
    outcomes = defaultdict(set)
    pipelines = {row["id"]: row["sha"] for row in truth(shared, "Pipeline", "id", "sha")}
    for row in jobs:
        outcomes[pipelines[row["pipeline_id"]], row["name"]].add(row["status"])
    flaky = [key for key, statuses in outcomes.items() if {"success", "failed"} <= statuses]
    assert len(flaky) > 20
    by_case = defaultdict(set)
    for row in cases:
        by_case[pipelines[row["pipeline_id"]], row["suite"], row["name"]].add(row["status"])
    assert any({"success", "failed"} <= statuses for statuses in by_case.values())


def test_the_default_branch_turns_red_and_green(shared: Sandbox) -> None:
    found = [row for row in truth(shared, "Pipeline", "project_id", "ref", "status") if row["ref"] == "main"]
    found.sort(key=lambda row: row["project_id"])
    turns = {
        (before["status"], after["status"])
        for before, after in pairwise(found)
        if before["project_id"] == after["project_id"]
    }
    assert {("success", "failed"), ("failed", "success"), ("failed", "failed")} <= turns


# --- test reports


def report(sandbox: Sandbox, pipeline: dict[str, Any], what: str) -> Any:
    return get(sandbox, f"projects/{pipeline['project_id']}/pipelines/{pipeline['id']}/{what}").json


def test_a_report_agrees_with_its_summary(shared: Sandbox) -> None:
    pipeline = rows(shared, "projects/101/pipelines", status="success")[0]
    whole, counts = report(shared, pipeline, "test_report"), report(shared, pipeline, "test_report_summary")
    assert (
        whole["total_count"] == counts["total"]["count"] == sum(len(s["test_cases"]) for s in whole["test_suites"]) > 0
    )
    for suite, counted in zip(whole["test_suites"], counts["test_suites"], strict=True):
        assert Counter(case["status"] for case in suite["test_cases"])["success"] == suite["success_count"]
        assert {key: counted[key] for key in suite if key in counted} == {
            key: suite[key] for key in suite if key in counted
        }
    built = {job["id"] for job in rows(shared, f"projects/101/pipelines/{pipeline['id']}/jobs")}
    assert {one for suite in counts["test_suites"] for one in suite["build_ids"]} <= built
    (unit,) = [suite for suite in counts["test_suites"] if suite["name"] == "unit"]
    assert len(unit["build_ids"]) > 1


def test_a_reports_cases_are_of_all_kinds(cases: Rows) -> None:
    found = cases
    assert {row["status"] for row in found} == {"success", "failed", "skipped", "error"}
    assert {type(row["system_output"]) for row in found} == {str, dict, list, type(None)}
    assert {type(row["recent_failures"]) for row in found} == {dict, type(None)}
    assert {type(row["execution_time"]) for row in found} == {int, float}
    names = Counter((row["pipeline_id"], row["suite"], row["name"]) for row in found)
    assert max(names.values()) > 1


def test_a_report_expires_before_its_summary(shared: Sandbox) -> None:
    for row in rows(shared, "projects/101/pipelines", sort="asc"):
        whole, counts = report(shared, row, "test_report"), report(shared, row, "test_report_summary")
        if counts["total"]["count"] and not whole["total_count"]:
            assert whole["test_suites"] == []
            return
    raise AssertionError("Nothing expired.")
