"""GitLab's objects as rows: which of their keys become columns, and what is made of the types that answers really have.

A key that is missing is NULL, one that is unknown is left out. Among scalars the kind may differ (coverage comes as text and as a
number); a structure in place of a scalar makes the record a reject.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bdc_pipeline.sources.gitlab import rows as r

FINAL = frozenset({"success", "failed", "canceled", "skipped"})
BLOCKED = frozenset({"manual", "scheduled"})

EPOCH = "1970-01-01"
"""The day of pipelines that tell neither when they changed nor when they were made."""


class Malformed(ValueError):  # noqa: N818  (says what the record is)
    """A record that cannot become a row: says which key, and what it holds."""


def is_alive(status: str | None) -> bool:
    """Whether a status may change without anybody's doing; one that is not known may."""
    return status not in FINAL and status not in BLOCKED


# -- values ----------------------------------------------------------------------------------------------------


def text(record: Mapping[str, Any], key: str) -> str | None:
    """A text.

    Raises:
        Malformed: it is a structure.
    """
    value = record.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value)
    raise Malformed(f"`{key}` holds {_shown(value)} where a text is expected")


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A number, which may come as text: a pipeline's coverage is "68.49".

    Raises:
        Malformed: it is no number.
    """
    value = record.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            found = float(value)
        except (ValueError, OverflowError):
            found = math.nan
        if math.isfinite(found):
            return found
    raise Malformed(f"`{key}` holds {_shown(value)} where a number is expected")


def whole(record: Mapping[str, Any], key: str) -> int | None:
    """A whole number; exact up to 64 bits.

    Raises:
        Malformed: it is none.
    """
    value = record.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        return int(value)
    raise Malformed(f"`{key}` holds {_shown(value)} where a whole number is expected")


def flag(record: Mapping[str, Any], key: str) -> bool | None:
    """A truth value.

    Raises:
        Malformed: it is none.
    """
    value = record.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise Malformed(f"`{key}` holds {_shown(value)} where true or false is expected")


def moment(record: Mapping[str, Any], key: str) -> str | None:
    """A time in UTC with milliseconds: `2026-05-31T23:59:59.000Z`. Such texts sort by time.

    Raises:
        Malformed: it is no time in ISO 8601.
    """
    value = record.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Malformed(f"`{key}` holds {_shown(value)} where a time is expected")
    if len(value) == 24 and value[23] == "Z" and value[10] == "T":
        _parsed(key, value)
        return value
    parsed = _parsed(key, value)
    return f"{parsed.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%S}.{parsed.microsecond // 1000:03d}Z"


def _parsed(key: str, value: str) -> dt.datetime:
    try:
        parsed = dt.datetime.fromisoformat(value)
    except ValueError:
        raise Malformed(f"`{key}` holds {_shown(value)} where a time is expected") from None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=dt.UTC)


def part(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object below a record; an empty one where it is null or missing.

    Raises:
        Malformed: it is no object.
    """
    value = record.get(key)
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise Malformed(f"`{key}` holds {_shown(value)} where an object is expected")


def listed(record: Mapping[str, Any], key: str) -> list[Any]:
    """A list below a record; an empty one where it is null or missing.

    Raises:
        Malformed: it is no list.
    """
    value = record.get(key)
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise Malformed(f"`{key}` holds {_shown(value)} where a list is expected")


def key_of(record: Any) -> int:
    """A record's id.

    Raises:
        Malformed: it is no object, or has none.
    """
    if not isinstance(record, dict):
        raise Malformed(f"the record is {_shown(record)} where an object is expected")
    value = record.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Malformed(f"`id` holds {_shown(value)} where a whole number is expected")


def raw_of(record: Any) -> str:
    """A record as JSON, without what must not be kept."""
    if isinstance(record, dict):
        record = {key: value for key, value in record.items() if key not in _SECRET}
    return msgspec.json.encode(record).decode()


_SECRET = frozenset({"runners_token", "ci_job_token", "user", "commit", "runner", "runner_manager", "owner"})
"""Keys of a rejected record that are not kept: a token, and objects that hold mail addresses and addresses of machines."""


def _shown(value: Any) -> str:
    told = msgspec.json.encode(value).decode()
    return told if len(told) <= 60 else f"{told[:60]}..."


# -- projects and pipelines ------------------------------------------------------------------------------------


def project(record: Any, asked_as: str | None = None) -> r.Project:
    """A project; `asked_as` is the id or path by which it was asked for.

    Raises:
        Malformed: it cannot become a row.
    """
    identifier, path = key_of(record), text(record, "path_with_namespace")
    by_former_path = asked_as is not None and asked_as.lower() not in {str(identifier), (path or "").lower()}
    return r.Project(
        id=identifier,
        path=path,
        asked_as=asked_as if by_former_path else None,
        name=text(record, "name"),
        namespace=text(part(record, "namespace"), "full_path"),
        default_branch=text(record, "default_branch"),
        visibility=text(record, "visibility"),
        archived=flag(record, "archived"),
        topics=[str(topic) for topic in listed(record, "topics" if record.get("topics") is not None else "tag_list")],
        created_at=moment(record, "created_at"),
        last_activity_at=moment(record, "last_activity_at"),
        web_url=text(record, "web_url"),
    )


def day_of(updated_at: str | None, created_at: str | None) -> str:
    """The partition of a pipeline; when it was made stands in for when it changed, which may be null."""
    return (updated_at or created_at or EPOCH)[:10]


def pipeline(record: Any, project_id: int, *, detailed: bool) -> r.Pipeline:
    """A pipeline, from its own page or from a list.

    Raises:
        Malformed: it cannot become a row.
    """
    identifier = key_of(record)
    updated, created = moment(record, "updated_at"), moment(record, "created_at")
    user = part(record, "user")
    told = whole(record, "project_id")
    return r.Pipeline(
        id=identifier,
        project_id=project_id if told is None else told,
        day=day_of(updated, created),
        iid=whole(record, "iid"),
        ref=text(record, "ref"),
        sha=text(record, "sha"),
        before_sha=text(record, "before_sha"),
        tag=flag(record, "tag"),
        status=text(record, "status"),
        source=text(record, "source"),
        name=text(record, "name"),
        created_at=created,
        updated_at=updated,
        started_at=moment(record, "started_at"),
        finished_at=moment(record, "finished_at"),
        committed_at=moment(record, "committed_at"),
        duration=number(record, "duration"),
        queued_duration=number(record, "queued_duration"),
        coverage=number(record, "coverage"),
        yaml_errors=text(record, "yaml_errors"),
        user_id=whole(user, "id"),
        user_username=text(user, "username"),
        archived=flag(record, "archived"),
        web_url=text(record, "web_url"),
        detailed=detailed,
    )


def as_of(updated_at: str | None, status: str | None) -> str:
    """What tells one state of a pipeline from another."""
    return f"{updated_at or ''} {status or ''}"


def bridge(record: Any, of: r.Pipeline) -> r.Bridge:
    """A trigger job of a pipeline.

    Raises:
        Malformed: it cannot become a row.
    """
    downstream = part(record, "downstream_pipeline")
    return r.Bridge(
        id=key_of(record),
        pipeline_id=of.id,
        project_id=of.project_id,
        day=of.day,
        name=text(record, "name"),
        stage=text(record, "stage"),
        status=text(record, "status"),
        ref=text(record, "ref"),
        allow_failure=flag(record, "allow_failure"),
        failure_reason=text(record, "failure_reason"),
        created_at=moment(record, "created_at"),
        started_at=moment(record, "started_at"),
        finished_at=moment(record, "finished_at"),
        duration=number(record, "duration"),
        queued_duration=number(record, "queued_duration"),
        user_username=text(part(record, "user"), "username"),
        downstream_pipeline_id=whole(downstream, "id"),
        downstream_project_id=whole(downstream, "project_id"),
        downstream_status=text(downstream, "status"),
        web_url=text(record, "web_url"),
    )


# -- jobs ------------------------------------------------------------------------------------------------------


def job(record: Any, project_id: int, day: str, pipeline_id: int | None = None) -> r.Job:
    """A run of a job; whether it was retried is found out later, among its pipeline's (see `with_retries`).

    Raises:
        Malformed: it cannot become a row.
    """
    identifier = key_of(record)
    of = whole(part(record, "pipeline"), "id") if pipeline_id is None else pipeline_id
    if of is None:
        raise Malformed("`pipeline` does not tell to which one the job belongs")
    user, commit, runner = part(record, "user"), part(record, "commit"), part(record, "runner")
    return r.Job(
        id=identifier,
        pipeline_id=of,
        project_id=project_id,
        day=day,
        name=text(record, "name"),
        stage=text(record, "stage"),
        status=text(record, "status"),
        ref=text(record, "ref"),
        tag=flag(record, "tag"),
        retried=False,
        allow_failure=flag(record, "allow_failure"),
        failure_reason=text(record, "failure_reason"),
        coverage=number(record, "coverage"),
        created_at=moment(record, "created_at"),
        started_at=moment(record, "started_at"),
        finished_at=moment(record, "finished_at"),
        erased_at=moment(record, "erased_at"),
        duration=number(record, "duration"),
        queued_duration=number(record, "queued_duration"),
        user_id=whole(user, "id"),
        user_username=text(user, "username"),
        commit_sha=text(commit, "id"),
        commit_title=text(commit, "title"),
        runner_id=whole(runner, "id"),
        runner_description=text(runner, "description"),
        runner_type=text(runner, "runner_type"),
        runner_version=text(part(record, "runner_manager"), "version"),
        tags=[str(tag) for tag in listed(record, "tag_list")],
        artifacts_expire_at=moment(record, "artifacts_expire_at"),
        artifacts_size=whole(part(record, "artifacts_file"), "size"),
        archived=flag(record, "archived"),
        source=text(record, "source"),
        web_url=text(record, "web_url"),
    )


def with_retries(jobs: Iterable[r.Job]) -> list[r.Job]:
    """A pipeline's jobs, with those marked of which a later run is there.

    GitLab's REST tells retried jobs from others only by leaving them out. In one pipeline a name is unique among jobs that run,
    so the run with the highest id is the one that counts and all earlier ones were retried.
    """
    rows = sorted(jobs, key=lambda row: row.id)
    latest = {(row.name, row.stage): row.id for row in rows}
    return [
        row if latest[row.name, row.stage] == row.id else msgspec.structs.replace(row, retried=True) for row in rows
    ]


def artifacts(record: Mapping[str, Any], of: r.Job) -> list[r.Artifact]:
    """What a job has handed in.

    Raises:
        Malformed: one cannot become a row.
    """
    found: dict[tuple[str, str], r.Artifact] = {}
    for entry in listed(record, "artifacts"):
        if not isinstance(entry, dict):
            raise Malformed(f"`artifacts` holds {_shown(entry)} where an object is expected")
        kind, filename = text(entry, "file_type") or "", text(entry, "filename") or ""
        found[kind, filename] = r.Artifact(
            job_id=of.id,
            file_type=kind,
            filename=filename,
            pipeline_id=of.pipeline_id,
            project_id=of.project_id,
            day=of.day,
            size=whole(entry, "size"),
            file_format=text(entry, "file_format"),
            expires_at=None if kind == "trace" else of.artifacts_expire_at,
            listed=True,
        )
    return list(found.values())


# -- tests -----------------------------------------------------------------------------------------------------


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
        raise Malformed(f"the case is {_shown(case)} where an object is expected")
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


def text_or_json(value: Any) -> str | None:
    """A text as it is, a structure as JSON: what a JUnit file's elements were turned into."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def shifted(moment_text: str, by: dt.timedelta) -> str:
    """A time so much later, as `moment` writes it."""
    later = dt.datetime.fromisoformat(moment_text) + by
    return f"{later:%Y-%m-%dT%H:%M:%S}.{later.microsecond // 1000:03d}Z"


def seconds(number_of: float) -> dt.timedelta:
    """So many seconds."""
    return dt.timedelta(seconds=number_of)
