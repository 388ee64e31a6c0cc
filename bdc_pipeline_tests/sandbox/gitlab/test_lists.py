from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.gitlab.asking import SIZES, first, get, gitlab_sandbox, rows, truth

PROJECT = 101


@pytest.fixture
def usual(shared: Sandbox) -> Sandbox:
    shared.configure(count_limit=10_000, offset_limit=50_000)
    return shared


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in found]


def test_a_page_by_offset_says_where_it_is(usual: Sandbox) -> None:
    got = get(usual, f"projects/{PROJECT}/pipelines", page=2, per_page=10)
    paging = {name: value for name, value in got.headers.items() if name.startswith("x-")}
    assert paging == {
        "x-next-page": "3",
        "x-page": "2",
        "x-per-page": "10",
        "x-prev-page": "1",
        "x-total": "27",
        "x-total-pages": "3",
    }
    base = f"{usual.url}/gitlab/api/v4/projects/{PROJECT}/pipelines"
    assert got.links == {
        rel: f"{base}?page={page}&per_page=10" for rel, page in {"prev": 1, "next": 3, "first": 1, "last": 3}.items()
    }


def test_the_last_page_has_no_next(usual: Sandbox) -> None:
    got = get(usual, f"projects/{PROJECT}/pipelines", page=3, per_page=10)
    assert len(got.json) == 7
    assert (got.headers["x-next-page"], got.headers["x-prev-page"]) == ("", "2")
    assert set(got.links) == {"prev", "first", "last"}


def test_a_page_behind_the_last_is_empty(usual: Sandbox) -> None:
    got = get(usual, f"projects/{PROJECT}/pipelines", page=9)
    assert (got.status, got.json, got.headers["x-next-page"]) == (200, [], "")


def test_there_are_20_rows_unless_asked_for_and_100_at_most(usual: Sandbox) -> None:
    path = f"projects/{PROJECT}/jobs"
    assert [len(get(usual, path).json), len(get(usual, path, per_page=1000).json)] == [20, 100]


def test_totals_are_missing_above_the_limit(usual: Sandbox) -> None:
    usual.configure(count_limit=26)
    got = get(usual, f"projects/{PROJECT}/pipelines", per_page=10)
    assert not {"x-total", "x-total-pages"} & set(got.headers)
    assert set(got.links) == {"next", "first"}
    assert len(rows(usual, f"projects/{PROJECT}/pipelines")) == 27


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"page": "x"}, 400, "page is invalid"),
        ({"per_page": "0"}, 400, "per_page does not have a valid value"),
        ({"status": "broken"}, 400, "status does not have a valid value"),
        ({"order_by": "duration"}, 400, "order_by does not have a valid value"),
        ({"updated_after": "2026-05-01T00:00:00 00:00"}, 400, "updated_after is invalid"),
        ({"pagination": "keyset"}, 405, "Keyset pagination is not yet available for this type of request"),
    ],
)
def test_what_is_asked_wrongly_is_refused(usual: Sandbox, query: dict[str, str], status: int, message: str) -> None:
    got = get(usual, f"projects/{PROJECT}/pipelines", **query)
    assert (got.status, got.json) == (status, {"error": message})


# --- projects


def test_projects_come_by_keyset_until_an_empty_page(usual: Sandbox) -> None:
    asked = {"order_by": "id", "sort": "asc", "pagination": "keyset", "per_page": 6}
    pages = [get(usual, "projects", **asked)]
    while "next" in pages[-1].links:
        pages.append(get(usual, pages[-1].links["next"]))
    assert [len(page.json) for page in pages] == [6, 6, 0]
    assert ids([row for page in pages for row in page.json]) == [101 + 3 * n for n in range(12)]
    assert pages[0].links == {
        "next": f"{usual.url}/gitlab/api/v4/projects?order_by=id&sort=asc&pagination=keyset&per_page=6&id_after=116"
    }
    assert "x-page" not in pages[0].headers


def test_projects_come_by_keyset_backwards(usual: Sandbox) -> None:
    found = rows(usual, "projects", order_by="id", pagination="keyset", per_page=5)
    assert ids(found) == [101 + 3 * n for n in reversed(range(12))]


def test_projects_come_newest_first_by_offset(usual: Sandbox) -> None:
    assert ids(rows(usual, "projects", per_page=5)) == [101 + 3 * n for n in reversed(range(12))]


def test_projects_by_keyset_need_an_order_by_id(usual: Sandbox) -> None:
    assert get(usual, "projects", pagination="keyset").status == 405


def test_offsets_of_projects_are_limited(usual: Sandbox) -> None:
    usual.configure(offset_limit=10)
    assert get(usual, "projects", page=2, per_page=5).status == 200
    got = get(usual, "projects", page=3, per_page=5)
    assert got.status == 405
    assert "maximum allowed offset of 10 " in got.json["error"]
    assert "keyset" in got.json["error"]


def test_projects_can_be_chosen(usual: Sandbox) -> None:
    every = rows(usual, "projects")
    archived = [project["id"] for project in every if project["archived"]]
    assert len(archived) == 1
    assert ids(rows(usual, "projects", archived="true")) == archived
    assert len(rows(usual, "projects", archived="false", membership="true")) == 11
    late = sorted(project["last_activity_at"] for project in every)[-3]
    assert len(rows(usual, "projects", last_activity_after=late)) == 3
    assert len(rows(usual, "projects", id_after=110)) == 8


def test_simple_projects_have_no_secrets(usual: Sandbox) -> None:
    assert "runners_token" in rows(usual, "projects")[0]
    assert "runners_token" not in rows(usual, "projects", simple="true")[0]


def test_a_project_is_found_by_id_and_by_path(usual: Sandbox) -> None:
    project = get(usual, f"projects/{PROJECT}").json
    assert project["path_with_namespace"] == "platform/api"
    assert get(usual, "projects/platform%2Fapi").json == project
    assert get(usual, "projects/platform%2Ftools%2Fapi").json["id"] != PROJECT
    assert get(usual, "projects/platform/api").status == 404
    missing = get(usual, "projects/platform%2Fnone")
    assert (missing.status, missing.json) == (404, {"message": "404 Project Not Found"})


# --- pipelines


def test_children_are_listed_only_when_asked_for(usual: Sandbox) -> None:
    listed = rows(usual, f"projects/{PROJECT}/pipelines")
    children = rows(usual, f"projects/{PROJECT}/pipelines", source="parent_pipeline")
    assert len(listed) == 27
    assert children
    assert not set(ids(listed)) & set(ids(children))
    of_project = [
        row for row in truth(usual, "Pipeline", "id", "project_id", "parent_id") if row["project_id"] == PROJECT
    ]
    assert {row["id"] for row in of_project if row["parent_id"]} == set(ids(children))
    assert len(of_project) == len(listed) + len(children)


def test_pipelines_are_filtered_by_time_with_both_bounds_included(usual: Sandbox) -> None:
    path = f"projects/{PROJECT}/pipelines"
    times = sorted(row["updated_at"] for row in rows(usual, path))
    within = rows(usual, path, updated_after=times[5], updated_before=times[9])
    assert sorted(row["updated_at"] for row in within) == times[5:10]
    assert len(rows(usual, path, updated_after=times[5].replace("Z", "+00:00"))) == len(times) - 5
    assert rows(usual, path, updated_after="2026-07-01") == []


def test_pipelines_are_filtered_and_sorted(usual: Sandbox) -> None:
    path = f"projects/{PROJECT}/pipelines"
    every = rows(usual, path)
    assert ids(every) == sorted(ids(every), reverse=True)
    assert ids(rows(usual, path, sort="asc")) == sorted(ids(every))
    by_time = rows(usual, path, order_by="updated_at", sort="asc")
    assert [row["updated_at"] for row in by_time] == sorted(row["updated_at"] for row in every)
    for name in ("status", "ref", "source", "sha"):
        wanted = every[4][name]
        assert ids(rows(usual, path, **{name: wanted})) == [row["id"] for row in every if row[name] == wanted]
    finished = rows(usual, path, scope="finished")
    assert {row["status"] for row in finished} <= {"success", "failed", "canceled", "skipped"}
    branches = rows(usual, path, scope="branches")
    assert len({row["ref"] for row in branches}) == len(branches) > 1


# --- jobs


def test_retried_jobs_are_listed_only_when_asked_for(usual: Sandbox) -> None:
    job = first(usual, "Job", ["name", "pipeline_id", "project_id"], retried=True)
    path = f"projects/{job['project_id']}/pipelines/{job['pipeline_id']}/jobs"
    plain, every = rows(usual, path), rows(usual, path, include_retried="true")
    assert len(plain) == SIZES["jobs_per_pipeline"]
    assert set(ids(plain)) < set(ids(every))
    twice = [row for row in every if row["name"] == job["name"]]
    assert len(twice) == 2
    assert (twice[1]["id"], twice[1]["status"]) == (job["id"], "failed")
    assert twice[0]["id"] > twice[1]["id"]


def test_a_projects_jobs_are_all_runs_of_all_pipelines(usual: Sandbox) -> None:
    wanted = [row["id"] for row in truth(usual, "Job", "id", "project_id") if row["project_id"] == PROJECT]
    asked = {"pagination": "keyset", "order_by": "id", "sort": "desc"}
    assert ids(rows(usual, f"projects/{PROJECT}/jobs", **asked)) == wanted[::-1]
    assert ids(rows(usual, f"projects/{PROJECT}/jobs")) == wanted[::-1]


def test_a_projects_jobs_are_never_counted(usual: Sandbox) -> None:
    path = f"projects/{PROJECT}/jobs"
    by_keyset = get(usual, path, pagination="keyset", per_page=7)
    assert set(by_keyset.links) == {"next"}
    assert "cursor=" in by_keyset.links["next"]
    assert "x-page" not in by_keyset.headers
    by_offset = get(usual, path, per_page=7)
    assert set(by_offset.links) == {"next", "first"}
    assert "x-total" not in by_offset.headers
    assert by_offset.json == by_keyset.json
    assert get(usual, path, pagination="keyset", sort="asc").status == 405
    assert get(usual, path, pagination="keyset", cursor="!").status == 400


def test_jobs_are_chosen_by_scope(usual: Sandbox) -> None:
    found = rows(usual, f"projects/{PROJECT}/jobs", **{"scope[]": ["failed", "skipped"]})
    assert {row["status"] for row in found} == {"failed", "skipped"}
    assert get(usual, f"projects/{PROJECT}/jobs", **{"scope[]": "broken"}).status == 400


def test_bridges_are_apart_from_jobs(usual: Sandbox) -> None:
    bridges = truth(usual, "Bridge", "id", "pipeline_id", "project_id", "downstream_id")
    pipelines = {row["id"]: row for row in truth(usual, "Pipeline", "id", "project_id", "source")}
    kinds = set()
    for bridge in bridges:
        path = f"projects/{bridge['project_id']}/pipelines/{bridge['pipeline_id']}"
        (shown,) = [row for row in rows(usual, f"{path}/bridges") if row["id"] == bridge["id"]]
        assert bridge["id"] not in ids(rows(usual, f"{path}/jobs", include_retried="true"))
        downstream = shown["downstream_pipeline"]
        if downstream is None:
            kinds.add("none")
        else:
            assert downstream["project_id"] == pipelines[downstream["id"]]["project_id"]
            same = downstream["project_id"] == bridge["project_id"]
            kinds.add("child" if same else "elsewhere")
            assert downstream["source"] == ("parent_pipeline" if same else "pipeline")
    assert kinds == {"none", "child", "elsewhere"}
    assert get(usual, f"projects/{bridges[0]['project_id']}/jobs/{bridges[0]['id']}").status == 404


def test_lists_may_drift_while_they_are_read() -> None:
    insert = {"entity": "Pipeline", "action": "insert", "times": 1}
    with gitlab_sandbox(paging_changes=()) as sandbox:
        path = f"projects/{PROJECT}/pipelines"
        sandbox.configure(paging_changes=[insert])
        seen = ids(rows(sandbox, path, per_page=10))
        assert len(seen) == 28
        assert len(set(seen)) == 27
        sandbox.configure(paging_changes=[{**insert, "action": "delete"}])
        seen = ids(rows(sandbox, path, per_page=10))
        left = ids(rows(sandbox, path))
        assert len(left) == 27
        assert len(set(left) - set(seen)) == 1


def test_job_lists_may_drift_too() -> None:
    with gitlab_sandbox(projects=1, pipelines_per_project=4) as sandbox:
        path = f"projects/{PROJECT}/pipelines/50001/jobs"
        before = ids(rows(sandbox, path))
        sandbox.configure(paging_changes=[{"entity": "Job", "action": "insert", "times": 1}])
        seen = ids(rows(sandbox, path, per_page=5))
        assert len(seen) == len(set(seen)) + 1
        after = ids(rows(sandbox, path))
        assert after[1:] == before
        assert after[0] == rows(sandbox, f"projects/{PROJECT}/jobs")[0]["id"]
        sandbox.configure(paging_changes=[{"entity": "Job", "action": "delete", "times": 1}])
        assert len(rows(sandbox, path, per_page=5)) == len(after) - 1
