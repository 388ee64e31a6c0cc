"""GitLab CI in Dagster: partitions, the plan and fetch ops of each stage, the assets.

Stages follow each other: projects, pipelines (with bridges), jobs (with artifacts), then logs, tests and archives. Each plans from
what the one before has stored and can be run again alone. Partitions are days (UTC) of the pipelines' `updated_at`.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from bdc_pipeline import settings
from bdc_pipeline.fetching.pool import Stop
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.assembly import asset_outs, failing_clearly, named, outputs, outs, shared_pacer
from bdc_pipeline.sources.gitlab import plan as planning
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.sources.gitlab.caps import Caps
from bdc_pipeline.sources.gitlab.client import GitLabClient
from bdc_pipeline.sources.gitlab.details import LogsStream, TestsStream
from bdc_pipeline.sources.gitlab.jobs import JobsStream
from bdc_pipeline.sources.gitlab.listing import ArchivesStream
from bdc_pipeline.sources.gitlab.pipelines import PipelinesStream
from bdc_pipeline.sources.gitlab.plan import PipelinesPlan, UnitsPlan
from bdc_pipeline.sources.gitlab.projects import ProjectsPlan, ProjectsStream
from bdc_pipeline.sources.gitlab.windows import Asked, text_of
from bdc_pipeline.warehouse import ledger
from bdc_pipeline.warehouse.io_manager import SQLiteIOManager, asset_key
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stream import Stream
from bdc_pipeline.warehouse.table import Table

FIRST_DAY = "2020-01-01"

DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1)
"""Days of the pipelines' `updated_at` (UTC), today among them."""

MB = 1024 * 1024


class GitLabResource(dg.ConfigurableResource[Any]):
    """How GitLab is asked. Address, token and limits come from GITLAB_URL, GITLAB_TOKEN and the other variables when a run needs
    them; the token is in no configuration."""

    workers: int | None = Field(
        default=None, ge=1, le=200, description="Requests at the same time; GITLAB_WORKERS where not set"
    )
    requests_per_second: float | None = Field(
        default=None, gt=0, description="Upper limit; GITLAB_REQUESTS_PER_SECOND where not set"
    )
    read_timeout: float = Field(
        default=60.0, gt=0, description="Seconds without a byte after which a request is given up"
    )
    attempts: int = Field(default=6, ge=1, description="Times a request is sent before it counts as failed")
    graphql: bool = Field(default=True, description="Ask GraphQL which projects have changed, before their lists")
    max_log_mb: float = Field(
        default=100.0, gt=0, description="Larger logs are marked and left out; GitLab cuts at 100 MB"
    )
    max_artifact_mb: float = Field(default=200.0, gt=0, description="Larger archives are not downloaded")
    artifact_directory: str = Field(default="", description="Where to store archives; nowhere where empty")

    @property
    def threads(self) -> int:
        """Requests at the same time.

        Raises:
            SettingsError: a variable cannot be used.
        """
        return self.workers or settings.gitlab().workers

    @property
    def caps(self) -> tuple[Caps, Caps]:
        """Further limits: on pipelines, and on jobs."""
        found = settings.gitlab()
        return (
            Caps(found.projects_at_once, found.pipelines_at_once),
            Caps(found.projects_at_once, found.jobs_at_once),
        )

    @property
    def directory(self) -> Path | None:
        """Where to store archives."""
        return Path(self.artifact_directory).expanduser().absolute() if self.artifact_directory else None

    def client(self, stop: Stop) -> GitLabClient:
        """A client of the GitLab that the environment names; the caller closes it.

        Raises:
            SettingsError: a variable is missing or cannot be used.
        """
        found = settings.gitlab()
        workers = self.workers or found.workers
        pacer = shared_pacer(found.url, workers, self.requests_per_second or found.requests_per_second)

        def session(max_bytes: float | None) -> ApiSession:
            return ApiSession(
                found.url,
                secret_headers={"PRIVATE-TOKEN": found.token},
                workers=workers,
                pacer=pacer,
                read_timeout=self.read_timeout,
                attempts=self.attempts,
                stop=stop,
                max_bytes=None if max_bytes is None else int(max_bytes * MB),
            )

        return GitLabClient(session(None), session(max(self.max_log_mb, self.max_artifact_mb)))


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
    overlap_minutes: float = Field(
        default=10.0, ge=0, description="How far before the last listing changes are looked for"
    )

    def wanted(self) -> list[str]:
        """The projects that are named, here or by the variable."""
        return list(self.projects) or list(settings.gitlab().projects)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


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
        gitlab.client(Stop()).close()  # a variable that cannot be used is told before anything else
        wanted = config.wanted()
        with Store(sqlite_io_manager.path("gitlab"), t.SCHEMA) as store:
            state = ledger.partition_states(store.connection, t.PROJECTS).get("")
            _, unknown = planning.chosen_projects(store.connection, wanted)
        stale = config.force or state is None or not state.complete or _older(state.verified_at, config.days)
        names = wanted if stale else unknown
    plan = ProjectsPlan(tuple(names), len(wanted) - len(names))
    context.add_output_metadata(dict(plan.describe()))
    return plan


def _older(verified_at: str | None, days: float) -> bool:
    return verified_at is None or _now() - dt.datetime.fromisoformat(verified_at) > dt.timedelta(days=days)


@dg.op(out=outs((t.PROJECTS,)), description="Fetches projects")
def fetch_projects(gitlab: GitLabResource, plan: ProjectsPlan) -> Iterator[dg.Output[Any]]:
    """One stream, one table."""
    yield from _fetched(
        gitlab, (t.PROJECTS,), lambda client, stop: ProjectsStream(client, plan, workers=gitlab.threads, stop=stop)
    )


def _fetched(
    gitlab: GitLabResource, tables: Sequence[Table], stream_of: Callable[[GitLabClient, Stop], Stream]
) -> Iterator[dg.Output[Any]]:
    """Drains a stream and closes its client."""
    stop = Stop()
    with failing_clearly():
        client = gitlab.client(stop)
    with closing(client):
        yield from outputs(stream_of(client, stop), tables)


# -- pipelines -------------------------------------------------------------------------------------------------


@dg.op(
    ins={"projects": dg.In(dg.Nothing)},
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
        gitlab.client(Stop()).close()
        days = sorted(context.partition_keys)
        states = ledger.partition_states(store.connection, t.PIPELINES)
        again = frozenset(
            day
            for day in days
            if day in states and states[day].complete and _older(states[day].verified_at, config.days)
        )
        asked = Asked(days, _now(), dt.timedelta(minutes=config.overlap_minutes), again)
        plan = planning.plan_pipelines(store.connection, config.wanted(), asked, force=config.force, limit=config.limit)
    _tell(context, plan.describe())
    return plan


def _tell(context: dg.OpExecutionContext, told: Mapping[str, int]) -> None:
    context.add_output_metadata(dict(told))
    context.log.info(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items()))


@dg.op(out=outs(t.OF_PIPELINES), description="Fetches pipelines, their bridges and what these have started")
def fetch_pipelines(gitlab: GitLabResource, plan: PipelinesPlan) -> Iterator[dg.Output[Any]]:
    """One stream fills all tables."""
    yield from _fetched(
        gitlab,
        t.OF_PIPELINES,
        lambda client, stop: PipelinesStream(
            client, plan, workers=gitlab.threads, stop=stop, caps=gitlab.caps[0], graphql=gitlab.graphql
        ),
    )


# -- what follows pipelines ------------------------------------------------------------------------------------


def _planned(
    context: dg.OpExecutionContext,
    files: SQLiteIOManager,
    config: GitLabSyncConfig,
    upstream: Table,
    make: Callable[[Any, Sequence[str]], UnitsPlan],
) -> UnitsPlan:
    """A stage's plan. Days of which the stage before has not got all are not complete here either."""
    days = sorted(context.partition_keys)
    with failing_clearly(), Store(files.path("gitlab"), t.SCHEMA) as store:
        states = ledger.partition_states(store.connection, upstream)
        opened = tuple(day for day in days if day not in states or not states[day].complete)
        plan = make(store.connection, days)
    limited = config.limit is not None
    plan = planning.replaced(plan, open_days=() if limited else opened, limited=limited)
    _tell(context, plan.describe())
    return plan


@dg.op(
    ins={"pipelines": dg.In(dg.Nothing)}, description="Decides of which pipelines to fetch the jobs: those that changed"
)
def plan_jobs(
    context: dg.OpExecutionContext,
    gitlab: GitLabResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: GitLabSyncConfig,
) -> UnitsPlan:
    """Asks the file."""
    with failing_clearly():
        workers = gitlab.threads
    return _planned(
        context,
        sqlite_io_manager,
        config,
        t.PIPELINES,
        lambda connection, days: planning.plan_jobs(connection, days, force=config.force, workers=workers),
    )


@dg.op(out=outs(t.OF_JOBS), description="Fetches jobs, retried ones too, and what artifacts they have")
def fetch_jobs(
    gitlab: GitLabResource, sqlite_io_manager: dg.ResourceParam[SQLiteIOManager], plan: UnitsPlan
) -> Iterator[dg.Output[Any]]:
    """One stream fills all tables."""
    with failing_clearly(), Store(sqlite_io_manager.path("gitlab"), t.SCHEMA) as store:
        listed = planning.listed_artifacts(store.connection, plan.units)
    yield from _fetched(
        gitlab,
        t.OF_JOBS,
        lambda client, stop: JobsStream(client, plan, listed, workers=gitlab.threads, stop=stop, caps=gitlab.caps[0]),
    )


@dg.op(ins={"jobs": dg.In(dg.Nothing)}, description="Decides which logs to fetch: of jobs that are over, each once")
def plan_logs(
    context: dg.OpExecutionContext,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: GitLabSyncConfig,
) -> UnitsPlan:
    """Asks the file."""
    return _planned(
        context,
        sqlite_io_manager,
        config,
        t.JOBS,
        lambda connection, days: planning.plan_logs(connection, days, force=config.force, now=text_of(_now())),
    )


@dg.op(out=outs(t.OF_LOGS), description="Fetches logs")
def fetch_logs(
    gitlab: GitLabResource, sqlite_io_manager: dg.ResourceParam[SQLiteIOManager], plan: UnitsPlan
) -> Iterator[dg.Output[Any]]:
    """One stream, one table."""
    again = [unit.id for unit in plan.units if unit.stored]
    with failing_clearly(), Store(sqlite_io_manager.path("gitlab"), t.SCHEMA) as store:
        stored = planning.rows_by_key(store.connection, t.JOB_LOGS, again)
    yield from _fetched(
        gitlab,
        t.OF_LOGS,
        lambda client, stop: LogsStream(
            client,
            plan,
            stored=stored,
            most_bytes=int(gitlab.max_log_mb * MB),
            now=text_of(_now()),
            workers=gitlab.threads,
            stop=stop,
            caps=gitlab.caps[1],
        ),
    )


@dg.op(ins={"jobs": dg.In(dg.Nothing)}, description="Decides which test reports to fetch: of pipelines that have some")
def plan_tests(
    context: dg.OpExecutionContext,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: GitLabSyncConfig,
) -> UnitsPlan:
    """Asks the file."""
    return _planned(
        context,
        sqlite_io_manager,
        config,
        t.JOBS,
        lambda connection, days: planning.plan_tests(connection, days, force=config.force, now=text_of(_now())),
    )


@dg.op(out=outs(t.OF_TESTS), description="Fetches test reports")
def fetch_tests(
    gitlab: GitLabResource, sqlite_io_manager: dg.ResourceParam[SQLiteIOManager], plan: UnitsPlan
) -> Iterator[dg.Output[Any]]:
    """One stream fills all tables."""
    again = [unit.id for unit in plan.units if unit.stored]
    with failing_clearly(), Store(sqlite_io_manager.path("gitlab"), t.SCHEMA) as store:
        stored = planning.rows_by_key(store.connection, t.TEST_REPORTS, again)
    yield from _fetched(
        gitlab,
        t.OF_TESTS,
        lambda client, stop: TestsStream(
            client,
            plan,
            stored=stored,
            now=text_of(_now()),
            workers=gitlab.threads,
            stop=stop,
            caps=gitlab.caps[0],
        ),
    )


@dg.op(ins={"jobs": dg.In(dg.Nothing)}, description="Decides which archives to list: of jobs that are over, each once")
def plan_archives(
    context: dg.OpExecutionContext,
    gitlab: GitLabResource,
    sqlite_io_manager: dg.ResourceParam[SQLiteIOManager],
    config: GitLabSyncConfig,
) -> UnitsPlan:
    """Asks the file."""
    with_bytes = gitlab.directory is not None
    return _planned(
        context,
        sqlite_io_manager,
        config,
        t.JOBS,
        lambda connection, days: planning.plan_archives(connection, days, force=config.force, with_bytes=with_bytes),
    )


@dg.op(out=outs(t.OF_ARCHIVES), description="Lists archives by the directory at their end")
def fetch_archives(gitlab: GitLabResource, plan: UnitsPlan) -> Iterator[dg.Output[Any]]:
    """One stream fills all tables."""
    yield from _fetched(
        gitlab,
        t.OF_ARCHIVES,
        lambda client, stop: ArchivesStream(
            client,
            plan,
            most_bytes=int(gitlab.max_artifact_mb * MB),
            directory=gitlab.directory,
            workers=gitlab.threads,
            stop=stop,
            caps=gitlab.caps[1],
        ),
    )


# -- the assets ------------------------------------------------------------------------------------------------


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, (t.PROJECTS,), "http"), group_name="gitlab_projects", name="gitlab_projects"
)
def gitlab_projects() -> Mapping[str, Any]:
    """Projects: named ones, or all that the token is a member of."""
    return {t.PROJECTS.name: fetch_projects(plan_projects())}


def _following(table: Table) -> dict[str, dg.AssetIn]:
    """That a stage comes after another's table, of which it is handed nothing: it reads the file."""
    return {table.name: dg.AssetIn(key=asset_key(table, t.SCHEMA), dagster_type=dg.Nothing)}


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.OF_PIPELINES, "http"),
    ins=_following(t.PROJECTS),
    group_name="gitlab_pipelines",
    name="gitlab_pipelines",
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def gitlab_pipelines(projects: Any) -> Mapping[str, Any]:
    """Pipelines and their bridges, by the day on which they last changed."""
    return named(fetch_pipelines(plan_pipelines(projects)), t.OF_PIPELINES)


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.OF_JOBS, "http"),
    ins=_following(t.PIPELINES),
    group_name="gitlab_jobs",
    name="gitlab_jobs",
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def gitlab_jobs(pipelines: Any) -> Mapping[str, Any]:
    """Jobs and what artifacts they have, by their pipelines' day."""
    return named(fetch_jobs(plan_jobs(pipelines)), t.OF_JOBS)


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.OF_LOGS, "http"),
    ins=_following(t.JOBS),
    group_name="gitlab_logs",
    name="gitlab_logs",
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def gitlab_logs(jobs: Any) -> Mapping[str, Any]:
    """Logs, by their pipelines' day."""
    return {t.JOB_LOGS.name: fetch_logs(plan_logs(jobs))}


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.OF_TESTS, "http"),
    ins=_following(t.JOBS),
    group_name="gitlab_tests",
    name="gitlab_tests",
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def gitlab_tests(jobs: Any) -> Mapping[str, Any]:
    """Test reports, by their pipelines' day."""
    return named(fetch_tests(plan_tests(jobs)), t.OF_TESTS)


@dg.graph_multi_asset(
    outs=asset_outs(t.SCHEMA, t.OF_ARCHIVES, "http"),
    ins=_following(t.JOBS),
    group_name="gitlab_archives",
    name="gitlab_archives",
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def gitlab_archives(jobs: Any) -> Mapping[str, Any]:
    """What is in the artifacts archives, by their pipelines' day."""
    return named(fetch_archives(plan_archives(jobs)), t.OF_ARCHIVES)


ASSETS = [gitlab_projects, gitlab_pipelines, gitlab_jobs, gitlab_logs, gitlab_tests, gitlab_archives]
