"""`bdc-pipeline demo`: a sandbox with generated data on a free loopback port, and three syncs from it.

The first copies everything, the second finds nothing to do, the third brings what has changed in between.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Literal

import click

from bdc_pipeline import settings
from bdc_pipeline.progress import shown, summary
from bdc_pipeline.running import Interrupted
from bdc_pipeline.sandbox import Sandbox, SandboxOptions, running
from bdc_pipeline.sources.sonar import assets, command
from bdc_pipeline.warehouse.drain import DrainOptions
from bdc_pipeline.warehouse.ledger import SyncReport

Scale = Literal["small", "medium", "large"]

CHANGED = 0.01
"""The share of the records that changes before the third sync."""


def directory() -> Path:
    """Where generated data is kept, apart from real data."""
    return settings.data_dir() / "demo"


def point_at(sandbox: Sandbox, data: Path) -> None:
    """Sets the variables of this process to a sandbox and to a directory of its own."""
    os.environ[settings.SONAR_URL.name] = sandbox.sonar_url
    os.environ[settings.SONAR_TOKEN.name] = sandbox.token
    os.environ[settings.BDC_DATA_DIR.name] = str(data)


def run(scale: Scale, latency_ms: int) -> int:
    """Runs the demo and returns the exit status: 0 where every sync was complete.

    Raises:
        SettingsError, StoreError: the directory or the file cannot be used.
    """
    data = directory()
    # generated partitions have no place among the recorded runs of a real source
    os.environ.pop(settings.DAGSTER_HOME.name, None)
    database = data / settings.DATABASE_FILES["sonar"]
    try:
        for path in (database, Path(f"{database}-wal"), Path(f"{database}-shm")):
            path.unlink(missing_ok=True)  # each demo begins with nothing; this directory holds generated data alone
    except OSError as error:
        raise settings.SettingsError(
            f"{data} cannot be used ({error.strerror or error}). Name a directory that you can write to with BDC_DATA_DIR."
        ) from None
    click.echo(f"Starting a sandbox of Sonar: generated data, scale {scale}, {latency_ms} ms a request ...")
    with running(SandboxOptions(scale=scale, latency_ms=latency_ms)) as sandbox:
        point_at(sandbox, data)
        click.echo(f"It listens on {sandbox.url}.\n")
        reports = []
        for title in ("First sync: everything", "Second sync: nothing has changed", "Third sync: 1 % has changed"):
            if title.startswith("Third"):
                sandbox.change(share=CHANGED)
            click.secho(title, bold=True)
            report = _sync(database)
            click.echo(summary(report, database) + "\n")
            reports.append(report)
    if not all(report.complete for report in reports):
        click.echo("Not everything came: see above.", err=True)
        return 1
    click.echo(_next_steps(database))
    return 0


def _sync(database: Path) -> SyncReport:
    asked = command.SonarSync(
        database=database, resource=assets.SonarResource(), config=assets.SonarSyncConfig(), drain=DrainOptions()
    )
    try:
        with shown(terminal=sys.stderr.isatty()) as on_progress:
            return command.sync(asked, on_progress, time.monotonic())
    except Interrupted as interrupted:
        return interrupted.report


def _next_steps(database: Path) -> str:
    path = os.path.relpath(database)
    query = "SELECT status, count(*) FROM live_customers GROUP BY 1"
    command_line = f"import sqlite3; print(*sqlite3.connect('{path}').execute('{query}'), sep='\\n')"
    return f"""The copy is in {path}. Ask it something:

  python3 -c "{command_line}"

Next:
  make ui                                     the assets, their partitions and runs in Dagster's web UI
  export SONAR_URL=https://INSTANCE.sonar.software SONAR_TOKEN=...
  .venv/bin/bdc-pipeline sync sonar           the same from your own instance
  .venv/bin/bdc-pipeline sync sonar --help    its options"""
