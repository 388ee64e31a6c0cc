"""The tables of the copy of GitLab's CI: keys, partitions, indexes, and what follows a pipeline of itself."""

from __future__ import annotations

import msgspec

from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab.views import NOTES, PIPELINES_VIEW, VIEWS
from bdc_pipeline.warehouse.partitioning import ByValue
from bdc_pipeline.warehouse.schema import Schema
from bdc_pipeline.warehouse.table import Table
from bdc_pipeline.warehouse.triggers import Trigger

_BY_DAY = ByValue("day")

PROJECTS = Table(r.Project, "projects", indexes=(("path",),))
PROJECT_DAYS = Table(
    r.ProjectDay,
    "project_days",
    key=("project_id", "day"),
    partitioning=_BY_DAY,
    indexes=(("day", "project_id", "listed_at"),),
)
PIPELINES = Table(
    r.Pipeline,
    "pipelines",
    partitioning=_BY_DAY,
    indexes=(("day",), ("project_id", "day"), ("status",), ("sha",)),
    stored_as="_pipelines",
    view=PIPELINES_VIEW,
)


def _child(
    row: type[msgspec.Struct],
    name: str,
    *key: str,
    parent: str | None = None,
    indexes: tuple[tuple[str, ...], ...] = (),
    full_text: tuple[str, ...] = (),
    transient: bool = False,
) -> Table:
    """A table of what belongs to pipelines; `transient`: of a report that is replaced as a whole, however much shorter it is."""
    by_pipeline = () if key[0] == "pipeline_id" else (("pipeline_id",),)
    return Table(
        row,
        name,
        key=key,
        partitioning=_BY_DAY,
        indexes=(("day",), *by_pipeline, *indexes),
        parent=parent,
        full_text=full_text,
        transient=transient,
    )


BRIDGES = _child(r.Bridge, "bridges", "id", indexes=(("downstream_pipeline_id",),))
JOBS = _child(r.Job, "jobs", "id", indexes=(("name",), ("project_id", "status")))
PIPELINE_JOBS = _child(r.PipelineJobs, "pipeline_jobs", "pipeline_id")
ARTIFACTS = _child(r.Artifact, "artifacts", "job_id", "file_type", "filename")
JOB_LOGS = _child(r.JobLog, "job_logs", "id", full_text=("text",))
TEST_REPORTS = _child(r.TestReport, "test_reports", "pipeline_id")
TEST_SUITES = _child(r.TestSuite, "test_suites", "pipeline_id", "position", parent="pipeline_id", transient=True)
TEST_CASES = _child(
    r.TestCase,
    "test_cases",
    "pipeline_id",
    "suite",
    "position",
    parent="pipeline_id",
    indexes=(("project_id", "name"),),
    transient=True,
)
EARLIER_OUTCOMES = _child(
    r.EarlierOutcome, "earlier_outcomes", "pipeline_id", "suite_name", "classname", "name", "status"
)
ARCHIVES = _child(r.Archive, "archives", "id")
ARTIFACT_FILES = _child(
    r.ArtifactFile, "artifact_files", "job_id", "position", parent="job_id", indexes=(("path",),), transient=True
)

OF_PIPELINES = (PIPELINES, BRIDGES, PROJECT_DAYS)
OF_JOBS = (JOBS, ARTIFACTS, PIPELINE_JOBS)
OF_LOGS = (JOB_LOGS,)
OF_TESTS = (TEST_REPORTS, TEST_SUITES, TEST_CASES, EARLIER_OUTCOMES)
OF_ARCHIVES = (ARCHIVES, ARTIFACT_FILES)
TABLES = (PROJECTS, *OF_PIPELINES, *OF_JOBS, *OF_LOGS, *OF_TESTS, *OF_ARCHIVES)

_FOLLOWING = tuple(table for table in TABLES if table not in (PROJECTS, PROJECT_DAYS, PIPELINES))


def _followed(column: str, when: str, of_child: str) -> Trigger:
    """What belongs to a pipeline follows a change of it; one that has other values of its own stays."""
    updates = " ".join(
        f"UPDATE {table.stored} SET {column} = NEW.{column}{', last_updated = NEW.last_updated' if column == 'day' else ''} "  # noqa: S608
        f"WHERE pipeline_id = NEW.id AND {of_child};"
        for table in _FOLLOWING
    )
    name = f"_pipelines_{column}"
    return Trigger(
        name, f"CREATE TRIGGER {name} AFTER UPDATE OF {column} ON _pipelines WHEN {when} BEGIN {updates} END"
    )


# a server whose list leaves out bridges that were run again says so of none of them
_RETRIED_BRIDGES = Trigger(
    "_bridges_retried",
    "CREATE TRIGGER _bridges_retried AFTER INSERT ON bridges BEGIN "
    "UPDATE bridges SET retried = 1, last_updated = NEW.last_updated WHERE pipeline_id = NEW.pipeline_id AND id < NEW.id "
    "AND name IS NEW.name AND stage IS NEW.stage AND retried IS NOT 1; END",
)

_TRIGGERS = (
    _RETRIED_BRIDGES,
    # fetched once, logs and tests are not asked for again when their pipeline moves to another day
    _followed("day", "OLD.day IS NOT NEW.day", "day IS NOT NEW.day"),
    _followed("vanished_at", "OLD.vanished_at IS NOT NEW.vanished_at", "vanished_at IS OLD.vanished_at"),
)

SCHEMA = Schema("gitlab", TABLES, VIEWS, NOTES, _TRIGGERS)
