"""The fetch of projects: those that the token is a member of, or those that were named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from bdc_pipeline.fetching.answers import FetchError, Refused, Unauthorized
from bdc_pipeline.fetching.pool import Done, NotTried, Pool, Spawn, Stop, Task
from bdc_pipeline.sources.gitlab import records, values
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.client import PAGE_SIZE, GitLabClient, identity
from bdc_pipeline.sources.gitlab.fetch import rejected_record
from bdc_pipeline.warehouse.drain import Drained
from bdc_pipeline.warehouse.stream import Checked, Effort, Event, Missing, Rows, Same
from bdc_pipeline.warehouse.table import Table

MEMBERSHIP = {"membership": "true", "order_by": "id", "sort": "asc", "per_page": PAGE_SIZE}


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
        self._client.release()

    def _members(self) -> Iterator[Event]:
        """All projects of the token: one that is not among them has vanished."""
        try:
            found, total = self._counted()
            if found is None:
                found, total = self._one_by_one(), None
            for page in found:
                yield from self._rows(page)
        except FetchError as error:
            yield Missing(t.PROJECTS, (None,), "projects", _told(error))
            return
        yield Checked(t.PROJECTS, (None,), total, full=True)

    def _counted(self) -> tuple[Iterable[list[Any]] | None, int | None]:
        """The pages by offset, as GitLab counts them: one request for up to a hundred projects. None where it does not count
        (above 10,000), or where other projects than it counts came.
        """
        first = self._client.page("projects", MEMBERSHIP)
        if first.total is None or first.pages is None:
            return None, None
        numbers = range(2, first.pages + 1)
        pool = Pool(self._workers, stop=self._stop, error_budget=0, name="gitlab")
        with closing(pool.run(map(self._page, numbers))) as outcomes:  # type: ignore[type-var]
            pages = [first.rows, *(outcome.value for outcome in outcomes if isinstance(outcome, Done))]
        self._stop.raise_if_set()
        came = {identity(row) for page in pages for row in page}
        return (pages, first.total) if len(came) == first.total else (None, None)

    def _page(self, number: int) -> Task[Any]:
        def run(_: Spawn[Any]) -> list[Any]:
            return self._client.page("projects", {**MEMBERSHIP, "page": number}).rows

        return Task(f"projects page {number}", run)

    def _one_by_one(self) -> Iterator[list[Any]]:
        """The pages by keyset, each with the link to the next; the one behind the last is empty. By offset where no links come."""
        keyset = {"pagination": "keyset"} if self._client.links_come else {}
        for page in self._client.pages("projects", MEMBERSHIP | keyset):
            yield page.rows
            self._stop.raise_if_set()

    def _rows(self, found: Sequence[Any], asked_as: str | None = None) -> Iterator[Event]:
        rows: list[r.Project] = []
        for record in found:
            try:
                rows.append(records.project(record, asked_as))
            except values.Malformed as error:
                yield rejected_record(t.PROJECTS, None, record, error)
        yield Rows(t.PROJECTS, rows)

    def _named(self, names: Sequence[str]) -> Iterator[Event]:
        """Named projects one by one; others that are stored stay as they are."""
        if self._plan.known:
            yield Same(t.PROJECTS, self._plan.known)
        pool = Pool(self._workers, stop=self._stop, fatal=(Unauthorized,), name="gitlab")
        came, ids = 0, set[Any]()
        with closing(pool.run(map(self._task, names))) as outcomes:  # type: ignore[type-var]
            for outcome in outcomes:
                if isinstance(outcome, Done):
                    # one that is named by its id and by its path is one
                    came += identity(outcome.value) not in ids
                    ids.add(identity(outcome.value))
                    yield from self._rows([outcome.value], outcome.task.name.removeprefix("project "))
                else:
                    error = outcome.reason if isinstance(outcome, NotTried) else str(outcome.error)
                    yield Missing(t.PROJECTS, (None,), outcome.task.name, error, 1, full=False)
        yield Checked(t.PROJECTS, (None,), came + self._plan.known, full=False, adds_up=True)

    def _task(self, name: str) -> Task[Any]:
        def run(_: Spawn[Any]) -> Any:
            return self._client.project(name)

        return Task(f"project {name}", run)


def _told(error: FetchError) -> str:
    """What went wrong. Every GitLab has such a list, so that a 404 is the answer of something else."""
    if isinstance(error, Refused) and error.status == 404:
        return f"{error} Is GITLAB_URL the address of a GitLab, with its path if it has one?"
    return str(error)
