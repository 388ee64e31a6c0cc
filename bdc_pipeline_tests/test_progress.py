"""What a person sees of a sync."""

import contextlib
import io
import logging
import os
import pty
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bdc_pipeline import progress as shown_progress
from bdc_pipeline.progress import CurrentRate, clock, line_of, shown, stored_counts, summary, time_left
from bdc_pipeline.warehouse.drain import Progress
from bdc_pipeline.warehouse.ledger import Failure, SyncReport, TableCounts
from bdc_pipeline.warehouse.stream import Effort
from bdc_pipeline_tests.warehouse.shop import Shop, items, listed


def so_far(rows: int, expected: int | None = None, seconds: float = 10.0, **effort: int) -> Progress:
    return Progress(rows, expected, Effort(**effort), seconds)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A file that is not there yet."""
    return Shop(tmp_path / "shop.db")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is logged, as it is logged."""
    monkeypatch.setattr(shown_progress.LOG, "propagate", True)
    found: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Kept()
    shown_progress.LOG.addHandler(handler)
    with caplog.at_level(logging.INFO, shown_progress.LOG.name):
        yield found
    shown_progress.LOG.removeHandler(handler)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (65, "1:05"),
        (3599.6, "1:00:00"),
        (7265, "2:01:05"),
        (360_000, "100:00:00"),
    ],
)
def test_seconds_are_shown_as_a_clock_does(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("progress", "seconds"),
    [
        (so_far(100, 300, 10), 20.0),
        (so_far(300, 300, 10), 0.0),
        (so_far(400, 300, 10), 0.0),
        (so_far(0, 300, 10), None),
        (so_far(100, None, 10), None),
        (so_far(100, 300, 0), None),
        (so_far(0, 0, 10), None),
    ],
)
def test_the_time_left_follows_from_the_rate_so_far(progress: Progress, seconds: float | None) -> None:
    assert time_left(progress) == seconds


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (
            so_far(4300, 20_000, 4.725, requests=52),
            "customers: 4,300 of 20,000 records, 910/s, 0:17 left, 52 requests",
        ),
        (so_far(0, None, 0), "customers: 0 records, 0/s, 0 requests"),
        (so_far(50, None, 10, requests=1, retries=2), "customers: 50 records, 5/s, 1 requests, 2 retries"),
        (so_far(5000, 5000, 1, requests=1234), "customers: 5,000 of 5,000 records, 5,000/s, 0:00 left, 1,234 requests"),
    ],
)
def test_a_line_says_how_far_a_stage_has_come(progress: Progress, text: str) -> None:
    assert line_of("customers", progress) == text


def test_the_current_rate_is_that_of_the_last_seconds() -> None:
    rate = CurrentRate()
    found = [
        rate.of("customers", so_far(rows, None, seconds)) for rows, seconds in ((0, 0), (100, 1), (600, 6), (700, 11))
    ]
    assert found == [None, 100.0, 100.0, 20.0]
    assert rate.of("inventory", so_far(5, None, 3)) is None
    assert rate.of("customers", so_far(700, None, 16)) == 0.0
    assert line_of("customers", so_far(50, 100, 10), 7.4) == (
        "customers: 50 of 100 records, 7/s now, 5/s, 0:10 left, 0 requests"
    )


# -- lines and bars --------------------------------------------------------------------------------------------


def test_away_from_a_terminal_a_line_comes_every_few_seconds_only(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(shown_progress.time, "monotonic", lambda: now)
    with shown(terminal=False) as on_progress:
        for now in (100.0, 101.0, 104.9, 105.0, 106.0, 110.1):
            on_progress("customers", so_far(int(now), 1000))
    assert [line.split(" of ")[0] for line in lines] == ["customers: 105", "customers: 110"]


def test_the_end_of_a_stage_is_told_once_however_soon_it_comes(lines: list[str]) -> None:
    with shown(terminal=False) as on_progress:
        for rows in (10, 1000, 1000, 1000):
            on_progress("customers", so_far(rows, 1000))
        on_progress("inventory", so_far(70, 70))
    assert [line.split(" records")[0] for line in lines] == ["customers: 1,000 of 1,000", "inventory: 70 of 70"]


def test_a_stage_of_nothing_is_no_line(lines: list[str]) -> None:
    with shown(terminal=False) as on_progress:
        on_progress("customers", so_far(0, 0))
        on_progress("customers", so_far(0, None))
    assert lines == []


def test_on_a_terminal_bars_show_counts_rates_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        # as wide as a person's: rich asks the terminal, which has no size here
        monkeypatch.setattr(
            shown_progress, "Console", lambda **_: Console(file=terminal, force_terminal=True, width=120)
        )
        with shown(terminal=True) as on_progress:
            on_progress("customers", so_far(250, 1000, 10))
            on_progress("customers", so_far(500, 1000, 10))
            on_progress("inventory", so_far(7, None, 1))
        terminal.flush()
        text = _read(ours)
    assert "customers" in text
    assert "500/1000" in text
    assert "50%" in text
    assert "50/s, 0:10 left" in text
    assert "inventory" in text
    assert "7/?" in text


def _read(descriptor: int) -> str:
    """What a terminal has shown so far, without its colours and movements."""
    os.set_blocking(descriptor, False)
    parts: list[bytes] = []
    with contextlib.suppress(BlockingIOError, OSError):
        while part := os.read(descriptor, 65_536):
            parts.append(part)
    os.close(descriptor)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())


def test_progress_goes_to_standard_error_and_leaves_standard_output_to_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", errors)
    with shown(terminal=True) as on_progress:
        on_progress("customers", so_far(500, 1000, 10))
    assert output.getvalue() == ""
    assert "customers" in errors.getvalue()


# -- the summary -----------------------------------------------------------------------------------------------


def report(*failures: Failure, complete: bool = True, **tables: TableCounts) -> SyncReport:
    return SyncReport(
        source="shop",
        complete=complete,
        seconds=2.0,
        requests=1234,
        retries=5,
        tables=tables,
        failures=list(failures),
    )


def test_the_summary_tells_counts_by_table_and_what_the_file_holds(shop: Shop) -> None:
    shop.sync(items(1, 2), listed(2))
    counts = TableCounts(expected=None, fetched=10_000, inserted=1, updated=2, unchanged=9_997, vanished=3, rejected=4)
    text = summary(report(items=counts), shop.path)
    first, _, header, row, *_ = text.splitlines()
    assert first == "shop: complete. 10,000 records in 2.0 s (5,000 a second), 1,234 requests, 5 retries."
    assert header.split() == [
        "table", "expected", "fetched", "inserted", "updated", "unchanged", "vanished", "rejected", "stored",
    ]  # fmt: skip
    assert row.split() == ["items", "?", "10,000", "1", "2", "9,997", "3", "4", "2"]
    assert len(header) == len(row)


def test_the_summary_of_an_incomplete_sync_says_so_first_and_names_what_failed(tmp_path: Path) -> None:
    failures = [Failure(f"page {number}", "HTTP 502") for number in range(1, 14)]
    text = summary(report(*failures, complete=False, items=TableCounts(fetched=1)), tmp_path / "shop.db")
    assert text.startswith("shop: INCOMPLETE. ")
    told = text.splitlines()
    assert "13 failed:" in told
    assert told.count("  page 10: HTTP 502") == 1
    assert "  page 11: HTTP 502" not in told
    assert "  and 3 more, in the table _run_failures" in told
    assert "What came is stored; what failed is fetched again by the next sync." in told


def test_ten_failures_are_all_named(tmp_path: Path) -> None:
    text = summary(report(*[Failure(f"page {n}", "HTTP 502") for n in range(10)], complete=False), tmp_path / "s.db")
    assert text.count("HTTP 502") == 10
    assert "more, in the table" not in text


def test_a_sync_that_fetched_nothing_does_not_say_that_something_is_stored(tmp_path: Path) -> None:
    text = summary(report(Failure("sonar", "HTTP 401"), complete=False), tmp_path / "shop.db")
    assert "Nothing was fetched." in text
    assert "What came is stored" not in text


def test_the_summary_names_the_files_as_the_person_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "here"
    inside.mkdir()
    monkeypatch.chdir(inside)
    told = summary(report(), inside / "data" / "shop.db", tmp_path / "elsewhere.log").splitlines()
    assert f"database  {Path('data', 'shop.db')}" in told
    assert f"log       {tmp_path / 'elsewhere.log'}" in told


def test_one_is_no_plural(tmp_path: Path) -> None:
    single = report(items=TableCounts(fetched=1))
    single.requests = single.retries = 1
    assert "1 record in 2.0 s (0 a second), 1 request, 1 retry." in summary(single, tmp_path / "shop.db")


def test_a_sync_that_took_no_time_has_no_rate(tmp_path: Path) -> None:
    quick = report()
    quick.seconds = 0
    assert "0 records in 0.0 s (0 a second)" in summary(quick, tmp_path / "shop.db")


def test_counts_of_a_file_that_is_not_there_or_not_ours_are_none(tmp_path: Path) -> None:
    assert stored_counts(tmp_path / "missing.db") == {}
    assert not (tmp_path / "missing.db").exists()
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (x)")
    assert stored_counts(other) == {}
    text = tmp_path / "letter.db"
    text.write_text("a letter to my aunt\n" * 100)
    assert stored_counts(text) == {}


def test_counts_are_those_of_the_last_drain(shop: Shop) -> None:
    shop.sync(items(1, 2, 3), listed(3))
    shop.sync(items(1, 2), listed(2))
    assert stored_counts(shop.path)["items"] == 2
