"""What the checks of a table find: whether all is there, current, sound, plausible, and as quick as usual.

The functions that end in a `Verdict` decide, from what others here have read in the file. Imports no Dagster.
"""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bdc_pipeline.operations.facts import Reference, Rule, Watched
from bdc_pipeline.operations.standing import Noted, Standing
from bdc_pipeline.operations.windows import Problem
from bdc_pipeline.warehouse.sql import Where, quoted
from bdc_pipeline.warehouse.table import Table

PASSED, FAILED = True, False

FIRST = 5
"""So many rows are shown."""

MANY = 50
"""Of more partitions than this the whole table is looked at: one statement, not one of hundreds of conditions."""

VANISH_SHARE, FEW_ROWS = 0.2, 5
"""More rows than this share, and than these few, that vanished in one run are worth a look, also where that was allowed."""

HISTORY = 20
"""So many runs tell what is usual."""

LEAST = 5
"""From so many on."""

SLOWER, AT_LEAST = 3.0, 1.0
"""A run is slow at so many times the usual, and so many seconds above it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    Args:
        passed: whether all is well.
        says: a sentence.
        severe: it concerns what the run has just fetched, so that what follows from it would be wrong.
        numbers: what was counted.
        shown: some of the rows that it is about.
    """

    passed: bool
    says: str
    severe: bool = True
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)
    shown: Sequence[Mapping[str, Any]] = ()


# -- all there -------------------------------------------------------------------------------------------------


def complete(
    watched: Watched,
    standing: Standing,
    noted: Mapping[str, Noted],
    *,
    own: Collection[str] | None = None,
    held: Mapping[str, int] | None = None,
    vanished: int = 0,
) -> Verdict:
    """Whether all that the source counts is stored, or accounted for.

    Args:
        watched: the source.
        standing: how the table stands.
        noted: what the ledger holds of it, by partition.
        own: the partitions that the run is about; None for all.
        held: how many rows the file holds, by partition, where the ledger's counts are of now.
        vanished: how many rows the latest run has marked as vanished.
    """
    severe, slight = list[str](), list[str]()
    if standing.incomplete:
        of_run = own is None or any(partition.key in own for partition in standing.those("incomplete"))
        (severe if of_run else slight).append(standing.incomplete)
    for key, live in (held or {}).items():
        if problem := _uncounted(noted[key], live):
            severe.append(f"{watched.named(key) if key else standing.table}: {problem}")
    records = standing.rows + standing.open_rejects
    if standing.open_rejects > watched.reject_share * records:
        severe.append(
            f"{standing.open_rejects:,} of {records:,} records are rejected, more than {watched.reject_share:.0%}: see the table _rejects"
        )
    if vanished > max(FEW_ROWS, VANISH_SHARE * (standing.rows + vanished)):
        slight.append(f"{vanished:,} of {standing.rows + vanished:,} rows vanished in the latest run")
    expected = [one.expected for one in noted.values()]
    known = sum(number for number in expected if number is not None)
    numbers: dict[str, int | float | str] = {
        "stored": standing.rows,
        "partitions": standing.total,
        "complete_partitions": standing.complete,
        "open_rejects": standing.open_rejects,
        "vanished_in_latest_run": vanished,
    }
    if expected and None not in expected:
        numbers["expected"] = known
    if severe or slight:
        return Verdict(FAILED, "; ".join([*severe, *slight]), bool(severe), numbers)
    of = f" of {standing.total} partitions" if standing.total > 1 else ""
    return Verdict(PASSED, f"{standing.rows:,} rows{of}; {standing.open_rejects:,} rejected", numbers=numbers)


def _uncounted(noted: Noted, live: int) -> str:
    """Why a partition's rows do not fit what was counted; empty where they do."""
    stored = noted.stored or 0
    if live < stored:
        return f"the file holds {live:,} rows, and the ledger counted {stored:,}; something else has changed the file"
    # a row stands on while its record is rejected
    if live > stored + noted.rejected:
        return f"the file holds {live:,} rows, and the ledger counted {stored:,} and {noted.rejected:,} rejected"
    if noted.expected is not None and noted.expected > stored + noted.rejected:
        return f"the source counts {noted.expected:,} records, {stored:,} are stored and {noted.rejected:,} rejected"
    return ""


def held_rows(
    connection: sqlite3.Connection, table: Table, noted: Mapping[str, Noted], own: Collection[str] | None, run_id: str
) -> dict[str, int]:
    """How many rows the file holds of partitions that a run was the last to come to; of all where it is about none."""
    keys = [
        key for key, one in noted.items() if (key in own and one.run_id == run_id if own is not None else one.complete)
    ]
    found = {}
    for key in keys:
        where, values = table.where([key] if key else None)
        # two counts from indexes instead of one from the rows
        sql = f"SELECT count(*) FROM {quoted(table.stored)} WHERE {where}"  # noqa: S608
        (there,) = connection.execute(sql, values).fetchone()
        (gone,) = connection.execute(f"{sql} AND vanished_at IS NOT NULL", values).fetchone()
        found[key] = int(there) - int(gone)
    return found


def vanished_in(connection: sqlite3.Connection, table: Table, run_id: str) -> int:
    """How many rows of a table a run has marked as vanished."""
    sql = "SELECT vanished FROM _run_tables WHERE run_id = ? AND table_name = ?"
    found = connection.execute(sql, (run_id, table.name)).fetchone()
    return int(found[0]) if found and not table.transient else 0


# -- current ---------------------------------------------------------------------------------------------------


def current(standing: Standing, problems: Iterable[Problem] = ()) -> Verdict:
    """Whether no partition is stale. What is wrong with the setting of windows is told here too."""
    wrong = [problem.says for problem in problems if problem.is_of(standing.source)]
    stale = standing.those("stale")
    numbers: dict[str, int | float | str] = {
        "stale_partitions": len(stale),
        "partitions": standing.total,
        "window_hours": round(standing.window.fail.total_seconds() / 3600, 3),
    }
    oldest = [partition.age.total_seconds() for partition in standing.partitions if partition.age is not None]
    if oldest:
        numbers["oldest_hours"] = round(max(oldest) / 3600, 3)
    if stale or wrong:
        return Verdict(FAILED, "; ".join([*filter(None, (standing.stale,)), *wrong]), severe=False, numbers=numbers)
    return Verdict(PASSED, f"none of {standing.total} is stale" if standing.total > 1 else "not stale", numbers=numbers)


# -- sound -----------------------------------------------------------------------------------------------------


def _of(table: Table, partitions: Collection[str] | None) -> Where:
    keys = None if partitions is None or len(partitions) > MANY else sorted(key for key in partitions if key)
    return table.where(keys or None)


def sound(
    connection: sqlite3.Connection, watched: Watched, table: Table, partitions: Collection[str] | None = None
) -> Verdict:
    """Whether keys are unique, and what rows refer to is there."""
    problems, numbers, shown = list[str](), dict[str, int | float | str](), list[Mapping[str, Any]]()
    if (twice := _keys_twice(connection, table, partitions)) is not None:
        numbers["keys_twice"] = twice
        if twice:
            problems.append(f"{twice:,} keys occur more than once")
    for reference in (one for one in watched.references if one.table == table.name):
        referring, lost, first = _lost(connection, watched, reference, partitions)
        name = f"{reference.column}_without_{reference.to}"
        numbers[name] = lost
        if lost > reference.share * referring:
            problems.append(f"{lost:,} of {referring:,} rows name a {reference.column} that is none of {reference.to}")
            shown += first
    if problems:
        return Verdict(FAILED, "; ".join(problems), numbers=numbers, shown=shown)
    return Verdict(PASSED, "keys are unique, and what rows refer to is there", numbers=numbers)


def _keys_twice(connection: sqlite3.Connection, table: Table, partitions: Collection[str] | None) -> int | None:
    """How many keys occur more than once; None where they cannot, since they are the rows' numbers."""
    if table.has_integer_id:
        return None
    where, values = _of(table, partitions)
    keys = ", ".join(map(quoted, table.key))
    groups = f"SELECT 1 FROM {quoted(table.stored)} WHERE {where} GROUP BY {keys} HAVING count(*) > 1"  # noqa: S608
    return int(connection.execute(f"SELECT count(*) FROM ({groups})", values).fetchone()[0])  # noqa: S608


def _lost(
    connection: sqlite3.Connection, watched: Watched, reference: Reference, partitions: Collection[str] | None
) -> tuple[int, int, list[Mapping[str, Any]]]:
    """How many rows refer, how many of them to nothing that is there, and the first of these."""
    table, other = watched.schema.table(reference.table), watched.schema.table(reference.to)
    where, values = _of(table, partitions)
    column = quoted(reference.column)
    refers = f"FROM {quoted(table.stored)} AS t WHERE {where} AND t.vanished_at IS NULL AND t.{column} IS NOT NULL"
    refers += f" AND {reference.where}" if reference.where else ""
    lost = (
        f"{refers} AND NOT EXISTS (SELECT 1 FROM {quoted(other.stored)} AS o WHERE o.{quoted(reference.to_column)} = t.{column} "  # noqa: S608
        "AND o.vanished_at IS NULL)"
    )
    (number,) = connection.execute(f"SELECT count(*) {lost}", values).fetchone()
    if not number:
        return 0, 0, []
    (referring,) = connection.execute(f"SELECT count(*) {refers}", values).fetchone()
    names = list(dict.fromkeys((*table.key, reference.column)))
    selected = ", ".join(f"t.{quoted(name)}" for name in names)
    rows = connection.execute(f"SELECT {selected} {lost} LIMIT {FIRST}", values)
    return referring, number, [_shown(dict(zip(names, row, strict=True)), f"no such {reference.to}") for row in rows]


def _shown(row: Mapping[str, Any], problem: str) -> Mapping[str, Any]:
    return {"row": ", ".join(f"{name} {value}" for name, value in row.items()), "problem": problem}


# -- plausible -------------------------------------------------------------------------------------------------


def plausible(
    connection: sqlite3.Connection, watched: Watched, table: Table, partitions: Collection[str] | None = None
) -> Verdict:
    """Whether values lie where they can: the rules that the source has for the table, in one statement for all."""
    rules = [rule for rule in watched.rules if rule.table == table.name]
    where, values = _of(table, partitions)
    broken = ", ".join(f"coalesce(sum(NOT ({rule.sql})), 0)" for rule in rules)
    of = f"FROM {quoted(table.stored)} WHERE {where} AND vanished_at IS NULL"
    total, *counts = connection.execute(f"SELECT count(*), {broken} {of}", values).fetchone()
    found = [(rule, number) for rule, number in zip(rules, counts, strict=True) if number > rule.share * total]
    numbers: dict[str, int | float | str] = {"rows": total, "rules": len(rules), "implausible": sum(counts)}
    if not found:
        return Verdict(PASSED, f"{total:,} rows keep {len(rules)} rules", numbers=numbers)
    says = "; ".join(f"{number:,} of {total:,} rows break: {rule.says}" for rule, number in found)
    shown = [row for rule, _ in found for row in _breaking(connection, table, rule, of, values)]
    return Verdict(FAILED, says, severe=False, numbers=numbers, shown=shown[: 2 * FIRST])


def _breaking(
    connection: sqlite3.Connection, table: Table, rule: Rule, of: str, values: Sequence[Any]
) -> list[Mapping[str, Any]]:
    keys = ", ".join(map(quoted, table.key))
    rows = connection.execute(f"SELECT {keys} {of} AND NOT ({rule.sql}) LIMIT {FIRST}", values)
    return [_shown(dict(zip(table.key, row, strict=True)), f"breaks: {rule.says}") for row in rows]


# -- as quick as usual -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pace:
    """What a run did and how long it took."""

    run_id: str
    seconds: float
    requests: int
    records: int
    tables: frozenset[str] = frozenset()

    def is_like(self, other: Pace) -> bool:
        """Whether it did about the same: between half and twice as much."""
        pairs = ((self.requests, other.requests), (self.records, other.records))
        return self.tables == other.tables and all(a <= 2 * b and b <= 2 * a for a, b in pairs)


def usual_pace(runs: Sequence[Pace], slow_after: float | None = None, problems: Iterable[Problem] = ()) -> Verdict:
    """Whether the latest run took no longer than runs like it have.

    Args:
        runs: complete runs, the latest first.
        slow_after: seconds after which a run is slow whatever is usual.
        problems: what is wrong with the setting of those.
    """
    wrong = [problem.says for problem in problems]
    if not runs:
        return Verdict(not wrong, "; ".join(wrong) or "no run is complete yet", severe=False)
    latest = runs[0]
    alike = [run for run in runs[1:] if latest.is_like(run)][:HISTORY]
    numbers: dict[str, int | float | str] = {"seconds": round(latest.seconds, 3), "runs_like_it": len(alike)}
    if latest.seconds:
        numbers["records_per_second"] = round(latest.records / latest.seconds, 1)
    if slow_after is not None and latest.seconds > slow_after:
        wrong.append(f"the run took {latest.seconds:.1f} s, more than the {slow_after:g} s that are set")
    if len(alike) >= LEAST:
        usual = statistics.median(run.seconds for run in alike)
        rate = statistics.median(run.records / run.seconds for run in alike if run.seconds) if usual else 0.0
        numbers |= {"usual_seconds": round(usual, 3), "usual_records_per_second": round(rate, 1)}
        if latest.seconds > SLOWER * usual and latest.seconds > usual + AT_LEAST:
            wrong.append(
                f"the run took {latest.seconds:.1f} s ({latest.records / latest.seconds:,.0f} records/s), where {len(alike)} "
                f"like it took {usual:.1f} s ({rate:,.0f} records/s)"
            )
    if wrong:
        return Verdict(FAILED, "; ".join(wrong), severe=False, numbers=numbers)
    known = f"{len(alike)} like it" if len(alike) >= LEAST else "too few like it to say what is usual"
    return Verdict(PASSED, f"{latest.seconds:.1f} s; {known}", numbers=numbers)


def paces(connection: sqlite3.Connection, tables: Collection[str], run_id: str | None = None) -> list[Pace]:
    """The latest complete runs over these tables, and no others but along with them; the named one first."""
    sql = (
        "SELECT r.run_id, r.seconds, r.requests, sum(t.fetched), group_concat(t.table_name) FROM _runs r "
        "JOIN _run_tables t USING (run_id) WHERE r.run_id IN "
        "(SELECT run_id FROM _runs WHERE complete ORDER BY started_at DESC LIMIT 200) "
        "GROUP BY r.run_id ORDER BY r.run_id = ? DESC, r.started_at DESC"
    )
    found = [
        Pace(name, seconds, requests, records, frozenset(names.split(",")))
        for name, seconds, requests, records, names in connection.execute(sql, (run_id or "",))
    ]
    return [pace for pace in found if pace.tables >= set(tables)]
