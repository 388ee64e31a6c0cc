"""The public client python-gitlab reads everything: the sandbox is true to GitLab's API, not to this project's client."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabAuthenticationError, GitlabGetError, GitlabListError

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.gitlab.asking import first, gitlab_sandbox, truth


@pytest.fixture
def usual(shared: Sandbox) -> Sandbox:
    shared.configure(faults=[], artifact_redirect=False, ranges=True, denied=[])
    shared.reset_stats()
    return shared


@pytest.fixture
def client(usual: Sandbox) -> Iterator[gitlab.Gitlab]:
    with connected(usual) as one:
        yield one


def connected(sandbox: Sandbox, **settings: Any) -> gitlab.Gitlab:
    return gitlab.Gitlab(f"{sandbox.url}/gitlab", **{"private_token": "SYNTHETIC", "per_page": 100, **settings})


def test_projects_by_keyset_and_offset(client: gitlab.Gitlab) -> None:
    by_keyset = client.projects.list(iterator=True, pagination="keyset", order_by="id", sort="asc", per_page=5)
    by_offset = client.projects.list(get_all=True, per_page=5, order_by="id", sort="asc", membership=True)
    wanted = [101 + 3 * n for n in range(12)]
    assert [project.id for project in by_keyset] == wanted == [project.id for project in by_offset]
    counted = client.projects.list(iterator=True)
    assert (counted.total, counted.total_pages, len(counted)) == (12, 1, 12)


def test_a_project_by_path(client: gitlab.Gitlab) -> None:
    assert client.projects.get("platform/tools/api").path_with_namespace == "platform/tools/api"


def test_pipelines(client: gitlab.Gitlab) -> None:
    project = client.projects.get(101)
    pipelines = project.pipelines.list(get_all=True, per_page=10)
    assert len(pipelines) == 27
    assert len(project.pipelines.list(get_all=True, source="parent_pipeline")) > 0
    whole = project.pipelines.get(pipelines[5].id)
    assert (whole.sha, whole.status) == (pipelines[5].sha, pipelines[5].status)


def test_every_job_of_a_project(usual: Sandbox, client: gitlab.Gitlab) -> None:
    wanted = {
        row["id"]: row["retried"]
        for row in truth(usual, "Job", "id", "project_id", "retried")
        if row["project_id"] == 101
    }
    project = client.projects.get(101)
    every = project.jobs.list(iterator=True, pagination="keyset", order_by="id", sort="desc")
    assert {job.id for job in every} == set(wanted)
    found = {}
    for source in (None, "parent_pipeline"):
        for pipeline in project.pipelines.list(get_all=True, **({"source": source} if source else {})):
            latest = {job.id for job in pipeline.jobs.list(get_all=True, per_page=5)}
            for job in pipeline.jobs.list(get_all=True, include_retried=True):
                found[job.id] = job.id not in latest
    assert found == wanted


def test_bridges(usual: Sandbox, client: gitlab.Gitlab) -> None:
    known = first(usual, "Bridge", ["project_id", "pipeline_id", "downstream_id"], status="success")
    (*_, bridge) = client.projects.get(known["project_id"]).pipelines.get(known["pipeline_id"]).bridges.list()
    downstream = bridge.downstream_pipeline
    assert client.projects.get(downstream["project_id"]).pipelines.get(downstream["id"]).sha


def test_logs(client: gitlab.Gitlab) -> None:
    project = client.projects.get(104)
    job = next(job for job in project.jobs.list(scope="success", iterator=True) if not job.erased_at)
    text = project.jobs.get(job.id).trace()
    assert b"section_start:" in text
    assert {one["file_type"]: one["size"] for one in job.attributes["artifacts"]}["trace"] == len(text)


def test_test_reports(client: gitlab.Gitlab) -> None:
    pipeline = client.projects.get(101).pipelines.list(status="success", get_all=False)[0]
    report, summary = pipeline.test_report.get(), pipeline.test_report_summary.get()
    assert report.total_count == summary.total["count"] > 0
    assert report.test_suites[0]["test_cases"][0]["name"]


@pytest.mark.parametrize("redirected", [False, True])
def test_archives(usual: Sandbox, *, redirected: bool) -> None:
    usual.configure(artifact_redirect=redirected)
    with connected(usual, private_token=None, oauth_token="SYNTHETIC") as client:
        project = client.projects.get(101)
        job = next(job for job in project.jobs.list(scope="success", iterator=True) if hasattr(job, "artifacts_file"))
        content = project.jobs.get(job.id).artifacts()
        assert isinstance(content, bytes)
        assert len(content) == job.artifacts_file["size"]
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            assert opened.read("build/app.js") == project.jobs.get(job.id).artifact("build/app.js")
    assert usual.stats()["topics"].get("storage", 0) == int(redirected)
    assert "token_leak" not in usual.stats()["topics"]


def test_who_is_asking(client: gitlab.Gitlab) -> None:
    client.auth()
    assert client.user is not None
    assert client.user.username == "root"
    assert client.personal_access_tokens.get("self").scopes == ["read_api"]
    assert client.version()[0].startswith("17.")


def test_refusals_raise_what_they_should(usual: Sandbox) -> None:
    usual.configure(denied=["104"])
    with connected(usual) as client:
        with pytest.raises(GitlabListError) as denied:
            client.projects.get(104).pipelines.list()
        assert denied.value.response_code == 403
        with pytest.raises(GitlabGetError) as missing:
            client.projects.get("no/such")
        assert (missing.value.response_code, missing.value.error_message) == (404, "404 Project Not Found")
    with (
        gitlab_sandbox(projects=1, token="SYNTHETIC-RIGHT") as sandbox,
        connected(sandbox) as client,
        pytest.raises(GitlabAuthenticationError),
    ):
        client.auth()


def test_a_moved_project_is_followed(usual: Sandbox) -> None:
    with gitlab_sandbox(projects=1) as sandbox, connected(sandbox) as client:
        sandbox.source("gitlab").change("rename", project=101, path="renamed")
        assert client.projects.get("platform/api").path_with_namespace == "platform/renamed"


def test_the_client_obeys_limits(usual: Sandbox, client: gitlab.Gitlab, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("gitlab.utils.time.sleep", pauses.append)
    usual.configure(faults=["429~times=2,seconds=7@project 101"])
    assert client.projects.get(101).id == 101
    assert pauses == [7, 7]
    usual.configure(faults=["503~times=2@project 101"])
    with pytest.raises(GitlabGetError) as down:
        client.projects.get(101)
    assert down.value.response_code == 503
    assert client.projects.get(101, retry_transient_errors=True).id == 101
