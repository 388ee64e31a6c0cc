"""`bdc-pipeline sync gitlab`: which days and stages a sync has, from the options that were given."""

import datetime as dt
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdc_pipeline.running import Stage, run_stages
from bdc_pipeline.sources.assembly import files_of, read_states
from bdc_pipeline.sources.gitlab import assets, days
from bdc_pipeline.sources.gitlab import tables as t
from bdc_pipeline.warehouse.drain import DrainOptions, Progress
from bdc_pipeline.warehouse.io_manager import KEY
from bdc_pipeline.warehouse.ledger import SyncReport
from bdc_pipeline.warehouse.store import Store
from bdc_pipeline.warehouse.stream import Effort
from bdc_pipeline.warehouse.table import Table

LOG = logging.getLogger("bdc_pipeline")

EARLIEST = dt.date.fromisoformat(assets.FIRST_DAY)


@dataclass(frozen=True, slots=True)
class GitLabSync:
    """What `sync gitlab` was asked to do. `partitions` are days; `first` and `last` a range of days instead."""

    database: Path
    resource: assets.GitLabResource
    config: assets.GitLabSyncConfig
    drain: DrainOptions
    partitions: Sequence[str] = ()
    first: dt.date | None = None
    last: dt.date | None = None
    logs: bool = True
    tests: bool = True
    artifacts: bool = True

    @property
    def is_restricted(self) -> bool:
        """Whether less than everything was asked for."""
        everything = self.logs and self.tests and self.artifacts and not self.partitions and self.last is None
        return not everything or bool(self.config.projects) or self.config.limit is not None

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that the report speaks of."""
        more = (*t.OF_LOGS * self.logs, *t.OF_TESTS * self.tests, *t.OF_ARCHIVES * self.artifacts)
        return (t.PROJECTS, *t.OF_PIPELINES, *t.OF_JOBS, *more)


def sync(asked: GitLabSync, on_progress: Callable[[str, Progress], None], started: float) -> SyncReport:
    """Materializes the stages one after the other and reports.

    Raises:
        SettingsError, StoreError: a variable or the file cannot be used.
        Interrupted: by Ctrl-C.
    """
    # said before anything is fetched: a file that cannot be used
    read_states(asked.database, t.SCHEMA, ())

    @functools.cache
    def keys() -> list[str]:
        """The days, once the projects are known."""
        with Store(asked.database, t.SCHEMA) as store:
            file = days.covered(store.connection, asked.config.wanted(), asked.tables)
        found = days_of(asked, file, dt.datetime.now(dt.UTC).date())
        LOG.info("pipelines that changed from %s to %s", found[0], found[-1])
        return found

    def resources(run_id: str, stage: str) -> Mapping[str, Any]:
        files = files_of(t.SCHEMA, asked.database, asked.drain, run_id, lambda progress: on_progress(stage, progress))
        return {"gitlab": asked.resource, KEY: files}

    return run_stages(
        _stages(asked, keys),
        t.SCHEMA,
        asked.database,
        resources,
        before=Effort(),
        started=started,
        tables=asked.tables,
        restricted=asked.is_restricted,
    )


def _stages(asked: GitLabSync, keys: Callable[[], Sequence[str]]) -> list[Stage]:
    config = {"config": asked.config.model_dump()}
    stages = [Stage("projects", assets.gitlab_projects, config={"plan_projects": config})]
    # tests expire first, then logs go with cleanups, so they are fetched in this order
    for name, definition, chosen in (
        ("pipelines", assets.gitlab_pipelines, True),
        ("jobs", assets.gitlab_jobs, True),
        ("tests", assets.gitlab_tests, asked.tests),
        ("logs", assets.gitlab_logs, asked.logs),
        ("archives", assets.gitlab_archives, asked.artifacts),
    ):
        if chosen:
            stages.append(Stage(name, definition, assets.DAYS, keys, {f"plan_{name}": config}))
    return stages


def days_of(asked: GitLabSync, file: days.Covered, today: dt.date) -> list[str]:
    """The days of a sync: those that were named; else from the first that is not all there, or 30 days back at first."""
    if asked.partitions:
        return sorted(dict.fromkeys(asked.partitions))
    last = min(asked.last or today, today)
    first = asked.first or (
        days.first_open(file, today) if asked.last is None else last - dt.timedelta(days=days.FIRST_DAYS - 1)
    )
    first = max(first, EARLIEST)
    return [str(first + dt.timedelta(days=n)) for n in range((last - first).days + 1)]
