"""The fetch of projects: those that the token is a member of, or those that were named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from bdc_pipeline.fetching.answers import FetchError, Unauthorized
from bdc_pipeline.fetching.pool import Done, NotTried, Pool, Spawn, Stop, Task
from bdc_pipeline.sources.gitlab import records
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.client import PAGE_SIZE, GitLabClient
from bdc_pipeline.sources.gitlab.fetch import rejected
from bdc_pipeline.warehouse.drain import Drained
from bdc_pipeline.warehouse.stream import Checked, Effort, Event, Missing, Rows, Same
from bdc_pipeline.warehouse.table import Table

MEMBERSHIP = {"membership": "true", "order_by": "id", "sort": "asc", "pagination": "keyset", "per_page": PAGE_SIZE}


@dataclass(frozen=True, slots=True)
class ProjectsPlan:
    """Which projects to ask for; `names` are ids or paths, () for all that the token is a member of. `known` of the named ones
    are stored and were asked for lately."""

    names: tuple[str, ...] = ()
    known: int = 0

    def describe(self) -> dict[str, int]:
        """Counts for the run's log and the UI."""
        return {"named": len(self.names), "known": self.known}


class ProjectsStream:
    """Fetches projects.

    Args:
        client: where to ask.
        plan: which ones.
        workers: requests at the same time.
        stop: ends it early.
    """

    schema = t.SCHEMA
    tables: tuple[Table, ...] = (t.PROJECTS,)

    def __init__(self, client: GitLabClient, plan: ProjectsPlan, *, workers: int, stop: Stop) -> None:
        self.drained: Drained | None = None
        self._client, self._plan, self._workers, self._stop = client, plan, workers, stop

    def stop(self, reason: str) -> None:
        """Asks for nothing more."""
        self._stop.set(reason)

    def effort(self) -> Effort:
        """What has been sent and received."""
        return self._client.effort()

    def __iter__(self) -> Iterator[Event]:
        if self._plan.names or self._plan.known:
            yield from self._named(self._plan.names)
        else:
            yield from self._members()

    def _members(self) -> Iterator[Event]:
        """All projects of the token, by keyset to the end: a project that is not among them has vanished."""
        path, params = "projects", dict[str, Any](MEMBERSHIP)
        page = None
        try:
            while page is None or page.next is not None:
                self._stop.raise_if_set()
                page = self._client.page(path, params) if page is None else self._client.page(page.next or "")
                yield from self._rows(page.rows)
        except FetchError as error:
            yield Missing(t.PROJECTS, (None,), "projects", str(error))
            return
        yield Checked(t.PROJECTS, (None,), None, full=True)

    def _rows(self, found: Sequence[Any], asked_as: str | None = None) -> Iterator[Event]:
        rows: list[r.Project] = []
        for record in found:
            try:
                rows.append(records.project(record, asked_as))
            except records.Malformed as error:
                key = (record["id"],) if isinstance(record, dict) and isinstance(record.get("id"), int) else ()
                yield rejected(t.PROJECTS, None, key, error, records.raw_of(record))
        yield Rows(t.PROJECTS, rows)

    def _named(self, names: Sequence[str]) -> Iterator[Event]:
        """Named projects one by one; others that are stored stay as they are."""
        if self._plan.known:
            yield Same(t.PROJECTS, self._plan.known)
        pool = Pool(self._workers, stop=self._stop, fatal=(Unauthorized,), name="gitlab")
        with closing(pool.run(map(self._task, names))) as outcomes:  # type: ignore[type-var]
            for outcome in outcomes:
                if isinstance(outcome, Done):
                    yield from self._rows([outcome.value], outcome.task.name.removeprefix("project "))
                else:
                    error = outcome.reason if isinstance(outcome, NotTried) else str(outcome.error)
                    yield Missing(t.PROJECTS, (None,), outcome.task.name, error, 1, full=False)
        yield Checked(t.PROJECTS, (None,), len(names) + self._plan.known, full=False, adds_up=True)

    def _task(self, name: str) -> Task[Any]:
        def run(_: Spawn[Any]) -> Any:
            return self._client.project(name)

        return Task(f"project {name}", run)
