"""`bdc-pipeline backup`."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from bdc_pipeline import settings
from bdc_pipeline.commands.options import HELP, Number
from bdc_pipeline.commands.outcome import COMPLETE, MISSING, told_in_sentences


@click.command("backup", context_settings=HELP)
@click.argument("sources", nargs=-1, type=click.Choice(list(settings.DATABASE_FILES)))
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where backups are kept; BDC_BACKUP_DIR where not given.",
)
@click.option("--keep", type=click.IntRange(1), help="Backups of a database at most; BDC_BACKUP_KEEP where not given.")
@click.option(
    "--days",
    type=Number(0, min_open=True),
    help="Days after which a backup goes, but never the last; BDC_BACKUP_DAYS where not given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object on standard output.")
def backup(**options: Any) -> NoReturn:
    """Takes a verified backup of each database, also while it is written.

    SOURCES are some of sonar, gitlab, properties, dmr; all that there are where none is named.
    """
    from bdc_pipeline.operations.backup import back_up_all  # noqa: PLC0415
    from bdc_pipeline.warehouse.migration import StoreError  # noqa: PLC0415

    with told_in_sentences():
        directory = (options["directory"] or settings.backup_dir()).expanduser().absolute()
        keep, days = options["keep"] or settings.backup_keep(), options["days"] or settings.backup_days()
        databases = _databases(options["sources"])
        done, failed = [], []
        for database, taken in back_up_all(databases, directory, dt.datetime.now(dt.UTC), keep=keep, days=days):
            if isinstance(taken, StoreError):
                failed.append({"database": str(database), "error": str(taken)})
                click.echo(f"Error: {taken}", err=True)
                continue
            done.append(
                {
                    "database": str(database),
                    "backup": str(taken.backup.path),
                    "rows": taken.rows,
                    "bytes": taken.bytes,
                    "seconds": taken.seconds,
                    "removed": [str(path) for path in taken.removed],
                }
            )
            if not options["as_json"]:
                removed = f", {len(taken.removed)} old removed" if taken.removed else ""
                text = f"{taken.rows:,} rows, {taken.bytes / 1e6:.1f} MB in {taken.seconds} s{removed}"
                click.echo(f"{taken.backup.path}: {text}")
    if options["as_json"]:
        click.echo(json.dumps({"complete": not failed, "backups": done, "failures": failed}))
    sys.exit(MISSING if failed else COMPLETE)


def _databases(sources: tuple[str, ...]) -> list[Path]:
    """The files to back up.

    Raises:
        SettingsError: one that was named does not exist, or there is none at all.
    """
    found = [settings.database_path(source) for source in sources or settings.DATABASE_FILES]
    there = [path for path in found if path.is_file()]
    if missing := [path for path in found if path not in there]:
        if sources:
            raise settings.SettingsError(f"{missing[0]} does not exist. Run 'bdc-pipeline sync' first.")
        if not there:
            raise settings.SettingsError(
                f"There is no database in {settings.data_dir()}. Run 'bdc-pipeline sync' first."
            )
    return there
