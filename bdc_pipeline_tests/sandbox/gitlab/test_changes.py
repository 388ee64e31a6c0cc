from datetime import UTC, datetime
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.gitlab.asking import first, get, rows, truth

PROJECT = 101
AT = "2026-06-05T12:00:00.000Z"


def change(sandbox: Sandbox, action: str, **arguments: Any) -> Any:
    return sandbox.source("gitlab").change(action, **arguments)


def pipeline(sandbox: Sandbox, identifier: int, project: int = PROJECT) -> Any:
    return get(sandbox, f"projects/{project}/pipelines/{identifier}").json


def test_new_pipelines_come_first_and_were_just_changed(own: Sandbox) -> None:
    made = change(own, "run", project=PROJECT, count=2, at=AT)
    listed = rows(own, f"projects/{PROJECT}/pipelines", updated_after=AT)
    assert [row["id"] for row in listed] == made["pipelines"][::-1]
    assert {row["updated_at"] for row in listed} == {AT}
    assert rows(own, f"projects/{PROJECT}/pipelines")[0]["id"] == made["pipelines"][1]
    assert [row["id"] for row in rows(own, f"projects/{PROJECT}/jobs") if row["id"] in made["jobs"]] == [
        row["id"] for row in rows(own, f"projects/{PROJECT}/jobs")[: len(made["jobs"])]
    ]
    assert get(own, f"projects/{PROJECT}").json["last_activity_at"] == AT
    assert pipeline(own, made["pipelines"][0])["iid"] + 1 == pipeline(own, made["pipelines"][1])["iid"]


def test_by_default_it_happens_now(own: Sandbox) -> None:
    before = datetime.now(UTC).isoformat(timespec="milliseconds")
    (made,) = change(own, "run", project="platform/api", jobs=2, ref="hotfix", sha="ab" * 20, pipeline_source="api")[
        "pipelines"
    ]
    found = pipeline(own, made)
    assert before.replace("+00:00", "Z") <= found["updated_at"]
    assert (found["ref"], found["sha"], found["source"]) == ("hotfix", "ab" * 20, "api")
    assert len(rows(own, f"projects/{PROJECT}/pipelines/{made}/jobs")) == 2


@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
def test_a_running_pipeline_ends(own: Sandbox, status: str) -> None:
    (made,) = change(own, "run", project=PROJECT, status="running")["pipelines"]
    assert pipeline(own, made)["finished_at"] is None
    alive = [row["id"] for row in rows(own, f"projects/{PROJECT}/pipelines/{made}/jobs") if row["finished_at"] is None]
    assert sorted(change(own, "finish", pipeline=made, status=status, at="2030-01-01T00:00:00Z")) == sorted(alive)
    found = pipeline(own, made)
    assert (found["status"], found["updated_at"], found["finished_at"]) == (status, *["2030-01-01T00:00:00.000Z"] * 2)
    assert found["duration"] > 0
    jobs = rows(own, f"projects/{PROJECT}/pipelines/{made}/jobs")
    assert {row["status"] for row in jobs} <= {"success", "failed", "canceled", "skipped"}
    assert status in {row["status"] for row in jobs}


def test_a_job_is_retried(own: Sandbox) -> None:
    job = first(own, "Job", ["name", "pipeline_id", "project_id"], status="failed", retried=False)
    path = f"projects/{job['project_id']}/pipelines/{job['pipeline_id']}"
    new = change(own, "retry", job=job["id"], at=AT)
    assert new > max(row["id"] for row in truth(own, "Job", "id") if row["id"] != new)
    named = {row["id"]: row["status"] for row in rows(own, f"{path}/jobs") if row["name"] == job["name"]}
    assert named == {new: "pending"}
    assert job["id"] in [row["id"] for row in rows(own, f"{path}/jobs", include_retried="true")]
    assert (get(own, path).json["status"], get(own, path).json["updated_at"]) == ("running", AT)
    assert rows(own, f"projects/{job['project_id']}/jobs")[0]["id"] == new
    change(own, "finish", job=new)
    assert get(own, f"projects/{job['project_id']}/jobs/{new}").json["status"] == "success"
    assert get(own, f"projects/{job['project_id']}/jobs/{new}/trace").body
    assert get(own, path).json["status"] in {"success", "failed"}


def test_a_retry_changes_the_test_report(own: Sandbox) -> None:
    (made,) = change(own, "run", project=PROJECT, status="failed")["pipelines"]
    path = f"projects/{PROJECT}/pipelines/{made}"
    (job, *_) = [row for row in rows(own, f"{path}/jobs") if row["status"] == "failed" and not row["allow_failure"]]
    before = get(own, f"{path}/test_report").json
    assert before["failed_count"] + before["error_count"] > 0
    new = change(own, "retry", job=job["id"], status="success")
    counted = get(own, f"{path}/test_report_summary").json["test_suites"]
    assert new in [one for suite in counted for one in suite["build_ids"]]
    assert get(own, f"{path}/test_report").json != before


def test_a_pipeline_is_deleted(own: Sandbox) -> None:
    job = first(own, "Job", ["pipeline_id", "project_id"], status="success")
    change(own, "retry", job=job["id"])
    jobs = [row["id"] for row in truth(own, "Job", "id", "pipeline_id") if row["pipeline_id"] == job["pipeline_id"]]
    change(own, "delete", pipeline=job["pipeline_id"])
    path = f"projects/{job['project_id']}"
    for gone in (f"pipelines/{job['pipeline_id']}", f"pipelines/{job['pipeline_id']}/jobs", f"jobs/{job['id']}/trace"):
        assert get(own, f"{path}/{gone}").status == 404
    assert not {row["id"] for row in rows(own, f"{path}/jobs")} & set(jobs)


def test_artifacts_expire(own: Sandbox) -> None:
    (made,) = change(own, "run", project=PROJECT)["pipelines"]
    path = f"projects/{PROJECT}/pipelines/{made}"
    jobs = rows(own, f"{path}/jobs")
    (job, *_) = [row for row in jobs if "artifacts_file" in row and row["name"].startswith("unit")]
    assert get(own, f"{path}/test_report").json["total_count"]
    for row in jobs:
        change(own, "expire", job=row["id"], at=AT)
    after = get(own, f"projects/{PROJECT}/jobs/{job['id']}").json
    assert after["artifacts_expire_at"] == AT
    assert [one["file_type"] for one in after["artifacts"]] == ["trace"]
    assert get(own, f"projects/{PROJECT}/jobs/{job['id']}/artifacts").status == 404
    assert get(own, f"projects/{PROJECT}/jobs/{job['id']}/trace").body
    assert get(own, f"{path}/test_report").json["total_count"] == 0
    assert get(own, f"{path}/test_report_summary").json["total"]["count"] > 0
    assert pipeline(own, made)["updated_at"] != AT


def test_a_job_is_erased(own: Sandbox) -> None:
    job = first(own, "Job", ["project_id"], status="success", erased_at=None)
    path = f"projects/{job['project_id']}/jobs/{job['id']}"
    assert get(own, f"{path}/trace").body
    change(own, "erase", job=job["id"], at=AT)
    after = get(own, path).json
    assert (after["erased_at"], after["artifacts"]) == (AT, [])
    assert (get(own, f"{path}/trace").status, get(own, f"{path}/trace").body) == (200, b"")
    assert get(own, f"{path}/artifacts").status == 404


def test_a_renamed_project_is_found_by_its_old_path(own: Sandbox) -> None:
    assert change(own, "rename", project=PROJECT, path="core") == "platform/core"
    got = get(own, "projects/platform%2Fapi/pipelines", per_page=2)
    assert got.status == 301
    assert got.headers["location"] == f"{own.url}/gitlab/api/v4/projects/101/pipelines?per_page=2"
    assert get(own, "projects/platform%2Fcore").json["web_url"] == f"{own.url}/gitlab/platform/core"
    assert get(own, f"projects/{PROJECT}").json["path_with_namespace"] == "platform/core"
    assert change(own, "move", project="platform/core", namespace="shop") == "shop/core"
    for old in ("platform%2Fapi", "platform%2Fcore"):
        assert get(own, get(own, f"projects/{old}").headers["location"]).json["id"] == PROJECT


def test_a_project_is_denied(own: Sandbox) -> None:
    change(own, "deny", project=PROJECT)
    assert get(own, f"projects/{PROJECT}").status == 200
    for path in ("pipelines", "jobs", "pipelines/50001", "jobs/1000001/trace"):
        got = get(own, f"projects/{PROJECT}/{path}")
        assert (got.status, got.json) == (403, {"message": "403 Forbidden"})
    assert get(own, "projects/104/pipelines").status == 200
    change(own, "deny", project=PROJECT, status=404)
    assert get(own, f"projects/{PROJECT}").status == 404
    assert PROJECT not in [row["id"] for row in rows(own, "projects")]
    change(own, "allow", project=PROJECT)
    assert get(own, f"projects/{PROJECT}/pipelines").status == 200


def test_anything_can_be_set_to_anything(own: Sandbox) -> None:
    job = first(own, "Job", ["project_id", "pipeline_id"], status="success")
    huge = [{"file_type": "archive", "size": 2**63 - 1, "filename": "a.zip", "file_format": None}]
    change(own, "update", entity="Job", id=job["id"], columns={"artifacts": huge, "status": "novel"}, remove=["user"])
    found = get(own, f"projects/{job['project_id']}/jobs/{job['id']}").json
    assert (found["artifacts"], found["status"]) == (huge, "novel")
    assert "user" not in found
    change(own, "update", entity="Pipeline", id=job["pipeline_id"], columns={"updated_at": None, "coverage": 3})
    found = pipeline(own, job["pipeline_id"], job["project_id"])
    assert (found["updated_at"], found["coverage"]) == (None, 3)
    listed = rows(own, f"projects/{job['project_id']}/pipelines", updated_after="2020-01-01")
    assert job["pipeline_id"] not in [row["id"] for row in listed]
    change(own, "update", entity="Project", id=PROJECT, columns={"member": False, "archived": True})
    assert PROJECT not in [row["id"] for row in rows(own, "projects", membership="true")]


def test_a_touch_moves_nothing_but_the_time(own: Sandbox) -> None:
    before = pipeline(own, 50001)
    change(own, "touch", pipeline=50001, at=AT)
    assert pipeline(own, 50001) == {**before, "updated_at": AT}
    assert [row["id"] for row in rows(own, f"projects/{PROJECT}/pipelines", updated_after=AT)] == [50001]
    change(own, "touch", project=PROJECT, at=AT)
    assert [row["id"] for row in rows(own, "projects", last_activity_after=AT)] == [PROJECT]


@pytest.mark.parametrize(
    ("action", "arguments", "sentence"),
    [
        ("explode", {}, "There is no change 'explode'"),
        ("run", {"project": 1}, "There is no project 1"),
        ("run", {"project": PROJECT, "status": "broken"}, "A pipeline cannot be 'broken'"),
        ("run", {"project": PROJECT, "jobs": 999}, "has 0 to 14 jobs, not 999"),
        ("finish", {"pipeline": 1}, "There is no pipeline 1"),
        ("finish", {"job": 1}, "There is no job 1"),
        ("finish", {"pipeline": 50001, "status": "running"}, "not 'running'"),
        ("delete", {}, "does not take these arguments"),
        ("deny", {"project": PROJECT, "status": 500}, "403 or 404, not 500"),
        ("move", {"project": PROJECT, "namespace": "platform"}, "There is a project at platform/api already"),
        ("update", {"entity": "Oops", "id": 1}, "no entity 'Oops'"),
        ("touch", {"pipeline": 50001, "at": "now"}, "A moment is in ISO 8601"),
        ("archive", {"job": 1000001, "kind": "nice"}, "no kind of archive 'nice'"),
        ("log", {"job": 1000001, "base64": "!"}, "must be in base64"),
    ],
)
def test_what_cannot_be_done_is_said(shared: Sandbox, action: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        change(shared, action, **arguments)


def test_unknown_entities_and_columns_are_named(shared: Sandbox) -> None:
    with pytest.raises(ValueError, match="no entity 'Oops'"):
        shared.source("gitlab").rows("Oops", ["id"])
    with pytest.raises(ValueError, match="Pipeline has no column oops"):
        shared.source("gitlab").rows("Pipeline", ["id", "oops"])
