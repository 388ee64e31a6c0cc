"""A GitLab sync as a process of its own: killed, interrupted, on a full disk, twice at once, with logs that fill the memory."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running
from bdc_pipeline_tests.processes import MAIN, dying, finished, meeting, met, run, start
from bdc_pipeline_tests.sources.gitlab.syncing import copying, copying_few_days
from bdc_pipeline_tests.waiting import until

AT = "2026-06-01T10:00:00Z"
"""When the pipelines run whose day is synced."""

PIPELINES, JOBS = 60, 120


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """In a process of its own, slow enough to be interrupted: 60 pipelines of two jobs on one day."""
    options = SandboxOptions(
        sources=frozenset({"gitlab"}),
        regular=True,
        latency_ms=100,
        projects=1,
        pipelines_per_project=1,
        jobs_per_pipeline=2,
    )
    with running(options) as made:
        made.source("gitlab").change("run", project=101, count=PIPELINES, jobs=2, at=AT)
        yield made


def started(
    *arguments: str, sandbox: Sandbox, directory: Path, **options: str
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """The command, syncing the day."""
    variables = {"BDC_DATA_DIR": str(directory), "GITLAB_URL": sandbox.source("gitlab").url}
    variables |= {"GITLAB_TOKEN": sandbox.token}
    asked = ("sync", "gitlab", "--partition", "2026-06-01", *arguments)
    return start(*asked, directory=directory, variables=variables, **options)


def committed(path: Path, table: str) -> set[int]:
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0] for row in connection.execute(f"SELECT * FROM {table}")}


def rows_in(path: Path, table: str) -> int:
    """Rows so far, while another process writes them."""
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall():
            return 0
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


def check_that_a_sync_completes(sandbox: Sandbox, directory: Path) -> set[str]:
    """Syncs without latency, sees that all is there, and returns what was asked for."""
    sandbox.configure(latency_ms=0)
    sandbox.reset_stats()
    with started("-w", "20", "--json", sandbox=sandbox, directory=directory) as process:
        done = finished(process)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["complete"] is True
    assert len(committed(directory / "gitlab.db", "pipeline_jobs")) == PIPELINES
    assert len(committed(directory / "gitlab.db", "job_logs")) == JOBS
    return set(sandbox.stats()["labels"])


@pytest.mark.slow
def test_a_process_killed_while_it_fetches_jobs_and_logs_fetches_none_of_them_twice(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "gitlab.db"
    done: dict[str, set[int]] = {"pipeline_jobs": set(), "job_logs": set()}
    for table, rows in (("pipeline_jobs", 25), ("job_logs", 45)):
        last_words = dying(path, f"SELECT count(*) FROM {table}", rows)
        with started("-w", "20", "-c", "2", sandbox=sandbox, directory=tmp_path, before=last_words) as process:
            killed = finished(process)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert done[table] < committed(path, table), "some of it was committed"
        done = {name: committed(path, name) for name in done}
    asked = check_that_a_sync_completes(sandbox, tmp_path)
    assert not {f"job {job} trace" for job in done["job_logs"]} & asked
    assert not {f"pipeline {pipeline} jobs" for pipeline in done["pipeline_jobs"]} & asked
    assert sum("trace" in label for label in asked) == JOBS - len(done["job_logs"])


OF_PIPELINES = ("pipelines", "bridges", "jobs", "test_cases", "job_logs", "artifact_files")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "least"),
    [
        ("SELECT count(*) FROM test_reports", 2),
        ("SELECT count(*) FROM archives", 2),
        # a bridge to a project that is not asked for: no list leads to what it has started
        ("SELECT count(*) FROM bridges WHERE downstream_project_id = 104", 1),
    ],
    ids=["tests", "archives", "bridges"],
)
def test_a_process_killed_behind_any_transaction_leaves_nothing_that_the_next_sync_takes_for_fetched(
    sql: str, least: int, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole.db", tmp_path / "killed.db"
    with copying(tmp_path, projects=4, pipelines_per_project=12, jobs_per_pipeline=6) as copy:
        variables = {"GITLAB_URL": copy.api.url, "GITLAB_TOKEN": copy.sandbox.token, "BDC_DATA_DIR": str(tmp_path)}
        asked = ("sync", "gitlab", "--project", "101", "--from", str(copy.first), "--to", str(copy.last), "-w", "20")
        for path, before, more, status in (
            (whole, "", (), 0),
            (killed, dying(killed, sql, least), ("-c", "1"), -signal.SIGKILL),
            (killed, "", (), 0),
        ):
            # every request takes a while, lest another answer come before what is stored first
            copy.sandbox.configure(latency_ms=50 if before else 0)
            where = ("--database", str(path))
            done = run(*asked, *more, *where, directory=tmp_path, variables=variables, before=before)
            assert done.returncode == status, done.stdout + done.stderr
    for table in OF_PIPELINES:
        assert rows_in(killed, table) == rows_in(whole, table) > 0, table


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sync_ends_soon_keeps_what_had_come_and_says_so(
    sandbox: Sandbox, tmp_path: Path, stop: signal.Signals
) -> None:
    path = tmp_path / "gitlab.db"
    # the requests that are under way when the signal comes would take a minute to time out, and the next ones another
    sandbox.configure(faults=["stall~after=20,seconds=3600@trace$"])
    with started("-w", "4", "-c", "2", "--json", sandbox=sandbox, directory=tmp_path) as process:
        until(lambda: rows_in(path, "job_logs") >= 16 or process.poll() is not None)
        assert process.poll() is None, finished(process)
        asked = time.monotonic()
        process.send_signal(stop)
        done = finished(process)
        took = time.monotonic() - asked
    assert done.returncode == 1, done.stderr
    assert took < 30
    report = json.loads(done.stdout)
    assert report["complete"] is False
    assert "interrupted" in json.dumps(report["failures"])
    assert "Traceback" not in done.stderr
    kept = committed(path, "job_logs")
    assert 16 <= len(kept) <= 20
    sandbox.configure(faults=[])
    if stop == signal.SIGINT:
        logs = [label for label in check_that_a_sync_completes(sandbox, tmp_path) if "trace" in label]
        assert len(logs) == JOBS - len(kept), "a log that came before is not fetched again"


KILLED = (
    "import os; import bdc_pipeline.running as r; go_on = r._run_stage; "
    f"r._run_stage = lambda stage, *more: os._exit(9) if stage.name == 'jobs' else go_on(stage, *more); {MAIN}"
)
"""The command, whose process is gone before the stage of the jobs begins."""


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["first-sync", "later-sync"])
def test_a_sync_that_is_killed_between_two_stages_leaves_a_copy_that_is_said_to_be_incomplete(
    first: bool, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.configure(latency_ms=0)
    if not first:
        with started("--partition", "2026-05-31", sandbox=sandbox, directory=tmp_path) as process:
            finished(process)
        with contextlib.closing(sqlite3.connect(tmp_path / "gitlab.db")) as connection, connection:
            connection.execute("DELETE FROM _partitions WHERE partition = '2026-06-01'")
    with started("--no-artifacts", sandbox=sandbox, directory=tmp_path, main=KILLED) as process:
        finished(process)
    assert process.returncode == 9
    done = told_status(tmp_path)
    assert done.returncode == 1, done.stdout
    found = {table["asset"]: table for table in json.loads(done.stdout)["sources"][0]["tables"]}
    assert found["gitlab/pipelines"]["state"] == "fresh"
    assert found["gitlab/jobs"]["state"] == "incomplete"
    assert [one["partition"] for one in found["gitlab/jobs"]["lacking"]] == ["2026-06-01"]
    with started(sandbox=sandbox, directory=tmp_path) as process:
        finished(process)
    assert told_status(tmp_path).returncode == 0


def told_status(directory: Path) -> subprocess.CompletedProcess[str]:
    """What `status gitlab` says of the copy."""
    return run("status", "gitlab", "--json", directory=directory, variables={"BDC_DATA_DIR": str(directory)})


@pytest.mark.slow
def test_two_syncs_at_once_are_both_complete(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.configure(latency_ms=5)
    together: dict[str, Any] = {"sandbox": sandbox, "directory": tmp_path, "before": meeting(tmp_path)}
    with started("-c", "5", "--json", **together) as first, started("-c", "5", "--json", **together) as second:
        for process in (first, second):
            done = finished(process)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["complete"] is True
            assert "locked" not in done.stderr
    assert met(tmp_path) == 2
    assert not [label for label in check_that_a_sync_completes(sandbox, tmp_path) if "trace" in label]


@pytest.mark.slow
def test_a_full_disk_is_told_in_a_sentence_and_leaves_a_good_file(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.configure(latency_ms=0)
    path = tmp_path / "gitlab.db"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))"
    with started("-c", "10", sandbox=sandbox, directory=tmp_path, before=limit) as process:
        done = finished(process)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    told = " ".join((done.stdout + done.stderr).split())
    assert str(path) in told
    assert "full" in told
    assert "run again" in told
    kept = {table: len(committed(path, table)) for table in ("pipeline_jobs", "job_logs")}
    assert 0 < sum(kept.values()) < PIPELINES + JOBS, kept
    check_that_a_sync_completes(sandbox, tmp_path)


@pytest.mark.slow
def test_logs_of_50_mb_are_held_two_at_a_time(tmp_path: Path) -> None:
    # not getrusage, which tells the most of the process that started it too
    told = "print(next(line for line in open('/proc/self/status') if 'VmHWM' in line), file=sys.stderr)"
    measured = f"import sys; from bdc_pipeline.cli import main\ntry: main()\nfinally: {told}"
    with copying_few_days(tmp_path, projects=1, pipelines_per_project=1) as copy:
        jobs = [row[0] for row in copy.api.rows("Trace", ["job_id"])]
        for job in jobs[-8:]:
            copy.api.change("log", job=job, size=50_000_000)
        arguments = ("--no-tests", "--no-artifacts", "--json")
        with started(*arguments, sandbox=copy.sandbox, directory=tmp_path, main=measured) as process:
            done = finished(process)
        assert done.returncode == 0, done.stderr
        assert copy.one("SELECT count(*) FROM job_logs WHERE size = 50000000") == 8
        megabytes = int(done.stderr.rsplit("VmHWM:", 1)[1].split()[0]) / 1024
        assert megabytes < 450, "the process itself takes 170, and a log that is read 50"
