"""The rows of the copy of GitLab's CI.

Columns are chosen one by one: `runners_token`, mail addresses, addresses of runners and variables are never stored. Every row of a
pipeline carries the pipeline's day, which is the partition. Times are texts in UTC with milliseconds, durations are seconds, sizes
are bytes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Day = Annotated[
    str, Meta(description="Day of the pipeline's `updated_at` (UTC), `2026-05-31`: the partition. It moves on with it")
]
ProjectId = Annotated[int, Meta(description="`projects.id`")]
PipelineId = Annotated[int, Meta(description="`pipelines.id`")]
JobId = Annotated[int, Meta(description="`jobs.id`")]
Status = Annotated[
    str | None, Meta(description="success, failed, canceled and skipped are final; any other text is kept as it is")
]
Created = Annotated[str | None, Meta(description="When it was made (UTC)")]
Started = Annotated[str | None, Meta(description="When it started (UTC); NULL where it never did")]
Finished = Annotated[str | None, Meta(description="When it ended (UTC)")]
Ref = Annotated[str | None, Meta(description="Branch, tag or merge request reference")]
Stage = Annotated[str | None, Meta(description="Its stage")]
WebUrl = Annotated[str | None, Meta(description="Its page")]
Username = Annotated[str | None, Meta(description="Whose pipeline it is: the user's name on the instance")]
FailureReason = Annotated[
    str | None, Meta(description="script_failure, runner_system_failure, ...: an open set; NULL unless it failed")
]
Queued = Annotated[float | None, Meta(description="Seconds that it waited for a runner")]
Seconds = Annotated[float | None, Meta(description="Seconds that it ran")]
AllowFailure = Annotated[bool | None, Meta(description="Whether the pipeline may succeed without it")]
Total = Annotated[int | None, Meta(description="Test cases")]
Success = Annotated[int | None, Meta(description="Cases that succeeded")]
FailedCases = Annotated[int | None, Meta(description="Cases that failed")]
Skipped = Annotated[int | None, Meta(description="Cases that were skipped")]
Errors = Annotated[int | None, Meta(description="Cases that ended in an error")]
TotalTime = Annotated[float | None, Meta(description="Seconds, added up over the cases")]
AsOf = Annotated[
    str, Meta(description="The pipeline's `updated_at` and status at which this was fetched; others fetch it again")
]


class Project(msgspec.Struct, frozen=True):
    """A project."""

    id: Annotated[int, Meta(description="GitLab's id, which stays when a project is renamed or moved")]
    path: Annotated[str | None, Meta(description="Path with namespace: `group/project`")]
    asked_as: Annotated[
        str | None, Meta(description="The path by which it was asked for, where it was renamed or moved since")
    ]
    name: Annotated[str | None, Meta(description="Its name")]
    namespace: Annotated[str | None, Meta(description="Path of its group or user")]
    default_branch: Annotated[str | None, Meta(description="Its default branch")]
    visibility: Annotated[str | None, Meta(description="private, internal or public")]
    archived: Annotated[bool | None, Meta(description="Whether it is archived")]
    has_ci: Annotated[
        bool | None,
        Meta(
            description="0: CI or the repository is switched off, so that GitLab shows no pipelines and none are asked for"
        ),
    ]
    topics: Annotated[list[str], Meta(description="Its topics, a JSON list")]
    created_at: Created
    last_activity_at: Annotated[str | None, Meta(description="Its last activity as GitLab has it (UTC)")]
    web_url: WebUrl


class ProjectDay(msgspec.Struct, frozen=True):
    """Until when a project's pipelines of a day were listed: the ledger that incremental syncs go by."""

    project_id: ProjectId
    day: Annotated[str, Meta(description="The day (UTC)")]
    listed_at: Annotated[
        str, Meta(description="The server's time at the last listing (UTC); a day is closed once this lies behind it")
    ]
    checked_at: Annotated[
        str | None,
        Meta(
            description="When all of the day was last compared with GitLab's list (UTC), which finds deleted pipelines"
        ),
    ]


class Pipeline(msgspec.Struct, frozen=True):
    """A pipeline. Child pipelines and those that a bridge started in other projects are rows too."""

    id: Annotated[int, Meta(description="GitLab's id")]
    project_id: ProjectId
    day: Day
    iid: Annotated[int | None, Meta(description="Its number in the project")]
    ref: Ref
    sha: Annotated[str | None, Meta(description="The commit")]
    before_sha: Annotated[str | None, Meta(description="The commit before the push")]
    tag: Annotated[bool | None, Meta(description="Whether it ran for a tag")]
    status: Status
    source: Annotated[
        str | None, Meta(description="push, schedule, merge_request_event, parent_pipeline, ...; NULL in old rows")
    ]
    name: Annotated[str | None, Meta(description="Its name, where it has one")]
    created_at: Created
    updated_at: Annotated[
        str | None, Meta(description="When its status last changed (UTC); NULL for external and old ones")
    ]
    started_at: Started
    finished_at: Finished
    committed_at: Annotated[str | None, Meta(description="When the commit was made (UTC)")]
    duration: Seconds
    queued_duration: Queued
    coverage: Annotated[float | None, Meta(description="Test coverage in percent, which GitLab gives as text")]
    yaml_errors: Annotated[str | None, Meta(description="Why its configuration is not valid; it then has no jobs")]
    user_id: Annotated[int | None, Meta(description="Id of the user who started it")]
    user_username: Annotated[str | None, Meta(description="Name of that user on the instance")]
    archived: Annotated[bool | None, Meta(description="Whether it is archived")]
    web_url: WebUrl
    detailed: Annotated[
        bool, Meta(description="1: all columns were asked for; 0: its own page did not come, only its row in the list")
    ]


class Bridge(msgspec.Struct, frozen=True):
    """A trigger job and the pipeline that it started, which may lie in another project."""

    id: Annotated[int, Meta(description="GitLab's id, from the same row of numbers as those of jobs")]
    pipeline_id: PipelineId
    project_id: ProjectId
    day: Day
    name: Annotated[str | None, Meta(description="Its name")]
    stage: Stage
    status: Status
    ref: Ref
    retried: Annotated[bool | None, Meta(description="1: a later run of the same name and stage is in the pipeline")]
    allow_failure: AllowFailure
    failure_reason: FailureReason
    created_at: Created
    started_at: Started
    finished_at: Finished
    duration: Seconds
    queued_duration: Queued
    user_username: Username
    downstream_pipeline_id: Annotated[int | None, Meta(description="The pipeline that it started; NULL until it runs")]
    downstream_project_id: Annotated[int | None, Meta(description="The project of that pipeline")]
    downstream_status: Annotated[str | None, Meta(description="Status of that pipeline when the bridge was listed")]
    web_url: WebUrl


class Job(msgspec.Struct, frozen=True):
    """A run of a job; retries are rows of their own."""

    id: Annotated[int, Meta(description="GitLab's id")]
    pipeline_id: PipelineId
    project_id: ProjectId
    day: Day
    name: Annotated[str | None, Meta(description="Its name; parallel parts have their own, such as `unit 2/5`")]
    stage: Stage
    status: Status
    ref: Ref
    tag: Annotated[bool | None, Meta(description="Whether it ran for a tag")]
    retried: Annotated[
        bool,
        Meta(description="1: a later run of the same name and stage is in the pipeline. GitLab's REST never says so"),
    ]
    allow_failure: AllowFailure
    failure_reason: FailureReason
    coverage: Annotated[float | None, Meta(description="Test coverage in percent")]
    created_at: Created
    started_at: Started
    finished_at: Finished
    erased_at: Annotated[str | None, Meta(description="When somebody erased its log and artifacts (UTC)")]
    duration: Seconds
    queued_duration: Queued
    user_id: Annotated[int | None, Meta(description="Id of the user who started it")]
    user_username: Annotated[str | None, Meta(description="Name of that user on the instance")]
    commit_sha: Annotated[str | None, Meta(description="The commit")]
    commit_title: Annotated[str | None, Meta(description="First line of the commit's message")]
    runner_id: Annotated[int | None, Meta(description="Its runner; NULL where none took it, or it was deleted since")]
    runner_description: Annotated[str | None, Meta(description="How the runner is described")]
    runner_type: Annotated[str | None, Meta(description="instance_type, group_type or project_type")]
    runner_version: Annotated[str | None, Meta(description="Version of the runner")]
    tags: Annotated[list[str], Meta(description="Tags that a runner must have to take it, a JSON list")]
    artifacts_expire_at: Annotated[str | None, Meta(description="When its artifacts expire (UTC); NULL: kept")]
    artifacts_size: Annotated[int | None, Meta(description="Bytes of its archive")]
    archived: Annotated[bool | None, Meta(description="Whether it is archived: it can no longer be retried")]
    source: Annotated[str | None, Meta(description="What started it")]
    web_url: WebUrl


class PipelineJobs(msgspec.Struct, frozen=True):
    """That the jobs of a pipeline were fetched, and as of which change of it."""

    pipeline_id: PipelineId
    project_id: ProjectId
    day: Day
    as_of: AsOf
    jobs: Annotated[int, Meta(description="Jobs that came, retried ones too")]
    settled: Annotated[
        bool | None,
        Meta(
            description="0: fetched within minutes of the pipeline's end, when logs were on their way to the archive; fetched again"
        ),
    ]


class Artifact(msgspec.Struct, frozen=True):
    """What a job has handed in, or its log: an archive, a report, a trace."""

    job_id: JobId
    file_type: Annotated[str, Meta(description="archive, metadata, trace, junit, ...")]
    filename: Annotated[str, Meta(description="Its name; empty where it has none")]
    pipeline_id: PipelineId
    project_id: ProjectId
    day: Day
    size: Annotated[int | None, Meta(description="Bytes")]
    file_format: Annotated[str | None, Meta(description="zip, gzip or raw; often NULL, above all for traces")]
    expires_at: Annotated[str | None, Meta(description="When it expires (UTC); traces do not expire; NULL: kept")]
    listed: Annotated[bool, Meta(description="0: GitLab does not list it any more: it expired or was erased")]


class JobLog(msgspec.Struct, frozen=True):
    """The log of a job. `SELECT rowid FROM job_logs_fts WHERE job_logs_fts MATCH 'word'` finds jobs by what their logs say."""

    id: Annotated[int, Meta(description="`jobs.id`")]
    pipeline_id: PipelineId
    project_id: ProjectId
    day: Day
    state: Annotated[
        str,
        Meta(
            description="complete; partial: shorter than its artifact, or of a job that has just ended; asked for again; empty: GitLab has none; too_large: "
            "over --max-log-mb; forbidden: the token may not read it; missing: GitLab says 404"
        ),
    ]
    gone_at: Annotated[
        str | None,
        Meta(description="When GitLab was found to have it no more (UTC): erased or deleted; it is kept here"),
    ]
    size: Annotated[
        int | None,
        Meta(
            description="Bytes of the log as GitLab has it; at least so many where it is too_large and no artifact tells"
        ),
    ]
    sha256: Annotated[str | None, Meta(description="Hash of these bytes")]
    lines: Annotated[int | None, Meta(description="Lines")]
    invalid_bytes: Annotated[int | None, Meta(description="Places that are no UTF-8, shown as U+FFFD in the text")]
    sections: Annotated[
        str | None,
        Meta(
            description="Its sections, a JSON list of name, start (Unix time), seconds; seconds is null for one left open"
        ),
    ]
    error_lines: Annotated[str | None, Meta(description="Lines that look like errors, the last 50, one a line")]
    text: Annotated[
        str | None,
        Meta(
            description="What a person reads: without terminal escapes, rewritten lines as they were at the end, no sections"
        ),
    ]
    text_cut: Annotated[bool, Meta(description="1: `text` holds the beginning and the end alone; `raw` is whole")]
    raw: Annotated[bytes | None, Meta(description="The log byte by byte, compressed by zlib")]


class TestReport(msgspec.Struct, frozen=True):
    """What the tests of a pipeline came to."""

    pipeline_id: PipelineId
    project_id: ProjectId
    day: Day
    as_of: AsOf
    state: Annotated[
        str,
        Meta(
            description="stored: with cases; expired: the files had expired, only counts are left; none: there are no tests"
        ),
    ]
    gone_at: Annotated[
        str | None, Meta(description="When GitLab was found to have the cases no more (UTC); those here are kept")
    ]
    total_time: TotalTime
    total_count: Total
    success_count: Success
    failed_count: FailedCases
    skipped_count: Skipped
    error_count: Errors


class TestSuite(msgspec.Struct, frozen=True):
    """A suite of a pipeline's test report: the tests of one job or of its parallel parts."""

    pipeline_id: PipelineId
    position: Annotated[int, Meta(description="Its place in the report, from 0")]
    project_id: ProjectId
    day: Day
    name: Annotated[str | None, Meta(description="Its name")]
    total_time: TotalTime
    total_count: Total
    success_count: Success
    failed_count: FailedCases
    skipped_count: Skipped
    error_count: Errors
    suite_error: Annotated[str | None, Meta(description="Why a file could not be read")]
    job_ids: Annotated[list[int], Meta(description="Its jobs, a JSON list; known only where the summary was asked for")]


class TestCase(msgspec.Struct, frozen=True):
    """A test case in a pipeline. Names repeat, so that a case's key is its place in the report."""

    pipeline_id: PipelineId
    suite: Annotated[int, Meta(description="`test_suites.position`")]
    position: Annotated[int, Meta(description="Its place in the suite, from 0")]
    project_id: ProjectId
    day: Day
    suite_name: Annotated[str | None, Meta(description="Name of the suite")]
    status: Annotated[str | None, Meta(description="success, failed, skipped or error")]
    name: Annotated[str | None, Meta(description="Its name")]
    classname: Annotated[str | None, Meta(description="Its class or file, as the test framework has it")]
    file: Annotated[str | None, Meta(description="The file, where it is told")]
    execution_time: Seconds
    system_output: Annotated[
        str | None, Meta(description="What it printed; JSON where GitLab has an object or a list instead of text")
    ]
    stack_trace: Annotated[str | None, Meta(description="Where it failed")]
    recent_failures: Annotated[
        int | None, Meta(description="How often it failed in the last 14 days, as GitLab counts")
    ]
    attachment_url: Annotated[str | None, Meta(description="Its attachment, such as a screenshot")]


class EarlierOutcome(msgspec.Struct, frozen=True):
    """What came of a test case in a run that a later run of its job, in the same pipeline, has replaced in the report."""

    pipeline_id: PipelineId
    suite_name: Annotated[str, Meta(description="Name of the suite; empty where it has none")]
    classname: Annotated[
        str, Meta(description="Its class or file, as the test framework has it; empty where it has none")
    ]
    name: Annotated[str, Meta(description="Its name; empty where it has none")]
    status: Annotated[str, Meta(description="success, failed or error")]
    project_id: ProjectId
    day: Day
    cases: Annotated[int, Meta(description="Cases of that name that ended so")]
    as_of: Annotated[str, Meta(description="The pipeline's `updated_at` and status at which it was so")]


class Archive(msgspec.Struct, frozen=True):
    """A job's artifacts archive: what became of listing it."""

    id: Annotated[int, Meta(description="`jobs.id`")]
    pipeline_id: PipelineId
    project_id: ProjectId
    day: Day
    state: Annotated[
        str,
        Meta(
            description="listed; gone: expired or erased before it was listed; damaged; too_large: the server gives no ranges "
            "and it is over --max-artifact-mb; forbidden: the token may not read it"
        ),
    ]
    problem: Annotated[str | None, Meta(description="What is wrong with one that is damaged")]
    gone_at: Annotated[
        str | None, Meta(description="When GitLab was found to have it no more (UTC), though it is listed here")
    ]
    size: Annotated[int | None, Meta(description="Bytes of the archive")]
    files: Annotated[int | None, Meta(description="Entries, directories too")]
    unpacked_size: Annotated[int | None, Meta(description="Bytes of its files, as its directory has it")]
    stored_path: Annotated[
        str | None, Meta(description="Where --artifact-bytes has put it, below the directory that was named")
    ]


class ArtifactFile(msgspec.Struct, frozen=True):
    """A file in a job's artifacts archive, as the archive's directory lists it."""

    job_id: JobId
    position: Annotated[int, Meta(description="Its place in the directory, from 0: names may repeat")]
    pipeline_id: PipelineId
    project_id: ProjectId
    day: Day
    path: Annotated[str, Meta(description="Its name as it is in the archive, `../` and all: never a path to write to")]
    size: Annotated[int, Meta(description="Bytes unpacked, as the directory has it")]
    compressed_size: Annotated[int, Meta(description="Bytes in the archive")]
    crc32: Annotated[int, Meta(description="Checksum of the file's content")]
    modified_at: Annotated[str | None, Meta(description="Its time in the archive, which has no time zone")]
    mode: Annotated[int | None, Meta(description="Unix mode, such as 33188 (0o100644); NULL where it has none")]
    is_directory: Annotated[bool, Meta(description="Whether it is a directory")]
