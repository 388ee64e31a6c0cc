"""How fresh the copy of GitLab's CI is to be, and what its rows are to be like.

Partitions are days of the pipelines' last change. A day that is over brings nothing new: what changes then moves to the day on
which it does. So a day that was fetched after its end stays fresh, and its rows may become fewer.
"""

from __future__ import annotations

import datetime as dt

from bdc_pipeline.operations.facts import Reference, Rule, Watched, Window, between, dated
from bdc_pipeline.sources.gitlab.tables import PIPELINES, PROJECT_DAYS, PROJECTS, SCHEMA

WINDOW = Window(dt.timedelta(hours=1))

OF_PIPELINES = tuple(table for table in SCHEMA.tables if table not in (PROJECTS, PROJECT_DAYS, PIPELINES))

# A pipeline may be deleted between the list that names it and the lists of what is in it
_FEW = 0.01

REFERENCES = (
    Reference("project_days", "project_id", "projects", share=_FEW),
    Reference("pipelines", "project_id", "projects", share=_FEW),
    *(Reference(table.name, "pipeline_id", "pipelines", share=_FEW) for table in OF_PIPELINES),
    Reference("artifacts", "job_id", "jobs", share=_FEW),
    Reference("job_logs", "id", "jobs", share=_FEW),
    Reference("archives", "id", "jobs", share=_FEW),
    Reference("artifact_files", "job_id", "archives", share=_FEW),
)

RULES = (
    *(
        Rule(table.name, "day is a day", "day GLOB '20[0-9][0-9]-[01][0-9]-[0-3][0-9]'")
        for table in (PROJECT_DAYS, PIPELINES)
    ),
    between("pipelines", "coverage", 0, 100, "percent"),
    between("pipelines", "duration", 0, 10_000_000, "s"),
    dated("pipelines", "created_at"),
    dated("pipelines", "updated_at"),
    between("jobs", "coverage", 0, 100, "percent"),
    between("jobs", "duration", 0, 10_000_000, "s"),
    between("jobs", "queued_duration", 0, 10_000_000, "s"),
    Rule("jobs", "finished_at not before started_at", "finished_at >= started_at"),
    between("artifacts", "size", 0, 10**15, "bytes"),
    between("job_logs", "size", 0, 10**12, "bytes"),
    Rule(
        "test_reports",
        "total_count is what the kinds of cases add up to",
        "total_count = success_count + failed_count + skipped_count + error_count",
    ),
    between("test_cases", "execution_time", 0, 10_000_000, "s"),
    between("artifact_files", "crc32", 0, 2**32 - 1),
)


def _end_of(day: str) -> dt.datetime:
    return dt.datetime.combine(dt.date.fromisoformat(day), dt.time(), dt.UTC) + dt.timedelta(days=1)


WATCHED = Watched(
    schema=SCHEMA,
    window=lambda: WINDOW,
    owner="team:platform",
    settles=_end_of,
    moving=True,
    references=REFERENCES,
    rules=RULES,
)
