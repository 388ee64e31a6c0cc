"""GitLab CI in Dagster: partitions, the plan and fetch ops of each stage, the assets.

Stages follow each other: projects, pipelines (with bridges), jobs (with artifacts), then logs, tests and archives. Each plans from
what the one before has stored and can be run again alone. Partitions are days (UTC) of the pipelines' `updated_at`.
"""

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
from pydantic import Field

from bdc_pipeline import settings
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.sources.assembly import asset_outs, failing_clearly, named, outputs, outs
from bdc_pipeline.sources.gitlab import plan as planning
from bdc_pipeline.sources.gitlab import plan_units
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.archives import ArchivesStream
from bdc_pipeline.sources.gitlab.client import GitLabClient
from bdc_pipeline.sources.gitlab.jobs import JobsStream
from bdc_pipeline.sources.gitlab.logs import LogsStream
from bdc_pipeline.sources.gitlab.pipelines import PipelinesStream
from bdc_pipeline.sources.gitlab.plan import PipelinesPlan
from bdc_pipeline.sources.gitlab.plan_units import UnitsPlan
from bdc_pipeline.sources.gitlab.projects import ProjectsPlan, ProjectsStream
from bdc_pipeline.sources.gitlab.reports import TestsStream
from bdc_pipeline.sources.gitlab.resource import GitLabResource
from bdc_pipeline.sources.gitlab.windows import Asked, text_of
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager, asset_key
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stored_rows import StoredRows
from bdc_pipeline.warehouse.stream import Stream
from bdc_pipeline.warehouse.table import Table

__all__ = [
    "ASSETS",
    "DAYS",
    "FIRST_DAY",
    "GitLabResource",
    "GitLabSyncConfig",
    "gitlab_archives",
    "gitlab_jobs",
    "gitlab_logs",
    "gitlab_pipelines",
    "gitlab_projects",
    "gitlab_tests",
]

FIRST_DAY = "2020-01-01"

DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1)
"""Days of the pipelines' `updated_at` (UTC), today among them."""

POOL = "gitlab"
"""Fetches share GitLab's limits and one file, so that one of them runs at a time, whatever started them."""


class GitLabSyncConfig(dg.Config):
    """What a sync is asked to do."""

    projects: list[str] = Field(
        default=[], description="Ids or paths; GITLAB_PROJECTS, or all that the token is a member of, where empty"
    )
    force: bool = Field(default=False, description="Fetch everything of the days again, logs and tests too")
    days: float = Field(
        default=7.0, ge=0, description="A day of the range whose last full listing is older is listed in full again"
    )
    limit: int | None = Field(default=None, ge=1, description="At most so many new or changed pipelines")
    sweep: int = Field(
        default=10,
        ge=0,
        description="Requests to spend on days outside the range that were compared longer than `days` ago: deleted pipelines",
    )
    overlap_minutes: float = Field(
        default=10.0, ge=0, description="How far before the last listing changes are looked for"
    )

    def wanted(self) -> list[str]:
        """The projects that are named, here or by the variable."""
        return list(self.projects) or list(settings.gitlab().projects)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _tell(context: dg.OpExecutionContext, told: Mapping[str, int]) -> None:
    context.add_output_metadata(dict(told))
    context.log.info(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items()))


def _fetched(
    gitlab: GitLabResource, tables: Sequence[Table], stream_of: Callable[[GitLabClient, Stop], Stream]
) -> Iterator[dg.Output[Any]]:
    """Drains a stream and closes its client."""
    stop = Stop()
    with failing_clearly():
        client = gitlab.client(stop)
    with closing(client):
        yield from outputs(stream_of(client, stop), tables)


# -- projects --------------------------------------------------------------------------------------------------


@dg.op(description="Decides which projects to ask for: those that are named, or all that the token is a member of")
def plan_projects(
    context: dg.OpExecutionContext,
    gitlab: GitLabResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: GitLabSyncConfig,
) -> ProjectsPlan:
    """Asks the file: a named project that was asked for lately is known by its id, which stays."""
    with failing_clearly():
        gitlab.check()
        wanted = config.wanted()
        with Store(sqlite_io_manager.path("gitlab"), t.SCHEMA) as store:
            state = ledger.partition_states(store.connection, t.PROJECTS).get("")
            unsure = planning.to_ask_again(store.connection, wanted)
        stale = config.force or state is None or not state.complete or state.is_due(_now(), config.days)
        names = wanted if stale else unsure
    plan = ProjectsPlan(tuple(names), len(wanted) - len(names))
    _tell(context, plan.describe())
    return plan


@dg.op(out=outs((t.PROJECTS,)), description="Fetches projects", pool=POOL)
def fetch_projects(gitlab: GitLabResource, plan: ProjectsPlan) -> Iterator[dg.Output[Any]]:
    """One stream, one table."""
    yield from _fetched(
        gitlab, (t.PROJECTS,), lambda client, stop: ProjectsStream(client, plan, workers=gitlab.threads, stop=stop)
    )


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, (t.PROJECTS,), "http"), group_name="gitlab_projects", name="gitlab_projects"
)
def gitlab_projects() -> Mapping[str, Any]:
    """Projects: named ones, or all that the token is a member of."""
    return {t.PROJECTS.name: fetch_projects(plan_projects())}


# -- pipelines -------------------------------------------------------------------------------------------------


def _following(table: Table) -> dict[str, dg.AssetIn]:
    """That a stage comes after another's table, of which it is handed nothing: it reads the file."""
    return {"upstream": dg.AssetIn(key=asset_key(table, t.SCHEMA), dagster_type=dg.Nothing)}


@dg.op(
    ins={"upstream": dg.In(dg.Nothing)},
    description="Decides which pipelines to list: from each project's last listing on, days in full that never were",
)
def plan_pipelines(
    context: dg.OpExecutionContext,
    gitlab: GitLabResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: GitLabSyncConfig,
) -> PipelinesPlan:
    """Asks the file; GitLab is asked by the fetch."""
    with failing_clearly(), Store(sqlite_io_manager.path("gitlab"), t.SCHEMA) as store:
        gitlab.check()
        days = sorted(context.partition_keys)
        states = ledger.partition_states(store.connection, t.PIPELINES)
        again = frozenset(
            day for day in days if day in states and states[day].complete and states[day].is_due(_now(), config.days)
        ) | planning.with_open_rejects(store.connection, days)
        asked = Asked(days, _now(), dt.timedelta(minutes=config.overlap_minutes), again)
        sweep = planning.Sweep(config.sweep, text_of(_now() - dt.timedelta(days=config.days)))
        plan = planning.plan_pipelines(
            store.connection,
            config.wanted(),
            asked,
            force=config.force,
            limit=config.limit,
            sweep=sweep,
            others=settings.gitlab().projects if config.projects else None,
        )
    _tell(context, plan.describe())
    return plan


@dg.op(out=outs(t.OF_PIPELINES), description="Fetches pipelines, their bridges and what these have started", pool=POOL)
def fetch_pipelines(
    gitlab: GitLabResource, sqlite_io_manager: dg.ResourceParam[SQLiteIOManager], plan: PipelinesPlan
) -> Iterator[dg.Output[Any]]:
    """One stream fills all tables."""
    stored = StoredRows(sqlite_io_manager.path("gitlab"))
    yield from _fetched(
        gitlab,
        t.OF_PIPELINES,
        lambda client, stop: PipelinesStream(
            client, plan, stored=stored, workers=gitlab.threads, stop=stop, caps=gitlab.caps[0], graphql=gitlab.graphql
        ),
    )


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.OF_PIPELINES, "http"),
    ins=_following(t.PROJECTS),
    group_name="gitlab_pipelines",
    name="gitlab_pipelines",
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def gitlab_pipelines(upstream: Any) -> Mapping[str, Any]:
    """Pipelines and their bridges, by the day on which they last changed."""
    return named(fetch_pipelines(plan_pipelines(upstream)), t.OF_PIPELINES)


# -- what follows pipelines ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Planning:
    """What a stage plans with."""

    connection: sqlite3.Connection
    days: Sequence[str]
    gitlab: GitLabResource
    config: GitLabSyncConfig
    now: dt.datetime


@dataclass(frozen=True)
class _Fetching:
    """What a stage fetches with."""

    client: GitLabClient
    stop: Stop
    plan: UnitsPlan
    gitlab: GitLabResource
    stored: StoredRows
    now: str


def _stage(
    name: str,
    upstream: Table,
    tables: tuple[Table, ...],
    plan_of: Callable[[_Planning], UnitsPlan],
    stream_of: Callable[[_Fetching], Stream],
    decides: str,
    fetches: str,
) -> dg.AssetsDefinition:
    """The assets of a stage whose units are planned from the file: its two ops, named after it."""

    @dg.op(name=f"plan_{name}", ins={"upstream": dg.In(dg.Nothing)}, description=decides)
    def plan_op(
        context: dg.OpExecutionContext,
        gitlab: GitLabResource,
        sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
        config: GitLabSyncConfig,
    ) -> UnitsPlan:
        days = sorted(context.partition_keys)
        with failing_clearly(), Store(sqlite_io_manager.path("gitlab"), t.SCHEMA) as store:
            gitlab.check()
            plan = plan_of(_Planning(store.connection, days, gitlab, config, _now()))
            if config.projects:
                plan = plan_units.of_projects(plan, store.connection, config.projects)
            states = ledger.partition_states(store.connection, upstream)
            failed = planning.failed_lately(store.connection, tables[0])
        # days of which the stage before has not got all are not complete here either
        opened = {day for day in days if day not in states or not states[day].complete}
        left = opened if config.limit is not None else set()
        if config.projects:  # those of which nothing failed: other projects were not asked for
            left |= {day for day in opened if day in states and not states[day].problem}
        plan = replace(
            plan,
            open_days=tuple(sorted(opened - left)),
            left_days=tuple(sorted(left.union(plan.left_days))),
            limited=config.limit is not None,
            failed=failed,
        )
        _tell(context, plan.describe())
        return plan

    @dg.op(name=f"fetch_{name}", out=outs(tables), description=fetches, pool=POOL)
    def fetch_op(
        gitlab: GitLabResource, sqlite_io_manager: dg.ResourceParam[SQLiteIOManager], plan: UnitsPlan
    ) -> Iterator[dg.Output[Any]]:
        stored = StoredRows(sqlite_io_manager.path("gitlab"))
        yield from _fetched(
            gitlab,
            tables,
            lambda client, stop: stream_of(_Fetching(client, stop, plan, gitlab, stored, text_of(_now()))),
        )

    @dg.graph_multi_asset(
        outs=asset_outs(t.SCHEMA, tables, "http"),
        ins=_following(upstream),
        group_name=f"gitlab_{name}",
        name=f"gitlab_{name}",
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def assets(upstream: Any) -> Mapping[str, Any]:
        fetched = fetch_op(plan_op(upstream))
        return named(fetched, tables) if len(tables) > 1 else {tables[0].name: fetched}

    return assets


gitlab_jobs = _stage(
    "jobs",
    t.PIPELINES,
    t.OF_JOBS,
    lambda p: plan_units.plan_jobs(p.connection, p.days, force=p.config.force, workers=p.gitlab.threads, now=p.now),
    lambda f: JobsStream(
        f.client, f.plan, stored=f.stored, workers=f.gitlab.threads, stop=f.stop, caps=f.gitlab.caps[0]
    ),
    "Decides of which pipelines to fetch the jobs: those that changed",
    "Fetches jobs, retried ones too, and what artifacts they have",
)

gitlab_logs = _stage(
    "logs",
    t.JOBS,
    t.OF_LOGS,
    lambda p: plan_units.plan_logs(
        p.connection, p.days, force=p.config.force, now=p.now, most_bytes=p.gitlab.most_log_bytes
    ),
    lambda f: LogsStream(
        f.client,
        f.plan,
        stored=f.stored,
        most_bytes=f.gitlab.most_log_bytes,
        now=f.now,
        workers=f.gitlab.threads,
        stop=f.stop,
        caps=f.gitlab.caps[1],
    ),
    "Decides which logs to fetch: of jobs that are over, each once",
    "Fetches logs",
)

gitlab_tests = _stage(
    "tests",
    t.JOBS,
    t.OF_TESTS,
    lambda p: plan_units.plan_tests(p.connection, p.days, force=p.config.force, now=text_of(p.now)),
    lambda f: TestsStream(
        f.client,
        f.plan,
        stored=f.stored,
        now=f.now,
        workers=f.gitlab.threads,
        stop=f.stop,
        caps=f.gitlab.caps[0],
    ),
    "Decides which test reports to fetch: of pipelines that have some",
    "Fetches test reports",
)

gitlab_archives = _stage(
    "archives",
    t.JOBS,
    t.OF_ARCHIVES,
    lambda p: plan_units.plan_archives(
        p.connection, p.days, force=p.config.force, bytes_up_to=p.gitlab.bytes_up_to, directory=p.gitlab.directory
    ),
    lambda f: ArchivesStream(
        f.client,
        f.plan,
        stored=f.stored,
        most_bytes=f.gitlab.most_artifact_bytes,
        directory=f.gitlab.directory,
        now=f.now,
        workers=f.gitlab.threads,
        stop=f.stop,
        caps=f.gitlab.caps[1],
    ),
    "Decides which archives to list: of jobs that are over, each once",
    "Lists archives by the directory at their end",
)

ASSETS = [gitlab_projects, gitlab_pipelines, gitlab_jobs, gitlab_logs, gitlab_tests, gitlab_archives]
