"""The generated data as it stands: what was changed is kept, the rest is made again when it is asked for."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property

from bdc_pipeline.sandbox.gitlab.generate import FIRST_JOB, FIRST_PIPELINE, Generator
from bdc_pipeline.sandbox.gitlab.records import Job, Pipeline, Project

#: How many unchanged pipelines' jobs are remembered; who reads a job list asks for logs of the same jobs next.
_REMEMBERED = 512


class World:
    """Projects, pipelines and jobs, by id."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        #: paths that projects once had: what is asked under them is answered with 301
        self.moved: dict[str, int] = {}
        #: projects that answer 403 or 404
        self.denied: dict[int, int] = {}
        self._changed: dict[int, list[Job]] = {}
        self._recent: OrderedDict[int, list[Job]] = OrderedDict()
        #: slots that hold one later job of a pipeline: its pipeline
        self._later: dict[int, int] = {}
        self._free = generator.slots

    @cached_property
    def projects(self) -> dict[int, Project]:
        """All projects by id, ascending."""
        return {project.id: project for project in self.generator.make_projects()}

    @cached_property
    def pipelines(self) -> dict[int, Pipeline]:
        """All pipelines by id, in no order."""
        made = (self.generator.make_pipelines(project) for project in self.projects.values())
        return {pipeline.id: pipeline for pipelines in made for pipeline in pipelines}

    @cached_property
    def _slots(self) -> dict[int, list[int]]:
        """The slots of each project, ascending."""
        found: dict[int, list[int]] = {project: [] for project in self.projects}
        for pipeline in self.pipelines.values():
            found[pipeline.project_id].append(pipeline.id - FIRST_PIPELINE)
        for slots in found.values():
            slots.sort()
        return found

    @cached_property
    def by_path(self) -> dict[str, int]:
        """The ids of projects by their path today."""
        return {project.full_path: project.id for project in self.projects.values()}

    def load(self) -> None:
        """Make all that is kept."""
        self._slots  # noqa: B018  # makes them

    def pipelines_of(self, project: int) -> list[Pipeline]:
        """A project's pipelines by id, children too."""
        return [self.pipelines[slot + FIRST_PIPELINE] for slot in self._slots[project] if slot not in self._later]

    def jobs_of(self, pipeline: int) -> list[Job]:
        """A pipeline's jobs and bridges by id, retried ones too."""
        found = self._at(pipeline - FIRST_PIPELINE)
        if not self._later:
            return found
        later = [slot for slot, owner in self._later.items() if owner == pipeline]
        return [*found, *(job for slot in later for job in self._changed[slot])]

    def jobs_below(self, project: int, before: int | None) -> Iterator[Job]:
        """A project's jobs with lower ids than one, the newest first; no bridges."""
        slots = self._slots[project]
        end = len(slots) if before is None else bisect_left(slots, self._slot(before) + 1)
        for slot in reversed(slots[:end]):
            for job in reversed(self._at(slot)):
                if not job.bridge and (before is None or job.id < before):
                    yield job

    def job(self, identifier: int) -> Job | None:
        """One job or bridge."""
        slot = self._slot(identifier)
        owner = self._later.get(slot, slot + FIRST_PIPELINE)
        if identifier < FIRST_JOB or owner not in self.pipelines:
            return None
        return next((job for job in self._at(slot) if job.id == identifier), None)

    def project_of(self, job: Job) -> Project:
        """The project that a job belongs to."""
        return self.projects[self.pipelines[job.pipeline_id].project_id]

    # --- changing

    def hold(self, pipeline: int) -> list[Job]:
        """The jobs of a pipeline, to be changed: from now on they are kept."""
        slot = pipeline - FIRST_PIPELINE
        self._changed.setdefault(slot, self._at(slot))
        return self.jobs_of(pipeline)

    def next_pipeline(self) -> int:
        """An id above all others."""
        self._free += 1
        return FIRST_PIPELINE + self._free - 1

    def add_pipeline(self, pipeline: Pipeline) -> None:
        """A new pipeline, with the id of `next_pipeline`."""
        self._slots[pipeline.project_id].append(pipeline.id - FIRST_PIPELINE)
        self.pipelines[pipeline.id] = pipeline

    def next_job(self) -> int:
        """An id above those of all jobs."""
        return self.generator.first_job(self._free)

    def add_job(self, job: Job) -> None:
        """A later job of a pipeline, with the id of `next_job`."""
        insort(self._slots[self.pipelines[job.pipeline_id].project_id], self._free)
        self._later[self._free] = job.pipeline_id
        self._changed[self._free] = [job]
        self._free += 1

    def delete_pipeline(self, identifier: int) -> None:
        """Remove a pipeline with its jobs."""
        pipeline = self.pipelines[identifier]
        slots = self._slots[pipeline.project_id]
        mine = {identifier - FIRST_PIPELINE, *(slot for slot, owner in self._later.items() if owner == identifier)}
        slots[:] = [slot for slot in slots if slot not in mine]
        for slot in mine:
            self._changed.pop(slot, None)
            self._recent.pop(slot, None)
            self._later.pop(slot, None)
        del self.pipelines[identifier]

    def delete_job(self, job: Job) -> None:
        """Remove one job, as no API does but a clean-up may."""
        self.hold(job.pipeline_id)
        slot = self._slot(job.id)
        self._changed[slot].remove(job)

    # --- where jobs are

    def _slot(self, job: int) -> int:
        return (job - FIRST_JOB) // self.generator.stride

    def _at(self, slot: int) -> list[Job]:
        """The jobs of a slot, made if no change keeps them."""
        found = self._changed.get(slot)
        if found is not None:
            return found
        found = self._recent.get(slot)
        if found is None:
            pipeline = self.pipelines.get(slot + FIRST_PIPELINE)
            found = [] if pipeline is None else self.generator.make_jobs(pipeline)
            self._recent[slot] = found
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        else:
            self._recent.move_to_end(slot)
        return found
