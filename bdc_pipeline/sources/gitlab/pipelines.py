"""The fetch of pipelines: which projects have changed, their lists, each changed pipeline's own page and its bridges.

A list is believed when as many different ids came as GitLab counts. What of a fully listed day did not come is asked for by its id:
only a pipeline that GitLab says is no more has vanished, since most have moved to a later day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from bdc_pipeline.fetching.answers import FetchError
from bdc_pipeline.fetching.pool import Spawn, Stop
from bdc_pipeline.sources.gitlab import records, values
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import GitLabClient, Page, by_hundreds, identity
from bdc_pipeline.sources.gitlab.fetch import UnitTask, rejected_record
from bdc_pipeline.sources.gitlab.listed import ListedPage, PipelineList
from bdc_pipeline.sources.gitlab.plan import PipelinesPlan
from bdc_pipeline.sources.gitlab.whole import Whole, WholePipelines
from bdc_pipeline.sources.gitlab.windows import Window, start_of, text_of
from bdc_pipeline.warehouse.stored_rows import StoredRows
from bdc_pipeline.warehouse.stream import Checked, Event, Missing, Plain, Rows, Same

ROUNDS = 3
"""How often a list is read through until as many ids came as GitLab counts."""


class PipelinesStream(WholePipelines):
    """Fetches pipelines, their bridges, and what these have started.

    Args:
        client: where to ask.
        plan: what to list.
        stored: the file, for what is stored of pipelines outside of the plan's days.
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
        stored: StoredRows,
        workers: int,
        stop: Stop,
        caps: Caps | None = None,
        graphql: bool = True,
    ) -> None:
        super().__init__(client, plan, stored=stored, workers=workers, stop=stop, caps=caps)
        self._graphql = graphql
        self._lists: list[PipelineList] = []
        self._failed_projects: set[int] = set()
        self._unchanged: dict[int, dt.datetime] = {}
        self._came: set[int] = set()
        self._gone: list[int] = []
        self._unfollowed: set[int] = set()
        self._left = plan.limit

    # -- rounds ------------------------------------------------------------------------------------------------

    def work(self) -> Iterator[Event]:
        """Discovery, lists with details, lists that came short once more, and what did not come."""
        for name in self.plan.unknown:
            self.problem(
                f"project {name}", "it is not among the stored projects, so nothing was asked of it", self.days
            )
        if self.plan.unlisted:
            self.problem("projects", "their list did not come whole, so there may be more of them", self.days)
        changed = self._discover()
        self._lists = [*self._to_list(changed), *self._to_sweep()]
        abroad = [self.stored_abroad(number) for number in self.plan.abroad if self.claim(number)]
        unfollowed = self.plan.unfollowed_by_project()
        one_by_one = [
            self.stored_one(number, window)
            for window in self.plan.windows
            for number in (*window.one_by_one, *unfollowed.get(window.project_id, ()))
            if self.claim(number)
        ]
        yield from self.round([*(self._first_page(one) for one in self._lists), *one_by_one, *abroad])
        for _ in range(ROUNDS - 1):
            short = [one for one in self._lists if one.is_short]
            if not short or self.stopped or self._left == 0:
                break
            for one in short:
                one.begin_again()
            yield from self.round(self._first_page(one) for one in short)
        yield from self._look_for_missing()
        yield from self._conclude()

    def _discover(self) -> set[int]:
        """The projects that GraphQL says have changed; all where it is no help."""
        asked = {window.project_id: window.after for window in self.plan.windows if window.probed}
        changed = {window.project_id for window in self.plan.windows}
        # for a single project it spares something only where that has two lists
        if not self._graphql or len(asked) + any(map(self._has_children, self.plan.windows)) < 2:
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
        told = self.client.changed_since(since, self.plan.having)
        at = self.client.session.server_time or dt.datetime.now(dt.UTC)
        if told is not None:
            yield told, set(since), at
        elif len(since) > 10:
            # over the limit of complexity perhaps: once more in halves
            numbers = sorted(since)
            for half in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
                yield from self._probe({number: since[number] for number in half})

    def _to_list(self, changed: set[int]) -> Iterator[PipelineList]:
        for window in self.plan.windows:
            told = window.project_id in changed
            if told or window.own:
                yield PipelineList(window, children=False)
            # a project's first child pipeline is found by its parent's bridge
            if window.children or (told and self._has_children(window)):
                yield PipelineList(window, children=True)

    def _to_sweep(self) -> Iterator[PipelineList]:
        for window in self.plan.swept:
            for children, wanted in ((False, window.own), (True, window.children)):
                if wanted:
                    yield PipelineList(window, children, swept=True)

    def _has_children(self, window: Window) -> bool:
        return window.project_id in self.plan.with_children

    # -- lists -------------------------------------------------------------------------------------------------

    def _first_page(self, one: PipelineList) -> UnitTask:
        return self._page(one, one.path, one.params, 1)

    def _page(
        self, one: PipelineList, path: str, params: dict[str, Any] | None, number: int, *, follow: bool = True
    ) -> UnitTask:
        def run(spawn: Spawn[Any]) -> ListedPage:
            page = self.asked(one.window.project_id, lambda: self.client.page(path, params))
            if page.next is not None and follow and self._left != 0:
                link = one.chain.link_of(page)
                for task in self._further(one, link, params, page, number):
                    spawn(task)
            return self._compare(page, one) if one.swept else self._read(page, one, spawn)

        return UnitTask(f"{one.label} page {number}", run, one.window.project_id, one.window.days, one)

    def _further(
        self, one: PipelineList, link: str, params: dict[str, Any] | None, page: Page, number: int
    ) -> Iterator[UnitTask]:
        """The pages behind one: all at once where the first has said how many there are, else the next.

        The last of them follows its link all the same: more may have come since.
        """
        last = page.pages if number == 1 and page.pages is not None and self._left is None else 2
        if last == 2 or params is None:
            yield self._page(one, link, None, number + 1)
            return
        for at in range(last, 1, -1):
            yield self._page(one, one.path, {**params, "page": at}, at, follow=at == last)

    def _read(self, page: Page, one: PipelineList, spawn: Spawn[Any]) -> ListedPage:
        """Reads a page, in the thread that fetched it, and adds a task for each pipeline that has changed."""
        found = ListedPage(page)
        for record in page.rows:
            try:
                identifier = values.key_of(record)
                row = records.pipeline(record, one.window.project_id, detailed=False)
            except values.Malformed as error:
                key = values.readable_key(record)
                found.rejects.append(rejected_record(t.PIPELINES, _readable_day(record), record, error))
                found.ids.extend(key)
                found.unread += not key
                continue
            found.ids.append(identifier)
            if self.known(row):
                found.same += self.claim(identifier)
            elif self._within_limit() and self.claim(identifier):
                self._basic[identifier] = row
                for task in self.listed_one(row, one.window, f"pipeline {identifier} of {one.window.name}"):
                    spawn(task)
        return found

    def _compare(self, page: Page, one: PipelineList) -> ListedPage:
        """Reads the ids of a day that was over. One that has come to it opens the day again: what belongs to it comes with the
        next sync."""
        found = ListedPage(page)
        for record in page.rows:
            try:
                row = records.pipeline(record, one.window.project_id, detailed=False)
            except values.Malformed:
                found.ids.append(identity(record))
                continue
            found.ids.append(row.id)
            if row.day in one.window.full and row.id not in self.plan.held:
                with self._lock:
                    one.unknown.setdefault(row.day, set()).add(row.id)
        return found

    def _within_limit(self) -> bool:
        if self._left is None:
            return True
        with self._lock:
            self._left, fits = max(0, self._left - 1), self._left > 0
            return fits

    # -- what comes --------------------------------------------------------------------------------------------

    def take(self, task: UnitTask, value: Any) -> Iterable[Plain]:
        """Counts a page, or passes a pipeline on."""
        if isinstance(value, ListedPage):
            return self._take_page(task.key, value)
        return self._take_whole(value) if value is not None else ()

    def _take_page(self, one: PipelineList, listed: ListedPage) -> Iterator[Plain]:
        one.take(listed)
        if not one.swept:
            self._came.update(listed.ids)
        if listed.same:
            yield Same(t.PIPELINES, listed.same)
        if any(reject.partition is None for reject in listed.rejects):
            self._failed_projects.add(one.window.project_id)  # which day to list again is not known, so all are
        yield from listed.rejects

    def _take_whole(self, whole: Whole) -> Iterator[Plain]:
        parent = self._parents.get(whole.id)
        if whole.rejects and parent is not None:
            # a pipeline of a project that is not asked for comes with its parent alone, so that one is to be fetched again
            self._unfollowed.add(parent.id)
            yield Rows(t.PIPELINES, [msgspec.structs.replace(parent, detailed=False)])
        if whole.row is None:
            if whole.gone and whole.id in self.plan.held:
                self._gone.append(whole.id)
            yield from whole.rejects
            return
        self._came.add(whole.row.id)
        row = whole.row
        if row.id in self._unfollowed or whole.rejects:
            row = msgspec.structs.replace(row, detailed=False)  # asked for again
        yield Rows(t.PIPELINES, [row])
        yield Rows(t.BRIDGES, whole.bridges)
        yield from whole.rejects
        self.count(t.BRIDGES, len(whole.bridges) + sum(reject.table is t.BRIDGES for reject in whole.rejects))

    def failed(self, task: UnitTask, error: Exception) -> Iterable[Plain]:
        """Keeps what the list said of a pipeline whose own page did not come."""
        super().failed(task, error)
        yield from self._lack(task)
        if isinstance(task.key, PipelineList):
            return
        basic = self._unless_stored(self._basic.get(task.key))
        if basic is not None and basic.id not in self.plan.held:
            self._came.add(basic.id)
            yield Rows(t.PIPELINES, [basic])

    def not_tried(self, task: UnitTask, reason: str) -> Iterable[Plain]:
        """Notes it, so that its project is listed from the same moment on again: no later list would bring it."""
        super().not_tried(task, reason)
        yield from self._lack(task)

    def _lack(self, task: UnitTask) -> Iterator[Plain]:
        """Keeps the project of a task that brought nothing from counting as listed. A list that was only compared stays due.

        A pipeline of a project that is not asked for comes with its parent alone, so that one is to be fetched again.
        """
        if isinstance(task.key, PipelineList):
            task.key.failed = True
            if task.key.swept:
                return
        self._failed_projects.add(task.project_id)
        parent = self._parents.get(task.key) if isinstance(task.key, int) else None
        if parent is not None:
            self._failed_projects.add(parent.project_id)
            self._unfollowed.add(parent.id)
            yield Rows(t.PIPELINES, [msgspec.structs.replace(parent, detailed=False)])

    # -- the end -----------------------------------------------------------------------------------------------

    def _look_for_missing(self) -> Iterator[Event]:
        """Asks for each stored pipeline of a fully listed day that did not come: it has moved to another day, or is gone."""
        if self._left is not None or self.stopped:
            return
        tasks = []
        for one in self._lists:
            if one.failed or one.is_short:
                continue
            for number, held in self.plan.held.items():
                of_list = (held.project_id, held.child) == (one.window.project_id, one.children)
                # a list by time holds none without one
                there = number in one.ids or number in self._came or (one.swept and held.updated_at is None)
                if of_list and not there and held.day in one.window.full and self._claim_again(number):
                    tasks.append(self.stored_one(number, one.window))
        for window in self.plan.windows:
            if window.project_id not in self._failed_projects:
                left = [number for number in window.inside if number not in self._came and self._claim_again(number)]
                tasks += [self.stored_one(number, window) for number in left]
        if tasks:
            yield from self.round(tasks)

    def _claim_again(self, identifier: int) -> bool:
        """Whether nobody has asked for a stored pipeline that no list brought; a list may have claimed it before it came short."""
        return self.claim(-identifier)

    def _conclude(self) -> Iterator[Event]:
        """Judges the lists, and notes until when each project was listed."""
        for one in self._lists:
            if one.is_short and self._left is None:
                if not one.swept:
                    self._failed_projects.add(one.window.project_id)
                error = f"GitLab counts {one.total}, {len(one.ids)} different ones came, {ROUNDS} times"
                self.problem(one.label, error, one.window.days)
            if not one.counted and not one.swept:
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
            if one.at is not None and not one.swept:
                known = at.get(one.window.project_id)
                at[one.window.project_id] = one.at if known is None else min(known, one.at)
        for window in self.plan.windows:
            project = window.project_id
            if project in self._failed_projects:
                yield from (self._day(project, day, start_of(day)) for day in sorted(window.full))
            elif project in at:
                for day in window.days:
                    yield self._day(project, day, at[project], compared=day in window.full)
        yield from self._swept_days()

    def _day(self, project: int, day: str, at: dt.datetime, *, compared: bool = False) -> r.ProjectDay:
        return r.ProjectDay(
            project, day, text_of(at), text_of(at) if compared else self.plan.checked.get((project, day))
        )

    def _swept_days(self) -> Iterator[r.ProjectDay]:
        """Days that were compared besides; those of a list that failed stay due."""
        lists = [one for one in self._lists if one.swept]
        broken = {id(one.window) for one in lists if one.failed or one.is_short}
        for window in self.plan.swept:
            if window.project_id in self._failed_projects or id(window) in broken:
                continue
            of_window = [one for one in lists if one.window is window]
            unknown = {day for one in of_window for day in one.unknown}
            if at := min((one.at for one in of_window if one.at is not None), default=None):
                for day in window.days:
                    yield self._day(window.project_id, day, start_of(day) if day in unknown else at, compared=True)

    def gone(self) -> tuple[int, ...]:
        """Stored pipelines of the days that were asked for that GitLab says are no more."""
        return tuple(sorted(set(self._gone) - self._swept_away()))

    def _swept_away(self) -> set[int]:
        days = {(window.project_id, day) for window in self.plan.swept for day in window.days}
        held = self.plan.held
        return {number for number in self._gone if (held[number].project_id, held[number].day) in days}

    def verdict(self) -> Iterator[Event]:
        """What became of the days that were asked for, then of those that were compared besides."""
        yield from super().verdict()
        days = {day for window in self.plan.swept for day in window.days}
        for one in self._lists:
            for day, numbers in one.unknown.items():
                error = (
                    f"pipelines have come to the day after it was over ({len(numbers)}); the next sync lists it again"
                )
                yield Missing(t.PIPELINES, (day,), one.label, error, 0, full=False)
        if gone := self._swept_away():
            told = tuple(sorted(days))
            yield Checked(t.PIPELINES, told, 0, full=False, gone=tuple(sorted(gone)), again=len(gone))


def _readable_day(record: Any) -> str | None:
    """The day of a record that cannot become a row, where that can be read."""
    try:
        moments = (
            [values.moment(record, key) for key in ("updated_at", "created_at")] if isinstance(record, dict) else []
        )
    except values.Malformed:
        return None
    return next((found[:10] for found in moments if found), None)
