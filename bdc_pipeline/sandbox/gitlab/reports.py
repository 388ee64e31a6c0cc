"""Test reports and their summaries, made from a pipeline's jobs.

Only the latest run of each job counts. Parallel parts (`unit 2/9`) are one suite, as GitLab groups them. Names of cases stay the
same from pipeline to pipeline, so that a case has a history; a failed job has at least one case that failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from bdc_pipeline.sandbox.gitlab import words
from bdc_pipeline.sandbox.gitlab.noise import Noise
from bdc_pipeline.sandbox.gitlab.records import Job

#: As a count by status in totals
_COUNTS = {"success": "success_count", "failed": "failed_count", "skipped": "skipped_count", "error": "error_count"}
_PART = re.compile(r"( \d+/\d+|: \[.*\])$")
_SUITE_ERROR = "JUnit XML parsing failed: 1:1: FATAL: Document is empty"


def report(jobs: Sequence[Job], project: int) -> dict[str, Any]:
    """The report with all cases; what has expired or was erased is missing from it."""
    suites = []
    for name, members in _suites(job for job in jobs if job.has_reports):
        cases = [case for job in members for case in _cases(job, project)]
        error = _SUITE_ERROR if not cases else None
        suites.append({"name": name, **_totals(cases), "suite_error": error, "test_cases": cases})
    totals = {
        key: _whole(sum(suite[key] for suite in suites)) for key in ("total_time", "total_count", *_COUNTS.values())
    }
    return {**totals, "test_suites": suites}


def summary(jobs: Sequence[Job], project: int) -> dict[str, Any]:
    """Counts alone; they outlive the files that they were counted in."""
    suites = []
    for name, members in _suites(job for job in jobs if job.reported):
        cases = [case for job in members for case in _cases(job, project)]
        error = _SUITE_ERROR if not cases else None
        suites.append({"name": name, **_totals(cases), "build_ids": [job.id for job in members], "suite_error": error})
    total = {
        short: _whole(sum(suite[key] for suite in suites))
        for short, key in {"time": "total_time", "count": "total_count", **_COUNTS}.items()
    }
    return {"total": {**total, "suite_error": None}, "test_suites": suites}


def _suites(jobs: Iterable[Job]) -> list[tuple[str, list[Job]]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        if not job.retried:
            found.setdefault(_PART.sub("", job.name), []).append(job)
    return sorted(found.items())


def _totals(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    counts = dict.fromkeys(_COUNTS.values(), 0)
    for case in cases:
        counts[_COUNTS[case["status"]]] += 1
    return {
        "total_time": _whole(sum(case["execution_time"] for case in cases)),
        "total_count": len(cases),
        **counts,
    }


def _cases(job: Job, project: int) -> list[dict[str, Any]]:
    """What a job's JUnit file says; nothing if it cannot be parsed."""
    noise = Noise(40, job.id)
    if noise.chance(0.01):
        return []
    # How many there are follows from what is tested, not from when
    count = 5 + Noise(41, project, *job.name.encode()).below(25)
    broken = noise.below(count) if job.status == "failed" else -1
    return [_case(job, place, noise, broken=place == broken) for place in range(count)]


def _case(job: Job, place: int, noise: Noise, *, broken: bool) -> dict[str, Any]:
    status = _status(noise) if not broken else ("error" if noise.chance(0.2) else "failed")
    test = words.TESTS[place % len(words.TESTS)]
    # Every sixth name is the one before again: a case is not known by its name
    number = place // len(words.TESTS) + 1
    bad = status in {"failed", "error"}
    case: dict[str, Any] = {
        "status": status,
        "name": test if test == "repeats" else f"{test} ({number})",
        "classname": words.CLASSES[(len(job.name) + place // 7) % len(words.CLASSES)],
        "file": None if noise.chance(0.2) else f"spec/{test.split()[0]}_spec.rb",
        "execution_time": _seconds(noise),
        "system_output": _output(noise) if bad else _message(noise) if status == "skipped" else None,
        "stack_trace": "spec/totals_spec.rb:12:in 'block'" if status == "error" else None,
        "recent_failures": {"count": 1 + noise.below(5), "base_branch": "main"} if bad and noise.chance(0.6) else None,
    }
    if bad and noise.chance(0.1):
        case["attachment_url"] = f"/-/jobs/{job.id}/artifacts/file/screenshots/{place}.png"
    return case


def _status(noise: Noise) -> str:
    return "skipped" if noise.chance(0.04) else "success"


def _seconds(noise: Noise) -> float:
    """A float, or an integer where it is whole."""
    return _whole(round(20 * noise.unit() ** 4, noise.below(4)))


def _message(noise: Noise) -> str | None:
    return "not on this platform" if noise.chance(0.5) else None


def _output(noise: Noise) -> Any:
    """What a failed case printed: text, nothing, or what XML attributes and repeated elements were turned into."""
    text = "Failure/Error: expect(total).to eq(3)\n\n  expected: 3\n       got: 2"
    return noise.pick(
        (text, text, {"message": "expected 3", "type": "AssertionError", "text": text}, [text, "again"], None)
    )


def _whole(number: float) -> float:
    rounded = round(number, 6)
    return int(rounded) if rounded == int(rounded) else rounded
