"""The views of the copy of GitLab's CI: what a platform team asks first."""

from __future__ import annotations

from collections.abc import Mapping

from bdc_pipeline.warehouse.schema import View

PIPELINES_VIEW = """
    SELECT p.*, (
        SELECT b.pipeline_id FROM bridges b WHERE b.downstream_pipeline_id = p.id AND b.pipeline_id <> p.id
        ORDER BY b.id DESC LIMIT 1
    ) AS parent_id
    FROM _pipelines p
"""

# An outcome of each kind in every run is no sign: several cases have that name. Cases that were replaced do not count; those that went
# with their pipeline do. Child pipelines of different bridges, as a matrix of them has, run different things under the same names.
_FLAKY_TESTS = """
    WITH runs AS (
        SELECT c.project_id, c.pipeline_id, coalesce(c.suite_name, '') AS suite_name, coalesce(c.classname, '') AS classname,
            coalesce(c.name, '') AS name, 0 AS retried,
            sum(c.status = 'success') AS passed, sum(c.status IN ('failed', 'error')) AS failed
        FROM test_cases c
        JOIN _pipelines p ON p.id = c.pipeline_id
        WHERE c.vanished_at IS NULL OR c.vanished_at >= p.vanished_at
        GROUP BY c.pipeline_id, coalesce(c.suite_name, ''), coalesce(c.classname, ''), coalesce(c.name, '')
        HAVING passed + failed > 0
        UNION ALL
        SELECT project_id, pipeline_id, suite_name, classname, name, cases,
            iif(status = 'success', cases, 0), iif(status = 'success', 0, cases)
        FROM earlier_outcomes
    )
    SELECT o.project_id, r.path AS project, p.sha, p.bridge, o.suite_name, o.classname, o.name, sum(o.passed) AS passed,
        sum(o.failed) AS failed, sum(o.retried) AS retried, count(DISTINCT o.pipeline_id) AS pipelines,
        max(p.created_at) AS last_run_at
    FROM runs o
    JOIN (
        SELECT id, sha, created_at, iif(source = 'parent_pipeline', (
            SELECT b.name FROM bridges b WHERE b.downstream_pipeline_id = _pipelines.id ORDER BY b.id DESC LIMIT 1
        ), NULL) AS bridge
        FROM _pipelines
    ) p ON p.id = o.pipeline_id
    LEFT JOIN projects r ON r.id = o.project_id
    GROUP BY o.project_id, p.sha, p.bridge, o.suite_name, o.classname, o.name
    HAVING sum(o.passed) > 0 AND sum(o.failed) > 0 AND (min(o.passed) = 0 OR min(o.failed) = 0)
"""

# SQLite has no percentiles: the value at the place that is a share of all, counted from the shortest.
_SLOWEST_JOBS = """
    SELECT project_id, path AS project, name, count(*) AS runs,
        max(duration) FILTER (WHERE place <= (number + 1) / 2) AS p50_seconds,
        max(duration) FILTER (WHERE place <= (number * 95 + 99) / 100) AS p95_seconds,
        max(duration) AS longest_seconds, round(sum(duration) / 60, 1) AS minutes
    FROM (
        SELECT j.project_id, r.path, j.name, j.duration,
            row_number() OVER (PARTITION BY j.project_id, j.name ORDER BY j.duration) AS place,
            count(*) OVER (PARTITION BY j.project_id, j.name) AS number
        FROM jobs j
        LEFT JOIN projects r ON r.id = j.project_id
        WHERE j.duration IS NOT NULL AND j.status IN ('success', 'failed')
    )
    GROUP BY project_id, name
"""

# Of a job that no runner has taken, GitLab says for how long it has been waiting until the moment of asking.
_QUEUE_TIME = """
    SELECT tag, count(*) AS jobs,
        max(queued_duration) FILTER (WHERE place <= (number + 1) / 2) AS p50_seconds,
        max(queued_duration) FILTER (WHERE place <= (number * 95 + 99) / 100) AS p95_seconds,
        round(avg(queued_duration), 3) AS average_seconds
    FROM (
        SELECT t.value AS tag, j.queued_duration,
            row_number() OVER (PARTITION BY t.value ORDER BY j.queued_duration) AS place,
            count(*) OVER (PARTITION BY t.value) AS number
        FROM jobs j, json_each(CASE j.tags WHEN '[]' THEN '["(none)"]' ELSE j.tags END) t
        WHERE j.queued_duration IS NOT NULL AND j.started_at IS NOT NULL
    )
    GROUP BY tag
"""

# A week of ISO 8601 belongs to the year of its Thursday. SQLite knows `%G-W%V` from 3.46 on alone.
_FAILURES_BY_WEEK = """
    SELECT strftime('%Y', date(finished_at, '-3 days', 'weekday 4')) || printf(
            '-W%02d', (strftime('%j', date(finished_at, '-3 days', 'weekday 4')) + 6) / 7
        ) AS week, coalesce(failure_reason, '(not told)') AS failure_reason,
        count(*) AS jobs, count(DISTINCT project_id) AS projects
    FROM jobs
    WHERE status = 'failed' AND finished_at IS NOT NULL
    GROUP BY week, coalesce(failure_reason, '(not told)')
"""

_RETRIED = """
    SELECT f.project_id, r.path AS project, f.pipeline_id, f.name, f.id AS failed_job_id, s.id AS later_job_id,
        f.failure_reason, s.status AS later_status, f.duration AS wasted_seconds
    FROM jobs f
    JOIN jobs s ON s.pipeline_id = f.pipeline_id AND s.name = f.name AND s.stage IS f.stage AND s.id = (
        SELECT min(n.id) FROM jobs n
        WHERE n.pipeline_id = f.pipeline_id AND n.name = f.name AND n.stage IS f.stage AND n.id > f.id
    )
    LEFT JOIN projects r ON r.id = f.project_id
    WHERE f.retried AND f.status = 'failed'
"""

_BROKE = """
    SELECT project_id, project, pipeline_id, ref, sha, user_username, finished_at, web_url, (
        SELECT group_concat(name, ', ') FROM (
            SELECT pipeline_id, name, status, retried, allow_failure FROM jobs
            UNION ALL SELECT pipeline_id, name, status, retried, allow_failure FROM bridges
        ) j
        WHERE j.pipeline_id = o.pipeline_id AND j.status = 'failed' AND NOT coalesce(j.retried, 0)
            AND NOT coalesce(j.allow_failure, 0)
    ) AS failed_jobs
    FROM (
        SELECT p.project_id, r.path AS project, p.id AS pipeline_id, p.ref, p.sha, p.user_username, p.finished_at,
            p.web_url, p.status, lag(p.status) OVER (PARTITION BY p.project_id ORDER BY p.id) AS before
        FROM _pipelines p
        JOIN projects r ON r.id = p.project_id AND r.default_branch = p.ref
        WHERE p.status IN ('success', 'failed') AND NOT coalesce(p.tag, 0) AND coalesce(p.source, '') <> 'parent_pipeline'
    ) o
    WHERE status = 'failed' AND before = 'success'
"""

_COVERAGE = """
    SELECT project_id, project, ref, day, coverage,
        round(coverage - lag(coverage) OVER (PARTITION BY project_id, ref ORDER BY day), 2) AS change
    FROM (
        SELECT p.project_id, r.path AS project, p.ref, substr(p.created_at, 1, 10) AS day, round(avg(p.coverage), 2) AS coverage
        FROM _pipelines p
        LEFT JOIN projects r ON r.id = p.project_id
        WHERE p.coverage IS NOT NULL AND NOT coalesce(p.tag, 0)
        GROUP BY p.project_id, p.ref, substr(p.created_at, 1, 10)
    )
"""

_MINUTES = """
    SELECT j.project_id, r.path AS project, substr(j.finished_at, 1, 7) AS month, count(*) AS jobs,
        round(sum(j.duration) / 60, 1) AS minutes,
        round(coalesce(sum(j.duration) FILTER (WHERE j.retried), 0) / 60, 1) AS retried_minutes,
        round(coalesce(sum(j.duration) FILTER (WHERE j.status = 'failed'), 0) / 60, 1) AS failed_minutes
    FROM jobs j
    LEFT JOIN projects r ON r.id = j.project_id
    WHERE j.duration IS NOT NULL AND j.finished_at IS NOT NULL
    GROUP BY j.project_id, substr(j.finished_at, 1, 7)
"""

_SECTIONS = """
    SELECT l.project_id, r.path AS project, j.name AS job_name, json_extract(s.value, '$.name') AS section, count(*) AS runs,
        round(avg(json_extract(s.value, '$.seconds')), 1) AS average_seconds,
        max(json_extract(s.value, '$.seconds')) AS longest_seconds
    FROM job_logs l
    JOIN jobs j ON j.id = l.id
    JOIN json_each(l.sections) s
    LEFT JOIN projects r ON r.id = l.project_id
    WHERE json_extract(s.value, '$.seconds') IS NOT NULL
    GROUP BY l.project_id, j.name, json_extract(s.value, '$.name')
"""

VIEWS = (
    View(
        "flaky_tests",
        _FLAKY_TESTS,
        "Test cases that passed and failed for the same commit: in different pipelines, or before and after a retry in one.",
    ),
    View("slowest_jobs", _SLOWEST_JOBS, "How long jobs take, by project and name: sort by p95_seconds."),
    View("queue_time_by_tag", _QUEUE_TIME, "How long jobs wait for a runner, by the tags that they ask for."),
    View("failure_reasons_by_week", _FAILURES_BY_WEEK, "Why jobs failed, week by week."),
    View("retried_jobs", _RETRIED, "Jobs that failed and were run again, with what came of the next run."),
    View(
        "broken_default_branch", _BROKE, "Pipelines that turned the default branch from success to failure, and whose."
    ),
    View("coverage_trend", _COVERAGE, "Test coverage by branch and day."),
    View("compute_minutes", _MINUTES, "Minutes that jobs ran, by project and month."),
    View("section_seconds", _SECTIONS, "How long the sections of logs take, by job and section."),
)

_PROJECT = "Path of the project with its namespace"
_P50, _P95 = "Seconds: half take no longer", "Seconds: 95 % take no longer"

NOTES: Mapping[str, Mapping[str, str]] = {
    "pipelines": {"parent_id": "The pipeline whose bridge started it: its parent, or one of another project"},
    "flaky_tests": {
        "project": _PROJECT,
        "bridge": "The bridge that starts the pipeline, for child pipelines",
        "name": "Name of the case",
        "passed": "Times that it passed",
        "failed": "Times that it failed or ended in an error",
        "retried": "How many of these were in runs that a retry has replaced in the pipeline's report",
        "pipelines": "Pipelines of the commit that ran it",
        "last_run_at": "When the latest of them was made (UTC)",
    },
    "slowest_jobs": {
        "project": _PROJECT,
        "name": "Name of the job",
        "runs": "Runs that succeeded or failed",
        "p50_seconds": _P50,
        "p95_seconds": _P95,
        "longest_seconds": "Seconds of the longest",
        "minutes": "Minutes of all",
    },
    "queue_time_by_tag": {
        "tag": "A tag that jobs ask for; `(none)` for those that ask for none. A job with two tags counts with both",
        "jobs": "Jobs that were taken by a runner",
        "p50_seconds": _P50,
        "p95_seconds": _P95,
        "average_seconds": "Seconds on average",
    },
    "failure_reasons_by_week": {
        "week": "Week by ISO 8601, which begins on Monday: `2026-W21`",
        "failure_reason": "GitLab's reason; `(not told)` where it gave none",
        "jobs": "Jobs that failed so, retried ones too",
        "projects": "Projects that they belong to",
    },
    "retried_jobs": {
        "project": _PROJECT,
        "name": "Name of the job",
        "failed_job_id": "The run that failed",
        "later_job_id": "The run that came next",
        "later_status": "What came of that one",
        "wasted_seconds": "Seconds that the failed one ran",
    },
    "broken_default_branch": {
        "project": _PROJECT,
        "pipeline_id": "The pipeline that failed, the one before having succeeded",
        "failed_jobs": "Names of the jobs and bridges that made it fail",
    },
    "coverage_trend": {
        "project": _PROJECT,
        "day": "Day on which the pipelines were made (UTC)",
        "coverage": "Percent, on average over the day's pipelines",
        "change": "Percentage points since the day before that has any",
    },
    "compute_minutes": {
        "project": _PROJECT,
        "month": "Month in which the jobs ended: `2026-05`",
        "jobs": "Runs of jobs",
        "minutes": "Minutes that they ran",
        "retried_minutes": "Minutes of runs that were retried later",
        "failed_minutes": "Minutes of runs that failed",
    },
    "section_seconds": {
        "project": _PROJECT,
        "job_name": "Name of the job",
        "section": "Name of the section, such as get_sources or step_script",
        "runs": "Logs that have it with an end",
        "average_seconds": "Seconds on average",
        "longest_seconds": "Seconds of the longest",
    },
}
