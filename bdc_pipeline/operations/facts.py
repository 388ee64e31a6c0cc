"""What a source tells the operations about itself: how fresh its copy is to be, and what a sound row is like.

Declared in each source's `checks.py`. Imports neither Dagster nor a source.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bdc_pipeline.warehouse.columns import TableError
from bdc_pipeline.warehouse.schema import Schema

SHORTEST = dt.timedelta(seconds=60)
"""Dagster knows no shorter window."""


@dataclass(frozen=True, slots=True)
class Window:
    """How old a copy may be: stale after `fail`, and a warning from `warn` on.

    Raises:
        ValueError: shorter than a minute, or the warning comes after the end.
    """

    fail: dt.timedelta
    warn: dt.timedelta | None = None

    def __post_init__(self) -> None:
        if min(self.fail, self.warn or self.fail) < SHORTEST:
            raise ValueError("a window lasts 60 seconds at least")
        if self.warn is not None and self.warn >= self.fail:
            raise ValueError("the warning comes before the end of the window")


@dataclass(frozen=True, slots=True)
class Reference:
    """That a column's values are keys of another table; NULL refers to nothing.

    Args:
        table: the referring table's public name.
        column: of it.
        to: the other table's public name.
        to_column: of it.
        where: a condition, in SQL on the referring table as `t`, for rows that do refer there.
        share: of the referring rows, how many may miss theirs, from 0 to 1: a source may show a row and hide its parent.
    """

    table: str
    column: str
    to: str
    to_column: str = "id"
    where: str = ""
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for each row of a table.

    Args:
        table: its public name.
        says: the rule in words: `latitude from -90 to 90`.
        sql: the condition, in SQL on the stored table; a row for which it is unknown (NULL) fulfils it.
        share: of the rows, how many may break it, from 0 to 1: where the source is known to have such.
    """

    table: str
    says: str
    sql: str
    share: float = 0.0


def between(table: str, column: str, low: float, high: float, unit: str = "", share: float = 0.0) -> Rule:
    """The rule that a column's values lie between two, both included."""
    says = f"{column} from {low:,} to {high:,}{unit and f' {unit}'}"
    return Rule(table, says, f"{column} BETWEEN {low!r} AND {high!r}", share)


def one_of(table: str, column: str, *values: str) -> Rule:
    """The rule that a column holds one of some texts."""
    texts = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return Rule(table, f"{column} is one of {', '.join(values)}", f"{column} IN ({texts})")


def dated(table: str, column: str) -> Rule:
    """The rule that a column holds dates, or moments, that there are."""
    return Rule(table, f"{column} is a date", f"{column} IS NULL OR julianday({column}) IS NOT NULL")


@dataclass(frozen=True, slots=True)
class Stage:
    """Tables that one fetch fills, from what the stage before has stored.

    Args:
        tables: their public names; what is missing is noted of the first.
        after: the first table of the stage before, whose partitions these follow; empty for a first stage.
    """

    tables: tuple[str, ...]
    after: str = ""


STAGES: Mapping[str, tuple[Stage, ...]] = {
    "gitlab": (
        Stage(("pipelines", "bridges", "project_days")),
        Stage(("jobs", "artifacts", "pipeline_jobs"), after="pipelines"),
        Stage(("job_logs",), after="jobs"),
        Stage(("test_reports", "test_suites", "test_cases", "earlier_outcomes"), after="jobs"),
        Stage(("archives", "artifact_files"), after="jobs"),
    )
}
"""The partitioned stages of sources that have several. The assets have the same dependencies, but only Dagster can read them."""

Ages = Callable[[dt.datetime], Mapping[str, dt.timedelta]]


@dataclass(frozen=True, eq=False)
class Watched:
    """A source, as it is watched.

    Args:
        schema: what its file holds.
        window: how old its tables may be, where no setting says otherwise.
        owner: whose they are where no setting says otherwise, as Dagster names owners: `team:NAME` or a mail address.
        others: its assets that are no tables: downloads, views.
        partitions: those that are known beforehand; others are those of the ledger.
        named: a partition as people know it: `0147 Frederiksberg` for 0147.
        settles: when a partition of the past stops to change at the source: the last moment at which it did; None where
            partitions never do. One that was complete after it does not become stale.
        ages: how old what the source has told is, by partition, where that may be older than its loading.
        moving: rows move from one partition to another, so that an older partition's counts are those of its day.
        references, rules: what sound rows are like.
        reject_share: more than this share of rejected records is too much, whatever a run was allowed.
    """

    schema: Schema
    window: Callable[[], Window]
    owner: str
    others: tuple[str, ...] = ()
    partitions: Sequence[str] = ()
    named: Callable[[str], str] = str
    settles: Callable[[str], dt.datetime] | None = None
    ages: Ages | None = None
    moving: bool = False
    references: tuple[Reference, ...] = ()
    rules: tuple[Rule, ...] = ()
    reject_share: float = 0.01

    def __post_init__(self) -> None:
        for reference in self.references:
            self._known(reference.table, reference.column)
            self._known(reference.to, reference.to_column)
        for rule in self.rules:
            self._known(rule.table)

    def _known(self, table: str, column: str = "") -> None:
        try:
            declared = self.schema.table(table)
            if column:
                declared.column(column)
        except KeyError as error:
            raise TableError(f"{self.source}'s checks name {table} {column}: {error}") from None

    @property
    def source(self) -> str:
        """Its name."""
        return self.schema.source

    def stage_of(self, table: str) -> Stage | None:
        """The stage that fills a table, in a source whose stages follow each other."""
        return next((stage for stage in STAGES.get(self.source, ()) if table in stage.tables), None)

    @property
    def assets(self) -> tuple[str, ...]:
        """The names of all its assets."""
        return (*(table.name for table in self.schema.tables), *self.others)
