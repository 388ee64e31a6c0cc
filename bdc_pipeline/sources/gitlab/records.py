"""GitLab's projects, pipelines, bridges, jobs and artifacts as rows: which of their keys become columns.

A key that is missing is NULL, one that is unknown is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab.values import Malformed, flag, key_of, listed, moment, number, part, shown, text, whole

Run = TypeVar("Run", r.Job, r.Bridge)

FINAL = frozenset({"success", "failed", "canceled", "skipped"})
BLOCKED = frozenset({"manual", "scheduled"})

EPOCH = "1970-01-01"
"""The day of pipelines that tell neither when they changed nor when they were made."""


def is_alive(status: str | None) -> bool:
    """Whether a status may change without anybody's doing; one that is not known may."""
    return status not in FINAL and status not in BLOCKED


# -- projects and pipelines ------------------------------------------------------------------------------------


def project(record: Any, asked_as: str | None = None) -> r.Project:
    """A project; `asked_as` is the id or path by which it was asked for.

    Raises:
        Malformed: it cannot become a row.
    """
    identifier, path = key_of(record), text(record, "path_with_namespace")
    by_former_path = asked_as is not None and asked_as.lower() not in {str(identifier), (path or "").lower()}
    return r.Project(
        id=identifier,
        path=path,
        asked_as=asked_as if by_former_path else None,
        name=text(record, "name"),
        namespace=text(part(record, "namespace"), "full_path"),
        default_branch=text(record, "default_branch"),
        visibility=text(record, "visibility"),
        archived=flag(record, "archived"),
        has_ci=all(record.get(key) != "disabled" for key in ("builds_access_level", "repository_access_level")),
        topics=[str(topic) for topic in listed(record, "topics" if record.get("topics") is not None else "tag_list")],
        created_at=moment(record, "created_at"),
        last_activity_at=moment(record, "last_activity_at"),
        web_url=text(record, "web_url"),
    )


def day_of(updated_at: str | None, created_at: str | None) -> str:
    """The partition of a pipeline; when it was made stands in for when it changed, which may be null."""
    return (updated_at or created_at or EPOCH)[:10]


def pipeline(record: Any, project_id: int, *, detailed: bool) -> r.Pipeline:
    """A pipeline, from its own page or from a list.

    Raises:
        Malformed: it cannot become a row.
    """
    identifier = key_of(record)
    updated, created = moment(record, "updated_at"), moment(record, "created_at")
    user = part(record, "user")
    told = whole(record, "project_id")
    return r.Pipeline(
        id=identifier,
        project_id=project_id if told is None else told,
        day=day_of(updated, created),
        iid=whole(record, "iid"),
        ref=text(record, "ref"),
        sha=text(record, "sha"),
        before_sha=text(record, "before_sha"),
        tag=flag(record, "tag"),
        status=text(record, "status"),
        source=text(record, "source"),
        name=text(record, "name"),
        created_at=created,
        updated_at=updated,
        started_at=moment(record, "started_at"),
        finished_at=moment(record, "finished_at"),
        committed_at=moment(record, "committed_at"),
        duration=number(record, "duration"),
        queued_duration=number(record, "queued_duration"),
        coverage=number(record, "coverage"),
        yaml_errors=text(record, "yaml_errors"),
        user_id=whole(user, "id"),
        user_username=text(user, "username"),
        archived=flag(record, "archived"),
        web_url=text(record, "web_url"),
        detailed=detailed,
    )


def as_of(updated_at: str | None, status: str | None) -> str:
    """What tells one state of a pipeline from another."""
    return f"{updated_at or ''} {status or ''}"


def bridge(record: Any, of: r.Pipeline) -> r.Bridge:
    """A trigger job of a pipeline; whether it was retried is found out later, among its pipeline's (see `with_retries`).

    Raises:
        Malformed: it cannot become a row.
    """
    downstream = part(record, "downstream_pipeline")
    return r.Bridge(
        id=key_of(record),
        pipeline_id=of.id,
        project_id=of.project_id,
        day=of.day,
        name=text(record, "name"),
        stage=text(record, "stage"),
        status=text(record, "status"),
        ref=text(record, "ref"),
        retried=False,
        allow_failure=flag(record, "allow_failure"),
        failure_reason=text(record, "failure_reason"),
        created_at=moment(record, "created_at"),
        started_at=moment(record, "started_at"),
        finished_at=moment(record, "finished_at"),
        duration=number(record, "duration"),
        queued_duration=number(record, "queued_duration"),
        user_username=text(part(record, "user"), "username"),
        downstream_pipeline_id=whole(downstream, "id"),
        downstream_project_id=whole(downstream, "project_id"),
        downstream_status=text(downstream, "status"),
        web_url=text(record, "web_url"),
    )


# -- jobs ------------------------------------------------------------------------------------------------------


def job(record: Any, project_id: int, day: str, pipeline_id: int | None = None) -> r.Job:
    """A run of a job; whether it was retried is found out later, among its pipeline's (see `with_retries`).

    Raises:
        Malformed: it cannot become a row.
    """
    identifier = key_of(record)
    of = whole(part(record, "pipeline"), "id") if pipeline_id is None else pipeline_id
    if of is None:
        raise Malformed("`pipeline` does not tell to which one the job belongs")
    user, commit, runner = part(record, "user"), part(record, "commit"), part(record, "runner")
    return r.Job(
        id=identifier,
        pipeline_id=of,
        project_id=project_id,
        day=day,
        name=text(record, "name"),
        stage=text(record, "stage"),
        status=text(record, "status"),
        ref=text(record, "ref"),
        tag=flag(record, "tag"),
        retried=False,
        allow_failure=flag(record, "allow_failure"),
        failure_reason=text(record, "failure_reason"),
        coverage=number(record, "coverage"),
        created_at=moment(record, "created_at"),
        started_at=moment(record, "started_at"),
        finished_at=moment(record, "finished_at"),
        erased_at=moment(record, "erased_at"),
        duration=number(record, "duration"),
        queued_duration=number(record, "queued_duration"),
        user_id=whole(user, "id"),
        user_username=text(user, "username"),
        commit_sha=text(commit, "id"),
        commit_title=text(commit, "title"),
        runner_id=whole(runner, "id"),
        runner_description=text(runner, "description"),
        runner_type=text(runner, "runner_type"),
        runner_version=text(part(record, "runner_manager"), "version"),
        tags=[str(tag) for tag in listed(record, "tag_list")],
        artifacts_expire_at=moment(record, "artifacts_expire_at"),
        artifacts_size=whole(part(record, "artifacts_file"), "size"),
        archived=flag(record, "archived"),
        source=text(record, "source"),
        web_url=text(record, "web_url"),
    )


def with_retries(jobs: Iterable[Run]) -> list[Run]:
    """A pipeline's jobs or bridges, with those marked of which a later run is there.

    GitLab's REST tells retried jobs from others only by leaving them out. In one pipeline a name is unique among jobs that run,
    so the run with the highest id is the one that counts and all earlier ones were retried.
    """
    rows = sorted(jobs, key=lambda row: row.id)
    latest = {(row.name, row.stage): row.id for row in rows}
    return [
        row if latest[row.name, row.stage] == row.id else msgspec.structs.replace(row, retried=True) for row in rows
    ]


def artifacts(record: Mapping[str, Any], of: r.Job) -> list[r.Artifact]:
    """What a job has handed in.

    Raises:
        Malformed: one cannot become a row.
    """
    found: dict[tuple[str, str], r.Artifact] = {}
    for entry in listed(record, "artifacts"):
        if not isinstance(entry, dict):
            raise Malformed(f"`artifacts` holds {shown(entry)} where an object is expected")
        kind, filename = text(entry, "file_type") or "", text(entry, "filename") or ""
        found[kind, filename] = r.Artifact(
            job_id=of.id,
            file_type=kind,
            filename=filename,
            pipeline_id=of.pipeline_id,
            project_id=of.project_id,
            day=of.day,
            size=whole(entry, "size"),
            file_format=text(entry, "file_format"),
            expires_at=None if kind == "trace" else of.artifacts_expire_at,
            listed=True,
        )
    return list(found.values())
