"""What the data is, for comparing a copy with it: all rows of an entity by id, hidden and denied ones too.

Columns are the keys of the REST API's objects, null where a key is missing, and besides: Pipeline's `parent_id`; `retried`,
`pipeline_id`, `project_id` of Job and Bridge; Bridge's `downstream_id`. A TestCase has `project_id`, `pipeline_id`, `suite` and
`position` in it; a Trace has `job_id`, `pipeline_id`, `project_id`, `size`, `sha256` and `complete`, and is there only where a log
is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from bdc_pipeline.sandbox.gitlab import lists, shown
from bdc_pipeline.sandbox.gitlab.logs import log
from bdc_pipeline.sandbox.gitlab.records import Job, Pipeline
from bdc_pipeline.sandbox.gitlab.reports import report
from bdc_pipeline.sandbox.gitlab.world import World

#: Keys that a row may lack, or that only some rows have
_SOMETIMES = {"failure_reason", "artifacts_file", "attachment_url", "runners_token"}


class Truth:
    """All rows of a world."""

    def __init__(self, world: World, base: str) -> None:
        self._world, self._base = world, base
        self._entities = {
            "Project": self._projects,
            "Pipeline": self._pipelines,
            "Job": self._jobs,
            "Bridge": self._bridges,
            "TestCase": self._cases,
            "Trace": self._traces,
        }

    def rows(self, entity: str, columns: Sequence[str]) -> list[list[Any]]:
        """These columns of all rows. Raises ValueError with a sentence."""
        if entity not in self._entities:
            raise ValueError(f"GitLab has no entity {entity!r}. It has: {', '.join(self._entities)}.")
        found: list[list[Any]] = []
        for row in self._entities[entity]():
            if not found and (unknown := sorted(set(columns) - set(row) - _SOMETIMES)):
                raise ValueError(f"{entity} has no column {', '.join(unknown)}. It has: {', '.join(row)}.")
            found.append([row.get(column) for column in columns])
        return found

    def _each_pipeline(self) -> Iterator[Pipeline]:
        for identifier in sorted(self._world.pipelines):
            yield self._world.pipelines[identifier]

    def _each_job(self) -> Iterator[tuple[Job, Pipeline]]:
        found = [(job, pipeline) for pipeline in self._each_pipeline() for job in self._world.jobs_of(pipeline.id)]
        return iter(sorted(found, key=lambda pair: pair[0].id))

    def _projects(self) -> Iterator[dict[str, Any]]:
        for project in self._world.projects.values():
            yield shown.project(project, self._base)

    def _pipelines(self) -> Iterator[dict[str, Any]]:
        for pipeline in self._each_pipeline():
            project = self._world.projects[pipeline.project_id]
            yield {**shown.pipeline(pipeline, project, self._base), "parent_id": pipeline.parent}

    def _jobs(self) -> Iterator[dict[str, Any]]:
        for job, pipeline in self._each_job():
            if not job.bridge:
                project = self._world.projects[pipeline.project_id]
                yield {**shown.job(job, pipeline, project, self._base), **_place(job, pipeline)}

    def _bridges(self) -> Iterator[dict[str, Any]]:
        for job, pipeline in self._each_job():
            if job.bridge:
                place = {**_place(job, pipeline), "downstream_id": job.downstream}
                yield {**lists.bridge(self._world, job, self._base), **place}

    def _cases(self) -> Iterator[dict[str, Any]]:
        for pipeline in self._each_pipeline():
            found = report(self._world.jobs_of(pipeline.id), pipeline.project_id)
            for suite in found["test_suites"]:
                place = {"project_id": pipeline.project_id, "pipeline_id": pipeline.id, "suite": suite["name"]}
                for position, case in enumerate(suite["test_cases"]):
                    yield {**place, "position": position, **case}

    def _traces(self) -> Iterator[dict[str, Any]]:
        for job, pipeline in self._each_job():
            text = log(job, self._world.projects[pipeline.project_id])
            if text:
                place = {"job_id": job.id, "pipeline_id": pipeline.id, "project_id": pipeline.project_id}
                yield {**place, "size": len(text), "sha256": sha256(text).hexdigest(), "complete": job.is_over}


def _place(job: Job, pipeline: Pipeline) -> dict[str, Any]:
    return {"retried": job.retried, "pipeline_id": pipeline.id, "project_id": pipeline.project_id}
