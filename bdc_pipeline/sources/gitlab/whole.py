"""The fetch of one pipeline: its own page and its bridges, side by side, and what the bridges have started."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bdc_pipeline.fetching.answers import Refused
from bdc_pipeline.fetching.pool import Spawn, Stop
from bdc_pipeline.sources.gitlab import records, values
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import GitLabClient, is_gone
from bdc_pipeline.sources.gitlab.fetch import GitLabStream, ProjectRefused, UnitTask, rejected, rejected_record
from bdc_pipeline.sources.gitlab.plan import PipelinesPlan
from bdc_pipeline.sources.gitlab.windows import Window
from bdc_pipeline.warehouse.stored_rows import StoredRows
from bdc_pipeline.warehouse.stream import Reject


@dataclass(frozen=True, slots=True)
class Whole:
    """A pipeline with its bridges. `row` is None where what is stored of it stays as it is; `gone` where GitLab says that it is no
    more."""

    row: r.Pipeline | None
    bridges: list[r.Bridge]
    rejects: list[Reject]
    id: int
    gone: bool = False


@dataclass(slots=True)
class _Halves:
    """A pipeline's own page and its bridges, asked for side by side: whoever comes second makes them whole.

    `page` is None where GitLab says that it is no more. Where one half failed, nothing comes of the other.
    """

    page: dict[str, Any] | None = None
    bridges: list[Any] = field(default_factory=list)
    came: int = 0
    failed: bool = False


_DETAILED = "SELECT 1 FROM _pipelines WHERE id = ? AND detailed"

_PIPELINE_ADDRESS = re.compile(r"/(.+?)(?:/-)?/pipelines/\d+")


class WholePipelines(GitLabStream):
    """Fetches pipelines that are named by their ids. Which ones, a list tells.

    Args:
        client: where to ask.
        plan: what is listed, and what is stored.
        stored: the file, for what is stored of pipelines outside of the plan's days.
        workers: requests at the same time.
        stop: ends it early.
        caps: further limits.
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
    ) -> None:
        super().__init__(
            client,
            t.OF_PIPELINES,
            plan.days,
            {window.project_id: window.name for window in (*plan.windows, *plan.swept)},
            workers=workers,
            stop=stop,
            limited=plan.limit is not None,
            left_days=plan.left_days,
            caps=caps,
        )
        self.plan, self._stored = plan, stored
        self._asked_for = {window.project_id for window in (*plan.windows, *plan.swept)}
        self._basic: dict[int, r.Pipeline] = {}
        self._taken: set[int] = set()
        self._parents: dict[int, r.Pipeline] = {}
        self._lock = threading.Lock()
        self._paths: dict[str, int | None] = {}

    def known(self, row: r.Pipeline) -> bool:
        """Whether a listed pipeline is stored as it is, and need not be fetched again."""
        held = self.plan.held.get(row.id)
        return (
            not self.plan.force
            and row.id not in self.plan.rejected
            and row.id not in self.plan.unfollowed
            and held is not None
            and held.detailed
            and (held.updated_at, held.status) == (row.updated_at, row.status)
        )

    def claim(self, identifier: int) -> bool:
        """Whether nobody else fetches a pipeline: lists overlap with what bridges lead to."""
        with self._lock:
            new = identifier not in self._taken
            self._taken.add(identifier)
            return new

    def stored_one(self, identifier: int, window: Window) -> UnitTask:
        """A stored pipeline, one request after the other: it may well be gone."""

        def run(spawn: Spawn[Any]) -> Whole:
            return self._whole(identifier, window.project_id, window, spawn)

        return UnitTask(
            f"pipeline {identifier} of {window.name}",
            run,
            window.project_id,
            self._days_of(identifier, window),
            identifier,
        )

    def _days_of(self, identifier: int, window: Window) -> tuple[str, ...]:
        held = self.plan.held.get(identifier)
        return (held.day,) if held is not None and held.day in window.days else window.days

    def listed_one(self, row: r.Pipeline, window: Window, name: str) -> tuple[UnitTask, UnitTask]:
        """A listed pipeline: its own page and its bridges at once."""
        base = _address(row.project_id, row.id)
        halves = _Halves()

        def page(spawn: Spawn[Any]) -> Whole | None:
            return self._joined(halves, row, window, spawn, page=self._own_page(base, row.project_id))

        def bridges(spawn: Spawn[Any]) -> Whole | None:
            return self._joined(halves, row, window, spawn, bridges=self._bridges(base, row.project_id))

        def half(request: Callable[[Spawn[Any]], Whole | None]) -> UnitTask:
            def run(spawn: Spawn[Any]) -> Whole | None:
                try:
                    return request(spawn)
                except Exception:
                    with self._lock:
                        told, halves.failed = halves.failed, True
                    if told:
                        return None  # one failure is told of a pipeline, not two
                    raise

            return UnitTask(name, run, row.project_id, (row.day,), row.id)

        return half(bridges), half(page)

    def _joined(self, halves: _Halves, row: r.Pipeline, window: Window, spawn: Spawn[Any], **came: Any) -> Whole | None:
        """Puts a half to the other; the whole once both are there."""
        with self._lock:
            halves.came += 1
            for name, value in came.items():
                setattr(halves, name, value)
            if halves.came < 2 or halves.failed:
                return None
        if halves.page is None:
            return Whole(None, [], [], row.id, gone=True)
        return self._made(row.id, row.project_id, halves.page, halves.bridges, window, spawn)

    def _own_page(self, base: str, project: int) -> dict[str, Any] | None:
        """A pipeline's own page; None where GitLab says that it is no more."""
        try:
            found: dict[str, Any] = self.asked(project, lambda: self.client.one(base))
        except Refused as refused:
            if not is_gone(refused):
                raise
            return None
        return found

    def _bridges(self, base: str, project: int) -> list[Any]:
        """A pipeline's bridges; none where it is no more, which its own page tells."""
        try:
            found, _ = self.asked(project, lambda: self.client.every(f"{base}/bridges", {"include_retried": "true"}))
        except Refused as refused:
            if not is_gone(refused):
                raise
            return []
        return list(found)

    def _whole(self, identifier: int, project: int, window: Window, spawn: Spawn[Any]) -> Whole:
        """A pipeline's own page, then its bridges."""
        base = _address(project, identifier)
        page = self._own_page(base, project)
        if page is None:
            return Whole(None, [], [], identifier, gone=True)
        return self._made(identifier, project, page, self._bridges(base, project), window, spawn)

    def _made(
        self, identifier: int, project: int, page: dict[str, Any], found: list[Any], window: Window, spawn: Spawn[Any]
    ) -> Whole:
        """The rows of a pipeline and its bridges, and tasks for what these have started."""
        try:
            row = records.pipeline(page, project, detailed=True)
        except values.Malformed as error:
            listed = self._basic.get(identifier)
            day = listed.day if listed is not None else None
            reject = rejected(t.PIPELINES, day, (identifier,), error, values.raw_of(page))
            return Whole(self._unless_stored(listed), [], [reject], identifier)
        found = [self._placed(one) for one in found]
        bridges, rejects = [], []
        for one in found:
            try:
                bridges.append(records.bridge(one, row))
            except values.Malformed as error:
                rejects.append(rejected_record(t.BRIDGES, row.day, one, error))
        self._follow(found, row, window, spawn)
        return Whole(row, records.with_retries(bridges), rejects, identifier)

    def _unless_stored(self, row: r.Pipeline | None) -> r.Pipeline | None:
        """What a list or a bridge says of a pipeline, where its own page has not said more of it before."""
        if row is None or self._stored.values(_DETAILED, row.id):
            return None
        return row

    def _placed(self, bridge: Any) -> Any:
        """A bridge that tells the project of the pipeline that it started: older servers tell it in the address alone.

        Where no project that this token may see has that address, the bridge stays as it is.
        """
        downstream = bridge.get("downstream_pipeline") if isinstance(bridge, dict) else None
        if not isinstance(downstream, dict) or downstream.get("project_id") is not None:
            return bridge
        path = project_path(downstream.get("web_url"), self.client.session.base_url)
        project = None if path is None else self._project_at(path)
        return bridge if project is None else {**bridge, "downstream_pipeline": {**downstream, "project_id": project}}

    def _project_at(self, path: str) -> int | None:
        """The id of the project at an address, asked for once."""
        if path not in self._paths:
            known = next((number for number, name in self.names.items() if name == path), None)
            try:
                self._paths[path] = values.key_of(self.client.project(path)) if known is None else known
            except (Refused, values.Malformed):
                self._paths[path] = None
        return self._paths[path]

    def _follow(self, bridges: list[Any], parent: r.Pipeline, window: Window, spawn: Spawn[Any]) -> None:
        """Adds a task for each pipeline that a bridge has started and that is not stored as it is."""
        for one in bridges:
            downstream = one.get("downstream_pipeline") if isinstance(one, dict) else None
            try:
                project = values.whole(downstream, "project_id") if isinstance(downstream, dict) else None
                if downstream is None or project is None:
                    continue
                identifier = values.key_of(downstream)
            except values.Malformed:
                continue  # so is its bridge, which is rejected
            try:
                row = records.pipeline(downstream, project, detailed=False)
            except values.Malformed:
                row = None  # its own page says more
            if (row is None or not self.known(row)) and self.claim(identifier):
                if project not in self._asked_for:
                    self._parents[identifier] = parent
                if row is not None:
                    self._basic[identifier] = row
                for task in self._downstream(identifier, project, row, parent, window):
                    spawn(task)

    def _downstream(
        self, identifier: int, project: int, row: r.Pipeline | None, parent: r.Pipeline, window: Window
    ) -> Iterable[UnitTask]:
        """A pipeline that a bridge has started. In a project that is not among those asked for, a refusal is no failure: its
        row from the bridge is all that this token may see."""
        name = f"pipeline {identifier} started from {window.name}"
        if row is not None and project in self._asked_for:
            return self.listed_one(row, window, name)
        return [self._abroad(identifier, project, name, parent.day if row is None else row.day, window)]

    def stored_abroad(self, identifier: int) -> UnitTask:
        """A stored pipeline that is not over, in a project that is not: no list brings it, and its parent may be over."""
        held = self.plan.held[identifier]
        name = f"pipeline {identifier} of project {held.project_id}"
        window = Window(held.project_id, str(held.project_id), self.plan.days, after="", before=None)
        return self._abroad(identifier, held.project_id, name, held.day, window)

    def _abroad(self, identifier: int, project: int, name: str, day: str, window: Window) -> UnitTask:
        def run(spawn: Spawn[Any]) -> Whole:
            try:
                return self._whole(identifier, project, window, spawn)
            except ProjectRefused:
                pass
            except Refused as refused:
                if refused.status not in {403, 404}:
                    raise
            return Whole(self._unless_stored(self._basic.get(identifier)), [], [], identifier)

        return UnitTask(name, run, project, (day,), identifier)


def project_path(web_url: Any, base_url: str) -> str | None:
    """The path of a pipeline's project, as the pipeline's address has it: `https://HOST/GROUP/PROJECT/-/pipelines/ID`."""
    below = urlsplit(base_url).path.rstrip("/")
    found = (
        _PIPELINE_ADDRESS.fullmatch(urlsplit(web_url).path.removeprefix(below)) if isinstance(web_url, str) else None
    )
    return found[1] if found else None


def _address(project: int, identifier: int) -> str:
    return f"projects/{project}/pipelines/{identifier}"
