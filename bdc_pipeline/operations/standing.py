"""How each table of a copy stands: fresh, stale, incomplete or never fetched, by the ledger and the rows in its file.

`judged` decides, of one partition; `read_standings` asks the file, in a handful of statements however many partitions there
are. Imports no Dagster, so that a terminal has its answer at once.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bdc_pipeline.operations.facts import Watched, Window
from bdc_pipeline.operations.windows import Windows
from bdc_pipeline.operations.wording import by_reason, counted, shortened, told_age
from bdc_pipeline.warehouse.sql import quoted
from bdc_pipeline.warehouse.store import SMALLEST, StoreError, explained
from bdc_pipeline.warehouse.table import Table

State = Literal["fresh", "stale", "incomplete", "never"]

PART = "only a part was asked for"
"""What a partition lacks that nothing has failed of."""

BETWEEN_STAGES = dt.timedelta(minutes=15)
"""How long a sensor, which looks every minute, waits for the next stage before it says that one is missing: a sync on the command
line may be about to begin it. Who asks by hand is told at once."""

CLOCK = dt.timedelta(minutes=5)
"""How far a time may lie ahead: two machines' clocks. A time further on says nothing about an age."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What the ledger holds of a partition, as far as it matters here. Times are UTC."""

    complete: bool
    synced_at: dt.datetime | None
    problem: str = ""
    expected: int | None = None
    stored: int | None = None
    rejected: int = 0
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Partition:
    """How a partition stands. `age`: since it was last known to be as at the source; None where no clock can tell."""

    key: str
    name: str
    state: State
    age: dt.timedelta | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The latest run that came to a table, or that was to come to it.

    Args:
        run_id, started_at, complete, seconds: of it.
        finished_at: None where it was cut off, or is under way.
        failure: what failed outside of any table's fetch: a stage, with why.
        reached: whether the table's own fetch came to its end in it.
    """

    run_id: str
    started_at: dt.datetime
    finished_at: dt.datetime | None
    complete: bool
    seconds: float
    failure: str = ""
    reached: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """How a table stands.

    Args:
        source, table: its names.
        window: how old it may be.
        rows: those that have not vanished.
        total: partitions, those that are known beforehand and have never been fetched among them.
        partitions: those that the ledger knows; one with an empty key for a table without.
        open_rejects: rejected records that are not resolved.
        last_run: the latest that came to it.
        problems: what is wrong with the table as a whole, each a sentence's part.
    """

    source: str
    table: str
    window: Window
    rows: int = 0
    total: int = 0
    partitions: tuple[Partition, ...] = ()
    open_rejects: int = 0
    last_run: LastRun | None = None
    problems: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """The worst of its partitions'."""
        states = {partition.state for partition in self.partitions}
        if self.problems or "incomplete" in states:
            return "incomplete"
        return "stale" if "stale" in states else "fresh" if states else "never"

    def those(self, state: State) -> list[Partition]:
        """The partitions in a state, the oldest first."""
        found = [partition for partition in self.partitions if partition.state == state]
        # by minutes: tables that one fetch fills name the same ones first
        return sorted(found, key=lambda one: (one.age is not None, -(_seconds(one.age) // 60), one.key))

    @property
    def complete(self) -> int:
        """How many partitions are complete, stale ones too."""
        return sum(partition.state in {"fresh", "stale"} for partition in self.partitions)

    @property
    def stale(self) -> str:
        """The stale ones in a sentence: `stale: 3 of 36: 0147 Frederiksberg 9 days, ...`; empty where none is."""
        found = [f"{partition.name} {told_age(partition.age)}".strip() for partition in self.those("stale")]
        told = counted(found, len(found), self.total, single=not self._partitioned)
        return told and f"stale: {told}"

    @property
    def incomplete(self) -> str:
        """The incomplete ones in a sentence, with what is missing, each reason once; empty where none is."""
        those = self.those("incomplete")
        found = by_reason((partition.name, partition.problem or PART) for partition in those)
        told = counted(found, len(those), self.total, single=not self._partitioned, between="; ")
        wrong = "; ".join(filter(None, (*self.problems, told)))
        return wrong and f"incomplete: {wrong}"

    @property
    def _partitioned(self) -> bool:
        return any(partition.key for partition in self.partitions)


def _seconds(age: dt.timedelta | None) -> float:
    return age.total_seconds() if age is not None else 0.0


# -- deciding --------------------------------------------------------------------------------------------------


def judged(
    key: str,
    noted: Noted,
    window: dt.timedelta,
    now: dt.datetime,
    *,
    name: str = "",
    settled: dt.datetime | None = None,
    source_age: dt.timedelta | None = None,
) -> Partition:
    """How a partition stands at a moment.

    Args:
        key: of it.
        noted: what the ledger holds of it.
        window: how old it may be.
        now: the moment.
        name: as people know it.
        settled: when the source stopped to change it, if it did.
        source_age: how old what the source has told is, where that is known.
    """
    name = name or key
    age = now - noted.synced_at if noted.synced_at else None
    if age is not None:
        age = None if age < -CLOCK else max(age, dt.timedelta())
    if not noted.complete:
        return Partition(key, name, "incomplete", age, noted.problem)
    if settled is not None and noted.synced_at and noted.synced_at >= settled and age is not None:
        return Partition(key, name, "fresh", age)
    if age is not None and source_age is not None:
        age = max(age, source_age)
    return Partition(key, name, "stale" if age is None or age > window else "fresh", age)


def partitions_of(
    watched: Watched,
    noted: Mapping[str, Noted],
    window: dt.timedelta,
    now: dt.datetime,
    ages: Mapping[str, dt.timedelta] | None = None,
) -> tuple[Partition, ...]:
    """How the partitions of a table stand.

    Where partitions of the past settle, the latest that was fetched stands for the present: though it has settled, it is
    stale when nothing was fetched since.
    """
    found = []
    synced = [one.synced_at for key, one in noted.items() if key and one.synced_at]
    present = max((key for key in noted if key), default="") if watched.settles else ""
    for key, one in sorted(noted.items()):
        settled = watched.settles(key) if watched.settles and key else None
        if key and key == present:
            settled = None
            one = Noted(one.complete, max(synced, default=None), one.problem)  # noqa: PLW2901  (the same, later)
        name = watched.named(key) if key else ""
        age = (ages or {}).get(key) if key else max((ages or {}).values(), default=None)
        found.append(judged(key, one, window, now, name=name, settled=settled, source_age=age))
    return tuple(found)


# -- reading ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ledger:
    """What a file's ledger holds, by table name."""

    noted: dict[str, dict[str, Noted]] = field(default_factory=dict)
    runs: dict[str, LastRun] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)


def read_ledger(connection: sqlite3.Connection) -> Ledger:
    """All of it, in three statements."""
    ledger = Ledger()
    states = "SELECT table_name, partition, complete, synced_at, problem, expected, stored, rejected, run_id FROM _partitions"
    for table, key, complete, synced_at, problem, expected, stored, rejected, run_id in connection.execute(states):
        noted = Noted(bool(complete), _moment(synced_at), problem or "", expected, stored, rejected, run_id)
        ledger.noted.setdefault(table, {})[key] = noted
    # of the row that has the maximum SQLite returns the other columns too
    latest = (
        "SELECT t.table_name, r.run_id, max(r.started_at) AS started_at, r.finished_at, r.complete, r.seconds "
        "FROM _run_tables t JOIN _runs r USING (run_id) GROUP BY t.table_name"
    )
    runs = (
        "SELECT l.*, (SELECT f.unit || ': ' || f.error FROM _run_failures f WHERE f.run_id = l.run_id AND f.table_name = '' "  # noqa: S608
        "ORDER BY f.rowid LIMIT 1), (SELECT value FROM metadata WHERE key = l.table_name || '_last_sync') "
        f"FROM ({latest}) l"
    )
    for table, run_id, started_at, finished_at, complete, seconds, failure, ended_at in connection.execute(runs):
        if began := _moment(started_at):
            ended = _moment(ended_at)
            reached = ended is not None and ended >= began
            ledger.runs[table] = LastRun(
                run_id, began, _moment(finished_at), bool(complete), seconds, failure or "", reached
            )
    rejects = "SELECT table_name, count(*) FROM _rejects WHERE resolved_at IS NULL GROUP BY table_name"
    ledger.rejects = dict(connection.execute(rejects))
    return ledger


def _moment(text: str | None) -> dt.datetime | None:
    if not text:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


# -- what the ledger holds between the lines -------------------------------------------------------------------


def problems_of(ledger: Ledger, table: str, rows: int) -> tuple[str, ...]:
    """What is wrong with a table as a whole, which no partition's state tells.

    A stage that fails before its fetch, or cannot even write that it failed (the disk is full), leaves the table as it was: a
    copy that looks fresh. What failed in the latest run concerns the tables that it did not reach; all of them where it reached
    all.
    """
    run, found = ledger.runs.get(table), list[str]()
    if run and run.failure and not run.complete:
        spared = any(one.run_id == run.run_id and not one.reached for one in ledger.runs.values())
        if not run.reached or not spared:
            found.append(f"the last run failed: {shortened(run.failure)}")
    if rows and not ledger.noted.get(table) and not found:
        found.append("rows are stored, but no fetch of them has come to its end")
    return tuple(found)


def lacking_of(
    watched: Watched, ledger: Ledger, table: str, *, since: dt.datetime | None = None
) -> tuple[Partition, ...]:
    """The partitions that the stage before knows and that a table lacks: a process was killed between the two.

    Those that the stage before has come to later than `since` are not missed yet. A table that was never fetched, and that no run was to fetch, lacks nothing: not all stages are everybody's.
    """
    stage = watched.stage_of(table)
    if stage is None or not stage.after or not (ledger.noted.get(table) or table in ledger.runs):
        return ()
    there = ledger.noted.get(table, {})
    problem = f"{stage.after} were fetched, but not what follows them"
    return tuple(
        Partition(key, watched.named(key), "incomplete", None, problem)
        for key, before in sorted(ledger.noted.get(stage.after, {}).items())
        if key and key not in there and (since is None or before.synced_at is None or before.synced_at <= since)
    )


def explained_by_others(watched: Watched, ledger: Ledger, table: str, key: str, noted: Noted) -> Noted:
    """An incomplete partition with a reason, where its own state has none but that of another table has.

    What one fetch misses is noted of the first of its tables; the others are incomplete along with it.
    """
    if noted.complete or noted.problem:
        return noted
    stage = watched.stage_of(table)
    first = ledger.noted.get(stage.tables[0], {}).get(key) if stage else None
    before = ledger.noted.get(stage.after, {}).get(key) if stage else None
    run = ledger.runs.get(table)
    if first is not None and not first.complete and first.problem and first.run_id == noted.run_id:
        problem = first.problem
    elif stage and before is not None and not before.complete:
        problem = f"{stage.after} are not all there"
    elif run is not None and run.run_id == noted.run_id and run.finished_at and not run.complete:
        problem = "the last run failed"
    else:
        return noted
    return replace(noted, problem=problem)


def live_counts(connection: sqlite3.Connection, tables: Iterable[Table]) -> dict[str, int]:
    """How many rows of each table have not vanished, in two statements; tables that the file lacks are left out."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    counted = [table for table in tables if table.stored in there]
    if not counted:
        return {}
    # two counts from indexes instead of one from the rows
    counts = " UNION ALL ".join(
        f"SELECT (SELECT count(*) FROM {quoted(t.stored)}) - (SELECT count(*) FROM {quoted(t.stored)} WHERE vanished_at IS NOT NULL)"  # noqa: S608  (declared names)
        for t in counted
    )
    return {table.name: int(number) for table, (number,) in zip(counted, connection.execute(counts), strict=True)}


def opened(path: Path) -> sqlite3.Connection:
    """A file, for reading, whatever version of the schema it holds: a transaction that sees one state of it.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    if not path.is_file():
        raise StoreError(f"{path} does not exist.")
    if path.stat().st_size < SMALLEST:
        raise StoreError(f"{path} is no database.")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)
        try:
            connection.execute("BEGIN")
            found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = '_partitions'").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explained(error, path) from None
    if not found[0]:
        connection.close()
        raise StoreError(f"{path} holds no ledger: no sync has written it.")
    return connection


def read_standings(
    path: Path,
    watched: Watched,
    windows: Windows,
    now: dt.datetime,
    tables: Iterable[Table] | None = None,
    *,
    patience: dt.timedelta = dt.timedelta(),
) -> list[Standing]:
    """How the tables of a file stand, all of them or some.

    Args:
        path: of the file.
        watched: the source.
        windows: how old copies may be.
        now: the moment.
        tables: those to look at; all where none are given.
        patience: how long after a stage the next one may be under way, so that what it has not got yet is not missed.

    Raises:
        StoreError: there is no such file, or it cannot be read.
    """
    with closing(opened(path)) as connection:
        try:
            return standings(connection, watched, windows, now, tables, patience=patience)
        except sqlite3.Error as error:
            raise explained(error, path) from None


def standings(
    connection: sqlite3.Connection,
    watched: Watched,
    windows: Windows,
    now: dt.datetime,
    tables: Iterable[Table] | None = None,
    *,
    patience: dt.timedelta = dt.timedelta(),
) -> list[Standing]:
    """The same of a file that is open."""
    chosen = list(watched.schema.tables if tables is None else tables)
    ledger = read_ledger(connection)
    rows = live_counts(connection, chosen)
    ages = watched.ages(now) if watched.ages else {}
    found = []
    for table in chosen:
        window, noted = windows.of(watched.source, table.name), ledger.noted.get(table.name, {})
        lacking = lacking_of(watched, ledger, table.name, since=now - patience if patience else None)
        noted = {key: explained_by_others(watched, ledger, table.name, key, one) for key, one in noted.items()}
        known = set(watched.partitions) if table.partitioning else set()
        found.append(
            Standing(
                watched.source,
                table.name,
                window,
                rows.get(table.name, 0),
                len(known | set(noted) | {one.key for one in lacking}) or 1,
                (*partitions_of(watched, noted, window.fail, now, ages), *lacking),
                ledger.rejects.get(table.name, 0),
                ledger.runs.get(table.name),
                problems_of(ledger, table.name, rows.get(table.name, 0)),
            )
        )
    return found


def absent(watched: Watched, windows: Windows) -> list[Standing]:
    """How the tables of a source stand of which there is no file."""
    return [
        Standing(
            watched.source,
            table.name,
            windows.of(watched.source, table.name),
            total=len(watched.partitions) if table.partitioning and watched.partitions else 1,
        )
        for table in watched.schema.tables
    ]
