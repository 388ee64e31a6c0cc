"""What a person sees while a sync runs, and after it: progress on a terminal, plain lines elsewhere, the summary."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Display

from bdc_pipeline.warehouse.drain import Progress
from bdc_pipeline.warehouse.ledger import SyncReport

LOG = logging.getLogger("bdc_pipeline")

PLAIN_SECONDS = 5.0
"""How often a plain line tells how far a stage has come."""

CURRENT_SECONDS = 5.0
"""Over how long the current rate is taken."""

FIRST_ERRORS = 10

OnProgress = Callable[[str, Progress], None]


def time_left(progress: Progress) -> float | None:
    """Seconds until the expected records have come at the rate so far; None where that cannot be told."""
    if progress.expected is None or not progress.rows or progress.seconds <= 0:
        return None
    return max(0.0, (progress.expected - progress.rows) * progress.seconds / progress.rows)


def clock(seconds: float) -> str:
    """Seconds as `1:05` or `2:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class CurrentRate:
    """How many records a second come now, beside how many have come a second all in all."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def of(self, stage: str, progress: Progress) -> float | None:
        """Records a second over the last `CURRENT_SECONDS` of a stage; None before there is anything to compare with."""
        seen = self._seen.setdefault(stage, deque())
        seen.append((progress.seconds, progress.rows))
        # one that is older than the window stays, so that the whole window is covered
        while len(seen) > 2 and seen[1][0] <= progress.seconds - CURRENT_SECONDS:
            seen.popleft()
        seconds, rows = seen[0]
        return (progress.rows - rows) / (progress.seconds - seconds) if progress.seconds > seconds else None


def line_of(stage: str, progress: Progress, now: float | None = None) -> str:
    """How far a stage has come, in a line: `customers: 4,300 of 20,000 records, 910/s, 0:17 left, 52 requests`.

    With what comes `now`, records a second, it reads `1,020/s now, 910/s`.
    """
    of = f" of {progress.expected:,}" if progress.expected is not None else ""
    rate = progress.rows / progress.seconds if progress.seconds > 0 else 0.0
    left = time_left(progress)
    remaining = f", {clock(left)} left" if left is not None else ""
    retries = f", {progress.effort.retries:,} retries" if progress.effort.retries else ""
    current = f"{now:,.0f}/s now, " if now is not None else ""
    return (
        f"{stage}: {progress.rows:,}{of} records, {current}{rate:,.0f}/s{remaining}, "
        f"{progress.effort.requests:,} requests{retries}"
    )


@contextlib.contextmanager
def shown(*, terminal: bool) -> Iterator[OnProgress]:
    """Shows progress on standard error while the block runs: bars on a terminal, else a line now and then."""
    if not terminal:
        yield _Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    with Display(*columns, console=Console(stderr=True)) as display:
        yield _Bars(display)


class _Lines:
    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._rate = CurrentRate()

    def __call__(self, stage: str, progress: Progress) -> None:
        now, current = time.monotonic(), self._rate.of(stage, progress)
        ended = progress.expected is not None and progress.rows >= progress.expected > 0
        if now - self._last.setdefault(stage, now) < PLAIN_SECONDS and not ended:
            return
        if ended and self._last.get(f"{stage} ended"):
            return
        self._last[stage] = now
        self._last[f"{stage} ended"] = float(ended)
        LOG.info("%s", line_of(stage, progress, current))


class _Bars:
    def __init__(self, display: Display) -> None:
        self._display = display
        self._tasks: dict[str, int] = {}
        self._rate = CurrentRate()

    def __call__(self, stage: str, progress: Progress) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._display.add_task(stage, total=None, told="")
        rate = progress.rows / progress.seconds if progress.seconds > 0 else 0.0
        left = time_left(progress)
        current = self._rate.of(stage, progress)
        told = f"{current:,.0f}/s now, " if current is not None else ""
        told += f"{rate:,.0f}/s" + (f", {clock(left)} left" if left else "")
        self._display.update(
            self._tasks[stage],  # type: ignore[arg-type]
            completed=progress.rows,
            total=progress.expected,
            told=told,
        )


def summary(report: SyncReport, database: Path, log: Path | None = None, limited: str = "") -> str:
    """What a sync did, for a person: totals, counts by table with what the file holds now, the first errors."""
    records = sum(counts.fetched for counts in report.tables.values())
    rate = records / report.seconds if report.seconds else 0.0
    state = "complete" if report.complete else "INCOMPLETE"
    state += f", {limited}" if limited else ""
    cost = f"{_number(report.requests, 'request', 's')}, {_number(report.retries, 'retr', 'ies', 'y')}"
    lines = [
        f"{report.source}: {state}. {_number(records, 'record', 's')} in {report.seconds:.1f} s ({rate:,.0f} a second), {cost}."
    ]
    if report.tables:
        lines += ["", *_table(report, stored_counts(database))]
    if report.failures:
        lines += ["", f"{len(report.failures)} failed:"]
        lines += [f"  {failure.unit}: {failure.error}" for failure in report.failures[:FIRST_ERRORS]]
        if len(report.failures) > FIRST_ERRORS:
            lines.append(f"  and {len(report.failures) - FIRST_ERRORS} more, in the table _run_failures")
        lines.append(
            "What came is stored; what failed is fetched again by the next sync." if records else "Nothing was fetched."
        )
    lines += ["", f"database  {_short(database)}"]
    if log is not None:
        lines.append(f"log       {_short(log)}")
    return "\n".join(lines)


def _number(number: int, word: str, many: str, one: str = "") -> str:
    """A number of things: `1 retry`, `2,000 retries`."""
    return f"{number:,} {word}{one if number == 1 else many}"


def _short(path: Path) -> str:
    """A path below the working directory by its rest, another one whole."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _table(report: SyncReport, stored: Mapping[str, int]) -> list[str]:
    names = ("expected", "fetched", "inserted", "updated", "unchanged", "vanished", "rejected")
    width = max(len(name) for name in report.tables)
    lines = [f"{'table':<{width}} " + "".join(f"{name:>11}" for name in (*names, "stored"))]
    for table, counts in report.tables.items():
        values = [*(getattr(counts, name) for name in names), stored.get(table)]
        told = ("?" if value is None else f"{value:,}" for value in values)
        lines.append(f"{table:<{width}} " + "".join(f"{text:>11}" for text in told))
    return lines


def stored_counts(database: Path) -> dict[str, int]:
    """How many rows each table holds that have not vanished, as the last drain noted; empty without a file."""
    if not database.is_file():
        return {}
    with contextlib.closing(sqlite3.connect(database)) as connection, contextlib.suppress(sqlite3.Error):
        found = connection.execute("SELECT key, value FROM metadata WHERE key LIKE '%_count'")
        return {str(key).removesuffix("_count"): int(value) for key, value in found}
    return {}
