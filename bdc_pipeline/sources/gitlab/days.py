"""Which days a sync without a range has: from the first that is not all there, up to today.

A day is there when each stage has it, of every project. What was interrupted, refused or left out of one stage, and a project that
joined later, open it again.
"""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.plan import chosen_projects, days_reached
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline.warehouse.table import Table

FIRST_DAYS = 30
"""Days that a first sync goes back where no range is given."""

STAGES = (t.OF_PIPELINES, t.OF_JOBS, t.OF_TESTS, t.OF_LOGS, t.OF_ARCHIVES)
"""The tables of each stage."""


@dataclass(frozen=True, slots=True)
class Covered:
    """What a file has of which days.

    Args:
        pipelines: the ledger's days of pipelines.
        others: those of the other tables of the stages that are asked for.
        short: days that a project's last listing does not reach the end of, or on which it was never listed.
    """

    pipelines: Mapping[str, PartitionState] = field(default_factory=dict)
    others: Sequence[Mapping[str, PartitionState]] = ()
    short: frozenset[str] = frozenset()


def covered(
    connection: sqlite3.Connection, wanted: Sequence[str], tables: Iterable[Table] = sum(STAGES, ())
) -> Covered:
    """Reads what a file has: of the projects that are named, or of all, and in the tables that are asked for."""
    projects, _ = chosen_projects(connection, wanted)
    states = {day: state for day, state in ledger.partition_states(connection, t.PIPELINES).items() if day}
    reached = days_reached(connection, projects)
    return Covered(
        states,
        # what is gathered along has no days of its own
        [
            ledger.partition_states(connection, table)
            for table in tables
            if table not in (t.PIPELINES, t.PROJECTS, t.PROJECT_DAYS)
        ],
        frozenset(day for day in states if reached.get(day, 0) < len(projects)),
    )


def first_open(file: Covered, today: dt.date) -> dt.date:
    """The first day that a sync without a range begins with.

    The day of the last listing is open until it is listed after its end; an earlier one that is incomplete, or that another table has
    not got, is tried again, and one that lies between others and was never asked for is asked for.
    """
    if not file.pipelines:
        return today - dt.timedelta(days=FIRST_DAYS - 1)
    opened = {day for day, state in file.pipelines.items() if not state.complete} | file.short
    for states in file.others:
        opened |= {day for day in file.pipelines if day not in states or not states[day].complete}
    first, latest = min(file.pipelines), max(file.pipelines)
    missing = (str(one) for one in _days_from(dt.date.fromisoformat(first)) if str(one) not in file.pipelines)
    return min(dt.date.fromisoformat(min([*opened, latest, next(missing)])), today)


def _days_from(day: dt.date) -> Iterator[dt.date]:
    return (day + dt.timedelta(days=number) for number in itertools.count())
