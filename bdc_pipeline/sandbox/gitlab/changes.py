"""Changes of the generated data: what happens between two syncs, or during one.

All but their moment follows from arguments. `at` is the moment in ISO 8601, by default the real clock's, since a client's watermark
comes from the Date header. `project` is an id or a path.

- `run` project, count=1, status, jobs, ref, sha, pipeline_source, at: new pipelines whose last change was then; ids of pipelines and jobs
- `finish` pipeline or job, status, reason, at: what is not over ends; ids of jobs
- `retry` job, status, at: a job or bridge runs again; the new id
- `delete` pipeline
- `expire` job, at: its artifacts are gone
- `erase` job, at: its artifacts, reports and log are gone
- `rename` project, path; `move` project, namespace: 301 under the old path
- `deny` project, status (403, or 404 to hide it); `allow` project
- `update` entity, id, columns, remove, at: keys of an answer, to any JSON value, or away; the entity is Project, Pipeline, Job or
  Bridge; a list's filters follow where the value fits
- `touch` pipeline or project, at: the moment of its last change, and nothing else
- `log` job, size or base64: another log, of that many bytes or of these
- `archive` job, kind (traversal, lying, many, bomb, truncated) or base64: another archive

While pages are read (`paging_changes` of Pipeline or Job), in the list that is read: insert adds a row at the front, delete removes
the first one, touch changes the last one's moment.
"""

from __future__ import annotations

import binascii
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bdc_pipeline.sandbox.acting import act
from bdc_pipeline.sandbox.gitlab.archives import hostile
from bdc_pipeline.sandbox.gitlab.endpoints import Endpoint
from bdc_pipeline.sandbox.gitlab.jobs import again, finish
from bdc_pipeline.sandbox.gitlab.lists import STATUSES, milliseconds
from bdc_pipeline.sandbox.gitlab.records import FINAL, SECOND, Job, Pipeline, Project, Record
from bdc_pipeline.sandbox.gitlab.world import World
from bdc_pipeline.sandbox.options import PagingChange

_MOMENTS = {"created_at": "created", "updated_at": "updated", "last_activity_at": "last_activity"}
_FILTERED = ("status", "ref", "sha", "source", "name", "archived", "member")


class Changes:
    """What can be done to a world. Each method raises ValueError with a sentence if it cannot be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._reads: Counter[PagingChange] = Counter()
        self._paged: Counter[PagingChange] = Counter()
        self._actions: dict[str, Callable[..., Any]] = {
            name: getattr(self, name)
            for name in (
                *("run", "finish", "retry", "delete", "expire", "erase", "rename", "move", "deny", "allow", "update"),
                *("touch", "log", "archive"),
            )
        }

    def apply(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """Do what the control endpoint asks for."""
        return act(self._actions, action, arguments, moment=_moment)

    # --- pipelines and jobs

    def run(
        self,
        *,
        project: int | str,
        count: int = 1,
        status: str = "success",
        jobs: int | None = None,
        ref: str | None = None,
        sha: str | None = None,
        pipeline_source: str | None = None,
        at: int | None = None,
    ) -> dict[str, list[int]]:
        """Start pipelines."""
        if status not in STATUSES:
            raise ValueError(f"A pipeline cannot be {status!r}. It can be: {', '.join(STATUSES)}.")
        owner, at = self._project(project), _now(at)
        made = [self._run(owner, status, jobs, at) for _ in range(count)]
        for pipeline in made:
            pipeline.ref, pipeline.sha, pipeline.source = (
                ref or pipeline.ref,
                sha or pipeline.sha,
                pipeline_source or pipeline.source,
            )
        owner.last_activity = max(owner.last_activity, at)
        ids = [job.id for pipeline in made for job in self.world.hold(pipeline.id)]
        return {"pipelines": [pipeline.id for pipeline in made], "jobs": ids}

    def _run(self, owner: Project, status: str, jobs: int | None, at: int) -> Pipeline:
        world = self.world
        iid = 1 + max((pipeline.iid for pipeline in world.pipelines_of(owner.id)), default=0)
        plan = {"preparing": "pending", "waiting_for_resource": "pending", "waiting_for_callback": "running"}.get(
            status, status
        )
        plan = {"scheduled": "manual", "canceling": "canceled"}.get(plan, plan)
        identifier = world.next_pipeline()
        pipeline = world.generator.pipeline(owner, identifier, iid, plan, at)
        # So long ago that its last change is now
        begun = at - ((pipeline.updated or at) - at)
        pipeline = world.generator.pipeline(owner, identifier, iid, plan, begun)
        pipeline.status, pipeline.updated = status, at
        if jobs is not None:
            if not 0 <= jobs <= world.generator.jobs:
                raise ValueError(f"A pipeline here has 0 to {world.generator.jobs} jobs, not {jobs}.")
            pipeline.builds = jobs
        world.add_pipeline(pipeline)
        return pipeline

    def finish(
        self,
        *,
        pipeline: int | None = None,
        job: int | None = None,
        status: str = "success",
        reason: str | None = None,
        at: int | None = None,
    ) -> list[int]:
        """End a job, or all of a pipeline; when it fails, one job fails and those that had not begun are skipped."""
        if status not in FINAL:
            raise ValueError(f"What is over is {', '.join(sorted(FINAL))}, not {status!r}.")
        at = _now(at)
        if job is not None:
            one = self._job(job)
            finish(one, status, at, reason=reason)
            self._settle(self.world.pipelines[one.pipeline_id], at)
            return [one.id]
        owner = self._pipeline(pipeline)
        alive = [one for one in self.world.hold(owner.id) if not one.is_over]
        for place, one in enumerate(alive):
            begun = one.started is not None
            outcome = status if place == 0 or status != "failed" else "success" if begun else "skipped"
            finish(one, outcome, at, reason=reason)
        self._end(owner, status, at)
        return [one.id for one in alive]

    def retry(self, *, job: int, status: str = "pending", at: int | None = None) -> int:
        """Run a job again."""
        if status not in STATUSES:
            raise ValueError(f"A job cannot be {status!r}. It can be: {', '.join(STATUSES)}.")
        old, at = self._job(job), _now(at)
        new = again(old, self.world.next_job(), at)
        if status in FINAL:
            finish(new, status, at)
        elif status == "running":
            new.started, new.queued = at, 0.5
        new.status = status
        self.world.add_job(new)
        self._settle(self.world.pipelines[new.pipeline_id], at)
        return new.id

    def delete(self, *, pipeline: int) -> None:
        """Remove a pipeline with its jobs."""
        self.world.delete_pipeline(self._pipeline(pipeline).id)

    def expire(self, *, job: int, at: int | None = None) -> None:
        """Let a job's artifacts expire."""
        one = self._job(job)
        one.expires, one.expired, one.swept = _now(at), True, True

    def erase(self, *, job: int, at: int | None = None) -> None:
        """Erase a job."""
        one = self._job(job)
        one.erased = _now(at)

    def log(self, *, job: int, size: int | None = None, base64: str | None = None) -> int:
        """Give a job another log; its length."""
        line = b"\x1b[32mSYNTHETIC\x1b[0m 2026-06-01T00:00:00Z a line of a log that never ends, padded to be 96 bytes..........\n"
        text = _bytes(base64) if base64 is not None else (line * ((size or 0) // len(line) + 1))[: size or 0]
        self._job(job).log = text
        return len(text)

    def archive(self, *, job: int, kind: str | None = None, base64: str | None = None) -> int:
        """Give a job another archive; its length."""
        one = self._job(job)
        one.archive = _bytes(base64) if base64 is not None else hostile(kind or "")
        one.expired, one.swept, one.erased = False, False, None
        return len(one.archive)

    # --- projects

    def rename(self, *, project: int | str, path: str) -> str:
        """Give a project another last part of its path; the new path."""
        return self._relocate(self._project(project), None, path)

    def move(self, *, project: int | str, namespace: str) -> str:
        """Give a project to another group; the new path."""
        return self._relocate(self._project(project), namespace, None)

    def _relocate(self, project: Project, namespace: str | None, path: str | None) -> str:
        world = self.world
        old, new = project.full_path, f"{namespace or project.namespace}/{path or project.path}"
        if new in world.by_path:
            raise ValueError(f"There is a project at {new} already.")
        world.by_path.pop(old)
        world.moved[old] = project.id
        project.namespace, project.path = namespace or project.namespace, path or project.path
        world.by_path[new] = project.id
        world.moved.pop(new, None)
        return new

    def deny(self, *, project: int | str, status: int = 403) -> None:
        """Let a project answer 403 to all but itself, or hide it."""
        if status not in {403, 404}:
            raise ValueError(f"A project is denied with 403 or 404, not {status}.")
        self.world.denied[self._project(project).id] = status

    def allow(self, *, project: int | str) -> None:
        """Take back what `deny` did."""
        self.world.denied.pop(self._project(project).id, None)

    # --- anything

    def update(
        self,
        *,
        entity: str,
        identifier: int,
        columns: Mapping[str, Any] | None = None,
        remove: Sequence[str] = (),
        at: int | None = None,
    ) -> None:
        """Set keys of an answer, and take others away; `at` also moves a pipeline's updated_at."""
        record = self._record(entity, identifier)
        for key, value in (columns or {}).items():
            record.removed.discard(key)
            record.overrides[key] = value
            _follow(record, key, value)
        record.removed |= set(remove)
        if at is not None and isinstance(record, Pipeline):
            record.updated = at
            record.overrides.pop("updated_at", None)

    def touch(self, *, pipeline: int | None = None, project: int | str | None = None, at: int | None = None) -> None:
        """Move the time of the last change."""
        if pipeline is None and project is not None:
            self._project(project).last_activity = _now(at)
            return
        self._pipeline(pipeline).updated = _now(at)

    def while_paging(self, changes: Sequence[PagingChange], entity: str, read: Endpoint) -> None:
        """Do what is to be done after a request that read a list of this entity."""
        for change in changes:
            if change.entity != entity:
                continue
            self._reads[change] += 1
            due = self._reads[change] % change.every == 0
            if due and (change.times is None or self._paged[change] < change.times):
                self._paged[change] += 1
                self._shift(change.action, entity, read)

    def _shift(self, action: str, entity: str, read: Endpoint) -> None:
        if read.project is None:
            return
        pipelines = [one for one in self.world.pipelines_of(read.project) if one.source != "parent_pipeline"]
        if entity == "Pipeline":
            if action == "insert":
                self.run(project=read.project)
            elif pipelines and action == "delete":
                self.delete(pipeline=pipelines[-1].id)
            elif pipelines:
                self.touch(pipeline=pipelines[0].id)
            return
        jobs = self._listed_jobs(read, pipelines)
        if not jobs:
            return
        if action == "delete":
            self.world.delete_job(jobs[-1])
        elif action == "insert":
            retried = jobs[-1].retried
            added = again(jobs[-1], self.world.next_job(), _now(None))
            jobs[-1].retried, added.name = retried, f"inserted {added.id}"
            self.world.add_job(added)
        else:
            self.touch(pipeline=jobs[0].pipeline_id)

    def _listed_jobs(self, read: Endpoint, pipelines: Sequence[Pipeline]) -> list[Job]:
        """The jobs of the pipeline that was read, or of the newest that has some."""
        wanted = reversed([one.id for one in pipelines]) if read.pipeline is None else [read.pipeline]
        for identifier in wanted:
            if identifier in self.world.pipelines:
                jobs = [job for job in self.world.hold(identifier) if not job.bridge]
                if jobs:
                    return jobs
        return []

    # --- what becomes of a pipeline

    def _settle(self, pipeline: Pipeline, at: int) -> None:
        """Give a pipeline the status that follows from its jobs."""
        jobs = [job for job in self.world.hold(pipeline.id) if not job.retried]
        if all(job.is_over or job.status == "manual" for job in jobs):
            failed = any(job.status == "failed" and not job.allow_failure for job in jobs)
            self._end(pipeline, "failed" if failed else "success", at)
        else:
            pipeline.status, pipeline.updated, pipeline.finished, pipeline.duration = "running", at, None, None

    def _end(self, pipeline: Pipeline, status: str, at: int) -> None:
        pipeline.started = pipeline.started or pipeline.created
        pipeline.queued = pipeline.queued or 0
        pipeline.status, pipeline.updated, pipeline.finished = status, at, at
        pipeline.duration = max(0, (at - pipeline.started) // SECOND)

    # --- finding

    def _project(self, wanted: int | str) -> Project:
        world = self.world
        known = int(wanted) if str(wanted).isdecimal() else world.by_path.get(str(wanted))
        if known not in world.projects:
            raise ValueError(f"There is no project {wanted!r}.")
        return world.projects[known]

    def _pipeline(self, wanted: int | None) -> Pipeline:
        if wanted not in self.world.pipelines:
            raise ValueError(f"There is no pipeline {wanted!r}.")
        return self.world.pipelines[wanted]

    def _job(self, wanted: int) -> Job:
        """A job or bridge, which from now on is kept."""
        found = self.world.job(wanted)
        if found is None:
            raise ValueError(f"There is no job {wanted!r}.")
        self.world.hold(found.pipeline_id)
        return self.world.job(wanted) or found

    def _record(self, entity: str, identifier: int) -> Record:
        finders: dict[str, Callable[[int], Record]] = {
            "Project": self._project,
            "Pipeline": self._pipeline,
            "Job": self._job,
            "Bridge": self._job,
        }
        if entity not in finders:
            raise ValueError(f"GitLab has no entity {entity!r} to update. It has: {', '.join(finders)}.")
        return finders[entity](identifier)


def _follow(record: Record, key: str, value: Any) -> None:
    """Let filters and order see a value that was set, where it is of the kind that they know."""
    if key in _MOMENTS and hasattr(record, _MOMENTS[key]) and (value is None or isinstance(value, str)):
        try:
            setattr(record, _MOMENTS[key], None if value is None else milliseconds(value))
        except ValueError:
            return
    elif key in _FILTERED and hasattr(record, key) and isinstance(value, str | bool):
        setattr(record, key, value)


def _now(at: int | None) -> int:
    return round(time.time() * SECOND) if at is None else at


def _moment(text: Any) -> int:
    try:
        return milliseconds(text)
    except (TypeError, ValueError):
        raise ValueError(f"A moment is in ISO 8601, such as 2026-06-01T12:00:00Z, not {text!r}.") from None


def _bytes(base64: str) -> bytes:
    try:
        return b64decode(base64, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"The bytes must be in base64: {error}.") from None
