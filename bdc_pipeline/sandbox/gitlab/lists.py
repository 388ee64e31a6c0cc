"""The lists of the REST API: which rows a request means and in which order. How they are cut into pages is in `paging.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bdc_pipeline.sandbox.frame import Answer
from bdc_pipeline.sandbox.gitlab import shown
from bdc_pipeline.sandbox.gitlab.answers import RefusedError, error
from bdc_pipeline.sandbox.gitlab.paging import (
    Ask,
    cursor_id,
    cursor_page,
    id_page,
    listed,
    offset_page,
    uncounted_page,
)
from bdc_pipeline.sandbox.gitlab.records import FINAL, Job, Pipeline, Project
from bdc_pipeline.sandbox.gitlab.world import World

STATUSES = (
    *("created", "waiting_for_resource", "preparing", "waiting_for_callback", "pending", "running"),
    *("success", "failed", "canceling", "canceled", "skipped", "manual", "scheduled"),
)
SOURCES = (
    *("push", "web", "trigger", "schedule", "api", "external", "pipeline", "chat", "webide", "merge_request_event"),
    *("external_pull_request_event", "parent_pipeline", "ondemand_dast_scan", "ondemand_dast_validation"),
)
_Key = Callable[[Any], Any]
Bounds = tuple[int | None, int | None]
_PROJECT_ORDERS: dict[str, _Key] = {
    "created_at": lambda project: project.created,
    "id": lambda project: project.id,
    "name": lambda project: project.name,
    "path": lambda project: project.path,
    "updated_at": lambda project: project.last_activity,
    "last_activity_at": lambda project: project.last_activity,
    "star_count": lambda project: project.id % 7,
}
_PIPELINE_ORDERS: dict[str, _Key] = {
    "id": lambda pipeline: pipeline.id,
    "status": lambda pipeline: pipeline.status,
    "ref": lambda pipeline: pipeline.ref,
    "updated_at": lambda pipeline: pipeline.updated or 0,
    "user_id": lambda pipeline: pipeline.user,
}


@dataclass(frozen=True)
class Wanted:
    """Which pipelines; bounds are included, and one whose moment is null lies within none."""

    status: str | None = None
    source: str | None = None
    updated: Bounds = (None, None)
    created: Bounds = (None, None)


def list_projects(visible: Iterable[Project], ask: Ask) -> Answer:
    """GET /projects, of those that may be seen."""
    order = ask.choice("order_by", tuple(_PROJECT_ORDERS), "created_at")
    descending = ask.choice("sort", ("asc", "desc"), "desc") == "desc"
    rows = _sorted(_projects(visible, ask), _PROJECT_ORDERS[order], descending=descending)
    if ask.by_keyset:
        if order != "id":
            raise RefusedError(error(405, "Keyset pagination is not yet available for this type of request"))
        page, headers = id_page(ask, rows, descending=descending)
    else:
        page, headers = offset_page(ask, rows, limited="Project")
    simple = bool(ask.flag("simple"))
    return listed([shown.project(project, ask.base, simple=simple) for project in page], headers)


def _projects(visible: Iterable[Project], ask: Ask) -> list[Project]:
    membership, archived, search = ask.flag("membership"), ask.flag("archived"), ask.query.get("search", "").lower()
    after, before = _bound(ask, "last_activity_after"), _bound(ask, "last_activity_before")
    above, below = ask.query.get("id_after", ""), ask.query.get("id_before", "")
    return [
        project
        for project in visible
        if (not membership or project.member)
        and (archived is None or project.archived is archived)
        and (not search or search in project.full_path.lower())
        and (after is None or project.last_activity >= after)
        and (before is None or project.last_activity <= before)
        and (not above.isdecimal() or project.id > int(above))
        and (not below.isdecimal() or project.id < int(below))
    ]


def list_pipelines(world: World, project: Project, ask: Ask) -> Answer:
    """GET /projects/:id/pipelines."""
    order = ask.choice("order_by", tuple(_PIPELINE_ORDERS), "id")
    descending = ask.choice("sort", ("asc", "desc"), "desc") == "desc"
    wanted = Wanted(
        ask.choice("status", STATUSES, "") if "status" in ask.query else None,
        ask.choice("source", SOURCES, "") if "source" in ask.query else None,
        (_bound(ask, "updated_after"), _bound(ask, "updated_before")),
        (_bound(ask, "created_after"), _bound(ask, "created_before")),
    )
    scope = ask.choice("scope", ("running", "pending", "finished", "branches", "tags", ""), "")
    rows = _in_scope(chosen(world, project, wanted), scope)
    for name in ("ref", "sha", "name"):
        if name in ask.query:
            rows = [pipeline for pipeline in rows if getattr(pipeline, name) == ask.query[name]]
    if ask.flag("yaml_errors") is not None:
        rows = [pipeline for pipeline in rows if (pipeline.yaml_errors is not None) is ask.flag("yaml_errors")]
    page, headers = offset_page(ask, _sorted(rows, _PIPELINE_ORDERS[order], descending=descending))
    return listed([shown.pipeline_row(pipeline, project, ask.base) for pipeline in page], headers)


def chosen(world: World, project: Project, wanted: Wanted) -> list[Pipeline]:
    """A project's pipelines by id. Children come only when their source is asked for."""
    return [
        pipeline
        for pipeline in world.pipelines_of(project.id)
        if (pipeline.source == wanted.source if wanted.source else pipeline.source != "parent_pipeline")
        and (wanted.status is None or pipeline.status == wanted.status)
        and _within(pipeline.updated, wanted.updated)
        and _within(pipeline.created, wanted.created)
    ]


def _within(at: int | None, bounds: Bounds) -> bool:
    after, before = bounds
    if at is None:
        return after is None and before is None
    return (after is None or at >= after) and (before is None or at <= before)


def _in_scope(rows: list[Pipeline], scope: str) -> list[Pipeline]:
    if scope in {"running", "pending"}:
        return [pipeline for pipeline in rows if pipeline.status == scope]
    if scope == "finished":
        return [pipeline for pipeline in rows if pipeline.status in FINAL]
    if scope in {"branches", "tags"}:
        # The latest of each branch or tag
        latest = {pipeline.ref: pipeline for pipeline in rows if pipeline.tag is (scope == "tags")}
        return sorted(latest.values(), key=lambda pipeline: pipeline.id)
    return rows


def list_pipeline_jobs(world: World, pipeline: Pipeline, ask: Ask) -> Answer:
    """GET /projects/:id/pipelines/:pipeline_id/jobs."""
    project, retried = world.projects[pipeline.project_id], bool(ask.flag("include_retried"))
    scope = _scope(ask)
    rows = [
        job
        for job in reversed(world.jobs_of(pipeline.id))
        if not job.bridge and (retried or not job.retried) and (not scope or job.status in scope)
    ]
    page, headers = offset_page(ask, rows)
    return listed([shown.job(job, pipeline, project, ask.base) for job in page], headers)


def list_bridges(world: World, pipeline: Pipeline, ask: Ask) -> Answer:
    """GET /projects/:id/pipelines/:pipeline_id/bridges; `include_retried`, which is not documented, holds as for jobs: both lists come
    from GitLab's `JobsFinder`."""
    scope, retried = _scope(ask), bool(ask.flag("include_retried"))
    jobs = reversed(world.jobs_of(pipeline.id))
    rows = [job for job in jobs if job.bridge and (retried or not job.retried) and (not scope or job.status in scope)]
    page, headers = offset_page(ask, rows)
    return listed([bridge(world, job, ask.base) for job in page], headers)


def bridge(world: World, job: Job, base: str) -> dict[str, Any]:
    """A bridge with the pipeline that it started, if that still exists."""
    pipeline = world.pipelines[job.pipeline_id]
    started = None if job.downstream is None else world.pipelines.get(job.downstream)
    downstream = None if started is None else (started, world.projects[started.project_id])
    return shown.bridge(job, pipeline, world.projects[pipeline.project_id], base, downstream)


def list_project_jobs(world: World, project: Project, ask: Ask) -> Answer:
    """GET /projects/:id/jobs: every run of every job, those of children too; never counted."""
    scope = _scope(ask)
    before = None
    if ask.by_keyset:
        if (ask.query.get("order_by", "id"), ask.query.get("sort", "desc")) != ("id", "desc"):
            raise RefusedError(error(405, "Keyset pagination is not yet available for this type of request"))
        before = cursor_id(ask)
    retried = ask.flag("include_retried") is not False
    rows = (
        job
        for job in world.jobs_below(project.id, before)
        if (not scope or job.status in scope) and (retried or not job.retried)
    )
    page, headers = cursor_page(ask, rows) if ask.by_keyset else uncounted_page(ask, rows)
    jobs = [shown.job(job, world.pipelines[job.pipeline_id], project, ask.base) for job in page]
    return listed(jobs, headers)


def milliseconds(text: str) -> int:
    """A moment in ISO 8601 as milliseconds since 1970; without an offset it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _bound(ask: Ask, name: str) -> int | None:
    text = ask.query.get(name)
    if text is None:
        return None
    try:
        return milliseconds(text)
    except ValueError:
        # A + that was not encoded arrives as a blank
        raise RefusedError(error(400, f"{name} is invalid")) from None


def _scope(ask: Ask) -> list[str]:
    scope = ask.values("scope")
    if set(scope) - set(STATUSES):
        raise RefusedError(error(400, "scope does not have a valid value"))
    return scope


def _sorted(rows: Sequence[Any], key: _Key, *, descending: bool) -> list[Any]:
    return sorted(rows, key=lambda row: (key(row), row.id), reverse=descending)
