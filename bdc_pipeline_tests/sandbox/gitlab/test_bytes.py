import hashlib
import io
import re
import zipfile
from base64 import b64encode

import pytest

from bdc_pipeline.sandbox import Sandbox
from bdc_pipeline_tests.sandbox.gitlab.asking import Got, first, get, gitlab_sandbox, truth


@pytest.fixture
def usual(shared: Sandbox) -> Sandbox:
    shared.configure(artifact_redirect=False, ranges=True)
    shared.reset_stats()
    return shared


def with_archive(sandbox: Sandbox) -> str:
    """The newest job of a project that has one."""
    listed = get(sandbox, "projects/101/jobs", **{"scope[]": "success", "per_page": 100}).json
    job = next(row for row in listed if "artifacts_file" in row and (row["artifacts_expire_at"] or "3") > "2026-06-01")
    return f"projects/101/jobs/{job['id']}"


# --- logs


def test_a_log_is_as_long_as_its_artifact_says(usual: Sandbox) -> None:
    known = {row["job_id"]: row for row in truth(usual, "Trace", "job_id", "size", "sha256", "complete")}
    sizes = set()
    for job in get(usual, "projects/104/jobs", per_page=60, page=2).json:
        got = get(usual, f"projects/104/jobs/{job['id']}/trace")
        assert (got.status, got.headers["content-type"]) == (200, "text/plain")
        sizes.add(len(got.body))
        listed = [one["size"] for one in job["artifacts"] if one["file_type"] == "trace"]
        if got.body and known[job["id"]]["complete"]:
            assert listed == [len(got.body)]
            assert hashlib.sha256(got.body).hexdigest() == known[job["id"]]["sha256"]
        elif not got.body:
            assert listed == []
    assert max(sizes) > 10_000


def test_logs_look_like_logs(usual: Sandbox) -> None:
    job = first(usual, "Job", ["failure_reason"], status="failed", project_id=101)
    text = get(usual, f"projects/101/jobs/{job['id']}/trace").body.decode(errors="replace")
    assert re.search(r"section_start:\d{10}:prepare_executor\[collapsed=true\]\r\x1b\[0K", text)
    assert "\x1b[32;1m" in text
    assert re.search(r"%\rDownloading", text)
    assert "ERROR: Job failed" in text


def test_some_runners_write_the_time_before_each_line(usual: Sandbox) -> None:
    job = first(usual, "Job", status="success", project_id=104)
    lines = get(usual, f"projects/104/jobs/{job['id']}/trace").body.split(b"\n")
    timed = [line for line in lines if re.match(rb"2026-\d\d-\d\dT[\d:]{8}\.\d{6}Z 01O ", line)]
    assert len(timed) > 0.9 * len(lines)


def test_some_logs_are_not_utf8(usual: Sandbox) -> None:
    for row in truth(usual, "Trace", "job_id", "project_id")[:1000]:
        body = get(usual, f"projects/{row['project_id']}/jobs/{row['job_id']}/trace").body
        if b"\xff\xfe" in body:
            with pytest.raises(UnicodeDecodeError):
                body.decode()
            return
    raise AssertionError("All logs are UTF-8.")


def test_a_running_jobs_log_is_not_yet_whole(own: Sandbox) -> None:
    gitlab = own.source("gitlab")
    job = first(own, "Job", ["project_id", "artifacts"], status="running")
    path = f"projects/{job['project_id']}/jobs/{job['id']}"
    before = get(own, f"{path}/trace").body
    assert before
    assert job["artifacts"] == []
    gitlab.change("finish", job=job["id"])
    after = get(own, f"{path}/trace").body
    assert len(after) >= 2 * len(before)
    assert [one["size"] for one in get(own, path).json["artifacts"] if one["file_type"] == "trace"] == [len(after)]


def test_what_never_ran_has_an_empty_log(usual: Sandbox) -> None:
    job = first(usual, "Job", ["project_id"], status="skipped")
    got = get(usual, f"projects/{job['project_id']}/jobs/{job['id']}/trace")
    assert (got.status, got.body) == (200, b"")


def test_a_log_of_50_mb(own: Sandbox) -> None:
    gitlab = own.source("gitlab")
    job = first(own, "Job", ["project_id"], status="success")
    assert gitlab.change("log", job=job["id"], size=50_000_000) == 50_000_000
    path = f"projects/{job['project_id']}/jobs/{job['id']}"
    assert len(get(own, f"{path}/trace").body) == 50_000_000
    assert {one["file_type"]: one["size"] for one in get(own, path).json["artifacts"]}["trace"] == 50_000_000


def test_a_log_of_these_bytes(own: Sandbox) -> None:
    job = first(own, "Job", ["project_id"], status="success")
    own.source("gitlab").change("log", job=job["id"], base64=b64encode(b"\xff\x1b]0;title\x07").decode())
    assert get(own, f"projects/{job['project_id']}/jobs/{job['id']}/trace").body == b"\xff\x1b]0;title\x07"


# --- archives


def files(got: Got) -> list[str]:
    assert got.status == 200
    with zipfile.ZipFile(io.BytesIO(got.body)) as opened:
        assert opened.testzip() is None
        return opened.namelist()


def test_an_archive_is_as_long_as_its_job_says(usual: Sandbox) -> None:
    path = with_archive(usual)
    got = get(usual, f"{path}/artifacts")
    assert "build/app.js" in files(got)
    assert get(usual, path).json["artifacts_file"] == {"filename": "artifacts.zip", "size": len(got.body)}


def test_one_file_of_an_archive(usual: Sandbox) -> None:
    path = with_archive(usual)
    assert get(usual, f"{path}/artifacts/build/app.js").body.startswith(b"SYNTHETIC build/app.js")
    assert get(usual, f"{path}/artifacts/build/none.js").status == 404
    assert get(usual, f"{path}/artifacts/../secret").status == 400


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-22", slice(-22, None)),
        ("bytes=5-99999999", slice(5, None)),
    ],
)
def test_an_archive_in_ranges(usual: Sandbox, asked: str, part: slice) -> None:
    path = with_archive(usual)
    whole = get(usual, f"{path}/artifacts")
    got = get(usual, f"{path}/artifacts", headers={"Range": asked})
    assert whole.headers["accept-ranges"] == "bytes"
    assert (got.status, got.body) == (206, whole.body[part])
    start, stop, _ = part.indices(len(whole.body))
    assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole.body)}"


def test_a_range_behind_the_end(usual: Sandbox) -> None:
    got = get(usual, f"{with_archive(usual)}/artifacts", headers={"Range": "bytes=99999999-"})
    assert (got.status, got.body) == (416, b"")


def test_ranges_may_be_unknown(usual: Sandbox) -> None:
    usual.configure(ranges=False)
    got = get(usual, f"{with_archive(usual)}/artifacts", headers={"Range": "bytes=0-9"})
    assert got.status == 200
    assert "accept-ranges" not in got.headers
    assert files(got)


def test_the_size_is_told_without_the_bytes(usual: Sandbox) -> None:
    path = with_archive(usual)
    got = get(usual, f"{path}/artifacts", method="HEAD")
    assert (got.status, got.body) == (200, b"")
    assert int(got.headers["content-length"]) == get(usual, path).json["artifacts_file"]["size"]


def test_an_archive_may_be_on_another_host(usual: Sandbox) -> None:
    path = with_archive(usual)
    direct = get(usual, f"{path}/artifacts").body
    usual.configure(artifact_redirect=True)
    got = get(usual, f"{path}/artifacts")
    location = got.headers["location"]
    assert got.status == 302
    assert location.startswith("http://localhost:")
    assert get(usual, location, token=None).body == direct
    assert get(usual, location, token=None, headers={"Range": "bytes=0-3"}).body == b"PK\x03\x04"
    assert get(usual, location.replace("Signature=", "Signature=0"), token=None).status == 403
    assert "token_leak" not in usual.stats()["topics"]


def test_a_token_that_follows_a_redirect_is_noticed(usual: Sandbox) -> None:
    usual.configure(artifact_redirect=True)
    location = get(usual, f"{with_archive(usual)}/artifacts").headers["location"]
    assert get(usual, location).status == 200
    assert usual.stats()["topics"]["token_leak"] == 1
    got = get(usual, location, token=None, headers={"Authorization": "Bearer secret"})
    assert (got.status, got.headers["content-type"]) == (400, "application/xml")
    assert usual.stats()["topics"]["token_leak"] == 2


def test_expired_archives_are_gone(usual: Sandbox) -> None:
    gone = [
        row
        for row in truth(usual, "Job", "id", "project_id", "artifacts_expire_at", "artifacts_file")
        if row["artifacts_expire_at"] and row["artifacts_expire_at"] < "2026-06-01"
    ]
    listed = [row for row in gone if row["artifacts_file"]]
    # Some are still in the list between their date and the sweep
    assert 0 < len(listed) < len(gone)
    for row in (listed[0], gone[0]):
        got = get(usual, f"projects/{row['project_id']}/jobs/{row['id']}/artifacts")
        assert (got.status, got.json) == (404, {"message": "404 Not Found"})


@pytest.mark.parametrize("kind", ["traversal", "lying", "many", "bomb", "truncated"])
def test_hostile_archives(kind: str) -> None:
    with gitlab_sandbox(projects=1, pipelines_per_project=1, jobs_per_pipeline=3, regular=True) as sandbox:
        path = with_archive(sandbox)
        size = sandbox.source("gitlab").change("archive", job=int(path.rpartition("/")[2]), kind=kind)
        got = get(sandbox, f"{path}/artifacts")
        assert len(got.body) == size == get(sandbox, path).json["artifacts_file"]["size"]
        if kind == "truncated":
            assert not zipfile.is_zipfile(io.BytesIO(got.body))
            return
        with zipfile.ZipFile(io.BytesIO(got.body)) as opened:
            listed = opened.infolist()
            if kind == "lying":
                assert listed[0].file_size == 10
                with pytest.raises((zipfile.BadZipFile, OSError, EOFError)):
                    opened.read("lost.txt")
            elif kind == "bomb":
                assert listed[0].file_size == 100_000_000 > 500 * size
            elif kind == "many":
                assert len(listed) == 100_000
                assert opened.read("files/099999.txt") == b""
            else:
                assert "../escaped.txt" in opened.namelist()
