"""The generated projects, pipelines and jobs; all follow from sizes and seed, whenever and in whatever order they are asked for.

Pipelines of all projects are started in turn over 45 days, so ids grow with time across projects. Each pipeline has a slot, and
each slot a block of job ids: which pipeline a job belongs to is arithmetic, and jobs need not be kept.

What is there besides plain success: the last pipelines of projects are running, pending or wait for a manual job; every ninth
pipeline, and the last but two, runs the commit of the one before again, which had failed (flaky tests); the default branch is red for up to three
pipelines; some pipelines have a child, start a pipeline of the next project, or were never valid; jobs were retried, erased, had
their artifacts expire, lost their runner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from bdc_pipeline.sandbox.gitlab import words
from bdc_pipeline.sandbox.gitlab.jobs import jobs_of
from bdc_pipeline.sandbox.gitlab.noise import Noise
from bdc_pipeline.sandbox.gitlab.records import DAY, NOW, SECOND, Job, Pipeline, Project

#: How far the pipelines reach back.
DAYS = 45
FIRST_PROJECT, FIRST_PIPELINE, FIRST_JOB = 101, 50_001, 1_000_001
_BEGIN = NOW - DAYS * DAY


@dataclass(frozen=True)
class Generator:
    """Projects, pipelines of each and jobs of each of these. `regular` makes all of them plain and successful."""

    projects: int
    pipelines: int
    jobs: int
    seed: int = 0
    regular: bool = False

    @property
    def stride(self) -> int:
        """How many job ids a pipeline has: jobs, as many retries of them, two bridges."""
        return 2 * self.jobs + 4

    @property
    def slots(self) -> int:
        """How many slots are taken by generated pipelines, with one for a child of each."""
        return 2 * self.projects * self.pipelines

    @cached_property
    def interval(self) -> int:
        """Milliseconds from one pipeline of a project to the next."""
        return DAYS * DAY // self.pipelines

    def first_job(self, slot: int) -> int:
        """The id at which a slot's jobs begin."""
        return FIRST_JOB + slot * self.stride

    def make_projects(self) -> list[Project]:
        """All projects by id."""
        return [self._project(index) for index in range(self.projects)]

    def _project(self, index: int) -> Project:
        group = words.GROUPS[index % len(words.GROUPS)]
        word = words.NAMES[index // len(words.GROUPS) % len(words.NAMES)]
        turn = index // (len(words.GROUPS) * len(words.NAMES))
        path = f"{word}-{turn + 1}" if turn else word
        return Project(
            FIRST_PROJECT + 3 * index,
            group,
            path,
            path.replace("-", " ").title(),
            _BEGIN - (self.projects - index) * DAY,
            self._created(self.pipelines - 1, index),
            index,
            ("private", "internal", "public")[index % 3],
            archived=index % 16 == 11 and not self.regular,
            timestamps=index % 4 == 1,
            topics=words.TOPICS[index % len(words.TOPICS)],
        )

    def make_pipelines(self, project: Project) -> Iterator[Pipeline]:
        """The pipelines of a project by id, children too."""
        iid = 0
        for turn in range(self.pipelines):
            iid += 1
            pipeline = self._generated(project, turn, iid)
            yield pipeline
            if self._has_child(turn, pipeline):
                iid += 1
                yield self._child(pipeline, iid)

    def _generated(self, project: Project, turn: int, iid: int) -> Pipeline:
        identifier = self._id(turn, project.index)
        noise = Noise(self.seed, 1, identifier)
        plan = "success" if self.regular else self._plan(turn, project.index, noise)
        pipeline = self.pipeline(
            project, identifier, iid, plan, self._created(turn, project.index), sha=self._sha(turn, project.index)
        )
        if self._is_red(turn, project.index) or self._is_rerun(turn + 1):
            pipeline.ref, pipeline.tag = "main", False
        if self._is_rerun(turn):
            pipeline.ref, pipeline.tag, pipeline.source = "main", False, "web"
        if not self.regular and plan != "yaml":
            self._link(pipeline, turn, project.index)
        return pipeline

    def pipeline(
        self, project: Project, identifier: int, iid: int, plan: str, created: int, *, sha: str | None = None
    ) -> Pipeline:
        """A pipeline that fits a plan: a status, or yaml for one whose configuration is wrong."""
        noise = Noise(self.seed, 2, identifier)
        on_main, is_tag = noise.chance(0.5), noise.chance(0.06)
        queued = noise.below(20)
        seconds = int(
            (240 + noise.below(1200)) * (1 + 0.5 * (created - _BEGIN) / (DAYS * DAY) * (project.index % 3 == 0))
        )
        started = None if plan in {"skipped", "pending", "created", "yaml"} else created + queued * SECOND + 250
        over = started is not None and plan not in {"running", "manual"}
        finished = started + seconds * SECOND if over and started is not None else None
        return Pipeline(
            identifier,
            iid,
            project.id,
            "main" if on_main else f"v1.{iid}.0" if is_tag else noise.pick(words.BRANCHES),
            sha or noise.hexadecimal(40),
            noise.hexadecimal(40),
            noise.pick(words.SOURCES),
            "failed" if plan == "yaml" else plan,
            plan,
            created,
            _updated(plan, created, started, finished, seconds),
            started,
            finished,
            None if started is None else queued,
            seconds if finished is not None else None,
            round(60 + 39 * noise.unit(), 2) if plan == "success" and project.index % 4 != 3 else None,
            noise.below(len(words.PEOPLE)),
            0 if plan == "yaml" else self.jobs,
            tag=is_tag and not on_main,
            yaml_errors=words.YAML_ERROR if plan == "yaml" else None,
            name="Build pipeline" if noise.chance(0.3) else None,
        )

    def make_jobs(self, pipeline: Pipeline) -> list[Job]:
        """The jobs and bridges of a pipeline by id, retried ones too."""
        return jobs_of(pipeline, self.first_job(pipeline.id - FIRST_PIPELINE), self.seed, regular=self.regular)

    # --- which pipeline is what

    def _id(self, turn: int, index: int) -> int:
        return FIRST_PIPELINE + 2 * (turn * self.projects + index)

    def _created(self, turn: int, index: int) -> int:
        within = self.interval * index // self.projects
        jitter = Noise(self.seed, 3, turn, index).below(max(1, self.interval // self.projects - 1))
        return _BEGIN + turn * self.interval + within + jitter

    def _sha(self, turn: int, index: int) -> str:
        commit = turn - 1 if self._is_rerun(turn) else turn
        return Noise(self.seed, 4, commit, index).hexadecimal(40)

    def _is_rerun(self, turn: int) -> bool:
        last = self.pipelines - 3
        return (turn % 9 == 4 or turn == last > 0) and turn <= last and not self.regular

    def _is_red(self, turn: int, index: int) -> bool:
        return (turn // 3 + index) % 5 == 0 and not self._is_rerun(turn) and not self.regular

    def _plan(self, turn: int, index: int, noise: Noise) -> str:
        if turn == self.pipelines - 1:
            return ("running", "success", "pending", "running", "created")[index % 5]
        if turn == self.pipelines - 2 and index % 3 == 0:
            return "manual"
        if self._is_rerun(turn):
            return "success"
        if self._is_rerun(turn + 1) or self._is_red(turn, index):
            return "failed"
        dice = noise.unit()
        for plan, share in (("success", 0.74), ("failed", 0.88), ("canceled", 0.95), ("skipped", 0.98)):
            if dice < share:
                return plan
        return "yaml"

    def _has_child(self, turn: int, pipeline: Pipeline) -> bool:
        return turn % 8 == 3 and pipeline.plan in {"success", "failed"} and not self.regular

    def _child(self, parent: Pipeline, iid: int) -> Pipeline:
        noise = Noise(self.seed, 5, parent.id)
        middle = parent.created + (0 if parent.duration is None else parent.duration * SECOND // 4)
        seconds = (parent.duration or 100) // 3
        return Pipeline(
            parent.id + 1,
            iid,
            parent.project_id,
            parent.ref,
            parent.sha,
            parent.before_sha,
            "parent_pipeline",
            "success",
            "success",
            middle,
            middle + (seconds + 2) * SECOND,
            middle + SECOND,
            middle + (seconds + 1) * SECOND,
            1,
            seconds,
            None,
            noise.below(len(words.PEOPLE)),
            max(2, self.jobs // 5),
            tag=parent.tag,
            parent=parent.id,
        )

    def _link(self, pipeline: Pipeline, turn: int, index: int) -> None:
        """Its bridges to a child, to the next project, or to nothing yet; and what that makes of it."""
        if self._has_child(turn, pipeline):
            pipeline.downstream.append(pipeline.id + 1)
        if turn % 8 == 6 and index % 2:
            pipeline.source = "pipeline"
        elif turn % 8 == 6 and index < self.projects - 1 and pipeline.started is not None:
            pipeline.downstream.append(self._id(turn, index + 1))
        if pipeline.plan in {"manual", "canceled"} and turn % 2:
            pipeline.downstream.append(None)


def _updated(plan: str, created: int, started: int | None, finished: int | None, seconds: int) -> int:
    if finished is not None:
        return finished + 200
    if started is None:
        return created + 90
    # A pipeline that waits for somebody has not changed since the last automatic job
    return started + (seconds * SECOND if plan == "manual" else 100)
