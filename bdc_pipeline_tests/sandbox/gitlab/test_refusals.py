import json

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.asking import small_sandbox
from bdc_pipeline_tests.sandbox.gitlab.asking import get, gitlab_sandbox, rows

PROJECT = 101


@pytest.fixture
def usual(shared: Sandbox) -> Sandbox:
    shared.configure(faults=[], rate_limit=None, api_limit=None, hidden_limits=[], denied=[], limit_seconds=60)
    shared.reset_stats()
    return shared


# --- who is let in


def test_a_token_is_needed(usual: Sandbox) -> None:
    for headers in ({}, {"Authorization": "Basic abc"}, {"PRIVATE-TOKEN": " "}):
        got = get(usual, "projects", token=None, headers=headers)
        assert (got.status, got.json) == (401, {"message": "401 Unauthorized"})
    assert get(usual, "projects", token=None, headers={"Authorization": "Bearer x"}).status == 200
    assert get(usual, "projects?private_token=x", token=None).status == 401


def test_the_token_must_be_the_right_one() -> None:
    with gitlab_sandbox(projects=1, token="SYNTHETIC-RIGHT") as sandbox:
        assert get(sandbox, "projects", token="SYNTHETIC-WRONG").status == 401
        assert get(sandbox, "projects", token="SYNTHETIC-RIGHT").status == 200
        assert get(sandbox, "user", token="SYNTHETIC-RIGHT").json["username"] == "root"


def test_only_reading_is_served(usual: Sandbox) -> None:
    assert get(usual, "projects", method="POST", body=b"{}").status == 405
    for path in ("nothing", "projects/101/oops", "projects/101/jobs/x", "projects/101/pipelines/50001/oops"):
        assert get(usual, path).status == 404
    assert get(usual, f"{usual.url}/gitlab/other").status == 404


def test_what_is_not_there_is_not_found(usual: Sandbox) -> None:
    assert get(usual, "projects/999").json == {"message": "404 Project Not Found"}
    for path in ("pipelines/1", "pipelines/50003", "jobs/5", "jobs/999999999/trace"):
        assert get(usual, f"projects/{PROJECT}/{path}").status == 404


def test_options_deny_projects(usual: Sandbox) -> None:
    usual.configure(denied=["101", "platform/tools/api=404"])
    assert get(usual, "projects/101/pipelines").status == 403
    assert get(usual, "projects/platform%2Ftools%2Fapi").status == 404
    assert len(rows(usual, "projects")) == 11
    usual.configure(denied=[])
    assert len(rows(usual, "projects")) == 12


# --- what is counted


def test_requests_have_labels_and_topics(usual: Sandbox) -> None:
    for path in (
        "projects?page=2",
        "projects?pagination=keyset&order_by=id",
        "projects?pagination=keyset&order_by=id&sort=asc&id_after=104",
        "projects/platform%2Fapi",
        "projects/101/pipelines",
        "projects/platform%2Fapi/pipelines?source=parent_pipeline&page=3",
        "projects/101/jobs?pagination=keyset",
        "projects/101/pipelines/50001",
        "projects/101/pipelines/50001/jobs?per_page=100",
        "projects/101/pipelines/50001/bridges",
        "projects/101/pipelines/50001/test_report",
        "projects/101/pipelines/50001/test_report_summary",
        "projects/101/jobs/1000001",
        "projects/101/jobs/1000001/trace",
        "projects/101/jobs/1000001/artifacts",
        "projects/101/jobs/1000001/artifacts/build/app.js",
    ):
        get(usual, path)
    stats = usual.stats()
    assert stats["labels"] == dict.fromkeys(
        [
            "projects page=2",
            "projects keyset",
            "projects id_after=104",
            "project 101",
            "project 101 pipelines page=1",
            "project 101 pipelines page=3 source=parent_pipeline",
            "project 101 jobs keyset",
            "pipeline 50001",
            "pipeline 50001 jobs page=1",
            "pipeline 50001 bridges page=1",
            "pipeline 50001 test_report",
            "pipeline 50001 test_report_summary",
            "job 1000001",
            "job 1000001 trace",
            "job 1000001 artifacts",
            "job 1000001 artifacts build/app.js",
        ],
        1,
    )
    once = ("project", "pipeline", "bridges", "job", "trace", "test_report", "test_report_summary")
    assert stats["topics"] == {"projects": 3, "pipelines": 2, "jobs": 2, "artifacts": 2, **dict.fromkeys(once, 1)}


def test_a_cursor_is_labelled_with_its_id(usual: Sandbox) -> None:
    got = get(usual, "projects/101/jobs", pagination="keyset")
    get(usual, got.links["next"])
    assert list(usual.stats()["labels"]) == ["project 101 jobs keyset", f"project 101 jobs cursor={got.json[-1]['id']}"]


def test_a_token_on_another_host_is_noticed(usual: Sandbox) -> None:
    get(usual, "projects", host=usual.url.replace("http://127.0.0.1", "localhost"))
    assert usual.stats()["topics"] == {"projects": 1, "token_leak": 1}


def test_a_token_that_follows_the_redirect_fault_is_noticed(usual: Sandbox) -> None:
    usual.configure(faults=["redirect~times=1"])
    got = get(usual, "projects")
    assert got.status == 302
    assert get(usual, got.headers["location"], token=None).status == 401
    assert "token_leak" not in usual.stats()["topics"]
    assert get(usual, got.headers["location"]).status == 200
    assert usual.stats()["topics"]["token_leak"] == 1


# --- limits


def test_the_announced_limit_counts_down(usual: Sandbox) -> None:
    assert not any(name.startswith("ratelimit") for name in get(usual, "projects").headers)
    usual.configure(api_limit=2, limit_seconds=100_000_000)
    told = [
        {name: value for name, value in get(usual, "projects/101").headers.items() if name.startswith("ratelimit")}
        for _ in range(2)
    ]
    assert [(one["ratelimit-observed"], one["ratelimit-remaining"]) for one in told] == [("1", "1"), ("2", "0")]
    assert told[0]["ratelimit-name"] == "throttle_authenticated_api"
    assert int(told[0]["ratelimit-reset"]) % 100_000_000 == 0
    got = get(usual, "projects/101")
    assert (got.status, got.headers["content-type"], got.body) == (429, "text/plain", b"Retry later\n")
    assert int(got.headers["retry-after"]) > 0
    assert got.headers["ratelimit-remaining"] == "0"
    assert "GMT" in got.headers["ratelimit-resettime"]
    assert usual.stats()["rate_limited"] == 1


def test_a_limit_may_be_hidden(usual: Sandbox) -> None:
    usual.configure(hidden_limits=["trace=1"], limit_seconds=100_000_000)
    path = "projects/101/jobs/1000001"
    first, second = get(usual, f"{path}/trace"), get(usual, f"{path}/trace")
    assert [first.status, second.status, get(usual, path).status] == [200, 429, 200]
    assert not any(name.startswith("ratelimit") for name in {**first.headers, **second.headers})
    assert "too many times" in second.json["message"]["error"]
    assert "retry-after" in second.headers


def test_the_shared_limit_answers_in_gitlabs_words(usual: Sandbox) -> None:
    for status in (200, 429):
        usual.configure(rate_limit=0.001, rate_limit_status=status)
        assert get(usual, "projects/101").status == 200
        got = get(usual, "projects/101")
        assert (got.status, got.body) == (429, b"Retry later\n")
        assert "retry-after" in got.headers


# --- faults


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        ("429~seconds=3", 429, b"Retry later\n"),
        ("401", 401, b'{"message":"401 Unauthorized"}'),
        ("403", 403, b'{"message":"403 Forbidden"}'),
        ("404", 404, b'{"message":"404 Not Found"}'),
        ("500", 500, b'{"message":"500 Internal Server Error"}'),
    ],
)
def test_faults_are_worded_as_gitlab_does(usual: Sandbox, fault: str, status: int, body: bytes) -> None:
    usual.configure(faults=[f"{fault}@project 101$"])
    got = get(usual, "projects/101")
    assert (got.status, got.body) == (status, body)
    assert got.headers.get("retry-after") == ("3" if status == 429 else None)
    assert get(usual, "projects/104").status == 200


def test_a_server_that_is_down_answers_a_page(usual: Sandbox) -> None:
    usual.configure(faults=["502~times=1"])
    got = get(usual, "projects")
    assert (got.status, got.headers["content-type"]) == (502, "text/html; charset=UTF-8")
    assert get(usual, "projects").status == 200


def test_a_shrunken_list_is_empty_and_says_so(usual: Sandbox) -> None:
    usual.configure(faults=["shrunken"])
    got = get(usual, "projects/101/pipelines", per_page=5)
    assert (got.status, got.json, got.links) == (200, [], {})
    assert (got.headers["x-total"], got.headers["x-next-page"]) == ("0", "")
    assert get(usual, "projects/101/pipelines/50001/test_report").json["test_suites"] == []
    assert get(usual, "projects/101/jobs/1000001/trace").body == b""


def test_a_partial_answer_is_broken_json(usual: Sandbox) -> None:
    usual.configure(faults=["partial@pipelines"])
    got = get(usual, "projects/101/pipelines")
    assert got.status == 200
    with pytest.raises(json.JSONDecodeError):
        got.json  # noqa: B018


def test_a_fault_hits_one_log(usual: Sandbox) -> None:
    usual.configure(faults=["404@^job 1000001 trace$"])
    assert get(usual, "projects/101/jobs/1000001/trace").status == 404
    assert get(usual, "projects/101/jobs/1000002/trace").status == 200


def test_it_is_served_beside_the_others() -> None:
    with small_sandbox(customers=20, devices=20, homes=36) as sandbox:
        assert len(rows(sandbox, "projects")) == 6
