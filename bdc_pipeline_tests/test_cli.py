"""The command line: exit status, what is said where, and sentences in place of tracebacks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from bdc_pipeline import cli, settings
from bdc_pipeline.commands import outcome
from bdc_pipeline.commands.options import Number
from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running, running_in_thread
from bdc_pipeline_tests.ports import nobody
from bdc_pipeline_tests.processes import run
from bdc_pipeline_tests.sources.sonar.syncing import TOKEN, assert_same, stored, truth

Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with running_in_thread(SandboxOptions(customers=60)) as sandbox:
        yield sandbox


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Sandbox) -> Iterator[Invoke]:
    """Calls the command in this process, with a data directory of its own."""
    for setting in settings.SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("BDC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SONAR_URL", shared.sonar_url)
    monkeypatch.setenv("SONAR_TOKEN", TOKEN)
    before = (list(outcome.LOG.handlers), outcome.LOG.level, outcome.LOG.propagate)

    def call(*arguments: str, **variables: str | None) -> Result:
        for name, value in variables.items():
            monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name)
        result = CliRunner().invoke(cli.main, arguments)
        for handler in outcome.LOG.handlers:
            handler.close()
        outcome.LOG.handlers = []
        return result

    yield call
    outcome.LOG.handlers, outcome.LOG.level, outcome.LOG.propagate = before


def told(result: Result) -> str:
    """All that a person sees; no traceback is ever among it."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.output


# -- wrong usage and settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nonsense"], "No such option '--nonsense'"),
        (["--workers", "0"], "0 is not in the range 1<=x<=200"),
        (["--workers", "many"], "'many' is not a valid integer"),
        (["--batch-size", "20000"], "is not in the range"),
        (["--days", "-1"], "is not in the range"),
        (["--limit", "0"], "is not in the range"),
        (["--max-vanish-share", "2"], "is not in the range"),
        (["--max-vanish-share", "nan"], "nan is no number that can be used"),
        (["--days", "nan"], "nan is no number that can be used"),
        (["--days", "inf"], "is not in the range"),
        (["--customers-only", "--inventory-only"], "leave nothing to sync; give one of them"),
        (["--partition", "2000"], "'2000' is no block of 1000 ids"),
        (["--partition", "2001-3000"], "such as '0-999' or '1000-1999'"),
        (["--partition", "2000-2999", "--from", "1"], "--partition names the blocks"),
        (["--from", "20", "--to", "10"], "--from 20 lies behind --to 10"),
        (["surplus"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_told_with_status_2(invoke: Invoke, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = invoke("sync", "sonar", *arguments)
    assert result.exit_code == 2
    assert sentence in " ".join(told(result).split())
    assert not (tmp_path / "bdc_cache.db").exists()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"SONAR_URL": None}, "Error: SONAR_URL is not set. Set it to your instance"),
        ({"SONAR_URL": "example"}, "Error: SONAR_URL is 'example', which is no web address"),
        ({"SONAR_TOKEN": None}, "Error: SONAR_TOKEN is not set. Create a personal access token"),
        ({"SONAR_TOKEN": "two words"}, "Error: SONAR_TOKEN holds blanks"),
        ({"SONAR_WORKERS": "x"}, "Error: SONAR_WORKERS is 'x'"),
        ({"DAGSTER_HOME": "here"}, "Error: DAGSTER_HOME is 'here', which is not absolute"),
    ],
)
def test_a_wrong_setting_is_told_with_status_2(invoke: Invoke, variables: dict[str, Any], sentence: str) -> None:
    result = invoke("sync", "sonar", **variables)
    assert result.exit_code == 2
    assert sentence in told(result)


def commands(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, by the words that call it."""
    yield name, command
    if isinstance(command, click.Group):
        for word in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), word)
            assert below is not None
            yield from commands(below, f"{name} {word}".strip())


def test_no_option_takes_what_is_no_number() -> None:
    found = {
        (name, param.name): param.type
        for name, command in commands(cli.main)
        for param in command.params
        if isinstance(param.type, click.FloatRange | click.types.FloatParamType)
    }
    assert ("sync gitlab", "max_log_mb") in found
    # a point on Earth is checked, with its distance, as a whole
    others = {key: kind for key, kind in found.items() if key[0] != "dmr near"}
    assert {key for key, kind in others.items() if not isinstance(kind, Number)} == set()


def test_an_unknown_source_is_told_with_status_2(invoke: Invoke) -> None:
    result = invoke("sync", "sonnar")
    assert result.exit_code == 2
    assert "No such command 'sonnar'" in told(result)


def test_a_data_directory_below_a_file_is_told_with_status_2(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    result = invoke("sync", "sonar", BDC_DATA_DIR=str(tmp_path / "file" / "data"))
    assert result.exit_code == 2
    assert "cannot be written" in told(result)
    assert "Name a directory that you can write to with BDC_DATA_DIR or --database." in told(result)


def test_a_database_that_is_a_directory_is_told_with_status_2(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("sync", "sonar", "--database", str(tmp_path))
    assert result.exit_code == 2
    assert "is a directory" in told(result)


@pytest.mark.parametrize("content", [b"x", b"not a database\n" * 100])
def test_a_file_that_is_no_database_is_left_as_it_is_and_told_with_status_2(
    invoke: Invoke, tmp_path: Path, shared: Sandbox, content: bytes
) -> None:
    path = tmp_path / "letters.db"
    path.write_bytes(content)
    before = shared.stats()["total"]
    result = invoke("sync", "sonar", "-db", str(path))
    assert result.exit_code == 2
    assert f"Error: {path} is no SQLite database" in told(result)
    assert "move the file away or name another with --database" in told(result)
    assert path.read_bytes() == content
    assert shared.stats()["total"] == before, "said before anything is fetched"


# -- a server that does not answer as it should ----------------------------------------------------------------


def test_a_wrong_address_is_told_with_status_1(invoke: Invoke, shared: Sandbox) -> None:
    result = invoke("sync", "sonar", SONAR_URL=f"{shared.url}/nothing")
    assert result.exit_code == 1
    assert "answered 404" in told(result)
    assert "Nothing was fetched." in told(result)


@pytest.mark.slow
def test_a_server_that_is_down_is_told_with_status_1(invoke: Invoke) -> None:
    with nobody() as address:
        result = invoke("sync", "sonar", "--json", SONAR_URL=address)
    assert result.exit_code == 1
    [failure] = json.loads(result.stdout)["failures"]
    assert address.removeprefix("http://") in failure["error"]
    assert "Check the address" in failure["error"]
    assert "Traceback" not in result.output


def test_a_token_that_is_refused_is_told_with_status_1(invoke: Invoke, tmp_path: Path) -> None:
    with running_in_thread(SandboxOptions(customers=20, token="another")) as sandbox:
        result = invoke("sync", "sonar", SONAR_URL=sandbox.sonar_url)
        assert result.exit_code == 1
        assert "answered 401" in told(result)
        assert "Check that the token is right and has not expired." in told(result)
        assert sandbox.stats()["total"] == 1
    assert TOKEN not in told(result)
    assert TOKEN not in (tmp_path / settings.LOG_FILE).read_text()


# -- a sync ----------------------------------------------------------------------------------------------------


def test_a_sync_ends_with_status_0_and_a_table_of_what_was_done(
    invoke: Invoke, tmp_path: Path, shared: Sandbox
) -> None:
    result = invoke("sync", "sonar")
    assert result.exit_code == 0, result.output
    text = told(result)
    assert text.splitlines()[-2].startswith("database  ")
    assert "sonar: complete." in text
    [line] = [line for line in text.splitlines() if line.startswith("customers ")]
    assert line.split()[1:3] == ["60", "60"]
    assert_same(stored(tmp_path / "bdc_cache.db"), truth(shared))
    log = (tmp_path / settings.LOG_FILE).read_text()
    assert "sonar: complete." in log
    assert TOKEN not in log + text


def test_json_is_all_of_standard_output(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("sync", "sonar", "--json", "-v", "-db", str(tmp_path / "own.db"))
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert list(report) == ["source", "complete", "seconds", "requests", "retries", "tables", "failures", "database"]
    assert report["database"] == str(tmp_path / "own.db")
    assert (report["source"], report["complete"], report["failures"]) == ("sonar", True, [])
    assert report["tables"]["customers"] == {
        "expected": 60,
        "fetched": 60,
        "inserted": 60,
        "updated": 0,
        "unchanged": 0,
        "vanished": 0,
        "rejected": 0,
        "stored": 60,
    }
    assert not (tmp_path / "bdc_cache.db").exists()


@pytest.mark.parametrize(
    "command", [["sync", "gitlab"], ["status", "gitlab"], ["dmr", "near", "--lat", "1", "--lon", "2"]]
)
def test_a_file_that_holds_another_sources_copy_is_left_as_it_is_and_told_with_status_2(
    invoke: Invoke, tmp_path: Path, command: list[str]
) -> None:
    assert invoke("sync", "sonar").exit_code == 0
    path = tmp_path / "bdc_cache.db"
    before = path.read_bytes()
    result = invoke(*command, "-db", str(path), GITLAB_TOKEN=TOKEN)
    assert result.exit_code == 2
    source = command[1] if command[1] == "gitlab" else "dmr"
    text = " ".join(told(result).split())
    assert f"{path} holds the copy of sonar, not of {source}. Name another file with --database" in text
    assert f"{source}'s is {tmp_path / f'{source}.db'}" in text
    assert path.read_bytes() == before


def test_options_reach_the_sync(invoke: Invoke, shared: Sandbox) -> None:
    shared.reset_stats()
    result = invoke("sync", "sonar", "--json", "-b", "7", "-l", "20", "--customers-only")
    report = json.loads(result.stdout)
    assert report["tables"]["customers"]["fetched"] == 20
    assert "inventory_items" not in report["tables"]
    assert any(label.startswith("accounts page=3 records=7 ") for label in shared.stats()["labels"])


def test_a_range_of_ids_chooses_blocks(invoke: Invoke) -> None:
    report = json.loads(invoke("sync", "sonar", "--json", "--from", "5000", "--to", "7500").stdout)
    assert report["tables"]["customers"]["fetched"] == 0, "none of the customers' ids are that high"
    assert report["tables"]["inventory_items"]["fetched"] == 180


def test_what_is_missing_is_told_with_status_1_and_names_it(invoke: Invoke) -> None:
    with running_in_thread(SandboxOptions(customers=20, denied=frozenset({"addresses"}))) as sandbox:
        result = invoke("sync", "sonar", SONAR_URL=sandbox.sonar_url)
    assert result.exit_code == 1
    text = told(result)
    assert "sonar: INCOMPLETE." in text
    assert "1 failed:" in text
    assert "The token's user lacks a permission for 'addresses'" in text
    assert "What came is stored; what failed is fetched again by the next sync." in text


def test_progress_and_failures_are_logged_without_the_token(
    invoke: Invoke, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with running_in_thread(SandboxOptions(customers=20)) as sandbox:
        sandbox.configure(faults=["503~times=2"])
        result = invoke("sync", "sonar", "-v", SONAR_URL=sandbox.sonar_url)
    assert result.exit_code == 0
    log = (tmp_path / settings.LOG_FILE).read_text()
    assert "lookups: " in log
    assert "records" in log
    assert TOKEN not in log + result.output + caplog.text


# -- as a process ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_process_ends_with_the_status_and_keeps_its_streams_apart(tmp_path: Path) -> None:
    with running(SandboxOptions(customers=60)) as sandbox:
        variables = {"BDC_DATA_DIR": str(tmp_path), "SONAR_URL": sandbox.sonar_url, "SONAR_TOKEN": TOKEN}
        options: dict[str, Any] = {"directory": tmp_path, "variables": variables}
        done = run("sync", "sonar", "--json", "--verbose", **options)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["complete"] is True
        assert "lookups: " in done.stderr
        assert TOKEN not in done.stderr + done.stdout
        sandbox.configure(denied=["inventory_items"])
        again = run("sync", "sonar", **options)
        assert again.returncode == 1
        assert "permission for 'inventory_items'" in again.stdout


def test_a_process_with_wrong_settings_ends_at_once_with_status_2(tmp_path: Path) -> None:
    done = run("sync", "sonar", directory=tmp_path, variables={"BDC_DATA_DIR": str(tmp_path), "SONAR_TOKEN": TOKEN})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: SONAR_URL is not set.")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kilobytes", [0, 40])
def test_a_full_disk_ends_with_status_1_and_a_report_without_tracebacks(tmp_path: Path, kilobytes: int) -> None:
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes} << 10, {kilobytes} << 10))"
    with running(SandboxOptions(customers=60)) as apart:
        variables = {"BDC_DATA_DIR": str(tmp_path), "SONAR_URL": apart.sonar_url, "SONAR_TOKEN": TOKEN}
        done = run("sync", "sonar", "--json", directory=tmp_path, variables=variables, before=limit)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Logging error" not in done.stderr
    report = json.loads(done.stdout)
    assert report["complete"] is False
    assert "full" in " ".join(failure["error"] for failure in report["failures"])


def test_help_and_version_need_no_settings(invoke: Invoke) -> None:
    for arguments in (
        ["--help"],
        ["sync", "--help"],
        ["sync", "sonar", "-h"],
        ["sandbox", "--help"],
        ["demo", "--help"],
    ):
        result = invoke(*arguments, SONAR_URL="nonsense")
        assert result.exit_code == 0, arguments
        assert "Usage:" in told(result)
    assert "version" in told(invoke("--version"))
