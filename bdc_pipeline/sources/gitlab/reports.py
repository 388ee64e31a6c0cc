"""The fetch of test reports: each once for every state of its pipeline; cases that GitLab has no more are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from bdc_pipeline.fetching.answers import BadAnswer, Refused
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sources.gitlab import report_rows, values
from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import GitLabClient, is_gone
from bdc_pipeline.sources.gitlab.fetch import UnitTask, rejected
from bdc_pipeline.sources.gitlab.plan_units import Unit, UnitsPlan
from bdc_pipeline.sources.gitlab.units import UnitsStream
from bdc_pipeline.warehouse.stored_rows import StoredRows
from bdc_pipeline.warehouse.stream import Plain, Rows


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

    def fetch(self, unit: Unit) -> Iterable[Plain] | None:
        """A pipeline's report, or its summary; None where GitLab has no such pipeline."""
        try:
            return self._report(unit)
        except Refused as refused:
            if not is_gone(refused):
                raise
            return None  # deleted since it was listed: the next listing says so

    def take(self, task: UnitTask, value: Iterable[Plain] | None) -> Iterable[Plain]:
        """Passes a report on; one of a pipeline that is no more is not waited for."""
        del task
        if value is None:
            self.count(t.TEST_REPORTS, -1)
            return ()
        return value

    def _report(self, unit: Unit) -> list[Plain]:
        try:
            report = {} if unit.expired else self._ask(unit, "test_report")
            if values.listed(report, "test_suites") and values.whole(report, "total_count") != 0:
                return self._with_cases(unit, report)
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

    def _with_cases(self, unit: Unit, report: Mapping[str, Any]) -> list[Plain]:
        """A report; where files that it was made of have expired or were erased, with what is known of them."""
        if unit.erased and unit.stored:
            return self._events(unit, report, report, "stored", is_whole=False)
        if unit.partly_expired:
            summary = self._ask(unit, "test_report_summary")
            totals = values.part(summary, "total")
            if (values.whole(totals, "count") or 0) > (values.whole(report, "total_count") or 0):
                return self._events(unit, totals, report_rows.completed(report, summary), "stored", is_whole=False)
        return self._events(unit, report, report, "stored")

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
    ) -> list[Plain]:
        row = report_rows.test_report((unit.id, unit.project_id, unit.day, unit.as_of), totals, state)
        suites: list[r.TestSuite] = []
        cases: list[r.TestCase] = []
        rejects: list[Plain] = []
        unread: set[str | None] = set()
        for place, suite in enumerate(values.listed(report, "test_suites")):
            if not isinstance(suite, dict):
                raise values.Malformed(f"suite {place} is no object")
            suites.append(report_rows.test_suite(row, place, suite))
            for position, case in enumerate(values.listed(suite, "test_cases")):
                try:
                    cases.append(report_rows.test_case(suites[-1], position, case))
                except values.Malformed as error:
                    key = (row.pipeline_id, place, position)
                    rejects.append(rejected(t.TEST_CASES, row.day, key, error, values.raw_of(case)))
                    unread.add(suites[-1].name)
        if not is_whole and unit.stored:
            suites, cases = self._with_expired(unit, suites, cases)
        # which case it was that could not be read is not known, so nothing of its suite counts as replaced
        stored = [one for one in self._stored_outcomes(unit) if one[0] not in unread]
        earlier = report_rows.earlier_outcomes(row, stored, cases)
        if rejects:
            row = msgspec.structs.replace(row, as_of="")  # of no state of the pipeline, so that it is asked for again
        return [
            *rejects,  # first: a reject keeps the row that is stored of it
            Rows(t.TEST_REPORTS, [row]),
            Rows(t.TEST_SUITES, suites, [row.pipeline_id]),
            Rows(t.TEST_CASES, cases, [row.pipeline_id]),
            # what a retried job's cases came to before is nowhere else: GitLab's report is that of the last run
            Rows(t.EARLIER_OUTCOMES, earlier),
        ]

    def _stored_outcomes(self, unit: Unit) -> list[tuple[Any, ...]]:
        return self._stored.values(_OUTCOMES, unit.id) if unit.stored else []

    def _with_expired(
        self, unit: Unit, suites: list[r.TestSuite], cases: list[r.TestCase]
    ) -> tuple[list[r.TestSuite], list[r.TestCase]]:
        """A report with the stored suites and cases that it has no more, since the files that they were in have expired."""
        return report_rows.with_expired(
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
