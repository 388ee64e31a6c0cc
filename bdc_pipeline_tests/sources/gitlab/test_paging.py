"""From page to page: however GitLab, or what stands before it, tells what follows, a list is read to its end."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

from bdc_pipeline.fetching.answers import Answer, BadAnswer
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.gitlab.client import Chain, GitLabClient, Page
from bdc_pipeline_tests.sources.gitlab.syncing import Copy, copying_few_days, errors_of

AT = "2026-06-01T11:00:00Z"
ONLY_PIPELINES = {"logs": False, "tests": False, "artifacts": False}


@pytest.mark.parametrize(
    ("headers", "following"),
    [
        ({"Link": '</gitlab/api/v4/x?page=2>; rel="next"'}, "https://ci.example/gitlab/api/v4/x?page=2"),
        ({"Link": '<?page=2> ;  rel = next, <?page=9>; rel="last"'}, "https://ci.example/gitlab/api/v4/x?page=2"),
        (
            {"Link": '<https://ci.example/a>; rel="prev", <https://ci.example/b>; title="x"; REL="next"'},
            "https://ci.example/b",
        ),
        # a proxy that takes links away, or all of GitLab's own headers
        ({"X-Next-Page": ""}, None),
        ({"X-Next-Page": "2"}, "https://ci.example/gitlab/api/v4/x?q=1&page=2"),
        ({"X-Total": "100"}, None),
        ({}, "https://ci.example/gitlab/api/v4/x?q=1&page=2"),
        # GitLab behind a proxy that it knows nothing of
        (
            {"Link": '<http://ci.example/gitlab/api/v4/x?page=2>; rel="next"'},
            "https://ci.example/gitlab/api/v4/x?page=2",
        ),
        (
            {"Link": '<http://git:8080/api/v4/x?cursor=a%2Fb>; rel="next"'},
            "https://ci.example/gitlab/api/v4/x?cursor=a%2Fb",
        ),
        ({"Link": '<https://other.example/x>; rel="next"'}, BadAnswer),
        ({"Link": '<https://[x/>; rel="next"'}, BadAnswer),
    ],
)
def test_a_next_page_is_followed_however_it_is_told(headers: dict[str, str], following: Any) -> None:
    with ApiSession("https://ci.example/gitlab") as session:
        client = GitLabClient(session, most_bytes=1)
        if following is BadAnswer:
            with pytest.raises(BadAnswer):
                client._following(headers, "/api/v4/x?q=1", is_full=True)
        else:
            assert client._following(headers, "/api/v4/x?q=1", is_full=True) == following
            assert client._following({}, "/api/v4/x", is_full=False) is None
            assert client._following({}, "/api/v4/x?pagination=keyset", is_full=True) is None, (
                "a link tells what follows"
            )


def without(patch: pytest.MonkeyPatch, is_lost: Callable[[str], bool]) -> None:
    """A gateway before GitLab that takes some headers away."""
    read = GitLabClient._read_page

    def read_without(client: GitLabClient, answer: Answer, address: str) -> Page:
        kept = {name: value for name, value in answer.headers.items() if not is_lost(name.lower())}
        return read(client, dataclasses.replace(answer, headers=CaseInsensitiveDict(kept)), address)

    patch.setattr(GitLabClient, "_read_page", read_without)


LOST = [lambda name: name == "link", lambda name: name == "link" or name.startswith("x-")]


@pytest.mark.parametrize("is_lost", LOST, ids=["without links", "without any"])
@pytest.mark.parametrize(
    "sizes",
    [{"projects": 101, "jobs_per_pipeline": 1}, {"projects": 1, "jobs_per_pipeline": 130}],
    ids=["projects", "pipelines and jobs"],
)
def test_lists_behind_a_gateway_that_takes_headers_away_are_read_to_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], is_lost: Callable[[str], bool]
) -> None:
    with copying_few_days(tmp_path, pipelines_per_project=1, **sizes) as copy:
        copy.api.change("run", project=101, count=120, jobs=1, at=AT)
        without(monkeypatch, is_lost)
        report = copy.sync_all(**ONLY_PIPELINES)
        assert report.complete, errors_of(report)
        assert copy.one("SELECT count(*) FROM live_projects") == sizes["projects"]
        assert copy.stored("pipelines", "id") == copy.served_lately("Pipeline", "id")
        assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")


def page(*ids: int, following: str | None = None) -> Page:
    return Page([{"id": number} for number in ids], following, None, None, dt.datetime.now(dt.UTC))


def test_a_chain_of_links_goes_on_while_pages_bring_something() -> None:
    chain = Chain("projects")
    assert chain.link_of(page(1, 2, following="b")) == "b"
    assert chain.link_of(page(2, 3, following="c")) == "c"
    for again in (page(4, following="b"), page(3, 1, following="d"), page(following="d"), page(5)):
        with pytest.raises(BadAnswer, match="projects lead in a circle"):
            chain.link_of(again)


@pytest.mark.parametrize("of", ["projects", "projects/101/pipelines", "/jobs"])
def test_links_that_lead_in_a_circle_end_a_list_and_are_told(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    asked = GitLabClient.page

    def circling(client: GitLabClient, path: str, params: Any = None) -> Page:
        found = asked(client, path, params)
        if not path.partition("?")[0].endswith(of) or not found.rows:
            return found
        link = path if "://" in path else f"{client.session.base_url}/api/v4/{path}?page=1"
        return dataclasses.replace(found, next=link, total=None, pages=None)

    monkeypatch.setattr(GitLabClient, "page", circling)
    report = copy.sync_all(**ONLY_PIPELINES)
    assert not report.complete
    assert "lead in a circle" in errors_of(report)


def test_where_a_projects_list_of_jobs_fails_each_pipeline_is_asked_for_its_own(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, projects=1, jobs_per_pipeline=3) as copy:
        copy.api.change("run", project=101, count=80, jobs=3, at=AT)
        copy.sandbox.configure(faults=["500@project 101 jobs"])
        report = copy.sync_all(limits={"workers": 2, "attempts": 1}, **ONLY_PIPELINES)
        assert report.complete, errors_of(report)
        assert any(label.startswith("project 101 jobs") for label in copy.sandbox.stats()["labels"])
        assert copy.stored("jobs", "id") == copy.served_lately("Job", "id")
