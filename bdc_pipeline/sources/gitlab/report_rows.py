"""Test reports and their summaries as rows: totals, suites, cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bdc_pipeline.sources.gitlab import rows as r
from bdc_pipeline.sources.gitlab.values import Malformed, listed, number, shown, text, whole

RAN = frozenset({"success", "failed", "error"})
"""What a test case can come to that ran; one that was skipped tells nothing of itself."""


def test_report(of: Sequence[Any], totals: Mapping[str, Any], state: str) -> r.TestReport:
    """The totals of a report or of a summary; `of` are pipeline, project, day and the pipeline's state.

    Raises:
        Malformed: a total is no number.
    """
    pipeline_id, project_id, day, token = of
    return r.TestReport(
        pipeline_id=pipeline_id,
        project_id=project_id,
        day=day,
        as_of=token,
        state=state,
        gone_at=None,
        total_time=number(totals, "total_time" if "total_time" in totals else "time"),
        total_count=whole(totals, "total_count" if "total_count" in totals else "count"),
        success_count=whole(totals, "success_count" if "success_count" in totals else "success"),
        failed_count=whole(totals, "failed_count" if "failed_count" in totals else "failed"),
        skipped_count=whole(totals, "skipped_count" if "skipped_count" in totals else "skipped"),
        error_count=whole(totals, "error_count" if "error_count" in totals else "error"),
    )


def test_suite(of: r.TestReport, position: int, suite: Mapping[str, Any]) -> r.TestSuite:
    """A suite of a report or of a summary.

    Raises:
        Malformed: it cannot become a row.
    """
    return r.TestSuite(
        pipeline_id=of.pipeline_id,
        position=position,
        project_id=of.project_id,
        day=of.day,
        name=text(suite, "name"),
        total_time=number(suite, "total_time"),
        total_count=whole(suite, "total_count"),
        success_count=whole(suite, "success_count"),
        failed_count=whole(suite, "failed_count"),
        skipped_count=whole(suite, "skipped_count"),
        error_count=whole(suite, "error_count"),
        suite_error=text(suite, "suite_error"),
        job_ids=[found for found in listed(suite, "build_ids") if isinstance(found, int)],
    )


def test_case(of: r.TestSuite, position: int, case: Any) -> r.TestCase:
    """A case of a suite.

    Raises:
        Malformed: it cannot become a row.
    """
    if not isinstance(case, dict):
        raise Malformed(f"the case is {shown(case)} where an object is expected")
    recent = case.get("recent_failures")
    return r.TestCase(
        pipeline_id=of.pipeline_id,
        suite=of.position,
        position=position,
        project_id=of.project_id,
        day=of.day,
        suite_name=of.name,
        status=text(case, "status"),
        name=text(case, "name"),
        classname=text(case, "classname"),
        file=text(case, "file"),
        execution_time=number(case, "execution_time"),
        system_output=text_or_json(case.get("system_output")),
        stack_trace=text_or_json(case.get("stack_trace")),
        recent_failures=whole(recent, "count") if isinstance(recent, dict) else None,
        attachment_url=text(case, "attachment_url"),
    )


def earlier_outcomes(
    of: r.TestReport, stored: Iterable[Sequence[Any]], cases: Iterable[r.TestCase]
) -> list[r.EarlierOutcome]:
    """The outcomes that test cases of a pipeline had and have no more: their jobs were run again.

    By names, since places in a report move where a run ended early. A name that several cases have keeps an outcome as long as one
    of them has it.

    Args:
        of: the new report.
        stored: the cases as they are stored: suite's name, class, name, status, and the pipeline's state at which it was so.
        cases: those of the new report.
    """
    remain = {(case.suite_name, case.classname, case.name, case.status) for case in cases}
    gone = Counter(tuple(one) for one in stored if one[3] in RAN and tuple(one[:4]) not in remain)
    return [
        r.EarlierOutcome(
            pipeline_id=of.pipeline_id,
            suite_name=suite or "",
            classname=classname or "",
            name=name or "",
            status=status,
            project_id=of.project_id,
            day=of.day,
            cases=count,
            as_of=as_of,
        )
        for (suite, classname, name, status, as_of), count in gone.items()
    ]


def completed(report: Mapping[str, Any], summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """A report of which some files have expired, with the suites, and the counts of suites, that the summary still has.

    Raises:
        Malformed: its suites are no list of objects.
    """
    counted = {text(suite, "name"): suite for suite in listed(summary, "test_suites") if isinstance(suite, dict)}
    suites = []
    for suite in listed(report, "test_suites"):
        if not isinstance(suite, dict):
            raise Malformed(f"a suite is {shown(suite)} where an object is expected")
        suites.append({**suite, **counted.pop(text(suite, "name"), {})})
    return {**report, "test_suites": [*suites, *counted.values()]}


def with_expired(
    suites: Sequence[r.TestSuite],
    cases: Sequence[r.TestCase],
    stored_suites: Iterable[r.TestSuite],
    stored_cases: Iterable[r.TestCase],
) -> tuple[list[r.TestSuite], list[r.TestCase]]:
    """A pipeline's suites and cases, with stored ones behind them that did not come, at places of their own.

    Suites are told apart by their names, cases by suite, class and name; where several have one name, as many stay as there were.
    """
    places = {suite.name: suite.position for suite in suites}
    rows = list(suites)
    for old in stored_suites:
        if old.name not in places:
            places[old.name] = len(places)
            rows.append(
                msgspec.structs.replace(old, position=places[old.name], day=suites[0].day if suites else old.day)
            )
    came = Counter((case.suite_name, case.classname, case.name) for case in cases)
    ends = Counter(case.suite for case in cases)
    kept = list(cases)
    for former in stored_cases:
        identity = former.suite_name, former.classname, former.name
        if came[identity] > 0:
            came[identity] -= 1
        elif former.suite_name in places:
            place = places[former.suite_name]
            kept.append(msgspec.structs.replace(former, suite=place, position=ends[place], day=rows[0].day))
            ends[place] += 1
    return rows, kept


def text_or_json(value: Any) -> str | None:
    """A text as it is, a structure as JSON: what a JUnit file's elements were turned into."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
