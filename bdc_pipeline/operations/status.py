"""The picture of all copies for a terminal: what is fresh, stale, incomplete or was never fetched, and what comes next.

From the ledgers alone. What runs next is known to Dagster's instance; see `upcoming.py`, whose answer is handed in here.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from bdc_pipeline.operations.facts import Watched
from bdc_pipeline.operations.standing import LastRun, Partition, Standing, State, absent, read_standings
from bdc_pipeline.operations.windows import Windows
from bdc_pipeline.operations.wording import told_age
from bdc_pipeline.warehouse.sql import utc_text
from bdc_pipeline.warehouse.store import StoreError


class Upcoming(msgspec.Struct, frozen=True):
    """What runs next: `at` is None for a sensor, which runs when it finds a reason. `by` is its name."""

    by: str
    at: dt.datetime | None = None


class Partitions(msgspec.Struct, kw_only=True):
    """How many partitions there are of what kind."""

    total: int
    complete: int
    stale: int
    incomplete: int


class Lacking(msgspec.Struct, kw_only=True):
    """A partition that is stale or incomplete. `age_seconds` is null where its time lies ahead."""

    partition: str
    name: str
    state: State
    age_seconds: int | None
    problem: str


class Ran(msgspec.Struct, kw_only=True):
    """The latest run. `finished_at` is null where it was cut off, or is under way."""

    started_at: str
    finished_at: str | None
    complete: bool
    seconds: float


class TableStatus(msgspec.Struct, kw_only=True):
    """How one asset stands. `problems` are those of the table as a whole, `lacking` its partitions'."""

    asset: str
    state: State
    rows: int
    window_seconds: int
    partitions: Partitions
    open_rejects: int
    last_run: Ran | None
    next_run: Upcoming | None
    says: str
    problems: list[str]
    lacking: list[Lacking]


class SourceStatus(msgspec.Struct, kw_only=True):
    """How a source's copy stands. `problem` says why its file could not be read."""

    source: str
    database: str
    state: State
    problem: str
    tables: list[TableStatus]


class Status(msgspec.Struct, kw_only=True):
    """How all copies stand: the object that `--json` prints.

    `fresh`: nothing is stale or incomplete, no file is unreadable, and what was asked for by name was fetched some day.
    """

    fresh: bool
    checked_at: str
    sources: list[SourceStatus]
    problems: list[str]


def status_of(
    watched: Sequence[Watched],
    path_of: Callable[[str], Path],
    windows: Windows,
    now: dt.datetime,
    *,
    upcoming: Mapping[str, Upcoming] | None = None,
    named: str | None = None,
    problems: Sequence[str] = (),
) -> Status:
    """How the copies stand.

    Args:
        watched: the sources.
        path_of: a source's file.
        windows: how old copies may be.
        now: the moment.
        upcoming: what runs next, by asset (`sonar/customers`).
        named: the source that was asked for by name, if any; others that were never fetched are not missed.
        problems: what is wrong with settings.
    """
    sources = [_of_source(one, path_of(one.source), windows, now, upcoming or {}) for one in watched]
    bad = any(source.problem or source.state in {"stale", "incomplete"} for source in sources)
    missed = named is not None and any(source.state == "never" for source in sources if source.source == named)
    return Status(fresh=not (bad or missed), checked_at=utc_text(now), sources=sources, problems=list(problems))


def _of_source(
    watched: Watched, path: Path, windows: Windows, now: dt.datetime, upcoming: Mapping[str, Upcoming]
) -> SourceStatus:
    problem = ""
    try:
        found = read_standings(path, watched, windows, now) if path.exists() else absent(watched, windows)
    except StoreError as error:
        found, problem = absent(watched, windows), str(error)
    tables = [_of_table(standing, upcoming.get(f"{standing.source}/{standing.table}")) for standing in found]
    states = {table.state for table in tables}
    worst: tuple[State, ...] = ("incomplete", "stale", "fresh", "never")
    state = next(state for state in worst if state in states)
    return SourceStatus(source=watched.source, database=str(path), state=state, problem=problem, tables=tables)


def _of_table(standing: Standing, upcoming: Upcoming | None) -> TableStatus:
    incomplete, stale = standing.those("incomplete"), standing.those("stale")
    ran = standing.last_run
    return TableStatus(
        asset=f"{standing.source}/{standing.table}",
        state=standing.state,
        rows=standing.rows,
        window_seconds=int(standing.window.fail.total_seconds()),
        partitions=Partitions(
            total=standing.total, complete=standing.complete, stale=len(stale), incomplete=len(incomplete)
        ),
        open_rejects=standing.open_rejects,
        last_run=_ran(ran) if ran else None,
        next_run=upcoming,
        says="; ".join(filter(None, (standing.incomplete, standing.stale))),
        problems=list(standing.problems),
        lacking=[_lacking(partition) for partition in (*incomplete, *stale)],
    )


def _ran(run: LastRun) -> Ran:
    return Ran(
        started_at=utc_text(run.started_at),
        finished_at=utc_text(run.finished_at) if run.finished_at else None,
        complete=run.complete,
        seconds=round(run.seconds, 3),
    )


def _lacking(partition: Partition) -> Lacking:
    return Lacking(
        partition=partition.key,
        name=partition.name,
        state=partition.state,
        age_seconds=None if partition.age is None else int(partition.age.total_seconds()),
        problem=partition.problem,
    )


# -- for a person ----------------------------------------------------------------------------------------------

COLUMNS = ("asset", "state", "rows", "partitions", "rejects", "last run", "next run")

RIGHT = frozenset({"rows", "partitions", "rejects"})


def told(status: Status, now: dt.datetime) -> str:
    """The picture as text: a line for each asset, below them what is wrong with which, and the sum of it."""
    lines, widths = [], _widths(status, now)
    for source in status.sources:
        if source.problem or source.state == "never":
            lines.append(source.problem or f"{source.source} was never fetched: bdc-pipeline sync {source.source}")
            continue
        if not lines or lines[-1] != "":
            lines += [""] * bool(lines)
        lines.append(_line(COLUMNS, widths))
        lines += [_line(_cells(table, now), widths) for table in source.tables]
        lines.append("")
    lines += ([""] if lines and lines[-1] != "" else []) + _wrong(status)
    lines.append(_sum(status))
    return "\n".join(line.rstrip() for line in lines)


def _widths(status: Status, now: dt.datetime) -> list[int]:
    rows = [COLUMNS, *(_cells(table, now) for source in status.sources for table in source.tables)]
    return [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if name in RIGHT else cell.ljust(width)
        for name, cell, width in zip(COLUMNS, cells, widths, strict=True)
    ]
    return "  ".join(padded)


def _cells(table: TableStatus, now: dt.datetime) -> tuple[str, ...]:
    partitions = table.partitions
    ran = table.last_run
    when = f"{told_age(now - dt.datetime.fromisoformat(ran.started_at))} ago" if ran else "-"
    if ran and not ran.finished_at:
        when += ", not ended"
    elif ran and not ran.complete:
        when += ", failed"
    return (
        table.asset,
        table.state,
        f"{table.rows:,}",
        f"{partitions.complete}/{partitions.total}",
        f"{table.open_rejects:,}",
        when,
        _next(table.next_run),
    )


def _next(upcoming: Upcoming | None) -> str:
    if upcoming is None:
        return "-"
    return f"{upcoming.at:%Y-%m-%d %H:%M} UTC" if upcoming.at else f"when {upcoming.by} finds a reason"


def _wrong(status: Status) -> list[str]:
    """What is wrong; tables that say the same, since one fetch fills them, in one line."""
    by_text: dict[tuple[str, str], list[str]] = {}
    for source in status.sources:
        for table in source.tables:
            if table.says:
                by_text.setdefault((source.source, table.says), []).append(table.asset.partition("/")[2])
    lines = [f"{source}/{', '.join(names)} {says}" for (source, says), names in by_text.items()]
    lines += status.problems
    return [*lines, ""] if lines else []


def _sum(status: Status) -> str:
    states = Counter(table.state for source in status.sources for table in source.tables)
    order: Sequence[State] = ("fresh", "stale", "incomplete", "never")
    return ", ".join(
        f"{states[state]} {'never fetched' if state == 'never' else state}" for state in order if states[state]
    )
