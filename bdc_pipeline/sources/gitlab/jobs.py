"""The fetch of jobs: pipeline by pipeline, or a project's jobs as one list by keyset where that takes fewer requests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bdc_pipeline.fetching.answers import BadAnswer, Refused, TimedOut
from bdc_pipeline.fetching.pool import Spawn, Stop
from bdc_pipeline.sources.gitlab import records, values
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import PAGE_SIZE, GitLabClient, identity, is_gone
from bdc_pipeline.sources.gitlab.fetch import UnitTask, rejected_record
from bdc_pipeline.sources.gitlab.plan_units import Unit, UnitsPlan
from bdc_pipeline.sources.gitlab.units import UnitsStream
from bdc_pipeline.warehouse.stored_rows import StoredRows
from bdc_pipeline.warehouse.stream import Event, Plain, Reject, Rows

SLACK = dt.timedelta(minutes=10)
"""How much older than its pipeline a job may say that it is, before the list by keyset is believed to have passed it."""


@dataclass(slots=True)
class _Walk:
    """A project's jobs by keyset, the newest first, as far as some pipelines need them."""

    project_id: int
    units: dict[int, Unit]
    found: dict[int, list[Any]] = field(default_factory=dict)
    pages: int = 0
    most: int = 0


@dataclass(frozen=True, slots=True)
class _OfPipeline:
    """A pipeline's jobs as events, and how many GitLab counts; None where it does not."""

    events: list[Plain]
    total: int | None


class JobsStream(UnitsStream):
    """Fetches the jobs of pipelines, and with them what artifacts they have.

    Args:
        client: where to ask.
        plan: the pipelines.
        stored: the file, for artifacts that are not listed any more.
        workers: requests at the same time.
        stop: ends it early.
        caps: further limits.
    """

    def __init__(
        self,
        client: GitLabClient,
        plan: UnitsPlan,
        *,
        stored: StoredRows,
        workers: int,
        stop: Stop,
        caps: Caps | None = None,
    ) -> None:
        super().__init__(client, t.OF_JOBS, plan, workers=workers, stop=stop, caps=caps)
        self._stored = stored

    def work(self) -> Iterator[Event]:
        """All pipelines at once; a project's list by keyset is one chain beside them."""
        walks: dict[int, _Walk] = {}
        tasks = []
        for unit in self.plan.units:
            if unit.project_id in self.plan.keyset:
                walk = walks.setdefault(unit.project_id, _Walk(unit.project_id, {}))
                walk.units[unit.id] = unit
            else:
                tasks.append(self._of_pipeline(unit))
        for walk in walks.values():
            # behind what many requests would have cost, the rest is asked for by pipeline
            walk.most = max(2, len(walk.units) // 2)
        # chains first: each of their pages waits for the one before
        yield from self.round([*(self._walk(walk, None) for walk in walks.values()), *self.in_turn(tasks)])

    # -- by pipeline -------------------------------------------------------------------------------------------

    def _of_pipeline(self, unit: Unit) -> UnitTask:
        def run(_: Spawn[Any]) -> list[_OfPipeline]:
            path = f"projects/{unit.project_id}/pipelines/{unit.id}/jobs"
            try:
                found, total = self.asked(unit.project_id, lambda: self._every(path, unit))
            except Refused as refused:
                if is_gone(refused):
                    return []  # deleted since it was listed: the next listing says so
                raise
            return [self._rows(unit, found, total)]

        name = f"jobs of pipeline {unit.id} of {self.name_of(unit.project_id)}"
        return UnitTask(name, run, unit.project_id, (unit.day,), unit)

    def _every(self, path: str, unit: Unit) -> tuple[list[Any], int | None]:
        found, total = self.client.every(path, {"include_retried": "true"})
        if not found and unit.started and unit.stored:
            raise BadAnswer(f"{path} lists no job, though the pipeline has run and jobs of it are stored.")
        return found, total

    # -- by keyset ---------------------------------------------------------------------------------------------

    def _walk(self, walk: _Walk, link: str | None) -> UnitTask:
        def run(spawn: Spawn[Any]) -> list[_OfPipeline]:
            path = link or f"projects/{walk.project_id}/jobs"
            params = None if link else _KEYSET
            try:
                page = self.asked(walk.project_id, lambda: self.client.page(path, params))
            except (BadAnswer, TimedOut):
                # such a list is long, and may be too much for the server where each pipeline's own is not
                self._by_pipeline(walk, spawn)
                return []
            walk.pages += 1
            if not page.rows or not _sort_in(page.rows, walk):
                # the end of such a list is a page without a link: one without a row, or with a job that does not name its pipeline,
                # says nothing of what else there is
                self._by_pipeline(walk, spawn)
                return []
            is_behind = _behind(page.rows)
            # where a proxy may have taken the link of a full page away, what such an end has not passed is asked for by itself
            over = page.next is None and (len(page.rows) < PAGE_SIZE or self.client.links_come)
            done = [unit for unit in walk.units.values() if over or is_behind(unit)]
            brought = [one for unit in done for one in self._walked(walk, unit, spawn)]
            if page.next is None:
                self._by_pipeline(walk, spawn)
            elif walk.units:
                if walk.pages < walk.most:
                    spawn(self._walk(walk, page.next))
                else:
                    self._by_pipeline(walk, spawn)
            return brought

        days = tuple(sorted({unit.day for unit in walk.units.values()}))
        return UnitTask(
            f"jobs of {self.name_of(walk.project_id)} page {walk.pages + 1}", run, walk.project_id, days, walk
        )

    def _by_pipeline(self, walk: _Walk, spawn: Spawn[Any]) -> None:
        """Asks for what is left of a list one by one."""
        for unit in walk.units.values():
            spawn(self._of_pipeline(unit))

    def _walked(self, walk: _Walk, unit: Unit, spawn: Spawn[Any]) -> list[_OfPipeline]:
        """A pipeline that the list has passed. One that has run and of which no job came is asked for by itself."""
        del walk.units[unit.id]
        found = walk.found.pop(unit.id, [])
        if not found and unit.started:
            spawn(self._of_pipeline(unit))
            return []
        return [self._rows(unit, found, None)]

    # -- rows --------------------------------------------------------------------------------------------------

    def _rows(self, unit: Unit, found: Sequence[Any], total: int | None) -> _OfPipeline:
        """A pipeline's jobs and artifacts, and that they were fetched."""
        jobs: list[r.Job] = []
        artifacts: list[r.Artifact] = []
        rejects: list[Reject] = []
        # where pages shift while they are read, a job comes on two of them
        for record in {identity(record): record for record in found}.values():
            try:
                row = records.job(record, unit.project_id, unit.day, unit.id)
                handed_in = records.artifacts(record, row)
            except values.Malformed as error:
                rejects.append(rejected_record(t.JOBS, unit.day, record, error))
                continue
            jobs.append(row)
            artifacts += handed_in
        artifacts += self._not_listed(unit, artifacts)
        events: list[Plain] = [
            Rows(t.JOBS, records.with_retries(jobs)),
            Rows(t.ARTIFACTS, artifacts),
            *rejects,
        ]
        if not rejects:
            done = r.PipelineJobs(unit.id, unit.project_id, unit.day, unit.as_of, len(jobs), unit.settled)
            events.append(Rows(t.PIPELINE_JOBS, [done]))
        return _OfPipeline(events, total)

    def _not_listed(self, unit: Unit, artifacts: Sequence[r.Artifact]) -> list[r.Artifact]:
        """The stored artifacts of a pipeline that GitLab lists no more: they have expired or were erased."""
        if not unit.stored:
            return []
        there = {(row.job_id, row.file_type, row.filename) for row in artifacts}
        return [
            msgspec.structs.replace(row, listed=False, day=unit.day)
            for row in self._stored.of(t.ARTIFACTS, "pipeline_id", unit.id)
            if row.listed and (row.job_id, row.file_type, row.filename) not in there
        ]

    def take(self, task: UnitTask, value: Any) -> Iterable[Plain]:
        """Counts what GitLab counts and passes the rest on."""
        del task
        for one in value:
            self.count(t.JOBS, one.total)
            self.count(t.ARTIFACTS, None)
            self.count(t.PIPELINE_JOBS, 1)
            yield from one.events


_KEYSET = {
    "pagination": "keyset",
    "order_by": "id",
    "sort": "desc",
    "per_page": PAGE_SIZE,
    "include_retried": "true",
}


def _sort_in(rows: Sequence[Any], walk: _Walk) -> bool:
    """Puts a page's jobs to their pipelines; false where one does not tell its pipeline."""
    for record in rows:
        pipeline = record.get("pipeline") if isinstance(record, dict) else None
        number = pipeline.get("id") if isinstance(pipeline, dict) else None
        if not isinstance(number, int):
            return False
        if number in walk.units:
            walk.found.setdefault(number, []).append(record)
    return True


def _behind(rows: Sequence[dict[str, Any]]) -> Callable[[Unit], bool]:
    """Tells of a pipeline whether a page of the list is past its jobs: by time, and by ids as well, since the times of a project
    that was imported are in no order. A job that was run again tells of a pipeline that is older than it is itself.
    """
    created = [at for at in map(_created, rows) if at is not None]
    oldest = values.shifted(min(created), SLACK) if created else None
    newest = max(int(record["pipeline"]["id"]) for record in rows)
    return lambda unit: oldest is not None and unit.created_at > oldest and unit.id > newest


def _created(record: dict[str, Any]) -> str | None:
    try:
        return values.moment(record, "created_at")
    except values.Malformed:
        return None
