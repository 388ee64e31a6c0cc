"""A sandbox of GitLab and the file that is kept of it: syncing, and comparing the one with the other."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running_in_thread
from bdc_pipeline.sources.gitlab import assets, command, resource
from bdc_pipeline.warehouse.drain import DrainOptions
from bdc_pipeline.warehouse.ledger import SyncReport

#: The sandbox's pipelines lie between these
FIRST, LAST = dt.date(2026, 4, 15), dt.date(2026, 6, 2)
SIZES = {"projects": 4, "pipelines_per_project": 12, "jobs_per_pipeline": 10}

Row = tuple[Any, ...]


class Copy:
    """A sandbox and the file that is kept of it."""

    def __init__(self, sandbox: Sandbox, path: Path) -> None:
        self.sandbox, self.path = sandbox, path
        self.api = sandbox.source("gitlab")
        self.report: SyncReport | None = None
        self.first, self.last = FIRST, LAST

    def sync(
        self,
        *,
        first: dt.date | None = FIRST,
        last: dt.date | None = None,
        partitions: tuple[str, ...] = (),
        drain: DrainOptions | None = None,
        logs: bool = True,
        tests: bool = True,
        artifacts: bool = True,
        limits: dict[str, Any] | None = None,
        **config: Any,
    ) -> SyncReport:
        """One sync, as the command line does it."""
        given = {"workers": 8, "attempts": 3, "read_timeout": 10.0, **(limits or {})}
        asked = command.GitLabSync(
            database=self.path,
            resource=assets.GitLabResource(**given),
            config=assets.GitLabSyncConfig(**{"days": 36_500, **config}),
            drain=drain or DrainOptions(),
            partitions=partitions,
            first=None if partitions else first,
            last=last,
            logs=logs,
            tests=tests,
            artifacts=artifacts,
        )
        return command.sync(asked, lambda *_: None, time.monotonic())

    def sync_all(self, **options: Any) -> SyncReport:
        """One sync of the days on which the sandbox's pipelines changed."""
        return self.sync(**{"first": self.first, "last": self.last, **options})

    def sync_new(self, **options: Any) -> SyncReport:
        """One sync of today and the day before, where a change made now is found."""
        today = dt.datetime.now(dt.UTC).date()
        return self.sync(**{"first": today - dt.timedelta(days=1), **options})

    def query(self, sql: str, *values: Any) -> list[Row]:
        """Rows of the file."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: Any) -> None:
        """Changes the file: what time would have done, or somebody by hand."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(sql, values)

    def one(self, sql: str, *values: Any) -> Any:
        """The one value of the one row."""
        [(value,)] = self.query(sql, *values)
        return value

    def topics(self) -> dict[str, int]:
        """Requests since the last reset, by kind."""
        found: dict[str, int] = self.sandbox.stats()["topics"]
        return found

    def served(self, entity: str, *columns: str) -> list[Row]:
        """What the sandbox has."""
        return sorted((tuple(_plain(value) for value in row) for row in self.api.rows(entity, columns)), key=repr)

    def served_lately(self, entity: str, *columns: str) -> list[Row]:
        """What the sandbox has of the days that are synced."""
        rows = self.served(entity, *columns, "created_at")
        return sorted((row[:-1] for row in rows if row[-1] >= str(self.first)), key=repr)

    def stored(self, table: str, *columns: str) -> list[Row]:
        """What the file has of it."""
        return sorted(self.query(f"SELECT {', '.join(columns)} FROM live_{table}"), key=repr)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def errors_of(report: SyncReport) -> str:
    """What failed, line by line."""
    return "\n".join(f"{failure.unit}: {failure.error}" for failure in report.failures)


@contextlib.contextmanager
def copying(directory: Path, **options: Any) -> Iterator[Copy]:
    """A sandbox in this process and the file that will be kept of it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DAGSTER_HOME", "http_proxy", "HTTP_PROXY", "GITLAB_PROJECTS"):
            patch.delenv(name, raising=False)
        patch.setenv("BDC_DATA_DIR", str(directory))
        given = {**SIZES, **options}
        with running_in_thread(SandboxOptions(sources=frozenset({"gitlab"}), **given)) as sandbox:
            copy = Copy(sandbox, directory / "gitlab.db")
            patch.setenv("GITLAB_URL", copy.api.url)
            patch.setenv("GITLAB_TOKEN", sandbox.token)
            try:
                yield copy
            finally:
                resource.disconnect()


@contextlib.contextmanager
def copying_few_days(directory: Path, **options: Any) -> Iterator[Copy]:
    """A sandbox with three plain pipelines of one day in each of three projects, of which that day is synced: each day of each
    table costs Dagster a millisecond."""
    given = {"projects": 3, "pipelines_per_project": 2, "jobs_per_pipeline": 5, "regular": True, **options}
    with copying(directory, **given) as copy:
        copy.first = copy.last = dt.date(2026, 6, 1)
        for number in range(given["projects"]):
            copy.api.change("run", project=101 + 3 * number, count=3, at="2026-06-01T10:00:00Z")
        yield copy
