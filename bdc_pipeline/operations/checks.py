"""Asset checks of every table: made here for all sources alike, from the ledger and the file.

One op checks all tables that one fetch fills, so that a run has one step more and not sixty. A check that blocks keeps what
is downstream from being made of what is wrong; it blocks only where there is something downstream, and only for what the run
itself has brought: an old partition that is incomplete stops nobody from fetching today's.
"""

import datetime as dt
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import dagster as dg

from bdc_pipeline.operations import verdicts, windows
from bdc_pipeline.operations.facts import Watched
from bdc_pipeline.operations.standing import Noted, Standing, opened, read_ledger, standings
from bdc_pipeline.operations.verdicts import Verdict
from bdc_pipeline.operations.windows import Problem, Windows
from bdc_pipeline.running import RANGE_END, RANGE_START
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager, asset_key
from bdc_pipeline.warehouse.store import StoreError, explained
from bdc_pipeline.warehouse.table import Table

COMPLETE, CURRENT, SOUND, PLAUSIBLE, USUAL_PACE = "complete", "current", "sound", "plausible", "usual_pace"

DESCRIPTIONS: Mapping[str, str] = {
    COMPLETE: "What the source counts is stored or accounted for, partition by partition; few records are rejected.",
    CURRENT: "No partition is stale; those that are, are named.",
    SOUND: "Keys are unique, and what rows refer to is there.",
    PLAUSIBLE: "Values lie where they can: coordinates, speeds, dates, codes.",
    USUAL_PACE: "The latest run took no longer than runs like it have, or than BDC_SLOW allows.",
}

BLOCKING = frozenset({COMPLETE, SOUND})

PARTITION = "dagster/partition"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings say: windows, and after how many seconds a run is slow."""

    windows: Windows
    slow_after: Mapping[str, float]
    slow_problems: Sequence[Problem] = ()

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with them."""
        return [*self.windows.problems, *self.slow_problems]


def current_limits(watched: Sequence[Watched]) -> Limits:
    """The limits as the environment has them."""
    slow_after, problems = windows.slow_after(watched)
    return Limits(windows.current(watched), slow_after, problems)


def feeding(definitions: Iterable[dg.AssetsDefinition]) -> set[dg.AssetKey]:
    """The assets from which others are made."""
    return {
        dep for definition in definitions for key, deps in definition.asset_deps.items() for dep in deps if dep != key
    }


def checks_of(
    watched: Watched, definitions: Iterable[dg.AssetsDefinition], limits: Limits
) -> list[dg.AssetChecksDefinition]:
    """The checks of a source's tables: one op for each of its assets definitions that fills some."""
    definitions = list(definitions)
    needed = feeding(definitions)
    by_key = {asset_key(table, watched.schema): table for table in watched.schema.tables}
    found = []
    for definition in definitions:
        filled = set(definition.keys)
        if tables := [table for key, table in by_key.items() if key in filled]:
            found.append(_check_of(watched, definition, tables, needed, limits))
    return found


def _specs(watched: Watched, tables: Sequence[Table], needed: Collection[dg.AssetKey]) -> list[dg.AssetCheckSpec]:
    ruled = {rule.table for rule in watched.rules}
    found = []
    for place, table in enumerate(tables):
        key = asset_key(table, watched.schema)
        names = [COMPLETE, CURRENT, SOUND, *((PLAUSIBLE,) * (table.name in ruled)), *((USUAL_PACE,) * (place == 0))]
        found += [
            dg.AssetCheckSpec(
                name, asset=key, description=DESCRIPTIONS[name], blocking=name in BLOCKING and key in needed
            )
            for name in names
        ]
    return found


def _check_of(
    watched: Watched,
    definition: dg.AssetsDefinition,
    tables: Sequence[Table],
    needed: Collection[dg.AssetKey],
    limits: Limits,
) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"check_{definition.node_def.name}",
        specs=_specs(watched, tables, needed),
        can_subset=True,
        description="Looks at the ledger and the file; asks no service.",
    )
    def check(
        context: dg.AssetCheckExecutionContext, sqlite_io_manager: dg.ResourceParam[SQLiteIOManager]
    ) -> Iterator[dg.AssetCheckResult]:
        run = _Run(context.run.run_id, _partitions_of_run(context, definition))
        wanted = context.selected_asset_check_keys
        path = sqlite_io_manager.path(watched.source)
        try:
            with closing(opened(path)) as connection:
                looked = _Looked(connection, watched, tables, limits, run)
                for table in tables:
                    key = asset_key(table, watched.schema)
                    for name, verdict in looked.verdicts(table, {one.name for one in wanted if one.asset_key == key}):
                        yield _result(key, name, verdict)
        except sqlite3.Error as error:
            raise dg.Failure(str(explained(error, path)), allow_retries=False) from error
        except StoreError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    return check


@dataclass(frozen=True, slots=True)
class _Run:
    """The run that a check is part of; `partitions` is None where it is about no particular ones."""

    run_id: str
    partitions: Sequence[str] | None


def _partitions_of_run(context: dg.AssetCheckExecutionContext, definition: dg.AssetsDefinition) -> Sequence[str] | None:
    tags, partitions = context.run.tags, definition.partitions_def
    if partitions is None:
        return None
    if PARTITION in tags:
        return [tags[PARTITION]]
    if RANGE_START in tags:
        keys = partitions.get_partition_keys(dynamic_partitions_store=context.op_execution_context.instance)
        return keys[keys.index(tags[RANGE_START]) : keys.index(tags[RANGE_END]) + 1]
    return None


class _Looked:
    """What a check of some tables has read, and its verdicts."""

    def __init__(
        self, connection: sqlite3.Connection, watched: Watched, tables: Sequence[Table], limits: Limits, run: _Run
    ) -> None:
        self._connection, self._watched, self._tables, self._limits, self._run = (
            connection,
            watched,
            tables,
            limits,
            run,
        )
        now = dt.datetime.now(dt.UTC)
        found = standings(connection, watched, limits.windows, now, tables)
        self._standings = {standing.table: standing for standing in found}
        self._ledger = read_ledger(connection)

    def verdicts(self, table: Table, wanted: Collection[str]) -> Iterator[tuple[str, Verdict]]:
        """Those that are wanted of a table."""
        connection, watched = self._connection, self._watched
        own = self._run.partitions if table.partitioning else None
        standing = self._standings[table.name]
        if COMPLETE in wanted:
            yield COMPLETE, self._complete(table, standing, own)
        if CURRENT in wanted:
            yield CURRENT, verdicts.current(standing, self._limits.windows.problems)
        if SOUND in wanted:
            yield SOUND, verdicts.sound(connection, watched, table, own)
        if PLAUSIBLE in wanted:
            yield PLAUSIBLE, verdicts.plausible(connection, watched, table, own)
        if USUAL_PACE in wanted:
            found = verdicts.paces(connection, {one.name for one in self._tables}, self._run.run_id)
            slow_after = self._limits.slow_after.get(watched.source)
            wrong = [problem for problem in self._limits.slow_problems if problem.is_of(watched.source)]
            yield USUAL_PACE, verdicts.usual_pace(found, slow_after, wrong)

    def _complete(self, table: Table, standing: Standing, own: Sequence[str] | None) -> Verdict:
        noted: Mapping[str, Noted] = self._ledger.noted.get(table.name, {})
        # where rows move on, what was counted of a partition holds in the run that counted it alone
        counted = own if own is not None or not self._watched.moving else ()
        held = verdicts.held_rows(self._connection, table, noted, counted, self._run.run_id)
        vanished = verdicts.vanished_in(self._connection, table, standing.last_run.run_id) if standing.last_run else 0
        return verdicts.complete(self._watched, standing, noted, own=own, held=held, vanished=vanished)


def severity_of(verdict: Verdict) -> dg.AssetCheckSeverity:
    """What concerns the run itself, or everything, is an error; the rest a warning."""
    return dg.AssetCheckSeverity.ERROR if verdict.severe else dg.AssetCheckSeverity.WARN


def metadata_of(verdict: Verdict) -> dict[str, Any]:
    """What the UI shows of a verdict."""
    rows = [dg.TableRecord(dict(row)) for row in verdict.shown]
    return {**verdict.numbers, **({"first_rows": dg.MetadataValue.table(rows)} if rows else {})}


def _result(key: dg.AssetKey, name: str, verdict: Verdict) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=key,
        check_name=name,
        severity=severity_of(verdict),
        description=verdict.says,
        metadata=metadata_of(verdict),
    )
