"""Which pipelines to list, as the file tells it: what is new or changed, not over, or due to be compared with GitLab's list."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.records import FINAL
from bdc_pipeline.sources.gitlab.sweep import CheckedDay, swept
from bdc_pipeline.sources.gitlab.windows import SETTLING, Asked, Held, Window, is_closed, is_waiting, window_of
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.table import Table


@dataclass(frozen=True, slots=True)
class PipelinesPlan:
    """Which pipelines to list, and what is stored of them.

    Args:
        days: the partitions.
        windows: what to list of each project.
        held: the stored pipelines that matter, by id.
        unknown: projects that were named and are not stored.
        limit: at most so many new or changed pipelines.
        swept: what is listed besides to find deleted pipelines.
        checked: when each project's day was last compared with GitLab's list (UTC).
        with_children: the projects that have ever had a child pipeline.
        abroad: stored pipelines that are not over, in projects that are not stored.
        force: fetch again what is stored as it is listed.
        unlisted: the list of projects is not all there.
        left_days: those on which projects were never listed that are not asked for this time.
        rejected: pipelines of which a record is rejected: fetched again whatever is stored, since only that closes the reject.
        unfollowed: stored pipelines of which a bridge has started one that is not: a run that was killed did not come to it.
        having: the projects of which a pipeline is stored.
    """

    days: tuple[str, ...]
    windows: tuple[Window, ...]
    held: Mapping[int, Held]
    unknown: tuple[str, ...] = ()
    limit: int | None = None
    swept: tuple[Window, ...] = ()
    checked: Mapping[tuple[int, str], str | None] = field(default_factory=dict)
    with_children: frozenset[int] = frozenset()
    abroad: tuple[int, ...] = ()
    force: bool = False
    unlisted: bool = False
    left_days: tuple[str, ...] = ()
    rejected: frozenset[int] = frozenset()
    unfollowed: frozenset[int] = frozenset()
    having: frozenset[int] = frozenset()

    def unfollowed_by_project(self) -> dict[int, list[int]]:
        """The pipelines that are asked for again, by their project."""
        found: dict[int, list[int]] = {}
        for number in sorted(self.unfollowed):
            found.setdefault(self.held[number].project_id, []).append(number)
        return found

    def describe(self) -> dict[str, int]:
        """Counts for the run's log and the UI."""
        return {
            "projects": len(self.windows),
            "in_full": sum(bool(window.full) for window in self.windows),
            "changes_alone": sum(not window.full for window in self.windows),
            "stored_and_not_over": sum(len(window.one_by_one) for window in self.windows),
            "lists_for_deleted": len(self.swept),
        }


def chosen_projects(connection: sqlite3.Connection, wanted: Sequence[str]) -> tuple[dict[int, str], list[str]]:
    """The stored projects that a sync is about, by id, and those that were named and are not stored.

    A project whose CI is switched off is none of them: GitLab answers 403 to all that could be asked.
    """
    found_rows = connection.execute(
        "SELECT id, path, asked_as, coalesce(has_ci, 1) FROM projects WHERE vanished_at IS NULL"
    ).fetchall()
    known = {int(number): str(path or number) for number, path, _, _ in found_rows}
    having = {int(number) for number, _, _, has_ci in found_rows if has_ci}
    if not wanted:
        return {number: name for number, name in known.items() if number in having}, []
    by_name = {former.lower(): number for number, _, former, _ in found_rows if former}
    by_name |= {name.lower(): number for number, name in known.items()} | {str(number): number for number in known}
    found = {by_name[name.lower()] for name in wanted if name.lower() in by_name} & having
    return {number: known[number] for number in sorted(found)}, [n for n in wanted if n.lower() not in by_name]


def to_ask_again(connection: sqlite3.Connection, wanted: Sequence[str]) -> list[str]:
    """The named projects that are not known well enough to go by: not stored, without CI when they were last asked for, or refused since."""
    chosen, unknown = chosen_projects(connection, wanted)
    failed = failed_lately(connection, t.PIPELINES)
    sure = {name.lower() for name in chosen.values() if f"project {name}" not in failed}
    sure |= {str(number) for number, name in chosen.items() if f"project {name}" not in failed}
    former = connection.execute("SELECT id, asked_as FROM projects WHERE asked_as IS NOT NULL")
    sure |= {str(name).lower() for number, name in former if str(number) in sure}
    return [name for name in wanted if name in unknown or name.lower() not in sure]


@dataclass(frozen=True, slots=True)
class Sweep:
    """How much a run does to find deleted pipelines of days that are over: at most so many requests, for days that were compared
    before a moment (UTC)."""

    requests: int = 0
    before: str = ""


def plan_pipelines(
    connection: sqlite3.Connection,
    wanted: Sequence[str],
    asked: Asked,
    *,
    force: bool,
    limit: int | None,
    sweep: Sweep | None = None,
    others: Sequence[str] | None = None,
) -> PipelinesPlan:
    """Decides what to list of each project.

    Args:
        connection: to the file.
        wanted: names of projects; () for all.
        asked: days and times.
        force: list and fetch all of the days.
        limit: at most so many new or changed pipelines.
        sweep: what to do about deleted pipelines.
        others: what would be asked for were `wanted` not a part of it: a day that others lack is not complete; None where it is all.
    """
    projects, unknown = chosen_projects(connection, wanted)
    listed: dict[int, dict[str, str]] = {}
    checked: dict[tuple[int, str], str | None] = {}
    sql = "SELECT project_id, day, listed_at, checked_at FROM project_days WHERE day BETWEEN ? AND ?"
    for project, day, at, compared in connection.execute(sql, _range(asked.days)):
        listed.setdefault(project, {})[day] = at
        checked[project, day] = compared
    lists = swept(_due(connection, projects, asked, sweep), projects, sweep.requests) if sweep and not limit else ()
    unfollowed = _unfollowed(connection)
    held = _held(connection, asked, lists, unfollowed)
    by_project: dict[int, dict[int, Held]] = {}
    for number, one in held.items():
        by_project.setdefault(one.project_id, {})[number] = one
    windows = [
        window_of(number, name, listed.get(number, {}), by_project.get(number, {}), asked, force=force)
        for number, name in projects.items()
    ]
    kept = tuple(window for window in windows if window is not None)
    parents = connection.execute("SELECT DISTINCT project_id FROM _pipelines WHERE source = 'parent_pipeline'")
    with_children = frozenset(int(number) for (number,) in parents)
    stored = {int(number) for (number,) in connection.execute("SELECT id FROM projects")}
    abroad = tuple(
        number
        for number, one in held.items()
        if one.project_id not in stored and (number in unfollowed or (one.detailed and is_waiting(one, asked.now)))
    )
    state = ledger.partition_states(connection, t.PROJECTS).get("")
    return PipelinesPlan(
        tuple(asked.days),
        kept,
        held,
        tuple(unknown),
        limit,
        lists,
        checked,
        with_children,
        abroad,
        force,
        unlisted=not wanted and (state is None or not state.complete),
        left_days=_lacking(connection, projects, others, asked.days),
        rejected=_rejected(connection),
        unfollowed=unfollowed,
        having=having_pipelines(connection),
    )


def _lacking(
    connection: sqlite3.Connection, projects: Mapping[int, str], others: Sequence[str] | None, days: Sequence[str]
) -> tuple[str, ...]:
    """The days that a project besides those that are asked for was not listed to the end of."""
    besides = set(chosen_projects(connection, others)[0]) - set(projects) if others is not None else set()
    if not besides:
        return ()
    reached = days_reached(connection, besides)
    return tuple(day for day in days if reached.get(day, 0) < len(besides))


def days_reached(connection: sqlite3.Connection, projects: Iterable[int]) -> dict[str, int]:
    """By day, how many of some projects were listed after its end; of one that failed, the time of its row lies at the beginning."""
    sql = (
        "SELECT day, count(*) FROM project_days WHERE project_id IN (SELECT value FROM json_each(?)) "
        "AND listed_at >= date(day, '+1 day') || ? GROUP BY day"
    )
    settled = f"T{dt.datetime.min.replace(tzinfo=dt.UTC) + SETTLING:%H:%M:%S}"
    return dict(connection.execute(sql, (msgspec.json.encode(sorted(projects)).decode(), settled)).fetchall())


def having_pipelines(connection: sqlite3.Connection) -> frozenset[int]:
    """The projects of which a pipeline is stored that has not vanished."""
    sql = "SELECT id FROM projects WHERE EXISTS (SELECT 1 FROM _pipelines WHERE project_id = projects.id AND vanished_at IS NULL)"
    return frozenset(int(number) for (number,) in connection.execute(sql))


def _unfollowed(connection: sqlite3.Connection) -> frozenset[int]:
    sql = (
        "SELECT DISTINCT b.pipeline_id FROM bridges b JOIN _pipelines p ON p.id = b.pipeline_id "
        "WHERE b.vanished_at IS NULL AND p.vanished_at IS NULL AND b.downstream_project_id IS NOT NULL "
        "AND b.downstream_pipeline_id IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM _pipelines WHERE id = b.downstream_pipeline_id)"
    )
    return frozenset(int(number) for (number,) in connection.execute(sql))


def _rejected(connection: sqlite3.Connection) -> frozenset[int]:
    sql = "SELECT record_key FROM _rejects WHERE table_name = 'pipelines' AND resolved_at IS NULL"
    return frozenset(int(key) for (key,) in connection.execute(sql) if str(key).isdecimal())


def with_open_rejects(connection: sqlite3.Connection, days: Sequence[str]) -> frozenset[str]:
    """The incomplete days of which a pipeline or a bridge is rejected: to be listed in full, since no change leads to it again."""
    sql = (
        "SELECT DISTINCT s.partition FROM _partitions s JOIN _rejects r ON r.partition IN (s.partition, '') "
        "AND r.table_name IN ('pipelines', 'bridges') AND r.resolved_at IS NULL "
        "WHERE s.table_name IN ('pipelines', 'bridges') AND NOT s.complete AND s.partition BETWEEN ? AND ?"
    )
    return frozenset(str(day) for (day,) in connection.execute(sql, _range(days)))


def _due(
    connection: sqlite3.Connection, projects: Mapping[int, str], asked: Asked, sweep: Sweep
) -> Iterator[CheckedDay]:
    """The days outside of those that are asked for that are over for a project, hold pipelines of it, and were compared long ago."""
    sql = (
        "SELECT d.project_id, d.day, d.listed_at, coalesce(d.checked_at, d.listed_at) AS checked, "
        "sum(p.source IS NOT 'parent_pipeline'), sum(p.source IS 'parent_pipeline') "
        "FROM project_days d JOIN _pipelines p ON p.project_id = d.project_id AND p.day = d.day "
        "WHERE p.vanished_at IS NULL AND p.updated_at IS NOT NULL AND checked < ? AND d.day NOT BETWEEN ? AND ? "
        "GROUP BY d.project_id, d.day ORDER BY checked"
    )
    failed = failed_lately(connection, t.PIPELINES)
    for project, day, listed, at, own, children in connection.execute(sql, (sweep.before, *_range(asked.days))):
        # one that is refused would take all turns
        refused = f"project {projects.get(project)}" in failed
        if project in projects and not refused and is_closed(day, listed, asked):
            yield CheckedDay(project, day, at, own, children)


def failed_lately(connection: sqlite3.Connection, table: Table) -> frozenset[str]:
    """What failed in the last three runs, by its name in messages."""
    sql = (
        "SELECT DISTINCT unit FROM _run_failures WHERE table_name = ? "
        "AND run_id IN (SELECT run_id FROM _runs ORDER BY rowid DESC LIMIT 3)"
    )
    return frozenset(str(unit) for (unit,) in connection.execute(sql, (table.name,)))


def _held(
    connection: sqlite3.Connection, asked: Asked, lists: Sequence[Window], unfollowed: Collection[int]
) -> dict[int, Held]:
    """The stored pipelines from the first day on, all that are not over, those that are asked for again, and those of further lists; of a
    project in which one has not been over for longer, from that one's day on, since its list begins there.
    """
    sql = (
        "SELECT id, project_id, day, updated_at, status, detailed, source IS 'parent_pipeline' FROM _pipelines "
        "WHERE vanished_at IS NULL AND "
    )
    chosen: list[tuple[str, tuple[Any, ...]]] = [
        (f"(day >= ? OR status IS NULL OR status NOT IN ({FINAL_STATUSES}))", (asked.days[0],)),
        ("id IN (SELECT value FROM json_each(?))", (msgspec.json.encode(sorted(unfollowed)).decode(),)),
        *(("project_id = ? AND day BETWEEN ? AND ?", (one.project_id, *_range(one.days))) for one in lists),
    ]

    def read(where: str, values: tuple[Any, ...]) -> dict[int, Held]:
        return {
            number: Held(project, day, updated, status, bool(detailed), bool(child))
            for number, project, day, updated, status, detailed, child in connection.execute(sql + where, values)
        }

    held = {number: one for where, values in chosen for number, one in read(where, values).items()}
    since: dict[int, str] = {}
    for one in held.values():
        if one.day < asked.days[0] and is_waiting(one, asked.now):
            since[one.project_id] = min(one.day, since.get(one.project_id, one.day))
    for project, day in since.items():
        held |= read("project_id = ? AND day BETWEEN ? AND ?", (project, day, asked.days[0]))
    return held


FINAL_STATUSES = ", ".join(f"'{status}'" for status in sorted(FINAL))
"""For SQL."""


def _range(days: Sequence[str]) -> tuple[str, str]:
    return days[0], days[-1]
