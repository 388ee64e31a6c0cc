"""`bdc-pipeline sync gitlab`: options, sentences, exit status, days."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bdc_pipeline import settings
from bdc_pipeline.cli import main
from bdc_pipeline.commands.outcome import LOG
from bdc_pipeline_tests.sources.gitlab.syncing import copying_few_days


@pytest.fixture(autouse=True)
def _closed_log() -> Iterator[None]:
    """A command logs to a file until its process ends; here it goes on."""
    yield
    for handler in LOG.handlers:
        handler.close()
    LOG.handlers = []


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["sync", "gitlab", *arguments])
    return result.exit_code, result.output


def test_it_syncs_and_prints_its_report_as_json(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, projects=2, jobs_per_pipeline=2):
        done = CliRunner().invoke(
            main,
            [
                "sync",
                "gitlab",
                "--project",
                "platform/api",
                "--from",
                "2026-05-30",
                "--to",
                "2026-06-02",
                "--no-logs",
                "--json",
            ],
        )
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout.splitlines()[-1])
        assert (report["source"], report["complete"]) == ("gitlab", True)
        assert "job_logs" not in report["tables"]
        assert report["tables"]["jobs"]["fetched"] > 0


def test_an_end_that_has_not_come_yet_is_cut_and_said_to_be(tmp_path: Path) -> None:
    today = dt.datetime.now(dt.UTC).date()
    with copying_few_days(tmp_path, projects=1):
        status, output = run("--from", str(today - dt.timedelta(days=2)), "--to", "2099-01-01", "--no-logs")
    assert status == 0, output
    assert "--to 2099-01-01 has not come yet: up to today, 20" in output


def test_a_project_that_there_is_not_is_a_failure_with_its_name(tmp_path: Path) -> None:
    with copying_few_days(tmp_path, projects=1):
        status, output = run("--project", "no/such", "--partition", "2026-06-01")
        assert status == 1
        assert "project no/such" in output
        status, output = run("--project", "no/such", "--partition", "2026-06-01", "--json")
        assert status == 1
        counts = json.loads(output.splitlines()[-1])["tables"]["projects"]
        assert (counts["expected"], counts["fetched"]) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--partition", "2026-13-01"), "is no day"),
        (("--partition", "2026-05-01", "--from", "2026-05-01"), "leave --from and --to out"),
        (("--from", "2026-05-02", "--to", "2026-05-01"), "lies behind"),
        (("--from", "2999-01-01"), "has not come yet"),
        (("--from", "2001-01-01"), "before the first partition"),
        (("--to", "2019-05-01"), "--to 2019-05-01 lies before the first partition"),
        (("--max-log-mb", "1e14"), "not in the range"),
        (("--artifact-bytes", "x", "--no-artifacts"), "contradict"),
        (("--project", "justaname"), "which is no project"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.setenv("GITLAB_TOKEN", "SYNTHETIC")
    monkeypatch.setenv("BDC_DATA_DIR", str(tmp_path))
    status, output = run(*arguments)
    assert status == 2
    assert said in output


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GITLAB_TOKEN", "", "GITLAB_TOKEN is not set. Create an access token with the read_api scope"),
        ("GITLAB_TOKEN", "two words", "holds blanks"),
        ("GITLAB_URL", "gitlab.example", "no web address"),
        ("GITLAB_URL", "http://gitlab.example", "Use https://"),
        ("GITLAB_URL", "https://gitlab.com/api/v4/", "without /api/v4, which is added: https://gitlab.com\n"),
        ("GITLAB_PROJECTS", "group/a, nonsense", "GITLAB_PROJECTS holds 'nonsense'"),
        ("GITLAB_WORKERS", "many", "GITLAB_WORKERS is 'many'"),
        ("GITLAB_JOBS_AT_ONCE", "0", "GITLAB_JOBS_AT_ONCE is '0'"),
    ],
)
def test_a_variable_that_cannot_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv("GITLAB_TOKEN", "SYNTHETIC")
    monkeypatch.setenv("BDC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv(name, value)
    status, output = run()
    assert status == 2
    assert said in output


def test_settings_hide_the_token_and_name_projects_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_TOKEN", "SYNTHETIC-SECRET")
    monkeypatch.setenv("GITLAB_PROJECTS", "a/b, 12 ,a/b,/c/d/")
    found = settings.gitlab()
    assert "SECRET" not in repr(found)
    assert found.projects == ("a/b", "12", "c/d")


def test_help_imports_neither_dagster_nor_requests() -> None:
    code = (
        "import sys; from bdc_pipeline.cli import main\n"
        "try: main(['sync', 'gitlab', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'dagster', 'pandas', 'requests'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"
