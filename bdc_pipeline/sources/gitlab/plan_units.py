"""What of pipelines is to be fetched, as the file tells it: their jobs, then logs, tests and archives. Each stage plans from what the one
before has stored."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bdc_pipeline.sources.gitlab.plan import FINAL_STATUSES, chosen_projects
from bdc_pipeline.sources.gitlab.records import as_of, is_alive
from bdc_pipeline.sources.gitlab.windows import SETTLING, by_keyset, text_of

USUAL_JOBS = 10.0
"""Jobs of a pipeline where none is stored yet to tell."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Something to fetch that belongs to a pipeline or a job.

    Args:
        id: the pipeline's or the job's.
        pipeline_id: the pipeline's.
        project_id: the project's.
        day: the partition.
        as_of: of a pipeline, its state that is fetched; of a job, when it ended (UTC).
        created_at: when a pipeline was made (UTC).
        size: bytes of a log or an archive, as its artifact tells.
        started: the pipeline has run.
        stored: something of it is there that nothing must replace: jobs, a log, test cases, a listing.
        expired: the reports are not listed any more, so that counts may be all that is left of the tests.
        partly_expired: some jobs' artifacts have expired, so that the reports of others may be all that is left of the cases.
        erased: somebody has erased some jobs, of which GitLab keeps no counts either.
        settled: the pipeline was over for so long that its logs are in the archive.
    """

    id: int
    pipeline_id: int
    project_id: int
    day: str
    as_of: str = ""
    created_at: str = ""
    size: int | None = None
    started: bool = False
    stored: bool = False
    expired: bool = False
    partly_expired: bool = False
    erased: bool = False
    settled: bool = True


@dataclass(frozen=True, slots=True)
class UnitsPlan:
    """What a stage fetches.

    Args:
        days: the partitions.
        units: what to ask for.
        open_days: those whose pipelines are not all there.
        left_days: those of which not all is asked for.
        names: paths of projects, for messages.
        again: keys of rows to be marked as gone.
        keyset: the projects whose jobs are fetched as one list.
        limited: an option has cut the pipelines short.
        failed: what failed in the last runs, by its name in messages.
    """

    days: tuple[str, ...]
    units: tuple[Unit, ...]
    open_days: tuple[str, ...] = ()
    left_days: tuple[str, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    again: tuple[int, ...] = ()
    keyset: frozenset[int] = frozenset()
    limited: bool = False
    failed: frozenset[str] = frozenset()

    def describe(self) -> dict[str, int]:
        """Counts for the run's log and the UI."""
        return {"units": len(self.units), "days": len(self.days), "marked": len(self.again)}


# -- jobs ------------------------------------------------------------------------------------------------------


def plan_jobs(
    connection: sqlite3.Connection, days: Sequence[str], *, force: bool, workers: int, now: dt.datetime
) -> UnitsPlan:
    """The pipelines whose jobs are to be fetched: those that have changed since, those that are still at work, and those whose jobs were
    fetched within minutes of their end: artifacts that came after that move no time of change.

    One whose configuration cannot be read has no jobs; its list is asked to say so.
    """
    sql = (
        "SELECT p.id, p.project_id, p.day, p.updated_at, p.status, p.created_at, p.started_at, p.duration, "  # noqa: S608
        "coalesce(p.finished_at, p.updated_at, ''), j.as_of, coalesce(j.jobs, 0), coalesce(j.settled, 1) "
        "FROM _pipelines p LEFT JOIN pipeline_jobs j ON j.pipeline_id = p.id "
        f"WHERE p.vanished_at IS NULL AND p.{_THERE} AND {_SEEN} AND {_in_range('p.day', 'p.id')} ORDER BY p.id DESC"
    )
    units = []
    before = text_of(now - SETTLING)
    for (
        number,
        project,
        day,
        updated,
        status,
        created,
        started,
        duration,
        ended,
        known,
        jobs,
        settled,
    ) in connection.execute(sql, _range(days) * 2):
        token, over = as_of(updated, status), not is_alive(status) and ended <= before
        if force or known != token or is_alive(status) or (over and not settled):
            units.append(
                Unit(
                    id=number,
                    pipeline_id=number,
                    project_id=project,
                    day=day,
                    as_of=token,
                    created_at=created or "",
                    started=started is not None or bool(duration),
                    stored=jobs > 0,
                    settled=over,
                )
            )
    counts: dict[int, int] = {}
    for unit in units:
        counts[unit.project_id] = counts.get(unit.project_id, 0) + 1
    return UnitsPlan(tuple(days), tuple(units), names=_names(connection), keyset=_keyset(connection, counts, workers))


def _keyset(connection: sqlite3.Connection, counts: Mapping[int, int], workers: int) -> frozenset[int]:
    (each,) = connection.execute("SELECT avg(jobs) FROM pipeline_jobs").fetchone()
    return by_keyset(counts, float(each) if each is not None else USUAL_JOBS, workers)


# -- logs, tests, archives -------------------------------------------------------------------------------------


def plan_logs(
    connection: sqlite3.Connection, days: Sequence[str], *, force: bool, now: dt.datetime, most_bytes: int = 0
) -> UnitsPlan:
    """The jobs whose logs are to be fetched: over, started, not erased, and without a log that is final.

    A stored log of a job that was erased since is marked. One that is shorter than it should be is asked for, minutes after the job's
    end, until GitLab has none any more, and one that was over the limit once that is `most_bytes` or less.
    """
    sql = (
        "SELECT j.id, j.pipeline_id, j.project_id, j.day, a.size, l.id, l.sha256 IS NOT NULL, "  # noqa: S608
        "(l.state = 'partial' AND l.gone_at IS NULL AND coalesce(j.finished_at, '') <= ?) "
        "OR (l.state = 'too_large' AND l.size <= ?), coalesce(j.finished_at, '') "
        "FROM jobs j LEFT JOIN job_logs l ON l.id = j.id "
        "LEFT JOIN artifacts a ON a.job_id = j.id AND a.file_type = 'trace' AND a.listed "
        f"WHERE {_in_range('j.day', 'j.pipeline_id')} AND j.vanished_at IS NULL AND j.{_THERE} AND j.status IN ({FINAL_STATUSES}) "
        "AND j.erased_at IS NULL "
        "AND j.started_at IS NOT NULL ORDER BY j.id DESC"
    )
    units = {}
    for number, pipeline, project, day, size, known, there, short, finished in connection.execute(
        sql, (text_of(now - SETTLING), most_bytes, *_range(days) * 2)
    ):
        if force or known is None or short:
            units[number] = Unit(number, pipeline, project, day, finished, size=size, stored=bool(there))
    erased = (
        f"SELECT id FROM job_logs WHERE {_in_range('day', 'pipeline_id')} AND gone_at IS NULL "  # noqa: S608
        "AND id IN (SELECT id FROM jobs WHERE erased_at IS NOT NULL)"
    )
    gone = tuple(int(number) for (number,) in connection.execute(erased, _range(days) * 2))
    return UnitsPlan(tuple(days), tuple(units.values()), names=_names(connection), again=gone)


def plan_tests(connection: sqlite3.Connection, days: Sequence[str], *, force: bool, now: str) -> UnitsPlan:
    """The pipelines whose test reports are to be fetched: not at work any more, with reports or with reports that may have expired.

    Of what is stored, reports that have expired since are found when their pipeline changes.
    """
    sql = (
        "SELECT p.id, p.project_id, p.day, j.as_of, p.status, t.as_of, t.state, "  # noqa: S608
        "EXISTS (SELECT 1 FROM artifacts a WHERE a.pipeline_id = p.id AND a.file_type = 'junit' AND a.listed), "
        "EXISTS (SELECT 1 FROM jobs x WHERE x.pipeline_id = p.id AND x.artifacts_expire_at < ?), "
        # the date alone says nothing: the latest artifacts of a branch are kept
        "EXISTS (SELECT 1 FROM jobs x WHERE x.pipeline_id = p.id AND x.artifacts_expire_at < ? AND NOT EXISTS "
        "(SELECT 1 FROM artifacts a WHERE a.job_id = x.id AND a.file_type <> 'trace' AND a.listed)), "
        "EXISTS (SELECT 1 FROM jobs x WHERE x.pipeline_id = p.id AND x.erased_at IS NOT NULL) "
        "FROM _pipelines p JOIN pipeline_jobs j ON j.pipeline_id = p.id LEFT JOIN test_reports t ON t.pipeline_id = p.id "
        f"WHERE p.vanished_at IS NULL AND p.{_THERE} AND {_in_range('p.day', 'p.id')} ORDER BY p.id DESC"
    )
    units = []
    for number, project, day, token, status, known, state, junit, expired, gone, erased in connection.execute(
        sql, (now, now, *_range(days) * 2)
    ):
        due = force or known != token
        if due and not is_alive(status) and (junit or expired):
            units.append(
                Unit(
                    id=number,
                    pipeline_id=number,
                    project_id=project,
                    day=day,
                    as_of=token,
                    stored=state == "stored",
                    expired=not junit,
                    partly_expired=bool(junit and gone),
                    erased=bool(erased),
                )
            )
    return UnitsPlan(tuple(days), tuple(units), names=_names(connection))


def plan_archives(
    connection: sqlite3.Connection,
    days: Sequence[str],
    *,
    force: bool,
    bytes_up_to: int | None = None,
    directory: Path | None = None,
) -> UnitsPlan:
    """The jobs whose archives are to be listed: over, with an archive, and not listed before; with `bytes_up_to` also those up to so
    many bytes that were listed and are not in the directory."""
    wanted = "1" if force else "c.id IS NULL OR (c.state = 'listed' AND coalesce(c.size, a.size, 0) <= ?)"
    sql = (
        "SELECT j.id, j.pipeline_id, j.project_id, j.day, a.size, c.state = 'listed', c.stored_path, c.size, c.gone_at FROM jobs j "  # noqa: S608
        "JOIN artifacts a ON a.job_id = j.id AND a.file_type = 'archive' AND a.listed "
        f"LEFT JOIN archives c ON c.id = j.id WHERE {_in_range('j.day', 'j.pipeline_id')} AND j.vanished_at IS NULL AND j.{_THERE} "
        f"AND j.status IN ({FINAL_STATUSES}) AND j.erased_at IS NULL AND ({wanted}) ORDER BY j.id DESC"
    )
    more = () if force else (-1 if bytes_up_to is None else bytes_up_to,)
    units = {
        number: Unit(number, pipeline, project, day, size=size, stored=bool(known))
        for number, pipeline, project, day, size, known, path, stored, gone in connection.execute(
            sql, (*_range(days) * 2, *more)
        )
        if force or not known or not (gone or _is_kept(directory, path, stored))
    }
    return UnitsPlan(tuple(days), tuple(units.values()), names=_names(connection))


def _is_kept(directory: Path | None, path: str | None, size: int | None) -> bool:
    """Whether an archive lies in the directory as it was stored: it may be another directory now, or an emptied one."""
    if directory is None or path is None:
        return directory is None
    try:
        return (directory / path).stat().st_size == size
    except OSError:
        return False


# -- reading ------------------------------------------------------------------------------------------------

# what belongs to a project that is gone, hidden or without CI is kept, and cannot be asked for
_THERE = "project_id NOT IN (SELECT id FROM projects WHERE vanished_at IS NOT NULL OR has_ci = 0)"

# a pipeline of a project that is not stored, whose own page did not come: its row from the bridge is all that the token may see
_SEEN = "(p.detailed OR p.project_id IN (SELECT id FROM projects))"


def _in_range(day: str, pipeline: str) -> str:
    """The condition that a row is of the days, or of a pipeline that bridges of the days have led to: that may lie in another day than
    its parent, and so may those that it has started. Binds the first and the last day twice.
    """
    return (
        f"({day} BETWEEN ? AND ? OR {pipeline} IN (WITH RECURSIVE followed(id) AS ("  # noqa: S608
        "SELECT downstream_pipeline_id FROM bridges WHERE day BETWEEN ? AND ? AND downstream_pipeline_id IS NOT NULL "
        "UNION SELECT b.downstream_pipeline_id FROM followed JOIN bridges b ON b.pipeline_id = followed.id "
        "WHERE b.downstream_pipeline_id IS NOT NULL) SELECT id FROM followed))"
    )


def _range(days: Sequence[str]) -> tuple[str, str]:
    return days[0], days[-1]


def _names(connection: sqlite3.Connection) -> dict[int, str]:
    return {int(number): str(path or number) for number, path in connection.execute("SELECT id, path FROM projects")}


def of_projects(plan: UnitsPlan, connection: sqlite3.Connection, wanted: Sequence[str]) -> UnitsPlan:
    """What of a plan belongs to the projects that are named, or to none that is stored: a bridge has led there."""
    chosen = set(chosen_projects(connection, wanted)[0])
    other = plan.names.keys() - chosen
    left = tuple(sorted({unit.day for unit in plan.units if unit.project_id in other}))
    return replace(plan, units=tuple(unit for unit in plan.units if unit.project_id not in other), left_days=left)
