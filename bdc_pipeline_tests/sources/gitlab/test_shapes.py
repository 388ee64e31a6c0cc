"""The shapes of GitLab's answers: each kind that its documentation shows, and whatever its own JSON schemas allow.

The shapes are GitLab's (doc/api/{projects,pipelines,jobs}.md, spec/fixtures/api/schemas/public_api/v4, doc/api/openapi); the values
are made up here. Where a schema and real answers disagree, both are allowed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bdc_pipeline.fetching.pacing import pause_asked_for
from bdc_pipeline.sources.gitlab import records, report_rows
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.client import next_link
from bdc_pipeline.sources.gitlab.whole import project_path
from bdc_pipeline.warehouse.store import Store

Shape = dict[str, Any]
DAY = "2031-02-03"


# -- what the documentation shows ------------------------------------------------------------------------------

USER: Shape = {
    "id": 41,
    "name": "Ada",
    "username": "ada",
    "state": "active",
    "public_email": "",
    "bio": None,
    "avatar_url": "https://avatars.example/ada?s=80",
    "web_url": "https://ci.example/ada",
    "location": None,
}
COMMIT: Shape = {
    "id": "c0ffee00",
    "short_id": "c0ffee",
    "title": "Mend the build",
    "message": "Mend the build\n",
    "author_name": "Ada",
    "author_email": "ada@ci.example",
    "created_at": "2031-02-03T04:00:00.000+01:00",
}
RUNNER: Shape = {
    "id": 77,
    "description": "",
    "ip_address": None,
    "active": True,
    "paused": False,
    "is_shared": True,
    "runner_type": "instance_type",
    "name": None,
    "online": False,
    "status": "offline",
}
MANAGER: Shape = {
    "id": 5,
    "system_id": "s_1",
    "version": "19.1.0",
    "revision": "abc",
    "platform": "linux",
    "status": "offline",
    "architecture": "arm64",
    "created_at": "2031-01-01T00:00:00.000Z",
    "contacted_at": None,
    "ip_address": "10.1.1.1",
}
OF_PIPELINE: Shape = {"id": 900, "project_id": 12, "ref": "main", "sha": "c0ffee00", "status": "pending"}
JOB: Shape = {
    "id": 501,
    "name": "lint",
    "stage": "check",
    "status": "failed",
    "ref": "main",
    "tag": False,
    "coverage": None,
    "allow_failure": False,
    "created_at": "2031-02-03T04:05:06.000Z",
    "started_at": "2031-02-03T04:06:00.500Z",
    "finished_at": "2031-02-03T04:07:00.750Z",
    "erased_at": None,
    "duration": 60.25,
    "queued_duration": 0.01,
    "user": USER,
    "commit": COMMIT,
    "pipeline": OF_PIPELINE,
    "failure_reason": "script_failure",
    "source": "push",
    "web_url": "https://ci.example/a/b/-/jobs/501",
    "artifacts_expire_at": "2031-03-03T04:07:00.750Z",
    "project": {"ci_job_token_scope_enabled": False},
    "archived": False,
    "tag_list": ["arm", "big disk"],
    "runner": RUNNER,
    "runner_manager": MANAGER,
    "artifacts_file": {"filename": "out.zip", "size": 4096},
    "artifacts": [
        {"file_type": "archive", "size": 4096, "filename": "out.zip", "file_format": "zip"},
        {"file_type": "metadata", "size": 99, "filename": "metadata.gz", "file_format": "gzip"},
        {"file_type": "trace", "size": 2048, "filename": "job.log", "file_format": "raw"},
        {"file_type": "junit", "size": 512, "filename": "junit.xml.gz", "file_format": "gzip"},
    ],
}
LISTED: Shape = {
    "id": 900,
    "iid": 31,
    "project_id": 12,
    "status": "pending",
    "source": "web",
    "ref": "main",
    "sha": "c0ffee00",
    "name": "Nightly",
    "web_url": "https://ci.example/a/b/pipelines/900",
    "created_at": "2031-02-03T04:00:00.085Z",
    "updated_at": "2031-02-03T04:10:00.169Z",
}
PAGE: Shape = {
    **LISTED,
    "before_sha": "deadbeef",
    "tag": False,
    "yaml_errors": None,
    "user": USER,
    "committed_at": None,
    "started_at": "2031-02-03T04:01:00.000Z",
    "finished_at": None,
    "duration": 34,
    "queued_duration": 6,
    "coverage": None,
    "archived": False,
    "detailed_status": {"icon": "status_success", "illustration": None},
}
SIMPLE: Shape = {
    "id": 12,
    "description": None,
    "name": "B",
    "name_with_namespace": "A / B",
    "path": "b",
    "star_count": 0,
    "path_with_namespace": "a/b",
    "created_at": "2030-09-30T13:46:02Z",
    "default_branch": "main",
    "avatar_url": None,
    "tag_list": ["one", "two words"],
    "topics": ["one", "two words"],
    "ssh_url_to_repo": "git@ci.example:a/b.git",
    "http_url_to_repo": "https://ci.example/a/b.git",
    "web_url": "https://ci.example/a/b",
    "visibility": "public",
    "last_activity_at": "2031-02-01T00:00:00Z",
    "namespace": {"id": 2, "kind": "group", "full_path": "a"},
}
OLD_PROJECT: Shape = {
    **{key: value for key, value in SIMPLE.items() if key != "topics"},
    "runners_token": "SYNTHETIC-RUNNERS",
    "owner": {"id": 3, "name": "A"},
    "creator_id": 3,
    "archived": False,
    "_links": {"self": "https://ci.example/api/v4/projects"},
    "shared_with_groups": [],
    "jobs_enabled": True,
    "statistics": {"commit_count": 37, "job_artifacts_size": 0},
    "marked_for_deletion_at": "2031-04-03",
}
TOTALS: Shape = {"total_time": 5, "total_count": 1, "success_count": 1, "failed_count": 0, "skipped_count": 0}
CASE: Shape = {
    "status": "success",
    "name": "adds up",
    "classname": "sums",
    "execution_time": 5,
    "system_output": None,
    "stack_trace": None,
}
REPORT: Shape = {
    **TOTALS,
    "error_count": 0,
    "test_suites": [{"name": "Sums", **TOTALS, "error_count": 0, "test_cases": [CASE]}],
}
SUMMARY: Shape = {
    "total": {"time": 19, "count": 33, "success": 30, "failed": 1, "skipped": 2, "error": 0, "suite_error": None},
    "test_suites": [{"name": "unit", **TOTALS, "error_count": 0, "build_ids": [501, 502], "suite_error": None}],
}


def job(**changes: Any) -> Shape:
    return {**JOB, **changes}


def job_without(*keys: str, **changes: Any) -> Shape:
    return {key: value for key, value in job(**changes).items() if key not in keys}


BARE = {"artifacts": [], "runner": None, "runner_manager": None}
JOBS = {
    "a project's jobs, one with artifacts": (
        job(),
        {"artifacts_size": 4096, "runner_id": 77, "runner_version": "19.1.0"},
    ),
    "a project's jobs, one without": (
        job_without("artifacts_file", "failure_reason", **BARE),
        {"failure_reason": None},
    ),
    "a job's own page": (job_without("artifacts_file", **BARE), {"runner_id": None, "artifacts_size": None}),
    "a pipeline's jobs": (
        job(failure_reason="stuck_or_timeout_failure"),
        {"failure_reason": "stuck_or_timeout_failure"},
    ),
    "a pipeline's jobs, an older runner": (
        job(runner_manager={key: value for key, value in MANAGER.items() if key != "status"}),
        {"runner_version": "19.1.0"},
    ),
    "a job that was cancelled": (
        job_without("artifacts_file", "pipeline", status="canceled", finished_at=None, duration=8, **BARE)
        | {"pipeline": {"id": 900}},
        {"status": "canceled", "finished_at": None, "duration": 8.0},
    ),
    "a job that was erased": (
        job_without("artifacts_file", erased_at="2031-02-04T00:00:00.000Z", artifacts=[], download_url=None),
        {"erased_at": "2031-02-04T00:00:00.000Z"},
    ),
    "a job that was retried": (
        job_without("artifacts_file", status="pending", started_at=None, finished_at=None, duration=None, **BARE),
        {"status": "pending", "started_at": None, "duration": None},
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_jobs_as_documented(name: str) -> None:
    shape, expected = JOBS[name]
    row = records.job(shape, 12, DAY)
    assert {key: getattr(row, key) for key in expected} == expected
    assert (row.id, row.pipeline_id, row.commit_title, row.tags) == (501, 900, "Mend the build", ["arm", "big disk"])
    assert [(one.file_type, one.size) for one in records.artifacts(shape, row)] == [
        (one["file_type"], one["size"]) for one in shape["artifacts"]
    ]
    assert "@" not in repr(row)
    assert "10.1.1.1" not in repr(row)


@pytest.mark.parametrize("shape", [LISTED, PAGE, {**PAGE, "coverage": "68.49"}], ids=["listed", "page", "coverage"])
def test_pipelines_as_documented(shape: Shape) -> None:
    row = records.pipeline(shape, 12, detailed="user" in shape)
    assert (row.id, row.iid, row.day, row.source, row.name) == (900, 31, DAY, "web", "Nightly")
    assert (row.duration, row.queued_duration, row.user_username) == (
        (34.0, 6.0, "ada") if "user" in shape else (None, None, None)
    )
    assert row.coverage == (68.49 if shape.get("coverage") else None)


def test_a_bridge_as_documented_tells_the_other_project_in_an_address_alone() -> None:
    downstream = {**OF_PIPELINE, "id": 5, "web_url": "https://ci.example/c/d/pipelines/5"}
    del downstream["project_id"]
    shape = job_without("artifacts", "artifacts_file", "runner", "runner_manager", "tag_list", duration=240)
    row = records.bridge({**shape, "downstream_pipeline": downstream}, records.pipeline(PAGE, 12, detailed=True))
    assert (row.duration, row.downstream_pipeline_id, row.downstream_project_id) == (240.0, 5, None)
    assert project_path(downstream["web_url"], "https://ci.example") == "c/d"


@pytest.mark.parametrize(
    ("address", "base", "path"),
    [
        ("https://ci.example/a/b/-/pipelines/5", "https://ci.example", "a/b"),
        ("https://ci.example/a/b/c/pipelines/5", "https://ci.example/", "a/b/c"),
        ("https://ci.example/root/a/b/-/pipelines/5", "https://ci.example/root", "a/b"),
        ("https://ci.example/a/b/-/jobs/5", "https://ci.example", None),
        (None, "https://ci.example", None),
    ],
)
def test_the_project_of_an_address(address: str | None, base: str, path: str | None) -> None:
    assert project_path(address, base) == path


@pytest.mark.parametrize("shape", [SIMPLE, OLD_PROJECT], ids=["simple", "a full one of years ago"])
def test_projects_as_documented(shape: Shape) -> None:
    row = records.project(shape)
    assert (row.id, row.path, row.namespace, row.topics) == (12, "a/b", "a", ["one", "two words"])
    assert row.created_at == "2030-09-30T13:46:02.000Z"
    assert "SYNTHETIC" not in repr(row)


def test_a_test_report_and_its_summary_as_documented() -> None:
    of = (900, 12, DAY, "x")
    report = report_rows.test_report(of, REPORT, "stored")
    [suite] = [report_rows.test_suite(report, 0, one) for one in REPORT["test_suites"]]
    case = report_rows.test_case(suite, 0, CASE)
    assert (report.total_count, suite.total_time, case.execution_time, case.system_output) == (1, 5.0, 5.0, None)
    summary = report_rows.test_report(of, SUMMARY["total"], "expired")
    [suite] = [report_rows.test_suite(summary, 0, one) for one in SUMMARY["test_suites"]]
    assert (summary.total_count, summary.success_count, suite.job_ids) == (33, 30, [501, 502])


def test_variables_have_no_column() -> None:
    assert not [
        f"{table.name}.{column.name}" for table in t.TABLES for column in table.columns if "variable" in column.name
    ]


HOST = "https://ci.example/api/v4"


@pytest.mark.parametrize(
    ("link", "following"),
    [
        (
            f'<{HOST}/projects?pagination=keyset&id_after=42>; rel="next"',
            f"{HOST}/projects?pagination=keyset&id_after=42",
        ),
        (f'<{HOST}/groups?cursor=eyJuIn0>; rel="next"', f"{HOST}/groups?cursor=eyJuIn0"),
        (
            f'<{HOST}/x?page=1>; rel="prev", <{HOST}/x?page=3>; rel="next", <{HOST}/x?page=3>; rel="last"',
            f"{HOST}/x?page=3",
        ),
        (f'<{HOST}/x?page=2>; rel="prev", <{HOST}/x?page=1>; rel="first"', None),
        ("", None),
    ],
)
def test_links_to_the_next_page_as_documented(link: str, following: str | None) -> None:
    assert next_link(link) == following


def test_the_headers_of_a_limit_as_documented_ask_for_a_pause() -> None:
    at = dt.datetime(2031, 2, 3, 10, 59, 30, tzinfo=dt.UTC)
    headers = {
        "RateLimit-Limit": "60",
        "RateLimit-Name": "throttle_authenticated_api",
        "RateLimit-Observed": "67",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(int(at.timestamp()) + 20),
        "Retry-After": "30",
        "RateLimit-ResetTime": "Mon, 03 Feb 2031 10:59:50 GMT",
        "Content-Type": "text/plain",
    }
    assert pause_asked_for(429, headers, in_flight=1, now=at) == 30
    del headers["Retry-After"]
    assert pause_asked_for(429, headers, in_flight=1, now=at) == 20


# -- what the schemas allow ------------------------------------------------------------------------------------

# SQLite's and GitLab's own database's range; JSON has none
INTEGER = st.integers(-(2**63), 2**63 - 1)
ID = st.integers(1, 2**63 - 1)
STRING = st.text(max_size=12)
BOOLEAN = st.booleans()
# JSON's number may be whole; infinity and NaN are no JSON
NUMBER = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
BERLIN = dt.timezone(dt.timedelta(hours=2))
# the schemas say "string" or "date"; answers are times in ISO 8601
DATE = (
    st.integers(631_152_000_000, 4_102_444_800_000)
    .map(lambda ms: dt.datetime.fromtimestamp(ms / 1000, dt.UTC))
    .flatmap(
        lambda at: st.sampled_from(
            [f"{at:%Y-%m-%dT%H:%M:%S}Z", at.astimezone(BERLIN).isoformat(timespec="milliseconds")]
        )
    )
)


def object_of(
    required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]
) -> st.SearchStrategy[Shape]:
    return st.fixed_dictionaries(required, optional=optional)


def nullable(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | kind


BASIC_USER = object_of({"id": ID, "username": STRING, "name": STRING, "state": STRING}, avatar_url=nullable(STRING))
BASIC_COMMIT = object_of(
    {"id": STRING, "short_id": STRING, "title": STRING, "author_email": STRING, "created_at": DATE}
)
BASIC_PIPELINE = {"id": ID, "sha": STRING, "ref": STRING, "status": STRING, "web_url": STRING}
ARTIFACT = object_of({"file_type": STRING, "size": INTEGER, "filename": STRING, "file_format": nullable(STRING)})
SCHEMA_JOB = object_of(
    {
        "id": ID,
        "status": STRING,
        "stage": STRING,
        "name": STRING,
        "ref": STRING,
        "tag": BOOLEAN,
        "coverage": nullable(NUMBER),
        "created_at": DATE,
        "started_at": nullable(DATE),
        "archived": BOOLEAN,
        "finished_at": nullable(DATE),
        "erased_at": nullable(DATE),
        "duration": nullable(NUMBER),
        "queued_duration": nullable(NUMBER),
        "user": nullable(BASIC_USER),
        "commit": nullable(BASIC_COMMIT),
        "pipeline": object_of(BASIC_PIPELINE),
        "web_url": STRING,
        "artifacts": st.lists(ARTIFACT, max_size=3),
        "artifacts_expire_at": nullable(DATE),
        "tag_list": st.lists(STRING, max_size=3),
        "runner": nullable(object_of({"id": ID, "description": nullable(STRING)}, runner_type=STRING)),
        "project": object_of({"ci_job_token_scope_enabled": BOOLEAN}) | STRING,
    },
    allow_failure=BOOLEAN,
    failure_reason=STRING,
    artifacts_file=nullable(object_of({"filename": STRING, "size": INTEGER})),
    runner_manager=nullable(object_of({"id": ID, "version": nullable(STRING)})),
)
SCHEMA_PIPELINE = object_of(
    BASIC_PIPELINE,
    iid=ID,
    project_id=ID,
    source=STRING,
    name=nullable(STRING),
    before_sha=nullable(STRING),
    tag=BOOLEAN,
    yaml_errors=nullable(STRING),
    user=nullable(BASIC_USER),
    duration=nullable(NUMBER),
    **{name: nullable(DATE) for name in ("created_at", "updated_at", "started_at", "finished_at", "committed_at")},
    # text by the schema, a number by the OpenAPI description
    coverage=nullable(NUMBER | st.floats(0, 100).map(str)),
    queued_duration=nullable(NUMBER),
    detailed_status=nullable(object_of({"icon": STRING})),
)
SCHEMA_BRIDGE = object_of(
    {"id": ID, "status": STRING, "stage": STRING, "name": STRING, "ref": STRING, "tag": BOOLEAN, "created_at": DATE},
    duration=nullable(NUMBER),
    queued_duration=nullable(NUMBER),
    allow_failure=BOOLEAN,
    started_at=nullable(DATE),
    finished_at=nullable(DATE),
    failure_reason=STRING,
    web_url=STRING,
    user=nullable(BASIC_USER),
    downstream_pipeline=nullable(object_of(BASIC_PIPELINE, project_id=ID)),
)
SCHEMA_PROJECT = object_of(
    {
        "id": ID,
        "name": STRING,
        "name_with_namespace": STRING,
        "description": nullable(STRING),
        "path": STRING,
        "path_with_namespace": STRING,
        "created_at": DATE,
        "default_branch": nullable(STRING),
        "web_url": STRING,
        "tag_list": st.lists(STRING, max_size=3),
        "ssh_url_to_repo": STRING,
        "http_url_to_repo": STRING,
        "avatar_url": nullable(STRING),
        "star_count": INTEGER,
        "last_activity_at": DATE,
    },
    topics=st.lists(STRING, max_size=3),
    namespace=object_of({"id": ID, "full_path": STRING}),
    archived=BOOLEAN,
    visibility=STRING,
)
SCHEMA_CASE = object_of(
    {"status": STRING, "name": nullable(STRING), "classname": nullable(STRING), "execution_time": NUMBER},
    file=nullable(STRING),
    stack_trace=nullable(STRING),
    attachment_url=nullable(STRING),
    system_output=st.none() | STRING | st.lists(STRING, max_size=2) | st.dictionaries(STRING, STRING, max_size=2),
    # text by the OpenAPI description, an object or nothing in answers
    recent_failures=st.none() | STRING | object_of({"count": INTEGER, "base_branch": STRING}),
)
SUITE_TOTALS = {
    "name": STRING,
    "total_time": NUMBER,
    **{f"{kind}_count": INTEGER for kind in ("total", "success", "failed", "skipped", "error")},
}
SCHEMA_SUITE = object_of(SUITE_TOTALS, suite_error=nullable(STRING), build_ids=st.lists(ID, max_size=3))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("shapes") / "gitlab.db", t.SCHEMA) as opened:
        opened.track(t.TABLES)
        yield opened


def in_table(store: Store, rows: list[msgspec.Struct]) -> None:
    by_row = {table.row: table for table in t.TABLES}
    with store.transaction():
        for row in rows:
            assert not store.upsert(by_row[type(row)], [row], "2031-01-01T00:00:00.000Z").refused, row


def of_report(suite: Shape, case: Shape) -> list[msgspec.Struct]:
    report = report_rows.test_report((1, 2, DAY, "x"), suite, "stored")
    made = report_rows.test_suite(report, 0, suite)
    return [report, made, report_rows.test_case(made, 0, case)]


def of_job(shape: Shape) -> list[msgspec.Struct]:
    row = records.job(shape, 12, DAY)
    return [row, *records.artifacts(shape, row)]


PARENT = records.pipeline(PAGE, 12, detailed=True)
FITTING: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], list[msgspec.Struct]]]] = {
    "job": (SCHEMA_JOB, of_job),
    "pipeline": (SCHEMA_PIPELINE, lambda shape: [records.pipeline(shape, 12, detailed=True)]),
    "bridge": (SCHEMA_BRIDGE, lambda shape: [records.bridge(shape, PARENT)]),
    "project": (SCHEMA_PROJECT, lambda shape: [records.project(shape)]),
    "test report": (st.tuples(SCHEMA_SUITE, SCHEMA_CASE), lambda pair: of_report(*pair)),
}


@pytest.mark.parametrize("name", FITTING)
def test_whatever_fits_a_schema_fits_its_tables(store: Store, name: str) -> None:
    shapes, rows_of = FITTING[name]

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(shapes)
    def fits(shape: Any) -> None:
        # as it arrives: by way of JSON
        in_table(store, rows_of(msgspec.json.decode(msgspec.json.encode(shape))))

    fits()
