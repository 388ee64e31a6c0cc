"""What the fetches of all stages have in common: units of work on one bounded pool, what failed of them, and the verdict.

A unit belongs to a project and to days. One that fails costs its own days; a project that is refused costs one failure, however
many of its units were to be fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from bdc_pipeline.fetching.pool import Done, Failed, Idle, NotTried, Pool, Stop, Task
from bdc_pipeline.fetching.reaching import ERROR_BUDGET, FATAL, Reach
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps, Turns
from bdc_pipeline.sources.gitlab.client import GitLabClient, is_of_project
from bdc_pipeline.sources.gitlab.values import raw_of, readable_key
from bdc_pipeline.warehouse.drain import Drained, DrainOptions
from bdc_pipeline.warehouse.stream import Checked, Effort, Event, Missing, Pause, Plain, Reject, Together
from bdc_pipeline.warehouse.table import Table

COMMIT_SECONDS = 0.5
"""How long rows wait to be written. Few come at a time: a request brings one log, or the jobs of one pipeline."""


TENTH = 10
"""Where there are many units, a tenth of them may fail before the rest is not tried: of 50,000 logs some hundred may be lost for good."""


class ProjectRefused(Exception):  # noqa: N818  (says what happened)
    """A unit that was not asked for, since its project has been refused."""


@dataclass(frozen=True, slots=True)
class UnitTask(Task[Any]):
    """A unit of work: its project, and the days that are incomplete without it."""

    project_id: int
    days: tuple[str, ...]
    key: Any = None


@dataclass(slots=True)
class _Untried:
    count: int = 0
    days: set[str] = field(default_factory=set)


class GitLabStream:
    """Fetches the units of a stage.

    Args:
        client: where to ask.
        tables: those that are filled; what is missing is told of the first.
        days: the partitions.
        names: paths of projects, for messages.
        workers: requests at the same time.
        stop: ends it early.
        limited: an option has cut the units short, so that no day is complete.
        open_days: those whose pipelines are not all there.
        left_days: those of which not all was asked for, so that they are not complete; that is no failure.
        caps: further limits on what is under way at once.
    """

    schema = t.SCHEMA

    def __init__(
        self,
        client: GitLabClient,
        tables: Sequence[Table],
        days: Sequence[str],
        names: Mapping[int, str],
        *,
        workers: int,
        stop: Stop,
        limited: bool = False,
        open_days: Sequence[str] = (),
        left_days: Sequence[str] = (),
        caps: Caps | None = None,
    ) -> None:
        self.tables = tuple(tables)
        self.drained: Drained | None = None
        self.client, self.days, self.names = client, tuple(days), names
        self.limited = limited
        self.caps = caps or Caps()
        self.units = 0
        self.expected_rows: dict[str, int | None] = {table.name: 0 for table in tables}
        self._workers, self._stop = workers, stop
        self._open_days, self._left_days = tuple(open_days), frozenset(left_days)
        self._problems: dict[tuple[str, str], set[str]] = {}
        self._untried: dict[str, _Untried] = {}
        self._refused: dict[int, Exception] = {}
        self._reach = Reach()

    # -- the protocol of streams -------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Asks for nothing more; what is under way has seconds to arrive."""
        self._stop.set(reason)

    def effort(self) -> Effort:
        """What has been sent and received."""
        return self.client.effort()

    def drain_options(self, options: DrainOptions) -> DrainOptions:
        """Writes while requests are under way, lest the last of them be waited for and then all of a second's rows written."""
        return replace(options, commit_seconds=min(options.commit_seconds, COMMIT_SECONDS))

    def __iter__(self) -> Iterator[Event]:
        yield from self.work()
        yield from self.verdict()
        self.client.release()

    # -- for stages --------------------------------------------------------------------------------------------

    def work(self) -> Iterator[Event]:
        """What a stage fetches: rounds of units."""
        raise NotImplementedError

    def take(self, task: UnitTask, value: Any) -> Iterable[Plain]:
        """What a unit brought, in the thread that writes; usually the events themselves."""
        del task
        return cast("Iterable[Plain]", value)

    def idle(self) -> Iterable[Plain]:
        """What a stage does while nothing arrives: what it has put off."""
        return ()

    def round(self, tasks: Iterable[UnitTask]) -> Iterator[Event]:
        """Runs units, all slots busy, and yields what they bring: of each unit all or nothing is stored, since one of its rows says
        that it need not be fetched again.
        """
        pool = Pool(
            self._workers,
            stop=self._stop,
            error_budget=max(ERROR_BUDGET, self.units // TENTH),
            fatal=FATAL,
            implied=(ProjectRefused,),
            name="gitlab",
        )
        turns = Turns(tasks, self.caps, self._stop)
        runs = pool.run_telling_idle(turns)
        with closing(runs) as outcomes, closing(turns):  # type: ignore[type-var]
            for outcome in outcomes:
                if isinstance(outcome, Idle):
                    yield from self.idle()
                    yield Pause()
                    continue
                task = cast("UnitTask", outcome.task)
                turns.ended(task)
                match outcome:
                    case Done(value=value):
                        yield Together(tuple(self.take(task, value)))
                    case Failed(error=error):
                        yield from self.failed(task, error)
                    case NotTried(reason=reason):
                        yield from self.not_tried(task, reason)

    @property
    def stopped(self) -> bool:
        """Whether the run was asked to stop."""
        return self._stop.is_set()

    def failed(self, task: UnitTask, error: Exception) -> Iterable[Plain]:
        """Notes a unit that failed; one whose project was refused is told as the project's failure."""
        if isinstance(error, ProjectRefused) or is_of_project(error):
            cause = self._refused.get(task.project_id, error)
            self.problem(f"project {self.name_of(task.project_id)}", str(cause), task.days)
        else:
            self.problem(task.name, str(error) or type(error).__name__, task.days)
        return ()

    def not_tried(self, task: UnitTask, reason: str) -> Iterable[Plain]:
        """Notes a unit that was not asked for, or not awaited."""
        left = self._untried.setdefault(reason, _Untried())
        left.count += 1
        left.days.update(task.days)
        return ()

    def problem(self, unit: str, error: str, days: Iterable[str]) -> None:
        """Notes what is missing, and of which days."""
        self._problems.setdefault((unit, error), set()).update(days)

    def count(self, table: Table, expected: int | None) -> None:
        """Adds what GitLab counts of a table; None: it does not."""
        so_far = self.expected_rows[table.name]
        self.expected_rows[table.name] = None if so_far is None or expected is None else so_far + expected

    def name_of(self, project_id: int) -> str:
        """A project's path, or its id."""
        return self.names.get(project_id, str(project_id))

    def asked(self, task_project: int, request: Any) -> Any:
        """Makes a request of a unit, by any thread; a project that was refused is not asked again, and a server that is gone is
        told from one that hiccups.

        Raises:
            FetchError: nothing came.
            ProjectRefused: an earlier unit of the project was refused.
        """
        if task_project in self._refused:
            raise ProjectRefused(str(self._refused[task_project]))
        try:
            return self._reach.ask(request)
        except Exception as error:
            if is_of_project(error):
                self._refused.setdefault(task_project, error)
            raise

    # -- the end -----------------------------------------------------------------------------------------------

    def gone(self) -> tuple[int, ...]:
        """Keys of the first table's rows that GitLab says are no more."""
        return ()

    def verdict(self) -> Iterator[Event]:
        """What is missing, and of which days all has come."""
        main = self.tables[0]
        for reason, left in self._untried.items():
            self.problem(f"{left.count} unit{'s' * (left.count != 1)}", reason, left.days)
        if self._open_days:
            unit = f"{main.name} of {_days(len(self._open_days))}"
            self.problem(
                unit,
                "the pipelines of these days are not all there, so neither is what belongs to them",
                self._open_days,
            )
        wanted = set(self.days)
        short: set[str] = set()
        for (unit, error), days in self._problems.items():
            # a pipeline that was followed may lie in a day that was not asked for
            told = tuple(sorted(days & wanted)) or self.days[-1:]
            short.update(told)
            yield Missing(main, told, unit, error, 0, full=False)
        gone = self.gone()
        for table in self.tables:
            yield from self._checked(table, short if table is not main else set(), gone if table is main else ())

    def _checked(self, table: Table, short: set[str], gone: tuple[int, ...]) -> Iterator[Event]:
        rest = tuple(day for day in self.days if day in short or day in self._left_days)
        whole = tuple(day for day in self.days if day not in rest)
        expected = self.expected_rows[table.name]
        if whole:
            yield Checked(
                table,
                whole,
                expected,
                full=False,
                limited=self.limited,
                adds_up=not self.limited,
                gone=gone,
                again=len(gone),
            )
        if rest:
            # what is missing was told of the main table; this one is just not complete
            yield Checked(
                table,
                rest,
                None if expected is None else 0 if whole else expected,
                full=False,
                limited=True,
                gone=() if whole else gone,
                again=0 if whole else len(gone),
            )


def _days(number: int) -> str:
    return f"{number} day{'s' * (number != 1)}"


def rejected(table: Table, day: str | None, key: tuple[int | str, ...], error: Exception, raw: str) -> Reject:
    """A record that cannot become a row."""
    return Reject(table, day, key, str(error), raw[:20_000])


def rejected_record(table: Table, day: str | None, record: Any, error: Exception) -> Reject:
    """A record with an id of its own that cannot become a row, kept without what must not be kept of it."""
    return rejected(table, day, readable_key(record), error, raw_of(record))
