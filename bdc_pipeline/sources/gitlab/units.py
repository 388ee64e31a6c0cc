"""What the stages behind the pipelines have in common: units that a plan names, each fetched by a request or two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bdc_pipeline.fetching.answers import Refused
from bdc_pipeline.fetching.pool import Spawn, Stop
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import GitLabClient, is_forbidden
from bdc_pipeline.sources.gitlab.fetch import GitLabStream, UnitTask
from bdc_pipeline.sources.gitlab.plan_units import Unit, UnitsPlan
from bdc_pipeline.warehouse.stream import Event
from bdc_pipeline.warehouse.table import Table


class Forbidden(Exception):  # noqa: N818  (says what happened)
    """The token may not read this log or archive, though it may read the project's pipelines."""


class UnitsStream(GitLabStream):
    """Fetches a plan's units, one request or two of each; `what` is how one is called in messages."""

    what = "unit"

    def __init__(
        self,
        client: GitLabClient,
        tables: tuple[Table, ...],
        plan: UnitsPlan,
        *,
        workers: int,
        stop: Stop,
        caps: Caps | None = None,
    ) -> None:
        super().__init__(
            client,
            tables,
            plan.days,
            plan.names,
            workers=workers,
            stop=stop,
            limited=plan.limited,
            open_days=plan.open_days,
            left_days=plan.left_days,
            caps=caps,
        )
        self.plan, self.units = plan, len(plan.units)
        self._readable: set[int] = set()

    def work(self) -> Iterator[Event]:
        """All units."""
        self.count(self.tables[0], self.units)
        for table in self.tables[1:]:
            self.count(table, None if self.plan.units else 0)
        yield from self.round(self.in_turn(self._task(unit) for unit in self.plan.units))

    def in_turn(self, tasks: Iterable[UnitTask]) -> list[UnitTask]:
        """Tasks with those that failed last time at the end, lest they keep others from being tried each time."""
        return sorted(tasks, key=lambda task: task.name in self.plan.failed)

    def _task(self, unit: Unit) -> UnitTask:
        def run(_: Spawn[Any]) -> Any:
            return self.fetch(unit)

        name = f"{self.what} {unit.id} of {self.name_of(unit.project_id)}"
        return UnitTask(name, run, unit.project_id, (unit.day,), unit)

    def fetch(self, unit: Unit) -> Any:
        """What a unit brings, by any thread: events, or what `take` makes events of."""
        raise NotImplementedError

    def requested(self, unit: Unit, request: Callable[[], Any]) -> Any:
        """Makes a request for a file, which may be forbidden by itself: a log of a job with debugging on.

        Raises:
            FetchError: nothing came.
            Forbidden: the token may not read this one, though it may read the project's pipelines.
        """
        return self.asked(unit.project_id, lambda: self._told_apart(unit, request))

    def _told_apart(self, unit: Unit, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except Refused as refused:
            if not is_forbidden(refused):
                raise
            if unit.project_id not in self._readable:
                # raises where it is the project that is refused
                self.client.page(f"projects/{unit.project_id}/pipelines", {"per_page": 1})
                self._readable.add(unit.project_id)
            raise Forbidden(str(refused)) from None
