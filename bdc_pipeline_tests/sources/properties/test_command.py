"""`bdc-pipeline sync properties`: options, exit status, report."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bdc_pipeline.cli import main
from bdc_pipeline.commands.properties import LARGEST_PAGE
from bdc_pipeline.sources.properties import client
from bdc_pipeline.sources.properties.command import suggested_workers, told_workers
from bdc_pipeline_tests.sources.properties.syncing import Copy

Sync = Callable[..., Result]


@pytest.fixture
def sync(copy: Copy) -> Iterator[Sync]:
    """The command, with the sandbox's variables. In a process of its own its log and its signal handlers would end with it."""
    log = logging.getLogger("bdc_pipeline")
    handlers, level, propagate = log.handlers, log.level, log.propagate
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: str) -> Result:
        try:
            return CliRunner().invoke(main, ["sync", "properties", "-db", str(copy.path), *arguments])
        finally:
            for handler in log.handlers if log.handlers is not handlers else ():
                handler.close()
            log.handlers, log.level, log.propagate = handlers, level, propagate

    yield run
    for number, handler in signals.items():
        signal.signal(number, handler)


def test_it_is_complete_and_says_so(copy: Copy, sync: Sync) -> None:
    result = sync("-m", "Dragør", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    homes = report["tables"]["properties"]
    assert report["source"] == "properties"
    assert report["complete"] is True
    assert homes["expected"] == homes["fetched"] == homes["inserted"] == len(copy.homes(codes=(155,)))
    assert report["tables"]["buildings"]["expected"] is None
    copy.assert_true(codes=(155,))


def test_municipalities_go_by_code_and_by_name_in_either_option(copy: Copy, sync: Sync) -> None:
    result = sync(
        "--partition", "dragør", "--municipality", "0151", "-m", "155", "--parallel", "-t", "villa", "-w", "2"
    )
    assert result.exit_code == 0, result.output
    copy.assert_true(codes=(151, 155))


def test_what_is_missing_ends_with_status_1_and_the_first_errors(copy: Copy, sync: Sync) -> None:
    copy.sandbox.configure(faults=["404"])
    result = sync("-m", "Dragør", "-m", "Brøndby")
    assert result.exit_code == 1
    assert "properties: INCOMPLETE" in result.stdout
    assert "0155 Dragør villa" in result.stdout
    assert "the server answered 404" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-m", "Aarhus"), "'Aarhus' is none of the 36 municipalities. They are: 0101 København"),
        (("--partition", "0751"), "'0751' is none of the 36"),
        (("-t", "castle"), "'castle' is not one of 'villa'"),
        (("--from", "2020-01-01"), "No such option"),
        (("-l", "0"), "0 is not in the range"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_says_what_there_is(
    sync: Sync, arguments: tuple[str, ...], sentence: str
) -> None:
    result = sync(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_variable_that_cannot_be_used_ends_with_status_2(sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOLIGSIDEN_REQUESTS_PER_SECOND", "0")
    result = sync()
    assert result.exit_code == 2
    assert "BOLIGSIDEN_REQUESTS_PER_SECOND is '0'" in result.stderr


def test_a_limit_is_said(copy: Copy, sync: Sync) -> None:
    result = sync("-m", "København", "-l", "3")
    assert result.exit_code == 0, result.output
    assert "limited to 3 by --limit" in result.stdout
    assert copy.one("SELECT count(*) FROM properties") == 3


def test_a_batch_that_is_too_large_is_told_and_cut(copy: Copy, sync: Sync) -> None:
    assert sync("-m", "Dragør", "-b", "500").exit_code == 0
    log = (copy.path.parent / "bdc_cache.log").read_text()
    assert "--batch-size 500: Boligsiden gives 50 homes a page at most" in log
    assert "12 workers; " in log
    assert " are suggested for " in log


@pytest.mark.parametrize(
    ("cores", "rate", "workers"), [(1, 10, 12), (8, 10, 12), (2, 1, 1), (1, 1000, 150), (64, 0.2, 1)]
)
def test_workers_are_suggested_by_what_may_be_asked_and_what_cores_can_read(
    cores: int, rate: float, workers: int
) -> None:
    assert suggested_workers(cores, rate) == workers
    assert told_workers(3, rate).startswith("3 workers; ")


def test_the_largest_page_is_the_same_for_the_command_and_for_the_client() -> None:
    assert LARGEST_PAGE == client.LARGEST_PAGE


def test_help_says_what_types_mean_for_a_copy_and_that_parallel_changes_nothing(tmp_path: Path) -> None:
    text = " ".join(CliRunner().invoke(main, ["sync", "properties", "--help"]).output.split())
    assert "Types that a municipality's copy holds are listed too" in text
    assert "Accepted for older scripts: requests always run side by side." in text
    assert "--municipality NAME|CODE" in text
