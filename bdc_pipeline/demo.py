"""`bdc-pipeline demo`: a sandbox with generated data on a free loopback port, and syncs of every source from it.

The first sync of a source copies everything, the second finds nothing to do, the third brings what has changed in
between. The registries' polling floors hold here too, so their third sync would be refused; they and GitLab have two.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from bdc_pipeline import settings
from bdc_pipeline.progress import OnProgress, shown, summary
from bdc_pipeline.running import Interrupted
from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running
from bdc_pipeline.sandbox.options import SOURCES
from bdc_pipeline.sandbox.variables import variables
from bdc_pipeline.sources.dmr import assets as dmr
from bdc_pipeline.sources.dmr import command as dmr_command
from bdc_pipeline.sources.dmr.warm import WarmOptions
from bdc_pipeline.sources.gitlab import assets as gitlab
from bdc_pipeline.sources.gitlab import command as gitlab_command
from bdc_pipeline.sources.properties import assets as properties
from bdc_pipeline.sources.properties import command as properties_command
from bdc_pipeline.sources.sonar import assets as sonar
from bdc_pipeline.sources.sonar import command as sonar_command
from bdc_pipeline.warehouse.drain import DrainOptions
from bdc_pipeline.warehouse.ledger import SyncReport

Scale = Literal["small", "medium", "large"]

CHANGED = 0.01
"""The share of the records that changes before the third sync."""

GENERATED = (dt.date(2026, 5, 18), dt.date(2026, 6, 1))
"""Days of GitLab's generated pipelines, which all end here."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One sync of the demo; `changed` tells whether the data have changed since the one before."""

    database: Path
    changed: bool
    on_progress: OnProgress
    started: float


@dataclass(frozen=True, slots=True)
class Shown:
    """A source in the demo: its syncs, and a question to its copy."""

    source: str
    sync: Callable[[Turn], SyncReport]
    question: str
    change: Callable[[Sandbox], object] | None = None


def _sync_sonar(turn: Turn) -> SyncReport:
    asked = sonar_command.SonarSync(
        database=turn.database, resource=sonar.SonarResource(), config=sonar.SonarSyncConfig(), drain=DrainOptions()
    )
    return sonar_command.sync(asked, turn.on_progress, turn.started)


def _sync_gitlab(turn: Turn) -> SyncReport:
    asked = gitlab_command.GitLabSync(
        database=turn.database,
        resource=gitlab.GitLabResource(),
        config=gitlab.GitLabSyncConfig(),
        drain=DrainOptions(),
        first=GENERATED[0],
        last=GENERATED[1],
    )
    return gitlab_command.sync(asked, turn.on_progress, turn.started)


def _sync_properties(turn: Turn) -> SyncReport:
    asked = properties_command.PropertiesSync(
        database=turn.database,
        resource=properties.BoligsidenResource(),
        # a municipality that was walked through lately is not walked through again by itself
        config=properties.PropertiesSyncConfig(force=turn.changed),
        drain=DrainOptions(),
    )
    return properties_command.sync(asked, turn.on_progress, turn.started)


def _sync_dmr(turn: Turn) -> SyncReport:
    asked = dmr_command.DmrSync(
        database=turn.database, resource=dmr.DmrResource(), warm=WarmOptions(), drain=DrainOptions()
    )
    return dmr_command.sync(asked, turn.on_progress, turn.started)


SHOWN = (
    Shown(
        "sonar",
        _sync_sonar,
        "SELECT status, count(*) FROM live_customers GROUP BY 1",
        lambda sandbox: sandbox.change(share=CHANGED),
    ),
    Shown("gitlab", _sync_gitlab, "SELECT status, count(*), round(avg(duration)) FROM live_jobs GROUP BY 1"),
    Shown(
        "properties",
        _sync_properties,
        "SELECT municipality, sales, median_price_per_m2 FROM price_per_m2 WHERE year = 2025 LIMIT 5",
        lambda sandbox: sandbox.source("boligsiden").change("change", share=CHANGED),
    ),
    Shown("dmr", _sync_dmr, "SELECT band, mode, count(*) FROM live_repeaters GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 5"),
)


def directory() -> Path:
    """Where generated data is kept, apart from real data."""
    return settings.data_dir() / "demo"


def addresses(sandbox: Sandbox) -> Mapping[str, str]:
    """The variables that lead to a sandbox in place of the real services."""
    return variables(sandbox.url, SOURCES, sandbox.token)


def point_at(sandbox: Sandbox, data: Path) -> None:
    """Sets the variables of this process to a sandbox and to a directory of its own."""
    os.environ |= addresses(sandbox)
    os.environ[settings.BDC_DATA_DIR.name] = str(data)
    for setting in (settings.BDC_CACHE_DIR, settings.GITLAB_PROJECTS):
        os.environ.pop(setting.name, None)


def run(scale: Scale, latency_ms: int) -> int:
    """Runs the demo and returns the exit status: 0 where every sync was complete.

    Raises:
        SettingsError, StoreError: the directory or a file cannot be used.
    """
    data = directory()
    # generated partitions have no place among the recorded runs of a real source
    os.environ.pop(settings.DAGSTER_HOME.name, None)
    _empty(data)
    click.echo(f"Starting a sandbox: generated data, scale {scale}, {latency_ms} ms a request ...")
    reports: list[SyncReport] = []
    with running(SandboxOptions(scale=scale, latency_ms=latency_ms)) as sandbox:
        point_at(sandbox, data)
        click.echo(f"It listens on {sandbox.url}.\n")
        for one in SHOWN:
            reports += _show(one, sandbox, data)
    if not all(report.complete for report in reports):
        click.echo("Not everything came: see above.", err=True)
        return 1
    click.echo(_next_steps(data))
    return 0


def _empty(data: Path) -> None:
    """Each demo begins with nothing; this directory holds generated data alone."""
    try:
        for one in SHOWN:
            database = data / settings.DATABASE_FILES[one.source]
            for path in (database, Path(f"{database}-wal"), Path(f"{database}-shm")):
                path.unlink(missing_ok=True)
        for path in (data / "cache" / "dmr").glob("*.json"):
            path.unlink()
    except OSError as error:
        raise settings.SettingsError(
            f"{data} cannot be used ({error.strerror or error}). Name a directory that you can write to with BDC_DATA_DIR."
        ) from None


def _show(one: Shown, sandbox: Sandbox, data: Path) -> list[SyncReport]:
    """Syncs a source two or three times and tells of it."""
    database = data / settings.DATABASE_FILES[one.source]
    titles = ["first sync: everything", "second sync: nothing has changed"]
    titles += ["third sync: 1 % has changed"] * (one.change is not None)
    reports = []
    for number, title in enumerate(titles):
        if number == 2 and one.change is not None:
            one.change(sandbox)
        click.secho(f"{one.source}, {title}", bold=True)
        report = _synced(one, database, changed=number == 2)
        click.echo(summary(report, database) + "\n")
        reports.append(report)
    return reports


def _synced(one: Shown, database: Path, *, changed: bool) -> SyncReport:
    try:
        with shown(terminal=sys.stderr.isatty()) as on_progress:
            return one.sync(Turn(database, changed, on_progress, time.monotonic()))
    except Interrupted as interrupted:
        return interrupted.report


def _next_steps(data: Path) -> str:
    lines = [f"The copies are in {os.path.relpath(data)}. Ask them something:", ""]
    for one in SHOWN:
        path = os.path.relpath(data / settings.DATABASE_FILES[one.source])
        code = f"import sqlite3; print(*sqlite3.connect('{path}').execute('{one.question}'), sep='\\n')"
        lines.append(f'  python3 -c "{code}"')
    return "\n".join(
        [
            *lines,
            "",
            "Next:",
            "  make ui                                     the assets, their partitions and runs in Dagster's web UI",
            "  .venv/bin/bdc-pipeline sync dmr             repeaters and talkgroups from the registries themselves",
            "  .venv/bin/bdc-pipeline sync properties -m Dragør",
            "  export SONAR_URL=https://INSTANCE.sonar.software SONAR_TOKEN=...",
            "  .venv/bin/bdc-pipeline sync sonar           the same from your own instance",
            "  .venv/bin/bdc-pipeline sync sonar --help    its options",
        ]
    )
