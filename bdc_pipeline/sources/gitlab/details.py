"""The fetch of what hangs on jobs and pipelines: logs and test reports. Each is fetched once; what GitLab has no more is kept."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bdc_pipeline.fetching.answers import BadAnswer, Refused, TooLarge
from bdc_pipeline.fetching.pool import Spawn, Stop
from bdc_pipeline.sources.gitlab import logs, reports, values
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import SMALL, GitLabClient, is_forbidden, is_gone
from bdc_pipeline.sources.gitlab.fetch import GitLabStream, UnitTask, rejected
from bdc_pipeline.sources.gitlab.plan import Unit, UnitsPlan
from bdc_pipeline.sources.gitlab.windows import SETTLING
from bdc_pipeline.warehouse.stored_rows import StoredRows
from bdc_pipeline.warehouse.stream import Event, Rows, Same
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
        self.plan = plan
        self._readable: set[int] = set()

    def work(self) -> Iterator[Event]:
        """All units."""
        self.units = len(self.plan.units)
        self.count(self.tables[0], self.units)
        for table in self.tables[1:]:
            self.count(table, None if self.plan.units else 0)
        tasks = [self._task(unit) for unit in self.plan.units]
        # those that failed last time at the end, lest they keep others from being tried each time
        yield from self.round(sorted(tasks, key=lambda task: task.name in self.plan.failed))

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


# -- logs ------------------------------------------------------------------------------------------------------


SHORT = 256 * 1024
"""Bytes up to which a log is read by the thread that writes, while the slot that brought it asks for the next one. A longer one would
hold up the writing, and many of them the memory."""


MOST_PUT_OFF = 64
"""Short logs that wait to be read."""


@dataclass(frozen=True, slots=True)
class _Came:
    """A short log as it came."""

    unit: Unit
    raw: bytes | bytearray


class LogsStream(UnitsStream):
    """Fetches logs.

    Args:
        client: where to ask.
        plan: the jobs.
        stored: the file, for rows of logs that are gone from GitLab.
        most_bytes: larger ones are marked and left out.
        now: the time (UTC).
        workers: requests at the same time.
        stop: ends it early.
        caps: further limits.
    """

    what = "log of job"

    def __init__(
        self,
        client: GitLabClient,
        plan: UnitsPlan,
        *,
        stored: StoredRows,
        most_bytes: int,
        now: str,
        workers: int,
        stop: Stop,
        caps: Caps | None = None,
    ) -> None:
        super().__init__(client, t.OF_LOGS, plan, workers=workers, stop=stop, caps=caps)
        self._stored, self._most, self._now = stored, most_bytes, now
        self._large = threading.Semaphore(2)
        self._came: list[tuple[UnitTask, _Came]] = []
        self._awaited = len(plan.units)

    def work(self) -> Iterator[Event]:
        """Marks logs of jobs that were erased since, one after the other, and fetches."""
        self.count(t.JOB_LOGS, len(self.plan.again))
        for job in self.plan.again:
            yield Rows(t.JOB_LOGS, [msgspec.structs.replace(self._stored.one(t.JOB_LOGS, job), gone_at=self._now)])
        yield from super().work()
        yield from self.idle()

    def fetch(self, unit: Unit) -> Any:
        """A log, or why there is none."""
        if unit.size is not None and unit.size > self._most:
            return _unless_stored(unit, "too_large", unit.size)
        if (unit.size or 0) <= SMALL:
            with contextlib.suppress(TooLarge):
                return self._log(unit, large=False)
        with self._large:
            return self._log(unit, large=True)

    def take(self, task: UnitTask, value: r.JobLog | Same | _Came) -> Iterable[Event]:
        """Passes a row on; a short log is read when nothing arrives."""
        if not isinstance(value, _Came):
            return [value if isinstance(value, Same) else Rows(t.JOB_LOGS, [value])]
        self._came.append((task, value))
        self._awaited -= 1
        # behind the last request nothing is held up any more
        return self.idle() if len(self._came) >= MOST_PUT_OFF or self._awaited < self._workers else ()

    def idle(self) -> Iterable[Event]:
        """Reads the logs that have come."""
        came, self._came = self._came, []
        rows = []
        for task, one in came:
            try:
                rows.append(self._row(one.unit, one.raw))
            except Exception as error:  # noqa: BLE001 - as in the pool's threads: whatever it is, it is this log's failure alone
                self.failed(task, error)
        return [Rows(t.JOB_LOGS, rows)] if rows else ()

    def _log(self, unit: Unit, *, large: bool) -> r.JobLog | Same | _Came:
        try:
            raw = self.requested(unit, lambda: self.client.log(unit.project_id, unit.id, large=large))
        except TooLarge:
            if not large:
                raise
            # where no artifact tells its size, it is known to be over the limit: a higher one asks for it again
            return _unless_stored(unit, "too_large", unit.size or self._most + 1)
        except Refused as refused:
            if not is_gone(refused):
                raise
            return self._kept(unit) if unit.stored else _without(unit, "missing", unit.size)
        except Forbidden:
            return _unless_stored(unit, "forbidden", unit.size)
        return self._read(unit, raw)

    def _read(self, unit: Unit, raw: bytes | bytearray) -> r.JobLog | Same | _Came:
        if len(raw) > self._most:
            return _unless_stored(unit, "too_large", len(raw))
        if raw:
            return _Came(unit, raw) if len(raw) <= SHORT else self._row(unit, raw)
        if unit.stored:
            return self._kept(unit)
        # 200 without a byte: no log yet, or erased. With an artifact of a log there is one
        return _without(unit, "partial" if self._is_partial(unit, 0) else "empty", unit.size)

    def _kept(self, unit: Unit) -> r.JobLog | Same:
        """The stored log, marked: GitLab has it no more. While a job is young it may just be on its way to the archive."""
        if self._is_young(unit):
            return Same(t.JOB_LOGS, 1)
        row: r.JobLog = self._stored.one(t.JOB_LOGS, unit.id)
        return msgspec.structs.replace(row, gone_at=row.gone_at or self._now, day=unit.day)

    def _row(self, unit: Unit, raw: bytes | bytearray) -> r.JobLog:
        found = logs.parsed(raw)
        return r.JobLog(
            id=unit.id,
            pipeline_id=unit.pipeline_id,
            project_id=unit.project_id,
            day=unit.day,
            state="partial" if self._is_partial(unit, len(raw)) else "complete",
            gone_at=None,
            size=found.size,
            sha256=found.sha256,
            lines=found.lines,
            invalid_bytes=found.invalid_bytes,
            sections=msgspec.json.encode(found.sections).decode(),
            error_lines="\n".join(found.error_lines),
            text=found.text,
            text_cut=found.text_cut,
            raw=logs.compressed(raw),
        )

    def _is_partial(self, unit: Unit, size: int) -> bool:
        """Whether a log is shorter than its artifact, or too young to be sure that it is whole."""
        return size < unit.size if unit.size is not None else self._is_young(unit)

    def _is_young(self, unit: Unit) -> bool:
        return bool(unit.as_of) and values.shifted(unit.as_of, SETTLING) > self._now


def _unless_stored(unit: Unit, state: str, size: int | None) -> r.JobLog | Same:
    """A row that says why there is no log, unless one is stored from before: that one stays."""
    return Same(t.JOB_LOGS, 1) if unit.stored else _without(unit, state, size)


def _without(unit: Unit, state: str, size: int | None) -> r.JobLog:
    """A row that says why there is no log."""
    return r.JobLog(
        id=unit.id,
        pipeline_id=unit.pipeline_id,
        project_id=unit.project_id,
        day=unit.day,
        state=state,
        gone_at=None,
        size=size if size is not None and state == "too_large" else None,
        sha256=None,
        lines=None,
        invalid_bytes=None,
        sections=None,
        error_lines=None,
        text=None,
        text_cut=False,
        raw=None,
    )


# -- tests -----------------------------------------------------------------------------------------------------


class TestsStream(UnitsStream):
    """Fetches test reports; where the cases have expired, the counts that are left.

    Args:
        client: where to ask.
        plan: the pipelines.
        stored: the file, for rows of reports whose cases have expired.
        now: the time (UTC).
        workers: requests at the same time.
        stop: ends it early.
        caps: further limits.
    """

    what = "tests of pipeline"
    __test__ = False

    def __init__(
        self,
        client: GitLabClient,
        plan: UnitsPlan,
        *,
        stored: StoredRows,
        now: str,
        workers: int,
        stop: Stop,
        caps: Caps | None = None,
    ) -> None:
        super().__init__(client, t.OF_TESTS, plan, workers=workers, stop=stop, caps=caps)
        self._stored, self._now = stored, now

    def fetch(self, unit: Unit) -> Iterable[Event] | None:
        """A pipeline's report, or its summary; None where GitLab has no such pipeline."""
        try:
            return self._report(unit)
        except Refused as refused:
            if not is_gone(refused):
                raise
            return None  # deleted since it was listed: the next listing says so

    def take(self, task: UnitTask, value: Iterable[Event] | None) -> Iterable[Event]:
        """Passes a report on; one of a pipeline that is no more is not waited for."""
        del task
        if value is None:
            self.count(t.TEST_REPORTS, -1)
            return ()
        return value

    def _report(self, unit: Unit) -> list[Event]:
        try:
            report = {} if unit.expired else self._ask(unit, "test_report")
            if values.listed(report, "test_suites") and values.whole(report, "total_count") != 0:
                if not unit.partly_expired:
                    return self._events(unit, report, report, "stored")
                summary = self._ask(unit, "test_report_summary")
                totals = values.part(summary, "total")
                if (values.whole(totals, "count") or 0) <= (values.whole(report, "total_count") or 0):
                    return self._events(unit, report, report, "stored")
                return self._events(unit, totals, reports.completed(report, summary), "stored", is_whole=False)
            if unit.stored:
                return [Rows(t.TEST_REPORTS, [self._kept(unit)])]
            summary = self._ask(unit, "test_report_summary")
            totals = values.part(summary, "total")
            count = values.whole(totals, "count")
            if count and not unit.expired and not unit.partly_expired:
                raise BadAnswer(
                    f"the report has no test case, its summary counts {count}, and none of its files has expired."
                )
            return self._events(unit, totals, summary, "expired" if count else "none")
        except values.Malformed as error:
            return [rejected(t.TEST_REPORTS, unit.day, (unit.id,), error, json.dumps({"pipeline": unit.id}))]

    def _ask(self, unit: Unit, what: str) -> dict[str, Any]:
        path = f"projects/{unit.project_id}/pipelines/{unit.id}/{what}"
        found: dict[str, Any] = self.asked(unit.project_id, lambda: self.client.one(path))
        return found

    def _kept(self, unit: Unit) -> r.TestReport:
        """The stored report, marked: GitLab has the cases no more."""
        row: r.TestReport = self._stored.one(t.TEST_REPORTS, unit.id)
        return msgspec.structs.replace(row, gone_at=row.gone_at or self._now, as_of=unit.as_of, day=unit.day)

    def _events(
        self,
        unit: Unit,
        totals: Mapping[str, Any],
        report: Mapping[str, Any],
        state: str,
        *,
        is_whole: bool = True,
    ) -> list[Event]:
        row = reports.test_report((unit.id, unit.project_id, unit.day, unit.as_of), totals, state)
        suites: list[r.TestSuite] = []
        cases: list[r.TestCase] = []
        rejects: list[Event] = []
        unread: set[str | None] = set()
        for place, suite in enumerate(values.listed(report, "test_suites")):
            if not isinstance(suite, dict):
                raise values.Malformed(f"suite {place} is no object")
            suites.append(reports.test_suite(row, place, suite))
            for position, case in enumerate(values.listed(suite, "test_cases")):
                try:
                    cases.append(reports.test_case(suites[-1], position, case))
                except values.Malformed as error:
                    key = (row.pipeline_id, place, position)
                    rejects.append(rejected(t.TEST_CASES, row.day, key, error, values.raw_of(case)))
                    unread.add(suites[-1].name)
        # which case it was that could not be read is not known, so nothing of its suite counts as replaced
        stored = [one for one in self._stored_outcomes(unit) if one[0] not in unread]
        earlier = reports.earlier_outcomes(row, stored, cases)
        if not is_whole and unit.stored:
            suites, cases = self._with_expired(unit, suites, cases)
        if rejects:
            row = msgspec.structs.replace(row, as_of="")  # of no state of the pipeline, so that it is asked for again
        return [
            Rows(t.TEST_REPORTS, [row]),
            Rows(t.TEST_SUITES, suites, [row.pipeline_id]),
            # a reject keeps the row that is stored of it, so the cases that are gone are found all the same
            Rows(t.TEST_CASES, cases, [row.pipeline_id]),
            # what a retried job's cases came to before is nowhere else: GitLab's report is that of the last run
            Rows(t.EARLIER_OUTCOMES, earlier),
            *rejects,
        ]

    def _stored_outcomes(self, unit: Unit) -> list[tuple[Any, ...]]:
        return self._stored.values(_OUTCOMES, unit.id) if unit.stored else []

    def _with_expired(
        self, unit: Unit, suites: list[r.TestSuite], cases: list[r.TestCase]
    ) -> tuple[list[r.TestSuite], list[r.TestCase]]:
        """A report with the stored suites and cases that it has no more, since the files that they were in have expired."""
        return reports.with_expired(
            suites,
            cases,
            self._stored.of(t.TEST_SUITES, "pipeline_id", unit.id, live=True),
            self._stored.of(t.TEST_CASES, "pipeline_id", unit.id, live=True),
        )


_OUTCOMES = (
    "SELECT c.suite_name, c.classname, c.name, c.status, r.as_of FROM test_cases c JOIN test_reports r USING (pipeline_id) "
    "WHERE pipeline_id = ? AND c.vanished_at IS NULL"
)
"""The outcomes of a pipeline's cases as they are stored, and the pipeline's state at which they were so."""
