"""Which days a sync without a range has: from the first that is not all there, up to today.

A day is there when each stage has it, of every project. What was interrupted, refused or left out of one stage, and a project that
joined later, open it again.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.plan import chosen_projects
from bdc_pipeline.sources.gitlab.windows import SETTLING, end_of, text_of
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.ledger import PartitionState
from bdc_pipeline.warehouse.table import Table

FIRST_DAYS = 30
"""Days that a first sync goes back where no range is given."""

LATER = (t.JOBS, t.TEST_REPORTS, t.JOB_LOGS, t.ARCHIVES)
"""The first table of each stage behind that of the pipelines."""


@dataclass(frozen=True, slots=True)
class Covered:
    """What a file has of which days.

    Args:
        pipelines: the ledger's days of pipelines.
        later: those of the stages behind that are asked for.
        unlisted: the first day of the file on which one of the projects was never listed; None where there is none.
    """

    pipelines: Mapping[str, PartitionState] = field(default_factory=dict)
    later: Sequence[Mapping[str, PartitionState]] = ()
    unlisted: str | None = None


def covered(connection: sqlite3.Connection, wanted: Sequence[str], later: Iterable[Table] = LATER) -> Covered:
    """Reads what a file has: of the projects that are named, or of all, and of the stages that are asked for."""
    projects, _ = chosen_projects(connection, wanted)
    found = connection.execute(_UNLISTED, (msgspec.json.encode(list(projects)).decode(), len(projects))).fetchone()
    states = ledger.partition_states(connection, t.PIPELINES)
    return Covered(states, [ledger.partition_states(connection, table) for table in later], found and found[0])


_UNLISTED = (
    "SELECT s.partition FROM _partitions s WHERE s.table_name = 'pipelines' AND (SELECT count(*) FROM project_days d "
    "WHERE d.day = s.partition AND d.project_id IN (SELECT value FROM json_each(?))) < ? ORDER BY s.partition LIMIT 1"
)


def first_open(file: Covered, today: dt.date) -> dt.date:
    """The first day that a sync without a range begins with.

    The day of the last listing is open until it is listed after its end; an earlier one that is incomplete, or that a later stage has
    not got, is tried again.
    """
    if not file.pipelines:
        return today - dt.timedelta(days=FIRST_DAYS - 1)
    opened = {day for day, state in file.pipelines.items() if not _is_closed(day, state)}
    for states in file.later:
        opened |= {day for day in file.pipelines if day not in states or not states[day].complete}
    if file.unlisted is not None:
        opened.add(file.unlisted)
    return min(dt.date.fromisoformat(min([*opened, max(file.pipelines)])), today)


def _is_closed(day: str, state: PartitionState) -> bool:
    """Whether a day was listed so long after its end that the logs of its last jobs were whole."""
    return state.complete and (state.verified_at or "") >= text_of(end_of(day) + SETTLING)
