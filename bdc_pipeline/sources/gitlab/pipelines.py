"""The fetch of pipelines: which projects have changed, their lists, each changed pipeline's own page and its bridges.

A list is believed when as many different ids came as GitLab counts. What of a fully listed day did not come is asked for by its id:
only a pipeline that GitLab says is no more has vanished, since most have moved to a later day.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bdc_pipeline.fetching.answers import FetchError, Refused
from bdc_pipeline.fetching.pool import Spawn, Stop
from bdc_pipeline.sources.gitlab import records
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import PAGE_SIZE, GitLabClient, Page, by_hundreds, is_of_project
from bdc_pipeline.sources.gitlab.fetch import GitLabStream, UnitTask, rejected
from bdc_pipeline.sources.gitlab.plan import PipelinesPlan
from bdc_pipeline.sources.gitlab.windows import Window, start_of, text_of
from bdc_pipeline.warehouse.stream import Event, Reject, Rows, Same

ROUNDS = 3
"""How often a list is read through until as many ids came as GitLab counts."""


@dataclass(slots=True)
class _List:
    """A list of a project's pipelines under way. What came is noted by the thread that writes."""

    window: Window
    children: bool
    total: int | None = None
    counted: bool = True
    ids: set[int] = field(default_factory=set)
    at: dt.datetime | None = None
    failed: bool = False
    unread: int = 0

    @property
    def label(self) -> str:
        return f"project {self.window.name} {'child ' * self.children}pipelines"

    @property
    def is_short(self) -> bool:
        return not self.failed and self.total is not None and len(self.ids) + self.unread < self.total


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a page of a list brought."""

    page: Page
    ids: list[int]
    same: int
    rejects: list[Reject]
    unread: int


@dataclass(frozen=True, slots=True)
class _Whole:
    """A pipeline with its bridges; `row` is None where GitLab says that it is no more."""

    row: r.Pipeline | None
    bridges: list[r.Bridge]
    rejects: list[Reject]
    id: int = 0


class PipelinesStream(GitLabStream):
    """Fetches pipelines, their bridges, and what these have started.

    Args:
        client: where to ask.
        plan: what to list.
        workers: requests at the same time.
        stop: ends it early.
        caps: further limits.
        graphql: ask GraphQL first which projects have changed.
    """

    def __init__(
        self,
        client: GitLabClient,
        plan: PipelinesPlan,
        *,
        workers: int,
        stop: Stop,
        caps: Caps | None = None,
        graphql: bool = True,
    ) -> None:
        names = {window.project_id: window.name for window in plan.windows}
        super().__init__(
            client,
            t.OF_PIPELINES,
            plan.days,
            names,
            workers=workers,
            stop=stop,
            limited=plan.limit is not None,
            caps=caps,
        )
        self.plan = plan
        self._graphql = graphql
        self._lists: list[_List] = []
        self._windows = {window.project_id: window for window in plan.windows}
        self._taken: set[int] = set()
        self._lock = threading.Lock()
        self._failed_projects: set[int] = set()
        self._unchanged: dict[int, dt.datetime] = {}
        self._came: set[int] = set()
        self._gone: list[int] = []
        self._basic: dict[int, r.Pipeline] = {}
        self._left = plan.limit

    # -- rounds ------------------------------------------------------------------------------------------------

    def work(self) -> Iterator[Event]:
        """Discovery, lists with details, lists that came short once more, and what did not come."""
        for name in self.plan.unknown:
            self.problem(
                f"project {name}", "it is not among the stored projects, so nothing was asked of it", self.days
            )
        changed = self._discover()
        self._lists = list(self._to_list(changed))
        one_by_one = [self._detail(number, window) for window in self.plan.windows for number in window.one_by_one]
        yield from self.round([*(self._first_page(one) for one in self._lists), *one_by_one])
        for _ in range(ROUNDS - 1):
            short = [one for one in self._lists if one.is_short]
            if not short or self.stopped or self._left == 0:
                break
            for one in short:
                one.ids, one.unread, one.total = set(), 0, None
            yield from self.round(self._first_page(one) for one in short)
        yield from self._look_for_missing()
        yield from self._conclude()

    def _discover(self) -> set[int]:
        """The projects that GraphQL says have changed; all where it is no help."""
        asked = {window.project_id: window.after for window in self.plan.windows if window.probed}
        changed = {window.project_id for window in self.plan.windows}
        if not self._graphql or len(asked) < 2:
            return changed
        try:
            for group in by_hundreds(sorted(asked)):
                for told, projects, at in self._probe({project: asked[project] for project in group}):
                    changed -= projects - told
                    self._unchanged |= dict.fromkeys(projects - told, at)
        except FetchError:
            pass  # the lists say what is wrong
        return changed

    def _probe(self, since: dict[int, str]) -> Iterator[tuple[set[int], set[int], dt.datetime]]:
        """What GraphQL tells of some projects: those that changed, those that it was asked about, and when."""
        told = self.client.changed_since(since)
        at = self.client.session.server_time or dt.datetime.now(dt.UTC)
        if told is not None:
            yield told, set(since), at
        elif len(since) > 10:
            # over the limit of complexity perhaps: once more in halves
            numbers = sorted(since)
            for half in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
                yield from self._probe({number: since[number] for number in half})

    def _to_list(self, changed: set[int]) -> Iterator[_List]:
        for window in self.plan.windows:
            told = window.project_id in changed
            if told or window.own:
                yield _List(window, children=False)
            # a project's first child pipeline is found by its parent's bridge
            if window.children or (told and self._has_children(window)):
                yield _List(window, children=True)

    def _has_children(self, window: Window) -> bool:
        return any(one.child and one.project_id == window.project_id for one in self.plan.held.values())

    # -- lists -------------------------------------------------------------------------------------------------

    def _first_page(self, one: _List) -> UnitTask:
        params: dict[str, Any] = {
            "updated_after": one.window.after,
            "order_by": "id",
            "sort": "asc",
            "per_page": PAGE_SIZE,
        }
        if one.window.before is not None:
            params["updated_before"] = one.window.before
        if one.children:
            params["source"] = "parent_pipeline"
        return self._page(one, f"projects/{one.window.project_id}/pipelines", params, 1)

    def _page(self, one: _List, path: str, params: dict[str, Any] | None, number: int) -> UnitTask:
        def run(spawn: Spawn[Any]) -> _Listed:
            page = self.asked(one.window.project_id, lambda: self.client.page(path, params))
            if page.next is not None and self._left != 0:
                spawn(self._page(one, page.next, None, number + 1))
            return self._read(page, one, spawn)

        return UnitTask(f"{one.label} page {number}", run, one.window.project_id, one.window.days, one)

    def _read(self, page: Page, one: _List, spawn: Spawn[Any]) -> _Listed:
        """Reads a page, in the thread that fetched it, and adds a task for each pipeline that has changed."""
        found = _Listed(page, [], 0, [], 0)
        same = unread = 0
        for record in page.rows:
            try:
                identifier = records.key_of(record)
                row = records.pipeline(record, one.window.project_id, detailed=False)
            except records.Malformed as error:
                key = (record["id"],) if isinstance(record, dict) and isinstance(record.get("id"), int) else ()
                found.rejects.append(rejected(t.PIPELINES, None, key, error, records.raw_of(record)))
                found.ids.extend(key)
                unread += not key
                continue
            found.ids.append(identifier)
            held = self.plan.held.get(identifier)
            if held and held.detailed and (held.updated_at, held.status) == (row.updated_at, row.status):
                same += self._claim(identifier)
            elif self._within_limit() and self._claim(identifier):
                self._basic[identifier] = row
                spawn(self._detail(identifier, one.window, row))
        return _Listed(page, found.ids, same, found.rejects, unread)

    def _claim(self, identifier: int) -> bool:
        """Whether nobody else fetches a pipeline: lists overlap with what bridges lead to."""
        with self._lock:
            new = identifier not in self._taken
            self._taken.add(identifier)
            return new

    def _within_limit(self) -> bool:
        if self._left is None:
            return True
        with self._lock:
            self._left, fits = max(0, self._left - 1), self._left > 0
            return fits

    # -- one pipeline ------------------------------------------------------------------------------------------

    def _detail(self, identifier: int, window: Window, listed: r.Pipeline | None = None) -> UnitTask:
        project = window.project_id if listed is None else listed.project_id

        def run(spawn: Spawn[Any]) -> _Whole:
            return self._whole(identifier, project, window, spawn)

        days = window.days if listed is None else (listed.day,)
        return UnitTask(f"pipeline {identifier} of {window.name}", run, project, days, identifier)

    def _whole(self, identifier: int, project: int, window: Window, spawn: Spawn[Any]) -> _Whole:
        base = f"projects/{project}/pipelines/{identifier}"
        try:
            record = self.asked(project, lambda: self.client.one(base))
        except Refused as refused:
            if refused.status != 404 or is_of_project(refused):
                raise
            return _Whole(None, [], [], identifier)
        try:
            row = records.pipeline(record, project, detailed=True)
        except records.Malformed as error:
            listed = self._basic.get(identifier)
            day = listed.day if listed is not None else None
            return _Whole(
                listed, [], [rejected(t.PIPELINES, day, (identifier,), error, records.raw_of(record))], identifier
            )
        found, _ = self.asked(project, lambda: self.client.every(f"{base}/bridges", {}))
        bridges, rejects = [], []
        for one in found:
            try:
                bridges.append(records.bridge(one, row))
            except records.Malformed as error:
                key = (one["id"],) if isinstance(one, dict) and isinstance(one.get("id"), int) else ()
                rejects.append(rejected(t.BRIDGES, row.day, key, error, records.raw_of(one)))
        self._follow(found, window, spawn)
        return _Whole(row, bridges, rejects, identifier)

    def _follow(self, bridges: list[Any], window: Window, spawn: Spawn[Any]) -> None:
        """Adds a task for each pipeline that a bridge has started and that is not stored as it is."""
        for one in bridges:
            downstream = one.get("downstream_pipeline") if isinstance(one, dict) else None
            try:
                row = records.pipeline(downstream, window.project_id, detailed=False) if downstream else None
            except records.Malformed:
                continue  # its own list or page says what is wrong with it
            if row is None:
                continue
            held = self.plan.held.get(row.id)
            known = held and held.detailed and (held.updated_at, held.status) == (row.updated_at, row.status)
            if not known and self._claim(row.id):
                self._basic[row.id] = row
                spawn(self._downstream(row, window))

    def _downstream(self, row: r.Pipeline, window: Window) -> UnitTask:
        """A pipeline that a bridge has started. In a project that is not among those asked for, a refusal is no failure: its
        row from the bridge is all that this token may see."""

        def run(spawn: Spawn[Any]) -> _Whole:
            try:
                return self._whole(row.id, row.project_id, window, spawn)
            except Refused as refused:
                if row.project_id in self._windows or refused.status not in {403, 404}:
                    raise
                return _Whole(row, [], [], row.id)

        return UnitTask(f"pipeline {row.id} started from {window.name}", run, row.project_id, (row.day,), row.id)

    # -- what comes --------------------------------------------------------------------------------------------

    def take(self, task: UnitTask, value: Any) -> Iterable[Event]:
        """Counts a page, or passes a pipeline on."""
        if isinstance(value, _Listed):
            return self._take_page(task.key, value)
        return self._take_whole(value)

    def _take_page(self, one: _List, listed: _Listed) -> Iterator[Event]:
        page = listed.page
        one.ids.update(listed.ids)
        one.unread += listed.unread
        one.at = min(one.at, page.at) if one.at is not None else page.at
        one.counted = one.counted and page.total is not None
        if page.total is not None:
            one.total = page.total
        self._came.update(listed.ids)
        if listed.same:
            yield Same(t.PIPELINES, listed.same)
        yield from listed.rejects

    def _take_whole(self, whole: _Whole) -> Iterator[Event]:
        if whole.row is None:
            if whole.id in self.plan.held:
                self._gone.append(whole.id)
            return
        self._came.add(whole.row.id)
        yield Rows(t.PIPELINES, [whole.row])
        yield Rows(t.BRIDGES, whole.bridges, [whole.row.id] if whole.row.detailed else [])
        yield from whole.rejects
        self.count(t.BRIDGES, len(whole.bridges) + sum(reject.table is t.BRIDGES for reject in whole.rejects))

    def failed(self, task: UnitTask, error: Exception) -> Iterable[Event]:
        """Keeps what the list said of a pipeline whose own page did not come."""
        super().failed(task, error)
        self._failed_projects.add(task.project_id)
        if isinstance(task.key, _List):
            task.key.failed = True
        elif task.key in self._basic and task.key not in self.plan.held:
            self._came.add(task.key)
            return [Rows(t.PIPELINES, [self._basic[task.key]])]
        return ()

    # -- the end -----------------------------------------------------------------------------------------------

    def _look_for_missing(self) -> Iterator[Event]:
        """Asks for each stored pipeline of a fully listed day that did not come: it has moved to another day, or is gone."""
        if self._left is not None or self.stopped:
            return
        doubtful = {one.window.project_id for one in self._lists if one.failed or one.is_short}
        listed = {(one.window.project_id, one.children) for one in self._lists} - {
            (project, children) for project in doubtful for children in (False, True)
        }
        tasks = []
        for number, held in self.plan.held.items():
            window = self._windows.get(held.project_id)
            if window is None or number in self._came or held.day not in window.full:
                continue
            if (held.project_id, held.child) in listed and self._claim(-number):
                tasks.append(self._detail(number, window))
        if tasks:
            yield from self.round(tasks)

    def _conclude(self) -> Iterator[Event]:
        """Judges the lists, and notes until when each project was listed."""
        for one in self._lists:
            if one.is_short and self._left is None:
                self._failed_projects.add(one.window.project_id)
                error = f"GitLab counts {one.total}, {len(one.ids)} different ones came, {ROUNDS} times"
                self.problem(one.label, error, one.window.days)
            if not one.counted:
                self.count(t.PIPELINES, None)
        self.count(t.PIPELINES, len(self._came))
        days = [] if self._left is not None or self.stopped else list(self._listed_days())
        self.count(t.PROJECT_DAYS, len(days))
        yield Rows(t.PROJECT_DAYS, days)

    def _listed_days(self) -> Iterator[r.ProjectDay]:
        """A project of which anything failed keeps its old times, so that the next listing begins where this one did; days that
        were to be listed in full count as not listed at all.
        """
        at = dict(self._unchanged)
        for one in self._lists:
            if one.at is not None:
                known = at.get(one.window.project_id)
                at[one.window.project_id] = one.at if known is None else min(known, one.at)
        for project, window in self._windows.items():
            if project in self._failed_projects:
                yield from (r.ProjectDay(project, day, text_of(start_of(day))) for day in sorted(window.full))
                continue
            if project not in at:
                continue
            for day in window.days:
                yield r.ProjectDay(project, day, text_of(at[project]))

    def gone(self) -> tuple[int, ...]:
        """Stored pipelines that GitLab says are no more."""
        return tuple(dict.fromkeys(self._gone))
