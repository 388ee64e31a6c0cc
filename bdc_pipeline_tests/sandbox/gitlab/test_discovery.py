import json
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.gitlab.asking import get, rows, truth

QUERY = """
query ($ids: [ID!], $since: Time, $after: String) {
  projects(ids: $ids, first: 100, after: $after) {
    nodes { id fullPath lastActivityAt pipelines(updatedAfter: $since, first: 100) { count nodes { id status updatedAt } } }
    pageInfo { hasNextPage endCursor }
  }
  queryComplexity { score limit }
}
"""


@pytest.fixture
def usual(shared: Sandbox) -> Sandbox:
    shared.configure(faults=[], denied=[], complexity_limit=250)
    shared.reset_stats()
    return shared


def ask(sandbox: Sandbox, query: str, **variables: Any) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    url = f"{sandbox.url}/gitlab/api/graphql"
    got = get(sandbox, url, method="POST", body=body, token=None, headers={"Authorization": "Bearer any"})
    assert got.status == 200
    return got.json


def test_activity_of_many_projects_in_one_request(usual: Sandbox) -> None:
    since = "2026-05-30T00:00:00Z"
    wanted = {
        f"gid://gitlab/Project/{project['id']}": {
            f"gid://gitlab/Ci::Pipeline/{row['id']}": (row["status"].upper(), row["updated_at"])
            for row in rows(usual, f"projects/{project['id']}/pipelines", updated_after=since)
        }
        for project in rows(usual, "projects")
    }
    usual.reset_stats()
    answer = ask(usual, QUERY, ids=list(wanted), since=since)
    found = {
        project["id"]: {one["id"]: (one["status"], one["updatedAt"]) for one in project["pipelines"]["nodes"]}
        for project in answer["data"]["projects"]["nodes"]
    }
    assert found == wanted
    assert any(wanted.values())
    assert answer["data"]["queryComplexity"]["score"] < 60
    assert usual.stats()["topics"] == {"graphql": 1}


def test_projects_are_chosen_by_path_and_page(usual: Sandbox) -> None:
    query = "query($p: [String!]) { projects(fullPaths: $p) { nodes { id fullPath } } }"
    found = ask(usual, query, p=["platform/api", "no/such"])["data"]["projects"]["nodes"]
    assert found == [{"id": "gid://gitlab/Project/101", "fullPath": "platform/api"}]
    seen, after = [], None
    while True:
        query = 'query($a: String) { projects(first: 5, after: $a, sort: "id_asc") { nodes { id } pageInfo { hasNextPage endCursor } } }'
        page = ask(usual, query, a=after)["data"]["projects"]
        seen += [node["id"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == [f"gid://gitlab/Project/{101 + 3 * n}" for n in range(12)]


def test_one_project_and_its_pipelines(usual: Sandbox) -> None:
    query = (
        '{ currentUser { username } none: project(fullPath: "x/y") { id } project(fullPath: "platform/api") { name archived'
        "  pipelines(first: 2, status: FAILED) { nodes { id iid ref sha source duration coverage yamlErrors createdAt } } } }"
    )
    data = ask(usual, query)["data"]
    assert data["none"] is None
    assert data["currentUser"] == {"username": "root"}
    failed = rows(usual, "projects/101/pipelines", status="failed")[:2]
    assert [node["iid"] for node in data["project"]["pipelines"]["nodes"]] == [str(row["iid"]) for row in failed]
    children = [row["iid"] for row in truth(usual, "Pipeline", "iid", "parent_id") if row["parent_id"]]
    assert children


def test_a_query_that_costs_too_much_is_refused(usual: Sandbox) -> None:
    usual.configure(complexity_limit=30)
    answer = ask(usual, QUERY)
    assert "data" not in answer
    assert "which exceeds max complexity of 30" in answer["errors"][0]["message"]


@pytest.mark.parametrize("query", ["{ oops }", "{", "{ projects { nodes { id } } " + " " * 10_000 + "}"])
def test_errors_come_with_status_200(usual: Sandbox, query: str) -> None:
    assert ask(usual, query)["errors"]


def test_a_wrong_time_is_an_error(usual: Sandbox) -> None:
    assert "could not be parsed" in ask(usual, QUERY, since="yesterday")["errors"][0]["message"]


def test_denied_projects_have_no_pipelines_or_are_missing(usual: Sandbox) -> None:
    usual.configure(denied=["101", "104=404"])
    found = {node["id"]: node["pipelines"] for node in ask(usual, QUERY)["data"]["projects"]["nodes"]}
    assert found["gid://gitlab/Project/101"]["nodes"] == []
    assert "gid://gitlab/Project/104" not in found


def test_it_goes_wrong_in_graphqls_way(usual: Sandbox) -> None:
    usual.configure(faults=["partial@graphql"])
    answer = ask(usual, QUERY)
    assert answer["data"] == {"projects": None}
    assert answer["errors"]
    usual.configure(faults=["shrunken@graphql"])
    assert ask(usual, QUERY)["data"]["projects"]["nodes"] == []


def test_a_token_is_needed(usual: Sandbox) -> None:
    got = get(usual, f"{usual.url}/gitlab/api/graphql", method="POST", body=b"{}", token=None)
    assert got.json["errors"]
    assert get(usual, f"{usual.url}/gitlab/api/graphql").status == 405
    assert "errors" in get(usual, f"{usual.url}/gitlab/api/graphql", method="POST", body=b"?").json
